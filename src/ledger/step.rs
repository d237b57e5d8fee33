//! The steps of a payment's life as values: every implementation queues them, writes many in one
//! transaction, and lets [`machine`](super::machine) decide each.

use std::time::Duration;

use alloy_primitives::B256;
use async_trait::async_trait;

use super::{
    Accounts, ClaimToken, Claimed, Counts, DeliveryEnd, Intended, Intent, Ledger, LedgerError, NewClaim,
    Notice, Posted, Recorded, Settlement, TakenOver, Unresolved,
};
use crate::clock::UnixSeconds;
use crate::scheme::PaymentId;
use crate::x402::SettleResponse;

/// A step.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Claim(Box<NewClaim>),
    Recant(Box<NewClaim>),
    Release { token: ClaimToken, reason: Option<String> },
    Settling { token: ClaimToken, intent: Box<Intent> },
    Abandoned { token: ClaimToken, reason: String },
    Settled { token: ClaimToken, response: Box<SettleResponse>, deliver: bool, unique_transaction: bool },
    Declined { token: ClaimToken, reason: String },
    Unresolved { token: ClaimToken, reason: String, transaction: String, next_try: UnixSeconds },
    Delivered { token: ClaimToken, end: DeliveryEnd },
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Claimed(Claimed),
    Intended(Intended),
    Recorded(Recorded),
    Done,
}

impl Step {
    /// The payment it is about.
    pub(super) fn id(&self) -> PaymentId {
        match self {
            Self::Claim(claim) | Self::Recant(claim) => claim.id,
            Self::Release { token, .. }
            | Self::Settling { token, .. }
            | Self::Abandoned { token, .. }
            | Self::Settled { token, .. }
            | Self::Declined { token, .. }
            | Self::Unresolved { token, .. }
            | Self::Delivered { token, .. } => token.id,
        }
    }

    /// Whether it must survive a loss of power once it is answered.
    pub(super) const fn is_durable(&self) -> bool {
        match self {
            Self::Settling { .. }
            | Self::Abandoned { .. }
            | Self::Settled { .. }
            | Self::Declined { .. }
            | Self::Unresolved { .. } => true,
            Self::Claim(_) | Self::Recant(_) | Self::Release { .. } | Self::Delivered { .. } => false,
        }
    }
}

/// A ledger that takes its steps as values.
#[async_trait]
pub(super) trait Steps: Accounts {
    /// Takes a step; returns when it is written, and durable where it must be.
    async fn step(&self, step: Step, now: UnixSeconds) -> Result<Answer, LedgerError>;
    async fn due(
        &self,
        now: UnixSeconds,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<Unresolved>, LedgerError>;
    async fn beat(&self, now: UnixSeconds) -> Result<TakenOver, LedgerError>;
    async fn forget(&self, retention_seconds: u64, now: UnixSeconds) -> Result<u64, LedgerError>;
    async fn counts(&self) -> Result<Counts, LedgerError>;
    async fn birth(&self) -> Result<UnixSeconds, LedgerError>;
    fn is_shared(&self) -> bool;
    async fn put_up(
        &self,
        notices: &[Notice],
        lifetime: Duration,
        now: UnixSeconds,
    ) -> Result<(), LedgerError>;
    async fn leave_up(
        &self,
        keys: &[B256],
        lifetime: Duration,
        now: UnixSeconds,
    ) -> Result<Vec<B256>, LedgerError>;
    async fn notices(&self, now: UnixSeconds) -> Result<Vec<Posted>, LedgerError>;
    async fn texts(&self, keys: &[B256], now: UnixSeconds) -> Result<Vec<(B256, String)>, LedgerError>;
}

/// An answer of another kind than its step's is a mistake of the implementation; nothing is granted.
fn misfit() -> LedgerError {
    LedgerError::Unavailable("it answered another question than it was asked".to_owned())
}

#[async_trait]
impl<T: Steps> Ledger for T {
    async fn claim(&self, claim: &NewClaim, now: UnixSeconds) -> Result<Claimed, LedgerError> {
        match self.step(Step::Claim(Box::new(claim.clone())), now).await? {
            Answer::Claimed(claimed) => Ok(claimed),
            Answer::Intended(_) | Answer::Recorded(_) | Answer::Done => Err(misfit()),
        }
    }

