//! The ledger's database fails in every way it can, before a real gateway. Each row says what the
//! client, the origin, the facilitator and the ledger see: nothing is sold without a ledger, what is
//! free goes on, nobody is charged twice, and everything is right again by itself.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::Value;
use sqlx::{Connection as _, PgConnection, Row as _};

use crate::support::gateway::PAID;
use crate::support::payer::encode;
use crate::support::shop::Shop;
use crate::support::{Act, Facilitator, Gateway, Origin, Payer, Postgres, Relay, Relaying, Response, get};

/// No answer may take longer, whatever the database does.
const SECONDS_AT_MOST: Duration = Duration::from_secs(12);
/// What only a message has that commits what must be durable.
const DURABLE_COMMIT: &str = "SET LOCAL synchronous_commit = on";

/// A shop whose ledger is behind a relay.
struct Stage {
    shop: Shop,
    relay: Relay,
    ledger: String,
}

impl Stage {
    async fn open(server: &Postgres, origin: Origin) -> Self {
        let ledger = server.database().await;
        let relay = Relay::start(([127, 0, 0, 1], server.port).into()).await;
        Self::behind(relay, ledger, server.port, origin).await
    }

    async fn behind(relay: Relay, ledger: String, port: u16, origin: Origin) -> Self {
        let through = ledger.replace(&port.to_string(), &relay.address.port().to_string());
        let shop = Shop::with(origin, "", &format!("{PAID}[ledger]\nurl = \"{through}\"\n")).await;
        Self { shop, relay, ledger }
    }

    /// Presents a payment, which must be answered in time.
    async fn present(&self, payment: &Value) -> Response {
        let began = Instant::now();
        let response = self.shop.present("/paid/a", payment).await;
        assert!(began.elapsed() < SECONDS_AT_MOST, "{:?} for {}", began.elapsed(), response.text());
        response
    }

    /// Presents a payment that cannot be taken now: come again, and do not pay again.
    async fn refused_for_now(&self, payment: &Value) {
        let response = self.present(payment).await;
        assert_eq!(
            (response.status, response.header("payment-required")),
            (503, None),
            "{}",
            response.text()
        );
        assert!(response.header("retry-after").is_some());
    }

    /// What is free is served, and what is not is asked for.
    async fn goes_on(&self) {
        let began = Instant::now();
        assert_eq!(self.shop.ask("/free/a").await.status, 200);
        assert_eq!(self.shop.ask("/paid/a").await.status, 402);
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }

    /// Comes again with the same payment, as a client that was told 503 does, until it is served.
    async fn served_at_last(&self, payment: &Value) {
        served_at_last(&self.shop.gateway, "/paid/a", payment).await;
    }

    /// Requests for `/paid/a` that the origin has seen.
    fn asked(&self) -> usize {
        self.shop.origin.requests().iter().filter(|request| request.target == "/paid/a").count()
    }

    async fn all_delivered(&self, count: i64) {
        all_delivered(&self.ledger, count).await;
    }
}

