//! A stub facilitator: takes every payment after a fixed time, without looking at it, so that it is
//! never what a benchmark measures.

use std::time::Duration;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Failure;

/// What a resource server sends; of it only what is answered with.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    payment_payload: PaymentPayload,
    payment_requirements: Requirements,
}

#[derive(Deserialize)]
struct PaymentPayload {
    payload: Payload,
}

#[derive(Deserialize)]
struct Payload {
    authorization: Authorization,
}

#[derive(Deserialize)]
struct Authorization {
    from: String,
    nonce: String,
}

#[derive(Deserialize)]
struct Requirements {
    network: String,
}

/// Serves until it is ended. Each verification and each settlement takes `delay_ms`.
pub(crate) fn run(address: &str, delay_ms: u64) -> Result<(), Failure> {
    let delay = (delay_ms > 0).then(|| Duration::from_millis(delay_ms));
    let app = Router::new()
        .route("/supported", get(supported))
        .route("/verify", post(verify))
        .route("/settle", post(settle))
        .with_state(delay);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(address).await?;
        // Without it an answer waits for the acknowledgement of the one before.
        let listener = axum::serve::ListenerExt::tap_io(listener, |socket| {
            let _ = socket.set_nodelay(true);
        });
        axum::serve(listener, app).await
    })?;
    Ok(())
}

async fn supported() -> Json<Value> {
    Json(json!({
        "kinds": [
            {"x402Version": 2, "scheme": "exact", "network": "eip155:84532"},
            {"x402Version": 1, "scheme": "exact", "network": "base-sepolia"},
        ],
        "extensions": [],
        "signers": {},
    }))
}

async fn verify(State(delay): State<Option<Duration>>, Json(asked): Json<Asked>) -> Json<Value> {
    wait(delay).await;
    Json(json!({"isValid": true, "payer": asked.payment_payload.payload.authorization.from}))
}

async fn settle(State(delay): State<Option<Duration>>, Json(asked): Json<Asked>) -> Json<Value> {
    wait(delay).await;
    let Authorization { from, nonce } = asked.payment_payload.payload.authorization;
    // As long as the hash of a transaction, and as unique as the payment.
    let network = asked.payment_requirements.network;
    Json(json!({"success": true, "transaction": nonce, "network": network, "payer": from}))
}

async fn wait(delay: Option<Duration>) {
    if let Some(delay) = delay {
        tokio::time::sleep(delay).await;
    }
}
