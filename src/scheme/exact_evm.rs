//! `exact` on EVM networks (`scheme_exact_evm.md`): EIP-3009 `transferWithAuthorization`, and
//! Permit2 where the offer says so.

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::{Eip712Domain, SolStruct, sol};
use serde_json::{Map, Value};

use super::evm::{
    EvmTerms, NotSigner, check_signature, nullifier, read_address, read_signature, read_uint, read_word,
    saturating_seconds,
};
use super::{Authorization, Moment, OnChain, Scheme, permit2};
use crate::x402::{Network, PaymentRequirements, Reason};

sol! {
    /// The message a payer signs (EIP-3009).
    #[derive(Debug, PartialEq, Eq)]
    struct TransferWithAuthorization {
        address from;
        address to;
        uint256 value;
        uint256 validAfter;
        uint256 validBefore;
        bytes32 nonce;
    }
}

/// The hash a payer signs: EIP-712 over the token's own domain.
#[must_use]
pub fn authorization_digest(
    message: &TransferWithAuthorization,
    name: &str,
    version: &str,
    chain_id: u64,
    asset: Address,
) -> B256 {
    let domain = Eip712Domain::new(
        Some(name.to_owned().into()),
        Some(version.to_owned().into()),
        Some(U256::from(chain_id)),
        Some(asset),
        None,
    );
    message.eip712_signing_hash(&domain)
}

/// Members of a payload that hold what is signed, one for each method.
const METHOD_MEMBERS: [&str; 3] = ["authorization", "permit2Authorization", "delegationManager"];

/// `exact` on EVM networks.
#[derive(Debug, Clone, Copy)]
pub struct ExactEvm;

impl Scheme for ExactEvm {
    fn name(&self) -> &'static str {
        "exact"
    }

    fn serves(&self, network: &Network) -> bool {
        network.chain_id().is_some()
    }

    fn inspect(
        &self,
        requirements: &PaymentRequirements,
        payload: &Map<String, Value>,
        moment: Moment,
    ) -> Result<Authorization, Reason> {
        let terms = EvmTerms::read(requirements)?;
        match method(requirements, payload) {
            Some(Method::Eip3009) => inspect_eip3009(&terms, payload, moment),
            Some(Method::Permit2) => permit2::inspect(&terms, payload, moment),
            None => Err(Reason::INVALID_PAYLOAD),
        }
    }

    fn on_chain(&self, requirements: &PaymentRequirements, payload: &Map<String, Value>) -> Option<OnChain> {
        let terms = EvmTerms::read(requirements).ok()?;
        match method(requirements, payload)? {
            Method::Eip3009 => on_chain_eip3009(&terms, payload),
            Method::Permit2 => permit2::on_chain(&terms, payload),
        }
    }
}

/// How the money is moved.
#[derive(Debug, Clone, Copy)]
enum Method {
    Eip3009,
    Permit2,
}

/// The method that is offered, if it is understood and the payload is one of it alone: facilitators
/// tell the method by the payload's shape.
fn method(requirements: &PaymentRequirements, payload: &Map<String, Value>) -> Option<Method> {
    let (method, own) = match requirements.extra.get("assetTransferMethod").and_then(Value::as_str) {
        None | Some("eip3009") => (Method::Eip3009, "authorization"),
        Some("permit2") => (Method::Permit2, "permit2Authorization"),
        // Other methods move money in ways that cannot be made single-use from the payload.
        Some(_) => return None,
    };
    let has_other = METHOD_MEMBERS.iter().any(|name| *name != own && payload.contains_key(*name));
    (!has_other).then_some(method)
}

fn read_message(payload: &Map<String, Value>) -> Result<TransferWithAuthorization, Reason> {
    let fields = payload.get("authorization").and_then(Value::as_object).ok_or(Reason::INVALID_PAYLOAD)?;
    Ok(TransferWithAuthorization {
        from: read_address(fields, "from")?,
        to: read_address(fields, "to")?,
        value: read_uint(fields, "value")?,
        validAfter: read_uint(fields, "validAfter")?,
        validBefore: read_uint(fields, "validBefore")?,
        nonce: read_word(fields, "nonce")?,
    })
}

fn on_chain_eip3009(terms: &EvmTerms<'_>, payload: &Map<String, Value>) -> Option<OnChain> {
    let message = read_message(payload).ok()?;
    (message.to == terms.pay_to && message.value == terms.amount).then(|| OnChain::Eip3009 {
        chain_id: terms.chain_id,
        asset: terms.asset,
        from: message.from,
        to: message.to,
        value: message.value,
        nonce: message.nonce,
        valid_before: saturating_seconds(message.validBefore),
    })
}

