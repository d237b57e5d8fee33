//! The client's name for its request, where the offer advertises `payment-identifier`.

use serde_json::{Map, Value};

use super::refusal::Refusal;
use crate::x402::PaymentPayload;
use crate::x402::identifier::{PAYMENT_IDENTIFIER, is_well_formed};

/// The identifier a payment brings, where `extensions` advertises them.
pub(super) fn identifier_of(
    extensions: &Map<String, Value>,
    payment: &PaymentPayload,
) -> Result<Option<String>, Refusal> {
    let Some(advertised) = extensions.get(PAYMENT_IDENTIFIER) else { return Ok(None) };
    let required = advertised.pointer("/info/required").and_then(Value::as_bool).unwrap_or_default();
    match brought(payment) {
        None if required => Err(Refusal::IdentifierMissing),
        None => Ok(None),
        Some(Value::String(id)) if is_well_formed(id) => Ok(Some(id.clone())),
        Some(_) => Err(Refusal::IdentifierMalformed),
    }
}

/// The identifier that comes with a payment, whether or not one is asked for.
pub(super) fn brought_by(payment: &PaymentPayload) -> Option<String> {
    brought(payment).and_then(Value::as_str).map(str::to_owned)
}

fn brought(payment: &PaymentPayload) -> Option<&Value> {
    let id = payment.extensions()?.get(PAYMENT_IDENTIFIER)?.get("info")?.get("id")?;
    Some(id).filter(|id| !id.is_null())
}
