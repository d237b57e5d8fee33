//! Those who buy: how they present payments, and how long they keep at it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use alloy_primitives::B256;
use serde_json::Value;

use super::dice::Dice;
use super::origin::Origin;
use super::purchase::{Buyer, PATIENCE_FOR_ANSWER, Purchase, Size, Told, Way, What, content};
use super::support::Payer;
use super::trap::{Boundary, Trap};
use super::wire::{Answer, Ask, Head, exchange};

/// How long somebody keeps presenting a payment before it counts as unresolved.
const PERSEVERANCE: Duration = Duration::from_secs(45);
/// The longest a client waits before it asks again, whatever it is told.
const WAIT_MAX: Duration = Duration::from_millis(300);

/// Where it is bought, and what there is to buy.
pub struct Market {
    pub address: SocketAddr,
    pub trap: Arc<Trap>,
    pub origin: Arc<Origin>,
    /// What the gateway asks for, by route.
    pub late: Value,
    pub early: Value,
    /// Set when nobody should begin another purchase.
    pub closing: AtomicBool,
    pub numbers: AtomicU32,
}

impl Market {
    /// Buys until the market closes. A payer without money buys nothing.
    pub async fn shop(self: Arc<Self>, rich: Payer, poor: Payer, mut dice: Dice) {
        while !self.closing.load(Ordering::Acquire) {
            let buyer = match dice.below(100) {
                0..50 => Buyer::Honest,
                50..70 => Buyer::Replays,
                70..80 => Buyer::Races,
                80..95 => Buyer::Leaves,
                _ => Buyer::Poor,
            };
            // Without a verification before, a settlement is asked for, and what a facilitator says of
            // it after a crash proves nothing until the payment has run out.
            let way = if buyer != Buyer::Poor && dice.percent(40) { Way::Early } else { Way::Late };
            let payer = if buyer == Buyer::Poor { &poor } else { &rich };
            let required = if way == Way::Late { &self.late } else { &self.early };
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            let purchase = Arc::new(Purchase::sign(payer, buyer, required, way, number, &mut dice));
            self.origin.sell(&purchase);
            self.buy(&purchase, &mut dice).await;
        }
    }

    async fn buy(self: &Arc<Self>, purchase: &Arc<Purchase>, dice: &mut Dice) {
        match purchase.buyer {
            Buyer::Honest | Buyer::Poor => {
                self.persist(purchase).await;
            }
            Buyer::Replays => {
                self.persist(purchase).await;
                self.present_at_once(purchase, 2).await;
                tokio::time::sleep(dice.duration(Duration::from_millis(400))).await;
                self.persist(purchase).await;
            }
            Buyer::Races => self.present_at_once(purchase, 3).await,
            Buyer::Leaves => {
                let stays = dice.duration(Duration::from_millis(60));
                self.present(purchase, stays).await;
            }
        }
    }

    async fn present_at_once(self: &Arc<Self>, purchase: &Arc<Purchase>, times: usize) {
        let several: Vec<_> = (0..times)
            .map(|_| {
                let (market, purchase) = (Arc::clone(self), Arc::clone(purchase));
                tokio::spawn(async move { market.persist(&purchase).await })
            })
            .collect();
        for one in several {
            one.await.unwrap();
        }
    }

    /// Presents a payment until there is a whole answer or a definite no.
    pub async fn persist(&self, purchase: &Purchase) -> What {
        let deadline = Instant::now() + PERSEVERANCE;
        loop {
            let what = self.present(purchase, PATIENCE_FOR_ANSWER).await;
            let wait = match what {
                What::Whole(_) | What::Wrong(_) | What::No(..) => return what,
                What::Later(_) => WAIT_MAX,
                What::Part(_) | What::Nothing => Duration::from_millis(15),
            };
            if Instant::now() > deadline || purchase.given_up.load(Ordering::Acquire) {
                purchase.given_up.store(true, Ordering::Release);
                return what;
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Presents a payment once.
    async fn present(&self, purchase: &Purchase, leaves_after: Duration) -> What {
        let begun = Instant::now();
        let ask = Ask {
            method: purchase.method,
            path: &purchase.path,
            payment: Some(&purchase.header),
            body: "an order",
            leaves_after,
        };
        let is_large = purchase.size != Size::Small;
        let (mut has_first, mut has_middle) = (false, false);
        let answer = exchange(self.address, &ask, |head, bytes| {
            if head.status != 200 {
                return;
            }
            if !std::mem::replace(&mut has_first, true) {
                self.trap.see(Boundary::FirstByte);
            }
            if is_large && bytes >= super::purchase::LARGE / 2 && !std::mem::replace(&mut has_middle, true) {
                self.trap.see(Boundary::Middle);
            }
        })
        .await;
        let what = understand(answer, purchase);
        if matches!(what, What::Whole(_)) {
            self.trap.see(Boundary::LastByte);
        }
        let told = Told { begun, ended: Instant::now(), what: what.clone() };
        purchase.told.lock().unwrap().push(told);
        what
    }
}

fn understand(answer: Answer, purchase: &Purchase) -> What {
    match answer {
        Answer::Whole(head, body) if head.status == 200 => {
            if body == content(&purchase.path) {
                What::Whole(transaction(&head))
            } else {
                let start = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
                What::Wrong(format!("{} bytes: {start:?}", body.len()))
            }
        }
        Answer::Part(head, bytes) if head.status == 200 => What::Part(bytes),
        Answer::Whole(head, body) if head.status < 500 && head.status != 429 => {
            let required = head.decoded("payment-required");
            let reason = required.as_ref().and_then(|required| required["error"].as_str());
            let reason = reason.map_or_else(|| String::from_utf8_lossy(&body).into_owned(), str::to_owned);
            What::No(head.status, reason)
        }
        Answer::Whole(head, _) => What::Later(head.status),
        Answer::Part(..) | Answer::Nothing => What::Nothing,
    }
}

fn transaction(head: &Head) -> Option<B256> {
    head.decoded("payment-response")?["transaction"].as_str()?.parse().ok()
}
