//! What a replica leaves behind that died, or was paused for so long that it counts as dead.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::replicas::{Fleet, present, present_patiently, send};
use super::support::client::PATIENCE;
use super::support::gateway::PAID;
use super::support::shop::{assert_in_use, assert_refused, assert_unresolved, served_among};
use super::support::{Act, Connection, Facilitator, LiveOrigin, Origin, payment_for};
use super::till::Till;

const DUPLICATE: &str = "duplicate_settlement";

fn paths(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("/paid/{number}")).collect()
}

async fn payments(address: SocketAddr, paths: &[String]) -> Vec<String> {
    join_all(paths.iter().map(|path| payment_for(address, path))).await
}

/// Presents payments and does not wait for answers; the connections are to be kept.
async fn send_all(address: SocketAddr, paths: &[String], payments: &[String]) -> Vec<Connection> {
    let mut clients = Vec::new();
    for (path, payment) in paths.iter().zip(payments) {
        clients.push(send(address, path, payment).await);
    }
    clients
}

/// The outcome of payments is not known when their gateway dies. Their payers ask all the others all
/// the time, which hurries those; each payment is driven by one of them all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_replica_left_unresolved_is_driven_by_one_other_at_a_time() {
    const COUNT: usize = 8;
    let till = Till::open(|call| (call > 0).then_some(Duration::from_secs(3))).await;
    let origin = Origin::site().await;
    let mut fleet = Fleet::open(3, &origin.url(), &till.url(), PAID).await;
    let paths = paths(COUNT);
    let payments = payments(fleet.address(0), &paths).await;
    let _clients = send_all(fleet.address(0), &paths, &payments).await;
    till.wait_for_calls(COUNT).await;
    let held = fleet.kill(0).await;
    assert_eq!(held.values().filter(|state| *state == "settling").count(), COUNT, "{held:?}");
    let others = [fleet.address(1), fleet.address(2)];
    for (path, payment) in paths.iter().zip(&payments) {
        assert_in_use(&present(others[0], path, payment).await);
    }
    let served = join_all(paths.iter().zip(&payments).map(|(path, payment)| async move {
        let both = others.map(|first| async move {
            let order = if first == others[0] { others } else { [others[1], others[0]] };
            present_patiently(&order, path, payment).await
        });
        let answers = join_all(both).await;
        assert_eq!(served_among(&answers), 1, "{answers:?}");
    }));
    served.await;
    assert_eq!((till.charged(), till.overlaps()), (COUNT, Vec::new()));
    assert!(till.calls().values().all(|calls| calls.len() == 2), "{:?}", till.calls());
    fleet.all_delivered(i64::try_from(COUNT).unwrap()).await;
}

/// The replica dies while it drives a payment, with a lease on that for minutes: who is dead has none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_replica_was_driving_is_taken_over_within_seconds() {
    let facilitator = Facilitator::start().await;
    facilitator.will_settle([Act::Close]);
    facilitator.settles_so(|facilitator, request| {
        facilitator.charge(request);
        Act::Hang
    });
    let origin = Origin::site().await;
    let mut fleet = Fleet::open(1, &origin.url(), &facilitator.url(), PAID).await;
    let payment = payment_for(fleet.address(0), "/paid/a").await;
    assert_unresolved(&present(fleet.address(0), "/paid/a", &payment).await);
    facilitator.wait_for_settlements(2).await;
    let other = fleet.join().await.gateway.address;
    let held = fleet.kill(0).await;
    assert_eq!(held.get("/paid/a").map(String::as_str), Some("unresolved"), "{held:?}");
    facilitator.recovers();
    let died = Instant::now();
    let served = present_patiently(&[other], "/paid/a", &payment).await;
    assert_eq!((served.status, served.text().as_str()), (200, "content of /paid/a"));
    assert!(died.elapsed() < PATIENCE, "{:?}", died.elapsed());
    assert_eq!((facilitator.calls("/settle").len(), facilitator.charged()), (3, 1));
    fleet.all_delivered(1).await;
}

/// It had claimed the payment and asked for no settlement: nothing was paid, and nothing is owed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_of_a_dead_replica_is_given_back() {
    let (origin, till) = (LiveOrigin::start().await, Till::open(|_| Some(Duration::ZERO)).await);
    let mut fleet = Fleet::open(2, &origin.url(), &till.url(), PAID).await;
    let payment = payment_for(fleet.address(0), "/paid/a").await;
    let _client = send(fleet.address(0), "/paid/a", &payment).await;
    let _exchange = origin.exchange().await;
    let held = fleet.kill(0).await;
    assert_eq!(held.get("/paid/a").map(String::as_str), Some("claimed"), "{held:?}");
    let others = [fleet.address(1)];
    assert_in_use(&present(others[0], "/paid/a", &payment).await);
    let (served, ()) = tokio::join!(present_patiently(&others, "/paid/a", &payment), async {
        origin.exchange().await.answer(200, &[("Connection", "close")], "everything").await;
    });
    assert_eq!((served.status, served.text().as_str()), (200, "everything"));
    assert_eq!((till.charged(), till.calls().len()), (1, 1));
    fleet.all_delivered(1).await;
    assert_refused(&present(others[0], "/paid/a", &payment).await, DUPLICATE);
}

/// A replica stands still in the middle of a settlement, for so long that another takes its payment
/// over and delivers. When it goes on, it hears that the money moved, and delivers nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_paused_delivers_nothing_that_was_taken_from_it() {
    let facilitator = Facilitator::start().await;
    let origin = Origin::site().await;
    let fleet = Fleet::open(2, &origin.url(), &facilitator.url(), PAID).await;
    let payment = payment_for(fleet.address(0), "/paid/a").await;
    let answer = facilitator.will_settle_when_told();
    let mut client = send(fleet.address(0), "/paid/a", &payment).await;
    facilitator.wait_for_settlements(1).await;
    fleet.gateway(0).signal("-STOP");
    let served = present_patiently(&[fleet.address(1)], "/paid/a", &payment).await;
    assert_eq!((served.status, served.text().as_str()), (200, "content of /paid/a"));
    fleet.all_delivered(1).await;
    answer.send(()).unwrap();
    fleet.gateway(0).signal("-CONT");
    let late = client.response().await;
    assert!(matches!(late.status, 402 | 503), "{late:?}");
    assert!(!late.text().contains("content of"), "{late:?}");
    fleet.gateway(0).wait_until_idle().await;
    fleet.all_delivered(1).await;
    for replica in [0, 1] {
        assert_refused(&present(fleet.address(replica), "/paid/a", &payment).await, DUPLICATE);
    }
    assert_eq!((facilitator.calls("/settle").len(), facilitator.charged()), (2, 1));
    // It is one of them again.
    let next = payment_for(fleet.address(0), "/paid/b").await;
    assert_eq!(present(fleet.address(0), "/paid/b", &next).await.status, 200);
}
