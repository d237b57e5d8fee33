//! One half of the power cut test (`tests/power/run.sh`): takes payments through their lives and says
//! what it was promised; and looks whether a ledger that was cut off still keeps those promises.
//!
//! ```text
//! power work FOLDER SEED      writes "begin NUMBER STEP" and "done NUMBER STEP" lines
//! power broken FOLDER SEED    the same on a disk that fails; ends well when everything is refused then
//! power check LOG SEED        for each line "FOLDER COUNT" of its input: does the ledger in FOLDER keep
//!                             what the first COUNT lines of LOG promise?
//! ```

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use alloy_primitives::{B256, U256, keccak256};
use tollgate::clock::UnixSeconds;
use tollgate::ledger::settings::{LedgerUrl, TAKEOVER_AFTER};
use tollgate::ledger::{
    self, ClaimToken, Claimed, DeliveryEnd, Filter, Intent, Ledger, LedgerError, NewClaim, Particulars,
    PayerLimits, PaymentRecord, PaymentState, Redelivery, Settlement,
};
use tollgate::scheme::PaymentId;
use tollgate::x402::{AtomicAmount, SettleResponse, Version};

/// Times the ledger is opened and closed.
const SESSIONS: u64 = 3;
/// Payments of each session: enough for the log to be written into the database on the way.
const PAYMENTS: u64 = 500;
/// Payments at a time.
const AT_A_TIME: u64 = 8;
const NOW: UnixSeconds = UnixSeconds(1_000_000);

/// A step of a payment's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Claim,
    Forget,
    Release,
    Settling,
    Settled,
    Declined,
    Unresolved,
    Delivered,
}

use Step::{Claim, Declined, Delivered, Forget, Release, Settled, Settling, Unresolved};

/// Lives that payments have.
const LIVES: [&[Step]; 6] = [
    &[Claim, Settling, Settled, Delivered],
    &[Claim, Settling, Unresolved, Unresolved, Settled],
    &[Claim, Settling, Declined, Claim, Settling, Settled, Delivered],
    &[Claim, Release, Claim, Settling, Settled],
    &[Claim, Forget],
    &[Claim, Settling, Unresolved, Declined],
];

/// A payment of the workload; everything about it follows from the seed and its number.
#[derive(Clone, Copy)]
struct Payment {
    seed: u64,
    number: u64,
}

/// What the ledger says of a payment: state, attempt, whether its request is kept, its transaction.
type Found = Option<(PaymentState, u32, bool, String)>;

impl Payment {
    fn hash(self) -> B256 {
        keccak256([self.seed.to_be_bytes(), self.number.to_be_bytes()].concat())
    }

