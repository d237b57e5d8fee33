//! The contract's promises as tests, run against every implementation.

mod books;
mod intents;
pub(crate) mod lives;
mod notices;

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::B256;
use async_trait::async_trait;

use super::{
    Accounts as _, ClaimToken, Claimed, DeliveryEnd, Intent, Ledger, LedgerError, NewClaim, Particulars,
    PayerLimits, PaymentState, Recorded, Redelivery, Settlement,
};
use crate::clock::UnixSeconds;
use crate::scheme::PaymentId;
use crate::x402::{AtomicAmount, SettleResponse, Version};

const NOW: UnixSeconds = UnixSeconds(1_000);
const LEASE: Duration = Duration::from_secs(60);
const REQUEST: &str = "{\"stored\":\"request\"}";

/// A ledger that gateways can be started on and killed.
#[async_trait]
pub(crate) trait Store: Send + Sync {
    type Ledger: Ledger + 'static;
    /// Starts a gateway's view of it.
    async fn open(&self) -> Self::Ledger;
    /// Ends one without giving it a chance to tidy up. When this returns, a beat of another gateway
    /// (after `open`, where only one may run at a time) finds it gone.
    async fn kill(&self, ledger: Self::Ledger);
    /// Whether several gateways may run over it at a time.
    fn takes_several(&self) -> bool;
}

pub(crate) fn response() -> SettleResponse {
    SettleResponse {
        success: true,
        error_reason: None,
        payer: None,
        transaction: "0x1".into(),
        network: "eip155:84532".into(),
        amount: None,
        extra: None,
        extensions: None,
    }
}

pub(crate) fn claim(byte: u8) -> NewClaim {
    NewClaim {
        id: PaymentId(B256::repeat_byte(byte)),
        grant: u64::from(byte),
        expires: Some(UnixSeconds(5_000)),
        request: B256::repeat_byte(0xaa),
        repeatable: true,
        identifier: None,
        limits: PayerLimits { count: 0, sum: None },
        redelivery: Redelivery { window_seconds: 100, tries: 2 },
        particulars: Particulars {
            payer: Some("0xF39Fd6e51aad88F6F4ce6aB8827279cffFb92266".into()),
            network: "eip155:84532".parse().unwrap(),
            asset: "0x036CbD53842c5426634e7929541eC2318f3dCF7e".into(),
            amount: AtomicAmount(alloy_primitives::U256::from(10_000)),
            pay_to: "0x209693Bc6afc0C5328bA36FaF03C514EF312287C".into(),
            scheme: "exact".into(),
            version: Version::V2,
            route: "articles".into(),
            method: "GET".into(),
            resource: "https://shop.example/a".into(),
            facilitator: "sandbox".into(),
        },
    }
}

pub(crate) fn intent(request: &str, unique_transaction: bool) -> Intent {
    Intent { facilitator: "sandbox".into(), request: request.into(), unique_transaction, payer: None }
}

fn settlement(deliver: bool) -> Settlement<'static> {
    static RESPONSE: std::sync::OnceLock<SettleResponse> = std::sync::OnceLock::new();
    Settlement { response: RESPONSE.get_or_init(response), deliver, unique_transaction: false }
}

async fn new_claim<L: Ledger>(ledger: &L, claim: &NewClaim) -> ClaimToken {
    match ledger.claim(claim, NOW).await.unwrap() {
        Claimed::New(token) => token,
        other => panic!("{other:?}"),
    }
}

async fn settling<L: Ledger>(ledger: &L, claim: &NewClaim) -> ClaimToken {
    let token = new_claim(ledger, claim).await;
    ledger.settling(token, intent(REQUEST, false), NOW).await.unwrap();
    token
}

async fn settled<L: Ledger>(ledger: &L, claim: &NewClaim) -> ClaimToken {
    let token = settling(ledger, claim).await;
    assert_eq!(ledger.settled(token, settlement(true), NOW).await, Ok(Recorded::Deliver));
    token
}

