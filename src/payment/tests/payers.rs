//! Payers whom a payment names without proving it.

use super::*;

/// The signature of another length than 65 bytes is a contract wallet's, and only the facilitator can
/// check it: anybody can write one down.
fn unproven(nonce: u8, signature: &str) -> Value {
    let mut message = v2(nonce);
    message["payload"]["signature"] = signature.into();
    message
}

#[tokio::test]
async fn what_is_owed_to_a_payer_is_not_given_to_whoever_names_the_payer() {
    let shop = usual();
    let mut receipt = shop.gate.settle(shop.permit(&v2(1)).await).await.unwrap();
    receipt.delivery.begins();
    drop(receipt);
    shop.until_at_rest().await;
    let junk = format!("0x{}", "11".repeat(66));
    assert_eq!(shop.refusal(&unproven(1, &junk)).await, Refusal::AlreadyUsed);
    let again = shop.admit(Version::V2, &v2(1)).await;
    assert!(matches!(again, Admission::Owed(_)), "{again:?}");
}

/// As long as a signature of a contract wallet may be.
fn wallets_signature() -> String {
    format!("0x{}", "11".repeat(66))
}

#[tokio::test]
async fn nobody_fills_a_payers_limit_by_naming_that_payer() {
    let shop = usual();
    let permits = async |prefix: &str| {
        let mut permits = Vec::new();
        for nonce in 0..=150_u8 {
            let junk = format!("0x{}", prefix.repeat(66));
            permits.push(shop.permit(&unproven(nonce, &junk)).await);
        }
        permits
    };
    let held = permits("11").await;
    drop(shop.permit(&v2(200)).await);
    drop(held);
}

#[tokio::test]
async fn a_payer_whom_verification_confirmed_is_in_the_books_before_settlement_is_asked_for() {
    let shop = usual();
    shop.facilitator
        .verdicts
        .lock()
        .unwrap()
        .push_back(Ok(VerifyResponse::Valid { payer: Some("0xa".into()) }));
    shop.facilitator.outcomes.lock().unwrap().push_back(SettleOutcome::AnswerLost(unavailable()));
    let permit = shop.permit(&unproven(1, &wallets_signature())).await;
    let record = shop.ledger.list(&Filter::default(), None, 2).await.unwrap().remove(0);
    assert_eq!(record.particulars.payer, None, "anybody may have claimed it");
    shop.gate.settle(permit).await.unwrap_err();
    let record = shop.ledger.get(record.id).await.unwrap().unwrap();
    assert_eq!(record.state, PaymentState::Unresolved);
    let payer = crate::scheme::testing::payer().to_string();
    assert_eq!(record.particulars.payer, Some(payer), "whom the payment names, as it was confirmed");
}

#[tokio::test]
async fn where_nothing_was_verified_the_settlement_tells_who_paid() {
    let shop = shop(&[Version::V2], SettleWhen::BeforeRequest);
    shop.facilitator.outcomes.lock().unwrap().extend([SettleOutcome::AnswerLost(unavailable()), settled()]);
    for (nonce, payer) in [(1, None), (2, Some(crate::scheme::testing::payer().to_string()))] {
        let permit = shop.permit(&unproven(nonce, &wallets_signature())).await;
        let id = permit.id();
        let _ = shop.gate.settle(permit).await;
        assert_eq!(shop.ledger.get(id).await.unwrap().unwrap().particulars.payer, payer);
    }
}

/// From settlement on, when verification has confirmed it: what is only claimed occupies nobody.
#[tokio::test]
async fn what_a_contract_wallet_has_unresolved_counts_among_its_pledges() {
    let shop = usual();
    let lost = || SettleOutcome::AnswerLost(unavailable());
    for nonce in 0..150_u8 {
        shop.facilitator.outcomes.lock().unwrap().push_back(lost());
        let permit = shop.permit(&unproven(nonce, &wallets_signature())).await;
        assert_eq!(shop.gate.settle(permit).await.err(), Some(Refusal::Unresolved));
    }
    let asked = shop.facilitator.settled.load(Ordering::SeqCst);
    let permit = shop.permit(&unproven(200, &wallets_signature())).await;
    assert_eq!(shop.gate.settle(permit).await.err(), Some(Refusal::PayerLimit));
    assert_eq!(shop.facilitator.settled.load(Ordering::SeqCst), asked, "nothing was asked for");
    assert_eq!(shop.held(PaymentState::Released).await, 1, "it may be presented again");
    assert_eq!(shop.refusal(&v2(201)).await, Refusal::PayerLimit, "one balance, whatever the signature");
}

#[tokio::test]
async fn what_is_owed_to_a_contract_wallet_is_given_for_its_identifier_too() {
    let shop = usual();
    let named = |id: &str| {
        let mut message = unproven(1, &wallets_signature());
        message["extensions"] = json!({"payment-identifier": {"info": {"id": id}}});
        message
    };
    let permit = shop.permit(&named("pay_0123456789abcdef")).await;
    drop(shop.gate.settle(permit).await.unwrap());
    shop.until_at_rest().await;
    for other in [unproven(1, &wallets_signature()), named("pay_fedcba9876543210")] {
        assert_eq!(shop.refusal(&other).await, Refusal::AlreadyUsed, "{other}");
    }
    let again = shop.admit(Version::V2, &named("pay_0123456789abcdef")).await;
    assert!(matches!(again, Admission::Owed(_)), "{again:?}");
}
