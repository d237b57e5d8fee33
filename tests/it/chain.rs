//! What became of a payment, asked from a real local chain.

mod eip3009;
mod history;
mod nodes;
mod permit2;

use std::time::Duration;

use alloy_primitives::{Address, B256, U256};
use tollgate::chain::settings::ChainSettings;
use tollgate::chain::{Chain as _, ChainError, EvmChain, Finding};
use tollgate::clock::UnixSeconds;
use tollgate::scheme::{OnChain, TransferWithAuthorization, authorization_digest};
use tollgate::secret::Secret;

use crate::support::Payer;
use crate::support::anvil::{Anvil, CHAIN_ID, TOKEN};

/// The price of everything here, in atomic units.
const PRICE: u64 = 10_000;

/// How long payments are valid, in seconds.
const VALIDITY: u64 = 600;

/// A chain, somebody with money on it, and somebody to pay.
struct Scene {
    anvil: Anvil,
    payer: Payer,
    payee: Address,
}

impl Scene {
    async fn start() -> Self {
        let anvil = Anvil::start().await;
        let payer = Payer::new();
        anvil.mint(payer.address(), 100 * PRICE).await;
        Self { anvil, payer, payee: Payer::new().address() }
    }

    fn chain(&self) -> EvmChain {
        chain(&self.anvil.url, 1)
    }

    async fn authorization(&self) -> TransferWithAuthorization {
        TransferWithAuthorization {
            from: self.payer.address(),
            to: self.payee,
            value: U256::from(PRICE),
            validAfter: U256::ZERO,
            validBefore: U256::from(self.anvil.time().await + VALIDITY),
            nonce: B256::random(),
        }
    }

    fn sign(&self, message: &TransferWithAuthorization) -> String {
        self.payer.sign(authorization_digest(message, "USDC", "2", CHAIN_ID, TOKEN))
    }

    async fn submit(&self, message: &TransferWithAuthorization) -> B256 {
        self.anvil.submit(message, &self.sign(message)).await
    }

    async fn now(&self) -> UnixSeconds {
        UnixSeconds(self.anvil.time().await)
    }

    /// Looks for a payment that was asked for just now.
    async fn look(&self, payment: &OnChain) -> Result<Finding, ChainError> {
        self.chain().look(payment, self.now().await, "").await
    }

    fn paid(&self, transaction: B256) -> Finding {
        Finding::Paid { transaction: transaction.to_string(), payer: self.payer.address().to_checksum(None) }
    }
}

fn settings(url: &str, confirmations: u64) -> ChainSettings {
    ChainSettings {
        network: "base-sepolia".parse().unwrap(),
        rpc: Secret::new(url.to_owned()),
        confirmations,
        timeout: Duration::from_secs(5),
        accept_used: true,
    }
}

fn chain(url: &str, confirmations: u64) -> EvmChain {
    EvmChain::new(&settings(url, confirmations)).unwrap()
}

fn on_chain(message: &TransferWithAuthorization) -> OnChain {
    OnChain::Eip3009 {
        chain_id: CHAIN_ID,
        asset: TOKEN,
        from: message.from,
        to: message.to,
        value: message.value,
        nonce: message.nonce,
        valid_before: UnixSeconds(message.validBefore.to()),
    }
}

fn spent_by(transaction: B256) -> Finding {
    Finding::Spent { transaction: Some(transaction.to_string()) }
}
