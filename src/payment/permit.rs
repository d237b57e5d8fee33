//! The right to one delivery, before and after its payment is settled.

use std::sync::Arc;

use super::closing::Closing;
use super::gate::Shared;
use crate::facilitator::Facilitator;
use crate::ledger::{ClaimToken, DeliveryEnd, PayerLimits, ToldPayer};
use crate::policy::FacilitatorId;
use crate::scheme::PaymentId;
use crate::x402::Version;
use crate::x402::types::FacilitatorRequest;

/// The right to one delivery for one payment: claimed, and verified where that comes first.
///
/// Only [`Gate::admit`](super::Gate::admit) makes one; [`Gate::settle`](super::Gate::settle) uses
/// it up; dropping it gives the claim back.
#[must_use = "dropping a permit gives its payment back"]
pub struct Permit {
    pub(super) shared: Arc<Shared>,
    pub(super) token: ClaimToken,
    pub(super) payer: Option<String>,
    pub(super) facilitator: FacilitatorId,
    pub(super) version: Version,
    pub(super) request: Arc<FacilitatorRequest>,
    /// Whether the same payment can be written in ways that look like different ones.
    pub(super) malleable: bool,
    /// Whether the payer's signature was checked here.
    pub(super) proven: bool,
    /// What its payer may have pledged at a time.
    pub(super) limits: PayerLimits,
    /// The facilitator that found it good. What was never verified leaves no trace in the ledger.
    pub(super) verified_by: Option<Arc<dyn Facilitator>>,
    /// Set once somebody else is responsible for the claim.
    pub(super) handed_over: bool,
}

impl Permit {
    /// The permit with who found it good, and what was told of the payer, where the payment itself does
    /// not say.
    pub(super) fn verified(mut self, by: Arc<dyn Facilitator>, payer: Option<String>) -> Self {
        self.payer = self.payer.take().or(payer);
        self.verified_by = Some(by);
        self
    }

    /// Identity of the payment, for the log.
    #[must_use]
    pub const fn id(&self) -> PaymentId {
        self.token.id
    }

    /// Who pays, as far as known.
    #[must_use]
    pub fn payer(&self) -> Option<&str> {
        self.payer.as_deref()
    }

    /// Generation of the payment.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// The terms it is for.
    #[must_use]
    pub fn requirements(&self) -> &crate::x402::PaymentRequirements {
        &self.request.requirements
    }

    /// How the ledger is told that the payment is given back.
    pub(super) fn given_back(&self, reason: &str) -> Closing {
        Closing::Released { reason: self.verified_by.as_ref().map(|_| reason.to_owned()) }
    }

    /// Who pays, where verification was needed to know it.
    pub(super) fn told_payer(&self) -> Option<ToldPayer> {
        let told = self.payer.as_ref().filter(|_| !self.proven && self.verified_by.is_some());
        let (network, limits) = (self.request.network.clone(), self.limits);
        told.map(|name| ToldPayer { name: name.clone(), network, limits })
    }
}

impl std::fmt::Debug for Permit {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Permit")
            .field("token", &self.token)
            .field("payer", &self.payer)
            .finish_non_exhaustive()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.handed_over {
            let closing = self.given_back("the request ended before settlement");
            drop(self.shared.close_in_background(self.token, closing));
        }
    }
}

/// A delivery of something that is paid for. Dropped without [`end`](Self::end), it counts as broken
/// off once it has begun, and may be fetched again within the configured bounds; before that nothing
/// was lost.
#[must_use = "a delivery that is dropped counts as broken off"]
pub struct Delivery {
    shared: Arc<Shared>,
    token: ClaimToken,
    begun: bool,
    ended: bool,
}

impl Delivery {
    pub(super) fn new(shared: &Arc<Shared>, token: ClaimToken) -> Self {
        Self { shared: Arc::clone(shared), token, begun: false, ended: false }
    }

    /// The answer begins to be sent.
    pub const fn begins(&mut self) {
        self.begun = true;
    }

    /// Records how it ended.
    pub fn end(mut self, end: DeliveryEnd) {
        self.record(end);
    }

    fn record(&mut self, end: DeliveryEnd) {
        if !std::mem::replace(&mut self.ended, true) {
            drop(self.shared.close_in_background(self.token, Closing::Delivered { end }));
        }
    }
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Delivery").field("token", &self.token).finish_non_exhaustive()
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.record(if self.begun { DeliveryEnd::BrokenOff } else { DeliveryEnd::NotBegun });
    }
}
