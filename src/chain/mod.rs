//! What became of a payment, as the chain itself tells: the contract; [`EvmChain`] asks a node.
//!
//! A facilitator may lose its answer, lie or vanish, and anybody who saw a payment may submit it. The
//! chain knows whether its nonce is spent, and by what.

mod evm;
pub mod rpc;
pub mod settings;

use alloy_primitives::{Address, B256, U256};
use async_trait::async_trait;

use crate::clock::UnixSeconds;
use crate::scheme::OnChain;
use crate::x402::Network;

pub use evm::EvmChain;
pub(crate) use evm::{Deed, Wanted, deed_in};

/// What became of a payment, judged at the depth that counts as final. `Paid`, `Spent` and `Expired`
/// never change again; `Open` may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The money moved from the payer to the payee, all of it, whoever submitted the payment.
    Paid {
        /// The transaction, as the network writes it.
        transaction: String,
        /// The payer, as the network writes it.
        payer: String,
        /// The time of its block, by the chain's clock.
        time: UnixSeconds,
    },
    /// The nonce is spent, but not by this payment reaching its payee: it was cancelled, used for
    /// another transfer, or spent before the time that was asked about. It can never be settled.
    Spent {
        /// The transaction, where one is known.
        transaction: Option<String>,
    },
    /// Not used, and it still can be.
    Open,
    /// Not used, and it no longer can be.
    Expired,
}

/// Why the chain gave no answer: nothing is known of the payment. In an operator's words, without the
/// node's URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{cause}")]
pub struct ChainError {
    /// What went wrong.
    pub cause: String,
}

impl ChainError {
    fn new(cause: impl Into<String>) -> Self {
        Self { cause: cause.into() }
    }
}

/// Money that somebody received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// From whom.
    pub from: Address,
    /// How much, in the smallest unit of the asset.
    pub value: U256,
    /// The transaction.
    pub transaction: B256,
    /// The event's place in the block; with the block's number it is unique on the chain.
    pub log_index: u64,
    /// The block's number.
    pub block: u64,
    /// The block's time.
    pub time: UnixSeconds,
}

/// How the nonce of an EIP-3009 authorization was spent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NonceUse {
    /// The transaction.
    pub transaction: B256,
    /// Cancelled by its payer instead of used.
    pub cancelled: bool,
    /// The block's time.
    pub time: UnixSeconds,
}

/// A chain that can be asked.
///
/// Every answer is about blocks that are deep enough to be final; how deep that is belongs to the
/// chain's settings. Whatever a node does not answer, or answers in a way that cannot be, is an error,
/// and an error means that nothing is known.
#[async_trait]
pub trait Chain: Send + Sync {
    /// The network.
    fn network(&self) -> &Network;

    /// What became of a payment. `since` is how far back it matters, such as when its settlement was
    /// first asked for: a payment spent well before counts as [`Finding::Spent`], whoever got the
    /// money (what is found in passing is told nevertheless). `hint` is the transaction that a
    /// facilitator named, or empty; never one that a client named.
    ///
    /// # Errors
    /// See [`ChainError`].
    async fn look(&self, payment: &OnChain, since: UnixSeconds, hint: &str) -> Result<Finding, ChainError>;

    /// The time of the latest block, however deep it is, by the chain's clock.
    ///
    /// # Errors
    /// See [`ChainError`].
    async fn head(&self) -> Result<UnixSeconds, ChainError>;

    /// What an address received of an asset in blocks from one time to another, both included, in the
    /// order of the chain.
    ///
    /// # Errors
    /// See [`ChainError`]; also when it is too much for one answer.
    async fn received(
        &self,
        asset: Address,
        to: Address,
        from: UnixSeconds,
        until: UnixSeconds,
    ) -> Result<Vec<Received>, ChainError>;

    /// How the nonce of an EIP-3009 authorization was spent; `None` when it was not since `since`.
    ///
    /// # Errors
    /// See [`ChainError`].
    async fn nonce_use(
        &self,
        asset: Address,
        authorizer: Address,
        nonce: B256,
        since: UnixSeconds,
    ) -> Result<Option<NonceUse>, ChainError>;
}
