//! The gate's promises, with a scripted facilitator and a ledger in memory.

mod births;
mod driving;
mod members;
mod others;
mod payers;
mod quotes;
mod terms;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Admission, DeliveryEnd, Gate, GateParts, OfferBook, PaymentHeader, Pledges, Refusal, Resource};
use crate::clock::{Clock, UnixSeconds};
use crate::facilitator::{Facilitator, FacilitatorList, SettleOutcome, Unavailable};
use crate::ledger::{Accounts as _, Filter, ModelLedger, PaymentState, Redelivery};
use crate::policy::{
    Accept, Decision, FacilitatorId, Offer, PathPattern, Route, RouteFacts, RoutePath, RouteTable,
    SettleWhen, UpstreamId, V1Mode,
};
use crate::scheme::testing::{MOMENT, payment, terms};
use crate::x402::types::FacilitatorRequest;
use crate::x402::{
    PaymentRequirements, Reason, ResourceInfo, SettleResponse, Supported, SupportedKind, VerifyResponse,
    Version, header,
};

pub(super) const ORIGIN: &str = "https://shop.example";

struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> UnixSeconds {
        MOMENT.now
    }
}

/// Answers as scripted; without a script, everything is valid and settles.
#[derive(Default)]
struct Scripted {
    verdicts: Mutex<VecDeque<Result<VerifyResponse, Unavailable>>>,
    outcomes: Mutex<VecDeque<SettleOutcome>>,
    verified: AtomicUsize,
    settled: AtomicUsize,
    seen: Mutex<Vec<Value>>,
}

fn settled() -> SettleOutcome {
    SettleOutcome::Settled(crate::ledger::contract::response())
}

fn declined(reason: &str) -> SettleOutcome {
    let network = terms().network;
    SettleOutcome::Declined(SettleResponse::failed(&Reason::foreign(reason), None, &network))
}

fn declined_after_sending(reason: &str) -> SettleOutcome {
    let failed = SettleResponse::failed(&Reason::foreign(reason), None, &terms().network);
    SettleOutcome::Declined(SettleResponse { transaction: "0x1".into(), ..failed })
}

fn reverted() -> SettleResponse {
    let SettleOutcome::Declined(response) = declined_after_sending("invalid_transaction_state") else {
        panic!("not declined");
    };
    response
}

fn unavailable() -> Unavailable {
    let (facilitator, cause) = ("scripted".to_owned(), "scripted".to_owned());
    Unavailable { facilitator, cause, retry_after: Duration::from_secs(1) }
}

#[async_trait]
impl Facilitator for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    async fn supported(&self) -> Result<Arc<Supported>, Unavailable> {
        Ok(supported(&[Version::V1, Version::V2], &json!({})))
    }

    async fn verify(&self, request: &FacilitatorRequest) -> Result<VerifyResponse, Unavailable> {
        self.verified.fetch_add(1, Ordering::SeqCst);
        self.seen.lock().unwrap().push(serde_json::from_slice(&request.body).unwrap());
        let next = self.verdicts.lock().unwrap().pop_front();
        next.unwrap_or(Ok(VerifyResponse::Valid { payer: None }))
    }

    async fn settle(&self, _request: &FacilitatorRequest) -> SettleOutcome {
        self.settled.fetch_add(1, Ordering::SeqCst);
        // Lets everything else that is ready run, so that overlapping uses would show.
        tokio::task::yield_now().await;
        let next = self.outcomes.lock().unwrap().pop_front();
        next.unwrap_or_else(settled)
    }
}

pub(super) fn supported(versions: &[Version], extra: &Value) -> Arc<Supported> {
    let kind = |version: &Version| SupportedKind {
        version: *version,
        scheme: "exact".into(),
        network: terms().network,
        extra: extra.as_object().unwrap().clone(),
    };
    Arc::new(Supported { kinds: versions.iter().map(kind).collect(), ..Supported::default() })
}

/// Asks a gate for a page.
pub(super) async fn ask(
    gate: &Gate,
    route: &Route,
    method: &http::Method,
    path: &str,
    payment: Option<PaymentHeader<'_>>,
) -> Admission {
    let (headers, canonical) = (http::HeaderMap::new(), RoutePath::parse(path).unwrap());
    let facts =
        RouteFacts { method: method.as_str(), host: "", path: &canonical, query: "", headers: &headers };
    gate.admit(route, &facts, &Resource::new(ORIGIN, path, ""), payment).await
}

