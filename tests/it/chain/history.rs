//! What a chain tells of the past.

use alloy_primitives::{B256, U256};
use tollgate::chain::{Chain as _, Finding, NonceUse};
use tollgate::clock::UnixSeconds;

use super::{PRICE, Scene, on_chain};
use crate::support::anvil::{Contracts, SOMEBODY, TOKEN, cancel_call};

const HOUR: u64 = 3600;

#[tokio::test]
async fn a_payment_spent_long_before_it_was_asked_for_is_spent() {
    let scene = Scene::start().await;
    let message = scene.authorization().await;
    let before = scene.now().await;
    let transaction = scene.submit(&message).await;
    scene.anvil.mine(300).await;
    scene.anvil.mine_at(before.0 + HOUR).await;
    scene.anvil.mine(20).await;
    assert_eq!(scene.look(&on_chain(&message)).await, Ok(Finding::Spent { transaction: None }));
    let found = scene.chain().look(&on_chain(&message), before, "").await;
    assert_eq!(found, Ok(scene.paid(transaction).await));
}

#[tokio::test]
async fn what_an_address_received_is_listed_by_time() {
    let scene = Scene::start().await;
    let start = scene.anvil.time().await;
    let mut expected = Vec::new();
    for hour in 1..=4 {
        // Many blocks between them, so that times have to be searched for.
        scene.anvil.mine(400).await;
        scene.anvil.mine_at(start + hour * HOUR).await;
        let mut message = scene.authorization().await;
        message.value = U256::from(PRICE + hour);
        expected.push((message.from, message.value, scene.submit(&message).await));
        // Money for somebody else is none of this.
        scene.anvil.mint(scene.payer.address(), 1).await;
    }
    let listed = async |from: u64, until: u64| {
        let (from, until) = (UnixSeconds(from), UnixSeconds(until));
        let received = scene.chain().received(TOKEN, scene.payee, from, until).await.unwrap();
        for one in &received {
            assert!(one.time >= from && one.time <= until, "{one:?}");
        }
        let times: Vec<u64> = received.iter().map(|one| one.block).collect();
        assert!(times.is_sorted(), "{received:?}");
        received.into_iter().map(|one| (one.from, one.value, one.transaction)).collect::<Vec<_>>()
    };
    assert_eq!(listed(0, start + 5 * HOUR).await, expected);
    assert_eq!(listed(start + 2 * HOUR, start + 4 * HOUR - 1).await, expected[1..3]);
    assert_eq!(listed(start, start + HOUR - 1).await, []);
    assert_eq!(listed(start + 5 * HOUR, start + 6 * HOUR).await, []);
    assert_eq!(listed(0, 1).await, []);
}

#[tokio::test]
async fn how_a_nonce_was_spent_is_told() {
    let scene = Scene::start().await;
    let (used, cancelled) = (scene.authorization().await, scene.authorization().await);
    let since = scene.now().await;
    let find = async |nonce: B256| {
        scene.chain().nonce_use(TOKEN, scene.payer.address(), nonce, since).await.unwrap()
    };
    assert_eq!(find(used.nonce).await, None);
    let transaction = scene.submit(&used).await;
    let time = scene.now().await;
    assert_eq!(find(used.nonce).await, Some(NonceUse { transaction, cancelled: false, time }));
    let transaction = scene.anvil.send(SOMEBODY, TOKEN, &cancel_call(&scene.payer, cancelled.nonce)).await;
    let time = scene.now().await;
    assert_eq!(find(cancelled.nonce).await, Some(NonceUse { transaction, cancelled: true, time }));
    let mint = Contracts::mintCall { to: scene.payee, value: U256::ONE };
    scene.anvil.send(SOMEBODY, TOKEN, &mint).await;
    assert_eq!(find(B256::random()).await, None);
}
