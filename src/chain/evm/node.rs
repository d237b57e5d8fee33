//! Questions to a node, and which answers cannot be.

use std::sync::atomic::AtomicU64;

use alloy::rpc::client::RpcClient;
use alloy::rpc::json_rpc::{RpcError, RpcRecv, RpcSend};
use alloy::transports::TransportError;
use alloy_primitives::{Address, B256, Bytes, U64};
use alloy_sol_types::SolCall;
use serde::Deserialize;
use serde_json::{Value, json};

use super::search::SPAN_FIRST;
use crate::chain::{ChainError, rpc};

/// Blocks, events and seconds are counted up to here; no sum of two, and no product of two in 128 bits
/// leaves its type.
const QUANTITY_MAX: u64 = 1 << 60;

/// A node.
pub(super) struct Node {
    client: RpcClient,
    /// Blocks that the node is known, or hoped, to search for logs at a time.
    pub(super) span: AtomicU64,
}

/// A block, as far as it is needed. Everything else differs between chains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) struct Block {
    #[serde(deserialize_with = "quantity")]
    pub(super) number: u64,
    pub(super) hash: B256,
    /// Seconds since 1970.
    #[serde(deserialize_with = "quantity")]
    pub(super) timestamp: u64,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Log {
    pub(super) address: Address,
    pub(super) topics: Vec<B256>,
    pub(super) data: Bytes,
    #[serde(deserialize_with = "quantity")]
    pub(super) block_number: u64,
    pub(super) transaction_hash: B256,
    /// Its place in the block.
    #[serde(rename = "logIndex", deserialize_with = "quantity")]
    pub(super) index: u64,
    /// Seconds since 1970. Newer nodes tell it, in several ways; it can be asked for otherwise.
    #[serde(default, deserialize_with = "quantity_if_any")]
    pub(super) block_timestamp: Option<u64>,
    #[serde(default)]
    pub(super) removed: bool,
}

/// What a transaction did.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Receipt {
    pub(super) transaction_hash: B256,
    pub(super) block_hash: B256,
    #[serde(deserialize_with = "quantity")]
    pub(super) block_number: u64,
    #[serde(deserialize_with = "quantity")]
    pub(super) status: u64,
    pub(super) logs: Vec<Log>,
}

/// What a transaction was meant to do.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Transaction {
    pub(super) hash: B256,
    /// Nothing: it made a contract.
    pub(super) to: Option<Address>,
    pub(super) input: Bytes,
}

/// A call that a transaction made, with those within it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Call {
    /// `CALL`, `DELEGATECALL`, `CREATE`, …
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) to: Option<Address>,
    #[serde(default)]
    pub(super) input: Bytes,
    error: Option<String>,
    #[serde(default)]
    pub(super) calls: Vec<Call>,
}

impl Call {
    /// Whether what it did was taken back.
    pub(super) const fn failed(&self) -> bool {
        self.error.is_some()
    }
}

/// Which events are looked for: of one of these contracts, with these topics; an empty place takes
/// any.
#[derive(Debug, Clone)]
pub(super) struct Filter {
    pub(super) addresses: Vec<Address>,
    pub(super) topics: Vec<Vec<B256>>,
}

impl Filter {
    fn matches(&self, log: &Log) -> bool {
        let fits = |(place, wanted): (usize, &Vec<B256>)| {
            wanted.is_empty() || log.topics.get(place).is_some_and(|topic| wanted.contains(topic))
        };
        self.addresses.contains(&log.address) && self.topics.iter().enumerate().all(fits)
    }

    fn as_json(&self, first: u64, last: u64) -> Value {
        let topics: Vec<Value> = self
            .topics
            .iter()
            .map(|wanted| if wanted.is_empty() { Value::Null } else { json!(wanted) })
            .collect();
        json!({"address": self.addresses, "topics": topics, "fromBlock": hex(first), "toBlock": hex(last)})
    }
}

impl Node {
    pub(super) fn new(client: RpcClient) -> Self {
        Self { client, span: AtomicU64::new(SPAN_FIRST) }
    }

    async fn ask<P: RpcSend, R: RpcRecv>(
        &self,
        method: &'static str,
        params: P,
    ) -> Result<R, TransportError> {
        self.client.request(method, params).await
    }

    /// The chain it serves (EIP-155).
    pub(super) async fn chain_id(&self) -> Result<u64, ChainError> {
        let id: U64 = self.ask("eth_chainId", ()).await.map_err(failed("eth_chainId"))?;
        Ok(id.to())
    }

    /// The latest block.
    pub(super) async fn latest(&self) -> Result<Block, ChainError> {
        let block: Option<Block> = self.block_at("latest".into()).await?;
        block.ok_or_else(|| ChainError::new("the node has no latest block"))
    }

    /// A block that is known to exist.
    pub(super) async fn block(&self, number: u64) -> Result<Block, ChainError> {
        match self.block_at(hex(number)).await? {
            Some(block) if block.number == number => Ok(block),
            Some(other) => Err(ChainError::new(format!(
                "the node answers with block {} when asked for {number}",
                other.number
            ))),
            None => Err(ChainError::new(format!("the node does not have block {number}"))),
        }
    }

