//! Which payments are for what is offered, and what a price comes to.

use alloy_primitives::Address;
use serde_json::{Value, json};

use crate::support::gateway::{PAID, base};
use crate::support::payer::encode;
use crate::support::shop::{Shop, assert_refused};
use crate::support::{Act, Facilitator, Gateway, Origin, Payer, get};

const NO_MATCH: &str = "No matching payment requirements";

/// Compliance 18.
#[tokio::test]
async fn a_payment_for_other_terms_than_those_offered_is_refused_unseen() {
    let shop = Shop::open().await;
    let good = shop.payment("/paid/a").await;
    let other = Address::repeat_byte(7).to_string();
    for (member, value) in [
        ("amount", json!("9999")),
        ("amount", json!("10001")),
        ("amount", json!("010000")),
        ("amount", json!(10000)),
        ("amount", json!("1e4")),
        ("amount", json!("")),
        ("payTo", json!(other)),
        ("payTo", json!("")),
        ("asset", json!(other)),
        ("asset", json!("USDC")),
        ("network", json!("eip155:8453")),
        ("network", json!("base-sepolia")),
        ("scheme", json!("upto")),
        ("scheme", json!("Exact")),
        ("maxTimeoutSeconds", json!(301)),
        ("maxTimeoutSeconds", json!("300")),
        ("maxTimeoutSeconds", json!(300.0)),
    ] {
        let mut altered = good.clone();
        altered["accepted"][member] = value;
        assert_refused(&shop.present("/paid/a", &altered).await, NO_MATCH);
        altered["accepted"].as_object_mut().unwrap().remove(member);
        assert_refused(&shop.present("/paid/a", &altered).await, NO_MATCH);
    }
    assert_eq!(shop.verifications(), 0);
    assert!(shop.origin.requests().is_empty());
    assert_eq!(shop.present("/paid/a", &good).await.status, 200);
}

/// Compliance 18: v1 payments name a scheme and a network; nothing else of theirs counts.
#[tokio::test]
async fn a_v1_payment_on_another_network_is_refused_unseen() {
    let shop = Shop::open().await;
    let good = Payer::new().message_v1(&shop.required("/paid/a").await);
    for (member, value) in
        [("network", "base"), ("network", "eip155:84532"), ("network", "Base-Sepolia"), ("scheme", "upto")]
    {
        let mut altered = good.clone();
        altered[member] = value.into();
        assert_refused(&shop.present_v1("/paid/a", &altered).await, NO_MATCH);
    }
    assert_eq!(shop.verifications(), 0);
    assert_eq!(shop.present_v1("/paid/a", &good).await.status, 200);
}

/// Compliance 19, 25: what a client adds is tolerated, and reaches nobody as terms.
#[tokio::test]
async fn members_a_client_adds_do_no_harm_and_offered_ones_must_be_kept() {
    let shop = Shop::open().await;
    for (member, value) in
        [("name", json!("USD Coin")), ("name", json!(null)), ("version", json!("1")), ("version", json!(2))]
    {
        let mut altered = shop.payment("/paid/a").await;
        altered["accepted"]["extra"][member] = value;
        assert_refused(&shop.present("/paid/a", &altered).await, NO_MATCH);
        altered["accepted"]["extra"].as_object_mut().unwrap().remove(member);
        assert_refused(&shop.present("/paid/a", &altered).await, NO_MATCH);
    }
    assert_eq!(shop.verifications(), 0);
    let offered = shop.required("/paid/a").await["accepts"][0].clone();
    let mut generous = shop.payment("/paid/a").await;
    generous["accepted"]["extra"]["channelState"] = json!({"balance": "1"});
    generous["accepted"]["extra"]["assetTransferMethod"] = "permit2".into();
    generous["accepted"]["discount"] = "10000".into();
    assert_eq!(shop.present("/paid/a", &generous).await.status, 200);
    for call in ["/verify", "/settle"] {
        let seen: Value = serde_json::from_slice(&shop.facilitator.calls(call)[0].body).unwrap();
        assert_eq!(seen["paymentRequirements"], offered, "{call}");
    }
}

