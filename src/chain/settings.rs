//! What chains are told by the configuration.

use std::time::Duration;

use crate::secret::Secret;
use crate::x402::Network;

/// A chain as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainSettings {
    /// The network, an EVM one.
    pub network: Network,
    /// URL of a node; often with a key in it.
    pub rpc: Secret<String>,
    /// How deep a block must be to count: 1 is the latest one.
    pub confirmations: u64,
    /// Limit for one question to the node.
    pub timeout: Duration,
    /// Whether a payment that somebody else submitted counts once the money is there. Only right when
    /// no other ledger has the same payees.
    pub accept_used: bool,
}
