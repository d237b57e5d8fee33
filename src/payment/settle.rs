//! Settlement: its own task on its own runtime, intent recorded first, so that neither a client
//! that leaves nor a proxy that shuts down can leave it half done.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::gate::Shared;
use super::permit::Permit;
use super::refusal::Refusal;
use crate::facilitator::{SettleOutcome, Unavailable};
use crate::ledger::{Claimed, NewClaim};
use crate::policy::FacilitatorId;
use crate::scheme::PaymentId;
use crate::x402::types::FacilitatorRequest;
use crate::x402::{SettleResponse, Version};

/// A settled payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Generation of the payment, which decides the header's name.
    pub version: Version,
    /// What the client is told.
    pub response: SettleResponse,
}

/// Reasons for a no that leave open whether the money moved. The nonce is spent although this was
/// the first settlement the gateway asked for: somebody else submitted the authorization, and it can
/// only have paid the seller. It is being settled already. Or something went wrong at a point that
/// the facilitator does not tell.
const UNDECIDED: [&str; 6] = [
    "nonce_already_used",
    "authorization_used",
    "authorization is used",
    "duplicate_settlement",
    "unexpected_settle_error",
    "settlement_pending",
];

/// Seconds for which a transaction of a scheme that the gateway does not know stays single-use.
const TRANSACTION_SECONDS: u64 = 365 * 24 * 3600;

/// Reasons that prove that a transaction was sent and moved nothing.
const FAILED_ON_CHAIN: [&str; 3] = ["revert", "invalid_transaction_state", "transaction_failed"];

pub(super) async fn settle(mut permit: Permit) -> Result<Receipt, Refusal> {
    let shared = Arc::clone(&permit.shared);
    let (id, version, payer) = (permit.id, permit.version, permit.payer.clone());
    let job = Job {
        id,
        facilitator: permit.facilitator,
        request: Arc::clone(&permit.request),
        malleable: permit.malleable,
        under_way: UnderWay::begin(&shared),
    };
    permit.handed_over = true;
    let task = shared.runtime.spawn(job.drive());
    let mut response = match task.await {
        Ok(result) => result?,
        // The task was lost, by a panic or a shutdown; what it had asked for is not known.
        Err(lost) => {
            tracing::error!(payment = %id, %lost, "the settlement task was lost");
            keep(&shared, id).await?
        }
    };
    if response.payer.is_none() {
        response.payer = payer;
    }
    Ok(Receipt { version, response })
}

/// Counts a settlement as under way while it lives, so that shutdown waits for it.
struct UnderWay(Arc<Shared>);

impl UnderWay {
    fn begin(shared: &Arc<Shared>) -> Self {
        shared.settling.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(shared))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.settling.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One settlement.
struct Job {
    id: PaymentId,
    facilitator: FacilitatorId,
    request: Arc<FacilitatorRequest>,
    malleable: bool,
    under_way: UnderWay,
}

impl Job {
    async fn drive(self) -> Result<SettleResponse, Refusal> {
        let shared = &*self.under_way.0;
        if let Err(error) = shared.ledger.settling(self.id).await {
            shared.release(self.id).await;
            return Err(error.into());
        }
        let facilitator = shared.facilitator(self.facilitator);
        let mut outcome = facilitator.settle(&self.request).await;
        if let SettleOutcome::Pending(pending) = outcome {
            // The facilitator reconciles one identical request with the transaction it has sent.
            outcome = match facilitator.settle(&self.request).await {
                SettleOutcome::Settled(response) => SettleOutcome::Settled(response),
                SettleOutcome::Declined(response) if failed_on_chain(&response) => {
                    SettleOutcome::Declined(response)
                }
                // It was sent before, so neither a no without proof nor not reaching the
                // facilitator now says what became of it.
                SettleOutcome::Declined(_)
                | SettleOutcome::Pending(_)
                | SettleOutcome::Unreachable(_)
                | SettleOutcome::AnswerLost(_) => SettleOutcome::Pending(pending),
            };
        }
        self.conclude(shared, outcome).await
    }

