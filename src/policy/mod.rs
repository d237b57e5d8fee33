//! What costs what: compiled once from the configuration, read on every request.

mod matcher;
mod offer;
mod path;
mod route;
mod table;

pub use matcher::{Condition, HostPattern, ValueMatch};
pub use offer::{Accept, FacilitatorId, Offer, SettleWhen, V1Mode};
pub use path::{PathError, RoutePath};
pub use route::{Decision, PathPattern, Route, RouteFacts, UpstreamId};
pub use table::{RouteError, RouteTable};

/// x
#[must_use]
pub fn normalise_host(text: &str) -> Option<std::borrow::Cow<'_, str>> {
    Some(text.into())
}
