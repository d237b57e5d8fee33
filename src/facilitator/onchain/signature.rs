//! The forms a signature comes in, and which of them an ordinary account can have made.

use alloy_primitives::{Address, B256, Bytes, Signature};
use alloy_sol_types::SolValue as _;

use super::abi::{WRAPPED, Wrapped};

/// A signature without its wrapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unwrapped {
    /// How the payer's wallet is deployed, where the signature says so (ERC-6492).
    pub(super) deployment: Option<Deployment>,
    /// What the wallet, or the token for an ordinary account, checks.
    pub(super) signature: Bytes,
}

/// A call that deploys a wallet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Deployment {
    pub(super) factory: Address,
    pub(super) data: Bytes,
}

/// Takes the wrapping off. `None` when it has one that cannot be read.
pub(super) fn unwrap(signature: &Bytes) -> Option<Unwrapped> {
    let Some(body) = signature.strip_suffix(WRAPPED.as_slice()) else {
        return Some(Unwrapped { deployment: None, signature: signature.clone() });
    };
    let wrapped = Wrapped::abi_decode_params(body).ok()?;
    let deployment = Deployment { factory: wrapped.factory, data: wrapped.deployment };
    Some(Unwrapped { deployment: Some(deployment), signature: wrapped.signature })
}

/// A signature of ECDSA in its plain form of 65 bytes or its compact one of 64 (ERC-2098). Those that
/// contracts refuse are none: the malleable upper half (EIP-2) and strange recovery ids.
pub(super) fn ecdsa(signature: &[u8]) -> Option<Signature> {
    let parsed = match signature {
        [_, .., 0 | 1 | 27 | 28] if signature.len() == 65 => Signature::from_raw(signature).ok()?,
        _ if signature.len() == 64 => Signature::from_erc2098(signature),
        _ => return None,
    };
    parsed.normalize_s().is_none().then_some(parsed)
}

/// Whether an ordinary account made a signature.
pub(super) fn is_by(signature: &Signature, digest: B256, signer: Address) -> bool {
    signature.recover_address_from_prehash(&digest).is_ok_and(|found| found == signer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheme::testing::{payer, sign};

    fn signed(digest: B256) -> Bytes {
        sign(digest).parse().unwrap()
    }

    #[test]
    fn both_plain_and_compact_signatures_are_the_signers() {
        let digest = B256::repeat_byte(7);
        let plain = signed(digest);
        let parsed = ecdsa(&plain).unwrap();
        assert!(is_by(&parsed, digest, payer()));
        assert!(!is_by(&parsed, B256::ZERO, payer()));
        assert!(is_by(&ecdsa(&parsed.as_erc2098()).unwrap(), digest, payer()));
    }

    #[test]
    fn what_contracts_refuse_is_no_signature() {
        let digest = B256::repeat_byte(7);
        let plain = signed(digest);
        let order = alloy_primitives::U256::from_be_bytes(alloy_primitives::hex!(
            "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
        ));
        let low = ecdsa(&plain).unwrap();
        let twin = Signature::new(low.r(), order - low.s(), !low.v());
        assert_eq!(ecdsa(&twin.as_bytes()), None);
        for id in 0..=u8::MAX {
            let mut other = plain.to_vec();
            other[64] = id;
            assert_eq!(ecdsa(&other).is_some(), [0, 1, 27, 28].contains(&id), "{id}");
        }
        for length in [0, 1, 63, 66, 200] {
            assert_eq!(ecdsa(&vec![1; length]), None, "{length}");
        }
    }

    #[test]
    fn a_wrapped_signature_says_how_its_wallet_is_deployed() {
        let inner = signed(B256::ZERO);
        let wrapped = Wrapped {
            factory: Address::repeat_byte(3),
            deployment: Bytes::from_static(b"deploy"),
            signature: inner.clone(),
        };
        let whole: Bytes = [wrapped.abi_encode_params(), WRAPPED.to_vec()].concat().into();
        let found = unwrap(&whole).unwrap();
        assert_eq!(found.signature, inner);
        let deployment = found.deployment.unwrap();
        assert_eq!((deployment.factory, deployment.data.as_ref()), (Address::repeat_byte(3), &b"deploy"[..]));
        assert_eq!(unwrap(&inner), Some(Unwrapped { deployment: None, signature: inner }));
        let broken: Bytes = [vec![1; 40], WRAPPED.to_vec()].concat().into();
        assert_eq!(unwrap(&broken), None);
    }
}
