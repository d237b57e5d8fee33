//! What receives connections: reads each HTTP/1 head under a deadline and a limit, refuses doubtful
//! framing, and hands the connection to Pingora's proxy; HTTP/2 goes there directly.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use pingora::apps::{HttpServerApp, ServerApp};
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::protocols::{ALPN, Stream};
use pingora::proxy::{HttpProxy, ProxyHttp};
use pingora::server::ShutdownWatch;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::head::{self, Head};
use super::settings::Limits;

/// Client preface of HTTP/2 (RFC 9113 §3.4).
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A listener's application.
pub struct Front<P> {
    proxy: Arc<HttpProxy<P>>,
    limits: Limits,
    h2c: bool,
}

enum Arrived {
    Head(BytesMut),
    Http2(BytesMut),
    Refused(u16, &'static str),
    Closed,
}

impl<P> Front<P> {
    /// A front for listeners that do (`h2c`) or do not answer HTTP/2 without TLS.
    pub const fn new(proxy: Arc<HttpProxy<P>>, limits: Limits, h2c: bool) -> Self {
        Self { proxy, limits, h2c }
    }

    /// Reads a head: waits `patience` for its first byte, and from then on no longer than the
    /// header timeout for all of it.
    async fn read_head(&self, stream: &mut Stream, patience: Duration, may_be_h2: bool) -> Arrived {
        let mut bytes = BytesMut::with_capacity(2048);
        match tokio::time::timeout(patience, stream.read_buf(&mut bytes)).await {
            Ok(Ok(0) | Err(_)) | Err(_) => return Arrived::Closed,
            Ok(Ok(_)) => {}
        }
        let rest = self.read_rest(stream, &mut bytes, may_be_h2);
        match tokio::time::timeout(self.limits.header_timeout, rest).await {
            Ok(Arrived::Head(_)) => Arrived::Head(bytes),
            Ok(Arrived::Http2(_)) => Arrived::Http2(bytes),
            Ok(other) => other,
            Err(_) => Arrived::Refused(408, "the request's head did not arrive in time"),
        }
    }

    /// Reads until it is known what has arrived; the bytes themselves stay in `bytes`.
    async fn read_rest(&self, stream: &mut Stream, bytes: &mut BytesMut, may_be_h2: bool) -> Arrived {
        let mut searched = 0;
        loop {
            // Empty lines before a request are to be ignored (RFC 9112 §2.2).
            if searched == 0 {
                while bytes.starts_with(b"\r\n") {
                    let _ = bytes.split_to(2);
                }
            }
            let preface = &H2_PREFACE[..bytes.len().min(H2_PREFACE.len())];
            if may_be_h2 && !bytes.is_empty() && bytes.starts_with(preface) {
                if preface.len() == H2_PREFACE.len() {
                    return Arrived::Http2(BytesMut::new());
                }
            } else {
                match head::examine(bytes, searched) {
                    Head::Complete => return Arrived::Head(BytesMut::new()),
                    Head::Refused(reason) => return Arrived::Refused(400, reason),
                    Head::Partial => searched = bytes.len(),
                }
                if bytes.len() > self.limits.header_bytes {
                    return Arrived::Refused(431, "the request's head is too large");
                }
            }
            match stream.read_buf(bytes).await {
                Ok(0) | Err(_) => return Arrived::Closed,
                Ok(_) => {}
            }
        }
    }

    async fn refuse(&self, stream: &mut Stream, status: u16, reason: &str) {
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
        tracing::debug!(status, reason, "a connection was refused");
        let write = async {
            stream.write_all(answer.as_bytes()).await?;
            stream.flush().await?;
            stream.shutdown().await
        };
        // The client may be gone, or never read: nothing depends on the answer arriving.
        let _ = tokio::time::timeout(self.limits.write_timeout, write).await;
    }
}

impl<P> Front<P>
where
    P: ProxyHttp + Send + Sync + 'static,
    P::CTX: Send + Sync,
{
    async fn serve_http1(&self, mut stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        // The first request of a connection is expected soon, a further one whenever.
        let mut patience = self.limits.header_timeout;
        let mut settings = None;
        let encrypted = stream.get_ssl_digest().is_some();
        let mut first = true;
        loop {
            let mut closing = shutdown.clone();
            let arrived = tokio::select! {
                biased;
                arrived = self.read_head(&mut stream, patience, first && self.h2c && !encrypted) => arrived,
                _ = closing.wait_for(|closing| *closing) => return None,
            };
            let bytes = match arrived {
                Arrived::Head(bytes) => bytes,
                Arrived::Http2(bytes) => return self.serve_h2c(stream, &bytes, shutdown).await,
                Arrived::Refused(status, reason) => {
                    self.refuse(&mut stream, status, reason).await;
                    return None;
                }
                Arrived::Closed => return None,
            };
            let mut session = pingora::protocols::http::ServerSession::new_http1(stream);
            if let Some(settings) = settings.take() {
                pingora::apps::HttpPersistentSettings::apply_to_session(settings, &mut session);
            }
            session.set_pipelined_prefix(bytes);
            let reusable = self.proxy.process_new_http(session, shutdown).await?;
            (stream, settings) = reusable.consume();
            patience = self.limits.keepalive_timeout;
            first = false;
        }
    }

    /// Puts the preface back and leaves the connection to Pingora's HTTP/2 server.
    async fn serve_h2c(&self, stream: Stream, preface: &[u8], shutdown: &ShutdownWatch) -> Option<Stream> {
        let mut stream = stream.into_any().downcast::<L4Stream>().ok()?;
        stream.rewind(preface);
        self.proxy.process_new(stream, shutdown).await
    }
}

#[async_trait]
impl<P> ServerApp for Front<P>
where
    P: ProxyHttp + Send + Sync + 'static,
    P::CTX: Send + Sync,
{
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        if matches!(stream.selected_alpn_proto(), Some(ALPN::H2)) {
            return self.proxy.process_new(stream, shutdown).await;
        }
        self.serve_http1(stream, shutdown).await
    }

    async fn cleanup(&self) {
        self.proxy.http_cleanup().await;
    }
}
