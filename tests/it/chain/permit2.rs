//! Payments by Permit2, which tells of no nonce that is used.

use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::SolCall as _;
use serde_json::json;
use tollgate::chain::{Chain as _, EvmChain, Finding};
use tollgate::clock::UnixSeconds;
use tollgate::scheme::OnChain;

use super::nodes::{error, in_front};
use super::{PRICE, Scene, VALIDITY, chain, spent_by};
use crate::support::anvil::{
    BATCH, CHAIN_ID, Contracts, EXACT_PROXY, PERMIT2, SOMEBODY, TOKEN, permit, settle_call, signed,
    waste_call,
};
use crate::support::{Act, Payer, Server};

async fn scene() -> Scene {
    let scene = Scene::start().await;
    scene.anvil.give_gas(scene.payer.address()).await;
    let approve = Contracts::approveCall { spender: PERMIT2, value: U256::MAX };
    scene.anvil.send(scene.payer.address(), TOKEN, &approve).await;
    scene
}

async fn new_permit(scene: &Scene) -> signed::PermitWitnessTransferFrom {
    let nonce = U256::from_be_bytes(B256::random().0);
    permit(scene.payee, PRICE, nonce, scene.anvil.time().await + VALIDITY)
}

fn on_chain(scene: &Scene, permit: &signed::PermitWitnessTransferFrom) -> OnChain {
    OnChain::Permit2 {
        chain_id: CHAIN_ID,
        token: TOKEN,
        owner: scene.payer.address(),
        to: permit.witness.to,
        amount: permit.permitted.amount,
        nonce: permit.nonce,
        deadline: UnixSeconds(permit.deadline.to()),
    }
}

async fn settle(scene: &Scene, permit: &signed::PermitWitnessTransferFrom) -> B256 {
    scene.anvil.send(SOMEBODY, EXACT_PROXY, &settle_call(&scene.payer, permit)).await
}

async fn invalidate(scene: &Scene, nonce: U256) -> B256 {
    let mask = U256::ONE << usize::from(nonce.byte(0));
    let call = Contracts::invalidateUnorderedNoncesCall { wordPos: nonce >> 8, mask };
    scene.anvil.send(scene.payer.address(), PERMIT2, &call).await
}

#[tokio::test]
async fn each_of_several_equal_permits_has_its_own_transaction() {
    let scene = scene().await;
    let (first, second, unused) =
        (new_permit(&scene).await, new_permit(&scene).await, new_permit(&scene).await);
    let (one, two) = (settle(&scene, &first).await, settle(&scene, &second).await);
    for hint in [String::new(), one.to_string(), two.to_string()] {
        let look =
            async |permit| scene.chain().look(&on_chain(&scene, permit), scene.now().await, &hint).await;
        assert_eq!(look(&first).await, Ok(scene.paid(one).await), "{hint}");
        assert_eq!(look(&second).await, Ok(scene.paid(two).await), "{hint}");
        assert_eq!(look(&unused).await, Ok(Finding::Open), "{hint}");
    }
}

#[tokio::test]
async fn a_permit_is_open_until_its_deadline_is_past() {
    let scene = scene().await;
    let permit = new_permit(&scene).await;
    let deadline: u64 = permit.deadline.to();
    scene.anvil.mine_at(deadline).await;
    assert_eq!(scene.look(&on_chain(&scene, &permit)).await, Ok(Finding::Open));
    scene.anvil.mine_at(deadline + 1).await;
    assert_eq!(scene.look(&on_chain(&scene, &permit)).await, Ok(Finding::Expired));
}

#[tokio::test]
async fn an_invalidated_permit_is_spent_even_if_the_same_sum_was_sent() {
    let scene = scene().await;
    let permit = new_permit(&scene).await;
    let transfer = Contracts::transferCall { to: scene.payee, value: U256::from(PRICE) };
    scene.anvil.send(scene.payer.address(), TOKEN, &transfer).await;
    settle(&scene, &new_permit(&scene).await).await;
    let transaction = invalidate(&scene, permit.nonce).await;
    assert_eq!(scene.look(&on_chain(&scene, &permit)).await, Ok(spent_by(transaction)));
}

#[tokio::test]
async fn a_permit_invalidated_after_it_was_used_is_paid() {
    let scene = scene().await;
    let permit = new_permit(&scene).await;
    let transaction = settle(&scene, &permit).await;
    invalidate(&scene, permit.nonce).await;
    assert_eq!(scene.look(&on_chain(&scene, &permit)).await, Ok(scene.paid(transaction).await));
}

#[tokio::test]
async fn a_nonce_used_for_another_permit_is_spent_and_not_paid() {
    let scene = scene().await;
    for (to, amount) in [(Payer::new().address(), PRICE), (scene.payee, PRICE - 1)] {
        let payment = new_permit(&scene).await;
        settle(&scene, &permit(to, amount, payment.nonce, payment.deadline.to())).await;
        let found = scene.look(&on_chain(&scene, &payment)).await;
        assert_eq!(found, Ok(Finding::Spent { transaction: None }));
    }
}

fn settle_in_batch(scene: &Scene, permit: &signed::PermitWitnessTransferFrom) -> (Address, Vec<u8>) {
    (EXACT_PROXY, settle_call(&scene.payer, permit).abi_encode())
}

/// The chain behind a node that traces nothing.
async fn without_traces(scene: &Scene) -> (Server, EvmChain) {
    let server = in_front(scene, |question| {
        let refused = question["method"] == "debug_traceTransaction";
        refused.then(|| error(question, -32_601, "the method does not exist"))
    })
    .await;
    let chain = chain(&server.url(), 1);
    (server, chain)
}

