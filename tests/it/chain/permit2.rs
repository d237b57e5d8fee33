//! Payments by Permit2, which tells of no nonce that is used.

use alloy_primitives::{B256, U256};
use alloy_sol_types::SolCall as _;
use tollgate::chain::{Chain as _, Finding};
use tollgate::clock::UnixSeconds;
use tollgate::scheme::OnChain;

use super::{PRICE, Scene, VALIDITY, spent_by};
use crate::support::Payer;
use crate::support::anvil::{
    CHAIN_ID, Contracts, EXACT_PROXY, PERMIT2, SOMEBODY, TOKEN, permit, settle_call, signed,
};

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

#[tokio::test]
async fn a_permit_spent_through_another_contract_is_believed_to_the_facilitator_only() {
    let scene = scene().await;
    let permit = new_permit(&scene).await;
    let call = settle_call(&scene.payer, &permit).abi_encode();
    let transaction = scene.anvil.batch(&[(EXACT_PROXY, call)]).await;
    let payment = on_chain(&scene, &permit);
    let since = scene.now().await;
    assert_eq!(
        scene.chain().look(&payment, since, &transaction.to_string()).await,
        Ok(scene.paid(transaction).await)
    );
    let unknown = scene.look(&payment).await.unwrap_err().to_string();
    assert_eq!(unknown, format!("whether transaction {transaction} spent the permit cannot be seen"));
}

#[tokio::test]
async fn transfers_without_the_proxy_do_not_make_a_permit_doubtful() {
    let scene = scene().await;
    let permit = new_permit(&scene).await;
    // The payer's own wallet sends the same sum to the payee, through a contract.
    let approve = Contracts::approveCall { spender: crate::support::anvil::BATCH, value: U256::MAX };
    scene.anvil.send(scene.payer.address(), TOKEN, &approve).await;
    let (from, to) = (scene.payer.address(), scene.payee);
    let pull = Contracts::transferFromCall { from, to, value: U256::from(PRICE) };
    scene.anvil.batch(&[(TOKEN, pull.abi_encode())]).await;
    let transaction = invalidate(&scene, permit.nonce).await;
    assert_eq!(scene.look(&on_chain(&scene, &permit)).await, Ok(spent_by(transaction)));
}
