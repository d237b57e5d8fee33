//! The steps of the hot paths, one by one, each with the number of allocations it may make.
//!
//! `benches/steps.rs` tells how long they take, `tests/budgets.rs` fails when one allocates more than
//! it may. A budget is what was measured when it was written down: lower it when a step gets better.

use std::fmt;
use std::sync::Arc;

use http::HeaderMap;
use serde_json::Value;
use tollgate::clock::{Clock as _, SystemClock, UnixSeconds};
use tollgate::ledger::settings::{LedgerUrl, TAKEOVER_AFTER};
use tollgate::ledger::{self, Claimed};
use tollgate::payment::{LiveOffer, OfferBook, Resource};
use tollgate::policy::{FacilitatorId, RouteFacts, RoutePath, RouteTable};
use tollgate::scheme::{self, Moment};
use tollgate::x402::{PaymentPayload, PaymentRequirements, Reason, Supported, Version};

mod claims;

/// A step.
pub(crate) struct Case {
    pub(crate) name: String,
    /// Allocations and reallocations it may make each time.
    pub(crate) allocations_max: u64,
    pub(crate) step: Box<dyn Fn() + Send + Sync>,
}

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({} allocations at most)", self.name, self.allocations_max)
    }
}

const PUBLIC_URL: &str = "https://shop.example";

/// The time of the payments in `tests/vectors`.
const MOMENT: Moment = Moment { now: UnixSeconds(1_800_000_000), margin_seconds: 30 };

/// Every step there is a budget for.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = vec![challenge(), payment_decode(), signature_check(), claim()];
    cases.extend([10, 1_000, 100_000].map(route_lookup));
    cases.push(canonical_path("a plain path", "/r/7/article", 1));
    cases.push(canonical_path("a path with escapes", "/r/%41%6a/x/../caf%C3%A9", 15));
    cases
}

fn case(name: impl Into<String>, allocations_max: u64, step: impl Fn() + Send + Sync + 'static) -> Case {
    Case { name: name.into(), allocations_max, step: Box::new(step) }
}

/// Routes `/r/0/*`, `/r/1/*` … that cost something.
fn routes(count: usize) -> Arc<RouteTable> {
    let entries: Vec<String> =
        (0..count).map(|number| format!("{{path=\"/r/{number}/*\",price=\"$1\"}}")).collect();
    let text = format!(
        "upstream = \"http://127.0.0.1:1\"\nnetwork = \"base-sepolia\"\nfacilitator = \"http://127.0.0.1:2\"\n\
         pay_to = \"0x209693Bc6afc0C5328bA36FaF03C514EF312287C\"\nroutes = [{}]",
        entries.join(",\n")
    );
    let (config, _) = tollgate::config::parse(&text, "bench.toml", &|_| None).unwrap();
    config.routes
}

fn live_offer() -> Arc<LiveOffer> {
    let book = OfferBook::new(routes(1), PUBLIC_URL.to_owned());
    let supported = Supported::parse(&serde_json::json!({
        "kinds": [{"x402Version": 2, "scheme": "exact", "network": "eip155:84532"},
                  {"x402Version": 1, "scheme": "exact", "network": "base-sepolia"}],
        "extensions": [], "signers": {},
    }))
    .unwrap();
    book.observe(FacilitatorId(0), Arc::new(supported));
    book.get(0).unwrap()
}

/// What is put together for a request without payment: URL, header and body.
fn challenge() -> Case {
    let offer = live_offer();
    case("challenge", 3, move || {
        let resource = Resource::new(PUBLIC_URL, "/r/7/article", "page=2");
        let header = offer.challenge.header(&resource);
        let body = offer.challenge.body(&resource, &Reason::PAYMENT_REQUIRED, None);
        divan::black_box((header, body));
    })
}

/// A right payment, as a header has it and as it was decoded.
fn payment() -> (String, Value) {
    let vectors: Value = serde_json::from_str(include_str!("../../tests/vectors/messages.json")).unwrap();
    let case = &vectors["payment_signature"][0];
    (case["encoded"].as_str().unwrap().to_owned(), case["decoded"].clone())
}

fn payment_decode() -> Case {
    let (header, _) = payment();
    case("payment decode", 44, move || {
        divan::black_box(PaymentPayload::decode(Version::V2, header.as_bytes()).unwrap());
    })
}

/// All that is checked of a payment without asking anybody; most of it is the recovery of the signer.
fn signature_check() -> Case {
    let (_, decoded) = payment();
    let terms: PaymentRequirements = serde_json::from_value(decoded["accepted"].clone()).unwrap();
    case("local signature check", 8, move || {
        let payload = decoded["payload"].as_object().unwrap();
        let scheme = scheme::find(&terms.scheme, &terms.network);
        divan::black_box(scheme.inspect(&terms, payload, MOMENT).unwrap());
    })
}

fn route_lookup(count: usize) -> Case {
    let routes = routes(count);
    let path = RoutePath::parse(&format!("/r/{}/article", count - 1)).unwrap();
    let headers = HeaderMap::new();
    case(format!("route lookup, {count} routes"), 0, move || {
        let facts =
            RouteFacts { method: "GET", host: "shop.example", path: &path, query: "", headers: &headers };
        divan::black_box(routes.find(&facts).unwrap());
    })
}

fn canonical_path(name: &str, path: &'static str, allocations_max: u64) -> Case {
    case(format!("canonical path, {name}"), allocations_max, move || {
        divan::black_box(RoutePath::parse(divan::black_box(path)).unwrap());
    })
}

/// Of a ledger in memory, its writer included: what the disk takes is measured by `benches/ledger.rs`.
fn claim() -> Case {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ledger = runtime.block_on(ledger::open(&LedgerUrl::Memory, TAKEOVER_AFTER)).unwrap();
    runtime.block_on(ledger.beat(SystemClock.now())).unwrap();
    case("claim", 39, move || {
        runtime.block_on(async {
            let claimed = ledger.claim(&claims::new_claim(), SystemClock.now()).await;
            assert!(matches!(claimed, Ok(Claimed::New(_))));
        });
    })
}
