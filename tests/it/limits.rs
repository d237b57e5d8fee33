//! Deadlines: clients that are silent, slow or deaf are let go, with and without a payment.
//!
//! The limits are small here, and what is asserted is that they act at all: the tests wait for the
//! gateway to act, never for a length of time.

use bytes::Bytes;

use crate::support::client::PATIENCE;
use crate::support::gateway::{PAID, base, free_address};
use crate::support::http2::Http2;
use crate::support::tls::Authority;
use crate::support::{
    Act, Connection, Facilitator, Gateway, LiveOrigin, Origin, line_for, payment_for, send,
};

const PATHS: [&str; 2] = ["/free/a", "/paid/a"];

async fn live(limits: &str, more: &str) -> (LiveOrigin, Facilitator, Gateway) {
    let origin = LiveOrigin::start().await;
    let facilitator = Facilitator::start().await;
    let config = format!("{PAID}{more}[limits]\n{limits}\n");
    let gateway = Gateway::start(&origin.url(), &facilitator.url(), &config).await;
    (origin, facilitator, gateway)
}

/// Writes a byte again and again until the other side has had enough.
async fn drip(client: &mut Connection, byte: &[u8]) {
    let drip = async {
        while client.try_write(byte).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, drip).await.expect("the connection to end in time");
}

#[tokio::test]
async fn a_client_that_says_nothing_is_hung_up_on() {
    let (_origin, _facilitator, gateway) = live("header_timeout_ms = 300", "").await;
    let mut silent = Connection::open(gateway.address).await;
    assert_eq!(silent.rest().await, b"");
    let mut hesitant = Connection::open(gateway.address).await;
    hesitant.write("GET /paid/a HTTP/1.1\r\nHo").await;
    let answer = hesitant.rest().await;
    assert!(answer.starts_with(b"HTTP/1.1 408 "), "{:?}", String::from_utf8_lossy(&answer));
}

/// Systems let a program open some thousand files unless it asks for more, and every client is one.
#[tokio::test]
async fn clients_that_say_nothing_do_not_keep_others_out() {
    let origin = Origin::start(|_| Act::answer(200, &[], "served")).await;
    let gateway = Gateway::with_few_files(64, &format!("{}{PAID}", base(&origin.url(), "sandbox"))).await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(Connection::open(gateway.address).await);
    }
    for path in PATHS {
        let payment = line_for(gateway.address, path).await;
        let ask = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{payment}\r\n");
        assert_eq!(send(gateway.address, ask.as_bytes()).await.text(), "served", "{path}");
    }
}

