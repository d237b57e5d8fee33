//! What changes from one configuration to the next, the way a reviewer wants to see it.

use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Config;
use super::words::{decision_words, request_words, target_words};
use crate::policy::{Choice, Decision, Example, Route};

/// What the default is for.
const EVERYTHING_ELSE: &str = "everything else";

/// What a route lets through, in the order of how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Nothing.
    Denied,
    /// What is paid.
    Paid,
    /// Everything.
    Free,
}

/// A route in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteRow {
    /// Its name.
    pub name: String,
    /// Which requests it is for.
    pub request: String,
    /// What it lets through.
    pub access: Access,
    /// What it decides, with prices.
    pub decision: String,
    /// Where its requests go; empty for those that go nowhere.
    pub target: String,
    /// A request that falls under it, where one is known.
    pub example: Option<Example>,
}

/// The routes of a configuration in words, in the order written, and the default behind them.
pub type RouteRows = Vec<RouteRow>;

impl Config {
    /// The routes in words.
    #[must_use]
    pub fn rows(&self) -> RouteRows {
        let words =
            |number: usize, route: &Route| match self.shadow.as_ref().and_then(|shadow| shadow.route(number))
            {
                Some(shadow) => format!("free, in shadow: {}", decision_words(self, shadow)),
                None => decision_words(self, route),
            };
        let row = |route: &Route, request, decision, example| RouteRow {
            name: route.name.clone(),
            request,
            access: access(route),
            decision,
            target: target_words(self, route),
            example,
        };
        let routes = self.routes.routes().enumerate();
        let mut rows: RouteRows = routes
            .map(|(number, route)| {
                row(route, request_words(route), words(number, route), self.routes.example(number))
            })
            .collect();
        let default = self.routes.default();
        rows.push(row(default, EVERYTHING_ELSE.to_owned(), words(rows.len(), default), None));
        rows
    }
}

fn access(route: &Route) -> Access {
    match route.decision {
        Decision::Free => Access::Free,
        Decision::Deny => Access::Denied,
        Decision::Paid(_) => Access::Paid,
    }
}

/// A change of one route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is new; its example fell under the other before, where that is known.
    Appears(RouteRow, Option<RouteRow>),
    /// It is gone; its example falls under the other now, where that is known.
    Vanishes(RouteRow, Option<RouteRow>),
    /// It is for other requests, or decides otherwise.
    Changes(RouteRow, RouteRow),
}

/// All changes, in the order of the new configuration; what is gone comes last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The changes.
    pub changes: Vec<Change>,
    /// Routes that stay as they are.
    pub unchanged: usize,
}

impl Plan {
    /// Compares the routes of before, as they were told, with a configuration. Where the one of before is
    /// at hand, too, it is known what became of what new routes are for.
    #[must_use]
    pub fn new(old: &[RouteRow], before: Option<&Config>, new: &Config) -> Self {
        let rows = new.rows();
        let falls_under = |example: &Example| row_of(new, &rows, example);
        let fell_under = |example: &Example| row_of(before?, old, example);
        Self::between(old, &rows, fell_under, falls_under)
    }