async fn state<L: Ledger>(ledger: &L, claim: &NewClaim) -> Option<PaymentState> {
    ledger.get(claim.id).await.unwrap().map(|record| record.state)
}

fn held(state: PaymentState, same_request: bool, delivering: bool) -> Claimed {
    Claimed::Held { state, same_request, delivering }
}

fn is_owed(claimed: &Claimed) -> bool {
    matches!(claimed, Claimed::Owed { response: found, .. } if **found == response())
}

/// Runs every promise, each against a new store.
pub(crate) async fn holds_for<S: Store>(new: impl AsyncFn() -> S) {
    one_of_many_concurrent_claims_wins(&new().await).await;
    a_payment_given_back_can_be_claimed_again_and_old_tokens_are_worthless(&new().await).await;
    a_settled_payment_stays_settled_and_is_delivered_once(&new().await).await;
    a_declined_payment_can_be_claimed_again_and_a_late_truth_still_counts(&new().await).await;
    a_broken_delivery_may_be_fetched_again_within_its_bounds(&new().await).await;
    an_unresolved_payment_is_kept_driven_by_one_and_owed_when_it_was_settled(&new().await).await;
    a_payer_who_asks_hurries_an_unresolved_payment(&new().await).await;
    steps_out_of_order_change_nothing(&new().await).await;
    a_claim_whose_answer_was_lost_is_undone_and_no_other(&new().await).await;
    an_identifier_stands_for_one_request(&new().await).await;
    a_payer_can_pledge_only_so_much(&new().await).await;
    a_transaction_that_must_be_unique_settles_one_payment(&new().await).await;
    what_a_dead_gateway_held_is_taken_over(&new().await).await;
    everything_survives_the_end_of_a_gateway(&new().await).await;
    only_what_can_no_longer_be_settled_is_forgotten(&new().await).await;
    intents::who_is_asked_is_known_to_whoever_takes_a_payment_over(&new().await).await;
    intents::what_reached_nobody_is_given_up_by_its_holder_alone(&new().await).await;
    intents::a_payer_whom_verification_told_is_in_the_books_and_counts(&new().await).await;
    intents::what_can_be_written_in_many_ways_uses_nobodys_limit_up(&new().await).await;
    intents::a_payer_whom_settlement_told_is_in_the_books(&new().await).await;
    books::the_books_can_be_searched_and_paged(&new().await).await;
    books::what_is_held_is_counted(&new().await).await;
    notices::notices_are_seen_by_everybody_while_they_are_up(&new().await).await;
    notices::notices_outlive_the_gateway_that_put_them_up(&new().await).await;
    notices::what_is_not_listed_is_found_by_its_key(&new().await).await;
    notices::long_and_strange_texts_come_back_as_they_were(&new().await).await;
}

async fn one_of_many_concurrent_claims_wins<S: Store>(store: &S) {
    let gateways = if store.takes_several() { 3 } else { 1 };
    let mut ledgers = Vec::new();
    for _ in 0..gateways {
        let ledger = Arc::new(store.open().await);
        ledger.beat(NOW).await.unwrap();
        ledgers.push(ledger);
    }
    let tasks: Vec<_> = (0..192_usize)
        .map(|index| {
            let ledger = Arc::clone(&ledgers[index % ledgers.len()]);
            let byte = u8::try_from(index % 4).unwrap();
            tokio::spawn(async move { ledger.claim(&claim(byte), NOW).await.unwrap() })
        })
        .collect();
    let mut won = 0;
    for task in tasks {
        match task.await.unwrap() {
            Claimed::New(_) => won += 1,
            other => assert_eq!(other, held(PaymentState::Claimed, true, false)),
        }
    }
    assert_eq!(won, 4, "four payments, each presented 48 times");
}

