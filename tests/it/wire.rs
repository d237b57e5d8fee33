//! What the 402 looks like, and which payment headers are read.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::{Value, json};

use crate::support::gateway::{PAID, base};
use crate::support::http2::Http2;
use crate::support::payer::encode;
use crate::support::shop::{Shop, assert_refused};
use crate::support::{Act, Facilitator, Gateway, Origin, Payer, get, send};

const ROUTE: &str = "[[routes]]\nname = \"paid\"\npath = \"/paid/*\"\n";

/// A gateway whose facilitator settles `exact` on several networks in both generations.
async fn on_many_networks(config: &str) -> (Facilitator, Gateway) {
    let names = ["base-sepolia", "base", "polygon", "avalanche"].map(|name| json!([1, name]));
    let ids = ["eip155:84532", "eip155:8453", "eip155:137", "eip155:42161", "eip155:43114"];
    let kinds: Vec<Value> = names
        .into_iter()
        .chain(ids.map(|id| json!([2, id])))
        .map(|kind| json!({"x402Version": kind[0], "scheme": "exact", "network": kind[1]}))
        .collect();
    let facilitator = Facilitator::supporting(json!({ "kinds": kinds })).await;
    let gateway = Gateway::start("http://127.0.0.1:9", &facilitator.url(), config).await;
    (facilitator, gateway)
}

fn networks(accepts: &Value) -> Vec<&str> {
    accepts.as_array().unwrap().iter().map(|entry| entry["network"].as_str().unwrap()).collect()
}

/// Compliance 1, 2, 3, 7.
#[tokio::test]
async fn one_challenge_speaks_both_generations() {
    let shop = Shop::open().await;
    let challenge = shop.ask("/paid/a%20b?q=%22").await;
    let header = challenge.header("payment-required").unwrap();
    let (text, padding) = header.split_at(header.trim_end_matches('=').len());
    assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(&byte)), "{header}");
    assert!(padding.len() <= 2 && header.len() % 4 == 0);
    let json = String::from_utf8(STANDARD.decode(header).unwrap()).unwrap();
    let required: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(required["x402Version"], 2);
    assert_eq!(required["error"], "Payment required");
    let url = "https://shop.example/paid/a%20b?q=%22";
    assert_eq!(required["resource"]["url"], url);
    assert_eq!(required["accepts"].as_array().unwrap().len(), 1);
    assert_eq!(challenge.header("content-type"), Some("application/json"));
    assert_eq!(challenge.header("cache-control"), Some("no-store"));
    assert_eq!(challenge.header("x-content-type-options"), Some("nosniff"), "it repeats what was asked for");
    let body = challenge.json();
    assert_eq!(body["x402Version"], 1);
    assert_eq!(body["error"], "X-PAYMENT header is required");
    assert_eq!(body["accepts"][0]["resource"], url);
    assert!(shop.origin.requests().is_empty());
}

/// Compliance 4, 6.
#[tokio::test]
async fn an_offer_has_what_strict_clients_need_and_nothing_else() {
    let route = format!("{ROUTE}price = \"$0.01\"\ndescription = \"An \\\"article\\\"\"\n");
    let shop = Shop::with(Origin::site().await, "", &route).await;
    let challenge = shop.ask("/paid/a").await;
    let offer = json!({
        "scheme": "exact",
        "network": "eip155:84532",
        "amount": "10000",
        "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
        "payTo": "0x209693Bc6afc0C5328bA36FaF03C514EF312287C",
        "maxTimeoutSeconds": 300,
        "extra": {"name": "USDC", "version": "2"},
    });
    assert_eq!(challenge.required()["accepts"], json!([offer]));
    let expected = json!({
        "scheme": "exact",
        "network": "base-sepolia",
        "maxAmountRequired": "10000",
        "resource": "https://shop.example/paid/a",
        "description": "An \"article\"",
        "mimeType": "",
        "payTo": "0x209693Bc6afc0C5328bA36FaF03C514EF312287C",
        "maxTimeoutSeconds": 300,
        "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
        "extra": {"name": "USDC", "version": "2"},
    });
    assert_eq!(challenge.json()["accepts"], json!([expected]));
    assert!(!challenge.text().contains("null"));
}

