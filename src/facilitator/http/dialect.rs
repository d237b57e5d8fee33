//! What facilitators answer, in the dialects that are spoken (x402 v1 and v2, x402-rs, Corbits).
//!
//! A body counts whatever the status is, but a yes is only believed when the status says so too.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::breaker::Health;
use crate::x402::types::FacilitatorRequest;
use crate::x402::{Network, Reason, SettleResponse, Supported, VerifyResponse};

/// The longest transaction id or payer, in bytes.
const ID_BYTES_MAX: usize = 200;
/// The longest `extra` or `extensions` of a settlement, in bytes of JSON: they go into a header.
const DETAILS_BYTES_MAX: usize = 4096;
/// Words of a foreign text may be this long, unless they are codes in snake case.
const WORD_BYTES_MAX: usize = 40;

/// A complete answer, whatever its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// `Retry-After`, where it can be understood.
    pub retry_after: Option<Duration>,
    /// Whether there is a `WWW-Authenticate`.
    pub challenge: bool,
    /// The whole body.
    pub body: Bytes,
}

/// What an answer to `/settle` means.
#[derive(Debug, PartialEq, Eq)]
pub enum Settlement {
    /// The money moved.
    Settled(SettleResponse),
    /// The money did not move and will not.
    Declined(SettleResponse),
    /// Sent, outcome not known yet.
    Pending(SettleResponse),
    /// The facilitator refused to look at the request.
    Untouched(String),
    /// Nothing that can be believed.
    Unclear(String),
}

/// Reads an answer to `/verify`.
///
/// # Errors
/// Why it cannot be believed.
pub fn verification(answer: &Answer) -> Result<VerifyResponse, String> {
    let message = object(answer).ok_or_else(|| unusable(answer, "verification"))?;
    let Some(valid) = message.get("isValid").and_then(Value::as_bool) else {
        return Err(unusable(answer, "verification"));
    };
    let payer = identifier(&message, &["payer"])?;
    if !valid {
        let keys = ["invalidReason", "invalid_reason", "errorReason", "error_reason", "error"];
        let reason = reason(&message, &keys)
            .or_else(|| reason(&message, &["invalidReasonDetails", "invalidMessage"]))
            .unwrap_or(Reason::UNSPECIFIED);
        return Ok(VerifyResponse::Invalid { reason, payer });
    }
    if !answer.status.is_success() {
        return Err(format!("isValid: true, but with status {}", answer.status.as_u16()));
    }
    Ok(VerifyResponse::Valid { payer })
}

/// Reads an answer to `/settle`. Whatever is not a clear yes or a clear no decides nothing.
#[must_use]
pub fn settlement(answer: &Answer, request: &FacilitatorRequest) -> Settlement {
    let message = object(answer);
    let success = message.as_ref().and_then(|message| message.get("success")).and_then(Value::as_bool);
    let (Some(message), Some(success)) = (message, success) else {
        let cause = unusable(answer, "settlement");
        // Whoever says anything of success, however badly, has looked.
        let untouched = is_untouched(answer) && !members(answer).unwrap_or_default().contains_key("success");
        return if untouched { Settlement::Untouched(cause) } else { Settlement::Unclear(cause) };
    };
    let read =
        if success { read_success(answer, &message, request) } else { read_failure(&message, request) };
    read.unwrap_or_else(Settlement::Unclear)
}

/// Reads an answer to `/supported`.
///
/// # Errors
/// Why it is none.
pub fn supported(answer: &Answer) -> Result<Supported, String> {
    let value = answer.status.is_success().then(|| serde_json::from_slice(&answer.body).ok()).flatten();
    value
        .as_ref()
        .and_then(Supported::parse)
        .ok_or_else(|| unusable(answer, "list of supported kinds of payment"))
}

/// What an unreadable answer tells about the facilitator itself. Facilitators answer a payment that
/// confuses them with 500, some with a JSON error, some with their framework's page; if that counted as a
/// failure of theirs, anybody could have the facilitator taken for dead by sending such payments.
pub(super) fn health(answer: &Answer) -> Health {
    match answer.status.as_u16() {
        200..=299 | 502..=504 => Health::Fails,
        500..=599 => Health::Unknown,
        _ => Health::Works,
    }
}

fn read_success(
    answer: &Answer,
    message: &Map<String, Value>,
    request: &FacilitatorRequest,
) -> Result<Settlement, String> {
    if !answer.status.is_success() {
        return Err(format!("success: true, but with status {}", answer.status.as_u16()));
    }
    check_network(message, &request.network)?;
    Ok(Settlement::Settled(SettleResponse {
        success: true,
        error_reason: None,
        payer: identifier(message, &["payer"])?,
        transaction: identifier(message, &["transaction", "txHash"])?.unwrap_or_default(),
        network: request.network.as_str().to_owned(),
        amount: amount(message),
        extra: details(message, "extra"),
        extensions: details(message, "extensions"),
    }))
}

fn read_failure(message: &Map<String, Value>, request: &FacilitatorRequest) -> Result<Settlement, String> {
    let keys = ["errorReason", "error_reason", "error", "invalidReason", "invalid_reason"];
    let reason = reason(message, &keys).unwrap_or(Reason::SETTLEMENT_FAILED);
    let payer = identifier(message, &["payer"])?;
    let transaction = identifier(message, &["transaction", "txHash"])?.unwrap_or_default();
    let response = SettleResponse {
        transaction,
        extra: details(message, "extra"),
        extensions: details(message, "extensions"),
        ..SettleResponse::failed(&reason, payer, &request.network)
    };
    if !is_undecided(&reason) {
        return Ok(Settlement::Declined(response));
    }
    // Without a transaction there is nothing to wait for, and still no word that nothing was sent.
    if response.transaction.is_empty() {
        return Err(format!("success: false for {reason:?}, which decides nothing"));
    }
    Ok(Settlement::Pending(response))
}

