//! What facilitators are told by the configuration.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use alloy_primitives::{Address, U256};

use crate::secret::Secret;
use crate::x402::Network;

/// A facilitator as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FacilitatorSettings {
    /// The built-in sandbox.
    Sandbox,
    /// One that is spoken to over HTTP.
    Http(HttpSettings),
    /// The gateway itself, on a chain.
    Onchain(Box<OnchainSettings>),
}

impl FacilitatorSettings {
    /// Name in the configuration, in logs and metrics.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Http(http) => &http.name,
            Self::Onchain(onchain) => &onchain.name,
        }
    }
}

/// A facilitator that puts payments on a chain itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnchainSettings {
    /// Name in the configuration.
    pub name: String,
    /// The network it settles on.
    pub network: Network,
    /// URL of a node; the path often holds a key.
    pub rpc: Secret<String>,
    /// The key that pays for gas, in hexadecimal digits.
    pub key: Secret<String>,
    /// Blocks that a payment's transaction must be in and under; 1: its own.
    pub confirmations: u64,
    /// The most that is offered for gas, in wei.
    pub max_fee: u128,
    /// The most gas a settlement may use.
    pub gas_limit: u64,
    /// The balance below which the log warns, in wei; `None`: what a hundred settlements cost.
    pub low_balance: Option<U256>,
    /// When a transaction that is in no block is sent again with a higher fee.
    pub replace_after: Duration,
    /// Contracts that may be called to deploy a payer's wallet (ERC-6492).
    pub wallet_factories: Vec<Address>,
    /// Limit for a verification.
    pub verify_timeout: Duration,
    /// How long a settlement is waited for; what was sent until then is pending.
    pub settle_timeout: Duration,
}

impl OnchainSettings {
    /// The usual settings, with these.
    #[must_use]
    pub fn new(name: &str, network: Network, rpc: Secret<String>, key: Secret<String>) -> Self {
        Self {
            name: name.to_owned(),
            max_fee: usual_max_fee(&network),
            network,
            rpc,
            key,
            confirmations: 1,
            gas_limit: 500_000,
            low_balance: None,
            replace_after: Duration::from_secs(30),
            wallet_factories: Vec::new(),
            verify_timeout: Duration::from_secs(10),
            settle_timeout: Duration::from_secs(60),
        }
    }
}

/// The ceiling for fees where none is written, in wei: far above what a network usually asks for, and
/// still no fortune.
fn usual_max_fee(network: &Network) -> u128 {
    let gwei = match network.chain_id() {
        // Polygon and its test network, whose coin is worth little.
        Some(137 | 80002) => 1000,
        // Avalanche, Celo and their test networks.
        Some(43114 | 43113 | 42220 | 11_142_220) => 200,
        _ => 10,
    };
    gwei * 1_000_000_000
}

/// How this gateway serves as a facilitator to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSettings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What callers must show; `None` only on a loopback address.
    pub token: Option<Secret<String>>,
    /// Largest body that is read, in bytes.
    pub body_bytes: usize,
    /// Requests answered at a time; beyond it callers are sent away.
    pub in_flight: usize,
    /// How long nothing may happen on a connection: longer than a settlement takes.
    pub idle_timeout: Duration,
}

/// A facilitator behind an HTTP API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSettings {
    /// Name in the configuration.
    pub name: String,
    /// Base URL, without a trailing slash.
    pub url: String,
    /// How the gateway identifies itself.
    pub auth: Auth,
    /// PEM certificates to trust instead of the system's, for a facilitator with a private CA.
    pub ca_file: Option<PathBuf>,
    /// Limit for a verification.
    pub verify_timeout: Duration,
    /// Limit for a settlement; public chains need tens of seconds.
    pub settle_timeout: Duration,
    /// How long a `/supported` answer counts as fresh.
    pub supported_ttl: Duration,
}

/// How the gateway identifies itself to a facilitator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// Not at all.
    None,
    /// `Authorization: Bearer …`.
    Bearer(Secret<String>),
    /// A header of the facilitator's choice.
    Header {
        /// Header name, lower case.
        name: String,
        /// Its value.
        value: Secret<String>,
    },
    /// A fresh JWT for each request, as Coinbase's CDP wants it.
    Cdp {
        /// API key id.
        key_id: String,
        /// Base64 of 64 bytes (Ed25519 seed and public key) or a PEM EC key (P-256).
        key: Secret<String>,
    },
}