async fn a_payment_given_back_can_be_claimed_again_and_old_tokens_are_worthless<S: Store>(store: &S) {
    let ledger = store.open().await;
    let first = new_claim(&ledger, &claim(1)).await;
    ledger.release(first, None, NOW).await.unwrap();
    assert_eq!(state(&ledger, &claim(1)).await, None, "what was never verified leaves no trace");
    let second = new_claim(&ledger, &claim(1)).await;
    ledger.release(second, Some("the origin answered 500"), NOW).await.unwrap();
    let record = ledger.get(claim(1).id).await.unwrap().unwrap();
    assert_eq!((record.state, record.reason.as_str()), (PaymentState::Released, "the origin answered 500"));
    let third = new_claim(&ledger, &claim(1)).await;
    assert!(third.attempt > second.attempt);
    assert!(ledger.settling(second, intent(REQUEST, false), NOW).await.is_err());
    assert!(ledger.release(second, None, NOW).await.is_err());
    ledger.settling(third, intent(REQUEST, false), NOW).await.unwrap();
    assert!(ledger.release(third, Some("too late"), NOW).await.is_err(), "settlement was asked for");
}

async fn a_settled_payment_stays_settled_and_is_delivered_once<S: Store>(store: &S) {
    let ledger = store.open().await;
    let token = settled(&ledger, &claim(1)).await;
    let again = ledger.claim(&claim(1), NOW).await;
    assert_eq!(again, Ok(held(PaymentState::Settled, true, true)));
    assert!(ledger.release(token, None, NOW).await.is_err());
    assert!(ledger.declined(token, "no", NOW).await.is_err());
    assert!(ledger.unresolved(token, "", "", NOW, NOW).await.is_err());
    assert_eq!(ledger.settled(token, settlement(true), NOW).await, Ok(Recorded::Taken));
    ledger.delivered(token, DeliveryEnd::Complete, NOW).await.unwrap();
    assert_eq!(ledger.claim(&claim(1), NOW).await, Ok(held(PaymentState::Delivered, true, false)));
    assert!(
        ledger.delivered(token, DeliveryEnd::BrokenOff, NOW).await.is_err(),
        "a complete delivery cannot break off"
    );
    assert_eq!(ledger.settled(token, settlement(true), NOW).await, Ok(Recorded::Taken));
    let record = ledger.get(claim(1).id).await.unwrap().unwrap();
    assert_eq!((record.deliveries, record.delivered_at), (1, Some(NOW)));
    assert_eq!((record.transaction.as_str(), record.request), ("0x1", None));
}

async fn a_declined_payment_can_be_claimed_again_and_a_late_truth_still_counts<S: Store>(store: &S) {
    let ledger = store.open().await;
    let token = settling(&ledger, &claim(1)).await;
    ledger.declined(token, "insufficient_funds", NOW).await.unwrap();
    let record = ledger.get(claim(1).id).await.unwrap().unwrap();
    assert_eq!((record.state, record.reason.as_str()), (PaymentState::Declined, "insufficient_funds"));
    let second = settling(&ledger, &claim(1)).await;
    ledger.declined(second, "insufficient_funds", NOW).await.unwrap();
    assert_eq!(ledger.settled(second, settlement(false), NOW).await, Ok(Recorded::Owed));
    assert!(is_owed(&ledger.claim(&claim(1), NOW).await.unwrap()));
}

