//! The `payment-identifier` extension: a client names its request, and is charged for it once.

use serde_json::{Value, json};

use crate::support::payer::encode;
use crate::support::shop::{Shop, assert_in_use, assert_refused, assert_unresolved, served_among};
use crate::support::{Act, Connection, Facilitator, Gateway, LiveOrigin, Origin, Payer, Response, get};

const KEY: &str = "payment-identifier";
const ID: &str = "pay_0123456789abcdef";
const DUPLICATE: &str = "duplicate_settlement";

/// Routes of every kind: named by wish below `/paid/` and `/also/`, by force below `/named/`, not at
/// all below `/plain/`.
const ROUTES: &str = "payment_identifier = \"optional\"\n\
    [[routes]]\npath = \"/paid/*\"\nprice = \"$0.01\"\n\
    [[routes]]\npath = \"/also/*\"\nprice = \"$0.01\"\n\
    [[routes]]\npath = \"/named/*\"\nprice = \"$0.01\"\npayment_identifier = \"required\"\n\
    [[routes]]\npath = \"/plain/*\"\nprice = \"$0.01\"\npayment_identifier = \"none\"\n";

async fn open() -> Shop {
    Shop::with(Origin::site().await, "", ROUTES).await
}

/// A right payment of this payer for a path, with a name for the request.
async fn named(shop: &Shop, payer: &Payer, path: &str, id: &Value) -> Value {
    let required = shop.required(path).await;
    let mut payment = payer.message(&required);
    payment["extensions"] = required["extensions"].clone();
    payment["extensions"][KEY]["info"]["id"] = id.clone();
    payment
}

fn assert_error(response: &Response, status: u16, words: &str) {
    assert_eq!(response.status, status, "{}", response.text());
    let error = response.json()["error"].as_str().unwrap().to_owned();
    assert!(error.contains(words) && error.contains("nothing was charged"), "{error}");
    assert_eq!((response.header("payment-required"), response.header("payment-response")), (None, None));
    assert_eq!(response.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn a_name_is_asked_for_where_the_configuration_says_so() {
    let shop = open().await;
    let extension = |required: bool| {
        json!({"info": {"required": required}, "schema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "required": {"type": "boolean"},
                "id": {"type": "string", "minLength": 16, "maxLength": 128, "pattern": "^[a-zA-Z0-9_-]+$"},
            },
            "required": ["required"],
        }})
    };
    assert_eq!(shop.required("/paid/a").await["extensions"], json!({KEY: extension(false)}));
    assert_eq!(shop.required("/named/a").await["extensions"], json!({KEY: extension(true)}));
    assert_eq!(shop.required("/plain/a").await.get("extensions"), None);
    assert_eq!(shop.ask("/paid/a").await.json()["x402Version"], 1);
    // Who speaks v1 cannot name anything, so nothing is offered that would be refused.
    assert_eq!(shop.ask("/named/a").await.json(), json!({}));
}

/// Compliance 72.
#[tokio::test]
async fn a_payment_without_the_name_that_is_required_is_refused_before_it_costs_anything() {
    let shop = open().await;
    let payer = Payer::new();
    let required = shop.required("/named/a").await;
    let bare = payer.message(&required);
    let with = |extensions: Value| {
        let mut payment = bare.clone();
        payment["extensions"] = extensions;
        payment
    };
    let missing = [
        bare.clone(),
        with(json!({})),
        with(json!({"other": {"info": {"id": ID}}})),
        with(required["extensions"].clone()),
        with(json!({KEY: {"info": {"required": true, "id": null}}})),
    ];
    for payment in &missing {
        assert_error(&shop.present("/named/a", payment).await, 400, "requires a payment-identifier");
    }
    let longest = "x".repeat(128);
    let malformed: Vec<Value> =
        ["", "0123456789abcde", "0123456789abcde.", "0123456789abcde ", "0123456789abcdé"]
            .into_iter()
            .map(Value::from)
            .chain([format!("{longest}x").into(), 17.into(), true.into(), json!([ID]), json!({"id": ID})])
            .collect();
    for id in &malformed {
        for path in ["/named/a", "/paid/a"] {
            let payment = named(&shop, &payer, path, id).await;
            assert_error(&shop.present(path, &payment).await, 400, "16 to 128 letters");
        }
    }
    // What was asked for must be echoed as it was asked.
    let altered = with(json!({KEY: {"info": {"required": false, "id": ID}}}));
    assert_refused(&shop.present("/named/a", &altered).await, "extension_echo_mismatch");
    assert_eq!((shop.verifications(), shop.settlements(), shop.origin.requests().len()), (0, 0, 0));
    for id in ["0123456789abcdef", &longest, "AZaz09_-AZaz09_-"] {
        let payment = named(&shop, &payer, "/named/a", &id.into()).await;
        assert_eq!(shop.present("/named/a", &payment).await.status, 200, "{id}");
    }
}

