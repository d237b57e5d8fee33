//! What reaches the client after payment, and what reaches the origin before.

use crate::support::gateway::{PAID, base};
use crate::support::http2::{Http2, Http2Origin, whole};
use crate::support::shop::{Shop, assert_refused, assert_unresolved};
use crate::support::{Act, Facilitator, Gateway, Origin, Payer, Response, payment_for};
use serde_json::json;

const UPFRONT: &str =
    "[[routes]]\nname = \"paid\"\npath = \"/paid/*\"\nprice = \"$0.01\"\nsettle = \"before-request\"\n";

/// An origin that answers everything with these headers.
async fn answering(status: u16, headers: &'static [(&'static str, &'static str)]) -> Origin {
    Origin::start(move |_| Act::answer(status, headers, "content")).await
}

fn values<'a>(response: &'a Response, name: &str) -> Vec<&'a str> {
    let same = |(found, _): &&(String, String)| found.eq_ignore_ascii_case(name);
    response.headers.iter().filter(same).map(|(_, value)| value.as_str()).collect()
}

/// Compliance 38.
#[tokio::test]
async fn what_the_origin_does_not_grant_is_passed_on_and_not_charged() {
    for status in [300, 302, 307, 400, 401, 402, 403, 404, 410, 429, 500, 503] {
        let headers: &[(&str, &str)] =
            &[("Settlement-Overrides", "{\"amount\":\"1\"}"), ("X-Why", "because"), ("Location", "/else")];
        let shop = Shop::with(answering(status, headers).await, "", PAID).await;
        let payment = shop.payment("/paid/a").await;
        for _ in 0..2 {
            let failed = shop.present("/paid/a", &payment).await;
            assert_eq!(failed.status, status);
            assert_eq!(
                (failed.header("payment-response"), failed.header("settlement-overrides")),
                (None, None)
            );
            assert_eq!((failed.header("x-why"), failed.header("location")), (Some("because"), Some("/else")));
            assert_eq!(failed.text(), "content");
        }
        assert_eq!(shop.settlements(), 0, "{status}");
    }
}

#[tokio::test]
async fn every_kind_of_success_is_charged_once() {
    for status in [200, 201, 202, 203, 204, 206, 226] {
        let origin =
            Origin::start(move |_| Act::answer(status, &[], if status == 204 { "" } else { "x" })).await;
        let shop = Shop::with(origin, "", PAID).await;
        let paid = shop.buy("/paid/a").await;
        assert_eq!((paid.status, &paid.decoded("payment-response")["success"]), (status, &json!(true)));
        assert_eq!(shop.settlements(), 1);
    }
}

/// Compliance 39: of the answer that was not paid for, nothing is left.
#[tokio::test]
async fn when_settlement_fails_no_header_of_the_origin_is_left() {
    let headers = [
        ("Set-Cookie", "secret=1"),
        ("ETag", "\"secret\""),
        ("X-Secret", "secret"),
        ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("Content-Type", "text/secret"),
        ("Content-Disposition", "secret"),
    ];
    let origin = Origin::start(move |_| Act::answer(200, &headers, "the secret content")).await;
    let shop = Shop::with(origin, "", PAID).await;
    let failure = json!({"success": false, "errorReason": "insufficient_funds", "transaction": ""});
    shop.facilitator.will_settle([Act::json(200, &failure)]);
    let refused = shop.buy("/paid/a").await;
    assert_refused(&refused, "insufficient_funds");
    assert!(!format!("{:?}{}", refused.headers, refused.text()).contains("secret"), "{refused:?}");
    assert_eq!(
        (refused.header("last-modified"), refused.header("content-type")),
        (None, Some("application/json"))
    );
}

