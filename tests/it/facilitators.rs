//! What facilitators answer, and what comes of it for the buyer.

use serde_json::{Value, json};

use crate::support::gateway::PAID;
use crate::support::shop::{IMPATIENT, Shop, assert_refused, assert_unresolved};
use crate::support::{Act, Origin, Payer, Response};

async fn impatient() -> Shop {
    Shop::with(Origin::site().await, IMPATIENT, PAID).await
}

#[track_caller]
fn assert_unavailable(response: &Response) -> u64 {
    assert_eq!(response.status, 503, "{}", response.text());
    assert_eq!(response.header("payment-required"), None, "nobody is invited to pay again");
    assert_eq!(response.header("payment-response"), None);
    assert_eq!(response.header("cache-control"), Some("no-store"));
    response.header("retry-after").unwrap().parse().unwrap()
}

/// Compliance 29, 30: a no is a no, whatever the status and the dialect.
#[tokio::test]
async fn a_facilitators_no_is_told_with_its_reason() {
    let shop = Shop::open().await;
    for (status, answer, reason) in [
        (200, json!({"isValid": false, "invalidReason": "insufficient_funds"}), "insufficient_funds"),
        (400, json!({"isValid": false, "invalidReason": "a", "invalidReasonDetails": "b"}), "a"),
        (
            412,
            json!({"isValid": false, "invalidReason": "permit2_allowance_required"}),
            "permit2_allowance_required",
        ),
        (500, json!({"isValid": false, "invalid_reason": "snake"}), "snake"),
        (200, json!({"isValid": false, "error": "old"}), "old"),
        (200, json!({"isValid": false}), "payment_invalid"),
        (200, json!({"isValid": false, "invalidReason": "at https://node.example/key"}), "payment_invalid"),
        (200, json!({"isValid": false, "invalidReason": "a\r\nSet-Cookie: b"}), "a??Set-Cookie: b"),
    ] {
        shop.facilitator.will_verify([Act::json(status, &answer)]);
        let refused = shop.buy("/paid/a").await;
        assert_refused(&refused, reason);
        assert_eq!(refused.header("payment-response"), None, "nothing was settled");
    }
    assert!(shop.origin.requests().is_empty());
    assert_eq!(shop.settlements(), 0);
}

/// Compliance 29.
#[tokio::test]
async fn a_v1_client_reads_who_would_have_paid() {
    let shop = Shop::open().await;
    let answer = json!({"isValid": false, "invalidReason": "insufficient_funds", "payer": "0xpayer"});
    shop.facilitator.will_verify([Act::json(200, &answer)]);
    let payment = Payer::new().message_v1(&shop.required("/paid/a").await);
    let refused = shop.present_v1("/paid/a", &payment).await;
    assert_refused(&refused, "insufficient_funds");
    assert_eq!(refused.json()["payer"], "0xpayer");
    assert_eq!(refused.json()["x402Version"], 1);
}