    async fn recant(&self, claim: &NewClaim, now: UnixSeconds) -> Result<(), LedgerError> {
        self.step(Step::Recant(Box::new(claim.clone())), now).await.map(drop)
    }

    async fn release(
        &self,
        token: ClaimToken,
        reason: Option<&str>,
        now: UnixSeconds,
    ) -> Result<(), LedgerError> {
        self.step(Step::Release { token, reason: reason.map(str::to_owned) }, now).await.map(drop)
    }

    async fn settling(
        &self,
        token: ClaimToken,
        intent: Intent,
        now: UnixSeconds,
    ) -> Result<Intended, LedgerError> {
        match self.step(Step::Settling { token, intent: Box::new(intent) }, now).await? {
            Answer::Intended(intended) => Ok(intended),
            Answer::Claimed(_) | Answer::Recorded(_) | Answer::Done => Err(misfit()),
        }
    }

    async fn abandoned(&self, token: ClaimToken, reason: &str, now: UnixSeconds) -> Result<(), LedgerError> {
        self.step(Step::Abandoned { token, reason: reason.to_owned() }, now).await.map(drop)
    }

    async fn settled(
        &self,
        token: ClaimToken,
        settlement: Settlement<'_>,
        now: UnixSeconds,
    ) -> Result<Recorded, LedgerError> {
        let Settlement { response, deliver, unique_transaction } = settlement;
        let response = Box::new(response.clone());
        match self.step(Step::Settled { token, response, deliver, unique_transaction }, now).await? {
            Answer::Recorded(recorded) => Ok(recorded),
            Answer::Claimed(_) | Answer::Intended(_) | Answer::Done => Err(misfit()),
        }
    }

    async fn declined(&self, token: ClaimToken, reason: &str, now: UnixSeconds) -> Result<(), LedgerError> {
        self.step(Step::Declined { token, reason: reason.to_owned() }, now).await.map(drop)
    }

    async fn unresolved(
        &self,
        token: ClaimToken,
        reason: &str,
        transaction: &str,
        next_try: UnixSeconds,
        now: UnixSeconds,
    ) -> Result<(), LedgerError> {
        let (reason, transaction) = (reason.to_owned(), transaction.to_owned());
        self.step(Step::Unresolved { token, reason, transaction, next_try }, now).await.map(drop)
    }

    async fn due(
        &self,
        now: UnixSeconds,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<Unresolved>, LedgerError> {
        Steps::due(self, now, lease, limit).await
    }

    async fn delivered(
        &self,
        token: ClaimToken,
        end: DeliveryEnd,
        now: UnixSeconds,
    ) -> Result<(), LedgerError> {
        self.step(Step::Delivered { token, end }, now).await.map(drop)
    }

    async fn beat(&self, now: UnixSeconds) -> Result<TakenOver, LedgerError> {
        Steps::beat(self, now).await
    }

    async fn forget(&self, retention_seconds: u64, now: UnixSeconds) -> Result<u64, LedgerError> {
        Steps::forget(self, retention_seconds, now).await
    }

    async fn counts(&self) -> Result<Counts, LedgerError> {
        Steps::counts(self).await
    }

    async fn birth(&self) -> Result<UnixSeconds, LedgerError> {
        Steps::birth(self).await
    }

    fn is_shared(&self) -> bool {
        Steps::is_shared(self)
    }

    async fn put_up(
        &self,
        notices: &[Notice],
        lifetime: Duration,
        now: UnixSeconds,
    ) -> Result<(), LedgerError> {
        Steps::put_up(self, notices, lifetime, now).await
    }

    async fn leave_up(
        &self,
        keys: &[B256],
        lifetime: Duration,
        now: UnixSeconds,
    ) -> Result<Vec<B256>, LedgerError> {
        Steps::leave_up(self, keys, lifetime, now).await
    }

    async fn notices(&self, now: UnixSeconds) -> Result<Vec<Posted>, LedgerError> {
        Steps::notices(self, now).await
    }

    async fn texts(&self, keys: &[B256], now: UnixSeconds) -> Result<Vec<(B256, String)>, LedgerError> {
        Steps::texts(self, keys, now).await
    }
}
