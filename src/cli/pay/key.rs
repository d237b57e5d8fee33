//! The key that pays.

use std::path::Path;

use alloy_primitives::{Address, B256};
use secp256k1::{Message, Secp256k1, SecretKey, SignOnly};

use super::{Exit, Stop};
use crate::secret::Secret;

/// The environment variable that may hold the key.
pub(super) const KEY_VARIABLE: &str = "TOLLGATE_KEY";

/// A key file holds 64 digits; anything much longer is another file.
const KEY_FILE_BYTES_MAX: u64 = 4096;

/// An account that signs payments. The key is erased when this is dropped, as far as the
/// `secp256k1` crate can (copies the compiler made are out of its reach).
pub(super) struct Payer {
    context: Secp256k1<SignOnly>,
    key: SecretKey,
    /// Whether the key was made for this run and so holds no money.
    pub(super) generated: bool,
}

impl Drop for Payer {
    fn drop(&mut self) {
        self.key.non_secure_erase();
    }
}

impl std::fmt::Debug for Payer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Payer").field("address", &self.address()).finish_non_exhaustive()
    }
}

/// Where a key may come from, the first that is set wins.
#[derive(Debug, Default)]
pub(super) struct KeySources<'a> {
    /// `--key`.
    pub(super) argument: Option<&'a Secret<String>>,
    /// `--key-file`.
    pub(super) file: Option<&'a Path>,
    /// `TOLLGATE_KEY`.
    pub(super) variable: Option<Secret<String>>,
}

impl KeySources<'_> {
    /// Whether any is set.
    pub(super) const fn is_given(&self) -> bool {
        self.argument.is_some() || self.file.is_some() || self.variable.is_some()
    }

    /// Reads the key, or makes one when none is given.
    pub(super) fn load(&self) -> Result<Payer, Stop> {
        if let Some(text) = self.argument {
            return Payer::parse(text.expose(), "--key");
        }
        if let Some(path) = self.file {
            let text = read_key_file(path)?;
            return Payer::parse(text.expose(), &format!("the key file {}", path.display()));
        }
        match &self.variable {
            Some(text) => Payer::parse(text.expose(), KEY_VARIABLE),
            None => Payer::generate(),
        }
    }
}

fn read_key_file(path: &Path) -> Result<Secret<String>, Stop> {
    use std::io::Read as _;
    let failed = |error: &dyn std::fmt::Display| {
        Stop::new(Exit::Usage, format!("cannot read the key file {}: {error}", path.display()))
    };
    let file = std::fs::File::open(path).map_err(|error| failed(&error))?;
    let mut text = String::new();
    file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text).map_err(|error| failed(&error))?;
    Ok(Secret::new(text))
}

impl Payer {
    fn new(key: SecretKey, generated: bool) -> Self {
        Self { context: Secp256k1::signing_only(), key, generated }
    }

    /// Reads a private key. The message of a failure names `source` and never the key.
    pub(super) fn parse(text: &str, source: &str) -> Result<Self, Stop> {
        let wrong = |what: &str| Stop::new(Exit::Usage, format!("{source}: {what}"));
        let digits = text.trim();
        let digits = digits.strip_prefix("0x").unwrap_or(digits);
        let mut bytes = [0u8; 32];
        alloy_primitives::hex::decode_to_slice(digits, &mut bytes)
            .map_err(|_| wrong("not a private key; write its 32 bytes as 64 hexadecimal digits"))?;
        let key = SecretKey::from_byte_array(bytes)
            .map_err(|_| wrong("not a private key; the number is zero or beyond the curve's order"))?;
        Ok(Self::new(key, false))
    }

    /// Makes a key that lives as long as this value.
    pub(super) fn generate() -> Result<Self, Stop> {
        // All but 1 in 2^128 numbers of 32 bytes are keys.
        for _ in 0..8 {
            if let Ok(key) = SecretKey::from_byte_array(random_word()?.0) {
                return Ok(Self::new(key, true));
            }
        }
        Err(Stop::new(Exit::Failed, "the system's random numbers are not random".to_owned()))
    }

    /// The account's address.
    pub(super) fn address(&self) -> Address {
        Address::from_raw_public_key(&self.key.public_key(&self.context).serialize_uncompressed()[1..])
    }

    /// Signs a digest: `r`, `s` in the lower half (EIP-2), `v` 27 or 28.
    pub(super) fn sign(&self, digest: B256) -> [u8; 65] {
        let signature = self.context.sign_ecdsa_recoverable(Message::from_digest(digest.0), &self.key);
        let (recovery, compact) = signature.serialize_compact();
        let mut bytes = [0; 65];
        bytes[..64].copy_from_slice(&compact);
        bytes[64] = if i32::from(recovery) & 1 == 1 { 28 } else { 27 };
        bytes
    }
}

/// 32 random bytes from the operating system.
pub(super) fn random_word() -> Result<B256, Stop> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Stop::new(Exit::Failed, format!("the system gave no random numbers: {error}")))?;
    Ok(B256::from(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0x4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318";

    #[test]
    fn a_key_has_its_known_address_however_it_is_written() {
        for text in [KEY.to_owned(), KEY[2..].to_uppercase(), format!(" {KEY}\n")] {
            let payer = Payer::parse(&text, "--key").unwrap();
            assert_eq!(payer.address().to_string(), "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23");
            assert!(!payer.generated);
        }
    }

    #[test]
    fn a_wrong_key_is_refused_without_being_shown() {
        let order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
        for text in ["", "0x", "12", &KEY[..65], &format!("{KEY}00"), &"0".repeat(64), order, &"g".repeat(64)]
        {
            let stop = Payer::parse(text, "--key").unwrap_err();
            assert_eq!(stop.exit, Exit::Usage);
            assert!(stop.message.starts_with("--key: not a private key"), "{}", stop.message);
            assert!(text.len() < 3 || !stop.message.contains(text), "{}", stop.message);
        }
    }

    #[test]
    fn the_argument_wins_over_the_file_and_the_file_over_the_environment() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let other = "11".repeat(32);
        std::fs::write(&path, format!("{other}\n")).unwrap();
        let (argument, variable) = (Secret::new(KEY.to_owned()), || Some(Secret::new("22".repeat(32))));
        let address = |hex: &str| Payer::parse(hex, "").unwrap().address();
        let all = KeySources { argument: Some(&argument), file: Some(&path), variable: variable() };
        assert_eq!(all.load().unwrap().address(), address(KEY));
        let two = KeySources { argument: None, file: Some(&path), variable: variable() };
        assert_eq!(two.load().unwrap().address(), address(&other));
        let one = KeySources { argument: None, file: None, variable: variable() };
        assert_eq!(one.load().unwrap().address(), address(&"22".repeat(32)));
        let missing = KeySources { file: Some(&directory.path().join("none")), ..KeySources::default() };
        assert_eq!(missing.load().unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn generated_keys_differ_and_say_that_they_are_generated() {
        let (one, other) = (KeySources::default().load().unwrap(), Payer::generate().unwrap());
        assert!(one.generated && other.generated);
        assert_ne!(one.address(), other.address());
    }
}
