//! A circuit breaker: a facilitator that keeps failing is left alone for a while, so that clients
//! get their 503 at once and the facilitator can recover.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row after which calls are no longer made.
pub(super) const FAILURES_TO_OPEN: u32 = 5;
/// The first pause; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// What callers are told while somebody else's call finds out whether the facilitator is back.
const PROBE_PAUSE: Duration = Duration::from_secs(1);

/// The breaker of one facilitator. Time is handed in.
#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// How often it opened since the last success.
    openings: u32,
    open_until: Option<Instant>,
    probing: bool,
}

/// What a call showed of the facilitator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// It answers, be it with a refusal.
    Works,
    /// It does not answer, or nothing sensible.
    Fails,
    /// Neither can be said.
    Unknown,
}

/// Leave to make one call. Dropped without a verdict (the call was given up, or its answer tells
/// nothing about the facilitator's health) it changes nothing.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    breaker: &'a Breaker,
    probe: bool,
}

impl Breaker {
    /// Asks for leave to call.
    ///
    /// # Errors
    /// How long to wait, when the facilitator is being left alone.
    pub(super) fn enter(&self, now: Instant) -> Result<Pass<'_>, Duration> {
        let mut state = self.state();
        let probe = match state.open_until {
            None => false,
            Some(until) if now < until => return Err(until - now),
            Some(_) if state.probing => return Err(PROBE_PAUSE),
            Some(_) => true,
        };
        state.probing = probe;
        Ok(Pass { breaker: self, probe })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// The facilitator works. Returns whether it did not before.
    pub(super) fn succeeded(self) -> bool {
        let mut state = self.breaker.state();
        // A call that began before the breaker opened says nothing about now.
        if self.probe || state.open_until.is_none() {
            *state = State::default();
        }
        self.probe
    }

    /// The facilitator failed. Returns the pause that begins, if one does.
    pub(super) fn failed(self, now: Instant) -> Option<Duration> {
        let mut state = self.breaker.state();
        if !self.probe {
            state.failures = state.failures.saturating_add(1);
            if state.open_until.is_some() || state.failures < FAILURES_TO_OPEN {
                return None;
            }
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << state.openings.min(8)).min(LONGEST_PAUSE);
        state.openings = state.openings.saturating_add(1);
        state.open_until = Some(now + pause);
        Some(pause)
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.probe {
            self.breaker.state().probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn open(breaker: &Breaker, now: Instant) {
        for _ in 1..FAILURES_TO_OPEN {
            assert_eq!(breaker.enter(now).unwrap().failed(now), None);
        }
        assert_eq!(breaker.enter(now).unwrap().failed(now), Some(FIRST_PAUSE));
    }

    #[test]
    fn only_failures_in_a_row_open_it() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..3 {
            for _ in 1..FAILURES_TO_OPEN {
                breaker.enter(now).unwrap().failed(now);
            }
            assert!(!breaker.enter(now).unwrap().succeeded());
        }
        open(&breaker, now);
        assert_eq!(breaker.enter(now).unwrap_err(), FIRST_PAUSE);
    }

    #[test]
    fn one_probe_is_let_through_after_the_pause_and_its_success_closes_it() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        open(&breaker, start);
        let later = start + seconds(1);
        let probe = breaker.enter(later).unwrap();
        assert_eq!(breaker.enter(later).unwrap_err(), PROBE_PAUSE);
        assert!(probe.succeeded(), "it was open");
        assert!(!breaker.enter(later).unwrap().succeeded());
        open(&breaker, later);
    }

    #[test]
    fn pauses_grow_to_half_a_minute_and_no_further() {
        let (breaker, mut now) = (Breaker::default(), Instant::now());
        open(&breaker, now);
        let mut pause = FIRST_PAUSE;
        for expected in [2, 4, 8, 16, 30, 30, 30] {
            now += pause;
            pause = breaker.enter(now).unwrap().failed(now).unwrap();
            assert_eq!(pause, seconds(expected));
            assert_eq!(breaker.enter(now + seconds(expected) / 2).unwrap_err(), seconds(expected) / 2);
        }
    }

    #[test]
    fn a_probe_that_is_given_up_makes_room_for_the_next() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        open(&breaker, now);
        drop(breaker.enter(now + seconds(1)).unwrap());
        assert!(breaker.enter(now + seconds(1)).unwrap().succeeded());
    }

    #[test]
    fn a_call_that_began_before_it_opened_neither_closes_nor_prolongs_it() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        let (late_success, late_failure) = (breaker.enter(now).unwrap(), breaker.enter(now).unwrap());
        open(&breaker, now);
        assert_eq!(late_failure.failed(now + seconds(1)), None);
        assert!(!late_success.succeeded());
        assert_eq!(breaker.enter(now).unwrap_err(), FIRST_PAUSE);
    }
}
