//! A facilitator behind an HTTP API: `POST /verify`, `POST /settle`, `GET /supported`
//! (`x402-specification-v2.md` §7).

mod auth;
mod breaker;
pub mod dialect;
mod flight;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod transport;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use self::breaker::{Breaker, Health, Pass};
use self::dialect::{Answer, Settlement};
use self::flight::SingleFlight;
use self::transport::{Call, Transport};
use super::settings::HttpSettings;
use super::{Facilitator, SettleOutcome, TARGET, Unavailable, body_digest};
use crate::clock::Clock;
use crate::x402::types::FacilitatorRequest;
use crate::x402::{SettleResponse, Supported, VerifyResponse};

/// Longest wait for a connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a positive verification counts: balances change.
const VALID_LIFETIME: Duration = Duration::from_secs(10);
/// How long a negative one does: payers fix what was wrong, and try again.
const INVALID_LIFETIME: Duration = Duration::from_secs(5);
/// Verifications that are remembered.
const VERDICTS_MAX: u64 = 10_000;
/// When to try again, where the facilitator does not say.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// When to ask about a settlement without an answer: chains need a moment.
const RETRY_AFTER_LOST: Duration = Duration::from_secs(5);
/// The longest a list of what is supported counts as fresh.
const SUPPORTED_TTL_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// The longest pause between attempts to learn what is supported.
const SUPPORTED_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Where monotonic time comes from; tests bring their own.
type Now = Arc<dyn Fn() -> Instant + Send + Sync>;

/// A facilitator that is spoken to over HTTP.
///
/// Connections are pooled, every call has a deadline, identical verifications under way or just
/// made are one call, and a facilitator that keeps failing is left alone for a while.
pub struct HttpFacilitator(Arc<Inner>);

struct Inner {
    settings: HttpSettings,
    transport: Transport,
    breaker: Breaker,
    now: Now,
    verdicts: SingleFlight<[u8; 32], Result<VerifyResponse, Unavailable>>,
    listings: SingleFlight<(), Result<Arc<Supported>, Unavailable>>,
    /// The last list that arrived, for as long as no newer one does.
    listing: ArcSwapOption<Supported>,
    /// Failures in a row to get one.
    listing_failures: AtomicU32,
}

/// No answer that can be understood.
struct Failed {
    /// Whether the facilitator may have acted on the request.
    sent: bool,
    cause: String,
    retry_after: Option<Duration>,
}

impl HttpFacilitator {
    /// Prepares the client; connects to nothing yet. `clock` dates tokens.
    ///
    /// # Errors
    /// A URL, secret or CA file that cannot be used; secrets are not quoted.
    pub fn new(settings: HttpSettings, clock: Arc<dyn Clock>) -> Result<Self, String> {
        // Half a deadline at most: waiting for a connection must end as that, and not as an answer
        // that was lost.
        let shortest = settings.verify_timeout.min(settings.settle_timeout) / 2;
        Self::with(settings, clock, CONNECT_TIMEOUT.min(shortest), Arc::new(Instant::now))
    }

    fn with(
        settings: HttpSettings,
        clock: Arc<dyn Clock>,
        connect_timeout: Duration,
        now: Now,
    ) -> Result<Self, String> {
        let settings =
            HttpSettings { supported_ttl: settings.supported_ttl.min(SUPPORTED_TTL_MAX), ..settings };
        let transport = Transport::new(&settings, connect_timeout, clock)
            .map_err(|cause| format!("facilitator {}: {cause}", settings.name))?;
        Ok(Self(Arc::new(Inner {
            transport,
            breaker: Breaker::default(),
            verdicts: SingleFlight::new(VERDICTS_MAX, VALID_LIFETIME, Arc::clone(&now)),
            listings: SingleFlight::new(1, settings.supported_ttl.max(SUPPORTED_PAUSE_MAX), Arc::clone(&now)),
            listing: ArcSwapOption::empty(),
            listing_failures: AtomicU32::new(0),
            now,
            settings,
        })))
    }
}