/// Compliance 20.
#[tokio::test]
async fn an_offer_without_extra_is_matched_by_every_way_to_echo_none() {
    let facilitator = Facilitator::supporting(json!({"kinds": [
        {"x402Version": 2, "scheme": "exact", "network": "aptos:1"},
    ]}))
    .await;
    let origin = Origin::site().await;
    let payee = format!("0x{}", "7a".repeat(32));
    let route = format!(
        "[[routes]]\npath = \"/paid/*\"\naccepts = [{{ network = \"aptos:1\", amount = \"5\", \
         asset = \"0x1::usdc\", pay_to = \"{payee}\" }}]\n"
    );
    let gateway = Gateway::start(&origin.url(), &facilitator.url(), &route).await;
    let accepted = get(gateway.address, "/paid/a", &[]).await.required()["accepts"][0].clone();
    assert_eq!((accepted.get("extra"), &accepted["payTo"]), (None, &json!(payee)));
    // The gateway does not understand this network, so a transaction buys one delivery.
    let settled = |number: usize| {
        let transaction = format!("0x{number}");
        Act::json(200, &json!({"success": true, "transaction": transaction, "network": "aptos:1"}))
    };
    facilitator.will_settle((0..4).map(settled).chain([settled(0)]));
    let echoes = [None, Some(json!({})), Some(json!(null)), Some(json!({"more": 1}))];
    for (number, extra) in echoes.into_iter().enumerate() {
        let mut accepted = accepted.clone();
        if let Some(extra) = extra {
            accepted["extra"] = extra;
        }
        let payment = json!({"x402Version": 2, "accepted": accepted, "payload": {"n": number}});
        let settled = json!({"success": true, "transaction": format!("0x{number}")});
        facilitator.will_settle([Act::json(200, &settled)]);
        let paid = get(gateway.address, "/paid/a", &[("PAYMENT-SIGNATURE", &encode(&payment))]).await;
        assert_eq!(paid.status, 200, "{}", paid.text());
    }
    let again = json!({"x402Version": 2, "accepted": accepted, "payload": {"n": 0, "varied": true}});
    let refused = get(gateway.address, "/paid/a", &[("PAYMENT-SIGNATURE", &encode(&again))]).await;
    assert_eq!((refused.status, &refused.required()["error"]), (402, &json!("duplicate_settlement")));
    let wrong = json!({"x402Version": 2, "accepted": {"extra": "none"}, "payload": {"n": 9}});
    let refused = get(gateway.address, "/paid/a", &[("PAYMENT-SIGNATURE", &encode(&wrong))]).await;
    assert_eq!(refused.status, 402);
}

/// Compliance 21.
#[tokio::test]
async fn letter_case_of_hex_addresses_does_not_matter() {
    let shop = Shop::open().await;
    for change in [str::to_lowercase, |text: &str| format!("0x{}", text[2..].to_uppercase())] {
        let mut payment = shop.payment("/paid/a").await;
        for member in ["asset", "payTo"] {
            payment["accepted"][member] = change(payment["accepted"][member].as_str().unwrap()).into();
        }
        for member in ["from", "to", "nonce"] {
            let authorization = &mut payment["payload"]["authorization"];
            authorization[member] = change(authorization[member].as_str().unwrap()).into();
        }
        assert_eq!(shop.present("/paid/a", &payment).await.status, 200, "{payment}");
    }
}

