//! Several gateways: their clocks, their pauses, their races.

use sqlx::Row as _;

use super::super::super::contract::Store as _;
use super::super::super::{DeliveryEnd, PayerLimits, TakenOver};
use super::server::run;
use super::*;
use crate::clock::Clock;

/// A clock that is wrong by so many seconds.
struct Wrong(i64);

impl Clock for Wrong {
    fn now(&self) -> UnixSeconds {
        UnixSeconds(SystemClock.now().0.saturating_add_signed(self.0))
    }
}

#[tokio::test]
async fn gateways_whose_clocks_disagree_keep_one_account_of_time() {
    let store = Store::new().await;
    let clocks = [Wrong(0), Wrong(3_600), Wrong(-3_600)].map(Arc::new);
    let mut ledgers = Vec::new();
    for clock in &clocks {
        let ledger = PostgresLedger::with(&store.url, LIMITS, Arc::clone(clock) as _).await.unwrap();
        ledger.beat(clock.now()).await.unwrap();
        ledgers.push(ledger);
    }
    let truth = SystemClock.now();
    let is_now = |time: UnixSeconds| time.0.abs_diff(truth.0) < 30;
    let mut new = numbered(1);
    new.expires = Some(truth.plus(600));
    let Ok(Claimed::New(token)) = ledgers[1].claim(&new, clocks[1].now()).await else {
        panic!("not claimed")
    };
    ledgers[1].settling(token, intent("request", false), clocks[1].now()).await.unwrap();
    let next = clocks[1].now().plus(100);
    ledgers[1].unresolved(token, "timeout", "", next, clocks[1].now()).await.unwrap();
    let record = ledgers[0].get(new.id).await.unwrap().unwrap();
    assert!(is_now(record.claimed_at) && is_now(UnixSeconds(record.next_try.unwrap().0 - 100)), "{record:?}");

    // One drives it; to nobody else does its time seem to be over.
    for (ledger, clock) in ledgers.iter().zip(&clocks) {
        assert_eq!(ledger.due(clock.now(), Duration::from_secs(60), 9).await.unwrap(), vec![], "not due");
    }
    run(&store.url, "UPDATE tollgate_payments SET next_try = 0").await;
    assert_eq!(ledgers[2].due(clocks[2].now(), Duration::from_secs(60), 9).await.unwrap().len(), 1);
    for (ledger, clock) in ledgers.iter().zip(&clocks) {
        assert_eq!(ledger.due(clock.now(), Duration::from_secs(60), 9).await.unwrap(), vec![], "driven");
    }
    // What could still be settled is not forgotten by one whose clock runs ahead.
    settled(&ledgers[0], token, false).await.unwrap();
    assert_eq!(ledgers[1].forget(0, clocks[1].now()).await, Ok(0));
}

#[tokio::test]
async fn a_gateway_that_was_paused_finds_its_payments_taken_and_goes_on_with_new_ones() {
    let store = Store::new().await;
    let (paused, other) = (store.open().await, store.open().await);
    let claim = claimed(&paused, &numbered(1)).await;
    let settling = claimed(&paused, &numbered(2)).await;
    paused.settling(settling, intent("request", false), NOW).await.unwrap();
    let delivering = claimed(&paused, &numbered(3)).await;
    paused.settling(delivering, intent("request", false), NOW).await.unwrap();
    settled(&paused, delivering, true).await.unwrap();
    let lapse = "UPDATE tollgate_gateways SET seen = now() - interval '1 hour' WHERE id = $1";
    store.sql(lapse, paused.me.0).await;
    let taken = other.beat(NOW).await.unwrap();
    assert_eq!(taken, TakenOver { released: 1, unresolved: 1, broken_off: 1 });
    let by_other = claimed(&other, &numbered(1)).await;

    assert!(paused.settling(claim, intent("request", false), NOW).await.is_err(), "it is another's");
    assert!(paused.release(claim, Some("late"), NOW).await.is_err());
    assert!(paused.delivered(delivering, DeliveryEnd::Complete, NOW).await.is_err());
    // The money moved, whoever asked for it.
    settled(&paused, settling, true).await.unwrap();
    other.settling(by_other, intent("request", false), NOW).await.unwrap();

    // What it claims before it has shown that it lives is as good as lost, and not lost for good.
    claimed(&paused, &numbered(4)).await;
    assert_eq!(other.beat(NOW).await.unwrap(), TakenOver { released: 1, unresolved: 0, broken_off: 1 });
    assert_eq!(paused.beat(NOW).await.unwrap(), TakenOver::default());
    claimed(&paused, &numbered(4)).await;
    assert_eq!(other.beat(NOW).await.unwrap(), TakenOver::default());
}

