//! The gate: whether a request may pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Semaphore;

use super::chains::Chains;
use super::challenge::Resource;
use super::claim::{Claim, Purchase};
use super::identifier;
use super::offers::{LiveAccept, LiveOffer, OfferBook};
use super::permit::Permit;
use super::refusal::Refusal;
use super::settle::{self, Receipt};
use crate::clock::{Clock, UnixSeconds};
use crate::facilitator::{Facilitator, FacilitatorList, Verified};
use crate::ledger::settings::Pledges;
use crate::ledger::{Ledger, LedgerError, Redelivery};
use crate::policy::{Decision, FacilitatorId, Route, SettleWhen};
use crate::scheme::{self, Authorization, Moment, PaymentId};
use crate::x402::types::FacilitatorRequest;
use crate::x402::{PaymentPayload, PaymentRequirements, Reason, VerifyResponse, Version};

/// What the gate is made of.
pub struct GateParts {
    /// Live offers.
    pub offers: Arc<OfferBook>,
    /// Facilitators, by [`FacilitatorId`].
    pub facilitators: Vec<Arc<FacilitatorList>>,
    /// Each facilitator on its own: a payment keeps the one that was asked to settle it.
    pub every: Vec<Arc<dyn Facilitator>>,
    /// Chains that can be asked.
    pub chains: Chains,
    /// What makes payments single-use and remembers them.
    pub ledger: Arc<dyn Ledger>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where settlements run; outlives the proxy's own runtimes.
    pub runtime: tokio::runtime::Handle,
    /// Most verifications under way at a time.
    pub verify_in_flight: usize,
    /// Seconds a payment must stay valid: the origin's time and the settlement's.
    pub origin_time_seconds: u64,
    /// What one payer may pledge.
    pub pledges: Pledges,
    /// When a delivery that broke off may be fetched again.
    pub redelivery: Redelivery,
}

/// Decides whether requests may pass, and settles what they pay.
#[derive(Clone)]
pub struct Gate(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) offers: Arc<OfferBook>,
    facilitators: Vec<Arc<FacilitatorList>>,
    every: Vec<Arc<dyn Facilitator>>,
    pub(super) chains: Chains,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) runtime: tokio::runtime::Handle,
    verifications: Semaphore,
    origin_time_seconds: u64,
    pub(super) pledges: Pledges,
    pub(super) redelivery: Redelivery,
    pub(super) under_way: AtomicUsize,
    /// Numbers of claims.
    pub(super) grants: AtomicU64,
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
    /// For a payment that was settled before: its delivery is owed, and costs nothing more.
    Owed(Box<Owed>),
    /// Not.
    Refused(Refusal),
}

/// A delivery that is owed.
#[derive(Debug)]
pub struct Owed {
    /// Identity of the payment that was settled.
    pub id: PaymentId,
    /// The terms it was for.
    pub requirements: PaymentRequirements,
    /// What the client is told.
    pub receipt: Receipt,
}

/// Beside the validity of an offer: how long ago somebody else may have submitted a payment.
const SUBMITTED_WITHIN_SECONDS: u64 = 60;

/// Facilitators that are busy or not known yet are worth asking again this soon.
pub(super) const RETRY_SOON: Duration = Duration::from_secs(2);

impl Gate {
    /// Puts a gate together.
    #[must_use]
    pub fn new(parts: GateParts) -> Self {
        Self(Arc::new(Shared {
            offers: parts.offers,
            facilitators: parts.facilitators,
            every: parts.every,
            chains: parts.chains,
            ledger: parts.ledger,
            clock: parts.clock,
            runtime: parts.runtime,
            verifications: Semaphore::new(parts.verify_in_flight),
            origin_time_seconds: parts.origin_time_seconds,
            pledges: parts.pledges,
            redelivery: parts.redelivery,
            under_way: AtomicUsize::new(0),
            // Not from zero, so that no two gateways count alike.
            grants: AtomicU64::new(getrandom::u64().unwrap_or_default() >> 2),
        }))
    }

