//! Fresh payments, signed before they are needed: one value of `PAYMENT-SIGNATURE` on each line.

use std::io::Write as _;

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secp256k1::{Message, Secp256k1, SecretKey};
use serde_json::{Value, json};
use tollgate::scheme::{TransferWithAuthorization, authorization_digest};

use super::Failure;

/// Accounts that pay in turn.
const PAYERS: u64 = 1000;

/// Writes payments for the first of the terms in a value of `PAYMENT-REQUIRED`. Forged ones are like
/// right ones, of another account than the one that signed.
pub(crate) fn write(forged: bool, count: u64, required: &str, file: &str) -> Result<(), Failure> {
    let required: Value = serde_json::from_slice(&STANDARD.decode(required)?)?;
    let terms = &required["accepts"][0];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let chain_id: u64 = text(&terms["network"]).trim_start_matches("eip155:").parse()?;
    let (name, version) = (text(&terms["extra"]["name"]), text(&terms["extra"]["version"]));
    let asset: Address = text(&terms["asset"]).parse()?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let seconds = terms["maxTimeoutSeconds"].as_u64().ok_or("no maxTimeoutSeconds")?;
    let keys = (0..PAYERS).map(Account::new).collect::<Result<Vec<_>, _>>()?;
    let context = Secp256k1::new();
    let mut file = std::io::BufWriter::new(std::fs::File::create(file)?);
    for (_, account) in (0..count).zip(keys.iter().cycle()) {
        let from = if forged { Address::random() } else { account.address };
        let message = TransferWithAuthorization {
            from,
            to: text(&terms["payTo"]).parse()?,
            value: text(&terms["amount"]).parse()?,
            validAfter: U256::ZERO,
            validBefore: U256::from(now + seconds),
            nonce: B256::random(),
        };
        let digest = authorization_digest(&message, &name, &version, chain_id, asset);
        let signature = context.sign_ecdsa_recoverable(Message::from_digest(digest.0), &account.key);
        let (recovery, compact) = signature.serialize_compact();
        let mut signature = compact.to_vec();
        signature.push(27 + u8::try_from(i32::from(recovery))?);
        let payment = json!({
            "x402Version": 2,
            "resource": required["resource"],
            "accepted": terms,
            "payload": {
                "signature": Bytes::from(signature),
                "authorization": {
                    "from": message.from, "to": message.to, "value": message.value.to_string(),
                    "validAfter": "0", "validBefore": message.validBefore.to_string(),
                    "nonce": message.nonce,
                },
            },
        });
        writeln!(file, "{}", STANDARD.encode(payment.to_string()))?;
    }
    file.flush()?;
    Ok(())
}

struct Account {
    key: SecretKey,
    address: Address,
}

impl Account {
    fn new(number: u64) -> Result<Self, Failure> {
        let key = SecretKey::from_byte_array(keccak256(number.to_be_bytes()).0)?;
        let public = key.public_key(&Secp256k1::new()).serialize_uncompressed();
        Ok(Self { key, address: Address::from_raw_public_key(&public[1..]) })
    }
}