#[tokio::test]
async fn gateways_that_were_all_cut_off_take_nothing_from_each_other() {
    let store = Store::new().await;
    let (first, second) = (store.open().await, store.open().await);
    claimed(&first, &numbered(1)).await;
    claimed(&second, &numbered(2)).await;
    run(&store.url, "UPDATE tollgate_gateways SET seen = now() - interval '1 hour'").await;
    assert_eq!(first.beat(NOW).await.unwrap(), TakenOver::default());
    assert_eq!(second.beat(NOW).await.unwrap(), TakenOver::default());
    // One that stays away is noticed when the other has watched for long enough.
    let watched = "UPDATE tollgate_gateways SET since = now() - interval '1 hour' WHERE id = $1";
    store.sql(watched, first.me.0).await;
    assert_eq!(first.beat(NOW).await.unwrap(), TakenOver::default(), "the other lives");
    store.kill(second).await;
    assert_eq!(first.beat(NOW).await.unwrap().released, 1);
}

/// Promises of gateways, in seconds. Nobody has to be awake while time passes: the tests move it.
fn promise(seconds: u64) -> Limits {
    Limits { lease: Duration::from_secs(seconds), ..LIMITS }
}

impl Store {
    /// A gateway with this promise that holds a payment and was then silent for so many seconds.
    async fn silent(&self, seconds: u64, limits: Limits, number: u64) -> PostgresLedger {
        let ledger = self.open_with(limits).await;
        claimed(&ledger, &numbered(number)).await;
        self.set(&ledger, "seen", seconds).await;
        ledger
    }

    /// Has something of a gateway have happened so many seconds ago.
    async fn set(&self, ledger: &PostgresLedger, what: &str, seconds: u64) {
        let me = ledger.me.0;
        let update =
            format!("UPDATE tollgate_gateways SET {what} = now() - interval '{seconds} s' WHERE id = {me}");
        run(&self.url, &update).await;
    }
}

#[tokio::test]
async fn each_gateway_is_gone_when_its_own_promise_is_broken_whatever_those_say_that_judge() {
    let store = Store::new().await;
    let (patient, hasty) = (store.open_with(promise(3_600)).await, store.open_with(promise(600)).await);
    for (number, seconds, silence, is_gone) in
        [(1, 30, 60, true), (2, 120, 60, false), (3, 1_200, 900, false), (4, 1_200, 1_500, true)]
    {
        for judge in [&patient, &hasty] {
            let judged = store.silent(silence, promise(seconds), number).await;
            let taken = judge.beat(NOW).await.unwrap();
            assert_eq!(taken.released, u64::from(is_gone), "{seconds} {silence}");
            store.kill(judged).await;
            store.sql("DELETE FROM tollgate_payments WHERE $1 = $1", 0).await;
        }
    }
}

#[tokio::test]
async fn a_gateway_is_watched_for_as_long_as_it_may_be_silent_before_it_is_judged() {
    let store = Store::new().await;
    let judge = store.open_with(promise(600)).await;
    let patient = store.silent(7_200, promise(3_600), 1).await;
    // The database was away for all of them, say: nobody can have shown anything.
    store.set(&judge, "since", 1_200).await;
    assert_eq!(judge.beat(NOW).await.unwrap(), TakenOver::default(), "it may just be late");
    let hasty = store.silent(7_200, promise(900), 2).await;
    assert_eq!(judge.beat(NOW).await.unwrap().released, 1, "this one is not");
    assert_eq!(state(&judge, &numbered(1)).await, Some(PaymentState::Claimed));
    assert_eq!(hasty.beat(NOW).await.unwrap(), TakenOver::default());
    patient.beat(NOW).await.unwrap();
    store.set(&judge, "since", 7_200).await;
    assert_eq!(judge.beat(NOW).await.unwrap(), TakenOver::default(), "it was late");
    store.set(&patient, "seen", 3_700).await;
    assert_eq!(judge.beat(NOW).await.unwrap().released, 1);
}

