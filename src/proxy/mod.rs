//! The only module that knows Pingora.

pub mod paywall;
pub mod settings;
