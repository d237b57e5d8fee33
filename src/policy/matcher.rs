//! Conditions of a route other than its path.

/// A host a route is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// Exactly this host, lower case.
    Exact(String),
    /// Every host below this domain: `*.example.com` is stored as `example.com`.
    Below(String),
}

/// How a value is matched.
#[derive(Debug, Clone)]
pub enum ValueMatch {
    /// Equal to this text.
    Equals(String),
    /// There (`true`) or not there (`false`).
    Present(bool),
    /// Matched anywhere by this regular expression.
    Regex(regex::Regex),
}

/// A condition on a named header or query parameter.
#[derive(Debug, Clone)]
pub struct Condition {
    /// Header (lower case) or parameter.
    pub name: String,
    /// What its value must be.
    pub value: ValueMatch,
}
