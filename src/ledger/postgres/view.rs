//! What a batch of steps has to know, read under locks; and what it changed, to be written.

use std::collections::{BTreeSet, HashMap};

use alloy_primitives::B256;
use sqlx::{PgConnection, Row as _};

use super::super::machine::{self, Beside, Change};
use super::super::step::Step;
use super::super::{NewClaim, Particulars, PayerLimits, PaymentRecord, PaymentState};
use super::rows::{self, columns, key_of_payer, number_of, payer_key, transaction_key};
use super::trouble::Trouble;
use crate::scheme::PaymentId;
use crate::x402::AtomicAmount;

/// Payments as they are before and after the steps of a batch.
#[derive(Debug, Default)]
pub(super) struct View {
    payments: HashMap<PaymentId, Payment>,
    /// What payers have pledged in payments that are not among those.
    elsewhere: Vec<Pledge>,
}

#[derive(Debug)]
struct Payment {
    before: Option<PaymentRecord>,
    after: Option<PaymentRecord>,
    changed: bool,
}

#[derive(Debug)]
struct Pledge {
    payer: String,
    network: String,
    asset: String,
    count: u32,
    sum: AtomicAmount,
}

/// What a batch is about.
#[derive(Debug, Default)]
struct Subjects {
    ids: BTreeSet<PaymentId>,
    identifiers: BTreeSet<B256>,
    transactions: BTreeSet<i64>,
    payers: BTreeSet<i64>,
}

