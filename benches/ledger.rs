//! Claims and whole payments per second, and the time they add to a request, for each kind of ledger.
//!
//! ```text
//! cargo bench --bench ledger -- [--seconds N] [--settled N] [URL…]
//! ```
//!
//! Without a URL a file in the build folder is used: temporary folders are often in memory, where
//! nothing has to be waited for. `--settled` first fills such a file with payments of the past.
//! A PostgreSQL server must be there already: `postgres://user@host/database`.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tollgate::clock::{Clock as _, SystemClock, UnixSeconds};
use tollgate::ledger::settings::{LedgerUrl, TAKEOVER_AFTER};
use tollgate::ledger::{self, Claimed, DeliveryEnd, Intent, Ledger, Settlement};
use tollgate::x402::SettleResponse;

#[path = "cases/claims.rs"]
mod claims;

use claims::new_claim;

/// Requests at a time.
const AT_A_TIME: [usize; 3] = [1, 16, 256];

struct Arguments {
    seconds: u64,
    settled: u64,
    /// A file to fill, and nothing else.
    fill: Option<std::path::PathBuf>,
    urls: Vec<String>,
}

fn arguments() -> Arguments {
    let mut arguments = Arguments { seconds: 3, settled: 0, fill: None, urls: Vec::new() };
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        if argument == "--fill" {
            arguments.fill = given.next().map(Into::into);
            continue;
        }
        let mut number = || {
            given.next().and_then(|number| number.parse().ok()).unwrap_or_else(|| {
                eprintln!("{argument} needs a number");
                std::process::exit(2)
            })
        };
        match argument.as_str() {
            // Cargo says so by itself.
            "--bench" => {}
            "--seconds" => arguments.seconds = number(),
            "--settled" => arguments.settled = number(),
            url => arguments.urls.push(url.to_owned()),
        }
    }
    arguments
}

