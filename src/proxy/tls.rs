//! Certificates of listeners, chosen by the name the client asks for (SNI, RFC 6066 §3).

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::settings::CertificateFiles;

/// Chooses among a listener's certificates.
#[derive(Debug, Default)]
pub struct Certificates(ArcSwap<Chains>);

/// Certificates with their keys.
#[derive(Debug, Default)]
pub struct Chains(Vec<Arc<CertifiedKey>>);

impl Chains {
    /// Reads the files; the first certificate is for clients that name no or an unknown host.
    ///
    /// # Errors
    /// Which file cannot be used, and why.
    pub fn load(files: &[CertificateFiles]) -> Result<Self, String> {
        let provider = rustls::crypto::ring::default_provider();
        let load = |pair: &CertificateFiles| {
            let (cert, key) = (pair.cert.display(), pair.key.display());
            let chain = CertificateDer::pem_file_iter(&pair.cert)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| format!("{cert}: {error}"))?;
            let private =
                PrivateKeyDer::from_pem_file(&pair.key).map_err(|error| format!("{key}: {error}"))?;
            let certified = CertifiedKey::from_der(chain, private, &provider)
                .map_err(|error| format!("{cert} and {key}: {error}"))?;
            Ok(Arc::new(certified))
        };
        files.iter().map(load).collect::<Result<_, String>>().map(Self)
    }

    fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let named = name.and_then(|name| ServerName::try_from(name).ok()).and_then(|name| {
            self.0.iter().find(|certified| {
                let leaf = certified.end_entity_cert().and_then(ParsedCertificate::try_from);
                leaf.is_ok_and(|leaf| verify_server_name(&leaf, &name).is_ok())
            })
        });
        named.or_else(|| self.0.first()).cloned()
    }
}

impl Certificates {
    /// Has connections that begin from now on choose among these.
    pub fn exchange(&self, chains: Chains) {
        self.0.store(Arc::new(chains));
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load().find(hello.server_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &std::path::Path, names: &[&str]) -> (CertificateFiles, Vec<u8>) {
        let made =
            rcgen::generate_simple_self_signed(names.iter().map(ToString::to_string).collect::<Vec<_>>());
        let made = made.unwrap();
        let (cert, key) =
            (folder.join(format!("{}.pem", names[0])), folder.join(format!("{}.key", names[0])));
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        (CertificateFiles { cert, key }, made.cert.der().to_vec())
    }

    #[test]
    fn a_certificate_is_chosen_by_the_names_it_is_for() {
        let folder = tempfile::tempdir().unwrap();
        let (one, one_der) = write(folder.path(), &["one.example", "www.one.example"]);
        let (two, two_der) = write(folder.path(), &["two.example"]);
        let certificates = Chains::load(&[one, two]).unwrap();
        for (name, expected) in [
            (Some("one.example"), &one_der),
            (Some("www.one.example"), &one_der),
            (Some("two.example"), &two_der),
            (Some("other.example"), &one_der),
            (None, &one_der),
        ] {
            assert_eq!(certificates.find(name).unwrap().cert[0].as_ref(), expected, "{name:?}");
        }
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let (one, _) = write(folder.path(), &["one.example"]);
        let (two, _) = write(folder.path(), &["two.example"]);
        let missing = CertificateFiles { cert: folder.path().join("none.pem"), key: one.key.clone() };
        assert!(Chains::load(&[missing]).unwrap_err().contains("none.pem"));
        let mixed = CertificateFiles { cert: one.cert, key: two.key };
        assert!(Chains::load(&[mixed]).unwrap_err().contains("one.example.pem"));
    }
}
