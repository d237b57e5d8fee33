//! A payment buys one delivery, however often, wherever and in whatever spelling it is presented.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::gateway::PAID;
use crate::support::payer::encode;
use crate::support::shop::{Shop, assert_refused, served_among};
use crate::support::{Act, Facilitator, Gateway, Origin, Payer, get};

const DUPLICATE: &str = "duplicate_settlement";

/// The same JSON with its members in reverse order, with white space, and with every letter of its
/// texts written as an escape.
fn spelled_out(value: &Value) -> String {
    let text = |text: &str| -> String {
        let escapes: Vec<String> = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
        escapes.concat()
    };
    match value {
        Value::Object(members) => {
            let members: Vec<String> = members
                .iter()
                .rev()
                .map(|(name, value)| format!("\t\"{}\" : {}", text(name), spelled_out(value)))
                .collect();
            format!("{{\r\n{}\n }}", members.join(" ,\n"))
        }
        Value::String(string) => format!("\"{}\"", text(string)),
        other => other.to_string(),
    }
}

/// A payment without the member that says what it is for, so that it could be used anywhere.
async fn bearer(shop: &Shop, path: &str) -> Value {
    let mut payment = shop.payment(path).await;
    payment.as_object_mut().unwrap().remove("resource");
    payment
}

/// Compliance 14, 50.
#[tokio::test]
async fn no_spelling_of_a_used_payment_makes_a_new_one() {
    let shop = Shop::open().await;
    let payment = shop.payment("/paid/a").await;
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut changed = payment.clone();
        change(&mut changed);
        changed
    };
    let upper = |text: &Value| json!(format!("0x{}", text.as_str().unwrap()[2..].to_uppercase()));
    let signature = alloy_primitives::hex::decode(payment["payload"]["signature"].as_str().unwrap()).unwrap();
    let mut other_v = signature.clone();
    other_v[64] -= 27;
    let spellings = [
        encode(&payment),
        encode(&payment).trim_end_matches('=').to_owned(),
        STANDARD.encode(spelled_out(&payment)),
        STANDARD.encode(format!(" \n{payment}\t ")),
        STANDARD.encode(payment.to_string().replace('/', "\\/")),
        encode(&changed(&|payment| {
            for name in ["from", "to", "nonce"] {
                payment["payload"]["authorization"][name] = upper(&payment["payload"]["authorization"][name]);
            }
        })),
        encode(&changed(&|payment| {
            payment["payload"]["signature"] = upper(&payment["payload"]["signature"]);
        })),
        encode(&changed(&|payment| {
            payment["payload"]["signature"] = alloy_primitives::hex::encode_prefixed(&other_v).into();
        })),
        encode(&changed(&|payment| payment["payload"]["authorization"]["value"] = "00010000".into())),
        encode(&changed(&|payment| payment["payload"]["authorization"]["validAfter"] = 0.into())),
        encode(&changed(&|payment| payment["payload"]["authorization"]["more"] = "x".into())),
        encode(&changed(&|payment| payment["payload"]["more"] = json!([1]))),
        encode(&changed(&|payment| payment["accepted"]["extra"]["more"] = 1.into())),
        encode(&changed(&|payment| payment["more"] = Value::Null)),
        encode(&changed(&|payment| drop(payment.as_object_mut().unwrap().remove("resource")))),
        // Somebody else's signature over the same authorization, which only a facilitator could judge.
        encode(&changed(&|payment| {
            payment["payload"]["signature"] = format!("0x{}", "ab".repeat(99)).into();
        })),
    ];
    assert_eq!(shop.present_raw("/paid/a", &spellings[0]).await.status, 200);
    shop.gateway.wait_until_idle().await;
    for spelling in &spellings {
        assert_refused(&shop.present_raw("/paid/a", spelling).await, DUPLICATE);
    }
    let v1 = json!({"x402Version": 1, "scheme": "exact", "network": "base-sepolia",
                    "payload": payment["payload"]});
    assert_refused(&shop.present_v1("/paid/a", &v1).await, DUPLICATE);
    assert_eq!((shop.verifications(), shop.settlements(), shop.origin.requests().len()), (1, 1, 1));
}

