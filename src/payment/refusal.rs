//! Why a request is not let through. A refusal is a value; `proxy/respond.rs` makes HTTP of it.

use std::time::Duration;

use crate::x402::{Reason, SettleResponse};

/// Why a request is not let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No payment came: 402 with the challenge.
    PaymentRequired,
    /// The payment is no good: 402 with the challenge and the reason.
    Invalid {
        /// What the client is told.
        reason: Reason,
        /// Who would have paid.
        payer: Option<String>,
    },
    /// The payment is in use or was used: 402. It buys exactly one delivery.
    AlreadyUsed,
    /// The facilitator refused to settle: 402 with `PAYMENT-RESPONSE`; nothing was charged.
    SettlementFailed(Box<SettleResponse>),
    /// Settlement was asked for and its outcome is not known: 503. Paying anew could pay twice.
    Unresolved,
    /// Nobody can verify or settle at present: 503; nothing was charged.
    Unavailable {
        /// What happened, for the log.
        cause: String,
        /// When to come back.
        retry_after: Duration,
    },
    /// The route is closed: 403.
    Denied,
}

impl Refusal {
    /// Label for logs and metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::PaymentRequired => "payment_required",
            Self::Invalid { .. } => "invalid",
            Self::AlreadyUsed => "already_used",
            Self::SettlementFailed(_) => "settlement_failed",
            Self::Unresolved => "unresolved",
            Self::Unavailable { .. } => "unavailable",
            Self::Denied => "denied",
        }
    }

    /// The reason in a client's terms, or the cause in the operator's.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Invalid { reason, .. } => Some(reason.as_str()),
            Self::SettlementFailed(response) => response.error_reason.as_deref(),
            Self::Unavailable { cause, .. } => Some(cause),
            Self::PaymentRequired | Self::AlreadyUsed | Self::Unresolved | Self::Denied => None,
        }
    }
}
