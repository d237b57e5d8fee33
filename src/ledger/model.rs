//! The ledger as a map: what the others must behave like, and the one for simulations, where nothing
//! may depend on threads or disks. It forgets with the process.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use alloy_primitives::B256;
use async_trait::async_trait;

use super::machine::{self, Beside, Change, Moment};
use super::step::{Answer, Step, Steps};
use super::{
    Accounts, Counts, Filter, GatewayId, LedgerError, Notice, Particulars, PaymentRecord, PaymentState,
    Posted, TakenOver, Unresolved,
};
use crate::clock::UnixSeconds;
use crate::scheme::PaymentId;

/// One gateway's view of a ledger in memory.
#[derive(Debug, Clone)]
pub(crate) struct ModelLedger {
    me: GatewayId,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    records: BTreeMap<PaymentId, PaymentRecord>,
    gateways: i64,
    /// Seconds since 1970; without a word, it is as old as time.
    born_at: u64,
    gone: HashSet<i64>,
    /// Notices, and until when they are up.
    notices: BTreeMap<B256, (Notice, UnixSeconds)>,
    /// How often it was asked which notices are up, and how many texts were read.
    board_reads: usize,
    texts_read: usize,
    /// What every call says while it is set.
    broken: Option<String>,
}

impl ModelLedger {
    pub(crate) fn new() -> Self {
        Self { me: GatewayId(0), shared: Arc::default() }.another()
    }

    /// One that was created at this time.
    pub(crate) fn born(at: UnixSeconds) -> Self {
        let ledger = Self::new();
        ledger.lock().born_at = at.0;
        ledger
    }

    /// Another gateway over the same ledger.
    pub(crate) fn another(&self) -> Self {
        let mut shared = self.lock();
        shared.gateways += 1;
        Self { me: GatewayId(shared.gateways), shared: Arc::clone(&self.shared) }
    }

    /// This gateway is gone; the next beat of another takes over what it held.
    pub(crate) fn kill(&self) {
        self.lock().gone.insert(self.me.0);
    }

    /// Makes every call fail, or work again.
    pub(crate) fn set_broken(&self, cause: Option<&str>) {
        self.lock().broken = cause.map(str::to_owned);
    }

    /// How often it was asked which notices are up, and how many texts were read.
    pub(crate) fn board_reads(&self) -> (usize, usize) {
        let shared = self.lock();
        (shared.board_reads, shared.texts_read)
    }

    /// How many notices there are.
    pub(crate) fn notice_count(&self) -> usize {
        self.lock().notices.len()
    }

    /// Which gateway's it is.
    pub(crate) fn name(&self) -> GatewayId {
        self.me
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap()
    }

    fn usable(&self) -> Result<MutexGuard<'_, Shared>, LedgerError> {
        let shared = self.lock();
        match &shared.broken {
            Some(cause) => Err(LedgerError::Unavailable(cause.clone())),
            None => Ok(shared),
        }
    }
}

impl Shared {
    fn beside(&self, step: &Step, record: Option<&PaymentRecord>) -> Beside {
        let mut beside = Beside::default();
        match step {
            Step::Claim(claim) | Step::Recant(claim) => {
                let is_other = |found: &&PaymentRecord| found.id != claim.id;
                beside.same_identifier = claim.identifier.and_then(|identifier| {
                    let mut others = self.records.values().filter(is_other);
                    others
                        .find(|found| found.identifier == Some(identifier) && !found.state.is_free())
                        .cloned()
                        .map(Box::new)
                });
                if let Some(payer) = &claim.particulars.payer {
                    self.pledged_by(payer, claim.id, &claim.particulars, &mut beside);
                }
            }
            Step::Settling { intent, .. } => {
                if let Some(record) = record
                    && let Some(told) = machine::counting(record, intent)
                {
                    self.pledged_by(&told.name, record.id, &record.particulars, &mut beside);
                }
            }
            Step::Settled { token, response, .. } => {
                let network = record.map(|record| &record.particulars.network);
                beside.transaction_used = self.records.values().any(|found| {
                    found.id != token.id
                        && found.unique_transaction
                        && matches!(found.state, PaymentState::Settled | PaymentState::Delivered)
                        && Some(&found.particulars.network) == network
                        && found.transaction == response.transaction
                });
            }
            Step::Release { .. }
            | Step::Abandoned { .. }
            | Step::Declined { .. }
            | Step::Unresolved { .. }
            | Step::Delivered { .. } => {}
        }
        beside
    }