#[tokio::test]
async fn a_head_that_drips_in_is_cut_off() {
    let (origin, _facilitator, gateway) = live("header_timeout_ms = 500", "").await;
    let mut client = Connection::open(gateway.address).await;
    client.write("GET /free/a HTTP/1.1\r\nHost: a\r\nX: ").await;
    drip(&mut client, b"x").await;
    assert!(!origin.has_connection().await);
    // The same on a connection that has served a request.
    let mut client = Connection::open(gateway.address).await;
    client.write("GET /paid/a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.response().await.status, 402);
    client.write("GET /free/a HTTP/1.1\r\nHost: a\r\nX: ").await;
    drip(&mut client, b"x").await;
    assert!(!origin.has_connection().await);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let (_origin, _facilitator, gateway) = live("keepalive_timeout_ms = 300", "").await;
    let mut client = Connection::open(gateway.address).await;
    client.write("GET /paid/a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.response().await.header("connection"), Some("keep-alive"));
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn a_body_that_stops_is_given_up_and_costs_nothing() {
    let (origin, facilitator, gateway) = live("read_timeout_ms = 300", "").await;
    for path in PATHS {
        for framing in ["Content-Length: 10\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"] {
            let payment = line_for(gateway.address, path).await;
            let mut client = Connection::open(gateway.address).await;
            client.write(format!("POST {path} HTTP/1.1\r\nHost: a\r\n{payment}{framing}")).await;
            let mut exchange = origin.exchange().await;
            assert_eq!(client.response().await.status, 408, "{path}");
            assert_eq!(client.rest().await, b"");
            exchange.rest().await;
            if path == "/paid/a" {
                let mut client = Connection::open(gateway.address).await;
                client.write(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{payment}\r\n")).await;
                origin.exchange().await.answer(200, &[("Connection", "close")], "").await;
                assert_eq!(client.response().await.status, 200);
            }
        }
    }
    assert_eq!(facilitator.calls("/settle").len(), 2);
}

#[tokio::test]
async fn a_body_that_drips_in_is_given_up() {
    let (origin, facilitator, gateway) = live("read_timeout_ms = 1000\nmin_body_rate = 1000", "").await;
    for path in PATHS {
        let payment = line_for(gateway.address, path).await;
        let mut client = Connection::open(gateway.address).await;
        client
            .write(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n{payment}\r\n"))
            .await;
        let mut exchange = origin.exchange().await;
        drip(&mut client, b"x").await;
        exchange.rest().await;
    }
    assert!(facilitator.calls("/settle").is_empty());
}

/// A conversation is no upload: it may be as slow as it likes.
#[tokio::test]
async fn the_least_rate_is_not_asked_of_websockets() {
    let (origin, _facilitator, gateway) = live("read_timeout_ms = 1000\nmin_body_rate = 1000000", "").await;
    let mut client = Connection::open(gateway.address).await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    client.write(format!("GET /free/a HTTP/1.1\r\nHost: a\r\n{upgrade}\r\n")).await;
    let mut exchange = origin.exchange().await;
    exchange.write(format!("HTTP/1.1 101 Switching Protocols\r\n{upgrade}\r\n")).await;
    assert_eq!(client.head().await.status, 101);
    for _ in 0..30 {
        client.write("slow").await;
        exchange.read_until("slow").await;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_let_go() {
    let (origin, facilitator, gateway) = live("write_timeout_ms = 500", "").await;
    for path in PATHS {
        let payment = line_for(gateway.address, path).await;
        let mut client = Connection::open(gateway.address).await;
        client.write(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{payment}\r\n")).await;
        let mut exchange = origin.exchange().await;
        exchange.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x1_0000));
        // The origin is let go, too, instead of being held for ever.
        let push = async { while exchange.try_write(&chunk).await.is_ok() {} };
        tokio::time::timeout(PATIENCE, push).await.expect("the origin to be let go in time");
        drop(client);
    }
    assert_eq!(facilitator.calls("/settle").len(), 1);
}

const H2C: &str = "[[listeners]]\naddress = \"LISTEN\"\nh2c = true\n";

#[tokio::test]
async fn an_http2_client_that_does_not_read_is_let_go() {
    let (origin, _facilitator, gateway) = live("write_timeout_ms = 500", H2C).await;
    for path in PATHS {
        let mut client = Http2::open(gateway.address).await;
        let payment =
            if path == "/paid/a" { payment_for(gateway.address, path).await } else { "-".to_owned() };
        let request = client.request("GET", path, &[("payment-signature", &payment)]);
        // The answer is held and its window never opened.
        let (response, _) = client.start(request, true).await;
        let mut exchange = origin.exchange().await;
        exchange.write("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await;
        let answer = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap();
        let piece = vec![b'x'; 0x1_0000];
        let push = async { while exchange.try_write(&piece).await.is_ok() {} };
        tokio::time::timeout(PATIENCE, push).await.expect("the origin to be let go in time");
        drop(answer);
    }
}

/// What stops within a body sent over HTTP/2 ends with the patience for its origin, which waits for it.
#[tokio::test]
async fn an_http2_body_that_stops_is_given_up() {
    let origin = LiveOrigin::start().await;
    let facilitator = Facilitator::start().await;
    let waits = format!("[upstreams.waits]\nurl = \"{}\"\nread_timeout_ms = 300\n", origin.url());
    let gateway = Gateway::start("waits", &facilitator.url(), &format!("{PAID}{H2C}{waits}")).await;
    for path in PATHS {
        let mut client = Http2::open(gateway.address).await;
        let payment =
            if path == "/paid/a" { payment_for(gateway.address, path).await } else { "-".to_owned() };
        let request = client.request("POST", path, &[("payment-signature", &payment)]);
        let (response, mut stream) = client.start(request, false).await;
        stream.send_data(Bytes::from_static(b"half"), false).unwrap();
        let mut exchange = origin.exchange().await;
        let answer = tokio::time::timeout(PATIENCE, response).await.expect("an answer in time").unwrap();
        assert_eq!(answer.status(), 504, "{path}");
        exchange.rest().await;
    }
    assert!(facilitator.calls("/settle").is_empty());
}

/// Answers without a body are the only ones that Pingora writes without a deadline of its own.
#[tokio::test]
async fn a_client_that_asks_and_asks_and_never_reads_is_let_go() {
    let (_origin, _facilitator, gateway) = live("write_timeout_ms = 500", "").await;
    let client = Connection::open(gateway.address).await;
    let (mut answers, mut requests) = tokio::io::split(client.stream);
    let ask = "HEAD /paid/a HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000);
    let flood =
        async { while tokio::io::AsyncWriteExt::write_all(&mut requests, ask.as_bytes()).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, flood).await.expect("the connection to end in time");
    drop(tokio::io::copy(&mut answers, &mut tokio::io::sink()).await);
}

#[tokio::test]
async fn an_idle_http2_connection_is_closed() {
    let (_origin, _facilitator, gateway) = live("keepalive_timeout_ms = 300", H2C).await;
    let mut client = Http2::open(gateway.address).await;
    assert_eq!(client.get("/paid/a", &[]).await.response.status, 402);
    client.ended().await;
}

#[tokio::test]
async fn an_http2_client_that_never_finishes_its_preface_is_hung_up_on() {
    let (authority, folder, address) = (Authority::new(), tempfile::tempdir().unwrap(), free_address());
    let (cert, key) = authority.issue(&["one.example"]).write(folder.path(), "one");
    let listeners = format!(
        "[[listeners]]\naddress = \"LISTEN\"\nh2c = true\n[[listeners]]\naddress = \"{address}\"\n\
         tls = [{{ cert = \"{}\", key = \"{}\" }}]\n",
        cert.display(),
        key.display()
    );
    let (_origin, _facilitator, gateway) =
        live("header_timeout_ms = 300\nkeepalive_timeout_ms = 3600000", &listeners).await;
    for preface in ["", "P", "PRI * HTTP/2.0\r\n\r\nSM\r\n"] {
        let stream = authority.connect(address, "one.example", &["h2"]).await.unwrap();
        let mut encrypted = Connection::over(stream);
        let mut plain = Connection::open(gateway.address).await;
        encrypted.write(preface).await;
        plain.write(preface).await;
        encrypted.rest().await;
        plain.rest().await;
    }
    // Something else after the handshake is no HTTP/2 either.
    let stream = authority.connect(address, "one.example", &["h2"]).await.unwrap();
    let mut client = Connection::over(stream);
    client.write("GET /free/a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(!client.rest().await.starts_with(b"HTTP/1.1 200"));
}

/// A body nobody wants is read for a moment, so that the connection can go on, and no longer.
#[tokio::test]
async fn the_body_of_a_refused_request_is_not_waited_for_long() {
    let (origin, _facilitator, gateway) = live("read_timeout_ms = 300", "").await;
    let mut client = Connection::open(gateway.address).await;
    client.write("POST /paid/a HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf").await;
    assert_eq!(client.response().await.status, 402);
    assert_eq!(client.rest().await, b"");
    let mut client = Connection::open(gateway.address).await;
    client.write("POST /paid/a HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf").await;
    assert_eq!(client.response().await.status, 402);
    client.write("-other").await;
    client.write("GET /paid/a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.response().await.status, 402);
    assert!(!origin.has_connection().await);
}

#[tokio::test]
async fn an_origin_that_stops_within_its_answer_is_let_go() {
    let origin = LiveOrigin::start().await;
    let slow = format!("[upstreams.slow]\nurl = \"{}\"\nread_timeout_ms = 300\n", origin.url());
    let gateway = Gateway::start("slow", "sandbox", &format!("{PAID}{slow}")).await;
    for path in PATHS {
        let payment = line_for(gateway.address, path).await;
        let mut client = Connection::open(gateway.address).await;
        client.write(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{payment}\r\n")).await;
        let mut exchange = origin.exchange().await;
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
        let broken = client.response().await;
        assert_eq!((broken.text().as_str(), broken.complete), ("half", false), "{path}");
        exchange.rest().await;
    }
}

#[tokio::test]
async fn an_origin_that_does_not_read_is_let_go() {
    let origin = LiveOrigin::start().await;
    let deaf = format!(
        "[upstreams.deaf]\nurl = \"{}\"\nwrite_timeout_ms = 300\nread_timeout_ms = 300\n",
        origin.url()
    );
    let facilitator = Facilitator::start().await;
    let gateway = Gateway::start("deaf", &facilitator.url(), &format!("{PAID}{deaf}")).await;
    for path in PATHS {
        let payment = line_for(gateway.address, path).await;
        let mut client = Connection::open(gateway.address).await;
        client
            .write(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n{payment}\r\n"))
            .await;
        let _exchange = origin.exchange().await;
        let piece = vec![b'x'; 1024 * 1024];
        let push = async { while client.try_write(&piece).await.is_ok() {} };
        tokio::time::timeout(PATIENCE, push).await.expect("the upload to be given up in time");
    }
    assert!(facilitator.calls("/settle").is_empty());
}

#[tokio::test]
async fn limits_on_clients_do_not_touch_those_who_keep_them() {
    let origin = Origin::start(|_| Act::answer(200, &[], "served")).await;
    let tight = "[limits]\nheader_timeout_ms = 2000\nread_timeout_ms = 2000\nwrite_timeout_ms = 2000\n\
                 min_body_rate = 100\nheader_bytes = 8192\npayment_header_bytes = 8192\n";
    let gateway = Gateway::start(&origin.url(), "sandbox", &format!("{PAID}{tight}")).await;
    for path in PATHS {
        let payment = line_for(gateway.address, path).await;
        let body = "x".repeat(100_000);
        let ask = format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n{payment}\r\n{body}",
            body.len()
        );
        assert_eq!(send(gateway.address, ask.as_bytes()).await.status, 200, "{path}");
        assert_eq!(origin.requests().pop().unwrap().body.len(), body.len());
    }
}
