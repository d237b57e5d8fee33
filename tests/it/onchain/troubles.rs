//! Nodes that fail: what is said of a payment then, and what becomes of it afterwards.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tollgate::facilitator::settings::OnchainSettings;
use tollgate::facilitator::{Facilitator, Onchain, SettleOutcome};
use tollgate::x402::types::FacilitatorRequest;

use super::middle::{Middle, Way};
use super::till::{Till, settled};

/// A payment, and a facilitator whose node can fail.
struct Scene {
    till: Till,
    middle: Middle,
    own: Arc<Onchain>,
    request: FacilitatorRequest,
}

impl Scene {
    async fn set() -> Self {
        Self::with(Duration::from_secs(2)).await
    }

    /// One question to the node may take half of the time of a verification.
    async fn with(verify_timeout: Duration) -> Self {
        let till = Till::open().await;
        let middle = Middle::before(&till.anvil.url).await;
        let settings = OnchainSettings {
            verify_timeout,
            settle_timeout: Duration::from_secs(3),
            ..till.settings_at(&middle.url())
        };
        let own = till.with(settings);
        let request = till.request().await;
        own.supported().await.unwrap();
        Self { till, middle, own, request }
    }

    async fn settle(&self) -> SettleOutcome {
        self.own.settle(&self.request).await
    }

    /// Settles until it is known what came of it, as the gateway does with what is unresolved.
    async fn settle_at_last(&self) -> String {
        let deadline = std::time::Instant::now() + crate::support::client::PATIENCE;
        loop {
            match self.settle().await {
                SettleOutcome::Settled(response) => return response.transaction,
                other => assert!(std::time::Instant::now() < deadline, "{other:?}"),
            }
        }
    }
}

#[track_caller]
fn assert_unreachable(outcome: SettleOutcome) -> String {
    match outcome {
        SettleOutcome::Unreachable(unavailable) => unavailable.cause,
        other => panic!("not unreachable: {other:?}"),
    }
}

#[tokio::test]
async fn a_node_that_dies_before_anything_is_sent_leaves_the_payment_untouched() {
    for method in ["eth_getCode", "eth_call", "eth_estimateGas", "eth_getTransactionCount"] {
        let scene = Scene::set().await;
        scene.middle.rule_for(method, || Way::Lose);
        let outcome = scene.settle().await;
        assert_unreachable(outcome);
        assert_eq!(scene.middle.asked("eth_sendRawTransaction"), 0, "{method}");
        scene.middle.rule(|_, _| Way::Pass);
        let response = settled(scene.settle().await);
        scene.till.assert_paid_once(&response.transaction).await;
    }
}

#[tokio::test]
async fn a_node_that_is_not_there_is_no_answer_to_a_verification_and_settles_nothing() {
    let scene = Scene::set().await;
    scene.middle.stop().await;
    let unavailable = scene.own.verify(&scene.request).await.unwrap_err();
    assert!(!unavailable.cause.contains("127.0.0.1"), "the URL may hold a key: {unavailable}");
    assert_unreachable(scene.settle().await);
    scene.middle.go_on().await;
    settled(scene.settle().await);
}

#[tokio::test]
async fn a_transaction_that_never_left_was_not_sent() {
    let scene = Scene::set().await;
    // The node vanishes between the last question and the transaction.
    scene.middle.rule_for("eth_getTransactionCount", || Way::Last);
    assert_unreachable(scene.settle().await);
    assert_eq!(scene.middle.asked("eth_sendRawTransaction"), 0);
    scene.middle.rule(|_, _| Way::Pass);
    scene.middle.go_on().await;
    let transaction = settled(scene.settle().await).transaction;
    scene.till.assert_paid_once(&transaction).await;
}

#[tokio::test]
async fn what_was_given_up_is_not_sent_any_more_however_slow_the_node_is() {
    let scene = Scene::with(Duration::from_secs(4)).await;
    scene.middle.rule(|method, _| match method {
        "eth_getCode" | "eth_estimateGas" | "eth_getTransactionCount" => {
            Way::Slow(Duration::from_millis(1200))
        }
        "eth_sendRawTransaction" => Way::Lose,
        _ => Way::Pass,
    });
    // Nobody waits any more when the last question is answered.
    assert_unreachable(scene.settle().await);
    // Whoever asks again waits for the end of what was begun.
    assert_unreachable(scene.settle().await);
    assert_eq!(scene.middle.asked("eth_sendRawTransaction"), 0);
    scene.middle.rule(|_, _| Way::Pass);
    settled(scene.settle().await);
}