/// Compliance 52: what was refused may be presented again, once what was wrong is mended.
#[tokio::test]
async fn a_payment_that_was_refused_can_be_presented_again() {
    let shop = Shop::open().await;
    shop.facilitator.will_verify([Act::json(200, &json!({"isValid": false, "invalidReason": "not_yet"}))]);
    let payment = shop.payment("/paid/a").await;
    assert_refused(&shop.present("/paid/a", &payment).await, "not_yet");
    // A no is remembered for some seconds, in which it costs no call.
    assert_refused(&shop.present("/paid/a", &payment).await, "not_yet");
    assert_eq!(shop.verifications(), 1);
    let deadline = std::time::Instant::now() + crate::support::client::PATIENCE;
    while shop.present("/paid/a", &payment).await.status == 402 {
        assert!(std::time::Instant::now() < deadline, "it is refused for ever");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!((shop.settlements(), shop.origin.requests().len()), (1, 1));
}

/// Compliance 31.
#[tokio::test]
async fn without_a_usable_verification_nothing_is_served_and_nothing_charged() {
    let acts: [fn() -> Act; 10] = [
        || Act::answer(200, &[], "{\"isValid\": tr"),
        || Act::answer(200, &[], ""),
        || Act::json(200, &json!({"isValid": "true"})),
        || Act::json(200, &json!({"success": true})),
        || Act::json(200, &json!([true])),
        || Act::json(500, &json!({"isValid": true})),
        || Act::answer(500, &[("Content-Type", "text/html")], "<h1>Internal Server Error</h1>"),
        || Act::RawThenClose(b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{\"isValid\":".to_vec()),
        || Act::Hang,
        || Act::Close,
    ];
    for (number, act) in acts.into_iter().enumerate() {
        let shop = impatient().await;
        let payment = shop.payment("/paid/a").await;
        shop.facilitator.will_verify([act()]);
        let unavailable = shop.present("/paid/a", &payment).await;
        assert!(assert_unavailable(&unavailable) >= 1, "{number}");
        assert!(shop.origin.requests().is_empty(), "{number}");
        assert_eq!(shop.settlements(), 0, "{number}");
        assert!(!unavailable.text().contains("Internal"), "{number}");
        assert_eq!(shop.present("/paid/a", &payment).await.status, 200, "{number}: it is still good");
    }
}

/// Compliance 35.
#[tokio::test]
async fn a_facilitator_that_is_busy_says_when_to_come_back() {
    let shop = Shop::open().await;
    let payment = shop.payment("/paid/a").await;
    let busy = || Act::answer(429, &[("Retry-After", "17")], "{\"error\":\"slow down\"}");
    shop.facilitator.will_verify([busy()]);
    assert_eq!(assert_unavailable(&shop.present("/paid/a", &payment).await), 17);
    assert!(shop.origin.requests().is_empty());
    // The same at settlement: the door was not even opened, so the payment stays good.
    shop.facilitator.will_settle([busy()]);
    assert_eq!(assert_unavailable(&shop.present("/paid/a", &payment).await), 17);
    assert_eq!(shop.present("/paid/a", &payment).await.status, 200);
    assert_eq!(shop.settlements(), 2);
}

/// Compliance 30, 32, 39.
#[tokio::test]
async fn a_settlement_that_failed_is_told_in_every_dialect_and_nothing_is_served() {
    let shop = Shop::open().await;
    for (status, answer, reason, transaction) in [
        (200, json!({"success": false, "errorReason": "a", "transaction": "", "network": "x"}), "a", ""),
        (200, json!({"success": false, "error_reason": "snake"}), "snake", ""),
        (400, json!({"success": false, "errorReason": "bad"}), "bad", ""),
        (500, json!({"success": false, "error": "old", "txHash": null}), "old", ""),
        (200, json!({"success": false, "errorReason": "reverted", "transaction": "0x9"}), "reverted", "0x9"),
        (200, json!({"success": false}), "settlement_failed", ""),
    ] {
        shop.facilitator.will_settle([Act::json(status, &answer)]);
        let payment = shop.payment("/paid/a").await;
        let refused = shop.present("/paid/a", &payment).await;
        assert_refused(&refused, reason);
        let receipt = refused.decoded("payment-response");
        assert_eq!(receipt["success"], false);
        assert_eq!(receipt["errorReason"], reason);
        assert_eq!(receipt["transaction"], transaction);
        assert_eq!(receipt["network"], "eip155:84532");
        assert!(!refused.text().contains("content of"));
        assert_eq!(shop.present("/paid/a", &payment).await.status, 200, "told no, it is given back");
    }
}

/// Compliance 33.
#[tokio::test]
async fn a_settlement_that_is_pending_is_asked_about_exactly_once_with_the_same_words() {
    let shop = Shop::open().await;
    let pending = || {
        let answer = json!({"success": false, "errorReason": "settlement_pending", "transaction": "0xt"});
        Act::json(200, &answer)
    };
    shop.facilitator.will_settle([pending()]);
    let served = shop.buy("/paid/a").await;
    assert_eq!((served.status, &served.decoded("payment-response")["transaction"]), (200, &json!("0xabc")));
    let calls = shop.facilitator.calls("/settle");
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0].body, calls[1].body);

    let no = |reason: &str, transaction: &str| {
        let answer = json!({"success": false, "errorReason": reason, "transaction": transaction});
        Act::json(200, &answer)
    };
    shop.facilitator.will_settle([pending(), no("invalid_transaction_state", "0xt")]);
    assert_refused(&shop.buy("/paid/a").await, "invalid_transaction_state");
    assert_eq!(shop.settlements(), 4);
    // It was sent before: a no without proof does not say what became of it, nor does the failure of
    // another transaction.
    for (reason, transaction) in [("no", ""), ("invalid_transaction_state", "0xother")] {
        shop.facilitator.will_settle([pending(), no(reason, transaction)]);
        assert_unresolved(&shop.buy("/paid/a").await);
    }

    let shop = Shop::open().await;
    let payment = shop.payment("/paid/a").await;
    // The first drive in the background comes a second later, and waits here.
    let (_held, later) = pending().held();
    shop.facilitator.will_settle([pending(), pending(), later]);
    assert_unresolved(&shop.present("/paid/a", &payment).await);
    assert_unresolved(&shop.present("/paid/a", &payment).await);
    assert_eq!(shop.origin.requests().len(), 1);
}

