//! What is recorded before settlement is asked for.

use std::sync::Arc;

use super::super::{
    Accounts as _, ClaimToken, Claimed, Intended, Intent, Ledger, LedgerError, NewClaim, PayerLimits,
    PaymentState, Recorded, Settlement, TakenOver, ToldPayer,
};
use super::{LEASE, NOW, REQUEST, Store, claim, intent, new_claim, response, state};

fn asking(facilitator: &str) -> Intent {
    Intent { facilitator: facilitator.into(), ..intent(REQUEST, false) }
}

/// A claim whose payment does not prove its payer.
fn unproven(byte: u8) -> NewClaim {
    let mut new = claim(byte);
    new.particulars.payer = None;
    new
}

fn wallet() -> String {
    claim(1).particulars.payer.unwrap()
}

/// What is intended once verification told that the wallet pays, which may pledge this often.
fn told(count: u32) -> Intent {
    let limits = PayerLimits { count, sum: None };
    let payer = ToldPayer { name: wallet(), network: "eip155:84532".parse().unwrap(), limits };
    Intent { payer: Some(payer), ..intent(REQUEST, false) }
}

async fn facilitator_of<L: Ledger>(ledger: &L, token: ClaimToken) -> String {
    ledger.get(token.id).await.unwrap().unwrap().particulars.facilitator
}

async fn payer_of<L: Ledger>(ledger: &L, token: ClaimToken) -> Option<String> {
    ledger.get(token.id).await.unwrap().unwrap().particulars.payer
}

pub(super) async fn who_is_asked_is_known_to_whoever_takes_a_payment_over<S: Store>(store: &S) {
    let dead = store.open().await;
    dead.beat(NOW).await.unwrap();
    let mut listed = claim(1);
    listed.particulars.facilitator = "a+b".into();
    let token = new_claim(&dead, &listed).await;
    assert_eq!(facilitator_of(&dead, token).await, "a+b", "nobody was asked yet");
    assert_eq!(dead.settling(token, asking("a"), NOW).await, Ok(Intended::Recorded));
    assert_eq!(facilitator_of(&dead, token).await, "a");
    // It was not reached.
    assert_eq!(dead.settling(token, asking("b"), NOW.plus(3)).await, Ok(Intended::Recorded));
    store.kill(dead).await;

    let ledger = store.open().await;
    assert_eq!(facilitator_of(&ledger, token).await, "b");
    assert!(ledger.settling(token, asking("c"), NOW).await.is_err(), "it is another's");
    let unresolved = TakenOver { unresolved: 1, ..TakenOver::default() };
    assert_eq!(ledger.beat(NOW.plus(9)).await, Ok(unresolved));
    assert!(ledger.settling(token, asking("c"), NOW).await.is_err(), "somebody was asked");
    let due = ledger.due(NOW.plus(9), LEASE, 10).await.unwrap();
    assert_eq!((due[0].facilitator.as_str(), due[0].request.as_str()), ("b", REQUEST));
    assert_eq!(due[0].settling_at, NOW, "when the first was asked");
}

pub(super) async fn what_reached_nobody_is_given_up_by_its_holder_alone<S: Store>(store: &S) {
    let ledger = store.open().await;
    ledger.beat(NOW).await.unwrap();
    let reason = async |byte: u8| {
        let record = ledger.get(claim(byte).id).await.unwrap().unwrap();
        (record.state, record.reason, record.request, record.owner)
    };
    let token = new_claim(&ledger, &claim(1)).await;
    ledger.abandoned(token, "nobody settles it", NOW).await.unwrap();
    assert_eq!(reason(1).await, (PaymentState::Released, "nobody settles it".into(), None, None));
    let token = new_claim(&ledger, &claim(2)).await;
    ledger.settling(token, asking("a"), NOW).await.unwrap();
    ledger.abandoned(token, "not reached", NOW).await.unwrap();
    assert_eq!(reason(2).await, (PaymentState::Declined, "not reached".into(), None, None));
    assert!(ledger.abandoned(token, "again", NOW).await.is_err());
    assert!(matches!(ledger.claim(&claim(2), NOW).await, Ok(Claimed::New(_))));

    // Whoever took it over may have asked, and its first holder knows nothing of that.
    let token = new_claim(&ledger, &claim(3)).await;
    ledger.settling(token, asking("a"), NOW).await.unwrap();
    store.kill(ledger).await;
    let ledger = store.open().await;
    let wrong = LedgerError::WrongState { id: token.id, wanted: "abandoned", found: None };
    assert_eq!(ledger.abandoned(token, "not reached", NOW).await, Err(wrong));
    ledger.beat(NOW).await.unwrap();
    assert!(ledger.abandoned(token, "not reached", NOW).await.is_err());
    assert_eq!(state(&ledger, &claim(3)).await, Some(PaymentState::Unresolved));
}