#[async_trait]
impl Facilitator for HttpFacilitator {
    fn name(&self) -> &str {
        &self.0.settings.name
    }

    /// The last known list, also an old one, when no new one is to be had.
    async fn supported(&self) -> Result<Arc<Supported>, Unavailable> {
        let inner = Arc::clone(&self.0);
        let held = self.0.listings.get((), async move { inner.list().await }).await;
        held.value.or_else(|unavailable| {
            let retry_after = held.until.saturating_duration_since((self.0.now)());
            self.0.listing.load_full().ok_or(Unavailable { retry_after, ..unavailable })
        })
    }

    async fn verify(&self, request: &FacilitatorRequest) -> Result<VerifyResponse, Unavailable> {
        let (inner, body) = (Arc::clone(&self.0), request.body.clone());
        let verdict = self.0.verdicts.get(body_digest(request), async move { inner.verify(body).await });
        verdict.await.value
    }

    async fn settle(&self, request: &FacilitatorRequest) -> SettleOutcome {
        let outcome = self.0.settle(request).await;
        self.0.log_settlement(&outcome);
        // What was true of the payment before need not be true any more.
        self.0.verdicts.forget(&body_digest(request)).await;
        outcome
    }
}

impl Inner {
    async fn verify(&self, body: Bytes) -> (Result<VerifyResponse, Unavailable>, Duration) {
        let deadline = self.settings.verify_timeout;
        let verdict = self.ask(Call::Verify, body, deadline, dialect::verification).await;
        let lifetime = match &verdict {
            Ok(VerifyResponse::Valid { .. }) => VALID_LIFETIME,
            Ok(VerifyResponse::Invalid { .. }) => INVALID_LIFETIME,
            Err(_) => Duration::ZERO,
        };
        (verdict.map_err(|failed| self.unavailable(failed, RETRY_AFTER)), lifetime)
    }

    async fn settle(&self, request: &FacilitatorRequest) -> SettleOutcome {
        let read = |answer: &Answer| match dialect::settlement(answer, request) {
            Settlement::Unclear(cause) => Err(cause),
            known => Ok((known, answer.retry_after)),
        };
        let deadline = self.settings.settle_timeout;
        let failed = match self.ask(Call::Settle, request.body.clone(), deadline, read).await {
            Ok((Settlement::Settled(response), _)) => return SettleOutcome::Settled(response),
            Ok((Settlement::Declined(response), _)) => return SettleOutcome::Declined(response),
            Ok((Settlement::Pending(response), _)) => return SettleOutcome::Pending(response),
            Ok((Settlement::Untouched(cause), retry_after)) => Failed { sent: false, cause, retry_after },
            Ok((Settlement::Unclear(cause), retry_after)) => Failed { sent: true, cause, retry_after },
            Err(failed) => failed,
        };
        if failed.sent {
            SettleOutcome::AnswerLost(self.unavailable(failed, RETRY_AFTER_LOST))
        } else {
            SettleOutcome::Unreachable(self.unavailable(failed, RETRY_AFTER))
        }
    }

    /// Asks what is supported. A failure counts for a while too, so that requests do not queue up
    /// behind one attempt after the other.
    async fn list(&self) -> (Result<Arc<Supported>, Unavailable>, Duration) {
        let deadline = self.settings.verify_timeout;
        let failed = match self.ask(Call::Supported, Bytes::new(), deadline, dialect::supported).await {
            Ok(supported) => {
                let supported = Arc::new(supported);
                self.listing.store(Some(Arc::clone(&supported)));
                self.listing_failures.store(0, Ordering::Relaxed);
                return (Ok(supported), self.settings.supported_ttl);
            }
            Err(failed) => failed,
        };
        let failures = self.listing_failures.fetch_add(1, Ordering::Relaxed);
        let pause = failed.retry_after.unwrap_or_else(|| Duration::from_secs(1 << failures.min(5)));
        let pause = pause.min(SUPPORTED_PAUSE_MAX);
        if self.listing.load().is_some() {
            let facilitator = &self.settings.name;
            tracing::warn!(target: TARGET, facilitator, "an older list of what it supports stays in use");
        }
        (Err(self.unavailable(failed, pause)), pause)
    }

