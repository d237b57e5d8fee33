//! What is told of priced content to those who are not charged: nothing.

use crate::support::gateway::PAID;
use crate::support::shop::Shop;
use crate::support::{Act, Connection, Facilitator, Gateway, LiveOrigin, Origin, line_for};

const UPFRONT: &str =
    "[[routes]]\nname = \"paid\"\npath = \"/paid/*\"\nprice = \"$0.01\"\nsettle = \"before-request\"\n";
const CONDITIONS: [(&str, &str); 4] = [
    ("If-Match", "\"guess\""),
    ("If-None-Match", "*"),
    ("If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT"),
    ("If-Unmodified-Since", "Sun, 06 Nov 1994 08:49:37 GMT"),
];

/// Sends a request with these headers and, where something is to be paid, a right payment; returns
/// which of them the origin got.
async fn arrived(shop: &Shop, method: &str, path: &str, headers: &[(&str, &str)]) -> Vec<String> {
    let line = line_for(shop.gateway.address, path).await;
    let payment = line.trim_end().split_once(": ");
    let sent: Vec<(&str, &str)> = headers.iter().copied().chain(payment).collect();
    assert_eq!(shop.request(method, path, &sent).await.status, 200, "{method} {path}");
    let request = shop.origin.requests().pop().unwrap();
    let got = headers.iter().filter(|(name, _)| request.header(name).is_some());
    got.map(|(name, _)| (*name).to_owned()).collect()
}

/// A 304 or 412 would cost nothing, and tell each time anew which version of the page there is.
#[tokio::test]
async fn a_priced_page_cannot_be_asked_whether_it_has_changed() {
    let names = CONDITIONS.map(|(name, _)| name);
    for routes in [PAID, UPFRONT] {
        let shop = Shop::with(Origin::site().await, "", routes).await;
        for method in ["GET", "HEAD"] {
            assert_eq!(arrived(&shop, method, "/paid/a", &CONDITIONS).await, [""; 0], "{method}");
            assert_eq!(arrived(&shop, method, "/free/a", &CONDITIONS).await, names, "{method}");
        }
        // There it is what is written that they guard.
        for method in ["PUT", "POST", "PATCH", "DELETE"] {
            assert_eq!(arrived(&shop, method, "/paid/a", &CONDITIONS).await, names, "{method}");
        }
        let parts = [("Range", "bytes=0-9"), ("If-Range", "\"guess\"")];
        assert_eq!(
            arrived(&shop, "GET", "/paid/a", &parts).await,
            ["Range", "If-Range"],
            "charged as a whole"
        );
    }
}

#[tokio::test]
async fn a_preflight_asks_nothing_of_a_priced_page() {
    let shop = Shop::with(Origin::site().await, "", PAID).await;
    let mut headers = vec![("Origin", "https://app.example"), ("Access-Control-Request-Method", "GET")];
    headers.extend(CONDITIONS);
    headers.extend([("Range", "bytes=1000-"), ("If-Range", "\"guess\"")]);
    for (path, left) in [("/paid/a", 2), ("/free/a", headers.len())] {
        assert_eq!(shop.request("OPTIONS", path, &headers).await.status, 200);
        let request = shop.origin.requests().pop().unwrap();
        let got = headers.iter().filter(|(name, _)| request.header(name).is_some()).count();
        assert_eq!(got, left, "{path}");
    }
}

/// Sites put the headers of the content on these answers, too, and a range behind its end is answered
/// with its length.
#[tokio::test]
async fn an_answer_about_a_condition_or_a_range_says_nothing_of_the_content_unless_it_is_charged() {
    let told = [
        ("ETag", "\"secret\""),
        ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("Content-Range", "bytes */4711"),
        ("Set-Cookie", "secret=1"),
        ("X-Summary", "secret"),
        ("Content-Type", "text/plain"),
        ("Access-Control-Allow-Origin", "*"),
        ("Server", "scripted"),
    ];
    for status in [304, 412, 416] {
        let origin = Origin::start(move |_| Act::answer(status, &told, "refused")).await;
        let shop = Shop::with(origin, "", PAID).await;
        for method in ["GET", "PUT"] {
            let payment = line_for(shop.gateway.address, "/paid/a").await;
            let payment = payment.trim_end().split_once(": ").unwrap();
            let answer = shop.request(method, "/paid/a", &[payment]).await;
            assert_eq!(answer.status, status);
            let left = |name: &str| answer.header(name).is_some();
            for (name, _) in &told[..5] {
                assert!(!left(name), "{status} {name}: {answer:?}");
            }
            assert!(told[5..].iter().all(|(name, _)| left(name)), "{answer:?}");
            assert_eq!(answer.text(), if status == 304 { "" } else { "refused" });
        }
        assert_eq!(shop.settlements(), 0);
        let free = shop.ask("/free").await;
        assert!(
            told.iter().all(|(name, _)| free.header(name).is_some()),
            "free answers are the origin's affair"
        );
    }
}

/// Compliance 37: a client that waits for the 100 gets it, and nothing with it.
#[tokio::test]
async fn the_word_to_go_on_with_an_upload_carries_no_headers_of_the_site() {
    let origin = LiveOrigin::start().await;
    let facilitator = Facilitator::start().await;
    let gateway = Gateway::start(&origin.url(), &facilitator.url(), PAID).await;
    for (path, left) in [("/paid/a", None), ("/free/a", Some("secret"))] {
        let payment = line_for(gateway.address, path).await;
        let mut client = Connection::open(gateway.address).await;
        let head = "Host: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n";
        client.write(format!("POST {path} HTTP/1.1\r\n{head}{payment}\r\n")).await;
        let mut exchange = origin.exchange().await;
        exchange.write("HTTP/1.1 100 Continue\r\nX-Summary: secret\r\nSet-Cookie: secret=1\r\n\r\n").await;
        let word = client.head().await;
        assert_eq!((word.status, word.header("x-summary")), (100, left), "{word:?}");
        assert_eq!(word.header("set-cookie").is_some(), left.is_some());
        client.write("body").await;
        exchange.read_until("body").await;
        exchange.answer(200, &[], "content").await;
        assert_eq!(client.response().await.text(), "content");
    }
    assert_eq!(facilitator.calls("/settle").len(), 1);
}
