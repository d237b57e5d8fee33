//! A facilitator offered to others over HTTP: `POST /verify`, `POST /settle`, `GET /supported`
//! (`x402-specification-v2.md` §7), in the shapes of both protocol generations.
//!
//! Callers are servers that trust this gateway, and it trusts them not to present a payment that they
//! have served already: a settlement that was made answers the same again, because a caller that lost
//! the answer must be able to ask. Making a payment single-use is the work of a caller's own ledger.

mod connections;
pub mod message;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, SemaphorePermit};

use self::connections::Limited;
use super::settings::ServiceSettings;
use super::{Facilitator, SettleOutcome, TARGET, Unavailable};
use crate::x402::types::FacilitatorRequest;
use crate::x402::{Reason, SettleResponse, VerifyResponse, Version};

/// The longest wait for a request's body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// When a caller that was sent away may come again, in seconds.
const BUSY_SECONDS: u64 = 1;

/// A facilitator, and who may use it how much.
pub struct Service {
    facilitator: Arc<dyn Facilitator>,
    settings: ServiceSettings,
    room: Semaphore,
}

impl Service {
    /// Offers a facilitator.
    #[must_use]
    pub fn new(facilitator: Arc<dyn Facilitator>, settings: ServiceSettings) -> Self {
        let room = Semaphore::new(settings.in_flight);
        Self { facilitator, settings, room }
    }