#[tokio::test]
async fn a_transaction_whose_sending_gets_no_answer_is_in_doubt_and_sent_again_as_it_was() {
    for heard in [false, true] {
        let scene = Scene::set().await;
        scene.till.anvil.rpc("evm_setAutomine", json!([false])).await;
        scene
            .middle
            .rule_for("eth_sendRawTransaction", move || if heard { Way::LoseAnswer } else { Way::Lose });
        match scene.settle().await {
            SettleOutcome::AnswerLost(_) => {}
            other => panic!("{heard}: {other:?}"),
        }
        assert!(scene.middle.asked("eth_sendRawTransaction") > 1, "it is tried again");
        scene.middle.rule(|_, _| Way::Pass);
        scene.till.wait_for_waiting(1).await;
        scene.till.anvil.rpc("evm_setAutomine", json!([true])).await;
        scene.till.anvil.mine(1).await;
        let transaction = scene.settle_at_last().await;
        scene.till.assert_paid_once(&transaction).await;
        assert_eq!(scene.till.transactions().await, 1, "{heard}");
    }
}

#[tokio::test]
async fn a_node_that_dies_after_it_took_the_transaction_leaves_the_payment_pending_with_its_hash() {
    let scene = Scene::set().await;
    scene.middle.rule(|method, _| match method {
        "eth_getTransactionReceipt" | "eth_blockNumber" => Way::Hang,
        _ => Way::Pass,
    });
    let SettleOutcome::Pending(pending) = scene.settle().await else { panic!("not pending") };
    scene.till.assert_paid_once(&pending.transaction).await;
    scene.middle.rule(|_, _| Way::Pass);
    assert_eq!(scene.settle_at_last().await, pending.transaction);
    assert_eq!(scene.till.transactions().await, 1);
}

#[tokio::test]
async fn a_refusal_of_the_node_is_told_and_the_nonce_is_not_spent() {
    let scene = Scene::set().await;
    scene
        .middle
        .rule_for("eth_sendRawTransaction", || Way::Error(-32000, "tx fee exceeds the configured cap"));
    let cause = assert_unreachable(scene.settle().await);
    assert!(cause.contains("tx fee exceeds the configured cap"), "{cause}");
    scene.middle.rule(|_, _| Way::Pass);
    let response = settled(scene.settle().await);
    scene.till.assert_paid_once(&response.transaction).await;
    assert_eq!(scene.till.transactions().await, 1);
}

#[tokio::test]
async fn a_node_in_trouble_of_its_own_is_not_believed_to_have_refused() {
    let scene = Scene::set().await;
    scene.middle.rule_for("eth_sendRawTransaction", || Way::Error(-32603, "Internal error"));
    match scene.settle().await {
        SettleOutcome::AnswerLost(_) => {}
        other => panic!("{other:?}"),
    }
    scene.middle.rule(|_, _| Way::Pass);
    let transaction = scene.settle_at_last().await;
    scene.till.assert_paid_once(&transaction).await;
}

#[tokio::test]
async fn a_node_that_cannot_tell_does_not_make_a_payment_invalid() {
    let scene = Scene::set().await;
    for (code, message) in
        [(-32005, "request limit reached"), (-32000, "header not found"), (-32603, "Internal error")]
    {
        scene.middle.rule_for("eth_call", move || Way::Error(code, message));
        let verdict = scene.own.verify(&scene.request).await;
        assert!(verdict.is_err(), "{message}: {verdict:?}");
        assert_unreachable(scene.settle().await);
    }
}

#[tokio::test]
async fn a_spent_nonce_that_nobody_can_explain_is_in_doubt() {
    let scene = Scene::set().await;
    let response = settled(scene.till.facilitator().settle(&scene.request).await);
    scene.middle.rule_for("eth_getLogs", || Way::Error(-32005, "query exceeds the limit"));
    match scene.settle().await {
        SettleOutcome::AnswerLost(_) => {}
        other => panic!("{other:?}"),
    }
    // A node that only answers for short ranges is asked for those.
    scene.middle.rule(|method, params| {
        let bound = |name: &str| super::till::number(&params[0][name]);
        if method == "eth_getLogs" && bound("toBlock") - bound("fromBlock") > 100 {
            return Way::Error(-32602, "block range is too wide");
        }
        Way::Pass
    });
    assert_eq!(scene.settle_at_last().await, response.transaction);
}

#[tokio::test]
async fn a_node_of_another_chain_is_not_used() {
    let till = Till::open().await;
    let middle = Middle::before(&till.anvil.url).await;
    middle.rule_for("eth_chainId", || Way::Answer(json!("0x2105")));
    let own = till.with(till.settings_at(&middle.url()));
    let unavailable = own.supported().await.unwrap_err();
    assert!(unavailable.cause.contains("eip155:8453"), "{unavailable}");
    let request = till.request().await;
    assert!(own.verify(&request).await.is_err());
    assert_unreachable(own.settle(&request).await);
    assert_eq!(middle.asked("eth_sendRawTransaction"), 0);
}
