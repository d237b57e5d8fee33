//! Payments of unknown outcome while the world goes on: clients that leave, gateways that crash,
//! facilitators that are away for long or stall.

use std::time::{Duration, Instant};

use crate::support::gateway::{PAID, base};
use crate::support::live::Exchange;
use crate::support::shop::{IMPATIENT, Shop, assert_in_use, assert_refused, assert_unresolved};
use crate::support::{Act, Connection, Facilitator, Gateway, LiveOrigin, Origin, get, payment_for};

const DUPLICATE: &str = "duplicate_settlement";

#[tokio::test]
async fn a_client_that_left_while_nobody_knew_is_served_when_it_comes_back() {
    let shop = Shop::with(Origin::site().await, IMPATIENT, PAID).await;
    let payment = shop.payment("/paid/a").await;
    shop.facilitator.settles_so(|facilitator, request| {
        facilitator.charge(request);
        Act::Hang
    });
    let address = shop.gateway.address;
    let mut client = Connection::open(address).await;
    let header = crate::support::payer::encode(&payment);
    let head = format!("GET /paid/a HTTP/1.1\r\nHost: {address}\r\nPAYMENT-SIGNATURE: {header}\r\n\r\n");
    client.write(head).await;
    shop.facilitator.wait_for_settlements(1).await;
    client.reset();
    shop.gateway.wait_until_held("unresolved", 1).await;
    shop.facilitator.recovers();
    shop.gateway.wait_until_held("unresolved", 0).await;
    let served = shop.present_patiently("/paid/a", &payment).await;
    assert_eq!((served.status, served.text().as_str()), (200, "content of /paid/a"));
    shop.gateway.wait_until_idle().await;
    assert_refused(&shop.present("/paid/a", &payment).await, DUPLICATE);
    assert_eq!(shop.facilitator.charged(), 1);
}

/// Attempts come ever more rarely; a payer who asks makes the next one come soon.
#[tokio::test]
async fn after_a_long_outage_a_payer_who_asks_hurries_the_answer() {
    let shop = Shop::open().await;
    let payment = shop.payment("/paid/a").await;
    shop.facilitator.settles_so(|_, _| Act::Close);
    assert_unresolved(&shop.present("/paid/a", &payment).await);
    // The first request's own, then attempts after one, two and four seconds: the next is due in eight.
    shop.facilitator.wait_for_settlements(4).await;
    let tried = Instant::now();
    shop.facilitator.recovers();
    let served = shop.present_patiently("/paid/a", &payment).await;
    assert_eq!((served.status, served.text().as_str()), (200, "content of /paid/a"));
    assert!(tried.elapsed() < Duration::from_millis(7_500), "{:?}", tried.elapsed());
    assert_eq!((shop.settlements(), shop.facilitator.charged()), (5, 1));
}

#[tokio::test]
async fn many_payments_of_unknown_outcome_are_all_resolved() {
    let shop = Shop::open().await;
    shop.facilitator.settles_so(|facilitator, request| {
        facilitator.charge(request);
        Act::json(500, &serde_json::json!({"error": "internal"}))
    });
    let mut payments = Vec::new();
    for _ in 0..30 {
        let payment = shop.payment("/paid/a").await;
        assert_unresolved(&shop.present("/paid/a", &payment).await);
        payments.push(payment);
    }
    assert_eq!(shop.gateway.held("unresolved").await, 30);
    shop.facilitator.recovers();
    shop.gateway.wait_until_held("unresolved", 0).await;
    for payment in &payments {
        assert_eq!(shop.present("/paid/a", payment).await.status, 200);
    }
    assert_eq!(shop.facilitator.charged(), 30);
}

#[tokio::test]
async fn a_facilitator_that_stalls_does_not_keep_the_payments_of_another_waiting() {
    let (stalling, other) = (Facilitator::start().await, Facilitator::start().await);
    let origin = Origin::site().await;
    let config = format!(
        "[[routes]]\npath = \"/paid/*\"\nprice = \"$0.01\"\n\
         [[routes]]\npath = \"/stalled/*\"\nprice = \"$0.01\"\nfacilitator = \"stalling\"\n\
         [facilitators.stalling]\nurl = \"{}\"\nsettle_timeout_ms = 60000\n",
        stalling.url()
    );
    let gateway = Gateway::start(&origin.url(), &other.url(), &config).await;
    let lose = async |facilitator: &Facilitator, path: &str| {
        facilitator.will_settle([Act::Close]);
        let payment = payment_for(gateway.address, path).await;
        assert_unresolved(&get(gateway.address, path, &[("PAYMENT-SIGNATURE", &payment)]).await);
        payment
    };
    stalling.settles_so(|_, _| Act::Hang);
    let stalled = lose(&stalling, "/stalled/a").await;
    // It is being driven, and will be for a minute.
    stalling.wait_for_settlements(2).await;
    lose(&other, "/paid/a").await;
    gateway.wait_until_held("unresolved", 1).await;
    assert_eq!(stalling.calls("/settle").len(), 2);
    assert_unresolved(&get(gateway.address, "/stalled/a", &[("PAYMENT-SIGNATURE", &stalled)]).await);
}

/// A gateway that crashes, before an origin that the test plays.
struct Crashing {
    origin: LiveOrigin,
    facilitator: Facilitator,
    gateway: Gateway,
    payment: String,
}

