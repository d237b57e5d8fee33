//! The gate: whether a request may pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OnceCell, Semaphore};

use super::chains::{ByOthers, Chains, submitted_since};
use super::challenge::Resource;
use super::claim::Purchase;
use super::failures::Failures;
use super::fit::{Fit, Misfit, fit, invalid};
use super::offers::{LiveOffer, OfferBook};
use super::permit::Permit;
use super::quoted::Presented;
use super::quotes::Quotes;
use super::refusal::Refusal;
use super::settle::{self, Receipt};
use crate::clock::{Clock, UnixSeconds};
use crate::facilitator::{Facilitator, FacilitatorList, Verified};
use crate::ledger::settings::{FailureLimit, Pledges};
use crate::ledger::{Ledger, LedgerError, Redelivery};
use crate::policy::{Decision, FacilitatorId, Route, RouteFacts, RouteTable, SettleWhen};
use crate::scheme::{Moment, PaymentId};
use crate::x402::{PaymentPayload, PaymentRequirements, Reason, Supported, VerifyResponse, Version};

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
    /// How many settlements of one payer may fail before the next ones come first.
    pub failures: FailureLimit,
    /// When a delivery that broke off may be fetched again.
    pub redelivery: Redelivery,
}

/// Decides whether requests may pass, and settles what they pay.
#[derive(Clone)]
pub struct Gate(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) offers: Arc<OfferBook>,
    pub(super) facilitators: Vec<Arc<FacilitatorList>>,
    every: Vec<Arc<dyn Facilitator>>,
    pub(super) chains: Chains,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) runtime: tokio::runtime::Handle,
    pub(super) verifications: Semaphore,
    origin_time_seconds: u64,
    pub(super) pledges: Pledges,
    /// Whose settlements failed.
    pub(super) failures: Failures,
    pub(super) redelivery: Redelivery,
    /// Since when the ledger has kept account, once that was asked.
    pub(super) birth: OnceCell<UnixSeconds>,
    pub(super) under_way: Arc<AtomicUsize>,
    /// Another gate has taken its place.
    pub(super) retired: AtomicBool,
    /// Numbers of claims.
    pub(super) grants: AtomicU64,
    /// What is quoted for others to honour, and what of theirs is honoured here.
    pub(super) quotes: Quotes,
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

/// How long an offer waits until other gateways know what it is made of.
const TELL_WITHIN: Duration = Duration::from_secs(1);

/// Facilitators that are busy or not known yet are worth asking again this soon.
pub(super) const RETRY_SOON: Duration = Duration::from_secs(2);

impl Gate {
    /// Puts a gate together.
    #[must_use]
    pub fn new(parts: GateParts) -> Self {
        let failures = Failures::new(parts.failures);
        Self::build(parts, failures, Arc::default())
    }

    /// Puts a gate together that takes this one's place: what is under way here is counted there, too, and
    /// whose settlements failed is known there.
    /// This one is to be [retired](Self::retire) when the other decides.
    #[must_use]
    pub fn successor(&self, parts: GateParts) -> Self {
        let failures = self.0.failures.under(parts.failures);
        Self::build(parts, failures, Arc::clone(&self.0.under_way))
    }

    /// Ends what goes on behind requests; requests that it has admitted are served to their end.
    pub fn retire(&self) {
        self.0.retired.store(true, Ordering::Release);
    }

