//! What is asked of the chain's node, and what its answers mean.
//!
//! Answers are read as loosely as they may be: nodes of different chains add members and leave out
//! others, and what is not needed here must not make a receipt unreadable.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use alloy::network::TransactionBuilder as _;
use alloy::providers::{Provider as _, RootProvider};
use alloy::rpc::json_rpc::{ErrorPayload, RpcError, RpcRecv, RpcSend};
use alloy::rpc::types::{BlockId, BlockNumberOrTag, TransactionRequest};
use alloy::transports::TransportError;
use alloy_primitives::{Address, B256, Bytes, U64, U256};
use alloy_sol_types::{SolCall, SolEvent};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::abi::Token;
use super::fees::Market;
use super::payment::Payment;
use crate::chain::{Deed, Wanted, deed_in, rpc};
use crate::secret::Secret;

/// Blocks whose tips are looked at.
const FEE_BLOCKS: u64 = 10;
/// The tip that so many percent of a block's gas paid at most.
const TIP_PERCENTILE: f64 = 20.0;
/// The most gas that reading from a contract may take; a wallet's may check several signatures.
const READ_GAS: u64 = 10_000_000;
/// How long an answer about fees counts.
const MARKET_LIFETIME: Duration = Duration::from_secs(3);

/// A question without an answer, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Down(pub(super) String);

/// A call of a contract, and the gas it may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) to: Address,
    pub(super) data: Bytes,
}

/// What came of a call that was only tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tried {
    /// It would succeed, and return this.
    Returns(Bytes),
    /// It would be reverted; the node's words.
    Reverts(String),
}

/// What gas a call needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Estimated {
    Gas(u64),
    /// More than it may have.
    TooMuch,
    Reverts(String),
}

/// What came of sending a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sent {
    /// The node has it, from now on or since before.
    Accepted,
    /// Another transaction of the account has its nonce in the chain already.
    NonceUsed,
    /// Another transaction of the account with its nonce waits, and this one offers too little to
    /// replace it.
    Conflict,
    /// It offers too little at present.
    FeeTooLow,
    /// No connection to the node came about.
    NotLeft(String),
    /// The node refused it, and does not know it.
    Refused(String),
    /// The node may have it.
    Unsure(String),
}

/// A transaction in a block.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Receipt {
    pub(super) transaction_hash: B256,
    status: U64,
    block_number: U64,
    #[serde(default)]
    logs: Vec<Log>,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Log {
    address: Address,
    topics: Vec<B256>,
    data: Bytes,
    /// Logs of a pending block have none.
    #[serde(default)]
    pub(super) transaction_hash: Option<B256>,
    /// Its place in the block.
    #[serde(default, rename = "logIndex")]
    index: Option<U64>,
}

/// Who sent a transaction, and what it says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Transaction {
    pub(super) from: Address,
    /// Nothing: it made a contract.
    pub(super) to: Option<Address>,
    #[serde(default, alias = "data")]
    pub(super) input: Bytes,
}

impl Receipt {
    /// Whether it did what it says; a reverted one did nothing.
    pub(super) fn succeeded(&self) -> bool {
        self.status == U64::from(1)
    }

    pub(super) fn block(&self) -> u64 {
        self.block_number.to()
    }

    /// Whether it moved such money as a payment is about, for whatever reason.
    pub(super) fn moves_money_of(&self, payment: &Payment) -> bool {
        self.logs.iter().any(|log| log.is_transfer_of(payment))
    }

    /// What it did with an authorization (EIP-3009) of a token, if it succeeded.
    pub(super) fn deed(&self, asset: Address, wanted: Wanted, nonce: B256) -> Deed {
        let mut logs: Vec<&Log> = self.logs.iter().filter(|log| log.address == asset).collect();
        logs.sort_by_key(|log| log.index);
        deed_in(logs.into_iter().map(|log| (log.topics.as_slice(), &log.data)), wanted, nonce)
    }
}

impl Log {
    /// Whether it is the token's word that money went from the payer to the payee, as much as is paid.
    fn is_transfer_of(&self, payment: &Payment) -> bool {
        self.address == payment.asset
            && Token::Transfer::decode_raw_log(self.topics.iter().copied(), &self.data).is_ok_and(
                |transfer| {
                    (transfer.from, transfer.to, transfer.value)
                        == (payment.payer, payment.pay_to, payment.amount)
                },
            )
    }
}

/// The way to a node.
pub(super) struct Node {
    provider: RootProvider,
    /// Addresses that were seen to have code. Contracts that matter do not vanish.
    contracts: Mutex<HashSet<Address>>,
    market: Mutex<Option<(Market, Instant)>>,
}

/// Contracts that are remembered.
const CONTRACTS_MAX: usize = 1000;

impl Node {
    /// Connects to nothing yet. `timeout` is for one question.
    pub(super) fn new(url: &Secret<String>, timeout: Duration) -> Result<Self, String> {
        let client = rpc::connect(url, timeout)?;
        Ok(Self {
            provider: RootProvider::new(client),
            contracts: Mutex::default(),
            market: Mutex::default(),
        })
    }

