//! What was quoted is honoured for its validity: by other gateways, after a change of prices, and after
//! a restart with one.

use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};

use crate::support::gateway::base;
use crate::support::payer::encode;
use crate::support::shop::assert_refused;
use crate::support::solana::SolanaPayer;
use crate::support::{Facilitator, Gateway, Origin, Payer, Postgres, Response, get, postgres};

const NO_MATCH: &str = "No matching payment requirements";
const WRONG_VALUE: &str = "invalid_exact_evm_payload_authorization_value_mismatch";
const DEVNET: &str = "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1";

/// Gateways over one database, in front of one site.
struct Fleet {
    origin: Origin,
    facilitator: Facilitator,
    ledger: String,
}

impl Fleet {
    async fn new() -> Self {
        let (origin, facilitator) = (Origin::site().await, Facilitator::start().await);
        Self { origin, facilitator, ledger: Postgres::shared().database().await }
    }

    fn config(&self, routes: &str) -> String {
        format!(
            "{}{routes}[ledger]\nurl = \"{}\"\n[facilitators.scripted]\nurl = \"{}\"\nsupported_ttl_seconds = 1\n",
            base(&self.origin.url(), "scripted"),
            self.ledger,
            self.facilitator.url()
        )
    }

    async fn gateway(&self, routes: &str) -> Gateway {
        Gateway::with_config(&self.config(routes)).await
    }

    /// Amounts that settlement was asked for, in order.
    fn settled(&self) -> Vec<String> {
        let amount = |call: &crate::support::Request| {
            let body: Value = serde_json::from_slice(&call.body).unwrap();
            let required = &body["paymentRequirements"];
            let amount = required.get("amount").or_else(|| required.get("maxAmountRequired"));
            amount.unwrap().as_str().unwrap().to_owned()
        };
        self.facilitator.calls("/settle").iter().map(amount).collect()
    }

    /// A number from the database.
    async fn number(&self, sql: &str) -> i64 {
        let mut connection = PgConnection::connect(&self.ledger).await.unwrap();
        let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(&mut connection).await.unwrap();
        row.try_get(0).unwrap()
    }
}

fn priced(name: &str, path: &str, price: &str) -> String {
    format!("[[routes]]\nname = \"{name}\"\npath = \"{path}\"\nprice = \"{price}\"\n")
}

async fn required(gateway: &Gateway, path: &str) -> Value {
    get(gateway.address, path, &[]).await.required()
}

async fn present(gateway: &Gateway, path: &str, payment: &Value) -> Response {
    let name = if payment["x402Version"] == 1 { "X-PAYMENT" } else { "PAYMENT-SIGNATURE" };
    get(gateway.address, path, &[(name, &encode(payment))]).await
}

#[track_caller]
fn assert_served(response: &Response, path: &str) {
    assert_eq!((response.status, response.text()), (200, format!("content of {path}")), "{path}");
}

/// A payment without the member that says which page it is for.
fn bearer(required: &Value) -> Value {
    let mut payment = Payer::new().message(required);
    payment.as_object_mut().unwrap().remove("resource");
    payment
}

#[tokio::test]
async fn each_of_two_gateways_with_different_prices_takes_what_the_other_quoted() {
    let fleet = Fleet::new().await;
    let cheap = fleet.gateway(&priced("paid", "/paid/*", "$0.01")).await;
    let dear = fleet.gateway(&priced("paid", "/paid/*", "$0.25")).await;
    let quoted = [required(&cheap, "/paid/a").await, required(&dear, "/paid/a").await];
    let amounts = quoted.each_ref().map(|quoted| quoted["accepts"][0]["amount"].as_str().unwrap());
    assert_eq!(amounts, ["10000", "250000"]);
    for (there, quoted) in [(&dear, &quoted[0]), (&cheap, &quoted[1]), (&cheap, &quoted[0])] {
        let (v2, v1) = (Payer::new().message(quoted), Payer::new().message_v1(quoted));
        assert_served(&present(there, "/paid/a", &v2).await, "/paid/a");
        assert_served(&present(there, "/paid/a", &v1).await, "/paid/a");
        there.wait_until_idle().await;
        assert_refused(&present(there, "/paid/a", &v2).await, "duplicate_settlement");
    }
    assert_eq!(fleet.settled(), ["10000", "10000", "250000", "250000", "10000", "10000"]);
    let sum = "SELECT sum(amount)::int8 FROM tollgate_payments WHERE state = 'delivered'";
    assert_eq!(fleet.number(sum).await, 4 * 10_000 + 2 * 250_000, "the books have what was paid");
}

