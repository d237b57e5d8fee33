//! What the operator wrote, and what the program runs on.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::facilitator::settings::FacilitatorSettings;
use crate::policy::RouteTable;
use crate::proxy::settings::{Cors, Limits, Listener, Upstream};
use crate::x402::Money;

/// A configuration that was checked whole; the gateway runs on it.
#[derive(Debug)]
pub struct Config {
    /// Where clients connect; at least one.
    pub listeners: Vec<Listener>,
    /// The operator's private address, unless switched off.
    pub admin: Option<SocketAddr>,
    /// What clients see of the site: scheme and authority, without a trailing slash.
    pub public_url: String,
    /// Upstreams; [`crate::policy::UpstreamId`] is an index into them.
    pub upstreams: Vec<Upstream>,
    /// Facilitators, each once.
    pub facilitators: Vec<FacilitatorSettings>,
    /// Which facilitators stand in for each other, in order: indexes into `facilitators`;
    /// [`crate::policy::FacilitatorId`] is an index into this list.
    pub facilitator_groups: Vec<Vec<usize>>,
    /// Routes and the default.
    pub routes: Arc<RouteTable>,
    /// Limits on clients.
    pub limits: Limits,
    /// Most payments remembered at a time; beyond it priced routes answer 503.
    pub max_claims: usize,
    /// Most verifications under way at a time; beyond it priced routes answer 503.
    pub verify_in_flight: usize,
    /// Seconds a payment must stay valid when it arrives: the origin's time and the settlement's.
    pub origin_time_seconds: u64,
    /// Cross-origin policy of the gateway's own answers.
    pub cors: Cors,
    /// How the log is written.
    pub log: LogSettings,
    /// What every payer has at first in the sandbox.
    pub sandbox_balance: Money,
}

/// How the log is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// JSON lines instead of text.
    pub json: bool,
    /// `error`, `warn`, `info`, `debug`, `trace`.
    pub level: tracing::Level,
}
