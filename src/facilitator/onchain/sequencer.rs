//! One account's transactions, in the order of their nonces.
//!
//! A single task gives out the nonces and watches everything that is under way, so that concurrent
//! settlements can neither share a nonce nor leave one out:
//!
//! - A nonce is spent when a node has taken the transaction. One that was refused, or never left,
//!   leaves its nonce to the next.
//! - A transaction whose sending got no answer is sent again, byte for byte, until there is one;
//!   meanwhile no other nonce is given out.
//! - One that is in no block for too long is sent again with the same nonce and a higher fee, up to the
//!   ceiling. What it was known by before stays known, because any version may end up in a block.
//! - If another process uses the key as well, nonces are read anew and what it displaced is tried again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{B256, Bytes};
use futures_util::stream::{self, StreamExt as _};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::TARGET;
use super::fees::{Fees, Market, gwei};
use super::flight::{Account, End, Flight, Order, State};
use super::gas::Gas;
use super::node::{Call, Down, Estimated, Node, Receipt, Sent};
use crate::clock::Clock;

/// How often the chain is looked at while something is under way.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How often an order is tried when the nonce or the fee was not right.
const ATTEMPTS: u32 = 5;
/// The pause between.
const PAUSE: Duration = Duration::from_millis(200);
/// Transactions under way at a time; nodes keep no more of one account.
const FLIGHTS_MAX: usize = 64;
/// Receipts asked for at a time.
const RECEIPTS_AT_ONCE: usize = 16;
/// Transactions whose fee is raised in one go.
const RAISED_AT_ONCE: usize = 8;
/// Looks without a receipt after which a used nonce was somebody else's: nodes behind a load balancer
/// do not all know the same.
const MISSING_MAX: u32 = 10;
/// The most gas that an empty transaction needs, on chains that count the cost of another in gas.
const EMPTY_GAS_MAX: u64 = 1_000_000;

/// What the operator wants.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    /// Name of the facilitator.
    pub(super) name: String,
    /// The most that is offered for gas, in wei.
    pub(super) ceiling: u128,
    pub(super) confirmations: u64,
    pub(super) replace_after: Duration,
}

/// The task.
pub(super) struct Sequencer {
    node: Arc<Node>,
    account: Arc<Account>,
    policy: Policy,
    clock: Arc<dyn Clock>,
    orders: mpsc::Receiver<Order>,
    /// The next nonce, when it is known.
    next: Option<u64>,
    /// Nonces below are spent, whatever a node says.
    floor: u64,
    flights: VecDeque<Flight>,
    gap: Option<Gap>,
    gas: Arc<Gas>,
}

/// A nonce before all of ours that does not come into a block.
struct Gap {
    nonce: u64,
    since: Instant,
    fees: Option<Fees>,
}

impl Sequencer {
    pub(super) fn new(
        node: Arc<Node>,
        account: Arc<Account>,
        policy: Policy,
        clock: Arc<dyn Clock>,
        gas: Arc<Gas>,
        orders: mpsc::Receiver<Order>,
    ) -> Self {
        Self {
            node,
            account,
            policy,
            clock,
            orders,
            next: None,
            floor: 0,
            flights: VecDeque::new(),
            gap: None,
            gas,
        }
    }