    async fn ask<A: RpcSend, T: RpcRecv>(&self, method: &'static str, params: A) -> Result<T, Down> {
        self.provider.client().request(method, params).await.map_err(|error| down(&error))
    }

    pub(super) async fn chain_id(&self) -> Result<u64, Down> {
        self.ask::<_, U64>("eth_chainId", ()).await.map(|id| id.to())
    }

    pub(super) async fn block_number(&self) -> Result<u64, Down> {
        self.ask::<_, U64>("eth_blockNumber", ()).await.map(|number| number.to())
    }

    /// Transactions of an account that are in blocks, or, with those that wait, `"pending"`.
    pub(super) async fn nonce(&self, account: Address, tag: &'static str) -> Result<u64, Down> {
        self.ask::<_, U64>("eth_getTransactionCount", (account, tag)).await.map(|nonce| nonce.to())
    }

    pub(super) async fn balance(&self, account: Address) -> Result<U256, Down> {
        self.ask("eth_getBalance", (account, "latest")).await
    }

    /// Whether an account is a contract now, which it may become and, delegated (EIP-7702), cease
    /// to be.
    pub(super) async fn has_code(&self, account: Address) -> Result<bool, Down> {
        self.ask::<_, Bytes>("eth_getCode", (account, "latest")).await.map(|code| !code.is_empty())
    }

    /// Whether a well-known contract is there.
    pub(super) async fn is_contract(&self, address: Address) -> Result<bool, Down> {
        if self.contracts().contains(&address) {
            return Ok(true);
        }
        let found = self.has_code(address).await?;
        let mut contracts = self.contracts();
        if found && contracts.len() < CONTRACTS_MAX {
            contracts.insert(address);
        }
        Ok(found)
    }

    fn contracts(&self) -> std::sync::MutexGuard<'_, HashSet<Address>> {
        self.contracts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries a call on the latest block, in the name of an account and with a limit of gas. What waits
    /// for a block may never get into one.
    pub(super) async fn call(&self, from: Address, call: &Call, gas: u64) -> Result<Tried, Down> {
        match self.provider.call(request(from, call).with_gas_limit(gas)).block(BlockId::latest()).await {
            Ok(returned) => Ok(Tried::Returns(returned)),
            Err(RpcError::ErrorResp(error)) if is_revert(&error) => {
                Ok(Tried::Reverts(error.message.into_owned()))
            }
            Err(error) => Err(down(&error)),
        }
    }

    /// Reads from a contract. `None` when it has no such function.
    pub(super) async fn read<C: SolCall>(&self, to: Address, call: &C) -> Result<Option<C::Return>, Down> {
        let call = Call { to, data: call.abi_encode().into() };
        Ok(match self.call(Address::ZERO, &call, READ_GAS).await? {
            Tried::Returns(data) => C::abi_decode_returns(&data).ok(),
            Tried::Reverts(_) => None,
        })
    }

    /// The gas that a call needs, up to a limit.
    pub(super) async fn estimate(&self, from: Address, call: &Call, limit: u64) -> Result<Estimated, Down> {
        match self
            .provider
            .estimate_gas(request(from, call).with_gas_limit(limit))
            .block(BlockId::latest())
            .await
        {
            Ok(gas) if gas > limit => Ok(Estimated::TooMuch),
            Ok(gas) => Ok(Estimated::Gas(gas)),
            Err(RpcError::ErrorResp(error))
                if says(&error, &["exceeds allowance", "out of gas", "outofgas"]) =>
            {
                Ok(Estimated::TooMuch)
            }
            Err(RpcError::ErrorResp(error)) if is_revert(&error) => {
                Ok(Estimated::Reverts(error.message.into_owned()))
            }
            Err(error) => Err(down(&error)),
        }
    }

    /// What gas costs at present, or did a moment ago.
    pub(super) async fn market(&self) -> Result<Market, Down> {
        let lately = *self.market.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((market, at)) = lately
            && at.elapsed() < MARKET_LIFETIME
        {
            return Ok(market);
        }
        let market = self.ask_market().await?;
        *self.market.lock().unwrap_or_else(PoisonError::into_inner) = Some((market, Instant::now()));
        Ok(market)
    }

