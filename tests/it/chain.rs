//! What became of a payment, asked from a chain.

use alloy_primitives::{B256, U256};
use serde_json::json;
use tollgate::chain::rpc;
use tollgate::scheme::{TransferWithAuthorization, authorization_digest};
use tollgate::secret::Secret;

use crate::support::Payer;
use crate::support::anvil::{Anvil, CHAIN_ID, TOKEN};
use crate::support::client::PATIENCE;

#[tokio::test]
async fn the_local_chain_moves_tokens_as_usdc_does() {
    let anvil = Anvil::start().await;
    let payer = Payer::new();
    anvil.mint(payer.address(), 10_000).await;
    let message = TransferWithAuthorization {
        from: payer.address(),
        to: Payer::new().address(),
        value: U256::from(10_000),
        validAfter: U256::ZERO,
        validBefore: U256::MAX,
        nonce: B256::random(),
    };
    let digest = authorization_digest(&message, "USDC", "2", CHAIN_ID, TOKEN);
    anvil.submit(&message, &payer.sign(digest)).await;
    assert_eq!(anvil.balance_of(message.to).await, U256::from(10_000));
    let client = rpc::connect(&Secret::new(anvil.url.clone()), PATIENCE).unwrap();
    let id: U256 = client.request("eth_chainId", json!([])).await.unwrap();
    assert_eq!(id, U256::from(CHAIN_ID));
}
