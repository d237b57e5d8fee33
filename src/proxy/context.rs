//! What one request carries from one of Pingora's callbacks to the next.

use std::sync::Arc;
use std::time::Instant;

use http::header::HeaderValue;

use super::Site;
use super::facts::Target;
use super::would::WouldBe;
use crate::payment::{LiveOffer, Permit, Receipt, Refusal, Resource};
use crate::policy::{Route, SettleWhen};
use crate::telemetry::Outcome;
use crate::x402::Version;

/// State of one request.
pub struct RequestContext {
    pub(super) started: Instant,
    /// The site as it was when the request began.
    pub(super) site: Arc<Site>,
    /// Set by `request_filter` for every request that is forwarded.
    pub(super) plan: Option<Plan>,
    pub(super) route: Option<Arc<Route>>,
    pub(super) payment: Payment,
    pub(super) outcome: Outcome,
    /// What would have become of it, if everything were in force.
    pub(super) would: Option<WouldBe>,
    /// For the log: why a request was refused, or what went wrong.
    pub(super) detail: Option<String>,
    /// Whether the origin was asked.
    pub(super) forwarded: bool,
    /// Connection attempts that failed.
    pub(super) connect_failures: u32,
    /// Bytes of the request's body so far, and when the first came, for the minimum rate.
    pub(super) body: Option<(Instant, usize)>,
    /// Keeps the gauge of requests in flight right.
    pub(super) _in_flight: super::InFlight,
}

/// Where a request goes, and as what.
pub(super) struct Plan {
    pub(super) route: Arc<Route>,
    pub(super) target: Target,
    pub(super) resource: Resource,
    pub(super) route_header: HeaderValue,
    pub(super) preflight: bool,
}

/// Where a request stands with its payment.
pub(super) enum Payment {
    /// None is needed, or none came.
    None,
    /// Admitted; to be settled when the origin succeeds.
    Admitted(Permit),
    /// Being settled. A request that is broken off meanwhile ends in this state.
    Settling,
    /// Settled.
    Settled(Box<Settled>),
    /// Given back: the origin did not succeed.
    Released,
    /// Settlement did not succeed; the origin's answer is withheld.
    Refused(Refusal, Version, Option<Arc<LiveOffer>>),
}

/// A settled payment with what the log, the metrics and the origin are told of it.
pub(super) struct Settled {
    pub(super) receipt: Receipt,
    /// Whether it came before the origin was asked, or for the origin's answer.
    pub(super) when: SettleWhen,
    pub(super) id: crate::payment::PaymentId,
    pub(super) terms: crate::x402::PaymentRequirements,
}

impl Payment {
    /// Whether a second attempt at the origin is out of the question: money has moved for an answer,
    /// may have, or the payment was given back.
    pub(super) fn is_past_settlement(&self) -> bool {
        match self {
            Self::None | Self::Admitted(_) => false,
            // Paid in advance: asking again settles nothing again, and the buyer is owed an answer.
            Self::Settled(settled) => matches!(settled.when, SettleWhen::BeforeResponse),
            Self::Settling | Self::Released | Self::Refused(..) => true,
        }
    }

    /// Whether the origin's answer may be passed on where something is to be paid: what it answers is
    /// settled, or was no success and is not charged.
    pub(super) const fn allows_delivery(&self) -> bool {
        match self {
            Self::Settled(_) | Self::Released => true,
            Self::None | Self::Admitted(_) | Self::Settling | Self::Refused(..) => false,
        }
    }
}
