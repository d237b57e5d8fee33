//! The simulated world: its chance, its chain, its gateways.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy_primitives::B256;
use async_trait::async_trait;
use serde_json::json;
use tokio::time::Instant;

use super::members::Member;
use crate::chain::{Chain, ChainError, Finding, NonceUse, Received};
use crate::clock::{Clock, UnixSeconds};
use crate::facilitator::FacilitatorList;
use crate::ledger::{LedgerError, ModelLedger, Redelivery};
use crate::payment::tests::{ORIGIN, priced_route, supported};
use crate::payment::{Chains, FailureLimit, Gate, GateParts, OfferBook, Pledges};
use crate::policy::{FacilitatorId, Route, SettleWhen};
use crate::scheme::testing::{MOMENT, terms};
use crate::scheme::{OnChain, PaymentId};
use crate::x402::types::FacilitatorRequest;
use crate::x402::{Network, PaymentRequirements, Version};

/// Gateways that run at a time.
pub(super) const GATEWAYS: usize = 3;
/// How a delivery may be fetched again.
pub(super) const REDELIVERY: Redelivery = Redelivery { window_seconds: 300, tries: 2 };

/// What happened, over all runs.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) complete: u64,
    pub(super) broken_off: u64,
    pub(super) owed: u64,
    pub(super) repeated: u64,
    pub(super) in_use: u64,
    pub(super) unresolved: u64,
    pub(super) declined: u64,
    pub(super) already_used: u64,
    pub(super) ledger_failures: u64,
    pub(super) kills: u64,
    pub(super) front_runs: u64,
    /// Payments taken by gateways that quote another price.
    pub(super) honoured: u64,
    pub(super) moved_on: u64,
    pub(super) asked_again: u64,
}

impl Totals {
    fn fields(&self) -> [(&'static str, u64); 14] {
        [
            ("complete", self.complete),
            ("broken_off", self.broken_off),
            ("owed", self.owed),
            ("repeated", self.repeated),
            ("in_use", self.in_use),
            ("unresolved", self.unresolved),
            ("declined", self.declined),
            ("already_used", self.already_used),
            ("ledger_failures", self.ledger_failures),
            ("kills", self.kills),
            ("front_runs", self.front_runs),
            ("honoured", self.honoured),
            ("moved_on", self.moved_on),
            ("asked_again", self.asked_again),
        ]
    }

    pub(super) fn add(&mut self, other: &Self) {
        let Self { complete, broken_off, owed, repeated, in_use, unresolved, .. } = other;
        self.complete += complete;
        self.broken_off += broken_off;
        self.owed += owed;
        self.repeated += repeated;
        self.in_use += in_use;
        self.unresolved += unresolved;
        self.declined += other.declined;
        self.already_used += other.already_used;
        self.ledger_failures += other.ledger_failures;
        self.kills += other.kills;
        self.front_runs += other.front_runs;
        self.honoured += other.honoured;
        self.moved_on += other.moved_on;
        self.asked_again += other.asked_again;
    }

    pub(super) fn assert_that_everything_happened(&self) {
        for (name, count) in self.fields() {
            // A complete delivery that is repeated needs a kill within one instant: rare, and allowed.
            assert!(count > 0 || name == "repeated", "{name} never happened: {self:?}");
        }
    }
}

/// A gateway, as long as it lives.
#[derive(Clone)]
pub(super) struct Running {
    pub(super) gate: Gate,
    pub(super) route: Arc<Route>,
    /// Whether its price is the one that is paid.
    pub(super) quotes: bool,
    pub(super) life: Arc<Life>,
    ledger: ModelLedger,
}

/// Whether a gateway lives. What a dead one waits for never comes.
#[derive(Default)]
pub(super) struct Life(AtomicBool);

impl Life {
    pub(super) fn is_over(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    pub(super) async fn goes_on(&self) {
        if self.is_over() {
            std::future::pending::<()>().await;
        }
    }
}

/// Everything.
pub(super) struct World {
    settle: SettleWhen,
    chance: Mutex<u64>,
    healed: AtomicBool,
    started: Instant,
    model: ModelLedger,
    running: Mutex<Vec<Running>>,
    /// Payments by their nonces.
    payments: Mutex<BTreeMap<B256, PaymentId>>,
    /// Who was asked to settle which attempt at a payment, and reached.
    pub(super) asked: Mutex<BTreeMap<(PaymentId, u32), &'static str>>,
    /// Payments on the chain, with their transactions.
    chain: Mutex<BTreeMap<PaymentId, String>>,
    /// How often the ledger knows that nothing of a payment's answer was sent.
    not_begun: Mutex<BTreeMap<PaymentId, u32>>,
    violations: Mutex<Vec<String>>,
    /// What happened to which payment, for whoever reads a violation.
    history: Mutex<Vec<(PaymentId, String)>>,
    totals: Mutex<Totals>,
}

impl World {
    pub(super) fn new(seed: u64) -> Arc<Self> {
        let settle =
            if seed.is_multiple_of(2) { SettleWhen::BeforeResponse } else { SettleWhen::BeforeRequest };
        let world = Arc::new(Self {
            settle,
            chance: Mutex::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            healed: AtomicBool::new(false),
            started: Instant::now(),
            model: ModelLedger::new(),
            running: Mutex::default(),
            payments: Mutex::default(),
            asked: Mutex::default(),
            chain: Mutex::default(),
            not_begun: Mutex::default(),
            violations: Mutex::default(),
            history: Mutex::default(),
            totals: Mutex::default(),
        });
        for _ in 0..GATEWAYS {
            let gateway = world.start_gateway();
            world.running.lock().unwrap().push(gateway);
        }
        world
    }

