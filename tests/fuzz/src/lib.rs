//! What must hold of foreign bytes, as one function for each kind of them. A fuzzer looks for bytes of
//! which it does not (`tests/fuzz/README.md`).
//!
//! Each module says what is sent by whom, and holds what the gateway makes of it against a reading of
//! its own, written down as simply as can be.

#![allow(clippy::panic, clippy::unwrap_used)]

pub mod amount;
pub mod answer;
pub mod chain;
pub mod conditions;
pub mod config;
pub mod head;
pub mod path;
pub mod payment;
pub mod service;
pub mod shop;
pub mod solana;
pub mod wallet;
