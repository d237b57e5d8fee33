//! What the ledger in a file promises besides the contract.

mod files;
mod random;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc as threads;
use std::time::{Duration, Instant};

use alloy_primitives::{B256, U256};
use async_trait::async_trait;
use tempfile::TempDir;

use super::super::contract::{Store, claim, holds_for, intent, response};
use super::super::{
    Accounts, ClaimToken, Claimed, Filter, GatewayId, Ledger, LedgerError, NewClaim, PaymentState, Settlement,
};
use super::checkpoint::Lengths;
use super::writer::Work;
use super::{SqliteAccounts, SqliteLedger};
use crate::clock::UnixSeconds;
use crate::scheme::PaymentId;
use crate::x402::AtomicAmount;

const NOW: UnixSeconds = UnixSeconds(1_000);

/// A folder with a ledger in it.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("tollgate.db")
    }

    fn open(&self) -> SqliteLedger {
        SqliteLedger::open(&self.path()).unwrap()
    }
}

#[async_trait]
impl Store for Folder {
    type Ledger = SqliteLedger;

    async fn open(&self) -> SqliteLedger {
        Folder::open(self)
    }

    async fn kill(&self, ledger: SqliteLedger) {
        drop(ledger);
    }

    fn takes_several(&self) -> bool {
        false
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_in_a_file_keeps_the_contract() {
    holds_for(async || Folder::new()).await;
}

/// Lets the writer's own connection do something.
async fn with_writer(ledger: &SqliteLedger, sql: &'static str) {
    let run = move |connection: &rusqlite::Connection| connection.execute_batch(sql).unwrap();
    ledger.writer.ask(Work::Read(Box::new(run))).await.unwrap();
}

fn numbered(number: u64) -> NewClaim {
    let mut new = claim(1);
    new.id = PaymentId(B256::from(U256::from(number)));
    new.grant = number;
    new
}

async fn claimed(ledger: &SqliteLedger, new: &NewClaim) -> ClaimToken {
    match ledger.claim(new, NOW).await.unwrap() {
        Claimed::New(token) => token,
        other => panic!("{other:?}"),
    }
}

async fn settled(ledger: &SqliteLedger, new: &NewClaim) -> ClaimToken {
    let token = claimed(ledger, new).await;
    ledger.settling(token, intent("{}", false), NOW).await.unwrap();
    let response = response();
    let settlement = Settlement { response: &response, deliver: false, unique_transaction: false };
    ledger.settled(token, settlement, NOW).await.unwrap();
    token
}

fn is_unavailable<T>(result: &Result<T, LedgerError>) -> bool {
    matches!(result, Err(LedgerError::Unavailable(_)))
}

#[tokio::test]
async fn only_steps_that_must_survive_a_loss_of_power_wait_for_the_disk() {
    let folder = Folder::new();
    let ledger = folder.open();
    let waits = async || {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let ask = move |connection: &rusqlite::Connection| {
            let level: i64 = connection.query_row("PRAGMA synchronous", [], |row| row.get(0)).unwrap();
            sender.send(level).unwrap();
        };
        ledger.writer.ask(Work::Read(Box::new(ask))).await.unwrap();
        receiver.await.unwrap() == 2
    };
    let response = response();
    let settlement = Settlement { response: &response, deliver: true, unique_transaction: false };
    let token = claimed(&ledger, &claim(1)).await;
    assert!(!waits().await, "a claim");
    ledger.settling(token, intent("{}", false), NOW).await.unwrap();
    assert!(waits().await, "what settlement is asked for");
    ledger.release(claimed(&ledger, &claim(2)).await, None, NOW).await.unwrap();
    assert!(!waits().await, "a release");
    ledger.settled(token, settlement, NOW).await.unwrap();
    assert!(waits().await, "a settlement");
    ledger.delivered(token, super::super::DeliveryEnd::Complete, NOW).await.unwrap();
    assert!(!waits().await, "a delivery");
    let token = claimed(&ledger, &claim(3)).await;
    ledger.settling(token, intent("{}", false), NOW).await.unwrap();
    claimed(&ledger, &claim(4)).await;
    ledger.unresolved(token, "timeout", "", NOW, NOW).await.unwrap();
    assert!(waits().await, "an unknown outcome");
    claimed(&ledger, &claim(5)).await;
    ledger.declined(token, "no", NOW).await.unwrap();
    assert!(waits().await, "a refusal");
}

#[tokio::test]
async fn a_full_disk_refuses_what_it_cannot_keep_and_room_makes_it_good_again() {
    let folder = Folder::new();
    let ledger = folder.open();
    let kept = claimed(&ledger, &numbered(0)).await;
    with_writer(&ledger, "PRAGMA max_page_count = 60").await;
    let mut held = vec![0];
    let refused = loop {
        let number = u64::try_from(held.len()).unwrap();
        match ledger.claim(&numbered(number), NOW).await {
            Ok(claimed) => assert!(matches!(claimed, Claimed::New(_))),
            Err(error) => break error,
        }
        held.push(number);
        assert!(held.len() < 10_000, "the disk never got full");
    };
    assert_eq!(refused, LedgerError::Unavailable("the disk is full (SQLite code 13)".to_owned()));
    let after = u64::try_from(held.len()).unwrap();
    assert_eq!(ledger.get(numbered(after).id).await.unwrap(), None, "nothing of it is left");
    for number in &held {
        let record = ledger.get(numbered(*number).id).await.unwrap().unwrap();
        assert_eq!(record.state, PaymentState::Claimed);
    }
    let long = "x".repeat(500_000);
    let settling = ledger.settling(kept, intent(&long, false), NOW).await;
    assert!(is_unavailable(&settling), "{settling:?}");
    with_writer(&ledger, "PRAGMA max_page_count = 4294967294").await;
    ledger.settling(kept, intent(&long, false), NOW).await.unwrap();
    claimed(&ledger, &numbered(after)).await;
}

/// Holds the writer up until it is told to go on; returns when it is held up.
async fn hold_up(ledger: &Arc<SqliteLedger>) -> (threads::Sender<()>, tokio::task::JoinHandle<()>) {
    let (go, wait) = threads::channel::<()>();
    let (started, starts) = tokio::sync::oneshot::channel();
    let hold = move |_: &rusqlite::Connection| {
        started.send(()).unwrap();
        wait.recv().unwrap();
    };
    let ledger = Arc::clone(ledger);
    let held_up = tokio::spawn(async move {
        ledger.writer.ask(Work::Read(Box::new(hold))).await.unwrap();
    });
    starts.await.unwrap();
    (go, held_up)
}

#[tokio::test]
async fn a_batch_that_fails_is_undone_whole() {
    let folder = Folder::new();
    let ledger = Arc::new(folder.open());
    let token = claimed(&ledger, &numbered(0)).await;
    with_writer(&ledger, "PRAGMA max_page_count = 60").await;
    // While the writer is held up, a batch gathers: small steps, and one that does not fit.
    let (go, held_up) = hold_up(&ledger).await;
    let mut steps = tokio::task::JoinSet::new();
    for number in 1..=20 {
        let ledger = Arc::clone(&ledger);
        steps.spawn(async move { ledger.claim(&numbered(number), NOW).await.map(drop) });
    }
    let large = Arc::clone(&ledger);
    steps.spawn(
        async move { large.settling(token, intent(&"x".repeat(500_000), false), NOW).await.map(drop) },
    );
    // The runtime of this test has one thread: every step is in the queue when the others have run.
    tokio::task::yield_now().await;
    go.send(()).unwrap();
    held_up.await.unwrap();
    while let Some(result) = steps.join_next().await {
        assert!(is_unavailable(&result.unwrap()));
    }
    let left = ledger.list(&Filter::default(), None, 100).await.unwrap();
    assert_eq!(
        left.iter().map(|record| (record.id, record.state)).collect::<Vec<_>>(),
        [(numbered(0).id, PaymentState::Claimed)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_claims_first_and_nobody_hangs() {
    let connection = super::file::in_memory().unwrap();
    let writer = super::Writer::start(connection, GatewayId(1), None, 400).unwrap();
    let ledger = Arc::new(SqliteLedger { writer, pool: None });
    let token = claimed(&ledger, &numbered(0)).await;
    let (go, held_up) = hold_up(&ledger).await;
    let mut claims = tokio::task::JoinSet::new();
    for number in 1..=1_000 {
        let ledger = Arc::clone(&ledger);
        claims.spawn(async move { ledger.claim(&numbered(number), NOW).await });
    }
    // Those that find no room are answered at once.
    let mut refused = 0;
    while refused < 650 {
        let result = claims.join_next().await.unwrap().unwrap();
        assert!(is_unavailable(&result), "{result:?}");
        refused += 1;
    }
    // There is room for what is under way.
    let settling = tokio::spawn({
        let ledger = Arc::clone(&ledger);
        async move { ledger.settling(token, intent("{}", false), NOW).await }
    });
    go.send(()).unwrap();
    held_up.await.unwrap();
    settling.await.unwrap().unwrap();
    let mut granted = 0;
    while let Some(result) = claims.join_next().await {
        granted += usize::from(result.unwrap().is_ok());
    }
    assert!((300..=350).contains(&granted), "{granted}");
}

#[tokio::test]
async fn a_writer_that_ended_makes_every_call_fail_and_none_hang() {
    let folder = Folder::new();
    let ledger = folder.open();
    let token = claimed(&ledger, &claim(1)).await;
    let crash = |_: &rusqlite::Connection| panic!("on purpose");
    assert!(ledger.writer.ask(Work::Read(Box::new(crash))).await.is_err());
    assert!(is_unavailable(&ledger.claim(&claim(2), NOW).await));
    assert!(is_unavailable(&ledger.settling(token, intent("{}", false), NOW).await));
    assert!(is_unavailable(&ledger.beat(NOW).await));
    assert!(is_unavailable(&ledger.due(NOW, Duration::ZERO, 1).await));
}

#[tokio::test]
async fn a_damaged_record_spoils_its_own_payment_only() {
    let folder = Folder::new();
    let ledger = folder.open();
    claimed(&ledger, &claim(1)).await;
    let other = claimed(&ledger, &claim(2)).await;
    with_writer(&ledger, "UPDATE payments SET amount = '12x' WHERE id = x'0101010101010101010101010101010101010101010101010101010101010101'").await;
    let again = ledger.claim(&claim(1), NOW).await;
    assert_eq!(again, Err(LedgerError::Unavailable("its record is damaged: amount: unknown value".into())));
    ledger.settling(other, intent("{}", false), NOW).await.unwrap();
    claimed(&ledger, &claim(3)).await;
}

#[tokio::test]
async fn times_and_amounts_at_their_ends_are_kept() {
    let ledger = SqliteLedger::in_memory().unwrap();
    let mut extreme = claim(1);
    extreme.expires = Some(UnixSeconds(u64::MAX));
    extreme.grant = u64::MAX;
    extreme.particulars.amount = AtomicAmount(U256::MAX);
    extreme.particulars.resource = "https://shop.example/\u{0}'\"\u{1f4b0}".into();
    claimed(&ledger, &extreme).await;
    let record = ledger.get(extreme.id).await.unwrap().unwrap();
    assert_eq!(record.expires, Some(UnixSeconds(u64::MAX >> 1)), "the end of time, as SQLite can say it");
    assert_eq!((record.grant, record.particulars), (u64::MAX, extreme.particulars));
}

#[tokio::test]
async fn many_payments_are_forgotten_and_those_between_them_are_kept() {
    let folder = Folder::new();
    let ledger = folder.open();
    let mut kept = Vec::new();
    for number in 0..350 {
        let mut new = numbered(number);
        match number % 7 {
            0 => new.expires = None,
            1 => new.expires = Some(UnixSeconds(1_000_000)),
            _ => {}
        }
        match number % 7 {
            0 | 1 => {
                settled(&ledger, &new).await;
                kept.push(new.id);
            }
            2 => kept.push(claimed(&ledger, &new).await.id),
            _ => {
                let token = claimed(&ledger, &new).await;
                ledger.release(token, Some("not used"), NOW).await.unwrap();
            }
        }
    }
    assert_eq!(ledger.forget(0, UnixSeconds(6_000)).await, Ok(200));
    let mut left: Vec<_> = Vec::new();
    let mut after = None;
    loop {
        let page = ledger.list(&Filter::default(), after, 40).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some((last.claimed_at, last.id));
        left.extend(page.iter().map(|record| record.id));
    }
    assert_eq!(left, kept);
    assert_eq!(ledger.forget(0, UnixSeconds(2_000_000)).await, Ok(50), "those that have expired");
}

#[tokio::test]
async fn the_books_can_be_read_beside_a_running_gateway() {
    let folder = Folder::new();
    let none = SqliteAccounts::open(&folder.path()).err().unwrap();
    assert!(none.to_string().starts_with("there is no ledger at "), "{none}");
    let ledger = folder.open();
    let books = SqliteAccounts::open(&folder.path()).unwrap();
    assert_eq!(books.get(claim(1).id).await.unwrap(), None);
    let token = settled(&ledger, &claim(1)).await;
    assert_eq!(books.get(token.id).await.unwrap().unwrap().state, PaymentState::Settled);
    claimed(&ledger, &claim(2)).await;
    assert_eq!(books.list(&Filter::default(), None, 10).await.unwrap().len(), 2);
    drop(ledger);
    // Nor is a gateway needed for it.
    let books = SqliteAccounts::open(&folder.path()).unwrap();
    assert_eq!(books.list(&Filter::default(), None, 10).await.unwrap().len(), 2);
    folder.open();
}

fn length(folder: &Folder) -> u64 {
    folder.0.path().join("tollgate.db-wal").metadata().unwrap().len()
}

/// How often the log began anew (the checkpoint sequence number of its header,
/// <https://sqlite.org/fileformat2.html#walformat>).
fn beginnings(folder: &Folder) -> u32 {
    let log = std::fs::read(folder.0.path().join("tollgate.db-wal")).unwrap();
    u32::from_be_bytes(log[12..16].try_into().unwrap())
}

/// Claims payments until something is so.
async fn claim_until(ledger: &SqliteLedger, from: u64, is_so: impl Fn() -> bool) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut number = from;
    while !is_so() {
        assert!(Instant::now() < deadline, "{} payments were claimed in vain", number - from);
        claimed(ledger, &numbered(number)).await;
        number += 1;
    }
    number
}

#[tokio::test]
async fn the_log_begins_anew_while_steps_go_on() {
    let folder = Folder::new();
    let lengths = Lengths { steps: 50, pages: 200, bytes_max: u64::MAX };
    let ledger = SqliteLedger::open_with(&folder.path(), lengths).unwrap();
    let next = claim_until(&ledger, 0, || length(&folder) > 0).await;
    let first = beginnings(&folder);
    claim_until(&ledger, next, || beginnings(&folder) > first + 2).await;
}

#[tokio::test]
async fn a_log_that_a_reader_held_up_is_cut_when_it_is_gone() {
    let folder = Folder::new();
    let lengths = Lengths { steps: 50, pages: i64::MAX, bytes_max: 1024 * 1024 };
    let ledger = SqliteLedger::open_with(&folder.path(), lengths).unwrap();
    claimed(&ledger, &numbered(0)).await;
    let reader = rusqlite::Connection::open(folder.path()).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM payments;").unwrap();
    let next = claim_until(&ledger, 1, || length(&folder) > 3 * 1024 * 1024).await;
    reader.execute_batch("COMMIT").unwrap();
    claim_until(&ledger, next, || length(&folder) < 1024 * 1024).await;
}

#[tokio::test]
async fn a_ledger_in_memory_works_and_forgets() {
    let ledger = SqliteLedger::in_memory().unwrap();
    settled(&ledger, &claim(1)).await;
    assert_eq!(ledger.list(&Filter::default(), None, 10).await.unwrap().len(), 1);
    assert_eq!(ledger.counts().await.unwrap(), super::super::Counts::default());
    let other = SqliteLedger::in_memory().unwrap();
    assert_eq!(other.get(claim(1).id).await.unwrap(), None);
}
