//! The contract's promises as tests, run against every implementation.

use std::sync::Arc;

use super::{Claimed, Ledger, LedgerError, NewClaim, PaymentState};
use crate::clock::UnixSeconds;
use crate::scheme::PaymentId;
use crate::x402::SettleResponse;

const NOW: UnixSeconds = UnixSeconds(1_000);

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

fn claim(byte: u8) -> NewClaim {
    NewClaim { id: PaymentId(alloy_primitives::B256::repeat_byte(byte)), expires: Some(UnixSeconds(5_000)) }
}

pub(crate) async fn holds_for<L: Ledger + 'static>(new: impl Fn() -> L) {
    one_of_many_concurrent_claims_wins(Arc::new(new())).await;
    a_released_payment_can_be_claimed_again(&new()).await;
    a_settled_payment_stays_settled(&new()).await;
    an_unresolved_payment_is_kept_until_it_is_known(&new()).await;
    steps_out_of_order_change_nothing(&new()).await;
}

async fn one_of_many_concurrent_claims_wins<L: Ledger + 'static>(ledger: Arc<L>) {
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let ledger = Arc::clone(&ledger);
            tokio::spawn(async move { ledger.claim(&claim(1), NOW).await.unwrap() })
        })
        .collect();
    let mut won = 0;
    for task in tasks {
        won += usize::from(task.await.unwrap() == Claimed::New);
    }
    assert_eq!(won, 1);
}

async fn a_released_payment_can_be_claimed_again<L: Ledger>(ledger: &L) {
    ledger.claim(&claim(1), NOW).await.unwrap();
    ledger.release(claim(1).id).await.unwrap();
    assert_eq!(ledger.claim(&claim(1), NOW).await, Ok(Claimed::New));
    ledger.settling(claim(1).id).await.unwrap();
    ledger.release(claim(1).id).await.unwrap();
    assert_eq!(ledger.claim(&claim(1), NOW).await, Ok(Claimed::New));
}

async fn a_settled_payment_stays_settled<L: Ledger>(ledger: &L) {
    ledger.claim(&claim(1), NOW).await.unwrap();
    ledger.settling(claim(1).id).await.unwrap();
    ledger.settled(claim(1).id, &response()).await.unwrap();
    assert_eq!(ledger.claim(&claim(1), NOW).await, Ok(Claimed::Held(PaymentState::Settled)));
    assert!(ledger.release(claim(1).id).await.is_err());
    assert!(ledger.unresolved(claim(1).id).await.is_err());
    assert_eq!(ledger.claim(&claim(1), NOW).await, Ok(Claimed::Held(PaymentState::Settled)));
}

async fn an_unresolved_payment_is_kept_until_it_is_known<L: Ledger>(ledger: &L) {
    assert_eq!(ledger.state(claim(1).id).await, Ok(None));
    ledger.claim(&claim(1), NOW).await.unwrap();
    assert_eq!(ledger.state(claim(1).id).await, Ok(Some(PaymentState::Claimed)));
    ledger.settling(claim(1).id).await.unwrap();
    ledger.unresolved(claim(1).id).await.unwrap();
    assert_eq!(ledger.state(claim(1).id).await, Ok(Some(PaymentState::Unresolved)));
    assert_eq!(ledger.claim(&claim(1), NOW).await, Ok(Claimed::Held(PaymentState::Unresolved)));
    ledger.settled(claim(1).id, &response()).await.unwrap();
    assert_eq!(ledger.claim(&claim(1), NOW).await, Ok(Claimed::Held(PaymentState::Settled)));
}

async fn steps_out_of_order_change_nothing<L: Ledger>(ledger: &L) {
    let unknown = claim(9).id;
    let absent = LedgerError::WrongState { id: unknown, wanted: "settling", found: None };
    assert_eq!(ledger.settling(unknown).await, Err(absent));
    assert!(ledger.release(unknown).await.is_err());
    ledger.claim(&claim(1), NOW).await.unwrap();
    assert!(ledger.settled(claim(1).id, &response()).await.is_err());
    assert!(ledger.unresolved(claim(1).id).await.is_err());
    let count = |counts: Vec<(PaymentState, usize)>, state| counts.into_iter().find(|(s, _)| *s == state);
    assert_eq!(count(ledger.counts().await, PaymentState::Claimed), Some((PaymentState::Claimed, 1)));
}
