//! Clients of the simulated world: honest ones, which come back until they have what they paid for, and
//! others, which then want it again.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::B256;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::world::{Life, REDELIVERY, Running, World};
use crate::ledger::DeliveryEnd;
use crate::payment::tests::ask;
use crate::payment::{Admission, Owed, PaymentHeader, Permit, Receipt, Refusal};
use crate::policy::SettleWhen;
use crate::scheme::testing::{MOMENT, payment, terms};
use crate::scheme::{ExactEvm, Moment, PaymentId, Scheme as _};
use crate::x402::{Reason, Version, header};

/// Payments in a run.
const PAYMENTS: u8 = 12;
/// How long an honest client goes on asking.
const PATIENCE: Duration = Duration::from_secs(1_200);
/// How long it takes at most to note that an answer was complete.
const NOTED_WITHIN: Duration = Duration::from_secs(60);

pub(super) fn start(world: &Arc<World>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for nonce in 1..=PAYMENTS {
        let client = Client::new(world, nonce);
        tasks.spawn(client.run());
    }
    tasks
}

/// One client with one payment.
struct Client {
    world: Arc<World>,
    id: PaymentId,
    header: String,
    method: http::Method,
    /// Answers that were received whole.
    complete: u32,
    /// Deliveries that this client saw begin.
    begun: u32,
    /// Deliveries of which nothing was sent.
    not_begun: u32,
    /// The gateway of a complete answer was killed before it can have noted it.
    may_repeat: bool,
    /// The gateway that notes a complete answer.
    noting: Option<Arc<Life>>,
}

/// What came of one request.
enum Came {
    Complete,
    /// To be tried again.
    Nothing,
    /// There is nothing more to be had.
    End,
}

fn payment_message(nonce: u8) -> Value {
    json!({"x402Version": 2, "accepted": terms(), "payload": payment(nonce)})
}

impl Client {
    fn new(world: &Arc<World>, nonce: u8) -> Self {
        let message = payment_message(nonce);
        let moment = Moment { now: MOMENT.now, margin_seconds: 0 };
        let id = ExactEvm.inspect(&terms(), message["payload"].as_object().unwrap(), moment).unwrap().id;
        world.knows(B256::repeat_byte(nonce), id);
        let method = if nonce.is_multiple_of(4) { http::Method::POST } else { http::Method::GET };
        let header = header::encode(&message).unwrap();
        Self {
            world: Arc::clone(world),
            id,
            header,
            method,
            complete: 0,
            begun: 0,
            not_begun: 0,
            may_repeat: false,
            noting: None,
        }
    }

    async fn run(mut self) {
        self.world.wait(60_000).await;
        if !self.is_quoted().await {
            return;
        }
        if self.world.fails(10) && self.world.submit(self.id).is_some() {
            self.world.count(|totals| totals.front_runs += 1);
        }
        let patience = tokio::time::Instant::now() + PATIENCE;
        while tokio::time::Instant::now() < patience {
            match self.ask().await {
                Came::Complete | Came::End => break,
                Came::Nothing => self.world.wait(8_000).await,
            }
        }
        self.judge();
        // Everybody would like to have it once more.
        for _ in 0..4 {
            self.world.wait(3_000).await;
            if matches!(self.ask().await, Came::Complete) {
                self.world.count(|totals| totals.repeated += 1);
                self.judge();
            }
        }
    }

    /// Waits for a gateway that asks for what this client pays; others know of it by then.
    async fn is_quoted(&self) -> bool {
        for _ in 0..40 {
            let running = self.world.gateway();
            let put_up = tokio::time::timeout(Duration::from_secs(1), running.gate.put_quotes_up());
            if running.quotes && matches!(put_up.await, Ok(Ok(()))) && !running.life.is_over() {
                return true;
            }
            self.world.wait(3_000).await;
        }
        false
    }

    fn judge(&self) {
        let allowed = if self.may_repeat { 1 + REDELIVERY.tries } else { 1 };
        if self.complete > allowed {
            self.world.violated(self.id, &format!("was delivered whole {} times", self.complete));
        }
        // Whether a gateway that was killed had begun to send is not known; what cannot be fetched twice
        // counts as sent then, and what can as a try.
        let unknown = self.not_begun.saturating_sub(self.world.known_not_begun(self.id));
        let can_ask_again = self.method == http::Method::GET && self.begun + unknown <= REDELIVERY.tries;
        if self.complete == 0 && can_ask_again && self.world.paid(self.id).is_some() {
            self.world.violated(self.id, "was paid and never delivered");
        }
    }

