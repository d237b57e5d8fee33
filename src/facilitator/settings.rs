//! What facilitators are told by the configuration.

use std::path::PathBuf;
use std::time::Duration;

use crate::secret::Secret;

/// A facilitator as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FacilitatorSettings {
    /// The built-in sandbox.
    Sandbox,
    /// One that is spoken to over HTTP.
    Http(HttpSettings),
}

/// A facilitator behind an HTTP API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSettings {
    /// Name in the configuration.
    pub name: String,
    /// Base URL, without a trailing slash.
    pub url: String,
    /// How the gateway identifies itself.
    pub auth: Auth,
    /// PEM certificates to trust instead of the system's, for a facilitator with a private CA.
    pub ca_file: Option<PathBuf>,
    /// Limit for a verification.
    pub verify_timeout: Duration,
    /// Limit for a settlement; public chains need tens of seconds.
    pub settle_timeout: Duration,
    /// How long a `/supported` answer counts as fresh.
    pub supported_ttl: Duration,
}

/// How the gateway identifies itself to a facilitator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// Not at all.
    None,
    /// `Authorization: Bearer …`.
    Bearer(Secret<String>),
    /// A header of the facilitator's choice.
    Header {
        /// Header name, lower case.
        name: String,
        /// Its value.
        value: Secret<String>,
    },
    /// A fresh JWT for each request, as Coinbase's CDP wants it.
    Cdp {
        /// API key id.
        key_id: String,
        /// Base64 of 64 bytes (Ed25519 seed and public key) or a PEM EC key (P-256).
        key: Secret<String>,
    },
}