    /// Settlements, and steps of the ledger, under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.0.under_way.load(Ordering::Acquire)
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
        method: &http::Method,
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
        let purchase = Purchase { route: &route.name, method, resource };
        self.admit_payment(&live, &purchase, payment).await.unwrap_or_else(Admission::Refused)
    }

    async fn admit_payment(
        &self,
        offer: &LiveOffer,
        purchase: &Purchase<'_>,
        header: PaymentHeader<'_>,
    ) -> Result<Admission, Refusal> {
        let invalid = |reason| Refusal::Invalid { reason, payer: None };
        let payment = PaymentPayload::decode(header.version, header.value).map_err(invalid)?;
        // A payment that says what it is for buys nothing else.
        if payment.resource_url().is_some_and(|url| url != purchase.resource.url()) {
            return Err(invalid(Reason::NO_MATCH));
        }
        let Some(terms) = offer.accepted_by(&payment) else {
            return self.admit_remembered(&payment, purchase, header.version).await;
        };
        if !offer.echoes_extensions(&payment) {
            return Err(invalid(Reason::EXTENSION_ECHO_MISMATCH));
        }
        let (identifier, brought) = (offer.identifier_of(&payment)?, identifier::brought_by(&payment));
        let request = terms.request(&payment, purchase.resource).ok_or_else(|| invalid(Reason::NO_MATCH))?;
        let mut authorization = self.inspect(terms, &request).map_err(invalid)?;
        let too_late = authorization.too_late.take();
        if let Some(reason) = &too_late
            && !self.is_remembered(authorization.id).await?
        {
            return Err(Refusal::Invalid { reason: reason.clone(), payer: authorization.payer });
        }
        let (facilitator, decimals) = (terms.facilitator, terms.decimals);
        let version = header.version;
        let claim = Claim { facilitator, decimals, authorization, identifier, brought, request, version };
        let permit = match self.0.claim(claim, purchase).await? {
            Admission::Paid(permit, _) => permit,
            decided @ (Admission::Free | Admission::Owed(_) | Admission::Refused(_)) => return Ok(decided),
        };
        if let Some(reason) = too_late {
            let payer = permit.payer.clone();
            self.release(permit, reason.as_str()).await;
            return Err(Refusal::Invalid { reason, payer });
        }
        match offer.settle {
            // Settling decides by itself, and comes next.
            SettleWhen::BeforeRequest => Ok(Admission::Paid(permit, offer.settle)),
            SettleWhen::BeforeResponse => match self.verify(&permit).await {
                Ok((by, payer)) => Ok(Admission::Paid(permit.verified(by, payer), offer.settle)),
                // Only the payer is owed anything, so it must have been the payer who came.
                Err(Refusal::Invalid { reason, .. })
                    if permit.proven && settle::speaks_of_use(reason.as_str()) =>
                {
                    self.admit_used(permit, reason).await
                }
                Err(refusal) => {
                    self.release(permit, "it was not verified").await;
                    Err(refusal)
                }
            },
        }
    }

    /// A payment for terms that are not offered any more buys nothing new. One that was settled, or may
    /// have been, keeps what it bought.
    async fn admit_remembered(
        &self,
        payment: &PaymentPayload,
        purchase: &Purchase<'_>,
        version: Version,
    ) -> Result<Admission, Refusal> {
        let unmatched = || Refusal::Invalid { reason: Reason::NO_MATCH, payer: None };
        let accepted = payment.accepted().cloned().ok_or_else(unmatched)?;
        let requirements: PaymentRequirements =
            serde_json::from_value(accepted.clone().into()).map_err(|_| unmatched())?;
        let request =
            FacilitatorRequest::new(version, requirements, &payment.message, &Value::Object(accepted));
        let Ok(_slot) = self.0.verifications.try_acquire() else {
            let cause = "too many verifications under way".to_owned();
            return Err(Refusal::Unavailable { cause, retry_after: RETRY_SOON });
        };
        let scheme = scheme::find(&request.scheme, &request.network);
        let moment = Moment { now: self.0.clock.now(), margin_seconds: self.0.origin_time_seconds };
        let authorization =
            scheme.inspect(&request.requirements, &request.payload, moment).map_err(|_| unmatched())?;
        if !self.is_remembered(authorization.id).await? {
            return Err(unmatched());
        }
        let (facilitator, decimals, identifier) = (FacilitatorId(0), 0, None);
        let brought = identifier::brought_by(payment);
        let claim = Claim { facilitator, decimals, authorization, identifier, brought, request, version };
        match self.0.claim(claim, purchase).await? {
            Admission::Paid(permit, _) => {
                self.release(permit, "what it was for is not offered any more").await;
                Err(unmatched())
            }
            decided @ (Admission::Free | Admission::Owed(_) | Admission::Refused(_)) => Ok(decided),
        }
    }

    /// The authorization is spent. Whoever submitted it, if the money reached the payee its payer is
    /// owed one delivery.
    async fn admit_used(&self, permit: Permit, reason: Reason) -> Result<Admission, Refusal> {
        let terms = permit.requirements();
        let window = terms.max_timeout_seconds.saturating_add(SUBMITTED_WITHIN_SECONDS);
        let since = UnixSeconds(self.0.clock.now().0.saturating_sub(window));
        let Some(response) = self.0.chains.paid_by_others(&permit.request, since).await else {
            let payer = permit.payer.clone();
            self.release(permit, reason.as_str()).await;
            return Err(Refusal::Invalid { reason, payer });
        };
        let (id, requirements) = (permit.id(), terms.clone());
        tracing::info!(payment = %id, transaction = %response.transaction, "somebody else submitted a payment");
        let receipt = settle::recognise(permit, response).await?;
        Ok(Admission::Owed(Box::new(Owed { id, requirements, receipt })))
    }

    fn inspect(&self, terms: &LiveAccept, request: &FacilitatorRequest) -> Result<Authorization, Reason> {
        let moment = Moment { now: self.0.clock.now(), margin_seconds: self.0.origin_time_seconds };
        terms.scheme.inspect(&request.requirements, &request.payload, moment)
    }

    /// Whether a payment that has run out is one that is in use or was settled: then its payer must
    /// not be asked to pay again, or is owed a delivery.
    async fn is_remembered(&self, id: PaymentId) -> Result<bool, Refusal> {
        let record = self.0.ledger.get(id).await?;
        Ok(record.is_some_and(|record| !record.state.is_free()))
    }

    /// Who found a payment good, and who pays, if that was told.
    async fn verify(&self, permit: &Permit) -> Result<(Arc<dyn Facilitator>, Option<String>), Refusal> {
        // A flood of payments must not pile up calls; who comes late is told to come again.
        let Ok(_slot) = self.0.verifications.try_acquire() else {
            let cause = "too many verifications under way".to_owned();
            return Err(Refusal::Unavailable { cause, retry_after: RETRY_SOON });
        };
        match self.0.facilitators(permit.facilitator).verify(&permit.request).await {
            Ok(Verified { verdict: VerifyResponse::Valid { payer }, by }) => Ok((by, payer)),
            Ok(Verified { verdict: VerifyResponse::Invalid { reason, payer }, .. }) => {
                Err(Refusal::Invalid { reason, payer: payer.or_else(|| permit.payer.clone()) })
            }
            Err(unavailable) => Err(Refusal::Unavailable {
                cause: unavailable.to_string(),
                retry_after: unavailable.retry_after,
            }),
        }
    }

    /// Gives a payment back, and returns when it can be presented again. The reason is for the books.
    pub async fn release(&self, mut permit: Permit, reason: &str) {
        let task = self.0.close_in_background(permit.token, permit.given_back(reason));
        permit.handed_over = true;
        // A task that was lost leaves the claim to the next start.
        let _ = task.await;
    }

    /// Settles a permit: to the end, whatever becomes of the caller.
    ///
    /// # Errors
    /// [`Refusal::SettlementFailed`] or [`Refusal::Unavailable`] when nothing was charged,
    /// [`Refusal::Unresolved`] when that is not known, [`Refusal::AlreadyUsed`] when it bought
    /// something else.
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
    /// The facilitator that was asked to settle a payment. Where only a list is known, as long as
    /// nobody of it was asked, one of it can be, if the network makes a payment single-use.
    pub(super) fn facilitator_named(&self, name: &str, single_use: bool) -> Option<&dyn Facilitator> {
        let named = |name: &str| self.every.iter().find(|facilitator| facilitator.name() == name);
        let members = || name.split('+').filter(|_| single_use).find_map(named);
        named(name).or_else(members).map(AsRef::as_ref)
    }

    pub(super) fn facilitators(&self, id: FacilitatorId) -> &FacilitatorList {
        // The configuration gives every offer one of its own lists of facilitators.
        self.facilitators[id.0].as_ref()
    }
}
