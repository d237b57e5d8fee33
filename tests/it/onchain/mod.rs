//! Settlement without a third party, on a real chain: what is promised of facilitators, of money, and
//! of nodes that fail.

#[path = "../../../src/facilitator/contract.rs"]
mod contract;
pub mod middle;
mod paying;
mod sending;
pub mod till;
mod troubles;
mod wallets;

use std::sync::Arc;

// The contract's tests take them from here.
use tollgate::facilitator::{Facilitator, SettleOutcome};

use self::contract::{Subject, contract};
use self::till::Till;

/// Checks what every facilitator promises, of one that settles on the till's chain.
pub async fn keeps_the_contract(till: &Till, facilitator: Arc<dyn Facilitator>) {
    let good = [till.request().await, till.request().await, till.request().await];
    let mut payload = till.request().await.payload;
    payload.insert("signature".into(), till.request().await.payload["signature"].clone());
    let refused = till::v2(&payload.into(), till::terms());
    contract(&Subject { facilitator, good, refused }).await;
}

#[tokio::test]
async fn settlement_on_chain_keeps_the_contract_of_facilitators() {
    let till = Till::open().await;
    keeps_the_contract(&till, till.facilitator()).await;
}