/// Compliance 48, 50: also when all spellings come at once.
#[tokio::test]
async fn of_many_spellings_at_once_one_is_served() {
    let shop = Shop::open().await;
    let payment = shop.payment("/paid/a").await;
    let v1 = json!({"x402Version": 1, "scheme": "exact", "network": "base-sepolia",
                    "payload": payment["payload"]});
    let forms = [
        ("PAYMENT-SIGNATURE", encode(&payment)),
        ("PAYMENT-SIGNATURE", STANDARD.encode(spelled_out(&payment))),
        ("X-PAYMENT", encode(&v1)),
        ("X-PAYMENT", STANDARD.encode(spelled_out(&v1))),
    ];
    let address = shop.gateway.address;
    let tasks: Vec<_> = (0..60)
        .map(|number| {
            let (name, value) = forms[number % forms.len()].clone();
            tokio::spawn(async move { get(address, "/paid/a", &[(name, &value)]).await })
        })
        .collect();
    let mut responses = Vec::new();
    for task in tasks {
        responses.push(task.await.unwrap());
    }
    assert_eq!((served_among(&responses), shop.origin.requests().len()), (1, 1));
    assert_eq!((shop.verifications(), shop.settlements()), (1, 1));
}

/// Compliance 51.
#[tokio::test]
async fn a_used_payment_buys_nothing_anywhere_else() {
    let routes = format!(
        "{PAID}[[routes]]\npath = \"/also/*\"\nprice = \"$0.01\"\n\
         [[routes]]\npath = \"/upfront/*\"\nprice = \"$0.01\"\nsettle = \"before-request\"\n\
         [[routes]]\nhost = \"other.example\"\npath = \"/paid/*\"\nprice = \"$0.01\"\n"
    );
    let shop = Shop::with(Origin::site().await, "", &routes).await;
    let payment = bearer(&shop, "/paid/a").await;
    assert_eq!(shop.present("/paid/a", &payment).await.status, 200);
    shop.gateway.wait_until_idle().await;
    let header = encode(&payment);
    for (method, path, host) in [
        ("GET", "/paid/a", "shop.example"),
        ("GET", "/paid/b", "shop.example"),
        ("GET", "/paid/a?page=2", "shop.example"),
        ("GET", "/also/a", "shop.example"),
        ("GET", "/paid/a", "other.example"),
        ("POST", "/paid/a", "shop.example"),
        ("PUT", "/also/a", "shop.example"),
        ("OPTIONS", "/paid/a", "shop.example"),
    ] {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nPAYMENT-SIGNATURE: {header}\r\n\r\n"
        );
        let refused = crate::support::send(shop.gateway.address, request.as_bytes()).await;
        assert_refused(&refused, DUPLICATE);
    }
    let mut upfront = payment.clone();
    upfront["accepted"] = shop.required("/upfront/a").await["accepts"][0].clone();
    assert_refused(&shop.present("/upfront/a", &upfront).await, DUPLICATE);
    let head = shop.request("HEAD", "/paid/a", &[("PAYMENT-SIGNATURE", &header)]).await;
    assert_eq!((head.status, head.body.len()), (402, 0));
    assert_eq!((shop.origin.requests().len(), shop.settlements()), (1, 1));
}

/// Compliance 51: presented in several places at once, it is served in one.
#[tokio::test]
async fn a_payment_presented_in_several_places_at_once_is_served_in_one() {
    let routes = format!("{PAID}[[routes]]\npath = \"/also/*\"\nprice = \"$0.01\"\n");
    let shop = Shop::with(Origin::site().await, "", &routes).await;
    let header = encode(&bearer(&shop, "/paid/a").await);
    let address = shop.gateway.address;
    let tasks: Vec<_> = (0..40)
        .map(|number| {
            let (header, path) = (header.clone(), ["/paid/a", "/also/a", "/paid/b", "/also/b"][number % 4]);
            tokio::spawn(async move { get(address, path, &[("PAYMENT-SIGNATURE", &header)]).await.status })
        })
        .collect();
    let mut served = 0;
    for task in tasks {
        served += usize::from(task.await.unwrap() == 200);
    }
    assert_eq!((served, shop.origin.requests().len(), shop.settlements()), (1, 1, 1));
}

