//! What the schemes on EVM networks share: terms, signatures, and reading of JSON fields.

use alloy_primitives::{Address, B256, Bytes, U256, b256, keccak256};
use alloy_sol_types::SolValue as _;
use serde_json::{Map, Value};

use super::{Moment, PaymentId};
use crate::clock::UnixSeconds;
use crate::x402::{PaymentRequirements, Reason};

/// An ECDSA signature; anything longer is a contract wallet's (EIP-1271, ERC-6492), which only the
/// chain can check.
const ECDSA_SIGNATURE_BYTES: usize = 65;

/// Signatures of contract wallets carry their own proofs, within reason.
const SIGNATURE_BYTES_MAX: usize = 8 * 1024;

/// How a signature ends that also says how its wallet is deployed (ERC-6492).
const WRAPPED: B256 = b256!("6492649264926492649264926492649264926492649264926492649264926492");

/// Seconds by which a payment may outlast its offer: clients are known to sign for longer.
pub const EXTRA_VALIDITY_SECONDS: u64 = 24 * 3600;

/// The offer's terms as EVM values.
pub(super) struct EvmTerms<'a> {
    pub(super) chain_id: u64,
    pub(super) asset: Address,
    pub(super) pay_to: Address,
    pub(super) amount: U256,
    requirements: &'a PaymentRequirements,
}

impl<'a> EvmTerms<'a> {
    pub(super) fn read(requirements: &'a PaymentRequirements) -> Result<Self, Reason> {
        let address = |text: &str| text.parse::<Address>().map_err(|_| Reason::INVALID_PAYLOAD);
        Ok(Self {
            chain_id: requirements.network.chain_id().ok_or(Reason::INVALID_PAYLOAD)?,
            asset: address(&requirements.asset)?,
            pay_to: address(&requirements.pay_to)?,
            amount: requirements.amount.0,
            requirements,
        })
    }

    /// Whether a payment stays valid far longer than its offer: it would occupy the ledger as long.
    pub(super) fn is_too_long(&self, end: U256, moment: Moment) -> bool {
        let longest = self.requirements.max_timeout_seconds.saturating_add(EXTRA_VALIDITY_SECONDS);
        end > U256::from(moment.now.plus(longest).0)
    }

    pub(super) fn domain_member(&self, member: &str) -> Result<&str, Reason> {
        self.requirements.extra.get(member).and_then(Value::as_str).ok_or(Reason::INVALID_PAYLOAD)
    }
}

/// A signature that is not the payer's.
pub(super) struct NotSigner;

/// Checks the signature of an ordinary account. One of another length is a contract wallet's
/// (EIP-1271, ERC-6492) or compact (ERC-2098), and passes: the facilitator checks it. A 65-byte
/// signature of somebody else is refused here, so that junk costs no call. Says whether it was checked.
pub(super) fn check_signature(signature: &Bytes, digest: B256, payer: Address) -> Result<bool, NotSigner> {
    if signature.len() != ECDSA_SIGNATURE_BYTES {
        return Ok(false);
    }
    let parsed = alloy_primitives::Signature::from_raw(signature).map_err(|_| NotSigner)?;
    // Contracts of the tokens in use refuse the malleable upper half (EIP-2), and a recovery id other
    // than 27 and 28, which some wallets write as 0 and 1.
    let known_id = matches!(signature.last(), Some(0 | 1 | 27 | 28));
    if !known_id || parsed.normalize_s().is_some() {
        return Err(NotSigner);
    }
    match parsed.recover_address_from_prehash(&digest) {
        Ok(signer) if signer == payer => Ok(true),
        Ok(_) | Err(_) => Err(NotSigner),
    }
}

/// Identity of a payment whose nonce a contract makes single-use per payer.
pub(super) fn nullifier(
    kind: &[u8],
    chain_id: u64,
    contract: Address,
    payer: Address,
    nonce: B256,
) -> PaymentId {
    let mut bytes = Vec::with_capacity(kind.len() + 8 + 20 + 20 + 32);
    bytes.extend_from_slice(kind);
    bytes.extend_from_slice(&chain_id.to_be_bytes());
    bytes.extend_from_slice(contract.as_slice());
    bytes.extend_from_slice(payer.as_slice());
    bytes.extend_from_slice(nonce.as_slice());
    PaymentId(keccak256(bytes))
}

pub(super) fn saturating_seconds(value: U256) -> UnixSeconds {
    UnixSeconds(u64::try_from(value).unwrap_or(u64::MAX))
}

fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<&'a str, Reason> {
    fields.get(name).and_then(Value::as_str).ok_or(Reason::INVALID_PAYLOAD)
}

pub(super) fn read_address(fields: &Map<String, Value>, name: &str) -> Result<Address, Reason> {
    text(fields, name)?.parse().map_err(|_| Reason::INVALID_PAYLOAD)
}

/// Reads an unsigned integer: a decimal string, or a JSON number as some clients write times.
pub(super) fn read_uint(fields: &Map<String, Value>, name: &str) -> Result<U256, Reason> {
    match fields.get(name) {
        Some(Value::Number(number)) => number.as_u64().map(U256::from).ok_or(Reason::INVALID_PAYLOAD),
        Some(Value::String(digits)) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            U256::from_str_radix(digits, 10).map_err(|_| Reason::INVALID_PAYLOAD)
        }
        _ => Err(Reason::INVALID_PAYLOAD),
    }
}

pub(super) fn read_word(fields: &Map<String, Value>, name: &str) -> Result<B256, Reason> {
    text(fields, name)?.parse().map_err(|_| Reason::INVALID_PAYLOAD)
}

pub(super) fn read_signature(payload: &Map<String, Value>) -> Result<Bytes, Reason> {
    let signature: Bytes = text(payload, "signature")?.parse().map_err(|_| Reason::INVALID_PAYLOAD)?;
    let plausible = (ECDSA_SIGNATURE_BYTES - 1..=SIGNATURE_BYTES_MAX).contains(&signature.len());
    if plausible && is_well_wrapped(&signature) { Ok(signature) } else { Err(Reason::EVM_SIGNATURE) }
}

/// Whether the wrapping of a signature, if it has one, can be read: `abi.encode(address factory, bytes
/// deployment, bytes signature)` as Solidity writes it, to the last byte (ERC-6492). Facilitators are
/// known to fall over others, and would look as if they did not work at all.
fn is_well_wrapped(signature: &[u8]) -> bool {
    let Some(body) = signature.strip_suffix(WRAPPED.as_slice()) else { return true };
    <(Address, Bytes, Bytes)>::abi_decode_params(body).is_ok_and(|wrapped| {
        wrapped.abi_encode_params() == body && !wrapped.2.is_empty() && is_well_wrapped(&wrapped.2)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(deployment: usize, signature: &[u8]) -> Vec<u8> {
        let parts =
            (Address::repeat_byte(3), Bytes::from(vec![7; deployment]), Bytes::copy_from_slice(signature));
        [parts.abi_encode_params(), WRAPPED.to_vec()].concat()
    }

    #[test]
    fn a_wrapped_signature_is_read_as_wallets_write_it() {
        for deployment in [0, 1, 31, 32, 33, 500] {
            for signature in [1, 64, 65, 96, 2_000] {
                assert!(
                    is_well_wrapped(&wrapped(deployment, &vec![9; signature])),
                    "{deployment} {signature}"
                );
            }
        }
        assert!(is_well_wrapped(&wrapped(4, &wrapped(4, &[9; 65]))));
        assert!(
            is_well_wrapped(&[9; 65]) && is_well_wrapped(&[]),
            "what has no wrapping has none to be wrong"
        );
    }

    #[test]
    fn a_wrapping_that_cannot_be_read_or_is_written_in_another_way_is_none() {
        let good = wrapped(64, &[9; 65]);
        let body = good.len() - WRAPPED.len();
        for length in 0..body {
            let short = [&good[..length], WRAPPED.as_slice()].concat();
            assert!(!is_well_wrapped(&short), "{length} bytes of it");
        }
        assert!(!is_well_wrapped(&[&good[..body], &[0; 32], WRAPPED.as_slice()].concat()));
        // Each byte of the address's padding, of both offsets, of both lengths, and of what fills the last up.
        let (first, second) = (96, 96 + 32 + 64);
        let fixed = [0..12, 32..96, first..first + 32, second..second + 32, second + 32 + 65..body];
        for at in fixed.into_iter().flatten() {
            for flip in [1, 0x20, 0xFF] {
                let mut bad = good.clone();
                bad[at] ^= flip;
                assert!(!is_well_wrapped(&bad), "byte {at} with {flip} flipped");
            }
        }
        assert!(!is_well_wrapped(&wrapped(4, &[])), "nothing is wrapped");
        assert!(!is_well_wrapped(&wrapped(4, &[&[1; 40], WRAPPED.as_slice()].concat())), "within a wrapping");
    }
}