async fn a_broken_delivery_may_be_fetched_again_within_its_bounds<S: Store>(store: &S) {
    let ledger = store.open().await;
    let mut other = claim(1);
    other.request = B256::repeat_byte(0xbb);
    let token = settled(&ledger, &claim(1)).await;
    ledger.delivered(token, DeliveryEnd::BrokenOff, NOW).await.unwrap();
    assert_eq!(ledger.claim(&other, NOW).await, Ok(held(PaymentState::Settled, false, false)));
    for _ in 0..2 {
        assert!(is_owed(&ledger.claim(&claim(1), NOW.plus(100)).await.unwrap()));
        assert_eq!(ledger.claim(&claim(1), NOW).await, Ok(held(PaymentState::Settled, true, true)));
        ledger.delivered(token, DeliveryEnd::BrokenOff, NOW).await.unwrap();
    }
    assert_eq!(ledger.claim(&claim(1), NOW).await, Ok(held(PaymentState::Settled, true, false)), "two tries");

    let token = settled(&ledger, &claim(2)).await;
    ledger.delivered(token, DeliveryEnd::BrokenOff, NOW).await.unwrap();
    let late = ledger.claim(&claim(2), NOW.plus(101)).await;
    assert_eq!(late, Ok(held(PaymentState::Settled, true, false)), "the window is over");

    let mut post = claim(3);
    post.repeatable = false;
    let token = settled(&ledger, &post).await;
    ledger.delivered(token, DeliveryEnd::BrokenOff, NOW).await.unwrap();
    assert_eq!(ledger.claim(&post, NOW).await, Ok(held(PaymentState::Settled, true, false)), "not a GET");

    // What the origin failed to deliver is owed as before, whatever the method.
    let mut post = claim(4);
    post.repeatable = false;
    let mut token = settled(&ledger, &post).await;
    for _ in 0..5 {
        ledger.delivered(token, DeliveryEnd::NotBegun, NOW).await.unwrap();
        match ledger.claim(&post, NOW.plus(1_000)).await.unwrap() {
            Claimed::Owed { token: found, .. } => token = found,
            other => panic!("{other:?}"),
        }
    }
}

async fn an_unresolved_payment_is_kept_driven_by_one_and_owed_when_it_was_settled<S: Store>(store: &S) {
    let ledger = store.open().await;
    let token = settling(&ledger, &claim(1)).await;
    ledger.unresolved(token, "timeout", "0xabc", NOW.plus(5), NOW).await.unwrap();
    assert_eq!(ledger.claim(&claim(1), NOW).await, Ok(held(PaymentState::Unresolved, true, false)));
    assert_eq!(ledger.due(NOW, LEASE, 10).await.unwrap(), vec![], "not due yet");
    let due = ledger.due(NOW.plus(5), LEASE, 10).await.unwrap();
    assert_eq!(due.len(), 1);
    assert_eq!(
        (due[0].token, due[0].request.as_str(), due[0].transaction.as_str()),
        (token, REQUEST, "0xabc")
    );
    assert_eq!((due[0].facilitator.as_str(), due[0].settling_at, due[0].tries), ("sandbox", NOW, 0));
    assert_eq!(ledger.due(NOW.plus(6), LEASE, 10).await.unwrap(), vec![], "somebody drives it");
    ledger.unresolved(token, "again", "", NOW.plus(20), NOW.plus(6)).await.unwrap();
    let due = ledger.due(NOW.plus(20), LEASE, 10).await.unwrap();
    assert_eq!((due[0].tries, due[0].transaction.as_str()), (1, "0xabc"));
    let lapsed = ledger.due(NOW.plus(20).plus(LEASE.as_secs()), LEASE, 10).await.unwrap();
    assert_eq!(lapsed.len(), 1, "who drove it never came back");
    assert_eq!(ledger.settled(token, settlement(false), NOW).await, Ok(Recorded::Owed));
    assert_eq!(ledger.due(NOW.plus(9_000), LEASE, 10).await.unwrap(), vec![]);
    let mut other = claim(1);
    other.request = B256::repeat_byte(0xbb);
    assert_eq!(ledger.claim(&other, NOW).await, Ok(held(PaymentState::Settled, false, false)));
    // Owed for as long as it is remembered, once.
    assert!(is_owed(&ledger.claim(&claim(1), NOW.plus(4_000)).await.unwrap()));
    assert_eq!(ledger.settled(token, settlement(true), NOW).await, Ok(Recorded::Taken));
    ledger.delivered(token, DeliveryEnd::Complete, NOW).await.unwrap();
    assert_eq!(ledger.claim(&claim(1), NOW).await, Ok(held(PaymentState::Delivered, true, false)));

    // Whoever waits for the settlement gets the delivery, if nobody did meanwhile.
    let token = settling(&ledger, &claim(2)).await;
    assert_eq!(ledger.settled(token, settlement(false), NOW).await, Ok(Recorded::Owed));
    assert_eq!(ledger.settled(token, settlement(true), NOW).await, Ok(Recorded::Deliver));
}

