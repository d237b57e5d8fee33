//! What was paid for and did not arrive can be fetched again with the same payment, within bounds.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

use crate::support::gateway::PAID;
use crate::support::http2::{Http2, first_request, piece, whole};
use crate::support::live::Exchange;
use crate::support::shop::{assert_in_use, assert_refused};
use crate::support::{Connection, Facilitator, Gateway, LiveOrigin, Response, get, payment_for};

const H2C: &str = "[[listeners]]\naddress = \"LISTEN\"\nh2c = true\n";
const UPFRONT: &str =
    "[[routes]]\nname = \"upfront\"\npath = \"/upfront/*\"\nprice = \"$0.01\"\nsettle = \"before-request\"\n";
const DUPLICATE: &str = "duplicate_settlement";
/// Half of an answer of ten bytes.
const HALF: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\nfirst";

/// A gateway before an origin that the test plays.
struct Stage {
    origin: LiveOrigin,
    facilitator: Facilitator,
    gateway: Gateway,
}

impl Stage {
    async fn open(more: &str) -> Self {
        let (origin, facilitator) = (LiveOrigin::start().await, Facilitator::start().await);
        let gateway = Gateway::start(&origin.url(), &facilitator.url(), &format!("{PAID}{more}")).await;
        Self { origin, facilitator, gateway }
    }

    /// Sends a request with a payment.
    async fn send(&self, request: &str, payment: &str) -> Connection {
        let mut client = Connection::open(self.gateway.address).await;
        client.write(head(request, payment)).await;
        client
    }

    /// Fetches something half: the origin gets no further, and the client leaves. Returns the receipt.
    async fn break_off(&self, request: &str, payment: &str) -> Value {
        let mut client = self.send(request, payment).await;
        let mut exchange = self.origin.exchange().await;
        exchange.write(HALF).await;
        let begun = client.head().await;
        assert_eq!(begun.status, 200);
        client.read_until("first").await;
        drop(client);
        // The origin is let go: nobody waits for the rest.
        exchange.rest().await;
        self.gateway.wait_until_idle().await;
        begun.decoded("payment-response")
    }

    /// Fetches something whole.
    async fn fetch(&self, request: &str, payment: &str) -> Response {
        let mut client = self.send(request, payment).await;
        self.origin.exchange().await.answer(200, &[("Connection", "close")], "everything").await;
        let is_head = request.starts_with("HEAD");
        let fetched = if is_head { client.response_to_head().await } else { client.response().await };
        self.gateway.wait_until_idle().await;
        fetched
    }

    /// Presents a payment that must be refused as used, without the origin being asked.
    async fn refused(&self, request: &str, payment: &str) {
        let refused = self.send(request, payment).await.response().await;
        assert_refused(&refused, DUPLICATE);
        assert!(!self.origin.has_connection().await, "{request}");
    }

    fn settlements(&self) -> usize {
        self.facilitator.calls("/settle").len()
    }
}

/// A request's head: `request` is its first line without the version, and further lines.
fn head(request: &str, payment: &str) -> String {
    let (line, more) = request.split_once('\n').unwrap_or((request, ""));
    let host = if more.contains("Host:") { "" } else { "Host: a\r\n" };
    let more: Vec<&str> = more.lines().flat_map(|line| [line, "\r\n"]).collect();
    let more = more.concat();
    let length = if line.starts_with('P') { "Content-Length: 0\r\n" } else { "" };
    format!("{line} HTTP/1.1\r\n{host}{more}{length}PAYMENT-SIGNATURE: {payment}\r\n\r\n")
}

#[tokio::test]
async fn what_broke_off_can_be_fetched_again_as_often_as_configured_and_is_charged_once() {
    let stage = Stage::open("").await;
    let payment = payment_for(stage.gateway.address, "/paid/a").await;
    let receipt = stage.break_off("GET /paid/a", &payment).await;
    assert_eq!((&receipt["success"], &receipt["transaction"]), (&json!(true), &json!("0xabc")));
    for _ in 0..2 {
        assert_eq!(stage.break_off("GET /paid/a", &payment).await, receipt, "the receipt is the same");
    }
    stage.refused("GET /paid/a", &payment).await;
    assert_eq!((stage.settlements(), stage.facilitator.charged()), (1, 1));
    let redelivered = "tollgate_requests_total{route=\"paid\",outcome=\"redelivered\"}";
    // Those that broke off count as clients that left.
    assert_eq!(stage.gateway.metric(redelivered).await, None);
    let left = "tollgate_requests_total{route=\"paid\",outcome=\"client_left\"}";
    assert_eq!(stage.gateway.metric(left).await, Some(3));
}