    /// One request; now and then the client leaves in the middle of it.
    async fn ask(&mut self) -> Came {
        let world = Arc::clone(&self.world);
        let running = world.gateway();
        let patience = if world.fails(15) { world.below(3_000) } else { 100_000 };
        let request = self.request(&running);
        let came = tokio::time::timeout(Duration::from_millis(patience), request).await;
        // What is noted of a complete answer takes a moment, in which its gateway may be killed.
        if let Some(life) = self.noting.take() {
            tokio::time::sleep(NOTED_WITHIN).await;
            self.may_repeat |= life.is_over();
        }
        came.unwrap_or(Came::Nothing)
    }

    async fn request(&mut self, running: &Running) -> Came {
        let world = Arc::clone(&self.world);
        let header = self.header.clone();
        let payment = PaymentHeader { version: Version::V2, value: header.as_bytes() };
        let method = self.method.clone();
        match ask(&running.gate, &running.route, &method, "/a", Some(payment)).await {
            Admission::Free => {
                world.violated(self.id, "was not asked for");
                Came::End
            }
            Admission::Paid(permit, when) => {
                if !running.quotes {
                    world.count(|totals| totals.honoured += 1);
                }
                self.buy(running, permit, when).await
            }
            Admission::Owed(owed) => {
                world.count(|totals| totals.owed += 1);
                let Owed { receipt, .. } = *owed;
                self.receive(running, receipt).await
            }
            Admission::Refused(refusal) => self.refused(&refusal),
        }
    }

    async fn buy(&mut self, running: &Running, permit: Permit, when: SettleWhen) -> Came {
        let world = Arc::clone(&self.world);
        if when == SettleWhen::BeforeResponse {
            world.wait(1_000).await;
            if world.fails(10) {
                running.gate.release(permit, "the origin answered 500").await;
                return Came::Nothing;
            }
        }
        match running.gate.settle(permit).await {
            Ok(receipt) => self.receive(running, receipt).await,
            Err(refusal) => self.refused(&refusal),
        }
    }

    async fn receive(&mut self, running: &Running, receipt: Receipt) -> Came {
        let world = Arc::clone(&self.world);
        match world.paid(self.id) {
            Some(transaction) if transaction == receipt.response.transaction => {}
            other => world.violated(self.id, &format!("was delivered, on the chain: {other:?}")),
        }
        if world.fails(10) {
            receipt.delivery.end(DeliveryEnd::NotBegun);
            self.not_begun += 1;
            return Came::Nothing;
        }
        let mut receipt = receipt;
        receipt.delivery.begins();
        self.begun += 1;
        world.note(self.id, "the answer begins");
        world.wait(2_000).await;
        if running.life.is_over() || world.fails(20) {
            world.count(|totals| totals.broken_off += 1);
            drop(receipt);
            return Came::Nothing;
        }
        receipt.delivery.end(DeliveryEnd::Complete);
        self.complete += 1;
        world.count(|totals| totals.complete += 1);
        self.noting = Some(Arc::clone(&running.life));
        Came::Complete
    }

    fn refused(&self, refusal: &Refusal) -> Came {
        let world = &self.world;
        world.note(self.id, ("refused", refusal));
        match refusal {
            Refusal::InUse => world.count(|totals| totals.in_use += 1),
            Refusal::Unresolved => world.count(|totals| totals.unresolved += 1),
            Refusal::SettlementFailed(_) => world.count(|totals| totals.declined += 1),
            Refusal::Unavailable { .. } => {}
            Refusal::AlreadyUsed => {
                world.count(|totals| totals.already_used += 1);
                return Came::End;
            }
            // Its quote is up for longer than the payment itself is valid.
            Refusal::Invalid { reason, .. }
                if *reason == Reason::NO_MATCH && world.now() < MOMENT.now.plus(300) =>
            {
                world.violated(self.id, "was not honoured");
                return Came::End;
            }
            // Spent or run out; at once it may be that the chain could not be asked.
            Refusal::Invalid { .. } if world.paid(self.id).is_some() => {}
            Refusal::Invalid { .. } => return Came::End,
            Refusal::PaymentRequired
            | Refusal::Denied
            | Refusal::PayerLimit
            | Refusal::IdentifierMissing
            | Refusal::IdentifierMalformed
            | Refusal::IdentifierUsed => {
                world.violated(self.id, &format!("was refused: {refusal:?}"));
                return Came::End;
            }
        }
        Came::Nothing
    }
}
