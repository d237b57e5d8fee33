//! The client against facilitators on real sockets.

mod caching;
mod connecting;
mod http2;
mod settling;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpSocket;

use super::testing::ManualTime;
use super::*;
use crate::clock::UnixSeconds;
use crate::facilitator::contract::{Subject, contract};
use crate::facilitator::fake::{Bank, Fake, Received, Reply, listing, request};
use crate::facilitator::settings::Auth;
use crate::secret::Secret;
use crate::x402::Reason;

/// A wait that only a broken test reaches the end of.
const LONG: Duration = Duration::from_secs(30);
/// A wait that a facilitator which never answers always outlasts.
const SHORT: Duration = Duration::from_millis(50);

struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> UnixSeconds {
        UnixSeconds(784_111_767)
    }
}

fn settings(url: &str) -> HttpSettings {
    HttpSettings {
        name: "fake".into(),
        url: url.into(),
        auth: Auth::None,
        ca_file: None,
        verify_timeout: LONG,
        settle_timeout: LONG,
        supported_ttl: Duration::from_secs(600),
    }
}

fn client(settings: HttpSettings) -> HttpFacilitator {
    HttpFacilitator::new(settings, Arc::new(FixedClock)).unwrap()
}

fn at(fake: &Fake) -> HttpFacilitator {
    client(settings(&fake.url))
}

/// One whose calls end soon, without the connection being what ends them.
fn impatient(url: &str) -> HttpFacilitator {
    let settings = HttpSettings { verify_timeout: SHORT, settle_timeout: SHORT, ..settings(url) };
    HttpFacilitator::with(settings, Arc::new(FixedClock), LONG, Arc::new(Instant::now)).unwrap()
}

fn timed(fake: &Fake, time: &ManualTime) -> HttpFacilitator {
    HttpFacilitator::with(settings(&fake.url), Arc::new(FixedClock), LONG, time.source()).unwrap()
}

/// A port that refuses connections, and that nobody else can open meanwhile.
fn closed_port() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    (socket, url)
}

fn valid() -> Reply {
    Reply::Json(200, serde_json::json!({"isValid": true, "payer": "0xp"}))
}

fn invalid() -> Reply {
    Reply::Json(200, serde_json::json!({"isValid": false, "invalidReason": "no"}))
}

#[tokio::test]
async fn it_keeps_the_promises_of_a_facilitator() {
    let bank = Bank::default();
    let fake = Fake::start(move |request| bank.answer(request)).await;
    contract(&Subject {
        facilitator: Arc::new(at(&fake)),
        good: [request("one"), request("two"), request("three")],
        refused: request("bad"),
    })
    .await;
}

#[tokio::test]
async fn what_is_sent_is_the_request_as_it_is_with_the_configured_credentials() {
    let bank = Bank::default();
    let fake = Fake::start(move |request| bank.answer(request)).await;
    let auth = Auth::Header { name: "x-api-key".into(), value: Secret::new("hunter2".into()) };
    let facilitator = client(HttpSettings { auth, url: format!("{}/x402/", fake.url), ..settings("") });
    let one = request("one");
    facilitator.supported().await.unwrap();
    facilitator.verify(&one).await.unwrap();
    facilitator.settle(&one).await;
    let received = fake.received();
    let lines: Vec<&str> = received.iter().map(|request| request.line.as_str()).collect();
    let expected =
        ["GET /x402/supported HTTP/1.1", "POST /x402/verify HTTP/1.1", "POST /x402/settle HTTP/1.1"];
    assert_eq!(lines, expected);
    for request in &received {
        assert_eq!(request.header("x-api-key"), Some("hunter2"));
    }
    for request in &received[1..] {
        assert_eq!(request.body.as_bytes(), one.body);
        assert_eq!(request.header("content-type"), Some("application/json"));
    }
}

