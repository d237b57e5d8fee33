//! The messages between resource servers and facilitators, in the shapes of both generations.

use serde_json::{Map, Value, json};

use super::network_name;
use crate::x402::types::FacilitatorRequest;
use crate::x402::{Network, PaymentRequirements, Reason, SettleResponse, Supported, Version};

/// Reads the body of `/verify` and `/settle`.
///
/// # Errors
/// The reason a caller is told.
pub fn parse(body: &[u8]) -> Result<FacilitatorRequest, Reason> {
    let message: Map<String, Value> = serde_json::from_slice(body).map_err(|_| Reason::INVALID_PAYLOAD)?;
    let object = |name: &str| message.get(name).and_then(Value::as_object).ok_or(Reason::INVALID_PAYLOAD);
    let (payment, terms) = (object("paymentPayload")?, object("paymentRequirements")?);
    if !payment.get("payload").is_some_and(Value::is_object) {
        return Err(Reason::INVALID_PAYLOAD);
    }
    let version = version(&message, payment)?;
    let (requirements, chosen) = match version {
        Version::V1 => (first_generation(terms)?, payment),
        Version::V2 => {
            let requirements = serde_json::from_value(Value::Object(terms.clone()));
            let accepted = payment.get("accepted").and_then(Value::as_object);
            (requirements.map_err(|_| Reason::INVALID_PAYLOAD)?, accepted.ok_or(Reason::INVALID_PAYLOAD)?)
        }
    };
    check_choice(chosen, &requirements)?;
    Ok(FacilitatorRequest::new(version, requirements, payment, &Value::Object(terms.clone())))
}

/// The generation: what the message says, and its payment must not contradict it.
fn version(message: &Map<String, Value>, payment: &Map<String, Value>) -> Result<Version, Reason> {
    let said = |object: &Map<String, Value>| object.get("x402Version").and_then(Value::as_u64);
    let (whole, part) = (said(message), said(payment));
    if let (Some(whole), Some(part)) = (whole, part)
        && whole != part
    {
        return Err(Reason::INVALID_VERSION);
    }
    match whole.or(part) {
        Some(1) => Ok(Version::V1),
        Some(2) => Ok(Version::V2),
        _ => Err(Reason::INVALID_VERSION),
    }
}

/// Terms of the first generation: networks by name, `maxAmountRequired`.
fn first_generation(terms: &Map<String, Value>) -> Result<PaymentRequirements, Reason> {
    let text = |name: &str| terms.get(name).and_then(Value::as_str).ok_or(Reason::INVALID_PAYLOAD);
    let seconds = terms.get("maxTimeoutSeconds").and_then(Value::as_u64);
    Ok(PaymentRequirements {
        scheme: text("scheme")?.to_owned(),
        network: text("network")?.parse().map_err(|_| Reason::INVALID_NETWORK)?,
        amount: text("maxAmountRequired")?.parse().map_err(|_| Reason::INVALID_PAYLOAD)?,
        asset: text("asset")?.to_owned(),
        pay_to: text("payTo")?.to_owned(),
        max_timeout_seconds: seconds.ok_or(Reason::INVALID_PAYLOAD)?,
        extra: terms.get("extra").and_then(Value::as_object).cloned().unwrap_or_default(),
    })
}

/// What the payer chose must be what the server asks for.
fn check_choice(chosen: &Map<String, Value>, requirements: &PaymentRequirements) -> Result<(), Reason> {
    let text = |name: &str| chosen.get(name).and_then(Value::as_str).unwrap_or_default();
    if text("scheme") != requirements.scheme {
        return Err(Reason::EVM_SCHEME);
    }
    if text("network").parse::<Network>().ok().as_ref() != Some(&requirements.network) {
        return Err(Reason::EVM_NETWORK);
    }
    Ok(())
}

/// The answer to `/settle`.
pub(super) fn settlement(response: &SettleResponse, version: Version) -> Value {
    let mut shown = response.clone();
    if let Ok(network) = response.network.parse::<Network>() {
        network_name(&network, version).clone_into(&mut shown.network);
    }
    // A struct of texts always becomes JSON.
    serde_json::to_value(shown).unwrap_or_default()
}

/// The answer to `/supported`.
pub(super) fn supported(supported: &Supported) -> Value {
    let kinds: Vec<Value> = supported
        .kinds
        .iter()
        .map(|kind| {
            let network = network_name(&kind.network, kind.version);
            let mut shown =
                json!({"x402Version": kind.version.number(), "scheme": kind.scheme, "network": network});
            if let (Some(members), false) = (shown.as_object_mut(), kind.extra.is_empty()) {
                members.insert("extra".into(), Value::Object(kind.extra.clone()));
            }
            shown
        })
        .collect();
    json!({"kinds": kinds, "extensions": supported.extensions, "signers": supported.signers})
}
