//! HTTP/2 on both sides: the same decisions, streams, trailers, gRPC.

use bytes::Bytes;

use crate::support::client::PATIENCE;
use crate::support::gateway::{PAID, base};
use crate::support::http2::{Http2, Http2Origin, piece, whole};
use crate::support::{
    Act, Connection, Facilitator, Gateway, LiveOrigin, Origin, get, line_for, payment_for, send,
};

const H2C: &str = "[[listeners]]\naddress = \"LISTEN\"\nh2c = true\n";
const PATHS: [&str; 2] = ["/free/a", "/paid/a"];

/// The header a request for a path needs over HTTP/2.
async fn fare(gateway: &Gateway, path: &str) -> Vec<(&'static str, String)> {
    if path.starts_with("/paid/") {
        vec![("payment-signature", payment_for(gateway.address, path).await)]
    } else {
        Vec::new()
    }
}

fn borrowed<'a>(headers: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    headers.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

/// A gateway that speaks HTTP/2 without TLS on both sides.
async fn both_sides() -> (Http2Origin, Facilitator, Gateway) {
    let origin = Http2Origin::start().await;
    let facilitator = Facilitator::start().await;
    let upstream = format!("h2c://{}", origin.address);
    let gateway = Gateway::start(&upstream, &facilitator.url(), &format!("{PAID}{H2C}")).await;
    (origin, facilitator, gateway)
}