    /// Makes a call, if the breaker lets it, and reads its answer.
    async fn ask<T>(
        &self,
        call: Call,
        body: Bytes,
        deadline: Duration,
        read: impl Fn(&Answer) -> Result<T, String>,
    ) -> Result<T, Failed> {
        let started = (self.now)();
        let pass = self.breaker.enter(started).map_err(|pause| Failed {
            sent: false,
            cause: "left alone after repeated failures".into(),
            retry_after: Some(pause),
        })?;
        let (result, health) = match self.transport.send(call, body, deadline).await {
            Err(failure) => {
                let failed = Failed { sent: failure.sent, cause: failure.cause, retry_after: None };
                (Err(failed), Health::Fails)
            }
            Ok(answer) => match read(&answer) {
                Ok(value) => (Ok(value), Health::Works),
                Err(cause) => {
                    let failed = Failed { sent: true, cause, retry_after: answer.retry_after };
                    (Err(failed), dialect::health(&answer))
                }
            },
        };
        let milliseconds = (self.now)().saturating_duration_since(started).as_millis();
        self.log_call(call, milliseconds, result.as_ref().err());
        self.report(pass, health);
        result
    }

    fn report(&self, pass: Pass<'_>, health: Health) {
        let facilitator = &self.settings.name;
        match health {
            Health::Works => {
                if pass.succeeded() {
                    tracing::info!(target: TARGET, facilitator, "answers again");
                }
            }
            Health::Fails => {
                if let Some(pause) = pass.failed((self.now)()) {
                    let seconds = pause.as_secs();
                    tracing::warn!(target: TARGET, facilitator, seconds, "keeps failing, left alone");
                }
            }
            Health::Unknown => drop(pass),
        }
    }

    fn log_call(&self, call: Call, milliseconds: u128, failed: Option<&Failed>) {
        let (facilitator, call) = (&self.settings.name, call.name());
        match failed {
            None => tracing::debug!(target: TARGET, facilitator, call, milliseconds, "answered"),
            Some(Failed { cause, .. }) => {
                tracing::warn!(target: TARGET, facilitator, call, milliseconds, cause, "gave no usable answer");
            }
        }
    }

    fn log_settlement(&self, outcome: &SettleOutcome) {
        let facilitator = &self.settings.name;
        match outcome {
            SettleOutcome::Settled(SettleResponse { network, transaction, .. }) => {
                tracing::info!(target: TARGET, facilitator, network, transaction, "settled");
            }
            SettleOutcome::Declined(SettleResponse { error_reason, .. }) => {
                tracing::info!(target: TARGET, facilitator, error_reason, "declined to settle");
            }
            SettleOutcome::Pending(SettleResponse { transaction, .. }) => {
                tracing::warn!(target: TARGET, facilitator, transaction, "settlement pending");
            }
            SettleOutcome::Unreachable(Unavailable { cause, .. }) => {
                tracing::warn!(target: TARGET, facilitator, cause, "not reached, nothing settled");
            }
            SettleOutcome::AnswerLost(Unavailable { cause, .. }) => {
                tracing::error!(target: TARGET, facilitator, cause, "sent to be settled, outcome unknown");
            }
        }
    }

    fn unavailable(&self, failed: Failed, retry_after: Duration) -> Unavailable {
        Unavailable {
            facilitator: self.settings.name.clone(),
            cause: failed.cause,
            retry_after: failed.retry_after.unwrap_or(retry_after),
        }
    }
}
