//! Payments on Solana: offered with what the facilitator advertises, and single-use like all others.

use serde_json::{Value, json};

use crate::support::client::PATIENCE;
use crate::support::gateway::base;
use crate::support::payer::encode;
use crate::support::shop::{assert_refused, served_among};
use crate::support::solana::{SolanaPayer, message_of, with_fee_payer_signature};
use crate::support::{Facilitator, Gateway, Origin, Response, get};

const DEVNET: &str = "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1";
const USDC: &str = "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU";
const NO_MATCH: &str = "No matching payment requirements";

fn advertising(fee_payer: &str, signers: &[&str]) -> Value {
    json!({
        "kinds": [{"x402Version": 2, "scheme": "exact", "network": DEVNET, "extra": {"feePayer": fee_payer}}],
        "signers": {"solana:*": signers},
    })
}

struct Shop {
    facilitator: Facilitator,
    origin: Origin,
    gateway: Gateway,
    payee: String,
}

async fn shop(supported: Value) -> Shop {
    let (facilitator, origin) = (Facilitator::supporting(supported).await, Origin::site().await);
    let payee = SolanaPayer::new().address();
    let config = format!(
        "{}[[routes]]\nname = \"paid\"\npath = \"/paid/*\"\nprice = \"$0.01\"\nnetwork = \"solana-devnet\"\n\
         pay_to = \"{payee}\"\n[facilitators.scripted]\nurl = \"{}\"\nsupported_ttl_seconds = 1\n",
        base(&origin.url(), "scripted"),
        facilitator.url()
    );
    let gateway = Gateway::with_config(&config).await;
    Shop { facilitator, origin, gateway, payee }
}

impl Shop {
    async fn offer(&self) -> Value {
        get(self.gateway.address, "/paid/a", &[]).await.required()["accepts"][0].clone()
    }

    async fn present(&self, payment: &Value) -> Response {
        get(self.gateway.address, "/paid/a", &[("PAYMENT-SIGNATURE", &encode(payment))]).await
    }

