//! Origins that are down, silent or break off: what clients are told, what is tried again, and
//! what a payment that bought nothing is still good for.

use crate::support::gateway::{PAID, base, free_address};
use crate::support::{
    Act, Connection, Facilitator, Gateway, LiveOrigin, Origin, get, line_for, payment_for, send,
};

const PATHS: [&str; 2] = ["/free/a", "/paid/a"];

async fn ask(client: &mut Connection, method: &str, path: &str, payment: &str) {
    let body = if method == "POST" { "Content-Length: 5\r\n\r\nhello" } else { "\r\n" };
    client.write(format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{payment}{body}")).await;
}

#[tokio::test]
async fn an_origin_that_is_down_is_a_502_and_costs_nothing() {
    let facilitator = Facilitator::start().await;
    let address = free_address();
    let gateway = Gateway::start(&format!("http://{address}"), &facilitator.url(), PAID).await;
    let payment = payment_for(gateway.address, "/paid/a").await;
    for headers in [vec![], vec![("PAYMENT-SIGNATURE", payment.as_str())]] {
        let path = if headers.is_empty() { "/free/a" } else { "/paid/a" };
        let failed = get(gateway.address, path, &headers).await;
        assert_eq!(failed.status, 502, "{path}");
        assert_eq!(failed.header("payment-response"), None);
        assert!(failed.json()["error"].is_string());
    }
    assert!(facilitator.calls("/settle").is_empty());
    let _origin = Origin::start_at(address, |_| Act::answer(200, &[], "back again")).await;
    let served = get(gateway.address, "/paid/a", &[("PAYMENT-SIGNATURE", &payment)]).await;
    assert_eq!((served.status, served.text().as_str()), (200, "back again"));
}

#[tokio::test]
async fn an_origin_that_never_answers_is_a_504_and_costs_nothing() {
    let origin = LiveOrigin::start().await;
    let facilitator = Facilitator::start().await;
    let slow = format!("[upstreams.slow]\nurl = \"{}\"\nread_timeout_ms = 300\n", origin.url());
    let gateway = Gateway::start("slow", &facilitator.url(), &format!("{PAID}{slow}")).await;
    for path in PATHS {
        let payment = line_for(gateway.address, path).await;
        let mut client = Connection::open(gateway.address).await;
        ask(&mut client, "GET", path, &payment).await;
        let silent = origin.exchange().await;
        assert_eq!(client.response().await.status, 504, "{path}");
        drop(silent);
        assert!(!origin.has_connection().await, "{path}: the request was sent again");

        let mut client = Connection::open(gateway.address).await;
        ask(&mut client, "GET", path, &payment).await;
        origin.exchange().await.answer(200, &[("Connection", "close")], "at last").await;
        assert_eq!(client.response().await.text(), "at last", "{path}");
    }
    assert_eq!(facilitator.calls("/settle").len(), 1);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_seen_to_break_off() {
    let facilitator = Facilitator::start().await;
    for head in ["Content-Length: 10", "Transfer-Encoding: chunked"] {
        let half = if head.starts_with('T') { "5\r\nhello\r\n" } else { "hello" };
        let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{half}");
        let origin = Origin::start(move |_| Act::RawThenClose(answer.clone().into_bytes())).await;
        let gateway = Gateway::start(&origin.url(), &facilitator.url(), PAID).await;
        for path in PATHS {
            let payment = line_for(gateway.address, path).await;
            let mut client = Connection::open(gateway.address).await;
            ask(&mut client, "GET", path, &payment).await;
            let broken = client.response().await;
            assert_eq!((broken.status, broken.text().as_str()), (200, "hello"), "{head} {path}");
            assert!(!broken.complete, "{head} {path}");
            assert_eq!(broken.header("payment-response").is_some(), path == "/paid/a");
        }
        gateway.wait_for_log("outcome=\"upstream_failed\"").await;
        assert_eq!(origin.requests().len(), 2, "what was delivered in part is not asked for again");
    }
}

#[tokio::test]
async fn an_origin_that_answers_nonsense_is_a_502() {
    for nonsense in
        ["SMTP ready\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"]
    {
        let origin = Origin::start(|_| Act::RawThenClose(nonsense.as_bytes().to_vec())).await;
        let facilitator = Facilitator::start().await;
        let gateway = Gateway::start(&origin.url(), &facilitator.url(), PAID).await;
        for path in PATHS {
            let payment = line_for(gateway.address, path).await;
            let mut client = Connection::open(gateway.address).await;
            ask(&mut client, "GET", path, &payment).await;
            assert_eq!(client.response().await.status, 502, "{nonsense:?} {path}");
        }
        assert!(facilitator.calls("/settle").is_empty(), "{nonsense:?}");
    }
}

/// The race of every pool: the origin closes the moment the next request comes.
#[tokio::test]
async fn a_stale_connection_to_the_origin_is_no_error_for_a_request_that_may_be_repeated() {
    let origin = LiveOrigin::start().await;
    let facilitator = Facilitator::start().await;
    let gateway = Gateway::start(&origin.url(), &facilitator.url(), PAID).await;
    for path in PATHS {
        for method in ["GET", "HEAD", "PUT", "DELETE"] {
            let mut client = Connection::open(gateway.address).await;
            ask(&mut client, "GET", "/free/first", "").await;
            let mut exchange = origin.exchange().await;
            exchange.answer(200, &[], "first").await;
            assert_eq!(client.response().await.text(), "first");

            let payment = line_for(gateway.address, path).await;
            ask(&mut client, method, path, &payment).await;
            let stale = exchange.next().await;
            assert_eq!(stale.request.target, path, "the connection was not used again");
            drop(stale);
            let mut fresh = origin.exchange().await;
            assert_eq!((fresh.request.method.as_str(), fresh.request.target.as_str()), (method, path));
            fresh.answer(200, &[("Connection", "close")], "").await;
            let served =
                if method == "HEAD" { client.response_to_head().await } else { client.response().await };
            assert_eq!(served.status, 200, "{method} {path}");
        }
    }
    assert_eq!(facilitator.calls("/settle").len(), 4);
}

#[tokio::test]
async fn a_request_that_may_not_be_repeated_is_not_sent_twice() {
    let origin = LiveOrigin::start().await;
    let facilitator = Facilitator::start().await;
    let gateway = Gateway::start(&origin.url(), &facilitator.url(), PAID).await;
    for path in PATHS {
        let payment = line_for(gateway.address, path).await;
        let mut client = Connection::open(gateway.address).await;
        ask(&mut client, "GET", "/free/first", "").await;
        let mut exchange = origin.exchange().await;
        exchange.answer(200, &[], "first").await;
        assert_eq!(client.response().await.text(), "first");

        ask(&mut client, "POST", path, &payment).await;
        let mut stale = exchange.next().await;
        assert_eq!(stale.read_exact(5).await, b"hello");
        drop(stale);
        assert_eq!(client.response().await.status, 502, "{path}");
        assert!(!origin.has_connection().await, "{path}");
        assert!(facilitator.calls("/settle").is_empty());
        if path == "/paid/a" {
            // What bought nothing is still good.
            let mut client = Connection::open(gateway.address).await;
            ask(&mut client, "POST", path, &payment).await;
            origin.exchange().await.answer(200, &[("Connection", "close")], "done").await;
            assert_eq!(client.response().await.text(), "done");
        }
    }
}

#[tokio::test]
async fn a_fresh_connection_that_breaks_is_not_tried_again() {
    let origin = Origin::start(|_| Act::Close).await;
    let facilitator = Facilitator::start().await;
    let gateway = Gateway::start(&origin.url(), &facilitator.url(), PAID).await;
    for (count, path) in PATHS.iter().enumerate() {
        let payment = line_for(gateway.address, path).await;
        let ask = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{payment}\r\n");
        assert_eq!(send(gateway.address, ask.as_bytes()).await.status, 502);
        assert_eq!(origin.requests().len(), count + 1);
    }
    assert!(facilitator.calls("/settle").is_empty());
}

/// What was paid in advance is asked for again where that is safe, and settled once.
#[tokio::test]
async fn what_was_paid_in_advance_survives_a_stale_connection_to_the_origin() {
    let origin = LiveOrigin::start().await;
    let facilitator = Facilitator::start().await;
    let upfront = "[[routes]]\npath = \"/paid/*\"\nprice = \"$0.01\"\nsettle = \"before-request\"\n";
    let gateway = Gateway::start(&origin.url(), &facilitator.url(), upfront).await;
    for method in ["GET", "POST"] {
        let payment = line_for(gateway.address, "/paid/a").await;
        let mut client = Connection::open(gateway.address).await;
        ask(&mut client, "GET", "/free/first", "").await;
        let mut exchange = origin.exchange().await;
        exchange.answer(200, &[], "first").await;
        assert_eq!(client.response().await.text(), "first");

        ask(&mut client, method, "/paid/a", &payment).await;
        drop(exchange.next().await);
        if method == "GET" {
            origin.exchange().await.answer(200, &[("Connection", "close")], "at last").await;
        }
        let answer = client.response().await;
        // A POST may have been carried out; its buyer has the receipt.
        assert_eq!(answer.status, if method == "GET" { 200 } else { 502 });
        assert_eq!(answer.decoded("payment-response")["success"], true);
        assert!(!origin.has_connection().await);
    }
    assert_eq!(facilitator.calls("/settle").len(), 2);
}

#[tokio::test]
async fn a_named_origin_is_found_by_its_name() {
    let origin = Origin::site().await;
    let url = format!("http://localhost:{}", origin.address.port());
    let gateway = Gateway::with_config(&format!("{}{PAID}", base(&url, "sandbox"))).await;
    for path in PATHS {
        let payment = line_for(gateway.address, path).await;
        let ask = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{payment}\r\n");
        assert_eq!(send(gateway.address, ask.as_bytes()).await.status, 200, "{path}");
    }
    let lost = Gateway::start("http://no-such-host.invalid:80", "sandbox", "").await;
    assert_eq!(get(lost.address, "/free/a", &[]).await.status, 502);
}

/// An origin whose queue is full takes no connection and refuses none.
#[tokio::test]
async fn an_origin_that_does_not_accept_is_a_504_and_costs_nothing() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    let mut waiting = Vec::new();
    let connect = || tokio::net::TcpStream::connect(address);
    while let Ok(stream) = tokio::time::timeout(std::time::Duration::from_millis(300), connect()).await {
        waiting.push(stream.unwrap());
    }
    let facilitator = Facilitator::start().await;
    let upstream = format!("[upstreams.full]\nurl = \"http://{address}\"\nconnect_timeout_ms = 200\n");
    let gateway = Gateway::start("full", &facilitator.url(), &format!("{PAID}{upstream}")).await;
    for path in PATHS {
        let payment = line_for(gateway.address, path).await;
        let ask = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{payment}\r\n");
        assert_eq!(send(gateway.address, ask.as_bytes()).await.status, 504, "{path}");
    }
    assert!(facilitator.calls("/settle").is_empty());
}
