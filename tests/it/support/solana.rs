//! Someone who pays on Solana.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

const COMPUTE_BUDGET: &str = "ComputeBudget111111111111111111111111111111";
const TOKEN: &str = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA";
const MEMO: &str = "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr";
const SIGNATURE_BYTES: usize = 64;

/// An account with a key.
pub struct SolanaPayer(Ed25519KeyPair);

/// The 32 bytes of an address.
fn bytes(address: &str) -> Vec<u8> {
    bs58::decode(address).into_vec().unwrap()
}

impl SolanaPayer {
    /// A new account.
    pub fn new() -> Self {
        let seed = alloy_primitives::B256::random();
        Self(Ed25519KeyPair::from_seed_unchecked(seed.as_slice()).unwrap())
    }

    pub fn address(&self) -> String {
        bs58::encode(self.0.public_key().as_ref()).into_string()
    }

    /// A right `transaction` for an `accepts` entry, as clients build it: fees, the transfer, and a
    /// memo that makes it unique.
    pub fn transaction(&self, accepted: &Value) -> Vec<u8> {
        let amount: u64 = accepted["amount"].as_str().unwrap().parse().unwrap();
        let accounts = [
            bytes(accepted["extra"]["feePayer"].as_str().unwrap()),
            self.0.public_key().as_ref().to_vec(),
            vec![42; 32],
            vec![43; 32],
            bytes(accepted["asset"].as_str().unwrap()),
            bytes(COMPUTE_BUDGET),
            bytes(TOKEN),
            bytes(MEMO),
        ];
        let limit = [&[2][..], &20_000_u32.to_le_bytes()].concat();
        let price = [&[3][..], &1_u64.to_le_bytes()].concat();
        let transfer = [&[12][..], &amount.to_le_bytes(), &[6]].concat();
        let memo = alloy_primitives::B256::random().0[..16].to_vec();
        let instructions: [(u8, &[u8], Vec<u8>); 4] =
            [(5, &[], limit), (5, &[], price), (6, &[2, 4, 3, 1], transfer), (7, &[], memo)];
        let length = |count: usize| u8::try_from(count).unwrap();
        let mut message = vec![0x80, 2, 0, 4, length(accounts.len())];
        message.extend(accounts.concat());
        message.extend([9; 32]);
        message.push(length(instructions.len()));
        for (program, accounts, data) in instructions {
            message.extend([program, length(accounts.len())]);
            message.extend(accounts);
            message.push(length(data.len()));
            message.extend(data);
        }
        message.push(0);
        let signature = self.0.sign(&message);
        [&[2][..], &[0; SIGNATURE_BYTES], signature.as_ref(), &message].concat()
    }

    /// A right v2 payment for an `accepts` entry.
    pub fn message(&self, accepted: &Value) -> Value {
        message_of(accepted, &self.transaction(accepted))
    }
}

/// A v2 payment with this transaction.
pub fn message_of(accepted: &Value, transaction: &[u8]) -> Value {
    json!({"x402Version": 2, "accepted": accepted,
           "payload": {"transaction": STANDARD.encode(transaction)}})
}

/// The transaction with another signature in the fee payer's place, which is still to be filled.
pub fn with_fee_payer_signature(mut transaction: Vec<u8>, byte: u8) -> Vec<u8> {
    transaction[1..=SIGNATURE_BYTES].fill(byte);
    transaction
}