    async fn conclude(&self, shared: &Shared, outcome: SettleOutcome) -> Result<SettleResponse, Refusal> {
        let id = self.id;
        match outcome {
            SettleOutcome::Settled(response) => {
                if let Err(error) = shared.ledger.settled(id, &response).await {
                    // The money moved; the claim stays, and the buyer gets what was bought.
                    tracing::error!(payment = %id, %error, "a settled payment could not be recorded");
                }
                if self.malleable {
                    self.claim_transaction(shared, &response).await?;
                }
                Ok(response)
            }
            SettleOutcome::Declined(response) if is_undecided(&response) => {
                tracing::warn!(
                    payment = %id, reason = response.error_reason, transaction = %response.transaction,
                    "a no that does not tell whether the money moved; kept as unresolved"
                );
                keep(shared, id).await
            }
            SettleOutcome::Declined(response) => {
                shared.release(id).await;
                Err(Refusal::SettlementFailed(Box::new(response)))
            }
            SettleOutcome::Unreachable(Unavailable { facilitator, cause, retry_after }) => {
                shared.release(id).await;
                Err(Refusal::Unavailable {
                    cause: format!("facilitator {facilitator}: {cause}"),
                    retry_after,
                })
            }
            SettleOutcome::Pending(response) => {
                tracing::warn!(payment = %id, transaction = %response.transaction, "settlement is pending");
                keep(shared, id).await
            }
            SettleOutcome::AnswerLost(cause) => {
                tracing::warn!(payment = %id, %cause, "the outcome of a settlement is not known");
                keep(shared, id).await
            }
        }
    }

    /// Makes the transaction single-use where the payment's text can be varied without becoming
    /// another payment: only the first of the variants that a transaction settles buys something.
    async fn claim_transaction(&self, shared: &Shared, response: &SettleResponse) -> Result<(), Refusal> {
        if response.transaction.is_empty() {
            tracing::warn!(payment = %self.id, "settled without naming a transaction; nothing is delivered for it");
            return Err(Refusal::Unresolved);
        }
        let named = format!("transaction:{}:{}", response.network, response.transaction);
        let id = PaymentId(alloy_primitives::keccak256(named.as_bytes()));
        let now = shared.clock.now();
        let claim = NewClaim { id, expires: Some(now.plus(TRANSACTION_SECONDS)) };
        match shared.ledger.claim(&claim, now).await {
            Ok(Claimed::New) => {
                // Taken to its last state, so that nothing can give it back.
                let recorded = shared.ledger.settling(id).await;
                let recorded = match recorded {
                    Ok(()) => shared.ledger.settled(id, response).await,
                    Err(error) => Err(error),
                };
                recorded.map_err(|error| {
                    tracing::error!(payment = %self.id, %error, "a transaction could not be recorded");
                    Refusal::Unresolved
                })
            }
            Ok(Claimed::Held(_)) => Err(Refusal::AlreadyUsed),
            Err(error) => {
                tracing::error!(payment = %self.id, %error, "a transaction could not be recorded");
                Err(Refusal::Unresolved)
            }
        }
    }
}

/// Whether a no leaves open if the money moved: for its reason, or because a transaction was sent.
fn is_undecided(response: &SettleResponse) -> bool {
    let reason = response.error_reason.as_deref().unwrap_or_default().to_ascii_lowercase();
    UNDECIDED.iter().any(|code| reason.contains(code))
        || (!response.transaction.is_empty() && !failed_on_chain(response))
}

fn failed_on_chain(response: &SettleResponse) -> bool {
    let reason = response.error_reason.as_deref().unwrap_or_default().to_ascii_lowercase();
    FAILED_ON_CHAIN.iter().any(|code| reason.contains(code))
}

async fn keep(shared: &Shared, id: PaymentId) -> Result<SettleResponse, Refusal> {
    if let Err(error) = shared.ledger.unresolved(id).await {
        tracing::error!(payment = %id, %error, "an unresolved payment could not be recorded");
    }
    Err(Refusal::Unresolved)
}