pub(super) async fn a_payer_whom_verification_told_is_in_the_books_and_counts<S: Store>(store: &S) {
    let ledger = Arc::new(store.open().await);
    let mut tokens = Vec::new();
    for byte in 1..=12 {
        tokens.push(new_claim(&*ledger, &unproven(byte)).await);
    }
    let tasks: Vec<_> = tokens
        .iter()
        .map(|token| {
            let (ledger, token) = (Arc::clone(&ledger), *token);
            tokio::spawn(async move { (token, ledger.settling(token, told(3), NOW).await.unwrap()) })
        })
        .collect();
    let mut recorded = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            (token, Intended::Recorded) => recorded.push(token),
            (token, Intended::PayerLimit) => {
                assert_eq!(payer_of(&*ledger, token).await, None);
                ledger.release(token, Some("its payer has too much pledged"), NOW).await.unwrap();
            }
        }
    }
    assert_eq!(recorded.len(), 3);
    for token in &recorded {
        assert_eq!(payer_of(&*ledger, *token).await, Some(wallet()));
    }
    // It counts for what that payer proves, and when the next facilitator is asked it counts no second time.
    let mut proven = claim(20);
    proven.limits = PayerLimits { count: 3, sum: None };
    assert_eq!(ledger.claim(&proven, NOW).await, Ok(Claimed::PayerLimit));
    assert_eq!(ledger.settling(recorded[0], told(1), NOW).await, Ok(Intended::Recorded));
    ledger.declined(recorded[0], "no", NOW).await.unwrap();
    assert!(matches!(ledger.claim(&proven, NOW).await, Ok(Claimed::New(_))));
}

pub(super) async fn what_can_be_written_in_many_ways_uses_nobodys_limit_up<S: Store>(store: &S) {
    let ledger = store.open().await;
    for byte in 1..=5 {
        let token = new_claim(&ledger, &unproven(byte)).await;
        let intent = Intent { unique_transaction: true, ..told(3) };
        assert_eq!(ledger.settling(token, intent, NOW).await, Ok(Intended::Recorded));
        assert_eq!(payer_of(&ledger, token).await, Some(wallet()), "in the books");
    }
    let mut proven = claim(20);
    proven.limits = PayerLimits { count: 1, sum: Some(proven.particulars.amount) };
    new_claim(&ledger, &proven).await;
}

pub(super) async fn a_payer_whom_settlement_told_is_in_the_books<S: Store>(store: &S) {
    let ledger = store.open().await;
    let mut answer = response();
    answer.payer = Some("0xabc".into());
    let settlement = Settlement { response: &answer, deliver: true, unique_transaction: false };
    for (new, payer) in [(unproven(1), "0xabc".to_owned()), (claim(2), wallet())] {
        let token = new_claim(&ledger, &new).await;
        ledger.settling(token, asking("a"), NOW).await.unwrap();
        assert_eq!(ledger.settled(token, settlement, NOW).await, Ok(Recorded::Deliver));
        assert_eq!(payer_of(&ledger, token).await, Some(payer));
    }
}