/// Compliance 40.
#[tokio::test]
async fn paid_answers_are_kept_out_of_shared_caches() {
    for (before, after) in [
        ("public, max-age=60, s-maxage=600", "max-age=60, private"),
        ("no-store", "no-store, private"),
        ("private", "private"),
        ("PUBLIC, Immutable, proxy-revalidate", "Immutable, private"),
    ] {
        let headers = [
            ("Cache-Control", before),
            ("Surrogate-Control", "max-age=600"),
            ("CDN-Cache-Control", "max-age=600"),
            ("Cloudflare-CDN-Cache-Control", "max-age=600"),
            ("Netlify-CDN-Cache-Control", "max-age=600"),
            ("X-LiteSpeed-Cache-Control", "public, max-age=600"),
            ("X-Accel-Expires", "600"),
            ("Vary", "Accept-Encoding"),
            ("ETag", "\"kept\""),
        ];
        let origin = Origin::start(move |_| Act::answer(200, &headers, "content")).await;
        for routes in [PAID, UPFRONT] {
            let shop = Shop::with(origin.clone(), "", routes).await;
            let paid = shop.buy("/paid/a").await;
            assert_eq!(paid.decoded("payment-response")["success"], true);
            assert_eq!(values(&paid, "cache-control"), [after]);
            for name in [
                "surrogate-control",
                "cdn-cache-control",
                "cloudflare-cdn-cache-control",
                "netlify-cdn-cache-control",
                "x-litespeed-cache-control",
                "x-accel-expires",
            ] {
                assert_eq!(paid.header(name), None, "{name}");
            }
            let vary = values(&paid, "vary").join(", ").to_lowercase();
            for name in ["accept-encoding", "payment-signature", "x-payment"] {
                assert!(vary.contains(name), "{vary}");
            }
            assert_eq!(paid.header("etag"), Some("\"kept\""));
            let free = shop.ask("/free").await;
            assert_eq!(values(&free, "cache-control"), [before], "free answers are the origin's affair");
            assert_eq!(free.header("surrogate-control"), Some("max-age=600"));
        }
    }
    let plain = Shop::open().await;
    assert_eq!(values(&plain.buy("/paid/a").await, "cache-control"), ["private"]);
}

/// Compliance 40: errors of priced pages depend on the payment as well.
#[tokio::test]
async fn an_answer_that_was_not_charged_is_kept_out_of_shared_caches_too() {
    let shop = Shop::with(answering(404, &[("Cache-Control", "public, s-maxage=60")]).await, "", PAID).await;
    let failed = shop.buy("/paid/a").await;
    assert_eq!(values(&failed, "cache-control"), ["private"]);
    assert!(values(&failed, "vary").join(",").contains("PAYMENT-SIGNATURE"));
}

/// Compliance 41: settled first, the receipt is owed whatever the origin does then; and what the
/// origin failed to deliver is owed as well, without a second charge.
#[tokio::test]
async fn paid_in_advance_the_receipt_comes_with_every_answer() {
    let acts: [(fn() -> Act, u16); 5] = [
        (|| Act::answer(200, &[], "content"), 200),
        (|| Act::answer(500, &[], "broken"), 500),
        (|| Act::answer(404, &[("PAYMENT-RESPONSE", "forged")], "none"), 404),
        (|| Act::Close, 502),
        (|| Act::RawThenClose(b"nonsense\r\n\r\n".to_vec()), 502),
    ];
    for (act, status) in acts {
        let shop = Shop::with(Origin::start(move |_| act()).await, "", UPFRONT).await;
        let required = shop.required("/paid/a").await;
        let payment = Payer::new().message(&required);
        let paid = shop.present("/paid/a", &payment).await;
        assert_eq!(paid.status, status, "{}", paid.text());
        assert_eq!(values(&paid, "payment-response").len(), 1);
        assert_eq!(paid.decoded("payment-response")["transaction"], "0xabc");
        assert_eq!(shop.origin.only_request().header("x-402-transaction"), Some("0xabc"));
        shop.gateway.wait_until_idle().await;
        let again = shop.present("/paid/a", &payment).await;
        if status == 200 {
            assert_refused(&again, "duplicate_settlement");
        } else {
            assert_eq!(again.status, status, "{}", again.text());
            assert_eq!(again.header("payment-response"), paid.header("payment-response"));
            assert_eq!((shop.origin.requests().len(), shop.settlements()), (2, 1));
        }
        let v1 = shop.present_v1("/paid/a", &Payer::new().message_v1(&required)).await;
        assert_eq!((v1.status, v1.header("payment-response")), (status, None));
        assert_eq!(v1.decoded("x-payment-response")["network"], "base-sepolia");
        assert_eq!((shop.verifications(), shop.settlements()), (0, 2), "settling decides by itself");
    }
}