/// The gateway that quoted is gone, the one that is paid never saw it, and the books name the route
/// that was paid for.
#[tokio::test]
async fn a_quote_is_honoured_after_the_gateway_that_made_it_is_gone() {
    let fleet = Fleet::new().await;
    let mut old = fleet.gateway(&priced("of old", "/paid/*", "$0.01")).await;
    let payment = Payer::new().message(&required(&old, "/paid/a").await);
    let payment_v1 = Payer::new().message_v1(&required(&old, "/paid/b").await);
    old.crash().await;
    let new = fleet.gateway(&priced("of now", "/paid/**", "$0.02")).await;
    assert_served(&present(&new, "/paid/a", &payment).await, "/paid/a");
    assert_served(&present(&new, "/paid/b", &payment_v1).await, "/paid/b");
    new.wait_until_idle().await;
    let old_route = "SELECT count(*) FROM tollgate_payments WHERE route = 'of old' AND amount = 10000";
    assert_eq!(fleet.number(old_route).await, 2);
    assert_eq!(fleet.settled(), ["10000", "10000"]);
}

#[tokio::test]
async fn a_quote_buys_what_it_was_for_and_nothing_dearer() {
    let fleet = Fleet::new().await;
    let old = [
        priced("low", "/low/*", "$0.01"),
        priced("high", "/low/special", "$0.50"),
        priced("was paid", "/now/free", "$0.01"),
        priced("was open", "/now/closed", "$0.01"),
    ];
    let old = fleet.gateway(&old.concat()).await;
    let new = [
        priced("all", "/low/**", "$0.02"),
        priced("was free", "/was/free", "$0.01"),
        "[[routes]]\npath = \"/now/closed\"\ndeny = true\n".to_owned(),
    ];
    let new = fleet.gateway(&new.concat()).await;
    let (low, high) = (required(&old, "/low/a").await, required(&old, "/low/special").await);
    // Another page of the same price, and the same page in a spelling that is priced alike.
    assert_served(&present(&new, "/low/b", &bearer(&low)).await, "/low/b");
    assert_served(&present(&new, "/low/special", &bearer(&high)).await, "/low/special");
    assert_eq!(present(&new, "/LOW/c/", &bearer(&low)).await.status, 200);
    for (path, quoted) in [
        ("/low/special", &low),
        ("/LOW/special/", &low),
        ("/low/%73pecial", &low),
        ("/low/a", &high),
        ("/was/free", &high),
    ] {
        let refused = present(&new, path, &bearer(quoted)).await;
        assert_refused(&refused, NO_MATCH);
        let offered = refused.required()["accepts"][0]["amount"].clone();
        assert_eq!(offered, if path == "/was/free" { "10000" } else { "20000" }, "{path}: the new offer");
        let refused = present(&new, path, &Payer::new().message_v1(quoted)).await;
        assert_refused(&refused, WRONG_VALUE);
    }
    let served = fleet.origin.requests().len();
    // What is free now is free, what is closed is closed, whoever paid for it.
    let (free, closed) = (required(&old, "/now/free").await, required(&old, "/now/closed").await);
    assert_served(&present(&new, "/now/free", &bearer(&free)).await, "/now/free");
    assert_eq!(present(&new, "/now/closed", &bearer(&closed)).await.status, 403);
    assert_eq!(fleet.origin.requests().len(), served + 1);
    assert_eq!(fleet.settled(), ["10000", "500000", "10000"]);
}

/// Time passes for the database, by which notices run out.
#[tokio::test]
async fn a_quote_that_has_run_out_is_answered_with_the_new_one() {
    let fleet = Fleet::new().await;
    let mut old = fleet.gateway(&priced("paid", "/paid/*", "$0.01")).await;
    let quoted = required(&old, "/paid/a").await;
    old.crash().await;
    let pass =
        |seconds: u32| format!("UPDATE tollgate_notices SET until = until - interval '{seconds} seconds'");
    // The longest quote is valid for five minutes, and its list is up for some more.
    postgres::run(&fleet.ledger, &pass(300)).await;
    let new = fleet.gateway(&priced("paid", "/paid/*", "$0.02")).await;
    assert_served(&present(&new, "/paid/a", &Payer::new().message(&quoted)).await, "/paid/a");
    drop(new);
    postgres::run(&fleet.ledger, &pass(80)).await;
    let new = fleet.gateway(&priced("paid", "/paid/*", "$0.02")).await;
    let refused = present(&new, "/paid/a", &Payer::new().message(&quoted)).await;
    assert_refused(&refused, NO_MATCH);
    assert_eq!(refused.required()["accepts"][0]["amount"], "20000");
    let refused = present(&new, "/paid/a", &Payer::new().message_v1(&quoted)).await;
    assert_refused(&refused, WRONG_VALUE);
    assert_eq!(refused.json()["accepts"][0]["maxAmountRequired"], "20000");
    assert_eq!(fleet.settled(), ["10000"]);
}