impl View {
    /// Locks and reads what the steps are about. Locks are taken in one order by every gateway.
    pub(super) async fn load<'s>(
        connection: &mut PgConnection,
        steps: impl Iterator<Item = &'s Step>,
    ) -> Result<Self, Trouble> {
        let subjects = Subjects::of(steps);
        subjects.lock(connection).await?;
        let mut view = Self::default();
        for record in subjects.read(connection).await? {
            let after = Some(record.clone());
            view.payments.insert(record.id, Payment { before: Some(record), after, changed: false });
        }
        for id in &subjects.ids {
            view.payments.entry(*id).or_insert(Payment { before: None, after: None, changed: false });
        }
        if !subjects.payers.is_empty() {
            view.elsewhere = pledged(connection, &subjects.payers, &view.payments).await?;
        }
        Ok(view)
    }

    /// A payment as the steps so far have left it.
    pub(super) fn record(&self, id: PaymentId) -> Option<&PaymentRecord> {
        self.payments.get(&id)?.after.as_ref()
    }

    /// What is known beside a step's payment.
    pub(super) fn beside(&self, step: &Step) -> Beside {
        let mut beside = Beside::default();
        match step {
            Step::Claim(claim) => {
                beside.same_identifier = self.same_identifier(claim);
                if let Some(payer) = claim.particulars.payer.as_ref().filter(|_| is_limited(claim.limits)) {
                    (beside.pledged_count, beside.pledged_sum) =
                        self.pledged_by(payer, claim.id, &claim.particulars);
                }
            }
            Step::Settling { token, intent } => {
                if let Some(record) = self.record(token.id)
                    && let Some(told) = machine::counting(record, intent)
                {
                    (beside.pledged_count, beside.pledged_sum) =
                        self.pledged_by(&told.name, record.id, &record.particulars);
                }
            }
            Step::Recant(claim) => beside.same_identifier = self.same_identifier(claim),
            Step::Settled { token, response, unique_transaction, .. } => {
                beside.transaction_used =
                    *unique_transaction && self.transaction_used(token.id, &response.transaction);
            }
            Step::Release { .. }
            | Step::Abandoned { .. }
            | Step::Declined { .. }
            | Step::Unresolved { .. }
            | Step::Delivered { .. } => {}
        }
        beside
    }

    /// Takes note of a change; it is written later.
    pub(super) fn change(&mut self, change: Change) {
        let (id, after) = match change {
            Change::None => return,
            Change::Put(record) => (record.id, Some(*record)),
            Change::Delete(id) => (id, None),
        };
        let payment =
            self.payments.entry(id).or_insert(Payment { before: None, after: None, changed: false });
        (payment.after, payment.changed) = (after, true);
    }

    /// Writes what changed.
    pub(super) async fn write(&self, connection: &mut PgConnection) -> Result<(), Trouble> {
        let (mut gone, mut new, mut further) = (Vec::new(), Vec::new(), Vec::new());
        for (id, payment) in self.payments.iter().filter(|(_, payment)| payment.changed) {
            match (&payment.before, &payment.after) {
                (None, None) => {}
                (None, Some(after)) => new.push(after),
                (Some(_), None) => gone.push(*id),
                (Some(before), Some(after)) if before.attempt == after.attempt => further.push(after),
                // Another attempt may be for something else altogether.
                (Some(_), Some(after)) => {
                    gone.push(*id);
                    new.push(after);
                }
            }
        }
        rows::delete(connection, &gone).await?;
        rows::update(connection, &further).await?;
        if rows::insert(connection, &mut new).await? < new.len() {
            return Err(Trouble::again("another gateway claimed a payment at the same moment"));
        }
        Ok(())
    }

    fn others(&self, id: PaymentId) -> impl Iterator<Item = &PaymentRecord> {
        self.payments
            .values()
            .filter_map(|payment| payment.after.as_ref())
            .filter(move |found| found.id != id)
    }

    fn same_identifier(&self, claim: &NewClaim) -> Option<Box<PaymentRecord>> {
        let identifier = claim.identifier?;
        let same = self
            .others(claim.id)
            .filter(|found| found.identifier == Some(identifier) && !found.state.is_free());
        same.min_by_key(|found| found.id).cloned().map(Box::new)
    }

    /// What a payer has pledged in other payments than `id`, which is for `wanted`.
    fn pledged_by(&self, payer: &str, id: PaymentId, wanted: &Particulars) -> (u32, AtomicAmount) {
        let Particulars { network, asset, .. } = wanted;
        let (mut count, mut sum) = (0_u32, AtomicAmount::ZERO);
        let mut add = |more: u32, amount: AtomicAmount, same_asset: bool| {
            count = count.saturating_add(more);
            if same_asset {
                sum.0 = sum.0.saturating_add(amount.0);
            }
        };
        for found in self.others(id).filter(|found| found.counts_as_pledged()) {
            let theirs = &found.particulars;
            if theirs.payer.as_deref() == Some(payer) && theirs.network == *network {
                add(1, theirs.amount, theirs.asset == *asset);
            }
        }
        for pledge in &self.elsewhere {
            if pledge.payer == *payer && pledge.network == network.as_str() {
                add(pledge.count, pledge.sum, pledge.asset == *asset);
            }
        }
        (count, sum)
    }

    fn transaction_used(&self, id: PaymentId, transaction: &str) -> bool {
        let network = self.record(id).map(|record| &record.particulars.network);
        self.others(id).any(|found| {
            found.unique_transaction
                && matches!(found.state, PaymentState::Settled | PaymentState::Delivered)
                && Some(&found.particulars.network) == network
                && found.transaction == transaction
        })
    }
}

fn is_limited(limits: PayerLimits) -> bool {
    limits.count > 0 || limits.sum.is_some()
}

