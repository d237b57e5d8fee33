//! Settlement: its own task on its own runtime, intent recorded first, so that neither a client
//! that leaves nor a proxy that shuts down can leave it half done.

use std::sync::Arc;

use tokio::task::JoinHandle;

use super::chains::ByOthers;
use super::closing::{Closing, UnderWay};
use super::gate::Shared;
use super::permit::{Delivery, Permit};
use super::refusal::Refusal;
use crate::clock::UnixSeconds;
use crate::facilitator::{Facilitator, SettleOutcome, Unavailable};
use crate::ledger::{ClaimToken, Intended, Intent, Recorded, Settlement, ToldPayer};
use crate::policy::FacilitatorId;
use crate::x402::types::FacilitatorRequest;
use crate::x402::{SettleResponse, Version};

/// A settled payment, and the delivery it bought.
#[derive(Debug)]
pub struct Receipt {
    /// Generation of the payment, which decides the header's name.
    pub version: Version,
    /// What the client is told.
    pub response: SettleResponse,
    /// To be completed when the answer was sent to its end.
    pub delivery: Delivery,
}

/// Reasons for a no that leave open whether the money moved: it is being settled already, or something
/// went wrong at a point that the facilitator does not tell.
const UNDECIDED: [&str; 3] = ["duplicate_settlement", "unexpected_settle_error", "settlement_pending"];

/// Others that leave it open: the nonce is spent although this was the first settlement the gateway
/// asked for. Somebody else submitted the authorization, and it can only have paid the seller.
const USED: [&str; 4] =
    ["nonce_already_used", "permit2_invalid_nonce", "authorization_used", "authorization is used"];

/// Reasons that prove that a transaction was sent and moved nothing.
const FAILED_ON_CHAIN: [&str; 3] = ["revert", "invalid_transaction_state", "transaction_failed"];

/// Seconds until an unresolved payment is first driven.
const FIRST_DRIVE_SECONDS: u64 = 1;

/// Settles a permit's payment.
pub(super) async fn settle(permit: Permit) -> Result<Receipt, Refusal> {
    let shared = Arc::clone(&permit.shared);
    let token = permit.token;
    let task = shared.runtime.spawn(Job::take(permit).drive());
    finish(&shared, token, task).await
}

/// Records a permit's payment as settled by somebody else.
pub(super) async fn recognise(permit: Permit, response: SettleResponse) -> Result<Receipt, Refusal> {
    let shared = Arc::clone(&permit.shared);
    let token = permit.token;
    let task = shared.runtime.spawn(Job::take(permit).recognise(response));
    finish(&shared, token, task).await
}

async fn finish(
    shared: &Arc<Shared>,
    token: ClaimToken,
    task: JoinHandle<Result<Receipt, Refusal>>,
) -> Result<Receipt, Refusal> {
    match task.await {
        Ok(result) => result,
        // The task was lost, by a panic or a shutdown; what it had asked for is not known.
        Err(lost) => {
            tracing::error!(payment = %token.id, %lost, "the settlement task was lost");
            let closing = left_open(shared, "the settlement task was lost", "");
            let _ = shared.close_in_background(token, closing).await;
            Err(Refusal::Unresolved)
        }
    }
}

/// One settlement.
struct Job {
    token: ClaimToken,
    version: Version,
    facilitator: FacilitatorId,
    verified_by: Option<Arc<dyn Facilitator>>,
    request: Arc<FacilitatorRequest>,
    unique_transaction: bool,
    /// Whether the payer's signature was checked here.
    proven: bool,
    /// Who pays, if the payment is good.
    payer: Option<String>,
    told_payer: Option<ToldPayer>,
    under_way: UnderWay,
}

impl Job {
    /// Takes a permit's responsibility for its claim.
    fn take(mut permit: Permit) -> Self {
        permit.handed_over = true;
        Self {
            token: permit.token,
            version: permit.version,
            facilitator: permit.facilitator,
            verified_by: permit.verified_by.clone(),
            request: Arc::clone(&permit.request),
            unique_transaction: permit.malleable,
            proven: permit.proven,
            payer: permit.payer.clone(),
            told_payer: permit.told_payer(),
            under_way: UnderWay::begin(&permit.shared),
        }
    }

    async fn drive(self) -> Result<Receipt, Refusal> {
        let shared = self.under_way.shared();
        let since = shared.clock.now();
        if self.verified_by.is_none() {
            match shared.used_before(&self.request, since).await {
                // Only its payer is owed anything.
                ByOthers::Paid(response) if self.proven => return self.recognise(*response).await,
                ByOthers::Spent(why) => {
                    shared.close(self.token, Closing::Released { reason: Some(why.to_owned()) }).await;
                    return Err(Refusal::AlreadyUsed);
                }
                ByOthers::Paid(_) | ByOthers::Unknown => {}
            }
        }
        let outcome = self.ask_in_turn(shared).await?;
        self.conclude(shared, outcome, since).await
    }

