//! Matching payments with transfers, one to one.

use std::collections::{BTreeSet, HashMap};

use alloy_primitives::{Address, B256, U256};

use super::Period;
use super::entry::{Entries, Entry, Payee, Transaction};
use super::open::Looked;
use super::transfers::Transfer;
use crate::chain::Finding as OnChain;
use crate::clock::UnixSeconds;
use crate::scheme::PaymentId;

/// What the books and the chain do not say alike, and what is known of unresolved payments.
#[derive(Debug, Clone)]
pub(super) enum Finding {
    /// Settled in the books; its transaction moved nothing to its payee.
    NoTransfer(Entry),
    /// Settled in the books; its transaction moved another amount.
    OtherAmount(Entry, Transfer),
    /// Settled in the books; its transaction moved the money of somebody else.
    OtherPayer(Entry, Transfer),
    /// Settled in the books; the only transfer of its transaction is that of another payment.
    Reused(Entry, PaymentId),
    /// No payment in the books brought this money.
    UnknownTransfer(Transfer),
    /// This money fits a payment of which the books say that none moved.
    NotRecorded(Entry, Transfer),
    /// Unresolved in the books.
    Unresolved(Entry, Looked),
}

impl Finding {
    /// When the payment was claimed, or the transfer made.
    pub(super) const fn time(&self) -> UnixSeconds {
        match self {
            Self::NoTransfer(entry)
            | Self::OtherAmount(entry, _)
            | Self::OtherPayer(entry, _)
            | Self::Reused(entry, _)
            | Self::NotRecorded(entry, _)
            | Self::Unresolved(entry, _) => entry.claimed_at,
            Self::UnknownTransfer(transfer) => transfer.received.time,
        }
    }

    /// Whether the books or the chain would have to change to agree; a payment that can still go
    /// either way, or could not be looked up, is none.
    pub(super) const fn is_difference(&self) -> bool {
        match self {
            Self::NoTransfer(_)
            | Self::OtherAmount(..)
            | Self::OtherPayer(..)
            | Self::Reused(..)
            | Self::UnknownTransfer(_)
            | Self::NotRecorded(..) => true,
            Self::Unresolved(_, looked) => match looked {
                Looked::Found(OnChain::Paid { .. } | OnChain::Spent { .. } | OnChain::Expired)
                | Looked::Indistinct => true,
                Looked::Found(OnChain::Open) | Looked::Failed(_) => false,
            },
        }
    }
}

/// Compares one network, and tells in the order of time what was found. Transfers to other accounts
/// than `own` are no business of the books unless a payment names them.
pub(super) fn compare(
    entries: Entries,
    looked_up: Vec<(Entry, Looked)>,
    transfers: Vec<Transfer>,
    own: &BTreeSet<Payee>,
    period: Period,
) -> Vec<Finding> {
    let mut matching = Matching::new(transfers);
    // Every exact match first, so that a payment that fits badly takes no transfer from one that fits.
    let unmatched: Vec<Entry> =
        entries.paid.into_iter().filter(|entry| !matching.take_exact(entry)).collect();
    let mut findings: Vec<Finding> = Vec::new();
    let mut may_be_paid = entries.unpaid;
    for (entry, looked) in looked_up {
        match &looked {
            Looked::Found(OnChain::Paid { transaction, .. }) => matching.take_named(&entry, transaction),
            Looked::Indistinct | Looked::Failed(_) => may_be_paid.push(entry.clone()),
            Looked::Found(OnChain::Spent { .. } | OnChain::Open | OnChain::Expired) => {}
        }
        findings.push(Finding::Unresolved(entry, looked));
    }
    findings.extend(
        unmatched.into_iter().filter(|entry| entry.inside).filter_map(|entry| matching.explain(entry)),
    );
    let mut candidates = Candidates::new(may_be_paid);
    for transfer in matching.left() {
        if period.holds(transfer.received.time) && own.contains(&transfer.payee) {
            findings.push(match candidates.take(&transfer) {
                Some(entry) => Finding::NotRecorded(entry, transfer),
                None => Finding::UnknownTransfer(transfer),
            });
        }
    }
    findings.sort_by_key(Finding::time);
    findings
}

/// Transfers, each of which belongs to one payment at most.
struct Matching {
    transfers: Vec<Transfer>,
    /// The payment each one was found to belong to.
    taken: Vec<Option<PaymentId>>,
    by_transaction: HashMap<B256, Vec<usize>>,
}

