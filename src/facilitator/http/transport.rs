//! Requests to one facilitator: connections, deadlines, sizes, redirects, and above all whether a
//! request that failed can have been received.

use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Method, StatusCode};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, ClientBuilder, Response, Url};

use super::auth::Authorizer;
use super::dialect::Answer;
use crate::clock::{Clock, UnixSeconds};
use crate::facilitator::settings::HttpSettings;

/// The largest answer that is read, in bytes.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// Redirects of `GET /supported` that are followed, within the facilitator's own origin.
const REDIRECTS_MAX: usize = 3;
/// Idle connections are closed after this. Node's servers close theirs after five seconds, and a
/// settlement written into a connection that is just being closed is one with an unknown outcome.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// Idle connections that are kept.
const IDLE_CONNECTIONS_MAX: usize = 64;
/// A `Retry-After` is believed up to this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// The three things one can ask of a facilitator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Verify,
    Settle,
    Supported,
}

impl Call {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Settle => "settle",
            Self::Supported => "supported",
        }
    }

    const fn method(self) -> Method {
        match self {
            Self::Verify | Self::Settle => Method::POST,
            Self::Supported => Method::GET,
        }
    }
}

/// No complete answer.
#[derive(Debug)]
pub(super) struct Failure {
    /// Whether the facilitator may have received the request. Only `false` when it cannot have.
    pub(super) sent: bool,
    pub(super) cause: String,
}

impl Failure {
    fn unsent(cause: String) -> Self {
        Self { sent: false, cause }
    }

    fn sent(cause: String) -> Self {
        Self { sent: true, cause }
    }
}

/// The way to one facilitator.
pub(super) struct Transport {
    /// For questions that change nothing.
    questions: Client,
    /// For settlements. Connections belong to the runtime they were opened on, and settlements may
    /// run on one that outlives the requests'; so they do not share connections with questions.
    settlements: Client,
    auth: Authorizer,
    clock: Arc<dyn Clock>,
    verify: Url,
    settle: Url,
    supported: Url,
}

