//! Payments that the token itself makes single-use.

use alloy_primitives::{B256, U256};
use alloy_sol_types::SolCall as _;
use tollgate::chain::{Chain as _, Finding};

use super::{Scene, chain, on_chain, spent_by};
use crate::support::Payer;
use crate::support::anvil::{Contracts, SOMEBODY, TOKEN, cancel_call, transfer_call};

#[tokio::test]
async fn a_payment_is_found_whoever_submitted_it_and_whatever_the_hint() {
    let scene = Scene::start().await;
    let message = scene.authorization().await;
    let payment = on_chain(&message);
    assert_eq!(scene.look(&payment).await, Ok(Finding::Open));
    let unrelated = scene.anvil.send(SOMEBODY, TOKEN, &mint(&scene)).await;
    let transaction = scene.submit(&message).await;
    let since = scene.now().await;
    for hint in [String::new(), transaction.to_string(), unrelated.to_string(), B256::random().to_string()] {
        let found = scene.chain().look(&payment, since, &hint).await;
        assert_eq!(found, Ok(scene.paid(transaction).await), "{hint}");
    }
    assert_eq!(scene.chain().look(&payment, since, "no hash").await, Ok(scene.paid(transaction).await));
    assert_eq!(scene.anvil.balance_of(scene.payee).await, message.value);
}

fn mint(scene: &Scene) -> Contracts::mintCall {
    Contracts::mintCall { to: scene.payer.address(), value: U256::from(super::PRICE) }
}

#[tokio::test]
async fn a_payment_is_open_until_no_block_can_take_it_any_more() {
    let scene = Scene::start().await;
    let message = scene.authorization().await;
    let end: u64 = message.validBefore.to();
    scene.anvil.mine_at(end - 1).await;
    assert_eq!(scene.look(&on_chain(&message)).await, Ok(Finding::Open));
    scene.anvil.mine_at(end).await;
    assert_eq!(scene.look(&on_chain(&message)).await, Ok(Finding::Expired));
    // The token agrees.
    let hash = scene.anvil.post(SOMEBODY, TOKEN, &transfer_call(&message, &scene.sign(&message))).await;
    assert_eq!(scene.anvil.receipt(hash).await["status"], "0x0");
    assert_eq!(scene.look(&on_chain(&message)).await, Ok(Finding::Expired));
}

#[tokio::test]
async fn a_cancelled_payment_is_spent() {
    let scene = Scene::start().await;
    let message = scene.authorization().await;
    let transaction = scene.anvil.send(SOMEBODY, TOKEN, &cancel_call(&scene.payer, message.nonce)).await;
    assert_eq!(scene.look(&on_chain(&message)).await, Ok(spent_by(transaction)));
    let since = scene.now().await;
    let found = scene.chain().look(&on_chain(&message), since, &transaction.to_string()).await;
    assert_eq!(found, Ok(spent_by(transaction)));
}

#[tokio::test]
async fn a_nonce_used_for_another_transfer_is_spent_and_not_paid() {
    let scene = Scene::start().await;
    let (to_other, less, more) =
        (scene.authorization().await, scene.authorization().await, scene.authorization().await);
    let cases = [
        (to_other.clone(), Payer::new().address(), to_other.value),
        (less.clone(), less.to, less.value - U256::ONE),
        (more.clone(), more.to, more.value + U256::ONE),
    ];
    for (message, to, value) in cases {
        let payment = on_chain(&message);
        let mut other = message;
        (other.to, other.value) = (to, value);
        let transaction = scene.submit(&other).await;
        let since = scene.now().await;
        for hint in [String::new(), transaction.to_string()] {
            assert_eq!(scene.chain().look(&payment, since, &hint).await, Ok(spent_by(transaction)));
        }
    }
}