struct Shop {
    gate: Gate,
    route: Arc<Route>,
    offers: Arc<OfferBook>,
    ledger: ModelLedger,
    facilitator: Arc<Scripted>,
}

fn offer(requirements: PaymentRequirements, settle: SettleWhen) -> Offer {
    let facilitator = FacilitatorId(0);
    let accept = Accept { requirements, facilitator, symbol: "USDC".into(), decimals: 6, v1: true };
    let bazaar = json!({"info": {"input": {"type": "http"}}, "schema": {}});
    let extensions = [("bazaar".to_owned(), bazaar)].into_iter().collect();
    let (accepts, resource) = (vec![accept], ResourceInfo::default());
    Offer { index: 0, accepts, resource, extensions, settle, v1: V1Mode::Both }
}

fn shop(versions: &[Version], settle: SettleWhen) -> Shop {
    shop_for(terms(), supported(versions, &json!({})), settle)
}

/// A table in which everything costs the same.
pub(super) fn priced_route(terms: PaymentRequirements, settle: SettleWhen) -> (Arc<RouteTable>, Arc<Route>) {
    let route = Route {
        name: "articles".into(),
        hosts: vec![],
        methods: vec![],
        path: PathPattern::Any,
        headers: vec![],
        query: vec![],
        decision: Decision::Paid(Box::new(offer(terms, settle))),
        upstream: UpstreamId(0),
    };
    let table = Arc::new(RouteTable::new(vec![], route));
    let route = Arc::clone(table.default());
    (table, route)
}

fn shop_for(terms: PaymentRequirements, supported: Arc<Supported>, settle: SettleWhen) -> Shop {
    shop_beside(super::Chains::default(), ModelLedger::new(), terms, supported, settle)
}

/// A shop that can ask chains, over a ledger that is there already.
fn shop_beside(
    chains: super::Chains,
    ledger: ModelLedger,
    terms: PaymentRequirements,
    supported: Arc<Supported>,
    settle: SettleWhen,
) -> Shop {
    let (table, route) = priced_route(terms, settle);
    let offers = Arc::new(OfferBook::new(table, ORIGIN.into()));
    offers.observe(FacilitatorId(0), supported);
    let facilitator = Arc::new(Scripted::default());
    let gate = gate_of(&offers, vec![Arc::clone(&facilitator) as _], &ledger, chains);
    Shop { gate, route, offers, ledger, facilitator }
}

/// A gate whose payments are settled by these, which stand in for each other.
fn gate_of(
    offers: &Arc<OfferBook>,
    every: Vec<Arc<dyn Facilitator>>,
    ledger: &ModelLedger,
    chains: super::Chains,
) -> Gate {
    Gate::new(GateParts {
        offers: Arc::clone(offers),
        facilitators: vec![Arc::new(FacilitatorList::new(every.clone()))],
        every,
        chains,
        ledger: Arc::new(ledger.clone()),
        clock: Arc::new(FixedClock),
        runtime: tokio::runtime::Handle::current(),
        verify_in_flight: 1_000,
        origin_time_seconds: MOMENT.margin_seconds,
        pledges: Pledges { count: 150, sum: None },
        failures: super::FailureLimit::default(),
        redelivery: Redelivery { window_seconds: 300, tries: 2 },
    })
}

fn usual() -> Shop {
    shop(&[Version::V1, Version::V2], SettleWhen::BeforeResponse)
}

impl Shop {
    async fn admit(&self, version: Version, message: &Value) -> Admission {
        let value = header::encode(message).unwrap();
        let payment = PaymentHeader { version, value: value.as_bytes() };
        self.admit_as(http::Method::GET, "/a", payment).await
    }

    async fn admit_as(&self, method: http::Method, path: &str, payment: PaymentHeader<'_>) -> Admission {
        ask(&self.gate, &self.route, &method, path, Some(payment)).await
    }

