//! Who verifies and settles payments: the contract; its implementations are the siblings.
//!
//! The contract separates *told no* from *answer lost*, because only the first makes it safe to
//! give a payment back to its payer.

pub mod cdp;
#[cfg(test)]
pub(crate) mod contract;
#[cfg(test)]
pub(crate) mod fake;
mod http;
mod list;
mod metered;
pub mod onchain;
mod sandbox;
pub mod serve;
pub mod settings;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::x402::types::FacilitatorRequest;
use crate::x402::{SettleResponse, Supported, VerifyResponse};

pub use http::{HttpFacilitator, dialect};
pub use list::{FacilitatorList, Turns, Verified};
pub use metered::Metered;
pub use onchain::Onchain;
pub use sandbox::Sandbox;

/// Target of every log event of this module.
const TARGET: &str = "tollgate::facilitator";

/// Why a facilitator gave no usable answer to a question that changes nothing (`/verify`,
/// `/supported`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("facilitator {facilitator}: {cause}")]
pub struct Unavailable {
    /// Name of the facilitator.
    pub facilitator: String,
    /// What happened, for the operator; never shown to clients.
    pub cause: String,
    /// When it may be worth trying again.
    pub retry_after: Duration,
}

/// What came of a settlement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettleOutcome {
    /// `success: true`: the money moved.
    Settled(SettleResponse),
    /// `success: false`, told in so many words: the money did not move and will not.
    Declined(SettleResponse),
    /// `settlement_pending` with a transaction: sent, outcome not known yet.
    Pending(SettleResponse),
    /// The request provably never left the gateway: nothing can have happened.
    Unreachable(Unavailable),
    /// Sent, and no answer that can be believed came back: the money may have moved.
    AnswerLost(Unavailable),
}

/// A facilitator.
///
/// Promises every implementation keeps: each call ends within its deadline; an answer that cannot
/// be understood is an error, never a yes; [`SettleOutcome::Unreachable`] and
/// [`SettleOutcome::Declined`] are only given when the payment cannot have been settled by the call.
#[async_trait]
pub trait Facilitator: Send + Sync {
    /// Name in the configuration, for logs and metrics.
    fn name(&self) -> &str;

    /// What it settles.
    ///
    /// # Errors
    /// [`Unavailable`] when it is not known; an answer may be a cached one.
    async fn supported(&self) -> Result<Arc<Supported>, Unavailable>;

    /// Asks whether a payment could be settled. Changes nothing.
    ///
    /// # Errors
    /// [`Unavailable`] when there is no answer that can be believed.
    async fn verify(&self, request: &FacilitatorRequest) -> Result<VerifyResponse, Unavailable>;

    /// Settles a payment.
    async fn settle(&self, request: &FacilitatorRequest) -> SettleOutcome;
}

/// Identity of a request: SHA-256 of what is sent.
fn body_digest(request: &FacilitatorRequest) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, &request.body).as_ref());
    bytes
}