#[tokio::test]
async fn one_transfer_pays_for_one_payment_however_transactions_are_put_together() {
    let scene = Scene::start().await;
    let call = |message: &_| (TOKEN, transfer_call(message, &scene.sign(message)).abi_encode());
    // The first nonce moves the payer's money to the payer, the second one the same sum to the payee.
    let (first, second) = (scene.authorization().await, scene.authorization().await);
    let mut to_itself = first.clone();
    to_itself.to = scene.payer.address();
    for calls in [[call(&to_itself), call(&second)], [call(&second), call(&to_itself)]] {
        let snapshot = scene.anvil.rpc("evm_snapshot", serde_json::json!([])).await;
        let transaction = scene.anvil.batch(&calls).await;
        assert_eq!(scene.look(&on_chain(&first)).await, Ok(spent_by(transaction)));
        assert_eq!(scene.look(&on_chain(&second)).await, Ok(scene.paid(transaction).await));
        scene.anvil.rpc("evm_revert", serde_json::json!([snapshot])).await;
    }
    // Two payments in one transaction are two payments.
    let transaction = scene.anvil.batch(&[call(&first), call(&second)]).await;
    for message in [&first, &second] {
        assert_eq!(scene.look(&on_chain(message)).await, Ok(scene.paid(transaction).await));
    }
}

#[tokio::test]
async fn a_payment_of_a_contract_wallet_is_found() {
    let scene = Scene::start().await;
    let wallet = Payer::new().address();
    scene.anvil.place_wallet(wallet, scene.payer.address()).await;
    scene.anvil.mint(wallet, super::PRICE).await;
    let mut message = scene.authorization().await;
    message.from = wallet;
    let transaction = scene.submit(&message).await;
    let found = scene.look(&on_chain(&message)).await;
    assert_eq!(found, Ok(scene.paid_by(wallet, transaction).await));
}

#[tokio::test]
async fn money_that_came_another_way_is_not_taken_for_the_payment() {
    let scene = Scene::start().await;
    let message = scene.authorization().await;
    let transfer = Contracts::transferCall { to: message.to, value: message.value };
    scene.anvil.give_gas(scene.payer.address()).await;
    let transaction = scene.anvil.send(scene.payer.address(), TOKEN, &transfer).await;
    let found = scene.chain().look(&on_chain(&message), scene.now().await, &transaction.to_string()).await;
    assert_eq!(found, Ok(Finding::Open));
}

#[tokio::test]
async fn a_payment_counts_when_it_is_as_deep_as_configured() {
    let scene = Scene::start().await;
    let careful = chain(&scene.anvil.url, 3);
    let message = scene.authorization().await;
    let payment = on_chain(&message);
    scene.anvil.mine(5).await;
    let transaction = scene.submit(&message).await;
    let (since, hint) = (scene.now().await, transaction.to_string());
    assert_eq!(careful.look(&payment, since, &hint).await, Ok(Finding::Open));
    scene.anvil.mine(1).await;
    assert_eq!(careful.look(&payment, since, &hint).await, Ok(Finding::Open));
    scene.anvil.mine(1).await;
    for hint in [hint.as_str(), ""] {
        assert_eq!(careful.look(&payment, since, hint).await, Ok(scene.paid(transaction).await));
    }
}

#[tokio::test]
async fn what_a_reorganisation_takes_back_was_never_paid() {
    let scene = Scene::start().await;
    let careful = chain(&scene.anvil.url, 3);
    let message = scene.authorization().await;
    let payment = on_chain(&message);
    scene.anvil.mine(5).await;
    let transaction = scene.submit(&message).await;
    let (since, hint) = (scene.now().await, transaction.to_string());
    assert_eq!(scene.look(&payment).await, Ok(scene.paid(transaction).await));
    assert_eq!(careful.look(&payment, since, &hint).await, Ok(Finding::Open));
    scene.anvil.roll_back(1).await;
    scene.anvil.mine(4).await;
    assert_eq!(careful.look(&payment, since, &hint).await, Ok(Finding::Open));
    // It is lost for good once the deep blocks are past its time, and not before.
    scene.anvil.mine_at(message.validBefore.to()).await;
    scene.anvil.mine(1).await;
    assert_eq!(careful.look(&payment, since, &hint).await, Ok(Finding::Open));
    scene.anvil.mine(1).await;
    assert_eq!(careful.look(&payment, since, &hint).await, Ok(Finding::Expired));
}

#[tokio::test]
async fn a_chain_with_too_few_blocks_has_not_decided_yet() {
    let scene = Scene::start().await;
    let message = scene.authorization().await;
    scene.submit(&message).await;
    let found = chain(&scene.anvil.url, 100).look(&on_chain(&message), scene.now().await, "").await;
    assert_eq!(found, Ok(Finding::Open));
}