    /// Delivers for a payment that somebody else submitted. Nobody is asked, so only a list is named.
    async fn recognise(self, response: SettleResponse) -> Result<Receipt, Refusal> {
        let shared = self.under_way.shared();
        self.intend(shared, shared.facilitators(self.facilitator).name()).await?;
        self.deliver(shared, response).await
    }

    /// Asks one facilitator after the other to settle, as long as provably none was reached. Each is in
    /// the ledger before it is asked: whoever takes this payment over must ask the same one.
    async fn ask_in_turn(&self, shared: &Arc<Shared>) -> Result<SettleOutcome, Refusal> {
        let mut turns = shared.facilitators(self.facilitator).turns(&self.request, self.verified_by.clone());
        while let Some(facilitator) = turns.next().await {
            self.intend(shared, facilitator.name()).await?;
            match ask(facilitator.as_ref(), &self.request).await {
                SettleOutcome::Unreachable(unavailable) => turns.not_reached(unavailable),
                told @ (SettleOutcome::Settled(_)
                | SettleOutcome::Declined(_)
                | SettleOutcome::Pending(_)
                | SettleOutcome::AnswerLost(_)) => return Ok(told),
            }
        }
        Ok(SettleOutcome::Unreachable(turns.nobody_reached()))
    }

    async fn intend(&self, shared: &Arc<Shared>, facilitator: &str) -> Result<(), Refusal> {
        let (token, now) = (self.token, shared.clock.now());
        let intent = Intent {
            facilitator: facilitator.to_owned(),
            request: self.request.to_stored(),
            unique_transaction: self.unique_transaction,
            payer: self.told_payer.clone(),
        };
        match shared.ledger.settling(token, intent, now).await {
            Ok(Intended::Recorded) => Ok(()),
            Ok(Intended::PayerLimit) => {
                let reason = Some("its payer has too much pledged".to_owned());
                shared.close(token, Closing::Released { reason }).await;
                Err(Refusal::PayerLimit)
            }
            Err(error) => {
                shared.close(token, Closing::Abandoned { reason: error.to_string() }).await;
                Err(error.into())
            }
        }
    }

    async fn conclude(
        &self,
        shared: &Arc<Shared>,
        outcome: SettleOutcome,
        since: UnixSeconds,
    ) -> Result<Receipt, Refusal> {
        let token = self.token;
        match outcome {
            SettleOutcome::Settled(response) => self.deliver(shared, response).await,
            SettleOutcome::Declined(response) => self.declined(shared, response, since).await,
            SettleOutcome::Unreachable(unavailable) => {
                let cause = unavailable.to_string();
                let reason = format!("settlement was never asked for: {cause}");
                shared.close(token, Closing::Abandoned { reason }).await;
                Err(Refusal::Unavailable { cause, retry_after: unavailable.retry_after })
            }
            SettleOutcome::Pending(response) => {
                tracing::warn!(payment = %token.id, transaction = %response.transaction, "settlement is pending");
                self.keep(shared, "settlement is pending", &response.transaction).await
            }
            SettleOutcome::AnswerLost(Unavailable { cause, .. }) => {
                tracing::warn!(payment = %token.id, %cause, "the outcome of a settlement is not known");
                self.keep(shared, &cause, "").await
            }
        }
    }

    /// Told no, which need not mean that the money did not move.
    async fn declined(
        &self,
        shared: &Arc<Shared>,
        response: SettleResponse,
        since: UnixSeconds,
    ) -> Result<Receipt, Refusal> {
        let undecided = is_undecided(&response);
        // A transaction may have failed because somebody else's was first.
        if undecided || failed_on_chain(&response) {
            match shared.paid_by_others(&self.request, since).await {
                ByOthers::Paid(paid) => return self.deliver(shared, *paid).await,
                // Nor was it this settlement, says the facilitator.
                ByOthers::Spent(why) if says_used(response.error_reason.as_deref()) => {
                    self.decline(shared, why).await;
                    return Err(Refusal::SettlementFailed(Box::new(response)));
                }
                ByOthers::Spent(_) | ByOthers::Unknown => {}
            }
        }
        let reason = response.error_reason.clone().unwrap_or_default();
        if undecided {
            self.note_failure(shared);
            tracing::warn!(
                payment = %self.token.id, reason, transaction = %response.transaction,
                "a no that does not tell whether the money moved; kept as unresolved"
            );
            return self.keep(shared, &reason, &response.transaction).await;
        }
        self.decline(shared, &reason).await;
        Err(Refusal::SettlementFailed(Box::new(response)))
    }

    async fn decline(&self, shared: &Arc<Shared>, reason: &str) {
        self.note_failure(shared);
        shared.close(self.token, Closing::Declined { reason: reason.to_owned() }).await;
    }

