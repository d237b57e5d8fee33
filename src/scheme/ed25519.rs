//! Ed25519 signatures as Solana takes them.

use ring::signature::{ED25519, UnparsedPublicKey};

/// Points whose order is 8 or less, in every spelling, without the sign. A key among them is nobody's:
/// whatever was signed, one of eight signatures made up at random is right for it. Solana refuses them
/// (`verify_strict` of ed25519-dalek), and so must whoever believes what is signed.
const SMALL_ORDER: [[u8; 32]; 7] = [
    [0; 32],
    with_ends(1, 0, 0),
    [
        0x26, 0xE8, 0x95, 0x8F, 0xC2, 0xB2, 0x27, 0xB0, 0x45, 0xC3, 0xF4, 0x89, 0xF2, 0xEF, 0x98, 0xF0, 0xD5,
        0xDF, 0xAC, 0x05, 0xD3, 0xC6, 0x33, 0x39, 0xB1, 0x38, 0x02, 0x88, 0x6D, 0x53, 0xFC, 0x05,
    ],
    [
        0xC7, 0x17, 0x6A, 0x70, 0x3D, 0x4D, 0xD8, 0x4F, 0xBA, 0x3C, 0x0B, 0x76, 0x0D, 0x10, 0x67, 0x0F, 0x2A,
        0x20, 0x53, 0xFA, 0x2C, 0x39, 0xCC, 0xC6, 0x4E, 0xC7, 0xFD, 0x77, 0x92, 0xAC, 0x03, 0x7A,
    ],
    // The field's prime less one, the prime itself for nought, and one more for one.
    with_ends(0xEC, 0xFF, 0x7F),
    with_ends(0xED, 0xFF, 0x7F),
    with_ends(0xEE, 0xFF, 0x7F),
];

const fn with_ends(first: u8, between: u8, last: u8) -> [u8; 32] {
    let mut bytes = [between; 32];
    (bytes[0], bytes[31]) = (first, last);
    bytes
}

/// Whether the holder of a key signed a message.
pub(super) fn is_signed(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    let (point, _) = signature.split_at(32);
    !is_small(key)
        && !is_small(point)
        && UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok()
}

fn is_small(point: &[u8]) -> bool {
    let Some((sign, rest)) = point.split_last() else { return true };
    SMALL_ORDER.iter().any(|small| small[..31] == *rest && small[31] == sign & 0x7F)
}

#[cfg(test)]
mod tests {
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;

    #[test]
    fn a_signature_counts_for_its_key_and_message() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let key: [u8; 32] = pair.public_key().as_ref().try_into().unwrap();
        let signature: [u8; 64] = pair.sign(b"a").as_ref().try_into().unwrap();
        assert!(is_signed(&key, b"a", &signature));
        assert!(!is_signed(&key, b"b", &signature));
        let other = Ed25519KeyPair::from_seed_unchecked(&[8; 32]).unwrap();
        assert!(!is_signed(other.public_key().as_ref().try_into().unwrap(), b"a", &signature));
    }

    #[test]
    fn nobody_signs_with_a_key_that_is_nobodys() {
        // Made up without any key: no point is added to nothing times the base.
        let mut made_up_for_others = 0;
        for key in SMALL_ORDER {
            for sign in [0, 0x80] {
                let mut key = key;
                key[31] |= sign;
                for number in 0..32_u8 {
                    let mut signature = [0; 64];
                    signature[..32].copy_from_slice(&key);
                    let message = [number];
                    let believed = UnparsedPublicKey::new(&ED25519, key).verify(&message, &signature).is_ok();
                    made_up_for_others += u32::from(believed);
                    assert!(!is_signed(&key, &message, &signature), "{key:?}");
                    assert!(is_small(&key));
                }
            }
        }
        assert!(made_up_for_others > 0, "such signatures are right to those who do not look at the key");
    }
}