    /// Presents a payment for something else than the usual.
    async fn elsewhere(&self, message: &Value) -> Refusal {
        let value = header::encode(message).unwrap();
        let payment = PaymentHeader { version: Version::V2, value: value.as_bytes() };
        match self.admit_as(http::Method::GET, "/b", payment).await {
            Admission::Refused(refusal) => refusal,
            other => panic!("{other:?}"),
        }
    }

    async fn refusal(&self, message: &Value) -> Refusal {
        match self.admit(Version::V2, message).await {
            Admission::Refused(refusal) => refusal,
            other => panic!("{other:?}"),
        }
    }

    async fn permit(&self, message: &Value) -> super::Permit {
        match self.admit(Version::V2, message).await {
            Admission::Paid(permit, _) => permit,
            other => panic!("{other:?}"),
        }
    }

    /// Waits, without a clock, until nobody holds a payment any more.
    async fn until_at_rest(&self) {
        let all = async || self.ledger.list(&Filter::default(), None, 1_000).await.unwrap();
        while all().await.iter().any(|record| record.owner.is_some()) {
            tokio::task::yield_now().await;
        }
    }

    async fn held(&self, state: PaymentState) -> usize {
        let filter = Filter { states: vec![state], ..Filter::default() };
        self.ledger.list(&filter, None, 1_000).await.unwrap().len()
    }

    /// Waits, without a clock, until what goes on in the background has come to this.
    async fn until_held(&self, state: PaymentState, count: usize) {
        while self.held(state).await != count {
            tokio::task::yield_now().await;
        }
    }
}

fn v2(nonce: u8) -> Value {
    json!({"x402Version": 2, "accepted": terms(), "payload": payment(nonce)})
}

fn v1(nonce: u8) -> Value {
    json!({"x402Version": 1, "scheme": "exact", "network": "base-sepolia", "payload": payment(nonce)})
}

fn invalid(reason: Reason) -> Refusal {
    Refusal::Invalid { reason, payer: None }
}

