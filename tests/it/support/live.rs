//! An HTTP/1.1 origin that the test itself plays, step by step.

use std::net::SocketAddr;
use std::path::Path;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Mutex, mpsc};
use tokio_rustls::TlsAcceptor;

use super::client::PATIENCE;
use super::connection::Io;
use super::server::{Request, read_request_head};

type Stream = BufReader<Box<dyn Io>>;

/// A listening origin; connections wait until the test takes them.
pub struct LiveOrigin {
    pub address: SocketAddr,
    connections: Mutex<mpsc::UnboundedReceiver<Box<dyn Io>>>,
}

/// One connection, with the request that was read from it.
pub struct Exchange {
    pub request: Request,
    stream: Stream,
}

impl LiveOrigin {
    /// Listens on a free port.
    pub async fn start() -> Self {
        Self::listen(None).await
    }

    /// Listens with TLS on a free port.
    pub async fn start_tls(acceptor: TlsAcceptor) -> Self {
        Self::listen(Some(acceptor)).await
    }

    async fn listen(acceptor: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, connections) = mpsc::unbounded_channel::<Box<dyn Io>>();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                match &acceptor {
                    None => drop(sender.send(Box::new(stream))),
                    Some(acceptor) => {
                        // A gateway that does not trust the certificate ends the handshake.
                        if let Ok(stream) = acceptor.accept(stream).await {
                            drop(sender.send(Box::new(stream)));
                        }
                    }
                }
            }
        });
        Self { address, connections: Mutex::new(connections) }
    }

    /// Listens on a Unix socket.
    pub fn start_unix(path: &Path) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let (sender, connections) = mpsc::unbounded_channel::<Box<dyn Io>>();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                drop(sender.send(Box::new(stream)));
            }
        });
        Self { address: SocketAddr::from(([0, 0, 0, 0], 0)), connections: Mutex::new(connections) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next connection.
    pub async fn connection(&self) -> Box<dyn Io> {
        let mut connections = self.connections.lock().await;
        let next = tokio::time::timeout(PATIENCE, connections.recv()).await;
        next.expect("a connection to the origin in time").unwrap()
    }

    /// Whether a connection has been made that was not taken yet.
    pub async fn has_connection(&self) -> bool {
        !self.connections.lock().await.is_empty()
    }

    /// The head of the first request on the next connection that brings one.
    pub async fn exchange(&self) -> Exchange {
        let mut stream = BufReader::new(self.connection().await);
        let head = tokio::time::timeout(PATIENCE, read_request_head(&mut stream)).await;
        let request = head.expect("a request in time").expect("a request");
        Exchange { request, stream }
    }
}

impl Exchange {
    /// Sends bytes.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_write(bytes).await.unwrap();
    }

    /// Sends bytes that the gateway may not take any more.
    pub async fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await?;
        self.stream.flush().await
    }

    /// Sends a whole answer with a length.
    pub async fn answer(&mut self, status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) {
        let super::server::Act::Raw(bytes) = super::server::Act::answer(status, headers, body) else {
            unreachable!("an answer is raw bytes")
        };
        self.write(bytes).await;
    }

    /// Reads so many bytes of the request's body as they are on the wire.
    pub async fn read_exact(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let read = self.stream.read_exact(&mut bytes);
        tokio::time::timeout(PATIENCE, read).await.expect("the body in time").unwrap();
        bytes
    }

    /// Reads up to and with a text, as it is on the wire.
    pub async fn read_until(&mut self, end: &str) -> String {
        let mut all = Vec::new();
        let read = async {
            while !all.ends_with(end.as_bytes()) {
                let last = *end.as_bytes().last().unwrap();
                let count = self.stream.read_until(last, &mut all).await.unwrap();
                assert!(count > 0, "the body ended before {end:?}: {:?}", String::from_utf8_lossy(&all));
            }
        };
        tokio::time::timeout(PATIENCE, read).await.unwrap_or_else(|_| panic!("{end:?} did not come in time"));
        String::from_utf8(all).unwrap()
    }

    /// Reads until the gateway closes the connection.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let read = self.stream.read_to_end(&mut all);
        let _ = tokio::time::timeout(PATIENCE, read).await.expect("the connection to end in time");
        all
    }

    /// The next request on the same connection.
    pub async fn next(mut self) -> Self {
        let head = tokio::time::timeout(PATIENCE, read_request_head(&mut self.stream)).await;
        self.request = head.expect("a further request in time").expect("a further request");
        self
    }
}
