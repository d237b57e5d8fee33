//! Web pages of other origins: preflights, and who may read what.

use crate::support::gateway::PAID;
use crate::support::shop::{IMPATIENT, Shop};
use crate::support::{Act, Origin, Response, get};

const APP: &str = "https://app.example";
const GET_ONLY: &str =
    "[[routes]]\nname = \"paid\"\npath = \"/paid/*\"\nmethod = \"GET\"\nprice = \"$0.01\"\n";
/// What browsers must be allowed to send, `Access-Control-Expose-Headers` included: x402 clients do.
const SENT: [&str; 5] =
    ["payment-signature", "x-payment", "sign-in-with-x", "content-type", "access-control-expose-headers"];
const EXPOSED: [&str; 3] = ["payment-required", "payment-response", "x-payment-response"];

/// An origin that answers preflights as many do: with its policy, and with content.
async fn site_that_allows(origin: &'static str, status: u16) -> Origin {
    Origin::start(move |request| {
        if request.method == "OPTIONS" {
            let headers = [
                ("Access-Control-Allow-Origin", origin),
                ("Access-Control-Allow-Methods", "GET, POST"),
                ("Access-Control-Allow-Headers", "Authorization"),
                ("Access-Control-Max-Age", "60"),
                ("Vary", "Origin"),
                ("Set-Cookie", "secret=1"),
                ("ETag", "\"secret\""),
                ("X-Secret", "secret"),
                ("PAYMENT-RESPONSE", "secret"),
            ];
            return Act::answer(status, &headers, if status == 204 { "" } else { "the secret content" });
        }
        let headers = [("Access-Control-Allow-Origin", origin), ("Access-Control-Expose-Headers", "X-Total")];
        Act::answer(200, &headers, "content")
    })
    .await
}

async fn preflight(shop: &Shop, path: &str, method: &str, origin: &str) -> Response {
    let headers = [
        ("Origin", origin),
        ("Access-Control-Request-Method", method),
        ("Access-Control-Request-Headers", "payment-signature,access-control-expose-headers"),
    ];
    shop.request("OPTIONS", path, &headers).await
}

fn lists(response: &Response, header: &str, wanted: &[&str]) -> bool {
    let value = response.header(header).unwrap_or_default().to_ascii_lowercase();
    let listed: Vec<&str> = value.split(',').map(str::trim).collect();
    wanted.iter().all(|name| listed.contains(name))
}

/// Compliance 16.
#[tokio::test]
async fn a_preflight_is_not_charged_and_lets_payments_through_where_the_origin_lets_the_page() {
    for routes in [PAID, GET_ONLY] {
        for status in [204, 200] {
            let shop = Shop::with(site_that_allows(APP, status).await, "", routes).await;
            let allowed = preflight(&shop, "/paid/a", "GET", APP).await;
            assert_eq!(allowed.status, status);
            assert_eq!(allowed.header("access-control-allow-origin"), Some(APP));
            assert!(lists(&allowed, "access-control-allow-headers", &SENT), "{allowed:?}");
            assert!(lists(&allowed, "access-control-allow-headers", &["authorization"]));
            assert_eq!(allowed.header("access-control-allow-methods"), Some("GET, POST"));
            assert_eq!(allowed.header("access-control-max-age"), Some("60"));
            assert_eq!(shop.origin.only_request().method, "OPTIONS");
            assert_eq!(shop.origin.only_request().header("origin"), Some(APP));
        }
    }
}

#[tokio::test]
async fn nothing_an_origin_serves_to_a_preflight_of_a_priced_page_gets_out() {
    for routes in [PAID, GET_ONLY] {
        let shop = Shop::with(site_that_allows(APP, 200).await, "", routes).await;
        let answer = preflight(&shop, "/paid/a", "GET", APP).await;
        assert_eq!((answer.status, answer.header("content-length")), (200, Some("0")));
        assert!(answer.body.is_empty());
        assert!(!format!("{:?}", answer.headers).contains("secret"), "{answer:?}");
    }
}

