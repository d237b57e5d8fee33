//! Coinbase Developer Platform keys, and the JWTs its facilitator wants to see.
//!
//! Format: the CDP SDK's bearer tokens (RFC 7519), signed with `EdDSA` (RFC 8037) or `ES256`
//! (RFC 7518 §3.4), one per request and bound to its method, host and path.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use p256::ecdsa::SigningKey;
use p256::ecdsa::signature::Signer as _;
use reqwest::Url;
use ring::signature::Ed25519KeyPair;
use serde_json::{Value, json};

use crate::clock::UnixSeconds;

/// Seconds a token is valid: the most CDP accepts.
const VALID_SECONDS: u64 = 120;

/// A CDP API key's private half. Never prints itself.
pub struct CdpKey(Kind);

enum Kind {
    Ed25519(Ed25519KeyPair),
    P256(SigningKey),
}

impl CdpKey {
    /// Reads a key as the CDP portal hands it out: base64 of 64 bytes (Ed25519 seed, then public
    /// key), or a PEM EC key on P-256 (SEC1 or PKCS#8). Environment variables often hold PEM with
    /// `\n` spelled out; that is read too.
    ///
    /// # Errors
    /// What is wrong with it, never quoting it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err("the CDP key is empty".into());
        }
        if text.contains("-----BEGIN") { parse_pem(text) } else { parse_ed25519(text) }
    }

    /// Makes the token for one request. `nonce` must be fresh random bytes for each.
    ///
    /// # Errors
    /// When `url` names no host, or the signature cannot be made.
    pub fn token(
        &self,
        key_id: &str,
        method: &str,
        url: &Url,
        now: UnixSeconds,
        nonce: [u8; 16],
    ) -> Result<String, String> {
        let host = url.host_str().ok_or("the facilitator's URL names no host")?;
        let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
        let header = json!({
            "alg": self.algorithm(),
            "kid": key_id,
            "typ": "JWT",
            "nonce": format!("{:032x}", u128::from_be_bytes(nonce)),
        });
        let claims = json!({
            "sub": key_id,
            "iss": "cdp",
            "uris": [format!("{method} {host}{port}{}", url.path())],
            "iat": now.0,
            "nbf": now.0,
            "exp": now.plus(VALID_SECONDS).0,
        });
        let signed = format!("{}.{}", segment(&header), segment(&claims));
        let signature = self.sign(signed.as_bytes())?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    const fn algorithm(&self) -> &'static str {
        match self.0 {
            Kind::Ed25519(_) => "EdDSA",
            Kind::P256(_) => "ES256",
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        match &self.0 {
            Kind::Ed25519(key) => Ok(key.sign(message).as_ref().to_vec()),
            Kind::P256(key) => {
                let signature: p256::ecdsa::Signature =
                    key.try_sign(message).map_err(|_| "the CDP key cannot sign")?;
                Ok(signature.to_bytes().to_vec())
            }
        }
    }
}

impl fmt::Debug for CdpKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "CdpKey({}, ***)", self.algorithm())
    }
}

fn segment(part: &Value) -> String {
    URL_SAFE_NO_PAD.encode(part.to_string())
}

fn parse_ed25519(text: &str) -> Result<CdpKey, String> {
    let wrong = "the CDP key is neither base64 of 64 bytes (Ed25519) nor a PEM EC key";
    let bytes = STANDARD.decode(text).map_err(|_| wrong)?;
    let (seed, public) = bytes.split_at_checked(32).filter(|(_, public)| public.len() == 32).ok_or(wrong)?;
    Ed25519KeyPair::from_seed_and_public_key(seed, public)
        .map(|key| CdpKey(Kind::Ed25519(key)))
        .map_err(|_| "the CDP key's public half does not belong to its private half".into())
}

