//! tollgate: a reverse proxy that puts an x402 paywall in front of an existing site.

pub mod admin;
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
