//! The routes, arranged for lookup: by host, then by path.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use super::glob::{Glob, Spelling};
use super::host::HostPattern;
use super::pattern::PathPattern;
use super::readings::Reading;
use super::route::{Route, RouteFacts};
use super::tree::Tree;

/// Routes by host, the most specific first: the exact host, the longest `*.domain`, any host.
#[derive(Debug)]
pub(super) struct HostIndex {
    exact: HashMap<String, PathIndex>,
    below: HashMap<String, PathIndex>,
    any: PathIndex,
}

/// Routes of one host, by class of path.
#[derive(Debug)]
struct PathIndex {
    /// Patterns without wildcards by folded text without a trailing slash.
    exact: HashMap<String, Vec<usize>>,
    /// Tried one by one.
    regexes: Vec<usize>,
    patterns: Tree,
}

impl HostIndex {
    pub(super) fn new(routes: &[Arc<Route>]) -> Self {
        let mut exact: HashMap<String, Vec<usize>> = HashMap::new();
        let mut below: HashMap<String, Vec<usize>> = HashMap::new();
        let mut any = Vec::new();
        for (number, route) in routes.iter().enumerate() {
            if route.hosts.is_empty() {
                any.push(number);
            }
            for host in &route.hosts {
                let numbers = match host {
                    HostPattern::Exact(host) => exact.entry(host.clone()).or_default(),
                    HostPattern::Below(domain) => below.entry(domain.clone()).or_default(),
                };
                if numbers.last() != Some(&number) {
                    numbers.push(number);
                }
            }
        }
        let index = |hosts: HashMap<String, Vec<usize>>| {
            hosts.into_iter().map(|(host, numbers)| (host, PathIndex::new(routes, &numbers))).collect()
        };
        Self { exact: index(exact), below: index(below), any: PathIndex::new(routes, &any) }
    }

    /// The number of the route for one reading of a request's path.
    pub(super) fn find(
        &self,
        routes: &[Arc<Route>],
        facts: &RouteFacts<'_>,
        path: Reading<'_>,
    ) -> Option<usize> {
        let exact = self.exact.get(facts.host);
        let below = if self.below.is_empty() { "" } else { facts.host };
        // Dots from the left: the longest domain comes first.
        let below = below.match_indices('.').filter_map(|(dot, _)| {
            let domain = if dot == 0 { None } else { below.get(dot + 1..) };
            self.below.get(domain?)
        });
        let mut levels = exact.into_iter().chain(below).chain([&self.any]);
        levels.find_map(|level| level.find(routes, facts, path))
    }
}

impl PathIndex {
    fn new(routes: &[Arc<Route>], numbers: &[usize]) -> Self {
        let mut exact: HashMap<String, Vec<usize>> = HashMap::new();
        let mut regexes = Vec::new();
        let mut globs = Vec::new();
        for &number in numbers {
            match &routes[number].path {
                PathPattern::Any => globs.push((Glob::everything(), number)),
                PathPattern::Glob(glob) if glob.is_exact() => {
                    exact.entry(glob.folded().literal_path()).or_default().push(number);
                }
                PathPattern::Glob(glob) => globs.push((glob.clone(), number)),
                PathPattern::Regex(_) => regexes.push(number),
            }
        }
        let order = |number: &usize| (Reverse(routes[*number].conditions()), *number);
        for numbers in exact.values_mut() {
            numbers.sort_by_key(order);
        }
        regexes.sort_by_key(order);
        globs.sort_by_cached_key(|(glob, number)| (Reverse(glob.specificity()), order(number)));
        let patterns = Tree::new(globs.into_iter().map(|(glob, number)| (glob.folded(), number)));
        Self { exact, regexes, patterns }
    }

    fn find(&self, routes: &[Arc<Route>], facts: &RouteFacts<'_>, path: Reading<'_>) -> Option<usize> {
        let conditions_hold = |number: usize| routes[number].failing(facts).is_none();
        // The tables are keyed by folded text; what is free must also fit as it is written.
        let accept = |number: usize| {
            let route = &routes[number];
            let fits = match route.spelling() {
                Spelling::Any => true,
                Spelling::AsWritten => route.path.matches(path, Spelling::AsWritten),
            };
            fits && conditions_hold(number)
        };
        let exact = self.exact.get(without_slash(path.folded));
        if let Some(&number) = exact.into_iter().flatten().find(|number| accept(**number)) {
            return Some(number);
        }
        let regex = self.regexes.iter().find(|number| {
            let route = &routes[**number];
            conditions_hold(**number) && route.path.matches(path, route.spelling())
        });
        regex.copied().or_else(|| self.patterns.find(path.folded, accept))
    }
}

/// The key of a path among exact patterns.
fn without_slash(path: &str) -> &str {
    path.strip_suffix('/').unwrap_or(path)
}