#[tokio::test]
async fn who_was_away_for_longer_than_another_may_be_silent_watches_anew() {
    let store = Store::new().await;
    let limits = Limits { lease_min: Duration::from_secs(300), ..promise(3_600) };
    let judge = store.open_with(limits).await;
    let other = store.silent(900, promise(300), 1).await;
    store.set(&judge, "seen", 900).await;
    assert_eq!(judge.beat(NOW).await.unwrap(), TakenOver::default(), "both were away");
    store.set(&judge, "since", 400).await;
    assert_eq!(judge.beat(NOW).await.unwrap().released, 1, "only the other was");
    drop(other);
}

#[tokio::test]
async fn a_gateway_of_a_version_that_promised_nothing_may_be_silent_for_ten_seconds() {
    let store = Store::new().await;
    let judge = store.open().await;
    // Nobody waits for these ten seconds; the database says when they are over.
    for (silence, is_gone) in [(0, false), (30, true)] {
        let old = store.silent(silence, LIMITS, 1).await;
        store
            .sql(
                "UPDATE tollgate_gateways SET lease = NULL, seen = seen + interval '5 s' WHERE id = $1",
                old.me.0,
            )
            .await;
        assert_eq!(judge.beat(NOW).await.unwrap().released, u64::from(is_gone), "{silence}");
        store.sql("DELETE FROM tollgate_payments WHERE $1 = $1", 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_that_race_grant_each_delivery_once() {
    const PAYMENTS: u64 = 120;
    let store = Store::new().await;
    let mut ledgers = Vec::new();
    for _ in 0..3 {
        ledgers.push(Arc::new(store.open().await));
    }
    // Payers with limits, identifiers shared by pairs of payments: whatever can depend on each other.
    let presented = |number: u64, grant: u64| {
        let mut new = numbered(number);
        new.grant = grant;
        new.limits = PayerLimits { count: 1_000, sum: None };
        new.particulars.payer = Some(format!("payer {}", number % 5));
        new.identifier = Some(B256::from(U256::from(number / 2)));
        new
    };
    let mut tasks = Vec::new();
    for grant in 0..PAYMENTS * 9 {
        let ledger = Arc::clone(&ledgers[usize::try_from(grant % 3).unwrap()]);
        let new = presented(grant % PAYMENTS, grant);
        tasks.push(tokio::spawn(async move { buy(&ledger, &new).await }));
    }
    let (mut bought, mut again) = (0, 0);
    for task in tasks {
        match task.await.unwrap() {
            Bought::Yes => bought += 1,
            Bought::Again => again += 1,
            Bought::No => {}
        }
    }
    assert_eq!(bought, PAYMENTS / 2, "one for each identifier");
    let mut connection = PgConnection::connect(&store.url).await.unwrap();
    let count = "SELECT count(*) FILTER (WHERE state = 'delivered'), sum(deliveries)::int8, count(owner) \
                 FROM tollgate_payments";
    let row = sqlx::query(count).fetch_one(&mut connection).await.unwrap();
    let [delivered, deliveries, owned] = [0, 1, 2].map(|column| row.get::<i64, _>(column));
    assert_eq!((delivered, deliveries, owned), (bought.cast_signed(), (bought + again).cast_signed(), 0));
}

#[derive(Debug)]
enum Bought {
    Yes,
    /// Fetched again under the identifier of what was bought.
    Again,
    No,
}

/// Presents a payment until it has bought something, or cannot any more.
async fn buy(ledger: &PostgresLedger, new: &NewClaim) -> Bought {
    loop {
        match ledger.claim(new, NOW).await.unwrap() {
            Claimed::New(token) if new.grant.is_multiple_of(4) => {
                ledger.release(token, new.grant.is_multiple_of(8).then_some("not today"), NOW).await.unwrap();
                return Bought::No;
            }
            Claimed::New(token) => {
                ledger.settling(token, intent("request", false), NOW).await.unwrap();
                settled(ledger, token, true).await.unwrap();
                ledger.delivered(token, DeliveryEnd::Complete, NOW).await.unwrap();
                return Bought::Yes;
            }
            Claimed::Owed { token, .. } => {
                ledger.delivered(token, DeliveryEnd::Complete, NOW).await.unwrap();
                return Bought::Again;
            }
            Claimed::Held { state: PaymentState::Delivered, .. } => return Bought::No,
            Claimed::Held { .. } => tokio::task::yield_now().await,
            other @ (Claimed::IdentifierUsed | Claimed::PayerLimit) => panic!("{other:?}"),
        }
    }
}
