//! What a comparison found, for people and for programs.

use alloy_primitives::U256;
use serde_json::{Map, Value, json};

use super::super::coins::Coins;
use super::super::text::{clean, counted, short_id};
use super::super::{Stop, World, when};
use super::compare::Finding;
use super::entry::{Entry, Payee, Transaction};
use super::open::Looked;
use super::transfers::Transfer;
use super::{Period, words};
use crate::chain::Finding as OnChain;
use crate::x402::{AtomicAmount, Network};

/// Where findings go.
pub(super) struct Report<'a, 'w> {
    coins: &'a mut Coins,
    json: bool,
    world: &'a mut World<'w>,
    /// How many differences were written.
    pub(super) differences: u64,
}

impl<'a, 'w> Report<'a, 'w> {
    pub(super) const fn new(coins: &'a mut Coins, json: bool, world: &'a mut World<'w>) -> Self {
        Self { coins, json, world, differences: 0 }
    }

    /// Writes what was found on a network, after comparing so many payments and transfers.
    pub(super) fn network(
        &mut self,
        network: &Network,
        findings: &[Finding],
        (payments, transfers): (usize, usize),
        period: Period,
    ) -> Result<(), Stop> {
        let mut differences = 0;
        for finding in findings {
            differences += u64::from(finding.is_difference());
            self.finding(network, finding)?;
        }
        self.differences += differences;
        let compared = format!(
            "{}: compared {} and {} {}: {}",
            network.name(),
            counted(payments as u64, "payment"),
            counted(transfers as u64, "transfer"),
            words(period),
            if differences == 0 { "no differences".to_owned() } else { counted(differences, "difference") }
        );
        self.note(&compared)
    }

    /// Says something about the comparison as a whole.
    pub(super) fn note(&mut self, text: &str) -> Result<(), Stop> {
        // Programs read standard output.
        let to: &mut dyn std::io::Write = if self.json { self.world.err } else { self.world.out };
        Ok(writeln!(to, "{}", clean(text))?)
    }

    /// Says that a network could not be compared.
    pub(super) fn failure(&mut self, network: &Network, text: &str) -> Result<(), Stop> {
        Ok(writeln!(self.world.err, "error: {}: {}", network.name(), clean(text))?)
    }

    fn finding(&mut self, network: &Network, finding: &Finding) -> Result<(), Stop> {
        let (name, text) = self.told(network, finding);
        let id = payment_of(finding).map(|entry| entry.id);
        if self.json {
            let line = self.object(network, finding, name, &text);
            writeln!(self.world.out, "{}", Value::Object(line))?;
        } else {
            let time = when::shown(finding.time());
            let id = id.map_or_else(|| "-".to_owned(), short_id);
            writeln!(self.world.out, "{time}  {}  {id:14}  {}", network.name(), clean(&text))?;
        }
        Ok(())
    }

    fn amount(&mut self, network: &Network, payee: Payee, amount: U256) -> String {
        self.coins.words(network, &payee.asset.to_string(), AtomicAmount(amount))
    }

    /// A finding's name and what it means.
    fn told(&mut self, network: &Network, finding: &Finding) -> (&'static str, String) {
        match finding {
            Finding::NoTransfer(entry) => {
                let amount = self.amount(network, entry.payee, entry.amount);
                let how = match &entry.transaction {
                    Transaction::Unknown => "no transaction is known, and none".to_owned(),
                    Transaction::Hash(hash) => format!("transaction {hash} is not there or has not"),
                    Transaction::Other(text) => {
                        format!("\"{text}\" is no transaction of this network, which has not")
                    }
                };
                ("no_transfer", format!("{}, but {how} moved {amount} to {}", entry.state, entry.payee.to))
            }
            Finding::OtherAmount(entry, transfer) => {
                let amount = self.amount(network, entry.payee, entry.amount);
                let moved = self.amount(network, transfer.payee, transfer.received.value);
                let transaction = transfer.received.transaction;
                (
                    "other_amount",
                    format!("{} for {amount}, but transaction {transaction} moved {moved}", entry.state),
                )
            }
            Finding::OtherPayer(entry, transfer) => {
                let payer = entry.payer.map(|payer| payer.to_string()).unwrap_or_default();
                let (transaction, from) = (transfer.received.transaction, transfer.received.from);
                let text = format!(
                    "{} by {payer}, but transaction {transaction} moved money of {from}",
                    entry.state
                );
                ("other_payer", text)
            }
            Finding::Reused(entry, other) => {
                let text = format!(
                    "{}, but the transfer of its transaction is that of payment {other}",
                    entry.state
                );
                ("transaction_reused", text)
            }
            Finding::UnknownTransfer(transfer) => {
                ("unknown_transfer", format!("{}: no payment in the books", self.transfer(network, transfer)))
            }
            Finding::NotRecorded(entry, transfer) => {
                let transfer = self.transfer(network, transfer);
                ("not_recorded", format!("{} in the books, but this fits it: {transfer}", entry.state))
            }
            Finding::Unresolved(_, looked) => unresolved(looked),
        }
    }

