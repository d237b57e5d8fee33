//! Where and when the gateway is killed.
//!
//! The gateway has no hooks for this. What it does is seen from outside: the facilitator, the origin
//! and the clients are the harness's own, and each says when it sees a boundary passed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;

use super::dice::Dice;
use super::process::Process;

/// Something of a payment's life that is seen from outside, and what the ledger says about then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Boundary {
    /// The facilitator is asked to verify: claimed.
    Verify,
    /// It has answered.
    Verified,
    /// The origin is asked: claimed, or settled where that comes first.
    Asked,
    /// It answers: settling soon, or the delivery begins.
    Answered,
    /// The facilitator is asked to settle: settling.
    Settle,
    /// The same payment again, after an answer that was lost: unresolved.
    SettleAgain,
    /// The money moved and the facilitator has not said so.
    Moved,
    /// It has said so: settled soon.
    Settled,
    /// The client sees the beginning of what it paid for: settled.
    FirstByte,
    /// The client has half of a large answer.
    Middle,
    /// The client has all of it: delivered soon.
    LastByte,
}

impl Boundary {
    pub const ALL: [Self; 11] = [
        Self::Verify,
        Self::Verified,
        Self::Asked,
        Self::Answered,
        Self::Settle,
        Self::SettleAgain,
        Self::Moved,
        Self::Settled,
        Self::FirstByte,
        Self::Middle,
        Self::LastByte,
    ];
}

/// When to kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// When a boundary is seen for the nth time (from 1), or so long after.
    At(Boundary, u64, Duration),
    /// At any time under load: so long after the gateway became ready.
    Anywhere(Duration),
    /// While it starts and looks at what was left behind: so long after its start.
    Starting(Duration),
}

impl Moment {
    /// What it is called in the report.
    pub fn name(&self) -> String {
        match self {
            Self::At(boundary, ..) => format!("{boundary:?}"),
            Self::Anywhere(_) => "anywhere".to_owned(),
            Self::Starting(_) => "starting".to_owned(),
        }
    }

    /// Moments for one round: every boundary in turn, random instants between, in random order.
    pub fn plan(count: usize, dice: &mut Dice) -> Vec<Self> {
        let mut plan: Vec<Self> = (0..count).map(|number| Self::draw(number, dice)).collect();
        dice.shuffle(&mut plan);
        plan
    }

    fn draw(number: usize, dice: &mut Dice) -> Self {
        let kinds = Boundary::ALL.len() + 5;
        match Boundary::ALL.get(number % kinds) {
            Some(boundary) => {
                // Half of them right there, the others a little later.
                let late = dice.percent(50);
                let delay = if late { dice.duration(Duration::from_millis(5)) } else { Duration::ZERO };
                Self::At(*boundary, 1 + dice.below(Self::turns(*boundary)), delay)
            }
            None if number % kinds == kinds - 1 => Self::Starting(dice.duration(Duration::from_millis(250))),
            None => Self::Anywhere(dice.duration(Duration::from_millis(600))),
        }
    }

    /// Up to which time of being seen a boundary counts: what is rare is not waited for long.
    const fn turns(boundary: Boundary) -> u64 {
        match boundary {
            Boundary::SettleAgain => 1,
            Boundary::Middle => 3,
            _ => 20,
        }
    }
}

/// Kills the gateway when an awaited boundary is seen.
pub struct Trap {
    victim: Arc<Process>,
    set: Mutex<Option<Set>>,
    sprung: Notify,
}

struct Set {
    boundary: Boundary,
    turns_left: u64,
    delay: Duration,
}

impl Trap {
    pub fn new(victim: Arc<Process>) -> Self {
        Self { victim, set: Mutex::default(), sprung: Notify::new() }
    }

    /// Sets it, and waits until the gateway was killed; `false`: the boundary was not seen in time, and
    /// the gateway lives.
    pub async fn catch(&self, boundary: Boundary, nth: u64, delay: Duration, patience: Duration) -> bool {
        *self.set.lock().unwrap() = Some(Set { boundary, turns_left: nth, delay });
        let sprung = tokio::time::timeout(patience, self.sprung.notified()).await.is_ok();
        // It may have sprung at the very end of the wait.
        let untouched = self.set.lock().unwrap().take().is_some();
        if !sprung && !untouched {
            self.sprung.notified().await;
        }
        sprung || !untouched
    }

    /// Somebody saw a boundary.
    pub fn see(self: &Arc<Self>, boundary: Boundary) {
        let delay = {
            let mut set = self.set.lock().unwrap();
            let Some(awaited) = set.as_mut().filter(|awaited| awaited.boundary == boundary) else { return };
            awaited.turns_left -= 1;
            if awaited.turns_left > 0 {
                return;
            }
            let delay = awaited.delay;
            *set = None;
            delay
        };
        if delay.is_zero() {
            self.spring();
        } else {
            // A thread of its own: the runtime's clock is too coarse for fractions of milliseconds.
            let trap = Arc::clone(self);
            std::thread::spawn(move || {
                std::thread::sleep(delay);
                trap.spring();
            });
        }
    }

    fn spring(&self) {
        self.victim.kill();
        self.sprung.notify_one();
    }
}
