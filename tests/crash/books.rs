//! What the ledger and the chain say, each read without the gateway's help.

use std::collections::HashMap;

use alloy_primitives::{Address, B256, U256, keccak256};
use rusqlite::Connection;
use serde_json::{Value, json};
use tollgate::scheme::PaymentId;

use super::process::Process;
use super::support::anvil::{Anvil, TOKEN};

/// What the ledger says of a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub state: String,
    pub transaction: String,
    pub amount: U256,
    pub deliveries: u32,
    /// Whether a gateway holds it.
    pub is_held: bool,
    pub reason: String,
}

/// A ledger at one time.
pub type Ledger = HashMap<PaymentId, Row>;

/// Reads the ledger of a gateway that does not run: from a copy, so that whoever starts next finds the
/// files as they were left.
pub fn ledger(process: &Process) -> Ledger {
    let copy = tempfile::tempdir().unwrap();
    for name in ["ledger.db", "ledger.db-wal"] {
        let from = process.file(name);
        if from.exists() {
            std::fs::copy(from, copy.path().join(name)).unwrap();
        }
    }
    let file = copy.path().join("ledger.db");
    if !file.exists() {
        return Ledger::new();
    }
    let connection = Connection::open(file).unwrap();
    let exists = "SELECT count(*) FROM sqlite_schema WHERE name = 'payments'";
    if connection.query_row(exists, [], |row| row.get::<_, u32>(0)).unwrap() == 0 {
        return Ledger::new();
    }
    let sound: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok", "the ledger's file is damaged");
    let all = "SELECT id, state, transaction_id, amount, deliveries, owner IS NOT NULL, reason FROM payments";
    let mut statement = connection.prepare(all).unwrap();
    let rows = statement.query_map([], |row| {
        let id: Vec<u8> = row.get(0)?;
        let amount: String = row.get(3)?;
        let row = Row {
            state: row.get(1)?,
            transaction: row.get(2)?,
            amount: amount.parse().unwrap(),
            deliveries: row.get(4)?,
            is_held: row.get(5)?,
            reason: row.get(6)?,
        };
        Ok((PaymentId(B256::from_slice(&id)), row))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

/// One transfer that used an authorization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    pub transaction: B256,
    pub payer: Address,
    pub nonce: B256,
    pub amount: U256,
}

/// The number of the latest block.
pub async fn height(anvil: &Anvil) -> u64 {
    let number = anvil.rpc("eth_blockNumber", json!([])).await;
    number.as_str().unwrap().parse::<U256>().unwrap().to()
}

/// Transfers to a seller by authorization, since a block; one without the other fails the test.
pub async fn transfers(anvil: &Anvil, seller: Address, since: u64) -> Vec<Transfer> {
    let since = format!("0x{since:x}");
    let logs = async |topics: Value| -> Vec<Value> {
        let filter = json!([{"address": TOKEN, "fromBlock": since, "toBlock": "latest", "topics": topics}]);
        anvil.rpc("eth_getLogs", filter).await.as_array().unwrap().clone()
    };
    let used = logs(json!([keccak256("AuthorizationUsed(address,bytes32)")])).await;
    let mut nonces: HashMap<(B256, Address), Vec<B256>> = HashMap::new();
    for log in &used {
        let key = (word(&log["transactionHash"]), address(&log["topics"][1]));
        nonces.entry(key).or_default().push(word(&log["topics"][2]));
    }
    let moved = keccak256("Transfer(address,address,uint256)");
    logs(json!([moved, null, seller.into_word()]))
        .await
        .iter()
        .map(|log| {
            let (transaction, payer) = (word(&log["transactionHash"]), address(&log["topics"][1]));
            let used = nonces.get(&(transaction, payer)).map(Vec::as_slice).unwrap_or_default();
            let [nonce] = used else { panic!("{transaction} used {} authorizations", used.len()) };
            let amount = log["data"].as_str().unwrap().parse().unwrap();
            Transfer { transaction, payer, nonce: *nonce, amount }
        })
        .collect()
}

fn word(value: &Value) -> B256 {
    value.as_str().unwrap().parse().unwrap()
}

fn address(topic: &Value) -> Address {
    Address::from_word(word(topic))
}
