//! An HTTP/1.1 server that does exactly what a test says, byte by byte.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};

use super::client::PATIENCE;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// The value of a header, if it is there once or more (the first).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// What a server does with a request.
pub enum Act {
    /// Sends these bytes and keeps the connection.
    Raw(Vec<u8>),
    /// Sends these bytes and closes the connection.
    RawThenClose(Vec<u8>),
    /// Sends what the channel brings, until it ends; then closes the connection.
    Stream(mpsc::Receiver<Vec<u8>>),
    /// Says nothing and keeps the connection.
    Hang,
    /// Closes the connection without a word.
    Close,
    /// Waits for a word (or for its sender to be dropped), then does this.
    Held(oneshot::Receiver<()>, Box<Act>),
}

impl Act {
    /// A complete answer with a body.
    pub fn answer(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let mut head = format!("HTTP/1.1 {status} Scripted\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        Self::Raw([head.as_bytes(), body].concat())
    }

    /// This act, held until the sender says so.
    pub fn held(self) -> (oneshot::Sender<()>, Self) {
        let (release, held) = oneshot::channel();
        (release, Self::Held(held, Box::new(self)))
    }

    /// A JSON answer.
    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::answer(status, &[("Content-Type", "application/json")], body.to_string())
    }
}

type Handler = Arc<dyn Fn(&Request) -> Act + Send + Sync>;

/// A scripted server; it ends with the test's runtime.
#[derive(Clone)]
pub struct Server {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    arrived: watch::Sender<usize>,
    handler: Handler,
    /// Whether it listens; its connections end with that.
    listens: watch::Sender<bool>,
}

/// A scripted server that plays the site.
pub type Origin = Server;

impl Server {
    /// Starts a server on a free port.
    pub async fn start(handler: impl Fn(&Request) -> Act + Send + Sync + 'static) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), handler).await
    }

    /// Starts a server on an address.
    pub async fn start_at(
        address: SocketAddr,
        handler: impl Fn(&Request) -> Act + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            requests: Arc::default(),
            arrived: watch::Sender::new(0),
            handler: Arc::new(handler),
            listens: watch::Sender::new(false),
        };
        server.listen(listener);
        server
    }

    fn listen(&self, listener: TcpListener) {
        self.listens.send_replace(true);
        let server = self.clone();
        tokio::spawn(async move {
            let mut listens = server.listens.subscribe();
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    _ = listens.wait_for(|listens| !listens) => return,
                };
                let Ok((stream, _)) = accepted else { return };
                let (server, mut listens) = (server.clone(), server.listens.subscribe());
                tokio::spawn(async move {
                    tokio::select! {
                        () = serve(stream, server) => {}
                        _ = listens.wait_for(|listens| !listens) => {}
                    }
                });
            }
        });
    }

    /// Stops listening and closes every connection: from now on it is as if nobody were there.
    /// Returns when connections are refused.
    pub async fn go_away(&self) {
        self.listens.send_replace(false);
        let refused = async { while TcpStream::connect(self.address).await.is_ok() {} };
        tokio::time::timeout(PATIENCE, refused).await.expect("connections to be refused in time");
    }

    /// Listens again on the same address, with everything it remembers.
    pub async fn come_back(&self) {
        self.listen(TcpListener::bind(self.address).await.unwrap());
    }

    /// Waits until so many requests have arrived.
    pub async fn wait_for_requests(&self, count: usize) {
        let mut arrived = self.arrived.subscribe();
        let enough = arrived.wait_for(|arrived| *arrived >= count);
        tokio::time::timeout(PATIENCE, enough).await.expect("so many requests in time").unwrap();
    }

    fn record(&self, request: Request) {
        self.requests.lock().unwrap().push(request);
        self.arrived.send_modify(|arrived| *arrived += 1);
    }

    /// A site whose every page says `content of PATH`.
    pub async fn site() -> Self {
        Self::start(|request| {
            let path = request.target.split('?').next().unwrap_or_default();
            Act::answer(200, &[("Content-Type", "text/plain")], format!("content of {path}"))
        })
        .await
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests that have arrived.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The only request that has arrived.
    pub fn only_request(&self) -> Request {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:#?}");
        requests[0].clone()
    }
}

async fn serve(stream: TcpStream, server: Server) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream).await {
        let mut act = (server.handler)(&request);
        server.record(request);
        while let Act::Held(held, next) = act {
            let _ = held.await;
            act = *next;
        }
        match act {
            Act::Raw(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Act::RawThenClose(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                return;
            }
            Act::Stream(mut pieces) => {
                while let Some(piece) = pieces.recv().await {
                    if stream.write_all(&piece).await.is_err() {
                        return;
                    }
                }
                let _ = stream.shutdown().await;
                return;
            }
            Act::Hang => std::future::pending::<()>().await,
            Act::Close | Act::Held(..) => return,
        }
    }
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut request = read_request_head(stream).await?;
    if let Some(length) = request.header("content-length") {
        request.body = vec![0; length.parse().ok()?];
        stream.read_exact(&mut request.body).await.ok()?;
    } else if request.header("transfer-encoding").is_some() {
        request.body = read_chunks(stream).await?;
    }
    Some(request)
}

/// Reads a request up to its body; `None`: the connection ended.
pub async fn read_request_head(stream: &mut (impl AsyncBufReadExt + Unpin)) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end_matches("\r\n").to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let mut words = lines.first()?.split(' ').map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let headers: Vec<(String, String)> = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned())))
        .collect();
    Some(Request { method, target, headers, body: Vec::new() })
}

async fn read_chunks(stream: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let size = usize::from_str_radix(line.trim(), 16).ok()?;
        let mut chunk = vec![0; size + 2];
        stream.read_exact(&mut chunk).await.ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(&chunk[..size]);
    }
}
