//! End-to-end tests: the real binary, real sockets, real signatures.
//!
//! Every test starts the gateway it needs on free loopback ports, with an origin and, where it
//! matters, a facilitator of its own that act as scripted.

#![allow(unreachable_pub, missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::format_push_string)]

mod authorizations;
mod availability;
mod books;
mod browser_page;
mod bypasses;
mod chain;
mod compliance;
mod cors;
mod credentials;
mod database_faults;
mod facilitator_service;
mod facilitators;
mod fault_matrix;
mod http2;
mod identifiers;
mod ledger;
mod limits;
mod lost_ledgers;
mod matching;
mod onchain;
mod outages;
mod payments;
mod pledges;
mod proxy;
mod proxy_framing;
mod proxy_operations;
mod proxy_retries;
mod proxy_settlement;
mod quotes;
mod readme;
mod redelivery;
mod release;
mod reload;
mod replay;
mod routing;
mod settled_first;
mod shadow;
mod shutdown;
mod solana;
mod streams;
mod support;
mod tls;
mod uncharged;
mod wire;

// The contract of facilitators is tested where it is written, and here.
use tollgate::x402;
