//! Who may read the pages: TLS and a password, where the operator wants them.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use thiserror::Error;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config;

/// A file that is to protect the pages is of no use.
#[derive(Debug, Error)]
pub enum AccessError {
    /// It cannot be read.
    #[error("metrics: {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is a secret, and others can read or change it.
    #[error(
        "metrics: {} can be read or written by others (mode {mode:04o}): run `chmod 0600 {}`",
        path.display(),
        path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// There is nothing in it.
    #[error("metrics: {} has no password in its first line", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// It is no certificate, no key, or not the certificate's key.
    #[error("metrics: {} and {}: {why}", certificate.display(), key.display())]
    Tls {
        /// The certificates.
        certificate: PathBuf,
        /// Their key.
        key: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// Who may read the pages. By default everybody who reaches the port.
#[derive(Debug, Default)]
pub struct Access {
    tls: Option<Tls>,
    login: Option<Login>,
}

/// A name and a password, of which only the hash is kept.
#[derive(Debug)]
struct Login {
    sha256: [u8; 32],
}

struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    /// In use, and the files that it was read from.
    loaded: Mutex<(TlsAcceptor, [Stamp; 2])>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// Which version of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stamp(Option<SystemTime>, u64);

impl Stamp {
    fn of(path: &Path) -> Self {
        let stamp = |file: Metadata| Self(file.modified().ok(), file.len());
        fs::metadata(path).map(stamp).unwrap_or_default()
    }
}

impl Access {
    /// As the configuration says.
    ///
    /// # Errors
    /// When a file that it names is of no use.
    pub fn new(config: &config::Metrics) -> Result<Self, AccessError> {
        let tls = config.tls.as_ref().map(|(certificate, key)| Tls::new(certificate, key));
        let login = config.login.as_ref().map(|(user, file)| Login::read(user, file));
        Ok(Self { tls: tls.transpose()?, login: login.transpose()? })
    }

    /// How to speak with a client; `None`: in clear text.
    pub(super) fn tls(&self) -> Option<TlsAcceptor> {
        self.tls.as_ref().map(Tls::acceptor)
    }

    /// Whether the value of a header `Authorization` is the right one.
    pub(super) fn allows(&self, authorization: Option<&[u8]>) -> bool {
        let Some(login) = &self.login else { return true };
        let given = authorization.and_then(basic).unwrap_or_default();
        // Hashes have one length, so the time tells nothing of the password's.
        let given: [u8; 32] = Sha256::digest(given).into();
        given.ct_eq(&login.sha256).into()
    }
}

/// `user:password` of `Basic …`: RFC 7617.
fn basic(value: &[u8]) -> Option<Vec<u8>> {
    let (scheme, rest) = value.split_at_checked(6)?;
    scheme
        .eq_ignore_ascii_case(b"basic ")
        .then(|| BASE64_STANDARD.decode(rest.trim_ascii()).ok())?
}

impl Login {
    fn read(user: &str, file: &Path) -> Result<Self, AccessError> {
        let text = secret(file)?;
        let password = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
        if password.is_empty() {
            return Err(AccessError::Empty { path: file.to_owned() });
        }
        let both = [user.as_bytes(), b":", password].concat();
        Ok(Self { sha256: Sha256::digest(both).into() })
    }
}

/// The content of a file that only we may read.
fn secret(path: &Path) -> Result<Vec<u8>, AccessError> {
    let failed = |source| AccessError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(AccessError::Open { path: path.to_owned(), mode });
        }
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

impl Tls {
    fn new(certificate: &Path, key: &Path) -> Result<Self, AccessError> {
        let stamps = [Stamp::of(certificate), Stamp::of(key)];
        let loaded = Mutex::new((load(certificate, key)?, stamps));
        Ok(Self { certificate: certificate.to_owned(), key: key.to_owned(), loaded })
    }

    /// A certificate that was renewed is taken for the next connection; one that is of no use is
    /// not.
    fn acceptor(&self) -> TlsAcceptor {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = [Stamp::of(&self.certificate), Stamp::of(&self.key)];
        if loaded.1 != stamps {
            loaded.1 = stamps;
            match load(&self.certificate, &self.key) {
                Ok(acceptor) => loaded.0 = acceptor,
                Err(error) => tracing::error!(%error, "the earlier certificate is kept"),
            }
        }
        loaded.0.clone()
    }
}

fn load(certificate: &Path, key: &Path) -> Result<TlsAcceptor, AccessError> {
    let wrong = |why: String| AccessError::Tls {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        why,
    };
    let read = |source| AccessError::Read { path: certificate.to_owned(), source };
    let certificates = fs::read(certificate).map_err(read)?;
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&certificates)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(error.to_string()))?;
    let key_der =
        PrivateKeyDer::from_pem_slice(&secret(key)?).map_err(|error| wrong(error.to_string()))?;
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, key_der))
        .map_err(|error| wrong(error.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn file(directory: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = directory.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn with_login(path: PathBuf) -> Result<Access, AccessError> {
        let config = config::Config::default().metrics;
        Access::new(&config::Metrics { login: Some(("me".to_owned(), path)), ..config })
    }

    #[test]
    fn only_the_right_name_and_password_are_let_in() {
        let directory = tempfile::tempdir().unwrap();
        let access = with_login(file(directory.path(), "p", "sécret:x\nno\n", 0o600)).unwrap();
        let given = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
        assert!(access.allows(Some(given("me:sécret:x").as_bytes())));
        assert!(access.allows(Some(given("me:sécret:x").replace("Basic", "basic").as_bytes())));
        for wrong in ["me:sécret", "me:sécret:xx", "you:sécret:x", "me:", "", "me:no"] {
            assert!(!access.allows(Some(given(wrong).as_bytes())), "{wrong}");
        }
        for wrong in ["", "Basic", "Basic !!", "Bearer x", "Basic \u{e9}"] {
            assert!(!access.allows(Some(wrong.as_bytes())), "{wrong}");
        }
        assert!(!access.allows(None));
        assert!(Access::default().allows(None));
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        for mode in [0o644, 0o640, 0o602] {
            let error = with_login(file(directory.path(), "p", "x\n", mode)).unwrap_err();
            assert!(matches!(error, AccessError::Open { .. }), "{mode:o}: {error}");
        }
        let error = with_login(file(directory.path(), "p", "\nx", 0o600)).unwrap_err();
        assert!(matches!(error, AccessError::Empty { .. }), "{error}");
        let error = with_login(directory.path().join("gone")).unwrap_err();
        assert!(matches!(error, AccessError::Read { .. }), "{error}");
    }
}
