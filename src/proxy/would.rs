//! Shadow mode: what would become of a request, for the log and the metrics.

use std::sync::Arc;

use pingora::http::RequestHeader;

use super::facts::{self, Target};
use super::site::Site;
use crate::policy::Would;
use crate::telemetry::ShadowOutcome;
use crate::x402::PaymentPayload;

/// Characters of a client's name for itself that are logged, at most.
const AGENT_MAX: usize = 200;

/// What would become of a request.
pub(super) struct WouldBe {
    pub(super) outcome: ShadowOutcome,
    /// The route it would fall under.
    pub(super) route: Arc<str>,
    /// Its first price, as people write it; empty: it would not be for sale.
    pub(super) cost: String,
    /// What the client calls itself (`User-Agent`), in printable ASCII.
    pub(super) agent: String,
}

impl Site {
    /// What would become of a request that is let through, if everything were in force; `None`: the same.
    pub(super) fn would(&self, request: &RequestHeader, target: &Target) -> Option<WouldBe> {
        let shadow = self.shadow.as_ref()?;
        let facts = target.facts(request);
        let (outcome, route, offer) = match shadow.would(&facts)? {
            Would::Deny(route) => (ShadowOutcome::Denied, Some(route), None),
            Would::Refuse => (ShadowOutcome::BadRequest, None, None),
            Would::Cost(route, offer) => {
                let payment = facts::payment_header(request, self.limits.payment_header_bytes);
                let outcome = match payment {
                    Ok(None) => ShadowOutcome::Challenged,
                    Ok(Some(payment)) if PaymentPayload::decode(payment.version, payment.value).is_ok() => {
                        ShadowOutcome::Paid
                    }
                    Ok(Some(_)) | Err(_) => ShadowOutcome::BadRequest,
                };
                (outcome, Some(route), Some(offer))
            }
        };
        let route = self.route_label(route);
        self.metrics.shadow(&route, outcome);
        let agent = request.headers.get(http::header::USER_AGENT).map(|agent| printable(agent.as_bytes()));
        let cost = offer.map_or_else(String::new, crate::policy::Offer::price);
        Some(WouldBe { outcome, route, cost, agent: agent.unwrap_or_default() })
    }
}

fn printable(text: &[u8]) -> String {
    let plain = |byte: &u8| if matches!(byte, b' '..=b'~') { char::from(*byte) } else { '?' };
    text.iter().take(AGENT_MAX).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_calls_itself_is_written_in_plain_letters_and_not_at_length() {
        assert_eq!(printable("GPTBot/1.2 (\u{202e}\u{9b}31m)\n".as_bytes()), "GPTBot/1.2 (?????31m)?");
        assert_eq!(printable(&[b'a'; 300]).len(), AGENT_MAX);
    }
}
