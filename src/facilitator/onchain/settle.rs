//! One settlement, from the question whether it can be made to the word of the chain that it was.
//!
//! Whatever the chain says of a payment is preferred to what is remembered, so a settlement that was
//! begun by an earlier run of the gateway is found again by its nonce and is not made twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alloy_primitives::{Address, B256};
use alloy_sol_types::SolEvent as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::abi::Token;
use super::check::{Asker, Look};
use super::flight::{Account, End, Order, State};
use super::node::{Call, Down, Estimated, Node, Receipt};
use super::payment::{Message, Payment};
use super::{RETRY_AFTER, RETRY_AFTER_SENT, TARGET};
use crate::clock::Clock;
use crate::facilitator::{SettleOutcome, Unavailable};
use crate::x402::{Network, Reason, SettleResponse};

/// How often a payment is sent whose transaction was displaced by one of another process.
const ATTEMPTS: u32 = 3;
/// Settlements that are remembered. Those that are over may be forgotten: the chain remembers.
const KNOWN_MAX: usize = 10_000;
/// Settlements under way at a time.
const UNDER_WAY_MAX: usize = 1_000;
/// How far back the chain is searched for a transaction of our own, in blocks, and in steps of how many.
const SEARCHED_BLOCKS: u64 = 100_000;
const SEARCH_STEP: u64 = 2_000;
/// Some providers allow much less; below this it is not worth asking.
const SEARCH_STEP_MIN: u64 = 10;
/// How often the chain is asked what a transaction's end means before it is left open.
const QUESTIONS: u32 = 30;
const QUESTION_PAUSE: Duration = Duration::from_secs(2);

/// What settling takes; shared by all settlements.
pub(super) struct Desk {
    pub(super) name: String,
    pub(super) network: Network,
    pub(super) node: Arc<Node>,
    pub(super) account: Arc<Account>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) gas_limit: u64,
    pub(super) confirmations: u64,
    pub(super) factories: Vec<Address>,
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) known: Mutex<HashMap<Key, Known>>,
}

/// Payer, and what was signed.
type Key = (Address, B256);

/// A settlement that is under way or over.
pub(super) struct Known {
    state: watch::Receiver<State>,
    expires: crate::clock::UnixSeconds,
}

impl Known {
    fn is_over(&self) -> bool {
        matches!(&*self.state.borrow(), State::Done(_))
    }
}