    fn transfer(&mut self, network: &Network, transfer: &Transfer) -> String {
        let amount = self.amount(network, transfer.payee, transfer.received.value);
        let (from, to) = (transfer.received.from, transfer.payee.to);
        format!("{amount} from {from} to {to} by transaction {}", transfer.received.transaction)
    }

    fn object(&mut self, network: &Network, finding: &Finding, name: &str, text: &str) -> Map<String, Value> {
        let mut object = Map::new();
        let mut add = |name: &str, value: Value| drop(object.insert(name.to_owned(), value));
        add("finding", name.into());
        add("difference", finding.is_difference().into());
        add("text", text.into());
        add("time", when::shown(finding.time()).into());
        add("network", network.as_str().into());
        let payment = payment_of(finding).map(|entry| {
            json!({
                "id": entry.id.to_string(),
                "state": entry.state,
                "payer": entry.payer,
                "asset": entry.payee.asset,
                "pay_to": entry.payee.to,
                "amount_atomic": entry.amount.to_string(),
                "amount": self.coins.decimal(network, &entry.payee.asset.to_string(), AtomicAmount(entry.amount)),
                "transaction": match &entry.transaction {
                    Transaction::Unknown => None,
                    Transaction::Hash(hash) => Some(hash.to_string()),
                    Transaction::Other(text) => Some(text.clone()),
                },
                "claimed_at": when::shown(entry.claimed_at),
                "settled_at": entry.settled_at.map(when::shown),
            })
        });
        add("payment", payment.unwrap_or_default());
        let transfer = transfer_of(finding).map(|transfer| {
            let Transfer { payee, received } = transfer;
            json!({
                "from": received.from,
                "to": payee.to,
                "asset": payee.asset,
                "amount_atomic": received.value.to_string(),
                "amount": self.coins.decimal(network, &payee.asset.to_string(), AtomicAmount(received.value)),
                "transaction": received.transaction,
                "block": received.block,
                "log_index": received.log_index,
                "time": when::shown(received.time),
            })
        });
        add("transfer", transfer.unwrap_or_default());
        object
    }
}

/// What an unresolved payment is, and what to do about it.
fn unresolved(looked: &Looked) -> (&'static str, String) {
    match looked {
        Looked::Found(OnChain::Paid { transaction, .. }) => {
            ("unresolved_paid", format!("unresolved, and settled on the chain by transaction {transaction}"))
        }
        Looked::Found(OnChain::Spent { transaction }) => {
            let by = transaction.as_ref().map(|hash| format!(" by transaction {hash}")).unwrap_or_default();
            (
                "unresolved_spent",
                format!("unresolved; its nonce is spent{by} without having paid for it, so it never settles"),
            )
        }
        Looked::Found(OnChain::Expired) => {
            ("unresolved_expired", "unresolved; it was not settled and has expired".to_owned())
        }
        Looked::Found(OnChain::Open) => {
            ("unresolved_open", "unresolved; not settled so far, and it still can be".to_owned())
        }
        Looked::Indistinct => {
            let text = "unresolved, and the chain does not tell payments of this kind apart: decide with \
                        `tollgate ledger resolve`";
            ("unresolved_unknown", text.to_owned())
        }
        Looked::Failed(cause) => {
            ("unresolved_failed", format!("unresolved, and it cannot be looked up: {cause}"))
        }
    }
}

const fn payment_of(finding: &Finding) -> Option<&Entry> {
    match finding {
        Finding::NoTransfer(entry)
        | Finding::OtherAmount(entry, _)
        | Finding::OtherPayer(entry, _)
        | Finding::Reused(entry, _)
        | Finding::NotRecorded(entry, _)
        | Finding::Unresolved(entry, _) => Some(entry),
        Finding::UnknownTransfer(_) => None,
    }
}

const fn transfer_of(finding: &Finding) -> Option<&Transfer> {
    match finding {
        Finding::OtherAmount(_, transfer)
        | Finding::OtherPayer(_, transfer)
        | Finding::NotRecorded(_, transfer)
        | Finding::UnknownTransfer(transfer) => Some(transfer),
        Finding::NoTransfer(_) | Finding::Reused(..) | Finding::Unresolved(..) => None,
    }
}
