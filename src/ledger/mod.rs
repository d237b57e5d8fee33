//! What makes a payment single-use and remembers it: the contract; implementations are siblings.
//!
//! A cache may forget; a ledger may not. When it cannot promise to remember, it refuses.

#[cfg(test)]
pub(crate) mod contract;
mod machine;
#[cfg(test)]
mod model;
mod open;
mod postgres;
mod record;
pub mod settings;
mod sqlite;
mod step;

use std::time::Duration;

use alloy_primitives::B256;
use async_trait::async_trait;

use crate::clock::UnixSeconds;
use crate::scheme::PaymentId;

#[cfg(test)]
pub(crate) use model::ModelLedger;
pub use open::{OpenError, open, read};
pub use record::{
    ClaimToken, Claimed, DeliveryEnd, GatewayId, Intended, Intent, NewClaim, Particulars, PayerLimits,
    PaymentRecord, PaymentState, Recorded, Redelivery, Settlement, ToldPayer, Unresolved,
};

/// Seconds a payment is kept beyond its expiry, for clocks that disagree with the chain's.
pub const EXPIRY_GRACE_SECONDS: u64 = 60;
/// Seconds between two attempts at one unresolved payment, however often its payer asks.
pub const HURRY_SECONDS: u64 = 3;
/// Notices that are listed at most.
pub const NOTICES_MAX: u32 = 20_000;

/// Why the ledger did nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// It cannot be read or written: the disk is full, the database is away. Whether the step was
    /// taken is not known.
    #[error("the ledger cannot be used: {0}")]
    Unavailable(String),
    /// The step does not follow from the state the payment is in, or the claim is not the caller's
    /// any more.
    #[error("payment {id} cannot become {wanted} from {}", found.map_or("nothing", PaymentState::as_str))]
    WrongState {
        /// The payment.
        id: PaymentId,
        /// The step asked for.
        wanted: &'static str,
        /// The state found; `None`: not known, or claimed by somebody else since.
        found: Option<PaymentState>,
    },
}

/// What was left behind by gateways that are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TakenOver {
    /// Claims that were given back: their settlement had not been asked for.
    pub released: u64,
    /// Settlements whose outcome is not known.
    pub unresolved: u64,
    /// Deliveries that broke off, and drives of unresolved payments that ended.
    pub broken_off: u64,
}

/// How much is held, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Payments reserved for requests in flight.
    pub claimed: u64,
    /// Payments being settled.
    pub settling: u64,
    /// Payments whose outcome is not known.
    pub unresolved: u64,
    /// When settlement of the oldest of those was asked for.
    pub oldest_unresolved: Option<UnixSeconds>,
}

/// What a gateway lets others know for a while, those that come after it included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Names it. The same key always stands for the same text.
    pub key: B256,
    /// What it says; without the character NUL.
    pub text: String,
    /// Whether [`Ledger::notices`] lists it. What is not listed is found by its key alone.
    pub listed: bool,
}

/// A listed notice that is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posted {
    /// Which.
    pub key: B256,
    /// How much longer.
    pub lifetime: Duration,
}

/// Which payments are meant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Claimed at this time or later.
    pub since: Option<UnixSeconds>,
    /// Claimed before this time.
    pub until: Option<UnixSeconds>,
    /// Of this route.
    pub route: Option<String>,
    /// By this payer; letter case does not matter.
    pub payer: Option<String>,
    /// In one of these states; empty: in any.
    pub states: Vec<PaymentState>,
}

/// The books: what can be read, also beside a running gateway.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// A payment, if it is remembered.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`].
    async fn get(&self, id: PaymentId) -> Result<Option<PaymentRecord>, LedgerError>;

    /// At most `limit` payments with identities from `first` to `last`, both included, in the order of
    /// these: identities that begin alike lie together.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`].
    async fn between(
        &self,
        first: PaymentId,
        last: PaymentId,
        limit: u32,
    ) -> Result<Vec<PaymentRecord>, LedgerError>;

    /// At most `limit` payments, ordered by time of claim and then by identity, behind `after`
    /// (the last one of the page before).
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`].
    async fn list(
        &self,
        filter: &Filter,
        after: Option<(UnixSeconds, PaymentId)>,
        limit: u32,
    ) -> Result<Vec<PaymentRecord>, LedgerError>;
}

/// A ledger.
///
/// ```text
/// claim -> Claimed -> settling -> Settling -> settled     -> Settled -> delivered -> Delivered
///             |                      |----- declined      -> Declined
///             |                      |----- abandoned     -> Declined: nobody was reached
///             |                      `----- unresolved    -> Unresolved -> settled | declined
///             `------ release ------------------------------> Released, or no trace
/// ```
///
/// Promises every implementation keeps, whatever number of gateways share it:
///
/// - Of any number of concurrent claims of one payment exactly one is [`Claimed::New`], until it is
///   given back or declined.
/// - For each settled payment one delivery is granted, again if nothing of it was sent. Another one is
///   granted only when the one before broke off (or its gateway is gone), for the same GET or HEAD request, within the window
///   and the number of tries of the [`Redelivery`]; a claim with the identifier of the settled
///   payment is granted those tries also after a complete delivery.
/// - What could still be settled is never forgotten, nor is what is unresolved.
/// - A step that does not follow from the payment's state, or is taken with a token of an earlier
///   attempt, changes nothing.
/// - [`settling`](Self::settling) and the outcome of a settlement are durable when they return, power
///   loss included; what comes before and after may be lost with the power, which only ever means
///   that a payment was not asked for, or that a delivery counts as broken off.
/// - When it cannot keep these promises it returns [`LedgerError::Unavailable`].
#[async_trait]
pub trait Ledger: Accounts {
    /// Reserves a payment, or says why not. An unresolved payment that is presented for the same
    /// request becomes due at once, though not sooner than [`HURRY_SECONDS`] after it was last driven.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`].
    async fn claim(&self, claim: &NewClaim, now: UnixSeconds) -> Result<Claimed, LedgerError>;