    fn life(self) -> &'static [Step] {
        LIVES[usize::from(self.hash()[31]) % LIVES.len()]
    }

    fn claim(self) -> NewClaim {
        let hash = self.hash();
        NewClaim {
            id: PaymentId(hash),
            grant: self.number,
            expires: Some(NOW.plus(300)),
            request: keccak256(hash),
            repeatable: true,
            identifier: (hash[30] < 64).then(|| keccak256([hash.as_slice(), b"identifier"].concat())),
            limits: PayerLimits { count: 100, sum: None },
            redelivery: Redelivery { window_seconds: 300, tries: 2 },
            particulars: Particulars {
                payer: Some(alloy_primitives::Address::from_word(hash).to_string()),
                network: "eip155:8453".parse().unwrap(),
                asset: "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913".into(),
                amount: AtomicAmount(U256::from(10_000 + self.number)),
                pay_to: "0x209693Bc6afc0C5328bA36FaF03C514EF312287C".into(),
                scheme: "exact".into(),
                version: Version::V2,
                route: "articles".into(),
                method: "GET".into(),
                resource: format!("https://shop.example/articles/{}", self.number),
                facilitator: "facilitator.example".into(),
            },
        }
    }

    fn transaction(self) -> String {
        keccak256([self.hash().as_slice(), b"transaction"].concat()).to_string()
    }

    /// Half of the payments are settled by another facilitator than the one that was named at first.
    fn intent(self) -> Intent {
        let facilitator = if self.number.is_multiple_of(2) { "sandbox" } else { "other" }.to_owned();
        let request = format!("{{\"number\":{},\"padding\":\"{}\"}}", self.number, "x".repeat(1_200));
        Intent { facilitator, request, unique_transaction: false, payer: None }
    }

    /// What the ledger must say after so many steps.
    fn after(self, steps: usize) -> Found {
        let mut found: Found = None;
        for step in &self.life()[..steps] {
            let attempt = found.as_ref().map_or(0, |(_, attempt, ..)| *attempt);
            let transaction = found.map_or(String::new(), |(.., transaction)| transaction);
            found = match step {
                Claim => Some((PaymentState::Claimed, attempt + 1, false, String::new())),
                Forget => None,
                Release => Some((PaymentState::Released, attempt, false, transaction)),
                Settling => Some((PaymentState::Settling, attempt, true, transaction)),
                Settled => Some((PaymentState::Settled, attempt, false, self.transaction())),
                Declined => Some((PaymentState::Declined, attempt, false, transaction)),
                Unresolved => Some((PaymentState::Unresolved, attempt, true, self.transaction())),
                Delivered => Some((PaymentState::Delivered, attempt, false, transaction)),
            };
        }
        found
    }

    async fn take(self, step: Step, ledger: &dyn Ledger, token: &mut ClaimToken) -> Result<(), LedgerError> {
        match step {
            Claim => match ledger.claim(&self.claim(), NOW).await? {
                Claimed::New(new) => *token = new,
                other => panic!("payment {}: {other:?}", self.number),
            },
            Forget => ledger.release(*token, None, NOW).await?,
            Release => ledger.release(*token, Some("not used"), NOW).await?,
            Settling => drop(ledger.settling(*token, self.intent(), NOW).await?),
            Settled => {
                let response = SettleResponse {
                    success: true,
                    error_reason: None,
                    payer: self.claim().particulars.payer,
                    transaction: self.transaction(),
                    network: "eip155:8453".into(),
                    amount: None,
                    extra: None,
                    extensions: None,
                };
                let settlement = Settlement { response: &response, deliver: true, unique_transaction: false };
                ledger.settled(*token, settlement, NOW).await?;
            }
            Declined => ledger.declined(*token, "no", NOW).await?,
            Unresolved => ledger.unresolved(*token, "timeout", &self.transaction(), NOW, NOW).await?,
            Delivered => ledger.delivered(*token, DeliveryEnd::Complete, NOW).await?,
        }
        Ok(())
    }

    /// Goes through its life, and says so.
    async fn live(self, ledger: &dyn Ledger) -> Result<(), LedgerError> {
        let mut token = ClaimToken { id: self.claim().id, attempt: 0, grant: self.number };
        for (index, step) in self.life().iter().enumerate() {
            say("begin", self.number, index);
            self.take(*step, ledger, &mut token).await?;
            say("done", self.number, index);
        }
        Ok(())
    }
}

const fn is_durable(step: Step) -> bool {
    matches!(step, Settling | Settled | Declined | Unresolved)
}

/// One write for a line, so that its place among the ledger's own writes is known.
fn say(what: &str, number: u64, index: usize) {
    let line = format!("{what} {number} {index}\n");
    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
}

async fn open(folder: &Path) -> Arc<dyn Ledger> {
    let url = LedgerUrl::Sqlite(folder.join("tollgate.db"));
    let ledger = ledger::open(&url, TAKEOVER_AFTER).await.unwrap_or_else(|error| panic!("{error}"));
    ledger.beat(NOW).await.unwrap_or_else(|error| panic!("{error}"));
    ledger
}

/// Lives of many payments, so many at a time; the first error, if there is one.
async fn session(ledger: &Arc<dyn Ledger>, seed: u64, first: u64) -> Result<(), LedgerError> {
    let next = Arc::new(AtomicU64::new(first));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..AT_A_TIME {
        let (ledger, next) = (Arc::clone(ledger), Arc::clone(&next));
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= first + PAYMENTS {
                    return Ok(());
                }
                Payment { seed, number }.live(&*ledger).await?;
            }
        });
    }
    tasks.join_all().await.into_iter().collect()
}

async fn work(folder: &Path, seed: u64) {
    for index in 0..SESSIONS {
        let ledger = open(folder).await;
        session(&ledger, seed, index * PAYMENTS).await.unwrap_or_else(|error| panic!("{error}"));
    }
}

/// The disk fails on the way: from then on nothing may be promised.
async fn broken(folder: &Path, seed: u64) {
    let ledger = open(folder).await;
    let Err(error) = session(&ledger, seed, 0).await else { panic!("the disk never failed") };
    assert!(matches!(&error, LedgerError::Unavailable(cause) if cause.contains("started again")), "{error}");
    for number in PAYMENTS..PAYMENTS + 20 {
        let refused = ledger.claim(&Payment { seed, number }.claim(), NOW).await;
        assert!(matches!(refused, Err(LedgerError::Unavailable(_))), "{refused:?}");
    }
    eprintln!("refused: {error}");
}

