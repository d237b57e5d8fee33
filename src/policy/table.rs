//! The route table.
//!
//! Which of several fitting routes applies: the one with the most specific host (exact, then the
//! longest `*.domain`, then any); of those the one with the most specific path (exact, then regular
//! expression, then pattern; patterns compared segment by segment: literal, then partly literal with
//! the more literal characters, then `*` or `{name}`, then `**` or a final `/*`); of those the one
//! with the most conditions (methods count as one); of those the one written first. Routes whose
//! conditions do not hold do not take part.

use std::sync::Arc;

use super::index::HostIndex;
use super::readings::Reading;
use super::route::{Decision, Route, RouteFacts};
use super::scripts::{self, Script};

/// Why no route could be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// Servers may read the target in ways that fall under different routes. Answered 400.
    #[error("the request target can be read in more than one way")]
    Ambiguous,
}

/// All routes, compiled for lookup.
///
/// A lookup costs one hash lookup of the host, one of the whole path and one per segment, however many
/// routes there are; routes with regular expressions are tried one by one. It allocates nothing for a
/// plain path, unless regular expressions (one text with a slash added) or a `**` in the middle of a
/// pattern are met.
#[derive(Debug)]
pub struct RouteTable {
    pub(super) routes: Vec<Arc<Route>>,
    pub(super) default: Arc<Route>,
    index: HostIndex,
}

/// Which route was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Choice {
    /// The one with this number, counted from zero in the order written.
    Route(usize),
    /// The default, because no other fits.
    Default,
}

impl RouteTable {
    /// Compiles routes in the order the operator wrote them; `default` is for what matches none, and
    /// its own conditions are not looked at.
    #[must_use]
    pub fn new(routes: Vec<Route>, default: Route) -> Self {
        let routes: Vec<_> = routes.into_iter().map(Arc::new).collect();
        let index = HostIndex::new(&routes);
        Self { routes, default: Arc::new(default), index }
    }

    /// The route of a request.
    ///
    /// Every reading of the path must fall under the same route, so that no origin can serve something
    /// priced for what was let through free. Readings that fall under different free routes do no
    /// harm, nor under different denied ones: the strict reading decides.
    ///
    /// Where a path leads through a script (`/a.php/x`), origins may run that script for it. If it is
    /// priced or denied by another route, the path's own route must be denied, or go on from the
    /// script's by name: `/a.php/*` tells what `/a.php/x` costs, `/**` does not.
    ///
    /// # Errors
    /// [`RouteError::Ambiguous`].
    pub fn find(&self, facts: &RouteFacts<'_>) -> Result<&Arc<Route>, RouteError> {
        self.choose(facts).map(|choice| self.route(choice))
    }

    /// Like [`Self::find`], by number.
    ///
    /// # Errors
    /// [`RouteError::Ambiguous`].
    pub fn choose(&self, facts: &RouteFacts<'_>) -> Result<Choice, RouteError> {
        let mut choices = self.choices(facts).map(|(choice, _)| choice);
        // There is always a strict reading.
        let strict = choices.next().unwrap_or(Choice::Default);
        let agreed = choices.all(|other| self.agree(strict, other));
        if agreed && self.scripts_in_doubt(facts).next().is_none() {
            Ok(strict)
        } else {
            Err(RouteError::Ambiguous)
        }
    }

    /// What is looked at to find the route of a CORS preflight, which is an `OPTIONS` request that
    /// announces a request of method `announced`: when that one is priced, it decides, because its
    /// payment must be allowed by the answer. A route that denies the `OPTIONS` request itself stands.
    #[must_use]
    pub fn preflight<'a>(&self, facts: RouteFacts<'a>, announced: &'a str) -> RouteFacts<'a> {
        let request = RouteFacts { method: announced, ..facts };
        let denied = |choice| choice != Choice::Default && self.route(choice).decision == Decision::Deny;
        let priced = |choice| self.route(choice).offer().is_some();
        let stands = self.choose(&facts).is_ok_and(denied);
        if !stands && self.choose(&request).is_ok_and(priced) { request } else { facts }
    }

    /// The chosen route.
    #[must_use]
    pub fn route(&self, choice: Choice) -> &Arc<Route> {
        match choice {
            Choice::Route(number) => self.routes.get(number).unwrap_or(&self.default),
            Choice::Default => &self.default,
        }
    }

    /// The routes in the order written, without the default.
    #[must_use]
    pub fn routes(&self) -> impl ExactSizeIterator<Item = &Arc<Route>> {
        self.routes.iter()
    }

    /// Every route in the order written, and the default behind them.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes().chain(std::iter::once(self.default()))
    }

    /// The route for what matches no other.
    #[must_use]
    pub fn default(&self) -> &Arc<Route> {
        &self.default
    }

    /// The choice for each reading of the path, the strict one first.
    pub(super) fn choices<'a>(
        &'a self,
        facts: &'a RouteFacts<'a>,
    ) -> impl Iterator<Item = (Choice, Reading<'a>)> {
        facts.path.views().map(|reading| (self.choice(facts, reading), reading))
    }

    /// The scripts that an origin may run for a request although they have a route of their own, which
    /// the request does not fall under and does not speak of.
    pub(super) fn scripts_in_doubt<'a>(
        &'a self,
        facts: &'a RouteFacts<'a>,
    ) -> impl Iterator<Item = (Choice, Script<'a>)> {
        let readings = facts.path.has_scripts().then(|| self.choices(facts)).into_iter().flatten();
        readings.flat_map(move |(whole, reading)| {
            let scripts = scripts::within(reading).map(|script| (self.choice(facts, script.path), script));
            scripts.filter(move |(choice, script)| !self.tells(whole, *choice, script))
        })
    }

    fn choice(&self, facts: &RouteFacts<'_>, path: Reading<'_>) -> Choice {
        self.index.find(&self.routes, facts, path).map_or(Choice::Default, Choice::Route)
    }

    /// Whether the route of a path can stand beside that of a script which the path leads through.
    fn tells(&self, whole: Choice, script: Choice, at: &Script<'_>) -> bool {
        let (one, other) = (self.route(whole), self.route(script));
        whole == script
            || one.decision == Decision::Deny
            || other.decision == Decision::Free
            || scripts::tells(&one.path, &other.path, at.depth)
    }

    fn agree(&self, one: Choice, other: Choice) -> bool {
        one == other
            || matches!(
                (&self.route(one).decision, &self.route(other).decision),
                (Decision::Free, Decision::Free) | (Decision::Deny, Decision::Deny)
            )
    }
}