fn parse_pem(text: &str) -> Result<CdpKey, String> {
    let text = text.replace("\\n", "\n").replace("\\r", "").replace('\r', "");
    // `openssl ecparam -genkey` writes the curve's name as a block of its own before the key.
    let sec1 = text.find("-----BEGIN EC PRIVATE KEY-----").and_then(|start| text.get(start..));
    let key = match sec1 {
        Some(block) => p256::SecretKey::from_sec1_pem(block).ok(),
        None => <p256::SecretKey as p256::pkcs8::DecodePrivateKey>::from_pkcs8_pem(&text).ok(),
    };
    let key = key.ok_or("the CDP key is PEM, but not an unencrypted EC private key on P-256")?;
    Ok(CdpKey(Kind::P256(SigningKey::from(key))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use p256::ecdsa::signature::Verifier as _;
    use p256::pkcs8::EncodePrivateKey as _;
    use ring::signature::{ED25519, KeyPair as _, UnparsedPublicKey};

    const NOW: UnixSeconds = UnixSeconds(1_750_000_000);

    fn ed25519() -> (String, Vec<u8>) {
        let seed = [7_u8; 32];
        let public = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap().public_key().as_ref().to_vec();
        (STANDARD.encode([&seed[..], &public].concat()), public)
    }

    fn p256_key() -> p256::SecretKey {
        p256::SecretKey::from_slice(&[9; 32]).unwrap()
    }

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    /// Splits a token into header, claims, what was signed, and the signature.
    fn open(token: &str) -> (Value, Value, String, Vec<u8>) {
        let parts: Vec<&str> = token.split('.').collect();
        assert_eq!(parts.len(), 3, "{token}");
        let bytes = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
        let parse = |part: &str| serde_json::from_slice::<Value>(&bytes(part)).unwrap();
        (parse(parts[0]), parse(parts[1]), format!("{}.{}", parts[0], parts[1]), bytes(parts[2]))
    }

    #[test]
    fn an_ed25519_token_has_exactly_the_header_and_claims_cdp_wants_and_verifies() {
        let (text, public) = ed25519();
        let key = CdpKey::parse(&text).unwrap();
        let verify = url("https://api.cdp.coinbase.com/platform/v2/x402/verify?debug=1");
        let token = key.token("key-1", "POST", &verify, NOW, [0xab; 16]).unwrap();
        let (header, claims, signed, signature) = open(&token);
        assert_eq!(
            header,
            json!({"alg": "EdDSA", "kid": "key-1", "typ": "JWT", "nonce": "abababababababababababababababab"})
        );
        assert_eq!(
            claims,
            json!({"sub": "key-1", "iss": "cdp", "iat": NOW.0, "nbf": NOW.0, "exp": NOW.0 + 120,
                   "uris": ["POST api.cdp.coinbase.com/platform/v2/x402/verify"]})
        );
        UnparsedPublicKey::new(&ED25519, public).verify(signed.as_bytes(), &signature).unwrap();
    }

    #[test]
    fn every_spelling_of_a_p256_key_makes_an_es256_token_that_verifies() {
        let secret = p256_key();
        let sec1 = secret.to_sec1_pem(p256::pkcs8::LineEnding::LF).unwrap().to_string();
        let pkcs8 = secret.to_pkcs8_pem(p256::pkcs8::LineEnding::CRLF).unwrap().to_string();
        let parameters =
            format!("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{sec1}");
        let spellings = [sec1.replace('\n', "\\n"), pkcs8.replace("\r\n", "\\r\\n"), sec1, pkcs8, parameters];
        for text in spellings {
            let key = CdpKey::parse(&format!("  {text}\n")).unwrap();
            let supported = url("https://localhost:8443/x402/supported");
            let token = key.token("organizations/o/apiKeys/k", "GET", &supported, NOW, [1; 16]).unwrap();
            let (header, claims, signed, signature) = open(&token);
            assert_eq!(header["alg"], "ES256");
            assert_eq!(header["kid"], "organizations/o/apiKeys/k");
            assert_eq!(claims["uris"], json!(["GET localhost:8443/x402/supported"]));
            assert_eq!(signature.len(), 64, "raw r and s, not DER");
            let signature = p256::ecdsa::Signature::from_slice(&signature).unwrap();
            let public = p256::ecdsa::VerifyingKey::from(secret.public_key());
            public.verify(signed.as_bytes(), &signature).unwrap();
        }
    }

    #[test]
    fn an_ed25519_key_of_openssl_is_told_apart_from_a_p256_key() {
        // PKCS#8 of an Ed25519 key: CDP hands those out as base64, so this is a mistake to report.
        let der = [&[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20][..], &[7; 32]];
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            STANDARD.encode(der.concat())
        );
        assert!(CdpKey::parse(&pem).unwrap_err().contains("P-256"));
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_quoted() {
        let (good, _) = ed25519();
        let mut halves = STANDARD.decode(&good).unwrap();
        halves[40] ^= 1;
        let short = STANDARD.encode([1; 63]);
        let long = STANDARD.encode([1; 65]);
        let swapped = STANDARD.encode(halves);
        for text in ["hunter2", "!!!", &short, &long, &swapped, "-----BEGIN EC PRIVATE KEY-----\nhunter2"] {
            let error = CdpKey::parse(text).unwrap_err();
            assert!(!error.contains("hunter2") && !error.contains(text), "{error}");
        }
        assert!(CdpKey::parse(" \n").unwrap_err().contains("empty"));
    }

    #[test]
    fn a_key_does_not_print_itself() {
        let (text, _) = ed25519();
        assert_eq!(format!("{:?}", CdpKey::parse(&text).unwrap()), "CdpKey(EdDSA, ***)");
    }
}