/// Compliance 5.
#[tokio::test]
async fn v1_clients_are_shown_one_offer_a_network_and_only_networks_all_of_them_know() {
    let route = "[[routes]]\nname = \"paid\"\npath = \"/paid/*\"\naccepts = [\n\
         { network = \"base-sepolia\", price = \"0.01 USDC\" },\n\
         { network = \"base-sepolia\", price = \"0.02 EURT\" },\n\
         { network = \"polygon\", price = \"$0.01\" },\n\
         { network = \"arbitrum\", price = \"$0.01\" },\n\
         { network = \"avalanche\", price = \"$0.01\" },\n]\n\
         [assets.EURT]\nnetwork = \"base-sepolia\"\naddress = \"0x808456652fdb597867f38412077A9182bf77359F\"\n\
         decimals = 6\nname = \"EURT\"\nversion = \"2\"\n";
    let (_facilitator, gateway) = on_many_networks(route).await;
    let challenge = get(gateway.address, "/paid/a", &[]).await;
    let all = ["eip155:84532", "eip155:84532", "eip155:137", "eip155:42161", "eip155:43114"];
    assert_eq!(networks(&challenge.required()["accepts"]), all);
    let body = challenge.json();
    assert_eq!(networks(&body["accepts"]), ["base-sepolia", "avalanche"]);
    assert_eq!(body["accepts"][0]["extra"]["name"], "USDC");

    let (_facilitator, gateway) =
        on_many_networks(&format!("v1_networks = [\"polygon\", \"base\"]\n{route}")).await;
    let body = get(gateway.address, "/paid/a", &[]).await.json();
    assert_eq!(networks(&body["accepts"]), ["polygon"]);
}

/// Compliance 3.
#[tokio::test]
async fn an_offer_that_v1_cannot_express_leaves_an_empty_object_as_body() {
    let config = format!("{ROUTE}network = \"arbitrum\"\nprice = \"$0.01\"\n");
    let (_facilitator, gateway) = on_many_networks(&config).await;
    let challenge = get(gateway.address, "/paid/a", &[]).await;
    assert_eq!(challenge.json(), json!({}));
    assert_eq!(networks(&challenge.required()["accepts"]), ["eip155:42161"]);
}

#[tokio::test]
async fn a_route_may_speak_one_generation_only() {
    for (v1, has_header, has_body) in [("false", true, false), ("\"only\"", false, true)] {
        let shop = Shop::with(Origin::site().await, "", &format!("{PAID}v1 = {v1}\n")).await;
        let challenge = shop.ask("/paid/a").await;
        assert_eq!(challenge.status, 402);
        assert_eq!(challenge.header("payment-required").is_some(), has_header, "{v1}");
        assert_eq!(challenge.json()["accepts"].is_array(), has_body, "{v1}");
        let open = Shop::open().await.required("/paid/a").await;
        let refused = if has_header {
            shop.present_v1("/paid/a", &Payer::new().message_v1(&open)).await
        } else {
            shop.present("/paid/a", &Payer::new().message(&open)).await
        };
        assert_eq!(refused.status, 402, "{v1}");
        assert!(shop.origin.requests().is_empty());
    }
}

/// Compliance 10.
#[tokio::test]
async fn a_payment_that_cannot_be_read_is_refused_and_nobody_is_asked() {
    let shop = Shop::open().await;
    let good = shop.payment("/paid/a").await;
    let encoded = |json: &str| STANDARD.encode(json);
    let deep = format!("{{\"x402Version\":2,\"payload\":{}{}}}", "[".repeat(3000), "]".repeat(3000));
    let mut cut = encode(&good);
    cut.truncate(cut.len() / 2);
    let unreadable = [
        "nonsense!".to_owned(),
        "%%%%".to_owned(),
        String::new(),
        "{\"x402Version\":2}".to_owned(),
        encoded("not JSON"),
        encoded("{\"x402Version\":2,"),
        encoded("[]"),
        encoded("null"),
        encoded("\"text\""),
        encoded(&deep),
        encoded(&format!("{good}{good}")),
        encoded(&format!("\u{feff}{good}")),
        encoded(&good.to_string().replace("exact", "ex\0act")),
        STANDARD.encode([good.to_string().as_bytes(), b" \xff"].concat()),
        STANDARD.encode(good.to_string().replace("exact", "ex?ct").replace('?', "\u{1}")),
        format!("{}, {}", encode(&good), encode(&good)),
        format!("{} {}", encode(&good), encode(&good)),
        cut,
        encoded("{\"x402Version\":2}"),
        encoded("{\"x402Version\":2,\"accepted\":{}}"),
        encoded("{\"x402Version\":2,\"accepted\":[],\"payload\":{}}"),
        encoded("{\"x402Version\":2,\"accepted\":{},\"payload\":null}"),
    ];
    for header in &unreadable {
        assert_refused(&shop.present_raw("/paid/a", header).await, "invalid_payload");
        let v1 = get(shop.gateway.address, "/paid/a", &[("X-PAYMENT", header)]).await;
        assert_eq!(v1.status, 402, "{header}");
    }
    let raw = b"GET /paid/a HTTP/1.1\r\nHost: a\r\nPAYMENT-SIGNATURE: e30=\0\r\n\r\n";
    assert_eq!(send(shop.gateway.address, raw).await.status, 400);
    let raw = b"GET /paid/a HTTP/1.1\r\nHost: a\r\nConnection: close\r\nPAYMENT-SIGNATURE: \xff\xfe\r\n\r\n";
    assert_eq!(send(shop.gateway.address, raw).await.status, 402);
    assert!(shop.origin.requests().is_empty());
    assert_eq!((shop.verifications(), shop.settlements()), (0, 0));
    assert_eq!(shop.present("/paid/a", &good).await.status, 200);
}

