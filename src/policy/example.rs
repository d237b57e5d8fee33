//! Requests that fall under a route, to see what becomes of them in another table.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::glob::{Glob, Segment};
use super::host::HostPattern;
use super::matcher::{Condition, ValueMatch};
use super::path::RoutePath;
use super::pattern::PathPattern;
use super::route::{Route, RouteFacts};
use super::table::{Choice, RouteTable};

/// Stands for whatever a wildcard takes.
const ANYTHING: &str = "example";

/// A request as simple as can be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// Method.
    pub method: String,
    /// Host; empty: that of the site.
    pub host: String,
    /// Path, as it is sent.
    pub path: String,
    /// Query without `?`; empty: none.
    pub query: String,
    /// Headers, by lower-case name.
    pub headers: Vec<(String, String)>,
}

impl Example {
    /// The target as people write it: host, path and query.
    #[must_use]
    pub fn target(&self) -> String {
        let Self { host, path, query, .. } = self;
        if query.is_empty() { format!("{host}{path}") } else { format!("{host}{path}?{query}") }
    }

    /// What a table chooses for it; `None`: it is no request that a gateway would take.
    #[must_use]
    pub fn choice_in(&self, table: &RouteTable) -> Option<Choice> {
        let path = RoutePath::parse(&self.path).ok()?;
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            headers.append(HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?);
        }
        let Self { method, host, query, .. } = self;
        table.choose(&RouteFacts { method, host, path: &path, query, headers: &headers }).ok()
    }
}

impl RouteTable {
    /// A request that falls under the route with this number; `None` where none is found: of regular
    /// expressions, and where another route always comes first.
    #[must_use]
    pub fn example(&self, number: usize) -> Option<Example> {
        let example = self.routes.get(number)?.example()?;
        (example.choice_in(self) == Some(Choice::Route(number))).then_some(example)
    }
}

impl Route {
    fn example(&self) -> Option<Example> {
        let path = match &self.path {
            PathPattern::Any => format!("/{ANYTHING}"),
            PathPattern::Glob(glob) => path_of(glob),
            PathPattern::Regex(_) => return None,
        };
        let host = match self.hosts.first() {
            None => String::new(),
            Some(HostPattern::Exact(host)) => host.clone(),
            Some(HostPattern::Below(domain)) => format!("{ANYTHING}.{domain}"),
        };
        let headers = met(&self.headers)?;
        let pair = |(name, value): (String, String)| format!("{}={}", encoded(&name), encoded(&value));
        let query: Vec<String> = met(&self.query)?.into_iter().map(pair).collect();
        let method = self.methods.first().cloned().unwrap_or_else(|| "GET".to_owned());
        Some(Example { method, host, path, query: query.join("&"), headers })
    }
}

fn path_of(glob: &Glob) -> String {
    let mut path = String::new();
    for segment in &glob.segments {
        path.push('/');
        match segment {
            Segment::Literal(literal) => path.push_str(&encoded(literal)),
            Segment::One | Segment::Many => path.push_str(ANYTHING),
            Segment::Partial(partial) => {
                for piece in std::iter::once(&partial.prefix).chain(&partial.middle) {
                    path.push_str(&encoded(piece));
                    path.push_str(ANYTHING);
                }
                path.push_str(&encoded(&partial.suffix));
            }
        }
    }
    if path.is_empty() || glob.slash {
        path.push('/');
    }
    path
}

/// Names and values by which conditions hold; `None`: that takes more than a guess.
fn met(conditions: &[Condition]) -> Option<Vec<(String, String)>> {
    let mut met = Vec::new();
    for Condition { name, value } in conditions {
        match value {
            ValueMatch::Equals(text) => met.push((name.clone(), text.clone())),
            ValueMatch::Present(true) => met.push((name.clone(), ANYTHING.to_owned())),
            ValueMatch::Present(false) => {}
            ValueMatch::Regex(_) => return None,
        }
    }
    Some(met)
}

/// Every character that is not unreserved (RFC 3986 §2.3) escaped.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