#[tokio::test]
async fn where_no_name_is_asked_for_none_is_looked_at() {
    let shop = open().await;
    let payer = Payer::new();
    for id in [json!("x"), json!(ID), json!(ID)] {
        let mut payment = payer.message(&shop.required("/plain/a").await);
        payment["extensions"] = json!({KEY: {"info": {"required": true, "id": id}}});
        assert_eq!(shop.present("/plain/a", &payment).await.status, 200);
    }
    // Where they are optional, requests without a name are as good.
    for _ in 0..2 {
        let payment = payer.message(&shop.required("/paid/a").await);
        assert_eq!(shop.present("/paid/a", &payment).await.status, 200);
        let v1 = payer.message_v1(&shop.required("/paid/a").await);
        assert_eq!(shop.present_v1("/paid/a", &v1).await.status, 200);
    }
    assert_eq!(shop.settlements(), 7);
}

/// Compliance 72: same name, same request, no second charge.
#[tokio::test]
async fn a_request_that_is_sent_again_under_its_name_is_charged_once_whatever_pays_it() {
    let shop = open().await;
    let payer = Payer::new();
    let id = json!(ID);
    let first = shop.present("/paid/a", &named(&shop, &payer, "/paid/a", &id).await).await;
    assert_eq!(first.status, 200);
    let receipt = first.decoded("payment-response");
    shop.gateway.wait_until_idle().await;
    for _ in 0..2 {
        let again = shop.present("/paid/a", &named(&shop, &payer, "/paid/a", &id).await).await;
        assert_eq!((again.status, again.text().as_str()), (200, "content of /paid/a"));
        assert_eq!(again.decoded("payment-response"), receipt, "that of the payment that was charged");
        shop.gateway.wait_until_idle().await;
    }
    let used_up = shop.present("/paid/a", &named(&shop, &payer, "/paid/a", &id).await).await;
    assert_refused(&used_up, DUPLICATE);
    assert_eq!((shop.verifications(), shop.settlements(), shop.facilitator.charged()), (1, 1, 1));
    assert_eq!(shop.origin.requests().len(), 3);
}

/// A second POST could do twice what was bought once.
#[tokio::test]
async fn a_post_that_is_sent_again_under_its_name_is_neither_charged_nor_done_again() {
    let shop = open().await;
    let payer = Payer::new();
    let post = async || {
        let payment = encode(&named(&shop, &payer, "/paid/a", &ID.into()).await);
        shop.request("POST", "/paid/a", &[("PAYMENT-SIGNATURE", &payment)]).await
    };
    assert_eq!(post().await.status, 200);
    shop.gateway.wait_until_idle().await;
    assert_refused(&post().await, DUPLICATE);
    assert_eq!((shop.settlements(), shop.origin.requests().len()), (1, 1));
}

#[tokio::test]
async fn of_many_payments_for_one_named_request_at_once_one_is_charged() {
    let shop = open().await;
    let payer = Payer::new();
    let mut payments = Vec::new();
    for _ in 0..20 {
        payments.push(encode(&named(&shop, &payer, "/paid/a", &ID.into()).await));
    }
    let release = shop.facilitator.will_settle_when_told();
    let address = shop.gateway.address;
    let present =
        |payment: String| async move { get(address, "/paid/a", &[("PAYMENT-SIGNATURE", &payment)]).await };
    let tasks: Vec<_> = payments.drain(1..).map(|payment| tokio::spawn(present(payment))).collect();
    let first = tokio::spawn(present(payments.remove(0)));
    shop.facilitator.wait_for_settlements(1).await;
    release.send(()).unwrap();
    let mut responses = vec![first.await.unwrap()];
    for task in tasks {
        responses.push(task.await.unwrap());
    }
    // While one is served the others wait; once it is, up to two more may have it again.
    assert!((1..=3).contains(&served_among(&responses)));
    assert_eq!((shop.verifications(), shop.settlements()), (1, 1));
}

/// Compliance 72: same name, other request.
#[tokio::test]
async fn one_name_is_for_one_request() {
    let origin = LiveOrigin::start().await;
    let facilitator = Facilitator::start().await;
    let gateway = Gateway::start(&origin.url(), &facilitator.url(), ROUTES).await;
    let payer = Payer::new();
    let payment = async |path: &str| {
        let required = get(gateway.address, path, &[]).await.required();
        let mut payment = payer.message(&required);
        payment["extensions"] = required["extensions"].clone();
        payment["extensions"][KEY]["info"]["id"] = ID.into();
        encode(&payment)
    };
    let send = async |method: &str, path: &str| {
        let payment = payment(path).await;
        let mut client = Connection::open(gateway.address).await;
        let head = format!("{method} {path} HTTP/1.1\r\nHost: a\r\nPAYMENT-SIGNATURE: {payment}\r\n\r\n");
        client.write(head).await;
        client
    };
    let others = [("GET", "/paid/b"), ("GET", "/paid/a?x=1"), ("DELETE", "/paid/a")];
    let mut first = send("GET", "/paid/a").await;
    let mut exchange = origin.exchange().await;
    for (method, path) in others {
        let other = send(method, path).await.response().await;
        assert_error(&other, 409, "was used for another request");
    }
    assert_in_use(&send("GET", "/paid/a").await.response().await);
    exchange.answer(200, &[("Connection", "close")], "content").await;
    assert_eq!(first.response().await.status, 200);
    gateway.wait_until_idle().await;
    for (method, path) in others {
        let other = send(method, path).await.response().await;
        assert_error(&other, 409, "was used for another request");
    }
    assert!(!origin.has_connection().await);
    // Names are a route's own.
    let mut elsewhere = send("GET", "/also/a").await;
    origin.exchange().await.answer(200, &[("Connection", "close")], "content").await;
    assert_eq!(elsewhere.response().await.status, 200);
    assert_eq!(facilitator.calls("/settle").len(), 2);
}

