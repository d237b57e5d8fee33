//! The ledger's database fails over: its server dies, and a standby that streamed from it takes its
//! place and its address. With a synchronous standby nothing that was settled is missing there.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use alloy_primitives::B256;
use futures_util::future::join_all;
use sqlx::{Connection as _, PgConnection, Row as _};

use super::dice::Dice;
use super::presenter::{End, Presenter};
use super::replicas::{Fleet, present, present_patiently};
use super::support::client::PATIENCE;
use super::support::gateway::PAID;
use super::support::payer::encode;
use super::support::{Origin, Payer, Postgres, Relay, Relaying, get, payment_for};
use super::till::Till;

/// How far the standby is behind. What the server does not wait for, it does not have at once.
const BEHIND: Duration = Duration::from_millis(25);

/// A server with a standby, behind an address that can move.
struct Pair {
    server: Postgres,
    standby: SocketAddr,
    /// The way the standby streams on.
    stream: Relay,
    address: Relay,
    /// URL of the ledger at that address.
    ledger: String,
}

impl Pair {
    /// A server that waits for its standby.
    async fn synchronous() -> Self {
        let pair = Self::asynchronous().await;
        pair.server.run("postgres", "ALTER SYSTEM SET synchronous_standby_names = 'tollgate'").await;
        pair.server.run("postgres", "SELECT pg_reload_conf()").await;
        pair.is_synchronous().await;
        pair.stream.will(Relaying::Slow(BEHIND));
        pair
    }

    async fn asynchronous() -> Self {
        let server = Postgres::start(&[]);
        let ledger = server.database().await;
        let to_server = || Relay::start(([127, 0, 0, 1], server.port).into());
        let (stream, address) = (to_server().await, to_server().await);
        let standby = SocketAddr::from(([127, 0, 0, 1], server.standby(stream.address.port())));
        let ledger = ledger.replace(&server.port.to_string(), &address.address.port().to_string());
        Self { server, standby, stream, address, ledger }
    }

    /// The server dies, and the standby takes its place. Returns what it knows: the state of each
    /// payment, by its path.
    async fn fails_over(&self) -> HashMap<String, String> {
        self.server.order("kill");
        self.server.order("promote");
        let states = self.states_at_standby().await;
        self.address.lead_to(self.standby);
        states
    }

