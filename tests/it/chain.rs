//! What became of a payment, asked from a real local chain.

mod eip3009;
mod history;
mod nodes;
mod permit2;

use std::time::Duration;

use alloy_primitives::{Address, B256, U256};
use serde_json::json;
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

    /// What is found of a payment that a transaction made.
    async fn paid(&self, transaction: B256) -> Finding {
        self.paid_by(self.payer.address(), transaction).await
    }

    async fn paid_by(&self, payer: Address, transaction: B256) -> Finding {
        let receipt = self.anvil.receipt(transaction).await;
        let block = self.anvil.rpc("eth_getBlockByNumber", json!([receipt["blockNumber"], false])).await;
        let time: U256 = block["timestamp"].as_str().unwrap().parse().unwrap();
        Finding::Paid {
            transaction: transaction.to_string(),
            payer: payer.to_checksum(None),
            time: UnixSeconds(time.to()),
        }
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