/// Waits until the ledger knows of so many payments, all delivered: what could not be written at once
/// is written again.
async fn all_delivered(ledger: &str, count: i64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let expected = vec![("delivered".to_owned(), count)];
    loop {
        let found = books(ledger).await;
        if found == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{found:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// How many payments the ledger knows in each state.
async fn books(ledger: &str) -> Vec<(String, i64)> {
    let mut connection = PgConnection::connect(ledger).await.unwrap();
    let count =
        "SELECT state, count(*) FROM tollgate_payments WHERE route <> 'filler' GROUP BY state ORDER BY state";
    let rows = sqlx::query(count).fetch_all(&mut connection).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

async fn served_at_last(gateway: &Gateway, path: &str, payment: &Value) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let header = encode(payment);
        let response = get(gateway.address, path, &[("PAYMENT-SIGNATURE", &header)]).await;
        if response.status == 200 {
            assert_eq!(response.text(), format!("content of {path}"));
            return;
        }
        assert_eq!(response.status, 503, "{}", response.text());
        assert!(Instant::now() < deadline, "still {}:\n{}", response.text(), gateway.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A way to fail.
#[derive(Debug, Clone, Copy)]
enum Failure {
    /// The way to the database does this.
    Network(Relaying),
    /// The server is told the first, and the second when it is over.
    Server(&'static str, &'static str),
    /// The server's disk is full.
    Full,
}

impl Failure {
    async fn begin(self, stage: &Stage, server: &Postgres) {
        match self {
            Self::Network(how) => stage.relay.will(how),
            Self::Server(begin, _) => server.order(begin),
            Self::Full => {
                server.order("fill");
                fill(&stage.ledger).await;
            }
        }
    }

    fn end(self, stage: &Stage, server: &Postgres) {
        match self {
            Self::Network(_) => stage.relay.will(Relaying::Pass),
            Self::Server(_, end) => server.order(end),
            Self::Full => server.order("free"),
        }
    }
}

/// Writes until nothing more goes in, be it ever so small.
async fn fill(ledger: &str) {
    let mut connection = PgConnection::connect(ledger).await.unwrap();
    let filler = "INSERT INTO tollgate_payments SELECT sha256(convert_to(more::text || clock_timestamp(), 'UTF8')), \
        1, 'released', NULL, NULL, '', '', 0, '', '', 2, 'filler', '', repeat('x', $2), '', NULL, '', false, NULL, \
        0, 0, 0, NULL, false, NULL, '', NULL, '', 0, NULL, 0, 0, NULL, NULL, NULL, NULL, NULL, 0 \
        FROM generate_series(1, $1) AS more";
    for (rows, size) in [(1_000, 500), (10, 500), (1, 0)] {
        let full = loop {
            let written = sqlx::query(filler).bind(rows).bind(size).execute(&mut connection).await;
            if let Err(error) = written {
                break error;
            }
        };
        let code = full.as_database_error().and_then(sqlx::error::DatabaseError::code);
        assert_eq!(code.as_deref(), Some("53100"), "{full}");
    }
}

async fn nothing_is_sold_while(failure: Failure, server: &Postgres) {
    let stage = Stage::open(server, Origin::site().await).await;
    let [used, new] = [stage.shop.payment("/paid/a").await, stage.shop.payment("/paid/a").await];
    assert_eq!(stage.present(&used).await.status, 200);
    stage.shop.gateway.wait_until_idle().await;
    failure.begin(&stage, server).await;
    for _ in 0..2 {
        stage.refused_for_now(&new).await;
        stage.goes_on().await;
    }
    // Whether it was used is not known at present.
    let replay = stage.present(&used).await.status;
    assert!(replay == 503 || (matches!(failure, Failure::Full) && replay == 402), "{failure:?}: {replay}");
    assert_eq!((stage.asked(), stage.shop.settlements()), (1, 1), "{failure:?}");
    stage.shop.gateway.wait_for_log("the ledger's database cannot be used").await;
    failure.end(&stage, server);
    stage.served_at_last(&new).await;
    stage.shop.gateway.wait_for_log("the ledger's database can be used again").await;
    assert_eq!(
        (stage.asked(), stage.shop.settlements(), stage.shop.facilitator.charged()),
        (2, 2, 2),
        "{failure:?}"
    );
    stage.all_delivered(2).await;
    for payment in [&used, &new] {
        assert_eq!(stage.present(payment).await.status, 402, "{failure:?}: it was used");
    }
}

#[tokio::test]
async fn nothing_is_sold_while_the_database_cannot_be_reached() {
    nothing_is_sold_while(Failure::Network(Relaying::Refuse), Postgres::shared()).await;
}

#[tokio::test]
async fn nothing_is_sold_while_the_database_hangs() {
    nothing_is_sold_while(Failure::Network(Relaying::Hang), Postgres::shared()).await;
}

#[tokio::test]
async fn nothing_is_sold_while_the_database_is_too_slow() {
    let slow = Relaying::Slow(Duration::from_millis(1_200));
    nothing_is_sold_while(Failure::Network(slow), Postgres::shared()).await;
}

#[tokio::test]
async fn nothing_is_sold_while_the_server_is_down_or_stands_still_or_its_disk_is_full() {
    let server = Postgres::start(&[]);
    for failure in [
        Failure::Server("stop", "start"),
        Failure::Server("kill", "start"),
        Failure::Server("freeze", "thaw"),
        Failure::Full,
    ] {
        nothing_is_sold_while(failure, &server).await;
    }
}

#[tokio::test]
async fn a_slow_database_sells_slowly() {
    let stage = Stage::open(Postgres::shared(), Origin::site().await).await;
    stage.relay.will(Relaying::Slow(Duration::from_millis(30)));
    assert_eq!(stage.shop.buy("/paid/a").await.status, 200);
    assert_eq!((stage.asked(), stage.shop.facilitator.charged()), (1, 1));
}

#[tokio::test]
async fn a_gateway_starts_without_its_database_and_sells_when_it_is_there() {
    let server = Postgres::shared();
    let ledger = server.database().await;
    for how in [Relaying::Refuse, Relaying::Hang] {
        let relay = Relay::start(([127, 0, 0, 1], server.port).into()).await;
        relay.will(how);
        let stage = Stage::behind(relay, ledger.clone(), server.port, Origin::site().await).await;
        stage.goes_on().await;
        let payment = stage.shop.payment("/paid/a").await;
        stage.refused_for_now(&payment).await;
        assert_eq!((stage.asked(), stage.shop.verifications()), (0, 0), "{how:?}");
        stage.relay.will(Relaying::Pass);
        stage.served_at_last(&payment).await;
        assert_eq!((stage.asked(), stage.shop.facilitator.charged()), (1, 1), "{how:?}");
    }
}

#[tokio::test]
async fn a_database_that_will_not_do_keeps_the_gateway_from_starting_and_says_why() {
    let server = Postgres::shared();
    let address = format!("127.0.0.1:{}", server.port);
    let newer = server.database().await;
    crate::support::postgres::run(
        &newer,
        "CREATE TABLE tollgate_schema (version int4, applied_at timestamptz); \
         INSERT INTO tollgate_schema VALUES (7, now())",
    )
    .await;
    for (url, words) in [
        (format!("postgres://postgres@{address}/nowhere"), "database \"nowhere\" does not exist"),
        (newer, "the ledger has version 7, written by a newer tollgate"),
        (format!("postgres://postgres@{address}/postgres?sslmod=require"), "an option \"sslmod\""),
    ] {
        let config = crate::support::gateway::base("demo", "sandbox");
        let mut gateway = Gateway::spawn(&format!("{config}{PAID}[ledger]\nurl = \"{url}\"\n"));
        assert_eq!(gateway.wait().await.code(), Some(1), "{}", gateway.log());
        let log = gateway.log();
        assert!(log.contains("error: ") && log.contains(words), "{log}");
    }
}

/// The connection breaks while it is recorded that settlement is about to be asked for: before the
/// record is there, and after.
#[tokio::test]
async fn what_may_not_have_been_recorded_is_not_settled() {
    for lose in [Relaying::LoseMessage(DURABLE_COMMIT), Relaying::LoseAnswer(DURABLE_COMMIT)] {
        let (go_on, held) = tokio::sync::oneshot::channel();
        let first = std::sync::Mutex::new(Some(held));
        let origin = Origin::start(move |_| {
            let answer = Act::answer(200, &[], "content of /paid/a");
            match first.lock().unwrap().take() {
                Some(held) => Act::Held(held, Box::new(answer)),
                None => answer,
            }
        })
        .await;
        let stage = Stage::open(Postgres::shared(), origin).await;
        let payment = stage.shop.payment("/paid/a").await;
        let ((), ()) = tokio::join!(stage.refused_for_now(&payment), async {
            stage.shop.origin.wait_for_requests(1).await;
            stage.relay.will(lose);
            go_on.send(()).unwrap();
        });
        assert_eq!((stage.relay.lost(), stage.shop.settlements()), (1, 0), "{lose:?}");
        stage.served_at_last(&payment).await;
        assert_eq!((stage.asked(), stage.shop.facilitator.charged()), (2, 1), "{lose:?}");
        stage.all_delivered(1).await;
    }
}

/// The money moved, and the ledger cannot be told, or told and not heard.
#[tokio::test]
async fn what_was_settled_while_the_database_failed_is_delivered_later_and_charged_once() {
    for lose in [
        Relaying::LoseMessage(DURABLE_COMMIT),
        Relaying::LoseAnswer(DURABLE_COMMIT),
        Relaying::Refuse,
        Relaying::Hang,
    ] {
        let stage = Stage::open(Postgres::shared(), Origin::site().await).await;
        let payment = stage.shop.payment("/paid/a").await;
        let settle = stage.shop.facilitator.will_settle_when_told();
        let ((), ()) = tokio::join!(stage.refused_for_now(&payment), async {
            stage.shop.facilitator.wait_for_settlements(1).await;
            stage.relay.will(lose);
            settle.send(()).unwrap();
        });
        stage.goes_on().await;
        stage.relay.will(Relaying::Pass);
        stage.served_at_last(&payment).await;
        assert_eq!(stage.shop.settlements(), 1, "{lose:?}");
        stage.all_delivered(1).await;
        assert_eq!(stage.present(&payment).await.status, 402, "{lose:?}: once");
    }
}

/// The server is shut down, crashes, and hangs while payments are made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payments_made_while_the_server_fails_over_are_each_delivered_and_charged_once() {
    const PAYMENTS: usize = 60;
    let server = Postgres::start(&[]);
    let ledger = server.database().await;
    let (origin, facilitator) = (Origin::site().await, Facilitator::start().await);
    let config = format!("{PAID}[ledger]\nurl = \"{ledger}\"\n[limits]\npayer_in_flight = 0\n");
    let gateway = Gateway::start(&origin.url(), &facilitator.url(), &config).await;
    let required = get(gateway.address, "/paid/0", &[]).await.required();
    let buying = (0..PAYMENTS).map(|number| {
        let (gateway, required) = (&gateway, &required);
        async move {
            let path = format!("/paid/{number}");
            let mut payment = Payer::new().message(required);
            payment["resource"]["url"] = format!("https://shop.example{path}").into();
            served_at_last(gateway, &path, &payment).await;
        }
    });
    let failing = async {
        for orders in [["stop", "start"], ["kill", "start"], ["freeze", "thaw"]] {
            // A quick gateway may be done before the last of these faults.
            let settlements = (facilitator.calls("/settle").len() + 5).min(PAYMENTS);
            facilitator.wait_for_settlements(settlements).await;
            for order in orders {
                server.order(order);
            }
        }
    };
    tokio::join!(join_all(buying), failing);
    assert_eq!(facilitator.charged(), PAYMENTS);
    all_delivered(&ledger, i64::try_from(PAYMENTS).unwrap()).await;
}

/// How long a gateway may be silent is its own promise, whatever the configuration of the others.
#[tokio::test]
async fn a_gateway_that_died_is_taken_over_when_its_own_promise_is_broken() {
    let (ledger, facilitator) = (Postgres::shared().database().await, Facilitator::start().await);
    let (never, held) = tokio::sync::oneshot::channel();
    let first = std::sync::Mutex::new(Some(held));
    let origin = Origin::start(move |_| {
        let answer = Act::answer(200, &[], "content of /paid/a");
        match first.lock().unwrap().take() {
            Some(held) => Act::Held(held, Box::new(answer)),
            None => answer,
        }
    })
    .await;
    let start = async |seconds: u32| {
        let config = format!("{PAID}[ledger]\nurl = \"{ledger}\"\ntakeover_after_seconds = {seconds}\n");
        Gateway::start(&origin.url(), &facilitator.url(), &config).await
    };
    let (patient, mut hasty) = (start(3_600).await, start(5).await);
    let payment = Payer::new().message(&get(hasty.address, "/paid/a", &[]).await.required());
    let header = encode(&payment);
    let address = hasty.address;
    let cut_off = tokio::spawn(async move {
        get(address, "/paid/a", &[("PAYMENT-SIGNATURE", &header)]).await;
    });
    origin.wait_for_requests(1).await;
    hasty.crash().await;
    assert!(cut_off.await.is_err(), "nothing was delivered");
    served_at_last(&patient, "/paid/a", &payment).await;
    assert!(patient.log().contains("took over what a gateway left behind"), "{}", patient.log());
    assert_eq!(facilitator.charged(), 1);
    all_delivered(&ledger, 1).await;
    drop(never);
}