impl Crashing {
    async fn open() -> Self {
        let (origin, facilitator) = (LiveOrigin::start().await, Facilitator::start().await);
        let gateway = Gateway::start(&origin.url(), &facilitator.url(), PAID).await;
        let payment = payment_for(gateway.address, "/paid/a").await;
        Self { origin, facilitator, gateway, payment }
    }

    async fn send(&self) -> Connection {
        let mut client = Connection::open(self.gateway.address).await;
        let payment = &self.payment;
        client
            .write(format!("GET /paid/a HTTP/1.1\r\nHost: a\r\nPAYMENT-SIGNATURE: {payment}\r\n\r\n"))
            .await;
        client
    }

    /// Sends the first request, to the moment at which the origin has it.
    async fn begin(&self) -> (Connection, Exchange) {
        (self.send().await, self.origin.exchange().await)
    }

    /// What was paid for is served once, and charged once in all.
    async fn is_served_once(&self) {
        let mut client = self.send().await;
        self.origin.exchange().await.answer(200, &[("Connection", "close")], "content").await;
        let served = client.response().await;
        assert_eq!((served.status, served.text().as_str()), (200, "content"));
        assert_eq!(served.decoded("payment-response")["success"], true);
        self.gateway.wait_until_idle().await;
        assert_refused(&self.send().await.response().await, DUPLICATE);
        assert!(!self.origin.has_connection().await);
        assert_eq!(self.facilitator.charged(), 1);
    }
}

#[tokio::test]
async fn a_crash_before_settlement_gives_the_payment_back() {
    let mut case = Crashing::open().await;
    let (_client, _exchange) = case.begin().await;
    case.gateway.crash().await;
    case.gateway.start_again().await;
    assert!(case.facilitator.calls("/settle").is_empty());
    case.is_served_once().await;
    assert_eq!(case.facilitator.calls("/settle").len(), 1);
}

#[tokio::test]
async fn a_crash_during_settlement_is_found_out_about_and_the_delivery_is_owed() {
    let mut case = Crashing::open().await;
    case.facilitator.settles_so(|facilitator, request| {
        facilitator.charge(request);
        Act::Hang
    });
    let (_client, mut exchange) = case.begin().await;
    exchange.answer(200, &[("Connection", "close")], "content").await;
    case.facilitator.wait_for_settlements(1).await;
    case.gateway.crash().await;
    case.facilitator.settles_so(|_, _| Act::Close);
    case.gateway.start_again().await;
    assert_unresolved(&case.send().await.response().await);
    case.facilitator.recovers();
    case.gateway.wait_until_held("unresolved", 0).await;
    case.is_served_once().await;
}

#[tokio::test]
async fn a_crash_while_nobody_knows_changes_nothing() {
    let mut case = Crashing::open().await;
    case.facilitator.settles_so(|_, _| Act::Close);
    let (mut client, mut exchange) = case.begin().await;
    exchange.answer(200, &[("Connection", "close")], "content").await;
    assert_unresolved(&client.response().await);
    for _ in 0..2 {
        case.gateway.crash().await;
        case.gateway.start_again().await;
        assert_unresolved(&case.send().await.response().await);
        assert_eq!(case.gateway.held("unresolved").await, 1);
    }
    case.facilitator.recovers();
    case.gateway.wait_until_held("unresolved", 0).await;
    case.is_served_once().await;
}

#[tokio::test]
async fn a_crash_during_delivery_breaks_it_off() {
    let mut case = Crashing::open().await;
    let (mut client, mut exchange) = case.begin().await;
    exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\nfirst").await;
    client.read_until("first").await;
    assert_in_use(&case.send().await.response().await);
    case.gateway.crash().await;
    case.gateway.start_again().await;
    case.is_served_once().await;
    assert_eq!(case.facilitator.calls("/settle").len(), 1);
}

/// Of a list the second was asked, because the first was busy. Both would settle it now.
#[tokio::test]
async fn after_a_crash_the_facilitator_of_a_list_that_was_asked_is_asked_again_and_no_other() {
    let (first, second) = (Facilitator::start().await, Facilitator::start().await);
    let origin = Origin::site().await;
    let config = base(&origin.url(), "LIST").replace("\"LIST\"", "[\"first\", \"second\"]");
    let config = format!(
        "{config}{PAID}[facilitators.first]\nurl = \"{}\"\n[facilitators.second]\nurl = \"{}\"\n",
        first.url(),
        second.url()
    );
    let mut gateway = Gateway::with_config(&config).await;
    let payment = payment_for(gateway.address, "/paid/a").await;
    first.will_settle([Act::answer(429, &[("Retry-After", "1")], "{}")]);
    second.settles_so(|facilitator, request| {
        facilitator.charge(request);
        Act::Hang
    });
    let address = gateway.address;
    let present = || async { get(address, "/paid/a", &[("PAYMENT-SIGNATURE", &payment)]).await };
    tokio::select! {
        early = present() => panic!("{}", early.text()),
        () = second.wait_for_settlements(1) => {}
    }
    gateway.crash().await;
    second.settles_so(|_, _| Act::Close);
    gateway.start_again().await;
    second.wait_for_settlements(3).await;
    assert_unresolved(&present().await);
    second.recovers();
    gateway.wait_until_held("unresolved", 0).await;
    let served = present().await;
    assert_eq!((served.status, served.text().as_str()), (200, "content of /paid/a"));
    assert_eq!((first.charged(), second.charged()), (0, 1));
    assert_eq!(first.calls("/settle").len(), 1, "when it was busy");
}
