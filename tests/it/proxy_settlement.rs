//! The moment of settlement: what the client has seen before it, and who may leave during it.

use serde_json::json;

use crate::support::gateway::PAID;
use crate::support::http2::{Http2, whole};
use crate::support::{Act, Connection, Facilitator, Gateway, LiveOrigin, get, line_for, payment_for};

async fn live(more: &str) -> (LiveOrigin, Facilitator, Gateway) {
    let origin = LiveOrigin::start().await;
    let facilitator = Facilitator::start().await;
    let gateway = Gateway::start(&origin.url(), &facilitator.url(), &format!("{PAID}{more}")).await;
    (origin, facilitator, gateway)
}

/// Serves one free request through the gateway: by then everything that was on its way has arrived.
async fn let_others_pass(gateway: &Gateway, origin: &LiveOrigin) {
    let mut client = Connection::open(gateway.address).await;
    client.write("GET /free/meanwhile HTTP/1.1\r\nHost: a\r\n\r\n").await;
    origin.exchange().await.answer(200, &[("Connection", "close")], "").await;
    assert_eq!(client.response().await.status, 200);
}

/// Compliance 37.
#[tokio::test]
async fn nothing_reaches_the_client_before_settlement_succeeds() {
    let (origin, facilitator, gateway) = live("").await;
    let answers = [
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\ncontent", "content"),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\ncontent\r\n0\r\n\r\n", "content"),
        (
            "GET",
            "HTTP/1.1 103 Early Hints\r\nLink: </s.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            "",
        ),
        ("DELETE", "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", ""),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\n", ""),
    ];
    for (count, (method, answer, body)) in answers.into_iter().enumerate() {
        let payment = line_for(gateway.address, "/paid/a").await;
        let release = facilitator.will_settle_when_told();
        let mut client = Connection::open(gateway.address).await;
        client.write(format!("{method} /paid/a HTTP/1.1\r\nHost: a\r\n{payment}\r\n")).await;
        let mut exchange = origin.exchange().await;
        exchange.write(answer).await;
        facilitator.wait_for_settlements(count + 1).await;
        assert!(client.is_silent(), "{answer}");
        let_others_pass(&gateway, &origin).await;
        assert!(client.is_silent(), "{answer}");
        release.send(()).unwrap();
        let served = if method == "HEAD" { client.response_to_head().await } else { client.response().await };
        assert_eq!((served.status / 100, served.text().as_str()), (2, body), "{answer}");
        assert_eq!(served.interim, Vec::<u16>::new(), "{answer}");
        assert_eq!(served.decoded("payment-response")["success"], true);
    }
}

/// Compliance 37, 39.
#[tokio::test]
async fn nothing_of_the_answer_reaches_the_client_when_settlement_fails() {
    let (origin, facilitator, gateway) = live("").await;
    let payment = line_for(gateway.address, "/paid/a").await;
    let refused = json!({"success": false, "errorReason": "insufficient_funds"});
    let (release, act) = Act::json(200, &refused).held();
    facilitator.will_settle([act]);
    let mut client = Connection::open(gateway.address).await;
    client.write(format!("GET /paid/a HTTP/1.1\r\nHost: a\r\n{payment}\r\n")).await;
    let mut exchange = origin.exchange().await;
    exchange.write("HTTP/1.1 200 OK\r\nX-Secret: secret\r\nContent-Length: 1000\r\n\r\nsecret").await;
    facilitator.wait_for_settlements(1).await;
    assert!(client.is_silent());
    release.send(()).unwrap();
    let all = String::from_utf8(client.rest().await).unwrap();
    assert!(all.starts_with("HTTP/1.1 402 "), "{all}");
    assert!(!all.contains("secret"), "{all}");
    // The rest of the answer is not even fetched.
    exchange.rest().await;
}