#[tokio::test]
async fn where_the_origin_allows_no_page_neither_does_the_gateway() {
    let origin = Origin::start(|request| match request.method.as_str() {
        "OPTIONS" => Act::answer(204, &[("Allow", "GET")], ""),
        _ => Act::answer(200, &[], "content"),
    })
    .await;
    let shop = Shop::with(origin, "", PAID).await;
    let refused = preflight(&shop, "/paid/a", "GET", APP).await;
    assert_eq!(refused.header("access-control-allow-origin"), None);
    assert_eq!(refused.header("access-control-allow-headers"), None);
    let paid = shop.buy("/paid/a").await;
    assert_eq!((paid.status, paid.header("access-control-expose-headers")), (200, None));
}

#[tokio::test]
async fn what_is_no_preflight_is_charged() {
    let shop = Shop::with(site_that_allows(APP, 200).await, "", PAID).await;
    for headers in [
        vec![],
        vec![("Origin", APP)],
        vec![("Access-Control-Request-Method", "GET")],
        vec![("Access-Control-Request-Method", "GET"), ("Access-Control-Request-Headers", "x")],
    ] {
        assert_eq!(shop.request("OPTIONS", "/paid/a", &headers).await.status, 402, "{headers:?}");
    }
    let headers = [("Origin", APP), ("Access-Control-Request-Method", "GET")];
    for method in ["GET", "POST", "options", "HEAD"] {
        assert_eq!(shop.request(method, "/paid/a", &headers).await.status, 402, "{method}");
    }
    assert!(shop.origin.requests().is_empty());
}

#[tokio::test]
async fn a_preflight_of_what_is_not_priced_is_the_origins_affair() {
    let routes = format!("{GET_ONLY}[[routes]]\npath = \"/closed/*\"\ndeny = true\n");
    let shop = Shop::with(site_that_allows(APP, 200).await, "", &routes).await;
    for (path, method) in [("/free/a", "GET"), ("/paid/a", "POST")] {
        let answer = preflight(&shop, path, method, APP).await;
        assert_eq!(answer.text(), "the secret content", "{method} {path}");
        assert_eq!(answer.header("access-control-allow-headers"), Some("Authorization"));
    }
    assert_eq!(preflight(&shop, "/closed/a", "GET", APP).await.status, 403);
    assert_eq!(shop.origin.requests().len(), 2);
}

/// Compliance 16: also where everything that is not listed is closed.
#[tokio::test]
async fn a_priced_page_of_a_closed_site_can_be_paid_for_by_web_pages() {
    let config = format!("default = \"deny\"\n{GET_ONLY}");
    let shop = Shop::with(site_that_allows(APP, 204).await, "", &config).await;
    let allowed = preflight(&shop, "/paid/a", "GET", APP).await;
    assert!(lists(&allowed, "access-control-allow-headers", &SENT), "{allowed:?}");
    assert_eq!(preflight(&shop, "/paid/a", "DELETE", APP).await.status, 403);
    assert_eq!(preflight(&shop, "/other", "GET", APP).await.status, 403);
}

/// Compliance 16, 17.
#[tokio::test]
async fn listed_origins_are_answered_by_the_gateway_itself() {
    let config = format!("{PAID}[cors]\nallow_origins = [\"{APP}\", \"http://localhost:3000\"]\n");
    let shop = Shop::with(Origin::site().await, "", &config).await;
    for origin in [APP, "http://localhost:3000"] {
        let allowed = preflight(&shop, "/paid/a", "PUT", origin).await;
        assert_eq!(allowed.status, 204);
        assert_eq!(allowed.header("access-control-allow-origin"), Some(origin));
        assert_eq!(allowed.header("access-control-allow-methods"), Some("PUT"));
        assert!(lists(&allowed, "access-control-allow-headers", &SENT));
        assert!(lists(&allowed, "vary", &["origin"]));
        let challenge = get(shop.gateway.address, "/paid/a", &[("Origin", origin)]).await;
        assert_eq!(challenge.header("access-control-allow-origin"), Some(origin));
        assert!(lists(&challenge, "access-control-expose-headers", &EXPOSED));
        assert!(lists(&challenge, "vary", &["origin"]));
    }
    for origin in ["https://evil.example", "https://app.example.evil.example", "null", "http://app.example"] {
        let refused = preflight(&shop, "/paid/a", "GET", origin).await;
        assert_eq!(refused.header("access-control-allow-origin"), None, "{origin}");
        let challenge = get(shop.gateway.address, "/paid/a", &[("Origin", origin)]).await;
        assert_eq!((challenge.status, challenge.header("access-control-allow-origin")), (402, None));
        assert!(lists(&challenge, "vary", &["origin"]));
    }
    assert!(shop.origin.requests().is_empty());
}

