//! A ledger in memory: bounded, and forgetting only what can no longer be settled.
//!
//! It forgets everything when the process ends; a payment settled before a restart is then
//! protected by the chain's own nonce alone.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{Claimed, Ledger, LedgerError, NewClaim, PaymentState};
use crate::clock::UnixSeconds;
use crate::scheme::PaymentId;
use crate::x402::SettleResponse;

/// Settled claims are kept this long beyond their expiry, for clocks that disagree with the chain's.
const GRACE_SECONDS: u64 = 60;
/// Claims whose settlement has no known outcome are kept so much longer: they can no longer be settled,
/// but may have been, and whoever presents one must not be asked to pay again.
const UNRESOLVED_GRACE_SECONDS: u64 = 24 * 3600;

/// A bounded ledger in memory.
#[derive(Debug)]
pub struct MemoryLedger {
    capacity: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    claims: HashMap<PaymentId, Entry>,
    /// Claims by the time at which they may be forgotten; those that may never be are not in it.
    by_expiry: BTreeSet<(UnixSeconds, PaymentId)>,
    /// How many claims are in each state, so that counting does not hold up claiming.
    counts: HashMap<PaymentState, usize>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    state: PaymentState,
    forget_at: Option<UnixSeconds>,
}

impl MemoryLedger {
    /// A ledger that holds at most `capacity` payments.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity, held: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Every change below is complete before it can panic, so a poisoned lock holds good data.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(
        &self,
        id: PaymentId,
        wanted: &'static str,
        next: PaymentState,
        from: &[PaymentState],
    ) -> Result<(), LedgerError> {
        let mut held = self.held();
        match held.claims.get_mut(&id) {
            Some(entry) if from.contains(&entry.state) => {
                let before = std::mem::replace(&mut entry.state, next);
                held.moved(Some(before), Some(next));
                Ok(())
            }
            entry => Err(LedgerError::WrongState { id, wanted, found: entry.map(|entry| entry.state) }),
        }
    }
}

impl Held {
    /// Drops what can no longer be settled. A claim in use is kept whatever the time is: its request
    /// is still running, and only its end may give it back.
    fn forget_expired(&mut self, now: UnixSeconds) {
        let due: Vec<_> = self.by_expiry.iter().take_while(|(at, _)| *at <= now).copied().collect();
        for (at, id) in due {
            let in_use =
                |entry: &Entry| matches!(entry.state, PaymentState::Claimed | PaymentState::Settling);
            match self.claims.get(&id) {
                Some(entry) if in_use(entry) => {}
                Some(_) => self.remove(id),
                None => drop(self.by_expiry.remove(&(at, id))),
            }
        }
    }

    fn keep_longer(&mut self, id: PaymentId, seconds: u64) {
        let Some(at) = self.claims.get_mut(&id).and_then(|entry| entry.forget_at.as_mut()) else { return };
        self.by_expiry.remove(&(*at, id));
        *at = at.plus(seconds);
        self.by_expiry.insert((*at, id));
    }

    fn remove(&mut self, id: PaymentId) {
        let Some(Entry { state, forget_at }) = self.claims.remove(&id) else { return };
        self.moved(Some(state), None);
        if let Some(at) = forget_at {
            self.by_expiry.remove(&(at, id));
        }
    }

    fn moved(&mut self, from: Option<PaymentState>, to: Option<PaymentState>) {
        if let Some(count) = from.and_then(|state| self.counts.get_mut(&state)) {
            *count = count.saturating_sub(1);
        }
        if let Some(state) = to {
            *self.counts.entry(state).or_default() += 1;
        }
    }
}

#[async_trait]
impl Ledger for MemoryLedger {
    async fn claim(&self, claim: &NewClaim, now: UnixSeconds) -> Result<Claimed, LedgerError> {
        let mut held = self.held();
        if let Some(entry) = held.claims.get(&claim.id) {
            return Ok(Claimed::Held(entry.state));
        }
        held.forget_expired(now);
        if held.claims.len() >= self.capacity {
            return Err(LedgerError::Full { live: held.claims.len() });
        }
        let forget_at = claim.expires.map(|expires| expires.plus(GRACE_SECONDS));
        held.claims.insert(claim.id, Entry { state: PaymentState::Claimed, forget_at });
        held.moved(None, Some(PaymentState::Claimed));
        if let Some(at) = forget_at {
            held.by_expiry.insert((at, claim.id));
        }
        Ok(Claimed::New)
    }

    async fn state(&self, id: PaymentId) -> Result<Option<PaymentState>, LedgerError> {
        Ok(self.held().claims.get(&id).map(|entry| entry.state))
    }

    async fn settling(&self, id: PaymentId) -> Result<(), LedgerError> {
        self.step(id, "settling", PaymentState::Settling, &[PaymentState::Claimed])
    }

    async fn settled(&self, id: PaymentId, _response: &SettleResponse) -> Result<(), LedgerError> {
        let from = [PaymentState::Settling, PaymentState::Unresolved];
        self.step(id, "settled", PaymentState::Settled, &from)
    }

