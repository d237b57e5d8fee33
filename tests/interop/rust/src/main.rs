//! Pays one request with `x402-reqwest` and prints what it got as one line of JSON (see `lib/clients.mjs`).
//!
//! Usage: `PAYER_KEY=0x… interop-client URL [FILE]`; with FILE the request is a POST of its bytes.

use std::{env, error::Error, fs, sync::Arc};

use alloy_signer_local::PrivateKeySigner;
use serde_json::{Value, json};
use x402_chain_eip155::{V1Eip155ExactClient, V2Eip155ExactClient};
use x402_reqwest::{ReqwestWithPayments, ReqwestWithPaymentsBuild, X402Client};
use x402_types::{proto::v1::SettleResponse, util::Base64Bytes};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::args().nth(1).ok_or("usage: interop-client URL [FILE]")?;
    let signer: Arc<PrivateKeySigner> = Arc::new(env::var("PAYER_KEY")?.parse()?);
    let payments = X402Client::new()
        .register(V2Eip155ExactClient::new(signer.clone()))
        .register(V1Eip155ExactClient::new(signer));
    let client = reqwest::Client::new().with_payments(payments).build();

    let request = match env::args().nth(2) {
        Some(file) => client.post(url).body(fs::read(file)?),
        None => client.get(url),
    };
    let response = request.send().await?;

    let status = response.status().as_u16();
    let receipt = match response.headers().get("PAYMENT-RESPONSE") {
        Some(header) => receipt(header.as_bytes())?,
        None => Value::Null,
    };
    let body = response.text().await?;
    println!("{}", json!({ "status": status, "body": body, "receipt": receipt }));
    Ok(())
}

/// Reads a receipt with the crate's own codec, whose settle response has one shape for both generations.
fn receipt(header: &[u8]) -> Result<Value, Box<dyn Error>> {
    let decoded = Base64Bytes::from(header).decode()?;
    Ok(match serde_json::from_slice(&decoded)? {
        SettleResponse::Success { payer, transaction, network } => {
            json!({ "success": true, "payer": payer, "transaction": transaction, "network": network })
        }
        SettleResponse::Error { reason, network } => {
            json!({ "success": false, "errorReason": reason, "network": network })
        }
    })
}
