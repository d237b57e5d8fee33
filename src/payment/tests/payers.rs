//! Payers whom a payment names without proving it.

use super::*;
use crate::ledger::Ledger as _;

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

/// A payment's permit, which must be settled at this time.
async fn permit_settled(shop: &Shop, message: &Value, expected: SettleWhen) -> super::super::Permit {
    match shop.admit(Version::V2, message).await {
        Admission::Paid(permit, when) if when == expected => permit,
        other => panic!("{expected:?}: {other:?}"),
    }
}

fn poor() -> SettleOutcome {
    declined("insufficient_funds")
}

/// Denial of settlement: the money is taken away while the site works, again and again.
#[tokio::test]
async fn a_payer_whose_settlements_failed_twice_is_settled_before_the_site_works_again() {
    let shop = usual();
    for nonce in 1..=2 {
        shop.facilitator.outcomes.lock().unwrap().push_back(poor());
        let permit = permit_settled(&shop, &v2(nonce), SettleWhen::BeforeResponse).await;
        assert!(matches!(shop.gate.settle(permit).await, Err(Refusal::SettlementFailed(_))));
    }
    for message in [v2(3), unproven(4, &wallets_signature()), v2(1)] {
        let permit = permit_settled(&shop, &message, SettleWhen::BeforeRequest).await;
        shop.gate.settle(permit).await.unwrap();
    }
}

#[tokio::test]
async fn a_contract_wallets_failures_count_when_verification_has_told_that_it_pays() {
    let shop = usual();
    shop.facilitator.outcomes.lock().unwrap().extend([poor(), poor()]);
    for nonce in 1..=2 {
        let message = unproven(nonce, &wallets_signature());
        let permit = permit_settled(&shop, &message, SettleWhen::BeforeResponse).await;
        shop.gate.settle(permit).await.unwrap_err();
    }
    let _ = permit_settled(&shop, &unproven(3, &wallets_signature()), SettleWhen::BeforeRequest).await;
}

#[tokio::test]
async fn whoever_only_names_a_payer_has_nothing_fail_in_that_payers_name() {
    let payer = crate::scheme::testing::payer().to_string();
    for (is_right, counts) in [(false, false), (true, true)] {
        let shop = shop(&[Version::V2], SettleWhen::BeforeRequest);
        for nonce in 1..=2 {
            shop.facilitator.outcomes.lock().unwrap().push_back(poor());
            let message = if is_right { v2(nonce) } else { unproven(nonce, &wallets_signature()) };
            shop.gate.settle(shop.permit(&message).await).await.unwrap_err();
        }
        let failed = shop.gate.0.failures.are_too_many(&terms().network, &payer, MOMENT.now);
        assert_eq!(failed, counts);
    }
}

/// What becomes known later counts as what is known at once.
#[tokio::test]
async fn a_payment_of_unknown_outcome_that_proves_unpaid_counts_among_its_payers_failures() {
    let shop = usual();
    let network = terms().network;
    let sent = || {
        let pending = SettleResponse::failed(&Reason::SETTLEMENT_PENDING, None, &network);
        SettleOutcome::Pending(SettleResponse { transaction: "0x1".into(), ..pending })
    };
    for nonce in 1..=2 {
        shop.facilitator.outcomes.lock().unwrap().extend([sent(), sent()]);
        let permit = permit_settled(&shop, &v2(nonce), SettleWhen::BeforeResponse).await;
        assert_eq!(shop.gate.settle(permit).await.err(), Some(Refusal::Unresolved));
        shop.facilitator
            .outcomes
            .lock()
            .unwrap()
            .push_back(declined_after_sending("invalid_transaction_state"));
        let due = shop.ledger.due(MOMENT.now.plus(100_000), Duration::from_secs(1), 1).await.unwrap();
        super::super::upkeep::drive(&shop.gate.0, due[0].clone()).await;
    }
    assert_eq!(shop.held(PaymentState::Declined).await, 2);
    let _ = permit_settled(&shop, &v2(3), SettleWhen::BeforeRequest).await;
}

/// Without a chain to ask, a nonce that its payer has spent otherwise looks like one that somebody else submitted.
#[tokio::test]
async fn a_no_that_leaves_the_outcome_open_counts_once_whatever_becomes_of_it() {
    let shop = usual();
    let failed = || {
        shop.gate.0.failures.are_too_many(
            &terms().network,
            &crate::scheme::testing::payer().to_string(),
            MOMENT.now,
        )
    };
    for nonce in 1..=2 {
        assert!(!failed());
        shop.facilitator.outcomes.lock().unwrap().push_back(declined(Reason::EVM_NONCE_USED.as_str()));
        let permit = permit_settled(&shop, &v2(nonce), SettleWhen::BeforeResponse).await;
        assert_eq!(shop.gate.settle(permit).await.err(), Some(Refusal::Unresolved));
        let due = shop.ledger.due(MOMENT.now.plus(100_000), Duration::from_secs(1), 1).await.unwrap();
        shop.facilitator.outcomes.lock().unwrap().push_back(declined(Reason::EVM_NONCE_USED.as_str()));
        super::super::upkeep::drive(&shop.gate.0, due[0].clone()).await;
    }
    assert!(failed());
}
