//! Ways around the paywall that were open once.

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::client::{self, PATIENCE};
use crate::support::gateway::PAID;
use crate::support::{Act, Facilitator, Gateway, Origin, Payer, get, send};

#[tokio::test]
async fn a_header_that_a_free_route_depends_on_cannot_be_shown_to_the_gateway_alone() {
    let origin = Origin::site().await;
    let members = "[[routes]]\npath = \"/paid/*\"\nheader = { Authorization = true }\nfree = true\n";
    let gateway = Gateway::start(&origin.url(), "sandbox", &format!("{PAID}{members}")).await;
    let member = get(gateway.address, "/paid/a", &[("Authorization", "x")]).await;
    assert_eq!(member.status, 200);
    let sly = format!(
        "GET /paid/a HTTP/1.1\r\nHost: {}\r\nAuthorization: x\r\nConnection: close, Authorization\r\n\r\n",
        gateway.address
    );
    assert_eq!(send(gateway.address, sly.as_bytes()).await.status, 402);
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn a_payment_is_not_settled_for_a_request_that_cannot_be_sent() {
    let (origin, facilitator) = (Origin::site().await, Facilitator::start().await);
    let first = format!("{PAID}settle = \"before-request\"\n");
    let gateway = Gateway::start(&origin.url(), &facilitator.url(), &first).await;
    let payment = Payer::new().pay(&get(gateway.address, "/paid/a", &[]).await.required());
    for named in ["Host", "x-forwarded-for", "\"x\"", "a b"] {
        let ask = format!(
            "GET /paid/a HTTP/1.1\r\nHost: a\r\nPAYMENT-SIGNATURE: {payment}\r\nConnection: close, {named}\r\n\r\n"
        );
        assert_eq!(send(gateway.address, ask.as_bytes()).await.status, 400, "{named}");
    }
    assert!(facilitator.calls("/settle").is_empty());
    assert_eq!(get(gateway.address, "/paid/a", &[("PAYMENT-SIGNATURE", &payment)]).await.status, 200);
}

#[tokio::test]
async fn a_line_feed_that_arrives_late_does_not_hide_the_head_behind_it() {
    let origin = Origin::site().await;
    let gateway = Gateway::start(&origin.url(), "sandbox", PAID).await;
    let rest = "\n\r\nPOST /free HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\
                Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(b"\r").await.unwrap();
    // Seen by the gateway before the rest is sent: another connection is answered after it.
    assert_eq!(get(gateway.address, "/free", &[]).await.status, 200);
    stream.write_all(rest.as_bytes()).await.unwrap();
    let refused = tokio::time::timeout(PATIENCE, client::read(&mut stream, false)).await.unwrap();
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn a_preflight_is_a_question_and_carries_nothing() {
    let origin = Origin::start(|_| {
        Act::answer(200, &[("Access-Control-Allow-Origin", "*"), ("X-Secret", "1")], "content of a preflight")
    })
    .await;
    let gateway = Gateway::start(&origin.url(), "sandbox", PAID).await;
    let ask = |more: &str| {
        format!(
            "OPTIONS /paid/a HTTP/1.1\r\nHost: a\r\nOrigin: https://page.example\r\n\
             Access-Control-Request-Method: GET\r\n{more}"
        )
    };
    let question = send(gateway.address, ask("Connection: close\r\n\r\n").as_bytes()).await;
    assert_eq!((question.status, question.text().as_str()), (200, ""));
    assert_eq!(question.header("x-secret"), None);
    let handshake = ask("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    let refused = send(gateway.address, handshake.as_bytes()).await;
    assert_eq!(refused.required()["accepts"][0]["amount"], json!("10000"));
    let body = ask("Connection: close\r\nContent-Length: 7\r\n\r\ncommand");
    assert_eq!(send(gateway.address, body.as_bytes()).await.status, 400);
    assert_eq!(origin.requests().len(), 1);
}
