//! Registry operations: each is an event of its own.

use super::Pipeline;
use super::fold::note;
use crate::event::{
    self, Action, Agent, Category, Event, Fim, Host, Kind, Meta, Outcome, Property, Rule, Side,
    Technique, Threat, Type,
};
use crate::ledger::Stage;
use crate::operation::{Operation, OperationKind, RegistryAction, RegistryOperation};
use crate::platform::sddl_parts;

/// What the key's default value, which has no name, is called: as regedit does.
const DEFAULT_VALUE: &str = "(Default)";

/// Takes in one operation on a key or value.
pub(super) fn take(pipeline: &mut Pipeline, operation: Operation) {
    let (Some(path), OperationKind::Registry(registry)) = (&operation.path, &operation.kind) else {
        return pipeline.ledger.add(Stage::Nameless, 1);
    };
    let action = match registry.action {
        RegistryAction::CreateKey => Action::Created,
        RegistryAction::DeleteKey | RegistryAction::DeleteValue => Action::Deleted,
        RegistryAction::SetValue => Action::Updated,
        RegistryAction::SetSecurity | RegistryAction::SetInformation => Action::AttributesModified,
    };
    let policy = &pipeline.policy;
    let names = || std::iter::once(path).chain(&registry.aliases);
    // A rule means a key by `registry`, or by a path that spells it.
    let full = |hive: &String| match registry.key.is_empty() {
        true => hive.clone(),
        false => format!(r"{hive}\{}", registry.key),
    };
    let key = registry.hive.as_ref().map(full);
    let value = registry.value.as_deref();
    let keys = || key.iter().map(String::as_str).chain(registry.key_aliases());
    let by_key = || keys().find_map(|key| Some(policy.registry(key, value, action)?.0));
    let by_path = || names().find_map(|name| Some(policy.verdict(name, action)?.rule));
    let Some(rule) = by_key().or_else(by_path) else {
        let covered = names().any(|name| policy.covers(name).is_some());
        let stage = if covered { Stage::Unchanged } else { Stage::Uncovered };
        return pipeline.ledger.add(stage, 1);
    };
    if operation.failure.is_some() && !rule.attempts {
        return pipeline.ledger.add(Stage::Unchanged, 1);
    }
    let event = event(&operation, registry, action, rule, pipeline.alert_severity);
    pipeline.ledger.add(Stage::Told, 1);
    pipeline.output.event(event);
}

fn event(
    operation: &Operation,
    registry: &RegistryOperation,
    action: Action,
    rule: &crate::policy::Rule,
    alert_severity: u8,
) -> Box<Event> {
    let actor = &operation.actor;
    let details = operation.details.as_deref().cloned().unwrap_or_default();
    let mut unknown = actor.unknown.clone();
    unknown.extend(details.unknown);
    let mut operations = Vec::new();
    note(&mut operations, operation);
    let side = |size,
                data: Option<&event::RegistryData>,
                sha256: &Option<String>,
                acl: &Option<String>| {
        let side = Side {
            size,
            data: data.cloned(),
            sha256: sha256.clone(),
            acl: acl.as_deref().map(sddl_parts),
            ..Side::default()
        };
        (side != Side::default()).then(|| Box::new(side))
    };
    let failed = operation.failure.is_some();
    let changes = match registry.action {
        _ if failed => Vec::new(),
        RegistryAction::CreateKey | RegistryAction::DeleteKey | RegistryAction::DeleteValue => {
            vec![Property::Existence]
        }
        RegistryAction::SetValue => vec![Property::Content],
        RegistryAction::SetSecurity => vec![Property::Security],
        RegistryAction::SetInformation => vec![Property::Attributes],
    };
    let value = registry.value.as_ref().map(|name| match name.is_empty() {
        true => DEFAULT_VALUE.to_owned(),
        false => name.clone(),
    });
    let path = operation.path.as_deref().map(event::path_text).unwrap_or_default();
    Box::new(Event {
        timestamp: operation.time,
        event: Meta {
            id: String::new(),
            sequence: 0,
            kind: if rule.severity >= alert_severity { Kind::Alert } else { Kind::Event },
            category: vec![Category::Registry],
            types: vec![match action {
                Action::Created => Type::Creation,
                Action::Deleted => Type::Deletion,
                _ => Type::Change,
            }],
            action,
            outcome: if failed { Outcome::Failure } else { Outcome::Success },
            provider: Some(operation.provider),
            severity: Some(rule.severity),
        },
        rule: Some(Rule::from(rule)),
        tags: rule.tags.clone(),
        threat: (!rule.techniques.is_empty())
            .then(|| Threat { technique: Technique { id: rule.techniques.clone() } }),
        file: None,
        registry: Some(Box::new(event::Registry {
            hive: registry.hive.clone(),
            key: (!registry.key.is_empty()).then(|| registry.key.clone()),
            value,
            path,
            data: registry.data.clone(),
        })),
        process: actor.process.clone(),
        user: actor.user.clone(),
        container: actor.container.clone(),
        kubernetes: actor.kubernetes.clone(),
        host: Host::default().into(),
        agent: Agent::default().into(),
        fim: Fim {
            original_path: details.original_path,
            token: actor.token.clone().map(Box::new),
            errno: operation.failure.map(|failure| event::errno_name(failure.errno)),
            before: side(
                registry.previous_size,
                registry.previous.as_ref(),
                &registry.previous_sha256,
                &registry.previous_security,
            ),
            after: if failed {
                None
            } else {
                side(registry.size, None, &registry.sha256, &registry.security)
            },
            changes,
            operations,
            ancestors: actor.ancestors.clone(),
            unknown,
            ..Fim::default()
        },
    })
}
