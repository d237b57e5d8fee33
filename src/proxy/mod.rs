//! The only module that knows Pingora (besides `gateway`, which starts it).
//!
//! It translates: a session into facts, the gate's decisions into HTTP, an upstream into a peer.

mod access;
mod admission;
mod arrival;
pub mod chunks;
mod context;
mod facts;
mod failure;
mod front;
pub mod head;
mod headers;
mod inbound;
pub mod paywall;
mod respond;
mod service;
pub mod settings;
mod tls;
mod upgrade;
mod upstream;
mod wire;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::header::HeaderValue;
use pingora::apps::HttpServerOptions;
use pingora::listeners::tls::TlsSettings;
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::protocols::http::v2::server::default_h2_options;
use pingora::proxy::{HttpProxy, http_proxy};
use pingora::server::configuration::ServerConf;
use pingora::services::listening::Service;

use self::context::Plan;
use self::front::Front;
use self::respond::Responder;
use self::settings::{Cors, Limits, Listener, Upstream};
use self::upstream::Peers;
pub use self::upstream::UpstreamError;
use crate::payment::Gate;
use crate::policy::{Route, RouteTable};
use crate::telemetry::Metrics;
use crate::x402::PaymentRequirements;

/// Bytes read or written at a time. Pingora's default of 1460 for writes costs a challenge a
/// second system call.
const SOCKET_BUFFER_BYTES: usize = 16 * 1024;

/// What the proxy is made of.
pub struct PaywallParts<'a> {
    /// Who decides.
    pub gate: Gate,
    /// What costs what.
    pub routes: Arc<RouteTable>,
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

/// The proxy.
pub struct Paywall {
    gate: Gate,
    routes: Arc<RouteTable>,
    upstreams: Arc<Vec<Peers>>,
    public_url: String,
    public_scheme: &'static str,
    limits: Limits,
    responder: Responder,
    metrics: Arc<Metrics>,
    labels: HashMap<String, (Arc<str>, HeaderValue)>,
    no_route: Arc<str>,
    decisive_headers: Vec<String>,
    running: Arc<AtomicUsize>,
    http2: Arc<AtomicUsize>,
}

/// Counts a request as in flight while it lives.
pub(crate) struct InFlight(Arc<AtomicUsize>, Arc<Metrics>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
        self.1.in_flight().dec();
    }
}

impl Paywall {
    /// Puts the proxy together.
    ///
    /// # Errors
    /// [`UpstreamError`] when an upstream cannot be used as configured.
    pub fn new(parts: PaywallParts<'_>) -> Result<Self, UpstreamError> {
        let upstreams = parts
            .upstreams
            .iter()
            .enumerate()
            .map(|(index, upstream)| Peers::new(index, upstream, parts.demo))
            .collect::<Result<_, _>>()?;
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
            upstreams: Arc::new(upstreams),
            public_url: parts.public_url,
            public_scheme,
            limits: parts.limits,
            responder: Responder::new(parts.cors),
            metrics: parts.metrics,
            no_route: Arc::from("none"),
            decisive_headers,
            running: Arc::default(),
            http2: Arc::default(),
        })
    }

    /// Requests being answered; stays valid after the proxy is started.
    #[must_use]
    pub fn running(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.running)
    }

    /// Connections that speak HTTP/2; stays valid after the proxy is started. What was answered may
    /// still be on its way as long as they are open.
    #[must_use]
    pub fn http2_connections(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.http2)
    }

    /// A task that looks upstreams' names up, now and then on.
    pub fn resolver(&self) -> impl Future<Output = ()> + Send + 'static {
        let upstreams = Arc::clone(&self.upstreams);
        async move {
            loop {
                for upstream in upstreams.iter() {
                    upstream.resolve().await;
                }
                tokio::time::sleep(upstream::RESOLVE_EVERY).await;
            }
        }
    }

    fn in_flight(&self) -> InFlight {
        self.running.fetch_add(1, Ordering::AcqRel);
        self.metrics.in_flight().inc();
        InFlight(Arc::clone(&self.running), Arc::clone(&self.metrics))
    }

    fn upstream(&self, plan: &Plan) -> &Peers {
        // The configuration gives every route one of its own upstreams.
        &self.upstreams[plan.route.upstream.0]
    }

    fn route_header(&self, route: &Route) -> HeaderValue {
        let label = self.labels.get(&route.name).map(|(_, header)| header.clone());
        label.unwrap_or_else(|| HeaderValue::from_static("unnamed"))
    }

    fn route_label(&self, route: Option<&Route>) -> Arc<str> {
        let label = route.and_then(|route| self.labels.get(&route.name));
        Arc::clone(label.map_or(&self.no_route, |(label, _)| label))
    }

    #[allow(clippy::cast_precision_loss)] // Prometheus counts in floats; exact sums are in the log.
    fn count_revenue(&self, route: &Route, terms: &PaymentRequirements) {
        let amount = f64::from(terms.amount.0);
        let label = self.route_label(Some(route));
        self.metrics.revenue(&label, terms.network.as_str(), &terms.asset, amount);
    }
}

/// The services that listen: one for all listeners of a kind.
///
/// # Errors
/// Which certificate file cannot be used, and why.
pub fn services(
    paywall: Paywall,
    listeners: &[Listener],
    conf: &Arc<ServerConf>,
) -> Result<Vec<Service<Front<Paywall>>>, String> {
    let (limits, http2) = (paywall.limits, paywall.http2_connections());
    let metrics = Arc::clone(&paywall.metrics);
    let mut proxy: HttpProxy<Paywall> = http_proxy(conf, paywall);
    let mut options = HttpServerOptions::default();
    options.h2c = true; // Only reached when `Front` has seen the preface.
    options.h2_idle_timeout = Some(limits.keepalive_timeout);
    proxy.server_options = Some(options);
    let mut http2_options = default_h2_options();
    http2_options.max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX));
    proxy.h2_options = Some(http2_options);
    let proxy = Arc::new(proxy);
    let mut services = Vec::new();
    for h2c in [false, true] {
        let mut listening = listeners.iter().filter(|listener| listener.h2c == h2c).peekable();
        if listening.peek().is_none() {
            continue;
        }
        let front = Front::new(Arc::clone(&proxy), limits, h2c, Arc::clone(&http2), Arc::clone(&metrics));
        let mut service = Service::new("paywall".to_owned(), front);
        for listener in listening {
            service.add_listener(endpoint(listener)?);
        }
        services.push(service);
    }
    Ok(services)
}

fn endpoint(listener: &Listener) -> Result<ListenerConfig, String> {
    let buffers = L4BufferSettings::new(SOCKET_BUFFER_BYTES, SOCKET_BUFFER_BYTES);
    let endpoint = ListenerConfig::tcp(listener.address.to_string()).l4_buffer(buffers);
    if listener.tls.is_empty() {
        return Ok(endpoint);
    }
    let certificates = tls::Certificates::load(&listener.tls)?;
    let mut tls = TlsSettings::intermediate("", "").map_err(|error| error.to_string())?;
    tls.set_cert_resolver(Arc::new(certificates));
    tls.enable_h2();
    Ok(endpoint.tls(tls))
}
