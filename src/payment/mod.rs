//! The life of one payment: admitted, claimed, verified, settled, or refused.
//!
//! [`Gate::admit`] alone makes a [`Permit`]; only a permit can be settled, and dropping one gives
//! its claim back. The world is reached through the contracts of `facilitator` and `ledger` and
//! through a [`Clock`](crate::clock::Clock).

mod chains;
mod challenge;
mod claim;
mod closing;
mod failures;
mod fit;
mod gate;
mod identifier;
mod live;
mod offers;
mod permit;
mod quoted;
mod quotes;
mod refusal;
mod settle;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod upkeep;

pub use crate::ledger::settings::{FailureLimit, Pledges};
pub use chains::Chains;
pub use challenge::{Challenge, Resource};
pub use gate::{Admission, Gate, GateParts, Owed, PaymentHeader};
pub use live::{LiveAccept, LiveTerms};
pub use offers::{LiveOffer, OfferBook};
pub use permit::{Delivery, Permit};
pub use refusal::Refusal;
pub use settle::Receipt;

pub use crate::ledger::DeliveryEnd;
pub use crate::scheme::PaymentId;
