//! What goes on behind requests: unresolved payments are driven until their outcome is known, what
//! gateways that are gone left behind is taken over, what is old is forgotten.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::chains;
use super::closing::Closing;
use super::gate::{Gate, Shared};
use super::settle::{ask, failed_on_chain, is_same};
use crate::chain::{ChainError, Finding};
use crate::facilitator::SettleOutcome;
use crate::ledger::{ClaimToken, LedgerError, TakenOver, Unresolved};
use crate::x402::SettleResponse;
use crate::x402::types::FacilitatorRequest;

/// How often it is looked whether an unresolved payment is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Time between two signs of life to the other gateways.
const BEAT_EVERY: Duration = Duration::from_secs(2);
/// Time between two times that old payments are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(600);
/// Payments driven at a time.
const DRIVEN_AT_A_TIME: usize = 64;
/// How long one may be driven before another gateway takes it: longer than any settlement takes.
const LEASE: Duration = Duration::from_secs(180);
/// The longest wait between two drives, in seconds.
const BACK_OFF_MAX: u64 = 600;
/// Drives without a result after which an operator should know.
const TRIES_BEFORE_WARNING: u32 = 8;

impl Gate {
    /// Takes over what this gateway's predecessor left behind. To be awaited before the first request.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`]: payments cannot be taken yet.
    pub async fn recover(&self) -> Result<TakenOver, LedgerError> {
        self.0.beat().await
    }

    /// Drives, takes over, forgets, and leaves up what is quoted, until another gate takes its place or the
    /// process ends. `retention_seconds` is how long payments are kept.
    pub async fn keep_up(self, retention_seconds: u64) {
        // None waits for another: a facilitator that stalls must neither keep the others' payments
        // waiting nor make this gateway look dead.
        let forgetting = self.keep_forgetting(retention_seconds);
        tokio::join!(self.show_life(), self.keep_driving(), forgetting, self.0.keep_quotes_up());
    }

    async fn show_life(&self) {
        while !self.is_retired() {
            // What fails now is tried again soon; requests are refused meanwhile.
            let _ = self.0.beat().await;
            tokio::time::sleep(BEAT_EVERY).await;
        }
    }

    async fn keep_driving(&self) {
        let mut drives = JoinSet::new();
        while !self.is_retired() {
            while drives.try_join_next().is_some() {}
            let free = DRIVEN_AT_A_TIME.saturating_sub(drives.len());
            if free > 0 {
                self.drive_due(&mut drives, free).await;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        // What has begun ends by itself.
        drives.detach_all();
    }

    /// Begins to drive at most `limit` unresolved payments that are due.
    async fn drive_due(&self, drives: &mut JoinSet<()>, limit: usize) {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        match self.0.ledger.due(self.0.clock.now(), LEASE, limit).await {
            Ok(due) => {
                for payment in due {
                    // Not counted as under way: shutdown need not wait for what the next start takes up again.
                    let shared = Arc::clone(&self.0);
                    drives.spawn(async move { drive(&shared, payment).await });
                }
            }
            Err(error) => tracing::warn!(%error, "unresolved payments cannot be looked up"),
        }
    }

    async fn keep_forgetting(&self, retention_seconds: u64) {
        loop {
            tokio::time::sleep(FORGET_EVERY).await;
            if self.is_retired() {
                return;
            }
            self.forget(retention_seconds).await;
        }
    }

    async fn forget(&self, retention_seconds: u64) {
        match self.0.ledger.forget(retention_seconds, self.0.clock.now()).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "payments older than the retention were forgotten"),
            Err(error) => tracing::warn!(%error, "old payments cannot be forgotten"),
        }
    }
}

impl Shared {
    async fn beat(&self) -> Result<TakenOver, LedgerError> {
        let result = self.ledger.beat(self.clock.now()).await;
        match &result {
            Ok(taken) if *taken != TakenOver::default() => {
                let TakenOver { released, unresolved, broken_off } = taken;
                tracing::warn!(released, unresolved, broken_off, "took over what a gateway left behind");
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "priced routes answer 503 as long as this is so"),
        }
        result
    }
}

/// What a drive found out.
enum Found {
    Settled(Box<SettleResponse>),
    Declined(String),
    /// Still not known, and why.
    Nothing(String),
}

