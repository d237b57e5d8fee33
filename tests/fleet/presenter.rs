//! Clients that present a payment until they know the end, at whichever replica answers.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// How long a client waits for one answer.
const PATIENCE_FOR_ANSWER: Duration = Duration::from_secs(30);
/// How long one keeps presenting a payment before that counts as a failure.
const PERSEVERANCE: Duration = Duration::from_secs(180);
/// The longest a client waits before it asks again, whatever it is told.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// A client with a connection that it keeps.
pub struct Presenter {
    replicas: Vec<SocketAddr>,
    home: usize,
    line: Option<(usize, BufReader<TcpStream>)>,
}

/// What a payment came to for one of those who presented it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It bought this, from this replica, by this transaction.
    Delivered { replica: usize, body: String, transaction: String },
    /// It was used before.
    Used,
}

/// An answer.
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Presenter {
    /// Somebody who asks `home` first, and every other replica in its turn.
    pub fn new(replicas: Vec<SocketAddr>, home: usize) -> Self {
        let home = home % replicas.len();
        Self { replicas, home, line: None }
    }

    /// Presents a payment until its end is known.
    pub async fn persist(&mut self, path: &str, payment: &str) -> End {
        let deadline = Instant::now() + PERSEVERANCE;
        let mut at = self.home;
        loop {
            let wait = match self.present(at, path, payment).await {
                Ok(answer) if answer.status == 200 => return answer.delivered(at),
                Ok(answer) if answer.status == 402 => {
                    assert_eq!(answer.reason().as_deref(), Some("duplicate_settlement"), "{path}");
                    return End::Used;
                }
                Ok(answer) if answer.status == 503 => answer.retry_after().min(WAIT_MAX),
                Ok(answer) => panic!("{path}: {} {}", answer.status, answer.text()),
                Err(_) => Duration::from_millis(20),
            };
            assert!(Instant::now() < deadline, "{path}: nobody says what became of it");
            tokio::time::sleep(wait).await;
            // Any replica will do.
            at = (at + 1) % self.replicas.len();
        }
    }

    async fn present(&mut self, at: usize, path: &str, payment: &str) -> io::Result<Answer> {
        let exchange = self.exchange(at, path, payment);
        match tokio::time::timeout(PATIENCE_FOR_ANSWER, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    async fn exchange(&mut self, at: usize, path: &str, payment: &str) -> io::Result<Answer> {
        let mut line = match self.line.take() {
            Some((other, line)) if other == at => line,
            _ => BufReader::new(TcpStream::connect(self.replicas[at]).await?),
        };
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\nPAYMENT-SIGNATURE: {payment}\r\n\r\n");
        line.write_all(request.as_bytes()).await?;
        let answer = Answer::read(&mut line).await?;
        if !answer.closes() {
            self.line = Some((at, line));
        }
        Ok(answer)
    }
}

impl Answer {
    async fn read(line: &mut BufReader<TcpStream>) -> io::Result<Self> {
        let broken = || io::Error::from(io::ErrorKind::InvalidData);
        let first = text_line(line).await?;
        let status = first.split(' ').nth(1).and_then(|text| text.parse().ok()).ok_or_else(broken)?;
        let mut answer = Self { status, headers: Vec::new(), body: Vec::new() };
        loop {
            let text = text_line(line).await?;
            if text.is_empty() {
                break;
            }
            let (name, value) = text.split_once(':').ok_or_else(broken)?;
            answer.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let length = answer.header("content-length").and_then(|text| text.parse().ok()).ok_or_else(broken)?;
        answer.body = vec![0; length];
        line.read_exact(&mut answer.body).await?;
        Ok(answer)
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// A header that is base64 of JSON.
    fn decoded(&self, name: &str) -> Option<Value> {
        let json = base64::engine::general_purpose::STANDARD.decode(self.header(name)?).ok()?;
        serde_json::from_slice(&json).ok()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// How long a client is told to wait; it is always told.
    fn retry_after(&self) -> Duration {
        assert_eq!(self.header("payment-required"), None, "whoever waits must not be asked to pay");
        let seconds = self.header("retry-after").unwrap_or_else(|| panic!("503 {}", self.text()));
        Duration::from_secs(seconds.parse().unwrap())
    }

    /// Why a payment was refused.
    fn reason(&self) -> Option<String> {
        Some(self.decoded("payment-required")?["error"].as_str()?.to_owned())
    }

    fn delivered(&self, replica: usize) -> End {
        let receipt = self.decoded("payment-response").unwrap();
        assert_eq!(receipt["success"], true, "{receipt}");
        let transaction = receipt["transaction"].as_str().unwrap().to_owned();
        End::Delivered { replica, body: self.text(), transaction }
    }
}

async fn text_line(line: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut text = String::new();
    if line.read_line(&mut text).await? == 0 || !text.ends_with('\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(text.trim_end().to_owned())
}
