//! What the books say, as far as it is compared.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, U256};

use super::super::Stop;
use super::super::coins::income;
use super::super::pages::Pages;
use super::{Period, Place};
use crate::clock::UnixSeconds;
use crate::ledger::{Accounts, Filter, PaymentRecord, PaymentState};
use crate::scheme::PaymentId;
use crate::x402::Network;

/// The built-in facilitator, which moves no money; no other one can have its name.
const SANDBOX: &str = "sandbox";

/// Who receives what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Payee {
    /// The token.
    pub(super) asset: Address,
    /// The account.
    pub(super) to: Address,
}

impl Payee {
    /// Reads what a configuration or a payment says; `None` when it is none of an EVM chain.
    pub(super) fn read(asset: &str, to: &str) -> Option<Self> {
        Some(Self { asset: asset.parse().ok()?, to: to.parse().ok()? })
    }
}

/// A payment of the books. Small, for all of a period are held at a time.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) id: PaymentId,
    pub(super) state: PaymentState,
    pub(super) payee: Payee,
    pub(super) payer: Option<Address>,
    /// What it brought, or would have brought.
    pub(super) amount: U256,
    pub(super) transaction: Transaction,
    pub(super) claimed_at: UnixSeconds,
    pub(super) settled_at: Option<UnixSeconds>,
    /// Whether it was claimed in the period, and not only near it.
    pub(super) inside: bool,
}

/// The transaction the books name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Transaction {
    /// None.
    Unknown,
    /// One that this chain can have.
    Hash(B256),
    /// Something else.
    Other(String),
}

impl Transaction {
    fn read(text: &str) -> Self {
        match text.parse() {
            _ if text.is_empty() => Self::Unknown,
            Ok(hash) => Self::Hash(hash),
            Err(_) => Self::Other(text.to_owned()),
        }
    }
}

/// The payments of one network.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// Settled or delivered, in the order of their claims.
    pub(super) paid: Vec<Entry>,
    /// Of which no money is said to have moved.
    pub(super) unpaid: Vec<Entry>,
    /// Of unknown outcome, however old, whole so that they can be looked up.
    pub(super) unresolved: Vec<(Entry, PaymentRecord)>,
}

impl Entries {
    /// The accounts that were paid in the period according to the books, which the configuration may
    /// no longer name.
    pub(super) fn payees(&self) -> impl Iterator<Item = Payee> + '_ {
        self.paid.iter().filter(|entry| entry.inside).map(|entry| entry.payee)
    }
}

/// The payments of every network that is compared.
#[derive(Debug, Default)]
pub(super) struct Ledgered {
    networks: BTreeMap<Network, Entries>,
    /// What is not compared and why, with the number of settled and unresolved payments.
    pub(super) left_out: BTreeMap<String, u64>,
}

impl Ledgered {
    /// Reads the payments claimed in the period or near it, and every unresolved one.
    ///
    /// # Errors
    /// When the books cannot be read.
    pub(super) async fn read(
        accounts: &dyn Accounts,
        places: &BTreeMap<Network, Place>,
        period: Period,
    ) -> Result<Self, Stop> {
        let mut ledgered = Self::default();
        let near = period.widened();
        let old =
            Filter { until: Some(near.since), states: vec![PaymentState::Unresolved], ..Filter::default() };
        let of_period = Filter { since: Some(near.since), until: Some(near.until), ..Filter::default() };
        for filter in [&old, &of_period] {
            let mut pages = Pages::new(accounts, filter);
            loop {
                let page = pages.next().await?;
                if page.is_empty() {
                    break;
                }
                for record in page {
                    ledgered.add(record, places, period);
                }
            }
        }
        Ok(ledgered)
    }

    /// The payments of a network, to be compared.
    pub(super) fn take(&mut self, network: &Network) -> Entries {
        self.networks.remove(network).unwrap_or_default()
    }

    fn add(&mut self, record: PaymentRecord, places: &BTreeMap<Network, Place>, period: Period) {
        let bought = &record.particulars;
        let inside = period.holds(record.claimed_at);
        let is_unresolved = record.state == PaymentState::Unresolved;
        let payee = Payee::read(&bought.asset, &bought.pay_to);
        let left_out = if bought.facilitator == SANDBOX {
            Some("of the sandbox, which moves no money".to_owned())
        } else if !places.contains_key(&bought.network) {
            Some(format!("on {}, which has no [chains.NAME]", bought.network.name()))
        } else if payee.is_none() {
            Some(format!("on {} to what is no account there", bought.network.name()))
        } else {
            None
        };
        let Some(payee) = payee.filter(|_| left_out.is_none()) else {
            if (inside && income(&record).is_some()) || is_unresolved {
                *self.left_out.entry(left_out.unwrap_or_default()).or_default() += 1;
            }
            return;
        };
        let entry = Entry {
            id: record.id,
            state: record.state,
            payee,
            payer: bought.payer.as_deref().and_then(|payer| payer.parse().ok()),
            amount: income(&record).unwrap_or(bought.amount).0,
            transaction: Transaction::read(&record.transaction),
            claimed_at: record.claimed_at,
            settled_at: record.settled_at,
            inside,
        };
        let entries = self.networks.entry(bought.network.clone()).or_default();
        match record.state {
            PaymentState::Settled | PaymentState::Delivered => entries.paid.push(entry),
            PaymentState::Unresolved if record.claimed_at < period.until => {
                entries.unresolved.push((entry, record));
            }
            PaymentState::Unresolved
            | PaymentState::Claimed
            | PaymentState::Settling
            | PaymentState::Declined
            | PaymentState::Released => entries.unpaid.push(entry),
        }
    }
}
