//! One payment, what it is for, and everything that was said to who presented it.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256, U256};
use serde_json::Value;
use tollgate::clock::{Clock as _, SystemClock};
use tollgate::scheme::{self, Moment, PaymentId};
use tollgate::x402::PaymentRequirements;

use super::dice::Dice;
use super::support::Payer;
use super::support::payer::encode;

/// How somebody behaves who buys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Buyer {
    /// Presents the payment until there is a whole answer or a definite no.
    Honest,
    /// Like that, and then presents again what was paid for and delivered.
    Replays,
    /// Presents the payment several times at once.
    Races,
    /// Leaves at any time, and comes back at the end of the round.
    Leaves,
    /// Has no money.
    Poor,
}

/// When the route settles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// For the origin's answer.
    Late,
    /// Before the origin is asked.
    Early,
}

/// What is bought: how large it is, and how its end is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    Small,
    Large,
    LargeChunked,
}

/// Length of a large answer, in bytes.
pub const LARGE: usize = 3 << 20;

/// One payment and what it is for.
#[derive(Debug)]
pub struct Purchase {
    pub id: PaymentId,
    pub buyer: Buyer,
    pub way: Way,
    pub size: Size,
    pub method: &'static str,
    pub path: String,
    pub payer: Address,
    pub nonce: B256,
    pub amount: U256,
    /// `PAYMENT-SIGNATURE`.
    pub header: String,
    pub(super) told: Mutex<Vec<Told>>,
    /// Set once somebody presented it for long enough without being told anything definite.
    pub(super) given_up: AtomicBool,
}

/// What came of one presentation.
#[derive(Debug, Clone)]
pub struct Told {
    pub begun: Instant,
    pub ended: Instant,
    pub what: What,
}

/// What somebody who presented a payment was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// All of what was paid for, and which transaction paid it.
    Whole(Option<B256>),
    /// The beginning of it: so many bytes of body.
    Part(usize),
    /// A 200 that is not what was paid for.
    Wrong(String),
    /// A definite no: the status and the reason.
    No(u16, String),
    /// Another time: the status.
    Later(u16),
    /// Nothing.
    Nothing,
}

impl Purchase {
    /// Signs a payment for something nobody has asked for yet, on the terms of a route.
    pub fn sign(
        payer: &Payer,
        buyer: Buyer,
        required: &Value,
        way: Way,
        number: u32,
        dice: &mut Dice,
    ) -> Self {
        let size = match dice.below(100) {
            0..12 => Size::Large,
            12..20 => Size::LargeChunked,
            _ => Size::Small,
        };
        // What was bought with another method cannot be fetched again.
        let method = if buyer == Buyer::Honest && dice.percent(15) { "POST" } else { "GET" };
        let path = format!("/{}/{}-{number}", way.name(), size.name());
        let accepted = &required["accepts"][0];
        let authorization = payer.authorization(accepted);
        let payload = payer.payload(&authorization, accepted);
        let mut resource = required["resource"].clone();
        resource["url"] = format!("{}{path}", super::round::PUBLIC_URL).into();
        let message = serde_json::json!({
            "x402Version": 2, "resource": resource, "accepted": accepted, "payload": payload,
        });
        let requirements: PaymentRequirements = serde_json::from_value(accepted.clone()).unwrap();
        let scheme = scheme::find(&requirements.scheme, &requirements.network);
        let moment = Moment { now: SystemClock.now(), margin_seconds: 0 };
        let understood = scheme.inspect(&requirements, payload.as_object().unwrap(), moment).unwrap();
        Self {
            id: understood.id,
            buyer,
            way,
            size,
            method,
            path,
            payer: authorization.from,
            nonce: authorization.nonce,
            amount: authorization.value,
            header: encode(&message),
            told: Mutex::default(),
            given_up: AtomicBool::new(false),
        }
    }

    /// What was said, in the order of its end.
    pub fn story(&self) -> Vec<Told> {
        self.told.lock().unwrap().clone()
    }

    /// Deliveries that were complete.
    pub fn wholes(&self) -> Vec<Told> {
        self.story().into_iter().filter(|told| matches!(told.what, What::Whole(_))).collect()
    }

    /// Whether anything of what is to be paid for was given.
    pub fn has_something(&self) -> bool {
        let given = |told: &Told| matches!(told.what, What::Whole(_) | What::Part(_) | What::Wrong(_));
        self.story().iter().any(given)
    }

    /// What it was and what was said, for people.
    pub fn describe(&self, since: Instant) -> String {
        let at = |time: Instant| time.saturating_duration_since(since).as_secs_f64() * 1000.0;
        let story: Vec<String> = self
            .story()
            .iter()
            .map(|told| format!("    {:9.1} … {:9.1} ms  {:?}", at(told.begun), at(told.ended), told.what))
            .collect();
        format!(
            "{} {} ({:?}, {:?}), payment {}\n{}",
            self.method,
            self.path,
            self.buyer,
            self.way,
            self.id,
            story.join("\n")
        )
    }
}

impl Way {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Early => "early",
        }
    }
}

impl Size {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Large => "large",
            Self::LargeChunked => "chunked",
        }
    }

    /// Reads it from the path of a purchase.
    pub fn of(path: &str) -> Self {
        if path.contains("/large-") {
            Self::Large
        } else if path.contains("/chunked-") {
            Self::LargeChunked
        } else {
            Self::Small
        }
    }
}

/// What the origin answers on a path: it begins with the path and has no line's end but the first.
pub fn content(path: &str) -> Vec<u8> {
    let mut body = format!("content of {path}\n").into_bytes();
    if Size::of(path) != Size::Small {
        let missing = LARGE - body.len();
        body.extend_from_slice(&letters()[..missing]);
    }
    body
}

fn letters() -> &'static [u8] {
    static LETTERS: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    // 25 does not divide the size of any buffer, so that nothing can be repeated or left out unseen.
    LETTERS.get_or_init(|| (b'a'..=b'y').cycle().take(LARGE).collect())
}

/// How long a client waits for one answer.
pub const PATIENCE_FOR_ANSWER: Duration = Duration::from_secs(20);