    fn between(
        old: &[RouteRow],
        new: &[RouteRow],
        fell_under: impl Fn(&Example) -> Option<RouteRow>,
        falls_under: impl Fn(&Example) -> Option<RouteRow>,
    ) -> Self {
        let by_name: HashMap<&str, &RouteRow> = old.iter().map(|row| (row.name.as_str(), row)).collect();
        let by_request: HashMap<&str, &RouteRow> =
            old.iter().map(|row| (row.request.as_str(), row)).collect();
        let names: HashMap<&str, &RouteRow> = new.iter().map(|row| (row.name.as_str(), row)).collect();
        let requests: HashMap<&str, &RouteRow> = new.iter().map(|row| (row.request.as_str(), row)).collect();
        let mut plan = Self { changes: Vec::new(), unchanged: 0 };
        for row in new {
            let renamed = || {
                // A route is the same under another name where nothing else has that name.
                let before = by_request.get(row.request.as_str())?;
                (!names.contains_key(before.name.as_str())).then_some(before)
            };
            match by_name.get(row.name.as_str()).or_else(renamed) {
                None => {
                    let before = row.example.as_ref().and_then(&fell_under);
                    plan.changes.push(Change::Appears(row.clone(), before));
                }
                Some(before) if is_same(before, row) => plan.unchanged += 1,
                Some(before) => plan.changes.push(Change::Changes((*before).clone(), row.clone())),
            }
        }
        for row in old {
            let is_there =
                names.contains_key(row.name.as_str()) || requests.contains_key(row.request.as_str());
            if !is_there {
                let now = row.example.as_ref().and_then(&falls_under);
                plan.changes.push(Change::Vanishes(row.clone(), now));
            }
        }
        plan
    }

    /// Whether something is let through that was not before: priced or denied until now, and free; or
    /// denied until now, and for sale.
    #[must_use]
    pub fn opens(&self) -> bool {
        self.changes.iter().any(Change::opens)
    }
}

fn is_same(one: &RouteRow, other: &RouteRow) -> bool {
    let words = |row: &RouteRow| (row.request.clone(), row.decision.clone(), row.target.clone());
    words(one) == words(other)
}

fn row_of(config: &Config, rows: &[RouteRow], example: &Example) -> Option<RouteRow> {
    let row = match example.choice_in(&config.routes)? {
        Choice::Route(number) => rows.get(number),
        Choice::Default => rows.last(),
    };
    row.cloned()
}

