//! A gateway between a scripted site and a scripted facilitator, to be bought from.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::{self, PATIENCE, Response, get};
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
        Self::paid_through(Facilitator::start().await, origin, options, config).await
    }

    /// The same with a facilitator that was started before.
    pub async fn paid_through(facilitator: Facilitator, origin: Origin, options: &str, config: &str) -> Self {
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

    /// Presents a payment again and again, as clients are told to, until the answer is another than
    /// that it has to wait.
    pub async fn present_patiently(&self, path: &str, payment: &Value) -> Response {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let response = self.present(path, payment).await;
            if response.status != 503 {
                return response;
            }
            assert!(response.header("retry-after").is_some(), "{response:#?}");
            assert!(Instant::now() < deadline, "still {}: {}", response.status, response.text());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
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

/// Asserts that an answer says that the payment is in use for this very request, and that its payer
/// must not pay again.
#[track_caller]
pub fn assert_in_use(response: &Response) {
    assert_try_again(response, "this payment is being used for this request");
}

/// Asserts that an answer says that nobody knows yet whether the payment was settled.
#[track_caller]
pub fn assert_unresolved(response: &Response) {
    assert_try_again(response, "the outcome of this payment's settlement is not known");
}

#[track_caller]
fn assert_try_again(response: &Response, why: &str) {
    assert_eq!(response.status, 503, "{}", response.text());
    let error = response.json()["error"].as_str().unwrap().to_owned();
    assert!(error.starts_with(why) && error.contains("do not pay again"), "{error}");
    let seconds: u32 = response.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert_eq!((response.header("payment-required"), response.header("payment-response")), (None, None));
    assert_eq!(response.header("cache-control"), Some("no-store"));
}

/// Counts answers to copies of one payment that came at the same time: those that were served.
/// Every other one says that the payment is in use or, when the delivery was over, that it was used.
#[track_caller]
pub fn served_among(responses: &[Response]) -> usize {
    let (served, others): (Vec<_>, Vec<_>) = responses.iter().partition(|one| one.status == 200);
    for response in others {
        if response.status == 503 {
            assert_in_use(response);
        } else {
            assert_refused(response, "duplicate_settlement");
        }
    }
    served.len()
}