    /// Starts a gateway with one of two prices.
    fn start_gateway(self: &Arc<Self>) -> Running {
        let life = Arc::new(Life::default());
        let quotes = self.happens(60);
        let amount = if quotes { terms().amount } else { "20000".parse().unwrap() };
        let (table, route) = priced_route(PaymentRequirements { amount, ..terms() }, self.settle);
        let offers = Arc::new(OfferBook::new(table, ORIGIN.into()));
        offers.observe(FacilitatorId(0), supported(&[Version::V2], &json!({})));
        let ledger = self.model.another();
        let edge = Edge { world: Arc::clone(self), life: Arc::clone(&life), ledger: ledger.clone() };
        let edge = Arc::new(edge);
        let every = Member::both(&edge);
        let gate = Gate::new(GateParts {
            offers,
            facilitators: vec![Arc::new(FacilitatorList::new(every.clone()))],
            every,
            chains: Chains::new(vec![(Arc::clone(&edge) as _, true)]),
            ledger: Arc::clone(&edge) as _,
            clock: edge,
            runtime: tokio::runtime::Handle::current(),
            verify_in_flight: 100,
            origin_time_seconds: MOMENT.margin_seconds,
            pledges: Pledges::default(),
            failures: FailureLimit::default(),
            redelivery: REDELIVERY,
        });
        tokio::spawn(gate.clone().keep_up(1_000_000));
        Running { gate, route, quotes, life, ledger }
    }

    pub(super) fn gateway(&self) -> Running {
        let index = self.below(GATEWAYS as u64);
        self.running.lock().unwrap()[usize::try_from(index).unwrap()].clone()
    }

    /// A number below a limit (xorshift64*).
    pub(super) fn below(&self, limit: u64) -> u64 {
        let mut state = self.chance.lock().unwrap();
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d) % limit
    }