#[tokio::test]
async fn a_permit_spent_through_another_contract_is_paid() {
    let scene = scene().await;
    let permit = new_permit(&scene).await;
    let transaction = scene.anvil.batch(&[settle_in_batch(&scene, &permit)]).await;
    assert_eq!(scene.look(&on_chain(&scene, &permit)).await, Ok(scene.paid(transaction).await));
    // However deep it is.
    let permit = new_permit(&scene).await;
    let mut call = settle_in_batch(&scene, &permit);
    for _ in 0..5 {
        let (targets, inputs) = (vec![call.0], vec![call.1.into()]);
        call = (BATCH, Contracts::runCall { targets, inputs }.abi_encode());
    }
    let transaction = scene.anvil.batch(&[call]).await;
    assert_eq!(scene.look(&on_chain(&scene, &permit)).await, Ok(scene.paid(transaction).await));
}

#[tokio::test]
async fn without_a_trace_a_permit_spent_through_another_contract_is_believed_to_the_facilitator_only() {
    let scene = scene().await;
    let permit = new_permit(&scene).await;
    let transaction = scene.anvil.batch(&[settle_in_batch(&scene, &permit)]).await;
    let payment = on_chain(&scene, &permit);
    let since = scene.now().await;
    let (_server, chain) = without_traces(&scene).await;
    assert_eq!(
        chain.look(&payment, since, &transaction.to_string()).await,
        Ok(scene.paid(transaction).await)
    );
    let unknown = chain.look(&payment, since, "").await.unwrap_err().to_string();
    let why = format!("whether transaction {transaction} spent the permit cannot be seen: debug_trace");
    assert!(unknown.starts_with(&why), "{unknown}");
    // What was spent in another block is not in doubt.
    let other = new_permit(&scene).await;
    let invalidation = invalidate(&scene, other.nonce).await;
    let found = chain.look(&on_chain(&scene, &other), scene.now().await, "").await;
    assert_eq!(found, Ok(spent_by(invalidation)));
}

#[tokio::test]
async fn one_transfer_pays_for_one_permit_however_transactions_are_put_together() {
    let scene = scene().await;
    let (first, second) = (new_permit(&scene).await, new_permit(&scene).await);
    let (one, two) = (settle_in_batch(&scene, &first), settle_in_batch(&scene, &second));
    let look = async |permit, hint: String| {
        scene.chain().look(&on_chain(&scene, permit), scene.now().await, &hint).await
    };
    // The second nonce is spent in the same transaction, and brings the payee nothing.
    let waste = waste_call(&scene.payer, BATCH, second.nonce, second.deadline).abi_encode();
    let elsewhere = permit(Payer::new().address(), PRICE, second.nonce, second.deadline.to());
    let elsewhere = settle_in_batch(&scene, &elsewhere);
    for (calls, by_it) in [
        ([one.clone(), (PERMIT2, waste.clone())], false),
        ([(PERMIT2, waste), one.clone()], false),
        ([one.clone(), elsewhere.clone()], true),
        ([elsewhere, one.clone()], true),
    ] {
        let snapshot = scene.anvil.rpc("evm_snapshot", json!([])).await;
        let transaction = scene.anvil.batch(&calls).await;
        let transaction_of_second = by_it.then(|| transaction.to_string());
        for hint in [String::new(), transaction.to_string()] {
            assert_eq!(look(&first, hint.clone()).await, Ok(scene.paid(transaction).await));
            let spent = Finding::Spent { transaction: transaction_of_second.clone() };
            assert_eq!(look(&second, hint).await, Ok(spent));
        }
        scene.anvil.rpc("evm_revert", json!([snapshot])).await;
    }
    // Two permits in one transaction are two payments.
    let transaction = scene.anvil.batch(&[one, two]).await;
    for permit in [&first, &second] {
        assert_eq!(look(permit, String::new()).await, Ok(scene.paid(transaction).await));
    }
}

#[tokio::test]
async fn the_trace_of_another_transaction_proves_nothing() {
    let scene = scene().await;
    let (first, second) = (new_permit(&scene).await, new_permit(&scene).await);
    let other = scene.anvil.batch(&[settle_in_batch(&scene, &second)]).await;
    let trace = scene.anvil.rpc("debug_traceTransaction", json!([other, {"tracer": "callTracer"}])).await;
    scene.anvil.batch(&[settle_in_batch(&scene, &first)]).await;
    let server = in_front(&scene, move |question| {
        let asked = question["method"] == "debug_traceTransaction";
        asked.then(|| Act::json(200, &json!({"jsonrpc": "2.0", "id": question["id"], "result": trace})))
    })
    .await;
    let found = chain(&server.url(), 1).look(&on_chain(&scene, &first), scene.now().await, "").await;
    let cause = "the node answers with the trace of another transaction";
    assert_eq!(found.unwrap_err().to_string(), cause);
}

#[tokio::test]
async fn transfers_without_the_proxy_do_not_make_a_permit_doubtful() {
    let scene = scene().await;
    let permit = new_permit(&scene).await;
    // The payer's own wallet sends the same sum to the payee, through a contract.
    let approve = Contracts::approveCall { spender: BATCH, value: U256::MAX };
    scene.anvil.send(scene.payer.address(), TOKEN, &approve).await;
    let (from, to) = (scene.payer.address(), scene.payee);
    let pull = Contracts::transferFromCall { from, to, value: U256::from(PRICE) };
    scene.anvil.batch(&[(TOKEN, pull.abi_encode())]).await;
    let transaction = invalidate(&scene, permit.nonce).await;
    assert_eq!(scene.look(&on_chain(&scene, &permit)).await, Ok(spent_by(transaction)));
}