/// How many steps of each payment were begun, and how many are promised to be kept, after each line.
struct Promises {
    lines: Vec<(bool, u64, usize)>,
}

impl Promises {
    fn read(log: &Path) -> Self {
        let text = std::fs::read_to_string(log).unwrap();
        let line = |line: &str| {
            let mut words = line.split(' ');
            let done = words.next().unwrap() == "done";
            let mut number = || words.next().unwrap().parse::<u64>().unwrap();
            (done, number(), usize::try_from(number()).unwrap())
        };
        Self { lines: text.lines().map(line).collect() }
    }

    fn after(&self, count: usize, seed: u64) -> HashMap<u64, (usize, usize)> {
        let mut known: HashMap<u64, (usize, usize)> = HashMap::new();
        for (done, number, index) in &self.lines[..count] {
            let (kept, begun) = known.entry(*number).or_default();
            *begun = index + 1;
            if *done && is_durable(Payment { seed, number: *number }.life()[*index]) {
                *kept = index + 1;
            }
        }
        known
    }
}

fn found(record: Option<&PaymentRecord>) -> Found {
    record.map(|record| (record.state, record.attempt, record.request.is_some(), record.transaction.clone()))
}

/// Whether a ledger keeps what was promised; what it does not keep otherwise.
async fn check(folder: &Path, promises: &HashMap<u64, (usize, usize)>, seed: u64) -> Result<(), String> {
    let path = folder.join("tollgate.db");
    let url = LedgerUrl::Sqlite(path.clone());
    let ledger = ledger::open(&url, TAKEOVER_AFTER).await.map_err(|error| error.to_string())?;
    let mut records = HashMap::new();
    let mut after = None;
    loop {
        let page = ledger.list(&Filter::default(), after, 1_000).await.map_err(|error| error.to_string())?;
        let Some(last) = page.last() else { break };
        after = Some((last.claimed_at, last.id));
        records.extend(page.into_iter().map(|record| (record.id, record)));
    }
    for (number, (kept, begun)) in promises {
        let payment = Payment { seed, number: *number };
        let record = records.remove(&PaymentId(payment.hash()));
        if let Some((record, request)) =
            record.as_ref().and_then(|record| Some((record, record.request.as_ref()?)))
        {
            let intent = payment.intent();
            if (&record.particulars.facilitator, request) != (&intent.facilitator, &intent.request) {
                return Err(format!("payment {number}: another was asked, or for something else"));
            }
        }
        let found = found(record.as_ref());
        if !(*kept..=*begun).any(|steps| payment.after(steps) == found) {
            let life = payment.life();
            return Err(format!("payment {number}: {kept} to {begun} steps of {life:?}, and is {found:?}"));
        }
    }
    if let Some(record) = records.values().next() {
        return Err(format!("payment {} was never begun", record.id));
    }
    // It is not only readable: work goes on.
    ledger.beat(NOW).await.map_err(|error| error.to_string())?;
    let next = Payment { seed, number: u64::from(u32::MAX) };
    let mut token = ClaimToken { id: next.claim().id, attempt: 0, grant: 0 };
    for step in [Claim, Settling, Settled] {
        next.take(step, &*ledger, &mut token).await.map_err(|error| error.to_string())?;
    }
    drop(ledger);
    let database = rusqlite::Connection::open(&path).map_err(|error| error.to_string())?;
    let sound: String = database
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .map_err(|error| error.to_string())?;
    if sound == "ok" { Ok(()) } else { Err(sound) }
}

async fn check_all(log: &Path, seed: u64) {
    let promises = Promises::read(log);
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let (folder, count) = line.rsplit_once(' ').unwrap();
        let promises = promises.after(count.parse().unwrap(), seed);
        match check(Path::new(folder), &promises, seed).await {
            Ok(()) => println!("kept"),
            Err(what) => println!("LOST {}", what.replace('\n', "; ")),
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, path, seed] = arguments.as_slice() else { panic!("power work|broken|check PATH SEED") };
    let (path, seed) = (Path::new(path), seed.parse().expect("the seed is a number"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    match mode.as_str() {
        "work" => runtime.block_on(work(path, seed)),
        "broken" => runtime.block_on(broken(path, seed)),
        "check" => runtime.block_on(check_all(path, seed)),
        other => panic!("what is {other}?"),
    }
}
