//! Settlement: its own task on its own runtime, intent recorded first, so that neither a client
//! that leaves nor a proxy that shuts down can leave it half done.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::gate::Shared;
use super::permit::Permit;
use super::refusal::Refusal;
use crate::facilitator::{SettleOutcome, Unavailable};
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

/// Facilitators say this when the payer's nonce is spent although this settlement was the first
/// one the gateway asked for: somebody else submitted the authorization, and it can only have paid
/// the seller. The payer must not be asked to pay again.
const NONCE_USED: [&str; 2] = ["nonce_already_used", "authorization_used"];

pub(super) async fn settle(mut permit: Permit) -> Result<Receipt, Refusal> {
    let shared = Arc::clone(&permit.shared);
    let (id, facilitator, version) = (permit.id, permit.facilitator, permit.version);
    let request = Arc::clone(&permit.request);
    let payer = permit.payer.clone();
    permit.handed_over = true;
    shared.settling.fetch_add(1, Ordering::AcqRel);
    let worker = Arc::clone(&shared);
    let task = shared.runtime.spawn(async move {
        let result = drive(&worker, id, facilitator, &request).await;
        worker.settling.fetch_sub(1, Ordering::AcqRel);
        result
    });
    let mut response = match task.await {
        Ok(result) => result?,
        // The task was lost, by a panic or a shutdown; what it had asked for is not known.
        Err(lost) => {
            tracing::error!(payment = %id, %lost, "the settlement task was lost");
            return Err(Refusal::Unresolved);
        }
    };
    if response.payer.is_none() {
        response.payer = payer;
    }
    Ok(Receipt { version, response })
}

async fn drive(
    shared: &Shared,
    id: PaymentId,
    facilitator: FacilitatorId,
    request: &FacilitatorRequest,
) -> Result<SettleResponse, Refusal> {
    if let Err(error) = shared.ledger.settling(id).await {
        shared.release(id).await;
        return Err(error.into());
    }
    let facilitator = shared.facilitator(facilitator);
    let mut outcome = facilitator.settle(request).await;
    if let SettleOutcome::Pending(_) = outcome {
        // The facilitator reconciles one identical request with the transaction it has sent.
        outcome = match facilitator.settle(request).await {
            SettleOutcome::Settled(response) => SettleOutcome::Settled(response),
            SettleOutcome::Declined(response) => SettleOutcome::Declined(response),
            SettleOutcome::Pending(response) => SettleOutcome::Pending(response),
            // It was sent before, so not reaching the facilitator now proves nothing.
            SettleOutcome::Unreachable(cause) | SettleOutcome::AnswerLost(cause) => {
                SettleOutcome::AnswerLost(cause)
            }
        };
    }
    conclude(shared, id, outcome).await
}

async fn conclude(shared: &Shared, id: PaymentId, outcome: SettleOutcome) -> Result<SettleResponse, Refusal> {
    match outcome {
        SettleOutcome::Settled(response) => {
            if let Err(error) = shared.ledger.settled(id, &response).await {
                // The money moved; the claim stays, and the buyer gets what was bought.
                tracing::error!(payment = %id, %error, "a settled payment could not be recorded");
            }
            Ok(response)
        }
        SettleOutcome::Declined(response) if says_nonce_used(&response) => {
            tracing::warn!(payment = %id, "the authorization was used by somebody else; kept as unresolved");
            keep(shared, id).await
        }
        SettleOutcome::Declined(response) => {
            shared.release(id).await;
            Err(Refusal::SettlementFailed(Box::new(response)))
        }
        SettleOutcome::Unreachable(Unavailable { facilitator, cause, retry_after }) => {
            shared.release(id).await;
            Err(Refusal::Unavailable { cause: format!("facilitator {facilitator}: {cause}"), retry_after })
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

fn says_nonce_used(response: &SettleResponse) -> bool {
    let reason = response.error_reason.as_deref().unwrap_or_default();
    NONCE_USED.iter().any(|code| reason.contains(code))
}

async fn keep(shared: &Shared, id: PaymentId) -> Result<SettleResponse, Refusal> {
    if let Err(error) = shared.ledger.unresolved(id).await {
        tracing::error!(payment = %id, %error, "an unresolved payment could not be recorded");
    }
    Err(Refusal::Unresolved)
}