/// Compliance 31, 34: an unknown outcome is not a failure, and never an invitation to pay again.
#[tokio::test]
async fn a_settlement_of_unknown_outcome_keeps_the_payment_and_withholds_the_content() {
    let acts: [fn() -> Act; 11] = [
        || Act::Hang,
        || Act::Close,
        || Act::answer(200, &[], "{\"success\": tr"),
        || Act::answer(502, &[], "<h1>Bad Gateway</h1>"),
        || Act::json(200, &json!({"success": "true"})),
        || Act::json(500, &json!({"success": true, "transaction": "0xt"})),
        || Act::json(200, &json!({"success": true, "transaction": "0xt", "network": "eip155:8453"})),
        || Act::json(200, &json!({"success": false, "errorReason": "settlement_pending"})),
        || Act::json(200, &json!({"success": false, "errorReason": "duplicate_settlement"})),
        || Act::json(200, &json!({"success": false, "errorReason": "odd", "transaction": "0xsent"})),
        || {
            let reason = "invalid_exact_evm_nonce_already_used";
            Act::json(200, &json!({"success": false, "errorReason": reason, "transaction": ""}))
        },
    ];
    for (number, act) in acts.into_iter().enumerate() {
        let shop = impatient().await;
        let payment = shop.payment("/paid/a").await;
        shop.facilitator.settles_so(move |_, _| act());
        for _ in 0..4 {
            assert_unresolved(&shop.present("/paid/a", &payment).await);
        }
        let v1 = json!({"x402Version": 1, "scheme": "exact", "network": "base-sepolia",
                        "payload": payment["payload"]});
        assert_unresolved(&shop.present_v1("/paid/a", &v1).await);
        assert_eq!((shop.verifications(), shop.origin.requests().len()), (1, 1), "{number}: nothing is new");
        shop.facilitator.recovers();
        assert_eq!(shop.buy("/paid/a").await.status, 200, "{number}: others are served");
    }
}

