//! Transactions on their way: fees, blocks, other transactions of the account, and other lives of the
//! gateway.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{B256, U256};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tollgate::facilitator::settings::OnchainSettings;
use tollgate::facilitator::{Facilitator, Onchain, SettleOutcome};
use tollgate::x402::VerifyResponse;
use tollgate::x402::types::FacilitatorRequest;

use super::middle::{Middle, Way};
use super::till::{PRICE, Till, number, settled};
use super::wallets::{approving_payer, permit_request};

const GWEI: u128 = 1_000_000_000;

/// A chain that stops making blocks when a payment was prepared.
async fn without_blocks() -> (Till, FacilitatorRequest) {
    let till = Till::open().await;
    let request = till.request().await;
    till.anvil.rpc("evm_setAutomine", json!([false])).await;
    (till, request)
}

fn settle(own: &Arc<Onchain>, request: &FacilitatorRequest) -> JoinHandle<SettleOutcome> {
    let (own, request) = (Arc::clone(own), request.clone());
    tokio::spawn(async move { own.settle(&request).await })
}

fn fee(transaction: &Value) -> u64 {
    number(&transaction["maxFeePerGas"])
}

fn hash(transaction: &Value) -> String {
    transaction["hash"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_transaction_that_no_block_takes_is_replaced_by_one_that_offers_more_up_to_the_ceiling() {
    let (till, request) = without_blocks().await;
    let settings = OnchainSettings { replace_after: Duration::from_millis(300), ..till.settings() };
    let ceiling = settings.max_fee;
    let own = till.with(settings);
    let settling = settle(&own, &request);
    let first = till.wait_for_waiting(1).await.remove(0);
    let second = till.wait_for_pool(|waiting| hash(&waiting[0]) != hash(&first)).await.remove(0);
    assert_eq!(second["nonce"], first["nonce"]);
    assert_eq!(second["input"], first["input"]);
    assert!(fee(&second) * 10 >= fee(&first) * 11, "{first:#} {second:#}");
    // It ends where a raise would pass the ceiling.
    let stuck = |waiting: &[Value]| u128::from(fee(&waiting[0])) * 11 / 10 >= ceiling;
    let last = till.wait_for_pool(stuck).await;
    assert_eq!(last.len(), 1);
    assert!(u128::from(fee(&last[0])) <= ceiling);
    till.anvil.mine(1).await;
    let response = settled(settling.await.unwrap());
    assert_eq!(response.transaction, hash(&last[0]));
    till.assert_paid_once(&response.transaction).await;
}

#[tokio::test]
async fn nothing_is_promised_or_sent_while_the_network_asks_for_more_than_the_ceiling() {
    let till = Till::open().await;
    let request = till.request().await;
    let own = till.with(OnchainSettings { max_fee: 5 * GWEI, ..till.settings() });
    own.supported().await.unwrap();
    let base_fee = |fee: u128| till.anvil.rpc("anvil_setNextBlockBaseFeePerGas", json!([U256::from(fee)]));
    base_fee(6 * GWEI).await;
    till.anvil.mine(1).await;
    base_fee(6 * GWEI).await;
    let dear = till.with(OnchainSettings { max_fee: 5 * GWEI, ..till.settings() });
    let refusal = "which is above max_fee_gwei = 5.00";
    let unavailable = dear.verify(&request).await.unwrap_err();
    assert!(unavailable.cause.contains(refusal), "{unavailable}");
    match dear.settle(&request).await {
        SettleOutcome::Unreachable(unavailable) => {
            assert!(unavailable.cause.contains(refusal), "{unavailable}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(till.transactions().await, 0);
    let rich = till.with(OnchainSettings { max_fee: 50 * GWEI, ..till.settings() });
    assert!(matches!(rich.verify(&request).await, Ok(VerifyResponse::Valid { .. })));
    settled(rich.settle(&request).await);
}

#[tokio::test]
async fn a_payment_counts_as_settled_when_as_many_blocks_as_wanted_are_on_it() {
    let (till, request) = without_blocks().await;
    let own = till.with(OnchainSettings { confirmations: 3, ..till.settings() });
    let settling = settle(&own, &request);
    let transaction = hash(&till.wait_for_waiting(1).await[0]);
    till.anvil.mine(1).await;
    till.anvil.receipt(transaction.parse().unwrap()).await;
    till.anvil.mine(1).await;
    // Twice the time in which the chain is looked at again.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!settling.is_finished(), "two blocks are not three");
    till.anvil.mine(1).await;
    assert_eq!(settled(settling.await.unwrap()).transaction, transaction);
}

#[tokio::test]
async fn a_payment_that_is_in_no_block_in_time_is_pending_and_the_same_payment_waits_for_it_on() {
    let (till, request) = without_blocks().await;
    let own = till.with(OnchainSettings { settle_timeout: Duration::from_secs(2), ..till.settings() });
    let SettleOutcome::Pending(pending) = own.settle(&request).await else { panic!("not pending") };
    assert_eq!(pending.error_reason.as_deref(), Some("settlement_pending"));
    assert_eq!(pending.transaction, hash(&till.wait_for_waiting(1).await[0]));
    let again = settle(&own, &request);
    till.anvil.mine(1).await;
    assert_eq!(settled(again.await.unwrap()).transaction, pending.transaction);
    assert_eq!(till.transactions().await, 1);
    till.assert_paid_once(&pending.transaction).await;
}

#[tokio::test]
async fn without_balance_for_gas_nothing_is_sent_and_the_metric_shows_it() {
    let till = Till::open().await;
    let request = till.request().await;
    till.anvil.rpc("anvil_setBalance", json!([till.account, "0x10"])).await;
    let own = till.facilitator();
    let unavailable = own.verify(&request).await.unwrap_err();
    assert!(unavailable.cause.contains("nothing left for gas"), "{unavailable}");
    match own.settle(&request).await {
        SettleOutcome::Unreachable(unavailable) => {
            assert!(unavailable.cause.to_lowercase().contains("insufficient funds"), "{unavailable}");
        }
        other => panic!("{other:?}"),
    }
    let page = till.metrics.render();
    let shown = page.lines().find_map(|line| line.strip_prefix("tollgate_gas_balance{facilitator=\"own\"} "));
    assert_eq!(shown.and_then(|coins| coins.parse().ok()), Some(16e-18), "{page}");
    till.anvil.give_gas(till.account).await;
    settled(own.settle(&request).await);
}

#[tokio::test]
async fn what_an_earlier_run_has_settled_is_found_again_and_not_settled_twice() {
    let till = Till::open().await;
    let payer = approving_payer(&till).await;
    let requests = [till.request().await, permit_request(&payer, 3)];
    let own = till.facilitator();
    let first = [settled(own.settle(&requests[0]).await), settled(own.settle(&requests[1]).await)];
    // More blocks than are searched at a time.
    till.anvil.mine(2_050).await;
    let next = till.facilitator();
    let second = [settled(next.settle(&requests[0]).await), settled(next.settle(&requests[1]).await)];
    assert_eq!(second, first);
    assert_eq!(till.transactions().await, 2);
    assert_eq!(till.income().await, 2 * PRICE);
}

#[tokio::test]
async fn what_an_earlier_run_has_sent_pays_once_even_if_it_is_sent_again() {
    let (till, request) = without_blocks().await;
    let earlier = tokio::runtime::Runtime::new().unwrap();
    let crashed = till.within(till.settings(), earlier.handle().clone());
    let lost = settle(&crashed, &request);
    let first = hash(&till.wait_for_waiting(1).await[0]);
    earlier.shutdown_background();
    lost.abort();
    // The next run knows nothing of it.
    let own = till.facilitator();
    let settling = settle(&own, &request);
    till.wait_for_waiting(2).await;
    till.anvil.mine(1).await;
    assert_eq!(settled(settling.await.unwrap()).transaction, first);
    till.assert_paid_once(&first).await;
}

#[tokio::test]
async fn a_nonce_that_an_earlier_run_left_open_does_not_keep_the_others_waiting_for_ever() {
    let till = Till::open().await;
    let request = till.request().await;
    // One node remembers a transaction that the others have dropped.
    let middle = Middle::before(&till.anvil.url).await;
    middle.rule(|method, params| {
        let pending = method == "eth_getTransactionCount" && params[1] == "pending";
        if pending { Way::Answer(json!("0x1")) } else { Way::Pass }
    });
    let settings =
        OnchainSettings { replace_after: Duration::from_secs(1), ..till.settings_at(&middle.url()) };
    let response = settled(till.with(settings).settle(&request).await);
    till.assert_paid_once(&response.transaction).await;
    let paid = till.anvil.rpc("eth_getTransactionByHash", json!([response.transaction])).await;
    assert_eq!((number(&paid["nonce"]), till.transactions().await), (1, 2), "an empty one came before");
}

#[tokio::test]
async fn two_processes_with_one_key_settle_every_payment_once() {
    let till = Till::open().await;
    let mut requests = Vec::new();
    for _ in 0..20 {
        requests.push(till.request().await);
    }
    till.anvil.rpc("evm_setAutomine", json!([false])).await;
    till.anvil.rpc("evm_setIntervalMining", json!([1])).await;
    let (one, other) = (till.facilitator(), till.facilitator());
    let settling = requests.iter().enumerate().map(|(index, request)| {
        let own = if index % 2 == 0 { &one } else { &other };
        own.settle(request)
    });
    let mut transactions: Vec<B256> = Vec::new();
    for outcome in join_all(settling).await {
        transactions.push(settled(outcome).transaction.parse().unwrap());
    }
    transactions.sort_unstable();
    transactions.dedup();
    assert_eq!(transactions.len(), 20);
    assert_eq!(till.income().await, 20 * PRICE);
}
