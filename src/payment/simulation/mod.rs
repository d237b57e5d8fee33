//! A seeded simulation of admission, settlement and delivery: gateways that are killed, facilitators
//! that lose, delay and refuse, a ledger that fails before or after it has written, clients that leave
//! and come back, prices that differ from gateway to gateway. Time is simulated, so an hour takes
//! milliseconds, and a seed repeats its run.
//!
//! `TOLLGATE_SIMULATION_SEED=n` runs one seed, `TOLLGATE_SIMULATION_RUNS=n` so many.

mod clients;
mod ledger;
mod members;
mod world;

use std::sync::Arc;
use std::time::Duration;

use self::world::World;
use crate::ledger::{Accounts as _, Filter, PaymentState};

/// Runs in the usual test.
const RUNS: u64 = 3_000;
/// When everything that goes wrong stops going wrong.
const HEALED_AFTER: Duration = Duration::from_secs(90);
/// When everything must have come to an end.
const ENDS_AFTER: Duration = Duration::from_secs(1_500);

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[test]
fn whatever_fails_nothing_is_delivered_unpaid_or_twice_and_nothing_stays_unresolved() {
    let seeds = match number("TOLLGATE_SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TOLLGATE_SIMULATION_RUNS").unwrap_or(RUNS),
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let totals = std::thread::scope(|scope| {
        let part = |first| {
            scope.spawn({
                let seeds = seeds.clone();
                move || run_all(seeds.skip(first).step_by(threads))
            })
        };
        let running: Vec<_> = (0..threads).map(part).collect();
        let mut totals = world::Totals::default();
        for part in running {
            totals.add(&part.join().unwrap());
        }
        totals
    });
    println!("{totals:?}");
    // A simulation in which nothing happens would prove nothing.
    if number("TOLLGATE_SIMULATION_SEED").is_none() {
        totals.assert_that_everything_happened();
    }
}

fn run_all(seeds: impl Iterator<Item = u64>) -> world::Totals {
    let mut totals = world::Totals::default();
    for seed in seeds {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (broken, counted) = runtime.block_on(run(seed));
        assert!(
            broken.is_empty(),
            "seed {seed} (repeat with TOLLGATE_SIMULATION_SEED={seed}):\n{}",
            broken.join("\n")
        );
        totals.add(&counted);
    }
    totals
}

async fn run(seed: u64) -> (Vec<String>, world::Totals) {
    let world = World::new(seed);
    let mut tasks = clients::start(&world);
    let reaper = tokio::spawn(world::reap(Arc::clone(&world)));
    tokio::time::sleep(HEALED_AFTER).await;
    reaper.abort();
    world.heal();
    let deadline =
        tokio::time::timeout(ENDS_AFTER, async { while tasks.join_next().await.is_some() {} }).await;
    assert!(deadline.is_ok(), "seed {seed}: clients are still waiting for an answer");
    // Time for the last back-offs to run out.
    tokio::time::sleep(ENDS_AFTER).await;
    check(&world).await;
    (world.violations(), world.totals())
}

/// What must be true when everything has come to an end.
async fn check(world: &World) {
    let records = world.ledger().list(&Filter::default(), None, 10_000).await.unwrap();
    for record in &records {
        let paid = world.paid(record.id);
        let (id, state) = (record.id, record.state);
        let consistent = match state {
            PaymentState::Settled | PaymentState::Delivered => paid.is_some(),
            PaymentState::Declined | PaymentState::Released => paid.is_none(),
            PaymentState::Claimed | PaymentState::Settling | PaymentState::Unresolved => false,
        };
        if !consistent {
            let reason = &record.reason;
            world.violated(id, &format!("ended as {state} ({reason}), on the chain: {paid:?}"));
        }
        if paid.is_some_and(|transaction| transaction != record.transaction) {
            world.violated(id, &format!("names {} instead of its transaction", record.transaction));
        }
    }
    for id in world.all_paid() {
        if !records.iter().any(|record| record.id == id) {
            world.violated(id, "was paid and the ledger knows nothing of it");
        }
    }
    assert_eq!(world.open_work(), 0, "steps are still under way");
}
