//! Why a request falls under a route, in words for the operator.

use std::fmt;

use super::glob::Spelling;
use super::matcher::{Condition, ValueMatch};
use super::readings::Reading;
use super::route::{Failing, Route, RouteFacts};
use super::table::{Choice, RouteError, RouteTable};
use super::text;

/// How the route of a request was found. Made by [`RouteTable::explain`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What the table answers.
    pub outcome: Result<Choice, RouteError>,
    /// Every way an origin may read the path, decoded, and the route it falls under; the strict
    /// reading first.
    pub readings: Vec<(String, Choice)>,
    /// Scripts that origins may run for the path, and the routes they fall under, where the request
    /// is refused for them.
    pub scripts: Vec<(String, Choice)>,
    /// The routes that match host and path and were not chosen for any reading, in the order written.
    pub others: Vec<Lost>,
}

/// A route that matches host and path, and was not chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Its number, counted from zero in the order written.
    pub route: usize,
    /// Why it was not chosen.
    pub why: Loss,
}

/// Why a route was not chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// It is for other methods.
    Method,
    /// A condition on a header does not hold; the condition in words.
    Header(String),
    /// A condition on a query parameter does not hold; the condition in words.
    Query(String),
    /// It is free and differs from the path in letter case or a trailing slash.
    Spelling,
    /// Another one is more specific, or as specific and written earlier.
    LessSpecific(Choice),
}

impl fmt::Display for Loss {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method => formatter.write_str("it is for other methods"),
            Self::Header(condition) => {
                write!(formatter, "its condition on the header {condition} does not hold")
            }
            Self::Query(condition) => {
                write!(formatter, "its condition on the parameter {condition} does not hold")
            }
            Self::Spelling => formatter
                .write_str("free routes match letter case and trailing slash exactly, and they differ"),
            Self::LessSpecific(_) => formatter.write_str("another route is more specific or written earlier"),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            ValueMatch::Equals(text) => write!(formatter, "{} = {text:?}", self.name),
            ValueMatch::Present(true) => write!(formatter, "{} is there", self.name),
            ValueMatch::Present(false) => write!(formatter, "{} is not there", self.name),
            ValueMatch::Regex(regex) => write!(formatter, "{} matches {:?}", self.name, regex.as_str()),
        }
    }
}

impl RouteTable {
    /// Explains the route of a request. Looks at every route, so it is for people, not for requests.
    #[must_use]
    pub fn explain(&self, facts: &RouteFacts<'_>) -> Explanation {
        let choices: Vec<_> = self.choices(facts).collect();
        let chosen = |number: usize| choices.iter().any(|(choice, _)| *choice == Choice::Route(number));
        let others = self.routes.iter().enumerate().filter(|(number, _)| !chosen(*number));
        let others = others.filter_map(|(number, route)| {
            let why = choices.iter().find_map(|(choice, reading)| lost(route, facts, *reading, *choice))?;
            Some(Lost { route: number, why })
        });
        let mut scripts: Vec<(String, Choice)> = Vec::new();
        for (choice, script) in self.scripts_in_doubt(facts) {
            let found = (text::for_people(script.path.text), choice);
            if !scripts.contains(&found) {
                scripts.push(found);
            }
        }
        Explanation {
            scripts,
            outcome: self.choose(facts),
            others: others.collect(),
            readings: choices
                .iter()
                .map(|(choice, reading)| (text::for_people(reading.text), *choice))
                .collect(),
        }
    }
}

/// Why a route lost against another for one reading; `None` when it does not match host and path.
fn lost(route: &Route, facts: &RouteFacts<'_>, path: Reading<'_>, winner: Choice) -> Option<Loss> {
    let here = route.hosts.is_empty() || route.hosts.iter().any(|host| host.covers(facts.host));
    if !here || !route.path.matches(path, Spelling::Any) {
        return None;
    }
    if !route.path.matches(path, route.spelling()) {
        return Some(Loss::Spelling);
    }
    Some(match route.failing(facts) {
        Some(Failing::Method) => Loss::Method,
        Some(Failing::Header(condition)) => Loss::Header(condition.to_string()),
        Some(Failing::Query(condition)) => Loss::Query(condition.to_string()),
        None => Loss::LessSpecific(winner),
    })
}