/// Whether a reason says that a transaction was sent and its end not seen. Besides the SDK's code,
/// older facilitators have a family of them (`settle_exact_svm_transaction_confirmation_timed_out`).
fn is_undecided(reason: &Reason) -> bool {
    let code = reason.as_str().to_ascii_lowercase();
    code == Reason::SETTLEMENT_PENDING.as_str() || code.contains("timed_out") || code.contains("timeout")
}

/// Whether a facilitator that gave no settlement says by its status that it did not look at the
/// request. Web frameworks turn errors into answers, also the error of a chain's node that refused
/// to report on a transaction just sent; so a status counts only if no such error ends in it:
///
/// - 405, 413 and 415 are about the form of the request, decided before its content is read;
/// - 401 with `WWW-Authenticate`, as RFC 9110 §15.5.2 demands from whoever checks credentials, and
///   429 with `Retry-After`, are written by the layer that guards the door.
///
/// 403 and 404 are also what a node's provider answers, and what some firewalls make of an answer
/// they do not like: they prove nothing. Since settlements follow a verification with the same
/// credentials, all of these are rare; being wrong here would cost a payment, doubt costs a delay.
fn is_untouched(answer: &Answer) -> bool {
    match answer.status {
        StatusCode::METHOD_NOT_ALLOWED
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNSUPPORTED_MEDIA_TYPE => true,
        StatusCode::UNAUTHORIZED => answer.challenge,
        StatusCode::TOO_MANY_REQUESTS => answer.retry_after.is_some(),
        _ => false,
    }
}

fn object(answer: &Answer) -> Option<Map<String, Value>> {
    serde_json::from_slice::<Unambiguous>(&answer.body).ok().map(|message| message.0)
}

/// The body's JSON object, with the last of members that are there twice.
fn members(answer: &Answer) -> Option<Map<String, Value>> {
    serde_json::from_slice(&answer.body).ok()
}

/// A JSON object that says nothing twice: of `"success":false,"success":true` each reader believes
/// another half (RFC 8259 §4).
struct Unambiguous(Map<String, Value>);

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members).map(Self)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Map<String, Value>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut members = Map::new();
        while let Some((name, value)) = access.next_entry::<String, Value>()? {
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("a member that is there twice"));
            }
        }
        Ok(members)
    }
}

/// Says what came instead, with the facilitator's own words where those can be shown. Words about
/// credentials cannot: they may quote them.
fn unusable(answer: &Answer, wanted: &str) -> String {
    let status = answer.status.as_u16();
    let message = if matches!(status, 401 | 403) { Map::new() } else { members(answer).unwrap_or_default() };
    let said = reason(&message, &["error", "message", "errorMessage", "errorType"]);
    let said = said.map_or_else(String::new, |reason| format!(": {reason}"));
    format!("status {status} without a {wanted}{said}")
}

/// Networks are compared as networks: v1 names and CAIP-2 are the same. `networkId` is Corbits's
/// member, where EVM networks are also given by number.
fn check_network(message: &Map<String, Value>, expected: &Network) -> Result<(), String> {
    match message.get("network") {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) if text.is_empty() => {}
        Some(Value::String(text)) if text.parse::<Network>().is_ok_and(|network| network == *expected) => {}
        Some(_) => return Err(format!("success: true on another network than {expected}")),
    }
    let id = match message.get("networkId") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => return Ok(()),
    };
    let id = if id.parse::<u64>().is_ok() { format!("eip155:{id}") } else { id };
    match id.parse::<Network>() {
        Ok(network) if network != *expected => {
            Err(format!("success: true on another network than {expected}"))
        }
        _ => Ok(()),
    }
}

/// The first of `keys` that is there and not empty, if it can be an identifier at all.
fn identifier(message: &Map<String, Value>, keys: &[&str]) -> Result<Option<String>, String> {
    for key in keys {
        match message.get(*key) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) if text.is_empty() => {}
            Some(Value::String(text))
                if text.len() <= ID_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic()) =>
            {
                return Ok(Some(text.clone()));
            }
            Some(_) => return Err(format!("a {key} that cannot be one")),
        }
    }
    Ok(None)
}

fn amount(message: &Map<String, Value>) -> Option<String> {
    let text = message.get("amount")?.as_str()?;
    text.parse::<crate::x402::AtomicAmount>().ok().map(|amount| amount.to_string())
}

fn details(message: &Map<String, Value>, key: &str) -> Option<Value> {
    let value =
        message.get(key).filter(|value| value.as_object().is_some_and(|members| !members.is_empty()))?;
    (value.to_string().len() <= DETAILS_BYTES_MAX).then(|| value.clone())
}

/// The first of `keys` that holds a text fit to be shown.
fn reason(message: &Map<String, Value>, keys: &[&str]) -> Option<Reason> {
    keys.iter()
        .filter_map(|key| message.get(*key)?.as_str())
        .find(|text| is_showable(text))
        .map(Reason::foreign)
}

/// Facilitators put whole errors of their libraries where a code belongs, with the URLs and keys of
/// their nodes, or the payment itself. Codes and plain sentences pass.
fn is_showable(text: &str) -> bool {
    let is_code = |word: &str| {
        word.contains('_')
            && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    !text.trim().is_empty()
        && !text.contains("://")
        && text.split_whitespace().all(|word| word.len() <= WORD_BYTES_MAX || is_code(word))
}

#[cfg(test)]
#[path = "dialect_tests.rs"]
mod tests;
