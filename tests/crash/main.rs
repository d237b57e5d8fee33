//! The crash test: the real gateway under load, killed with SIGKILL at every boundary of a payment's
//! life and at random instants, started again on the same ledger; afterwards the ledger, the chain and
//! what clients received must agree.
//!
//! Money moves on a local chain with a real token, settled by a facilitator that lives on when the
//! gateway dies. A round has a gateway with a ledger of its own, [`round::TRIES`] as the bound of what
//! may be fetched again, and a seed from which every decision of the harness follows:
//!
//! - `TOLLGATE_CRASH_KILLS`: how many kills, in rounds side by side;
//! - `TOLLGATE_CRASH_SEED`: runs the round of one seed, as a failure tells it.
//!
//! A seed repeats what the harness does, not how the machine's threads take turns: a failure that is a
//! matter of microseconds may need several runs to show again.

#![allow(unreachable_pub, missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod books;
mod buyer;
mod check;
mod dice;
mod facilitator;
mod origin;
mod process;
mod purchase;
mod report;
mod round;
#[path = "../it/support/mod.rs"]
#[allow(dead_code, unused_imports, clippy::format_push_string)]
mod support;
mod trap;
mod wire;

use std::sync::Arc;

use alloy_primitives::B256;
use tokio::task::JoinSet;

use dice::Dice;
use report::Report;
use round::{Outcome, Plan};
use support::anvil::Anvil;
use trap::Boundary;

/// Kills without a word from the environment: enough for every boundary, and quick.
const KILLS: usize = 208;
/// Kills of one round.
const KILLS_PER_ROUND: usize = 16;
/// Rounds at a time.
const SIDE_BY_SIDE: usize = 3;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_gateway_that_is_killed_at_any_instant_loses_no_payment_and_takes_none_twice() {
    let kills = number("TOLLGATE_CRASH_KILLS").map_or(KILLS, |kills| usize::try_from(kills).unwrap());
    let plan = |seed| Plan { seed, kills: KILLS_PER_ROUND, ledger: "sqlite://ledger.db" };
    let plans: Vec<Plan> = if let Some(seed) = number("TOLLGATE_CRASH_SEED") {
        vec![plan(seed)]
    } else {
        let mut dice = Dice::new(u64::from_be_bytes(B256::random()[..8].try_into().unwrap()));
        (0..kills.div_ceil(KILLS_PER_ROUND)).map(|_| plan(dice.next() >> 32)).collect()
    };
    let seeds: Vec<String> = plans.iter().map(|plan| plan.seed.to_string()).collect();
    println!("seeds: {}", seeds.join(" "));
    let is_whole = plans.len() > 1;
    let Outcome { report, faults } = run_all(plans).await;
    println!("{report}");
    let first = faults.iter().take(5).map(String::as_str).collect::<Vec<_>>().join("\n\n");
    assert!(
        faults.is_empty(),
        "{} faults; repeat with TOLLGATE_CRASH_SEED=… cargo test --test crash\n\n{first}\n\n{report}",
        faults.len()
    );
    if is_whole {
        for boundary in Boundary::ALL {
            assert!(report.get(&format!("kills: {boundary:?}")) > 0, "no kill at {boundary:?}");
        }
        for state in ["claimed", "settling", "unresolved", "settled"] {
            assert!(report.get(&format!("payments {state} at a kill")) > 0, "no kill while {state}");
        }
    }
}

/// The harness itself is tried on a ledger that forgets: it must see what is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_ledger_that_forgets_is_found_out() {
    let plan = Plan { seed: 1, kills: KILLS_PER_ROUND, ledger: "sqlite::memory:" };
    let Outcome { faults, .. } = run_all(vec![plan]).await;
    let found = |text: &str| faults.iter().any(|fault| fault.contains(text));
    assert!(found("settled, and lost to its payer"), "{faults:#?}");
    assert!(found("the money moved, and the ledger does not say so"), "{faults:#?}");
}

async fn run_all(plans: Vec<Plan>) -> Outcome {
    let anvil = Arc::new(Anvil::start().await);
    let mut waiting = plans.into_iter();
    let (mut running, mut all) = (JoinSet::new(), Outcome { report: Report::default(), faults: Vec::new() });
    loop {
        while running.len() < SIDE_BY_SIDE
            && let Some(plan) = waiting.next()
        {
            let anvil = Arc::clone(&anvil);
            running.spawn(async move { round::run(plan, &anvil).await });
        }
        let Some(outcome) = running.join_next().await else { return all };
        let outcome = outcome.unwrap();
        all.report.merge(&outcome.report);
        all.faults.extend(outcome.faults);
    }
}