async fn a_payer_who_asks_hurries_an_unresolved_payment<S: Store>(store: &S) {
    let ledger = store.open().await;
    let token = settling(&ledger, &claim(1)).await;
    ledger.unresolved(token, "timeout", "", NOW.plus(600), NOW).await.unwrap();
    ledger.claim(&claim(1), NOW).await.unwrap();
    assert_eq!(ledger.due(NOW, LEASE, 10).await.unwrap(), vec![], "it was driven only just now");
    let soon = NOW.plus(super::HURRY_SECONDS);
    assert_eq!(ledger.due(soon, LEASE, 10).await.unwrap().len(), 1);
}

async fn steps_out_of_order_change_nothing<S: Store>(store: &S) {
    let ledger = store.open().await;
    let unknown = ClaimToken { id: claim(9).id, attempt: 1, grant: 9 };
    let absent = LedgerError::WrongState { id: unknown.id, wanted: "settling", found: None };
    assert_eq!(ledger.settling(unknown, intent(REQUEST, false), NOW).await, Err(absent));
    assert!(ledger.release(unknown, None, NOW).await.is_err());
    let token = new_claim(&ledger, &claim(1)).await;
    assert!(ledger.settled(token, settlement(true), NOW).await.is_err());
    assert!(ledger.unresolved(token, "", "", NOW, NOW).await.is_err());
    assert!(ledger.declined(token, "", NOW).await.is_err());
    assert!(ledger.delivered(token, DeliveryEnd::Complete, NOW).await.is_err());
    assert_eq!(state(&ledger, &claim(1)).await, Some(PaymentState::Claimed));
}

async fn a_claim_whose_answer_was_lost_is_undone_and_no_other<S: Store>(store: &S) {
    let ledger = store.open().await;
    let granted = |byte: u8, grant: u64| NewClaim { grant, ..claim(byte) };
    ledger.claim(&granted(1, 7), NOW).await.unwrap();
    ledger.recant(&granted(1, 8), NOW).await.unwrap();
    assert_eq!(state(&ledger, &claim(1)).await, Some(PaymentState::Claimed), "another's claim");
    ledger.recant(&granted(1, 7), NOW).await.unwrap();
    assert_eq!(state(&ledger, &claim(1)).await, None);
    ledger.recant(&granted(1, 7), NOW).await.unwrap();

    let token = settling(&ledger, &claim(2)).await;
    ledger.recant(&claim(2), NOW).await.unwrap();
    assert_eq!(state(&ledger, &claim(2)).await, Some(PaymentState::Settling), "it is past that");
    ledger.settled(token, settlement(false), NOW).await.unwrap();
    assert!(is_owed(&ledger.claim(&granted(2, 7), NOW).await.unwrap()));
    ledger.recant(&granted(2, 8), NOW).await.unwrap();
    assert_eq!(ledger.claim(&claim(2), NOW).await, Ok(held(PaymentState::Settled, true, true)));
    ledger.recant(&granted(2, 7), NOW).await.unwrap();
    let again = ledger.claim(&granted(2, 9), NOW.plus(9_000)).await.unwrap();
    let Claimed::Owed { token, .. } = again else { panic!("{again:?}") };
    // A delivery ends itself alone.
    let other = ClaimToken { grant: 7, ..token };
    assert!(ledger.delivered(other, DeliveryEnd::Complete, NOW).await.is_err());
    ledger.delivered(token, DeliveryEnd::Complete, NOW).await.unwrap();
}