#[tokio::test]
async fn of_members_that_come_twice_the_facilitator_sees_the_one_that_was_checked() {
    let shop = Shop::open().await;
    let good = shop.payment("/paid/a").await;
    let twice = |first: &Value, second: &Value| {
        let (accepted, resource) = (&good["accepted"], &good["resource"]);
        STANDARD.encode(format!(
            "{{\"x402Version\":2,\"resource\":{resource},\"accepted\":{accepted},\"payload\":{first},\
             \"payload\":{second}}}"
        ))
    };
    let mut bad = good["payload"].clone();
    bad["authorization"]["value"] = "1".into();
    let refused = shop.present_raw("/paid/a", &twice(&good["payload"], &bad)).await;
    assert_refused(&refused, "invalid_exact_evm_payload_authorization_value_mismatch");
    assert_eq!(shop.verifications(), 0);
    assert_eq!(shop.present_raw("/paid/a", &twice(&bad, &good["payload"])).await.status, 200);
    for call in ["/verify", "/settle"] {
        let seen: Value = serde_json::from_slice(&shop.facilitator.calls(call)[0].body).unwrap();
        assert_eq!(seen["paymentPayload"]["payload"], good["payload"]);
    }
}

/// Compliance 11.
#[tokio::test]
async fn a_payment_of_the_other_generation_than_its_header_is_refused() {
    let shop = Shop::open().await;
    let required = shop.required("/paid/a").await;
    let (v1, v2) = (Payer::new().message_v1(&required), Payer::new().message(&required));
    assert_refused(&shop.present("/paid/a", &v1).await, "invalid_x402_version");
    assert_refused(&shop.present_v1("/paid/a", &v2).await, "invalid_x402_version");
    for version in [json!(null), json!("2"), json!(2.0), json!(-2), json!(3), json!([2])] {
        let mut other = v2.clone();
        other["x402Version"] = version;
        assert_refused(&shop.present("/paid/a", &other).await, "invalid_x402_version");
    }
    let mut missing = v2.clone();
    missing.as_object_mut().unwrap().remove("x402Version");
    assert_refused(&shop.present("/paid/a", &missing).await, "invalid_x402_version");
    assert!(shop.origin.requests().is_empty());
    assert_eq!(shop.verifications(), 0);
}

/// Compliance 12.
#[tokio::test]
async fn more_than_one_payment_is_a_bad_request() {
    let shop = Shop::open().await;
    let required = shop.required("/paid/a").await;
    let v2 = Payer::new().pay(&required);
    let v1 = encode(&Payer::new().message_v1(&required));
    for headers in [
        [("PAYMENT-SIGNATURE", v2.as_str()), ("payment-signature", v2.as_str())],
        [("X-PAYMENT", &v1), ("X-Payment", &v1)],
        [("PAYMENT-SIGNATURE", &v2), ("X-PAYMENT", &v1)],
        [("X-PAYMENT", &v1), ("PAYMENT-SIGNATURE", &v2)],
        [("PAYMENT-SIGNATURE", &v2), ("X-PAYMENT", "")],
    ] {
        let refused = get(shop.gateway.address, "/paid/a", &headers).await;
        assert_eq!((refused.status, refused.header("payment-required")), (400, None));
    }
    assert!(shop.origin.requests().is_empty());
    assert_eq!(shop.verifications(), 0);
    assert_eq!(shop.present_raw("/paid/a", &v2).await.status, 200);
}

/// Compliance 13.
#[tokio::test]
async fn a_payment_header_has_a_size_limit() {
    let shop = Shop::open().await;
    let mut payment = shop.payment("/paid/a").await;
    payment["padding"] = "x".repeat(9000).into();
    let header = encode(&payment);
    assert!((8 * 1024..16 * 1024).contains(&header.len()), "contract wallets need that much");
    assert_eq!(shop.present_raw("/paid/a", &header).await.status, 200);
    let too_large = shop.present_raw("/paid/a", &"A".repeat(16 * 1024 + 1)).await;
    assert_eq!(too_large.status, 431);
    assert_eq!(shop.origin.requests().len(), 1);
    let tight = format!("{PAID}[limits]\npayment_header_bytes = 1024\n");
    let shop = Shop::with(Origin::site().await, "", &tight).await;
    assert_eq!(shop.present_raw("/paid/a", &"A".repeat(1025)).await.status, 431);
    assert_refused(&shop.present_raw("/paid/a", &"A".repeat(1024)).await, "invalid_payload");
}

