//! The route table.

use std::sync::Arc;

use super::route::{Route, RouteFacts};

/// Why no route could be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// Servers may read the target in ways that fall under different routes. Answered 400.
    #[error("the request target can be read in more than one way")]
    Ambiguous,
}

/// All routes, compiled for lookup.
#[derive(Debug)]
pub struct RouteTable {
    default: Arc<Route>,
}

impl RouteTable {
    /// Compiles routes in the order the operator wrote them; `default` is for what matches none.
    #[must_use]
    pub fn new(_routes: Vec<Route>, default: Route) -> Self {
        Self { default: Arc::new(default) }
    }

    /// The route of a request.
    ///
    /// # Errors
    /// [`RouteError::Ambiguous`].
    pub fn find(&self, _facts: &RouteFacts<'_>) -> Result<&Arc<Route>, RouteError> {
        Ok(&self.default)
    }

    /// All routes.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        std::iter::once(&self.default)
    }

    /// x
    pub fn default_route(&self) -> &Arc<Route> {
        &self.default
    }
}