/// Compliance 37, 15: the same over HTTP/2.
#[tokio::test]
async fn nothing_reaches_an_http2_client_before_settlement_succeeds() {
    let listeners = "[[listeners]]\naddress = \"LISTEN\"\nh2c = true\n";
    let (origin, facilitator, gateway) = live(listeners).await;
    let payment = payment_for(gateway.address, "/paid/a").await;
    let release = facilitator.will_settle_when_told();
    let mut client = Http2::open(gateway.address).await;
    let request = client.request("GET", "/paid/a", &[("payment-signature", &payment)]);
    let (mut response, _) = client.start(request, true).await;
    let mut exchange = origin.exchange().await;
    exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\ncontent").await;
    facilitator.wait_for_settlements(1).await;
    let_others_pass(&gateway, &origin).await;
    let early = futures_util::FutureExt::now_or_never(&mut response);
    assert!(early.is_none(), "{early:?}");
    release.send(()).unwrap();
    let served = whole(response).await.unwrap().response;
    assert_eq!((served.status, served.text().as_str()), (200, "content"));
    assert_eq!(served.decoded("payment-response")["success"], true);
}

/// Compliance 43, first half.
#[tokio::test]
async fn a_client_that_leaves_before_the_origin_answers_is_not_charged() {
    let (origin, facilitator, gateway) = live("").await;
    for (count, method) in ["GET", "POST"].into_iter().enumerate() {
        let payment = line_for(gateway.address, "/paid/a").await;
        let body = if method == "POST" { "Content-Length: 10\r\n\r\nhalf" } else { "\r\n" };
        let mut client = Connection::open(gateway.address).await;
        client.write(format!("{method} /paid/a HTTP/1.1\r\nHost: a\r\n{payment}{body}")).await;
        let mut exchange = origin.exchange().await;
        drop(client);
        // The origin is let go: nobody waits for its answer.
        exchange.rest().await;
        gateway.wait_for_logs("outcome=\"client_left\"", count + 1).await;
        assert!(facilitator.calls("/settle").is_empty(), "{method}");
        let mut client = Connection::open(gateway.address).await;
        client.write(format!("GET /paid/a HTTP/1.1\r\nHost: a\r\n{payment}\r\n")).await;
        origin.exchange().await.answer(404, &[("Connection", "close")], "").await;
        assert_eq!(client.response().await.status, 404, "{method}: the payment is not good any more");
    }
}

/// Compliance 43, second half.
#[tokio::test]
async fn a_client_that_leaves_during_settlement_does_not_stop_it() {
    let (origin, facilitator, gateway) = live("").await;
    for count in [1, 2] {
        let payment = payment_for(gateway.address, "/paid/a").await;
        let release = facilitator.will_settle_when_told();
        let mut client = Connection::open(gateway.address).await;
        client
            .write(format!("GET /paid/a HTTP/1.1\r\nHost: a\r\nPAYMENT-SIGNATURE: {payment}\r\n\r\n"))
            .await;
        origin.exchange().await.answer(200, &[("Connection", "close")], "content").await;
        facilitator.wait_for_settlements(count).await;
        if count == 1 {
            drop(client);
        } else {
            client.reset();
        }
        let_others_pass(&gateway, &origin).await;
        release.send(()).unwrap();
        gateway.wait_for_logs("transaction=\"0xabc\"", count).await;
        gateway.wait_until_idle().await;
        // The money has moved, and what it bought is still owed: fetched once more, and no more.
        let mut client = Connection::open(gateway.address).await;
        client
            .write(format!("GET /paid/a HTTP/1.1\r\nHost: a\r\nPAYMENT-SIGNATURE: {payment}\r\n\r\n"))
            .await;
        origin.exchange().await.answer(200, &[("Connection", "close")], "content").await;
        let fetched = client.response().await;
        assert_eq!((fetched.status, fetched.text().as_str()), (200, "content"));
        assert_eq!(fetched.decoded("payment-response")["transaction"], "0xabc");
        gateway.wait_until_idle().await;
        let again = get(gateway.address, "/paid/a", &[("PAYMENT-SIGNATURE", &payment)]).await;
        assert_eq!(again.required()["error"], "duplicate_settlement");
        assert_eq!(facilitator.calls("/settle").len(), count);
    }
}

