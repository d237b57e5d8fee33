//! The balance that pays for gas: watched, so that its end does not come as a surprise.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alloy_primitives::{Address, U256};
use tokio::time::Instant;

use super::TARGET;
use super::node::{Down, Node};
use crate::telemetry::Metrics;
use crate::x402::AtomicAmount;

/// How often the balance is looked at while there is work.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// How often when it is used up: it is waited for.
const LOOK_SOON: Duration = Duration::from_secs(2);
/// How often the log says that it is low.
const SAY_AGAIN: Duration = Duration::from_secs(3600);
/// Gas of an ordinary settlement, and how many of them the balance should be good for.
const USUAL_GAS: u64 = 100_000;
const USUAL_RESERVE: u64 = 100;

/// Watches the balance of an account.
pub(super) struct Gas {
    pub(super) node: Arc<Node>,
    pub(super) facilitator: String,
    pub(super) account: Address,
    /// The balance below which the log warns, in wei; by default what a hundred settlements cost.
    pub(super) low: Option<U256>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) seen: Mutex<Seen>,
}

/// What was seen last.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    at: Option<Instant>,
    warned: Option<Instant>,
    /// Whether it does not even do for one settlement.
    used_up: bool,
}

impl Gas {
    /// Looks at the balance, unless it was looked at a moment ago. Whether it is used up.
    pub(super) async fn check(&self) -> bool {
        let seen = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let every = if seen.used_up { LOOK_SOON } else { LOOK_AGAIN };
            if seen.at.is_some_and(|at| at.elapsed() < every) {
                return seen.used_up;
            }
            // Nobody else asks meanwhile.
            seen.at = Some(Instant::now());
            *seen
        };
        match tokio::try_join!(self.node.balance(self.account), self.node.market()) {
            Ok((balance, market)) => {
                let one = U256::from(market.least()) * U256::from(USUAL_GAS);
                let warned =
                    self.judge(balance, self.low.unwrap_or(one * U256::from(USUAL_RESERVE)), seen.warned);
                let used_up = balance < one;
                let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                (seen.warned, seen.used_up) = (warned, used_up);
                used_up
            }
            Err(Down(cause)) => {
                tracing::debug!(
                    target: TARGET, facilitator = self.facilitator, cause, "the balance for gas is not known"
                );
                seen.used_up
            }
        }
    }

    fn judge(&self, balance: U256, low: U256, warned: Option<Instant>) -> Option<Instant> {
        let coins = |amount: U256| AtomicAmount(amount).to_decimal(18);
        let (facilitator, account) = (&self.facilitator, self.account);
        self.metrics.gas_balance(facilitator, f64::from(balance) / 1e18);
        if balance >= low {
            if warned.is_some() {
                tracing::info!(
                    target: TARGET, facilitator, %account, balance = coins(balance), "the balance for gas is well again"
                );
            }
            return None;
        }
        if warned.is_some_and(|at| at.elapsed() < SAY_AGAIN) {
            return warned;
        }
        tracing::warn!(
            target: TARGET, facilitator, %account, balance = coins(balance), low_balance = coins(low),
            "the balance for gas is low; without it nothing is settled"
        );
        Some(Instant::now())
    }
}
