//! Payments for what this gateway does not ask for now: quoted by another gateway, or with another
//! configuration, or used before the offer changed.

use serde_json::Value;
use tokio::time::Instant;

use super::claim::{Claim, Purchase};
use super::fit::{Fit, Misfit, fit, invalid};
use super::gate::{Admission, Gate, RETRY_SOON, Shared};
use super::identifier;
use super::refusal::Refusal;
use crate::policy::{Accept, FacilitatorId, Offer, RouteFacts};
use crate::scheme::{self, Moment};
use crate::x402::types::FacilitatorRequest;
use crate::x402::{PaymentPayload, PaymentRequirements, Reason, Version};

/// A request with a payment.
pub(super) struct Presented<'a> {
    /// What is asked for now.
    pub(super) offer: &'a Offer,
    /// What the request's route was found by.
    pub(super) facts: &'a RouteFacts<'a>,
    pub(super) purchase: Purchase<'a>,
    pub(super) payment: PaymentPayload,
    pub(super) moment: Moment,
}

impl Gate {
    /// Admits a payment that does not fit what is asked for now, if it is for what was quoted for this
    /// very request, or bought something before.
    pub(super) async fn admit_otherwise(
        &self,
        presented: &Presented<'_>,
        misfit: Misfit,
    ) -> Result<Admission, Refusal> {
        let came = Instant::now();
        if let Some((fit, route)) = self.0.recall(presented) {
            return self.admit_fit(fit, &presented.purchase.of_route(&route)).await;
        }
        // Junk must cost nothing: what can be told from the payment alone comes first.
        if presented.payment.version == Version::V2 {
            let Ok(claim) = as_it_says(presented) else { return Err(misfit.refusal()) };
            if matches!(misfit, Misfit::OtherTerms)
                && let Some(admission) = self.admit_remembered(claim, &presented.purchase).await?
            {
                return Ok(admission);
            }
        }
        self.0.hear_quotes(came).await?;
        match self.0.recall(presented) {
            Some((fit, route)) => self.admit_fit(fit, &presented.purchase.of_route(&route)).await,
            None => Err(misfit.refusal()),
        }
    }

    /// A payment for terms that are not quoted any more buys nothing new. One that was settled, or may
    /// have been, keeps what it bought. `None`: it is not such a one.
    async fn admit_remembered(
        &self,
        claim: Claim,
        purchase: &Purchase<'_>,
    ) -> Result<Option<Admission>, Refusal> {
        let Ok(_slot) = self.0.verifications.try_acquire() else {
            let cause = "too many verifications under way".to_owned();
            return Err(Refusal::Unavailable { cause, retry_after: RETRY_SOON });
        };
        if !self.is_remembered(claim.authorization.id).await? {
            return Ok(None);
        }
        match self.0.claim(claim, purchase).await? {
            Admission::Paid(permit, _) => {
                self.release(permit, "what it was for is not offered any more").await;
                Ok(None)
            }
            decided @ (Admission::Free | Admission::Owed(_) | Admission::Refused(_)) => Ok(Some(decided)),
        }
    }
}

impl Shared {
    /// What a payment is for, of all that is known to have been quoted for its request: here, with what
    /// facilitators told other gateways, and in other price lists. With the name of the route in the
    /// list it is from.
    fn recall(&self, presented: &Presented<'_>) -> Option<(Fit, String)> {
        let Presented { offer, facts, purchase, payment, moment } = presented;
        let heard = self.quotes.heard();
        let told_others = |accept: &Accept, member: &str| {
            let terms = &accept.requirements;
            let name = self.facilitators(accept.facilitator).name();
            heard.values(name, &terms.scheme, terms.network.as_str(), member)
        };
        let mut tried: Vec<PaymentRequirements> = Vec::new();
        let mut attempt = |offer: &Offer, public_url: &str| {
            let terms = self.offers.terms_of(offer, &told_others)?;
            if payment.version == Version::V1 {
                // The same terms would end the same, and cost a signature's check each time.
                let accepted = &terms.accepted_by(payment)?.requirements;
                if tried.contains(accepted) {
                    return None;
                }
                tried.push(accepted.clone());
            }
            fit(&terms, payment, purchase.resource, public_url, *moment).ok()
        };
        if heard.has_values()
            && let Some(fit) = attempt(offer, self.offers.public_url())
        {
            return Some((fit, purchase.route.to_owned()));
        }
        heard.lists().find_map(|list| {
            let quote = list.quote(facts, |name| self.facilitator_id(name))?;
            Some((attempt(&quote.offer, list.public_url())?, quote.route.to_owned()))
        })
    }

    /// The facilitator, or list of them, with a name.
    fn facilitator_id(&self, name: &str) -> Option<FacilitatorId> {
        self.facilitators.iter().position(|facilitator| facilitator.name() == name).map(FacilitatorId)
    }
}

/// A v2 payment read by the terms it says it accepts, whoever may have offered them.
fn as_it_says(presented: &Presented<'_>) -> Result<Claim, Refusal> {
    let Presented { payment, moment, .. } = presented;
    let unmatched = || invalid(Reason::NO_MATCH);
    let accepted = payment.accepted().cloned().ok_or_else(unmatched)?;
    let requirements: PaymentRequirements =
        serde_json::from_value(accepted.clone().into()).map_err(|_| unmatched())?;
    let version = payment.version;
    let request = FacilitatorRequest::new(version, requirements, &payment.message, &Value::Object(accepted));
    let scheme = scheme::find(&request.scheme, &request.network);
    let authorization =
        scheme.inspect(&request.requirements, &request.payload, *moment).map_err(|_| unmatched())?;
    let (facilitator, decimals, identifier) = (FacilitatorId(0), 0, None);
    let brought = identifier::brought_by(payment);
    Ok(Claim { facilitator, decimals, authorization, identifier, brought, request, version })
}
