//! A transaction on its way, and what is told of it.

use std::time::Duration;

use alloy::network::eip2718::Encodable2718 as _;
use alloy::network::{EthereumWallet, NetworkTransactionBuilder as _, TransactionBuilder as _};
use alloy::rpc::types::TransactionRequest;
use alloy::signers::local::PrivateKeySigner;
use alloy_primitives::{Address, B256, Bytes, U256};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::fees::Fees;
use super::node::{Call, Receipt};
use crate::clock::UnixSeconds;
use crate::facilitator::SettleOutcome;

/// The first pause before a transaction whose sending got no answer is sent again; it doubles.
const RETRY_FIRST: Duration = Duration::from_millis(200);
/// The longest.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Where a settlement stands.
#[derive(Debug, Clone)]
pub(super) enum State {
    /// Nothing was sent.
    Working,
    /// A transaction may have left, or the nonce is spent by whom is not known yet.
    Sending,
    /// A node has this transaction.
    Sent(B256),
    /// It is over.
    Done(SettleOutcome),
}

/// A transaction to be sent.
pub(super) struct Order {
    pub(super) call: Call,
    /// Gas it may use.
    pub(super) gas: u64,
    /// From then on it is not sent for the first time any more.
    pub(super) send_before: Instant,
    /// From then on it can no longer do anything.
    pub(super) expires: UnixSeconds,
    pub(super) state: watch::Sender<State>,
    pub(super) done: oneshot::Sender<End>,
}

/// How an order ends.
#[derive(Debug)]
pub(super) enum End {
    /// Nothing was sent, or the node refused it.
    NotSent(String),
    /// It is given up without knowing whether a node has it.
    Doubtful(String),
    /// It is in a block, with as many behind it as wanted.
    Mined(Receipt),
    /// Another transaction of the account took its nonce: it will never be in a block.
    Displaced,
}

impl Order {
    pub(super) fn end(self, end: End) {
        // Whoever waited may have been shut down.
        let _ = self.done.send(end);
    }
}

/// A signed transaction.
pub(super) struct Signed {
    pub(super) raw: Bytes,
    pub(super) hash: B256,
}

/// An account that sends transactions on one network.
pub(super) struct Account {
    pub(super) address: Address,
    wallet: EthereumWallet,
    chain_id: u64,
}

impl Account {
    pub(super) fn new(signer: PrivateKeySigner, chain_id: u64) -> Self {
        Self { address: signer.address(), wallet: EthereumWallet::from(signer), chain_id }
    }

    /// Signs an EIP-1559 transaction.
    pub(super) async fn sign(&self, call: &Call, gas: u64, nonce: u64, fees: Fees) -> Result<Signed, String> {
        let request = TransactionRequest::default()
            .with_chain_id(self.chain_id)
            .with_from(self.address)
            .with_to(call.to)
            .with_value(U256::ZERO)
            .with_input(call.data.clone())
            .with_gas_limit(gas)
            .with_nonce(nonce)
            .with_max_fee_per_gas(fees.max)
            .with_max_priority_fee_per_gas(fees.tip);
        let envelope = request.build(&self.wallet).await.map_err(|error| format!("cannot sign: {error}"))?;
        Ok(Signed { raw: envelope.encoded_2718().into(), hash: *envelope.tx_hash() })
    }
}

/// An order whose transaction has a nonce.
pub(super) struct Flight {
    pub(super) order: Order,
    pub(super) nonce: u64,
    /// What was offered last.
    pub(super) fees: Fees,
    /// What it is known by: it was sent as each of these.
    pub(super) hashes: Vec<B256>,
    /// The last of them, signed.
    pub(super) raw: Bytes,
    /// Whether a node said that it has it.
    pub(super) accepted: bool,
    /// When it was sent, or what it offers was raised.
    pub(super) since: Instant,
    /// When to send it again, if no node has it.
    pub(super) retry_at: Instant,
    retry_pause: Duration,
    /// How often in a row its nonce was used and no receipt was there.
    pub(super) missing: u32,
    /// Whether the log says that it waits.
    pub(super) told: bool,
}

impl Flight {
    pub(super) fn new(order: Order, nonce: u64, fees: Fees, signed: Signed, accepted: bool) -> Self {
        let now = Instant::now();
        let mut flight = Self {
            order,
            nonce,
            fees,
            hashes: vec![signed.hash],
            raw: signed.raw,
            accepted: false,
            since: now,
            retry_at: now + RETRY_FIRST,
            retry_pause: RETRY_FIRST,
            missing: 0,
            told: false,
        };
        if accepted {
            flight.accept();
        }
        flight
    }

    pub(super) fn hash(&self) -> B256 {
        self.hashes.last().copied().unwrap_or_default()
    }

    /// A node has it.
    pub(super) fn accept(&mut self) {
        self.accepted = true;
        self.order.state.send_replace(State::Sent(self.hash()));
    }

    /// It was sent in another version.
    pub(super) fn replaced(&mut self, signed: Signed, fees: Fees) {
        self.hashes.push(signed.hash);
        self.raw = signed.raw;
        self.fees = fees;
        self.since = Instant::now();
    }

    /// No answer again.
    pub(super) fn back_off(&mut self) {
        self.retry_pause = (self.retry_pause * 2).min(RETRY_MAX);
        self.retry_at = Instant::now() + self.retry_pause;
    }
}
