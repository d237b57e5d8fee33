//! A route: which requests it is for, and what it decides.

use super::glob::Spelling;
use super::host::HostPattern;
use super::matcher::{self, Condition};
use super::offer::Offer;
use super::path::RoutePath;
use super::pattern::PathPattern;

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

    /// Doubt costs: only free routes insist on the exact spelling.
    pub(super) fn spelling(&self) -> Spelling {
        match self.decision {
            Decision::Free => Spelling::AsWritten,
            Decision::Deny | Decision::Paid(_) => Spelling::Any,
        }
    }

    /// How many conditions it has; its methods together count as one.
    pub(super) fn conditions(&self) -> usize {
        usize::from(!self.methods.is_empty()) + self.headers.len() + self.query.len()
    }

    /// The first condition that does not hold for a request.
    pub(super) fn failing(&self, facts: &RouteFacts<'_>) -> Option<Failing<'_>> {
        let spelling = self.spelling();
        if !matcher::covers_method(&self.methods, facts.method, spelling) {
            return Some(Failing::Method);
        }
        let header = self.headers.iter().find(|header| !header.holds_in_headers(facts.headers, spelling));
        if let Some(header) = header {
            return Some(Failing::Header(header));
        }
        self.query.iter().find(|query| !query.holds_in_query(facts.query, spelling)).map(Failing::Query)
    }
}

/// A condition of a route that does not hold.
#[derive(Debug, Clone, Copy)]
pub(super) enum Failing<'a> {
    Method,
    Header(&'a Condition),
    Query(&'a Condition),
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
