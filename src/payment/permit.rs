//! The right to one delivery.

use std::sync::Arc;

use super::gate::Shared;
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
    pub(super) id: PaymentId,
    pub(super) payer: Option<String>,
    pub(super) facilitator: FacilitatorId,
    pub(super) version: Version,
    pub(super) request: Arc<FacilitatorRequest>,
    /// Whether the same payment can be written in ways that look like different ones.
    pub(super) malleable: bool,
    /// Set once settlement takes responsibility for the claim.
    pub(super) handed_over: bool,
}

impl Permit {
    /// The permit with what verification told of the payer, where the payment itself does not say.
    pub(super) fn paid_by(mut self, payer: Option<String>) -> Self {
        self.payer = self.payer.take().or(payer);
        self
    }

    /// Identity of the payment, for the log.
    #[must_use]
    pub const fn id(&self) -> PaymentId {
        self.id
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
}

impl std::fmt::Debug for Permit {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Permit")
            .field("id", &self.id)
            .field("payer", &self.payer)
            .finish_non_exhaustive()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.handed_over {
            self.shared.release_in_background(self.id);
        }
    }
}
