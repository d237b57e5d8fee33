//! A raw HTTP/1.1 client: what is written is sent, what comes back is shown as it is.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Nothing here takes longer than this; a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A response, interim responses before it included.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Statuses of interim responses that came before.
    pub interim: Vec<u16>,
    /// Whether the body ended as announced.
    pub complete: bool,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// A header that is base64 of JSON.
    pub fn decoded(&self, name: &str) -> Value {
        let value = self.header(name).unwrap_or_else(|| panic!("no {name} in {self:#?}"));
        let json = base64::engine::general_purpose::STANDARD.decode(value).unwrap();
        serde_json::from_slice(&json).unwrap()
    }

    /// The offers of a 402.
    pub fn required(&self) -> Value {
        assert_eq!(self.status, 402, "{}", self.text());
        self.decoded("payment-required")
    }
}

/// Sends a GET with headers and reads the answer.
pub async fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Response {
    request(address, "GET", path, headers, b"").await
}

/// Sends a request with `Host` and, where there is a body, `Content-Length`.
pub async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Response {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("Connection: close\r\n\r\n");
    send(address, &[head.as_bytes(), body].concat()).await
}

/// Sends bytes and reads one answer.
pub async fn send(address: SocketAddr, bytes: &[u8]) -> Response {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let is_head = bytes.starts_with(b"HEAD ");
    tokio::time::timeout(PATIENCE, read(&mut stream, is_head)).await.expect("an answer in time")
}

/// Reads one answer from a connection.
pub async fn read(stream: &mut (impl AsyncReadExt + Unpin), is_head: bool) -> Response {
    let mut buffer = Vec::new();
    let mut response = read_until_body(stream, &mut buffer).await;
    if !is_head {
        read_body(stream, &mut buffer, &mut response).await;
    }
    response
}

/// Reads an answer's head, and the heads of interim responses before it; `buffer` holds what came
/// behind it.
pub async fn read_until_body(stream: &mut (impl AsyncReadExt + Unpin), buffer: &mut Vec<u8>) -> Response {
    let mut interim = Vec::new();
    loop {
        let (status, headers) = read_head(stream, buffer).await;
        if (100..200).contains(&status) && status != 101 {
            interim.push(status);
            continue;
        }
        return Response { status, headers, body: Vec::new(), interim, complete: true };
    }
}

async fn fill(stream: &mut (impl AsyncReadExt + Unpin), buffer: &mut Vec<u8>) -> bool {
    matches!(stream.read_buf(buffer).await, Ok(count) if count > 0)
}

/// Reads one head, also that of an interim response.
pub async fn read_head(
    stream: &mut (impl AsyncReadExt + Unpin),
    buffer: &mut Vec<u8>,
) -> (u16, Vec<(String, String)>) {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        let open = fill(stream, buffer).await;
        assert!(open, "the connection ended within a head: {:?}", String::from_utf8_lossy(buffer));
    };
    let head: Vec<u8> = buffer.drain(..end + 4).collect();
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.trim_end().split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let split = |line: &str| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_owned(), value.trim().to_owned())
    };
    (status, lines.map(split).collect())
}

/// Reads the body that belongs to a head.
pub async fn read_body(
    stream: &mut (impl AsyncReadExt + Unpin),
    buffer: &mut Vec<u8>,
    response: &mut Response,
) {
    if matches!(response.status, 101 | 204 | 304) {
        return;
    }
    if let Some(length) = response.header("content-length") {
        let length: usize = length.parse().unwrap();
        while buffer.len() < length && fill(stream, buffer).await {}
        response.complete = buffer.len() >= length;
        response.body = buffer.drain(..length.min(buffer.len())).collect();
    } else if response.header("transfer-encoding").is_some() {
        response.complete = read_chunks(stream, buffer, &mut response.body).await;
    } else {
        while fill(stream, buffer).await {}
        response.body = std::mem::take(buffer);
    }
}

async fn read_chunks(
    stream: &mut (impl AsyncReadExt + Unpin),
    buffer: &mut Vec<u8>,
    body: &mut Vec<u8>,
) -> bool {
    loop {
        let line = loop {
            if let Some(end) = buffer.windows(2).position(|window| window == b"\r\n") {
                break buffer.drain(..end + 2).collect::<Vec<u8>>();
            }
            if !fill(stream, buffer).await {
                return false;
            }
        };
        let size = usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16).unwrap();
        while buffer.len() < size + 2 {
            if !fill(stream, buffer).await {
                return false;
            }
        }
        body.extend(buffer.drain(..size));
        buffer.drain(..2);
        if size == 0 {
            return true;
        }
    }
}
