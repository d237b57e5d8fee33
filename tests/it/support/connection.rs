//! A connection a test writes to and reads from piece by piece.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::{self, PATIENCE, Response};

/// Anything that carries bytes both ways.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A client's connection that stays open between requests.
pub struct Connection<S = TcpStream> {
    pub stream: S,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }

    /// Whether nothing at all has come from the other side yet.
    pub fn is_silent(&self) -> bool {
        let mut byte = [0];
        let nothing = matches!(self.stream.try_read(&mut byte),
                               Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
        self.buffer.is_empty() && nothing
    }

    /// Breaks the connection off at once (RST instead of FIN), as a client that crashes.
    pub fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }
}

impl<S: Io> Connection<S> {
    /// Uses a connection that exists.
    pub fn over(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// Sends bytes.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Sends bytes that the other side may refuse to take.
    pub async fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await?;
        self.stream.flush().await
    }

    /// Reads one whole answer.
    pub async fn response(&mut self) -> Response {
        self.answer(false).await
    }

    /// Reads one whole answer to a HEAD.
    pub async fn response_to_head(&mut self) -> Response {
        self.answer(true).await
    }

    async fn answer(&mut self, is_head: bool) -> Response {
        let read = async {
            let mut response = client::read_until_body(&mut self.stream, &mut self.buffer).await;
            if !is_head {
                client::read_body(&mut self.stream, &mut self.buffer, &mut response).await;
            }
            response
        };
        tokio::time::timeout(PATIENCE, read).await.expect("an answer in time")
    }

    /// Reads one head, also that of an interim response.
    pub async fn head(&mut self) -> Response {
        let head = client::read_head(&mut self.stream, &mut self.buffer);
        let (status, headers) = tokio::time::timeout(PATIENCE, head).await.expect("a head in time");
        Response { status, headers, body: Vec::new(), interim: Vec::new(), complete: true }
    }

    /// Reads until the bytes that have not been looked at yet contain a text, and returns them all.
    pub async fn read_until(&mut self, text: &str) -> String {
        let read = async {
            loop {
                let seen = String::from_utf8_lossy(&self.buffer).into_owned();
                if seen.contains(text) {
                    self.buffer.clear();
                    return seen;
                }
                let count = self.stream.read_buf(&mut self.buffer).await.unwrap();
                assert!(count > 0, "the connection ended before {text:?}: {seen:?}");
            }
        };
        tokio::time::timeout(PATIENCE, read).await.unwrap_or_else(|_| panic!("{text:?} did not come in time"))
    }

    /// Reads so many bytes and forgets them.
    pub async fn skip(&mut self, count: usize) {
        let mut left = count - self.buffer.len();
        self.buffer.clear();
        let mut piece = vec![0; 64 * 1024];
        while left > 0 {
            let read = self.stream.read(&mut piece);
            let read = tokio::time::timeout(PATIENCE, read).await.expect("more bytes in time").unwrap();
            assert!(read > 0, "the connection ended {left} bytes early");
            left -= read;
        }
    }

    /// Reads everything until the other side closes (or resets) the connection.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut all = std::mem::take(&mut self.buffer);
        let read = self.stream.read_to_end(&mut all);
        let _ = tokio::time::timeout(PATIENCE, read).await.expect("the connection to end in time");
        all
    }
}
