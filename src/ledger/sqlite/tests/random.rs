//! Random lives of several payments: the ledger in SQLite gives the answers and keeps the records
//! that the model does.

use std::collections::HashMap;
use std::time::Duration;

use alloy_primitives::{B256, U256};
use proptest::prelude::*;

use super::super::super::contract::{claim, response};
use super::super::super::{
    ClaimToken, Claimed, DeliveryEnd, Filter, GatewayId, Ledger, ModelLedger, NewClaim, PayerLimits,
    PaymentRecord, PaymentState, Settlement,
};
use super::super::SqliteLedger;
use super::{Folder, NOW};
use crate::clock::UnixSeconds;
use crate::x402::AtomicAmount;

/// What is done to one of a few payments.
#[derive(Debug, Clone)]
enum Act {
    Claim { request: u8, identifier: u8, count: u32, sum: u64 },
    Recant,
    Release { reason: bool },
    Settling { unique: bool },
    Settled { deliver: bool, unique: bool, transaction: u8 },
    Declined,
    Unresolved { transaction: bool, wait: u64 },
    Delivered { end: u8 },
    Due { limit: u32 },
    Forget { retention: u64 },
    List { filter: Filter, after: bool, limit: u32 },
    Crash,
}

fn state() -> impl Strategy<Value = PaymentState> {
    proptest::sample::select(PaymentState::ALL.to_vec())
}

fn filter() -> impl Strategy<Value = Filter> {
    let time = || proptest::option::weighted(0.2, (0_u64..200).prop_map(|seconds| NOW.plus(seconds)));
    let route = proptest::option::weighted(0.3, prop_oneof![Just("even".to_owned()), Just("odd".to_owned())]);
    let payer = proptest::option::weighted(0.3, (0_u8..3).prop_map(|payer| name(payer).to_uppercase()));
    (time(), time(), route, payer, proptest::collection::vec(state(), 0..3))
        .prop_map(|(since, until, route, payer, states)| Filter { since, until, route, payer, states })
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (0_u8..2, 0_u8..3, 0_u32..4, 0_u64..50_000)
            .prop_map(|(request, identifier, count, sum)| Act::Claim { request, identifier, count, sum }),
        1 => Just(Act::Recant),
        1 => any::<bool>().prop_map(|reason| Act::Release { reason }),
        6 => any::<bool>().prop_map(|unique| Act::Settling { unique }),
        6 => (any::<bool>(), any::<bool>(), 0_u8..2)
            .prop_map(|(deliver, unique, transaction)| Act::Settled { deliver, unique, transaction }),
        2 => Just(Act::Declined),
        4 => (any::<bool>(), 0_u64..40)
            .prop_map(|(transaction, wait)| Act::Unresolved { transaction, wait }),
        5 => (0_u8..3).prop_map(|end| Act::Delivered { end }),
        3 => (0_u32..3).prop_map(|limit| Act::Due { limit }),
        1 => (0_u64..60).prop_map(|retention| Act::Forget { retention }),
        2 => (filter(), any::<bool>(), 0_u32..6)
            .prop_map(|(filter, after, limit)| Act::List { filter, after, limit }),
        1 => Just(Act::Crash),
    ]
}

fn name(payer: u8) -> String {
    format!("0xF39Fd6e51aad88F6F4ce6aB8827279cffFb9226{payer}")
}

/// Payments are told apart by a byte; payer, route and price follow from it.
fn new_claim(payment: u8, act: &Act, grant: u64) -> NewClaim {
    let mut new = claim(payment + 1);
    new.grant = grant;
    new.expires = (payment != 3).then_some(NOW.plus(30 * u64::from(payment)));
    new.repeatable = payment != 2;
    new.particulars.payer = (payment != 5).then(|| name(payment % 3));
    new.particulars.route = if payment % 2 == 0 { "even" } else { "odd" }.into();
    new.particulars.amount = AtomicAmount(U256::from(10_000 * (u64::from(payment) + 1)));
    if let Act::Claim { request, identifier, count, sum } = act {
        new.request = B256::repeat_byte(*request);
        new.identifier = (*identifier > 0).then(|| B256::repeat_byte(*identifier));
        let sum = (*sum > 10_000).then_some(AtomicAmount(U256::from(*sum)));
        new.limits = PayerLimits { count: *count, sum };
    }
    new
}

/// One of the two, and what its user remembers.
struct Side<L> {
    ledger: L,
    tokens: HashMap<u8, ClaimToken>,
    claims: HashMap<u8, NewClaim>,
}

impl<L: Ledger> Side<L> {
    fn new(ledger: L) -> Self {
        Self { ledger, tokens: HashMap::new(), claims: HashMap::new() }
    }

