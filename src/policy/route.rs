//! A route: which requests it is for, and what it decides.

use super::matcher::{Condition, HostPattern};
use super::offer::Offer;
use super::path::RoutePath;

/// Index of an upstream in the configuration's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UpstreamId(pub usize);

/// What a route decides.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Forward unpaid.
    Free,
    /// Refuse.
    Deny,
    /// Forward for money.
    Paid(Box<Offer>),
}

/// The path part of a route.
#[derive(Debug, Clone)]
pub enum PathPattern {
    /// Every path.
    Any,
    /// `/exact`, `/with/*`, `/with/{name}`, `/with/**`, as written.
    Pattern(String),
    /// A regular expression that must match the whole path.
    Regex(regex::Regex),
}

/// A route as compiled from the configuration.
#[derive(Debug, Clone)]
pub struct Route {
    /// Name for logs, metrics and `explain`.
    pub name: String,
    /// Hosts it is for; empty: every host.
    pub hosts: Vec<HostPattern>,
    /// Methods it is for, upper case; empty: every method.
    pub methods: Vec<String>,
    /// Paths it is for.
    pub path: PathPattern,
    /// Conditions on request headers.
    pub headers: Vec<Condition>,
    /// Conditions on query parameters.
    pub query: Vec<Condition>,
    /// What it decides.
    pub decision: Decision,
    /// Where its requests go.
    pub upstream: UpstreamId,
}

impl Route {
    /// The offer, when the route is priced.
    #[must_use]
    pub fn offer(&self) -> Option<&Offer> {
        match &self.decision {
            Decision::Paid(offer) => Some(offer),
            Decision::Free | Decision::Deny => None,
        }
    }
}

/// What is looked at to find a request's route.
#[derive(Debug, Clone, Copy)]
pub struct RouteFacts<'a> {
    /// Method, as sent.
    pub method: &'a str,
    /// Host without port, lower case, without a trailing dot; empty when there is none.
    pub host: &'a str,
    /// Canonical path.
    pub path: &'a RoutePath,
    /// Query without `?`; empty when there is none.
    pub query: &'a str,
    /// Request headers.
    pub headers: &'a http::HeaderMap,
}