/// Compliance 43 over HTTP/2: a stream that is reset, and a connection that is gone.
#[tokio::test]
async fn http2_clients_that_leave_are_treated_alike() {
    let listeners = "[[listeners]]\naddress = \"LISTEN\"\nh2c = true\n";
    let (origin, facilitator, gateway) = live(listeners).await;
    for (count, whole_connection) in [false, true].into_iter().enumerate() {
        let payment = payment_for(gateway.address, "/paid/a").await;
        let mut client = Http2::open(gateway.address).await;
        let request = client.request("GET", "/paid/a", &[("payment-signature", &payment)]);
        let (response, mut stream) = client.start(request, true).await;
        let mut exchange = origin.exchange().await;
        if whole_connection {
            client.abort();
        } else {
            stream.send_reset(h2::Reason::CANCEL);
        }
        drop((response, stream));
        exchange.rest().await;
        assert!(facilitator.calls("/settle").is_empty());
        gateway.wait_for_logs("outcome=\"client_left\"", count + 1).await;
        let mut client = Connection::open(gateway.address).await;
        client
            .write(format!("GET /paid/a HTTP/1.1\r\nHost: a\r\nPAYMENT-SIGNATURE: {payment}\r\n\r\n"))
            .await;
        origin.exchange().await.answer(404, &[("Connection", "close")], "").await;
        assert_eq!(client.response().await.status, 404);
    }
}

#[tokio::test]
async fn an_origin_that_dies_during_settlement_does_not_stop_it() {
    let (origin, facilitator, gateway) = live("").await;
    let payment = line_for(gateway.address, "/paid/a").await;
    let release = facilitator.will_settle_when_told();
    let mut client = Connection::open(gateway.address).await;
    client.write(format!("GET /paid/a HTTP/1.1\r\nHost: a\r\n{payment}\r\n")).await;
    let mut exchange = origin.exchange().await;
    exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
    facilitator.wait_for_settlements(1).await;
    drop(exchange);
    let_others_pass(&gateway, &origin).await;
    release.send(()).unwrap();
    let served = client.response().await;
    assert_eq!(served.decoded("payment-response")["success"], true);
    assert_eq!((served.status, served.text().as_str(), served.complete), (200, "half", false));
    assert_eq!(facilitator.calls("/settle").len(), 1);
}

/// Compliance 41.
#[tokio::test]
async fn paid_in_advance_the_origin_is_asked_after_settlement() {
    let upfront = "[[routes]]\npath = \"/upfront\"\nprice = \"$0.01\"\nsettle = \"before-request\"\n";
    let (origin, facilitator, gateway) = live(upfront).await;
    let payment = payment_for(gateway.address, "/upfront").await;
    let release = facilitator.will_settle_when_told();
    let mut client = Connection::open(gateway.address).await;
    client.write(format!("GET /upfront HTTP/1.1\r\nHost: a\r\nPAYMENT-SIGNATURE: {payment}\r\n\r\n")).await;
    facilitator.wait_for_settlements(1).await;
    let_others_pass(&gateway, &origin).await;
    assert!(!origin.has_connection().await && client.is_silent());
    release.send(()).unwrap();
    let mut exchange = origin.exchange().await;
    assert_eq!(exchange.request.target, "/upfront");
    assert_eq!(exchange.request.header("x-402-transaction"), Some("0xabc"));
    exchange.answer(500, &[("Connection", "close")], "broken").await;
    let failed = client.response().await;
    assert_eq!((failed.status, failed.text().as_str()), (500, "broken"));
    assert_eq!(failed.decoded("payment-response")["success"], true);
}
