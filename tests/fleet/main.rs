//! The fleet: several real gateways over one PostgreSQL keep the promises of one, whichever of them a
//! request reaches, while some are killed, stopped, paused and started, also behind load balancers, and
//! while the database fails over to a standby.
//!
//! `TOLLGATE_FLEET_SEED` repeats the moments at which the large test kills and stops gateways.

#![allow(unreachable_pub, missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod balancers;
#[path = "../crash/dice.rs"]
#[allow(dead_code)]
mod dice;
mod example;
mod presenter;
mod replicas;
mod sharing;
mod standby;
#[path = "../it/support/mod.rs"]
#[allow(dead_code, unused_imports, clippy::format_push_string)]
mod support;
mod takeover;
mod thousand;
mod till;