/// Drives one unresolved payment, once.
pub(super) async fn drive(shared: &Arc<Shared>, payment: Unresolved) {
    let token = payment.token;
    let found = match FacilitatorRequest::from_stored(&payment.request) {
        Some(request) => find_out(shared, &payment, &request).await,
        None => Found::Nothing("what the facilitator was asked cannot be read".to_owned()),
    };
    let closing = match found {
        Found::Settled(response) => {
            tracing::info!(payment = %token.id, transaction = %response.transaction, "an unresolved payment was settled");
            Closing::Settled { response, unique_transaction: payment.unique_transaction }
        }
        Found::Declined(reason) => {
            tracing::info!(payment = %token.id, reason, "an unresolved payment was not settled");
            note_failure(shared, token).await;
            Closing::Declined { reason }
        }
        Found::Nothing(reason) => {
            if payment.tries % TRIES_BEFORE_WARNING == TRIES_BEFORE_WARNING - 1 {
                tracing::warn!(payment = %token.id, tries = payment.tries + 1, reason, "a payment is still unresolved");
            }
            let next_try = shared.clock.now().plus(back_off(payment.tries));
            // What the first answer named stays: only that transaction's failure proves anything.
            Closing::Unresolved { reason, transaction: String::new(), next_try }
        }
    };
    shared.close(token, closing).await;
}

/// The books name a payer only where it is known for sure who pays.
async fn note_failure(shared: &Shared, token: ClaimToken) {
    if let Ok(Some(record)) = shared.ledger.get(token.id).await
        && let Some(payer) = &record.particulars.payer
    {
        shared.failures.note(&record.particulars.network, payer, token, shared.clock.now());
    }
}

/// Seconds until the next drive: 2, 4, 8, … 600.
fn back_off(tries: u32) -> u64 {
    2_u64.checked_shl(tries.min(32)).unwrap_or(BACK_OFF_MAX).min(BACK_OFF_MAX)
}

/// Asks the chain, which cannot lie, and the facilitator where the payment is still open.
async fn find_out(shared: &Shared, payment: &Unresolved, request: &FacilitatorRequest) -> Found {
    if let Ok(Some(found)) = ask_chain(shared, payment, request).await {
        return found;
    }
    match ask_again(shared, payment, request).await {
        // Its transaction may have failed because somebody else's was first.
        Found::Declined(reason) => match ask_chain(shared, payment, request).await {
            Ok(known) => known.unwrap_or(Found::Declined(reason)),
            Err(error) => Found::Nothing(error.to_string()),
        },
        told @ (Found::Settled(_) | Found::Nothing(_)) => told,
    }
}

/// What the chain knows; `None`: nothing yet, or there is none to ask.
async fn ask_chain(
    shared: &Shared,
    payment: &Unresolved,
    request: &FacilitatorRequest,
) -> Result<Option<Found>, ChainError> {
    let declined = |reason: &str| Ok(Some(Found::Declined(reason.to_owned())));
    match shared.look(request, payment.settling_at, &payment.transaction).await {
        Some(Ok(Finding::Paid { transaction, payer, .. })) => {
            Ok(Some(Found::Settled(Box::new(chains::settled(request, transaction, payer)))))
        }
        Some(Ok(Finding::Spent { .. })) => declined("the authorization was cancelled or spent otherwise"),
        Some(Ok(Finding::Expired)) => declined("the authorization ran out unused"),
        Some(Ok(Finding::Open)) | None => Ok(None),
        Some(Err(error)) => {
            tracing::warn!(payment = %payment.token.id, %error, "a chain could not be asked about a payment");
            Err(error)
        }
    }
}

async fn ask_again(shared: &Shared, payment: &Unresolved, request: &FacilitatorRequest) -> Found {
    let facilitator = shared.facilitator_named(&payment.facilitator, !payment.unique_transaction);
    let Some(facilitator) = facilitator else {
        return Found::Nothing(format!("facilitator {} is not configured any more", payment.facilitator));
    };
    match ask(facilitator, request).await {
        SettleOutcome::Settled(response) if payment.unique_transaction && response.transaction.is_empty() => {
            Found::Nothing("settled without naming a transaction".to_owned())
        }
        SettleOutcome::Settled(response) => Found::Settled(Box::new(response)),
        // By now the first settlement may have used the authorization or emptied the account, which reads
        // like any other no, and makes a second transaction fail. Proof is only that the transaction failed
        // which the first answer named.
        SettleOutcome::Declined(response)
            if failed_on_chain(&response) && is_same(&response.transaction, &payment.transaction) =>
        {
            Found::Declined(response.error_reason.unwrap_or_default())
        }
        SettleOutcome::Declined(response) => {
            let reason = response.error_reason.unwrap_or_default();
            Found::Nothing(format!("the facilitator now says: {reason} {}", response.transaction))
        }
        SettleOutcome::Pending(response) => {
            Found::Nothing(format!("settlement is pending: {}", response.transaction))
        }
        SettleOutcome::Unreachable(cause) | SettleOutcome::AnswerLost(cause) => {
            Found::Nothing(cause.to_string())
        }
    }
}
