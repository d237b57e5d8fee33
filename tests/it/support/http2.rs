//! HTTP/2: a client, and an origin that the test itself plays.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc};
use tokio_rustls::TlsAcceptor;

use super::client::{PATIENCE, Response};
use super::connection::Io;

/// A client's connection.
pub struct Http2 {
    send: SendRequest<Bytes>,
    authority: String,
    connection: tokio::task::JoinHandle<Result<(), h2::Error>>,
}

/// A whole answer, trailers included.
#[derive(Debug)]
pub struct Http2Response {
    pub response: Response,
    pub trailers: Option<HeaderMap>,
}

impl Http2 {
    /// Connects without TLS.
    pub async fn open(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap(), &address.to_string()).await
    }

    /// Uses a connection that exists; requests are for this authority.
    pub async fn over(stream: impl Io + 'static, authority: &str) -> Self {
        let (send, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        Self { send, authority: authority.to_owned(), connection }
    }

    /// Drops the connection without a word.
    pub fn abort(&self) {
        self.connection.abort();
    }

    /// Waits until the other side has ended the connection.
    pub async fn ended(&mut self) {
        let ended = tokio::time::timeout(PATIENCE, &mut self.connection).await;
        drop(ended.expect("the connection to end in time"));
    }

    /// A request of this connection's authority.
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Request<()> {
        let uri = format!("http://{}{path}", self.authority);
        let mut request = Request::builder().method(method).uri(uri).version(http::Version::HTTP_2);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    /// Sends a request's head; its body may follow on the stream.
    pub async fn start(&mut self, request: Request<()>, ends: bool) -> (ResponseFuture, SendStream<Bytes>) {
        let ready = self.send.clone().ready();
        let mut send = tokio::time::timeout(PATIENCE, ready).await.expect("a free stream in time").unwrap();
        send.send_request(request, ends).unwrap()
    }

    /// Sends a GET and reads the whole answer.
    pub async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Http2Response {
        let request = self.request("GET", path, headers);
        let (response, _) = self.start(request, true).await;
        whole(response).await.unwrap()
    }
}

/// Reads the whole answer to a request.
pub async fn whole(response: ResponseFuture) -> Result<Http2Response, h2::Error> {
    let read = async {
        let (head, mut body) = response.await?.into_parts();
        let mut bytes = Vec::new();
        while let Some(piece) = piece(&mut body).await {
            bytes.extend(piece?);
        }
        let trailers = body.trailers().await?;
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let response = Response {
            status: head.status.as_u16(),
            headers: head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
            body: bytes,
            interim: Vec::new(),
            complete: true,
        };
        Ok(Http2Response { response, trailers })
    };
    tokio::time::timeout(PATIENCE, read).await.expect("an answer in time")
}

/// The next piece of a body; its window is given back.
pub async fn piece(body: &mut RecvStream) -> Option<Result<Bytes, h2::Error>> {
    let piece = tokio::time::timeout(PATIENCE, body.data()).await.expect("a piece of a body in time")?;
    if let Ok(piece) = &piece {
        let _ = body.flow_control().release_capacity(piece.len());
    }
    Some(piece)
}

/// A listening HTTP/2 origin; requests wait until the test takes them.
pub struct Http2Origin {
    pub address: SocketAddr,
    requests: Mutex<mpsc::UnboundedReceiver<Http2Exchange>>,
}

/// A request with the means to answer it.
pub struct Http2Exchange {
    pub head: http::request::Parts,
    pub body: RecvStream,
    pub respond: h2::server::SendResponse<Bytes>,
}

impl Http2Origin {
    /// Listens without TLS.
    pub async fn start() -> Self {
        Self::listen(None).await
    }

    /// Listens with TLS.
    pub async fn start_tls(acceptor: TlsAcceptor) -> Self {
        Self::listen(Some(acceptor)).await
    }

    async fn listen(acceptor: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, requests) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (sender, acceptor) = (sender.clone(), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(stream, sender).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                serve(stream, sender).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, requests: Mutex::new(requests) }
    }

    /// The next request.
    pub async fn exchange(&self) -> Http2Exchange {
        let mut requests = self.requests.lock().await;
        let next = tokio::time::timeout(PATIENCE, requests.recv()).await;
        next.expect("a request in time").unwrap()
    }
}

async fn serve(stream: impl Io, requests: mpsc::UnboundedSender<Http2Exchange>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let (head, body) = request.into_parts();
        drop(requests.send(Http2Exchange { head, body, respond }));
    }
}

impl Http2Exchange {
    /// The value of a header of the request.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Sends an answer's head; its body may follow on the stream.
    pub fn start(&mut self, status: u16, headers: &[(&str, &str)], ends: bool) -> SendStream<Bytes> {
        let mut response = http::Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        self.respond.send_response(response.body(()).unwrap(), ends).unwrap()
    }

    /// Sends a whole answer.
    pub fn answer(&mut self, status: u16, headers: &[(&str, &str)], body: &'static [u8]) {
        let mut stream = self.start(status, headers, body.is_empty());
        if !body.is_empty() {
            stream.send_data(Bytes::from_static(body), true).unwrap();
        }
    }
}

/// The bytes of a client that asks for one thing on stream 1, without a body, and takes a megabyte of it before it
/// has to say that it takes more.
pub fn first_request(fields: &[(&str, &str)]) -> Vec<u8> {
    const WINDOW: u32 = 1 << 20;
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    };
    let mut block = Vec::new();
    for (name, value) in fields {
        // A literal without indexing (RFC 7541 §6.2.2).
        block.push(0);
        push_text(&mut block, name);
        push_text(&mut block, value);
    }
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(4, 0, 0, &[&[0, 4], &WINDOW.to_be_bytes()[..]].concat()),
        frame(8, 0, 0, &WINDOW.to_be_bytes()),
        frame(1, 5, 1, &block),
    ]
    .concat()
}

/// A text with its length before it (RFC 7541 §5.1 and §5.2).
fn push_text(block: &mut Vec<u8>, text: &str) {
    let mut left = text.len();
    block.push(u8::try_from(left.min(127)).unwrap());
    if left >= 127 {
        left -= 127;
        while left >= 128 {
            block.push(u8::try_from(left % 128).unwrap() | 128);
            left /= 128;
        }
        block.push(u8::try_from(left).unwrap());
    }
    block.extend(text.as_bytes());
}
