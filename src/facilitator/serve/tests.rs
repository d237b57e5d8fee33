//! The shapes of messages, and who is let in.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{Service, message, serve};
use crate::clock::SystemClock;
use crate::facilitator::contract::{Subject, contract};
use crate::facilitator::settings::{Auth, HttpSettings, ServiceSettings};
use crate::facilitator::{Facilitator, HttpFacilitator, SettleOutcome, Unavailable};
use crate::secret::Secret;
use crate::x402::types::FacilitatorRequest;
use crate::x402::{Reason, SettleResponse, Supported, SupportedKind, VerifyResponse, Version};

const TOKEN: &str = "open-sesame";

fn settings() -> ServiceSettings {
    ServiceSettings {
        listen: ([127, 0, 0, 1], 0).into(),
        token: Some(Secret::new(TOKEN.to_owned())),
        body_bytes: 4096,
        in_flight: 32,
        idle_timeout: Duration::from_secs(60),
    }
}

/// Serves a facilitator; returns the URL.
async fn offer(facilitator: Arc<dyn Facilitator>, settings: ServiceSettings) -> String {
    let listener = TcpListener::bind(settings.listen).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(serve(listener, Arc::new(Service::new(facilitator, settings))));
    url
}

/// Our own client, with a token.
fn client(url: &str, token: &str) -> HttpFacilitator {
    let settings = HttpSettings {
        name: "service".into(),
        url: url.to_owned(),
        auth: Auth::Bearer(Secret::new(token.to_owned())),
        ca_file: None,
        verify_timeout: Duration::from_secs(10),
        settle_timeout: Duration::from_secs(10),
        supported_ttl: Duration::from_secs(600),
    };
    HttpFacilitator::new(settings, Arc::new(SystemClock)).unwrap()
}

/// A facilitator that gives one answer, after a while if it is told to.
struct Oracle {
    outcome: SettleOutcome,
    verdict: Result<VerifyResponse, Unavailable>,
    hold: Option<tokio::sync::Notify>,
}

impl Oracle {
    fn saying(outcome: SettleOutcome) -> Arc<Self> {
        Arc::new(Self { outcome, verdict: Ok(VerifyResponse::Valid { payer: None }), hold: None })
    }
}

#[async_trait]
impl Facilitator for Oracle {
    fn name(&self) -> &'static str {
        "oracle"
    }

    async fn supported(&self) -> Result<Arc<Supported>, Unavailable> {
        let kind = |version| SupportedKind {
            version,
            scheme: "exact".into(),
            network: "base-sepolia".parse().unwrap(),
            extra: serde_json::Map::new(),
        };
        Ok(Arc::new(Supported { kinds: vec![kind(Version::V1), kind(Version::V2)], ..Supported::default() }))
    }

    async fn verify(&self, _request: &FacilitatorRequest) -> Result<VerifyResponse, Unavailable> {
        if let Some(hold) = &self.hold {
            hold.notified().await;
        }
        self.verdict.clone()
    }

    async fn settle(&self, _request: &FacilitatorRequest) -> SettleOutcome {
        self.outcome.clone()
    }
}

fn response(reason: Option<&Reason>, transaction: &str) -> SettleResponse {
    SettleResponse {
        success: reason.is_none(),
        error_reason: reason.map(|reason| reason.as_str().to_owned()),
        payer: Some("0xpayer".into()),
        transaction: transaction.into(),
        network: "eip155:84532".into(),
        amount: None,
        extra: None,
        extensions: None,
    }
}

fn unavailable() -> Unavailable {
    Unavailable {
        facilitator: "oracle".into(),
        cause: "the node at 10.0.0.7 is down".into(),
        retry_after: Duration::from_secs(7),
    }
}

fn wire() -> Value {
    let terms = json!({"scheme": "exact", "network": "eip155:84532", "amount": "10000",
        "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
        "payTo": "0x209693Bc6afc0C5328bA36FaF03C514EF312287C", "maxTimeoutSeconds": 60});
    json!({"x402Version": 2, "paymentRequirements": terms,
           "paymentPayload": {"x402Version": 2, "accepted": terms, "payload": {"signature": "0x"}}})
}

