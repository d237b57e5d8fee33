//! What money moves, and what is refused before any does.

use std::collections::BTreeSet;

use alloy_primitives::{Address, B256, Bytes, U256};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tollgate::facilitator::Facilitator as _;
use tollgate::x402::types::FacilitatorRequest;
use tollgate::x402::{VerifyResponse, Version};

use super::till::{
    PRICE, Till, assert_refused, authorization, declined, digest, now, number, request_of, request_with,
    settled, terms, v1,
};
use crate::support::Payer;
use crate::support::anvil::{CHAIN_ID, TOKEN, transfer_call};

#[tokio::test]
async fn a_payment_moves_the_money_it_says_from_the_payer_to_the_payee() {
    let till = Till::open().await;
    let own = till.facilitator();
    let payer = till.payer().await;
    let request = request_of(&payer, &authorization(payer.address()));
    let valid = VerifyResponse::Valid { payer: Some(payer.address().to_string()) };
    assert_eq!(own.verify(&request).await.unwrap(), valid);
    assert_eq!(till.income().await, 0, "verifying moves nothing");

    let response = settled(own.settle(&request).await);
    assert!(response.success);
    assert_eq!(response.payer, Some(payer.address().to_string()));
    assert_eq!(response.network, "eip155:84532");
    till.assert_paid_once(&response.transaction).await;
    assert_eq!(till.anvil.balance_of(payer.address()).await, U256::ZERO);
}

#[tokio::test]
async fn payments_of_the_first_generation_are_settled_too() {
    let till = Till::open().await;
    let own = till.facilitator();
    let request = v1(&till.request().await);
    assert!(own.supported().await.unwrap().kind(Version::V1, "exact", &request.network).is_some());
    assert!(matches!(own.verify(&request).await, Ok(VerifyResponse::Valid { .. })));
    let response = settled(own.settle(&request).await);
    till.assert_paid_once(&response.transaction).await;
}

#[tokio::test]
async fn fifty_payments_at_once_are_each_settled_once_by_one_key_without_a_gap_in_its_nonces() {
    let till = Till::open().await;
    let own = till.facilitator();
    let mut requests = Vec::new();
    for _ in 0..50 {
        requests.push(till.request().await);
    }
    // From now on a block takes its time, and many transactions wait for one.
    till.anvil.rpc("evm_setAutomine", json!([false])).await;
    till.anvil.rpc("evm_setIntervalMining", json!([1])).await;
    let outcomes = join_all(requests.iter().map(|request| own.settle(request))).await;
    let transactions: BTreeSet<String> =
        outcomes.into_iter().map(|outcome| settled(outcome).transaction).collect();
    assert_eq!(transactions.len(), 50);
    assert_eq!(till.income().await, 50 * PRICE);
    let mut nonces = BTreeSet::new();
    for transaction in &transactions {
        let found = till.anvil.rpc("eth_getTransactionByHash", json!([transaction])).await;
        nonces.insert(number(&found["nonce"]));
    }
    assert_eq!(nonces, (0..50).collect());
}

#[tokio::test]
async fn a_compact_signature_is_an_ordinary_accounts_too() {
    let till = Till::open().await;
    let own = till.facilitator();
    let payer = till.payer().await;
    let message = authorization(payer.address());
    let plain: Bytes = payer.sign(digest(&message)).parse().unwrap();
    let compact = alloy_primitives::Signature::from_raw(&plain).unwrap().as_erc2098();
    let request = request_with(&message, &compact.to_vec().into(), terms());
    assert!(matches!(own.verify(&request).await, Ok(VerifyResponse::Valid { .. })));
    settled(own.settle(&request).await);
    assert_eq!(till.income().await, PRICE);
}

#[tokio::test]
async fn each_payment_that_the_chain_would_refuse_is_refused_with_its_reason() {
    let till = Till::open().await;
    let own = till.facilitator();
    let payer = till.payer().await;
    let good = || authorization(payer.address());
    let signed = |message| request_of(&payer, &message);
    let stranger = Payer::new();
    let mut cases: Vec<(&str, FacilitatorRequest)> = Vec::new();

    let mut message = good();
    message.to = Address::repeat_byte(1);
    cases.push(("invalid_exact_evm_recipient_mismatch", signed(message)));
    for value in [PRICE - 1, PRICE + 1] {
        let mut message = good();
        message.value = U256::from(value);
        cases.push(("invalid_exact_evm_payload_authorization_value_mismatch", signed(message)));
    }
    for end in [0, now() - 1, now() + 4] {
        let mut message = good();
        message.validBefore = U256::from(end);
        cases.push(("invalid_exact_evm_payload_authorization_valid_before", signed(message)));
    }
    let mut message = good();
    message.validAfter = U256::from(now() + 60);
    cases.push(("invalid_exact_evm_payload_authorization_valid_after", signed(message)));
    cases.push(("invalid_exact_evm_signature", request_of(&stranger, &good())));
    let long = Bytes::from(vec![0xab; 130]);
    cases.push(("invalid_exact_evm_payload_undeployed_smart_wallet", request_with(&good(), &long, terms())));
    let poor = authorization(stranger.address());
    cases.push(("invalid_exact_evm_insufficient_balance", request_of(&stranger, &poor)));

    for (reason, request) in cases {
        assert_refused(&till, &*own, &request, reason).await;
    }
    assert_eq!(till.income().await, 0);
}