impl Change {
    /// Whether more is let through than before.
    #[must_use]
    pub fn opens(&self) -> bool {
        match self {
            Self::Changes(before, now)
            | Self::Vanishes(before, Some(now))
            | Self::Appears(now, Some(before)) => now.access > before.access,
            // What became of its requests is not known.
            Self::Vanishes(before, None) => before.access < Access::Free,
            Self::Appears(now, None) => now.access == Access::Free,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.opens() { '!' } else { ' ' };
        let goes = |row: &RouteRow| format!("{} {}", row.decision, row.target).trim_end().to_owned();
        match self {
            Self::Appears(row, _) => write!(formatter, "{mark}+ {}: {}", row.request, goes(row)),
            Self::Vanishes(row, now) => {
                write!(formatter, "{mark}- {}: {}", row.request, goes(row))?;
                match (now, &row.example) {
                    (Some(now), Some(example)) => {
                        write!(
                            formatter,
                            "; {} {} falls under {}: {}",
                            example.method,
                            example.target(),
                            now.request,
                            goes(now)
                        )
                    }
                    _ => {
                        formatter.write_str("; see with `tollgate explain` what its requests fall under now")
                    }
                }
            }
            Self::Changes(before, now) if before.request == now.request && before.target == now.target => {
                write!(formatter, "{mark}~ {}: {} => {}", now.request, before.decision, now.decision)
            }
            Self::Changes(before, now) if before.request == now.request => {
                write!(formatter, "{mark}~ {}: {} => {}", now.request, goes(before), goes(now))
            }
            Self::Changes(before, now) => {
                write!(
                    formatter,
                    "{mark}~ {}: {} => {}: {}",
                    before.request,
                    goes(before),
                    now.request,
                    goes(now)
                )
            }
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count =
            |is_meant: fn(&Change) -> bool| self.changes.iter().filter(|change| is_meant(change)).count();
        let parts = [
            (count(|change| matches!(change, Change::Appears(..))), "appears", "appear"),
            (count(|change| matches!(change, Change::Changes(..))), "changes", "change"),
            (count(|change| matches!(change, Change::Vanishes(..))), "vanishes", "vanish"),
            (self.unchanged, "stays", "stay"),
        ];
        let words = parts.into_iter().filter(|(count, ..)| *count > 0).map(|(count, one, many)| {
            let (noun, verb) = if count == 1 { ("route", one) } else { ("routes", many) };
            format!("{count} {noun} {verb}")
        });
        formatter.write_str(&words.collect::<Vec<_>>().join(", "))?;
        if self.opens() { formatter.write_str("; more is let through than before (!)") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{BASE, clean};
    use super::*;

    fn plan(old: &str, new: &str) -> (String, bool) {
        let (old, new) = (clean(&format!("{BASE}{old}")), clean(&format!("{BASE}{new}")));
        let plan = Plan::new(&old.rows(), Some(&old), &new);
        let lines: Vec<String> =
            plan.changes.iter().map(ToString::to_string).chain([plan.to_string()]).collect();
        (lines.join("\n"), plan.opens())
    }

    fn route(path: &str, rest: &str) -> String {
        format!("[[routes]]\npath = \"{path}\"\n{rest}\n")
    }

    #[test]
    fn a_plan_tells_what_appears_changes_and_vanishes() {
        let old = format!("{}{}", route("/a/*", "price = \"$0.01\""), route("/same", "price = \"$1\""));
        let new = format!(
            "{}{}{}",
            route("/a/*", "price = \"$0.02\""),
            route("/same", "price = \"$1\""),
            route("/new/{id}", "price = \"$3\"")
        );
        assert_eq!(
            plan(&old, &new),
            (
                " ~ /a/*: 0.01 USDC on base-sepolia by sandbox => \
                 0.02 USDC on base-sepolia by sandbox\n \
                 + /new/{id}: 3.00 USDC on base-sepolia by sandbox -> http://127.0.0.1:8080\n\
                 1 route appears, 1 route changes, 2 routes stay"
                    .to_owned(),
                false
            )
        );
        assert_eq!(plan(&old, &old), ("3 routes stay".to_owned(), false));
    }

    #[test]
    fn what_lets_more_through_than_before_is_marked() {
        let paid = |path: &str| route(path, "price = \"$0.01\"");
        let cases = [
            (paid("/a"), route("/a", "free = true"), true),
            (route("/a", "deny = true"), paid("/a"), true),
            (paid("/a"), route("/a", "deny = true"), false),
            // The default is free.
            (paid("/a/*") + &paid("/b"), paid("/b"), true),
            // Another route has the same price for it.
            (paid("/a/*") + &paid("/**"), paid("/**"), false),
            (paid("/a/*"), paid("/a/*") + &route("/a/b", "free = true"), true),
            (paid("/a/*"), paid("/a/*") + &route("/c/b", "free = true"), false),
            (
                route("/a/*", "name = \"one\"\nprice = \"$0.01\""),
                route("/a/*", "name = \"two\"\nprice = \"$0.01\""),
                false,
            ),
            (
                route(
                    "/a",
                    "price = \"$0.01\"\nmethod = \"POST\"\nheader = { x-tier = \"bulk\" }\nquery = { q = \"a b\" }",
                ),
                paid("/b"),
                true,
            ),
        ];
        for (old, new, opens) in cases {
            let (words, found) = plan(&old, &new);
            assert_eq!(found, opens, "{words}");
            assert_eq!(words.contains('!'), opens, "{words}");
        }
    }

    #[test]
    fn a_route_that_vanishes_names_a_request_and_what_becomes_of_it() {
        let old = route("/a/*.pdf", "price = \"$0.01\"") + &route("/b", "price = \"$0.01\"");
        let (words, _) = plan(&old, &route("/b", "price = \"$0.01\""));
        let line = words.lines().next().unwrap();
        assert!(line.starts_with("!- /a/*.pdf: 0.01 USDC"), "{line}");
        assert!(
            line.ends_with("; GET /a/example.pdf falls under everything else: free -> http://127.0.0.1:8080"),
            "{line}"
        );
    }
}