fn request() -> FacilitatorRequest {
    message::parse(wire().to_string().as_bytes()).unwrap()
}

#[tokio::test]
async fn our_own_client_reads_every_outcome_as_it_was_meant() {
    let gone = Reason::FACILITATOR_UNAVAILABLE;
    let cases = [
        SettleOutcome::Settled(response(None, "0xabc")),
        SettleOutcome::Declined(response(Some(&Reason::EVM_BALANCE), "")),
        SettleOutcome::Declined(response(Some(&Reason::EVM_FAILED), "0xabc")),
        SettleOutcome::Pending(response(Some(&Reason::SETTLEMENT_PENDING), "0xabc")),
    ];
    for outcome in cases {
        let url = offer(Oracle::saying(outcome.clone()), settings()).await;
        assert_eq!(client(&url, TOKEN).settle(&request()).await, outcome);
    }
    let url = offer(Oracle::saying(SettleOutcome::Unreachable(unavailable())), settings()).await;
    let SettleOutcome::Declined(refusal) = client(&url, TOKEN).settle(&request()).await else {
        panic!("nothing was sent, so it is a no")
    };
    assert_eq!((refusal.error_reason.as_deref(), refusal.transaction.as_str()), (Some(gone.as_str()), ""));
    let url = offer(Oracle::saying(SettleOutcome::AnswerLost(unavailable())), settings()).await;
    let outcome = client(&url, TOKEN).settle(&request()).await;
    assert!(matches!(outcome, SettleOutcome::AnswerLost(_)), "{outcome:?}");
}

#[tokio::test]
async fn our_own_client_reads_every_verdict_as_it_was_meant() {
    let payer = Some("0xpayer".to_owned());
    for verdict in [
        VerifyResponse::Valid { payer: payer.clone() },
        VerifyResponse::Invalid { reason: Reason::EVM_BALANCE, payer: payer.clone() },
        VerifyResponse::Invalid { reason: Reason::PERMIT2_ALLOWANCE, payer: None },
    ] {
        let oracle = Oracle {
            verdict: Ok(verdict.clone()),
            outcome: SettleOutcome::Unreachable(unavailable()),
            hold: None,
        };
        let url = offer(Arc::new(oracle), settings()).await;
        assert_eq!(client(&url, TOKEN).verify(&request()).await, Ok(verdict));
    }
    let oracle = Oracle {
        verdict: Err(unavailable()),
        outcome: SettleOutcome::Unreachable(unavailable()),
        hold: None,
    };
    let url = offer(Arc::new(oracle), settings()).await;
    let answer = client(&url, TOKEN).verify(&request()).await.unwrap_err();
    assert!(!answer.cause.contains("10.0.0.7"), "a caller learns nothing of our network: {answer}");
    assert_eq!(answer.retry_after, Duration::from_secs(7));
}

#[tokio::test]
async fn the_sandbox_keeps_the_contract_over_http() {
    use crate::scheme::testing::{MOMENT, payment, terms};
    struct Fixed;
    impl crate::clock::Clock for Fixed {
        fn now(&self) -> crate::clock::UnixSeconds {
            MOMENT.now
        }
    }
    let sandbox = crate::facilitator::Sandbox::new(Arc::new(Fixed), "$1".parse().unwrap());
    let url = offer(Arc::new(sandbox), settings()).await;
    let request = |payload: Value| {
        let wire = serde_json::to_value(terms()).unwrap();
        let message = json!({"x402Version": 2, "accepted": wire, "payload": payload});
        FacilitatorRequest::new(Version::V2, terms(), message.as_object().unwrap(), &wire)
    };
    let mut forged = payment(9);
    forged["signature"] = payment(8)["signature"].clone();
    let good = [request(payment(1)), request(payment(2)), request(payment(3))];
    contract(&Subject { facilitator: Arc::new(client(&url, TOKEN)), good, refused: request(forged) }).await;
}