    /// Whether another gate has taken its place.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.0.retired.load(Ordering::Acquire)
    }

    fn build(parts: GateParts, failures: Failures, under_way: Arc<AtomicUsize>) -> Self {
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
            failures,
            redelivery: parts.redelivery,
            birth: OnceCell::new(),
            under_way,
            retired: AtomicBool::new(false),
            // Not from zero, so that no two gateways count alike.
            grants: AtomicU64::new(getrandom::u64().unwrap_or_default() >> 2),
            quotes: Quotes::default(),
        }))
    }

    /// Settlements, and steps of the ledger, under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.0.under_way.load(Ordering::Acquire)
    }

    /// Puts up what this gateway quotes, so that others honour it. To be awaited before the first
    /// client is told; [`keep_up`](Self::keep_up) leaves it up, and puts it up when that failed.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`]: what is quoted meanwhile is honoured here alone.
    pub async fn put_quotes_up(&self) -> Result<(), LedgerError> {
        self.0.put_quotes_up().await
    }

    /// Takes note of what a facilitator supports. Where it advertises what may be otherwise the next
    /// time, other gateways are told before clients are, unless that takes too long.
    pub async fn observe(&self, facilitator: FacilitatorId, supported: Arc<Supported>) {
        let Shared { offers, quotes, .. } = self.0.as_ref();
        if offers.knows(facilitator, &supported) {
            return;
        }
        if quotes.will_quote(facilitator, offers.rotating(facilitator, &supported)) {
            let told = tokio::time::timeout(TELL_WITHIN, self.0.put_quotes_up()).await;
            if !matches!(told, Ok(Ok(()))) {
                quotes.hurry();
            }
        }
        offers.observe(facilitator, supported);
    }

    /// The routes it decides on.
    #[must_use]
    pub fn routes(&self) -> &RouteTable {
        self.0.offers.routes()
    }

    /// Whether every priced route can be paid for at present; otherwise the names of those that cannot.
    ///
    /// # Errors
    /// Names of routes that answer 503.
    pub fn payable(&self) -> Result<(), Vec<&str>> {
        let priced = self.routes().all().filter(|route| route.offer().is_some());
        let unpayable = priced.filter(|route| self.offer(route).is_none());
        let names: Vec<&str> = unpayable.map(|route| route.name.as_str()).collect();
        if names.is_empty() { Ok(()) } else { Err(names) }
    }

    /// The live offer of a route, for its challenge.
    #[must_use]
    pub fn offer(&self, route: &Route) -> Option<Arc<LiveOffer>> {
        self.0.offers.get(route.offer()?.index)
    }

    /// Decides on a request, which falls under `route` by these facts: looks up what the route asks
    /// for, understands the payment, claims it, and has it verified. A payment for what was quoted for
    /// this request elsewhere, or with a configuration before, is as good as long as that quote is up.
    pub async fn admit(
        &self,
        route: &Route,
        facts: &RouteFacts<'_>,
        resource: &Resource,
        payment: Option<PaymentHeader<'_>>,
    ) -> Admission {
        let offer = match &route.decision {
            Decision::Free => return Admission::Free,
            Decision::Deny => return Admission::Refused(Refusal::Denied),
            Decision::Paid(offer) => offer,
        };
        let live = self.0.offers.get(offer.index);
        let Some(payment) = payment else {
            let unpaid = || Refusal::PaymentRequired;
            return Admission::Refused(live.map_or_else(nothing_known, |_| unpaid()));
        };
        let payment = match PaymentPayload::decode(payment.version, payment.value) {
            Ok(payment) => payment,
            Err(reason) => return Admission::Refused(live.map_or_else(nothing_known, |_| invalid(reason))),
        };
        let purchase = Purchase { route: &route.name, method: facts.method, resource };
        let presented = Presented { offer, facts, purchase, payment, moment: self.moment() };
        self.admit_payment(live.as_deref(), presented).await.unwrap_or_else(Admission::Refused)
    }

    async fn admit_payment(
        &self,
        live: Option<&LiveOffer>,
        presented: Presented<'_>,
    ) -> Result<Admission, Refusal> {
        let Presented { purchase, payment, moment, .. } = &presented;
        let fitting = match live {
            Some(live) => fit(&live.terms, payment, purchase.resource, self.0.offers.public_url(), *moment),
            None => Err(Misfit::Here(nothing_known())),
        };
        match fitting {
            Ok(fit) => self.admit_fit(fit, purchase).await,
            Err(Misfit::Never(refusal)) => Err(refusal),
            Err(misfit @ (Misfit::OtherTerms | Misfit::Here(_))) => {
                self.admit_otherwise(&presented, misfit).await
            }
        }
    }

    /// Claims a payment that is for what is asked for, and has it verified.
    pub(super) async fn admit_fit(&self, fit: Fit, purchase: &Purchase<'_>) -> Result<Admission, Refusal> {
        let Fit { mut claim, settle } = fit;
        let too_late = claim.authorization.too_late.take();
        if let Some(reason) = &too_late
            && !self.is_remembered(claim.authorization.id).await?
        {
            return Err(Refusal::Invalid { reason: reason.clone(), payer: claim.authorization.payer });
        }
        let permit = match self.0.claim(claim, purchase).await? {
            Admission::Paid(permit, _) => permit,
            decided @ (Admission::Free | Admission::Owed(_) | Admission::Refused(_)) => return Ok(decided),
        };
        if let Some(reason) = too_late {
            let payer = permit.payer.clone();
            self.release(permit, reason.as_str()).await;
            return Err(Refusal::Invalid { reason, payer });
        }
        match settle {
            // Settling decides by itself, and comes next.
            SettleWhen::BeforeRequest => Ok(Admission::Paid(permit, settle)),
            SettleWhen::BeforeResponse => match self.verify(&permit).await {
                Ok((by, payer)) => {
                    let permit = permit.verified(by, payer);
                    let settle = self.when_settled(&permit);
                    Ok(Admission::Paid(permit, settle))
                }
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

    /// When a payment is settled that was found good: once the site has worked, unless its payer has had
    /// the site work for nothing before.
    fn when_settled(&self, permit: &Permit) -> SettleWhen {
        let (network, now) = (&permit.request.network, self.0.clock.now());
        let failed = |payer: &str| self.0.failures.are_too_many(network, payer, now);
        if permit.payer().is_some_and(failed) {
            tracing::debug!(payment = %permit.id(), payer = permit.payer(), "settled first: others of its payer failed");
            return SettleWhen::BeforeRequest;
        }
        SettleWhen::BeforeResponse
    }

    /// The authorization is spent. Whoever submitted it, if the money reached the payee its payer is
    /// owed one delivery.
    async fn admit_used(&self, permit: Permit, reason: Reason) -> Result<Admission, Refusal> {
        let since = submitted_since(&permit.request, self.0.clock.now());
        let response = match self.0.paid_by_others(&permit.request, since).await {
            ByOthers::Paid(response) => *response,
            ByOthers::Spent(_) | ByOthers::Unknown => {
                let payer = permit.payer.clone();
                self.release(permit, reason.as_str()).await;
                return Err(Refusal::Invalid { reason, payer });
            }
        };
        let (id, requirements) = (permit.id(), permit.requirements().clone());
        tracing::info!(payment = %id, transaction = %response.transaction, "somebody else submitted a payment");
        let receipt = settle::recognise(permit, response).await?;
        Ok(Admission::Owed(Box::new(Owed { id, requirements, receipt })))
    }

    fn moment(&self) -> Moment {
        Moment { now: self.0.clock.now(), margin_seconds: self.0.origin_time_seconds }
    }

    /// Whether a payment that has run out is one that is in use or was settled: then its payer must
    /// not be asked to pay again, or is owed a delivery.
    pub(super) async fn is_remembered(&self, id: PaymentId) -> Result<bool, Refusal> {
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

fn nothing_known() -> Refusal {
    let cause = "no facilitator is known to settle what this route offers".to_owned();
    Refusal::Unavailable { cause, retry_after: RETRY_SOON }
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
