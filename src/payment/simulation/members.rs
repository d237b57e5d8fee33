//! The simulated facilitators, which stand in for each other: they lose, delay and refuse.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;

use super::world::Edge;
use crate::facilitator::{Facilitator, SettleOutcome, Unavailable};
use crate::ledger::{Accounts as _, PaymentState};
use crate::payment::tests::supported;
use crate::scheme::PaymentId;
use crate::x402::types::FacilitatorRequest;
use crate::x402::{Reason, SettleResponse, Supported, VerifyResponse, Version};

const FIRST: &str = "first";
const SECOND: &str = "second";

/// A facilitator as one gateway reaches it.
pub(super) struct Member {
    edge: Arc<Edge>,
    name: &'static str,
}

fn response(success: bool, transaction: String, reason: Option<&str>) -> SettleResponse {
    SettleResponse {
        success,
        error_reason: reason.map(str::to_owned),
        payer: None,
        transaction,
        network: "eip155:84532".into(),
        amount: None,
        extra: None,
        extensions: None,
    }
}

impl Member {
    pub(super) fn both(edge: &Arc<Edge>) -> Vec<Arc<dyn Facilitator>> {
        let member = |name| Arc::new(Self { edge: Arc::clone(edge), name }) as Arc<dyn Facilitator>;
        [FIRST, SECOND].map(member).into()
    }

    fn unavailable(&self) -> Unavailable {
        let (facilitator, cause) = (self.name.to_owned(), "as chance has it".to_owned());
        Unavailable { facilitator, cause, retry_after: Duration::from_secs(1) }
    }

    async fn settle_now(&self, id: PaymentId) -> SettleOutcome {
        let world = &self.edge.world;
        if world.fails(20) {
            return SettleOutcome::Unreachable(self.unavailable());
        }
        self.is_reached(id).await;
        if world.fails(8) {
            return SettleOutcome::AnswerLost(self.unavailable());
        }
        if world.fails(5) && world.paid(id).is_none() {
            return SettleOutcome::Declined(response(false, String::new(), Some("insufficient_funds")));
        }
        world.wait(2_000).await;
        if world.paid(id).is_some() && world.happens(50) {
            let reason = Reason::EVM_NONCE_USED;
            return SettleOutcome::Declined(response(false, String::new(), Some(reason.as_str())));
        }
        if world.fails(8) {
            let later = Arc::clone(world);
            tokio::spawn(async move {
                later.wait(20_000).await;
                // Not every transaction that was sent is included.
                if later.happens(70) {
                    later.submit(id);
                }
            });
            let reason = Reason::SETTLEMENT_PENDING;
            return SettleOutcome::Pending(response(false, "0xsent".to_owned(), Some(reason.as_str())));
        }
        let Some(transaction) = world.submit(id) else {
            let reason = Reason::EVM_VALID_BEFORE;
            return SettleOutcome::Declined(response(false, String::new(), Some(reason.as_str())));
        };
        if world.fails(12) {
            return SettleOutcome::AnswerLost(self.unavailable());
        }
        SettleOutcome::Settled(response(true, transaction, None))
    }

    /// Checks that the ledger says so, and that nobody else was asked in the same attempt.
    async fn is_reached(&self, id: PaymentId) {
        let world = &self.edge.world;
        let record = world.ledger().get(id).await.unwrap().unwrap();
        let (state, named) = (record.state, record.particulars.facilitator);
        let is_open = matches!(state, PaymentState::Settling | PaymentState::Unresolved);
        if !is_open || named != self.name {
            world
                .violated(id, &format!("{} is asked to settle, the ledger says {state}, {named}", self.name));
        }
        let before = world.asked.lock().unwrap().insert((id, record.attempt), self.name);
        match before {
            None if self.name == SECOND => world.count(|totals| totals.moved_on += 1),
            None => {}
            Some(same) if same == self.name => world.count(|totals| totals.asked_again += 1),
            Some(other) => world.violated(id, &format!("{} is asked to settle after {other}", self.name)),
        }
    }
}

#[async_trait]
impl Facilitator for Member {
    fn name(&self) -> &str {
        self.name
    }

    async fn supported(&self) -> Result<Arc<Supported>, Unavailable> {
        Ok(supported(&[Version::V2], &json!({})))
    }

    async fn verify(&self, request: &FacilitatorRequest) -> Result<VerifyResponse, Unavailable> {
        let world = &self.edge.world;
        world.wait(200).await;
        self.edge.life.goes_on().await;
        if world.fails(5) {
            return Err(self.unavailable());
        }
        if world.paid(world.id_of(request)).is_some() {
            return Ok(VerifyResponse::Invalid { reason: Reason::EVM_NONCE_USED, payer: None });
        }
        Ok(VerifyResponse::Valid { payer: None })
    }

    async fn settle(&self, request: &FacilitatorRequest) -> SettleOutcome {
        self.edge.life.goes_on().await;
        let id = self.edge.world.id_of(request);
        let outcome = self.settle_now(id).await;
        self.edge.world.note(id, (self.name, &outcome));
        self.edge.life.goes_on().await;
        outcome
    }
}
