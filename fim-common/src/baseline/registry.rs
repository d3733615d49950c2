//! Registry keys in the baseline: a table of their own, made when the first key is known.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Baseline, BaselineError};
use crate::event::RegistryData;
use crate::registry::{RegistryKey, RegistryKeys, RegistryValue};

/// A key has the row whose `value` is null.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS registry (
    key TEXT NOT NULL,
    value TEXT,
    security TEXT,
    size INTEGER,
    sha256 TEXT,
    data TEXT
); CREATE UNIQUE INDEX IF NOT EXISTS registry_by_name ON registry (key, ifnull(value, x''))";

impl Baseline {
    /// What is known of registry keys; `None`: nobody has looked yet.
    ///
    /// # Errors
    /// [`BaselineError::Damaged`] and the like.
    pub fn registry(&self) -> Result<Option<RegistryKeys>, BaselineError> {
        self.read(|connection| {
            let there: Option<i64> = connection
                .query_row("SELECT 1 FROM sqlite_master WHERE name = 'registry'", [], |row| {
                    row.get(0)
                })
                .optional()?;
            if there.is_none() {
                return Ok(None);
            }
            read(connection).map(Some)
        })
    }

    /// Replaces all that is known of registry keys, and commits.
    ///
    /// # Errors
    /// As [`Baseline::put`].
    pub fn set_registry(&self, keys: &RegistryKeys) -> Result<(), BaselineError> {
        self.write(1, &[], |connection| {
            connection.execute_batch(TABLE)?;
            connection.execute("DELETE FROM registry", [])?;
            let mut insert = connection.prepare_cached(
                "INSERT INTO registry (key, value, security, size, sha256, data) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?;
            for (path, key) in keys {
                insert.execute(params![path, None::<&str>, key.security, None::<i64>, "", ""])?;
                for (name, value) in &key.values {
                    // Plain texts: they cannot fail to be written.
                    let data = serde_json::to_string(&value.data).unwrap_or_default();
                    let size = value.size.cast_signed();
                    insert.execute(params![path, name, "", size, value.sha256, data])?;
                }
            }
            Ok(())
        })?;
        self.flush()
    }
}

fn read(connection: &Connection) -> rusqlite::Result<RegistryKeys> {
    let mut keys = RegistryKeys::new();
    let mut rows =
        connection.prepare("SELECT key, value, security, size, sha256, data FROM registry")?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        let key: &mut RegistryKey = keys.entry(row.get(0)?).or_default();
        match row.get::<_, Option<String>>(1)? {
            None => key.security = row.get(2)?,
            Some(name) => {
                let data: String = row.get(5)?;
                let data: RegistryData = serde_json::from_str(&data).unwrap_or_default();
                let size = row.get::<_, i64>(3)?.cast_unsigned();
                key.values.insert(name, RegistryValue { data, size, sha256: row.get(4)? });
            }
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_read_back() {
        let directory = crate::baseline::test_volume::tempdir();
        let baseline = Baseline::open(directory.path()).unwrap();
        assert_eq!(baseline.registry().unwrap(), None);
        let value = RegistryValue {
            data: RegistryData {
                kind: Some("REG_SZ".to_owned()),
                strings: Some(vec!["x".to_owned()]),
                bytes: None,
            },
            size: 4,
            sha256: "ab".to_owned(),
        };
        let key = RegistryKey {
            security: Some("D:(A;;KA;;;SY)".to_owned()),
            values: [(String::new(), value.clone()), ("Ü'".to_owned(), value)].into(),
        };
        let keys = RegistryKeys::from([("HKLM\\x".to_owned(), key)]);
        baseline.set_registry(&keys).unwrap();
        assert_eq!(baseline.registry().unwrap(), Some(keys));
        drop(baseline);
        let baseline = Baseline::open(directory.path()).unwrap();
        baseline.set_registry(&RegistryKeys::new()).unwrap();
        assert_eq!(baseline.registry().unwrap(), Some(RegistryKeys::new()));
    }
}
