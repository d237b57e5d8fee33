//! tollgate: a reverse proxy that puts an x402 paywall in front of an existing site.
//!
//! This is the project's architecture page. In one sentence: [`proxy`] asks [`payment`] whether a
//! request may pass; `payment` looks the price up in [`policy`], understands the payment through
//! [`scheme`], makes it single-use in [`ledger`], has it verified and settled by a [`facilitator`];
//! all speak [`x402`].
//!
//! # Modules, in reading order
//!
//! | Module | What it is | May use |
//! |---|---|---|
//! | [`x402`] | the protocol as data: types, header codec, networks and assets, amounts, reasons, v1 | nothing of ours |
//! | [`clock`] | time; the only reader of the system clock | nothing of ours |
//! | [`secret`] | values that cannot be printed by accident | nothing of ours |
//! | [`scheme`] | how a payment is understood, one file per scheme, no I/O | `x402`, `clock` |
//! | [`policy`] | what costs what: canonical paths, routes, offers | `x402` |
//! | [`facilitator`] | who verifies and settles: the contract, lists of them, HTTP, on chain, sandbox; the service for others | `x402`, `clock`, `secret`, `scheme`, `telemetry`, `chain` |
//! | [`ledger`] | what makes a payment single-use and remembers it | `scheme`, `x402`, `clock`, `secret` |
//! | [`chain`] | what became of a payment, asked from the chain itself | `scheme`, `x402`, `clock`, `secret` |
//! | [`payment`] | the life of one payment: gate, permit, settlement, refusal, challenge | all above; of `facilitator` and `ledger` only the contracts |
//! | [`proxy`] | the only module that knows Pingora | `payment`, `policy`, `x402`, `telemetry` |
//! | [`config`] | what the operator wrote, and what the program runs on | `x402`, `scheme`, `policy`, `secret`, settings of `facilitator`, `ledger`, `chain` and `proxy` |
//! | [`telemetry`] | the log's set-up, the metrics | nothing of ours |
//! | [`demo`] | the built-in demo site | nothing of ours |
//! | [`admin`] | the operator's private address | `clock`, `payment`, `ledger`, `policy`, `telemetry` |
//! | [`gateway`], [`cli`] | the wiring, the commands | everything |
//!
//! `tests/tidy.rs` holds this table as data and fails on a violation.
//!
//! # One request
//!
//! ```text
//!  client                   proxy                      payment                        edge
//!    | GET /weather           |
//!    |----------------------->| front: the head, whole and in time, its framing beyond doubt
//!    |                        | request_filter
//!    |                        |  Target: canonical RoutePath; RouteTable::find -> Route
//!    |                        |----- Gate::admit ------------->|
//!    |                        |                                | Free ----------------------> forward
//!    |                        |                                | Paid: LiveOffer
//!    |                        |                                |  no header -> Refused(PaymentRequired)
//!    |                        |                                |  PaymentPayload::decode
//!    |                        |                                |  fit: terms of the offer it is for
//!    |                        |                                |   Scheme::inspect -> Authorization{PaymentId, …}
//!    |                        |                                |  or recall: what was quoted elsewhere, before
//!    |                        |                                |  Ledger::claim        | Refused(AlreadyUsed), or
//!    |                        |                                |                       | Owed: settled before
//!    |                        |                                |  Facilitator::verify  | Refused(Invalid) / 503
//!    |                        |<---- Admission::Paid(Permit) --|
//!    |                        | upstream_request_filter: canonical path, headers stripped --> origin
//!    |                        | response_filter: 1xx held back; no success: payment released, no charge
//!    |                        |----- Gate::settle(Permit) ---->| own task: Settling -> Facilitator::settle
//!    | 200 + PAYMENT-RESPONSE |<---- Receipt with Delivery ----| Settled, durably
//!    | 402/503, body withheld |<---- Refusal ------------------| told no: declined; answer lost: unresolved
//!    |                        | logging: one line; Delivery::end ------------> Delivered, or owed again
//! ```
//!
//! # One payment
//!
//! ```text
//! claim -> Claimed -> Settling -> Settled -> Delivered
//!             |           |--> Declined
//!             |           `--> Unresolved -> Settled | Declined     (payment/upkeep.rs drives it)
//!             `--> Released, or no trace when it was never verified
//! ```
//!
//! The rules are pure functions over a payment's record (`ledger/machine.rs`), the same for every
//! ledger; SQLite and PostgreSQL only read and write records, many steps in one transaction. Each
//! claim has a token; whoever was paused and comes back with an old one changes nothing.
//!
//! # What holds it together
//!
//! - **Only `Gate::admit` makes a `Permit`, only a `Permit` can be settled, and dropping one gives
//!   its claim back.** A delivery without a claim is a value nobody can build.
//! - **Losing an answer differs from being told no.** [`facilitator::SettleOutcome`] keeps the two
//!   apart; only a no gives a payment back, everything else keeps its claim and is answered 503.
//! - **Settlement runs on a runtime of its own** ([`payment::Gate::settle`]), its intent recorded
//!   first: Pingora ends its runtimes abruptly, clients leave whenever they like.
//! - **Nothing of an answer leaves before settlement.** `response_filter` awaits it; Pingora's
//!   backpressure holds the origin's body meanwhile, so memory stays flat whatever its size.
//! - **A path is decided on in every way an origin may read it** ([`policy::RoutePath`]); if the
//!   readings fall under different routes the request is refused.
//! - **A cache may forget; the ledger may not.** moka holds `/supported` and verification results;
//!   payments live in the [`ledger`], which refuses when it cannot be written.
//! - **Durable before irreversible.** That settlement will be asked for, and of whom, is on disk before it
//!   is asked for; that it succeeded is on disk before a byte of the answer leaves. A list of facilitators
//!   cannot be asked to settle ([`facilitator::FacilitatorList`]), only one that was written down. A step
//!   of the ledger whose answer was lost is told again, or undone, in the background
//!   (`payment/closing.rs`).
//! - **A configuration takes effect whole.** A request keeps the site and the gate it began with
//!   (`proxy/site.rs`); a reload builds others beside them and exchanges both (`gateway/reload.rs`).
//! - **A quote is known before it is made.** What a gateway quotes ([`policy::PriceList`]) is up in the
//!   ledger first, so that others honour it for its validity (`payment/quotes`).
//! - **The chain is believed before a facilitator** where it can be asked ([`chain`]).
//! - **A ledger knows since when it has kept account.** What a payment made before bought is not known,
//!   so it buys nothing more; before, that is by the clock and by the chain's own measure
//!   ([`ledger::Ledger::birth`], `payment/chains.rs`).
//! - **Work without pay ends.** A payer whose settlements failed is settled before the origin is asked
//!   (`payment/failures.rs`).
//!
//! # Where state lives
//!
//! | State | Owner | After a restart |
//! |---|---|---|
//! | routes, offers, prices | `Arc<RouteTable>` | read again |
//! | what can be settled at present, prepared challenges | [`payment::OfferBook`] | rebuilt from `/supported` |
//! | what was quoted, for its validity | notices of the `dyn Ledger`, by `payment/quotes` | read again when a payment fits nothing else |
//! | payments | `dyn Ledger` | kept; what a dead gateway held is taken over, unresolved ones are driven on |
//! | payers whose settlements failed | `payment/failures.rs` | forgotten |
//! | connections, caches, circuit breakers | [`facilitator`] | rebuilt |
//! | one request | `proxy::context` | – |

pub mod admin;
pub mod chain;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod facilitator;
pub mod gateway;
pub mod ledger;
pub mod payment;
pub mod policy;
pub mod proxy;
pub mod scheme;
pub mod secret;
pub mod telemetry;
pub mod x402;
