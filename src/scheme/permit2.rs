//! `exact` on EVM networks by Permit2 (`scheme_exact_evm.md`, `assetTransferMethod: "permit2"`).

use alloy_primitives::{Address, B256, Bytes, U256, address};
use alloy_sol_types::{Eip712Domain, SolStruct, sol};
use serde_json::{Map, Value};

use super::evm::{
    EvmTerms, NotSigner, check_signature, nullifier, read_address, read_signature, read_uint,
    saturating_seconds,
};
use super::{Authorization, Moment, OnChain};
use crate::x402::Reason;

/// Uniswap's Permit2, at this address on every chain.
pub const PERMIT2: Address = address!("000000000022D473030F116dDEE9F6B43aC78BA3");
/// The x402 proxy that may spend a permit for `exact`.
pub const EXACT_PROXY: Address = address!("402085c248EeA27D92E8b30b2C58ed07f9E20001");

sol! {
    /// How much of which token (Permit2).
    #[derive(Debug, PartialEq, Eq)]
    struct TokenPermissions {
        address token;
        uint256 amount;
    }

    /// What the x402 proxy holds a payment to.
    #[derive(Debug, PartialEq, Eq)]
    struct Witness {
        address to;
        uint256 validAfter;
    }

    /// The message a payer signs (Permit2).
    #[derive(Debug, PartialEq, Eq)]
    struct PermitWitnessTransferFrom {
        TokenPermissions permitted;
        address spender;
        uint256 nonce;
        uint256 deadline;
        Witness witness;
    }
}

fn object<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<&'a Map<String, Value>, Reason> {
    fields.get(name).and_then(Value::as_object).ok_or(Reason::INVALID_PAYLOAD)
}

/// A Permit2 payment as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    /// Who pays; not part of the signed message.
    pub from: Address,
    /// What was signed.
    pub message: PermitWitnessTransferFrom,
    /// The signature.
    pub signature: Bytes,
}

/// Reads the `payload` of a Permit2 payment. Judges nothing.
///
/// # Errors
/// [`Reason::INVALID_PAYLOAD`]; [`Reason::EVM_SIGNATURE`] for a signature of a length that none has.
pub fn read_permit(payload: &Map<String, Value>) -> Result<Permit, Reason> {
    let (message, from) = read_message(payload)?;
    Ok(Permit { from, message, signature: read_signature(payload)? })
}

/// The hash a payer signs: EIP-712 over Permit2's domain, which has no version.
#[must_use]
pub fn permit_digest(message: &PermitWitnessTransferFrom, chain_id: u64) -> B256 {
    let domain =
        Eip712Domain::new(Some("Permit2".into()), None, Some(U256::from(chain_id)), Some(PERMIT2), None);
    message.eip712_signing_hash(&domain)
}

/// A permit and whose it is.
fn read_message(payload: &Map<String, Value>) -> Result<(PermitWitnessTransferFrom, Address), Reason> {
    let fields = object(payload, "permit2Authorization")?;
    let permitted = object(fields, "permitted")?;
    let witness = object(fields, "witness")?;
    let message = PermitWitnessTransferFrom {
        permitted: TokenPermissions {
            token: read_address(permitted, "token")?,
            amount: read_uint(permitted, "amount")?,
        },
        spender: read_address(fields, "spender")?,
        nonce: read_uint(fields, "nonce")?,
        deadline: read_uint(fields, "deadline")?,
        witness: Witness { to: read_address(witness, "to")?, validAfter: read_uint(witness, "validAfter")? },
    };
    Ok((message, read_address(fields, "from")?))
}

pub(super) fn on_chain(terms: &EvmTerms<'_>, payload: &Map<String, Value>) -> Option<OnChain> {
    let (message, owner) = read_message(payload).ok()?;
    let right = message.spender == EXACT_PROXY
        && message.witness.to == terms.pay_to
        && message.permitted.token == terms.asset
        && message.permitted.amount == terms.amount;
    right.then(|| OnChain::Permit2 {
        chain_id: terms.chain_id,
        token: terms.asset,
        owner,
        to: terms.pay_to,
        amount: terms.amount,
        nonce: message.nonce,
        deadline: saturating_seconds(message.deadline),
    })
}

pub(super) fn inspect(
    terms: &EvmTerms<'_>,
    payload: &Map<String, Value>,
    moment: Moment,
) -> Result<Authorization, Reason> {
    let Permit { from, message, signature } = read_permit(payload)?;
    check_terms(terms, &message, moment)?;
    if terms.is_too_long(message.deadline, moment) {
        return Err(Reason::PERMIT2_DEADLINE);
    }
    let proven = check_signature(&signature, permit_digest(&message, terms.chain_id), from)
        .map_err(|NotSigner| Reason::PERMIT2_SIGNATURE)?;
    let in_time = message.deadline >= U256::from(moment.now.plus(moment.margin_seconds).0);
    Ok(Authorization {
        // Permit2 counts nonces per owner, whatever the token.
        id: nullifier(b"permit2", terms.chain_id, PERMIT2, from, B256::from(message.nonce)),
        payer: Some(from.to_checksum(None)),
        proven,
        expires: Some(saturating_seconds(message.deadline)),
        malleable: false,
        too_late: (!in_time).then_some(Reason::PERMIT2_DEADLINE),
    })
}

