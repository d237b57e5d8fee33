//! The `payment-identifier` extension: a client names its request, so that it can send it again with
//! another payment and is not charged twice.

use serde_json::{Value, json};

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

/// Whether a text can be an identifier: 16 to 128 letters, digits, `-` and `_`.
#[must_use]
pub fn is_well_formed(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    LENGTH.contains(&id.len()) && id.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_what_the_specification_says() {
        let just_right =
            ["0123456789abcdef".to_owned(), "Az_-".repeat(32), format!("pay_{}", "7".repeat(32))];
        for id in &just_right {
            assert!(is_well_formed(id), "{id}");
        }
        let with = |wrong: char| format!("0123456789abcde{wrong}");
        let wrong =
            [String::new(), "0123456789abcde".into(), "a".repeat(129), with(' '), with('é'), with('\n')];
        for id in wrong.into_iter().chain([with('.'), with('+'), with('/'), with('\0')]) {
            assert!(!is_well_formed(&id), "{id:?}");
        }
    }
}
