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
    /// The payment was used, or is in use for another request: 402. It buys exactly one delivery.
    AlreadyUsed,
    /// The payment is in use for the very same request: 503. Paying anew would pay twice.
    InUse,
    /// The route requires a `payment-identifier`, and the payment brings none: 400.
    IdentifierMissing,
    /// The payment's `payment-identifier` is none: 400.
    IdentifierMalformed,
    /// The payment's `payment-identifier` was used for another request: 409.
    IdentifierUsed,
    /// Its payer has too much claimed or unresolved: 429; nothing was charged.
    PayerLimit,
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
            Self::InUse => "in_use",
            Self::IdentifierMissing => "identifier_missing",
            Self::IdentifierMalformed => "identifier_malformed",
            Self::IdentifierUsed => "identifier_used",
            Self::PayerLimit => "payer_limit",
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
            Self::PaymentRequired
            | Self::AlreadyUsed
            | Self::InUse
            | Self::IdentifierMissing
            | Self::IdentifierMalformed
            | Self::IdentifierUsed
            | Self::PayerLimit
            | Self::Unresolved
            | Self::Denied => None,
        }
    }
}