#[tokio::test]
async fn one_payment_admits_one_of_a_hundred_concurrent_requests() {
    let shop = Arc::new(usual());
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let shop = Arc::clone(&shop);
            tokio::spawn(async move { shop.admit(Version::V2, &v2(1)).await })
        })
        .collect();
    let mut permits = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            Admission::Paid(permit, _) => permits.push(permit),
            Admission::Refused(refusal) => assert_eq!(refusal, Refusal::InUse),
            Admission::Owed(owed) => panic!("{owed:?}"),
            Admission::Free => panic!("a priced route let a request in free"),
        }
    }
    assert_eq!(permits.len(), 1);
    assert_eq!(shop.facilitator.verified.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_settled_payment_buys_nothing_more() {
    let shop = usual();
    let receipt = shop.gate.settle(shop.permit(&v2(1)).await).await.unwrap();
    assert!(receipt.response.success);
    assert_eq!(receipt.response.payer, Some(crate::scheme::testing::payer().to_string()));
    assert_eq!(shop.refusal(&v2(1)).await, Refusal::InUse, "its delivery is under way");
    assert_eq!(shop.elsewhere(&v2(1)).await, Refusal::AlreadyUsed);
    receipt.delivery.end(DeliveryEnd::Complete);
    shop.until_held(PaymentState::Delivered, 1).await;
    assert_eq!(shop.refusal(&v2(1)).await, Refusal::AlreadyUsed);
    // Not even when it comes in the other generation's clothes.
    let again = shop.admit(Version::V1, &v1(1)).await;
    assert!(matches!(again, Admission::Refused(Refusal::AlreadyUsed)), "{again:?}");
    assert_eq!(shop.facilitator.settled.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_released_or_dropped_permit_gives_the_payment_back() {
    let shop = usual();
    let permit = shop.permit(&v2(1)).await;
    shop.gate.release(permit, "the origin answered 500").await;
    drop(shop.permit(&v2(1)).await);
    // The drop gives back in the background; this waits for it without a clock.
    shop.until_held(PaymentState::Claimed, 0).await;
    drop(shop.permit(&v2(1)).await);
}

#[tokio::test]
async fn a_payment_that_verification_refuses_can_be_presented_again() {
    let shop = usual();
    let no = VerifyResponse::Invalid { reason: Reason::INSUFFICIENT_FUNDS, payer: Some("0xa".into()) };
    shop.facilitator.verdicts.lock().unwrap().extend([Ok(no), Err(unavailable())]);
    let refused = Refusal::Invalid { reason: Reason::INSUFFICIENT_FUNDS, payer: Some("0xa".into()) };
    assert_eq!(shop.refusal(&v2(1)).await, refused);
    assert!(matches!(shop.refusal(&v2(1)).await, Refusal::Unavailable { .. }));
    drop(shop.permit(&v2(1)).await);
}

#[tokio::test]
async fn what_came_of_a_settlement_decides_what_becomes_of_the_claim() {
    let network = terms().network;
    let pending_with = |transaction: &str| {
        let failed = SettleResponse::failed(&Reason::SETTLEMENT_PENDING, None, &network);
        SettleOutcome::Pending(SettleResponse { transaction: transaction.into(), ..failed })
    };
    let pending = || pending_with("0x1");
    let no = SettleResponse::failed(&Reason::foreign("no"), None, &network);
    let down = Refusal::Unavailable {
        cause: "facilitator scripted: scripted".into(),
        retry_after: Duration::from_secs(1),
    };
    let failed = Refusal::SettlementFailed(Box::new(no));
    let unresolved = || Some(Refusal::Unresolved);
    let cases: Vec<(Vec<SettleOutcome>, Option<Refusal>, PaymentState, usize)> = vec![
        (vec![settled()], None, PaymentState::Settled, 1),
        (vec![declined("no")], Some(failed), PaymentState::Declined, 1),
        (vec![SettleOutcome::Unreachable(unavailable())], Some(down), PaymentState::Declined, 1),
        (vec![SettleOutcome::AnswerLost(unavailable())], unresolved(), PaymentState::Unresolved, 1),
        (vec![declined("invalid_exact_evm_nonce_already_used")], unresolved(), PaymentState::Unresolved, 1),
        (vec![pending(), settled()], None, PaymentState::Settled, 2),
        (vec![declined("AUTHORIZATION is used or canceled")], unresolved(), PaymentState::Unresolved, 1),
        (vec![declined("duplicate_settlement")], unresolved(), PaymentState::Unresolved, 1),
        (vec![declined_after_sending("odd")], unresolved(), PaymentState::Unresolved, 1),
        (
            vec![declined_after_sending("invalid_transaction_state")],
            Some(Refusal::SettlementFailed(Box::new(reverted()))),
            PaymentState::Declined,
            1,
        ),
        (vec![pending(), declined("no")], unresolved(), PaymentState::Unresolved, 2),
        (vec![pending(), declined("duplicate_settlement")], unresolved(), PaymentState::Unresolved, 2),
        (
            vec![pending(), declined_after_sending("invalid_transaction_state")],
            Some(Refusal::SettlementFailed(Box::new(reverted()))),
            PaymentState::Declined,
            2,
        ),
        (
            // What failed is another transaction, as it must when the first succeeds.
            vec![pending_with("0x2"), declined_after_sending("invalid_transaction_state")],
            unresolved(),
            PaymentState::Unresolved,
            2,
        ),
        (vec![pending(), declined("execution reverted: balance")], unresolved(), PaymentState::Unresolved, 2),
        (vec![pending(), pending()], unresolved(), PaymentState::Unresolved, 2),
        (
            vec![pending(), SettleOutcome::Unreachable(unavailable())],
            unresolved(),
            PaymentState::Unresolved,
            2,
        ),
    ];
    for (outcomes, refusal, state, calls) in cases {
        let shop = usual();
        shop.facilitator.outcomes.lock().unwrap().extend(outcomes);
        let result = shop.gate.settle(shop.permit(&v2(1)).await).await;
        assert_eq!(result.as_ref().err(), refusal.as_ref());
        assert_eq!(shop.facilitator.settled.load(Ordering::SeqCst), calls);
        assert_eq!(shop.held(state).await, 1, "{state:?}");
        match state {
            PaymentState::Declined => drop(shop.permit(&v2(1)).await),
            PaymentState::Settled => assert_eq!(shop.refusal(&v2(1)).await, Refusal::InUse),
            _ => assert_eq!(shop.refusal(&v2(1)).await, Refusal::Unresolved),
        }
    }
}

#[tokio::test]
async fn settlement_goes_on_when_its_caller_is_gone() {
    let shop = usual();
    let permit = shop.permit(&v2(1)).await;
    let gate = shop.gate.clone();
    let caller = tokio::spawn(async move { gate.settle(permit).await });
    while shop.facilitator.settled.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    caller.abort();
    // Its caller is gone, so what it bought is not being delivered; it can be fetched.
    shop.until_held(PaymentState::Settled, 1).await;
    while shop.gate.under_way() > 0 {
        tokio::task::yield_now().await;
    }
    let again = shop.admit(Version::V2, &v2(1)).await;
    assert!(matches!(again, Admission::Owed(_)), "{again:?}");
}

#[tokio::test]
async fn a_payment_is_put_into_the_generation_the_facilitator_speaks() {
    for (speaks, sent, version) in [
        (Version::V2, v1(1), Version::V1),
        (Version::V1, v2(1), Version::V2),
        (Version::V2, v2(1), Version::V2),
    ] {
        let shop = shop(&[speaks], SettleWhen::BeforeResponse);
        let admitted = shop.admit(version, &sent).await;
        assert!(matches!(admitted, Admission::Paid(..)), "{admitted:?}");
        let seen = shop.facilitator.seen.lock().unwrap()[0].clone();
        assert_eq!(seen["x402Version"], speaks.number());
        assert_eq!(seen["paymentPayload"]["x402Version"], speaks.number());
        assert_eq!(seen["paymentPayload"]["payload"], payment(1));
        let amount = match speaks {
            Version::V1 => &seen["paymentRequirements"]["maxAmountRequired"],
            Version::V2 => &seen["paymentRequirements"]["amount"],
        };
        assert_eq!(amount, "10000");
        if speaks == Version::V1 {
            assert_eq!(seen["paymentRequirements"]["resource"], "https://shop.example/a");
        }
    }
}

#[tokio::test]
async fn settling_before_the_request_needs_no_verification() {
    let shop = shop(&[Version::V2], SettleWhen::BeforeRequest);
    let admitted = shop.admit(Version::V2, &v2(1)).await;
    let Admission::Paid(permit, SettleWhen::BeforeRequest) = admitted else { panic!("{admitted:?}") };
    shop.gate.settle(permit).await.unwrap();
    assert_eq!(shop.facilitator.verified.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn nothing_is_admitted_while_it_is_not_known_who_settles() {
    let shop = usual();
    shop.offers.observe(FacilitatorId(0), Arc::new(Supported::default()));
    assert!(matches!(shop.refusal(&v2(1)).await, Refusal::Unavailable { .. }));
    let unpaid = ask(&shop.gate, &shop.route, &http::Method::GET, "/a", None).await;
    assert!(matches!(unpaid, Admission::Refused(Refusal::Unavailable { .. })), "{unpaid:?}");
}

#[tokio::test]
async fn a_ledger_that_cannot_be_used_admits_nothing() {
    let shop = usual();
    shop.ledger.set_broken(Some("the disk is full"));
    assert!(matches!(shop.refusal(&v2(1)).await, Refusal::Unavailable { .. }));
    assert_eq!(shop.facilitator.verified.load(Ordering::SeqCst), 0);
    shop.ledger.set_broken(None);
    drop(shop.permit(&v2(1)).await);
}

#[tokio::test]
async fn a_payment_that_cannot_be_read_is_refused_with_a_reason() {
    let shop = usual();
    for (version, value, reason) in [
        (Version::V2, "%%%", Reason::INVALID_PAYLOAD),
        (Version::V2, "", Reason::INVALID_PAYLOAD),
        (Version::V1, &header::encode(&v2(1)).unwrap(), Reason::INVALID_VERSION),
        (Version::V2, &header::encode(&v1(1)).unwrap(), Reason::INVALID_VERSION),
    ] {
        let payment = PaymentHeader { version, value: value.as_bytes() };
        let admitted = shop.admit_as(http::Method::GET, "/a", payment).await;
        let Admission::Refused(refusal) = admitted else { panic!("{admitted:?}") };
        assert_eq!(refusal, invalid(reason));
    }
}
