//! What the ledger is told of a payment, and what it tells.

use std::fmt;
use std::str::FromStr;

use alloy_primitives::B256;
use serde::Serialize;

use crate::clock::UnixSeconds;
use crate::scheme::PaymentId;
use crate::x402::{AtomicAmount, Network, SettleResponse, Version};

/// What the accounts say about a payment: who pays what to whom, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Particulars {
    /// Who pays, in the network's own notation; `None` where the payment itself does not tell.
    pub payer: Option<String>,
    /// CAIP-2.
    pub network: Network,
    /// Token contract, mint or currency.
    pub asset: String,
    /// The price, in atomic units.
    pub amount: AtomicAmount,
    /// Who is paid.
    pub pay_to: String,
    /// `exact`, ….
    pub scheme: String,
    /// Generation of the payment.
    pub version: Version,
    /// The route's name in the configuration.
    pub route: String,
    /// The request's method.
    pub method: String,
    /// URL of what is bought, without its query, which may hold what is nobody's business.
    pub resource: String,
    /// Name of the facilitator that was asked to settle it; before one was, of the list that may be.
    pub facilitator: String,
}

/// What one payer may have pledged at a time: claimed, being settled or unresolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayerLimits {
    /// Payments of one payer on one network; 0: no limit.
    pub count: u32,
    /// Sum of one payer's payments in one asset of one network, in atomic units; `None`: no limit.
    pub sum: Option<AtomicAmount>,
}

/// When a payment that was settled may be presented again for what it bought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redelivery {
    /// Seconds after settlement during which a delivery that broke off may be fetched again.
    pub window_seconds: u64,
    /// How many times it may be fetched again; 0: never.
    pub tries: u32,
}

/// A payment about to be used for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewClaim {
    /// Identity of the payment.
    pub id: PaymentId,
    /// A number that this gateway uses for no other claim.
    pub grant: u64,
    /// From when on the payment can no longer be settled; `None`: never.
    pub expires: Option<UnixSeconds>,
    /// What it buys: a hash over method, host, URL, terms, and the identifier that comes with it. HEAD
    /// counts as GET.
    pub request: B256,
    /// Whether the request is a GET or HEAD, so that an answer that broke off may be fetched again.
    pub repeatable: bool,
    /// The client's own identifier of the request (`payment-identifier` extension), hashed together
    /// with its payer. While a payment with it is in use or was settled, another one with it is not
    /// taken but treated as that payment.
    pub identifier: Option<B256>,
    /// What its payer may have pledged at a time.
    pub limits: PayerLimits,
    /// When what it buys may be fetched again.
    pub redelivery: Redelivery,
    /// For the accounts.
    pub particulars: Particulars,
}

/// What settlement is about to be asked for, and whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// Name of the facilitator that is asked. Nobody else may be, unless it provably was not reached.
    pub facilitator: String,
    /// What it is asked ([`FacilitatorRequest::to_stored`](crate::x402::types::FacilitatorRequest::to_stored)).
    pub request: String,
    /// Whether the transaction must not have settled another payment ([`Settlement::unique_transaction`]).
    pub unique_transaction: bool,
    /// Who pays, where the payment itself does not prove it.
    pub payer: Option<ToldPayer>,
}

/// A payer whom verification told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldPayer {
    /// In the network's own notation.
    pub name: String,
    /// The network the payment is on.
    pub network: Network,
    /// What this payer may have pledged at a time.
    pub limits: PayerLimits,
}

/// The answer to an [`Intent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intended {
    /// It is durable: settlement may be asked for.
    Recorded,
    /// Nothing was recorded: its payer, not known before, has too much pledged already.
    PayerLimit,
}

/// A claim in the hands of whoever made it. A payment that is given back and claimed again has
/// another attempt, so that a step of an earlier holder, paused meanwhile, changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClaimToken {
    /// Identity of the payment.
    pub id: PaymentId,
    /// Which time it is claimed, counted from 1.
    pub attempt: u32,
    /// The claim that was granted ([`NewClaim::grant`]): of two deliveries of one payment each ends
    /// only its own.
    pub grant: u64,
}

/// The life of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PaymentState {
    /// Reserved for a request in flight.
    Claimed,
    /// Being settled.
    Settling,
    /// Settled; the money moved.
    Settled,
    /// Settled, and what it bought was sent whole.
    Delivered,
    /// Sent to be settled, and the outcome is not known.
    Unresolved,
    /// Settlement was refused in so many words; no money moved. It may be claimed again.
    Declined,
    /// Given back unused; no money moved. It may be claimed again.
    Released,
}

impl PaymentState {
    /// Every state, in the order of a payment's life.
    pub const ALL: [Self; 7] = [
        Self::Claimed,
        Self::Settling,
        Self::Settled,
        Self::Delivered,
        Self::Unresolved,
        Self::Declined,
        Self::Released,
    ];

    /// Name in the database, the metrics and `tollgate ledger`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::Settling => "settling",
            Self::Settled => "settled",
            Self::Delivered => "delivered",
            Self::Unresolved => "unresolved",
            Self::Declined => "declined",
            Self::Released => "released",
        }
    }

    /// Whether the payment may be claimed anew: no money moved, and none will by this attempt.
    #[must_use]
    pub const fn is_free(self) -> bool {
        matches!(self, Self::Declined | Self::Released)
    }

    /// Whether the payer's balance is pledged and the money has not moved, as far as is known.
    #[must_use]
    pub const fn is_pledged(self) -> bool {
        matches!(self, Self::Claimed | Self::Settling | Self::Unresolved)
    }
}