impl Desk {
    /// Asks the chain about payments.
    pub(super) fn asker(&self) -> Asker<'_> {
        Asker {
            node: &self.node,
            account: self.account.address,
            gas_limit: self.gas_limit,
            factories: &self.factories,
        }
    }

    /// Whether a payment is being settled, or was and is remembered.
    pub(super) fn knows(&self, payment: &Payment) -> bool {
        self.known().contains_key(&key(payment))
    }

    /// Joins the settlement of a payment, or begins it; `None` when there are too many. Nothing is sent
    /// for the first time after `send_before`.
    pub(super) fn join(
        self: &Arc<Self>,
        payment: Payment,
        send_before: Instant,
        runtime: &tokio::runtime::Handle,
    ) -> Option<watch::Receiver<State>> {
        let mut known = self.known();
        if let Some(other) = known.get(&key(&payment)) {
            return Some(other.state.clone());
        }
        if known.len() >= KNOWN_MAX {
            let now = self.clock.now();
            known.retain(|_, known| !known.is_over() || known.expires > now);
        }
        if known.len() >= KNOWN_MAX {
            known.retain(|_, known| !known.is_over());
        }
        if known.values().filter(|known| !known.is_over()).count() >= UNDER_WAY_MAX {
            return None;
        }
        let (sender, state) = watch::channel(State::Working);
        known.insert(key(&payment), Known { state: state.clone(), expires: payment.expires() });
        let (desk, driver, payment) = (Arc::clone(self), Arc::clone(self), Arc::new(payment));
        let task = {
            let (payment, sender) = (Arc::clone(&payment), sender.clone());
            runtime.spawn(async move { driver.drive(&payment, &sender, send_before).await })
        };
        runtime.spawn(async move {
            let ended = task.await;
            let outcome = ended.unwrap_or_else(|lost| desk.lost(&format!("a settlement's task: {lost}")));
            if !matches!(outcome, SettleOutcome::Settled(_)) {
                // The next one who asks begins anew, with what the chain says then.
                desk.known().remove(&key(&payment));
            }
            sender.send_replace(State::Done(outcome));
        });
        Some(state)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Known>> {
        // Every change is complete before it can panic.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn drive(
        &self,
        payment: &Payment,
        state: &watch::Sender<State>,
        send_before: Instant,
    ) -> SettleOutcome {
        let mut sent = false;
        for _ in 0..ATTEMPTS {
            let order = match self.prepare(payment, state).await {
                Ok(order) => order,
                // What was sent before may have moved the money after all.
                Err(SettleOutcome::Unreachable(unavailable)) if sent => {
                    return SettleOutcome::AnswerLost(unavailable);
                }
                Err(outcome) => return outcome,
            };
            let (call, gas) = order;
            let (done, end) = oneshot::channel();
            let order =
                Order { call, gas, send_before, expires: payment.expires(), state: state.clone(), done };
            if self.orders.try_send(order).is_err() {
                return self.unreachable("too many transactions wait to be sent");
            }
            match end.await {
                Ok(End::Mined(receipt)) => return self.judge(payment, &receipt).await,
                Ok(End::NotSent(cause)) if sent => return self.lost(&cause),
                Ok(End::NotSent(cause)) => return self.unreachable(&cause),
                Ok(End::Doubtful(cause)) => return self.lost(&cause),
                Ok(End::Displaced) => sent = true,
                Err(_) => return self.lost("the task that sends transactions has ended"),
            }
        }
        self.lost("other transactions of the account keep taking the nonce")
    }

    /// The call that makes a payment and the gas for it, or what came of it without one.
    async fn prepare(
        &self,
        payment: &Payment,
        state: &watch::Sender<State>,
    ) -> Result<(Call, u64), SettleOutcome> {
        let look = self.asker().look(payment).await.map_err(|Down(cause)| self.unreachable(&cause))?;
        let in_time = payment.in_time(self.clock.now());
        let call = match (look, in_time) {
            (Look::Used, _) => {
                // Until it is known by whom, the money may have moved.
                state.send_replace(State::Sending);
                return Err(self.reconcile(payment).await);
            }
            (_, Err(reason)) | (Look::Refused(reason), _) => {
                return Err(self.declined(payment, &reason, None));
            }
            (Look::Payable(call), Ok(())) => call,
        };
        let account = self.account.address;
        match self.node.estimate(account, &call, self.gas_limit).await {
            // The state may change until then.
            Ok(Estimated::Gas(gas)) => Ok((call, gas.saturating_add(gas / 4).min(self.gas_limit))),
            Ok(Estimated::TooMuch) => Err(self.declined(payment, &Reason::EVM_GAS_LIMIT, None)),
            Ok(Estimated::Reverts(words)) => {
                tracing::debug!(target: TARGET, facilitator = self.name, words, "a transfer would be reverted");
                Err(self.declined(payment, &Reason::EVM_SIMULATION, None))
            }
            Err(Down(cause)) => Err(self.unreachable(&cause)),
        }
    }

    /// What a transaction in a block means for its payment.
    async fn judge(&self, payment: &Payment, receipt: &Receipt) -> SettleOutcome {
        let hash = receipt.transaction_hash;
        if receipt.pays(payment) {
            return self.settled(payment, hash);
        }
        // It moved nothing. Another one may have: of an earlier run, or of somebody else.
        let mut cause = String::new();
        for _ in 0..QUESTIONS {
            match self.asker().look(payment).await {
                Ok(Look::Used) => return self.reconcile(payment).await,
                Ok(Look::Payable(_) | Look::Refused(_)) => {
                    let reason = if receipt.succeeded() { Reason::EVM_TRANSFER } else { Reason::EVM_FAILED };
                    return self.declined(payment, &reason, Some(hash));
                }
                Err(Down(why)) => cause = why,
            }
            tokio::time::sleep(QUESTION_PAUSE).await;
        }
        self.lost(&cause)
    }

    /// What came of a payment whose nonce is spent: settled, if a transaction of our own did it.
    async fn reconcile(&self, payment: &Payment) -> SettleOutcome {
        match self.find_own(payment).await {
            Ok(Some(receipt)) => {
                tracing::info!(
                    target: TARGET, facilitator = self.name, transaction = %receipt.transaction_hash,
                    "the payment was settled by an earlier transaction of our own"
                );
                self.settled(payment, receipt.transaction_hash)
            }
            Ok(None) => self.declined(payment, &payment.used(), None),
            Err(Down(cause)) => self.lost(&cause),
        }
    }

    /// The transaction of our own that made a payment, if there is one with enough blocks behind it.
    async fn find_own(&self, payment: &Payment) -> Result<Option<Receipt>, Down> {
        let head = self.node.block_number().await?;
        let topics = match &payment.message {
            Message::Eip3009(message) => {
                vec![Token::AuthorizationUsed::SIGNATURE_HASH, payment.payer.into_word(), message.nonce]
            }
            Message::Permit2(_) => {
                vec![Token::Transfer::SIGNATURE_HASH, payment.payer.into_word(), payment.pay_to.into_word()]
            }
        };
        let (mut last, mut step) = (head, SEARCH_STEP);
        let first = head.saturating_sub(SEARCHED_BLOCKS);
        loop {
            let from = last.saturating_sub(step - 1).max(first);
            let logs = match self.node.logs(payment.asset, &topics, (from, last)).await {
                Ok(logs) => logs,
                // The range may be too long for the node.
                Err(down) if step / 2 < SEARCH_STEP_MIN => return Err(down),
                Err(_) => {
                    step /= 2;
                    continue;
                }
            };
            for log in logs.iter().rev() {
                if let Some(receipt) = self.own(payment, log.transaction_hash).await? {
                    return self.confirmed(receipt).await.map(Some);
                }
            }
            if from <= first {
                return Ok(None);
            }
            last = from - 1;
        }
    }

    /// The receipt of a transaction, if we sent it for this payment and it moved the money.
    async fn own(&self, payment: &Payment, hash: Option<B256>) -> Result<Option<Receipt>, Down> {
        let Some(hash) = hash else { return Ok(None) };
        let nonce = match &payment.message {
            Message::Eip3009(message) => message.nonce,
            Message::Permit2(message) => B256::from(message.nonce),
        };
        let transaction = self.node.transaction(hash).await?;
        let is_own = transaction.is_some_and(|transaction| {
            transaction.from == self.account.address
                && transaction.input.windows(32).any(|word| word == nonce.as_slice())
        });
        if !is_own {
            return Ok(None);
        }
        Ok(self.node.receipt(hash).await?.filter(|receipt| receipt.pays(payment)))
    }

    /// Waits until enough blocks are behind a transaction of an earlier run.
    async fn confirmed(&self, receipt: Receipt) -> Result<Receipt, Down> {
        for _ in 0..QUESTIONS {
            if self.node.block_number().await? + 1 >= receipt.block() + self.confirmations {
                // It may have been moved to another block, or out of all of them.
                let again = self.node.receipt(receipt.transaction_hash).await?;
                return again.ok_or_else(|| Down("a transaction is in no block any more".into()));
            }
            tokio::time::sleep(QUESTION_PAUSE).await;
        }
        Err(Down("a transaction is not confirmed yet".into()))
    }

    fn settled(&self, payment: &Payment, hash: B256) -> SettleOutcome {
        SettleOutcome::Settled(self.response(payment, None, hash.to_string()))
    }

    /// A no, with the transaction that shows it.
    pub(super) fn declined(&self, payment: &Payment, reason: &Reason, hash: Option<B256>) -> SettleOutcome {
        let hash = hash.map_or_else(String::new, |hash| hash.to_string());
        SettleOutcome::Declined(self.response(payment, Some(reason), hash))
    }

    /// Sent, and in no block yet.
    pub(super) fn pending(&self, payment: &Payment, hash: B256) -> SettleOutcome {
        let reason = Some(&Reason::SETTLEMENT_PENDING);
        SettleOutcome::Pending(self.response(payment, reason, hash.to_string()))
    }

    fn response(&self, payment: &Payment, reason: Option<&Reason>, transaction: String) -> SettleResponse {
        SettleResponse {
            success: reason.is_none(),
            error_reason: reason.map(|reason| reason.as_str().to_owned()),
            payer: Some(payment.payer.to_checksum(None)),
            transaction,
            network: self.network.as_str().to_owned(),
            amount: None,
            extra: None,
            extensions: None,
        }
    }

    pub(super) fn unreachable(&self, cause: &str) -> SettleOutcome {
        SettleOutcome::Unreachable(self.unavailable(cause, RETRY_AFTER))
    }

    pub(super) fn lost(&self, cause: &str) -> SettleOutcome {
        SettleOutcome::AnswerLost(self.unavailable(cause, RETRY_AFTER_SENT))
    }

    pub(super) fn unavailable(&self, cause: &str, retry_after: Duration) -> Unavailable {
        Unavailable { facilitator: self.name.clone(), cause: cause.to_owned(), retry_after }
    }
}

fn key(payment: &Payment) -> Key {
    (payment.payer, payment.digest)
}