#[tokio::test]
async fn terms_that_do_not_fit_the_token_are_refused_with_their_reason() {
    let till = Till::open().await;
    let own = till.facilitator();
    let payer = till.payer().await;
    let signed_for = |change: &dyn Fn(&mut tollgate::x402::PaymentRequirements)| {
        let mut terms = terms();
        change(&mut terms);
        let message = authorization(payer.address());
        let text = |name: &str| terms.extra.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let asset = terms.asset.parse().unwrap();
        let digest = tollgate::scheme::authorization_digest(
            &message,
            &text("name"),
            &text("version"),
            CHAIN_ID,
            asset,
        );
        request_with(&message, &payer.sign(digest).parse().unwrap(), terms)
    };
    for (reason, request) in [
        (
            "invalid_exact_evm_token_name_mismatch",
            signed_for(&|terms| drop(terms.extra.insert("name".into(), "USD Coin".into()))),
        ),
        (
            "invalid_exact_evm_token_version_mismatch",
            signed_for(&|terms| drop(terms.extra.insert("version".into(), "1".into()))),
        ),
        ("invalid_exact_evm_missing_eip712_domain", signed_for(&|terms| terms.extra.clear())),
        (
            "asset_not_deployed_contract",
            signed_for(&|terms| terms.asset = Address::repeat_byte(9).to_string()),
        ),
        (
            "invalid_exact_evm_eip3009_not_supported",
            signed_for(&|terms| terms.asset = crate::support::anvil::BATCH.to_string()),
        ),
        ("invalid_network", signed_for(&|terms| terms.network = "base".parse().unwrap())),
        ("unsupported_scheme", signed_for(&|terms| terms.scheme = "upto".into())),
    ] {
        assert_refused(&till, &*own, &request, reason).await;
    }
}

#[tokio::test]
async fn a_nonce_that_somebody_else_has_spent_is_refused_and_settled_by_nobody() {
    let till = Till::open().await;
    let own = till.facilitator();
    let payer = till.payer().await;
    let message = authorization(payer.address());
    till.anvil.submit(&message, &payer.sign(digest(&message))).await;
    let reason = "invalid_exact_evm_nonce_already_used";
    assert_refused(&till, &*own, &request_of(&payer, &message), reason).await;
    assert_eq!(till.income().await, PRICE, "the money came all the same");
}

#[tokio::test]
async fn two_payments_with_one_nonce_are_one_payment() {
    let till = Till::open().await;
    let own = till.facilitator();
    let payer = till.payer().await;
    till.anvil.mint(payer.address(), 10 * PRICE).await;
    let small = authorization(payer.address());
    let mut large = small.clone();
    large.value = U256::from(10 * PRICE);
    let mut dear = terms();
    dear.amount = (10 * PRICE).to_string().parse().unwrap();
    let large = request_with(&large, &payer.sign(digest(&large)).parse().unwrap(), dear);
    settled(own.settle(&request_of(&payer, &small)).await);
    let response = declined(own.settle(&large).await);
    assert_eq!(response.error_reason.as_deref(), Some("invalid_exact_evm_nonce_already_used"));
    assert_eq!(till.income().await, PRICE);
}

#[tokio::test]
async fn a_payment_under_way_verifies_no_second_time() {
    let till = Till::open().await;
    let own = till.facilitator();
    let request = till.request().await;
    settled(own.settle(&request).await);
    match own.verify(&request).await.unwrap() {
        VerifyResponse::Invalid { reason, .. } => assert_eq!(reason.as_str(), "duplicate_settlement"),
        other @ VerifyResponse::Valid { .. } => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_transfer_that_reports_success_and_moves_nothing_settles_nothing() {
    let till = Till::open().await;
    let silent = Address::repeat_byte(0x51);
    till.anvil.place("SilentToken", silent).await;
    let own = till.facilitator();
    let payer = Payer::new();
    let message = authorization(payer.address());
    let digest = tollgate::scheme::authorization_digest(&message, "USDC", "2", CHAIN_ID, silent);
    let mut terms = terms();
    terms.asset = silent.to_string();
    let request = request_with(&message, &payer.sign(digest).parse().unwrap(), terms);
    let response = declined(own.settle(&request).await);
    assert_eq!(response.error_reason.as_deref(), Some("invalid_exact_evm_transfer_event_mismatch"));
    let receipt = till.anvil.receipt(response.transaction.parse().unwrap()).await;
    assert_eq!(receipt["status"], "0x1");
}

#[tokio::test]
async fn a_payer_who_moves_the_money_away_meanwhile_has_not_paid() {
    // Without blocks, both transactions are tried on the same state.
    let till = Till::on(&["--no-mining", "--order", "fees"]).await;
    let payer = Payer::new();
    let own = till.facilitator();
    till.anvil.post(crate::support::anvil::SOMEBODY, TOKEN, &super::till::mint(payer.address())).await;
    till.anvil.mine(1).await;
    let request = request_of(&payer, &authorization(payer.address()));
    assert!(matches!(own.verify(&request).await, Ok(VerifyResponse::Valid { .. })));
    // Somebody pays more for being first.
    let other = {
        let mut other = authorization(payer.address());
        other.to = Payer::new().address();
        other
    };
    let call = transfer_call(&other, &payer.sign(digest(&other)));
    let settling = tokio::spawn({
        let (own, request) = (std::sync::Arc::clone(&own), request.clone());
        async move { own.settle(&request).await }
    });
    till.wait_for_waiting(1).await;
    till.send_first(&call).await;
    till.anvil.mine(1).await;
    let response = declined(settling.await.unwrap());
    assert_eq!(response.error_reason.as_deref(), Some("invalid_exact_evm_transaction_failed"));
    let receipt = till.anvil.receipt(response.transaction.parse::<B256>().unwrap()).await;
    assert_eq!(receipt["status"], "0x0");
    assert_eq!(till.income().await, 0);
}