    async fn unresolved(&self, id: PaymentId) -> Result<(), LedgerError> {
        self.step(id, "unresolved", PaymentState::Unresolved, &[PaymentState::Settling])?;
        self.held().keep_longer(id, UNRESOLVED_GRACE_SECONDS);
        Ok(())
    }

    async fn release(&self, id: PaymentId) -> Result<(), LedgerError> {
        let mut held = self.held();
        match held.claims.get(&id).map(|entry| entry.state) {
            Some(PaymentState::Claimed | PaymentState::Settling | PaymentState::Unresolved) => {
                held.remove(id);
                Ok(())
            }
            found @ (Some(PaymentState::Settled) | None) => {
                Err(LedgerError::WrongState { id, wanted: "released", found })
            }
        }
    }

    async fn counts(&self) -> Vec<(PaymentState, usize)> {
        let held = self.held();
        let count = |state| held.counts.get(&state).copied().unwrap_or_default();
        [PaymentState::Claimed, PaymentState::Settling, PaymentState::Settled, PaymentState::Unresolved]
            .map(|state| (state, count(state)))
            .to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_000);

    #[tokio::test]
    async fn a_memory_ledger_keeps_the_contract() {
        crate::ledger::contract::holds_for(|| MemoryLedger::new(1_000)).await;
    }

    fn claim(byte: u8, expires: Option<u64>) -> NewClaim {
        let id = PaymentId(alloy_primitives::B256::repeat_byte(byte));
        NewClaim { id, expires: expires.map(UnixSeconds) }
    }

    #[tokio::test]
    async fn a_full_ledger_refuses_rather_than_forget_a_live_claim() {
        let ledger = MemoryLedger::new(2);
        assert_eq!(ledger.claim(&claim(1, Some(2_000)), NOW).await, Ok(Claimed::New));
        assert_eq!(ledger.claim(&claim(2, None), NOW).await, Ok(Claimed::New));
        assert_eq!(ledger.claim(&claim(3, Some(2_000)), NOW).await, Err(LedgerError::Full { live: 2 }));
        assert_eq!(ledger.claim(&claim(1, Some(2_000)), NOW).await, Ok(Claimed::Held(PaymentState::Claimed)));
        ledger.release(claim(2, None).id).await.unwrap();
        assert_eq!(ledger.claim(&claim(3, Some(2_000)), NOW).await, Ok(Claimed::New));
    }

    #[tokio::test]
    async fn a_settled_payment_is_forgotten_only_when_it_can_no_longer_be_settled() {
        let ledger = MemoryLedger::new(2);
        let (expiring, lasting) = (claim(1, Some(2_000)), claim(2, None));
        let response = crate::ledger::contract::response();
        for claim in [&expiring, &lasting] {
            ledger.claim(claim, NOW).await.unwrap();
            ledger.settling(claim.id).await.unwrap();
            ledger.settled(claim.id, &response).await.unwrap();
        }
        let other = claim(3, Some(9_000));
        assert!(ledger.claim(&other, UnixSeconds(2_000 + GRACE_SECONDS - 1)).await.is_err());
        assert_eq!(ledger.claim(&other, UnixSeconds(2_000 + GRACE_SECONDS)).await, Ok(Claimed::New));
        let held = ledger.claim(&lasting, UnixSeconds(u64::MAX)).await;
        assert_eq!(held, Ok(Claimed::Held(PaymentState::Settled)));
    }

    #[tokio::test]
    async fn a_payment_of_unknown_outcome_is_remembered_long_after_it_has_run_out() {
        let ledger = MemoryLedger::new(1);
        let lost = claim(1, Some(2_000));
        ledger.claim(&lost, NOW).await.unwrap();
        ledger.settling(lost.id).await.unwrap();
        ledger.unresolved(lost.id).await.unwrap();
        let end = 2_000 + GRACE_SECONDS + UNRESOLVED_GRACE_SECONDS;
        let other = claim(2, Some(end + 9));
        assert!(ledger.claim(&other, UnixSeconds(end - 1)).await.is_err());
        assert_eq!(ledger.state(lost.id).await, Ok(Some(PaymentState::Unresolved)));
        assert_eq!(ledger.claim(&other, UnixSeconds(end)).await, Ok(Claimed::New));
        assert_eq!(ledger.state(lost.id).await, Ok(None));
    }

    #[tokio::test]
    async fn a_claim_in_use_outlives_its_expiry() {
        let ledger = MemoryLedger::new(1);
        let held = claim(1, Some(2_000));
        ledger.claim(&held, NOW).await.unwrap();
        let late = UnixSeconds(1_000_000);
        assert!(ledger.claim(&claim(2, None), late).await.is_err());
        ledger.settling(held.id).await.unwrap();
        assert_eq!(ledger.claim(&held, late).await, Ok(Claimed::Held(PaymentState::Settling)));
    }
}
