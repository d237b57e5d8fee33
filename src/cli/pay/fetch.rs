//! HTTP: the request without and with a payment, and the body as it arrives.

use std::time::Duration;

use reqwest::header::{HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Client, Method, Response, StatusCode, Url, redirect};

use super::arguments::Request;
use super::payment::Payment;
use super::terminal::Console;
use super::{Exit, Stop};
use crate::clock::UnixSeconds;

/// Redirects followed before anything is paid.
const REDIRECTS_MAX: usize = 5;

/// Longest wait for a connection; answers may take longer than that, connections do not.
const CONNECT_SECONDS_MAX: u64 = 30;

/// Bytes read of a body that is judged rather than delivered.
const JUDGED_BYTES_MAX: usize = 256 * 1024;

/// An HTTP client that does nothing by itself: no redirects, no decoding.
#[derive(Debug)]
pub(super) struct Fetcher {
    client: Client,
    timeout: Duration,
    connect_timeout: Duration,
}

/// A request without an answer.
#[derive(Debug)]
pub(super) struct NoAnswer {
    /// Whether a server may have read the request.
    pub(super) maybe_sent: bool,
    /// What went wrong.
    pub(super) cause: String,
}

impl Fetcher {
    /// A client for `url` that waits `timeout_seconds` for an answer and for each piece of a body.
    ///
    /// # Errors
    /// The system has no certificates to check a server's with, and `url` needs them.
    pub(super) fn new(url: &Url, timeout_seconds: u64) -> Result<Self, Stop> {
        let timeout = Duration::from_secs(timeout_seconds);
        let connect_timeout = Duration::from_secs(timeout_seconds.min(CONNECT_SECONDS_MAX));
        let builder = || {
            Client::builder()
                .user_agent(concat!("tollgate/", env!("CARGO_PKG_VERSION")))
                .redirect(redirect::Policy::none())
                .referer(false)
                .connect_timeout(connect_timeout)
                .read_timeout(timeout)
                // A kept connection may be closed just as the payment is sent, and would leave it
                // open whether the server read it.
                .pool_max_idle_per_host(0)
        };
        let mut client = builder().build();
        if client.is_err() && url.scheme() == "http" {
            // A fresh system has no certificates of authorities; http:// needs none.
            client = builder().tls_certs_only([]).build();
        }
        let client = client.map_err(|error| {
            Stop::new(
                Exit::Failed,
                format!("cannot set up TLS (is ca-certificates installed?): {}", causes(&error)),
            )
        })?;
        Ok(Self { client, timeout, connect_timeout })
    }

    /// Sends the request, with a payment or without.
    pub(super) async fn send(
        &self,
        request: &Request,
        url: &Url,
        payment: Option<&Payment>,
    ) -> Result<Response, NoAnswer> {
        let mut headers = request.headers.clone();
        if let Some(payment) = payment {
            headers.insert(payment.name.clone(), payment.value.clone());
        }
        let mut builder = self.client.request(request.method.clone(), url.clone()).headers(headers);
        if let Some(body) = &request.body {
            builder = builder.body(body.clone());
        }
        match tokio::time::timeout(self.connect_timeout + self.timeout, builder.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                let maybe_sent = !error.is_connect() && !error.is_builder();
                Err(NoAnswer { maybe_sent, cause: causes(&error.without_url()) })
            }
            Err(_) => Err(NoAnswer {
                maybe_sent: true,
                cause: format!("no answer within {} seconds", self.timeout.as_secs()),
            }),
        }
    }

    /// Sends the request without a payment and follows redirects on the same host.
    pub(super) async fn unpaid(
        &self,
        request: &Request,
        url: &Url,
        console: &mut Console<'_>,
    ) -> Result<(Url, Response), Stop> {
        let mut url = url.clone();
        for _ in 0..REDIRECTS_MAX {
            let response = self.unpaid_once(request, &url).await?;
            let Some(next) = redirect_target(&request.method, &url, response.status(), response.headers())
            else {
                return Ok((url, response));
            };
            console.field("moved to", &shown_url(&next));
            url = next;
        }
        let response = self.unpaid_once(request, &url).await?;
        Ok((url, response))
    }

    async fn unpaid_once(&self, request: &Request, url: &Url) -> Result<Response, Stop> {
        self.send(request, url, None).await.map_err(|no_answer| {
            let host = url.host_str().unwrap_or_default();
            Stop::new(
                Exit::Failed,
                format!("cannot fetch from {host}: {}; nothing was paid", no_answer.cause),
            )
        })
    }

    /// The beginning of a body that is judged rather than delivered: as much as arrives in time.
    pub(super) async fn beginning(&self, response: &mut Response) -> Vec<u8> {
        let mut body = Vec::new();
        let all = async {
            while let Ok(Some(piece)) = response.chunk().await {
                let room = JUDGED_BYTES_MAX - body.len();
                body.extend_from_slice(&piece[..piece.len().min(room)]);
                if body.len() == JUDGED_BYTES_MAX {
                    break;
                }
            }
        };
        // Whatever is missing then, the answer is judged by what is there.
        let _ = tokio::time::timeout(self.timeout, all).await;
        body
    }
}

