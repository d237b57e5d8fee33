//! Where requests go: upstreams as Pingora's peers.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::header::HeaderValue;
use pingora::listeners::ALPN;
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::{WrappedX509, parse_x509};
use pingora::{Error, ErrorType};

use super::settings::{HostPolicy, Upstream, UpstreamAddress, UpstreamHttp};
use super::upgrade::InTurn;

/// Window of an HTTP/2 stream from an origin. Pingora's 8 MiB would let an origin push that much
/// into memory while an answer waits for settlement.
const H2_STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// Window of an HTTP/2 connection to an origin, for all its streams.
const H2_CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Concurrent streams on an HTTP/2 connection to an origin.
const H2_STREAMS: usize = 100;
/// What sets the connections of `WebSocket` requests apart from others.
const WEBSOCKETS: u64 = 1 << 63;

/// An upstream, ready for connections.
pub(super) struct Peers {
    settings: Upstream,
    template: HttpPeer,
    kind: Kind,
    /// The `Host` to send; `None`: the client's.
    host: Option<HeaderValue>,
    own_host: HeaderValue,
    /// Whether connections of HTTP/1 are used again after a request with a body.
    pub(super) reuse_after_body: bool,
    next: AtomicUsize,
}

enum Kind {
    /// The template's address stands.
    Fixed,
    /// A name, with the addresses it had last.
    Named { host: String, port: u16, addresses: ArcSwap<Vec<SocketAddr>> },
}

/// Why an upstream cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("upstream {name}: {cause}")]
pub struct UpstreamError {
    /// Name of the upstream.
    pub name: String,
    /// What is wrong with it.
    pub cause: String,
}

impl Peers {
    /// Prepares an upstream. `demo` is where the built-in demo site listens.
    pub(super) fn new(upstream: &Upstream, demo: SocketAddr) -> Result<Self, UpstreamError> {
        let fail = |cause: String| UpstreamError { name: upstream.name.clone(), cause };
        let unresolved = SocketAddr::from(([0, 0, 0, 0], 0));
        let (mut template, kind, own_host) = match &upstream.address {
            UpstreamAddress::Demo => {
                (HttpPeer::new(demo, false, String::new()), Kind::Fixed, demo.to_string())
            }
            UpstreamAddress::Unix(path) => {
                let path = path.to_str().ok_or_else(|| fail("the socket's path is not UTF-8".into()))?;
                let peer =
                    HttpPeer::new_uds(path, false, String::new()).map_err(|error| fail(error.to_string()))?;
                (peer, Kind::Fixed, "localhost".to_owned())
            }
            UpstreamAddress::Tcp { host, port, tls } => {
                let sni = upstream.sni.clone().unwrap_or_else(|| host.clone());
                let sni = if *tls { sni } else { String::new() };
                let bare = host.trim_start_matches('[').trim_end_matches(']');
                let own_host = authority(host, *port, *tls);
                if let Ok(address) = bare.parse::<std::net::IpAddr>() {
                    (HttpPeer::new(SocketAddr::new(address, *port), *tls, sni), Kind::Fixed, own_host)
                } else {
                    let addresses = ArcSwap::default();
                    let kind = Kind::Named { host: host.clone(), port: *port, addresses };
                    (HttpPeer::new(unresolved, *tls, sni), kind, own_host)
                }
            }
        };
        set_options(&mut template, upstream).map_err(fail)?;
        // Upstreams do not share connections, even where they share an address.
        template.group_key = fingerprint(upstream) & !WEBSOCKETS;
        let header = |host: &str| {
            HeaderValue::try_from(host).map_err(|_| fail("its Host is not a header value".into()))
        };
        let own_host = header(&own_host)?;
        let host = match &upstream.host {
            HostPolicy::Preserve => None,
            HostPolicy::Upstream => Some(own_host.clone()),
            HostPolicy::Fixed(host) => Some(header(host)?),
        };
        let reuse_after_body = upstream.reuse_after_body;
        let next = AtomicUsize::new(0);
        Ok(Self { settings: upstream.clone(), template, kind, host, own_host, reuse_after_body, next })
    }

    /// Whether this is an upstream with these settings.
    pub(super) fn is(&self, upstream: &Upstream) -> bool {
        self.settings == *upstream
    }

    /// The `Host` to send for a client's. Clients of HTTP/1.0 may send none; the upstream's own
    /// stands in for it, because HTTP/2 cannot do without.
    pub(super) fn host_for<'a>(&'a self, clients: Option<&'a HeaderValue>) -> &'a HeaderValue {
        self.host.as_ref().or(clients).unwrap_or(&self.own_host)
    }

