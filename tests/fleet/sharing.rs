//! What one replica knows, all know.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::replicas::{Fleet, LEASE, present, present_patiently, send};
use super::support::gateway::PAID;
use super::support::payer::encode;
use super::support::shop::{assert_in_use, assert_refused};
use super::support::{LiveOrigin, Origin, Payer, Response, get, payment_for};
use super::till::Till;

const DUPLICATE: &str = "duplicate_settlement";

async fn till() -> Till {
    Till::open(|_| Some(Duration::ZERO)).await
}

/// Presents a payment at a replica that asks the site, and answers for that.
async fn fetch(origin: &LiveOrigin, address: SocketAddr, path: &str, payment: &str) -> Response {
    let mut client = send(address, path, payment).await;
    origin.exchange().await.answer(200, &[("Connection", "close")], "everything").await;
    client.response().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_joins_later_serves_at_once_and_knows_what_was_used() {
    let (origin, till) = (Origin::site().await, till().await);
    let mut fleet = Fleet::open(1, &origin.url(), &till.url(), PAID).await;
    let payment = payment_for(fleet.address(0), "/paid/a").await;
    assert_eq!(present(fleet.address(0), "/paid/a", &payment).await.status, 200);
    fleet.all_delivered(1).await;
    let newcomer = fleet.join().await.gateway.address;
    let joined = Instant::now();
    let next = payment_for(newcomer, "/paid/b").await;
    assert_eq!(present(newcomer, "/paid/b", &next).await.status, 200);
    assert!(joined.elapsed() < LEASE / 2, "{:?}", joined.elapsed());
    assert_refused(&present(newcomer, "/paid/a", &payment).await, DUPLICATE);
    assert_refused(&present(fleet.address(0), "/paid/b", &next).await, DUPLICATE);
    assert_eq!(till.charged(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_broke_off_at_one_replica_is_fetched_again_from_another() {
    let (origin, till) = (LiveOrigin::start().await, till().await);
    let fleet = Fleet::open(3, &origin.url(), &till.url(), PAID).await;
    let payment = payment_for(fleet.address(0), "/paid/a").await;
    let mut client = send(fleet.address(0), "/paid/a", &payment).await;
    let mut exchange = origin.exchange().await;
    exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\nfirst").await;
    let begun = client.head().await;
    client.read_until("first").await;
    // As long as the one may still be delivering, the other does not.
    assert_in_use(&send(fleet.address(1), "/paid/a", &payment).await.response().await);
    client.reset();
    exchange.rest().await;
    fleet.gateway(0).wait_until_idle().await;
    let again = fetch(&origin, fleet.address(1), "/paid/a", &payment).await;
    assert_eq!((again.status, again.text().as_str()), (200, "everything"));
    assert_eq!(again.decoded("payment-response"), begun.decoded("payment-response"));
    fleet.all_delivered(1).await;
    for replica in [0, 1, 2] {
        let used = send(fleet.address(replica), "/paid/a", &payment).await.response().await;
        assert_refused(&used, DUPLICATE);
    }
    assert!(!origin.has_connection().await);
    assert_eq!(till.charged(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_payer_may_have_under_way_counts_over_all_replicas() {
    let (origin, till) = (LiveOrigin::start().await, till().await);
    let config = format!("{PAID}[limits]\npayer_in_flight = 2\n");
    let fleet = Fleet::open(3, &origin.url(), &till.url(), &config).await;
    let payer = Payer::new();
    let sign = async |replica: usize, path: &str| {
        payer.pay(&get(fleet.address(replica), path, &[]).await.required())
    };
    let mut held = Vec::new();
    for replica in [0, 1] {
        let path = format!("/paid/{replica}");
        let client = send(fleet.address(replica), &path, &sign(replica, &path).await).await;
        held.push((client, origin.exchange().await));
    }
    let third = sign(2, "/paid/2").await;
    for replica in [0, 1, 2] {
        let refused = send(fleet.address(replica), "/paid/2", &third).await.response().await;
        assert_eq!(refused.status, 429, "{}", refused.text());
    }
    assert!(!origin.has_connection().await);
    // What one replica has settled makes room at another.
    let (mut client, mut exchange) = held.pop().unwrap();
    exchange.answer(200, &[("Connection", "close")], "content").await;
    assert_eq!(client.response().await.status, 200);
    assert_eq!(fetch(&origin, fleet.address(2), "/paid/2", &third).await.status, 200);
    assert_eq!(till.charged(), 2);
}

/// The same name at two replicas is one request: it is charged once, whatever pays for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_named_request_is_charged_once_whichever_replica_it_reaches() {
    let (origin, till) = (LiveOrigin::start().await, till().await);
    let config = format!("payment_identifier = \"required\"\n{PAID}");
    let fleet = Fleet::open(3, &origin.url(), &till.url(), &config).await;
    let payer = Payer::new();
    let named = async |replica: usize, path: &str| {
        let required: Value = get(fleet.address(replica), path, &[]).await.required();
        let mut payment = payer.message(&required);
        payment["extensions"] = required["extensions"].clone();
        payment["extensions"]["payment-identifier"]["info"]["id"] = "order_0123456789".into();
        encode(&payment)
    };
    let (first, second) = (named(0, "/paid/a").await, named(1, "/paid/a").await);
    let mut client = send(fleet.address(0), "/paid/a", &first).await;
    let mut exchange = origin.exchange().await;
    assert_in_use(&send(fleet.address(1), "/paid/a", &second).await.response().await);
    let other = send(fleet.address(2), "/paid/b", &named(2, "/paid/b").await).await.response().await;
    assert_eq!(other.status, 409, "{}", other.text());
    exchange.answer(200, &[("Connection", "close")], "everything").await;
    assert_eq!(client.response().await.status, 200);
    fleet.all_delivered(1).await;
    // Once more under its name, elsewhere and with another payment: the same receipt, and no charge.
    let elsewhere = [fleet.address(2)];
    let (again, ()) = tokio::join!(present_patiently(&elsewhere, "/paid/a", &second), async {
        origin.exchange().await.answer(200, &[("Connection", "close")], "everything").await;
    });
    assert_eq!((again.status, again.text().as_str()), (200, "everything"));
    assert_eq!(till.charged(), 1);
    fleet.all_delivered(1).await;
}
