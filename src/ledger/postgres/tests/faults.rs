//! A database that is slow, hangs, loses connections, or goes away.

use std::time::Instant;

use futures_util::future::join_all;

use super::super::super::{DeliveryEnd, Intended, Recorded};
use super::relay::{Relay, Relaying};
use super::server::{Postgres, run};
use super::*;
use crate::ledger::settings::TAKEOVER_AFTER;

/// Short, so that tests are.
const HASTY: Limits = Limits {
    connect: Duration::from_millis(500),
    work: Duration::from_millis(700),
    commit: Duration::from_millis(700),
    queue: Duration::from_millis(700),
    back_off: Duration::from_millis(20),
    ..LIMITS
};

/// What only the message has that commits.
const COMMIT: &str = "; COMMIT";

/// A ledger behind a relay.
async fn behind_a_relay(server: &Postgres) -> (Relay, PostgresLedger, String) {
    let url = server.database().await;
    let relay = Relay::start(([127, 0, 0, 1], server.port).into()).await;
    let through = url.replace(&server.port.to_string(), &relay.address.port().to_string());
    let ledger = PostgresLedger::with(&through, HASTY, Arc::new(SystemClock)).await.unwrap();
    (relay, ledger, url)
}

/// Tries until the ledger can be used.
async fn once_usable<T>(attempt: impl AsyncFn() -> Result<T, LedgerError>) -> Result<T, LedgerError> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let result = attempt().await;
        if !is_unavailable(&result) || Instant::now() > deadline {
            return result;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_lost_commit_grants_nothing_whether_it_arrived_or_not() {
    for lose in [Relaying::LoseMessage(COMMIT), Relaying::LoseAnswer(COMMIT)] {
        let (relay, ledger, _) = behind_a_relay(Postgres::shared()).await;
        let new = numbered(1);
        relay.will(lose);
        assert!(is_unavailable(&ledger.claim(&new, NOW).await), "{lose:?}");
        assert_eq!(once_usable(async || ledger.recant(&new, NOW).await).await, Ok(()));
        let claimed = once_usable(async || ledger.claim(&new, NOW).await).await.unwrap();
        let Claimed::New(token) = claimed else { panic!("{lose:?}: {claimed:?}") };

        relay.will(lose);
        assert!(is_unavailable(&ledger.settling(token, intent("request", false), NOW).await), "{lose:?}");
        // Asked again, it is as good as asked once.
        let again = once_usable(async || ledger.settling(token, intent("request", false), NOW).await).await;
        assert_eq!(again, Ok(Intended::Recorded), "{lose:?}");
        assert_eq!(state(&ledger, &new).await, Some(PaymentState::Settling));

        relay.will(lose);
        assert!(is_unavailable(&settled(&ledger, token, true).await), "{lose:?}");
        let recorded = once_usable(async || settled(&ledger, token, false).await).await.unwrap();
        assert!(matches!(recorded, Recorded::Owed | Recorded::Taken), "{lose:?}: {recorded:?}");
        let _ = ledger.delivered(token, DeliveryEnd::NotBegun, NOW).await;
        assert_eq!(relay.lost(), 3);

        // The money moved, and its one delivery is still owed.
        relay.will(lose);
        assert!(is_unavailable(&ledger.claim(&new, NOW.plus(4_000)).await), "{lose:?}");
        assert_eq!(once_usable(async || ledger.recant(&new, NOW).await).await, Ok(()));
        let owed = once_usable(async || ledger.claim(&new, NOW.plus(4_000)).await).await.unwrap();
        let Claimed::Owed { token, .. } = owed else { panic!("{lose:?}: {owed:?}") };
        ledger.delivered(token, DeliveryEnd::Complete, NOW).await.unwrap();
        let record = ledger.get(new.id).await.unwrap().unwrap();
        assert_eq!((record.state, record.deliveries), (PaymentState::Delivered, 1), "{lose:?}");
    }
}

#[tokio::test]
async fn what_happened_is_kept_although_its_commit_was_lost() {
    let (relay, ledger, _) = behind_a_relay(Postgres::shared()).await;
    for number in [1, 2] {
        let token = claimed(&ledger, &numbered(number)).await;
        ledger.settling(token, intent("request", false), NOW).await.unwrap();
        relay.will(Relaying::LoseAnswer(COMMIT));
        let told = match number {
            1 => ledger.declined(token, "no", NOW).await,
            _ => ledger.unresolved(token, "timeout", "0xabc", NOW, NOW).await,
        };
        assert!(is_unavailable(&told), "{told:?}");
    }
    let state = async |number| {
        once_usable(async || ledger.get(numbered(number).id).await).await.unwrap().unwrap().state
    };
    assert_eq!((state(1).await, state(2).await), (PaymentState::Declined, PaymentState::Unresolved));
}

#[tokio::test]
async fn a_database_that_hangs_costs_seconds_and_is_used_again_when_it_answers() {
    let (relay, ledger, _) = behind_a_relay(Postgres::shared()).await;
    claimed(&ledger, &numbered(0)).await;
    relay.will(Relaying::Hang);
    let began = Instant::now();
    let claims: Vec<NewClaim> = (1..6_000).map(numbered).collect();
    let told = join_all(claims.iter().map(|new| ledger.claim(new, NOW))).await;
    assert!(told.iter().all(is_unavailable));
    assert!(is_unavailable(&ledger.get(numbered(0).id).await));
    assert!(is_unavailable(&ledger.beat(NOW).await));
    let took = began.elapsed();
    assert!(took < HASTY.step() + HASTY.queue * 4, "{took:?}");
    relay.will(Relaying::Pass);
    let claimed = once_usable(async || ledger.claim(&numbered(1), NOW).await).await;
    assert!(matches!(claimed, Ok(Claimed::New(_))), "{claimed:?}");
    assert_eq!(once_usable(async || ledger.counts().await).await.unwrap().claimed, 2);
}

#[tokio::test]
async fn a_slow_database_is_waited_for_within_bounds() {
    let (relay, ledger, _) = behind_a_relay(Postgres::shared()).await;
    claimed(&ledger, &numbered(1)).await;
    relay.will(Relaying::Slow(Duration::from_millis(20)));
    claimed(&ledger, &numbered(2)).await;
    relay.will(Relaying::Slow(Duration::from_millis(600)));
    let began = Instant::now();
    assert!(is_unavailable(&ledger.claim(&numbered(3), NOW).await));
    assert!(began.elapsed() < HASTY.step() + Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_server_that_stops_crashes_and_starts_again_goes_unnoticed_by_the_next_step() {
    let server = Postgres::start(&["synchronous_commit=off"]);
    let ledger = PostgresLedger::with(&server.database().await, HASTY, Arc::new(SystemClock)).await.unwrap();
    for (number, order) in [(1, "stop"), (2, "kill")] {
        let token = claimed(&ledger, &numbered(number)).await;
        ledger.settling(token, intent("request", false), NOW).await.unwrap();
        server.order(order);
        let began = Instant::now();
        assert!(is_unavailable(&settled(&ledger, token, true).await));
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        server.order("start");
        // What was to be settled is known: that step was durable, whatever the server's settings.
        assert_eq!(once_usable(async || settled(&ledger, token, true).await).await, Ok(Recorded::Deliver));
    }
}

#[tokio::test]
async fn steps_that_must_last_wait_for_the_standby_that_the_server_demands() {
    let server = Postgres::start(&[]);
    let url = server.database().await;
    let ledger = PostgresLedger::with(&url, HASTY, Arc::new(SystemClock)).await.unwrap();
    let demand = async |standby: &str| {
        run(&url, &format!("ALTER SYSTEM SET synchronous_standby_names = '{standby}'")).await;
        run(&url, "SELECT pg_reload_conf()").await;
    };
    demand("elsewhere").await;
    // The server takes note of it a little later. Claims need not wait for anybody.
    let mut number = 0;
    let token = loop {
        number += 1;
        assert!(number < 10_000, "it does not wait");
        let token = claimed(&ledger, &numbered(number)).await;
        if is_unavailable(&ledger.settling(token, intent("request", false), NOW).await) {
            break token;
        }
    };
    demand("").await;
    // The server has committed it, and goes on when nobody has to be waited for any more.
    let again = once_usable(async || ledger.release(token, None, NOW).await).await;
    let words = again.unwrap_err().to_string();
    assert!(words.ends_with("cannot become released from settling"), "{words}");
}

#[tokio::test]
async fn what_the_database_refuses_spoils_no_other_step() {
    let store = Store::new().await;
    let ledger = Arc::new(PostgresLedger::open(&store.url, TAKEOVER_AFTER).await.unwrap());
    run(&store.url, "ALTER TABLE tollgate_payments ADD CHECK (route <> 'poison')").await;
    let claims: Vec<NewClaim> = (0..200)
        .map(|number| {
            let mut new = numbered(number);
            new.particulars.route = if number % 50 == 7 { "poison" } else { "fine" }.into();
            new
        })
        .collect();
    let told = join_all(claims.iter().map(|new| ledger.claim(new, NOW))).await;
    for (new, told) in claims.iter().zip(told) {
        if new.particulars.route == "poison" {
            assert!(is_unavailable(&told), "{told:?}");
        } else {
            assert!(matches!(told, Ok(Claimed::New(_))), "{told:?}");
        }
    }
}

#[tokio::test]
async fn texts_that_the_database_cannot_hold_are_kept_as_well_as_it_can() {
    let ledger = PostgresLedger::open(&Store::new().await.url, TAKEOVER_AFTER).await.unwrap();
    let mut new = numbered(1);
    new.particulars.payer = Some("\0payer".repeat(20_000));
    new.particulars.route = "a\0route \u{1F4B0}".into();
    let token = claimed(&ledger, &new).await;
    ledger.settling(token, intent("request", true), NOW).await.unwrap();
    let transaction = "\0transaction".repeat(20_000);
    ledger.unresolved(token, "a\0reason", &transaction, NOW, NOW).await.unwrap();
    let record = ledger.get(new.id).await.unwrap().unwrap();
    assert_eq!(record.reason, "a\u{fffd}reason");
    assert_eq!(record.particulars.route, "a\u{fffd}route \u{1F4B0}");
    assert_eq!(record.transaction.len(), "\u{fffd}transaction".len() * 20_000);
}

#[tokio::test]
async fn a_payment_that_somebody_has_locked_is_refused_in_time() {
    let store = Store::new().await;
    let ledger = PostgresLedger::with(&store.url, HASTY, Arc::new(SystemClock)).await.unwrap();
    let token = claimed(&ledger, &numbered(1)).await;
    let mut other = PgConnection::connect(&store.url).await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT * FROM tollgate_payments FOR UPDATE").execute(&mut other).await.unwrap();
    let began = Instant::now();
    let refused = ledger.settling(token, intent("request", false), NOW).await;
    assert!(
        matches!(&refused, Err(LedgerError::Unavailable(cause)) if cause.contains("takes too long")),
        "{refused:?}"
    );
    assert!(began.elapsed() < HASTY.step(), "{:?}", began.elapsed());
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    ledger.settling(token, intent("request", false), NOW).await.unwrap();
}
