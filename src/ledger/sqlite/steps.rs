//! Steps within a transaction: what a decision depends on is read, what it changes is written.

use std::time::Duration;

use rusqlite::{Connection, params};

use super::super::machine::{self, Beside, Change, Moment};
use super::super::step::{Answer, Step};
use super::super::{LedgerError, NewClaim, Particulars, PayerLimits, PaymentRecord, TakenOver, Unresolved};
use super::fault::Fault;
use super::rows::{self, Before, COLUMNS};
use crate::clock::UnixSeconds;
use crate::scheme::PaymentId;
use crate::x402::AtomicAmount;

/// Takes a step. The inner error is the step's own, the outer one that of the whole transaction.
pub(super) fn take(
    connection: &Connection,
    step: &Step,
    moment: Moment,
) -> Result<Result<Answer, LedgerError>, Fault> {
    let found = rows::load(connection, step.id()).and_then(|record| {
        let beside = beside(connection, step, record.as_ref())?;
        Ok((record, beside))
    });
    let (record, beside) = match found {
        Ok(found) => found,
        // Nothing was written yet, and others need not suffer from one payment's record.
        Err(fault @ Fault::Damaged(_)) => {
            tracing::error!(payment = %step.id(), %fault, "a payment cannot be used");
            return Ok(Err(fault.into()));
        }
        Err(fault) => return Err(fault),
    };
    let before = [record.as_ref(), beside.same_identifier.as_deref()].map(|found| found.map(Before::of));
    match machine::decide(step, record, beside, moment) {
        Err(error) => Ok(Err(error)),
        Ok((change, answer)) => {
            write(connection, &change, before)?;
            Ok(Ok(answer))
        }
    }
}

fn write(connection: &Connection, change: &Change, before: [Option<Before>; 2]) -> Result<(), Fault> {
    match change {
        Change::None => Ok(()),
        Change::Put(record) => {
            let before = before.into_iter().flatten().find(|before| before.id() == record.id);
            rows::put(connection, record, before)
        }
        Change::Delete(id) => rows::delete(connection, *id),
    }
}

fn beside(connection: &Connection, step: &Step, record: Option<&PaymentRecord>) -> Result<Beside, Fault> {
    let mut beside = Beside::default();
    match step {
        Step::Claim(claim) => {
            // A payment in use or settled is judged by its own record alone.
            if record.is_none_or(|record| record.state.is_free()) {
                beside.same_identifier = same_identifier(connection, claim)?.map(Box::new);
                if let Some(payer) = &claim.particulars.payer {
                    let by = Pledger { payer, limits: claim.limits };
                    (beside.pledged_count, beside.pledged_sum) =
                        pledged(connection, by, claim.id, &claim.particulars)?;
                }
            }
        }
        Step::Recant(claim) => beside.same_identifier = same_identifier(connection, claim)?.map(Box::new),
        Step::Settled { token, response, unique_transaction: true, .. } => {
            if let Some(record) = record {
                let network = record.particulars.network.as_str();
                beside.transaction_used =
                    transaction_used(connection, token.id, network, &response.transaction)?;
            }
        }
        Step::Settling { intent, .. } => {
            if let Some(record) = record
                && let Some(told) = machine::counting(record, intent)
            {
                let by = Pledger { payer: &told.name, limits: told.limits };
                (beside.pledged_count, beside.pledged_sum) =
                    pledged(connection, by, record.id, &record.particulars)?;
            }
        }
        Step::Release { .. }
        | Step::Abandoned { .. }
        | Step::Settled { .. }
        | Step::Declined { .. }
        | Step::Unresolved { .. }
        | Step::Delivered { .. } => {}
    }
    Ok(beside)
}

/// The payment in use or settled that has the identifier of a claim.
fn same_identifier(connection: &Connection, claim: &NewClaim) -> Result<Option<PaymentRecord>, Fault> {
    let Some(identifier) = claim.identifier else { return Ok(None) };
    let sql = format!(
        "SELECT {COLUMNS} FROM payments INDEXED BY identifiers
         WHERE identifier = ?1 AND identifier IS NOT NULL AND state NOT IN ('declined', 'released') AND id <> ?2
         ORDER BY id LIMIT 1"
    );
    let found = rows::load_all(connection, &sql, &[&identifier.as_slice(), &claim.id.0.as_slice()])?;
    Ok(found.into_iter().next())
}