/// Compliance 41: and nothing reaches the origin that did not settle.
#[tokio::test]
async fn paid_in_advance_the_origin_never_works_unpaid() {
    let shop = Shop::with(Origin::site().await, crate::support::shop::IMPATIENT, UPFRONT).await;
    let payment = shop.payment("/paid/a").await;
    let failure = json!({"success": false, "errorReason": "insufficient_funds"});
    shop.facilitator.will_settle([Act::json(200, &failure)]);
    let refused = shop.present("/paid/a", &payment).await;
    assert_refused(&refused, "insufficient_funds");
    assert_eq!(refused.decoded("payment-response")["success"], false);
    shop.facilitator.settles_so(|_, _| Act::Hang);
    for _ in 0..2 {
        assert_unresolved(&shop.present("/paid/a", &payment).await);
    }
    assert!(shop.origin.requests().is_empty());
}

/// Compliance 41: old clients do not mind when it is settled, and new ones are told.
#[tokio::test]
async fn paid_in_advance_is_said_in_the_offer() {
    let shop = Shop::with(Origin::site().await, "", UPFRONT).await;
    let offer = shop.required("/paid/a").await["accepts"][0].clone();
    assert_eq!(offer["extra"]["paymentFlow"], "upfront");
    let usual = Shop::open().await.required("/paid/a").await["accepts"][0].clone();
    assert_eq!(usual["extra"].get("paymentFlow"), None, "the default is not on the wire");
}

const FORGED: &[(&str, &str)] = &[
    ("X-402-Payer", "0xevil"),
    ("X-402-Amount", "1000000"),
    ("x-402-transaction", "0xevil"),
    ("X_402_Payer", "0xevil"),
    ("X.402.Payer", "0xevil"),
    ("X!402~Transaction", "0xevil"),
    ("X-402-Anything", "0xevil"),
    ("PAYMENT-REQUIRED", "0xevil"),
    ("PAYMENT-RESPONSE", "0xevil"),
    ("X-PAYMENT-RESPONSE", "0xevil"),
    ("Settlement-Overrides", "{\"amount\":\"0xevil\"}"),
    ("EXTENSION-RESPONSES", "0xevil"),
    ("SIGN-IN-WITH-X", "0xevil"),
    ("X-HTTP-Method-Override", "DELETE-0xevil"),
    ("X-HTTP-Method", "DELETE-0xevil"),
    ("X-Method-Override", "DELETE-0xevil"),
    ("X-Original-URL", "/0xevil"),
    ("X-Rewrite-URL", "/0xevil"),
    ("X_Original_URL", "/0xevil"),
    ("X.Original.URL", "/0xevil"),
    ("X|Rewrite|URL", "/0xevil"),
    ("X-Replaced-Path", "/0xevil"),
    ("X-Host", "0xevil.example"),
    ("Forwarded", "for=a;host=0xevil.example;proto=0xevil"),
    ("X-Forwarded-Prefix", "/0xevil"),
];

/// Compliance 46, 57.
#[tokio::test]
async fn headers_by_which_a_client_could_deceive_the_origin_are_dropped_on_every_route() {
    let shop = Shop::open().await;
    let kept = [("Authorization", "Bearer kept"), ("Cookie", "kept=1"), ("X-Custom", "kept")];
    let payment = Payer::new().pay(&shop.required("/paid/a").await);
    let paid: Vec<(&str, &str)> = [FORGED, &kept, &[("PAYMENT-SIGNATURE", payment.as_str())]].concat();
    assert_eq!(shop.request("GET", "/paid/a", &paid).await.status, 200);
    let free: Vec<(&str, &str)> =
        [FORGED, &kept, &[("PAYMENT-SIGNATURE", "0xevil"), ("X-PAYMENT", "0xevil")]].concat();
    assert_eq!(shop.request("GET", "/free/a", &free).await.status, 200, "payments are not looked at");
    let requests = shop.origin.requests();
    assert_eq!(requests.len(), 2);
    for request in &requests {
        assert_eq!(request.method, "GET");
        assert!(!format!("{:?}", request.headers).contains("0xevil"), "{request:#?}");
        for (name, value) in kept {
            assert_eq!(request.header(name), Some(value));
        }
        for name in ["payment-signature", "x-payment", "settlement-overrides", "sign-in-with-x"] {
            assert_eq!(request.header(name), None, "{name}");
        }
    }
    assert_eq!(requests[0].header("x-402-amount"), Some("10000"));
    assert_eq!((requests[1].header("x-402-amount"), requests[1].header("x-402-payer")), (None, None));
    assert_eq!(requests[1].header("x-402-route"), Some("default"));
    assert_eq!((shop.verifications(), shop.settlements()), (1, 1));
}

