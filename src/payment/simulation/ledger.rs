//! The simulated ledger: the model, failing before or after its steps as chance has it.

use std::time::Duration;

use alloy_primitives::B256;
use async_trait::async_trait;

use super::world::Edge;
use crate::clock::UnixSeconds;
use crate::ledger::{
    Accounts, ClaimToken, Claimed, Counts, DeliveryEnd, Filter, Intended, Intent, Ledger, LedgerError,
    NewClaim, Notice, PaymentRecord, Posted, Recorded, Settlement, TakenOver, Unresolved,
};
use crate::scheme::PaymentId;

#[async_trait]
impl Accounts for Edge {
    async fn get(&self, id: PaymentId) -> Result<Option<PaymentRecord>, LedgerError> {
        self.step(|| self.ledger.get(id)).await
    }

    async fn between(
        &self,
        first: PaymentId,
        last: PaymentId,
        limit: u32,
    ) -> Result<Vec<PaymentRecord>, LedgerError> {
        self.step(|| self.ledger.between(first, last, limit)).await
    }

    async fn list(
        &self,
        filter: &Filter,
        after: Option<(UnixSeconds, PaymentId)>,
        limit: u32,
    ) -> Result<Vec<PaymentRecord>, LedgerError> {
        self.step(|| self.ledger.list(filter, after, limit)).await
    }
}

#[async_trait]
impl Ledger for Edge {
    async fn claim(&self, claim: &NewClaim, now: UnixSeconds) -> Result<Claimed, LedgerError> {
        let result = self.step(|| self.ledger.claim(claim, now)).await;
        self.world.note(claim.id, ("claim", self.ledger.name(), &result));
        result
    }

    async fn recant(&self, claim: &NewClaim, now: UnixSeconds) -> Result<(), LedgerError> {
        self.step(|| self.ledger.recant(claim, now)).await
    }

    async fn release(
        &self,
        token: ClaimToken,
        reason: Option<&str>,
        now: UnixSeconds,
    ) -> Result<(), LedgerError> {
        let result = self.step(|| self.ledger.release(token, reason, now)).await;
        self.world.note(token.id, ("release", reason, &result));
        result
    }

    async fn settling(
        &self,
        token: ClaimToken,
        intent: Intent,
        now: UnixSeconds,
    ) -> Result<Intended, LedgerError> {
        let whom = intent.facilitator.clone();
        let result = self.step(|| self.ledger.settling(token, intent, now)).await;
        self.world.note(token.id, ("settling", whom, &result));
        result
    }

    async fn abandoned(&self, token: ClaimToken, reason: &str, now: UnixSeconds) -> Result<(), LedgerError> {
        let result = self.step(|| self.ledger.abandoned(token, reason, now)).await;
        self.world.note(token.id, ("abandoned", &result));
        result
    }

    async fn settled(
        &self,
        token: ClaimToken,
        settlement: Settlement<'_>,
        now: UnixSeconds,
    ) -> Result<Recorded, LedgerError> {
        let result = self.step(|| self.ledger.settled(token, settlement, now)).await;
        self.world.note(token.id, ("settled", settlement.deliver, &result));
        result
    }

    async fn declined(&self, token: ClaimToken, reason: &str, now: UnixSeconds) -> Result<(), LedgerError> {
        self.step(|| self.ledger.declined(token, reason, now)).await
    }

    async fn unresolved(
        &self,
        token: ClaimToken,
        reason: &str,
        transaction: &str,
        next_try: UnixSeconds,
        now: UnixSeconds,
    ) -> Result<(), LedgerError> {
        self.step(|| self.ledger.unresolved(token, reason, transaction, next_try, now)).await
    }

    async fn due(
        &self,
        now: UnixSeconds,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<Unresolved>, LedgerError> {
        self.step(|| Ledger::due(&self.ledger, now, lease, limit)).await
    }

    async fn delivered(
        &self,
        token: ClaimToken,
        end: DeliveryEnd,
        now: UnixSeconds,
    ) -> Result<(), LedgerError> {
        let result = self.step(|| self.ledger.delivered(token, end, now)).await;
        self.world.note(token.id, ("delivered", end, &result));
        if end == DeliveryEnd::NotBegun && !matches!(result, Err(LedgerError::Unavailable(_))) {
            self.world.noted_not_begun(token.id);
        }
        result
    }

    async fn beat(&self, now: UnixSeconds) -> Result<TakenOver, LedgerError> {
        self.step(|| Ledger::beat(&self.ledger, now)).await
    }

    async fn forget(&self, retention_seconds: u64, now: UnixSeconds) -> Result<u64, LedgerError> {
        self.step(|| Ledger::forget(&self.ledger, retention_seconds, now)).await
    }

    async fn counts(&self) -> Result<Counts, LedgerError> {
        self.step(|| Ledger::counts(&self.ledger)).await
    }

    async fn birth(&self) -> Result<UnixSeconds, LedgerError> {
        self.step(|| Ledger::birth(&self.ledger)).await
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
        self.step(|| Ledger::put_up(&self.ledger, notices, lifetime, now)).await
    }

    async fn leave_up(
        &self,
        keys: &[B256],
        lifetime: Duration,
        now: UnixSeconds,
    ) -> Result<Vec<B256>, LedgerError> {
        self.step(|| Ledger::leave_up(&self.ledger, keys, lifetime, now)).await
    }

    async fn notices(&self, now: UnixSeconds) -> Result<Vec<Posted>, LedgerError> {
        self.step(|| Ledger::notices(&self.ledger, now)).await
    }

    async fn texts(&self, keys: &[B256], now: UnixSeconds) -> Result<Vec<(B256, String)>, LedgerError> {
        self.step(|| Ledger::texts(&self.ledger, keys, now)).await
    }
}