/// Compliance 23, 27: strict facilitators compare the two; typed ones read every member.
#[tokio::test]
async fn the_facilitator_is_asked_with_what_the_client_accepted_to_the_letter() {
    let shop = Shop::open().await;
    let mut payment = shop.payment("/paid/a").await;
    payment["accepted"]["payTo"] = payment["accepted"]["payTo"].as_str().unwrap().to_lowercase().into();
    assert_eq!(shop.present("/paid/a", &payment).await.status, 200);
    for call in ["/verify", "/settle"] {
        let request = &shop.facilitator.calls(call)[0];
        assert_eq!(
            (request.method.as_str(), request.header("content-type")),
            ("POST", Some("application/json"))
        );
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let expected = json!({"x402Version": 2, "paymentPayload": payment,
                              "paymentRequirements": payment["accepted"]});
        assert_eq!(body, expected, "{call}");
    }
}

/// Compliance 27.
#[tokio::test]
async fn a_v1_payment_is_presented_to_the_facilitator_in_v1() {
    let shop = Shop::open().await;
    let challenge = shop.ask("/paid/a?x=1").await;
    let payment = Payer::new().message_v1(&challenge.required());
    assert_eq!(shop.present_v1("/paid/a?x=1", &payment).await.status, 200);
    let offered = &challenge.json()["accepts"][0];
    for call in ["/verify", "/settle"] {
        let body: Value = serde_json::from_slice(&shop.facilitator.calls(call)[0].body).unwrap();
        assert_eq!(body["x402Version"], 1);
        assert_eq!(body["paymentPayload"], payment);
        assert_eq!(&body["paymentRequirements"], offered, "{call}");
    }
}

/// Compliance 24.
#[tokio::test]
async fn prices_are_exact_in_every_spelling() {
    let assets = "[assets.BIG]\nnetwork = \"base-sepolia\"\naddress = \"0x808456652fdb597867f38412077A9182bf77359F\"\n\
                  decimals = 18\nname = \"BIG\"\nversion = \"1\"\n";
    let cases = [
        ("\"$0.01\"", "10000"),
        ("\"0.01\"", "10000"),
        ("\"0.01 USDC\"", "10000"),
        ("\"$ 0.01\"", "10000"),
        ("\"$0.000001\"", "1"),
        ("\"$1\"", "1000000"),
        ("\"$123456789.123456\"", "123456789123456"),
        ("{ amount = \"10000\", asset = \"USDC\" }", "10000"),
        ("\"0.000000000000000001 BIG\"", "1"),
        ("\"1000000000.000000000000000001 BIG\"", "1000000000000000000000000001"),
    ];
    let mut routes = String::new();
    for (number, (price, _)) in cases.iter().enumerate() {
        routes.push_str(&format!("[[routes]]\npath = \"/{number}\"\nprice = {price}\n"));
    }
    let shop = Shop::with(Origin::site().await, "", &format!("{routes}{assets}")).await;
    for (number, (price, amount)) in cases.iter().enumerate() {
        let required = shop.required(&format!("/{number}")).await;
        assert_eq!(required["accepts"][0]["amount"], *amount, "{price}");
    }
}

/// Compliance 24.
#[test]
fn prices_that_cannot_be_meant_are_mistakes_of_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    let wrong =
        ["$0", "$0.00", "$0.0000001", "-1", "$", "1e3", "0.01 NOPE", "$0,01", "0.01 USDC USDC", "free"];
    let mut config = base("http://127.0.0.1:9", "sandbox");
    for (number, price) in wrong.iter().enumerate() {
        config.push_str(&format!("[[routes]]\npath = \"/{number}\"\nprice = \"{price}\"\n"));
    }
    std::fs::write(&file, &config).unwrap();
    let check = std::process::Command::new(env!("CARGO_BIN_EXE_tollgate")).arg("check").arg(&file).output();
    let check = check.unwrap();
    assert!(!check.status.success());
    let told = String::from_utf8_lossy(&check.stdout).into_owned() + &String::from_utf8_lossy(&check.stderr);
    for (number, price) in wrong.iter().enumerate() {
        assert!(told.contains(&format!("routes[{number}].price")), "{price:?}: {told}");
    }
}

