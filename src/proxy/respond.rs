//! The gateway's own answers: the one place where a refusal becomes HTTP.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderName, HeaderValue};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use pingora::{ErrorType, OrErr as _};

use super::paywall::{PaywallPage, content_security_policy, fresh_nonce};
use super::settings::Cors;
use crate::payment::{LiveOffer, Receipt, Refusal, Resource};
use crate::x402::{Reason, SettleResponse, Version};

/// Request bodies up to this size are read and dropped, so that the connection can be used again.
const DRAINED_BODY_BYTES: u64 = 64 * 1024;
/// How long reading such a body may take.
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Headers that scripts of other origins may read.
pub(super) const EXPOSED: &str = "PAYMENT-REQUIRED, PAYMENT-RESPONSE, X-PAYMENT-RESPONSE";
/// Headers that scripts of other origins may send: those of payments, and the one that x402
/// clients send although it is a response header.
pub(super) const ALLOWED: &str =
    "PAYMENT-SIGNATURE, X-PAYMENT, SIGN-IN-WITH-X, Content-Type, Access-Control-Expose-Headers";

/// Read once: a name that HTTP does not know itself is otherwise read and copied for each answer.
static PAYMENT_REQUIRED: HeaderName = HeaderName::from_static(crate::x402::header::PAYMENT_REQUIRED);

/// Writes the gateway's own answers.
pub(super) struct Responder {
    cors: Cors,
    page: PaywallPage,
}

/// A refusal with what its answer needs.
pub(super) struct Refused<'a> {
    pub(super) refusal: &'a Refusal,
    pub(super) offer: Option<Arc<LiveOffer>>,
    pub(super) resource: &'a Resource,
    pub(super) version: Option<Version>,
}

/// An answer. Its headers are put in as they are: Pingora's own way reads and copies each name anew,
/// which a challenge with its eight headers feels.
struct Answer {
    head: http::response::Parts,
    body: Bytes,
}

/// Headers an answer of ours has at the most, mostly.
const HEADERS: usize = 12;

impl Answer {
    fn new(status: u16, body: Bytes) -> pingora::Result<Self> {
        let (mut head, ()) = http::Response::new(()).into_parts();
        head.status = StatusCode::from_u16(status).or_err(ErrorType::InternalError, "no status of HTTP")?;
        head.headers.reserve(HEADERS);
        Ok(Self { head, body })
    }