    /// Adds up what a payer has pledged in other payments than `id`, which is for `wanted`.
    fn pledged_by(&self, payer: &str, id: PaymentId, wanted: &Particulars, beside: &mut Beside) {
        for found in self.records.values().filter(|found| found.id != id && found.counts_as_pledged()) {
            let theirs = &found.particulars;
            if theirs.payer.as_deref() == Some(payer) && theirs.network == wanted.network {
                beside.pledged_count += 1;
                if theirs.asset == wanted.asset {
                    beside.pledged_sum.0 += theirs.amount.0;
                }
            }
        }
    }

    fn write(&mut self, change: Change) {
        match change {
            Change::None => {}
            Change::Put(record) => drop(self.records.insert(record.id, *record)),
            Change::Delete(id) => drop(self.records.remove(&id)),
        }
    }
}

#[async_trait]
impl Accounts for ModelLedger {
    async fn get(&self, id: PaymentId) -> Result<Option<PaymentRecord>, LedgerError> {
        Ok(self.usable()?.records.get(&id).cloned())
    }

    async fn between(
        &self,
        first: PaymentId,
        last: PaymentId,
        limit: u32,
    ) -> Result<Vec<PaymentRecord>, LedgerError> {
        let shared = self.usable()?;
        let meant = |record: &&PaymentRecord| (first..=last).contains(&record.id);
        let mut found: Vec<_> = shared.records.values().filter(meant).cloned().collect();
        found.sort_by_key(|record| record.id);
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(found)
    }

    async fn list(
        &self,
        filter: &Filter,
        after: Option<(UnixSeconds, PaymentId)>,
        limit: u32,
    ) -> Result<Vec<PaymentRecord>, LedgerError> {
        let shared = self.usable()?;
        let key = |record: &PaymentRecord| (record.claimed_at, record.id);
        let wanted = |record: &&PaymentRecord| {
            let theirs = &record.particulars;
            filter.since.is_none_or(|since| record.claimed_at >= since)
                && filter.until.is_none_or(|until| record.claimed_at < until)
                && filter.route.as_ref().is_none_or(|route| *route == theirs.route)
                && filter.payer.as_ref().is_none_or(|payer| {
                    theirs.payer.as_ref().is_some_and(|found| found.eq_ignore_ascii_case(payer))
                })
                && (filter.states.is_empty() || filter.states.contains(&record.state))
                && after.is_none_or(|after| key(record) > after)
        };
        let mut found: Vec<_> = shared.records.values().filter(wanted).cloned().collect();
        found.sort_by_key(key);
        found.truncate(usize::try_from(limit).unwrap());
        Ok(found)
    }
}

#[async_trait]
impl Steps for ModelLedger {
    async fn step(&self, step: Step, now: UnixSeconds) -> Result<Answer, LedgerError> {
        let mut shared = self.usable()?;
        let record = shared.records.get(&step.id()).cloned();
        let beside = shared.beside(&step, record.as_ref());
        let (change, answer) = machine::decide(&step, record, beside, Moment { me: self.me, now })?;
        shared.write(change);
        Ok(answer)
    }

