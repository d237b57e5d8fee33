//! JSON-RPC to a node of an EVM chain: what a question may cost, and how its failures are told.
//!
//! The transport is our own, because the one that comes with alloy reads answers of any size, waits
//! for any time, and writes the URL, in which providers put the API key, into logs and errors.

use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use alloy::rpc::client::{ClientBuilder, RpcClient};
use alloy::rpc::json_rpc::{RequestPacket, ResponsePacket, RpcError};
use alloy::transports::{TransportError, TransportErrorKind, TransportFut};
use bytes::BytesMut;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, Url};
use tower_service::Service;

use crate::secret::Secret;

/// The largest answer that is read, in bytes; a full page of logs has a few megabytes.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A connection that takes longer to open leads nowhere.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(5);
/// Idle connections are closed after this.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// How often a question is asked again that the node was too busy for.
const RETRIES_MAX: u32 = 3;
/// The first wait before it is asked again, when the node names none; the next ones double.
const RETRY_WAIT: Duration = Duration::from_millis(250);
/// Longest text of a node that is repeated, in characters.
const TEXT_MAX: usize = 200;

/// Prepares the way to a node; connects to nothing yet. `timeout` is for one question, waiting for a
/// busy node included. A provider that signs is made of it with
/// `ProviderBuilder::new().wallet(…).connect_client(client)`.
///
/// A question that the node was too busy for (429, 503) is asked again within the timeout. Whatever
/// else fails is not: whether it is worth another try is for the caller to know.
///
/// # Errors
/// A URL that is none, or TLS without the system's certificates; never with the URL's text.
pub fn connect(url: &Secret<String>, timeout: Duration) -> Result<RpcClient, String> {
    let url = parse_url(url.expose())?;
    // reqwest takes its cryptography from the process; whoever came first has chosen it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder()
        .user_agent(concat!("tollgate/", env!("CARGO_PKG_VERSION")))
        .no_proxy()
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .connect_timeout(timeout.min(CONNECT_TIMEOUT_MAX))
        .pool_idle_timeout(IDLE_TIMEOUT)
        .tcp_nodelay(true);
    // Without TLS the system's certificates need not be there.
    let builder = if url.scheme() == "http" { builder.tls_certs_only([]) } else { builder };
    let client = builder.build().map_err(|error| {
        format!("no TLS: {} (are the system's CA certificates installed?)", causes(error))
    })?;
    let local = is_loopback(&url);
    let transport = Transport(Arc::new(Way { client, url, timeout }));
    Ok(ClientBuilder::default().transport(transport, local))
}

/// Reads the URL of a node: `http` or `https`, with a host. User information becomes Basic
/// authentication; path and query may hold a key.
///
/// # Errors
/// What is wrong with it, without its text.
pub fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("is neither http:// nor https://".into());
    }
    if url.fragment().is_some() {
        return Err("has a fragment, which is never sent".into());
    }
    Ok(url)
}

/// Whether a URL leads to this machine.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    host == "localhost"
        || host.ends_with(".localhost")
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What went wrong, in an operator's words. Holds no URL and of the node's own text only the message
/// of a JSON-RPC error.
#[must_use]
pub fn describe(error: &TransportError) -> String {
    match error {
        RpcError::ErrorResp(payload) => {
            format!("the node answers with error {}: {}", payload.code, shortened(&payload.message))
        }
        RpcError::NullResp => "the node answers with nothing".into(),
        RpcError::DeserError { err, .. } => format!("the node's answer cannot be understood: {err}"),
        RpcError::Transport(kind) => match kind.as_http_error() {
            // The body may repeat the path that was asked for, and with it a key.
            Some(http) => format!("the node answers with HTTP status {}", http.status),
            None => shortened(&kind.to_string()),
        },
        RpcError::UnsupportedFeature(_) | RpcError::LocalUsageError(_) | RpcError::SerError(_) => {
            shortened(&error.to_string())
        }
    }
}

/// Whether a question provably never left: no connection to the node came about.
#[must_use]
pub fn never_left(error: &TransportError) -> bool {
    matches!(error, RpcError::Transport(TransportErrorKind::Custom(cause)) if cause.is::<NotConnected>())
}

/// No connection to the node came about.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotConnected(String);

