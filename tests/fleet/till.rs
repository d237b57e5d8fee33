//! A facilitator that moves the money of an authorization once, as a chain does, and remembers every
//! call: when it was asked and when it answered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::server::Request;
use super::support::{Act, Facilitator};

/// A facilitator and its memory.
pub struct Till {
    pub facilitator: Facilitator,
    calls: Calls,
}

type Calls = Arc<Mutex<HashMap<String, Vec<Call>>>>;

/// One call of `/settle`.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub asked: Instant,
    pub answered: Instant,
}

impl Till {
    /// Opens one that takes for its nth call about an authorization (the first is 0) as long as it is
    /// told; `None`: it moves the money, and never answers.
    pub async fn open(pause: impl Fn(usize) -> Option<Duration> + Send + Sync + 'static) -> Self {
        let facilitator = Facilitator::start().await;
        let calls = Calls::default();
        let remembered = Arc::clone(&calls);
        facilitator.settles_so(move |facilitator, request| {
            facilitator.charge(request);
            let nonce = nonce(request);
            let asked = Instant::now();
            let mut calls = remembered.lock().unwrap();
            let calls = calls.entry(nonce.clone()).or_default();
            let Some(pause) = pause(calls.len()) else {
                calls.push(Call { asked, answered: asked });
                return Act::Hang;
            };
            calls.push(Call { asked, answered: asked + pause });
            after(pause, settled(&nonce))
        });
        Self { facilitator, calls }
    }

    pub fn url(&self) -> String {
        self.facilitator.url()
    }

    /// Authorizations whose money moved.
    pub fn charged(&self) -> usize {
        self.facilitator.charged()
    }

    /// The calls about each authorization, by its nonce.
    pub fn calls(&self) -> HashMap<String, Vec<Call>> {
        self.calls.lock().unwrap().clone()
    }

    /// Authorizations it was asked about twice at the same time.
    pub fn overlaps(&self) -> Vec<String> {
        let overlap = |calls: &[Call]| calls.windows(2).any(|pair| pair[1].asked < pair[0].answered);
        self.calls().into_iter().filter(|(_, calls)| overlap(calls)).map(|(nonce, _)| nonce).collect()
    }

    /// Waits until there were so many calls, for all authorizations together.
    pub async fn wait_for_calls(&self, count: usize) {
        self.facilitator.wait_for_settlements(count).await;
    }
}

/// Settled, by a transaction that is named after the authorization.
fn settled(nonce: &str) -> Act {
    Act::json(
        200,
        &json!({"success": true, "transaction": nonce, "network": "eip155:84532",
                "payer": "0x00000000000000000000000000000000000000aa"}),
    )
}

fn nonce(request: &Request) -> String {
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    body["paymentPayload"]["payload"]["authorization"]["nonce"].as_str().unwrap().to_owned()
}

/// An act that comes after a while.
pub fn after(pause: Duration, act: Act) -> Act {
    let (release, act) = act.held();
    tokio::spawn(async move {
        tokio::time::sleep(pause).await;
        drop(release);
    });
    act
}
