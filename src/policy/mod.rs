//! What costs what: compiled once from the configuration, read on every request.

mod example;
mod explain;
mod glob;
mod host;
mod index;
mod letters;
mod listing;
mod matcher;
mod offer;
mod path;
mod pattern;
mod readings;
mod route;
mod scripts;
mod shadow;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod tree;
mod unreachable;

pub use example::Example;
pub use explain::{Explanation, Loss, Lost};
pub use glob::Glob;
pub use host::{HostPattern, normalise_host};
pub use listing::{PriceList, PriceListError, Quote};
pub use matcher::{Condition, ValueMatch};
pub use offer::{Accept, FacilitatorId, Offer, SettleWhen, V1Mode};
pub use path::{PATH_BYTES_MAX, PathError, RoutePath};
pub use pattern::{
    PATTERN_BYTES_MAX, PATTERN_SEGMENTS_MAX, PathPattern, PathRegex, PatternError, PatternProblem,
};
pub use route::{Decision, Route, RouteFacts, UpstreamId};
pub use shadow::{Shadow, Would};
pub use table::{Choice, RouteError, RouteTable};
pub use unreachable::Unreachable;