#[tokio::test]
async fn a_payment_on_a_free_page_is_neither_used_nor_passed_on() {
    let shop = Shop::open().await;
    let payment = encode(&bearer(&shop, "/paid/a").await);
    for headers in [
        vec![("PAYMENT-SIGNATURE", payment.as_str())],
        vec![("X-PAYMENT", &payment)],
        vec![("PAYMENT-SIGNATURE", &payment), ("X-PAYMENT", &payment)],
    ] {
        let free = get(shop.gateway.address, "/free/a", &headers).await;
        assert_eq!((free.status, free.header("payment-response")), (200, None));
    }
    for request in shop.origin.requests() {
        assert_eq!((request.header("payment-signature"), request.header("x-payment")), (None, None));
    }
    assert_eq!((shop.verifications(), shop.settlements()), (0, 0));
    assert_eq!(shop.present_raw("/paid/a", &payment).await.status, 200, "it is still good");
}

/// Compliance 52: whatever was not charged can be presented again, and then once.
#[tokio::test]
async fn a_payment_that_bought_nothing_is_still_good_for_one_delivery() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let origin = Origin::start(move |_| match count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        0 => Act::answer(500, &[("Connection", "close")], ""),
        1 => Act::Close,
        2 => Act::answer(302, &[("Location", "/")], ""),
        _ => Act::answer(200, &[], "content"),
    })
    .await;
    let shop = Shop::with(origin, "", PAID).await;
    let payment = shop.payment("/paid/a").await;
    for status in [500, 502, 302, 200] {
        assert_eq!(shop.present("/paid/a", &payment).await.status, status);
    }
    shop.gateway.wait_until_idle().await;
    assert_refused(&shop.present("/paid/a", &payment).await, DUPLICATE);
    assert_eq!(shop.settlements(), 1);
}

/// Payments of different payers, nonces, tokens and chains never stand for each other.
#[tokio::test]
async fn different_payments_are_all_served() {
    let facilitator = Facilitator::supporting(json!({"kinds": [
        {"x402Version": 2, "scheme": "exact", "network": "eip155:84532"},
        {"x402Version": 2, "scheme": "exact", "network": "eip155:8453"},
    ]}))
    .await;
    let origin = Origin::site().await;
    let route =
        "[[routes]]\npath = \"/paid/*\"\nnetworks = [\"base-sepolia\", \"base\"]\nprice = \"$0.01\"\n";
    let gateway = Gateway::start(&origin.url(), &facilitator.url(), route).await;
    let required = get(gateway.address, "/paid/a", &[]).await.required();
    let (one, other) = (Payer::new(), Payer::new());
    let nonce = alloy_primitives::B256::repeat_byte(7);
    let mut served = 0;
    for payer in [&one, &other] {
        for accepted in required["accepts"].as_array().unwrap() {
            for nonce in [nonce, alloy_primitives::B256::ZERO] {
                let mut authorization = payer.authorization(accepted);
                authorization.nonce = nonce;
                let payload = payer.payload(&authorization, accepted);
                let payment = json!({"x402Version": 2, "accepted": accepted, "payload": payload});
                let paid = get(gateway.address, "/paid/a", &[("PAYMENT-SIGNATURE", &encode(&payment))]).await;
                assert_eq!(paid.status, 200, "{}", paid.text());
                assert_eq!(paid.decoded("payment-response")["network"], accepted["network"]);
                served += 1;
            }
        }
    }
    assert_eq!((served, facilitator.calls("/settle").len()), (8, 8));
}
