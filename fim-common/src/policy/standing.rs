//! What the deciding rule makes of one operation: an alert, an expected change, or one that is
//! only counted. Pure: values in, standing out.

use std::path::Path;
use std::sync::Arc;

use super::{Condition, Policy, Rule, Window};
use crate::event::Action;
use crate::event::actor::Actor;
use crate::time::Timestamp;

/// What a rule expects of the objects that it watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// They do not change.
    Never,
    /// They change in maintenance windows only.
    Maintenance,
}

impl Expect {
    /// Its name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Maintenance => "maintenance",
        }
    }
}

/// What is known of an operation beside its path and action.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// Who did it.
    pub actor: &'a Actor,
    /// Who else had a part in it; what is to hold has to hold of each.
    pub others: &'a [Arc<Actor>],
    /// When; `None`: that is not known, as of what a comparison with the disk found.
    pub time: Option<Timestamp>,
}

/// What becomes of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing<'p> {
    /// It is told; whether it is an alert is a matter of severity.
    Plain,
    /// It is told, and no alert: an entry of `allow` holds.
    Allowed(&'p Condition),
    /// It is told, and no alert: the rule expects changes in this window.
    InMaintenance(&'p Window),
    /// It is an alert, whatever the severity: the rule expects no changes, or none at this time.
    Unexpected(Expect),
    /// It is counted, and told in a summary: an entry of `suppress` holds.
    Suppressed(&'p Condition),
}

impl Standing<'_> {
    /// Whether an event of a rule with this severity is an alert.
    pub fn is_alert(&self, severity: u8, alert_severity: u8) -> bool {
        match self {
            Self::Plain => severity >= alert_severity,
            Self::Unexpected(_) => true,
            Self::Allowed(_) | Self::InMaintenance(_) | Self::Suppressed(_) => false,
        }
    }
}

impl Policy {
    /// What `rule` of this policy makes of an operation on the object at the canonical `path`.
    pub fn standing<'p>(
        &'p self,
        rule: &'p Rule,
        path: &Path,
        action: Action,
        circumstances: Circumstances<'_>,
    ) -> Standing<'p> {
        let Circumstances { actor, others, time } = circumstances;
        let holding = |conditions: &'p [Condition]| {
            conditions.iter().find(|condition| {
                let holds = |actor: &Actor| condition.holds(path, action, actor);
                holds(actor) && others.iter().all(|other| holds(other))
            })
        };
        if let Some(condition) = holding(&rule.suppress) {
            return Standing::Suppressed(condition);
        }
        if let Some(condition) = holding(&rule.allow) {
            return Standing::Allowed(condition);
        }
        match rule.expect {
            None => Standing::Plain,
            Some(Expect::Never) => Standing::Unexpected(Expect::Never),
            Some(Expect::Maintenance) => {
                let open = |window: &&Window| {
                    let is_meant =
                        rule.maintenance.is_empty() || rule.maintenance.contains(&window.name);
                    is_meant && time.is_some_and(|time| window.contains(time))
                };
                match self.windows.iter().find(open) {
                    Some(window) => Standing::InMaintenance(window),
                    None => Standing::Unexpected(Expect::Maintenance),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
