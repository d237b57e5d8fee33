//! `ledger reconcile`: whether the books and the chain say the same.
//!
//! For each network: the payments of the period are read ([`entry`]), what their payees received is
//! asked from the chain ([`transfers`]), the two are matched ([`compare`]), unresolved payments are
//! looked up one by one ([`open`]), and what does not agree is written ([`report`]).

mod compare;
mod entry;
mod open;
mod report;
#[cfg(test)]
mod tests;
mod transfers;

use std::collections::{BTreeMap, BTreeSet};

use super::books::Books;
use super::text::counted;
use super::{Exit, Stop, World, when};
use crate::chain::{Chain, EvmChain};
use crate::clock::UnixSeconds;
use crate::config::Config;
use crate::ledger::Accounts;
use crate::x402::Network;
use compare::compare;
use entry::{Ledgered, Payee};
use report::Report;

/// How far a payment's claim and its transfer can be apart: payments are valid for at most a day
/// longer than their offer, and anybody may have submitted one before it was presented.
const APART_SECONDS: u64 = 25 * 3600;
/// How far the gateway's clock and the chain's may be apart.
const SKEW_SECONDS: u64 = 300;

/// The time that is compared: payments by their claim, transfers by their block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Period {
    /// From then on.
    pub(super) since: UnixSeconds,
    /// Before then.
    pub(super) until: UnixSeconds,
}

impl Period {
    fn holds(self, time: UnixSeconds) -> bool {
        (self.since..self.until).contains(&time)
    }

    /// With what may belong to it on both sides.
    fn widened(self) -> Self {
        Self {
            since: UnixSeconds(self.since.0.saturating_sub(APART_SECONDS)),
            until: self.until.plus(APART_SECONDS),
        }
    }
}

/// A network whose chain can be asked, and the accounts the configuration takes money on there.
pub(super) struct Place {
    chain: Box<dyn Chain>,
    payees: BTreeSet<Payee>,
}

/// Compares the books of a configuration with its chains.
///
/// # Errors
/// When nothing can be compared, the books cannot be read, or the report cannot be written.
pub(super) async fn run(
    accounts: &dyn Accounts,
    books: &mut Books,
    period: Period,
    json: bool,
    world: &mut World<'_>,
) -> Result<Exit, Stop> {
    let Some(config) = &books.config else {
        let message = "no configuration is there that says which chains to ask: name it with --config FILE";
        return Err(Stop::Failed(message.to_owned()));
    };
    let places = places(config)?;
    if places.is_empty() {
        let message =
            "the configuration has no chain to compare with: add [chains.NAME] with the URL of a node";
        return Err(Stop::Failed(message.to_owned()));
    }
    let mut report = Report::new(&mut books.coins, json, world);
    compare_all(accounts, &places, period, &mut report).await
}

/// The networks whose chains can be asked.
fn places(config: &Config) -> Result<BTreeMap<Network, Place>, Stop> {
    let mut places = BTreeMap::new();
    for settings in &config.chains {
        let chain = EvmChain::new(settings).map_err(Stop::Failed)?;
        let place = Place { chain: Box::new(chain), payees: BTreeSet::new() };
        places.insert(settings.network.clone(), place);
    }
    for accept in config.routes.all().filter_map(|route| route.offer()).flat_map(|offer| &offer.accepts) {
        let terms = &accept.requirements;
        if let Some(place) = places.get_mut(&terms.network)
            && let Some(payee) = Payee::read(&terms.asset, &terms.pay_to)
        {
            place.payees.insert(payee);
        }
    }
    Ok(places)
}

/// Compares every place; one whose chain does not answer keeps no other from being compared.
async fn compare_all(
    accounts: &dyn Accounts,
    places: &BTreeMap<Network, Place>,
    period: Period,
    report: &mut Report<'_, '_>,
) -> Result<Exit, Stop> {
    let mut ledgered = Ledgered::read(accounts, places, period).await?;
    let mut failed = false;
    for (network, place) in places {
        let entries = ledgered.take(network);
        let settled =
            entries.paid.iter().filter(|entry| entry.inside).filter_map(|entry| entry.settled_at).max();
        let last = settled.max(Some(period.until)).unwrap_or(period.until).plus(SKEW_SECONDS);
        let asked = Period { since: period.widened().since, until: last };
        let payees: BTreeSet<Payee> = place.payees.iter().copied().chain(entries.payees()).collect();
        let transfers = match transfers::received(&*place.chain, &payees, asked).await {
            Ok(transfers) => transfers,
            Err(error) => {
                report.failure(network, &format!("its chain cannot be read: {error}"))?;
                failed = true;
                continue;
            }
        };
        let looked_up = open::look_up(&*place.chain, &entries.unresolved).await;
        failed |= looked_up.iter().any(|(_, state)| matches!(state, open::Looked::Failed(_)));
        let counts = (entries.paid.iter().filter(|entry| entry.inside).count(), transfers.len());
        let findings = compare(entries, looked_up, transfers, &place.payees, period);
        report.network(network, &findings, counts, period)?;
    }
    for (what, count) in ledgered.left_out {
        report.note(&format!("not compared: {} {what}", counted(count, "payment")))?;
    }
    Ok(if failed {
        Exit::Failed
    } else if report.differences > 0 {
        Exit::Not
    } else {
        Exit::Done
    })
}

/// `from … until …`, for the report.
fn words(period: Period) -> String {
    format!("from {} until {}", when::shown(period.since), when::shown(period.until))
}