fn check_terms(
    terms: &EvmTerms<'_>,
    message: &PermitWitnessTransferFrom,
    moment: Moment,
) -> Result<(), Reason> {
    let checks = [
        (message.spender == EXACT_PROXY, Reason::PERMIT2_SPENDER),
        (message.witness.to == terms.pay_to, Reason::PERMIT2_RECIPIENT),
        (message.permitted.token == terms.asset, Reason::PERMIT2_TOKEN),
        (message.permitted.amount == terms.amount, Reason::PERMIT2_AMOUNT),
        (message.witness.validAfter <= U256::from(moment.now.0), Reason::PERMIT2_NOT_YET_VALID),
    ];
    match checks.into_iter().find(|(holds, _)| !holds) {
        Some((_, reason)) => Err(reason),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheme::testing::{self, MOMENT, PAY_TO, sign};
    use crate::scheme::{ExactEvm, Scheme};
    use serde_json::json;

    fn message() -> PermitWitnessTransferFrom {
        PermitWitnessTransferFrom {
            permitted: TokenPermissions {
                token: testing::terms().asset.parse().unwrap(),
                amount: U256::from(10_000),
            },
            spender: EXACT_PROXY,
            nonce: U256::from(5),
            deadline: U256::from(MOMENT.now.0 + 300),
            witness: Witness { to: PAY_TO.parse().unwrap(), validAfter: U256::ZERO },
        }
    }

    fn terms() -> crate::x402::PaymentRequirements {
        let mut terms = testing::terms();
        terms.extra.insert("assetTransferMethod".into(), "permit2".into());
        terms
    }

    fn payload(message: &PermitWitnessTransferFrom) -> Value {
        json!({
            "signature": sign(permit_digest(message, 84532)),
            "permit2Authorization": {
                "from": testing::payer(),
                "permitted": {"token": message.permitted.token, "amount": message.permitted.amount.to_string()},
                "spender": message.spender,
                "nonce": message.nonce.to_string(),
                "deadline": message.deadline.to_string(),
                "witness": {"to": message.witness.to, "validAfter": message.witness.validAfter.to_string()},
            },
        })
    }

    fn inspect(message: &PermitWitnessTransferFrom) -> Result<Authorization, Reason> {
        ExactEvm.inspect(&terms(), payload(message).as_object().unwrap(), MOMENT).and_then(testing::in_time)
    }

    #[test]
    fn a_right_permit_is_understood() {
        let authorization = inspect(&message()).unwrap();
        assert_eq!(authorization.payer, Some(testing::payer().to_string()));
        assert_eq!(authorization.expires, Some(MOMENT.now.plus(300)));
    }

    #[test]
    fn each_wrong_field_has_its_reason() {
        type Change = fn(&mut PermitWitnessTransferFrom);
        let cases: &[(Change, Reason)] = &[
            (|m| m.spender = Address::repeat_byte(1), Reason::PERMIT2_SPENDER),
            (|m| m.witness.to = Address::repeat_byte(1), Reason::PERMIT2_RECIPIENT),
            (|m| m.permitted.token = Address::repeat_byte(1), Reason::PERMIT2_TOKEN),
            (|m| m.permitted.amount = U256::from(1), Reason::PERMIT2_AMOUNT),
            (|m| m.witness.validAfter = U256::MAX, Reason::PERMIT2_NOT_YET_VALID),
            (|m| m.deadline = U256::from(MOMENT.now.0), Reason::PERMIT2_DEADLINE),
        ];
        for (change, reason) in cases {
            let mut wrong = message();
            change(&mut wrong);
            assert_eq!(inspect(&wrong), Err(reason.clone()), "{wrong:?}");
        }
    }

    #[test]
    fn what_to_look_for_on_the_chain_is_what_was_signed() {
        let on_chain = |message: &PermitWitnessTransferFrom| {
            ExactEvm.on_chain(&terms(), payload(message).as_object().unwrap())
        };
        let expected = OnChain::Permit2 {
            chain_id: 84532,
            token: terms().asset.parse().unwrap(),
            owner: testing::payer(),
            to: PAY_TO.parse().unwrap(),
            amount: U256::from(10_000),
            nonce: U256::from(5),
            deadline: MOMENT.now.plus(300),
        };
        assert_eq!(expected.last_second(), MOMENT.now.plus(300));
        assert_eq!(on_chain(&message()), Some(expected));
        let mut other = message();
        other.witness.to = Address::repeat_byte(1);
        assert_eq!(on_chain(&other), None);
        let mut other = message();
        other.spender = Address::repeat_byte(1);
        assert_eq!(on_chain(&other), None);
    }

    #[test]
    fn a_payload_of_the_other_method_is_refused() {
        let eip3009 = json!({"signature": "0x", "authorization": {}});
        let inspected = ExactEvm.inspect(&terms(), eip3009.as_object().unwrap(), MOMENT);
        assert_eq!(inspected, Err(Reason::INVALID_PAYLOAD));
    }
}
