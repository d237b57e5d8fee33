//! A gateway between a scripted site and a scripted facilitator, to be bought from.

use serde_json::Value;

use super::client::{self, Response, get};
use super::facilitator::Facilitator;
use super::gateway::{Gateway, PAID, base};
use super::payer::{Payer, encode};
use super::server::Origin;

/// All that a purchase takes.
pub struct Shop {
    pub origin: Origin,
    pub facilitator: Facilitator,
    pub gateway: Gateway,
}

/// Configuration of a facilitator that is soon given up.
pub const IMPATIENT: &str = "verify_timeout_ms = 400\nsettle_timeout_ms = 400\n";

impl Shop {
    /// A site whose pages below `/paid/` cost $0.01; everything else is free.
    pub async fn open() -> Self {
        Self::with(Origin::site().await, "", PAID).await
    }

    /// A site of its own kind, with options of the facilitator and the rest of the configuration.
    pub async fn with(origin: Origin, options: &str, config: &str) -> Self {
        let facilitator = Facilitator::start().await;
        let config = format!(
            "{}{config}\n[facilitators.scripted]\nurl = \"{}\"\n{options}",
            base(&origin.url(), "scripted"),
            facilitator.url()
        );
        let gateway = Gateway::with_config(&config).await;
        Self { origin, facilitator, gateway }
    }

    /// Asks for a path without paying.
    pub async fn ask(&self, path: &str) -> Response {
        get(self.gateway.address, path, &[]).await
    }

    /// What is asked for a path, decoded.
    pub async fn required(&self, path: &str) -> Value {
        self.ask(path).await.required()
    }

    /// A right v2 payment for a path, by a new account.
    pub async fn payment(&self, path: &str) -> Value {
        Payer::new().message(&self.required(path).await)
    }

    /// Presents a v2 payment.
    pub async fn present(&self, path: &str, payment: &Value) -> Response {
        self.present_raw(path, &encode(payment)).await
    }

    /// Presents a v2 payment header as it is.
    pub async fn present_raw(&self, path: &str, header: &str) -> Response {
        get(self.gateway.address, path, &[("PAYMENT-SIGNATURE", header)]).await
    }

    /// Presents a v1 payment.
    pub async fn present_v1(&self, path: &str, payment: &Value) -> Response {
        get(self.gateway.address, path, &[("X-PAYMENT", &encode(payment))]).await
    }

    /// Asks, pays with a new account, and returns what was bought.
    pub async fn buy(&self, path: &str) -> Response {
        let payment = self.payment(path).await;
        self.present(path, &payment).await
    }

    /// Sends a request of any method.
    pub async fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
        client::request(self.gateway.address, method, path, headers, b"").await
    }

    /// Settlements that were asked for.
    pub fn settlements(&self) -> usize {
        self.facilitator.calls("/settle").len()
    }

    /// Verifications that were asked for.
    pub fn verifications(&self) -> usize {
        self.facilitator.calls("/verify").len()
    }
}

/// Asserts that an answer is a 402 that says why, in both generations' places (v1 has none where it
/// cannot express the offer).
#[track_caller]
pub fn assert_refused(response: &Response, reason: &str) {
    assert_eq!(response.status, 402, "{reason}: {}", response.text());
    assert_eq!(response.required()["error"], reason);
    let body = response.json();
    assert!(body["error"] == reason || body == serde_json::json!({}), "{body}");
    assert_eq!(response.header("cache-control"), Some("no-store"));
}
