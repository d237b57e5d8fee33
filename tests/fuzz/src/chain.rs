//! What a chain's node answers, when the gateway asks what became of a payment.

use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use alloy::rpc::client::ClientBuilder;
use alloy::rpc::json_rpc::{RequestPacket, ResponsePacket};
use alloy::transports::{TransportError, TransportFut};
use alloy_primitives::{Address, B256, Bytes, U64, U256, b256};
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;
use tollgate::chain::settings::ChainSettings;
use tollgate::chain::{Chain, EvmChain, Finding};
use tollgate::clock::UnixSeconds;
use tollgate::scheme::OnChain;
use tollgate::secret::Secret;
use tower_service::Service;

const TRANSFER: B256 = b256!("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef");
const TOKEN: Address = Address::repeat_byte(0xaa);
const PAYER: Address = Address::repeat_byte(0xbb);
const PAYEE: Address = Address::repeat_byte(0xcc);
const AMOUNT: u64 = 10_000;
const CHAIN: u64 = 84532;
/// When the payment was made, and until when it can be.
const SINCE: UnixSeconds = UnixSeconds(1_800_000_000);
const UNTIL: UnixSeconds = UnixSeconds(1_800_000_300);
/// The transaction that a facilitator names.
const HINT: B256 = B256::repeat_byte(0x11);

/// The bytes are a JSON object with the answers of a node. Whatever they are, the search ends, and the
/// money has moved only where a receipt with the payment's own transfer says so.
pub fn hold(data: &[u8]) {
    let Ok(script) = serde_json::from_slice::<Map<String, Value>>(data) else { return };
    let script = Arc::new(script);
    let is_permit = script.get("permit2").is_some_and(Value::is_boolean);
    let hint = if script.contains_key("hint") { HINT.to_string() } else { String::new() };
    let node = Node { script: Arc::clone(&script), asked: 0 };
    let client = ClientBuilder::default().transport(node, true);
    let chain = EvmChain::through(client, &SETTINGS).unwrap();
    let payment = payment(is_permit);
    RUNTIME.block_on(async {
        match chain.look(&payment, SINCE, &hint).await {
            Ok(Finding::Paid { transaction, payer, .. }) => {
                assert_eq!(payer, PAYER.to_checksum(None));
                let transaction: B256 = transaction.parse().unwrap();
                let receipt = script.get("receipt").unwrap_or(&Value::Null);
                assert!(tells(receipt, transaction), "nothing tells of the payment: {receipt}");
            }
            Ok(Finding::Spent { .. } | Finding::Open | Finding::Expired) => {}
            Err(error) => assert!(!error.cause.is_empty() && !error.cause.contains(char::is_control)),
        }
        if let Ok(received) = chain.received(TOKEN, PAYEE, SINCE, UNTIL).await {
            assert!(received.iter().all(|one| (SINCE..=UNTIL).contains(&one.time)));
        }
        let _ = chain.nonce_use(TOKEN, PAYER, B256::repeat_byte(7), SINCE).await;
    });
}

/// Whether a receipt is of a transaction that succeeded, with the transfer of the payment.
fn tells(receipt: &Value, transaction: B256) -> bool {
    let is = |value: &Value, wanted: B256| value.as_str().and_then(|text| text.parse().ok()) == Some(wanted);
    let logs = receipt["logs"].as_array().map(Vec::as_slice).unwrap_or_default();
    is(&receipt["transactionHash"], transaction)
        && serde_json::from_value::<U64>(receipt["status"].clone()).ok() == Some(U64::from(1))
        && logs.iter().any(|log| {
            let topics = log["topics"].as_array().map(Vec::as_slice).unwrap_or_default();
            let data = log["data"].as_str().and_then(|text| text.parse::<Bytes>().ok());
            let wanted = [TRANSFER, PAYER.into_word(), PAYEE.into_word()];
            log["address"].as_str().and_then(|text| text.parse().ok()) == Some(TOKEN)
                && topics.len() == wanted.len()
                && topics.iter().zip(wanted).all(|(topic, wanted)| is(topic, wanted))
                && data.is_some_and(|data| data[..] == U256::from(AMOUNT).to_be_bytes::<32>())
        })
}

fn payment(is_permit: bool) -> OnChain {
    let (amount, nonce) = (U256::from(AMOUNT), B256::repeat_byte(7));
    if is_permit {
        let nonce = nonce.into();
        OnChain::Permit2 {
            chain_id: CHAIN,
            token: TOKEN,
            owner: PAYER,
            to: PAYEE,
            amount,
            nonce,
            deadline: UNTIL,
        }
    } else {
        OnChain::Eip3009 {
            chain_id: CHAIN,
            asset: TOKEN,
            from: PAYER,
            to: PAYEE,
            value: amount,
            nonce,
            valid_before: UNTIL,
        }
    }
}

static SETTINGS: LazyLock<ChainSettings> = LazyLock::new(|| ChainSettings {
    network: "base-sepolia".parse().unwrap(),
    rpc: Secret::new(String::new()),
    confirmations: 3,
    timeout: Duration::from_secs(5),
    accept_used: false,
});

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap());

/// A node that answers by the script, and of blocks that it does not name with a chain of an even pace.
#[derive(Clone)]
struct Node {
    script: Arc<Map<String, Value>>,
    asked: usize,
}

impl Node {
    /// `result` or `error` of an answer.
    fn answer(&mut self, question: &Value) -> Value {
        let method = question["method"].as_str().unwrap_or_default();
        let scripted = |name: &str| self.script.get(name).cloned();
        let result = match method {
            "eth_chainId" => scripted("chain").unwrap_or_else(|| json!(U64::from(CHAIN))),
            "eth_getBlockByNumber" => self.block(question["params"][0].as_str().unwrap_or_default()),
            "eth_call" => {
                self.asked += 1;
                let states = self.script.get("states").and_then(Value::as_array);
                let state = states.and_then(|states| states.get(self.asked - 1).or_else(|| states.last()));
                state.cloned().unwrap_or_default()
            }
            "eth_getTransactionReceipt" => scripted("receipt").unwrap_or_default(),
            "eth_getTransactionByHash" => scripted("transaction").unwrap_or_default(),
            _ => scripted("logs").unwrap_or_else(|| json!([])),
        };
        match result.get("error") {
            Some(error) => json!({"error": error}),
            None => json!({"result": result}),
        }
    }

    fn block(&self, wanted: &str) -> Value {
        let blocks = self.script.get("blocks");
        if let Some(block) = blocks.and_then(|blocks| blocks.get(wanted)) {
            return block.clone();
        }
        let number = |name: &str| self.script.get(name).and_then(Value::as_u64);
        let latest = number("latest").unwrap_or(1_000);
        let time = number("time").unwrap_or(UNTIL.0 + 60);
        let pace = number("pace").unwrap_or(2);
        let wanted = match wanted.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).unwrap_or(latest),
            None => latest,
        };
        let ago = latest.saturating_sub(wanted).saturating_mul(pace);
        let hash = B256::from(U256::from(wanted));
        json!({"number": U64::from(wanted), "hash": hash, "timestamp": U64::from(time.saturating_sub(ago))})
    }
}

impl Service<RequestPacket> for Node {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        let question = serde_json::to_value(&packet).unwrap();
        let mut answer = self.answer(&question);
        answer["jsonrpc"] = "2.0".into();
        answer["id"] = question["id"].clone();
        let answer = serde_json::from_str(&answer.to_string());
        Box::pin(async move { answer.map_err(|error| TransportError::deser_err(error, String::new())) })
    }
}