    async fn claim(&mut self, payment: u8, new: NewClaim, now: UnixSeconds) -> String {
        let claimed = self.ledger.claim(&new, now).await;
        if let Ok(Claimed::New(token) | Claimed::Owed { token, .. }) = &claimed {
            // The other payment with the same identifier is held now, not the one presented.
            let held = token.id.0[0] - 1;
            self.tokens.insert(held, *token);
        }
        self.claims.insert(payment, new);
        format!("{claimed:?}")
    }

    /// What came of an act, as text.
    async fn act(&mut self, payment: u8, act: &Act, grant: u64, now: UnixSeconds) -> String {
        let unknown = ClaimToken { id: claim(payment + 1).id, attempt: 1, grant };
        let token = self.tokens.get(&payment).copied().unwrap_or(unknown);
        let ledger = &self.ledger;
        match act {
            Act::Claim { .. } => self.claim(payment, new_claim(payment, act, grant), now).await,
            Act::Recant => match self.claims.get(&payment) {
                Some(claim) => format!("{:?}", ledger.recant(claim, now).await),
                None => String::new(),
            },
            Act::Release { reason } => {
                format!("{:?}", ledger.release(token, reason.then_some("not used"), now).await)
            }
            Act::Settling { unique } => {
                format!("{:?}", ledger.settling(token, &format!("request {grant}"), *unique, now).await)
            }
            Act::Settled { deliver, unique, transaction } => {
                let mut response = response();
                response.transaction = format!("0x{transaction}");
                response.extra = Some(serde_json::json!({ "grant": grant }));
                let settlement =
                    Settlement { response: &response, deliver: *deliver, unique_transaction: *unique };
                format!("{:?}", ledger.settled(token, settlement, now).await)
            }
            Act::Declined => format!("{:?}", ledger.declined(token, "no", now).await),
            Act::Unresolved { transaction, wait } => {
                let transaction = if *transaction { "0xabc" } else { "" };
                let next = now.plus(*wait);
                format!("{:?}", ledger.unresolved(token, "timeout", transaction, next, now).await)
            }
            Act::Delivered { end } => {
                let ends = [DeliveryEnd::Complete, DeliveryEnd::BrokenOff, DeliveryEnd::NotBegun];
                format!("{:?}", ledger.delivered(token, ends[usize::from(*end)], now).await)
            }
            Act::Due { limit } => {
                format!("{:?}", ledger.due(now, Duration::from_secs(20), *limit).await)
            }
            Act::Forget { retention } => format!("{:?}", ledger.forget(*retention, now).await),
            Act::List { filter, after, limit } => {
                let after = after.then_some((NOW.plus(9), claim(payment + 1).id));
                format!("{:?}", ledger.list(filter, after, *limit).await.map(known))
            }
            Act::Crash => String::new(),
        }
    }

    async fn books(&self) -> String {
        let records = self.ledger.list(&Filter::default(), None, 1_000).await.unwrap();
        let mut single = Vec::new();
        for record in &records {
            single.push(self.ledger.get(record.id).await.unwrap().unwrap());
        }
        assert_eq!(single, records);
        format!("{:?} {:?}", known(records), self.ledger.counts().await.unwrap())
    }
}

/// Records without what each ledger chooses for itself: the numbers of gateways.
fn known(mut records: Vec<PaymentRecord>) -> Vec<PaymentRecord> {
    for record in &mut records {
        record.owner = record.owner.map(|_| GatewayId(0));
    }
    records
}

async fn same(acts: Vec<(u8, u64, Act)>, folder: Option<Folder>) -> Result<(), TestCaseError> {
    let open = || match &folder {
        Some(folder) => folder.open(),
        None => SqliteLedger::in_memory().unwrap(),
    };
    let mut model = Side::new(ModelLedger::new());
    let mut sqlite = Side::new(open());
    let mut now = NOW;
    for (grant, (payment, pause, act)) in (1..).zip(acts) {
        now = now.plus(pause);
        if matches!(act, Act::Crash) && folder.is_some() {
            model.ledger.kill();
            model.ledger = model.ledger.another();
            // The file is free when the ledger before is gone.
            sqlite.ledger = {
                drop(sqlite.ledger);
                open()
            };
            let taken = (model.ledger.beat(now).await.unwrap(), sqlite.ledger.beat(now).await.unwrap());
            prop_assert_eq!(taken.0, taken.1);
        }
        let expected = model.act(payment, &act, grant, now).await;
        let found = sqlite.act(payment, &act, grant, now).await;
        prop_assert_eq!(expected, found, "{:?}", act);
        prop_assert_eq!(model.books().await, sqlite.books().await, "after {:?}", act);
    }
    Ok(())
}

fn acts() -> impl Strategy<Value = Vec<(u8, u64, Act)>> {
    proptest::collection::vec((0_u8..6, 0_u64..12, act()), 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]
    #[test]
    fn random_lives_of_payments_go_as_in_the_model(acts in acts()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(same(acts, None))?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn random_lives_of_payments_go_as_in_the_model_across_starts(acts in acts()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(same(acts, Some(Folder::new())))?;
    }
}