/// Compliance 15.
#[tokio::test]
async fn a_listener_without_tls_answers_http2_and_http1() {
    let origin = Origin::site().await;
    let gateway = Gateway::start(&origin.url(), "sandbox", &format!("{PAID}{H2C}")).await;
    let mut client = Http2::open(gateway.address).await;
    assert_eq!(client.get("/free/a", &[]).await.response.text(), "content of /free/a");
    let challenge = client.get("/paid/a", &[]).await.response;
    assert_eq!(challenge.required(), get(gateway.address, "/paid/a", &[]).await.required());
    let fare = fare(&gateway, "/paid/a").await;
    let paid = client.get("/paid/a", &borrowed(&fare)).await.response;
    assert_eq!((paid.status, paid.text().as_str()), (200, "content of /paid/a"));
    assert_eq!(paid.decoded("payment-response")["success"], true);
    gateway.wait_until_idle().await;
    let again = client.get("/paid/a", &borrowed(&fare)).await.response;
    assert_eq!(again.required()["error"], "duplicate_settlement");
    let request = origin.requests().pop().unwrap();
    assert_eq!(request.header("host"), Some(gateway.address.to_string().as_str()));
    assert_eq!(request.header("payment-signature"), None);

    // Shorter than HTTP/2's preface, and beginning like it.
    for short in ["GET / HTTP/1.0\r\n\r\n", "PUT / HTTP/1.0\r\n\r\n"] {
        assert_eq!(send(gateway.address, short.as_bytes()).await.status, 200, "{short:?}");
    }
    let mut client = Connection::open(gateway.address).await;
    for path in ["/free/a", "/free/b"] {
        client.write(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        assert_eq!(client.response().await.text(), format!("content of {path}"));
    }
}

#[tokio::test]
async fn a_preface_in_pieces_is_understood() {
    let origin = Origin::site().await;
    let gateway = Gateway::start(&origin.url(), "sandbox", H2C).await;
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let mut wire = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    wire.set_nodelay(true).unwrap();
    // Every byte of what the client writes travels alone.
    tokio::spawn(async move {
        let (mut from_client, mut to_client) = tokio::io::split(theirs);
        let (mut from_gateway, mut to_gateway) = wire.split();
        let up = async {
            let mut byte = [0];
            while tokio::io::AsyncReadExt::read(&mut from_client, &mut byte).await.unwrap_or(0) > 0 {
                tokio::io::AsyncWriteExt::write_all(&mut to_gateway, &byte).await.unwrap();
            }
        };
        let _ = tokio::join!(up, tokio::io::copy(&mut from_gateway, &mut to_client));
    });
    let mut client = Http2::over(ours, "a.example").await;
    assert_eq!(client.get("/free/a", &[]).await.response.text(), "content of /free/a");
}

#[tokio::test]
async fn a_listener_for_http1_does_not_answer_http2() {
    let origin = Origin::site().await;
    let gateway = Gateway::start(&origin.url(), "sandbox", PAID).await;
    let mut client = Connection::open(gateway.address).await;
    client.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(client.rest().await.starts_with(b"HTTP/1.1 400 "));
    assert!(origin.requests().is_empty());
}

/// Compliance 55: a decision does not depend on the version of HTTP.
#[tokio::test]
async fn http2_requests_get_the_decision_of_http1() {
    let origin = Origin::site().await;
    let gateway = Gateway::start(&origin.url(), "sandbox", &format!("{PAID}{H2C}")).await;
    let mut client = Http2::open(gateway.address).await;
    for path in [
        "/paid/a",
        "/PAID/a",
        "/%70aid/a",
        "/paid/a/",
        "/x/../paid/a",
        "/./paid/a",
        "//paid/a",
        "/paid%2Fa",
        "/paid;x/a",
        "/paid/../free",
        "/free/../paid/a?x",
        "/%2e%2e/paid/a",
        "/paid%5Ca",
        "/paid/%00",
        "/free/a",
        "/free",
        "/paid",
        "/%zz",
        "/paid%252Fa",
        "/a%3Fb",
    ] {
        for method in ["GET", "POST", "DELETE", "OPTIONS", "BREW"] {
            let request = client.request(method, path, &[]);
            let (response, _) = client.start(request, true).await;
            let over_http2 = whole(response).await.unwrap().response.status;
            let ask = format!("{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            let over_http1 = send(gateway.address, ask.as_bytes()).await.status;
            assert_eq!(over_http2, over_http1, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn http2_requests_are_refused_for_the_same_reasons() {
    let origin = Origin::site().await;
    let limits = "[limits]\nheader_bytes = 8192\npayment_header_bytes = 2048\n";
    let gateway = Gateway::start(&origin.url(), "sandbox", &format!("{PAID}{limits}{H2C}")).await;
    let payment = payment_for(gateway.address, "/paid/a").await;
    let mut client = Http2::open(gateway.address).await;
    let twice = [("payment-signature", payment.as_str()), ("payment-signature", payment.as_str())];
    assert_eq!(client.get("/paid/a", &twice).await.response.status, 400);
    let both = [("payment-signature", payment.as_str()), ("x-payment", payment.as_str())];
    assert_eq!(client.get("/paid/a", &both).await.response.status, 400);
    let large = "A".repeat(2049);
    assert_eq!(client.get("/paid/a", &[("payment-signature", &large)]).await.response.status, 431);
    assert_eq!(client.get("/free/a", &[("host", "other.example")]).await.response.status, 400);
    let huge = "x".repeat(9000);
    assert_eq!(client.get("/free/a", &[("x", &huge)]).await.response.status, 431);
    assert!(origin.requests().is_empty());
    // The connection outlives them all.
    assert_eq!(client.get("/paid/a", &twice[..1]).await.response.status, 200);
}

#[tokio::test]
async fn an_http2_origin_is_asked_in_its_own_words() {
    let (origin, _facilitator, gateway) = both_sides().await;
    for path in PATHS {
        let path_and_query = format!("{path}/x%20y?q=%2F&z");
        let fare = fare(&gateway, &path_and_query).await;
        let mut headers = borrowed(&fare);
        headers.extend([
            ("cookie", "a=1"),
            ("x-repeated", "one"),
            ("x-repeated", "two"),
            ("x-402-payer", "evil"),
        ]);
        let mut client = Http2::open(gateway.address).await;
        let request = client.request("GET", &path_and_query, &headers);
        let (response, _) = client.start(request, true).await;
        let mut exchange = origin.exchange().await;
        assert_eq!(exchange.head.uri.path_and_query().unwrap(), path_and_query.as_str());
        assert_eq!(exchange.head.uri.authority().unwrap().as_str(), gateway.address.to_string());
        assert_eq!(exchange.header("payment-signature"), None);
        assert_ne!(exchange.header("x-402-payer"), Some("evil"));
        assert_eq!(exchange.header("x-402-payer").is_some(), path == "/paid/a");
        assert_eq!(exchange.header("cookie"), Some("a=1"));
        let repeated: Vec<_> = exchange.head.headers.get_all("x-repeated").iter().collect();
        assert_eq!(repeated, ["one", "two"]);
        exchange.answer(200, &[("x-from", "origin")], b"over http2");
        let served = whole(response).await.unwrap().response;
        assert_eq!((served.text().as_str(), served.header("x-from")), ("over http2", Some("origin")));
    }
}

#[tokio::test]
async fn http1_clients_are_served_by_http2_origins() {
    let (origin, _facilitator, gateway) = both_sides().await;
    for path in PATHS {
        let payment = line_for(gateway.address, path).await;
        let mut client = Connection::open(gateway.address).await;
        let body = "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        client
            .write(format!("POST {path} HTTP/1.1\r\nHost: a.example\r\nTE: trailers\r\n{payment}{body}"))
            .await;
        let mut exchange = origin.exchange().await;
        assert_eq!(exchange.head.uri.authority().unwrap().as_str(), "a.example");
        assert_eq!(piece(&mut exchange.body).await.unwrap().unwrap(), "hello");
        exchange.answer(200, &[], b"over http2");
        assert_eq!(client.response().await.text(), "over http2");
    }
    let mut client = Connection::open(gateway.address).await;
    client.write("GET /free/a HTTP/1.0\r\n\r\n").await;
    let mut exchange = origin.exchange().await;
    assert_eq!(exchange.head.uri.authority().unwrap().as_str(), origin.address.to_string());
    exchange.answer(200, &[("content-length", "4")], b"done");
    assert_eq!(client.response().await.text(), "done");
}

#[tokio::test]
async fn http2_clients_are_served_by_http1_origins() {
    let origin = LiveOrigin::start().await;
    let gateway = Gateway::start(&origin.url(), "sandbox", &format!("{PAID}{H2C}")).await;
    for path in PATHS {
        let fare = fare(&gateway, path).await;
        let mut client = Http2::open(gateway.address).await;
        let request = client.request("POST", path, &borrowed(&fare));
        let (response, mut stream) = client.start(request, false).await;
        stream.send_data(Bytes::from_static(b"first"), false).unwrap();
        let mut exchange = origin.exchange().await;
        assert!(exchange.read_until("first\r\n").await.ends_with("5\r\nfirst\r\n"));
        stream.send_data(Bytes::from_static(b"later"), true).unwrap();
        exchange.read_until("5\r\nlater\r\n0\r\n\r\n").await;
        exchange.write("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the end").await;
        drop(exchange);
        assert_eq!(whole(response).await.unwrap().response.text(), "to the end");
    }
}

#[tokio::test]
async fn messages_flow_both_ways_on_one_stream_and_trailers_follow() {
    let (origin, facilitator, gateway) = both_sides().await;
    for path in PATHS {
        let fare = fare(&gateway, path).await;
        let mut client = Http2::open(gateway.address).await;
        let request = client.request("POST", path, &borrowed(&fare));
        let (response, mut up) = client.start(request, false).await;
        let mut exchange = origin.exchange().await;
        let mut down = exchange.start(200, &[], false);
        let mut answer = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap();
        assert_eq!(answer.headers().contains_key("payment-response"), path == "/paid/a");
        for message in ["one", "two", "three"] {
            up.send_data(Bytes::from(message), false).unwrap();
            assert_eq!(piece(&mut exchange.body).await.unwrap().unwrap(), message);
            down.send_data(Bytes::from(message.to_uppercase()), false).unwrap();
            assert_eq!(piece(answer.body_mut()).await.unwrap().unwrap(), message.to_uppercase());
        }
        up.send_data(Bytes::new(), true).unwrap();
        assert!(piece(&mut exchange.body).await.is_none_or(|last| last.unwrap().is_empty()));
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-checksum", "abc".parse().unwrap());
        down.send_trailers(trailers).unwrap();
        assert!(piece(answer.body_mut()).await.is_none());
        let trailers = tokio::time::timeout(PATIENCE, answer.body_mut().trailers()).await.unwrap().unwrap();
        assert_eq!(trailers.unwrap()["x-checksum"], "abc", "{path}");
    }
    assert_eq!(facilitator.calls("/settle").len(), 1);
}

const GRPC: [(&str, &str); 2] = [("content-type", "application/grpc"), ("te", "trailers")];

#[tokio::test]
async fn a_grpc_call_is_charged_and_a_failed_one_is_not() {
    let (origin, facilitator, gateway) = both_sides().await;
    let fare = fare(&gateway, "/paid/service/Method").await;
    let mut headers = borrowed(&fare);
    headers.extend(GRPC);
    let mut client = Http2::open(gateway.address).await;

    // An error without a message is all header ("Trailers-Only").
    let request = client.request("POST", "/paid/service/Method", &headers);
    let (response, mut up) = client.start(request, false).await;
    up.send_data(Bytes::from_static(b"\0\0\0\0\x03abc"), true).unwrap();
    let mut exchange = origin.exchange().await;
    assert_eq!(exchange.header("te"), Some("trailers"));
    exchange.start(200, &[("content-type", "application/grpc"), ("grpc-status", "5")], true);
    let failed = whole(response).await.unwrap().response;
    assert_eq!((failed.status, failed.header("grpc-status")), (200, Some("5")));
    assert_eq!(failed.header("payment-response"), None);
    assert!(facilitator.calls("/settle").is_empty());

    // The same payment buys the call that succeeds.
    let request = client.request("POST", "/paid/service/Method", &headers);
    let (response, mut up) = client.start(request, false).await;
    up.send_data(Bytes::from_static(b"\0\0\0\0\x03abc"), true).unwrap();
    let mut exchange = origin.exchange().await;
    assert_eq!(piece(&mut exchange.body).await.unwrap().unwrap(), b"\0\0\0\0\x03abc".as_slice());
    let mut down = exchange.start(200, &[("content-type", "application/grpc")], false);
    down.send_data(Bytes::from_static(b"\0\0\0\0\x02ok"), false).unwrap();
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    down.send_trailers(trailers).unwrap();
    let served = whole(response).await.unwrap();
    assert_eq!(served.response.body, b"\0\0\0\0\x02ok");
    assert_eq!(served.response.decoded("payment-response")["success"], true);
    assert_eq!(served.trailers.unwrap()["grpc-status"], "0");
    assert_eq!(facilitator.calls("/settle").len(), 1);
}

#[tokio::test]
async fn a_refused_settlement_ends_its_stream_and_not_the_connection() {
    let (origin, facilitator, gateway) = both_sides().await;
    facilitator
        .will_settle([Act::json(200, &serde_json::json!({"success": false, "errorReason": "expired"}))]);
    let mut client = Http2::open(gateway.address).await;
    let first = fare(&gateway, "/paid/a").await;
    let request = client.request("GET", "/paid/a", &borrowed(&first));
    let (response, _) = client.start(request, true).await;
    let mut exchange = origin.exchange().await;
    let mut down = exchange.start(200, &[("x-secret", "secret")], false);
    down.send_data(Bytes::from_static(b"secret"), false).unwrap();
    let refused = whole(response).await.unwrap().response;
    assert_eq!((refused.status, refused.header("x-secret")), (402, None));
    assert_eq!(refused.decoded("payment-response")["errorReason"], "expired");
    // The origin is told that nobody reads on.
    let reset =
        tokio::time::timeout(PATIENCE, std::future::poll_fn(|context| down.poll_reset(context))).await;
    reset.expect("a reset in time").unwrap();

    let second = fare(&gateway, "/paid/a").await;
    let request = client.request("GET", "/paid/a", &borrowed(&second));
    let (response, _) = client.start(request, true).await;
    origin.exchange().await.answer(200, &[], b"content");
    assert_eq!(whole(response).await.unwrap().response.text(), "content");
}

#[tokio::test]
async fn an_answer_that_breaks_off_resets_its_stream() {
    let origin =
        Origin::start(|_| Act::RawThenClose(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello".to_vec()))
            .await;
    let gateway = Gateway::start(&origin.url(), "sandbox", &format!("{PAID}{H2C}")).await;
    let mut client = Http2::open(gateway.address).await;
    for path in PATHS {
        let fare = fare(&gateway, path).await;
        let request = client.request("GET", path, &borrowed(&fare));
        let (response, _) = client.start(request, true).await;
        let error = whole(response).await.expect_err("a reset");
        assert!(error.is_reset(), "{error}");
    }
    assert_eq!(client.get("/paid/a", &[]).await.response.status, 402);
}

/// Streams of one connection do not wait for each other's settlement.
#[tokio::test]
async fn a_stream_that_waits_for_settlement_holds_no_other_up() {
    let (origin, facilitator, gateway) = both_sides().await;
    let release = facilitator.will_settle_when_told();
    let mut client = Http2::open(gateway.address).await;
    let fare = fare(&gateway, "/paid/a").await;
    let request = client.request("GET", "/paid/a", &borrowed(&fare));
    let (waiting, _) = client.start(request, true).await;
    let mut exchange = origin.exchange().await;
    let mut down = exchange.start(200, &[], false);
    // More than the window: what is not wanted yet waits at the origin.
    down.send_data(Bytes::from(vec![b'x'; 8 * 1024 * 1024]), true).unwrap();
    facilitator.wait_for_settlements(1).await;
    for _ in 0..3 {
        let request = client.request("GET", "/free/a", &[]);
        let (response, _) = client.start(request, true).await;
        origin.exchange().await.answer(200, &[], b"at once");
        assert_eq!(whole(response).await.unwrap().response.text(), "at once");
    }
    release.send(()).unwrap();
    assert_eq!(whole(waiting).await.unwrap().response.body.len(), 8 * 1024 * 1024);
}

#[tokio::test]
async fn an_origin_that_only_speaks_http1_is_a_502_where_http2_is_demanded() {
    let origin = Origin::site().await;
    let upstream = format!("[upstreams.two]\nurl = \"{}\"\nhttp = \"2\"\n", origin.url());
    let gateway = Gateway::with_config(&format!("{}{PAID}{upstream}", base("two", "sandbox"))).await;
    for path in PATHS {
        let payment = line_for(gateway.address, path).await;
        let ask = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{payment}\r\n");
        assert_eq!(send(gateway.address, ask.as_bytes()).await.status, 502, "{path}");
    }
}