#[tokio::test]
async fn how_often_and_how_long_is_configured() {
    let stage = Stage::open("[redelivery]\ntries = 0\n").await;
    let payment = payment_for(stage.gateway.address, "/paid/a").await;
    stage.break_off("GET /paid/a", &payment).await;
    stage.refused("GET /paid/a", &payment).await;

    let stage = Stage::open("[redelivery]\nwindow_seconds = 3\ntries = 1000\n").await;
    let payment = payment_for(stage.gateway.address, "/paid/a").await;
    stage.break_off("GET /paid/a", &payment).await;
    let settled = Instant::now();
    stage.break_off("GET /paid/a", &payment).await;
    // Time is counted in whole seconds.
    while settled.elapsed() < Duration::from_secs(5) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stage.refused("GET /paid/a", &payment).await;
}

#[tokio::test]
async fn a_complete_delivery_is_never_repeated() {
    let stage = Stage::open("").await;
    for broken_before in [false, true] {
        let payment = payment_for(stage.gateway.address, "/paid/a").await;
        if broken_before {
            stage.break_off("GET /paid/a", &payment).await;
        }
        let fetched = stage.fetch("GET /paid/a", &payment).await;
        assert_eq!((fetched.status, fetched.text().as_str()), (200, "everything"));
        assert_eq!(fetched.decoded("payment-response")["success"], true);
        for _ in 0..2 {
            stage.refused("GET /paid/a", &payment).await;
        }
    }
    let redelivered = "tollgate_requests_total{route=\"paid\",outcome=\"redelivered\"}";
    assert_eq!(stage.gateway.metric(redelivered).await, Some(1));
    assert_eq!(stage.settlements(), 2);
}

#[tokio::test]
async fn only_the_very_request_that_broke_off_is_served_again() {
    let stage = Stage::open("").await;
    // Without the member that says what it is for, so that it could be used anywhere.
    let required = get(stage.gateway.address, "/paid/a?x=1", &[]).await.required();
    let mut payment = crate::support::Payer::new().message(&required);
    payment.as_object_mut().unwrap().remove("resource");
    let payment = crate::support::payer::encode(&payment);
    stage.break_off("GET /paid/a?x=1", &payment).await;
    for other in [
        "GET /paid/a",
        "GET /paid/a?x=2",
        "GET /paid/a?x=1&y=1",
        "GET /paid/b?x=1",
        "POST /paid/a?x=1",
        "PUT /paid/a?x=1",
        "DELETE /paid/a?x=1",
        "GET /paid/a?x=1\nHost: b",
    ] {
        stage.refused(other, &payment).await;
    }
    let fetched = stage.fetch("GET /paid/a?x=1", &payment).await;
    assert_eq!((fetched.status, fetched.text().as_str()), (200, "everything"));
    assert_eq!(stage.settlements(), 1);
}

#[tokio::test]
async fn get_and_head_are_the_same_request_and_a_download_can_be_resumed() {
    let stage = Stage::open("").await;
    let payment = payment_for(stage.gateway.address, "/paid/a").await;
    let receipt = stage.break_off("GET /paid/a", &payment).await;
    let mut client = stage.send("GET /paid/a\nRange: bytes=5-", &payment).await;
    let mut exchange = stage.origin.exchange().await;
    assert_eq!(exchange.request.header("range"), Some("bytes=5-"));
    exchange.answer(206, &[("Content-Range", "bytes 5-9/10"), ("Connection", "close")], "other").await;
    let rest = client.response().await;
    assert_eq!((rest.status, rest.text().as_str()), (206, "other"));
    assert_eq!(rest.decoded("payment-response"), receipt);
    stage.gateway.wait_until_idle().await;
    stage.refused("GET /paid/a", &payment).await;

    let payment = payment_for(stage.gateway.address, "/paid/a").await;
    stage.break_off("GET /paid/a", &payment).await;
    let head = stage.fetch("HEAD /paid/a", &payment).await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("10")));
    stage.refused("GET /paid/a", &payment).await;
}

