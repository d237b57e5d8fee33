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
mod site;
mod tls;
mod upgrade;
mod upstream;
mod wire;
mod would;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use pingora::apps::HttpServerOptions;
use pingora::listeners::tls::TlsSettings;
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::protocols::http::v2::server::default_h2_options;
use pingora::proxy::{HttpProxy, http_proxy};
use pingora::server::configuration::ServerConf;
use pingora::services::listening::Service;
use rustls::server::ResolvesServerCert;

use self::front::Front;
use self::settings::Listener;
pub use self::site::{Site, SiteParts, keep_resolving};
pub use self::tls::{Certificates, Chains};
pub use self::upstream::UpstreamError;
use crate::telemetry::Metrics;

/// Bytes read or written at a time. Pingora's default of 1460 for writes costs a challenge a
/// second system call.
const SOCKET_BUFFER_BYTES: usize = 16 * 1024;

/// The proxy: answers each request by the site as it is configured when the request begins.
pub struct Paywall {
    site: Arc<ArcSwap<Site>>,
    metrics: Arc<Metrics>,
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
    /// A proxy for a site.
    #[must_use]
    pub fn new(site: Site) -> Self {
        let metrics = Arc::clone(&site.metrics);
        let site = Arc::new(ArcSwap::from_pointee(site));
        Self { site, metrics, running: Arc::default(), http2: Arc::default() }
    }

    /// The site, to be exchanged for another: requests that begin from then on are answered by it.
    #[must_use]
    pub fn site(&self) -> Arc<ArcSwap<Site>> {
        Arc::clone(&self.site)
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

    fn in_flight(&self) -> InFlight {
        self.running.fetch_add(1, Ordering::AcqRel);
        self.metrics.in_flight().inc();
        InFlight(Arc::clone(&self.running), Arc::clone(&self.metrics))
    }
}

/// The services that listen, with the certificates of each listener: one for all listeners of a kind.
///
/// # Errors
/// Why TLS cannot be set up.
pub fn services(
    paywall: Paywall,
    listeners: &[Listener],
    certificates: &[Arc<Certificates>],
    conf: &Arc<ServerConf>,
) -> Result<Vec<Service<Front<Paywall>>>, String> {
    let (site, http2) = (paywall.site(), paywall.http2_connections());
    let limits = site.load().limits;
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
        let mut listening =
            listeners.iter().zip(certificates).filter(|(listener, _)| listener.h2c == h2c).peekable();
        if listening.peek().is_none() {
            continue;
        }
        let front =
            Front::new(Arc::clone(&proxy), Arc::clone(&site), h2c, Arc::clone(&http2), Arc::clone(&metrics));
        let mut service = Service::new("paywall".to_owned(), front);
        for (listener, certificates) in listening {
            service.add_listener(endpoint(listener, certificates)?);
        }
        services.push(service);
    }
    Ok(services)
}

fn endpoint(listener: &Listener, certificates: &Arc<Certificates>) -> Result<ListenerConfig, String> {
    let buffers = L4BufferSettings::new(SOCKET_BUFFER_BYTES, SOCKET_BUFFER_BYTES);
    let endpoint = ListenerConfig::tcp(listener.address.to_string()).l4_buffer(buffers);
    if listener.tls.is_empty() {
        return Ok(endpoint);
    }
    let mut tls = TlsSettings::intermediate("", "").map_err(|error| error.to_string())?;
    tls.set_cert_resolver(Arc::clone(certificates) as Arc<dyn ResolvesServerCert>);
    tls.enable_h2();
    Ok(endpoint.tls(tls))
}
