//! One round: a gateway with a new ledger under load, killed and started again many times.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use alloy_primitives::Address;
use serde_json::Value;
use tokio::task::JoinSet;

use super::books;
use super::buyer::Market;
use super::check::{Evidence, Killed};
use super::dice::Dice;
use super::facilitator::{Facilitator, Manner, SETTLE_TIMEOUT};
use super::origin::Origin;
use super::process::Process;
use super::purchase::{Buyer, What};
use super::report::Report;
use super::support::Payer;
use super::support::anvil::Anvil;
use super::trap::{Moment, Trap};
use super::wire::{self, Answer};

/// Where the gateway says that it is.
pub const PUBLIC_URL: &str = "https://shop.example";
/// How many times a delivery that broke off may be fetched again.
pub const TRIES: u32 = 12;
/// Clients at a time.
const CLIENTS: usize = 20;
/// What each of them starts with, in atomic units; nobody spends so much.
const BALANCE: u64 = 1_000_000_000_000;
/// How long a boundary is waited for before the gateway is killed anyway.
const BOUNDARY_PATIENCE: Duration = Duration::from_secs(3);
/// How long it may take until nothing is unresolved once nobody is killed any more.
const RESOLUTION_PATIENCE: Duration = Duration::from_secs(60);

/// What a round is made of.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub seed: u64,
    pub kills: usize,
    /// Where the ledger is, as the gateway is told.
    pub ledger: &'static str,
}

/// What came of it.
pub struct Outcome {
    pub report: Report,
    pub faults: Vec<String>,
}

/// A round while it runs.
struct Round {
    plan: Plan,
    begun: Instant,
    process: Arc<Process>,
    trap: Arc<Trap>,
    market: Arc<Market>,
    kills: Vec<Killed>,
    report: Report,
}

/// Runs a round.
pub async fn run(plan: Plan, anvil: &Arc<Anvil>) -> Outcome {
    let mut dice = Dice::new(plan.seed);
    let payee = Payer::new().address();
    let since = books::height(anvil).await;
    let manner = if dice.percent(50) { Manner::Remembers } else { Manner::Forgets };
    let (mut round, clients) = Round::open(plan, manner, payee, anvil, &mut dice).await;
    let clients = round.send_in(clients, &mut dice);
    for moment in Moment::plan(plan.kills, &mut dice) {
        round.kill(moment).await;
    }
    round.process.ready().await;
    let mut faults = round.close(clients).await;
    round.process.kill();
    round.process.buried().await;
    let evidence = Evidence {
        begun: round.begun,
        sold: round.market.origin.sold(),
        ledger: books::ledger(&round.process),
        transfers: books::transfers(anvil, payee, since).await,
        kills: std::mem::take(&mut round.kills),
    };
    round.count(&evidence);
    faults.extend(evidence.faults(&mut round.report));
    faults.extend(round.process.complaint());
    round.report.count(format!("rounds with a facilitator that {}", manner.verb()));
    round.outcome(faults)
}

