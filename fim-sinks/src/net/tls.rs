//! TLS, from what the configuration says.

use std::io;
use std::path::Path;
use std::sync::Arc;

use fim_common::config::sink::Tls;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// A client that trusts, and shows, what `tls` says. The files are read now.
///
/// # Errors
/// When a file cannot be read or has not in it what it should; the message names it.
pub(crate) fn client(tls: &Tls, protocols: &[&[u8]]) -> io::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots(tls)?);
    let mut config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some((cert_file, key_file)) => {
            let chain = certificates(cert_file)?;
            let key = PrivateKeyDer::from_pem_file(key_file)
                .map_err(|error| named(key_file, &error.to_string()))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| named(cert_file, &error.to_string()))?
        }
    };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

fn roots(tls: &Tls) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match &tls.ca_file {
        Some(file) => {
            for certificate in certificates(file)? {
                roots.add(certificate).map_err(|error| named(file, &error.to_string()))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            // This host may have some that are of no use here.
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                let message = "this host has no certificates of authorities (ca-certificates); \
                               name the one to trust with ca_file";
                return Err(io::Error::new(io::ErrorKind::NotFound, message));
            }
        }
    }
    Ok(roots)
}

fn certificates(file: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| named(file, &error.to_string()))?;
    match found.is_empty() {
        true => Err(named(file, "there is no certificate in it")),
        false => Ok(found),
    }
}

fn named(file: &Path, error: &str) -> io::Error {
    io::Error::other(format!("{}: {error}", file.display()))
}
