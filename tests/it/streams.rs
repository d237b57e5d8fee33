//! What flows while it is made: both directions, events, large files, upgrades, interim responses.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::support::gateway::PAID;
use crate::support::{Act, Connection, Facilitator, Gateway, LiveOrigin, Origin, line_for, payment_for};

const MIB: usize = 1024 * 1024;
const PATHS: [&str; 2] = ["/free/a", "/paid/a"];

async fn live(more: &str) -> (LiveOrigin, Facilitator, Gateway) {
    let origin = LiveOrigin::start().await;
    let facilitator = Facilitator::start().await;
    let gateway = Gateway::start(&origin.url(), &facilitator.url(), &format!("{PAID}{more}")).await;
    (origin, facilitator, gateway)
}

#[tokio::test]
async fn an_answer_reaches_the_client_while_the_origin_still_makes_it() {
    let (origin, _facilitator, gateway) = live("").await;
    for path in PATHS {
        for chunked in [false, true] {
            let payment = line_for(gateway.address, path).await;
            let mut client = Connection::open(gateway.address).await;
            client.write(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{payment}\r\n")).await;
            let mut exchange = origin.exchange().await;
            let framing = if chunked { "Transfer-Encoding: chunked" } else { "Content-Length: 10" };
            let piece = |text: &str| if chunked { format!("5\r\n{text}\r\n") } else { text.to_owned() };
            exchange.write(format!("HTTP/1.1 200 OK\r\n{framing}\r\nConnection: close\r\n\r\n")).await;
            let head = client.head().await;
            assert_eq!(head.status, 200);
            exchange.write(piece("first")).await;
            client.read_until("first").await;
            exchange.write(piece("later")).await;
            client.read_until("later").await;
            if chunked {
                exchange.write("0\r\n\r\n").await;
                client.read_until("0\r\n\r\n").await;
            }
        }
    }
}

#[tokio::test]
async fn a_body_reaches_the_origin_while_the_client_still_sends_it() {
    let (origin, facilitator, gateway) = live("").await;
    for path in PATHS {
        for chunked in [false, true] {
            let payment = line_for(gateway.address, path).await;
            let mut client = Connection::open(gateway.address).await;
            let framing = if chunked { "Transfer-Encoding: chunked" } else { "Content-Length: 10" };
            let piece = |text: &str| if chunked { format!("5\r\n{text}\r\n") } else { text.to_owned() };
            client.write(format!("POST {path} HTTP/1.1\r\nHost: a\r\n{framing}\r\n{payment}\r\n")).await;
            let mut exchange = origin.exchange().await;
            client.write(piece("first")).await;
            assert!(exchange.read_until("first").await.ends_with("first"));
            client.write(piece("later")).await;
            assert!(exchange.read_until("later").await.ends_with("later"));
            if chunked {
                client.write("0\r\n\r\n").await;
                exchange.read_until("0\r\n\r\n").await;
            }
            exchange.answer(200, &[("Connection", "close")], "thanks").await;
            assert_eq!(client.response().await.text(), "thanks", "{path} {framing}");
        }
    }
    assert_eq!(facilitator.calls("/settle").len(), 2);
}

/// Paid in advance or when the stream begins, events arrive one by one.
#[tokio::test]
async fn events_arrive_one_by_one() {
    let upfront = "[[routes]]\npath = \"/paid/upfront\"\nprice = \"$0.01\"\nsettle = \"before-request\"\n";
    let (origin, _facilitator, gateway) = live(upfront).await;
    for path in ["/free/a", "/paid/a", "/paid/upfront"] {
        let payment = line_for(gateway.address, path).await;
        let mut client = Connection::open(gateway.address).await;
        client
            .write(format!("GET {path} HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n{payment}\r\n"))
            .await;
        let mut exchange = origin.exchange().await;
        // As HTTP/1.0 servers stream: the end of the connection is the end of the body.
        exchange
            .write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
            .await;
        assert_eq!(client.head().await.header("content-type"), Some("text/event-stream"));
        for event in ["one", "two", "three"] {
            exchange.write(format!("data: {event}\n\n")).await;
            client.read_until(&format!("data: {event}\n\n")).await;
        }
        drop(exchange);
        client.read_until("0\r\n\r\n").await;
    }
}

/// Compliance 42, with a quarter of its gibibyte to spare the tests' time.
#[tokio::test]
async fn a_paid_download_of_any_size_needs_little_memory() {
    const SIZE: usize = 256 * MIB;
    let piece: std::sync::Arc<[u8]> = vec![b'x'; MIB].into();
    let origin = Origin::start(move |_| {
        let (sender, pieces) = mpsc::channel(1);
        let piece = std::sync::Arc::clone(&piece);
        tokio::spawn(async move {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
            let mut sent = sender.send(head.into_bytes()).await;
            for _ in 0..SIZE / MIB {
                if sent.is_ok() {
                    sent = sender.send(piece.to_vec()).await;
                }
            }
        });
        Act::Stream(pieces)
    })
    .await;
    let facilitator = Facilitator::start().await;
    let gateway = Gateway::start(&origin.url(), &facilitator.url(), PAID).await;
    let payment = line_for(gateway.address, "/paid/a").await;
    let before = gateway.peak_memory();
    let release = facilitator.will_settle_when_told();
    let mut client = Connection::open(gateway.address).await;
    client.write(format!("GET /paid/a HTTP/1.1\r\nHost: a\r\n{payment}\r\n")).await;
    // The origin pushes as much as is taken while settlement is under way.
    facilitator.wait_for_settlements(1).await;
    release.send(()).unwrap();
    assert_eq!(client.head().await.status, 200);
    client.skip(SIZE).await;
    let grown = gateway.peak_memory() - before;
    assert!(grown < 16 * MIB as u64, "{grown} bytes more for a download of {SIZE}");
}

#[tokio::test]
async fn a_client_that_reads_slowly_holds_the_origin_back() {
    let (origin, _facilitator, gateway) = live("").await;
    for path in PATHS {
        let payment = line_for(gateway.address, path).await;
        let before = gateway.peak_memory();
        let mut client = Connection::open(gateway.address).await;
        client.write(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{payment}\r\n")).await;
        let mut exchange = origin.exchange().await;
        let size = 64 * MIB;
        exchange
            .write(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n"))
            .await;
        assert_eq!(client.head().await.status, 200);
        let piece = vec![b'x'; MIB];
        let mut written = 0;
        // Until the origin's writes stall, which they must long before everything is written.
        while tokio::time::timeout(std::time::Duration::from_millis(500), exchange.write(&piece))
            .await
            .is_ok()
        {
            written += MIB;
            assert!(written < size / 2, "{written} bytes were taken for a client that reads nothing");
        }
        assert!(gateway.peak_memory() - before < 8 * MIB as u64);
    }
}

#[tokio::test]
async fn a_client_that_waits_for_100_uploads_and_keeps_its_connection() {
    let (origin, facilitator, gateway) = live("").await;
    let mut client = Connection::open(gateway.address).await;
    for path in PATHS {
        let payment = line_for(gateway.address, path).await;
        client
            .write(format!(
                "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n{payment}\r\n"
            ))
            .await;
        let mut exchange = origin.exchange().await;
        assert_eq!(exchange.request.header("expect"), Some("100-continue"));
        exchange.write("HTTP/1.1 100 Continue\r\n\r\n").await;
        assert_eq!(client.head().await.status, 100, "{path}");
        client.write("hello").await;
        assert_eq!(exchange.read_exact(5).await, b"hello");
        exchange.answer(200, &[("Connection", "close")], "thanks").await;
        let served = client.response().await;
        assert_eq!((served.text().as_str(), served.header("connection")), ("thanks", Some("keep-alive")));
    }
    assert_eq!(facilitator.calls("/settle").len(), 1);
}

#[tokio::test]
async fn an_unpaid_upload_is_refused_before_it_is_sent() {
    let (origin, _facilitator, gateway) = live("").await;
    let mut client = Connection::open(gateway.address).await;
    client
        .write(
            "POST /paid/a HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\nExpect: 100-continue\r\n\r\n",
        )
        .await;
    let refused = client.response().await;
    refused.required();
    assert_eq!((refused.interim.len(), refused.header("connection")), (0, Some("close")));
    assert!(!origin.has_connection().await);
}

#[tokio::test]
async fn early_hints_are_for_those_who_need_not_pay() {
    let (origin, _facilitator, gateway) = live("").await;
    for path in PATHS {
        let payment = line_for(gateway.address, path).await;
        let mut client = Connection::open(gateway.address).await;
        client.write(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{payment}\r\n")).await;
        let mut exchange = origin.exchange().await;
        exchange.write("HTTP/1.1 103 Early Hints\r\nLink: </s.css>; rel=preload\r\n\r\n").await;
        if path == "/free/a" {
            let hints = client.head().await;
            assert_eq!((hints.status, hints.header("link")), (103, Some("</s.css>; rel=preload")));
        }
        exchange.answer(200, &[("Connection", "close")], "page").await;
        let page = client.response().await;
        assert_eq!((page.interim.len(), page.text().as_str()), (0, "page"));
    }
}

#[tokio::test]
async fn websockets_are_passed_on_free_and_paid() {
    let (origin, facilitator, gateway) = live("").await;
    for path in PATHS {
        let mut request = format!("ws://{}{path}", gateway.address).into_client_request().unwrap();
        if path == "/paid/a" {
            let payment = payment_for(gateway.address, path).await;
            request.headers_mut().insert("payment-signature", payment.parse().unwrap());
        }
        let stream = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
        let client = tokio::spawn(tokio_tungstenite::client_async(request, stream));
        let mut server = tokio_tungstenite::accept_async(origin.connection().await).await.unwrap();
        let (mut client, response) = client.await.unwrap().unwrap();
        let receipt = response.headers().get("payment-response");
        assert_eq!(receipt.is_some(), path == "/paid/a");
        client.send(Message::text("to the site")).await.unwrap();
        assert_eq!(server.next().await.unwrap().unwrap(), Message::text("to the site"));
        let large = Message::binary(vec![7; 3 * MIB]);
        let (sent, received) = tokio::join!(server.send(large.clone()), client.next());
        sent.unwrap();
        assert_eq!(received.unwrap().unwrap(), large);
        server.close(None).await.unwrap();
        assert!(matches!(client.next().await, Some(Ok(Message::Close(_)))));
    }
    assert_eq!(facilitator.calls("/settle").len(), 1);
}

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Compliance 37 for upgrades.
#[tokio::test]
async fn a_switch_is_passed_on_only_after_settlement() {
    let (origin, facilitator, gateway) = live("").await;
    let unpaid = format!("GET /paid/a HTTP/1.1\r\nHost: a\r\n{UPGRADE}\r\n");
    crate::support::send(gateway.address, unpaid.as_bytes()).await.required();
    assert!(!origin.has_connection().await);

    for settles in [true, false] {
        let payment = line_for(gateway.address, "/paid/a").await;
        let outcome = if settles {
            json!({"success": true, "transaction": "0xabc", "network": "eip155:84532"})
        } else {
            json!({"success": false, "errorReason": "insufficient_funds"})
        };
        let (release, act) = Act::json(200, &outcome).held();
        facilitator.will_settle([act]);
        let mut client = Connection::open(gateway.address).await;
        client.write(format!("GET /paid/a HTTP/1.1\r\nHost: a\r\n{UPGRADE}{payment}\r\n")).await;
        let mut exchange = origin.exchange().await;
        assert_eq!(exchange.request.header("upgrade"), Some("websocket"));
        exchange.write(format!("{SWITCH}\r\nwelcome")).await;
        facilitator.wait_for_settlements(if settles { 1 } else { 2 }).await;
        assert!(client.is_silent());
        release.send(()).unwrap();
        if settles {
            let switched = client.head().await;
            assert_eq!(switched.status, 101);
            assert_eq!(switched.decoded("payment-response")["success"], true);
            client.read_until("welcome").await;
        } else {
            let refused = client.response().await;
            assert_eq!(refused.status, 402, "{}", refused.text());
            assert_eq!(refused.decoded("payment-response")["errorReason"], "insufficient_funds");
            assert_eq!(client.rest().await, b"");
            assert_eq!(exchange.rest().await, b"");
        }
    }
}

#[tokio::test]
async fn an_upgrade_the_origin_does_not_want_is_an_ordinary_answer() {
    let (origin, facilitator, gateway) = live("").await;
    for (path, status) in [("/free/a", 200), ("/paid/a", 426), ("/paid/a", 200)] {
        let payment = line_for(gateway.address, path).await;
        let mut client = Connection::open(gateway.address).await;
        client.write(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{UPGRADE}{payment}\r\n")).await;
        let mut exchange = origin.exchange().await;
        exchange.answer(status, &[("Connection", "close")], "no sockets here").await;
        let served = client.response().await;
        assert_eq!((served.status, served.text().as_str()), (status, "no sockets here"), "{path}");
    }
    assert_eq!(facilitator.calls("/settle").len(), 1);
}

/// The answer to an upload that is refused is not overtaken by the end of the connection.
#[tokio::test]
async fn who_uploads_without_asking_still_reads_the_answer() {
    let (origin, facilitator, gateway) = live("").await;
    let body = vec![b'x'; 20 * MIB];
    // Unpaid, the gateway refuses; paid or free, the origin does.
    for path in ["/paid/a", "/free/a", "/paid/b"] {
        let payment = if path == "/paid/a" { String::new() } else { line_for(gateway.address, path).await };
        let mut client = Connection::open(gateway.address).await;
        client
            .write(format!(
                "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n{payment}\r\n",
                body.len()
            ))
            .await;
        let refused = if path == "/paid/a" {
            let _ = client.try_write(&body).await;
            client.response().await
        } else {
            let mut exchange = origin.exchange().await;
            exchange.answer(413, &[("Connection", "close")], "too much").await;
            drop(exchange);
            let _ = client.try_write(&body).await;
            client.response().await
        };
        assert_eq!(refused.status, if path == "/paid/a" { 402 } else { 413 }, "{path}");
    }
    assert!(facilitator.calls("/settle").is_empty());
}

#[tokio::test]
async fn a_paid_upload_of_any_size_needs_little_memory() {
    const SIZE: usize = 64 * MIB;
    let (origin, facilitator, gateway) = live("").await;
    let payment = line_for(gateway.address, "/paid/a").await;
    let before = gateway.peak_memory();
    let mut client = Connection::open(gateway.address).await;
    client
        .write(format!("POST /paid/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n{payment}\r\n"))
        .await;
    let mut exchange = origin.exchange().await;
    let upload = tokio::spawn(async move {
        let chunk = format!("100000\r\n{}\r\n", "x".repeat(MIB));
        for _ in 0..SIZE / MIB {
            client.write(&chunk).await;
        }
        client.write("0\r\n\r\n").await;
        client
    });
    // Read on the wire: the content, and some bytes around each chunk.
    let mut received = 0;
    while received < SIZE {
        received += exchange.read_exact(64 * 1024).await.len();
    }
    exchange.read_until("\r\n0\r\n\r\n").await;
    let mut client = upload.await.unwrap();
    exchange.answer(200, &[("Connection", "close")], "thanks").await;
    assert_eq!(client.response().await.text(), "thanks");
    assert_eq!(facilitator.calls("/settle").len(), 1);
    let grown = gateway.peak_memory() - before;
    assert!(grown < 16 * MIB as u64, "{grown} bytes more for an upload of {SIZE}");
}
