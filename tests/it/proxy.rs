//! What an origin sees of a request, and a client of an answer, over HTTP/1.

use crate::support::gateway::{PAID, base};
use crate::support::{Act, Connection, Gateway, Origin, get, line_for, payment_for, send};

/// A free and a priced path; both must behave alike once the price is paid.
const PATHS: [&str; 2] = ["/free/a", "/paid/a"];

async fn site() -> (Origin, Gateway) {
    let origin = Origin::site().await;
    let gateway = Gateway::start(&origin.url(), "sandbox", PAID).await;
    (origin, gateway)
}

#[tokio::test]
async fn one_connection_serves_free_unpaid_and_paid_requests_in_turn() {
    let (origin, gateway) = site().await;
    let payment = line_for(gateway.address, "/paid/a").await;
    let mut client = Connection::open(gateway.address).await;
    client.write("GET /free/a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.response().await.text(), "content of /free/a");
    client.write("GET /paid/a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.response().await.status, 402);
    client.write("POST /paid/a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").await;
    assert_eq!(client.response().await.status, 402);
    client.write("HEAD /paid/a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.response_to_head().await.status, 402);
    client.write(format!("GET /paid/a HTTP/1.1\r\nHost: a\r\n{payment}\r\n")).await;
    let paid = client.response().await;
    assert_eq!((paid.status, paid.text().as_str()), (200, "content of /paid/a"));
    assert_eq!(paid.header("connection"), Some("keep-alive"));
    client.write("POST /free/b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").await;
    assert_eq!(client.response().await.text(), "content of /free/b");
    client.write("GET /free/c HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    let last = client.response().await;
    assert_eq!((last.text().as_str(), last.header("connection")), ("content of /free/c", Some("close")));
    assert_eq!(client.rest().await, b"");
    let seen: Vec<String> = origin.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(seen, ["/free/a", "/paid/a", "/free/b", "/free/c"]);
}

#[tokio::test]
async fn clients_of_http_1_0_are_served_without_chunks_and_without_a_host() {
    let origin = Origin::start(|_| {
        Act::Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_vec())
    })
    .await;
    let gateway = Gateway::start(&origin.url(), "sandbox", PAID).await;
    for path in PATHS {
        let payment = line_for(gateway.address, path).await;
        let mut client = Connection::open(gateway.address).await;
        client.write(format!("GET {path} HTTP/1.0\r\n{payment}\r\n")).await;
        let head = client.head().await;
        assert_eq!((head.status, head.header("transfer-encoding")), (200, None), "{path}");
        assert_eq!(client.rest().await, b"hello", "{path}");
    }
    let challenge = send(gateway.address, b"GET /paid/a HTTP/1.0\r\n\r\n").await;
    assert_eq!(challenge.required()["resource"]["url"], "https://shop.example/paid/a");
}

#[tokio::test]
async fn clients_of_http_1_0_may_keep_their_connection() {
    let (_origin, gateway) = site().await;
    let mut client = Connection::open(gateway.address).await;
    for path in ["/free/a", "/free/b"] {
        client.write(format!("GET {path} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")).await;
        let response = client.response().await;
        assert_eq!(response.header("connection"), Some("keep-alive"));
        assert_eq!(response.text(), format!("content of {path}"));
    }
}

/// Compliance 44: a price holds for every method.
#[tokio::test]
async fn every_method_reaches_the_origin_and_priced_ones_are_gated_alike() {
    let (origin, gateway) = site().await;
    let methods =
        ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "M-SEARCH", "get"];
    for method in methods {
        let before = origin.requests().len();
        let ask = |path: &str, payment: &str| {
            format!("{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{payment}\r\n")
        };
        let unpaid = send(gateway.address, ask("/paid/a", "").as_bytes()).await;
        assert_eq!(unpaid.required()["accepts"][0]["amount"], "10000", "{method}");
        assert_eq!(unpaid.body.is_empty(), method == "HEAD", "{method}");
        assert_eq!(origin.requests().len(), before, "{method}");
        for path in PATHS {
            let payment = line_for(gateway.address, path).await;
            let served = send(gateway.address, ask(path, &payment).as_bytes()).await;
            assert_eq!(served.status, 200, "{method} {path}");
            let request = origin.requests().pop().unwrap();
            assert_eq!((request.method.as_str(), request.target.as_str()), (method, path));
        }
    }
}

#[tokio::test]
async fn connect_never_reaches_the_origin() {
    let (origin, gateway) = site().await;
    let refused = send(gateway.address, b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n").await;
    assert_eq!(refused.status, 405);
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn what_a_client_sends_arrives_unchanged() {
    let (origin, gateway) = site().await;
    let sent = [
        ("Host", "shop.example"),
        ("Cookie", "session=a%20b; theme=\"dark\""),
        ("Authorization", "Bearer abc.def=="),
        ("X-Repeated", "one"),
        ("Accept", "text/html, */*;q=0.1"),
        ("X-Repeated", "two"),
        ("X-Empty", ""),
        ("Range", "bytes=0-9"),
        ("Accept-Encoding", "gzip, br"),
    ];
    let query = "?x=%2F%2f&y=a+b&&z=%00%zz&y=ä";
    for path in PATHS {
        let path = format!("{path}/caf%C3%A9/x%20y{query}");
        let payment = line_for(gateway.address, &path).await;
        let mut head = format!("GET {path} HTTP/1.1\r\n");
        for (name, value) in sent {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let response =
            send(gateway.address, format!("{head}{payment}Connection: close\r\n\r\n").as_bytes()).await;
        assert_eq!(response.status, 200, "{}", response.text());
        let request = origin.requests().pop().unwrap();
        assert_eq!(request.target, path);
        let arrived: Vec<(&str, &str)> = request
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .filter(|(name, _)| sent.iter().any(|(known, _)| known == name))
            .collect();
        let value = |list: &[(&str, &str)], wanted: &str| -> Vec<String> {
            list.iter().filter(|(name, _)| *name == wanted).map(|(_, value)| (*value).to_owned()).collect()
        };
        for (name, _) in sent {
            assert_eq!(value(&arrived, name), value(&sent, name), "{name} of {path}");
        }
    }
}

#[tokio::test]
async fn what_an_origin_answers_arrives_unchanged() {
    let headers = [
        ("Set-Cookie", "a=1; HttpOnly"),
        ("X-Repeated", "one"),
        ("Set-Cookie", "b=2"),
        ("X-Repeated", "two"),
        ("ETag", "W/\"x\""),
        ("Content-Encoding", "br"),
        ("Location", "../elsewhere"),
        ("Server", "scripted"),
    ];
    let origin = Origin::start(move |_| Act::answer(201, &headers, b"\x00\xff raw")).await;
    let gateway = Gateway::start(&origin.url(), "sandbox", PAID).await;
    for path in PATHS {
        let payment = line_for(gateway.address, path).await;
        let ask = format!("POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{payment}\r\n");
        let response = send(gateway.address, ask.as_bytes()).await;
        assert_eq!((response.status, response.body.as_slice()), (201, b"\x00\xff raw".as_slice()));
        let values = |name: &str| -> Vec<String> {
            let named = response.headers.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
            named.map(|(_, value)| value.clone()).collect()
        };
        assert_eq!(values("Set-Cookie"), ["a=1; HttpOnly", "b=2"]);
        assert_eq!(values("X-Repeated"), ["one", "two"]);
        for (name, value) in &headers[4..] {
            assert_eq!(values(name), [*value]);
        }
    }
}

/// Compliance 56.
#[tokio::test]
async fn the_origin_receives_the_path_that_was_decided_on() {
    let (origin, gateway) = site().await;
    for (sent, canonical) in [
        ("/free/./x/../a", "/free/a"),
        ("/fr%65e/%7Euser", "/free/~user"),
        ("/free/%c3%a9", "/free/%C3%A9"),
        ("/free/ü", "/free/%C3%BC"),
        ("/free//a/", "/free//a/"),
        ("/free/a%2Fb;v=1", "/free/a%2Fb;v=1"),
        ("/", "/"),
        ("?only=query", "/?only=query"),
        ("/free/a?", "/free/a"),
    ] {
        let target = if sent.starts_with('?') { format!("http://a{sent}") } else { sent.to_owned() };
        let ask = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert_eq!(send(gateway.address, ask.as_bytes()).await.status, 200, "{sent}");
        assert_eq!(origin.requests().pop().unwrap().target, canonical, "{sent}");
    }
    let payment = payment_for(gateway.address, "/PAID/a").await;
    let payment = format!("PAYMENT-SIGNATURE: {payment}\r\n");
    let ask = format!("GET /free/../PAID/%61 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{payment}\r\n");
    assert_eq!(send(gateway.address, ask.as_bytes()).await.status, 200);
    assert_eq!(origin.requests().pop().unwrap().target, "/PAID/a");
}

/// Compliance 57.
#[tokio::test]
async fn an_absolute_target_is_read_as_its_path_and_must_agree_with_the_host() {
    let (origin, gateway) = site().await;
    let ask = |target: &str, host: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").into_bytes()
    };
    let served = send(gateway.address, &ask("http://other.example/free/a?b", "other.example")).await;
    assert_eq!(served.status, 200);
    let request = origin.only_request();
    assert_eq!((request.target.as_str(), request.header("host")), ("/free/a?b", Some("other.example")));
    let gated = send(gateway.address, &ask("HTTP://other.example/paid/a", "other.example")).await;
    assert_eq!(gated.required()["resource"]["url"], "https://shop.example/paid/a");
    for (target, host) in [
        ("http://other.example/free/a", "shop.example"),
        ("http://user@shop.example/free/a", "shop.example"),
        ("free/a", "shop.example"),
        ("*", "shop.example"),
    ] {
        let refused = send(gateway.address, &ask(target, host)).await;
        assert_eq!(refused.status, 400, "{target} {host}");
    }
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn headers_of_one_hop_are_not_passed_on() {
    let (origin, gateway) = site().await;
    for path in PATHS {
        let payment = line_for(gateway.address, path).await;
        let ask = format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close, X-Hop, Keep-Alive\r\nX-Hop: 1\r\n\
             Keep-Alive: timeout=5\r\nProxy-Connection: close\r\nProxy-Authorization: Basic eDp5\r\n\
             TE: trailers\r\nTrailer: X-End\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nX-End: 1\r\n\
             {payment}\r\n"
        );
        assert_eq!(send(gateway.address, ask.as_bytes()).await.status, 200);
        let request = origin.requests().pop().unwrap();
        let hops = ["x-hop", "keep-alive", "proxy-connection", "proxy-authorization", "te", "trailer"];
        for name in hops.into_iter().chain(["upgrade", "http2-settings", "connection", "transfer-encoding"]) {
            assert_eq!(request.header(name), None, "{name} of {path}");
        }
        assert_eq!(request.header("x-end"), Some("1"));
    }
}

/// Compliance 46, 57: what a client names in `Connection` changes nothing about its payment.
#[tokio::test]
async fn connection_options_neither_hide_payments_nor_remove_what_the_gateway_says() {
    let (origin, gateway) = site().await;
    for trick in ["payment-signature", "x-402-payer, x-402-amount", "x-402-route", "x-real-ip"] {
        let payment = line_for(gateway.address, "/paid/a").await;
        let ask = format!("GET /paid/a HTTP/1.1\r\nHost: a\r\nConnection: close, {trick}\r\n{payment}\r\n");
        assert_eq!(send(gateway.address, ask.as_bytes()).await.status, 200, "{trick}");
        let request = origin.requests().pop().unwrap();
        assert_eq!(request.header("payment-signature"), None);
        assert!(request.header("x-402-payer").is_some(), "{trick}");
        assert_eq!(request.header("x-402-amount"), Some("10000"), "{trick}");
        assert_eq!(request.header("x-402-route"), Some("paid"), "{trick}");
        assert_eq!(request.header("x-real-ip"), Some("127.0.0.1"), "{trick}");
    }
    let unpaid = get(gateway.address, "/paid/a", &[("Connection", "payment-signature")]).await;
    assert_eq!(unpaid.status, 402);
    let served = origin.requests().len();
    let refused = get(gateway.address, "/free/a", &[("Connection", "x-forwarded-for")]).await;
    assert_eq!((refused.status, origin.requests().len()), (400, served));
}

/// Compliance 46.
#[tokio::test]
async fn clients_cannot_speak_for_the_gateway() {
    let (origin, gateway) = site().await;
    for path in PATHS {
        let payment = line_for(gateway.address, path).await;
        let ask = format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-402-Payer: 0xevil\r\n\
             x_402_payer: 0xevil\r\nX-402-Transaction: 0xevil\r\nX-402-Anything: 1\r\nX-402-Route: other\r\n\
             X-Real-IP: 203.0.113.9\r\nX-Original-URL: /admin\r\nX-HTTP-Method-Override: DELETE\r\n\
             PAYMENT-RESPONSE: e30=\r\n{payment}\r\n"
        );
        assert_eq!(send(gateway.address, ask.as_bytes()).await.status, 200);
        let request = origin.requests().pop().unwrap();
        let told: Vec<_> = request
            .headers
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase().replace('_', "-"), value.as_str()))
            .filter(|(name, _)| name.starts_with("x-402-") || name.starts_with("payment"))
            .collect();
        assert!(told.iter().all(|(_, value)| !value.contains("evil")), "{told:?}");
        assert!(!told.iter().any(|(name, _)| name == "x-402-anything" || name == "payment-response"));
        assert_eq!(request.header("x-402-payer").is_some(), path.starts_with("/paid"), "{told:?}");
        assert_eq!(request.header("x-402-route"), Some(if path == "/paid/a" { "paid" } else { "default" }));
        assert_eq!(request.header("x-real-ip"), Some("127.0.0.1"));
        assert_eq!(
            (request.header("x-original-url"), request.header("x-http-method-override")),
            (None, None)
        );
    }
}

#[tokio::test]
async fn each_upstream_sees_the_host_it_wants_and_all_are_told_the_clients() {
    let origin = Origin::site().await;
    let mut config = base("kept", "sandbox");
    for (name, host) in [("kept", "preserve"), ("own", "upstream"), ("fixed", "inside.example")] {
        config.push_str(&format!("[[routes]]\nname = \"{name}\"\npath = \"/paid/{name}\"\n"));
        config.push_str(&format!("price = \"$0.01\"\nupstream = \"{name}\"\n"));
        config
            .push_str(&format!("[[routes]]\npath = \"/free/{name}\"\nfree = true\nupstream = \"{name}\"\n"));
        config.push_str(&format!("[upstreams.{name}]\nurl = \"{}\"\nhost = \"{host}\"\n", origin.url()));
    }
    let gateway = Gateway::with_config(&config).await;
    let own = origin.address.to_string();
    for (name, expected) in [("kept", "client.example:8080"), ("own", &*own), ("fixed", "inside.example")] {
        for kind in ["free", "paid"] {
            let path = format!("/{kind}/{name}");
            let payment = line_for(gateway.address, &path).await;
            let ask = format!(
                "GET {path} HTTP/1.1\r\nHost: client.example:8080\r\nConnection: close\r\n\
                 X-Forwarded-Host: forged.example\r\nX-Forwarded-Proto: gopher\r\n{payment}\r\n"
            );
            assert_eq!(send(gateway.address, ask.as_bytes()).await.status, 200, "{path}");
            let request = origin.requests().pop().unwrap();
            assert_eq!(request.header("host"), Some(expected), "{path}");
            assert_eq!(request.header("x-forwarded-host"), Some("client.example:8080"), "{path}");
            assert_eq!(request.header("x-forwarded-proto"), Some("https"), "{path}");
        }
    }
}

#[tokio::test]
async fn the_way_of_a_request_is_written_on_as_proxies_do() {
    let (origin, gateway) = site().await;
    get(gateway.address, "/free/a", &[]).await;
    let request = origin.requests().pop().unwrap();
    assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.header("forwarded"), Some("for=127.0.0.1;proto=https"));
    let earlier = [
        ("X-Forwarded-For", "198.51.100.1"),
        ("X-Forwarded-For", "10.0.0.1"),
        ("Forwarded", "for=198.51.100.1;proto=gopher;host=forged.example"),
        ("X_Forwarded_For", "forged"),
    ];
    get(gateway.address, "/free/a", &earlier).await;
    let request = origin.requests().pop().unwrap();
    assert_eq!(request.header("x-forwarded-for"), Some("198.51.100.1, 10.0.0.1, 127.0.0.1"));
    assert_eq!(request.header("forwarded"), Some("for=198.51.100.1, for=127.0.0.1;proto=https"));
    assert_eq!(request.header("x_forwarded_for"), None);
}

#[tokio::test]
async fn an_origin_on_a_unix_socket_is_served_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("site.sock");
    let origin = crate::support::LiveOrigin::start_unix(&path);
    let gateway = Gateway::start(&format!("unix:{}", path.display()), "sandbox", PAID).await;
    let address = gateway.address;
    for path in PATHS {
        let payment = line_for(address, path).await;
        let ask = format!("GET {path} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n{payment}\r\n");
        let client = tokio::spawn(async move { send(address, ask.as_bytes()).await });
        let mut exchange = origin.exchange().await;
        assert_eq!(exchange.request.target, path);
        assert_eq!(exchange.request.header("host"), Some("a.example"));
        exchange.answer(200, &[("Connection", "close")], "from a socket").await;
        assert_eq!(client.await.unwrap().text(), "from a socket");
    }
}
