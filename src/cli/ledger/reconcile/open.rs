//! What the chain says about unresolved payments.

use super::entry::Entry;
use crate::chain::{Chain, Finding};
use crate::ledger::PaymentRecord;
use crate::scheme;
use crate::x402::types::FacilitatorRequest;

/// What became of an unresolved payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Looked {
    /// What the chain says.
    Found(Finding),
    /// Nothing on the chain tells payments of this kind apart.
    Indistinct,
    /// The chain did not answer, and why.
    Failed(String),
}

/// Looks unresolved payments up, one by one.
pub(super) async fn look_up(
    chain: &dyn Chain,
    unresolved: &[(Entry, PaymentRecord)],
) -> Vec<(Entry, Looked)> {
    let mut looked_up = Vec::new();
    for (entry, record) in unresolved {
        let request = record.request.as_deref().and_then(FacilitatorRequest::from_stored);
        let payment = request.and_then(|request| {
            scheme::find(&request.scheme, &request.network).on_chain(&request.requirements, &request.payload)
        });
        let looked = match payment {
            None => Looked::Indistinct,
            Some(payment) => {
                let since = record.settling_at.unwrap_or(record.claimed_at);
                match chain.look(&payment, since, &record.transaction).await {
                    Ok(finding) => Looked::Found(finding),
                    Err(error) => Looked::Failed(error.to_string()),
                }
            }
        };
        looked_up.push((entry.clone(), looked));
    }
    looked_up
}