/// Compliance 26.
#[tokio::test]
async fn an_advertised_extension_must_be_echoed_unaltered_or_not_at_all() {
    let advertised = json!({"bazaar": {"info": {"input": {"type": "http", "method": "GET"}, "list": [1, 2]},
                                       "schema": {"type": "object"}}});
    let extensions = "extensions.bazaar = { info = { input = { type = \"http\", method = \"GET\" }, \
                      list = [1, 2] }, schema = { type = \"object\" } }\n";
    let shop = Shop::with(Origin::site().await, "", &format!("{PAID}{extensions}")).await;
    assert_eq!(shop.required("/paid/a").await["extensions"], advertised);
    let present = async |extensions: Value| {
        let mut payment = shop.payment("/paid/a").await;
        payment["extensions"] = extensions;
        shop.present("/paid/a", &payment).await
    };
    let altered = |change: &dyn Fn(&mut Value)| {
        let mut echo = advertised.clone();
        change(&mut echo["bazaar"]);
        echo
    };
    for bad in [
        altered(&|bazaar| bazaar["info"]["input"]["type"] = "mcp".into()),
        altered(&|bazaar| bazaar["info"]["input"]["method"] = Value::Null),
        altered(&|bazaar| bazaar["info"]["list"] = json!([1, 2, 3])),
        altered(&|bazaar| bazaar["info"] = json!({})),
        json!({"bazaar": {}}),
        json!({"bazaar": null}),
    ] {
        assert_refused(&present(bad).await, "extension_echo_mismatch");
    }
    assert_eq!(shop.verifications(), 0);
    for good in [
        advertised.clone(),
        altered(&|bazaar| bazaar["info"]["output"] = json!({"added": true})),
        altered(&|bazaar| drop(bazaar.as_object_mut().unwrap().remove("schema"))),
        json!({}),
        json!({"unknown": {"info": 1}}),
    ] {
        assert_eq!(present(good.clone()).await.status, 200, "{good}");
    }
    assert_eq!(shop.buy("/paid/a").await.status, 200, "without any echo");
}

/// A payment that says what it is for buys nothing else; one that does not say buys what it is
/// presented for.
#[tokio::test]
async fn a_payment_made_out_for_another_page_is_refused() {
    let shop = Shop::open().await;
    let payment = shop.payment("/paid/a").await;
    for path in ["/paid/b", "/paid/a/", "/paid/a?x=1", "/paid/A"] {
        assert_refused(&shop.present(path, &payment).await, NO_MATCH);
    }
    let mut silent = shop.payment("/paid/a").await;
    silent.as_object_mut().unwrap().remove("resource");
    assert_eq!(shop.present("/paid/b", &silent).await.text(), "content of /paid/b");
    assert_eq!(shop.present("/paid/a", &payment).await.text(), "content of /paid/a");
}

/// Compliance 25: the gateway compares with its own price, whatever the facilitator would take.
#[tokio::test]
async fn the_dearer_of_two_pages_cannot_be_had_for_the_price_of_the_cheaper() {
    let routes = format!("{PAID}[[routes]]\npath = \"/dear/*\"\nprice = \"$1\"\n");
    let shop = Shop::with(Origin::site().await, "", &routes).await;
    let mut cheap = shop.payment("/paid/a").await;
    cheap.as_object_mut().unwrap().remove("resource");
    assert_refused(&shop.present("/dear/a", &cheap).await, NO_MATCH);
    let dear = shop.required("/dear/a").await;
    cheap["accepted"] = dear["accepts"][0].clone();
    let refused = shop.present("/dear/a", &cheap).await;
    assert_refused(&refused, "invalid_exact_evm_payload_authorization_value_mismatch");
    assert_eq!(shop.verifications(), 0);
    let failure = json!({"isValid": false, "invalidReason": "no"});
    shop.facilitator.will_verify([Act::json(200, &failure)]);
    assert_refused(&shop.buy("/dear/a").await, "no");
}
