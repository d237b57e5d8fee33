//! What the server says of a payment: the receipt, the reason of a refusal, in plain words.

use reqwest::header::HeaderMap;
use serde_json::{Map, Value};

use super::terminal::excerpt;
use crate::x402::header;

/// Characters of a server's own words that are quoted.
const REASON_CHARACTERS_MAX: usize = 300;

/// A settlement as the server reports it (`PAYMENT-RESPONSE`, `X-PAYMENT-RESPONSE`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Whether the money moved.
    pub success: bool,
    /// Why not.
    pub reason: Option<String>,
    /// The transaction, where there is one.
    pub transaction: Option<String>,
    /// CAIP-2, or a v1 name.
    pub network: Option<String>,
    /// Who paid.
    pub payer: Option<String>,
    /// What was moved, in atomic units, where the server says so.
    pub amount: Option<String>,
}

/// The receipt of an answer.
///
/// # Errors
/// One that is there but cannot be read; it then proves nothing.
pub fn read(headers: &HeaderMap) -> Result<Option<Receipt>, String> {
    for (name, shown) in
        [(header::PAYMENT_RESPONSE, "PAYMENT-RESPONSE"), (header::X_PAYMENT_RESPONSE, "X-PAYMENT-RESPONSE")]
    {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => {}
            (Some(_), Some(_)) => return Err(format!("there are two {shown} headers")),
            (Some(value), None) => {
                return match header::decode(value.as_bytes()) {
                    Ok(message) => Ok(Some(Receipt::of(&message))),
                    Err(error) => Err(format!("the {shown} header is {error}")),
                };
            }
        }
    }
    Ok(None)
}

impl Receipt {
    fn of(message: &Map<String, Value>) -> Self {
        let text = |name: &str| {
            let value = message.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
            value.map(|text| excerpt(text, REASON_CHARACTERS_MAX))
        };
        Self {
            success: message.get("success").and_then(Value::as_bool).unwrap_or(false),
            reason: text("errorReason").or_else(|| text("errorMessage")),
            transaction: text("transaction"),
            network: text("network"),
            payer: text("payer"),
            amount: text("amount"),
        }
    }

    /// Whether a settlement that did not succeed may still do so: a transaction was sent, or the
    /// payment was already being used.
    pub fn is_open(&self) -> bool {
        !self.success
            && (self.transaction.is_some() || self.reason.as_deref().is_some_and(leaves_outcome_open))
    }
}

/// Whether a reason code means that this very payment may have been settled before.
pub(super) fn leaves_outcome_open(code: &str) -> bool {
    ["settlement_pending", "duplicate_settlement", "nonce_already_used", "nonce_used", "already_used"]
        .iter()
        .any(|open| code.contains(open))
}

/// Why the server refused: the receipt's reason, else `error` of the 402's header or of the JSON
/// body, else the beginning of a text.
#[must_use]
pub fn reason(receipt: Option<&Receipt>, headers: &HeaderMap, body: &[u8]) -> Option<String> {
    let from_receipt = receipt.filter(|receipt| !receipt.success).and_then(|receipt| receipt.reason.clone());
    from_receipt.or_else(|| from_header(headers)).or_else(|| from_body(headers, body))
}

fn from_header(headers: &HeaderMap) -> Option<String> {
    let message = header::decode(headers.get(header::PAYMENT_REQUIRED)?.as_bytes()).ok()?;
    error_member(&message)
}

fn from_body(headers: &HeaderMap, body: &[u8]) -> Option<String> {
    if let Ok(Value::Object(message)) = serde_json::from_slice(body) {
        return error_member(&message);
    }
    let media_type = headers.get(reqwest::header::CONTENT_TYPE)?.to_str().ok()?;
    if !media_type.starts_with("text/plain") {
        return None;
    }
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    (!text.is_empty()).then(|| excerpt(text, REASON_CHARACTERS_MAX))
}

fn error_member(message: &Map<String, Value>) -> Option<String> {
    let text = message.get("error")?.as_str()?.trim();
    (!text.is_empty()).then(|| excerpt(text, REASON_CHARACTERS_MAX))
}