#[tokio::test]
async fn nobody_can_occupy_the_names_of_another_payer() {
    let shop = open().await;
    for _ in 0..3 {
        let payer = Payer::new();
        let payment = named(&shop, &payer, "/paid/a", &ID.into()).await;
        assert_eq!(shop.present("/paid/a", &payment).await.status, 200);
    }
    let payment = named(&shop, &Payer::new(), "/paid/b", &ID.into()).await;
    assert_eq!(shop.present("/paid/b", &payment).await.status, 200);
    assert_eq!(shop.settlements(), 4);
}

#[tokio::test]
async fn what_bought_nothing_gives_its_name_back() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let origin = Origin::start(move |_| match count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        0 => Act::answer(500, &[], ""),
        _ => Act::answer(200, &[], "content"),
    })
    .await;
    let shop = Shop::with(origin, "", ROUTES).await;
    let payer = Payer::new();
    let buy = async |path: &str| {
        let payment = named(&shop, &payer, path, &ID.into()).await;
        shop.present(path, &payment).await.status
    };
    assert_eq!(buy("/paid/a").await, 500, "the origin failed");
    shop.facilitator.will_verify([Act::json(200, &json!({"isValid": false, "invalidReason": "poor"}))]);
    assert_eq!(buy("/paid/b").await, 402, "it was not good");
    shop.facilitator.will_settle([Act::json(200, &json!({"success": false, "errorReason": "poor"}))]);
    assert_eq!(buy("/paid/c").await, 402, "it did not settle");
    assert_eq!(buy("/paid/d").await, 200);
    assert_eq!(buy("/paid/a").await, 409, "now it is taken");
}

/// The worst moment to pay anew: nobody knows yet whether the first payment was charged.
#[tokio::test]
async fn a_named_request_whose_payment_is_unresolved_is_not_charged_with_another() {
    let shop = open().await;
    let payer = Payer::new();
    shop.facilitator.settles_so(|facilitator, request| {
        facilitator.charge(request);
        Act::Close
    });
    let first = named(&shop, &payer, "/paid/a", &ID.into()).await;
    assert_unresolved(&shop.present("/paid/a", &first).await);
    let second = named(&shop, &payer, "/paid/a", &ID.into()).await;
    assert_unresolved(&shop.present("/paid/a", &second).await);
    let elsewhere = named(&shop, &payer, "/paid/b", &ID.into()).await;
    assert_error(&shop.present("/paid/b", &elsewhere).await, 409, "was used for another request");
    shop.facilitator.recovers();
    let served = shop.present_patiently("/paid/a", &second).await;
    assert_eq!((served.status, served.text().as_str()), (200, "content of /paid/a"));
    assert_eq!(shop.facilitator.charged(), 1);
    assert_eq!(shop.verifications(), 1, "the second payment was not even looked at");
}

/// Whoever reads a payment on the chain has all of it but the name of its request.
#[tokio::test]
async fn what_is_owed_for_a_named_request_is_not_given_to_whoever_has_the_payment_alone() {
    for (path, without) in [("/paid/a", 402), ("/named/a", 400)] {
        let shop = open().await;
        let payment = named(&shop, &Payer::new(), path, &ID.into()).await;
        let (mut nameless, mut misnamed) = (payment.clone(), payment.clone());
        nameless["extensions"][KEY]["info"].as_object_mut().unwrap().remove("id");
        misnamed["extensions"][KEY]["info"]["id"] = "pay_fedcba9876543210".into();
        shop.facilitator.settles_so(|facilitator, request| {
            facilitator.charge(request);
            Act::Close
        });
        assert_unresolved(&shop.present(path, &payment).await);
        shop.facilitator.recovers();
        shop.gateway.wait_until_held("unresolved", 0).await;
        assert_refused(&shop.present(path, &misnamed).await, DUPLICATE);
        assert_eq!(shop.present(path, &nameless).await.status, without);
        assert_eq!(shop.origin.requests().len(), 1);
        let served = shop.present(path, &payment).await;
        assert_eq!((served.status, served.text()), (200, format!("content of {path}")));
        assert_eq!(shop.facilitator.charged(), 1);
    }
}