/// A second POST could do twice what was bought once.
#[tokio::test]
async fn a_post_that_broke_off_is_not_repeated() {
    let stage = Stage::open("").await;
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let payment = payment_for(stage.gateway.address, "/paid/a").await;
        stage.break_off(&format!("{method} /paid/a"), &payment).await;
        stage.refused(&format!("{method} /paid/a"), &payment).await;
        stage.refused("GET /paid/a", &payment).await;
    }
    assert_eq!(stage.settlements(), 4);
}

/// Compliance 41: what the origin failed to deliver is owed as before, whatever the method and however
/// often it fails.
#[tokio::test]
async fn an_origin_that_fails_after_settlement_still_owes_the_delivery() {
    let stage = Stage::open(UPFRONT).await;
    for method in ["GET", "POST"] {
        let before = stage.settlements();
        let payment = payment_for(stage.gateway.address, "/upfront/a").await;
        let request = format!("{method} /upfront/a");
        let mut receipts = Vec::new();
        for status in [500, 503, 404, 302, 500] {
            let mut client = stage.send(&request, &payment).await;
            stage.origin.exchange().await.answer(status, &[("Connection", "close")], "sorry").await;
            let failed = client.response().await;
            assert_eq!(failed.status, status, "{}", failed.text());
            receipts.push(failed.decoded("payment-response"));
            stage.gateway.wait_until_idle().await;
        }
        let mut client = stage.send(&request, &payment).await;
        drop(stage.origin.exchange().await);
        let mut failed = client.response().await;
        if method == "GET" && failed.status != 502 {
            failed = client.response().await;
        }
        assert_eq!(failed.status, 502, "{}", failed.text());
        receipts.push(failed.decoded("payment-response"));
        stage.gateway.wait_until_idle().await;

        let fetched = stage.fetch(&request, &payment).await;
        assert_eq!((fetched.status, fetched.text().as_str()), (200, "everything"));
        receipts.push(fetched.decoded("payment-response"));
        assert!(receipts.iter().all(|receipt| *receipt == receipts[0]), "{receipts:#?}");
        stage.refused(&request, &payment).await;
        assert_eq!(stage.settlements() - before, 1, "{method}");
    }
}

#[tokio::test]
async fn a_client_that_has_left_before_settlement_is_not_charged() {
    let stage = Stage::open(UPFRONT).await;
    for (count, resets) in [false, true].into_iter().enumerate() {
        let payment = payment_for(stage.gateway.address, "/upfront/a").await;
        // Meanwhile the kernel takes the connection, its request, and its end.
        stage.gateway.signal("-STOP");
        let client = stage.send("GET /upfront/a", &payment).await;
        if resets {
            client.reset();
        } else {
            drop(client);
        }
        stage.gateway.signal("-CONT");
        if !resets {
            stage.gateway.wait_for_log("outcome=\"client_left\"").await;
        }
        stage.gateway.wait_until_idle().await;
        assert_eq!(stage.settlements(), count);
        assert!(!stage.origin.has_connection().await);
        assert_eq!(stage.fetch("GET /upfront/a", &payment).await.text(), "everything");
        assert_eq!(stage.settlements(), count + 1);
    }
}

#[tokio::test]
async fn whoever_leaves_while_the_site_works_on_what_was_paid_in_advance_has_it_work_within_bounds_only() {
    let stage = Stage::open(UPFRONT).await;
    let leave = async |request: &str, payment: &str| {
        let client = stage.send(request, payment).await;
        let mut exchange = stage.origin.exchange().await;
        drop(client);
        exchange.rest().await;
        stage.gateway.wait_until_idle().await;
    };
    // A GET may be fetched again as often as a broken answer, here twice.
    let payment = payment_for(stage.gateway.address, "/upfront/a").await;
    leave("GET /upfront/a", &payment).await;
    leave("GET /upfront/a", &payment).await;
    assert_eq!(stage.fetch("GET /upfront/a", &payment).await.text(), "everything");
    stage.refused("GET /upfront/a", &payment).await;
    // Anything else would have the site do again what it may have done.
    let payment = payment_for(stage.gateway.address, "/upfront/a").await;
    leave("POST /upfront/a", &payment).await;
    stage.refused("POST /upfront/a", &payment).await;
    assert_eq!(stage.settlements(), 2);
}

