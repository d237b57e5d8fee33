//! The site that the gateway stands in front of, as one configuration has it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::header::HeaderValue;

use super::context::Plan;
use super::respond::Responder;
use super::settings::{Cors, Limits, Upstream};
use super::upstream::{Peers, UpstreamError};
use crate::payment::Gate;
use crate::policy::{Route, RouteTable, Shadow};
use crate::telemetry::Metrics;
use crate::x402::PaymentRequirements;

/// How long a looked-up address is used before the name is looked up again.
const RESOLVE_EVERY: Duration = Duration::from_secs(30);

/// What a site is made of.
pub struct SiteParts<'a> {
    /// Who decides.
    pub gate: Gate,
    /// What costs what.
    pub routes: Arc<RouteTable>,
    /// What would cost something, if it were in force.
    pub shadow: Option<Arc<Shadow>>,
    /// Upstreams, by [`crate::policy::UpstreamId`].
    pub upstreams: &'a [Upstream],
    /// Where the built-in demo site listens.
    pub demo: SocketAddr,
    /// Scheme and authority that clients see.
    pub public_url: String,
    /// Limits on clients.
    pub limits: Limits,
    /// Cross-origin policy of the gateway's own answers.
    pub cors: Cors,
    /// Metrics.
    pub metrics: Arc<Metrics>,
}

/// What a request is answered by, from its beginning to its end.
pub struct Site {
    pub(super) gate: Gate,
    pub(super) routes: Arc<RouteTable>,
    pub(super) shadow: Option<Arc<Shadow>>,
    upstreams: Vec<Arc<Peers>>,
    pub(super) public_url: String,
    pub(super) public_scheme: &'static str,
    pub(super) limits: Limits,
    pub(super) responder: Responder,
    pub(super) metrics: Arc<Metrics>,
    labels: HashMap<String, (Arc<str>, HeaderValue)>,
    no_route: Arc<str>,
    /// Names of the headers that routes are chosen by.
    pub(super) decisive_headers: Vec<String>,
}

impl Site {
    /// Puts a site together. Upstreams that were the same in the site `before` stay what they are, with
    /// their connections.
    ///
    /// # Errors
    /// [`UpstreamError`] when an upstream cannot be used as configured.
    pub fn new(parts: SiteParts<'_>, before: Option<&Self>) -> Result<Self, UpstreamError> {
        let peers = |upstream: &Upstream| {
            let same = before.and_then(|before| before.upstreams.iter().find(|peers| peers.is(upstream)));
            same.map_or_else(|| Peers::new(upstream, parts.demo).map(Arc::new), |peers| Ok(Arc::clone(peers)))
        };
        let upstreams = parts.upstreams.iter().map(peers).collect::<Result<_, _>>()?;
        let label = |route: &Arc<Route>| {
            let header = HeaderValue::try_from(&*route.name);
            let header = header.unwrap_or_else(|_| HeaderValue::from_static("unnamed"));
            (route.name.clone(), (Arc::from(&*route.name), header))
        };
        let conditions = parts.routes.all().flat_map(|route| &route.headers);
        let mut decisive_headers: Vec<String> = conditions.map(|condition| condition.name.clone()).collect();
        decisive_headers.sort_unstable();
        decisive_headers.dedup();
        let public_scheme = if parts.public_url.starts_with("https:") { "https" } else { "http" };
        Ok(Self {
            labels: parts.routes.all().map(label).collect(),
            gate: parts.gate,
            routes: parts.routes,
            shadow: parts.shadow,
            upstreams,
            public_url: parts.public_url,
            public_scheme,
            limits: parts.limits,
            responder: Responder::new(parts.cors),
            metrics: parts.metrics,
            no_route: Arc::from("none"),
            decisive_headers,
        })
    }

    /// The gate that decides on its requests.
    #[must_use]
    pub const fn gate(&self) -> &Gate {
        &self.gate
    }

    pub(super) fn upstream(&self, plan: &Plan) -> &Peers {
        // The configuration gives every route one of its own upstreams.
        &self.upstreams[plan.route.upstream.0]
    }

    pub(super) fn route_header(&self, route: &Route) -> HeaderValue {
        let label = self.labels.get(&route.name).map(|(_, header)| header.clone());
        label.unwrap_or_else(|| HeaderValue::from_static("unnamed"))
    }

    pub(super) fn route_label(&self, route: Option<&Route>) -> Arc<str> {
        let label = route.and_then(|route| self.labels.get(&route.name));
        Arc::clone(label.map_or(&self.no_route, |(label, _)| label))
    }

    #[allow(clippy::cast_precision_loss)] // Prometheus counts in floats; exact sums are in the log.
    pub(super) fn count_revenue(&self, route: &Route, terms: &PaymentRequirements) {
        let amount = f64::from(terms.amount.0);
        let label = self.route_label(Some(route));
        self.metrics.revenue(&label, terms.network.as_str(), &terms.asset, amount);
    }
}

/// Looks the names of a site's upstreams up, now and then on, whichever site it is.
pub async fn keep_resolving(site: Arc<ArcSwap<Site>>) {
    loop {
        let upstreams = site.load().upstreams.clone();
        for upstream in upstreams {
            upstream.resolve().await;
        }
        tokio::time::sleep(RESOLVE_EVERY).await;
    }
}