/// Reads the `payload` of an EIP-3009 payment: what was signed, and the signature. Judges nothing.
///
/// # Errors
/// [`Reason::INVALID_PAYLOAD`]; [`Reason::EVM_SIGNATURE`] for a signature of a length that none has.
pub fn read_authorization(
    payload: &Map<String, Value>,
) -> Result<(TransferWithAuthorization, Bytes), Reason> {
    Ok((read_message(payload)?, read_signature(payload)?))
}

fn inspect_eip3009(
    terms: &EvmTerms<'_>,
    payload: &Map<String, Value>,
    moment: Moment,
) -> Result<Authorization, Reason> {
    let (message, signature) = read_authorization(payload)?;
    if message.to != terms.pay_to {
        return Err(Reason::EVM_RECIPIENT);
    }
    // Some facilitators take more than the price; the price is exact here.
    if message.value != terms.amount {
        return Err(Reason::EVM_VALUE);
    }
    if message.validAfter > U256::from(moment.now.0) {
        return Err(Reason::EVM_VALID_AFTER);
    }
    if terms.is_too_long(message.validBefore, moment) {
        return Err(Reason::EVM_VALID_BEFORE);
    }
    let digest = authorization_digest(
        &message,
        terms.domain_member("name")?,
        terms.domain_member("version")?,
        terms.chain_id,
        terms.asset,
    );
    let proven =
        check_signature(&signature, digest, message.from).map_err(|NotSigner| Reason::EVM_SIGNATURE)?;
    let in_time = message.validBefore >= U256::from(moment.now.plus(moment.margin_seconds).0);
    Ok(Authorization {
        id: nullifier(b"eip3009", terms.chain_id, terms.asset, message.from, message.nonce),
        payer: Some(message.from.to_checksum(None)),
        proven,
        expires: Some(saturating_seconds(message.validBefore)),
        malleable: false,
        too_late: (!in_time).then_some(Reason::EVM_VALID_BEFORE),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheme::testing::{self, MOMENT, PAY_TO, sign, terms};
    use serde_json::json;

    fn inspect(payload: &Value) -> Result<Authorization, Reason> {
        ExactEvm.inspect(&terms(), payload.as_object().unwrap(), MOMENT).and_then(testing::in_time)
    }

    fn message() -> TransferWithAuthorization {
        TransferWithAuthorization {
            from: testing::payer(),
            to: PAY_TO.parse().unwrap(),
            value: U256::from(10_000),
            validAfter: U256::ZERO,
            validBefore: U256::from(MOMENT.now.0 + 300),
            nonce: B256::repeat_byte(7),
        }
    }

    fn payload(message: &TransferWithAuthorization) -> Value {
        let asset = terms().asset.parse().unwrap();
        let signature = sign(authorization_digest(message, "USDC", "2", 84532, asset));
        json!({"signature": signature, "authorization": {
            "from": message.from, "to": message.to, "value": message.value.to_string(),
            "validAfter": message.validAfter.to_string(), "validBefore": message.validBefore.to_string(),
            "nonce": message.nonce,
        }})
    }

    #[test]
    fn a_right_authorization_is_understood() {
        let authorization = inspect(&payload(&message())).unwrap();
        assert_eq!(authorization.payer, Some(testing::payer().to_string()));
        assert_eq!(authorization.expires, Some(MOMENT.now.plus(300)));
    }

    #[test]
    fn each_wrong_field_has_its_reason() {
        type Change = fn(&mut TransferWithAuthorization, u64);
        let now = MOMENT.now.0;
        let cases: &[(Change, Reason)] = &[
            (|m, _| m.to = Address::repeat_byte(1), Reason::EVM_RECIPIENT),
            (|m, _| m.value = U256::from(9_999), Reason::EVM_VALUE),
            (|m, _| m.value = U256::from(10_001), Reason::EVM_VALUE),
            (|m, now| m.validAfter = U256::from(now + 1), Reason::EVM_VALID_AFTER),
            (|m, now| m.validBefore = U256::from(now + 25), Reason::EVM_VALID_BEFORE),
            (|m, _| m.validBefore = U256::ZERO, Reason::EVM_VALID_BEFORE),
            (|m, now| m.validBefore = U256::from(now + 300 + 24 * 3600 + 1), Reason::EVM_VALID_BEFORE),
            (|m, _| m.validBefore = U256::MAX, Reason::EVM_VALID_BEFORE),
            (|m, _| m.from = Address::repeat_byte(2), Reason::EVM_SIGNATURE),
        ];
        for (change, reason) in cases {
            let mut wrong = message();
            change(&mut wrong, now);
            assert_eq!(inspect(&payload(&wrong)), Err(reason.clone()), "{wrong:?}");
        }
    }

    #[test]
    fn a_signature_for_another_domain_is_refused() {
        let asset: Address = terms().asset.parse().unwrap();
        for digest in [
            authorization_digest(&message(), "USD Coin", "2", 84532, asset),
            authorization_digest(&message(), "USDC", "1", 84532, asset),
            authorization_digest(&message(), "USDC", "2", 8453, asset),
            authorization_digest(&message(), "USDC", "2", 84532, Address::repeat_byte(3)),
        ] {
            let mut wrong = payload(&message());
            wrong["signature"] = sign(digest).into();
            assert_eq!(inspect(&wrong), Err(Reason::EVM_SIGNATURE));
        }
    }

    #[test]
    fn the_malleable_twin_of_a_signature_is_refused() {
        let mut twin = payload(&message());
        let bytes: Bytes = twin["signature"].as_str().unwrap().parse().unwrap();
        let signature = alloy_primitives::Signature::from_raw(&bytes).unwrap();
        let order = U256::from_be_bytes(alloy_primitives::hex!(
            "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
        ));
        let high = alloy_primitives::Signature::new(signature.r(), order - signature.s(), !signature.v());
        twin["signature"] = Bytes::from(high.as_bytes().to_vec()).to_string().into();
        assert_eq!(inspect(&twin), Err(Reason::EVM_SIGNATURE));
    }

    #[test]
    fn a_recovery_id_is_written_in_two_ways_and_in_no_other() {
        let mut payload = payload(&message());
        let bytes: Bytes = payload["signature"].as_str().unwrap().parse().unwrap();
        let right = bytes[64];
        for id in 0..=u8::MAX {
            let mut other = bytes.to_vec();
            other[64] = id;
            payload["signature"] = Bytes::from(other).to_string().into();
            assert_eq!(inspect(&payload).is_ok(), id == right || id == right - 27, "{id}");
        }
    }

    #[test]
    fn re_encoding_an_authorization_keeps_its_identity() {
        let plain = payload(&message());
        let mut upper = plain.clone();
        for name in ["from", "to", "nonce"] {
            let text = plain["authorization"][name].as_str().unwrap();
            upper["authorization"][name] = format!("0x{}", text[2..].to_uppercase()).into();
        }
        upper["authorization"]["value"] = "0000010000".into();
        upper["authorization"]["extra"] = "ignored".into();
        upper["authorization"]["validAfter"] = 0.into();
        assert_eq!(inspect(&upper).unwrap().id, inspect(&plain).unwrap().id);
        let mut other = message();
        other.nonce = B256::repeat_byte(8);
        assert_ne!(inspect(&payload(&other)).unwrap().id, inspect(&plain).unwrap().id);
    }

    #[test]
    fn signatures_of_contract_wallets_are_left_to_the_facilitator() {
        let mut wallet = payload(&message());
        wallet["signature"] = format!("0x{}", "ab".repeat(200)).into();
        assert!(inspect(&wallet).is_ok());
        for absurd in ["0x".to_owned(), "0xab".to_owned(), format!("0x{}", "ab".repeat(9_000))] {
            wallet["signature"] = absurd.into();
            assert_eq!(inspect(&wallet), Err(Reason::EVM_SIGNATURE));
        }
    }

    #[test]
    fn what_to_look_for_on_the_chain_is_what_was_signed() {
        let on_chain = |payload: &Value| ExactEvm.on_chain(&terms(), payload.as_object().unwrap());
        let expected = OnChain::Eip3009 {
            chain_id: 84532,
            asset: terms().asset.parse().unwrap(),
            from: testing::payer(),
            to: PAY_TO.parse().unwrap(),
            value: U256::from(10_000),
            nonce: B256::repeat_byte(7),
            valid_before: MOMENT.now.plus(300),
        };
        assert_eq!(expected.last_second(), MOMENT.now.plus(299));
        assert_eq!(on_chain(&payload(&message())), Some(expected));
        let mut other = message();
        other.to = Address::repeat_byte(1);
        assert_eq!(on_chain(&payload(&other)), None);
        let mut other = message();
        other.value = U256::from(10_001);
        assert_eq!(on_chain(&payload(&other)), None);
        assert_eq!(on_chain(&json!({"permit2Authorization": {}})), None);
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let good = payload(&message());
        for (field, wrong) in [
            ("value", json!("-1")),
            ("value", json!("0x2710")),
            ("value", json!(1.5)),
            ("value", json!("")),
            ("value", json!(null)),
            ("from", json!("0x12")),
            ("nonce", json!("0x12")),
            ("validBefore", json!("9".repeat(90))),
        ] {
            let mut bad = good.clone();
            bad["authorization"][field] = wrong;
            assert_eq!(inspect(&bad), Err(Reason::INVALID_PAYLOAD), "{bad}");
        }
        assert_eq!(inspect(&json!({})), Err(Reason::INVALID_PAYLOAD));
        // A facilitator could take the other part for the payment.
        let mut double = good;
        double["permit2Authorization"] = json!({});
        assert_eq!(inspect(&double), Err(Reason::INVALID_PAYLOAD));
    }
}