async fn an_identifier_stands_for_one_request<S: Store>(store: &S) {
    let ledger = store.open().await;
    let with = |byte: u8, request: u8| {
        let mut new = claim(byte);
        new.identifier = Some(B256::repeat_byte(0x77));
        new.request = B256::repeat_byte(request);
        new
    };
    let token = settling(&ledger, &with(1, 0xaa)).await;
    assert_eq!(ledger.claim(&with(2, 0xaa), NOW).await, Ok(held(PaymentState::Settling, true, false)));
    assert_eq!(ledger.claim(&with(2, 0xbb), NOW).await, Ok(Claimed::IdentifierUsed));
    ledger.settled(token, settlement(true), NOW).await.unwrap();
    ledger.delivered(token, DeliveryEnd::Complete, NOW).await.unwrap();
    // Delivered whole, and asked for again under its identifier: no second charge.
    let again = ledger.claim(&with(2, 0xaa), NOW).await.unwrap();
    let Claimed::Owed { token: owed, .. } = again else { panic!("{again:?}") };
    assert_eq!(owed.id, token.id, "the payment that was settled");
    ledger.delivered(owed, DeliveryEnd::Complete, NOW).await.unwrap();
    assert!(is_owed(&ledger.claim(&with(1, 0xaa), NOW).await.unwrap()));
    ledger.delivered(token, DeliveryEnd::Complete, NOW).await.unwrap();
    let spent = ledger.claim(&with(2, 0xaa), NOW).await;
    assert_eq!(spent, Ok(held(PaymentState::Delivered, true, false)), "two tries");

    // An identifier whose payment was given back is free for another.
    let mut other = with(3, 0xaa);
    other.identifier = Some(B256::repeat_byte(0x78));
    let token = new_claim(&ledger, &other).await;
    ledger.release(token, Some("not used"), NOW).await.unwrap();
    let mut third = with(4, 0xbb);
    third.identifier = other.identifier;
    new_claim(&ledger, &third).await;
    assert_eq!(ledger.claim(&other, NOW).await, Ok(Claimed::IdentifierUsed));
}

async fn a_payer_can_pledge_only_so_much<S: Store>(store: &S) {
    let ledger = Arc::new(store.open().await);
    let limited = |byte: u8, count: u32, sum: Option<u64>| {
        let mut new = claim(byte);
        let sum = sum.map(|sum| AtomicAmount(alloy_primitives::U256::from(sum)));
        new.limits = PayerLimits { count, sum };
        new
    };
    let tasks: Vec<_> = (0..20_u8)
        .map(|byte| {
            let ledger = Arc::clone(&ledger);
            tokio::spawn(async move { ledger.claim(&limited(byte, 3, None), NOW).await.unwrap() })
        })
        .collect();
    let mut won = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            Claimed::New(token) => won.push(token),
            other => assert_eq!(other, Claimed::PayerLimit),
        }
    }
    assert_eq!(won.len(), 3);
    assert_eq!(ledger.claim(&limited(30, 0, Some(39_999)), NOW).await, Ok(Claimed::PayerLimit));
    let mut elsewhere = limited(31, 3, None);
    elsewhere.particulars.payer = Some("0x0000000000000000000000000000000000000001".into());
    new_claim(&*ledger, &elsewhere).await;
    new_claim(&*ledger, &limited(32, 0, Some(40_000))).await;
    // What is settled or given back is not pledged any more.
    for token in won {
        ledger.release(token, Some("not used"), NOW).await.unwrap();
    }
    new_claim(&*ledger, &limited(33, 3, Some(20_000))).await;
}

async fn a_transaction_that_must_be_unique_settles_one_payment<S: Store>(store: &S) {
    let ledger = store.open().await;
    let answer = response();
    let unique = Settlement { response: &answer, deliver: true, unique_transaction: true };
    let mut tokens = Vec::new();
    for byte in [1, 2] {
        let token = new_claim(&ledger, &claim(byte)).await;
        ledger.settling(token, intent(REQUEST, true), NOW).await.unwrap();
        tokens.push(token);
    }
    assert_eq!(ledger.settled(tokens[0], unique, NOW).await, Ok(Recorded::Deliver));
    assert_eq!(ledger.settled(tokens[1], unique, NOW).await, Ok(Recorded::TransactionUsed));
    assert_eq!(state(&ledger, &claim(2)).await, Some(PaymentState::Declined));
    // Elsewhere one transaction may settle many.
    settled(&ledger, &claim(3)).await;
    settled(&ledger, &claim(4)).await;
}