    async fn due(
        &self,
        now: UnixSeconds,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<Unresolved>, LedgerError> {
        let mut shared = self.usable()?;
        let open = |record: &&PaymentRecord| record.state == PaymentState::Unresolved;
        let mut records: Vec<_> = shared.records.values().filter(open).cloned().collect();
        records.sort_by_key(|record| (record.next_try, record.id));
        let mut taken = Vec::new();
        for record in records {
            if taken.len() >= usize::try_from(limit).unwrap() {
                break;
            }
            if let Some((record, unresolved)) = machine::take(record, lease, Moment { me: self.me, now }) {
                shared.write(Change::Put(record));
                taken.push(unresolved);
            }
        }
        Ok(taken)
    }

    async fn beat(&self, now: UnixSeconds) -> Result<TakenOver, LedgerError> {
        let mut shared = self.usable()?;
        let mut taken = TakenOver::default();
        let is_gone =
            |record: &&PaymentRecord| record.owner.is_some_and(|owner| shared.gone.contains(&owner.0));
        let left: Vec<_> = shared.records.values().filter(is_gone).cloned().collect();
        for record in left {
            if let Some(record) = machine::take_over(record, now, &mut taken) {
                shared.write(Change::Put(record));
            }
        }
        Ok(taken)
    }

    async fn forget(&self, retention_seconds: u64, now: UnixSeconds) -> Result<u64, LedgerError> {
        let mut shared = self.usable()?;
        let before = shared.records.len();
        shared.records.retain(|_, record| !machine::is_forgettable(record, retention_seconds, now));
        Ok(u64::try_from(before - shared.records.len()).unwrap())
    }

    async fn counts(&self) -> Result<Counts, LedgerError> {
        let shared = self.usable()?;
        let mut counts = Counts::default();
        for record in shared.records.values() {
            match record.state {
                PaymentState::Claimed => counts.claimed += 1,
                PaymentState::Settling => counts.settling += 1,
                PaymentState::Unresolved => {
                    counts.unresolved += 1;
                    counts.oldest_unresolved =
                        counts.oldest_unresolved.into_iter().chain(record.settling_at).min();
                }
                PaymentState::Settled
                | PaymentState::Delivered
                | PaymentState::Declined
                | PaymentState::Released => {}
            }
        }
        Ok(counts)
    }

    async fn birth(&self) -> Result<UnixSeconds, LedgerError> {
        Ok(UnixSeconds(self.usable()?.born_at))
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn put_up(
        &self,
        notices: &[Notice],
        lifetime: Duration,
        now: UnixSeconds,
    ) -> Result<(), LedgerError> {
        let mut shared = self.usable()?;
        let until = now.plus(lifetime.as_secs());
        for notice in notices {
            let (_, known) = shared.notices.entry(notice.key).or_insert_with(|| (notice.clone(), until));
            *known = until.max(*known);
        }
        Ok(())
    }

    async fn leave_up(
        &self,
        keys: &[B256],
        lifetime: Duration,
        now: UnixSeconds,
    ) -> Result<Vec<B256>, LedgerError> {
        let mut shared = self.usable()?;
        let mut missing = Vec::new();
        for key in keys {
            match shared.notices.get_mut(key) {
                Some((_, until)) => *until = now.plus(lifetime.as_secs()).max(*until),
                None => missing.push(*key),
            }
        }
        shared.notices.retain(|_, (_, until)| *until > now);
        Ok(missing)
    }

    async fn notices(&self, now: UnixSeconds) -> Result<Vec<Posted>, LedgerError> {
        let mut shared = self.usable()?;
        shared.board_reads += 1;
        let listed = shared.notices.values().filter(|(notice, until)| notice.listed && *until > now);
        let mut posted: Vec<_> = listed
            .map(|(notice, until)| Posted { key: notice.key, lifetime: Duration::from_secs(until.0 - now.0) })
            .collect();
        posted.sort_by_key(|posted| (std::cmp::Reverse(posted.lifetime), posted.key));
        Ok(posted)
    }

    async fn texts(&self, keys: &[B256], now: UnixSeconds) -> Result<Vec<(B256, String)>, LedgerError> {
        let mut shared = self.usable()?;
        let found = |key: &B256| {
            let (notice, until) = shared.notices.get(key)?;
            (*until > now).then(|| (*key, notice.text.clone()))
        };
        let found: Vec<_> = keys.iter().filter_map(found).collect();
        shared.texts_read += found.len();
        Ok(found)
    }
}

/// Gateways over one model.
#[cfg(test)]
struct Gateways(ModelLedger);

#[cfg(test)]
#[async_trait]
impl super::contract::Store for Gateways {
    type Ledger = ModelLedger;

    async fn open(&self) -> ModelLedger {
        self.0.another()
    }

    async fn kill(&self, ledger: ModelLedger) {
        ledger.kill();
    }

    fn takes_several(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn the_model_keeps_the_contract() {
    super::contract::holds_for(async || Gateways(ModelLedger::new())).await;
}