/// A text of somebody else, as far as it fits into a line of a log.
fn shortened(text: &str) -> String {
    let mut shown: String = text.chars().filter(|letter| !letter.is_control()).take(TEXT_MAX).collect();
    if text.chars().count() > TEXT_MAX {
        shown.push('…');
    }
    shown
}

#[derive(Clone)]
struct Transport(Arc<Way>);

struct Way {
    client: Client,
    url: Url,
    timeout: Duration,
}

impl Service<RequestPacket> for Transport {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        let way = Arc::clone(&self.0);
        Box::pin(async move {
            match tokio::time::timeout(way.timeout, way.ask(packet)).await {
                Ok(answer) => answer,
                Err(_) => Err(failure(&format!("no complete answer within {} ms", way.timeout.as_millis()))),
            }
        })
    }
}

impl Way {
    async fn ask(&self, packet: RequestPacket) -> Result<ResponsePacket, TransportError> {
        let body: bytes::Bytes = serde_json::to_vec(&packet).map_err(TransportError::ser_err)?.into();
        let mut wait = RETRY_WAIT;
        for attempt in 0.. {
            let request = self.client.post(self.url.clone()).body(body.clone());
            let request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            let response = request.send().await.map_err(|error| match (attempt, error.is_connect()) {
                // An earlier attempt may have been heard.
                (0, true) => TransportErrorKind::custom(NotConnected(causes(error))),
                _ => failure(&causes(error)),
            })?;
            let busy = matches!(response.status().as_u16(), 429 | 503);
            if !busy || attempt == RETRIES_MAX {
                return read(response, &packet).await;
            }
            // The timeout around this ends a wait that is too long.
            tokio::time::sleep(retry_after(response.headers()).unwrap_or(wait)).await;
            wait *= 2;
        }
        Err(failure("no answer"))
    }
}

async fn read(mut response: Response, asked: &RequestPacket) -> Result<ResponsePacket, TransportError> {
    let status = response.status();
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failure(&causes(error)))? {
        if body.len() + chunk.len() > BODY_BYTES_MAX {
            return Err(failure(&format!("an answer of more than {BODY_BYTES_MAX} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    let packet = serde_json::from_slice::<ResponsePacket>(&body);
    if !status.is_success() {
        // Providers tell some errors of JSON-RPC with an HTTP status as well.
        return match packet {
            Ok(packet) if packet.is_error() => Ok(packet),
            _ => Err(TransportErrorKind::http_error(status.as_u16(), String::new())),
        };
    }
    let packet = packet.map_err(|error| TransportError::deser_err(error, String::new()))?;
    if let (Some(asked), ResponsePacket::Single(answer)) = (asked.as_single(), &packet)
        && answer.is_success()
        && answer.id != *asked.id()
    {
        return Err(failure("the node answers another question than it was asked"));
    }
    Ok(packet)
}

/// `Retry-After` in seconds (RFC 9110 §10.2.3); nodes write no dates.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

fn failure(text: &str) -> TransportError {
    TransportErrorKind::custom_str(text)
}

/// An error and its causes, without the URL.
fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_url_of_a_node_is_refused_without_repeating_it() {
        for text in ["", "hunter2", "ws://hunter2", "file:///hunter2", "http://", "https://a/#hunter2"] {
            let refused = parse_url(text).unwrap_err();
            assert!(!refused.contains("hunter2"), "{refused}");
            assert!(connect(&Secret::new(text.to_owned()), Duration::from_secs(1)).is_err());
        }
        for (text, loopback) in [
            ("https://me:hunter2@node.example/v2/hunter2?key=hunter2", false),
            ("http://localhost:8545", true),
            ("http://127.0.0.1:8545", true),
            ("http://[::1]:8545", true),
            ("http://10.0.0.1:8545", false),
            ("http://localhost.example", false),
        ] {
            assert_eq!(is_loopback(&parse_url(text).unwrap()), loopback, "{text}");
        }
    }

    #[test]
    fn a_text_of_the_node_is_told_on_one_line_and_not_at_any_length() {
        let payload = |message: String| {
            let error = serde_json::json!({"code": -32000, "message": message});
            TransportError::ErrorResp(serde_json::from_value(error).unwrap())
        };
        let told = describe(&payload("one\ntwo\u{1b}[31m".into()));
        assert_eq!(told, "the node answers with error -32000: onetwo[31m");
        assert!(describe(&payload("é".repeat(10_000))).chars().count() < 300);
    }
}
