//! A facilitator whose calls are counted and timed.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;

use super::{Facilitator, SettleOutcome, Unavailable};
use crate::telemetry::Metrics;
use crate::x402::types::FacilitatorRequest;
use crate::x402::{Supported, VerifyResponse};

/// Counts and times the calls to another facilitator.
pub struct Metered {
    inner: Arc<dyn Facilitator>,
    metrics: Arc<Metrics>,
}

impl Metered {
    /// Wraps a facilitator.
    #[must_use]
    pub fn new(inner: Arc<dyn Facilitator>, metrics: Arc<Metrics>) -> Self {
        Self { inner, metrics }
    }
}

#[async_trait]
impl Facilitator for Metered {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn supported(&self) -> Result<Arc<Supported>, Unavailable> {
        self.inner.supported().await
    }

    async fn verify(&self, request: &FacilitatorRequest) -> Result<VerifyResponse, Unavailable> {
        let started = Instant::now();
        let answer = self.inner.verify(request).await;
        let result = match &answer {
            Ok(VerifyResponse::Valid { .. }) => "valid",
            Ok(VerifyResponse::Invalid { .. }) => "invalid",
            Err(_) => "unavailable",
        };
        self.metrics.call(self.name(), "verify", result, started.elapsed());
        answer
    }

    async fn settle(&self, request: &FacilitatorRequest) -> SettleOutcome {
        let started = Instant::now();
        let outcome = self.inner.settle(request).await;
        let result = match &outcome {
            SettleOutcome::Settled(_) => "settled",
            SettleOutcome::Declined(_) => "declined",
            SettleOutcome::Pending(_) => "pending",
            SettleOutcome::Unreachable(_) => "unreachable",
            SettleOutcome::AnswerLost(_) => "answer_lost",
        };
        self.metrics.call(self.name(), "settle", result, started.elapsed());
        outcome
    }
}
