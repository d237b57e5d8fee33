//! What makes a payment single-use and remembers it: the contract; implementations are siblings.
//!
//! A cache may forget; a ledger may not. When it cannot promise to remember, it refuses.

#[cfg(test)]
pub(crate) mod contract;
mod memory;

use async_trait::async_trait;

use crate::clock::UnixSeconds;
use crate::scheme::PaymentId;
use crate::x402::SettleResponse;

pub use memory::MemoryLedger;

/// A payment about to be used for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewClaim {
    /// Identity of the payment.
    pub id: PaymentId,
    /// From when on the payment can no longer be settled, so that its claim may be forgotten;
    /// `None`: never.
    pub expires: Option<UnixSeconds>,
}

/// The life of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PaymentState {
    /// Reserved for a request in flight.
    Claimed,
    /// Being settled.
    Settling,
    /// Settled; the money moved.
    Settled,
    /// Sent to be settled, and the outcome is not known.
    Unresolved,
}

/// The answer to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    /// The payment is now reserved for the caller alone.
    New,
    /// Somebody else holds it, in this state.
    Held(PaymentState),
}

/// Why the ledger did nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// No room for another claim, and no claim may be dropped.
    #[error("the ledger is full: {live} live claims")]
    Full {
        /// Claims held.
        live: usize,
    },
    /// The step does not follow from the state the payment is in.
    #[error("payment {id} cannot become {wanted} from {found:?}")]
    WrongState {
        /// The payment.
        id: PaymentId,
        /// The step asked for.
        wanted: &'static str,
        /// The state found; `None`: not claimed at all.
        found: Option<PaymentState>,
    },
}

/// A ledger.
///
/// Promises every implementation keeps: of any number of concurrent claims of one payment exactly
/// one is [`Claimed::New`] until it is released; a claim that could still be settled is never
/// forgotten; a step that does not follow from the payment's state changes nothing.
///
/// ```text
/// claim -> Claimed -> settling -> Settling -> settled    -> Settled
///             |                      |-------- unresolved -> Unresolved -> settled | release
///             `------- release ------'         (told no)
/// ```
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Reserves a payment, at time `now`.
    ///
    /// # Errors
    /// [`LedgerError::Full`].
    async fn claim(&self, claim: &NewClaim, now: UnixSeconds) -> Result<Claimed, LedgerError>;

    /// The state of a payment, if it is held.
    ///
    /// # Errors
    /// When that cannot be found out.
    async fn state(&self, id: PaymentId) -> Result<Option<PaymentState>, LedgerError>;

    /// Records that settlement is about to be asked for. Must be durable before it returns.
    ///
    /// # Errors
    /// [`LedgerError::WrongState`].
    async fn settling(&self, id: PaymentId) -> Result<(), LedgerError>;

    /// Records a settlement that succeeded.
    ///
    /// # Errors
    /// [`LedgerError::WrongState`].
    async fn settled(&self, id: PaymentId, response: &SettleResponse) -> Result<(), LedgerError>;

    /// Records that the outcome of a settlement is not known.
    ///
    /// # Errors
    /// [`LedgerError::WrongState`].
    async fn unresolved(&self, id: PaymentId) -> Result<(), LedgerError>;

    /// Gives a payment back: it was not used, or settlement was refused in so many words.
    ///
    /// # Errors
    /// [`LedgerError::WrongState`] for one that is settled or not claimed.
    async fn release(&self, id: PaymentId) -> Result<(), LedgerError>;

    /// Number of payments held in each state, for metrics.
    async fn counts(&self) -> Vec<(PaymentState, usize)>;
}
