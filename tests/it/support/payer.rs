//! Someone who pays.

use std::net::SocketAddr;

use alloy_primitives::{Address, B256, Bytes, U256};
use serde_json::{Value, json};
use tollgate::scheme::{TransferWithAuthorization, authorization_digest};
use tollgate::x402::header;

use super::client;

/// An account with a key.
#[derive(Debug, Clone)]
pub struct Payer {
    key: secp256k1::SecretKey,
}

impl Payer {
    /// A new account.
    pub fn new() -> Self {
        let key = secp256k1::SecretKey::from_byte_array(B256::random().0).unwrap();
        Self { key }
    }

    pub fn address(&self) -> Address {
        let public = self.key.public_key(&secp256k1::Secp256k1::new()).serialize_uncompressed();
        Address::from_raw_public_key(&public[1..])
    }

    /// Signs a digest as wallets do: 65 bytes, v 27 or 28.
    pub fn sign(&self, digest: B256) -> String {
        let message = secp256k1::Message::from_digest(digest.0);
        let signature = secp256k1::Secp256k1::new().sign_ecdsa_recoverable(message, &self.key);
        let (recovery, compact) = signature.serialize_compact();
        let mut bytes = compact.to_vec();
        bytes.push(27 + u8::try_from(i32::from(recovery)).unwrap());
        Bytes::from(bytes).to_string()
    }

    /// A right authorization for an `accepts` entry.
    pub fn authorization(&self, accepted: &Value) -> TransferWithAuthorization {
        let text = |name: &str| accepted[name].as_str().unwrap_or_default().to_owned();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        TransferWithAuthorization {
            from: self.address(),
            to: text("payTo").parse().unwrap(),
            value: text("amount").parse().unwrap(),
            validAfter: U256::ZERO,
            validBefore: U256::from(now + accepted["maxTimeoutSeconds"].as_u64().unwrap()),
            nonce: B256::random(),
        }
    }

    /// The `payload` for an authorization, signed for the domain of an `accepts` entry.
    pub fn payload(&self, message: &TransferWithAuthorization, accepted: &Value) -> Value {
        let chain_id = accepted["network"].as_str().unwrap().strip_prefix("eip155:").unwrap();
        let digest = authorization_digest(
            message,
            accepted["extra"]["name"].as_str().unwrap(),
            accepted["extra"]["version"].as_str().unwrap(),
            chain_id.parse().unwrap(),
            accepted["asset"].as_str().unwrap().parse().unwrap(),
        );
        json!({"signature": self.sign(digest), "authorization": {
            "from": message.from, "to": message.to, "value": message.value.to_string(),
            "validAfter": message.validAfter.to_string(), "validBefore": message.validBefore.to_string(),
            "nonce": message.nonce,
        }})
    }

    /// A right v2 payment for the first offer of a decoded `PAYMENT-REQUIRED`.
    pub fn message(&self, required: &Value) -> Value {
        let accepted = &required["accepts"][0];
        let payload = self.payload(&self.authorization(accepted), accepted);
        json!({"x402Version": 2, "resource": required["resource"], "accepted": accepted, "payload": payload})
    }

    /// A right v1 payment for the same offer.
    pub fn message_v1(&self, required: &Value) -> Value {
        let payload = self.message(required)["payload"].take();
        let network: tollgate::x402::Network =
            required["accepts"][0]["network"].as_str().unwrap().parse().unwrap();
        json!({"x402Version": 1, "scheme": "exact", "network": network.v1_name(), "payload": payload})
    }

    /// A right `PAYMENT-SIGNATURE` for a decoded `PAYMENT-REQUIRED`.
    pub fn pay(&self, required: &Value) -> String {
        encode(&self.message(required))
    }
}

/// A fresh payment by a new account for what a gateway asks for a path.
pub async fn payment_for(address: SocketAddr, path: &str) -> String {
    Payer::new().pay(&client::get(address, path, &[]).await.required())
}

/// The header line a request for a path needs: a fresh payment below `/paid/`, nothing elsewhere.
pub async fn line_for(address: SocketAddr, path: &str) -> String {
    if path.starts_with("/paid/") {
        format!("PAYMENT-SIGNATURE: {}\r\n", payment_for(address, path).await)
    } else {
        String::new()
    }
}

/// A message as a header's value.
pub fn encode(message: &Value) -> String {
    header::encode(message).unwrap()
}