    /// What gas costs is asked anew the next time.
    pub(super) fn forget_market(&self) {
        *self.market.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn ask_market(&self) -> Result<Market, Down> {
        let history = self
            .provider
            .get_fee_history(FEE_BLOCKS, BlockNumberOrTag::Latest, &[TIP_PERCENTILE])
            .await
            .map_err(|error| down(&error))?;
        let base = history.base_fee_per_gas.last().copied().filter(|base| *base > 0);
        let base = base.ok_or_else(|| Down("the network has no base fee (EIP-1559)".into()))?;
        let rewards = history.reward.unwrap_or_default();
        let mut tips: Vec<u128> = rewards.iter().filter_map(|block| block.first().copied()).collect();
        tips.retain(|tip| *tip > 0);
        tips.sort_unstable();
        Ok(Market { base, tip: tips.get(tips.len() / 2).copied().unwrap_or(1) })
    }

    /// Sends a signed transaction. Sending one twice is sending it once.
    pub(super) async fn send(&self, raw: &Bytes, hash: B256) -> Sent {
        let answer: Result<Value, _> = self.provider.client().request("eth_sendRawTransaction", (raw,)).await;
        let Err(error) = answer else { return Sent::Accepted };
        let text = rpc::describe(&error);
        let RpcError::ErrorResp(payload) = &error else {
            return if rpc::never_left(&error) { Sent::NotLeft(text) } else { Sent::Unsure(text) };
        };
        if says(
            payload,
            &["already known", "known transaction", "alreadyknown", "already imported", "already in"],
        ) {
            return Sent::Accepted;
        }
        if says(payload, &["nonce too low", "nonce is too low", "oldnonce", "nonce has already been used"]) {
            return Sent::NonceUsed;
        }
        if says(payload, &["replacement", "replace existing", "nonce conflict"]) {
            return Sent::Conflict;
        }
        if says(
            payload,
            &["underpriced", "less than block base fee", "feetoolow", "fee too low", "below base"],
        ) {
            return Sent::FeeTooLow;
        }
        // An error is a refusal, unless it is the node's own trouble. To be sure, it is asked.
        if says(payload, &["timeout", "timed out", "internal", "unavailable", "try again", "busy"])
            || payload.code == -32603
        {
            return Sent::Unsure(text);
        }
        match self.transaction(hash).await {
            Ok(None) => Sent::Refused(text),
            Ok(Some(_)) => Sent::Accepted,
            Err(Down(_)) => Sent::Unsure(text),
        }
    }

    /// The receipt of a transaction in a block.
    pub(super) async fn receipt(&self, hash: B256) -> Result<Option<Receipt>, Down> {
        self.ask("eth_getTransactionReceipt", (hash,)).await
    }

    /// A transaction in a block, or that waits.
    pub(super) async fn transaction(&self, hash: B256) -> Result<Option<Transaction>, Down> {
        self.ask("eth_getTransactionByHash", (hash,)).await
    }

    /// Events of a contract in a range of blocks, by their topics.
    pub(super) async fn logs(
        &self,
        contract: Address,
        topics: &[B256],
        blocks: (u64, u64),
    ) -> Result<Vec<Log>, Down> {
        let (first, last) = (U64::from(blocks.0), U64::from(blocks.1));
        let filter = json!({"address": contract, "topics": topics, "fromBlock": first, "toBlock": last});
        self.ask("eth_getLogs", (filter,)).await
    }
}

fn request(from: Address, call: &Call) -> TransactionRequest {
    TransactionRequest::default().with_from(from).with_to(call.to).with_input(call.data.clone())
}

fn down(error: &TransportError) -> Down {
    Down(rpc::describe(error))
}

fn says(error: &ErrorPayload, texts: &[&str]) -> bool {
    let message = error.message.to_ascii_lowercase();
    texts.iter().any(|text| message.contains(text))
}

/// Whether an error says that the contracts refused, and not that the node could not tell.
fn is_revert(error: &ErrorPayload) -> bool {
    error.code == 3
        || error.as_revert_data().is_some()
        || says(
            error,
            &["revert", "invalid opcode", "vm execution error", "out of gas", "outofgas", "invalid jump"],
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: i64, message: &'static str) -> ErrorPayload {
        ErrorPayload { code, message: message.into(), data: None }
    }

    #[test]
    fn a_refusal_of_the_contracts_is_told_from_trouble_of_the_node() {
        for (code, message) in [
            (3, "execution reverted: authorization is used"),
            (-32000, "execution reverted"),
            (-32015, "VM execution error."),
            (-32000, "invalid opcode: opcode 0xfe not defined"),
        ] {
            assert!(is_revert(&error(code, message)), "{message}");
        }
        for (code, message) in [
            (-32005, "daily request count exceeded, request rate limited"),
            (-32000, "header not found"),
            (-32603, "Internal error"),
            (-32000, "missing trie node"),
            (-32601, "the method eth_call does not exist"),
        ] {
            assert!(!is_revert(&error(code, message)), "{message}");
        }
    }

    #[test]
    fn receipts_of_other_chains_are_read() {
        let receipt: Receipt = serde_json::from_value(json!({
            "transactionHash": B256::repeat_byte(1), "status": "0x1", "blockNumber": "0x10", "type": "0x7e",
            "l1Fee": "0x0", "logs": [{"address": Address::ZERO, "topics": [], "data": "0x", "logIndex": "0x0"}],
        }))
        .unwrap();
        assert_eq!((receipt.succeeded(), receipt.block(), receipt.logs.len()), (true, 16, 1));
    }
}
