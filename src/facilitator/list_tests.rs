use std::sync::Mutex as StdMutex;

use serde_json::{Map, json};

use async_trait::async_trait;

use super::*;
use crate::facilitator::SettleOutcome;
use crate::facilitator::fake::request;
use crate::x402::{Reason, SupportedKind, Version};

/// A facilitator that does what it is told and notes what it is asked.
struct Scripted {
    name: &'static str,
    listing: StdMutex<Result<Arc<Supported>, Unavailable>>,
    verdict: StdMutex<Result<VerifyResponse, Unavailable>>,
    asked: StdMutex<Vec<&'static str>>,
}

fn unavailable(seconds: u64) -> Unavailable {
    let retry_after = Duration::from_secs(seconds);
    Unavailable { facilitator: "scripted".into(), cause: "down".into(), retry_after }
}

fn supporting(kinds: &[(&str, &Value)], extensions: &[&str], signers: &Value) -> Supported {
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
        let supported = supporting(&[("base-sepolia", &Value::Null)], &[], &Value::Null);
        Arc::new(Self {
            name,
            listing: StdMutex::new(Ok(Arc::new(supported))),
            verdict: StdMutex::new(Ok(VerifyResponse::Valid { payer: None })),
            asked: StdMutex::default(),
        })
    }

    fn lists(&self, supported: Supported) {
        *self.listing.lock().unwrap() = Ok(Arc::new(supported));
    }

    fn verifies(&self, verdict: Result<VerifyResponse, Unavailable>) {
        *self.verdict.lock().unwrap() = verdict;
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
        panic!("a list settles nothing")
    }
}

fn pair() -> (Arc<Scripted>, Arc<Scripted>, FacilitatorList) {
    let (first, second) = (Scripted::new("first"), Scripted::new("second"));
    let list = FacilitatorList::new(vec![first.clone(), second.clone()]);
    (first, second, list)
}

/// Whose turns it is, when nobody is ever reached.
async fn turns_of(
    list: &FacilitatorList,
    id: &str,
    verified_by: Option<Arc<dyn Facilitator>>,
) -> Vec<String> {
    let request = request(id);
    let mut turns = list.turns(&request, verified_by);
    let mut names = Vec::new();
    while let Some(facilitator) = turns.next().await {
        names.push(facilitator.name().to_owned());
        turns.not_reached(unavailable(1));
    }
    names
}

#[tokio::test]
async fn a_list_of_one_is_as_good_as_that_one() {
    let only = Scripted::new("only");
    let list = FacilitatorList::new(vec![only.clone()]);
    assert_eq!(list.name(), "only");
    let listing = only.supported().await.unwrap();
    assert!(Arc::ptr_eq(&listing, &list.supported().await.unwrap()));
    // What it supports is not asked first.
    only.lists(Supported::default());
    assert_eq!(list.verify(&request("one")).await.unwrap().by.name(), "only");
    assert_eq!(turns_of(&list, "one", None).await, ["only"]);
    only.verifies(Err(unavailable(3)));
    assert_eq!(list.verify(&request("one")).await.err(), Some(unavailable(3)), "its own words");
}

#[tokio::test]
async fn an_empty_list_does_nothing() {
    let list = FacilitatorList::new(Vec::new());
    assert!(list.supported().await.is_err());
    assert!(list.verify(&request("one")).await.is_err());
    let one = request("one");
    let mut turns = list.turns(&one, None);
    assert!(turns.next().await.is_none());
    assert!(turns.nobody_reached().cause.contains("none supports exact"));
}

#[tokio::test]
async fn who_verified_a_payment_is_first_to_settle_it_and_the_others_follow_in_order() {
    let (first, second, list) = pair();
    first.verifies(Err(unavailable(9)));
    let by = list.verify(&request("one")).await.unwrap().by;
    assert_eq!(by.name(), "second");
    assert_eq!((first.asked(), second.asked()), (vec!["verify"], vec!["verify"]));
    assert_eq!(turns_of(&list, "one", Some(by)).await, ["second", "first"]);
    assert_eq!(turns_of(&list, "one", None).await, ["first", "second"], "settled before it is verified");
    first.verifies(Ok(VerifyResponse::Valid { payer: None }));
    let by = list.verify(&request("two")).await.unwrap().by;
    assert_eq!(turns_of(&list, "two", Some(by)).await, ["first", "second"]);
}

#[tokio::test]
async fn a_no_is_an_answer_and_nobody_else_is_asked() {
    let (first, second, list) = pair();
    first.verifies(Ok(VerifyResponse::Invalid { reason: Reason::UNSPECIFIED, payer: None }));
    let verified = list.verify(&request("one")).await.unwrap();
    assert!(matches!(verified.verdict, VerifyResponse::Invalid { .. }));
    assert_eq!(verified.by.name(), "first");
    assert!(second.asked().is_empty());
}