    /// Whether something with so many chances in a hundred happens.
    pub(super) fn happens(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Whether something that goes wrong does.
    pub(super) fn fails(&self, percent: u64) -> bool {
        !self.healed.load(Ordering::SeqCst) && self.happens(percent)
    }

    pub(super) async fn wait(&self, millis: u64) {
        tokio::time::sleep(Duration::from_millis(self.below(millis.max(1)))).await;
    }

    async fn wait_unless_healed(&self, millis: u64) {
        if !self.healed.load(Ordering::SeqCst) {
            self.wait(millis).await;
        }
    }

    pub(super) fn heal(&self) {
        self.healed.store(true, Ordering::SeqCst);
    }

    pub(super) fn now(&self) -> UnixSeconds {
        MOMENT.now.plus(self.started.elapsed().as_secs())
    }

    /// Takes note of a payment.
    pub(super) fn knows(&self, nonce: B256, id: PaymentId) {
        self.payments.lock().unwrap().insert(nonce, id);
    }

    pub(super) fn id_of(&self, request: &FacilitatorRequest) -> PaymentId {
        let nonce = request.payload["authorization"]["nonce"].as_str().unwrap().parse().unwrap();
        let payments = self.payments.lock().unwrap();
        *payments.get::<B256>(&nonce).unwrap()
    }

    pub(super) fn noted_not_begun(&self, id: PaymentId) {
        *self.not_begun.lock().unwrap().entry(id).or_default() += 1;
    }

    /// How often the ledger knows that nothing of a payment's answer was sent.
    pub(super) fn known_not_begun(&self, id: PaymentId) -> u32 {
        self.not_begun.lock().unwrap().get(&id).copied().unwrap_or_default()
    }

    pub(super) fn ledger(&self) -> &ModelLedger {
        &self.model
    }

    pub(super) fn paid(&self, id: PaymentId) -> Option<String> {
        self.chain.lock().unwrap().get(&id).cloned()
    }

    pub(super) fn all_paid(&self) -> Vec<PaymentId> {
        self.chain.lock().unwrap().keys().copied().collect()
    }

    /// Submits a payment to the chain, which takes each once and only while it is valid.
    pub(super) fn submit(&self, id: PaymentId) -> Option<String> {
        let mut chain = self.chain.lock().unwrap();
        let number = chain.len();
        if !chain.contains_key(&id) && self.now() >= MOMENT.now.plus(300) {
            return None;
        }
        Some(chain.entry(id).or_insert_with(|| format!("0x{number:064x}")).clone())
    }

    /// Takes note of what happened to a payment.
    pub(super) fn note(&self, id: PaymentId, what: impl std::fmt::Debug) {
        let at = self.started.elapsed().as_millis();
        self.history.lock().unwrap().push((id, format!("  {at:>8} ms {what:?}")));
    }

    pub(super) fn violated(&self, id: PaymentId, what: &str) {
        let history = self.history.lock().unwrap();
        let lines = history.iter().filter(|(found, _)| *found == id).map(|(_, line)| line.as_str());
        let story: Vec<_> = lines.collect();
        self.violations.lock().unwrap().push(format!("{id} {what}\n{}", story.join("\n")));
    }

    pub(super) fn violations(&self) -> Vec<String> {
        self.violations.lock().unwrap().clone()
    }

    pub(super) fn count(&self, what: impl FnOnce(&mut Totals)) {
        what(&mut self.totals.lock().unwrap());
    }

    pub(super) fn totals(&self) -> Totals {
        std::mem::take(&mut self.totals.lock().unwrap())
    }

    pub(super) fn open_work(&self) -> usize {
        self.running.lock().unwrap().iter().map(|running| running.gate.under_way()).sum()
    }
}

/// Kills gateways now and then, and starts others in their place.
pub(super) async fn reap(world: Arc<World>) {
    loop {
        world.wait(20_000).await;
        let index = usize::try_from(world.below(GATEWAYS as u64)).unwrap();
        let next = world.start_gateway();
        let old = std::mem::replace(&mut world.running.lock().unwrap()[index], next);
        old.life.0.store(true, Ordering::SeqCst);
        old.ledger.kill();
        world.count(|totals| totals.kills += 1);
    }
}

/// Everything that one gateway reaches: it fails as chance has it, and for ever when the gateway is dead.
pub(super) struct Edge {
    pub(super) world: Arc<World>,
    pub(super) life: Arc<Life>,
    pub(super) ledger: ModelLedger,
}

impl Clock for Edge {
    fn now(&self) -> UnixSeconds {
        self.world.now()
    }
}

impl Edge {
    /// A step of the ledger that may fail before it is taken, and after.
    pub(super) async fn step<T, F>(&self, step: impl FnOnce() -> F) -> Result<T, LedgerError>
    where
        F: Future<Output = Result<T, LedgerError>>,
    {
        let failed = |when: &str| {
            self.world.count(|totals| totals.ledger_failures += 1);
            Err(LedgerError::Unavailable(format!("as chance has it, {when} writing")))
        };
        self.world.wait_unless_healed(5).await;
        self.life.goes_on().await;
        if self.world.fails(3) {
            return failed("before");
        }
        let result = step().await;
        self.world.wait_unless_healed(5).await;
        self.life.goes_on().await;
        if self.world.fails(3) { failed("after") } else { result }
    }
}

#[async_trait]
impl Chain for Edge {
    fn network(&self) -> &Network {
        static NETWORK: std::sync::OnceLock<Network> = std::sync::OnceLock::new();
        NETWORK.get_or_init(|| terms().network)
    }

    async fn look(&self, payment: &OnChain, _since: UnixSeconds, _hint: &str) -> Result<Finding, ChainError> {
        self.world.wait(100).await;
        self.life.goes_on().await;
        if self.world.fails(10) {
            return Err(ChainError { cause: "as chance has it".to_owned() });
        }
        let OnChain::Eip3009 { from, nonce, .. } = payment else { panic!("{payment:?}") };
        let (payer, id) = (from.to_string(), self.world.payments.lock().unwrap()[nonce]);
        Ok(match self.world.paid(id) {
            Some(transaction) => Finding::Paid { transaction, payer, time: self.world.now() },
            // Blocks are a little behind.
            None if self.world.now() >= MOMENT.now.plus(310) => Finding::Expired,
            None => Finding::Open,
        })
    }

    async fn head(&self) -> Result<UnixSeconds, ChainError> {
        Ok(self.world.now())
    }

    async fn received(
        &self,
        _asset: alloy_primitives::Address,
        _to: alloy_primitives::Address,
        _from: UnixSeconds,
        _until: UnixSeconds,
    ) -> Result<Vec<Received>, ChainError> {
        Ok(Vec::new())
    }

    async fn nonce_use(
        &self,
        _asset: alloy_primitives::Address,
        _payer: alloy_primitives::Address,
        _nonce: alloy_primitives::B256,
        _since: UnixSeconds,
    ) -> Result<Option<NonceUse>, ChainError> {
        Ok(None)
    }
}
