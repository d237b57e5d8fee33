//! Asks the demo site over a real connection, for the tests.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// One answer of the site.
pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("the body is UTF-8")
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }
}

pub(super) async fn get(target: &str) -> Answer {
    request("GET", target, &[], b"").await
}

/// Sends one request in HTTP/1.0, whose answers end with the connection, and reads the answer to its end.
pub(super) async fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound address");
    let router = super::router_with_interval(Duration::from_millis(1));
    let server = tokio::spawn(async move { axum::serve(listener, router).await });

    let mut head = format!("{method} {target} HTTP/1.0\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        head = head + name + ": " + value + "\r\n";
    }
    let mut connection = TcpStream::connect(address).await.expect("the site accepts");
    let mut answer = Vec::new();
    // The site may refuse a large body before it has read all of it; the answer is what counts.
    let _ = connection.write_all(&[head.as_bytes(), b"\r\n", body].concat()).await;
    let _ = connection.read_to_end(&mut answer).await;
    server.abort();
    parse(&answer)
}

fn parse(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a complete head");
    let head = std::str::from_utf8(&bytes[..end]).expect("the head is text");
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status line");
    Answer {
        status: status.parse().expect("a status code"),
        headers: lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect(),
        body: bytes[end + 4..].to_vec(),
    }
}