    fn json(status: u16, body: Bytes) -> pingora::Result<Self> {
        let mut answer = Self::new(status, body)?;
        answer.set(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        answer.set(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // Bodies repeat what clients wrote, which no browser may take for a page.
        answer.set(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        Ok(answer)
    }

    fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.head.headers.insert(name, value);
    }

    fn set_text(&mut self, name: HeaderName, value: String) -> pingora::Result<()> {
        let value = HeaderValue::try_from(value);
        self.set(name, value.or_err(ErrorType::InvalidHTTPHeader, "a value no header can have")?);
        Ok(())
    }

    /// Adds to a comma-separated header.
    fn add(&mut self, name: HeaderName, value: &'static str) -> pingora::Result<()> {
        let all = super::headers::appended(&self.head.headers, &name, value);
        self.set_text(name, all)
    }

    /// Tells what became of a payment.
    fn set_receipt(&mut self, version: Version, response: &SettleResponse) -> pingora::Result<()> {
        let name = HeaderName::from_bytes(version.response_header().as_bytes());
        let name = name.or_err(ErrorType::InvalidHTTPHeader, "a name no header can have")?;
        self.set_text(name, response.header_value(version))
    }

    fn error(status: u16, message: &str) -> pingora::Result<Self> {
        let body = serde_json::json!({ "error": message }).to_string();
        Self::json(status, body.into())
    }
}

impl Responder {
    pub(super) fn new(cors: Cors) -> Self {
        Self { cors, page: PaywallPage::prepare() }
    }

    /// Answers a refusal.
    pub(super) async fn refuse(&self, session: &mut Session, refused: &Refused<'_>) -> pingora::Result<u16> {
        let answer = match refused.refusal {
            Refusal::PaymentRequired => self.challenge(session, refused)?,
            Refusal::Invalid { reason, payer } => refused_payment(refused, reason, payer.as_deref())?,
            Refusal::AlreadyUsed => refused_payment(refused, &Reason::DUPLICATE, None)?,
            Refusal::SettlementFailed(response) => {
                let code =
                    response.error_reason.as_deref().map_or(Reason::SETTLEMENT_FAILED, Reason::foreign);
                let mut answer = refused_payment(refused, &code, response.payer.as_deref())?;
                let version = refused.version.unwrap_or(Version::V2);
                answer.set_receipt(version, response)?;
                answer
            }
            Refusal::InUse => retry_later(
                "this payment is being used for this request; present it again, do not pay again",
                Duration::from_secs(1),
            )?,
            Refusal::IdentifierMissing => {
                Answer::error(400, "this resource requires a payment-identifier; nothing was charged")?
            }
            Refusal::IdentifierMalformed => Answer::error(
                400,
                "a payment-identifier has 16 to 128 letters, digits, - and _; nothing was charged",
            )?,
            Refusal::IdentifierUsed => Answer::error(
                409,
                "this payment-identifier was used for another request; nothing was charged",
            )?,
            Refusal::PayerLimit => {
                let message = "this payer has too many payments under way; nothing was charged";
                retry_later_with(429, message, Duration::from_secs(5))?
            }
            Refusal::Unresolved => retry_later(
                "the outcome of this payment's settlement is not known; do not pay again before it is",
                Duration::from_secs(5),
            )?,
            Refusal::Unavailable { retry_after, .. } => {
                retry_later("payments cannot be taken at present; nothing was charged", *retry_after)?
            }
            Refusal::Denied => Answer::error(403, "forbidden")?,
        };
        self.write(session, answer).await
    }

    /// Answers an error that is none of a payment's.
    pub(super) async fn error(
        &self,
        session: &mut Session,
        status: u16,
        message: &str,
    ) -> pingora::Result<u16> {
        self.write(session, Answer::error(status, message)?).await
    }

    /// Answers an error with the receipt of what was settled before it, if anything was.
    pub(super) async fn error_with(
        &self,
        session: &mut Session,
        status: u16,
        message: &str,
        receipt: Option<&Receipt>,
    ) -> pingora::Result<u16> {
        let mut answer = Answer::error(status, message)?;
        if let Some(Receipt { version, response, .. }) = receipt {
            answer.set_receipt(*version, response)?;
        }
        self.write(session, answer).await
    }

    /// Answers a CORS preflight in the origin's stead, where the operator lists allowed origins.
    pub(super) async fn preflight(&self, session: &mut Session) -> pingora::Result<u16> {
        let mut answer = Answer::new(204, Bytes::new())?;
        let asked = &session.req_header().headers;
        let method = asked.get(header::ACCESS_CONTROL_REQUEST_METHOD).cloned();
        // The operator trusts these origins: what they announce to send, such as credentials, is let through.
        if let Some(headers) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            answer.set(header::ACCESS_CONTROL_ALLOW_HEADERS, headers.clone());
        }
        answer.add(header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED)?;
        if let Some(method) = method {
            answer.set(header::ACCESS_CONTROL_ALLOW_METHODS, method);
        }
        answer.set(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        let vary = HeaderValue::from_static("Access-Control-Request-Method, Access-Control-Request-Headers");
        answer.set(header::VARY, vary);
        self.write(session, answer).await
    }

    /// Whether the gateway answers preflights of priced routes itself.
    pub(super) const fn answers_preflights(&self) -> bool {
        matches!(self.cors, Cors::Origins(_))
    }

    /// The 402 of a request without payment: a page for browsers, both generations otherwise.
    fn challenge(&self, session: &Session, refused: &Refused<'_>) -> pingora::Result<Answer> {
        let Some(offer) = &refused.offer else { return Answer::error(503, "not on offer at present") };
        let (challenge, resource) = (&offer.challenge, refused.resource);
        let header = challenge.header(resource);
        let page = is_browser(session).then(|| challenge.json(resource, &Reason::PAYMENT_REQUIRED)).flatten();
        let mut answer = match page {
            Some(json) => self.page(&json)?,
            None => Answer::json(402, challenge.body(resource, &Reason::PAYMENT_REQUIRED, None))?,
        };
        if let Some(value) = header {
            answer.set_text(PAYMENT_REQUIRED.clone(), value)?;
        }
        answer.set(header::VARY, HeaderValue::from_static("Accept, User-Agent"));
        Ok(answer)
    }

    fn page(&self, json: &str) -> pingora::Result<Answer> {
        let nonce = fresh_nonce().or_err(ErrorType::InternalError, "no randomness for a page's nonce")?;
        let mut answer = Answer::json(402, self.page.render(json, &nonce))?;
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        answer.set(header::CONTENT_TYPE, html);
        answer.set_text(header::CONTENT_SECURITY_POLICY, content_security_policy(&nonce))?;
        answer.set(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
        Ok(answer)
    }

    async fn write(&self, session: &mut Session, mut answer: Answer) -> pingora::Result<u16> {
        let status = answer.head.status.as_u16();
        self.allow_reading(session, &mut answer)?;
        if status != 204 {
            answer.set(header::CONTENT_LENGTH, HeaderValue::from(answer.body.len()));
        }
        prepare_to_drain(session);
        let head = session.req_header().method == http::Method::HEAD;
        let downstream = session.as_downstream_mut();
        let body = if head { Bytes::new() } else { answer.body };
        downstream.write_response_header(Box::new(ResponseHeader::from(answer.head))).await?;
        downstream.write_response_body(body, true).await?;
        Ok(status)
    }

    fn allow_reading(&self, session: &Session, answer: &mut Answer) -> pingora::Result<()> {
        let origin = session.req_header().headers.get(header::ORIGIN);
        match (&self.cors, origin) {
            (Cors::Any, _) => {
                answer.set(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            }
            (Cors::Origins(allowed), Some(origin))
                if allowed.iter().any(|one| one.as_bytes() == origin.as_bytes()) =>
            {
                answer.set(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
                answer.set(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
                answer.add(header::VARY, "Origin")?;
            }
            (Cors::Origins(_), _) => return answer.add(header::VARY, "Origin"),
            (Cors::Off, _) => return Ok(()),
        }
        answer.set(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        Ok(())
    }
}

/// A 402 for a payment that was refused; JSON for browsers, too.
fn refused_payment(refused: &Refused<'_>, reason: &Reason, payer: Option<&str>) -> pingora::Result<Answer> {
    let Some(offer) = &refused.offer else { return Answer::error(402, reason.as_str()) };
    let (challenge, resource) = (&offer.challenge, refused.resource);
    let mut answer = Answer::json(402, challenge.body(resource, reason, payer))?;
    if let Some(value) = challenge.header_with(resource, reason) {
        answer.set_text(PAYMENT_REQUIRED.clone(), value)?;
    }
    Ok(answer)
}

fn retry_later(message: &str, after: Duration) -> pingora::Result<Answer> {
    retry_later_with(503, message, after)
}

fn retry_later_with(status: u16, message: &str, after: Duration) -> pingora::Result<Answer> {
    let mut answer = Answer::error(status, message)?;
    let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
    answer.set(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    Ok(answer)
}

/// A browser is what asks for HTML and calls itself Mozilla, as every x402 server has it. The page
/// pays with a GET, so other methods are answered as programs are.
fn is_browser(session: &Session) -> bool {
    let has = |name: header::HeaderName, part: &str| {
        let value = session.req_header().headers.get(name).and_then(|value| value.to_str().ok());
        value.is_some_and(|value| value.contains(part))
    };
    matches!(session.req_header().method, http::Method::GET | http::Method::HEAD)
        && has(header::ACCEPT, "text/html")
        && has(header::USER_AGENT, "Mozilla")
}

/// Lets a small request body be read and dropped; a larger one closes the connection.
fn prepare_to_drain(session: &mut Session) {
    let length = session.req_header().headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()).and_then(|value| value.parse::<u64>().ok());
    let chunked = session.req_header().headers.contains_key(header::TRANSFER_ENCODING);
    let small = length.map_or(!chunked, |length| length <= DRAINED_BODY_BYTES);
    let downstream = session.as_downstream_mut();
    downstream.set_close_on_response_before_downstream_finish(!small);
    downstream.set_total_drain_timeout(Some(DRAIN_TIMEOUT));
}
