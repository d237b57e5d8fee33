//! The header codec: base64 of JSON (`transports-v2/http.md`; RFC 4648 §4).

use base64::Engine as _;
use base64::alphabet::STANDARD as STANDARD_ALPHABET;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use serde::Serialize;
use serde_json::Value;

/// Response header with the offers of a 402 (v2), lower case.
pub const PAYMENT_REQUIRED: &str = "payment-required";
/// Request header with a payment (v2), lower case.
pub const PAYMENT_SIGNATURE: &str = "payment-signature";
/// Response header with the settlement (v2), lower case.
pub const PAYMENT_RESPONSE: &str = "payment-response";
/// Request header with a payment (v1), lower case.
pub const X_PAYMENT: &str = "x-payment";
/// Response header with the settlement (v1), lower case.
pub const X_PAYMENT_RESPONSE: &str = "x-payment-response";
/// Response header by which an origin sets the amount to settle; never leaves the gateway.
pub const SETTLEMENT_OVERRIDES: &str = "settlement-overrides";
/// Request header of the sign-in-with-x extension, lower case.
pub const SIGN_IN_WITH_X: &str = "sign-in-with-x";
/// Response header between facilitators and servers; never forwarded to a buyer.
pub const EXTENSION_RESPONSES: &str = "extension-responses";

// Padding may be missing (the TypeScript reference decoder tolerates it); nothing else may differ
// from the standard alphabet, and trailing bits must be zero, so that a payment has few spellings.
const DECODER: GeneralPurpose = GeneralPurpose::new(
    &STANDARD_ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a header is not base64 of a JSON object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Characters outside the standard alphabet, or a length that base64 cannot have.
    #[error("not standard base64")]
    NotBase64,
    /// Not JSON, not UTF-8, nested too deeply, or followed by something else.
    #[error("not base64 of JSON")]
    NotJson,
    /// JSON, but not an object.
    #[error("not base64 of a JSON object")]
    NotObject,
}

/// Encodes a message for a header: standard alphabet, padded, no line breaks.
///
/// # Errors
/// Only when the value cannot be written as JSON.
pub fn encode<T: Serialize>(value: &T) -> Result<String, serde_json::Error> {
    serde_json::to_vec(value).map(|json| STANDARD.encode(json))
}

/// Decodes a header into a JSON object.
///
/// # Errors
/// See [`HeaderError`]. Nesting is limited to 128 levels.
pub fn decode(header: &[u8]) -> Result<serde_json::Map<String, Value>, HeaderError> {
    let json = DECODER.decode(header).map_err(|_| HeaderError::NotBase64)?;
    match serde_json::from_slice(&json).map_err(|_| HeaderError::NotJson)? {
        Value::Object(object) => Ok(object),
        _ => Err(HeaderError::NotObject),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn padded_and_unpadded_standard_base64_are_read() {
        let header = encode(&json!({"a": ">>>???", "n": 1})).unwrap();
        assert!(header.ends_with('=') && (header.contains('+') || header.contains('/')));
        let padded = decode(header.as_bytes()).unwrap();
        assert_eq!(decode(header.trim_end_matches('=').as_bytes()).unwrap(), padded);
        assert_eq!(padded["a"], ">>>???");
    }

    #[test]
    fn everything_else_is_refused() {
        let url_safe = encode(&json!({"a": ">>>???"})).unwrap().replace('+', "-").replace('/', "_");
        let spaced = format!(" {}", encode(&json!({})).unwrap());
        for (text, error) in [
            (url_safe.as_str(), HeaderError::NotBase64),
            (&spaced, HeaderError::NotBase64),
            ("e30\n", HeaderError::NotBase64),
            ("e31=", HeaderError::NotBase64),
            ("", HeaderError::NotJson),
            (&STANDARD.encode("{\"a\":1}{}"), HeaderError::NotJson),
            (&STANDARD.encode(b"{\"a\":\"\xff\"}"), HeaderError::NotJson),
            (&STANDARD.encode("[".repeat(100_000)), HeaderError::NotJson),
            (&STANDARD.encode("[]"), HeaderError::NotObject),
            (&STANDARD.encode("null"), HeaderError::NotObject),
        ] {
            let shown = &text[..text.len().min(40)];
            assert_eq!(decode(text.as_bytes()), Err(error), "{shown}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
            let _ = decode(STANDARD.encode(&bytes).as_bytes());
        }

        #[test]
        fn what_is_encoded_is_decoded(object in crate::x402::testing::object()) {
            let header = encode(&object).unwrap();
            prop_assert!(header.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte)));
            prop_assert_eq!(decode(header.as_bytes()), Ok(object.clone()));
            prop_assert_eq!(decode(header.trim_end_matches('=').as_bytes()), Ok(object));
        }
    }
}