/// Whose pledges are counted, and how far.
#[derive(Clone, Copy)]
struct Pledger<'a> {
    payer: &'a str,
    limits: PayerLimits,
}

/// What a payer has pledged in other payments than `id` on the network of that one, as far as the limits
/// make it matter: number of payments, and sum of those in the same asset. Counting ends where a limit
/// is reached.
fn pledged(
    connection: &Connection,
    by: Pledger<'_>,
    id: PaymentId,
    particulars: &Particulars,
) -> Result<(u32, AtomicAmount), Fault> {
    let (mut count, mut sum) = (0_u32, AtomicAmount::ZERO);
    let Pledger { payer, limits } = by;
    if limits.count == 0 && limits.sum.is_none() {
        return Ok((count, sum));
    }
    let mut statement = connection.prepare_cached(
        "SELECT asset, amount FROM payments INDEXED BY pledged
         WHERE payer = ?1 AND network = ?2 AND payer IS NOT NULL
           AND state IN ('claimed', 'settling', 'unresolved') AND unique_transaction = 0 AND id <> ?3",
    )?;
    let mut rows = statement.query(params![payer, particulars.network.as_str(), id.0.as_slice()])?;
    while let Some(row) = rows.next()? {
        count = count.saturating_add(1);
        if row.get_ref(0)?.as_str() == Ok(particulars.asset.as_str()) {
            let amount: AtomicAmount = row
                .get::<_, String>(1)?
                .parse()
                .map_err(|error| Fault::Damaged(format!("amount of a payment of {payer}: {error}")))?;
            sum = AtomicAmount(sum.0.saturating_add(amount.0));
        }
        let enough = (limits.count > 0 && count >= limits.count) || limits.sum.is_some_and(|most| sum > most);
        if enough {
            break;
        }
    }
    Ok((count, sum))
}

fn transaction_used(
    connection: &Connection,
    id: PaymentId,
    network: &str,
    transaction: &str,
) -> Result<bool, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT 1 FROM payments INDEXED BY unique_transactions
         WHERE transaction_id = ?1 AND network = ?2 AND unique_transaction = 1
           AND state IN ('settled', 'delivered') AND id <> ?3",
    )?;
    Ok(statement.exists(params![transaction, network, id.0.as_slice()])?)
}

/// Takes unresolved payments that are due ([`Ledger::due`](super::super::Ledger::due)).
pub(super) fn take_due(
    connection: &Connection,
    lease: Duration,
    limit: u32,
    moment: Moment,
) -> Result<Vec<Unresolved>, Fault> {
    // Those without a time come first, as they are due.
    let sql = format!(
        "SELECT {COLUMNS} FROM payments INDEXED BY due WHERE state = 'unresolved' ORDER BY next_try, id LIMIT ?1"
    );
    let mut taken = Vec::new();
    for record in rows::load_all(connection, &sql, &[&limit])? {
        let before = Before::of(&record);
        let Some((record, unresolved)) = machine::take(record, lease, moment) else { break };
        rows::put(connection, &record, Some(before))?;
        taken.push(unresolved);
    }
    Ok(taken)
}

/// Takes over what other gateways held.
pub(super) fn take_over(connection: &Connection, moment: Moment) -> Result<TakenOver, Fault> {
    let sql = format!(
        "SELECT {COLUMNS} FROM payments INDEXED BY held WHERE owner IS NOT NULL AND owner <> ?1 LIMIT 1000"
    );
    let mut taken = TakenOver::default();
    loop {
        let left = rows::load_all(connection, &sql, &[&moment.me.0])?;
        if left.is_empty() {
            return Ok(taken);
        }
        for record in left {
            let before = Before::of(&record);
            if let Some(record) = machine::take_over(record, moment.now, &mut taken) {
                rows::put(connection, &record, Some(before))?;
            }
        }
    }
}

/// Forgets those of some payments that may be forgotten.
pub(super) fn forget(
    connection: &Connection,
    ids: &[PaymentId],
    retention_seconds: u64,
    now: UnixSeconds,
) -> Result<u64, Fault> {
    let mut forgotten = 0;
    for id in ids {
        let record = rows::load(connection, *id)?;
        if record.is_some_and(|record| machine::is_forgettable(&record, retention_seconds, now)) {
            rows::delete(connection, *id)?;
            forgotten += 1;
        }
    }
    Ok(forgotten)
}