fn main() {
    let arguments = arguments();
    if let Some(path) = &arguments.fill {
        return fill(path, arguments.settled);
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (typical, slow) = time_of_fsync(folder.path());
    println!("fsync of 4 KiB: {} typical, {} at worst of 100\n", shown(typical), shown(slow));
    println!(
        "{:<34} {:<9} {:>9} {:>11} {:>10} {:>10}",
        "ledger", "step", "at a time", "per second", "p50", "p99"
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let urls =
        if arguments.urls.is_empty() { vec!["sqlite://bench.db".to_owned()] } else { arguments.urls.clone() };
    for url in &urls {
        let url = LedgerUrl::parse(url, folder.path()).unwrap_or_else(|error| panic!("{url} {error}"));
        if let LedgerUrl::Sqlite(path) = &url {
            runtime.block_on(ledger::open(&url, TAKEOVER_AFTER)).unwrap_or_else(|error| panic!("{error}"));
            fill_elsewhere(path, arguments.settled);
        }
        let ledger =
            runtime.block_on(ledger::open(&url, TAKEOVER_AFTER)).unwrap_or_else(|error| panic!("{error}"));
        runtime.block_on(ledger.beat(SystemClock.now())).unwrap();
        let name = match url {
            LedgerUrl::Memory => "SQLite in memory".to_owned(),
            LedgerUrl::Sqlite(_) => format!("SQLite, {} settled", arguments.settled),
            LedgerUrl::Postgres(_) => url.to_string(),
        };
        let time = Duration::from_secs(arguments.seconds);
        for at_a_time in AT_A_TIME {
            for (step, what) in [("claim", What::Claim), ("payment", What::Payment)] {
                let times = runtime.block_on(run(&ledger, what, at_a_time, time));
                report(&name, step, at_a_time, &times, time);
            }
        }
    }
    println!("\nresident memory at the most: {} MiB", memory_at_the_most_kib() / 1024);
    println!(
        "\nclaim: reserving a payment. payment: claim, settling, settled and delivered; p50 and p99 are what\n\
         the first three add to a request, the last comes after it. What settles is durable when it returns."
    );
}

fn report(name: &str, step: &str, at_a_time: usize, times: &[Duration], took: Duration) {
    let count = u32::try_from(times.len()).unwrap();
    let quantile = |permille: usize| times[(times.len() * permille / 1000).min(times.len() - 1)];
    println!(
        "{name:<34} {step:<9} {at_a_time:>9} {:>11.0} {:>10} {:>10}",
        f64::from(count) / took.as_secs_f64(),
        shown(quantile(500)),
        shown(quantile(990)),
    );
}

fn shown(time: Duration) -> String {
    format!("{:.3} ms", time.as_secs_f64() * 1000.0)
}

#[derive(Debug, Clone, Copy)]
enum What {
    Claim,
    Payment,
}

/// Does the same over and over, so many at a time; the times it took, in order of size.
async fn run(ledger: &Arc<dyn Ledger>, what: What, at_a_time: usize, time: Duration) -> Vec<Duration> {
    let end = Instant::now() + time;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..at_a_time {
        let ledger = Arc::clone(ledger);
        tasks.spawn(async move {
            let mut times = Vec::new();
            while Instant::now() < end {
                times.push(once(&*ledger, what).await);
            }
            times
        });
    }
    let mut times = tasks.join_all().await.concat();
    times.sort_unstable();
    times
}

async fn once(ledger: &dyn Ledger, what: What) -> Duration {
    let (claim, now) = (new_claim(), SystemClock.now());
    let response = response();
    let start = Instant::now();
    let Ok(Claimed::New(token)) = ledger.claim(&claim, now).await else { panic!("not claimed") };
    if matches!(what, What::Payment) {
        ledger.settling(token, intent(), now).await.unwrap();
        let settlement = Settlement { response: &response, deliver: true, unique_transaction: false };
        ledger.settled(token, settlement, now).await.unwrap();
    }
    let time = start.elapsed();
    if matches!(what, What::Payment) {
        ledger.delivered(token, DeliveryEnd::Complete, now).await.unwrap();
    }
    time
}

/// With a request about as long as what is kept of a real one.
fn intent() -> Intent {
    static TEXT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let request = TEXT.get_or_init(|| format!("{{\"body\":\"{}\"}}", "x".repeat(1_500)));
    let facilitator = "facilitator.example".to_owned();
    Intent { facilitator, request: request.clone(), unique_transaction: false, payer: None }
}

fn response() -> SettleResponse {
    SettleResponse {
        success: true,
        error_reason: None,
        payer: Some("0xF39Fd6e51aad88F6F4ce6aB8827279cffFb92266".into()),
        transaction: format!("0x{}", "ab".repeat(32)),
        network: "eip155:8453".into(),
        amount: None,
        extra: None,
        extensions: None,
    }
}

/// Of this process, since it started.
fn memory_at_the_most_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// What the disk itself takes to make 4 KiB durable: typically, and at worst of a hundred times.
fn time_of_fsync(folder: &Path) -> (Duration, Duration) {
    let mut file = std::fs::File::create(folder.join("fsync")).unwrap();
    let mut times: Vec<Duration> = (0..100)
        .map(|_| {
            let start = Instant::now();
            file.seek(SeekFrom::End(0)).unwrap();
            file.write_all(&[0x5a; 4096]).unwrap();
            file.sync_all().unwrap();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    (times[50], times[99])
}

/// Fills a file in a process of its own, so that the memory it takes is not taken for the ledger's.
fn fill_elsewhere(path: &Path, count: u64) {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    let child = child.arg("--settled").arg(count.to_string()).arg("--fill").arg(path);
    assert!(child.status().unwrap().success());
}

/// Puts payments of the past into a file that no gateway uses: settled, delivered, by many payers.
fn fill(path: &Path, count: u64) {
    if count == 0 {
        return;
    }
    let start = Instant::now();
    let connection = rusqlite::Connection::open(path).unwrap();
    connection
        .execute_batch(
            "PRAGMA synchronous = OFF; PRAGMA cache_size = -1048576; PRAGMA wal_autocheckpoint = 100000",
        )
        .unwrap();
    let UnixSeconds(now) = SystemClock.now();
    let chunk = 100_000;
    for first in (0..count).step_by(100_000) {
        let sql = "INSERT INTO payments (id, attempt, payer, network, asset, amount, pay_to, scheme, version, route,
                method, resource, facilitator, expires, request_hash, repeatable, redelivery_seconds,
                redelivery_tries, claimed_at, state, unique_transaction, response, transaction_id, reason,
                deliveries, grant_number, tries, settling_at, settled_at, delivered_at, changed_at)
            WITH RECURSIVE numbers (number, time) AS (
                SELECT ?1, ?2 UNION ALL SELECT number + 1, ?2 + number / 100 FROM numbers WHERE number < ?3
            )
            SELECT randomblob(32), 1, '0x' || hex(randomblob(20)), 'eip155:8453',
                '0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913', '10000', '0x209693Bc6afc0C5328bA36FaF03C514EF312287C',
                'exact', 2, 'articles', 'GET', 'https://shop.example/articles/2026/an-article-of-the-shop',
                'facilitator.example', time + 300, randomblob(32), 1, 300, 2, time, 'delivered', 0, ?4,
                '0x' || hex(randomblob(32)), '', 1, number, 0, time, time, time, time
            FROM numbers";
        let last = (first + chunk).min(count) - 1;
        let time = now.saturating_sub(count / 100);
        let answer = serde_json::to_string(&response()).unwrap();
        let [first, last, time] = [first, last, time].map(|number| i64::try_from(number).unwrap());
        connection.execute(sql, rusqlite::params![first, time, last, answer]).unwrap();
    }
    println!("filled with {count} payments in {:.0} s", start.elapsed().as_secs_f64());
}