impl fmt::Display for PaymentState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for PaymentState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::as_str).join(", ");
        let found = Self::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| format!("\"{text}\" is no state of a payment; these are: {}", names()))
    }
}

/// The answer to a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// The payment is now reserved for the caller alone.
    New(ClaimToken),
    /// It was settled before and what it bought was not delivered, or may be fetched again: the
    /// caller delivers now, without a charge, and says how that ended.
    Owed {
        /// The payment that was settled; another than the claimed one where their identifiers agree.
        token: ClaimToken,
        /// What the facilitator answered.
        response: Box<SettleResponse>,
    },
    /// Somebody else holds it, or it was used.
    Held {
        /// How far it is.
        state: PaymentState,
        /// Whether it is held, or was used, for the very same request.
        same_request: bool,
        /// Settled, and its delivery is under way.
        delivering: bool,
    },
    /// Its identifier was used for another request.
    IdentifierUsed,
    /// Its payer has too much pledged already.
    PayerLimit,
}

/// How a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryEnd {
    /// The answer was sent to its end.
    Complete,
    /// Some of the answer may have been sent.
    BrokenOff,
    /// Nothing of what was paid for was sent: the origin failed, or the client had left. The payment
    /// is as good as before.
    NotBegun,
}

/// What became of the right to deliver when a settlement was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// The caller delivers.
    Deliver,
    /// Recorded; the delivery is owed to whoever presents the payment for the same request again.
    Owed,
    /// It was settled before, and the delivery is another's.
    Taken,
    /// Another payment was settled by the same transaction; this one buys nothing.
    TransactionUsed,
}

/// How a settlement is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settlement<'a> {
    /// What the facilitator answered, or the chain shows.
    pub response: &'a SettleResponse,
    /// Whether the caller is ready to deliver.
    pub deliver: bool,
    /// Whether its transaction must not have settled another payment, because the same payment can
    /// be written in ways that look like different ones.
    pub unique_transaction: bool,
}

/// An unresolved payment, taken to be driven to a known outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unresolved {
    /// The claim.
    pub token: ClaimToken,
    /// What the facilitator was asked ([`FacilitatorRequest::to_stored`](crate::x402::types::FacilitatorRequest::to_stored)).
    pub request: String,
    /// Name of the facilitator that was asked.
    pub facilitator: String,
    /// When settlement was first asked for.
    pub settling_at: UnixSeconds,
    /// From when on it can no longer be settled; `None`: never.
    pub expires: Option<UnixSeconds>,
    /// How many times it was driven before.
    pub tries: u32,
    /// A transaction that may have settled it; empty when none is known.
    pub transaction: String,
    /// Whether its transaction must be its own ([`Settlement::unique_transaction`]).
    pub unique_transaction: bool,
}

/// A running gateway, among those that share a ledger: a random number for each start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GatewayId(pub i64);

/// Everything the ledger remembers of a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentRecord {
    /// Identity.
    pub id: PaymentId,
    /// Which time it is claimed, counted from 1.
    pub attempt: u32,
    /// How far it is.
    pub state: PaymentState,
    /// Who, what, for what.
    pub particulars: Particulars,
    /// From when on it can no longer be settled; `None`: never.
    pub expires: Option<UnixSeconds>,
    /// What it buys ([`NewClaim::request`]).
    pub request_hash: B256,
    /// Whether the request is a GET or HEAD.
    pub repeatable: bool,
    /// The client's identifier of the request, hashed with its payer.
    pub identifier: Option<B256>,
    /// When what it bought may be fetched again.
    pub redelivery: Redelivery,
    /// What the facilitator was asked; only while it is being settled or unresolved.
    pub request: Option<String>,
    /// Whether its transaction must not have settled another payment.
    pub unique_transaction: bool,
    /// What the facilitator answered, or the chain showed, when it was settled.
    pub response: Option<Box<SettleResponse>>,
    /// The transaction that settled it, or may have; empty when none is known.
    pub transaction: String,
    /// Why it was released or declined, or is unresolved; empty otherwise.
    pub reason: String,
    /// Deliveries that were begun.
    pub deliveries: u32,
    /// The gateway that holds the claim, settles, drives or delivers; `None`: none does.
    pub owner: Option<GatewayId>,
    /// The owner's claim ([`NewClaim::grant`]).
    pub grant: u64,
    /// Times it was driven while unresolved.
    pub tries: u32,
    /// When it was last driven.
    pub tried_at: Option<UnixSeconds>,
    /// When it is due to be driven; while it is being driven: when that counts as given up.
    pub next_try: Option<UnixSeconds>,
    /// When it was claimed.
    pub claimed_at: UnixSeconds,
    /// When settlement was asked for.
    pub settling_at: Option<UnixSeconds>,
    /// When it was known to be settled.
    pub settled_at: Option<UnixSeconds>,
    /// When its last delivery was complete.
    pub delivered_at: Option<UnixSeconds>,
    /// When its state last changed.
    pub changed_at: UnixSeconds,
}

impl PaymentRecord {
    /// Whether it counts among what its payer has pledged. One that can be written in ways that look like
    /// different ones does not: anybody could make many of it.
    #[must_use]
    pub const fn counts_as_pledged(&self) -> bool {
        self.state.is_pledged() && !self.unique_transaction
    }

    /// The claim as its holder names it.
    #[must_use]
    pub const fn token(&self) -> ClaimToken {
        ClaimToken { id: self.id, attempt: self.attempt, grant: self.grant }
    }
}
