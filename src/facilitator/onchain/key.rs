//! The key that pays for gas.

use alloy::signers::local::PrivateKeySigner;
use alloy_primitives::{Address, B256};

use crate::secret::Secret;

/// The account of a key.
///
/// # Errors
/// What is wrong with the key, without the key.
pub fn address(key: &Secret<String>) -> Result<Address, String> {
    signer(key).map(|signer| signer.address())
}

pub(super) fn signer(key: &Secret<String>) -> Result<PrivateKeySigner, String> {
    let text = key.expose().trim();
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("it is not 64 hexadecimal digits".into());
    }
    let bytes: B256 = digits.parse().map_err(|_| "it is not 64 hexadecimal digits".to_owned())?;
    PrivateKeySigner::from_bytes(&bytes).map_err(|_| "no account has it".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Address, String> {
        address(&Secret::new(text.to_owned()))
    }

    #[test]
    fn the_account_of_a_key_is_found_and_the_key_is_not_repeated() {
        let key = "42".repeat(32);
        let expected = crate::scheme::testing::payer();
        assert_eq!(of(&key), Ok(expected));
        assert_eq!(of(&format!("0x{key}\n")), Ok(expected));
        for wrong in [&key[1..], "hunter2", "", &"zz".repeat(32), &"00".repeat(32), &"ff".repeat(32)] {
            let error = of(wrong).unwrap_err();
            assert!(wrong.is_empty() || !error.contains(wrong), "{error}");
        }
    }
}