/// Compliance 43: small answers fit into the kernel's buffers, so that writing them succeeds although
/// nobody is there any more.
#[tokio::test]
async fn a_client_that_left_during_settlement_is_served_later_whatever_the_method() {
    let stage = Stage::open("").await;
    for (count, (method, resets)) in
        [("GET", false), ("GET", true), ("POST", false), ("POST", true)].into_iter().enumerate()
    {
        let payment = payment_for(stage.gateway.address, "/paid/a").await;
        let request = format!("{method} /paid/a");
        let release = stage.facilitator.will_settle_when_told();
        let client = stage.send(&request, &payment).await;
        stage.origin.exchange().await.answer(200, &[("Connection", "close")], "small").await;
        stage.facilitator.wait_for_settlements(count + 1).await;
        if resets {
            client.reset();
        } else {
            drop(client);
        }
        release.send(()).unwrap();
        stage.gateway.wait_until_idle().await;
        let fetched = stage.fetch(&request, &payment).await;
        assert_eq!((fetched.status, fetched.text().as_str()), (200, "everything"));
        assert_eq!(fetched.decoded("payment-response")["transaction"], "0xabc");
        stage.refused(&request, &payment).await;
        assert_eq!(stage.settlements(), count + 1);
    }
}

/// The whole answer is in the kernel's buffers when its reader goes away.
#[tokio::test]
async fn what_was_written_and_never_arrived_can_be_fetched_again() {
    let stage = Stage::open("").await;
    let payment = payment_for(stage.gateway.address, "/paid/a").await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut client = Connection::over(socket.connect(stage.gateway.address).await.unwrap());
    client.write(head("GET /paid/a", &payment)).await;
    let body = vec![b'x'; 200_000];
    stage.origin.exchange().await.answer(200, &[("Connection", "close")], &body).await;
    assert_eq!(client.head().await.status, 200);
    // As long as it may still arrive, it is being delivered.
    assert_in_use(&stage.send("GET /paid/a", &payment).await.response().await);
    assert!(!stage.origin.has_connection().await);
    client.reset();
    stage.gateway.wait_until_idle().await;
    assert_eq!(stage.fetch("GET /paid/a", &payment).await.text(), "everything");
    stage.refused("GET /paid/a", &payment).await;
    assert_eq!(stage.settlements(), 1);
}

#[tokio::test]
async fn a_second_fetch_waits_until_the_first_is_over() {
    let stage = Stage::open("").await;
    let payment = payment_for(stage.gateway.address, "/paid/a").await;
    let mut first = stage.send("GET /paid/a", &payment).await;
    let mut exchange = stage.origin.exchange().await;
    assert_in_use(&stage.send("GET /paid/a", &payment).await.response().await);
    exchange.write(HALF).await;
    first.head().await;
    first.read_until("first").await;
    for _ in 0..3 {
        assert_in_use(&stage.send("GET /paid/a", &payment).await.response().await);
        stage.refused("GET /paid/b", &payment_without_resource(&payment)).await;
    }
    assert!(!stage.origin.has_connection().await);
    exchange.write("other").await;
    first.read_until("other").await;
    stage.gateway.wait_until_idle().await;
    stage.refused("GET /paid/a", &payment).await;

    // The same while it is fetched again.
    let payment = payment_for(stage.gateway.address, "/paid/a").await;
    stage.break_off("GET /paid/a", &payment).await;
    let again = stage.send("GET /paid/a", &payment).await;
    let mut exchange = stage.origin.exchange().await;
    assert_in_use(&stage.send("GET /paid/a", &payment).await.response().await);
    drop(again);
    exchange.rest().await;
    stage.gateway.wait_until_idle().await;
    assert_eq!(stage.fetch("GET /paid/a", &payment).await.text(), "everything");
    assert_eq!(stage.settlements(), 2);
}

/// The same payment as one that does not say what it is for.
fn payment_without_resource(payment: &str) -> String {
    use base64::Engine as _;
    let json = base64::engine::general_purpose::STANDARD.decode(payment).unwrap();
    let mut message: Value = serde_json::from_slice(&json).unwrap();
    message.as_object_mut().unwrap().remove("resource");
    crate::support::payer::encode(&message)
}

#[tokio::test]
async fn an_origin_that_breaks_off_is_asked_again() {
    let stage = Stage::open("").await;
    let payment = payment_for(stage.gateway.address, "/paid/a").await;
    let mut client = stage.send("GET /paid/a", &payment).await;
    let mut exchange = stage.origin.exchange().await;
    exchange.write(HALF).await;
    drop(exchange);
    let cut = client.response().await;
    assert_eq!((cut.status, cut.text().as_str(), cut.complete), (200, "first", false));
    stage.gateway.wait_until_idle().await;
    assert_eq!(stage.fetch("GET /paid/a", &payment).await.text(), "everything");
    stage.refused("GET /paid/a", &payment).await;
    assert_eq!(stage.settlements(), 1);
}

