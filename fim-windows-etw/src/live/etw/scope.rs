//! What the rules ask for.

use std::path::Path;

use fim_common::pipeline::scope_of;
use fim_common::policy::Policy;

use super::super::registry::Scope as RegistryScope;
use crate::correlate::Scope;
use crate::paths::fold;

/// By a policy.
pub(super) struct Wanted {
    policy: Policy,
    registry: RegistryScope,
    /// Folded roots of what is watched: a directory above one of them may be renamed or removed.
    roots: Vec<String>,
}

impl Wanted {
    pub(super) fn new(policy: Policy) -> Self {
        let roots = scope_of(&policy);
        let roots = roots.iter().map(|root| fold(&root.path.to_string_lossy())).collect();
        Self { registry: RegistryScope::of(&policy), policy, roots }
    }
}

impl Scope for Wanted {
    fn file(&self, path: &str) -> bool {
        // A volume that nothing is known of yet may turn out to be watched.
        if path.starts_with(r"\Device\HarddiskVolume")
            || self.policy.covers(Path::new(path)).is_some()
        {
            return true;
        }
        let folded = fold(path);
        self.roots.iter().any(|root| {
            root.strip_prefix(&folded).is_some_and(|rest| rest.is_empty() || rest.starts_with('\\'))
        })
    }

    fn key(&self, key: &str, value: Option<&str>) -> bool {
        // A rule may mean a key by a path that spells it.
        self.registry.asks(key, value) || self.policy.covers(Path::new(key)).is_some()
    }
}