impl Round {
    async fn open(
        plan: Plan,
        manner: Manner,
        payee: Address,
        anvil: &Arc<Anvil>,
        dice: &mut Dice,
    ) -> (Self, Vec<(Payer, Payer)>) {
        // The facilitator and the origin need the trap, which needs the gateway, which needs both.
        let ports = (reserve().await, reserve().await);
        let config = config(plan, manner, payee, anvil, (ports.0.port, ports.1.port));
        let process = Arc::new(Process::new(&config));
        let trap = Arc::new(Trap::new(Arc::clone(&process)));
        let origin = Origin::open(ports.0.listener, &trap, dice.fork());
        Facilitator::open(ports.1.listener, manner, &trap, anvil, dice.fork()).await;
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let rich = Payer::new();
            anvil.mint(rich.address(), BALANCE).await;
            clients.push((rich, Payer::new()));
        }
        let begun = Instant::now();
        process.start();
        process.ready().await;
        let (late, early) = (required(&process, "/late/x").await, required(&process, "/early/x").await);
        let market = Arc::new(Market {
            address: process.address,
            trap: Arc::clone(&trap),
            origin,
            late,
            early,
            closing: AtomicBool::new(false),
            numbers: AtomicU32::new(0),
        });
        let round = Self { plan, begun, process, trap, market, kills: Vec::new(), report: Report::default() };
        (round, clients)
    }

    fn send_in(&self, clients: Vec<(Payer, Payer)>, dice: &mut Dice) -> JoinSet<()> {
        let mut running = JoinSet::new();
        for (rich, poor) in clients {
            running.spawn(Arc::clone(&self.market).shop(rich, poor, dice.fork()));
        }
        running
    }

    /// Kills the gateway at a moment, looks at what it left, and starts it again.
    async fn kill(&mut self, moment: Moment) {
        match moment {
            Moment::At(boundary, nth, delay) => {
                let caught = self.trap.catch(boundary, nth, delay, BOUNDARY_PATIENCE).await;
                let name =
                    if caught { moment.name() } else { format!("{} (not seen in time)", moment.name()) };
                self.report.count(format!("kills: {name}"));
            }
            Moment::Anywhere(after) => {
                self.process.ready().await;
                tokio::time::sleep(after).await;
                self.report.count(format!("kills: {}", moment.name()));
            }
            Moment::Starting(after) => {
                tokio::time::sleep(after).await;
                self.report.count(format!("kills: {}", moment.name()));
            }
        }
        self.process.kill();

        let at = self.process.buried().await;

        let ledger = books::ledger(&self.process);

        self.process.start();
        for state in ["claimed", "settling", "unresolved", "settled"] {
            let count = ledger
                .values()
                .filter(|row| row.state == state && (row.is_held || state == "unresolved"))
                .count();
            self.report.add(format!("payments {state} at a kill"), count as u64);
        }
        self.kills.push(Killed { at, ledger });
    }

    /// Lets everybody finish, and says who could not.
    async fn close(&mut self, mut clients: JoinSet<()>) -> Vec<String> {
        self.market.closing.store(true, Ordering::Release);
        while let Some(client) = clients.join_next().await {
            client.unwrap();
        }
        let mut faults = Vec::new();
        let sold = self.market.origin.sold();
        // Those who left come for what they paid for, or pay for it now.
        let mut returning = JoinSet::new();
        for purchase in sold.iter().map(|sold| Arc::clone(&sold.purchase)) {
            let market = Arc::clone(&self.market);
            if purchase.buyer == Buyer::Leaves && purchase.wholes().is_empty() {
                returning.spawn(async move { market.persist(&purchase).await });
            }
        }
        while let Some(what) = returning.join_next().await {
            self.report.count(match what.unwrap() {
                What::Whole(_) => "came back and got it",
                _ => "came back and did not get it",
            });
        }
        faults.extend(self.wait_until_resolved().await);
        // Once nobody is killed, what was delivered is not delivered again, whoever asks.
        for purchase in sold.iter().map(|sold| &sold.purchase).filter(|one| !one.wholes().is_empty()).take(15)
        {
            let before = purchase.wholes().len();
            self.market.persist(purchase).await;
            self.market.persist(purchase).await;
            if purchase.wholes().len() > before + 1 {
                faults.push(format!("still delivered again: {}", purchase.describe(self.begun)));
            }
        }
        faults.extend(self.wait_until_resolved().await);
        faults
    }

    /// Waits until the gateway says that nothing is in flight or unresolved.
    async fn wait_until_resolved(&self) -> Option<String> {
        let deadline = Instant::now() + RESOLUTION_PATIENCE;
        loop {
            let page = match wire::get(self.process.admin, "/metrics").await {
                Answer::Whole(_, body) => String::from_utf8(body).unwrap(),
                Answer::Part(..) | Answer::Nothing => String::new(),
            };
            let value = |name: &str| {
                page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok())
            };
            let held = ["claimed", "settling", "unresolved"]
                .map(|state| value(&format!("tollgate_payments_held{{state=\"{state}\"}}")));
            let open = [held.as_slice(), &[value("tollgate_settlements_in_flight")]].concat();
            if open.iter().all(|count| *count == Some(0)) {
                return None;
            }
            if Instant::now() > deadline {
                return Some(format!("after {RESOLUTION_PATIENCE:?} these are still held: {open:?}"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn count(&mut self, evidence: &Evidence) {
        let report = &mut self.report;
        report.add("kills", evidence.kills.len() as u64);
        report.add("payments signed", evidence.sold.len() as u64);
        report.add("payments settled on the chain", evidence.transfers.len() as u64);
        for told in evidence.sold.iter().flat_map(|sold| sold.purchase.story()) {
            report.count(match told.what {
                What::Whole(_) => "presented: whole answer".to_owned(),
                What::Part(_) => "presented: answer broke off".to_owned(),
                What::Wrong(_) => "presented: wrong answer".to_owned(),
                What::No(status, reason) => format!("presented: {status} {reason}"),
                What::Later(status) => format!("presented: {status}"),
                What::Nothing => "presented: no answer".to_owned(),
            });
        }
        let log = self.process.log();
        for text in [
            "an unresolved payment was settled",
            "took over what a gateway left behind",
            "somebody else submitted",
            "an unresolved payment was not settled",
        ] {
            let count = log.lines().filter(|line| line.contains(text)).count();
            report.add(format!("log: {text}"), count as u64);
        }
    }

    fn outcome(self, faults: Vec<String>) -> Outcome {
        let Self { plan, process, report, trap, market, .. } = self;
        drop((trap, market));
        let faults = faults
            .into_iter()
            .map(|fault| format!("seed {}: {fault}\n  log: {}", plan.seed, process.file("log").display()))
            .collect::<Vec<_>>();
        if !faults.is_empty() {
            process.keep();
        }
        Outcome { report, faults }
    }
}

fn config(plan: Plan, manner: Manner, payee: Address, anvil: &Anvil, ports: (u16, u16)) -> String {
    let chain = match manner {
        Manner::Remembers => String::new(),
        // What it settled itself looks used to it: only the chain knows by whom and for whom.
        Manner::Forgets => format!("[chains.base-sepolia]\nrpc = \"{}\"\naccept_used = false\n", anvil.url),
    };
    let ((origin, facilitator), ledger) = (ports, plan.ledger);
    let settle_timeout = SETTLE_TIMEOUT.as_millis();
    format!(
        "upstream = \"http://127.0.0.1:{origin}\"\nfacilitator = \"till\"\nnetwork = \"base-sepolia\"\n\
         pay_to = \"{payee}\"\npublic_url = \"{PUBLIC_URL}\"\n\
         [[routes]]\nname = \"late\"\npath = \"/late/*\"\nprice = \"$0.01\"\nmax_timeout_seconds = 3600\n\
         [[routes]]\nname = \"early\"\npath = \"/early/*\"\nprice = \"$0.02\"\nmax_timeout_seconds = 3600\n\
         settle = \"before-request\"\n\
         [facilitators.till]\nurl = \"http://127.0.0.1:{facilitator}\"\nsettle_timeout_ms = {settle_timeout}\n\
         [ledger]\nurl = \"{ledger}\"\n[redelivery]\ntries = {TRIES}\n{chain}"
    )
}

/// What the gateway asks for on a path.
async fn required(process: &Process, path: &str) -> Value {
    match wire::get(process.address, path).await {
        Answer::Whole(head, _) if head.status == 402 => head.decoded("payment-required").unwrap(),
        other => panic!("{path}: {other:?}\n{}", process.log()),
    }
}

/// A port that is ours already.
struct Reserved {
    listener: tokio::net::TcpListener,
    port: u16,
}

async fn reserve() -> Reserved {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    Reserved { listener, port }
}