/// Where a redirect leads that may be followed: a safe method, the same host, and the same scheme
/// and port or from http to https. Elsewhere nobody agreed to pay.
fn redirect_target(method: &Method, from: &Url, status: StatusCode, headers: &HeaderMap) -> Option<Url> {
    if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
        || !matches!(*method, Method::GET | Method::HEAD)
    {
        return None;
    }
    let to = location(from, headers)?;
    let encrypted = from.scheme() == "http" && to.scheme() == "https";
    (to.host_str() == from.host_str() && (to.origin() == from.origin() || encrypted)).then_some(to)
}

/// The target of a redirect, if it has one.
pub(super) fn location(from: &Url, headers: &HeaderMap) -> Option<Url> {
    let to = from.join(headers.get(LOCATION)?.to_str().ok()?).ok()?;
    matches!(to.scheme(), "http" | "https").then_some(to)
}

/// A URL without the user name and password it may hold.
pub(super) fn shown_url(url: &Url) -> String {
    let mut url = url.clone();
    // Both fail only for URLs without a host, which hold neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

/// An error with its causes, outermost first, each once.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    text
}

/// Seconds that a `Retry-After` asks to wait: a number, or a date (RFC 9110 §10.2.3).
pub(super) fn retry_after(headers: &HeaderMap, now: UnixSeconds) -> Option<u64> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(text.parse().unwrap_or(u64::MAX));
    }
    http_date(text).map(|date| date.0.saturating_sub(now.0))
}

/// Reads `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7; the obsolete forms are not read).
fn http_date(text: &str) -> Option<UnixSeconds> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, date) = text.strip_suffix(" GMT")?.split_once(", ")?;
    let parts: Vec<&str> = date.split([' ', ':']).collect();
    let [day, month, year, hour, minute, second] = parts.as_slice() else { return None };
    let number = |text: &str, digits: usize, most: u64| {
        let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u64>().ok().filter(|number| plain && *number <= most)
    };
    let month = 1 + MONTHS.iter().position(|name| name == month)? as u64;
    let (day, year) = (number(day, 2, 31)?, number(year, 4, 9999)?);
    let seconds = number(hour, 2, 23)? * 3600 + number(minute, 2, 59)? * 60 + number(second, 2, 60)?;
    // Years run from March here, so that the leap day is the last one.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days =
        365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day.checked_sub(1)?;
    let days_to_1970 = 719_468;
    days.checked_sub(days_to_1970).map(|days| UnixSeconds(days * 86_400 + seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: reqwest::header::HeaderName, value: &str) -> HeaderMap {
        [(name, value.parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = UnixSeconds(784_111_777 - 90);
        for (text, seconds) in [
            ("0", Some(0)),
            ("120", Some(120)),
            ("99999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(90)),
            ("Sat, 01 Jan 1994 00:00:00 GMT", Some(0)),
            ("Thu, 29 Feb 2024 12:00:00 GMT", Some(1_709_208_000 - now.0)),
            ("Sun, 06 Nov 1994 08:49:37", None),
            ("Sun, 6 Nov 1994 08:49:37 GMT", None),
            ("Sun, 00 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 24:49:37 GMT", None),
            ("Fri, 01 Jan 0000 00:00:00 GMT", None),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(retry_after(&header(RETRY_AFTER, text), now), seconds, "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn redirects_are_followed_on_the_same_host_only_and_for_safe_methods() {
        let from: Url = "http://example.com/a".parse().unwrap();
        for (method, status, to, followed) in [
            (Method::GET, 301, "/b", true),
            (Method::HEAD, 308, "https://example.com/a", true),
            (Method::GET, 302, "http://www.example.com/a", false),
            (Method::GET, 302, "http://example.com:8080/a", false),
            (Method::GET, 302, "//evil.org/a", false),
            (Method::GET, 302, "file:///etc/passwd", false),
            (Method::GET, 300, "/b", false),
            (Method::GET, 200, "/b", false),
            (Method::POST, 307, "/b", false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let target = redirect_target(&method, &from, status, &header(LOCATION, to));
            assert_eq!(target.is_some(), followed, "{method} {status} {to}");
        }
        let encrypted: Url = "https://example.com/a".parse().unwrap();
        let downgrade = header(LOCATION, "http://example.com/a");
        assert_eq!(redirect_target(&Method::GET, &encrypted, StatusCode::FOUND, &downgrade), None);
    }

    #[test]
    fn a_shown_url_holds_no_password() {
        let url = "https://user:secret@example.com/a?b=c".parse().unwrap();
        assert_eq!(shown_url(&url), "https://example.com/a?b=c");
    }
}