    /// Undoes a claim whose answer was lost: what it may have been granted is given back.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`].
    async fn recant(&self, claim: &NewClaim, now: UnixSeconds) -> Result<(), LedgerError>;

    /// Gives a claimed payment back. With a reason it is recorded as released; without one it leaves
    /// no trace, so that what was never verified cannot fill the books.
    ///
    /// # Errors
    /// Every [`LedgerError`].
    async fn release(
        &self,
        token: ClaimToken,
        reason: Option<&str>,
        now: UnixSeconds,
    ) -> Result<(), LedgerError>;

    /// Records that settlement is about to be asked for, what for and whom. Durable when it returns. Once
    /// more from `Settling`, when the facilitator recorded before was provably not reached and another is
    /// about to be asked the same; all but its name stays as it is then.
    ///
    /// A payer told here is in the books from now on, and what is pledged by this payment counts. Unless
    /// the same payment can be written in ways that look like different ones
    /// ([`Intent::unique_transaction`]): then anybody could make many of one and use its payer's limits up.
    ///
    /// # Errors
    /// Every [`LedgerError`]; after each of them settlement must not be asked for.
    async fn settling(
        &self,
        token: ClaimToken,
        intent: Intent,
        now: UnixSeconds,
    ) -> Result<Intended, LedgerError>;

    /// Records that nobody was asked to settle, or reached: from `Claimed`, or from `Settling` where that
    /// was recorded. For the holder of the claim alone: whoever took it over may have asked since.
    ///
    /// # Errors
    /// Every [`LedgerError`].
    async fn abandoned(&self, token: ClaimToken, reason: &str, now: UnixSeconds) -> Result<(), LedgerError>;

    /// Records that the money moved, from `Settling` or `Unresolved`, and grants the delivery. Durable
    /// when it returns.
    ///
    /// # Errors
    /// Every [`LedgerError`].
    async fn settled(
        &self,
        token: ClaimToken,
        settlement: Settlement<'_>,
        now: UnixSeconds,
    ) -> Result<Recorded, LedgerError>;

    /// Records that settlement was refused in so many words: no money moved.
    /// From `Settling` or `Unresolved`.
    ///
    /// # Errors
    /// Every [`LedgerError`].
    async fn declined(&self, token: ClaimToken, reason: &str, now: UnixSeconds) -> Result<(), LedgerError>;

    /// Records that the outcome of a settlement is not known, and from when on it should be driven.
    /// From `Settling`, or again from `Unresolved` after a drive that found nothing out.
    /// `transaction` is kept when it is not empty.
    ///
    /// # Errors
    /// Every [`LedgerError`].
    async fn unresolved(
        &self,
        token: ClaimToken,
        reason: &str,
        transaction: &str,
        next_try: UnixSeconds,
        now: UnixSeconds,
    ) -> Result<(), LedgerError>;

    /// Takes at most `limit` unresolved payments that are due, for the caller alone, for `lease` or
    /// until its gateway is gone, whichever comes first.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`].
    async fn due(
        &self,
        now: UnixSeconds,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<Unresolved>, LedgerError>;

    /// Records how a granted delivery ended.
    ///
    /// # Errors
    /// Every [`LedgerError`].
    async fn delivered(
        &self,
        token: ClaimToken,
        end: DeliveryEnd,
        now: UnixSeconds,
    ) -> Result<(), LedgerError>;

    /// Shows that this gateway is alive, and takes over what others left behind that are not. To be
    /// called at start, before anything else, and every few seconds.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`].
    async fn beat(&self, now: UnixSeconds) -> Result<TakenOver, LedgerError>;

    /// Forgets payments whose state last changed more than `retention_seconds` ago, can no longer be
    /// settled and are not in use nor unresolved; says how many.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`].
    async fn forget(&self, retention_seconds: u64, now: UnixSeconds) -> Result<u64, LedgerError>;

    /// How much is held.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`].
    async fn counts(&self) -> Result<Counts, LedgerError>;

    /// Since when it has kept account: of a payment made before, it does not know what it bought. When
    /// it was created; for one of a version that took no note of that, when it was brought up to date,
    /// or its oldest claim if that is earlier.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`].
    async fn birth(&self) -> Result<UnixSeconds, LedgerError>;

    /// Whether other gateways may use it at the same time.
    fn is_shared(&self) -> bool;

    /// Puts notices up for so long, or for longer where they are up already. Whoever uses the ledger
    /// sees them when it returns.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`].
    async fn put_up(
        &self,
        notices: &[Notice],
        lifetime: Duration,
        now: UnixSeconds,
    ) -> Result<(), LedgerError>;

    /// Leaves notices up for at least so long from now on, whoever put them up, and takes down what
    /// has run out. Says which of them are not there.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`].
    async fn leave_up(
        &self,
        keys: &[B256],
        lifetime: Duration,
        now: UnixSeconds,
    ) -> Result<Vec<B256>, LedgerError>;

    /// The listed notices that are up, no matter who put them up: those that stay up longest first, at
    /// most [`NOTICES_MAX`].
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`].
    async fn notices(&self, now: UnixSeconds) -> Result<Vec<Posted>, LedgerError>;

    /// What those of these notices say that are up, listed or not, in any order.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`].
    async fn texts(&self, keys: &[B256], now: UnixSeconds) -> Result<Vec<(B256, String)>, LedgerError>;
}
