//! Shadow mode: routes that are not in force yet, to see what they would do.

use super::offer::Offer;
use super::route::{Decision, Route, RouteFacts};
use super::table::{Choice, RouteError, RouteTable};

/// The routes as if all were in force, and which of them are not.
#[derive(Debug)]
pub struct Shadow {
    table: RouteTable,
    /// By number of the route.
    shadowed: Vec<bool>,
    default: bool,
}

/// What would become of a request that is let through.
#[derive(Debug, Clone, Copy)]
pub enum Would<'a> {
    /// It would be for sale, under this route.
    Cost(&'a Route, &'a Offer),
    /// It would be refused, by this route.
    Deny(&'a Route),
    /// It would be refused, because servers may read it in ways that fall under different routes.
    Refuse,
}

impl Shadow {
    /// Puts routes, in the order they were written, into the table that is in force, in which what is in
    /// shadow is free, and the other; `None`: nothing is in shadow.
    #[must_use]
    pub fn part(routes: Vec<(Route, bool)>, default: (Route, bool)) -> (RouteTable, Option<Self>) {
        let in_force = |(route, shadowed): &(Route, bool)| {
            let decision = if *shadowed { Decision::Free } else { route.decision.clone() };
            Route { decision, ..route.clone() }
        };
        if !default.1 && routes.iter().all(|(_, shadowed)| !shadowed) {
            let routes = routes.into_iter().map(|(route, _)| route).collect();
            return (RouteTable::new(routes, default.0), None);
        }
        let table = RouteTable::new(routes.iter().map(in_force).collect(), in_force(&default));
        let (routes, shadowed) = routes.into_iter().unzip();
        (table, Some(Self { table: RouteTable::new(routes, default.0), shadowed, default: default.1 }))
    }

    /// What would become of a request that the table in force lets through; `None`: the same.
    #[must_use]
    pub fn would(&self, facts: &RouteFacts<'_>) -> Option<Would<'_>> {
        match self.table.choose(facts) {
            Ok(choice) if self.is_shadowed(choice) => {
                let route = self.table.route(choice);
                match &route.decision {
                    Decision::Free => None,
                    Decision::Deny => Some(Would::Deny(route)),
                    Decision::Paid(offer) => Some(Would::Cost(route, offer)),
                }
            }
            Ok(_) => None,
            Err(RouteError::Ambiguous) => Some(Would::Refuse),
        }
    }

    /// The route with a number as if it were in force, if it is in shadow; the last is the default.
    #[must_use]
    pub fn route(&self, number: usize) -> Option<&Route> {
        let choice = if number < self.shadowed.len() { Choice::Route(number) } else { Choice::Default };
        self.is_shadowed(choice).then(|| self.table.route(choice).as_ref())
    }

    fn is_shadowed(&self, choice: Choice) -> bool {
        match choice {
            Choice::Route(number) => self.shadowed.get(number).copied().unwrap_or_default(),
            Choice::Default => self.default,
        }
    }
}
