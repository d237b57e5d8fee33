//! The page that browsers get instead of JSON, as HTTP. What it does in a browser is tested in one.

use crate::support::gateway::PAID;
use crate::support::payer::encode;
use crate::support::shop::{Shop, assert_refused};
use crate::support::{Act, Origin, Payer, Response, get};
use serde_json::{Value, json};

const HTML: (&str, &str) = ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8");
const MOZILLA: (&str, &str) = ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0");

async fn browse(shop: &Shop, path: &str) -> Response {
    get(shop.gateway.address, path, &[HTML, MOZILLA]).await
}

fn is_page(response: &Response) -> bool {
    response.header("content-type").is_some_and(|kind| kind.starts_with("text/html"))
}

/// What a browser takes for the offer on the page: the content of the JSON element up to its end.
fn embedded(page: &str) -> &str {
    let (_, after) = page.split_once("<script type=\"application/json\" id=\"payment-required\">").unwrap();
    let end = after.to_ascii_lowercase().find("</script").unwrap();
    &after[..end]
}

/// Compliance 59.
#[tokio::test]
async fn a_browser_gets_a_page_with_the_same_offer() {
    let shop = Shop::open().await;
    let page = browse(&shop, "/paid/a?x=1&y=2").await;
    assert!(is_page(&page), "{page:?}");
    let required = page.required();
    assert_eq!(required["resource"]["url"], "https://shop.example/paid/a?x=1&y=2");
    assert_eq!(serde_json::from_str::<Value>(embedded(&page.text())).unwrap(), required);
    assert_eq!(page.header("cache-control"), Some("no-store"));
    assert_eq!(page.header("vary"), Some("Accept, User-Agent"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert!(shop.origin.requests().is_empty());
}

/// Compliance 59.
#[tokio::test]
async fn only_what_asks_for_html_and_calls_itself_mozilla_is_a_browser() {
    let shop = Shop::open().await;
    for headers in [
        vec![],
        vec![HTML],
        vec![MOZILLA],
        vec![("Accept", "application/json"), MOZILLA],
        vec![("Accept", "*/*"), MOZILLA],
        vec![HTML, ("User-Agent", "curl/8.0")],
        vec![HTML, ("User-Agent", "")],
    ] {
        let challenge = get(shop.gateway.address, "/paid/a", &headers).await;
        assert!(!is_page(&challenge), "{headers:?}");
        assert_eq!(challenge.json()["x402Version"], 1, "{headers:?}");
        assert_eq!(challenge.header("vary"), Some("Accept, User-Agent"), "{headers:?}");
    }
}

#[tokio::test]
async fn a_route_for_v1_clients_alone_has_no_page() {
    let shop = Shop::with(Origin::site().await, "", &format!("{PAID}v1 = \"only\"\n")).await;
    let challenge = browse(&shop, "/paid/a").await;
    assert_eq!((challenge.status, is_page(&challenge)), (402, false));
    assert_eq!(challenge.json()["x402Version"], 1);
}

/// Compliance 59, 44.
#[tokio::test]
async fn a_browser_that_asks_for_the_head_alone_gets_no_page() {
    let shop = Shop::open().await;
    let head = shop.request("HEAD", "/paid/a", &[HTML, MOZILLA]).await;
    assert_eq!((head.status, head.body.len()), (402, 0));
    assert_eq!(head.required()["x402Version"], 2);
}

/// Compliance 60.
#[tokio::test]
async fn after_a_payment_that_failed_browsers_get_json_too() {
    let shop = Shop::open().await;
    let address = shop.gateway.address;
    let pay =
        async |header: &str| get(address, "/paid/a", &[HTML, MOZILLA, ("PAYMENT-SIGNATURE", header)]).await;
    let broken = pay("nonsense").await;
    assert!(!is_page(&broken));
    assert_refused(&broken, "invalid_payload");
    shop.facilitator.will_verify([Act::json(200, &json!({"isValid": false, "invalidReason": "poor"}))]);
    let invalid = pay(&encode(&shop.payment("/paid/a").await)).await;
    assert!(!is_page(&invalid));
    assert_refused(&invalid, "poor");
    shop.facilitator.will_settle([Act::json(200, &json!({"success": false, "errorReason": "poor"}))]);
    let failed = pay(&encode(&shop.payment("/paid/a").await)).await;
    assert!(!is_page(&failed));
    assert_refused(&failed, "poor");
    let payment = encode(&shop.payment("/paid/a").await);
    assert_eq!(pay(&payment).await.status, 200);
    shop.gateway.wait_until_idle().await;
    let used = pay(&payment).await;
    assert!(!is_page(&used));
    assert_refused(&used, "duplicate_settlement");
}

/// Compliance 61.
#[tokio::test]
async fn nothing_in_an_offer_breaks_out_of_the_page() {
    let hostile = "</script><script>alert(1)</script><!-- \u{2028}\u{2029} \" ' & {{nonce}} $& é";
    let description = serde_json::to_string(hostile).unwrap();
    let config = format!("{PAID}description = {description}\n");
    let shop = Shop::with(Origin::site().await, "", &config).await;
    let plain = Shop::open().await;
    for path in ["/paid/a", "/paid/%3C/script%3E?q=%3C/script%3E", "/paid/a?q='&$&{{nonce}}"] {
        let page = browse(&shop, path).await;
        assert!(is_page(&page), "{path}");
        let text = page.text();
        let json = embedded(&text);
        for forbidden in ['<', '>', '&', '\u{2028}', '\u{2029}'] {
            assert!(!json.contains(forbidden), "{forbidden:?} in {json}");
        }
        let required = page.required();
        assert_eq!(serde_json::from_str::<Value>(json).unwrap(), required);
        assert_eq!(required["resource"]["description"], hostile);
        assert_eq!(text.matches("</script").count(), 2, "the offer and the one script");
        let harmless = browse(&plain, "/paid/a").await.text();
        let without_nonce = |page: &str| -> String {
            page.replace(embedded(page), "")
                .split("nonce=\"")
                .map(|part| part.split_once('"').map_or(part, |(_, rest)| rest))
                .collect()
        };
        assert_eq!(without_nonce(&text).len(), without_nonce(&harmless).len(), "{path}");
    }
}

/// Compliance 61.
#[tokio::test]
async fn the_pages_policy_lets_nothing_run_but_its_own_script() {
    let shop = Shop::open().await;
    let mut nonces = std::collections::HashSet::new();
    for _ in 0..5 {
        let page = browse(&shop, "/paid/a").await;
        let policy = page.header("content-security-policy").unwrap();
        let directive = |name: &str| policy.split("; ").find_map(|part| part.strip_prefix(name)).unwrap();
        assert_eq!(directive("default-src "), "'none'");
        assert_eq!(directive("frame-ancestors "), "'none'");
        let scripts = directive("script-src ");
        assert!(!scripts.contains("unsafe"), "{scripts}");
        let nonce = scripts.split('\'').find_map(|part| part.strip_prefix("nonce-")).unwrap();
        assert!(page.text().contains(&format!("<script nonce=\"{nonce}\">")));
        nonces.insert(nonce.to_owned());
    }
    assert_eq!(nonces.len(), 5, "a nonce is used once");
}

/// Compliance 62: the request the page's script makes, with the offer it read from the page.
#[tokio::test]
async fn what_the_page_sends_buys_the_page() {
    let shop = Shop::open().await;
    let page = browse(&shop, "/paid/a?x=1").await;
    let offer: Value = serde_json::from_str(embedded(&page.text())).unwrap();
    let payment = Payer::new().pay(&offer);
    let headers = [
        ("Accept", "*/*"),
        MOZILLA,
        ("PAYMENT-SIGNATURE", payment.as_str()),
        ("Access-Control-Expose-Headers", "PAYMENT-RESPONSE,PAYMENT-REQUIRED"),
        ("Sec-Fetch-Mode", "cors"),
    ];
    let bought = get(shop.gateway.address, "/paid/a?x=1", &headers).await;
    assert_eq!((bought.status, bought.text().as_str()), (200, "content of /paid/a"));
    assert_eq!(bought.decoded("payment-response")["success"], true);
}
