//! The gate: whether a request may pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::challenge::Resource;
use super::offers::{LiveAccept, LiveOffer, OfferBook};
use super::permit::Permit;
use super::refusal::Refusal;
use super::settle::{self, Receipt};
use crate::clock::Clock;
use crate::facilitator::Facilitator;
use crate::ledger::{Claimed, Ledger, LedgerError, NewClaim, PaymentState};
use crate::policy::{Decision, FacilitatorId, Route, SettleWhen};
use crate::scheme::{Authorization, Moment, PaymentId};
use crate::x402::types::FacilitatorRequest;
use crate::x402::{PaymentPayload, Reason, VerifyResponse, Version};

/// What the gate is made of.
pub struct GateParts {
    /// Live offers.
    pub offers: Arc<OfferBook>,
    /// Facilitators, by [`FacilitatorId`].
    pub facilitators: Vec<Arc<dyn Facilitator>>,
    /// The claim store.
    pub ledger: Arc<dyn Ledger>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where settlements run; outlives the proxy's own runtimes.
    pub runtime: tokio::runtime::Handle,
    /// Most verifications under way at a time.
    pub verify_in_flight: usize,
    /// Seconds a payment must stay valid: the origin's time and the settlement's.
    pub origin_time_seconds: u64,
}

/// Decides whether requests may pass, and settles what they pay.
#[derive(Clone)]
pub struct Gate(Arc<Shared>);

pub(super) struct Shared {
    pub(super) offers: Arc<OfferBook>,
    facilitators: Vec<Arc<dyn Facilitator>>,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) runtime: tokio::runtime::Handle,
    verifications: Semaphore,
    origin_time_seconds: u64,
    pub(super) settling: AtomicUsize,
}

/// A payment header of a request.
#[derive(Debug, Clone, Copy)]
pub struct PaymentHeader<'a> {
    /// Generation, by the header's name.
    pub version: Version,
    /// The header's value.
    pub value: &'a [u8],
}

/// Whether a request may pass.
#[derive(Debug)]
pub enum Admission {
    /// Unpaid.
    Free,
    /// For this payment; settled when the route says so.
    Paid(Permit, SettleWhen),
    /// Not.
    Refused(Refusal),
}

/// Facilitators that are busy or not known yet are worth asking again this soon.
const RETRY_SOON: Duration = Duration::from_secs(2);

impl Gate {
    /// Puts a gate together.
    #[must_use]
    pub fn new(parts: GateParts) -> Self {
        Self(Arc::new(Shared {
            offers: parts.offers,
            facilitators: parts.facilitators,
            ledger: parts.ledger,
            clock: parts.clock,
            runtime: parts.runtime,
            verifications: Semaphore::new(parts.verify_in_flight),
            origin_time_seconds: parts.origin_time_seconds,
            settling: AtomicUsize::new(0),
        }))
    }

    /// Settlements under way.
    #[must_use]
    pub fn settling(&self) -> usize {
        self.0.settling.load(Ordering::Acquire)
    }

    /// The live offer of a route, for its challenge.
    #[must_use]
    pub fn offer(&self, route: &Route) -> Option<Arc<LiveOffer>> {
        self.0.offers.get(route.offer()?.index)
    }

    /// Decides on a request: looks up what the route asks for, understands the payment, claims it,
    /// and has it verified.
    pub async fn admit(
        &self,
        route: &Route,
        resource: &Resource,
        payment: Option<PaymentHeader<'_>>,
    ) -> Admission {
        let offer = match &route.decision {
            Decision::Free => return Admission::Free,
            Decision::Deny => return Admission::Refused(Refusal::Denied),
            Decision::Paid(offer) => offer,
        };
        let Some(live) = self.0.offers.get(offer.index) else {
            let cause = "no facilitator is known to settle what this route offers".to_owned();
            return Admission::Refused(Refusal::Unavailable { cause, retry_after: RETRY_SOON });
        };
        let Some(payment) = payment else { return Admission::Refused(Refusal::PaymentRequired) };
        match self.admit_payment(&live, resource, payment).await {
            Ok(permit) => Admission::Paid(permit, live.settle),
            Err(refusal) => Admission::Refused(refusal),
        }
    }

