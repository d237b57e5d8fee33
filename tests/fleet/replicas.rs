//! Replicas: gateways on one configuration and one ledger.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sqlx::{Connection as _, PgConnection, Row as _};

use super::support::client::{PATIENCE, Response};
use super::support::gateway::base;
use super::support::{Connection, Gateway, Postgres};

/// How long after its last sign of life a gateway counts as gone, and more than that.
pub const LEASE: Duration = Duration::from_secs(10);

/// Several gateways.
pub struct Fleet {
    pub replicas: Vec<Replica>,
    pub ledger: String,
    config: String,
}

/// One of them.
pub struct Replica {
    pub gateway: Gateway,
    /// What the ledger knows it by in this life.
    pub id: i64,
    /// What the database knows its sessions by.
    name: String,
}

impl Fleet {
    /// Starts so many, with more configuration behind the usual start, on a new ledger.
    pub async fn open(count: usize, origin: &str, facilitator: &str, more: &str) -> Self {
        Self::on(Postgres::shared().database().await, count, origin, facilitator, more).await
    }

    /// Starts so many on a ledger.
    pub async fn on(ledger: String, count: usize, origin: &str, facilitator: &str, more: &str) -> Self {
        let config = format!("{}{more}[facilitators.till]\nurl = \"{facilitator}\"\n", base(origin, "till"));
        let mut fleet = Self { replicas: Vec::new(), ledger, config };
        for _ in 0..count {
            fleet.join().await;
        }
        fleet
    }

    /// Nobody yet, on a ledger that others use.
    pub fn of(ledger: String) -> Self {
        Self { replicas: Vec::new(), ledger, config: String::new() }
    }

    /// Starts one more.
    pub async fn join(&mut self) -> &Replica {
        let name = format!("replica-{}", self.replicas.len());
        let url = format!("{}?application_name={name}", self.ledger);
        let known = self.known().await;
        let gateway = Gateway::with_config(&format!("{}[ledger]\nurl = \"{url}\"\n", self.config)).await;
        let id = self.newcomer(&known).await;
        self.replicas.push(Replica { gateway, id, name });
        self.replicas.last().unwrap()
    }

    /// Stops one gracefully, and starts it again on the same address.
    pub async fn restart(&mut self, index: usize) {
        let known = self.known().await;
        let gateway = &mut self.replicas[index].gateway;
        gateway.terminate();
        let status = gateway.wait().await;
        assert!(status.success(), "{status}:\n{}", gateway.log());
        gateway.start_again().await;
        self.replicas[index].id = self.newcomer(&known).await;
    }

    /// Kills one, and says what it held at that moment: the state of each payment, by its path.
    pub async fn kill(&mut self, index: usize) -> HashMap<String, String> {
        self.replicas[index].gateway.crash().await;
        let killed = Instant::now();
        let replica = &self.replicas[index];
        // What it sent before is still carried out.
        let sessions = format!(
            "SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = '{}'",
            replica.name
        );
        while !self.rows(&sessions).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let held = self.held_by(replica.id).await;
        assert!(killed.elapsed() < LEASE / 2, "too slow to know what it held: {:?}", killed.elapsed());
        held
    }

    /// What a gateway holds: the state of each payment, by its path.
    pub async fn held_by(&self, id: i64) -> HashMap<String, String> {
        let held = format!("SELECT resource, state FROM tollgate_payments WHERE owner = {id}");
        self.rows(&held).await.iter().map(|row| (path(row.get(0)), row.get(1))).collect()
    }

    /// Paths of payments that are held as settled by gateways that have shown no sign of life for longer
    /// than they should; waits until there is such a gateway.
    pub async fn settled_by_the_silent(&self) -> HashSet<String> {
        let silent = "SELECT id FROM tollgate_gateways WHERE seen < clock_timestamp() - interval '3500 ms'";
        while self.rows(silent).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let held =
            format!("SELECT resource FROM tollgate_payments WHERE state = 'settled' AND owner IN ({silent})");
        self.rows(&held).await.iter().map(|row| path(row.get(0))).collect()
    }

    /// How many payments the ledger knows in each state.
    pub async fn books(&self) -> Vec<(String, i64)> {
        let count = "SELECT state, count(*) FROM tollgate_payments GROUP BY state ORDER BY state";
        self.rows(count).await.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// Waits until the ledger knows of so many payments, all delivered, and nobody holds any.
    pub async fn all_delivered(&self, count: i64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let books = self.books().await;
            let held = self.rows("SELECT FROM tollgate_payments WHERE owner IS NOT NULL").await.len();
            if books == [("delivered".to_owned(), count)] && held == 0 {
                return;
            }
            assert!(Instant::now() < deadline, "{books:?}, {held} held");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub fn address(&self, index: usize) -> SocketAddr {
        self.replicas[index].gateway.address
    }

    pub fn gateway(&self, index: usize) -> &Gateway {
        &self.replicas[index].gateway
    }

    async fn rows(&self, sql: &str) -> Vec<sqlx::postgres::PgRow> {
        let mut connection = PgConnection::connect(&self.ledger).await.unwrap();
        sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&mut connection).await.unwrap()
    }

    /// Gateways that have shown that they live.
    async fn known(&self) -> Vec<i64> {
        if self.replicas.is_empty() {
            return Vec::new();
        }
        let known = self.rows("SELECT id FROM tollgate_gateways").await;
        known.iter().map(|row| row.get(0)).collect()
    }

    async fn newcomer(&self, known: &[i64]) -> i64 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.rows("SELECT id FROM tollgate_gateways").await;
            let found: Vec<i64> = found.iter().map(|row| row.get(0)).collect();
            match found.iter().find(|id| !known.contains(id)) {
                Some(id) => return *id,
                None => assert!(Instant::now() < deadline, "no new gateway among {found:?}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The path of a page's URL.
fn path(url: &str) -> String {
    let (_, rest) = url.split_once("://").unwrap();
    rest.find('/').map_or_else(String::new, |start| rest[start..].to_owned())
}

/// Sends a request with a payment. The host is the site's, whichever replica it is for: it is part of
/// what a payment buys.
pub async fn send(address: SocketAddr, path: &str, payment: &str) -> Connection {
    let mut client = Connection::open(address).await;
    let head = format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\nPAYMENT-SIGNATURE: {payment}\r\n\r\n");
    client.write(head).await;
    client
}

/// Presents a payment.
pub async fn present(address: SocketAddr, path: &str, payment: &str) -> Response {
    send(address, path, payment).await.response().await
}

/// Presents a payment again and again, at one replica after the other, until the answer is another
/// than that it has to wait.
pub async fn present_patiently(addresses: &[SocketAddr], path: &str, payment: &str) -> Response {
    let deadline = Instant::now() + 2 * PATIENCE;
    for address in addresses.iter().cycle() {
        let response = present(*address, path, payment).await;
        if response.status != 503 {
            return response;
        }
        assert!(response.header("retry-after").is_some(), "{response:#?}");
        assert!(response.header("payment-required").is_none(), "{response:#?}");
        assert!(Instant::now() < deadline, "still {}", response.text());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    unreachable!("there is no replica to ask")
}
