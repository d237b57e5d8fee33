//! How a payment is understood: one file per scheme of the specification, no I/O.
//!
//! A scheme reads its own part of a payment, checks all that needs no chain, and derives the
//! [`PaymentId`] that makes the payment single-use. What only a chain can tell (balances, used
//! nonces, contract wallets) is left to the facilitator.

mod ed25519;
mod evm;
mod exact_evm;
mod exact_svm;
mod opaque;
pub mod permit2;
#[cfg(test)]
pub(crate) mod testing;

use std::fmt;

use alloy_primitives::{Address, B256, U256};
use serde_json::{Map, Value};

use crate::clock::UnixSeconds;
use crate::x402::{Network, PaymentRequirements, Reason};

pub use evm::EXTRA_VALIDITY_SECONDS;
pub use exact_evm::{ExactEvm, TransferWithAuthorization, authorization_digest, read_authorization};
pub use exact_svm::ExactSvm;
pub use opaque::Opaque;
pub use permit2::{EXACT_PROXY, PERMIT2};

/// What makes two presentations the same payment: a hash over decoded values (chain, asset, payer,
/// nonce), never over header text, so that no re-encoding makes a second payment out of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PaymentId(pub B256);

impl fmt::Display for PaymentId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A payment as its scheme understands it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// Identity for single use.
    pub id: PaymentId,
    /// Who pays, in the network's own notation; unknown where only the facilitator can tell.
    pub payer: Option<String>,
    /// Whether the payer's own signature was checked here. Otherwise anybody may have written down
    /// somebody else's name.
    pub proven: bool,
    /// From when on the payment can no longer be settled; `None` when that is not known.
    pub expires: Option<UnixSeconds>,
    /// Whether the same payment can be written in ways that give different identities, because the
    /// scheme is not understood here. Then its transaction is made single-use as well.
    pub malleable: bool,
    /// The reason, when it ends too soon to be settled after the origin's answer, or has ended;
    /// everything else about it is right. It buys nothing, but may be one that was settled before.
    pub too_late: Option<Reason>,
}

/// A payment in the terms of the chain it is made on: what to look for there to learn what became of
/// it. Amounts in the smallest unit of the asset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnChain {
    /// An authorization of the token itself, single-use by a nonce of the payer (EIP-3009).
    Eip3009 {
        /// Chain (EIP-155).
        chain_id: u64,
        /// The token.
        asset: Address,
        /// Who pays.
        from: Address,
        /// Who is paid.
        to: Address,
        /// How much.
        value: U256,
        /// What makes it single-use.
        nonce: B256,
        /// The token takes it in blocks before this time only.
        valid_before: UnixSeconds,
    },
    /// A permit that the x402 proxy for `exact` spends, single-use by a bit of the payer at Permit2.
    Permit2 {
        /// Chain (EIP-155).
        chain_id: u64,
        /// The token.
        token: Address,
        /// Who pays.
        owner: Address,
        /// Who is paid.
        to: Address,
        /// How much.
        amount: U256,
        /// What makes it single-use.
        nonce: U256,
        /// Permit2 takes it in blocks of this time and before.
        deadline: UnixSeconds,
    },
}

impl OnChain {
    /// The chain the payment is made on (EIP-155).
    #[must_use]
    pub const fn chain_id(&self) -> u64 {
        match self {
            Self::Eip3009 { chain_id, .. } | Self::Permit2 { chain_id, .. } => *chain_id,
        }
    }

    /// Who pays.
    #[must_use]
    pub const fn payer(&self) -> Address {
        match self {
            Self::Eip3009 { from, .. } => *from,
            Self::Permit2 { owner, .. } => *owner,
        }
    }

    /// The last second a block can have that still takes the payment.
    #[must_use]
    pub const fn last_second(&self) -> UnixSeconds {
        match self {
            Self::Eip3009 { valid_before, .. } => UnixSeconds(valid_before.0.saturating_sub(1)),
            Self::Permit2 { deadline, .. } => *deadline,
        }
    }
}

/// The time a payment is judged at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The clock.
    pub now: UnixSeconds,
    /// Seconds the payment must stay valid: the origin's time and the settlement's.
    pub margin_seconds: u64,
}

/// A payment scheme on a family of networks.
pub trait Scheme: Send + Sync + fmt::Debug {
    /// Name on the wire: `exact`, ….
    fn name(&self) -> &'static str;

    /// Whether this implementation knows payments on `network`.
    fn serves(&self, network: &Network) -> bool;

    /// Members of `extra` that the facilitator's `/supported` must provide before the scheme can be
    /// offered. Facilitators rotate them, so any recently advertised value is accepted.
    fn advertised_extra(&self) -> &'static [&'static str] {
        &[]
    }

    /// Understands a payment for `requirements` and checks what needs no chain.
    ///
    /// # Errors
    /// The reason a client is told. An error is final: such a payment can never be settled here.
    fn inspect(
        &self,
        requirements: &PaymentRequirements,
        payload: &Map<String, Value>,
        moment: Moment,
    ) -> Result<Authorization, Reason>;

    /// What to look for on the chain, for a payment that [`Scheme::inspect`] understands, whatever
    /// the time; `None` where nothing there tells such payments apart, and for any other payload.
    fn on_chain(&self, requirements: &PaymentRequirements, payload: &Map<String, Value>) -> Option<OnChain> {
        let _ = (requirements, payload);
        None
    }
}

/// Every scheme understood locally.
pub static SCHEMES: &[&dyn Scheme] = &[&ExactEvm, &ExactSvm];

/// The implementation for a scheme on a network; one the gateway does not know itself is left to
/// the facilitator whole ([`Opaque`]).
#[must_use]
pub fn find(name: &str, network: &Network) -> &'static dyn Scheme {
    SCHEMES.iter().copied().find(|scheme| scheme.name() == name && scheme.serves(network)).unwrap_or(&Opaque)
}
