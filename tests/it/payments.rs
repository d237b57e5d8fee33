//! What happens to payments.

use crate::support::gateway::PAID;
use crate::support::payer::encode;
use crate::support::shop::served_among;
use crate::support::{Act, Facilitator, Gateway, Origin, Payer, get};
use serde_json::json;

/// Compliance 1, 7, 9, 46.
#[tokio::test]
async fn an_unpaid_request_is_challenged_and_a_paid_one_is_served() {
    let origin = Origin::site().await;
    let gateway = Gateway::start(&origin.url(), "sandbox", PAID).await;
    let challenge = get(gateway.address, "/paid/a?x=1", &[]).await;
    let required = challenge.required();
    assert_eq!(required["x402Version"], 2);
    assert_eq!(required["resource"]["url"], "https://shop.example/paid/a?x=1");
    assert_eq!(challenge.header("cache-control"), Some("no-store"));
    assert!(origin.requests().is_empty());

    let payer = Payer::new();
    let paid = get(gateway.address, "/paid/a?x=1", &[("PAYMENT-SIGNATURE", &payer.pay(&required))]).await;
    assert_eq!((paid.status, paid.text().as_str()), (200, "content of /paid/a"));
    let receipt = paid.decoded("payment-response");
    assert_eq!(receipt["success"], true);
    assert_eq!(receipt["payer"], payer.address().to_string());
    assert_eq!(receipt["network"], "eip155:84532");
    let request = origin.only_request();
    assert_eq!(request.header("payment-signature"), None);
    assert_eq!(request.header("x-402-payer"), Some(payer.address().to_string().as_str()));
    assert_eq!(request.header("x-402-amount"), Some("10000"));
    assert_eq!(request.header("x-402-route"), Some("paid"));
}

/// Compliance 3, 9.
#[tokio::test]
async fn a_v1_payment_is_answered_in_v1() {
    let origin = Origin::site().await;
    let gateway = Gateway::start(&origin.url(), "sandbox", PAID).await;
    let challenge = get(gateway.address, "/paid/a", &[]).await;
    let body = challenge.json();
    assert_eq!(body["x402Version"], 1);
    assert_eq!(body["accepts"][0]["maxAmountRequired"], "10000");
    assert_eq!(body["accepts"][0]["network"], "base-sepolia");
    let payment = encode(&Payer::new().message_v1(&challenge.required()));
    let paid = get(gateway.address, "/paid/a", &[("X-PAYMENT", &payment)]).await;
    assert_eq!(paid.status, 200, "{}", paid.text());
    assert_eq!(paid.header("payment-response"), None);
    assert_eq!(paid.decoded("x-payment-response")["network"], "base-sepolia");
}

/// Compliance 48.
#[tokio::test]
async fn one_payment_buys_one_response_even_when_presented_concurrently() {
    let origin = Origin::site().await;
    let facilitator = Facilitator::start().await;
    let gateway = Gateway::start(&origin.url(), &facilitator.url(), PAID).await;
    let payment = Payer::new().pay(&get(gateway.address, "/paid/a", &[]).await.required());
    let address = gateway.address;
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let payment = payment.clone();
            tokio::spawn(async move { get(address, "/paid/a", &[("PAYMENT-SIGNATURE", &payment)]).await })
        })
        .collect();
    let mut responses = Vec::new();
    for task in tasks {
        responses.push(task.await.unwrap());
    }
    assert_eq!((served_among(&responses), origin.requests().len()), (1, 1));
    assert_eq!(facilitator.calls("/settle").len(), 1);
}

/// Compliance 38, 52.
#[tokio::test]
async fn an_origin_that_fails_is_not_paid_and_the_payment_stays_good() {
    for status in [301, 304, 404, 500] {
        let (count, facilitator) = (std::sync::atomic::AtomicUsize::new(0), Facilitator::start().await);
        let origin = Origin::start(move |_| match count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => Act::answer(status, &[("Settlement-Overrides", "{}")], ""),
            _ => Act::answer(200, &[], "at last"),
        })
        .await;
        let gateway = Gateway::start(&origin.url(), &facilitator.url(), PAID).await;
        let payment = Payer::new().pay(&get(gateway.address, "/paid/a", &[]).await.required());
        let failed = get(gateway.address, "/paid/a", &[("PAYMENT-SIGNATURE", &payment)]).await;
        assert_eq!(failed.status, status);
        assert_eq!(failed.header("payment-response"), None);
        assert_eq!(failed.header("settlement-overrides"), None);
        assert!(facilitator.calls("/settle").is_empty());
        let served = get(gateway.address, "/paid/a", &[("PAYMENT-SIGNATURE", &payment)]).await;
        assert_eq!((served.status, served.text().as_str()), (200, "at last"));
    }
}

/// Compliance 32, 39.
#[tokio::test]
async fn when_settlement_fails_the_content_is_withheld() {
    let origin = Origin::site().await;
    let facilitator = Facilitator::start().await;
    let gateway = Gateway::start(&origin.url(), &facilitator.url(), PAID).await;
    facilitator
        .will_settle([Act::json(200, &json!({"success": false, "errorReason": "insufficient_funds"}))]);
    let payment = Payer::new().pay(&get(gateway.address, "/paid/a", &[]).await.required());
    let refused = get(gateway.address, "/paid/a", &[("PAYMENT-SIGNATURE", &payment)]).await;
    assert_eq!(refused.status, 402);
    let receipt = refused.decoded("payment-response");
    assert_eq!(receipt["success"], false);
    assert_eq!(receipt["errorReason"], "insufficient_funds");
    assert_eq!(receipt["transaction"], "");
    assert_eq!(refused.header("cache-control"), Some("no-store"));
    assert!(!refused.text().contains("content of"));
}