#[test]
fn both_generations_are_read() {
    let second = request();
    assert_eq!((second.version, second.scheme.as_str()), (Version::V2, "exact"));
    let first = json!({
        "x402Version": 1,
        "paymentPayload": {"x402Version": 1, "scheme": "exact", "network": "base-sepolia", "payload": {"a": 1}},
        "paymentRequirements": {"scheme": "exact", "network": "base-sepolia", "maxAmountRequired": "10000",
            "resource": "https://a.example/", "description": "", "mimeType": "", "payTo": "0xb", "asset": "0xa",
            "maxTimeoutSeconds": 60, "extra": null},
    });
    let first = message::parse(first.to_string().as_bytes()).unwrap();
    assert_eq!((first.version, first.network.as_str()), (Version::V1, "eip155:84532"));
    assert_eq!(first.requirements.amount.to_string(), "10000");
    assert_eq!(first.payload["a"], 1);
    let told = message::settlement(&response(None, "0xabc"), Version::V1);
    assert_eq!(told["network"], "base-sepolia");
    assert_eq!(message::settlement(&response(None, "0xabc"), Version::V2)["network"], "eip155:84532");
}

#[test]
fn what_contradicts_itself_is_refused() {
    type Change = fn(&mut Value);
    let cases: &[(Change, &str)] = &[
        (|message| message["paymentPayload"]["x402Version"] = 1.into(), "invalid_x402_version"),
        (|message| message["x402Version"] = 3.into(), "invalid_x402_version"),
        (
            |message| message["paymentPayload"]["accepted"]["scheme"] = "upto".into(),
            "invalid_exact_evm_scheme",
        ),
        (
            |message| message["paymentPayload"]["accepted"]["network"] = "eip155:8453".into(),
            "invalid_exact_evm_network_mismatch",
        ),
        (|message| message["paymentPayload"]["payload"] = 7.into(), "invalid_payload"),
        (|message| message["paymentPayload"] = Value::Null, "invalid_payload"),
        (|message| message["paymentRequirements"]["amount"] = "1.5".into(), "invalid_payload"),
        (|message| *message = json!([]), "invalid_payload"),
    ];
    for (change, reason) in cases {
        let mut wrong = wire();
        change(&mut wrong);
        let refused = message::parse(wrong.to_string().as_bytes()).unwrap_err();
        assert_eq!(refused.as_str(), *reason, "{wrong}");
    }
    assert!(message::parse(b"not json").is_err());
}

#[tokio::test]
async fn more_than_are_answered_at_a_time_are_told_to_come_again() {
    let oracle = Arc::new(Oracle {
        verdict: Ok(VerifyResponse::Valid { payer: None }),
        outcome: SettleOutcome::Unreachable(unavailable()),
        hold: Some(tokio::sync::Notify::new()),
    });
    let limited = ServiceSettings { in_flight: 1, ..settings() };
    let listener = TcpListener::bind(limited.listen).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let service = Arc::new(Service::new(Arc::clone(&oracle) as _, limited));
    tokio::spawn(serve(listener, Arc::clone(&service)));
    let waiting = tokio::spawn({
        let caller = client(&url, TOKEN);
        async move { caller.verify(&request()).await }
    });
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while service.in_flight() == 0 {
        assert!(tokio::time::Instant::now() < deadline, "nobody came");
        tokio::task::yield_now().await;
    }
    let sent_away = client(&url, TOKEN).settle(&request()).await;
    assert!(matches!(sent_away, SettleOutcome::Unreachable(_)), "{sent_away:?}");
    oracle.hold.as_ref().unwrap().notify_one();
    assert!(matches!(waiting.await.unwrap(), Ok(VerifyResponse::Valid { .. })));
    assert_eq!(service.in_flight(), 0);
}
