use std::sync::Mutex as StdMutex;

use serde_json::{Map, json};

use super::*;
use crate::facilitator::contract::{Subject, contract};
use crate::facilitator::fake::request;
use crate::x402::{Reason, SettleResponse, SupportedKind, Version};

/// A facilitator that does what it is told and notes what it is asked.
struct Scripted {
    name: &'static str,
    listing: StdMutex<Result<Arc<Supported>, Unavailable>>,
    verdict: StdMutex<Result<VerifyResponse, Unavailable>>,
    outcome: StdMutex<SettleOutcome>,
    asked: StdMutex<Vec<&'static str>>,
}

fn unavailable(seconds: u64) -> Unavailable {
    let retry_after = Duration::from_secs(seconds);
    Unavailable { facilitator: "scripted".into(), cause: "down".into(), retry_after }
}

fn response(transaction: &str) -> SettleResponse {
    let mut response = SettleResponse::failed(&Reason::SETTLEMENT_FAILED, None, &request("x").network);
    transaction.clone_into(&mut response.transaction);
    response
}

fn list(kinds: &[(&str, &Value)], extensions: &[&str], signers: &Value) -> Supported {
    let kind = |(network, extra): &(&str, &Value)| SupportedKind {
        version: Version::V2,
        scheme: "exact".into(),
        network: network.parse().unwrap(),
        extra: extra.as_object().cloned().unwrap_or_default(),
    };
    Supported {
        kinds: kinds.iter().map(kind).collect(),
        extensions: extensions.iter().map(|&key| key.to_owned()).collect(),
        signers: signers.as_object().cloned().unwrap_or_default(),
    }
}

impl Scripted {
    /// One that says yes to everything.
    fn new(name: &'static str) -> Arc<Self> {
        let supported = list(&[("base-sepolia", &Value::Null)], &[], &Value::Null);
        Arc::new(Self {
            name,
            listing: StdMutex::new(Ok(Arc::new(supported))),
            verdict: StdMutex::new(Ok(VerifyResponse::Valid { payer: None })),
            outcome: StdMutex::new(SettleOutcome::Settled(response(name))),
            asked: StdMutex::default(),
        })
    }

    fn lists(&self, supported: Supported) {
        *self.listing.lock().unwrap() = Ok(Arc::new(supported));
    }

    fn verifies(&self, verdict: Result<VerifyResponse, Unavailable>) {
        *self.verdict.lock().unwrap() = verdict;
    }

    fn settles(&self, outcome: SettleOutcome) {
        *self.outcome.lock().unwrap() = outcome;
    }