    /// Works until nobody can give an order any more and nothing is under way.
    pub(super) async fn run(mut self) {
        let mut look_at = Instant::now();
        loop {
            let room = self.flights.len() < FLIGHTS_MAX && self.flights.iter().all(|flight| flight.accepted);
            let idle = self.flights.is_empty();
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(look_at), if !idle => {
                    self.look().await;
                    look_at = Instant::now() + LOOK_AGAIN;
                }
                order = self.orders.recv(), if room => match order {
                    Some(order) => {
                        if idle {
                            look_at = Instant::now() + LOOK_AGAIN;
                        }
                        self.place(order).await;
                    }
                    None if idle => return,
                    // Nothing new will come; what is under way is seen through.
                    None => tokio::time::sleep_until(look_at).await,
                },
            }
        }
    }

    /// Sends an order's transaction for the first time.
    async fn place(&mut self, order: Order) {
        let mut problem = "there was no time left to send it".to_owned();
        let before = order.state.borrow().clone();
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            let (nonce, fees) = match self.prepare().await {
                Ok(prepared) => prepared,
                Err(Down(cause)) => return order.end(End::NotSent(cause)),
            };
            let signed = match self.account.sign(&order.call, order.gas, nonce, fees).await {
                Ok(signed) => signed,
                Err(cause) => return order.end(End::NotSent(cause)),
            };
            // Said first: whoever gives up waiting now must not think that nothing was sent.
            order.state.send_replace(State::Sending);
            if Instant::now() >= order.send_before {
                order.state.send_replace(before);
                break;
            }
            let sent = self.node.send(&signed.raw, signed.hash).await;
            match sent {
                Sent::Accepted | Sent::Unsure(_) => {
                    if let Sent::Unsure(cause) = &sent {
                        tracing::warn!(
                            target: TARGET, facilitator = self.policy.name, transaction = %signed.hash,
                            cause, "no answer to a transaction; it is sent again"
                        );
                    }
                    let flight = Flight::new(order, nonce, fees, signed, sent == Sent::Accepted);
                    self.flights.push_back(flight);
                    self.next = Some(nonce + 1);
                    return;
                }
                Sent::NotLeft(cause) | Sent::Refused(cause) => {
                    self.next = None;
                    order.state.send_replace(before);
                    return order.end(End::NotSent(cause));
                }
                Sent::NonceUsed | Sent::Conflict => {
                    problem =
                        format!("nonce {nonce} is used by another transaction of {}", self.account.address);
                    self.next = None;
                    self.floor = nonce + 1;
                }
                Sent::FeeTooLow => {
                    problem = format!("the node asks for more than {} gwei", gwei(fees.max));
                    self.node.forget_market();
                }
            }
            order.state.send_replace(before.clone());
        }
        order.end(End::NotSent(problem));
    }

    /// The next nonce, and what to offer.
    async fn prepare(&mut self) -> Result<(u64, Fees), Down> {
        let market = self.node.market().await?;
        let ceiling = self.policy.ceiling;
        let fees = market.offer(ceiling).ok_or_else(|| too_dear(market, ceiling))?;
        let nonce = if let Some(nonce) = self.next {
            nonce
        } else {
            let known = self.node.nonce(self.account.address, "pending").await?;
            let own = self.flights.back().map_or(0, |last| last.nonce + 1);
            known.max(own).max(self.floor)
        };
        self.next = Some(nonce);
        Ok((nonce, fees))
    }

    /// Finds out what became of everything under way, and helps on what does not get on.
    async fn look(&mut self) {
        let account = self.account.address;
        let looked = tokio::try_join!(self.node.block_number(), self.node.nonce(account, "latest"));
        match looked {
            Ok((head, mined)) => {
                self.collect(head, mined).await;
                self.mind_the_gap(mined).await;
                self.send_again().await;
                self.raise(mined).await;
                self.gas.check().await;
            }
            Err(Down(cause)) => {
                tracing::debug!(target: TARGET, facilitator = self.policy.name, cause, "the chain cannot be looked at");
                self.send_again().await;
            }
        }
    }

    /// Ends what is in a block for good. `head` is the latest block, nonces below `mined` are in blocks.
    async fn collect(&mut self, head: u64, mined: u64) {
        let passed = self.flights.iter().take_while(|flight| flight.nonce < mined).count();
        let ask = |flight: &Flight| find(Arc::clone(&self.node), flight.hashes.clone());
        let asked: Vec<_> = self.flights.iter().take(passed).map(ask).collect();
        let found: Vec<_> = stream::iter(asked).buffered(RECEIPTS_AT_ONCE).collect().await;
        let rest = self.flights.split_off(passed);
        let passed = std::mem::replace(&mut self.flights, rest);
        let mut kept = VecDeque::new();
        for (mut flight, found) in passed.into_iter().zip(found) {
            match found {
                Ok(Some(receipt)) if head + 1 >= receipt.block() + self.policy.confirmations => {
                    flight.order.end(End::Mined(receipt));
                    continue;
                }
                Ok(Some(receipt)) => {
                    flight.missing = 0;
                    if !flight.accepted || flight.hash() != receipt.transaction_hash {
                        flight.accepted = true;
                        flight.order.state.send_replace(State::Sent(receipt.transaction_hash));
                    }
                }
                Ok(None) => flight.missing += 1,
                Err(_) => {}
            }
            if flight.missing >= MISSING_MAX {
                tracing::warn!(
                    target: TARGET, facilitator = self.policy.name, transaction = %flight.hash(), nonce = flight.nonce,
                    "another transaction has taken the nonce; does another process use the key?"
                );
                self.next = None;
                flight.order.end(End::Displaced);
                continue;
            }
            kept.push_back(flight);
        }
        for flight in &mut self.flights {
            flight.missing = 0;
        }
        kept.append(&mut self.flights);
        self.flights = kept;
    }

    /// Sends again what no node is known to have. There is one at most, the last.
    async fn send_again(&mut self) {
        let now = self.clock.now();
        let due = |flight: &mut Flight| {
            !flight.accepted && flight.missing == 0 && flight.retry_at <= Instant::now()
        };
        let Some(mut flight) = self.flights.pop_back_if(due) else { return };
        if flight.order.expires <= now {
            self.next = None;
            return flight.order.end(End::Doubtful("it ended before a node answered".into()));
        }
        match self.node.send(&flight.raw, flight.hash()).await {
            Sent::Accepted => flight.accept(),
            // Itself, or another one: the receipts tell.
            Sent::NonceUsed => flight.missing = 1,
            Sent::Conflict => {
                (self.next, self.floor) = (None, flight.nonce + 1);
                return flight.order.end(End::Displaced);
            }
            Sent::Refused(cause) => {
                self.next = None;
                return flight.order.end(End::Doubtful(cause));
            }
            Sent::NotLeft(cause) | Sent::Unsure(cause) => {
                tracing::debug!(target: TARGET, facilitator = self.policy.name, cause, "still no answer");
                flight.back_off();
            }
            Sent::FeeTooLow => {
                self.node.forget_market();
                self.replace(&mut flight).await;
                flight.back_off();
            }
        }
        self.flights.push_back(flight);
    }

    /// Raises what is offered by transactions that are in no block for too long.
    async fn raise(&mut self, mined: u64) {
        let after = self.policy.replace_after;
        let due =
            |flight: &Flight| flight.accepted && flight.nonce >= mined && flight.since.elapsed() >= after;
        let indexes: Vec<usize> =
            (0..self.flights.len()).filter(|index| due(&self.flights[*index])).take(RAISED_AT_ONCE).collect();
        let mut flights = std::mem::take(&mut self.flights);
        for index in indexes {
            if let Some(flight) = flights.get_mut(index) {
                self.replace(flight).await;
            }
        }
        self.flights = flights;
    }

    async fn replace(&self, flight: &mut Flight) {
        let (name, ceiling) = (&self.policy.name, self.policy.ceiling);
        let Ok(market) = self.node.market().await else { return };
        let Some(fees) = flight.fees.raised(market, ceiling) else {
            if !flight.told {
                flight.told = true;
                tracing::warn!(
                    target: TARGET, facilitator = name, transaction = %flight.hash(), nonce = flight.nonce,
                    network_gwei = gwei(market.least()), max_fee_gwei = gwei(ceiling),
                    "a transaction is stuck, and its fee cannot be raised further"
                );
            }
            // A node may have dropped it.
            self.node.send(&flight.raw, flight.hash()).await;
            flight.since = Instant::now();
            return;
        };
        let Ok(signed) = self.account.sign(&flight.order.call, flight.order.gas, flight.nonce, fees).await
        else {
            return;
        };
        let (old, hash) = (flight.hash(), signed.hash);
        match self.node.send(&signed.raw, hash).await {
            Sent::Accepted => {
                flight.replaced(signed, fees);
                flight.accept();
                tracing::info!(
                    target: TARGET, facilitator = name, transaction = %hash, instead_of = %old, nonce = flight.nonce,
                    max_fee_gwei = gwei(fees.max), "a stuck transaction was replaced"
                );
            }
            // It may be this version that gets into a block.
            Sent::Unsure(_) => flight.replaced(signed, fees),
            // More is offered at the next look.
            Sent::Conflict | Sent::FeeTooLow => flight.fees = fees,
            Sent::NonceUsed | Sent::NotLeft(_) | Sent::Refused(_) => flight.since = Instant::now(),
        }
    }

    /// Fills a nonce that keeps all of ours waiting. It belongs to a transaction of an earlier run that
    /// offered too little, or was dropped, and that nobody remembers; what it was for is settled again
    /// when it is asked for again.
    async fn mind_the_gap(&mut self, mined: u64) {
        if self.flights.front().is_none_or(|first| first.nonce <= mined) {
            self.gap = None;
            return;
        }
        let gap = self.gap.take().filter(|gap| gap.nonce == mined);
        let mut gap = gap.unwrap_or_else(|| Gap { nonce: mined, since: Instant::now(), fees: None });
        if gap.since.elapsed() >= self.policy.replace_after {
            self.fill(&mut gap).await;
        }
        self.gap = Some(gap);
    }

    async fn fill(&self, gap: &mut Gap) {
        let (name, ceiling) = (&self.policy.name, self.policy.ceiling);
        let nothing = Call { to: self.account.address, data: Bytes::new() };
        let Ok(market) = self.node.market().await else { return };
        let fees = match gap.fees {
            None => market.offer(ceiling),
            Some(fees) => fees.raised(market, ceiling),
        };
        let Some(fees) = fees else { return };
        let Ok(Estimated::Gas(gas)) = self.node.estimate(nothing.to, &nothing, EMPTY_GAS_MAX).await else {
            return;
        };
        let Ok(signed) = self.account.sign(&nothing, gas, gap.nonce, fees).await else { return };
        match self.node.send(&signed.raw, signed.hash).await {
            Sent::Accepted => {
                tracing::warn!(
                    target: TARGET, facilitator = name, nonce = gap.nonce, transaction = %signed.hash,
                    "a transaction of an earlier run kept others waiting, and was replaced by an empty one"
                );
                (gap.since, gap.fees) = (Instant::now(), Some(fees));
            }
            Sent::Conflict | Sent::FeeTooLow => gap.fees = Some(fees),
            Sent::NonceUsed | Sent::NotLeft(_) | Sent::Refused(_) | Sent::Unsure(_) => {
                gap.since = Instant::now();
            }
        }
    }
}

/// What to say when a network asks for more than the operator wants to pay.
pub(super) fn too_dear(market: Market, ceiling: u128) -> Down {
    Down(format!(
        "the network asks for {} gwei per gas, which is above max_fee_gwei = {}",
        gwei(market.least()),
        gwei(ceiling)
    ))
}

/// The receipt of a transaction that was sent in several versions, the last first.
async fn find(node: Arc<Node>, hashes: Vec<B256>) -> Result<Option<Receipt>, Down> {
    for hash in hashes.into_iter().rev() {
        if let Some(receipt) = node.receipt(hash).await? {
            return Ok(Some(receipt));
        }
    }
    Ok(None)
}
