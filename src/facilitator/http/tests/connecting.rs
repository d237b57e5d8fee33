//! Connections: TLS, redirects, pooling.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tempfile::NamedTempFile;

use super::*;

/// A certificate authority of our own: its certificate in a file, and a server it vouches for.
pub(super) fn authority(host: &str) -> (NamedTempFile, rustls::ServerConfig) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), issuer.pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![host.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    (file, config)
}

#[tokio::test]
async fn https_works_with_a_private_authority() {
    let (ca, config) = authority("localhost");
    let bank = Bank::default();
    let fake = Fake::start_tls(config, move |request| bank.answer(request)).await;
    let facilitator = client(HttpSettings { ca_file: Some(ca.path().into()), ..settings(&fake.url) });
    facilitator.supported().await.unwrap();
    assert!(matches!(facilitator.settle(&request("one")).await, SettleOutcome::Settled(_)));
}

#[tokio::test]
async fn a_certificate_that_cannot_be_trusted_gets_nothing_sent() {
    let (ca, config) = authority("elsewhere.example");
    let wrong_name = Fake::start_tls(config, |_| Reply::Stall).await;
    let (_, config) = authority("localhost");
    let wrong_authority = Fake::start_tls(config, |_| Reply::Stall).await;
    for fake in [wrong_name, wrong_authority] {
        let facilitator = client(HttpSettings { ca_file: Some(ca.path().into()), ..settings(&fake.url) });
        let outcome = facilitator.settle(&request("one")).await;
        assert!(matches!(outcome, SettleOutcome::Unreachable(_)), "{outcome:?}");
        assert!(facilitator.verify(&request("one")).await.is_err());
        assert!(fake.received().is_empty());
    }
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_a_connection_that_was_not_made() {
    let (ca, _) = authority("localhost");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let settings = HttpSettings { ca_file: Some(ca.path().into()), ..settings(&url) };
    let facilitator =
        HttpFacilitator::with(settings, Arc::new(FixedClock), SHORT, Arc::new(Instant::now)).unwrap();
    let outcome = facilitator.settle(&request("one")).await;
    assert!(matches!(outcome, SettleOutcome::Unreachable(_)), "{outcome:?}");
}

#[tokio::test]
async fn a_file_without_certificates_is_refused() {
    let empty = NamedTempFile::new().unwrap();
    let settings = HttpSettings { ca_file: Some(empty.path().into()), ..settings("https://localhost") };
    let Err(error) = HttpFacilitator::new(settings, Arc::new(FixedClock)) else { panic!("accepted") };
    assert!(error.contains("no PEM certificate"), "{error}");
}

#[tokio::test]
async fn nothing_is_sent_to_another_host_a_redirect_names() {
    for status in [301, 302, 303, 307, 308] {
        let other = Fake::always(Reply::Json(200, listing())).await;
        let location = format!("location: {}/supported\r\n", other.url);
        let fake = Fake::always(Reply::with_headers(status, &location, "")).await;
        let auth = Auth::Bearer(Secret::new("hunter2".into()));
        let facilitator = client(HttpSettings { auth, ..settings(&fake.url) });
        assert!(facilitator.supported().await.is_err());
        assert!(facilitator.verify(&request("one")).await.is_err());
        let outcome = facilitator.settle(&request("one")).await;
        assert!(matches!(outcome, SettleOutcome::AnswerLost(_)), "{outcome:?}");
        assert_eq!(fake.received().len(), 3);
        assert_eq!((other.connections(), other.received().len()), (0, 0), "{status}");
    }
}

#[tokio::test]
async fn a_list_may_have_moved_within_the_host_but_a_payment_is_posted_once() {
    let moved = |request: &Received| {
        if request.line.contains("/new/") {
            Reply::Json(200, listing())
        } else {
            Reply::with_headers(308, "location: /new/supported\r\n", "")
        }
    };
    let fake = Fake::start(moved).await;
    let auth = Auth::Bearer(Secret::new("hunter2".into()));
    let facilitator = client(HttpSettings { auth, ..settings(&fake.url) });
    facilitator.supported().await.unwrap();
    let received = fake.received();
    assert_eq!(received.len(), 2);
    assert!(received.iter().all(|request| request.header("authorization") == Some("Bearer hunter2")));
    assert!(facilitator.verify(&request("one")).await.is_err());
    assert_eq!(fake.received().len(), 3);
}

#[tokio::test]
async fn a_circle_of_redirects_ends() {
    let fake = Fake::always(Reply::with_headers(302, "location: /supported\r\n", "")).await;
    assert!(at(&fake).supported().await.is_err());
    assert_eq!(fake.received().len(), 4);
}

#[tokio::test]
async fn connections_are_used_again() {
    let bank = Bank::default();
    let fake = Fake::start(move |request| bank.answer(request)).await;
    let facilitator = at(&fake);
    for round in 0..10 {
        facilitator.verify(&request(&round.to_string())).await.unwrap();
    }
    assert_eq!(fake.received().len(), 10);
    assert!(fake.connections() < 10, "{}", fake.connections());
}