    /// Waits until the server waits for its standby.
    async fn is_synchronous(&self) {
        let deadline = Instant::now() + PATIENCE;
        let mut connection = PgConnection::connect(&self.server.url("postgres")).await.unwrap();
        loop {
            let select = "SELECT FROM pg_stat_replication WHERE sync_state = 'sync' AND state = 'streaming'";
            if !sqlx::query(select).fetch_all(&mut connection).await.unwrap().is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "the standby does not stream");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What the standby's ledger says: the state of each payment, by its path.
    async fn states_at_standby(&self) -> HashMap<String, String> {
        let url =
            self.ledger.replace(&self.address.address.port().to_string(), &self.standby.port().to_string());
        let mut connection = PgConnection::connect(&url).await.unwrap();
        let rows = sqlx::query("SELECT resource, state FROM tollgate_payments").fetch_all(&mut connection);
        let path = |url: String| url.trim_start_matches("https://shop.example").to_owned();
        rows.await.unwrap().iter().map(|row| (path(row.get(0)), row.get(1))).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fail_over_to_a_synchronous_standby_loses_nothing_that_was_settled() {
    const BUYERS: usize = 12;
    const EACH: usize = 12;
    let mut dice = Dice::new(u64::from_be_bytes(B256::random()[..8].try_into().unwrap()));
    let pair = Pair::synchronous().await;
    let origin = Origin::site().await;
    let till = Till::open(|_| Some(Duration::from_millis(30))).await;
    let fleet = Fleet::on(pair.ledger.clone(), 3, &origin.url(), &till.url(), PAID).await;
    let replicas: Vec<SocketAddr> = (0..3).map(|replica| fleet.address(replica)).collect();
    let required = get(replicas[0], "/paid/x", &[]).await.required();
    let bought: Mutex<HashSet<String>> = Mutex::default();
    let buying = join_all((0..BUYERS).map(|buyer| {
        let (replicas, required, bought) = (&replicas, &required, &bought);
        async move {
            let mut presenter = Presenter::new(replicas.clone(), buyer);
            let mut receipts = Vec::new();
            for number in 0..EACH {
                let path = format!("/paid/{buyer}-{number}");
                let mut message = Payer::new().message(required);
                message["resource"]["url"] = format!("https://shop.example{path}").into();
                let payment = encode(&message);
                let end = presenter.persist(&path, &payment).await;
                assert!(matches!(end, End::Delivered { .. }), "{path}: {end:?}");
                bought.lock().unwrap().insert(path.clone());
                receipts.push((path, payment));
            }
            receipts
        }
    }));
    let count = || bought.lock().unwrap().len();
    let failing = async {
        let first = 30 + usize::try_from(dice.below(60)).unwrap();
        while count() < first {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        tokio::time::sleep(dice.duration(Duration::from_millis(50))).await;
        let known = bought.lock().unwrap().clone();
        let states = pair.fails_over().await;
        for path in &known {
            let state = states.get(path).map(String::as_str);
            assert!(matches!(state, Some("settled" | "delivered")), "{path} was delivered, and is {state:?}");
        }
        println!("{} delivered before the server died; the standby knows {}", known.len(), states.len());
    };
    let (receipts, ()) = tokio::join!(buying, failing);
    let receipts: Vec<(String, String)> = receipts.into_iter().flatten().collect();
    fleet.all_delivered(i64::try_from(BUYERS * EACH).unwrap()).await;
    assert_eq!(till.charged(), BUYERS * EACH);
    for (index, (path, payment)) in receipts.iter().enumerate() {
        let end = Presenter::new(replicas.clone(), index).persist(path, payment).await;
        assert_eq!(end, End::Used, "{path}");
    }
    assert_eq!(till.overlaps(), Vec::<String>::new());
}

/// Why the standby has to be a synchronous one: another lacks what it has not got yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_asynchronous_standby_can_lack_what_was_settled_and_delivered() {
    let pair = Pair::asynchronous().await;
    let origin = Origin::site().await;
    let till = Till::open(|_| Some(Duration::ZERO)).await;
    let fleet = Fleet::on(pair.ledger.clone(), 1, &origin.url(), &till.url(), PAID).await;
    let buy = async |path: &str| {
        let payment = payment_for(fleet.address(0), path).await;
        assert_eq!(present(fleet.address(0), path, &payment).await.status, 200);
    };
    buy("/paid/before").await;
    fleet.all_delivered(1).await;
    while pair.states_at_standby().await.get("/paid/before").is_none_or(|state| state != "delivered") {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    pair.stream.will(Relaying::Hang);
    buy("/paid/behind").await;
    fleet.all_delivered(2).await;
    let states = pair.fails_over().await;
    assert_eq!((states.len(), till.charged()), (1, 2), "{states:?}");
}

/// What would be on one machine alone is not taken for recorded: until the standby has it, nothing is
/// settled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_its_synchronous_standby_is_away_nothing_is_sold_and_what_is_free_goes_on() {
    let pair = Pair::synchronous().await;
    let origin = Origin::site().await;
    let till = Till::open(|_| Some(Duration::ZERO)).await;
    let fleet = Fleet::on(pair.ledger.clone(), 2, &origin.url(), &till.url(), PAID).await;
    let replicas = [fleet.address(0), fleet.address(1)];
    let sold = payment_for(replicas[0], "/paid/a").await;
    assert_eq!(present(replicas[0], "/paid/a", &sold).await.status, 200);
    pair.server.order("part");
    let waiting = payment_for(replicas[0], "/paid/b").await;
    for replica in replicas {
        let refused = present(replica, "/paid/b", &waiting).await;
        assert_eq!((refused.status, refused.header("payment-required")), (503, None), "{}", refused.text());
        assert!(refused.header("retry-after").is_some());
        assert_eq!(get(replica, "/free", &[]).await.status, 200);
    }
    assert_eq!(till.charged(), 1);
    pair.server.order("rejoin");
    let served = present_patiently(&replicas, "/paid/b", &waiting).await;
    assert_eq!((served.status, served.text().as_str()), (200, "content of /paid/b"));
    fleet.all_delivered(2).await;
    assert_eq!((till.charged(), till.calls().len()), (2, 2));
}