/// Compliance 47.
#[tokio::test]
async fn an_origin_cannot_forge_receipts_on_priced_routes_and_may_sell_by_itself_on_free_ones() {
    let forged = &[
        ("PAYMENT-RESPONSE", "forged"),
        ("PAYMENT-RESPONSE", "forged"),
        ("X-PAYMENT-RESPONSE", "forged"),
        ("PAYMENT-REQUIRED", "forged"),
        ("Settlement-Overrides", "forged"),
        ("EXTENSION-RESPONSES", "forged"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
    ];
    let shop = Shop::with(answering(200, forged).await, "", PAID).await;
    let paid = shop.buy("/paid/a").await;
    assert!(!format!("{:?}", paid.headers).contains("forged"), "{paid:?}");
    assert_eq!(values(&paid, "payment-response").len(), 1);
    assert_eq!(paid.decoded("payment-response")["success"], true);
    assert_eq!(values(&paid, "set-cookie"), ["a=1", "b=2"], "cookies are part of what was bought");
    let free = shop.ask("/free").await;
    assert_eq!(
        (free.header("payment-required"), values(&free, "payment-response").len()),
        (Some("forged"), 2)
    );
    assert_eq!((free.header("settlement-overrides"), free.header("extension-responses")), (None, None));
    assert_eq!(values(&free, "set-cookie"), ["a=1", "b=2"]);
}

/// Compliance 47: also when nothing was charged.
#[tokio::test]
async fn an_origins_own_402_is_no_offer_of_the_gateway() {
    let shop = Shop::with(answering(402, &[("PAYMENT-REQUIRED", "forged")]).await, "", PAID).await;
    let passed = shop.buy("/paid/a").await;
    assert_eq!((passed.status, passed.header("payment-required")), (402, None));
    assert_eq!(passed.text(), "content");
}

/// Compliance 47: nor behind the body, where HTTP/2 has fields as well.
#[tokio::test]
async fn an_origin_cannot_forge_receipts_in_trailers() {
    let (origin, facilitator) = (Http2Origin::start().await, Facilitator::start().await);
    let config = format!(
        "{}{PAID}[[listeners]]\naddress = \"LISTEN\"\nh2c = true\n\
         [upstreams.two]\nurl = \"http://{}\"\nhttp = \"2\"\n",
        base("two", &facilitator.url()),
        origin.address
    );
    let gateway = Gateway::with_config(&config).await;
    let payment = payment_for(gateway.address, "/paid/a").await;
    let mut client = Http2::open(gateway.address).await;
    for (path, left) in [("/paid/a", vec!["x-checksum"]), ("/free/a", vec!["payment-response", "x-checksum"])]
    {
        let request = client.request("GET", path, &[("payment-signature", &payment)]);
        let (response, _) = client.start(request, true).await;
        let mut exchange = origin.exchange().await;
        let mut body = exchange.start(200, &[], false);
        body.send_data(bytes::Bytes::from_static(b"content"), false).unwrap();
        let names = ["payment-response", "settlement-overrides", "extension-responses", "x-checksum"];
        let forged = |name: &&str| (name.parse().unwrap(), "forged".parse().unwrap());
        body.send_trailers(names.iter().map(forged).collect()).unwrap();
        let answer = whole(response).await.unwrap();
        let trailers = answer.trailers.unwrap();
        let mut found: Vec<&str> = trailers.keys().map(http::HeaderName::as_str).collect();
        found.sort_unstable();
        assert_eq!((found, answer.response.text().as_str()), (left, "content"), "{path}");
    }
}