impl Subjects {
    fn of<'s>(steps: impl Iterator<Item = &'s Step>) -> Self {
        let mut subjects = Self::default();
        for step in steps {
            subjects.ids.insert(step.id());
            match step {
                Step::Claim(claim) => {
                    subjects.identifiers.extend(claim.identifier);
                    if is_limited(claim.limits) {
                        subjects.payers.extend(payer_key(&claim.particulars));
                    }
                }
                Step::Settling { intent, .. } => {
                    let told = intent.payer.as_ref().filter(|told| is_limited(told.limits));
                    subjects.payers.extend(told.map(|told| key_of_payer(&told.network, &told.name)));
                }
                Step::Recant(claim) => subjects.identifiers.extend(claim.identifier),
                Step::Settled { response, unique_transaction: true, .. } => {
                    subjects.transactions.insert(transaction_key(&response.transaction));
                }
                Step::Settled { unique_transaction: false, .. }
                | Step::Release { .. }
                | Step::Abandoned { .. }
                | Step::Declined { .. }
                | Step::Unresolved { .. }
                | Step::Delivered { .. } => {}
            }
        }
        subjects
    }

    /// Steps on different payments that depend on each other wait for each other: those with one
    /// identifier, one payer whose pledges are limited, or one transaction that must be unique.
    async fn lock(&self, connection: &mut PgConnection) -> Result<(), Trouble> {
        let identifiers = self.identifiers.iter().map(|identifier| number_of("identifier", &[&identifier.0]));
        let locks: BTreeSet<i64> =
            identifiers.chain(self.payers.iter().copied()).chain(self.transactions.iter().copied()).collect();
        if locks.is_empty() {
            return Ok(());
        }
        let locks: Vec<i64> = locks.into_iter().collect();
        let query =
            sqlx::query("SELECT pg_advisory_xact_lock(key) FROM unnest($1::int8[]) AS key").bind(locks);
        query.execute(connection).await.map(drop).map_err(Trouble::working)
    }

    async fn read(&self, connection: &mut PgConnection) -> Result<Vec<PaymentRecord>, Trouble> {
        let ids: Vec<[u8; 32]> = self.ids.iter().map(|id| id.0.0).collect();
        let found = if self.identifiers.is_empty() && self.transactions.is_empty() {
            let select = concat!(
                "SELECT ",
                columns!(),
                " FROM tollgate_payments WHERE id = ANY($1) ORDER BY id FOR UPDATE"
            );
            sqlx::query(select).bind(ids).fetch_all(connection).await
        } else {
            let select = concat!(
                "SELECT ",
                columns!(),
                " FROM tollgate_payments WHERE id = ANY($1)",
                " OR (identifier = ANY($2) AND state NOT IN ('declined', 'released'))",
                " OR transaction_key = ANY($3) ORDER BY id FOR UPDATE"
            );
            let identifiers: Vec<[u8; 32]> = self.identifiers.iter().map(|identifier| identifier.0).collect();
            let transactions: Vec<i64> = self.transactions.iter().copied().collect();
            sqlx::query(select).bind(ids).bind(identifiers).bind(transactions).fetch_all(connection).await
        };
        found.map_err(Trouble::working)?.iter().map(rows::read).collect()
    }
}

async fn pledged(
    connection: &mut PgConnection,
    payers: &BTreeSet<i64>,
    without: &HashMap<PaymentId, Payment>,
) -> Result<Vec<Pledge>, Trouble> {
    let select = "SELECT payer, network, asset, count(*), sum(amount)::text FROM tollgate_payments \
                  WHERE payer_key = ANY($1) AND state IN ('claimed', 'settling', 'unresolved') \
                  AND NOT unique_transaction AND id <> ALL($2) GROUP BY payer, network, asset";
    let payers: Vec<i64> = payers.iter().copied().collect();
    let without: Vec<[u8; 32]> = without.keys().map(|id| id.0.0).collect();
    let found = sqlx::query(select).bind(payers).bind(without).fetch_all(connection).await;
    let read = |row: &sqlx::postgres::PgRow| -> Result<Pledge, sqlx::Error> {
        let sum: &str = row.try_get(4)?;
        Ok(Pledge {
            payer: row.try_get(0)?,
            network: row.try_get(1)?,
            asset: row.try_get(2)?,
            count: u32::try_from(row.try_get::<i64, _>(3)?).unwrap_or(u32::MAX),
            // More than numbers hold is more than any limit.
            sum: sum.parse().unwrap_or(AtomicAmount(alloy_primitives::U256::MAX)),
        })
    };
    found.and_then(|rows| rows.iter().map(read).collect()).map_err(Trouble::working)
}
