//! `event.id`: UUIDs of version 7 (RFC 9562), which sort by their time.

use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Builder;

use crate::platform;

/// Random bytes of one id.
const RANDOM: usize = 10;
/// Ids for which random bytes are fetched at once: asking the kernel for each takes longer than all
/// the rest of it.
const AHEAD: usize = 128;

/// Makes ids.
#[derive(Debug, Default)]
pub(super) struct Ids {
    random: Vec<[u8; RANDOM]>,
}

impl Ids {
    /// A new one.
    pub(super) fn next(&mut self) -> String {
        let Some(random) = self.random.pop().or_else(|| self.fetch()) else {
            return uuid::Uuid::now_v7().to_string();
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let id = Builder::from_unix_timestamp_millis(now.as_millis() as u64, &random).into_uuid();
        id.hyphenated().encode_lower(&mut [0; 36]).to_owned()
    }

    fn fetch(&mut self) -> Option<[u8; RANDOM]> {
        let mut bytes = [0; RANDOM * AHEAD];
        platform::random(&mut bytes).ok()?;
        self.random.extend(bytes.as_chunks::<RANDOM>().0);
        self.random.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn they_are_unique_and_of_version_7() {
        let mut ids = Ids::default();
        let made: HashSet<String> = (0..3 * AHEAD).map(|_| ids.next()).collect();
        assert_eq!(made.len(), 3 * AHEAD);
        for id in made {
            let id: uuid::Uuid = id.parse().unwrap();
            assert_eq!((id.get_version_num(), id.get_variant()), (7, uuid::Variant::RFC4122));
            let (seconds, _) = id.get_timestamp().unwrap().to_unix();
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            assert!(now.abs_diff(seconds) < 3600, "{seconds}");
        }
    }
}
