//! What must be true afterwards: the ledger, the chain and what clients received agree.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::Instant;

use alloy_primitives::{Address, B256, U256};
use tollgate::scheme::PaymentId;

use super::books::{Ledger, Row, Transfer};
use super::origin::Sold;
use super::purchase::{Buyer, Purchase, Told, Way, What};
use super::report::Report;
use super::round::TRIES;

/// One kill, and the ledger as it was left.
pub struct Killed {
    pub at: Instant,
    pub ledger: Ledger,
}

/// All that is known after a round.
pub struct Evidence {
    pub begun: Instant,
    pub sold: Vec<Sold>,
    pub kills: Vec<Killed>,
    pub ledger: Ledger,
    pub transfers: Vec<Transfer>,
}

/// What one purchase is judged by.
struct Case<'a> {
    sold: &'a Sold,
    row: Option<&'a Row>,
    /// What the chain says of it.
    paid: Vec<&'a Transfer>,
    wholes: Vec<Told>,
    kills: &'a [Killed],
}

impl Evidence {
    /// Everything that is not as promised; the report is told what else there was to see.
    pub fn faults(&self, report: &mut Report) -> Vec<String> {
        let mut by_nonce: HashMap<(Address, B256), Vec<&Transfer>> = HashMap::new();
        for transfer in &self.transfers {
            by_nonce.entry((transfer.payer, transfer.nonce)).or_default().push(transfer);
        }
        let mut faults = Vec::new();
        let mut known: HashSet<PaymentId> = HashSet::new();
        for sold in &self.sold {
            let purchase = &sold.purchase;
            known.insert(purchase.id);
            let case = Case {
                sold,
                row: self.ledger.get(&purchase.id),
                paid: by_nonce.remove(&(purchase.payer, purchase.nonce)).unwrap_or_default(),
                wholes: purchase.wholes(),
                kills: &self.kills,
            };
            let mut found = Vec::new();
            case.judge(&mut found, report);
            if !found.is_empty() {
                faults.push(self.describe(&case, &found));
            }
        }
        faults.extend(by_nonce.keys().map(|key| format!("money moved that nobody paid here: {key:?}")));
        let strangers = self.ledger.keys().filter(|id| !known.contains(id));
        faults.extend(strangers.map(|id| format!("the ledger knows a payment that nobody made: {id}")));
        let taken: U256 = self.transfers.iter().map(|transfer| transfer.amount).sum();
        let booked: U256 = self.ledger.values().filter(|row| is_settled(row)).map(|row| row.amount).sum();
        if taken != booked {
            faults.push(format!("the payee received {taken}, the ledger says {booked}"));
        }
        faults
    }

    fn describe(&self, case: &Case<'_>, found: &[String]) -> String {
        let at = |time: Instant| time.saturating_duration_since(self.begun).as_secs_f64() * 1000.0;
        let kills: Vec<String> = self
            .kills
            .iter()
            .filter_map(|kill| kill.ledger.get(&case.sold.purchase.id).map(|row| (kill, row)))
            .map(|(kill, row)| format!("    {:9.1} ms  killed while {}", at(kill.at), brief(row)))
            .collect();
        let paid = &case.paid;
        format!(
            "{}\n  {}\n  ledger in the end: {}\n  chain: {paid:?}\n  origin: {:?}\n{}",
            found.join("; "),
            case.sold.purchase.describe(self.begun),
            case.row.map_or_else(|| "nothing".to_owned(), brief),
            case.sold.asked,
            kills.join("\n"),
        )
    }
}

fn brief(row: &Row) -> String {
    let Row { state, transaction, deliveries, is_held, reason, .. } = row;
    let held = if *is_held { ", held" } else { "" };
    format!("{state}{held}, {deliveries} deliveries, {transaction} {reason}")
}

fn is_settled(row: &Row) -> bool {
    matches!(row.state.as_str(), "settled" | "delivered")
}