/// The same over HTTP/2: a stream that is reset, and a connection that is gone.
#[tokio::test]
async fn over_http2_what_broke_off_can_be_fetched_again() {
    let stage = Stage::open(H2C).await;
    for (count, whole_connection) in [false, true].into_iter().enumerate() {
        let payment = payment_for(stage.gateway.address, "/paid/a").await;
        let headers = [("payment-signature", payment.as_str())];
        let mut receipts = Vec::new();
        for _ in 0..2 {
            let mut client = Http2::open(stage.gateway.address).await;
            let request = client.request("GET", "/paid/a", &headers);
            let (response, mut stream) = client.start(request, true).await;
            let mut exchange = stage.origin.exchange().await;
            exchange.write(HALF).await;
            let (head, mut body) = response.await.unwrap().into_parts();
            assert_eq!(head.status, 200);
            receipts.push(head.headers["payment-response"].clone());
            assert_eq!(piece(&mut body).await.unwrap().unwrap(), "first");
            let second = Http2::open(stage.gateway.address).await.get("/paid/a", &headers).await;
            assert_in_use(&second.response);
            if whole_connection {
                client.abort();
            } else {
                stream.send_reset(h2::Reason::CANCEL);
            }
            drop((body, stream));
            exchange.rest().await;
            stage.gateway.wait_until_idle().await;
        }
        let mut client = Http2::open(stage.gateway.address).await;
        let request = client.request("GET", "/paid/a", &headers);
        let (response, _) = client.start(request, true).await;
        finish(stage.origin.exchange().await).await;
        let fetched = whole(response).await.unwrap().response;
        assert_eq!((fetched.status, fetched.text().as_str()), (200, "everything"));
        receipts.push(fetched.header("payment-response").unwrap().parse().unwrap());
        assert!(receipts.iter().all(|receipt| *receipt == receipts[0]), "{receipts:#?}");
        stage.gateway.wait_until_idle().await;
        let used = client.get("/paid/a", &headers).await.response;
        assert_refused(&used, DUPLICATE);
        assert_eq!(stage.settlements(), count + 1);
    }
}

/// The whole answer is with the gateway, in part before the kernel's buffers, when its reader goes away.
#[tokio::test]
async fn over_http2_what_never_arrived_can_be_fetched_again() {
    let stage = Stage::open(H2C).await;
    for (count, resets) in [false, true].into_iter().enumerate() {
        let payment = payment_for(stage.gateway.address, "/paid/a").await;
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut client = socket.connect(stage.gateway.address).await.unwrap();
        let fields =
            [(":method", "GET"), (":scheme", "http"), (":authority", "127.0.0.1"), (":path", "/paid/a")];
        let fields = [&fields[..], &[("payment-signature", payment.as_str())]].concat();
        client.write_all(&first_request(&fields)).await.unwrap();
        let body = vec![b'x'; 300_000];
        stage.origin.exchange().await.answer(200, &[("Connection", "close")], &body).await;
        client.read_exact(&mut vec![0; 200_000]).await.unwrap();
        if resets {
            client.set_zero_linger().unwrap();
        }
        drop(client);
        stage.gateway.wait_until_idle().await;
        assert_eq!(stage.fetch("GET /paid/a\nHost: 127.0.0.1", &payment).await.text(), "everything");
        stage.refused("GET /paid/a\nHost: 127.0.0.1", &payment).await;
        assert_eq!(stage.settlements(), count + 1);
    }
}

async fn finish(mut exchange: Exchange) {
    exchange.answer(200, &[("Connection", "close")], "everything").await;
}

/// What is paid for by one connection can be fetched by another, also of the other kind.
#[tokio::test]
async fn what_broke_off_over_one_version_of_http_can_be_fetched_over_the_other() {
    let stage = Stage::open(H2C).await;
    let payment = payment_for(stage.gateway.address, "/paid/a").await;
    stage.break_off("GET /paid/a\nHost: 127.0.0.1", &payment).await;
    let mut client = Http2::open(stage.gateway.address).await;
    let request = client.request("GET", "/paid/a", &[("payment-signature", &payment)]);
    let (response, _) = client.start(request, true).await;
    finish(stage.origin.exchange().await).await;
    assert_eq!(whole(response).await.unwrap().response.text(), "everything");
    assert_eq!(stage.settlements(), 1);
}