    async fn admit_payment(
        &self,
        offer: &LiveOffer,
        resource: &Resource,
        header: PaymentHeader<'_>,
    ) -> Result<Permit, Refusal> {
        let invalid = |reason| Refusal::Invalid { reason, payer: None };
        let payment = PaymentPayload::decode(header.version, header.value).map_err(invalid)?;
        let terms = offer.accepted_by(&payment).ok_or_else(|| invalid(Reason::NO_MATCH))?;
        // A payment that says what it is for buys nothing else.
        if payment.resource_url().is_some_and(|url| url != resource.url()) {
            return Err(invalid(Reason::NO_MATCH));
        }
        if !offer.echoes_extensions(&payment) {
            return Err(invalid(Reason::EXTENSION_ECHO_MISMATCH));
        }
        let request = terms.request(&payment, resource).ok_or_else(|| invalid(Reason::NO_MATCH))?;
        let mut authorization = self.inspect(terms, &request).map_err(invalid)?;
        if let Some(reason) = authorization.too_late.take() {
            return Err(self.refuse_late(&authorization, reason).await);
        }
        let permit = self.claim(terms, authorization, request, header.version).await?;
        match offer.settle {
            // Settling decides by itself, and comes next.
            SettleWhen::BeforeRequest => Ok(permit),
            SettleWhen::BeforeResponse => match self.verify(&permit).await {
                Ok(payer) => Ok(permit.paid_by(payer)),
                Err(refusal) => {
                    self.release(permit).await;
                    Err(refusal)
                }
            },
        }
    }

    fn inspect(&self, terms: &LiveAccept, request: &FacilitatorRequest) -> Result<Authorization, Reason> {
        let moment = Moment { now: self.0.clock.now(), margin_seconds: self.0.origin_time_seconds };
        terms.scheme.inspect(&request.requirements, &request.payload, moment)
    }

    /// A payment that has run out may be one whose settlement has no known outcome: its payer must
    /// not be asked to pay again.
    async fn refuse_late(&self, authorization: &Authorization, reason: Reason) -> Refusal {
        match self.0.ledger.state(authorization.id).await {
            Ok(Some(PaymentState::Unresolved)) => Refusal::Unresolved,
            Ok(Some(PaymentState::Claimed | PaymentState::Settling | PaymentState::Settled)) => {
                Refusal::AlreadyUsed
            }
            Ok(None) => Refusal::Invalid { reason, payer: authorization.payer.clone() },
            Err(error) => error.into(),
        }
    }

    async fn claim(
        &self,
        terms: &LiveAccept,
        authorization: Authorization,
        request: FacilitatorRequest,
        version: Version,
    ) -> Result<Permit, Refusal> {
        let Authorization { id, payer, expires, malleable, too_late: _ } = authorization;
        let claim = NewClaim { id, expires };
        match self.0.ledger.claim(&claim, self.0.clock.now()).await {
            Ok(Claimed::New) => Ok(Permit {
                shared: Arc::clone(&self.0),
                id,
                payer,
                facilitator: terms.facilitator,
                version,
                request: Arc::new(request),
                malleable,
                handed_over: false,
            }),
            Ok(Claimed::Held(PaymentState::Unresolved)) => Err(Refusal::Unresolved),
            Ok(Claimed::Held(PaymentState::Claimed | PaymentState::Settling | PaymentState::Settled)) => {
                Err(Refusal::AlreadyUsed)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn verify(&self, permit: &Permit) -> Result<Option<String>, Refusal> {
        // A flood of payments must not pile up calls; who comes late is told to come again.
        let Ok(_slot) = self.0.verifications.try_acquire() else {
            let cause = "too many verifications under way".to_owned();
            return Err(Refusal::Unavailable { cause, retry_after: RETRY_SOON });
        };
        match self.0.facilitator(permit.facilitator).verify(&permit.request).await {
            Ok(VerifyResponse::Valid { payer }) => Ok(payer),
            Ok(VerifyResponse::Invalid { reason, payer }) => {
                Err(Refusal::Invalid { reason, payer: payer.or_else(|| permit.payer.clone()) })
            }
            Err(unavailable) => Err(Refusal::Unavailable {
                cause: unavailable.to_string(),
                retry_after: unavailable.retry_after,
            }),
        }
    }

    /// Gives a payment back, and returns when it can be presented again.
    pub async fn release(&self, mut permit: Permit) {
        permit.handed_over = true;
        self.0.release(permit.id).await;
    }

    /// Settles a permit: to the end, whatever becomes of the caller.
    ///
    /// # Errors
    /// [`Refusal::SettlementFailed`] or [`Refusal::Unavailable`] when nothing was charged,
    /// [`Refusal::Unresolved`] when that is not known.
    pub async fn settle(&self, permit: Permit) -> Result<Receipt, Refusal> {
        settle::settle(permit).await
    }
}

impl From<LedgerError> for Refusal {
    fn from(error: LedgerError) -> Self {
        Self::Unavailable { cause: error.to_string(), retry_after: RETRY_SOON }
    }
}

impl Shared {
    pub(super) fn facilitator(&self, id: FacilitatorId) -> &dyn Facilitator {
        // The configuration gives every offer one of its own facilitators.
        self.facilitators[id.0].as_ref()
    }

    pub(super) fn release_in_background(self: &Arc<Self>, id: PaymentId) {
        let shared = Arc::clone(self);
        self.runtime.spawn(async move { shared.release(id).await });
    }

    pub(super) async fn release(&self, id: PaymentId) {
        if let Err(error) = self.ledger.release(id).await {
            tracing::error!(payment = %id, %error, "a payment could not be given back");
        }
    }
}
