//! Payers whose settlements failed: who has had the site work for nothing a few times is settled first.
//!
//! A payer can take the money away between verification and settlement, after the site has worked, and
//! come again. Each time costs the payer nothing. So a gateway keeps in mind whose payments failed to be
//! settled, and has the next ones of these payers settled before the site is asked: whoever can pay is
//! served as before. It is kept in memory alone, because it only ever decides about the order of steps;
//! the ledger keeps one record of a payment, however often that was declined.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::UnixSeconds;
use crate::ledger::ClaimToken;
use crate::ledger::settings::FailureLimit;
use crate::scheme::PaymentId;
use crate::x402::Network;

/// Payers that are kept in mind. With more of them, those whose failures are oldest are forgotten.
const PAYERS_MAX: usize = 10_000;

/// The failures of every payer. Time is handed in.
#[derive(Debug)]
pub(super) struct Failures {
    limit: FailureLimit,
    payers: Arc<Mutex<HashMap<Payer, VecDeque<Failure>>>>,
}

#[derive(Debug, Clone, Copy)]
struct Failure {
    /// The payment, and which time it was claimed.
    of: (PaymentId, u32),
    at: UnixSeconds,
}

/// The network, and the payer in lower case.
type Payer = (Network, String);

impl Failures {
    pub(super) fn new(limit: FailureLimit) -> Self {
        Self { limit, payers: Arc::default() }
    }

    /// The same failures under another limit.
    pub(super) fn under(&self, limit: FailureLimit) -> Self {
        Self { limit, payers: Arc::clone(&self.payers) }
    }

    /// A settlement failed; said of one claim more than once, it counts once. The payer must be known
    /// for sure: by a signature that was checked here, or by a facilitator that found the payment good.
    pub(super) fn note(&self, network: &Network, payer: &str, token: ClaimToken, now: UnixSeconds) {
        let Ok(count @ 1..) = usize::try_from(self.limit.count) else { return };
        let mut payers = self.payers();
        let key = key(network, payer);
        if payers.len() >= PAYERS_MAX && !payers.contains_key(&key) {
            payers.retain(|_, known| known.back().is_some_and(|last| self.counts(last, now)));
            let oldest = payers.iter().min_by_key(|(_, known)| known.back().map(|last| last.at));
            let oldest = oldest.map(|(payer, _)| payer.clone());
            if let Some(oldest) = oldest.filter(|_| payers.len() >= PAYERS_MAX) {
                payers.remove(&oldest);
            }
        }
        let (known, of) = (payers.entry(key).or_default(), (token.id, token.attempt));
        if known.iter().any(|failure| failure.of == of) {
            return;
        }
        known.push_back(Failure { of, at: now });
        while known.len() > count {
            known.pop_front();
        }
    }

    /// Whether so many settlements of a payer have failed that the next one comes first.
    pub(super) fn are_too_many(&self, network: &Network, payer: &str, now: UnixSeconds) -> bool {
        let Ok(count @ 1..) = usize::try_from(self.limit.count) else { return false };
        let payers = self.payers();
        // Only the last so many are kept, so the oldest of them decides.
        payers
            .get(&key(network, payer))
            .filter(|known| known.len() >= count)
            .and_then(VecDeque::front)
            .is_some_and(|oldest| self.counts(oldest, now))
    }

    fn counts(&self, failure: &Failure, now: UnixSeconds) -> bool {
        now < failure.at.plus(self.limit.window_seconds)
    }

    fn payers(&self) -> MutexGuard<'_, HashMap<Payer, VecDeque<Failure>>> {
        self.payers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(network: &Network, payer: &str) -> Payer {
    (network.clone(), payer.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;

    use super::*;

    fn network() -> Network {
        "base".parse().unwrap()
    }

    fn token(attempt: u32) -> ClaimToken {
        ClaimToken { id: PaymentId(B256::ZERO), attempt, grant: 0 }
    }

    fn failures(count: u32) -> Failures {
        Failures::new(FailureLimit { count, window_seconds: 100 })
    }

    #[test]
    fn so_many_failures_within_the_window_are_too_many_and_each_payer_has_its_own() {
        let (failures, network) = (failures(2), network());
        let too_many = |payer: &str, now| failures.are_too_many(&network, payer, UnixSeconds(now));
        failures.note(&network, "0xA", token(1), UnixSeconds(1_000));
        failures.note(&network, "0xA", token(1), UnixSeconds(1_010));
        assert!(!too_many("0xa", 1_000));
        failures.note(&network, "0xa", token(2), UnixSeconds(1_050));
        assert!(too_many("0xA", 1_050) && too_many("0xa", 1_099));
        assert!(!too_many("0xa", 1_100), "the first does not count any more");
        failures.note(&network, "0xa", token(3), UnixSeconds(1_100));
        assert!(too_many("0xa", 1_149) && !too_many("0xa", 1_150));
        assert!(!too_many("0xb", 1_100));
        assert!(!failures.are_too_many(&"polygon".parse().unwrap(), "0xa", UnixSeconds(1_100)));
    }

    #[test]
    fn without_a_limit_nothing_is_kept() {
        let failures = failures(0);
        for now in 0..9 {
            failures.note(&network(), "0xa", token(1), UnixSeconds(now));
        }
        assert!(!failures.are_too_many(&network(), "0xa", UnixSeconds(9)) && failures.payers().is_empty());
    }

    #[test]
    fn of_more_payers_than_are_kept_the_oldest_are_forgotten() {
        let (failures, network) = (failures(1), network());
        for number in 0..=PAYERS_MAX {
            let now = UnixSeconds(1_000 + u64::try_from(number / 1_000).unwrap());
            failures.note(&network, &format!("0x{number}"), token(1), now);
        }
        let now = UnixSeconds(1_010);
        assert_eq!(failures.payers().len(), PAYERS_MAX);
        assert!(failures.are_too_many(&network, &format!("0x{PAYERS_MAX}"), now));
        let kept = |number: usize| failures.are_too_many(&network, &format!("0x{number}"), now);
        assert_eq!((0..1_000).filter(|number| !kept(*number)).count(), 1);
        failures.note(&network, "0xlate", token(1), UnixSeconds(5_000));
        assert_eq!(failures.payers().len(), 1, "what counts no more makes room");
    }
}
