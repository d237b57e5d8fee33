//! What receives connections: reads each HTTP/1 head under a deadline and a limit, refuses doubtful
//! framing, and hands the connection to Pingora's proxy one request at a time; of HTTP/2 it waits for
//! the preface.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::BytesMut;
use pingora::apps::{HttpPersistentSettings, HttpServerApp, ServerApp};
use pingora::protocols::http::ServerSession;
use pingora::protocols::{ALPN, GetSocketDigest as _, Stream};
use pingora::proxy::{HttpProxy, ProxyHttp};
use pingora::server::ShutdownWatch;
use tokio::io::AsyncWriteExt;

use super::head::{self, Head};
use super::inbound::{Body, Inbound};
use super::settings::Limits;
use super::site::Site;
use crate::telemetry::{Metrics, Outcome};

/// Client preface of HTTP/2 (RFC 9113 §3.4).
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A listener's application.
pub struct Front<P> {
    proxy: Arc<HttpProxy<P>>,
    site: Arc<ArcSwap<Site>>,
    h2c: bool,
    http2: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

/// Which versions of HTTP a connection may begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Http1,
    Http2,
    Either,
}

enum Arrived {
    /// The head is so many bytes of what was read ahead.
    Head(usize, Body),
    Http2,
    Refused(u16, &'static str),
    Closed,
}

/// Counts a connection while it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(counter: &'a AtomicUsize) -> Self {
        counter.fetch_add(1, Ordering::AcqRel);
        Self(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<P> Front<P> {
    /// A front for listeners that do (`h2c`) or do not answer HTTP/2 without TLS. `http2` counts the
    /// connections that speak HTTP/2.
    pub const fn new(
        proxy: Arc<HttpProxy<P>>,
        site: Arc<ArcSwap<Site>>,
        h2c: bool,
        http2: Arc<AtomicUsize>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { proxy, site, h2c, http2, metrics }
    }

    /// The limits that hold now.
    fn limits(&self) -> Limits {
        self.site.load().limits
    }

    /// Reads a head: waits `patience` for its first byte, and from then on no longer than the
    /// header timeout for all of it.
    async fn read_head(&self, inbound: &mut Inbound, patience: Duration, expected: Expected) -> Arrived {
        if inbound.ahead().is_empty()
            && !matches!(tokio::time::timeout(patience, inbound.fill()).await, Ok(true))
        {
            return Arrived::Closed;
        }
        let rest = self.read_rest(inbound, expected);
        match tokio::time::timeout(self.limits().header_timeout, rest).await {
            Ok(arrived) => arrived,
            Err(_) if expected == Expected::Http2 => Arrived::Closed,
            Err(_) => Arrived::Refused(408, "the request's head did not arrive in time"),
        }
    }

    /// Reads until it is known what has arrived.
    async fn read_rest(&self, inbound: &mut Inbound, expected: Expected) -> Arrived {
        let mut searched = 0;
        loop {
            if let Some(arrived) = self.examine(inbound.ahead(), &mut searched, expected) {
                return arrived;
            }
            if !inbound.fill().await {
                return Arrived::Closed;
            }
        }
    }

    /// What has arrived; `None`: more bytes are needed to know.
    fn examine(&self, bytes: &mut BytesMut, searched: &mut usize, expected: Expected) -> Option<Arrived> {
        // Empty lines before a request are to be ignored (RFC 9112 §2.2).
        while *searched == 0 && expected != Expected::Http2 && bytes.starts_with(b"\r\n") {
            let _ = bytes.split_to(2);
        }
        let preface = &H2_PREFACE[..bytes.len().min(H2_PREFACE.len())];
        if expected != Expected::Http1 && bytes.starts_with(preface) {
            return (preface.len() == H2_PREFACE.len()).then_some(Arrived::Http2);
        }
        if expected == Expected::Http2 {
            return Some(Arrived::Closed);
        }
        let examined = head::examine(bytes, *searched);
        let too_large = match examined {
            Head::Complete(end, _) => end > self.limits().header_bytes,
            Head::Partial | Head::Refused(_) => bytes.len() > self.limits().header_bytes,
        };
        *searched = bytes.len();
        match examined {
            _ if too_large => Some(Arrived::Refused(431, "the request's head is too large")),
            Head::Complete(end, body) => Some(Arrived::Head(end, body)),
            Head::Refused(reason) => Some(Arrived::Refused(400, reason)),
            Head::Partial => None,
        }
    }

    async fn refuse(&self, inbound: &mut Inbound, status: u16, reason: &str) {
        let title = match status {
            408 => "Request Timeout",
            431 => "Request Header Fields Too Large",
            _ => "Bad Request",
        };
        let body = format!("{{\"error\":\"{reason}\"}}");
        let answer = format!(
            "HTTP/1.1 {status} {title}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Cache-Control: no-store\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        self.log(inbound, status, reason);
        let write = async {
            inbound.write_all(answer.as_bytes()).await?;
            inbound.flush().await
        };
        // The client may be gone, or never read: nothing depends on the answer arriving.
        if let Ok(Ok(())) = tokio::time::timeout(self.limits().write_timeout, write).await {
            inbound.linger().await;
        }
    }

    /// The line of the access log for what never became a request that Pingora could see.
    fn log(&self, inbound: &Inbound, status: u16, reason: &str) {
        let outcome = Outcome::BadRequest;
        self.metrics.request(&Arc::from("none"), outcome, Duration::ZERO);
        let socket = inbound.get_socket_digest();
        tracing::info!(
            status,
            route = "none",
            outcome = outcome.label(),
            client = socket.as_ref().and_then(|socket| socket.peer_addr()).map(tracing::field::display),
            detail = reason,
            "request"
        );
    }
}

impl<P> Front<P>
where
    P: ProxyHttp + Send + Sync + 'static,
    P::CTX: Send + Sync,
{
    async fn serve(&self, stream: Stream, shutdown: &ShutdownWatch) -> Option<()> {
        let mut expected = if matches!(stream.selected_alpn_proto(), Some(ALPN::H2)) {
            Expected::Http2
        } else if self.h2c && stream.get_ssl_digest().is_none() {
            Expected::Either
        } else {
            Expected::Http1
        };
        let mut inbound = Box::new(Inbound::new(stream, self.limits().write_timeout));
        // The first request of a connection is expected soon, a further one whenever.
        let mut patience = self.limits().header_timeout;
        let mut settings = None;
        loop {
            let mut closing = shutdown.clone();
            let arrived = tokio::select! {
                biased;
                arrived = self.read_head(&mut inbound, patience, expected) => arrived,
                _ = closing.wait_for(|closing| *closing) => return None,
            };
            let (end, body) = match arrived {
                Arrived::Head(end, body) => (end, body),
                Arrived::Http2 => return self.serve_http2(inbound, shutdown).await,
                Arrived::Refused(status, reason) => {
                    self.refuse(&mut inbound, status, reason).await;
                    return None;
                }
                Arrived::Closed => return None,
            };
            (inbound, settings) = self.serve_request(inbound, end, body, settings, shutdown).await?;
            if *shutdown.borrow() || !inbound.is_between_requests() {
                return None;
            }
            patience = self.limits().keepalive_timeout;
            expected = Expected::Http1;
        }
    }

    /// Lets Pingora answer one request; gives the connection back if it can be used again.
    async fn serve_request(
        &self,
        mut inbound: Box<Inbound>,
        end: usize,
        body: Body,
        settings: Option<HttpPersistentSettings>,
        shutdown: &ShutdownWatch,
    ) -> Option<(Box<Inbound>, Option<HttpPersistentSettings>)> {
        let head = inbound.begin(end, body);
        let mut session = ServerSession::new_http1(inbound);
        if let Some(settings) = settings {
            settings.apply_to_session(&mut session);
        }
        session.set_pipelined_prefix(head);
        let (stream, settings) = self.proxy.process_new_http(session, shutdown).await?.consume();
        Some((stream.into_any().downcast().ok()?, settings))
    }

    /// Leaves the connection, its preface included, to Pingora's HTTP/2 server.
    async fn serve_http2(&self, mut inbound: Box<Inbound>, shutdown: &ShutdownWatch) -> Option<()> {
        let _counted = Counted::new(&self.http2);
        inbound.begin_http2();
        self.proxy.process_new(inbound, shutdown).await;
        Some(())
    }
}

#[async_trait]
impl<P> ServerApp for Front<P>
where
    P: ProxyHttp + Send + Sync + 'static,
    P::CTX: Send + Sync,
{
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        self.serve(stream, shutdown).await;
        None
    }

    async fn cleanup(&self) {
        self.proxy.http_cleanup().await;
    }
}