#[tokio::test]
async fn each_request_to_cdp_carries_a_token_of_its_own_for_its_own_path() {
    use base64::Engine as _;
    use ring::signature::KeyPair as _;
    let seed = [7; 32];
    let pair = ring::signature::Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
    let secret =
        base64::engine::general_purpose::STANDARD.encode([&seed, pair.public_key().as_ref()].concat());
    let bank = Bank::default();
    let fake = Fake::start(move |request| bank.answer(request)).await;
    let auth = Auth::Cdp { key_id: "id".into(), key: Secret::new(secret) };
    let facilitator = client(HttpSettings { auth, ..settings(&fake.url) });
    facilitator.supported().await.unwrap();
    facilitator.verify(&request("one")).await.unwrap();
    facilitator.verify(&request("two")).await.unwrap();
    facilitator.settle(&request("one")).await;
    let host = fake.url.trim_start_matches("http://").to_owned();
    let uris = ["GET", "POST", "POST", "POST"].iter().zip(["supported", "verify", "verify", "settle"]);
    let mut nonces = std::collections::HashSet::new();
    for (received, (method, call)) in fake.received().iter().zip(uris) {
        let token = received.header("authorization").unwrap().strip_prefix("Bearer ").unwrap();
        let parts: Vec<serde_json::Value> = token
            .split('.')
            .take(2)
            .map(|part| base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap())
            .map(|json| serde_json::from_slice(&json).unwrap())
            .collect();
        assert_eq!(parts[1]["uris"], serde_json::json!([format!("{method} {host}/{call}")]));
        assert_eq!(parts[1]["exp"], FixedClock.now().0 + 120);
        assert!(nonces.insert(parts[0]["nonce"].clone()), "a nonce twice");
    }
    assert_eq!(nonces.len(), 4);
}

#[tokio::test]
async fn nothing_secret_reaches_the_log() {
    use tracing_subscriber::fmt::MakeWriter;

    #[derive(Clone, Default)]
    struct Log(Arc<std::sync::Mutex<Vec<u8>>>);
    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    impl MakeWriter<'_> for Log {
        type Writer = Self;
        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    let log = Log::default();
    let subscriber = || {
        tracing::Dispatch::new(
            tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone()).finish(),
        )
    };
    // While there is only one subscriber, events that another thread comes across first are switched
    // off for all threads if that thread has none; with two, every subscriber is asked.
    let (_second, ours) = (subscriber(), subscriber());
    let guard = tracing::dispatcher::set_default(&ours);
    let fake = Fake::start(|request| match request.header("authorization") {
        Some(secret) if request.is("verify") => Reply::Json(401, serde_json::json!({"error": secret})),
        Some(_) => Reply::Json(500, serde_json::json!({"error": request.body})),
        None => Reply::Stall,
    })
    .await;
    let auth = Auth::Bearer(Secret::new("hunter2".into()));
    let facilitator = client(HttpSettings { auth, url: format!("{}/pathkey", fake.url), ..settings("") });
    let payment = request("payment-signature");
    let told = (facilitator.verify(&payment).await, facilitator.settle(&payment).await);
    let (_socket, closed) = closed_port();
    let gone = client(HttpSettings {
        auth: Auth::Bearer(Secret::new("hunter2".into())),
        ..settings(&format!("{closed}/pathkey"))
    });
    let refused = gone.settle(&payment).await;
    drop(guard);
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let ours: Vec<&str> = log.lines().filter(|line| line.contains(TARGET)).collect();
    assert!(ours.len() >= 3, "{log}");
    let shown = format!("{told:?} {refused:?} {:?} {}", settings(""), ours.join("\n"));
    for secret in ["hunter2", "payment-signature", "pathkey"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    assert!(!log.contains("hunter2"), "a library logs the token");
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_by_name() {
    let bad_auth = Auth::Bearer(Secret::new("hunter2\u{7f}".into()));
    for settings in [
        settings("not a url"),
        HttpSettings { auth: bad_auth, ..settings("https://localhost") },
        HttpSettings { ca_file: Some("/nonexistent.pem".into()), ..settings("https://localhost") },
    ] {
        let Err(error) = HttpFacilitator::new(settings, Arc::new(FixedClock)) else { panic!("accepted") };
        assert!(error.starts_with("facilitator fake: ") && !error.contains("hunter2"), "{error}");
    }
}
