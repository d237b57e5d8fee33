//! What one payer may have under way at a time, so that one balance is not pledged many times.

use serde_json::Value;

use crate::support::gateway::PAID;
use crate::support::shop::{IMPATIENT, Shop, assert_unresolved};
use crate::support::{Act, Connection, Facilitator, Gateway, LiveOrigin, Origin, Payer, Response, get};

/// A dear page beside the usual ones.
const DEAR: &str = "[[routes]]\npath = \"/dear/*\"\nprice = \"$0.05\"\n";

fn assert_too_much(response: &Response) {
    assert_eq!(response.status, 429, "{}", response.text());
    let seconds: u32 = response.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert!(response.text().contains("nothing was charged"), "{}", response.text());
    assert_eq!((response.header("payment-required"), response.header("payment-response")), (None, None));
    assert_eq!(response.header("cache-control"), Some("no-store"));
}

/// A gateway before an origin that holds its answers back.
struct Stage {
    origin: LiveOrigin,
    facilitator: Facilitator,
    gateway: Gateway,
}

impl Stage {
    async fn open(limits: &str) -> Self {
        let (origin, facilitator) = (LiveOrigin::start().await, Facilitator::start().await);
        let config = format!("{PAID}{DEAR}[limits]\n{limits}");
        let gateway = Gateway::start(&origin.url(), &facilitator.url(), &config).await;
        Self { origin, facilitator, gateway }
    }

    /// Sends a request with a fresh payment.
    async fn send(&self, payer: &Payer, path: &str) -> Connection {
        let payment = payer.pay(&get(self.gateway.address, path, &[]).await.required());
        let mut client = Connection::open(self.gateway.address).await;
        client.write(format!("GET {path} HTTP/1.1\r\nHost: a\r\nPAYMENT-SIGNATURE: {payment}\r\n\r\n")).await;
        client
    }

    async fn is_refused(&self, payer: &Payer, path: &str) {
        let (verified, settled) = (self.calls("/verify"), self.calls("/settle"));
        assert_too_much(&self.send(payer, path).await.response().await);
        assert!(!self.origin.has_connection().await);
        assert_eq!((self.calls("/verify"), self.calls("/settle")), (verified, settled));
    }

    fn calls(&self, path: &str) -> usize {
        self.facilitator.calls(path).len()
    }
}

#[tokio::test]
async fn so_many_payments_of_one_payer_are_taken_at_a_time_and_no_more() {
    let stage = Stage::open("payer_in_flight = 3\n").await;
    let (payer, other) = (Payer::new(), Payer::new());
    let mut held = Vec::new();
    for number in 0..3 {
        let client = stage.send(&payer, &format!("/paid/{number}")).await;
        held.push((client, stage.origin.exchange().await));
    }
    for path in ["/paid/x", "/dear/x", "/paid/0"] {
        stage.is_refused(&payer, path).await;
    }
    // Others are none of it.
    let mut another = stage.send(&other, "/paid/x").await;
    stage.origin.exchange().await.answer(200, &[("Connection", "close")], "content").await;
    assert_eq!(another.response().await.status, 200);

    // What is settled, or given back, makes room.
    for status in [200, 500] {
        let (mut client, mut exchange) = held.remove(0);
        exchange.answer(status, &[("Connection", "close")], "").await;
        assert_eq!(client.response().await.status, status);
        stage.gateway.wait_until_held("claimed", u64::try_from(held.len()).unwrap()).await;
        let client = stage.send(&payer, "/paid/x").await;
        held.push((client, stage.origin.exchange().await));
        stage.is_refused(&payer, "/paid/y").await;
    }
}

#[tokio::test]
async fn so_much_money_of_one_payer_is_taken_at_a_time_and_no_more() {
    let stage = Stage::open("payer_in_flight = 0\npayer_in_flight_sum = \"$0.07\"\n").await;
    let payer = Payer::new();
    let mut held = Vec::new();
    for path in ["/dear/a", "/paid/a", "/paid/b"] {
        let client = stage.send(&payer, path).await;
        held.push((client, stage.origin.exchange().await));
    }
    stage.is_refused(&payer, "/paid/c").await;
    let (mut client, mut exchange) = held.remove(1);
    exchange.answer(200, &[("Connection", "close")], "").await;
    assert_eq!(client.response().await.status, 200);
    stage.gateway.wait_until_held("claimed", 2).await;
    stage.is_refused(&payer, "/dear/c").await;
    let client = stage.send(&payer, "/paid/c").await;
    held.push((client, stage.origin.exchange().await));
    stage.is_refused(&payer, "/paid/d").await;
}

/// The race that matters: one balance, pledged many times at once.
#[tokio::test]
async fn of_many_payments_of_one_payer_at_once_no_more_are_taken_than_allowed() {
    let stage = Stage::open("payer_in_flight = 4\n").await;
    let payer = Payer::new();
    let required = get(stage.gateway.address, "/paid/a", &[]).await.required();
    let address = stage.gateway.address;
    let tasks: Vec<_> = (0..40)
        .map(|_| {
            let payment = payer.pay(&required);
            tokio::spawn(async move { get(address, "/paid/a", &[("PAYMENT-SIGNATURE", &payment)]).await })
        })
        .collect();
    let mut taken = Vec::new();
    for _ in 0..4 {
        taken.push(stage.origin.exchange().await);
    }
    let deadline = std::time::Instant::now() + crate::support::client::PATIENCE;
    while tasks.iter().filter(|task| task.is_finished()).count() < 36 {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(!stage.origin.has_connection().await);
    for mut exchange in taken {
        exchange.answer(200, &[("Connection", "close")], "content").await;
    }
    let (mut served, mut refused) = (0, 0);
    for task in tasks {
        let response = task.await.unwrap();
        if response.status == 200 {
            served += 1;
        } else {
            assert_too_much(&response);
            refused += 1;
        }
    }
    assert_eq!((served, refused, stage.calls("/settle")), (4, 36, 4));
}

#[tokio::test]
async fn payments_of_unknown_outcome_count_until_it_is_known() {
    let config = format!("{PAID}[limits]\npayer_in_flight = 2\n");
    let shop = Shop::with(Origin::site().await, IMPATIENT, &config).await;
    let payer = Payer::new();
    let fresh = async || -> Value { payer.message(&shop.required("/paid/a").await) };
    shop.facilitator.settles_so(|facilitator, request| {
        facilitator.charge(request);
        Act::Close
    });
    let lost = [fresh().await, fresh().await];
    for payment in &lost {
        assert_unresolved(&shop.present("/paid/a", payment).await);
    }
    assert_too_much(&shop.present("/paid/a", &fresh().await).await);
    // To present one of those again is nothing new.
    assert_unresolved(&shop.present("/paid/a", &lost[0]).await);
    shop.facilitator.recovers();
    shop.gateway.wait_until_held("unresolved", 0).await;
    assert_eq!(shop.present("/paid/a", &fresh().await).await.status, 200);
    for payment in &lost {
        assert_eq!(shop.present("/paid/a", payment).await.status, 200, "what was paid is still owed");
    }
    assert_eq!(shop.facilitator.charged(), 3);
}