    async fn block_at(&self, place: String) -> Result<Option<Block>, ChainError> {
        self.ask("eth_getBlockByNumber", (place, false)).await.map_err(failed("eth_getBlockByNumber"))
    }

    /// What a contract answers in the state after a block.
    pub(super) async fn call<C: SolCall>(
        &self,
        to: Address,
        call: &C,
        block: u64,
    ) -> Result<C::Return, ChainError> {
        let call = json!({"to": to, "data": Bytes::from(call.abi_encode())});
        let answer: Bytes = self.ask("eth_call", (call, hex(block))).await.map_err(failed("eth_call"))?;
        if answer.is_empty() {
            return Err(ChainError::new(format!("no contract at {to} answers in block {block}")));
        }
        C::abi_decode_returns_validate(&answer)
            .map_err(|_| ChainError::new(format!("{to} does not answer {}", C::SIGNATURE)))
    }

    /// What a transaction did, if it is in a block.
    pub(super) async fn receipt(&self, transaction: B256) -> Result<Option<Receipt>, ChainError> {
        let method = "eth_getTransactionReceipt";
        let receipt: Option<Receipt> = self.ask(method, (transaction,)).await.map_err(failed(method))?;
        match receipt {
            Some(receipt) if receipt.transaction_hash != transaction => {
                Err(ChainError::new("the node answers with the receipt of another transaction"))
            }
            other => Ok(other),
        }
    }

    /// A transaction that is known to exist.
    pub(super) async fn transaction(&self, hash: B256) -> Result<Transaction, ChainError> {
        let method = "eth_getTransactionByHash";
        let found: Option<Transaction> = self.ask(method, (hash,)).await.map_err(failed(method))?;
        found
            .filter(|transaction| transaction.hash == hash)
            .ok_or_else(|| ChainError::new(format!("the node does not have transaction {hash}")))
    }

    /// Every call that a transaction made. Many nodes do not offer this; nor is an answer read that is
    /// larger than others, or in which calls lie deeper in each other than some sixty.
    pub(super) async fn trace(&self, transaction: B256) -> Result<Call, ChainError> {
        let method = "debug_traceTransaction";
        let tracer = json!({"tracer": "callTracer"});
        self.ask(method, (transaction, tracer)).await.map_err(failed(method))
    }

    /// The events of some blocks, both ends included, in one question.
    pub(super) async fn logs(&self, filter: &Filter, first: u64, last: u64) -> Result<Vec<Log>, LogsError> {
        let asked = self.ask("eth_getLogs", (filter.as_json(first, last),)).await;
        let mut logs: Vec<Log> = asked.map_err(|error| LogsError {
            may_be_too_much: may_be_too_much(&error),
            error: failed("eth_getLogs")(error),
        })?;
        let in_range = |log: &Log| (first..=last).contains(&log.block_number);
        if logs.iter().any(|log| log.removed || !in_range(log) || !filter.matches(log)) {
            let error = ChainError::new("the node answers with events that it was not asked for");
            return Err(LogsError { may_be_too_much: false, error });
        }
        logs.sort_by_key(|log| (log.block_number, log.index));
        Ok(logs)
    }
}

/// Why a search for events failed.
#[derive(Debug)]
pub(super) struct LogsError {
    /// A search of fewer blocks may succeed.
    pub(super) may_be_too_much: bool,
    pub(super) error: ChainError,
}

fn failed(method: &'static str) -> impl Fn(TransportError) -> ChainError {
    move |error| ChainError::new(format!("{method}: {}", rpc::describe(&error)))
}

/// Whether a node may have refused because there was too much to search. Providers say so in many
/// ways, so anything counts that is not known to be something else.
fn may_be_too_much(error: &TransportError) -> bool {
    match error {
        RpcError::ErrorResp(payload) => {
            let message = payload.message.to_lowercase();
            let busy = ["rate limit", "too many requests", "request limit", "credits", "throughput"];
            payload.code != 429 && !busy.iter().any(|words| message.contains(words))
        }
        RpcError::Transport(kind) => match kind.as_http_error() {
            Some(http) => matches!(http.status, 400 | 413 | 422 | 500 | 502 | 504),
            // Too large, too slow, or gone; one that is gone fails again soon.
            None => true,
        },
        _ => false,
    }
}

fn hex(number: u64) -> String {
    format!("{number:#x}")
}

fn quantity<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let number: u64 = U64::deserialize(deserializer)?.to();
    if number > QUANTITY_MAX {
        return Err(serde::de::Error::custom("a number that no block, event or time has"));
    }
    Ok(number)
}

fn quantity_if_any<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let number = serde_json::from_value::<U64>(value).ok().map(|number| number.to());
    Ok(number.filter(|number| *number <= QUANTITY_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_no_block_can_have_are_refused() {
        let block = |number: &str, timestamp: &str| {
            let block = json!({"number": number, "hash": B256::ZERO, "timestamp": timestamp});
            serde_json::from_value::<Block>(block).is_ok()
        };
        let (most, more) = ("0x1000000000000000", "0x1000000000000001");
        assert!(block(most, most));
        for (number, timestamp) in [(more, "0x0"), ("0x0", more), ("0xffffffffffffffff", "0x0")] {
            assert!(!block(number, timestamp), "{number} {timestamp}");
        }
    }
}