impl Case<'_> {
    fn judge(&self, faults: &mut Vec<String>, report: &mut Report) {
        self.judge_money(faults);
        self.judge_deliveries(faults, report);
        self.judge_loss(faults, report);
        self.judge_origin(faults);
    }

    fn purchase(&self) -> &Purchase {
        &self.sold.purchase
    }

    /// None settled twice, none left unresolved, and the ledger says of each what the chain says.
    fn judge_money(&self, faults: &mut Vec<String>) {
        if self.paid.len() > 1 {
            faults.push("settled twice".to_owned());
        }
        if self.purchase().given_up.load(Ordering::Acquire) {
            faults.push("presented for a long time without a definite answer".to_owned());
        }
        if let Some(row) = self.row.filter(|row| !is_settled(row) && !is_given_back(row)) {
            faults.push(format!("left {}", row.state));
        }
        let booked = self.row.is_some_and(is_settled);
        match (self.paid.first(), booked) {
            (Some(_), false) => faults.push("the money moved, and the ledger does not say so".to_owned()),
            (None, true) => faults.push("the ledger says that money moved, and it did not".to_owned()),
            (Some(paid), true) => {
                let row = self.row.unwrap();
                if row.transaction.parse() != Ok(paid.transaction) {
                    faults.push("the ledger names another transaction".to_owned());
                }
                if paid.amount != self.purchase().amount || row.amount != paid.amount {
                    faults.push("another amount".to_owned());
                }
            }
            (None, false) => {}
        }
    }

    /// None delivered unpaid, none delivered twice but for what a crash leaves open.
    fn judge_deliveries(&self, faults: &mut Vec<String>, report: &mut Report) {
        let paid = self.paid.first();
        if paid.is_none() && self.purchase().has_something() {
            faults.push("delivered unpaid".to_owned());
        }
        for told in self.purchase().story() {
            match told.what {
                What::Whole(transaction) if transaction != paid.map(|paid| paid.transaction) => {
                    faults.push("delivered with a receipt for another transaction".to_owned());
                }
                What::Wrong(what) => faults.push(format!("delivered something else: {what}")),
                _ => {}
            }
        }
        // The client had all of it and the ledger did not know that yet: one more is within the tries.
        for pair in self.wholes.windows(2) {
            if self.was_killed_before_it_was_known(&pair[0], &pair[1]) {
                report.count("delivered once more after a kill before the ledger knew of the end");
            } else {
                faults.push("delivered twice".to_owned());
            }
        }
        if let Some(row) = self.row.filter(|row| row.deliveries > 1 + TRIES) {
            faults.push(format!("{} deliveries were begun", row.deliveries));
        }
        if self.wholes.len() > 1 + TRIES as usize {
            faults.push("more deliveries than tries".to_owned());
        }
    }

    fn was_killed_before_it_was_known(&self, first: &Told, second: &Told) -> bool {
        let id = self.purchase().id;
        self.kills.iter().any(|kill| {
            let between = kill.at > first.begun && kill.at < second.ended;
            between && kill.ledger.get(&id).is_some_and(|row| row.state == "settled")
        })
    }

    /// Nothing that was settled is lost to its payer, and whoever can pay gets what is sold.
    fn judge_loss(&self, faults: &mut Vec<String>, report: &mut Report) {
        let purchase = self.purchase();
        if purchase.buyer == Buyer::Poor {
            let refused = purchase.story().iter().any(|told| matches!(told.what, What::No(402, _)));
            if !refused {
                faults.push("somebody without money was not refused".to_owned());
            }
            return;
        }
        if !self.wholes.is_empty() {
            return;
        }
        let at_kill = |held: bool| {
            let id = purchase.id;
            self.kills
                .iter()
                .filter_map(|kill| kill.ledger.get(&id))
                .any(|row| row.state == "settled" && row.is_held == held && row.deliveries > 0)
        };
        let is_delivered = self.row.is_some_and(|row| row.state == "delivered");
        if purchase.method == "POST" && at_kill(true) {
            // Only what was asked for with GET or HEAD can be fetched again.
            report.count("POST lost: the gateway was killed between settlement and the end of the answer");
        } else if purchase.buyer == Buyer::Leaves && is_delivered {
            // All was sent; that nobody was there to read it cannot be seen.
            report.count("sent to its end to a client that had left");
        } else if self.paid.is_empty() {
            faults.push("a good payment bought nothing".to_owned());
        } else {
            faults.push("settled, and lost to its payer".to_owned());
        }
    }

    /// The origin is told of each payment what is true.
    fn judge_origin(&self, faults: &mut Vec<String>) {
        let purchase = self.purchase();
        for asked in &self.sold.asked {
            if asked.payer != Some(purchase.payer) {
                faults.push(format!("the origin was asked in the name of {:?}", asked.payer));
            }
            let paid = self.paid.first().map(|paid| paid.transaction);
            if asked.transaction.is_some() && asked.transaction != paid {
                faults.push("the origin was told of another transaction".to_owned());
            }
            if purchase.way == Way::Early && asked.transaction.is_none() {
                faults.push("the origin worked unpaid".to_owned());
            }
        }
        let is_early_post = purchase.way == Way::Early && purchase.method == "POST";
        if is_early_post && self.sold.asked.len() > 1 {
            faults.push("the origin was asked twice for what cannot be repeated".to_owned());
        }
    }
}

/// No money moved, for good: it was never settled, and the payment may be presented anew.
fn is_given_back(row: &Row) -> bool {
    matches!(row.state.as_str(), "declined" | "released")
}