/// What a reason code means, where it is one of the usual ones.
pub(super) fn in_plain_words(code: &str) -> Option<&'static str> {
    let meanings: &[(&str, &str)] = &[
        ("insufficient", "the paying account holds too little of the token"),
        ("settlement_pending", "the transfer was sent and is not confirmed yet"),
        ("duplicate_settlement", "this payment is being used or has been used"),
        ("nonce_already_used", "this payment has been used on the network"),
        (
            "signature",
            "the signature was not accepted; the token's name or version in the offer may be wrong",
        ),
        ("valid_before", "the payment would have run out before it could be settled; is this clock right?"),
        ("valid_after", "the payment is not valid yet; is the server's clock right?"),
        ("value", "the payment is not of the price that the server asks"),
        ("recipient", "the payment goes to somebody else than the server asks"),
        ("No matching payment requirements", "the offer is not the one the server makes now; try again"),
        ("matching payment requirements", "the offer is not the one the server makes now; try again"),
        ("extension_echo_mismatch", "the server did not recognise what it had offered; try again"),
        ("invalid_x402_version", "the server did not take a payment of this protocol version"),
        ("invalid_payload", "the server could not read the payment"),
        ("asset_not_deployed", "the token of the offer does not exist on its network"),
        ("Payment required", "the server did not take notice of the payment"),
        ("X-PAYMENT header is required", "the server did not take notice of the payment"),
    ];
    meanings.iter().find(|(part, _)| code.contains(part)).map(|(_, meaning)| *meaning)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn encoded(message: &Value) -> String {
        header::encode(message).unwrap()
    }

    #[test]
    fn receipts_of_both_generations_are_read() {
        let settled = json!({"success": true, "transaction": "0xabc", "network": "eip155:84532",
                             "payer": "0x1", "amount": "10000"});
        for name in [header::PAYMENT_RESPONSE, header::X_PAYMENT_RESPONSE] {
            let receipt = read(&headers(&[(name, &encoded(&settled))])).unwrap().unwrap();
            assert!(receipt.success && !receipt.is_open());
            assert_eq!(receipt.transaction.as_deref(), Some("0xabc"));
            assert_eq!(receipt.amount.as_deref(), Some("10000"));
        }
        assert_eq!(read(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn a_receipt_that_cannot_be_read_is_an_error_and_only_true_is_success() {
        assert!(read(&headers(&[(header::PAYMENT_RESPONSE, "?")])).is_err());
        let value = encoded(&json!({"success": true}));
        let twice = headers(&[(header::PAYMENT_RESPONSE, &value), (header::PAYMENT_RESPONSE, &value)]);
        assert!(read(&twice).is_err());
        for success in [json!("true"), json!(1), json!(null)] {
            let value = encoded(&json!({"success": success, "transaction": 5}));
            let receipt = read(&headers(&[(header::PAYMENT_RESPONSE, &value)])).unwrap().unwrap();
            assert_eq!(receipt, Receipt::default());
        }
    }

    #[test]
    fn a_failed_settlement_with_a_transaction_or_a_used_payment_is_open() {
        let failed = |reason: &str, transaction: &str| {
            Receipt::of(
                json!({"success": false, "errorReason": reason, "transaction": transaction})
                    .as_object()
                    .unwrap(),
            )
        };
        assert!(failed("settlement_pending", "").is_open());
        assert!(failed("timeout", "0xabc").is_open());
        assert!(failed("invalid_exact_evm_nonce_already_used", "").is_open());
        assert!(!failed("insufficient_funds", "").is_open());
    }

    #[test]
    fn the_reason_comes_from_the_receipt_then_the_402_then_the_body() {
        let failed = Receipt { reason: Some("insufficient_funds".into()), ..Receipt::default() };
        let v2 = headers(&[(header::PAYMENT_REQUIRED, &encoded(&json!({"error": "from the header"})))]);
        let body = json!({"error": "from the body"}).to_string();
        let text = headers(&[("content-type", "text/plain; charset=utf-8")]);
        let html = headers(&[("content-type", "text/html")]);
        assert_eq!(reason(Some(&failed), &v2, body.as_bytes()).as_deref(), Some("insufficient_funds"));
        assert_eq!(reason(None, &v2, body.as_bytes()).as_deref(), Some("from the header"));
        assert_eq!(reason(None, &html, body.as_bytes()).as_deref(), Some("from the body"));
        assert_eq!(reason(None, &text, b" sold out \n").as_deref(), Some("sold out"));
        assert_eq!(reason(None, &html, b"<p>sold out</p>"), None);
        assert_eq!(reason(None, &html, br#"{"error": {"code": 1}}"#), None);
        assert_eq!(reason(None, &text, &[b'x'; 5000]).unwrap().chars().count(), REASON_CHARACTERS_MAX + 1);
    }

    #[test]
    fn usual_codes_have_a_meaning() {
        for code in ["insufficient_funds", "invalid_exact_evm_insufficient_balance"] {
            assert_eq!(in_plain_words(code), Some("the paying account holds too little of the token"));
        }
        assert!(in_plain_words("invalid_exact_evm_payload_authorization_value_mismatch").is_some());
        assert_eq!(in_plain_words("something_else"), None);
    }
}
