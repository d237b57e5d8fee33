//! What the ledger must be told however long it takes: a step whose cause has already happened.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::gate::Shared;
use crate::clock::UnixSeconds;
use crate::ledger::{ClaimToken, DeliveryEnd, LedgerError, NewClaim, Settlement};
use crate::x402::SettleResponse;

/// The first wait before a step is told again, doubled each time.
const RETRY_FIRST: Duration = Duration::from_millis(500);
/// The longest wait.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// A step that says how something ended.
#[derive(Debug, Clone)]
pub(super) enum Closing {
    /// Given back; without a reason no trace is left.
    Released { reason: Option<String> },
    /// Nobody was asked to settle, or reached, although it may have been recorded that somebody is.
    Abandoned { reason: String },
    /// Told no.
    Declined { reason: String },
    /// Settled, and nobody delivers at present.
    Settled { response: Box<SettleResponse>, unique_transaction: bool },
    /// The outcome is not known.
    Unresolved { reason: String, transaction: String, next_try: UnixSeconds },
    /// A delivery ended.
    Delivered { end: DeliveryEnd },
}

/// Counts something as under way while it lives, so that shutdown waits for it.
pub(super) struct UnderWay(Arc<Shared>);

impl UnderWay {
    pub(super) fn begin(shared: &Arc<Shared>) -> Self {
        shared.under_way.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(shared))
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Shared {
    /// Tells the ledger in a task of its own, which no client can end. The task ends after the first
    /// attempt; should the ledger be away, another goes on until it is told or the process ends, after
    /// which the next start finds the payment as it was left.
    pub(super) fn close_in_background(
        self: &Arc<Self>,
        token: ClaimToken,
        closing: Closing,
    ) -> JoinHandle<()> {
        let under_way = UnderWay::begin(self);
        self.runtime.spawn(async move { under_way.shared().close(token, closing).await })
    }

    pub(super) async fn close(self: &Arc<Self>, token: ClaimToken, closing: Closing) {
        let Err(error) = self.try_close(token, &closing).await else { return };
        if !Self::is_worth_repeating(token, &closing, &error) {
            return;
        }
        let shared = Arc::clone(self);
        self.runtime.spawn(async move {
            let mut wait = RETRY_FIRST;
            loop {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY_MAX);
                match shared.try_close(token, &closing).await {
                    Err(LedgerError::Unavailable(_)) => {}
                    // The attempt before may have been written although it was not answered.
                    Ok(()) | Err(LedgerError::WrongState { .. }) => return,
                }
            }
        });
    }

    /// Undoes a claim that was not answered, for as long as the ledger is away.
    pub(super) fn recant_in_background(self: &Arc<Self>, claim: NewClaim) {
        let shared = Arc::clone(self);
        self.runtime.spawn(async move {
            let mut wait = RETRY_FIRST;
            while shared.ledger.recant(&claim, shared.clock.now()).await.is_err() {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY_MAX);
            }
        });
    }

    fn is_worth_repeating(token: ClaimToken, closing: &Closing, error: &LedgerError) -> bool {
        match (error, closing) {
            (LedgerError::Unavailable(_), _) => {
                tracing::error!(payment = %token.id, %error, ?closing, "the ledger is told again later");
                true
            }
            // Its gateway counted as gone, and the rest was done by another.
            (
                LedgerError::WrongState { .. },
                Closing::Delivered { .. } | Closing::Released { .. } | Closing::Abandoned { .. },
            ) => false,
            (
                LedgerError::WrongState { .. },
                Closing::Declined { .. } | Closing::Settled { .. } | Closing::Unresolved { .. },
            ) => {
                tracing::error!(payment = %token.id, %error, ?closing, "a step was not taken");
                false
            }
        }
    }

    async fn try_close(&self, token: ClaimToken, closing: &Closing) -> Result<(), LedgerError> {
        let (ledger, now) = (&self.ledger, self.clock.now());
        match closing {
            Closing::Released { reason } => ledger.release(token, reason.as_deref(), now).await,
            Closing::Abandoned { reason } => ledger.abandoned(token, reason, now).await,
            Closing::Declined { reason } => ledger.declined(token, reason, now).await,
            Closing::Settled { response, unique_transaction } => {
                let settlement =
                    Settlement { response, deliver: false, unique_transaction: *unique_transaction };
                ledger.settled(token, settlement, now).await?;
                // It may have been recorded before, with a delivery that never began.
                match ledger.delivered(token, DeliveryEnd::NotBegun, now).await {
                    Err(LedgerError::WrongState { .. }) => Ok(()),
                    known => known,
                }
            }
            Closing::Unresolved { reason, transaction, next_try } => {
                ledger.unresolved(token, reason, transaction, *next_try, now).await
            }
            Closing::Delivered { end } => ledger.delivered(token, *end, now).await,
        }
    }
}