impl Transport {
    /// Prepares the way; connects to nothing yet.
    ///
    /// # Errors
    /// A URL, secret or CA file that cannot be used.
    pub(super) fn new(
        settings: &HttpSettings,
        connect_timeout: Duration,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, String> {
        let base = base_url(&settings.url)?;
        let auth = Authorizer::new(&settings.auth)?;
        if auth.is_secret() && base.scheme() == "http" && !is_loopback(&base) {
            tracing::warn!(
                target: super::TARGET,
                facilitator = settings.name,
                "the facilitator's credentials are sent without encryption: its URL is not https"
            );
        }
        let client = || {
            let builder = with_trust(client_builder(connect_timeout), &base, settings)?;
            builder.build().map_err(|error| {
                let cause = describe(error);
                format!("no TLS: {cause} (are the system's CA certificates installed, or set ca_file)")
            })
        };
        let endpoint = |call: Call| {
            let path = format!("{}/{}", base.path().trim_end_matches('/'), call.name());
            let mut url = base.clone();
            url.set_path(&path);
            url
        };
        Ok(Self {
            questions: client()?,
            settlements: client()?,
            auth,
            clock,
            verify: endpoint(Call::Verify),
            settle: endpoint(Call::Settle),
            supported: endpoint(Call::Supported),
        })
    }

    /// Makes a call and reads the whole answer, within `deadline`.
    ///
    /// # Errors
    /// See [`Failure`].
    pub(super) async fn send(&self, call: Call, body: Bytes, deadline: Duration) -> Result<Answer, Failure> {
        match tokio::time::timeout(deadline, self.exchange(call, body)).await {
            Ok(result) => result,
            Err(_) => Err(Failure::sent(format!("no complete answer within {} ms", deadline.as_millis()))),
        }
    }

    async fn exchange(&self, call: Call, body: Bytes) -> Result<Answer, Failure> {
        let mut url = match call {
            Call::Verify => self.verify.clone(),
            Call::Settle => self.settle.clone(),
            Call::Supported => self.supported.clone(),
        };
        for _ in 0..=REDIRECTS_MAX {
            let response = self.send_once(call, &url, body.clone()).await?;
            // A redirected POST would carry a payment elsewhere, or the same one twice.
            if call != Call::Supported || !is_redirect(response.status()) {
                return read(response, self.clock.now()).await;
            }
            url = redirected(&url, response.headers()).map_err(Failure::sent)?;
        }
        Err(Failure::sent(format!("more than {REDIRECTS_MAX} redirects")))
    }

    async fn send_once(&self, call: Call, url: &Url, body: Bytes) -> Result<Response, Failure> {
        let method = call.method();
        let client = if call == Call::Settle { &self.settlements } else { &self.questions };
        let mut request = client.request(method.clone(), url.clone());
        if let Some((name, value)) =
            self.auth.header(&method, url, self.clock.now()).map_err(Failure::unsent)?
        {
            request = request.header(name, value);
        }
        if method == Method::POST {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json")).body(body);
        }
        request.send().await.map_err(|error| {
            // No connection (name, TCP or TLS), or not even a request: nothing was written. Any
            // other error may have come after the facilitator read the request. The client takes
            // a request back from a pooled connection that turned out to be closed, and tries a
            // new one, only as long as none of it was written.
            let sent = !(error.is_connect() || error.is_builder());
            Failure { sent, cause: describe(error) }
        })
    }
}

fn base_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("the facilitator's URL is none: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err("the facilitator's URL is neither http:// nor https:// with a host".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the facilitator's URL has credentials in it: they belong into `auth`".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("the facilitator's URL has a query or a fragment: nothing could follow its path".into());
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    host == "localhost"
        || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

fn client_builder(connect_timeout: Duration) -> ClientBuilder {
    // reqwest takes its cryptography from the process; whoever came first has chosen it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .user_agent(concat!("tollgate/", env!("CARGO_PKG_VERSION")))
        .no_proxy()
        .redirect(Policy::none())
        // Its retries trust GOAWAY more than a settlement can afford.
        .retry(reqwest::retry::never())
        .connect_timeout(connect_timeout)
        .tcp_nodelay(true)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .http2_keep_alive_timeout(Duration::from_secs(5))
}

fn with_trust(builder: ClientBuilder, base: &Url, settings: &HttpSettings) -> Result<ClientBuilder, String> {
    if base.scheme() == "http" {
        // No TLS will be spoken, so the system's certificates need not be there.
        return Ok(builder.tls_certs_only([]));
    }
    let Some(path) = &settings.ca_file else { return Ok(builder) };
    let pem = std::fs::read(path).map_err(|error| format!("ca_file {}: {error}", path.display()))?;
    let certificates = Certificate::from_pem_bundle(&pem)
        .map_err(|error| format!("ca_file {}: {}", path.display(), describe(error)))?;
    if certificates.is_empty() {
        return Err(format!("ca_file {}: no PEM certificate in it", path.display()));
    }
    Ok(builder.tls_certs_only(certificates))
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Where a redirect leads, if that is the same origin: nothing is sent anywhere else.
fn redirected(from: &Url, headers: &HeaderMap) -> Result<Url, String> {
    let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or("a redirect without a usable Location")?;
    let to = from.join(location).map_err(|error| format!("a redirect to no URL: {error}"))?;
    if to.origin() != from.origin() || !to.username().is_empty() || to.password().is_some() {
        return Err("a redirect to another origin, which is not followed".into());
    }
    Ok(to)
}

async fn read(mut response: Response, now: UnixSeconds) -> Result<Answer, Failure> {
    let too_large = || Failure::sent(format!("an answer of more than {BODY_BYTES_MAX} bytes"));
    if response.content_length().is_some_and(|length| length > BODY_BYTES_MAX as u64) {
        return Err(too_large());
    }
    let status = response.status();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| retry_after(value, now));
    let challenge = response.headers().contains_key(WWW_AUTHENTICATE);
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| Failure::sent(describe(error)))? {
        if body.len() + chunk.len() > BODY_BYTES_MAX {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, retry_after, challenge, body: body.freeze() })
}

/// `Retry-After` (RFC 9110 §10.2.3): seconds or a date.
fn retry_after(value: &HeaderValue, now: UnixSeconds) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    let seconds = if let Ok(seconds) = text.parse::<u64>() {
        seconds
    } else {
        let date = httpdate::parse_http_date(text).ok()?;
        date.duration_since(UNIX_EPOCH).ok()?.as_secs().saturating_sub(now.0)
    };
    Some(Duration::from_secs(seconds.max(1)).min(RETRY_AFTER_MAX))
}

/// An error and its causes, without the URL: operators may have keys in its path.
fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
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
    fn a_retry_after_is_read_as_seconds_or_date_and_believed_within_limits() {
        let now = UnixSeconds(784_111_767);
        let cases = [
            ("7", Some(7)),
            ("0", Some(1)),
            ("86400", Some(300)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(10)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(1)),
            ("soon", None),
            ("-1", None),
            ("99999999999999999999999", None),
        ];
        for (text, expected) in cases {
            let value = HeaderValue::from_static(text);
            assert_eq!(retry_after(&value, now), expected.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn a_redirect_is_followed_within_its_origin_only() {
        let from = Url::parse("https://a.example/x402/supported").unwrap();
        let to = |location: &'static str| {
            let headers = [(LOCATION, HeaderValue::from_static(location))].into_iter().collect();
            redirected(&from, &headers).ok().map(|url| url.to_string())
        };
        assert_eq!(to("/v2/supported").unwrap(), "https://a.example/v2/supported");
        assert_eq!(to("https://a.example:443/s").unwrap(), "https://a.example/s");
        for elsewhere in [
            "https://b.example/x402/supported",
            "http://a.example/x402/supported",
            "https://a.example:444/",
            "//b.example/",
            "https://a.example@b.example/",
            "https://user@a.example/",
            "https://[",
        ] {
            assert_eq!(to(elsewhere), None, "{elsewhere}");
        }
        assert!(redirected(&from, &HeaderMap::new()).is_err());
    }

    #[test]
    fn urls_that_cannot_be_a_base_are_refused() {
        for text in
            ["", "facilitator", "ftp://a.example", "https://u:p@a.example", "https://a.example/?k=1", "http:"]
        {
            assert!(base_url(text).is_err(), "{text}");
        }
        assert!(base_url("https://a.example/x402").is_ok());
    }
}
