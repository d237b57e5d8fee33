//! A small facilitator on a real socket, for tests: it answers what it is told to, or misbehaves.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use http::StatusCode;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use crate::x402::types::FacilitatorRequest;
use crate::x402::{PaymentRequirements, Version};

/// A request that arrived whole.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) line: String,
    /// Header lines, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn is(&self, call: &str) -> bool {
        self.line.contains(&format!("/{call} "))
    }
}

/// What to do about a request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Answer, and keep the connection.
    Json(u16, Value),
    /// Write this, and close the connection.
    Raw(Vec<u8>),
    /// Begin an answer, and go on with it for ever.
    Drip,
    /// Never answer.
    Stall,
}

impl Reply {
    /// An answer with more headers, after which the connection is closed.
    pub(crate) fn with_headers(status: u16, headers: &str, body: &str) -> Self {
        Self::Raw(response(status, headers, body))
    }
}

/// The facilitator. Ends, with its connections, when dropped.
pub(crate) struct Fake {
    /// Base URL.
    pub(crate) url: String,
    state: Arc<State>,
    server: JoinHandle<()>,
}

struct State {
    answer: Box<dyn Fn(&Received) -> Reply + Send + Sync>,
    received: Mutex<Vec<Received>>,
    connections: AtomicUsize,
}

impl Fake {
    /// Starts one that answers each request with what `answer` says.
    pub(crate) async fn start(answer: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::serve(answer, None).await
    }

    /// Starts one that speaks TLS, as `localhost`.
    pub(crate) async fn start_tls(
        config: rustls::ServerConfig,
        answer: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::serve(answer, Some(tokio_rustls::TlsAcceptor::from(Arc::new(config)))).await
    }

    /// Starts one that always answers the same.
    pub(crate) async fn always(reply: Reply) -> Self {
        Self::start(move |_| reply.clone()).await
    }

    async fn serve(
        answer: impl Fn(&Received) -> Reply + Send + Sync + 'static,
        tls: Option<tokio_rustls::TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = match tls {
            None => format!("http://127.0.0.1:{port}"),
            Some(_) => format!("https://localhost:{port}"),
        };
        let state = Arc::new(State {
            answer: Box::new(answer),
            received: Mutex::default(),
            connections: AtomicUsize::new(0),
        });
        let shared = Arc::clone(&state);
        let server = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let (state, tls) = (Arc::clone(&shared), tls.clone());
                connections.spawn(async move {
                    state.connections.fetch_add(1, Ordering::SeqCst);
                    match tls {
                        None => state.converse(socket).await,
                        Some(tls) => match tls.accept(socket).await {
                            Ok(socket) => state.converse(socket).await,
                            Err(_) => Some(()),
                        },
                    }
                });
            }
        });
        Self { url, state, server }
    }

    /// The requests that arrived whole so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.state.received.lock().unwrap().clone()
    }

    /// The connections that were accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl State {
    async fn converse(&self, mut socket: impl AsyncRead + AsyncWrite + Unpin) -> Option<()> {
        loop {
            let request = read(&mut socket).await?;
            let reply = (self.answer)(&request);
            self.received.lock().unwrap().push(request);
            match reply {
                Reply::Json(status, body) => {
                    let answer = response(status, "content-type: application/json\r\n", &body.to_string());
                    socket.write_all(&answer).await.ok()?;
                }
                Reply::Raw(bytes) => {
                    socket.write_all(&bytes).await.ok()?;
                    return socket.shutdown().await.ok();
                }
                Reply::Drip => {
                    socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n{").await.ok()?;
                    loop {
                        socket.write_all(b" ").await.ok()?;
                        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                    }
                }
                Reply::Stall => std::future::pending().await,
            }
        }
    }
}

fn response(status: u16, headers: &str, body: &str) -> Vec<u8> {
    let reason = StatusCode::from_u16(status).unwrap().canonical_reason().unwrap_or("Unknown");
    format!("HTTP/1.1 {status} {reason}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

async fn read(socket: &mut (impl AsyncRead + Unpin)) -> Option<Received> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        socket.read_buf(&mut bytes).await.ok().filter(|&count| count > 0)?;
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let line = lines.next()?.to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.map_or(0, |(_, value)| value.parse().unwrap());
    while bytes.len() < end + length {
        socket.read_buf(&mut bytes).await.ok().filter(|&count| count > 0)?;
    }
    let body = String::from_utf8(bytes[end..end + length].to_vec()).unwrap();
    Some(Received { line, headers, body })
}

/// A request for a payment that is told apart by `id`, as [`Bank`] reads it.
pub(crate) fn request(id: &str) -> FacilitatorRequest {
    let requirements = PaymentRequirements {
        scheme: "exact".into(),
        network: "base-sepolia".parse().unwrap(),
        amount: "10000".parse().unwrap(),
        asset: "0x036CbD53842c5426634e7929541eC2318f3dCF7e".into(),
        pay_to: "0x209693Bc6afc0C5328bA36FaF03C514EF312287C".into(),
        max_timeout_seconds: 60,
        extra: Map::new(),
    };
    let payment: Map<String, Value> =
        [("x402Version".into(), json!(2)), ("payload".into(), json!({"id": id}))].into_iter().collect();
    let terms = serde_json::to_value(&requirements).unwrap();
    FacilitatorRequest::new(Version::V2, requirements, &payment, &terms)
}

/// A `/supported` answer for [`request`]s.
pub(crate) fn listing() -> Value {
    json!({"kinds": [{"x402Version": 2, "scheme": "exact", "network": "eip155:84532"}]})
}

/// The answers of a well-behaved facilitator: each payment is settled once; one whose id begins with
/// `bad`, or that has none, is refused.
#[derive(Default)]
pub(crate) struct Bank {
    settled: Mutex<HashSet<String>>,
}

impl Bank {
    pub(crate) fn answer(&self, request: &Received) -> Reply {
        if request.is("supported") {
            return Reply::Json(200, listing());
        }
        let message: Value = serde_json::from_str(&request.body).unwrap();
        let id = message["paymentPayload"]["payload"]["id"].as_str().unwrap_or("bad");
        let terms = &message["paymentRequirements"];
        let network = terms["network"].as_str().unwrap();
        let known = terms["scheme"] == "exact" && network == "eip155:84532";
        let mut settled = self.settled.lock().unwrap();
        let good = known && !id.starts_with("bad") && !settled.contains(id);
        Reply::Json(
            200,
            match (request.is("settle"), good) {
                (false, true) => json!({"isValid": true, "payer": "0xpayer"}),
                (false, false) => json!({"isValid": false, "invalidReason": "refused"}),
                (true, true) => {
                    settled.insert(id.to_owned());
                    json!({"success": true, "transaction": format!("0x{id}"), "network": network})
                }
                (true, false) => json!({"success": false, "errorReason": "refused", "transaction": ""}),
            },
        )
    }
}