    /// How many requests are being answered.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.settings.in_flight.saturating_sub(self.room.available_permits())
    }

    /// Lets a request in, or says why not. The permit stands for its place.
    fn admit(&self, headers: &HeaderMap) -> Result<SemaphorePermit<'_>, Box<Response>> {
        if !self.may_use(headers) {
            let mut response = problem(StatusCode::UNAUTHORIZED, "unauthorized");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return Err(Box::new(response));
        }
        self.room.try_acquire().map_err(|_| {
            let busy = problem(StatusCode::TOO_MANY_REQUESTS, "too_many_requests");
            Box::new(later(busy, Duration::from_secs(BUSY_SECONDS)))
        })
    }

    fn may_use(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.settings.token else { return true };
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let shown = shown.and_then(|value| value.split_once(' '));
        let shown = shown.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        // Digests are compared, so that the time it takes tells nothing of the token.
        let digest = |text: &str| ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        shown.is_some_and(|(_, shown)| digest(shown.trim()).as_ref() == digest(token.expose()).as_ref())
    }

    /// Reads what is asked about.
    async fn read(&self, body: Body) -> Result<Result<FacilitatorRequest, Reason>, Box<Response>> {
        let bytes = to_bytes(body, self.settings.body_bytes);
        match tokio::time::timeout(BODY_TIMEOUT, bytes).await {
            Ok(Ok(bytes)) => Ok(message::parse(&bytes)),
            // The body is too large, or the caller left.
            Ok(Err(_)) => Err(Box::new(problem(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"))),
            Err(_) => Err(Box::new(problem(StatusCode::REQUEST_TIMEOUT, "body_too_slow"))),
        }
    }
}

/// Serves until the process ends.
///
/// # Errors
/// Whatever the listener reports.
pub async fn serve(listener: TcpListener, service: Arc<Service>) -> std::io::Result<()> {
    let limited = Limited::new(listener, service.settings.in_flight, service.settings.idle_timeout);
    let router = Router::new()
        .route("/verify", post(verify))
        .route("/settle", post(settle))
        .route("/supported", get(supported))
        .with_state(service);
    axum::serve(limited, router).await
}

async fn supported(State(service): State<Arc<Service>>, request: Request) -> Response {
    let _place = match service.admit(request.headers()) {
        Ok(place) => place,
        Err(response) => return *response,
    };
    match service.facilitator.supported().await {
        Ok(supported) => answer(StatusCode::OK, &message::supported(&supported)),
        Err(unavailable) => {
            unreachable(&unavailable, &problem_body(Reason::FACILITATOR_UNAVAILABLE.as_str()))
        }
    }
}

async fn verify(State(service): State<Arc<Service>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let _place = match service.admit(&parts.headers) {
        Ok(place) => place,
        Err(response) => return *response,
    };
    let invalid = |status, reason: &Reason, payer: Option<String>| {
        let mut message = json!({"isValid": false, "invalidReason": reason.as_str()});
        if let (Some(payer), Some(members)) = (payer, message.as_object_mut()) {
            members.insert("payer".into(), payer.into());
        }
        answer(status, &message)
    };
    let request = match service.read(body).await {
        Ok(Ok(request)) => request,
        Ok(Err(reason)) => return invalid(StatusCode::BAD_REQUEST, &reason, None),
        Err(response) => return *response,
    };
    match service.facilitator.verify(&request).await {
        Ok(VerifyResponse::Valid { payer }) => {
            answer(StatusCode::OK, &json!({"isValid": true, "payer": payer.unwrap_or_default()}))
        }
        Ok(VerifyResponse::Invalid { reason, payer }) => {
            // The payer has to do something first (`scheme_exact_evm.md`, Permit2, verification).
            let approve = reason == Reason::PERMIT2_ALLOWANCE;
            invalid(if approve { StatusCode::PRECONDITION_FAILED } else { StatusCode::OK }, &reason, payer)
        }
        Err(unavailable) => {
            unreachable(&unavailable, &problem_body(Reason::FACILITATOR_UNAVAILABLE.as_str()))
        }
    }
}

async fn settle(State(service): State<Arc<Service>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let _place = match service.admit(&parts.headers) {
        Ok(place) => place,
        Err(response) => return *response,
    };
    let request = match service.read(body).await {
        Ok(Ok(request)) => request,
        Ok(Err(reason)) => {
            let refused =
                json!({"success": false, "errorReason": reason.as_str(), "transaction": "", "network": ""});
            return answer(StatusCode::BAD_REQUEST, &refused);
        }
        Err(response) => return *response,
    };
    let shown = |response: &SettleResponse| message::settlement(response, request.version);
    match service.facilitator.settle(&request).await {
        SettleOutcome::Settled(response)
        | SettleOutcome::Declined(response)
        | SettleOutcome::Pending(response) => answer(StatusCode::OK, &shown(&response)),
        SettleOutcome::Unreachable(unavailable) => {
            let failed = SettleResponse::failed(&Reason::FACILITATOR_UNAVAILABLE, None, &request.network);
            unreachable(&unavailable, &shown(&failed))
        }
        SettleOutcome::AnswerLost(unavailable) => {
            tracing::warn!(target: TARGET, %unavailable, "the outcome of a caller's settlement is not known");
            // Neither yes nor no: without `success` nobody can take it for one of them.
            let unknown = problem(StatusCode::GATEWAY_TIMEOUT, "settlement_outcome_unknown");
            later(unknown, unavailable.retry_after)
        }
    }
}

fn answer(status: StatusCode, message: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], message.to_string()).into_response()
}

fn problem_body(code: &str) -> Value {
    json!({"error": code})
}

fn problem(status: StatusCode, code: &str) -> Response {
    answer(status, &problem_body(code))
}

/// Nothing was done. What happened is for the log, not for the caller.
fn unreachable(unavailable: &Unavailable, message: &Value) -> Response {
    tracing::warn!(target: TARGET, %unavailable, "a caller was told that nothing can be done at present");
    later(answer(StatusCode::SERVICE_UNAVAILABLE, message), unavailable.retry_after)
}

fn later(mut response: Response, after: Duration) -> Response {
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    response
}

/// How a network is called by a generation.
fn network_name(network: &crate::x402::Network, version: Version) -> &str {
    match version {
        Version::V1 => network.name(),
        Version::V2 => network.as_str(),
    }
}
