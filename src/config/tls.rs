//! PEM files: read while the configuration loads, so that a wrong one is told at its place.

use std::path::Path;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::walk::Node;
use crate::proxy::settings::CertificateFiles;

/// Checks that a certificate chain and a private key can be read and belong together.
pub(super) fn check_pair(files: &CertificateFiles, cert: &Node<'_>, key: &Node<'_>) -> Option<()> {
    let chain = certificates(&files.cert, cert);
    let private = PrivateKeyDer::from_pem_file(&files.key).ok();
    if private.is_none() {
        key.error(
            format!("{} has no private key that can be read", files.key.display()),
            "name a PEM file with a PKCS#8, PKCS#1 or SEC1 private key, without a passphrase",
        );
    }
    let (chain, private) = (chain?, private?);
    match CertifiedKey::from_der(chain, private, &default_provider()) {
        Ok(_) => Some(()),
        Err(rustls::Error::InconsistentKeys(_)) => {
            let message = format!("{} is not the key of {}", files.key.display(), files.cert.display());
            key.error(message, "name the certificate and the key that were made together");
            None
        }
        Err(error) => {
            let message = format!("{} cannot be used: {error}", files.cert.display());
            cert.error(message, "use a certificate with an RSA, ECDSA or Ed25519 key");
            None
        }
    }
}

/// Checks that a file has at least one certificate.
pub(super) fn check_authorities(path: &Path, node: &Node<'_>) -> Option<()> {
    certificates(path, node).map(|_| ())
}

fn certificates(path: &Path, node: &Node<'_>) -> Option<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .unwrap_or_default();
    if read.is_empty() {
        let message = format!("{} has no certificate that can be read", path.display());
        node.error(message, "name a PEM file with -----BEGIN CERTIFICATE-----");
        return None;
    }
    Some(read)
}