    /// Its payer has perhaps had the site work for nothing.
    fn note_failure(&self, shared: &Shared) {
        // Anybody can name a payer whose signature nobody has checked.
        let known = self.proven || self.verified_by.is_some();
        if let Some(payer) = self.payer.as_ref().filter(|_| known) {
            shared.failures.note(&self.request.network, payer, self.token, shared.clock.now());
        }
    }

    /// The money moved: recorded first, because only what is recorded can be delivered just once.
    async fn deliver(&self, shared: &Arc<Shared>, mut response: SettleResponse) -> Result<Receipt, Refusal> {
        response.payer = response.payer.or_else(|| self.payer.clone());
        let (token, unique_transaction) = (self.token, self.unique_transaction);
        if unique_transaction && response.transaction.is_empty() {
            tracing::warn!(payment = %token.id, "settled without naming a transaction; nothing is delivered for it");
            return self.keep(shared, "settled without naming a transaction", "").await;
        }
        let settlement = Settlement { response: &response, deliver: true, unique_transaction };
        match shared.ledger.settled(token, settlement, shared.clock.now()).await {
            Ok(Recorded::Deliver) => {
                let delivery = Delivery::new(shared, token);
                Ok(Receipt { version: self.version, response, delivery })
            }
            Ok(Recorded::Taken | Recorded::Owed | Recorded::TransactionUsed) => Err(Refusal::AlreadyUsed),
            Err(error) => {
                tracing::error!(payment = %token.id, %error, "a settled payment could not be recorded");
                let closing = Closing::Settled { response: Box::new(response), unique_transaction };
                shared.close(token, closing).await;
                Err(Refusal::Unresolved)
            }
        }
    }

    async fn keep(&self, shared: &Arc<Shared>, reason: &str, transaction: &str) -> Result<Receipt, Refusal> {
        shared.close(self.token, left_open(shared, reason, transaction)).await;
        Err(Refusal::Unresolved)
    }
}

fn left_open(shared: &Shared, reason: &str, transaction: &str) -> Closing {
    Closing::Unresolved {
        reason: reason.to_owned(),
        transaction: transaction.to_owned(),
        next_try: shared.clock.now().plus(FIRST_DRIVE_SECONDS),
    }
}

/// Asks a facilitator to settle, and once more where it says that the transaction is on its way: it
/// reconciles one identical request with the transaction it has sent.
pub(super) async fn ask(facilitator: &dyn Facilitator, request: &FacilitatorRequest) -> SettleOutcome {
    let pending = match facilitator.settle(request).await {
        SettleOutcome::Pending(pending) => pending,
        known @ (SettleOutcome::Settled(_)
        | SettleOutcome::Declined(_)
        | SettleOutcome::Unreachable(_)
        | SettleOutcome::AnswerLost(_)) => return known,
    };
    match facilitator.settle(request).await {
        SettleOutcome::Settled(response) => SettleOutcome::Settled(response),
        SettleOutcome::Declined(response)
            if failed_on_chain(&response) && is_same(&response.transaction, &pending.transaction) =>
        {
            SettleOutcome::Declined(response)
        }
        // It was sent before, so neither a no without proof nor not reaching the facilitator now
        // says what became of it.
        SettleOutcome::Declined(_)
        | SettleOutcome::Pending(_)
        | SettleOutcome::Unreachable(_)
        | SettleOutcome::AnswerLost(_) => SettleOutcome::Pending(pending),
    }
}

/// Whether a no leaves open if the money moved: for its reason, or because a transaction was sent.
fn is_undecided(response: &SettleResponse) -> bool {
    speaks_of_use(response.error_reason.as_deref().unwrap_or_default())
        || (!response.transaction.is_empty() && !failed_on_chain(response))
}

/// Whether a reason says that the authorization was used, or is being used.
pub(super) fn speaks_of_use(reason: &str) -> bool {
    says_used(Some(reason)) || contains(reason, &UNDECIDED)
}

/// Whether a reason says that the authorization was used before.
fn says_used(reason: Option<&str>) -> bool {
    reason.is_some_and(|reason| contains(reason, &USED))
}

fn contains(reason: &str, codes: &[&str]) -> bool {
    let reason = reason.to_ascii_lowercase();
    codes.iter().any(|code| reason.contains(code))
}

/// Whether two answers speak of the same transaction, and of one at all.
pub(super) fn is_same(transaction: &str, known: &str) -> bool {
    !transaction.is_empty() && transaction.eq_ignore_ascii_case(known)
}

/// Whether a no proves that the transaction which was sent moved nothing.
pub(super) fn failed_on_chain(response: &SettleResponse) -> bool {
    let reason = response.error_reason.as_deref().unwrap_or_default().to_ascii_lowercase();
    FAILED_ON_CHAIN.iter().any(|code| reason.contains(code))
}
