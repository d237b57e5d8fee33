//! The `payment-identifier` extension: a client names its request, so that it can send it again with
//! another payment and is not charged twice.

use serde_json::{Map, Value, json};

use super::refusal::Refusal;
use crate::x402::PaymentPayload;

/// The extension's key.
pub const PAYMENT_IDENTIFIER: &str = "payment-identifier";

/// Characters an identifier may have, at least and at most.
const LENGTH: std::ops::RangeInclusive<usize> = 16..=128;

/// What is advertised for the extension: whether an identifier is required, and what the client's
/// part of it looks like (JSON Schema).
#[must_use]
pub fn advertised(required: bool) -> Value {
    json!({
        "info": { "required": required },
        "schema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "required": { "type": "boolean" },
                "id": { "type": "string", "minLength": LENGTH.start(), "maxLength": LENGTH.end(),
                        "pattern": "^[a-zA-Z0-9_-]+$" },
            },
            "required": ["required"],
        },
    })
}

/// The identifier a payment brings, where `extensions` advertises them.
pub(super) fn identifier_of(
    extensions: &Map<String, Value>,
    payment: &PaymentPayload,
) -> Result<Option<String>, Refusal> {
    let Some(advertised) = extensions.get(PAYMENT_IDENTIFIER) else { return Ok(None) };
    let required = advertised.pointer("/info/required").and_then(Value::as_bool).unwrap_or_default();
    let brought = payment
        .extensions()
        .and_then(|extensions| extensions.get(PAYMENT_IDENTIFIER)?.get("info")?.get("id"))
        .filter(|id| !id.is_null());
    match brought {
        None if required => Err(Refusal::IdentifierMissing),
        None => Ok(None),
        Some(Value::String(id)) if is_well_formed(id) => Ok(Some(id.clone())),
        Some(_) => Err(Refusal::IdentifierMalformed),
    }
}

fn is_well_formed(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    LENGTH.contains(&id.len()) && id.bytes().all(allowed)
}