    /// Waits until this fee payer is the one that is offered.
    async fn until_offered(&self, fee_payer: &str) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while self.offer().await["extra"]["feePayer"] != fee_payer {
            assert!(std::time::Instant::now() < deadline, "{fee_payer} is never offered");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    fn settlements(&self) -> Vec<Value> {
        let calls = self.facilitator.calls("/settle");
        calls.iter().map(|call| serde_json::from_slice(&call.body).unwrap()).collect()
    }
}

/// Compliance 66, and 22 as far as it begins there.
#[tokio::test]
async fn an_offer_on_solana_carries_the_facilitators_fee_payer_and_can_be_paid() {
    let fee_payer = SolanaPayer::new().address();
    let shop = shop(advertising(&fee_payer, &[])).await;
    let offer = shop.offer().await;
    let expected = json!({"scheme": "exact", "network": DEVNET, "amount": "10000", "asset": USDC,
        "payTo": shop.payee, "maxTimeoutSeconds": 300, "extra": {"feePayer": fee_payer}});
    assert_eq!(offer, expected);
    let payer = SolanaPayer::new();
    let payment = payer.message(&offer);
    let paid = shop.present(&payment).await;
    assert_eq!((paid.status, paid.text().as_str()), (200, "content of /paid/a"), "{}", paid.text());
    assert_eq!(
        shop.settlements(),
        [json!({"x402Version": 2, "paymentPayload": payment, "paymentRequirements": offer})]
    );
    let request = shop.origin.only_request();
    assert_eq!(request.header("x-402-payer"), Some(payer.address().as_str()));
    assert_eq!(request.header("x-402-network"), Some(DEVNET));
}

/// Compliance 22: facilitators choose among their accounts anew each time they are asked.
#[tokio::test]
async fn a_fee_payer_offered_before_or_elsewhere_is_still_accepted() {
    let [first, second, other, stranger] = [0; 4].map(|_| SolanaPayer::new().address());
    let shop = shop(advertising(&first, &[&other])).await;
    let before = shop.offer().await;
    shop.facilitator.will_support(advertising(&second, &[&other]));
    shop.until_offered(&second).await;
    for fee_payer in [&first, &second, &other] {
        let mut accepted = before.clone();
        accepted["extra"]["feePayer"] = json!(fee_payer);
        let payment = SolanaPayer::new().message(&accepted);
        assert_eq!(shop.present(&payment).await.status, 200, "{fee_payer}");
        assert_eq!(shop.settlements().last().unwrap()["paymentRequirements"], accepted);
    }
    let mut accepted = before.clone();
    accepted["extra"]["feePayer"] = json!(stranger);
    assert_refused(&shop.present(&SolanaPayer::new().message(&accepted)).await, NO_MATCH);
    accepted["extra"] = json!({});
    let mut silent = SolanaPayer::new().message(&before);
    silent["accepted"] = accepted;
    assert_refused(&shop.present(&silent).await, NO_MATCH);
    assert_eq!(shop.facilitator.calls("/verify").len(), 3);
}

#[tokio::test]
async fn without_a_fee_payer_there_is_no_offer() {
    let fee_payer = SolanaPayer::new().address();
    let shop = shop(advertising(&fee_payer, &[])).await;
    let bare = json!({"kinds": [{"x402Version": 2, "scheme": "exact", "network": DEVNET}]});
    shop.facilitator.will_support(bare);
    let deadline = std::time::Instant::now() + PATIENCE;
    while get(shop.gateway.address, "/paid/a", &[]).await.status != 503 {
        assert!(std::time::Instant::now() < deadline, "it is still offered");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn each_wrong_transaction_is_refused_with_its_reason_and_costs_no_call() {
    let fee_payer = SolanaPayer::new().address();
    let shop = shop(advertising(&fee_payer, &[])).await;
    let offer = shop.offer().await;
    let payer = SolanaPayer::new();
    let made_for = |member: &str, value: Value| {
        let mut other = offer.clone();
        match member {
            "feePayer" => other["extra"][member] = value,
            _ => other[member] = value,
        }
        message_of(&offer, &payer.transaction(&other))
    };
    let mut unsigned = payer.transaction(&offer);
    unsigned[65..129].fill(0);
    let mut changed = payer.transaction(&offer);
    let last = changed.len() - 2;
    changed[last] ^= 1;
    let mut longer = payer.transaction(&offer);
    longer.push(0);
    for (payment, reason) in [
        (made_for("amount", json!("9999")), "invalid_exact_svm_payload_amount_mismatch"),
        (made_for("amount", json!("10001")), "invalid_exact_svm_payload_amount_mismatch"),
        (made_for("asset", json!(fee_payer)), "invalid_exact_svm_payload_mint_mismatch"),
        (made_for("feePayer", json!(payer.address())), "invalid_exact_svm_fee_payer_mismatch"),
        (message_of(&offer, &unsigned), "invalid_exact_svm_signature"),
        (message_of(&offer, &changed), "invalid_exact_svm_signature"),
        (message_of(&offer, &longer), "invalid_exact_svm_payload_transaction"),
        (message_of(&offer, b""), "invalid_exact_svm_payload_transaction"),
        (json!({"x402Version": 2, "accepted": offer, "payload": {"transaction": 7}}), "invalid_payload"),
    ] {
        assert_refused(&shop.present(&payment).await, reason);
    }
    assert!(shop.facilitator.calls("/verify").is_empty());
    assert!(shop.origin.requests().is_empty());
}

/// Compliance 49: chains confirm the same signed transaction to everybody who sends it.
#[tokio::test]
async fn one_transaction_buys_one_response_whatever_stands_in_the_fee_payers_place() {
    let fee_payer = SolanaPayer::new().address();
    let shop = shop(advertising(&fee_payer, &[])).await;
    let offer = shop.offer().await;
    let transaction = SolanaPayer::new().transaction(&offer);
    let address = shop.gateway.address;
    let tasks: Vec<_> = (0..100_u8)
        .map(|number| {
            let copy = with_fee_payer_signature(transaction.clone(), number / 2);
            let header = encode(&message_of(&offer, &copy));
            tokio::spawn(async move { get(address, "/paid/a", &[("PAYMENT-SIGNATURE", &header)]).await })
        })
        .collect();
    let mut responses = Vec::new();
    for task in tasks {
        responses.push(task.await.unwrap());
    }
    assert_eq!((served_among(&responses), shop.origin.requests().len(), shop.settlements().len()), (1, 1, 1));
    shop.gateway.wait_until_idle().await;
    let again = message_of(&offer, &with_fee_payer_signature(transaction, 200));
    assert_refused(&shop.present(&again).await, "duplicate_settlement");
}
