//! Schemes and networks the gateway does not understand itself: the facilitator judges them.

use alloy_primitives::keccak256;
use serde_json::{Map, Value};

use super::{Authorization, Moment, PaymentId, Scheme};
use crate::x402::{Network, PaymentRequirements, Reason};

/// Seconds for which a payment of unknown validity is remembered: thirty days.
const REMEMBERED_SECONDS: u64 = 30 * 24 * 3600;

/// Anything a facilitator lists in `/supported`.
///
/// The payment's identity is a hash of its decoded payload with sorted members, so re-encoding the
/// JSON does not make another payment of it; adding members or changing spellings inside does, so
/// its transaction is made single-use when it is settled. When it expires is not known, so it is
/// remembered longer than any payment in use lasts.
#[derive(Debug, Clone, Copy)]
pub struct Opaque;

impl Scheme for Opaque {
    fn name(&self) -> &'static str {
        "opaque"
    }

    fn serves(&self, _network: &Network) -> bool {
        true
    }

    fn inspect(
        &self,
        requirements: &PaymentRequirements,
        payload: &Map<String, Value>,
        moment: Moment,
    ) -> Result<Authorization, Reason> {
        if payload.is_empty() {
            return Err(Reason::INVALID_PAYLOAD);
        }
        let identity = serde_json::json!([requirements.scheme, requirements.network, payload]);
        Ok(Authorization {
            id: PaymentId(keccak256(identity.to_string().as_bytes())),
            payer: None,
            expires: Some(moment.now.plus(REMEMBERED_SECONDS)),
            proven: false,
            malleable: true,
            too_late: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheme::testing::{MOMENT, terms};

    #[test]
    fn member_order_and_white_space_do_not_change_the_identity() {
        let inspect = |json: &str| {
            Opaque.inspect(&terms(), &serde_json::from_str(json).unwrap(), MOMENT).map(|found| found.id)
        };
        let one = inspect(r#"{"a": "\u0041", "b": {"c": 1, "d": [2]}}"#).unwrap();
        assert_eq!(Ok(one), inspect(r#"{ "b":{"d":[2],"c":1},"a":"A"}"#));
        assert_ne!(Ok(one), inspect(r#"{"a": "A", "b": {"c": 1, "d": [3]}}"#));
        assert_eq!(inspect("{}"), Err(Reason::INVALID_PAYLOAD));
    }
}