async fn what_a_dead_gateway_held_is_taken_over<S: Store>(store: &S) {
    let dead = store.open().await;
    dead.beat(NOW).await.unwrap();
    new_claim(&dead, &claim(1)).await;
    settling(&dead, &claim(2)).await;
    settled(&dead, &claim(3)).await;
    let driven = settling(&dead, &claim(4)).await;
    dead.unresolved(driven, "timeout", "", NOW, NOW).await.unwrap();
    assert_eq!(dead.due(NOW, LEASE, 10).await.unwrap().len(), 1);
    store.kill(dead).await;

    let ledger = store.open().await;
    let taken = ledger.beat(NOW).await.unwrap();
    assert_eq!((taken.released, taken.unresolved, taken.broken_off), (1, 1, 2));
    assert_eq!(ledger.beat(NOW).await.unwrap(), super::TakenOver::default());
    assert_eq!(state(&ledger, &claim(1)).await, Some(PaymentState::Released));
    assert_eq!(state(&ledger, &claim(2)).await, Some(PaymentState::Unresolved));
    let mut due: Vec<_> = ledger.due(NOW, LEASE, 10).await.unwrap().iter().map(|due| due.token.id).collect();
    due.sort();
    assert_eq!(due, [claim(2).id, claim(4).id]);
    assert!(is_owed(&ledger.claim(&claim(3), NOW).await.unwrap()), "its delivery broke off");
    let late = ClaimToken { id: claim(2).id, attempt: 1, grant: 2 };
    assert_eq!(ledger.settled(late, settlement(true), NOW).await, Ok(Recorded::Deliver));
}

async fn everything_survives_the_end_of_a_gateway<S: Store>(store: &S) {
    let first = store.open().await;
    first.beat(NOW).await.unwrap();
    let mut full = claim(1);
    full.identifier = Some(B256::repeat_byte(0x77));
    full.particulars.amount = AtomicAmount(alloy_primitives::U256::MAX);
    full.expires = None;
    let token = settling(&first, &full).await;
    first.unresolved(token, "timeout", "0xabc", NOW.plus(1), NOW).await.unwrap();
    settled(&first, &claim(2)).await;
    let before = (first.get(full.id).await.unwrap(), first.get(claim(2).id).await.unwrap());
    assert_eq!(before.0.as_ref().unwrap().particulars, full.particulars);
    assert_eq!(before.0.as_ref().unwrap().request.as_deref(), Some(REQUEST));
    assert_eq!(before.1.as_ref().unwrap().response.as_deref(), Some(&response()));
    store.kill(first).await;
    let second = store.open().await;
    assert_eq!((second.get(full.id).await.unwrap(), second.get(claim(2).id).await.unwrap()), before);
}

async fn only_what_can_no_longer_be_settled_is_forgotten<S: Store>(store: &S) {
    let ledger = store.open().await;
    let token = settled(&ledger, &claim(1)).await;
    ledger.delivered(token, DeliveryEnd::Complete, NOW).await.unwrap();
    let mut lasting = claim(2);
    lasting.expires = None;
    let token = settled(&ledger, &lasting).await;
    ledger.delivered(token, DeliveryEnd::Complete, NOW).await.unwrap();
    let token = settling(&ledger, &claim(3)).await;
    ledger.unresolved(token, "timeout", "", NOW, NOW).await.unwrap();
    let token = new_claim(&ledger, &claim(4)).await;
    ledger.release(token, Some("not used"), NOW).await.unwrap();
    new_claim(&ledger, &claim(5)).await;
    assert_eq!(ledger.forget(500, NOW.plus(499)).await, Ok(0));
    assert_eq!(ledger.forget(500, NOW.plus(500)).await, Ok(1), "what was given back");
    assert_eq!(ledger.forget(500, UnixSeconds(5_059)).await, Ok(0));
    assert_eq!(ledger.forget(500, UnixSeconds(5_060)).await, Ok(1), "what has run out");
    assert_eq!(ledger.forget(0, UnixSeconds(1_000_000)).await, Ok(0));
    for kept in [2, 3, 5] {
        assert!(state(&ledger, &claim(kept)).await.is_some(), "{kept}");
    }
}