#[tokio::test]
async fn when_nobody_answers_the_shortest_wait_is_named() {
    let (first, second, list) = pair();
    first.verifies(Err(unavailable(9)));
    second.verifies(Err(unavailable(4)));
    let error = list.verify(&request("one")).await.err().unwrap();
    assert_eq!((error.facilitator.as_str(), error.retry_after.as_secs()), ("first+second", 4));
    let one = request("one");
    let mut turns = list.turns(&one, None);
    for seconds in [3, 5] {
        turns.next().await.unwrap();
        turns.not_reached(unavailable(seconds));
    }
    assert!(turns.next().await.is_none());
    let error = turns.nobody_reached();
    assert_eq!((error.facilitator.as_str(), error.retry_after.as_secs()), ("first+second", 3));
}

#[tokio::test]
async fn only_facilitators_that_list_the_kind_are_asked() {
    let (first, second, list) = pair();
    first.lists(supporting(&[("base", &Value::Null)], &[], &Value::Null));
    list.verify(&request("one")).await.unwrap();
    assert_eq!((first.asked(), second.asked()), (vec![], vec!["verify"]));
    second.lists(supporting(&[("base", &Value::Null)], &[], &Value::Null));
    assert!(list.verify(&request("two")).await.err().unwrap().cause.contains("none supports exact"));
    assert_eq!(turns_of(&list, "two", None).await, [""; 0]);
    // One whose list is not known may support it.
    *first.listing.lock().unwrap() = Err(unavailable(1));
    list.verify(&request("three")).await.unwrap();
    assert_eq!((first.asked(), second.asked()), (vec!["verify"], vec![]));
    assert_eq!(turns_of(&list, "three", None).await, ["first"]);
}

#[tokio::test]
async fn a_payment_for_one_facilitators_account_is_not_given_to_another() {
    let (first, second, list) = pair();
    let accounts = |payer: &str, signers: &[&str]| {
        let extra = json!({"feePayer": payer});
        supporting(&[("base-sepolia", &extra)], &[], &json!({"solana:*": signers}))
    };
    first.lists(accounts("A1", &["A1", "A2"]));
    second.lists(accounts("B1", &[]));
    let paid_by = |account: &str| {
        let mut request = request(account);
        request.requirements.extra = Map::from_iter([("feePayer".to_owned(), json!(account))]);
        request
    };
    for (account, asked) in [("A1", "first"), ("A2", "first"), ("B1", "second"), ("C1", "first")] {
        list.verify(&paid_by(account)).await.unwrap();
        let by = if first.asked().is_empty() { "second" } else { "first" };
        second.asked();
        assert_eq!(by, asked, "{account}");
    }
    first.verifies(Err(unavailable(1)));
    assert!(list.verify(&paid_by("A2")).await.is_err());
    assert!(second.asked().is_empty());
    let theirs = paid_by("B1");
    let mut turns = list.turns(&theirs, None);
    assert_eq!(turns.next().await.unwrap().name(), "second");
    assert!(turns.next().await.is_none());
}

#[tokio::test]
async fn a_kind_belongs_to_the_first_that_lists_it_and_extensions_to_all() {
    let (first, second, list) = pair();
    first.lists(supporting(
        &[("base", &json!({"feePayer": "A"}))],
        &["one", "both"],
        &json!({"eip155:*": ["A", "X"]}),
    ));
    second.lists(supporting(
        &[("base", &json!({"feePayer": "B"})), ("polygon", &Value::Null)],
        &["both", "two"],
        &json!({"eip155:*": ["B", "X"], "solana:*": ["S"]}),
    ));
    let merged = list.supported().await.unwrap();
    assert_eq!(merged.kinds.len(), 2);
    assert_eq!(merged.kinds[0].extra["feePayer"], "A");
    assert_eq!(merged.extensions, ["both"]);
    assert_eq!(
        Value::Object(merged.signers.clone()),
        json!({"eip155:*": ["A", "X", "B"], "solana:*": ["S"]})
    );
    assert!(Arc::ptr_eq(&merged, &list.supported().await.unwrap()), "nothing changed");
    *first.listing.lock().unwrap() = Err(unavailable(1));
    assert_eq!(list.supported().await.unwrap().kinds[0].extra["feePayer"], "B");
    *second.listing.lock().unwrap() = Err(unavailable(1));
    assert!(list.supported().await.is_err());
}
