//! The file: read once, so that its hash is that of what was read.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::{Config, DEFAULT_PATH, Error};
use crate::platform;

/// What was read, and what it says.
#[derive(Debug)]
pub struct Loaded {
    /// SHA-256 of the file, 64 lower-case hexadecimal digits; `None`: there is none, or it was not
    /// read.
    pub sha256: Option<String>,
    /// What it says, or why it says nothing.
    pub config: Result<Config, Error>,
}

impl Loaded {
    /// Reads the file that was `named`, or the one at [`DEFAULT_PATH`] if there is one.
    pub fn read(named: Option<&Path>) -> Self {
        Self::read_or(named, Path::new(DEFAULT_PATH))
    }

    pub(super) fn read_or(named: Option<&Path>, default: &Path) -> Self {
        let file = named.unwrap_or(default);
        let bytes = match read(file) {
            Ok(bytes) => bytes,
            Err(Error::Read { source, .. }) if source.kind() == ErrorKind::NotFound => {
                let config = match named {
                    Some(_) => Err(Error::Missing { file: file.into() }),
                    None => Ok(Config::default()),
                };
                return Self { sha256: None, config };
            }
            Err(error) => return Self { sha256: None, config: Err(error) },
        };
        let digest = Sha256::digest(&bytes);
        let sha256 = Some(digest.iter().map(|byte| format!("{byte:02x}")).collect());
        let text = String::from_utf8(bytes).map_err(|error| Error::Encoding {
            file: file.into(),
            line: 1 + error.as_bytes()[..error.utf8_error().valid_up_to()]
                .iter()
                .filter(|&&byte| byte == b'\n')
                .count(),
        });
        Self { sha256, config: text.and_then(|text| Config::parse(&text, file)) }
    }
}

fn read(file: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Read { file: file.into(), source };
    let mut open = File::open(file).map_err(failed)?;
    if let Some(why) = platform::writable(&open).map_err(failed)? {
        return Err(Error::Writable { file: file.into(), why });
    }
    if let Some(why) = platform::replaceable(file).map_err(failed)? {
        return Err(Error::Writable { file: file.into(), why });
    }
    let mut bytes = Vec::new();
    open.read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
