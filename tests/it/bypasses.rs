//! Ways around the paywall that were open once.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::client::{self, PATIENCE};
use crate::support::gateway::{PAID, base};
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

/// Apache, PHP-FPM and others run `/a.php` for `/a.php/x`.
#[tokio::test]
async fn nothing_behind_a_scripts_name_has_the_script_run_for_nothing() {
    let origin = Origin::site().await;
    let routes = "[[routes]]\npath = \"/*.php\"\nprice = \"$0.01\"\n\
                  [[routes]]\npath = \"/a.php/public/*\"\nfree = true\n\
                  [[routes]]\npath = \"/a.php\"\nprice = \"$0.01\"\n";
    let gateway = Gateway::start(&origin.url(), "sandbox", routes).await;
    for (path, status) in [
        ("/a.php", 402),
        ("/a.php/x", 400),
        ("/A.PHP/x", 400),
        ("/b.php/x/y", 400),
        ("/a.php%2Fx", 400),
        ("/a.php/public/x", 200),
        ("/a.html/x", 200),
    ] {
        assert_eq!(get(gateway.address, path, &[]).await.status, status, "{path}");
    }
    let seen: Vec<_> = origin.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(seen, ["/a.php/public/x", "/a.html/x"]);
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

/// A site that takes whatever follows a head for the next request, as some do on pages that expect no
/// body. Returns its address and the request lines it has read.
async fn site_that_reads_no_bodies() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Vec<String>>>) {
        let mut read = String::new();
        let mut buffer = [0; 4096];
        loop {
            while let Some((head, rest)) = read.split_once("\r\n\r\n") {
                seen.lock().unwrap().push(head.lines().next().unwrap().to_owned());
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage").await.unwrap();
                if head.to_ascii_lowercase().contains("\r\nconnection: close") {
                    return;
                }
                read = rest.to_owned();
            }
            match stream.read(&mut buffer).await {
                Ok(count @ 1..) => read.push_str(std::str::from_utf8(&buffer[..count]).unwrap()),
                Ok(0) | Err(_) => return,
            }
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::default();
    let lines = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&lines)));
        }
    });
    (address, seen)
}

#[tokio::test]
async fn a_site_that_does_not_read_bodies_finds_no_request_in_one() {
    let (site, seen) = site_that_reads_no_bodies().await;
    let gateway = Gateway::start(&format!("http://{site}"), "sandbox", PAID).await;
    let hidden = "GET /paid/a HTTP/1.1\r\nHost: a\r\n\r\n";
    let length = hidden.len();
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (method, fields, body, status) in [
        ("POST", format!("Content-Length: {length}\r\n"), hidden.to_owned(), 200),
        ("GET", format!("Content-Length: {length}\r\n"), hidden.to_owned(), 200),
        (
            "DELETE",
            "Transfer-Encoding: chunked\r\n".to_owned(),
            format!("{length:x}\r\n{hidden}\r\n0\r\n\r\n"),
            200,
        ),
        ("POST", format!("Upgrade: h2c\r\nContent-Length: {length}\r\n"), hidden.to_owned(), 200),
        ("GET", format!("{websocket}Content-Length: {length}\r\n"), hidden.to_owned(), 400),
        ("GET", format!("{websocket}Transfer-Encoding: chunked\r\n"), "0\r\n\r\n".to_owned(), 400),
    ] {
        let ask = format!("{method} /free HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}");
        assert_eq!(send(gateway.address, ask.as_bytes()).await.status, status, "{method} {fields}");
        assert_eq!(get(gateway.address, "/free", &[]).await.text(), "page");
    }
    let seen = seen.lock().unwrap().clone();
    assert!(!seen.iter().any(|line| line.contains("/paid")), "{seen:?}");
    assert_eq!(seen.len(), 10, "{seen:?}");
}

#[tokio::test]
async fn connections_are_used_again_after_a_body_only_where_that_is_said_to_be_safe() {
    let origin = Origin::site().await;
    let mut config = base("usual", "sandbox");
    for (name, more) in [("usual", ""), ("careful", "reuse_after_body = true\n")] {
        config.push_str(&format!("[[routes]]\npath = \"/{name}\"\nfree = true\nupstream = \"{name}\"\n"));
        config.push_str(&format!("[upstreams.{name}]\nurl = \"{}\"\n{more}", origin.url()));
    }
    let gateway = Gateway::with_config(&config).await;
    for (path, method, body, expected) in [
        ("/usual", "POST", "abc", Some("close")),
        ("/usual", "POST", "", None),
        ("/usual", "GET", "", None),
        ("/careful", "POST", "abc", None),
    ] {
        let ask = format!(
            "{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        assert_eq!(send(gateway.address, ask.as_bytes()).await.status, 200);
        assert_eq!(origin.requests().pop().unwrap().header("connection"), expected, "{method} {path} {body}");
    }
}
