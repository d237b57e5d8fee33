//! Requests whose framing two servers could read differently are refused and reach no origin.

use crate::support::gateway::PAID;
use crate::support::{
    Act, Connection, Facilitator, Gateway, LiveOrigin, Origin, get, line_for, payment_for, send,
};

async fn site(more: &str) -> (Origin, Gateway) {
    let origin = Origin::site().await;
    let gateway = Gateway::start(&origin.url(), "sandbox", &format!("{PAID}{more}")).await;
    (origin, gateway)
}

#[tokio::test]
async fn doubtful_framing_is_refused_on_free_and_on_paid_routes() {
    let (origin, gateway) = site("").await;
    let smuggled = "GET /paid/b HTTP/1.1\r\nHost: a\r\n\r\n";
    for (what, fields) in [
        ("no Host", "X: y\r\n\r\n".to_owned()),
        ("two Hosts", "Host: a\r\nHost: b\r\n\r\n".to_owned()),
        ("twice the same Host", "Host: a\r\nHost: a\r\n\r\n".to_owned()),
        ("a Host with a user", "Host: u@a\r\n\r\n".to_owned()),
        (
            "a length and chunks",
            format!("Host: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"),
        ),
        ("two lengths", format!("Host: a\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n{smuggled}")),
        ("twice the same length", "Host: a\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("a list of lengths", "Host: a\r\nContent-Length: 0, 0\r\n\r\n".to_owned()),
        ("a signed length", "Host: a\r\nContent-Length: +0\r\n\r\n".to_owned()),
        ("another coding", "Host: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n".to_owned()),
        ("an unknown coding", "Host: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n".to_owned()),
        (
            "two codings",
            "Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"
                .to_owned(),
        ),
        ("a space before a colon", "Host: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n".to_owned()),
        ("a folded header", "Host: a\r\nX: y\r\n z\r\n\r\n".to_owned()),
        ("a bare line feed", "Host: a\r\nX: y\nContent-Length: 5\r\n\r\n".to_owned()),
        ("a line feed for a line", "Host: a\r\n\nContent-Length: 5\r\n\r\n".to_owned()),
        ("a bare carriage return", "Host: a\r\nX: y\rz\r\n\r\n".to_owned()),
        ("a NUL", "Host: a\r\nX: y\0z\r\n\r\n".to_owned()),
        ("no colon", "Host: a\r\nnonsense\r\n\r\n".to_owned()),
        ("no name", "Host: a\r\n: nameless\r\n\r\n".to_owned()),
    ] {
        for path in ["/free/a", "/paid/a"] {
            let payment = line_for(gateway.address, path).await;
            let ask = format!("POST {path} HTTP/1.1\r\n{payment}{fields}");
            let mut client = Connection::open(gateway.address).await;
            client.write(ask).await;
            let answer = client.rest().await;
            assert!(answer.starts_with(b"HTTP/1.1 400 "), "{what}: {:?}", String::from_utf8_lossy(&answer));
            let answers = answer.windows(9).filter(|window| window == b"HTTP/1.1 ").count();
            assert_eq!(answers, 1, "{what}: the connection goes on");
        }
    }
    assert!(origin.requests().is_empty(), "{:#?}", origin.requests());
}

#[tokio::test]
async fn a_request_line_that_is_none_is_refused() {
    let (origin, gateway) = site("").await;
    for line in [
        "GET /free/a",
        "GET /free/a HTTP/2.0",
        "GET /free/a HTTP/1.2",
        "GET  HTTP/1.1",
        "/free/a HTTP/1.1",
        "G\u{1}T /free/a HTTP/1.1",
        "GET /free/a HTTP/1.1 HTTP/1.1x",
        "GET /free/\u{1}a HTTP/1.1",
        "GET /free/%zz HTTP/1.1",
        "GET /free/%2e%2e%2fpaid/a HTTP/1.1",
        "GET /free/..%5cpaid HTTP/1.1",
        "GET /../paid/a HTTP/1.1",
    ] {
        let answer = send(gateway.address, format!("{line}\r\nHost: a\r\n\r\n").as_bytes()).await;
        assert_eq!(answer.status, 400, "{line:?}");
    }
    for host in ["a/b", "a b", "a:x", "a,b", "[::1", "a%00"] {
        let ask = format!("GET /free/a HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(send(gateway.address, ask.as_bytes()).await.status, 400, "{host:?}");
    }
    assert!(origin.requests().is_empty(), "{:#?}", origin.requests());
}

#[tokio::test]
async fn chunks_that_are_none_break_the_request_off() {
    let origin = LiveOrigin::start().await;
    let gateway = Gateway::start(&origin.url(), "sandbox", PAID).await;
    for chunks in ["-1\r\nx\r\n", "0x1\r\nx\r\n", "zz\r\n", "1\r\nxy\r\n0\r\n\r\n", "ffffffffffffffffff\r\n"]
    {
        let mut client = Connection::open(gateway.address).await;
        client
            .write(format!("POST /free/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"))
            .await;
        let mut exchange = origin.exchange().await;
        assert_eq!(client.response().await.status, 400, "{chunks:?}");
        assert_eq!(client.rest().await, b"");
        // The body that arrives does not end as a whole one does.
        assert!(!exchange.rest().await.ends_with(b"0\r\n\r\n"), "{chunks:?}");
    }
}

/// Compliance 13.
#[tokio::test]
async fn heads_beyond_the_limit_are_answered_431_while_they_arrive() {
    let (origin, gateway) = site("[limits]\nheader_bytes = 8192\npayment_header_bytes = 2048\n").await;
    let fits = "x".repeat(8000);
    assert_eq!(get(gateway.address, "/free/a", &[("X", &fits)]).await.status, 200);
    // Never ends, and is answered nevertheless.
    let endless = format!("GET /free/a HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(9000));
    let refused = send(gateway.address, endless.as_bytes()).await;
    assert_eq!((refused.status, refused.header("connection")), (431, Some("close")));
    let long = "x".repeat(9000);
    assert_eq!(get(gateway.address, "/free/a", &[("X", &long)]).await.status, 431);
    let payment = "A".repeat(2049);
    assert_eq!(get(gateway.address, "/paid/a", &[("PAYMENT-SIGNATURE", &payment)]).await.status, 431);
    assert_eq!(get(gateway.address, "/paid/a", &[("X-PAYMENT", &payment)]).await.status, 431);
    let many: Vec<String> = (0..300).map(|index| format!("X-{index}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "y")).collect();
    let refused = get(gateway.address, "/free/a", &many).await.status;
    assert!(refused == 400 || refused == 431, "{refused}");
    assert_eq!(origin.requests().len(), 1);
}

/// Compliance 12.
#[tokio::test]
async fn two_payment_headers_are_refused_and_the_payments_stay_good() {
    let (origin, gateway) = site("").await;
    let payment = payment_for(gateway.address, "/paid/a").await;
    for pair in [
        [("PAYMENT-SIGNATURE", payment.as_str()), ("payment-signature", payment.as_str())],
        [("PAYMENT-SIGNATURE", payment.as_str()), ("PAYMENT-SIGNATURE", "")],
        [("X-PAYMENT", payment.as_str()), ("PAYMENT-SIGNATURE", payment.as_str())],
        [("X-PAYMENT", payment.as_str()), ("x-payment", payment.as_str())],
    ] {
        let refused = get(gateway.address, "/paid/a", &pair).await;
        assert_eq!(
            (refused.status, refused.json()["error"].as_str()),
            (400, Some("more than one payment header"))
        );
    }
    assert!(origin.requests().is_empty());
    assert_eq!(get(gateway.address, "/paid/a", &[("PAYMENT-SIGNATURE", &payment)]).await.status, 200);
}

#[tokio::test]
async fn requests_written_at_once_are_answered_in_order() {
    let (origin, gateway) = site("").await;
    let payment = line_for(gateway.address, "/paid/a").await;
    let mut client = Connection::open(gateway.address).await;
    client
        .write(format!(
            "GET /paid/a HTTP/1.1\r\nHost: a\r\n\r\n\
             GET /free/a HTTP/1.1\r\nHost: a\r\n\r\n\
             POST /free/b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\
             GET /paid/a HTTP/1.1\r\nHost: a\r\n{payment}\r\n\
             GET /free/c HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        ))
        .await;
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(client.response().await.status);
    }
    assert_eq!(statuses, [402, 200, 200, 200, 200]);
    assert_eq!(client.rest().await, b"");
    let seen: Vec<String> = origin.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(seen, ["/free/a", "/free/b", "/paid/a", "/free/c"]);
}

/// A client that writes its next request early must not lose what it has just paid for.
#[tokio::test]
async fn a_request_that_arrives_during_another_disturbs_neither() {
    let origin = LiveOrigin::start().await;
    let facilitator = Facilitator::start().await;
    let gateway = Gateway::start(&origin.url(), &facilitator.url(), PAID).await;
    for path in ["/free/a", "/paid/a"] {
        let payment = line_for(gateway.address, path).await;
        let mut client = Connection::open(gateway.address).await;
        client.write(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{payment}\r\n")).await;
        let mut exchange = origin.exchange().await;
        client.write("GET /free/next HTTP/1.1\r\nHost: a\r\n\r\n").await;
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst").await;
        assert_eq!(client.head().await.status, 200, "{path}");
        exchange.write("-half").await;
        client.read_until("first-half").await;
        let mut exchange = exchange.next().await;
        assert_eq!(exchange.request.target, "/free/next");
        exchange.answer(200, &[], "second").await;
        assert_eq!(client.response().await.text(), "second", "{path}");
    }
    assert_eq!(facilitator.calls("/settle").len(), 1);
}

/// Bytes behind a body of announced length are a further request, never part of the first.
#[tokio::test]
async fn what_follows_a_refused_body_is_judged_like_any_request() {
    let origin = Origin::start(|_| Act::answer(200, &[], "served")).await;
    let gateway = Gateway::start(&origin.url(), "sandbox", PAID).await;
    let mut client = Connection::open(gateway.address).await;
    client
        .write(
            "POST /paid/a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\
             GET /paid/b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        )
        .await;
    assert_eq!(client.response().await.status, 402);
    let second = client.response().await;
    assert_eq!(second.required()["resource"]["url"], "https://shop.example/paid/b");
    assert!(origin.requests().is_empty());
}