/// The facilitator chooses among accounts that it does not list anew each time it is asked.
#[tokio::test]
async fn a_fee_payer_that_only_another_gateway_was_told_is_accepted() {
    let fleet = Fleet::new().await;
    fleet.facilitator.advertises_so(|| {
        let fee_payer = SolanaPayer::new().address();
        json!({"kinds": [{"x402Version": 2, "scheme": "exact", "network": DEVNET, "extra": {"feePayer": fee_payer}}]})
    });
    let payee = SolanaPayer::new().address();
    let routes =
        format!("{}network = \"solana-devnet\"\npay_to = \"{payee}\"\n", priced("paid", "/paid/*", "$0.01"));
    let (one, other) = (fleet.gateway(&routes).await, fleet.gateway(&routes).await);
    let mut seen = Vec::new();
    for round in 0..6 {
        let (here, there) = if round % 2 == 0 { (&one, &other) } else { (&other, &one) };
        let offer = required(here, "/paid/a").await["accepts"][0].clone();
        let payment = SolanaPayer::new().message(&offer);
        assert_served(&present(there, "/paid/a", &payment).await, "/paid/a");
        seen.push(offer["extra"]["feePayer"].clone());
        // By then the facilitator was asked again.
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    }
    seen.dedup();
    assert!(seen.len() > 3, "it was to rotate: {seen:?}");
    let mut stranger = required(&one, "/paid/a").await["accepts"][0].clone();
    stranger["extra"]["feePayer"] = json!(SolanaPayer::new().address());
    for gateway in [&one, &other] {
        let refused = present(gateway, "/paid/a", &SolanaPayer::new().message(&stranger)).await;
        assert_refused(&refused, NO_MATCH);
    }
}

#[tokio::test]
async fn a_restart_with_a_new_price_honours_what_was_quoted_before() {
    let (origin, facilitator) = (Origin::site().await, Facilitator::start().await);
    let config = |price: &str| {
        format!(
            "{}{}[facilitators.scripted]\nurl = \"{}\"\n",
            base(&origin.url(), "scripted"),
            priced("paid", "/paid/*", price),
            facilitator.url()
        )
    };
    let mut gateway = Gateway::with_config(&config("$0.01")).await;
    let quoted = required(&gateway, "/paid/a").await;
    for price in ["$0.02", "$0.03"] {
        gateway.crash().await;
        gateway.start_again_with(&config(price)).await;
    }
    assert_eq!(required(&gateway, "/paid/a").await["accepts"][0]["amount"], "30000");
    for payment in [Payer::new().message(&quoted), Payer::new().message_v1(&quoted)] {
        assert_served(&present(&gateway, "/paid/a", &payment).await, "/paid/a");
    }
    let mut never = quoted.clone();
    never["accepts"][0]["amount"] = json!("15000");
    assert_refused(&present(&gateway, "/paid/a", &Payer::new().message(&never)).await, NO_MATCH);
    assert_eq!((facilitator.calls("/settle").len(), origin.requests().len()), (2, 2));
}

/// Payments that are right in themselves, for terms that nobody quotes.
#[tokio::test]
async fn junk_does_not_make_the_database_read_what_is_quoted_again_and_again() {
    const JUNK: usize = 300;
    let fleet = Fleet::new().await;
    let gateway = fleet.gateway(&priced("paid", "/paid/*", "$0.01")).await;
    let mut quoted = required(&gateway, "/paid/a").await;
    quoted["accepts"][0]["amount"] = json!("9999");
    let scans = "SELECT (seq_scan + coalesce(idx_scan, 0))::int8 FROM pg_stat_user_tables \
                 WHERE relname = 'tollgate_notices'";
    let before = fleet.number(scans).await;
    for _ in 0..3 {
        let junk = (0..JUNK).map(|number| {
            let payer = Payer::new();
            let payment = if number % 2 == 0 { payer.message(&quoted) } else { payer.message_v1(&quoted) };
            let gateway = &gateway;
            async move { present(gateway, "/paid/a", &payment).await.status }
        });
        for status in join_all(junk).await {
            assert!(status == 402 || status == 503, "{status}");
        }
    }
    // Connections tell what they did within a second or two, at the next thing they do.
    tokio::time::sleep(std::time::Duration::from_millis(2_500)).await;
    assert_refused(&present(&gateway, "/paid/a", &Payer::new().message(&quoted)).await, NO_MATCH);
    let scans = fleet.number(scans).await - before;
    assert!(scans < 60, "{scans} scans for {} payments", 3 * JUNK);
    assert_eq!(fleet.origin.requests().len(), 0);
    // Who pays what is asked for notices nothing of it.
    let payment = Payer::new().message(&required(&gateway, "/paid/a").await);
    assert_served(&present(&gateway, "/paid/a", &payment).await, "/paid/a");
}
