//! What the maps that only the agent writes have to hold: somebody else with the privilege can write
//! them too, and make the programs look away.

use std::collections::HashMap;
use std::hash::Hash;

use fim_common::record::maps::{FilterKey, RootEntry, Settings};

/// As the agent wrote it last.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) settings: Settings,
    pub(super) roots: HashMap<u64, RootEntry>,
    pub(super) filters: HashMap<FilterKey, u32>,
}

impl Kept {
    /// What the settings have to be again; `None`: they are. The programs count the epoch up, and
    /// nobody counts it down: verdicts of an earlier one would be believed again.
    pub(super) fn settings_instead(&self, found: Settings) -> Option<Settings> {
        let expected = Settings { epoch: found.epoch, ..self.settings };
        if found == expected && found.epoch >= self.settings.epoch {
            return None;
        }
        // Far ahead of both, so that nothing that was remembered meanwhile is believed.
        let epoch = found.epoch.max(self.settings.epoch).wrapping_add(1 << 20);
        Some(Settings { epoch, ..self.settings })
    }
}

/// What has to be written so that what was found is as it was kept; `None`: removed.
pub(super) fn differences<K: Copy + Eq + Hash, V: Copy + PartialEq>(
    kept: &HashMap<K, V>,
    found: &HashMap<K, V>,
) -> Vec<(K, Option<V>)> {
    let lost = kept.iter().filter(|(key, value)| found.get(key) != Some(value));
    let strange = found.keys().filter(|key| !kept.contains_key(key));
    lost.map(|(key, value)| (*key, Some(*value))).chain(strange.map(|key| (*key, None))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_epoch_may_move_and_only_ahead() {
        let settings = Settings { epoch: 100, agent_tgid: 7, wake_bytes: 9, ..Settings::default() };
        let kept = Kept { settings, ..Kept::default() };
        let instead = |found| kept.settings_instead(found);
        assert_eq!(instead(settings), None);
        assert_eq!(instead(Settings { epoch: 123, ..settings }), None, "by the programs");
        let back = instead(Settings { epoch: 99, ..settings }).unwrap();
        assert!(back.epoch > 100 && back.agent_tgid == 7);
        for changed in [
            Settings { agent_tgid: 8, ..settings },
            Settings { canary_tid: 8, ..settings },
            Settings { arm_tid: 8, ..settings },
            Settings { attempts: 8, ..settings },
            Settings { wake_bytes: 8, ..settings },
            Settings { realtime_offset: 8, ..settings },
        ] {
            let back = instead(changed).unwrap();
            assert_eq!(Settings { epoch: 100, ..back }, settings, "{changed:?}");
        }
    }

    #[test]
    fn what_was_taken_changed_or_added_is_put_back() {
        let kept = HashMap::from([(1, 'a'), (2, 'b'), (3, 'c')]);
        assert_eq!(differences(&kept, &kept.clone()), []);
        let found = HashMap::from([(1, 'a'), (2, 'x'), (4, 'd')]);
        let mut differences = differences(&kept, &found);
        differences.sort();
        assert_eq!(differences, [(2, Some('b')), (3, Some('c')), (4, None)]);
    }
}
