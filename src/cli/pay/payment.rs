//! Making a payment: an EIP-3009 authorization, signed, in the header of its generation.

use alloy_primitives::{B256, U256, hex};
use reqwest::header::{HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::challenge::Challenge;
use super::choice::Payable;
use super::key::Payer;
use super::{Exit, Stop};
use crate::clock::UnixSeconds;
use crate::scheme::{TransferWithAuthorization, authorization_digest};
use crate::x402::identifier::PAYMENT_IDENTIFIER;
use crate::x402::{Version, header};

/// A payment, ready to be sent any number of times: its nonce makes it single-use.
#[derive(Debug)]
pub(super) struct Payment {
    /// `PAYMENT-SIGNATURE` or `X-PAYMENT`.
    pub(super) name: HeaderName,
    /// Base64 of the message. Whoever holds it can have it settled.
    pub(super) value: HeaderValue,
    /// From when on it can no longer be settled.
    pub(super) expires: UnixSeconds,
}

/// Signs the payment of an offer (`scheme_exact_evm.md`, EIP-3009 and EIP-712). It is valid from
/// the beginning of time, because clocks differ, until the offer's time is over. Of the two random
/// words everybody sees the nonce on the chain; the other one is for the request's name.
pub(super) fn make(
    challenge: &Challenge,
    payable: &Payable<'_>,
    payer: &Payer,
    now: UnixSeconds,
    [nonce, secret]: [B256; 2],
) -> Result<Payment, Stop> {
    let expires = now.plus(payable.lifetime_seconds);
    let authorization = TransferWithAuthorization {
        from: payer.address(),
        to: payable.pay_to,
        value: payable.amount.0,
        validAfter: U256::ZERO,
        validBefore: U256::from(expires.0),
        nonce,
    };
    let (name, version) = payable.domain;
    let digest = authorization_digest(&authorization, name, version, payable.chain_id, payable.asset);
    let payload = json!({
        "signature": hex::encode_prefixed(payer.sign(digest)),
        "authorization": {
            "from": authorization.from.to_checksum(None),
            "to": authorization.to.to_checksum(None),
            "value": authorization.value.to_string(),
            "validAfter": authorization.validAfter.to_string(),
            "validBefore": authorization.validBefore.to_string(),
            "nonce": authorization.nonce,
        },
    });
    let mut message = message(challenge, payable, &payload);
    name_request(&mut message, secret);
    let failed = |error: &dyn std::fmt::Display| {
        Stop::new(Exit::Failed, format!("the payment cannot be written into a header: {error}"))
    };
    let value = header::encode(&message).map_err(|error| failed(&error))?;
    let mut value = HeaderValue::from_str(&value).map_err(|error| failed(&error))?;
    value.set_sensitive(true);
    let name = HeaderName::from_static(challenge.version.payment_header());
    Ok(Payment { name, value, expires })
}

/// The message around the scheme's own part. What was offered is echoed as it came.
fn message(challenge: &Challenge, payable: &Payable<'_>, payload: &Value) -> Value {
    let mut message = json!({"x402Version": challenge.version.number(), "payload": payload});
    match challenge.version {
        Version::V1 => {
            for member in ["scheme", "network"] {
                message[member] = payable.offer.get(member).cloned().unwrap_or_default();
            }
        }
        Version::V2 => {
            message["accepted"] = Value::Object(payable.offer.clone());
            let echoed = [("resource", &challenge.resource), ("extensions", &challenge.extensions)];
            for (member, value) in echoed {
                if let Some(value) = value {
                    message[member] = value.clone();
                }
            }
        }
    }
    message
}

/// Names the request where the seller wants it (`payment-identifier` extension). Every payment of this
/// command is for a request of its own. Whoever knows the name can ask for it, so it is not the nonce.
fn name_request(message: &mut Value, secret: B256) {
    let extensions = message.get_mut("extensions");
    let advertised = extensions.and_then(|extensions| extensions.get_mut(PAYMENT_IDENTIFIER));
    if let Some(info) = advertised.and_then(|extension| extension.get_mut("info")?.as_object_mut()) {
        info.insert("id".to_owned(), format!("pay_{}", hex::encode(&secret[..16])).into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::pay::choice::{Limits, choose};
    use crate::x402::Money;
    use alloy_primitives::{Address, Signature};

    const KEY: &str = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318";

    fn offer() -> Value {
        json!({"scheme": "exact", "network": "eip155:84532", "amount": "10000",
               "asset": "0x036cbd53842c5426634e7929541ec2318f3dcf7e", "own": [1, {"a": null}],
               "payTo": "0x209693bc6afc0c5328ba36faf03c514ef312287c", "maxTimeoutSeconds": 300,
               "extra": {"name": "USDC", "version": "2", "more": "kept"}})
    }

    fn pay(challenge: &Challenge, nonce: B256) -> (Payment, Value) {
        let max_price: Money = "$0.10".parse().unwrap();
        let limits = Limits {
            max_price: &max_price,
            max_amount: None,
            network: None,
            key_given: true,
            allow_other_resource: false,
            asked: &"https://example.com/a".parse().unwrap(),
        };
        let payer = Payer::parse(KEY, "--key").unwrap();
        let payable = choose(challenge, &limits).unwrap();
        let payment = make(challenge, &payable, &payer, UnixSeconds(1_700_000_000), [nonce, nonce]).unwrap();
        let message = header::decode(payment.value.as_bytes()).unwrap();
        (payment, Value::Object(message))
    }

    fn v2() -> Challenge {
        Challenge {
            version: Version::V2,
            offers: vec![offer().as_object().unwrap().clone()],
            resource: Some(json!({"url": "https://example.com/a", "tags": ["x"]})),
            extensions: Some(json!({"some": {"info": {"n": 1}, "schema": {}}})),
        }
    }

    #[test]
    fn the_signature_is_the_one_that_other_wallets_make() {
        // Made with the same key and message by viem 2 (JavaScript) and eth-account 0.14 (Python).
        let expected = "0xd79b33d9bf6005678ef94b652749634d5e9176df57f39c54e6c95d2c6b361199295223181d89a37079389e21ead3edbf821460842843223bc239e44a85ed323b1b";
        let (payment, message) = pay(&v2(), B256::repeat_byte(7));
        assert_eq!(message["payload"]["signature"], expected);
        assert_eq!(
            message["payload"]["authorization"],
            json!({"from": "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23",
                   "to": "0x209693Bc6afc0C5328bA36FaF03C514EF312287C", "value": "10000",
                   "validAfter": "0", "validBefore": "1700000300", "nonce": B256::repeat_byte(7)})
        );
        assert_eq!(payment.expires, UnixSeconds(1_700_000_300));
        assert_eq!(payment.name, header::PAYMENT_SIGNATURE);
    }

    #[test]
    fn the_signer_of_any_payment_is_the_payer() {
        for byte in 0..8 {
            let nonce = B256::repeat_byte(byte);
            let (_, message) = pay(&v2(), nonce);
            let text = message["payload"]["signature"].as_str().unwrap();
            let bytes = hex::decode(text).unwrap();
            let payer = Payer::parse(KEY, "").unwrap().address();
            let authorization = TransferWithAuthorization {
                from: payer,
                to: "0x209693Bc6afc0C5328bA36FaF03C514EF312287C".parse().unwrap(),
                value: U256::from(10_000),
                validAfter: U256::ZERO,
                validBefore: U256::from(1_700_000_300),
                nonce,
            };
            let asset: Address = offer()["asset"].as_str().unwrap().parse().unwrap();
            let digest = authorization_digest(&authorization, "USDC", "2", 84532, asset);
            let signature = Signature::from_raw(&bytes).unwrap();
            assert_eq!(signature.normalize_s(), None);
            assert_eq!(signature.recover_address_from_prehash(&digest).unwrap(), payer);
        }
    }

    #[test]
    fn what_was_offered_is_echoed_as_it_came() {
        let (_, message) = pay(&v2(), B256::ZERO);
        assert_eq!(message["x402Version"], 2);
        assert_eq!(message["accepted"], offer());
        assert_eq!(message["resource"], v2().resource.unwrap());
        assert_eq!(message["extensions"], v2().extensions.unwrap());
        let (_, bare) = pay(&Challenge { extensions: None, ..v2() }, B256::ZERO);
        assert_eq!(bare.get("extensions"), None);
    }

    #[test]
    fn a_request_is_named_where_the_seller_wants_it() {
        let offered = json!({PAYMENT_IDENTIFIER: crate::x402::identifier::advertised(true)});
        let challenge = Challenge { extensions: Some(offered.clone()), ..v2() };
        let (_, message) = pay(&challenge, B256::repeat_byte(7));
        let mut echoed = message["extensions"].clone();
        let id = echoed[PAYMENT_IDENTIFIER]["info"].as_object_mut().unwrap().remove("id").unwrap();
        assert!(crate::x402::identifier::is_well_formed(id.as_str().unwrap()), "{id}");
        assert_eq!(echoed, offered);
        let (_, other) = pay(&challenge, B256::repeat_byte(8));
        assert_ne!(other["extensions"][PAYMENT_IDENTIFIER]["info"]["id"], id);
    }

    #[test]
    fn a_v1_payment_names_scheme_and_network_as_offered() {
        let mut entry = offer();
        entry["network"] = "base-sepolia".into();
        entry["maxAmountRequired"] = "10000".into();
        entry["resource"] = "https://example.com/a".into();
        let offers = vec![entry.as_object().unwrap().clone()];
        let challenge = Challenge { version: Version::V1, offers, resource: None, extensions: None };
        let (payment, mut message) = pay(&challenge, B256::ZERO);
        assert_eq!(payment.name, header::X_PAYMENT);
        assert!(message["payload"].take()["signature"].is_string());
        assert_eq!(
            message,
            json!({"x402Version": 1, "scheme": "exact", "network": "base-sepolia", "payload": null})
        );
    }

    #[test]
    fn a_payment_is_not_shown_in_debug_output() {
        let (payment, _) = pay(&v2(), B256::ZERO);
        let value = payment.value.to_str().unwrap();
        assert!(!format!("{payment:?}").contains(value));
    }
}
