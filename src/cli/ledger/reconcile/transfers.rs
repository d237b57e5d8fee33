//! What the chain says that was received.

use std::collections::BTreeSet;

use super::Period;
use super::entry::Payee;
use crate::chain::{Chain, ChainError, Received};
use crate::clock::UnixSeconds;

/// Seconds that are asked about at a time.
const SLICE_SECONDS: u64 = 24 * 3600;
/// Seconds below which a question that fails is not asked in halves any more.
const SLICE_SECONDS_MIN: u64 = 600;

/// Money that a payee received.
#[derive(Debug, Clone)]
pub(super) struct Transfer {
    pub(super) payee: Payee,
    pub(super) received: Received,
}

/// What some payees received in a period, payee by payee in the order of the chain.
///
/// # Errors
/// When the chain does not answer.
pub(super) async fn received(
    chain: &dyn Chain,
    payees: &BTreeSet<Payee>,
    period: Period,
) -> Result<Vec<Transfer>, ChainError> {
    let mut transfers = Vec::new();
    for payee in payees {
        let mut from = period.since;
        let mut length = SLICE_SECONDS;
        while from < period.until {
            // Both ends of a question are included.
            let last = UnixSeconds(from.plus(length).min(period.until).0 - 1);
            match chain.received(payee.asset, payee.to, from, last).await {
                Ok(found) => {
                    transfers.extend(found.into_iter().map(|received| Transfer { payee: *payee, received }));
                    from = last.plus(1);
                }
                // Perhaps it is too much for one answer.
                Err(_) if length > SLICE_SECONDS_MIN => length /= 2,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(transfers)
}