    /// What it was asked since the last look.
    fn asked(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

#[async_trait]
impl Facilitator for Scripted {
    fn name(&self) -> &str {
        self.name
    }

    async fn supported(&self) -> Result<Arc<Supported>, Unavailable> {
        self.listing.lock().unwrap().clone()
    }

    async fn verify(&self, _: &FacilitatorRequest) -> Result<VerifyResponse, Unavailable> {
        self.asked.lock().unwrap().push("verify");
        self.verdict.lock().unwrap().clone()
    }

    async fn settle(&self, _: &FacilitatorRequest) -> SettleOutcome {
        self.asked.lock().unwrap().push("settle");
        self.outcome.lock().unwrap().clone()
    }
}

fn pair() -> (Arc<Scripted>, Arc<Scripted>, Failover) {
    let (first, second) = (Scripted::new("first"), Scripted::new("second"));
    let group = Failover::new(vec![first.clone(), second.clone()]);
    (first, second, group)
}

fn settled_by(outcome: &SettleOutcome) -> &str {
    match outcome {
        SettleOutcome::Settled(response) => &response.transaction,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_group_of_one_is_just_that_one() {
    let only: Arc<dyn Facilitator> = Scripted::new("only");
    assert!(Arc::ptr_eq(&only, &Failover::group(vec![Arc::clone(&only)])));
    let other: Arc<dyn Facilitator> = Scripted::new("other");
    assert_eq!(Failover::group(vec![only, other]).name(), "only+other");
}

#[tokio::test]
async fn an_empty_group_does_nothing() {
    let group = Failover::new(Vec::new());
    assert!(group.supported().await.is_err());
    assert!(group.verify(&request("one")).await.is_err());
    assert!(matches!(group.settle(&request("one")).await, SettleOutcome::Unreachable(_)));
}

#[tokio::test]
async fn a_payment_is_settled_by_whoever_verified_it() {
    let (first, second, group) = pair();
    first.verifies(Err(unavailable(9)));
    group.verify(&request("one")).await.unwrap();
    first.verifies(Ok(VerifyResponse::Valid { payer: None }));
    assert_eq!(settled_by(&group.settle(&request("one")).await), "second");
    assert_eq!((first.asked(), second.asked()), (vec!["verify"], vec!["verify", "settle"]));
    group.verify(&request("two")).await.unwrap();
    assert_eq!(settled_by(&group.settle(&request("two")).await), "first");
    assert_eq!((first.asked(), second.asked()), (vec!["verify", "settle"], vec![]));
}

#[tokio::test]
async fn a_no_is_an_answer_and_nobody_else_is_asked() {
    let (first, second, group) = pair();
    first.verifies(Ok(VerifyResponse::Invalid { reason: Reason::UNSPECIFIED, payer: None }));
    assert!(matches!(group.verify(&request("one")).await, Ok(VerifyResponse::Invalid { .. })));
    assert!(second.asked().is_empty());
}

#[tokio::test]
async fn settlement_moves_on_only_when_nobody_was_reached() {
    for (outcome, moves_on) in [
        (SettleOutcome::Unreachable(unavailable(1)), true),
        (SettleOutcome::AnswerLost(unavailable(1)), false),
        (SettleOutcome::Pending(response("0xt")), false),
        (SettleOutcome::Declined(response("")), false),
        (SettleOutcome::Settled(response("0xt")), false),
    ] {
        for verified in [true, false] {
            let (first, second, group) = pair();
            first.settles(outcome.clone());
            if verified {
                group.verify(&request("one")).await.unwrap();
            }
            let result = group.settle(&request("one")).await;
            if moves_on {
                assert_eq!(settled_by(&result), "second");
            } else {
                assert_eq!(result, outcome);
            }
            assert_eq!(second.asked().len(), usize::from(moves_on), "{outcome:?}");
        }
    }
}

#[tokio::test]
async fn a_payment_with_an_open_outcome_stays_with_the_facilitator_that_has_it() {
    for open in [SettleOutcome::AnswerLost(unavailable(1)), SettleOutcome::Pending(response("0xt"))] {
        let (first, second, group) = pair();
        let one = request("one");
        group.verify(&one).await.unwrap();
        first.settles(open);
        group.settle(&one).await;
        first.settles(SettleOutcome::Unreachable(unavailable(1)));
        assert!(matches!(group.settle(&one).await, SettleOutcome::Unreachable(_)));
        first.verifies(Err(unavailable(1)));
        assert!(group.verify(&one).await.is_err());
        assert!(second.asked().is_empty());
        // Told no at last, it is free again.
        first.settles(SettleOutcome::Declined(response("")));
        group.settle(&one).await;
        group.verify(&one).await.unwrap();
        assert_eq!(second.asked(), ["verify"]);
    }
}

#[tokio::test]
async fn when_nobody_answers_the_shortest_wait_is_named() {
    let (first, second, group) = pair();
    first.verifies(Err(unavailable(9)));
    second.verifies(Err(unavailable(4)));
    let error = group.verify(&request("one")).await.unwrap_err();
    assert_eq!((error.facilitator.as_str(), error.retry_after.as_secs()), ("first+second", 4));
    first.settles(SettleOutcome::Unreachable(unavailable(3)));
    second.settles(SettleOutcome::Unreachable(unavailable(5)));
    let outcome = group.settle(&request("one")).await;
    assert!(matches!(outcome, SettleOutcome::Unreachable(error) if error.retry_after.as_secs() == 3));
}

#[tokio::test]
async fn only_facilitators_that_list_the_kind_are_asked() {
    let (first, second, group) = pair();
    first.lists(list(&[("base", &Value::Null)], &[], &Value::Null));
    group.verify(&request("one")).await.unwrap();
    assert_eq!((first.asked(), second.asked()), (vec![], vec!["verify"]));
    second.lists(list(&[("base", &Value::Null)], &[], &Value::Null));
    assert!(group.verify(&request("two")).await.unwrap_err().cause.contains("none supports exact"));
    assert!(matches!(group.settle(&request("two")).await, SettleOutcome::Unreachable(_)));
    // One whose list is not known may support it.
    *first.listing.lock().unwrap() = Err(unavailable(1));
    group.verify(&request("three")).await.unwrap();
    assert_eq!((first.asked(), second.asked()), (vec!["verify"], vec![]));
}

#[tokio::test]
async fn a_payment_for_one_facilitators_account_is_not_given_to_another() {
    let (first, second, group) = pair();
    let accounts = |payer: &str, signers: &[&str]| {
        let extra = json!({"feePayer": payer});
        list(&[("base-sepolia", &extra)], &[], &json!({"solana:*": signers}))
    };
    first.lists(accounts("A1", &["A1", "A2"]));
    second.lists(accounts("B1", &[]));
    let paid_by = |account: &str| {
        let mut request = request(account);
        request.requirements.extra = Map::from_iter([("feePayer".to_owned(), json!(account))]);
        request
    };
    for (account, asked) in [("A1", "first"), ("A2", "first"), ("B1", "second"), ("C1", "first")] {
        group.verify(&paid_by(account)).await.unwrap();
        let by = if first.asked().is_empty() { "second" } else { "first" };
        second.asked();
        assert_eq!(by, asked, "{account}");
    }
    first.verifies(Err(unavailable(1)));
    assert!(group.verify(&paid_by("A2")).await.is_err());
    assert!(second.asked().is_empty());
}

#[tokio::test]
async fn a_kind_belongs_to_the_first_that_lists_it_and_extensions_to_all() {
    let (first, second, group) = pair();
    first.lists(list(
        &[("base", &json!({"feePayer": "A"}))],
        &["one", "both"],
        &json!({"eip155:*": ["A", "X"]}),
    ));
    second.lists(list(
        &[("base", &json!({"feePayer": "B"})), ("polygon", &Value::Null)],
        &["both", "two"],
        &json!({"eip155:*": ["B", "X"], "solana:*": ["S"]}),
    ));
    let merged = group.supported().await.unwrap();
    assert_eq!(merged.kinds.len(), 2);
    assert_eq!(merged.kinds[0].extra["feePayer"], "A");
    assert_eq!(merged.extensions, ["both"]);
    assert_eq!(
        Value::Object(merged.signers.clone()),
        json!({"eip155:*": ["A", "X", "B"], "solana:*": ["S"]})
    );
    assert!(Arc::ptr_eq(&merged, &group.supported().await.unwrap()), "nothing changed");
    *first.listing.lock().unwrap() = Err(unavailable(1));
    assert_eq!(group.supported().await.unwrap().kinds[0].extra["feePayer"], "B");
    *second.listing.lock().unwrap() = Err(unavailable(1));
    assert!(group.supported().await.is_err());
}

#[tokio::test]
async fn a_group_keeps_the_promises_of_a_facilitator_when_its_first_member_is_down() {
    use crate::facilitator::fake::{Bank, Fake, Reply};
    use crate::facilitator::settings::{Auth, HttpSettings};
    let bank = Bank::default();
    let well = Fake::start(move |request| bank.answer(request)).await;
    let limited = Reply::with_headers(429, "retry-after: 1\r\n", "");
    let down = Fake::always(limited).await;
    let http = |url: &str| -> Arc<dyn Facilitator> {
        let settings = HttpSettings {
            name: "fake".into(),
            url: url.into(),
            auth: Auth::None,
            ca_file: None,
            verify_timeout: Duration::from_secs(30),
            settle_timeout: Duration::from_secs(30),
            supported_ttl: Duration::from_secs(600),
        };
        let clock = Arc::new(crate::clock::SystemClock);
        Arc::new(crate::facilitator::HttpFacilitator::new(settings, clock).unwrap())
    };
    contract(&Subject {
        facilitator: Failover::group(vec![http(&down.url), http(&well.url)]),
        good: [request("one"), request("two"), request("three")],
        refused: request("bad"),
    })
    .await;
    assert!(!down.received().is_empty());
}