impl Matching {
    fn new(transfers: Vec<Transfer>) -> Self {
        let mut by_transaction: HashMap<B256, Vec<usize>> = HashMap::new();
        for (place, transfer) in transfers.iter().enumerate() {
            by_transaction.entry(transfer.received.transaction).or_default().push(place);
        }
        Self { taken: vec![None; transfers.len()], transfers, by_transaction }
    }

    /// Places of a transaction's transfers to a payee.
    fn of(&self, hash: B256, payee: Payee) -> Vec<usize> {
        let places = self.by_transaction.get(&hash).map(Vec::as_slice).unwrap_or_default();
        places
            .iter()
            .copied()
            .filter(|place| self.transfers.get(*place).is_some_and(|found| found.payee == payee))
            .collect()
    }

    /// Takes a transfer for a payment, if it belongs to none.
    fn take(&mut self, place: usize, id: PaymentId) -> bool {
        match self.taken.get_mut(place) {
            Some(taken @ None) => {
                *taken = Some(id);
                true
            }
            Some(Some(_)) | None => false,
        }
    }

    fn take_exact(&mut self, entry: &Entry) -> bool {
        let Transaction::Hash(hash) = entry.transaction else { return false };
        let places = self.of(hash, entry.payee);
        places.into_iter().any(|place| self.is_exact(place, entry) && self.take(place, entry.id))
    }

    fn take_named(&mut self, entry: &Entry, transaction: &str) {
        if let Ok(hash) = transaction.parse() {
            self.take_exact(&Entry { transaction: Transaction::Hash(hash), ..entry.clone() });
        }
    }

    fn is_exact(&self, place: usize, entry: &Entry) -> bool {
        let found = self.transfers.get(place).map(|transfer| &transfer.received);
        found.is_some_and(|found| {
            found.value == entry.amount && entry.payer.is_none_or(|payer| payer == found.from)
        })
    }

    /// Why a payment that is settled in the books has no transfer of its own; `None`: it has one.
    fn explain(&mut self, entry: Entry) -> Option<Finding> {
        let hash = match entry.transaction {
            Transaction::Hash(hash) => hash,
            Transaction::Other(_) => return Some(Finding::NoTransfer(entry)),
            // Somebody said that it was settled, and not how.
            Transaction::Unknown => {
                let fits = (0..self.transfers.len()).find(|place| {
                    let is_payee = self.transfers.get(*place).is_some_and(|found| found.payee == entry.payee);
                    is_payee && self.is_exact(*place, &entry) && self.taken.get(*place) == Some(&None)
                });
                return match fits {
                    Some(place) if self.take(place, entry.id) => None,
                    Some(_) | None => Some(Finding::NoTransfer(entry)),
                };
            }
        };
        let places = self.of(hash, entry.payee);
        let free = places.iter().copied().find(|place| self.taken.get(*place) == Some(&None));
        if let Some(place) = free {
            self.take(place, entry.id);
            let transfer = self.transfers.get(place)?.clone();
            let is_amount = transfer.received.value == entry.amount;
            return Some(if is_amount {
                Finding::OtherPayer(entry, transfer)
            } else {
                Finding::OtherAmount(entry, transfer)
            });
        }
        let owner = places.first().and_then(|place| self.taken.get(*place).copied().flatten());
        Some(match owner {
            Some(owner) => Finding::Reused(entry, owner),
            None => Finding::NoTransfer(entry),
        })
    }

    /// Transfers that belong to no payment.
    fn left(self) -> Vec<Transfer> {
        let free = self.transfers.into_iter().zip(self.taken).filter(|(_, taken)| taken.is_none());
        free.map(|(transfer, _)| transfer).collect()
    }
}

/// Payments of which no money is said to have moved, by what they would have moved.
struct Candidates(HashMap<(Payee, Address, U256), Vec<Entry>>);

impl Candidates {
    fn new(entries: Vec<Entry>) -> Self {
        let mut found: HashMap<_, Vec<Entry>> = HashMap::new();
        for entry in entries {
            if let Some(payer) = entry.payer {
                found.entry((entry.payee, payer, entry.amount)).or_default().push(entry);
            }
        }
        Self(found)
    }

    /// The one that fits a transfer and was claimed nearest to it.
    fn take(&mut self, transfer: &Transfer) -> Option<Entry> {
        let received = &transfer.received;
        let entries = self.0.get_mut(&(transfer.payee, received.from, received.value))?;
        let distance = |entry: &Entry| entry.claimed_at.0.abs_diff(received.time.0);
        let (place, _) = entries.iter().enumerate().min_by_key(|(_, entry)| distance(entry))?;
        Some(entries.swap_remove(place))
    }
}
