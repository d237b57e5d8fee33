//! HTTP/1.1 as a client sees it whose other side may be gone at any time.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What came back.
#[derive(Debug)]
pub enum Answer {
    /// A whole answer.
    Whole(Head, Vec<u8>),
    /// A head and not all of the body.
    Part(Head, usize),
    /// Nothing that could be used.
    Nothing,
}

/// The head of an answer.
#[derive(Debug, Clone)]
pub struct Head {
    pub status: u16,
    pub headers: Vec<(String, String)>,
}

impl Head {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// A header that is base64 of JSON.
    pub fn decoded(&self, name: &str) -> Option<Value> {
        let json = base64::engine::general_purpose::STANDARD.decode(self.header(name)?).ok()?;
        serde_json::from_slice(&json).ok()
    }
}

/// A request.
pub struct Ask<'a> {
    pub method: &'a str,
    pub path: &'a str,
    /// The value of `PAYMENT-SIGNATURE`.
    pub payment: Option<&'a str>,
    pub body: &'a str,
    /// When the client leaves, whatever has come until then.
    pub leaves_after: Duration,
}

/// Sends a request and reads the answer; `progress` is told of the head and of how many bytes of
/// body have come (those of its framing included) each time some have.
pub async fn exchange(address: SocketAddr, ask: &Ask<'_>, mut progress: impl FnMut(&Head, usize)) -> Answer {
    let mut reading = Reading::default();
    let talk = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        stream.write_all(ask.written(address).as_bytes()).await.ok()?;
        while !reading.is_whole() {
            let read = stream.read_buf(&mut reading.buffer).await.ok()?;
            if read == 0 {
                return None;
            }
            reading.look();
            if let Some(head) = &reading.head {
                progress(head, reading.buffer.len());
            }
        }
        Some(())
    };
    let _ = tokio::time::timeout(ask.leaves_after, talk).await;
    match reading.head.take() {
        None => Answer::Nothing,
        Some(head) if Reading::ends(&head, &reading.buffer) => {
            let body = if is_chunked(&head) { joined(&reading.buffer) } else { reading.buffer };
            Answer::Whole(head, body)
        }
        Some(head) => Answer::Part(head, reading.buffer.len()),
    }
}

/// The status of a page, if there is an answer.
pub async fn status(address: SocketAddr, path: &str) -> Option<u16> {
    match get(address, path).await {
        Answer::Whole(head, _) => Some(head.status),
        Answer::Part(..) | Answer::Nothing => None,
    }
}

/// A page.
pub async fn get(address: SocketAddr, path: &str) -> Answer {
    let leaves_after = Duration::from_secs(5);
    let ask = Ask { method: "GET", path, payment: None, body: "", leaves_after };
    exchange(address, &ask, |_, _| {}).await
}

impl Ask<'_> {
    fn written(&self, address: SocketAddr) -> String {
        let payment = self.payment.map(|value| format!("PAYMENT-SIGNATURE: {value}\r\n")).unwrap_or_default();
        let length = if self.method == "POST" {
            format!("Content-Length: {}\r\n", self.body.len())
        } else {
            String::new()
        };
        format!(
            "{} {} HTTP/1.1\r\nHost: {address}\r\n{payment}{length}Connection: close\r\n\r\n{}",
            self.method, self.path, self.body
        )
    }
}

/// What has come of an answer: before the head is whole all of it, then the body.
#[derive(Default)]
struct Reading {
    head: Option<Head>,
    buffer: Vec<u8>,
}

impl Reading {
    fn look(&mut self) {
        if self.head.is_some() {
            return;
        }
        let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") else { return };
        let bytes: Vec<u8> = self.buffer.drain(..end + 4).collect();
        let text = String::from_utf8(bytes).unwrap();
        let mut lines = text.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let pair = |line: &str| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_owned(), value.trim().to_owned())
        };
        self.head = Some(Head { status, headers: lines.map(pair).collect() });
    }

    fn is_whole(&self) -> bool {
        self.head.as_ref().is_some_and(|head| Self::ends(head, &self.buffer))
    }

    /// Whether a body has ended. What the origin sends never contains the end of chunks.
    fn ends(head: &Head, body: &[u8]) -> bool {
        match head.header("content-length") {
            Some(length) => body.len() >= length.parse::<usize>().unwrap(),
            None if is_chunked(head) => body.ends_with(b"0\r\n\r\n"),
            None => true,
        }
    }
}

fn is_chunked(head: &Head) -> bool {
    head.header("transfer-encoding").is_some()
}

/// A body without its chunks.
fn joined(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(chunks.len());
    while let Some(end) = chunks.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&chunks[..end]).unwrap(), 16).unwrap();
        let start = end + 2;
        body.extend_from_slice(&chunks[start..start + size]);
        chunks = &chunks[start + size + 2..];
    }
    body
}
