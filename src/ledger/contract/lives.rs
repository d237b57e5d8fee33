//! Random lives of several payments: every implementation gives the answers and keeps the records
//! that the model does.

use std::collections::HashMap;
use std::time::Duration;

use alloy_primitives::{B256, U256};
use proptest::prelude::*;

use super::super::{
    ClaimToken, Claimed, DeliveryEnd, Filter, GatewayId, Ledger, ModelLedger, NewClaim, PayerLimits,
    PaymentRecord, PaymentState, Settlement, ToldPayer,
};
use super::{NOW, Store, claim, intent, response};
use crate::clock::UnixSeconds;
use crate::x402::AtomicAmount;

/// What is done to one of a few payments.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Claim { request: u8, identifier: u8, count: u32, sum: u64 },
    Recant,
    Release { reason: bool },
    Settling { unique: bool, payer: Option<u8>, count: u32 },
    Abandoned,
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
    let seconds = || prop_oneof![0_u64..200, 0_u64..100_000];
    let time = || proptest::option::weighted(0.2, seconds().prop_map(|seconds| NOW.plus(seconds)));
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
        6 => (any::<bool>(), proptest::option::of(0_u8..3), 0_u32..4)
            .prop_map(|(unique, payer, count)| Act::Settling { unique, payer, count }),
        1 => Just(Act::Abandoned),
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
    new.particulars.payer = (payment < 4).then(|| name(payment % 3));
    new.particulars.route = if payment.is_multiple_of(2) { "even" } else { "odd" }.into();
    new.particulars.amount = AtomicAmount(U256::from(10_000 * (u64::from(payment) + 1)));
    if let Act::Claim { request, identifier, count, sum } = act {
        new.request = B256::repeat_byte(*request);
        new.identifier = (*identifier > 0).then(|| B256::repeat_byte(*identifier));
        let sum = (*sum > 10_000).then_some(AtomicAmount(U256::from(*sum)));
        new.limits = PayerLimits { count: *count, sum };
    }
    new
}

/// What the users of a ledger remember.
#[derive(Default)]
struct Users {
    tokens: HashMap<u8, ClaimToken>,
    claims: HashMap<u8, NewClaim>,
}

impl Users {
    async fn claim(&mut self, ledger: &impl Ledger, payment: u8, new: NewClaim, now: UnixSeconds) -> String {
        let claimed = ledger.claim(&new, now).await;
        if let Ok(Claimed::New(token) | Claimed::Owed { token, .. }) = &claimed {
            // The other payment with the same identifier is held now, not the one presented.
            let held = token.id.0[0] - 1;
            self.tokens.insert(held, *token);
        }
        self.claims.insert(payment, new);
        format!("{claimed:?}")
    }

    /// What came of an act, as text.
    async fn act(&mut self, ledger: &impl Ledger, act: &Act, moment: Moment) -> String {
        let Moment { payment, grant, now } = moment;
        let unknown = ClaimToken { id: claim(payment + 1).id, attempt: 1, grant };
        let token = self.tokens.get(&payment).copied().unwrap_or(unknown);
        match act {
            Act::Claim { .. } => self.claim(ledger, payment, new_claim(payment, act, grant), now).await,
            Act::Recant => match self.claims.get(&payment) {
                Some(claim) => format!("{:?}", ledger.recant(claim, now).await),
                None => String::new(),
            },
            Act::Release { reason } => {
                format!("{:?}", ledger.release(token, reason.then_some("not used"), now).await)
            }
            Act::Settling { unique, payer, count } => {
                let limits = PayerLimits { count: *count, sum: None };
                let network = claim(payment + 1).particulars.network;
                let told = |payer: u8| ToldPayer { name: name(payer), network, limits };
                let mut intent = intent(&format!("request {grant}"), *unique);
                (intent.facilitator, intent.payer) = (format!("facilitator {grant}"), payer.map(told));
                format!("{:?}", ledger.settling(token, intent, now).await)
            }
            Act::Abandoned => format!("{:?}", ledger.abandoned(token, "nobody was reached", now).await),
            Act::Settled { deliver, unique, transaction } => {
                let mut response = response();
                response.transaction = format!("0x{transaction}");
                response.payer = (grant % 2 == 0).then(|| name(payment % 3));
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
}

/// When something is done, and to which payment.
#[derive(Debug, Clone, Copy)]
struct Moment {
    payment: u8,
    grant: u64,
    now: UnixSeconds,
}

async fn books(ledger: &impl Ledger) -> String {
    let records = ledger.list(&Filter::default(), None, 1_000).await.unwrap();
    let mut single = Vec::new();
    for record in &records {
        single.push(ledger.get(record.id).await.unwrap().unwrap());
    }
    assert_eq!(single, records);
    format!("{:?} {:?}", known(records), ledger.counts().await.unwrap())
}

/// Records without what each ledger chooses for itself: the numbers of gateways.
fn known(mut records: Vec<PaymentRecord>) -> Vec<PaymentRecord> {
    for record in &mut records {
        record.owner = record.owner.map(|_| GatewayId(0));
    }
    records
}

/// One thing that is done: at which gateway, to which payment, how many seconds after the one before.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    gateway: usize,
    payment: u8,
    pause: u64,
    act: Act,
}

/// Random lives.
pub(crate) fn lives() -> impl Strategy<Value = Vec<Event>> {
    // Mostly one after the other, sometimes hours later.
    let pause = prop_oneof![9 => 0_u64..12, 1 => 3_000_u64..40_000];
    let event = (0_usize..2, 0_u8..6, pause, act()).prop_map(|(gateway, payment, pause, act)| Event {
        gateway,
        payment,
        pause,
        act,
    });
    proptest::collection::vec(event, 1..80)
}

/// Lets the same happen to a store and to the model, and compares all there is to see after each
/// event. Gateways come to an end now and then where `crashes` is set.
pub(crate) async fn go_as_in_the_model<S: Store>(
    store: &S,
    events: Vec<Event>,
    crashes: bool,
) -> Result<(), TestCaseError> {
    let count = if store.takes_several() { 2 } else { 1 };
    let first = ModelLedger::new();
    let mut models: Vec<_> = (0..count).map(|_| first.another()).collect();
    let mut ledgers = Vec::new();
    for _ in 0..count {
        ledgers.push(store.open().await);
    }
    let (mut theirs, mut ours) = (Users::default(), Users::default());
    let mut now = NOW;
    for (grant, Event { gateway, payment, pause, act }) in (1..).zip(events) {
        let gateway = gateway % count;
        now = now.plus(pause);
        if matches!(act, Act::Crash) && crashes {
            models[gateway].kill();
            models[gateway] = first.another();
            store.kill(ledgers.remove(gateway)).await;
            ledgers.insert(gateway, store.open().await);
            let taken = ledgers[gateway].beat(now).await.unwrap();
            prop_assert_eq!(models[gateway].beat(now).await.unwrap(), taken);
        }
        let moment = Moment { payment, grant, now };
        let expected = theirs.act(&models[gateway], &act, moment).await;
        let found = ours.act(&ledgers[gateway], &act, moment).await;
        prop_assert_eq!(expected, found, "{:?}", act);
        prop_assert_eq!(books(&models[gateway]).await, books(&ledgers[gateway]).await, "after {:?}", act);
    }
    Ok(())
}
