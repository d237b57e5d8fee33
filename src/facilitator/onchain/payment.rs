//! A payment as it will be put on the chain: read from a request, and checked as far as that takes no
//! chain (`scheme_exact_evm.md`, verification).

use alloy_primitives::{Address, B256, Bytes, U256};
use serde_json::Value;

use crate::clock::UnixSeconds;
use crate::scheme::permit2::{EXACT_PROXY, PermitWitnessTransferFrom, permit_digest, read_permit};
use crate::scheme::{TransferWithAuthorization, authorization_digest, read_authorization};
use crate::x402::types::FacilitatorRequest;
use crate::x402::{Network, PaymentRequirements, Reason};

/// Seconds a payment must stay valid: a few blocks.
const MARGIN_SECONDS: u64 = 6;

/// A payment for the terms it came with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Payment {
    pub(super) message: Message,
    pub(super) payer: Address,
    pub(super) asset: Address,
    pub(super) pay_to: Address,
    pub(super) amount: U256,
    pub(super) signature: Bytes,
    /// What was signed.
    pub(super) digest: B256,
    /// Name and version of the token's EIP-712 domain, by the offer.
    pub(super) domain: (String, String),
}

/// What was signed, by method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    Eip3009(TransferWithAuthorization),
    Permit2(PermitWitnessTransferFrom),
}

impl Payment {
    /// Reads a payment and compares it with its terms. Time is judged by [`Self::in_time`].
    ///
    /// # Errors
    /// The reason a client is told.
    pub(super) fn read(request: &FacilitatorRequest, network: &Network) -> Result<Self, Reason> {
        if request.scheme != "exact" {
            return Err(Reason::UNSUPPORTED_SCHEME);
        }
        let chain_id = network.chain_id().filter(|_| request.network == *network);
        let chain_id = chain_id.ok_or(Reason::INVALID_NETWORK)?;
        let terms = &request.requirements;
        let method = terms.extra.get("assetTransferMethod").and_then(Value::as_str);
        let has = |member: &str| request.payload.contains_key(member);
        match (method, has("authorization"), has("permit2Authorization"), has("delegationManager")) {
            (None | Some("eip3009"), true, false, false) => Self::eip3009(request, terms, chain_id),
            (None | Some("permit2"), false, true, false) => Self::permit2(request, terms, chain_id),
            _ => Err(Reason::INVALID_PAYLOAD),
        }
    }

    fn eip3009(
        request: &FacilitatorRequest,
        terms: &PaymentRequirements,
        chain_id: u64,
    ) -> Result<Self, Reason> {
        let (message, signature) = read_authorization(&request.payload)?;
        let (asset, pay_to, amount) = values(terms)?;
        let domain = domain(terms);
        if domain.0.is_empty() || domain.1.is_empty() {
            return Err(Reason::EVM_DOMAIN);
        }
        if message.to != pay_to {
            return Err(Reason::EVM_RECIPIENT);
        }
        if message.value != amount {
            return Err(Reason::EVM_VALUE);
        }
        let digest = authorization_digest(&message, &domain.0, &domain.1, chain_id, asset);
        let payer = message.from;
        Ok(Self {
            message: Message::Eip3009(message),
            payer,
            asset,
            pay_to,
            amount,
            signature,
            digest,
            domain,
        })
    }

    fn permit2(
        request: &FacilitatorRequest,
        terms: &PaymentRequirements,
        chain_id: u64,
    ) -> Result<Self, Reason> {
        let permit = read_permit(&request.payload)?;
        let (asset, pay_to, amount) = values(terms)?;
        let message = permit.message;
        let checks = [
            (message.spender == EXACT_PROXY, Reason::PERMIT2_SPENDER),
            (message.witness.to == pay_to, Reason::PERMIT2_RECIPIENT),
            (message.permitted.token == asset, Reason::PERMIT2_TOKEN),
            (message.permitted.amount == amount, Reason::PERMIT2_AMOUNT),
        ];
        if let Some((_, reason)) = checks.into_iter().find(|(holds, _)| !holds) {
            return Err(reason);
        }
        Ok(Self {
            digest: permit_digest(&message, chain_id),
            message: Message::Permit2(message),
            payer: permit.from,
            asset,
            pay_to,
            amount,
            signature: permit.signature,
            domain: domain(terms),
        })
    }

    /// Whether the payment is valid now and for the blocks that it takes.
    ///
    /// # Errors
    /// The reason a client is told.
    pub(super) fn in_time(&self, now: UnixSeconds) -> Result<(), Reason> {
        let (begins, ends, too_early, too_late) = match &self.message {
            Message::Eip3009(message) => {
                (message.validAfter, message.validBefore, Reason::EVM_VALID_AFTER, Reason::EVM_VALID_BEFORE)
            }
            Message::Permit2(message) => (
                message.witness.validAfter,
                message.deadline,
                Reason::PERMIT2_NOT_YET_VALID,
                Reason::PERMIT2_DEADLINE,
            ),
        };
        if ends < U256::from(now.plus(MARGIN_SECONDS).0) {
            return Err(too_late);
        }
        if begins > U256::from(now.0) {
            return Err(too_early);
        }
        Ok(())
    }

    /// From when on no transaction can move money for it.
    pub(super) fn expires(&self) -> UnixSeconds {
        let ends = match &self.message {
            Message::Eip3009(message) => message.validBefore,
            Message::Permit2(message) => message.deadline,
        };
        UnixSeconds(u64::try_from(ends).unwrap_or(u64::MAX))
    }

    /// The reason for a nonce that was used before.
    pub(super) fn used(&self) -> Reason {
        match self.message {
            Message::Eip3009(_) => Reason::EVM_NONCE_USED,
            Message::Permit2(_) => Reason::PERMIT2_NONCE,
        }
    }

    /// The reason for a signature that is not the payer's.
    pub(super) fn forged(&self) -> Reason {
        match self.message {
            Message::Eip3009(_) => Reason::EVM_SIGNATURE,
            Message::Permit2(_) => Reason::PERMIT2_SIGNATURE,
        }
    }
}

fn values(terms: &PaymentRequirements) -> Result<(Address, Address, U256), Reason> {
    let address = |text: &str| text.parse::<Address>().map_err(|_| Reason::INVALID_PAYLOAD);
    Ok((address(&terms.asset)?, address(&terms.pay_to)?, terms.amount.0))
}

fn domain(terms: &PaymentRequirements) -> (String, String) {
    let member = |name: &str| terms.extra.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    (member("name"), member("version"))
}