/// Compliance 34: also when the authorization has run out meanwhile. Once the outcome is known, what
/// was paid in time is delivered late.
#[tokio::test]
async fn a_payment_of_unknown_outcome_is_not_asked_for_anew_after_it_has_run_out() {
    let config = format!("{PAID}[limits]\norigin_time_seconds = 1\n");
    let shop = Shop::with(Origin::site().await, IMPATIENT, &config).await;
    let required = shop.required("/paid/a").await;
    let (accepted, end) = (&required["accepts"][0], now() + 10);
    let soon_over = || {
        let payer = Payer::new();
        let mut authorization = payer.authorization(accepted);
        authorization.validBefore = alloy_primitives::U256::from(end);
        json!({"x402Version": 2, "accepted": accepted, "payload": payer.payload(&authorization, accepted)})
    };
    let (lost, unused) = (soon_over(), soon_over());
    // It charges, and keeps losing its answers.
    shop.facilitator.settles_so(|facilitator, request| {
        facilitator.charge(request);
        Act::Close
    });
    assert_unresolved(&shop.present("/paid/a", &lost).await);
    while now() <= end {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let over = "invalid_exact_evm_payload_authorization_valid_before";
    assert_refused(&shop.present("/paid/a", &unused).await, over);
    assert_unresolved(&shop.present("/paid/a", &lost).await);
    assert_eq!((shop.origin.requests().len(), shop.facilitator.charged()), (1, 1));
    shop.facilitator.recovers();
    let served = shop.present_patiently("/paid/a", &lost).await;
    assert_eq!((served.status, served.text().as_str()), (200, "content of /paid/a"));
    shop.gateway.wait_until_idle().await;
    assert_refused(&shop.present("/paid/a", &lost).await, "duplicate_settlement");
    assert_eq!((shop.origin.requests().len(), shop.facilitator.charged()), (2, 1));
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// Compliance 30: what old facilitators leave out or call otherwise.
#[tokio::test]
async fn a_success_is_understood_in_every_dialect() {
    let shop = Shop::open().await;
    for (answer, transaction) in [
        (json!({"success": true, "transaction": "0x1", "network": "base-sepolia"}), "0x1"),
        (json!({"success": true, "txHash": "0x2", "networkId": "84532", "error": null}), "0x2"),
        (json!({"success": true}), ""),
        (json!({"success": true, "transaction": null, "payer": null, "network": ""}), ""),
    ] {
        shop.facilitator.will_settle([Act::json(200, &answer)]);
        let payer = Payer::new();
        let payment = payer.message(&shop.required("/paid/a").await);
        let served = shop.present("/paid/a", &payment).await;
        let expected = json!({"success": true, "transaction": transaction, "network": "eip155:84532",
                              "payer": payer.address().to_checksum(None)});
        assert_eq!((served.status, served.decoded("payment-response")), (200, expected));
    }
}

/// Compliance 47.
#[tokio::test]
async fn what_a_facilitator_tells_the_gateway_alone_is_not_passed_on() {
    let shop = Shop::open().await;
    let headers = [("EXTENSION-RESPONSES", "e30="), ("X-Internal", "secret"), ("Set-Cookie", "a=b")];
    shop.facilitator.will_verify([Act::answer(200, &headers, "{\"isValid\":true}")]);
    let settled =
        "{\"success\":true,\"transaction\":\"0x1\",\"extensionResponses\":{\"a\":1},\"debug\":\"x\"}";
    shop.facilitator.will_settle([Act::answer(200, &headers, settled)]);
    let served = shop.buy("/paid/a").await;
    for name in ["extension-responses", "x-internal", "set-cookie"] {
        assert_eq!(served.header(name), None);
    }
    let receipt: Value = served.decoded("payment-response");
    assert_eq!((receipt.get("extensionResponses"), receipt.get("debug")), (None, None));
}

/// Compliance 36: neither payments nor credentials go where an answer points.
#[tokio::test]
async fn a_redirect_to_another_host_is_not_followed() {
    let elsewhere = Origin::start(|_| Act::json(200, &json!({"isValid": true, "success": true}))).await;
    let location = format!("{}/verify", elsewhere.url());
    for status in [301, 302, 303, 307, 308] {
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        std::fs::write(&token, "secret").unwrap();
        let auth = format!("auth = {{ kind = \"bearer\", token_file = {token:?} }}\n");
        let shop = Shop::with(Origin::site().await, &auth, PAID).await;
        let redirect = || Act::answer(status, &[("Location", location.as_str())], "");
        let payment = shop.payment("/paid/a").await;
        shop.facilitator.will_verify([redirect()]);
        assert_unavailable(&shop.present("/paid/a", &payment).await);
        let location = location.clone();
        shop.facilitator.settles_so(move |_, _| Act::answer(status, &[("Location", &location)], ""));
        assert_unresolved(&shop.present("/paid/a", &payment).await);
        assert_unresolved(&shop.present("/paid/a", &payment).await);
        assert_eq!(shop.verifications(), 2);
    }
    assert!(elsewhere.requests().is_empty());
}