/// Compliance 14.
#[tokio::test]
async fn padding_is_optional_and_the_url_safe_alphabet_is_refused() {
    let shop = Shop::open().await;
    let mut payment = shop.payment("/paid/a").await;
    payment["note"] = ">>>???~~~".into();
    while payment.to_string().len() % 3 == 0 {
        payment["note"] = format!("{}!", payment["note"].as_str().unwrap()).into();
    }
    let padded = encode(&payment);
    let json = STANDARD.decode(&padded).unwrap();
    assert!(padded.ends_with('=') && padded.contains(['+', '/']));
    assert_refused(&shop.present_raw("/paid/a", &URL_SAFE.encode(&json)).await, "invalid_payload");
    let unpadded = padded.trim_end_matches('=');
    assert_eq!(shop.present_raw("/paid/a", unpadded).await.status, 200);
    shop.gateway.wait_until_idle().await;
    assert_refused(&shop.present_raw("/paid/a", &padded).await, "duplicate_settlement");
    assert_eq!(shop.settlements(), 1);
}

/// Compliance 15.
#[tokio::test]
async fn header_names_may_be_written_in_any_case() {
    let shop = Shop::open().await;
    for name in ["payment-signature", "Payment-Signature", "PAYMENT-signature"] {
        let payment = Payer::new().pay(&shop.required("/paid/a").await);
        let paid = get(shop.gateway.address, "/paid/a", &[(name, &payment)]).await;
        assert_eq!(paid.decoded("PAYMENT-RESPONSE")["success"], true);
    }
    for name in ["x-payment", "X-Payment"] {
        let payment = encode(&Payer::new().message_v1(&shop.required("/paid/a").await));
        let paid = get(shop.gateway.address, "/paid/a", &[(name, &payment)]).await;
        assert_eq!(paid.decoded("X-PAYMENT-RESPONSE")["success"], true);
    }
}

/// Compliance 9, 15.
#[tokio::test]
async fn both_generations_pay_over_http_2() {
    let (origin, facilitator) = (Origin::site().await, Facilitator::start().await);
    let listener = "[[listeners]]\naddress = \"LISTEN\"\nh2c = true\n";
    let config = format!("{}{PAID}{listener}", base(&origin.url(), &facilitator.url()));
    let gateway = Gateway::with_config(&config).await;
    let mut client = Http2::open(gateway.address).await;
    let challenge = client.get("/paid/a", &[]).await.response;
    let required = challenge.required();
    assert_eq!(challenge.json()["x402Version"], 1);
    let paid = client.get("/paid/a", &[("payment-signature", &Payer::new().pay(&required))]).await.response;
    assert_eq!((paid.status, paid.text().as_str()), (200, "content of /paid/a"));
    assert_eq!(paid.decoded("payment-response")["network"], "eip155:84532");
    assert_eq!(paid.header("x-payment-response"), None);
    let payment = encode(&Payer::new().message_v1(&required));
    let paid = client.get("/paid/a", &[("x-payment", &payment)]).await.response;
    assert_eq!(paid.decoded("x-payment-response")["network"], "base-sepolia");
    assert_eq!(paid.header("payment-response"), None);
    let twice = [("payment-signature", payment.as_str()), ("x-payment", payment.as_str())];
    assert_eq!(client.get("/paid/a", &twice).await.response.status, 400);
}

/// Compliance 9, 39: also a settlement that failed is answered in the generation of the payment.
#[tokio::test]
async fn a_v1_payment_that_does_not_settle_is_refused_in_v1() {
    let shop = Shop::open().await;
    let failure = json!({"success": false, "errorReason": "insufficient_funds", "payer": "0x9"});
    shop.facilitator.will_settle([Act::json(200, &failure)]);
    let payment = Payer::new().message_v1(&shop.required("/paid/a").await);
    let refused = shop.present_v1("/paid/a", &payment).await;
    assert_refused(&refused, "insufficient_funds");
    let receipt = json!({"success": false, "errorReason": "insufficient_funds", "payer": "0x9",
                         "transaction": "", "network": "base-sepolia"});
    assert_eq!(refused.decoded("x-payment-response"), receipt);
    assert_eq!(refused.header("payment-response"), None);
    assert_eq!(refused.json()["payer"], "0x9");
}
