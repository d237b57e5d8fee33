//! Routes that can never apply.

use std::collections::HashMap;

use super::glob::Spelling;
use super::host::HostPattern;
use super::matcher::{self, Condition};
use super::pattern::PathPattern;
use super::route::Route;
use super::table::RouteTable;

/// A route that can never apply, because an earlier one takes all its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreachable {
    /// Its number, counted from zero in the order written.
    pub route: usize,
    /// The number of the earlier one.
    pub because_of: usize,
}

/// What two routes must have in common for one to hide the other.
#[derive(PartialEq, Eq, Hash)]
struct Key<'a> {
    host: Option<&'a HostPattern>,
    path: String,
    conditions: Vec<String>,
}

impl RouteTable {
    /// The routes that can never apply. Each one reported is unreachable, but not every unreachable
    /// one is reported: compared are routes with the same path, conditions and hosts.
    #[must_use]
    pub fn unreachable(&self) -> Vec<Unreachable> {
        let mut reachable: HashMap<Key<'_>, Vec<usize>> = HashMap::new();
        let mut found = Vec::new();
        for (number, route) in self.routes.iter().enumerate() {
            let keys = || {
                hosts(route).map(|host| Key { host, path: path_key(route), conditions: conditions(route) })
            };
            let hidden_by = |key: &Key<'_>| {
                let earlier = reachable.get(key)?;
                earlier.iter().copied().find(|earlier| hides(&self.routes[*earlier], route))
            };
            let hiding: Option<Vec<_>> = keys().map(|key| hidden_by(&key)).collect();
            if let Some(&because_of) = hiding.as_ref().and_then(|hiding| hiding.first()) {
                found.push(Unreachable { route: number, because_of });
            } else {
                keys().for_each(|key| reachable.entry(key).or_default().push(number));
            }
        }
        found
    }
}

/// Whether an earlier route with the same key takes every request the later one could.
fn hides(earlier: &Route, later: &Route) -> bool {
    let spelling = match (earlier.spelling(), later.spelling()) {
        (Spelling::Any, _) => true,
        (Spelling::AsWritten, Spelling::Any) => false,
        (Spelling::AsWritten, Spelling::AsWritten) => spelling_key(earlier) == spelling_key(later),
    };
    // Without methods a route has one condition less, and is less specific.
    let methods = earlier.methods.is_empty() == later.methods.is_empty()
        && later
            .methods
            .iter()
            .all(|method| matcher::covers_method(&earlier.methods, method, Spelling::AsWritten));
    spelling && methods
}

fn hosts(route: &Route) -> impl Iterator<Item = Option<&HostPattern>> {
    let any = route.hosts.is_empty().then_some(None);
    any.into_iter().chain(route.hosts.iter().map(Some))
}

/// The same for paths that match the same requests, letter case and trailing slash aside.
fn path_key(route: &Route) -> String {
    match &route.path {
        PathPattern::Any => "/\0**".to_owned(),
        PathPattern::Glob(glob) => glob.folded().normalised(),
        PathPattern::Regex(regex) => format!("\0regex {}", regex.as_str()),
    }
}

/// The same for free paths that match the same requests.
fn spelling_key(route: &Route) -> (String, bool) {
    match &route.path {
        PathPattern::Glob(glob) => (glob.normalised(), glob.slash),
        PathPattern::Any | PathPattern::Regex(_) => (path_key(route), false),
    }
}

fn conditions(route: &Route) -> Vec<String> {
    let words = |kind: &'static str| move |condition: &Condition| format!("{kind} {condition}");
    let headers = route.headers.iter().map(words("header"));
    let mut words: Vec<_> = headers.chain(route.query.iter().map(words("query"))).collect();
    words.sort_unstable();
    words
}
