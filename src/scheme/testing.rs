//! What the tests of several schemes share.

use alloy_primitives::{Address, B256, Bytes};

use super::Moment;
use crate::clock::UnixSeconds;
use crate::x402::{Asset, PaymentRequirements};

pub(crate) const MOMENT: Moment = Moment { now: UnixSeconds(1_800_000_000), margin_seconds: 30 };
pub(crate) const PAY_TO: &str = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C";
const KEY: [u8; 32] = [0x42; 32];

pub(crate) fn terms() -> PaymentRequirements {
    let network = "base-sepolia".parse().unwrap();
    let asset = Asset::default_of(&network).unwrap();
    let (name, version) = asset.eip712.unwrap();
    PaymentRequirements {
        scheme: "exact".into(),
        network,
        amount: "10000".parse().unwrap(),
        asset: asset.address,
        pay_to: PAY_TO.into(),
        max_timeout_seconds: 300,
        extra: [("name".into(), name.into()), ("version".into(), version.into())].into_iter().collect(),
    }
}

pub(crate) fn payer() -> Address {
    let secret = secp256k1::SecretKey::from_byte_array(KEY).unwrap();
    let public = secret.public_key(&secp256k1::Secp256k1::new()).serialize_uncompressed();
    Address::from_raw_public_key(&public[1..])
}

/// The `payload` of a right EIP-3009 payment for [`terms`].
pub(crate) fn payment(nonce: u8) -> serde_json::Value {
    payment_of(&terms(), nonce)
}

/// The same for terms that have another amount or payee.
pub(crate) fn payment_of(terms: &PaymentRequirements, nonce: u8) -> serde_json::Value {
    let message = super::TransferWithAuthorization {
        from: payer(),
        to: terms.pay_to.parse().unwrap(),
        value: terms.amount.0,
        validAfter: alloy_primitives::U256::ZERO,
        validBefore: alloy_primitives::U256::from(MOMENT.now.0 + 300),
        nonce: B256::repeat_byte(nonce),
    };
    let digest = super::authorization_digest(&message, "USDC", "2", 84532, terms.asset.parse().unwrap());
    serde_json::json!({"signature": sign(digest), "authorization": {
        "from": message.from, "to": message.to, "value": message.value.to_string(), "validAfter": "0",
        "validBefore": message.validBefore.to_string(), "nonce": message.nonce,
    }})
}

/// A payment that is too late, as the error that it ends in.
pub(crate) fn in_time(
    authorization: super::Authorization,
) -> Result<super::Authorization, crate::x402::Reason> {
    match authorization.too_late {
        None => Ok(authorization),
        Some(reason) => Err(reason),
    }
}

/// Signs a digest with the test payer's key, as hex.
pub(crate) fn sign(digest: B256) -> String {
    let secret = secp256k1::SecretKey::from_byte_array(KEY).unwrap();
    let message = secp256k1::Message::from_digest(digest.0);
    let signature = secp256k1::Secp256k1::new().sign_ecdsa_recoverable(message, &secret);
    let (recovery, compact) = signature.serialize_compact();
    let mut bytes = compact.to_vec();
    bytes.push(27 + u8::try_from(i32::from(recovery)).unwrap());
    Bytes::from(bytes).to_string()
}
