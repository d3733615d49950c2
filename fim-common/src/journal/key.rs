//! The key that signs segments: Ed25519, made at the first start, in the state directory. Both
//! files are PEM, as openssl(1) reads them.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{
    DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _,
};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use crate::durable::replace;
use crate::platform;

/// The private key, in the state directory.
pub const PRIVATE_FILE: &str = "journal-key.pem";
/// The public key, in the state directory: to be copied to where journals are verified.
pub const PUBLIC_FILE: &str = "journal-key.pub.pem";

/// A signing key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(SigningKey);

/// A key that signatures are checked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file is something else. It was left as it is.
    #[error(
        "{} is no Ed25519 key in PEM ({why}); it was left untouched: restore it, or move it away \
         to have a new key, which does not fit the segments so far",
        path.display()
    )]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Others can read or change it.
    #[error(
        "the signing key {} can be read or changed by others (mode {mode:04o}, owner {owner}): \
         whoever could has to be taken for its owner; run `chown root`, `chmod 0600`, or move it \
         away to have a new one",
        path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Its owner's user id.
        owner: u32,
    },
    /// It cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Key {
    /// Reads the key in the state directory `directory`, or makes one.
    ///
    /// # Errors
    /// Each of [`KeyError`]; an existing file is not changed.
    pub fn open(directory: &Path) -> Result<Self, KeyError> {
        let path = directory.join(PRIVATE_FILE);
        let key = match read(&path)? {
            Some(key) => key,
            None => make(&path)?,
        };
        let public = directory.join(PUBLIC_FILE);
        let pem = key.public().to_pem();
        // It is only a copy: one that differs, or was never written, is made anew.
        if std::fs::read_to_string(&public).ok().as_ref() != Some(&pem) {
            replace(&public, pem.as_bytes(), 0o644)
                .map_err(|source| KeyError::Io { path: public, source })?;
        }
        Ok(key)
    }

    /// A new key from the kernel's random numbers, kept nowhere.
    ///
    /// # Errors
    /// When the kernel has none.
    pub fn generate() -> io::Result<Self> {
        let mut seed = [0_u8; 32];
        platform::random(&mut seed)?;
        Ok(Self(SigningKey::from_bytes(&seed)))
    }

    /// Its public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// The signature of `message`, in base64.
    pub(super) fn sign(&self, message: &[u8]) -> String {
        STANDARD.encode(self.0.sign(message).to_bytes())
    }
}

impl PublicKey {
    /// Reads PEM (`SubjectPublicKeyInfo`).
    ///
    /// # Errors
    /// [`KeyError::Io`], [`KeyError::Invalid`].
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| KeyError::Io { path: path.to_owned(), source })?;
        VerifyingKey::from_public_key_pem(&text)
            .map(Self)
            .map_err(|error| KeyError::Invalid { path: path.to_owned(), why: error.to_string() })
    }

    /// The 32 bytes in base64, as events and seals carry them.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.0.as_bytes())
    }

    /// From [`PublicKey::to_base64`].
    pub fn from_base64(text: &str) -> Option<Self> {
        let bytes: [u8; 32] = STANDARD.decode(text).ok()?.try_into().ok()?;
        VerifyingKey::from_bytes(&bytes).ok().map(Self)
    }

    /// As openssl(1) reads it.
    pub fn to_pem(&self) -> String {
        self.0.to_public_key_pem(LineEnding::LF).unwrap_or_default()
    }

    /// Whether `signature` (base64) is this key's of `message`.
    pub(super) fn verifies(&self, message: &[u8], signature: &str) -> bool {
        let bytes = STANDARD.decode(signature).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.is_some_and(|bytes: [u8; 64]| {
            self.0.verify_strict(message, &Signature::from_bytes(&bytes)).is_ok()
        })
    }
}

fn read(path: &Path) -> Result<Option<Key>, KeyError> {
    let io = |source| KeyError::Io { path: path.to_owned(), source };
    let file = platform::own(OpenOptions::new().read(true), 0o600).open(path);
    let mut file = match file {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    let metadata = file.metadata().map_err(io)?;
    if let Some((mode, owner)) = platform::exposed(&metadata) {
        return Err(KeyError::Exposed { path: path.to_owned(), mode, owner });
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(io)?;
    SigningKey::from_pkcs8_pem(&text)
        .map(|key| Some(Key(key)))
        .map_err(|error| KeyError::Invalid { path: path.to_owned(), why: error.to_string() })
}

fn make(path: &Path) -> Result<Key, KeyError> {
    let io = |source| KeyError::Io { path: path.to_owned(), source };
    let key = Key::generate().map_err(io)?;
    let pem = key.0.to_pkcs8_pem(LineEnding::LF).map_err(|error| io(io::Error::other(error)))?;
    replace(path, pem.as_bytes(), 0o600).map_err(io)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    #[cfg(unix)]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::baseline::test_volume::tempdir;

    #[test]
    fn a_key_is_made_once_and_private() {
        let directory = tempdir();
        let key = Key::open(directory.path()).unwrap();
        assert_eq!(Key::open(directory.path()).unwrap(), key);
        let path = directory.path().join(PRIVATE_FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let public = PublicKey::read(&directory.path().join(PUBLIC_FILE)).unwrap();
        assert_eq!(public, key.public());
        assert_eq!(PublicKey::from_base64(&public.to_base64()), Some(public));
        let signature = key.sign(b"message");
        assert!(public.verifies(b"message", &signature));
        assert!(!public.verifies(b"massage", &signature));
        assert!(!Key::generate().unwrap().public().verifies(b"message", &signature));
    }

    #[test]
    fn a_key_that_is_none_or_exposed_is_refused_and_kept() {
        let directory = tempdir();
        Key::open(directory.path()).unwrap();
        let path = directory.path().join(PRIVATE_FILE);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = Key::open(directory.path()).unwrap_err();
        assert!(matches!(error, KeyError::Exposed { mode: 0o640, .. }), "{error}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "no key").unwrap();
        let error = Key::open(directory.path()).unwrap_err();
        assert!(matches!(error, KeyError::Invalid { .. }), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "no key");
    }
}
