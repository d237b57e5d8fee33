//! The only module that knows Pingora.

pub mod settings;