    /// A peer for the next connection; addresses of a name take turns. A WebSocket begins with
    /// HTTP/1.1 (RFC 6455 §4.1), on a connection of its own.
    pub(super) async fn peer(&self, websocket: bool) -> pingora::Result<Box<HttpPeer>> {
        let mut peer = Box::new(self.template.clone());
        if websocket && peer.options.alpn.get_min_http_version() == 1 {
            peer.options.alpn = ALPN::H1;
            peer.options.custom_l4 = Some(Arc::new(InTurn));
            peer.options.idle_timeout = Some(Duration::ZERO);
            peer.group_key |= WEBSOCKETS;
        }
        if let Kind::Named { addresses, .. } = &self.kind {
            if addresses.load().is_empty() {
                self.resolve().await;
            }
            let addresses = addresses.load();
            let turn = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(address) = addresses.get(turn.checked_rem(addresses.len()).unwrap_or(0)) else {
                let name = &self.settings.name;
                return Error::e_explain(
                    ErrorType::ConnectNoRoute,
                    format!("the name of upstream {name} has no address"),
                )
                .map_err(|error: Box<Error>| error.into_up());
            };
            peer._address = (*address).into();
        }
        Ok(peer)
    }

    /// Looks the name up again; on failure the addresses it had last stay.
    pub(super) async fn resolve(&self) {
        let Kind::Named { host, port, addresses } = &self.kind else { return };
        let lookup = tokio::net::lookup_host((host.as_str(), *port));
        match tokio::time::timeout(Duration::from_secs(5), lookup).await {
            Ok(Ok(found)) => {
                let found: Vec<SocketAddr> = found.collect();
                if !found.is_empty() && **addresses.load() != found {
                    tracing::info!(
                        upstream = self.settings.name,
                        ?found,
                        "the upstream's name was looked up"
                    );
                    addresses.store(Arc::new(found));
                }
            }
            Ok(Err(error)) => {
                tracing::warn!(upstream = self.settings.name, %error, "the upstream's name cannot be looked up");
            }
            Err(_) => {
                tracing::warn!(upstream = self.settings.name, "looking up the upstream's name took too long");
            }
        }
    }
}

/// Tells upstreams apart, also those of configurations before: a connection is only used for the settings
/// that it was made with.
fn fingerprint(upstream: &Upstream) -> u64 {
    let mut hasher = DefaultHasher::new();
    upstream.hash(&mut hasher);
    hasher.finish()
}

fn authority(host: &str, port: u16, tls: bool) -> String {
    let default = if tls { 443 } else { 80 };
    if port == default { host.to_owned() } else { format!("{host}:{port}") }
}

fn set_options(peer: &mut HttpPeer, upstream: &Upstream) -> Result<(), String> {
    let options = &mut peer.options;
    options.connection_timeout = Some(upstream.connect_timeout);
    options.total_connection_timeout = Some(upstream.connect_timeout);
    options.read_timeout = Some(upstream.read_timeout);
    options.write_timeout = Some(upstream.write_timeout);
    options.idle_timeout = Some(upstream.idle_timeout);
    options.verify_cert = upstream.verify;
    options.verify_hostname = upstream.verify;
    options.max_h2_streams = H2_STREAMS;
    options.h2_stream_window_size = Some(H2_STREAM_WINDOW_BYTES);
    options.h2_connection_window_size = Some(H2_CONNECTION_WINDOW_BYTES);
    options.alpn = match upstream.http {
        UpstreamHttp::Auto => ALPN::H2H1,
        UpstreamHttp::Http1 => ALPN::H1,
        UpstreamHttp::Http2 => ALPN::H2,
    };
    // Without TLS nothing is negotiated, and Pingora would take H2H1 for HTTP/1.1 anyway.
    if upstream.http == UpstreamHttp::Auto && !peer.is_tls() {
        peer.options.alpn = ALPN::H1;
    }
    if let Some(path) = &upstream.ca_file {
        let pem = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let found = rustls::pki_types::pem::PemObject::pem_slice_iter(&pem)
            .collect::<Result<Vec<rustls::pki_types::CertificateDer<'static>>, _>>()
            .map_err(|error| format!("{}: {error}", path.display()))?;
        if found.is_empty() {
            return Err(format!("{}: no certificate in it", path.display()));
        }
        // Pingora's own parser takes the certificates for good.
        let mut store = rustls::RootCertStore::empty();
        for certificate in &found {
            store.add(certificate.clone()).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        let wrapped: Vec<WrappedX509> =
            found.into_iter().map(|cert| WrappedX509::new(cert.to_vec(), parse_x509)).collect();
        peer.options.ca = Some(wrapped.into());
    }
    Ok(())
}
