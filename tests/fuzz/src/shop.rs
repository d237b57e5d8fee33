//! What is sold in these tests, and by whom it is settled.

use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value, json};
use tollgate::clock::UnixSeconds;
use tollgate::payment::OfferBook;
use tollgate::policy::{
    Accept, Decision, FacilitatorId, Offer, PathPattern, Route, RouteTable, SettleWhen, UpstreamId, V1Mode,
};
use tollgate::scheme::Moment;
use tollgate::x402::{PaymentRequirements, ResourceInfo, Supported};

/// The time of everything here; that of `tests/vectors`.
pub const MOMENT: Moment = Moment { now: UnixSeconds(1_800_000_000), margin_seconds: 30 };
/// What clients see of the site.
pub const PUBLIC_URL: &str = "https://shop.example";
/// The account that pays the fees of Solana transactions (Ed25519 seed of 32 ones).
pub const FEE_PAYER: &str = "AKnL4NNf3DGWZJS6cPknBuEGnVsV4A4m5tgebLHaRSZ9";

/// Terms of each kind, of the same payee where it can be the same.
#[must_use]
pub fn terms() -> Vec<PaymentRequirements> {
    let usdc = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
    let evm = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C";
    let svm = "GyGKxMyg1p9SsHfm15MkNUu1u9TN2JtTspcdmrtGUdse";
    let all = json!([
        {"scheme": "exact", "network": "eip155:84532", "amount": "10000", "asset": usdc, "payTo": evm,
         "maxTimeoutSeconds": 300, "extra": {"name": "USDC", "version": "2"}},
        {"scheme": "exact", "network": "eip155:84532", "amount": "20000", "asset": usdc, "payTo": evm,
         "maxTimeoutSeconds": 300, "extra": {"assetTransferMethod": "permit2"}},
        {"scheme": "exact", "network": "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1", "amount": "10000",
         "asset": "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU", "payTo": svm, "maxTimeoutSeconds": 60},
        {"scheme": "upto", "network": "eip155:8453", "amount": "70000", "asset": usdc, "payTo": evm,
         "maxTimeoutSeconds": 60},
        {"scheme": "exact", "network": "aptos:1", "amount": "5", "asset": "0x1::usdc", "payTo": "0x7a",
         "maxTimeoutSeconds": 60},
    ]);
    serde_json::from_value(all).unwrap()
}

/// What a facilitator says that settles all of it, in the generation named.
#[must_use]
pub fn listing() -> Value {
    let mut kinds: Vec<Value> = terms()
        .iter()
        .map(|terms| json!({"x402Version": 2, "scheme": terms.scheme, "network": terms.network}))
        .collect();
    kinds[2]["extra"] = json!({"feePayer": FEE_PAYER});
    kinds.push(json!({"x402Version": 1, "scheme": "exact", "network": "base-sepolia"}));
    json!({"kinds": kinds, "extensions": [], "signers": {"solana:*": [FEE_PAYER]}})
}

/// A book with one offer in which nothing can be settled yet.
#[must_use]
pub fn book() -> OfferBook {
    let accepts = terms().into_iter().map(|requirements| Accept {
        requirements,
        facilitator: FacilitatorId(0),
        symbol: "USDC".to_owned(),
        decimals: 6,
        v1: true,
    });
    let extensions = [("e".to_owned(), json!({"info": {"a": 1, "b": {"c": [2]}}}))];
    let offer = Offer {
        index: 0,
        accepts: accepts.collect(),
        resource: ResourceInfo { description: Some("An \"article\"".to_owned()), ..ResourceInfo::default() },
        extensions: extensions.into_iter().collect::<Map<_, _>>(),
        settle: SettleWhen::BeforeResponse,
        v1: V1Mode::Both,
    };
    let table = RouteTable::new(Vec::new(), route(PathPattern::Any, Decision::Paid(Box::new(offer))));
    OfferBook::new(Arc::new(table), PUBLIC_URL.to_owned())
}

/// The book with everything on offer.
pub static OPEN: LazyLock<OfferBook> = LazyLock::new(|| {
    let book = book();
    book.observe(FacilitatorId(0), Arc::new(Supported::parse(&listing()).unwrap()));
    book
});

/// A route without conditions.
#[must_use]
pub fn route(path: PathPattern, decision: Decision) -> Route {
    Route {
        name: path.as_str().to_owned(),
        hosts: Vec::new(),
        methods: Vec::new(),
        path,
        headers: Vec::new(),
        query: Vec::new(),
        decision,
        upstream: UpstreamId(0),
    }
}

/// A decision that costs something, where it does not matter what.
#[must_use]
pub fn priced() -> Decision {
    Decision::Paid(Box::new(Offer {
        index: 0,
        accepts: Vec::new(),
        resource: ResourceInfo::default(),
        extensions: Map::new(),
        settle: SettleWhen::default(),
        v1: V1Mode::default(),
    }))
}