/// A page that must send more than a payment, such as credentials, can still pay.
#[tokio::test]
async fn a_listed_origin_may_send_the_headers_it_announces() {
    let config = format!("{PAID}[cors]\nallow_origins = \"{APP}\"\n");
    let shop = Shop::with(Origin::site().await, "", &config).await;
    let headers = [
        ("Origin", APP),
        ("Access-Control-Request-Method", "GET"),
        ("Access-Control-Request-Headers", "authorization,x-custom,payment-signature"),
    ];
    let allowed = shop.request("OPTIONS", "/paid/a", &headers).await;
    assert!(lists(&allowed, "access-control-allow-headers", &["authorization", "x-custom"]), "{allowed:?}");
    assert!(lists(&allowed, "access-control-allow-headers", &SENT));
}

/// Compliance 17: whatever the gateway answers itself can be read by the page that asked.
#[tokio::test]
async fn the_gateways_own_answers_expose_what_payments_need() {
    let origin = Origin::start(|request| match request.target.as_str() {
        "/paid/broken" => Act::Close,
        _ => Act::answer(200, &[], "content"),
    })
    .await;
    let routes = format!("{PAID}[[routes]]\npath = \"/closed\"\ndeny = true\n");
    let shop = Shop::with(origin, IMPATIENT, &routes).await;
    let from = |path: &'static str| {
        let address = shop.gateway.address;
        async move { get(address, path, &[("Origin", APP)]).await }
    };
    let challenge = from("/paid/a").await;
    let bad = from("/paid/%00").await;
    let denied = from("/closed").await;
    let broken = shop.buy("/paid/broken").await;
    let payment = shop.payment("/paid/a").await;
    shop.facilitator.will_verify([Act::Hang]);
    let unavailable = shop.present("/paid/a", &payment).await;
    shop.facilitator.settles_so(|_, _| Act::Hang);
    let unresolved = shop.present("/paid/a", &payment).await;
    let replayed = shop.present("/paid/a", &payment).await;
    let twice = [("PAYMENT-SIGNATURE", "a"), ("X-PAYMENT", "b")];
    let two = get(shop.gateway.address, "/paid/a", &twice).await;
    for (response, status) in [
        (challenge, 402),
        (bad, 400),
        (two, 400),
        (denied, 403),
        (broken, 502),
        (unavailable, 503),
        (unresolved, 503),
        (replayed, 503),
    ] {
        assert_eq!(response.status, status, "{}", response.text());
        assert_eq!(response.header("access-control-allow-origin"), Some("*"), "{status}");
        assert!(lists(&response, "access-control-expose-headers", &EXPOSED), "{status} {response:?}");
    }
}

/// Compliance 17.
#[tokio::test]
async fn a_paid_answer_keeps_the_origins_policy_and_exposes_the_receipt() {
    let shop = Shop::with(site_that_allows(APP, 204).await, "", PAID).await;
    let paid = shop.buy("/paid/a").await;
    assert_eq!(paid.header("access-control-allow-origin"), Some(APP));
    assert!(lists(&paid, "access-control-expose-headers", &EXPOSED));
    assert!(lists(&paid, "access-control-expose-headers", &["x-total"]));
    let free = shop.ask("/free").await;
    assert_eq!(free.header("access-control-expose-headers"), Some("X-Total"));
}

#[tokio::test]
async fn cors_can_be_left_out_of_the_gateways_answers() {
    let config = format!("{PAID}[cors]\nallow_origins = []\n");
    let shop = Shop::with(site_that_allows(APP, 204).await, "", &config).await;
    let challenge = get(shop.gateway.address, "/paid/a", &[("Origin", APP)]).await;
    assert_eq!(challenge.status, 402);
    assert!(!challenge.headers.iter().any(|(name, _)| name.to_lowercase().starts_with("access-control-")));
    assert!(lists(&preflight(&shop, "/paid/a", "GET", APP).await, "access-control-allow-headers", &SENT));
}
