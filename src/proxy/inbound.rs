//! A client's connection as Pingora gets it: it reads one request and never a byte of the next,
//! nothing written is held back while it waits, and no write waits for ever.
//!
//! Left to itself, Pingora takes bytes of a further request for an error of the present one (which
//! may just have been paid for) or drops them; it holds a head or a body of known length back
//! until 16 KiB of it are there; and some of its writes have no deadline.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf as _, BytesMut};
use pingora::http::ResponseHeader;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::{SslDigest, TlsRef};
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::chunks::Chunks;
use super::wire::{Tally, Wire};

/// Bytes of further requests that are taken in while one is under way.
const AHEAD_BYTES_MAX: usize = 64 * 1024;

/// Room for a read of a head; most heads fit.
const HEAD_READ_BYTES: usize = 2 * 1024;
/// Room for a read of a chunked body.
const BODY_READ_BYTES: usize = 16 * 1024;

/// How long a client that was answered early may go on sending.
const LINGER: Duration = Duration::from_secs(5);

/// How the body of a request ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// After so many bytes.
    Length(u64),
    /// With its last chunk.
    Chunked,
    /// With the connection: an upgrade, or HTTP/2.
    Endless,
}

/// A client's connection.
#[derive(Debug)]
pub(super) struct Inbound {
    stream: Stream,
    /// What was read and not handed on.
    ahead: BytesMut,
    left: Left,
    unflushed: bool,
    write_timeout: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    /// With HTTP/2: what has gone out, for its streams to ask.
    wire: Option<Arc<Wire>>,
}

#[derive(Debug)]
enum Left {
    Bytes(u64),
    Chunks(Chunks),
    Endless,
}

impl Inbound {
    pub(super) fn new(stream: Stream, write_timeout: Duration) -> Self {
        let (ahead, left) = (BytesMut::new(), Left::Bytes(0));
        Self { stream, ahead, left, unflushed: false, write_timeout, stalled: None, wire: None }
    }

    /// Begins HTTP/2, which goes on to the end of the connection.
    pub(super) fn begin_http2(&mut self) {
        self.begin(0, Body::Endless);
        self.wire = Some(Arc::default());
    }

    /// What was read ahead of any request; [`Self::fill`] adds to it.
    pub(super) const fn ahead(&mut self) -> &mut BytesMut {
        &mut self.ahead
    }

    /// Reads on; `false`: the client has closed or broken the connection.
    pub(super) async fn fill(&mut self) -> bool {
        self.ahead.reserve(HEAD_READ_BYTES);
        matches!(self.stream.read_buf(&mut self.ahead).await, Ok(count) if count > 0)
    }

    /// Begins a request: takes its head of so many bytes out, and lets its body be read.
    pub(super) fn begin(&mut self, head_bytes: usize, body: Body) -> BytesMut {
        self.left = match body {
            Body::Length(length) => Left::Bytes(length),
            Body::Chunked => Left::Chunks(Chunks::default()),
            Body::Endless => Left::Endless,
        };
        self.ahead.split_to(head_bytes)
    }

    /// Whether a further request may follow: the last one was read to its end, or its end is known
    /// to Pingora alone.
    pub(super) const fn is_between_requests(&self) -> bool {
        match &self.left {
            Left::Bytes(count) => *count == 0,
            Left::Chunks(chunks) => chunks.is_done(),
            Left::Endless => true,
        }
    }

    /// Ends the connection so that the client can read what was written last: to bytes nobody reads
    /// the system answers with a reset, which can overtake the answer (RFC 9112 §9.6).
    pub(super) async fn linger(&mut self) {
        self.end().await;
        let discard = async {
            while self.fill().await {
                self.ahead.clear();
            }
        };
        let _ = tokio::time::timeout(LINGER, discard).await;
    }

    async fn end(&mut self) {
        let end = Shutdown::shutdown(&mut *self.stream);
        // The client may be gone, or never read: nothing depends on a proper end.
        let _ = tokio::time::timeout(self.write_timeout, end).await;
    }

    fn poll_fill(&mut self, context: &mut Context<'_>, room: usize) -> Poll<io::Result<usize>> {
        self.ahead.reserve(room);
        pin!(self.stream.read_buf(&mut self.ahead)).poll(context)
    }

    /// The request is read; waits for the client to leave, and keeps what else it sends.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.ahead.len() < AHEAD_BYTES_MAX {
            if ready!(self.poll_fill(context, HEAD_READ_BYTES))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        // Full; whoever serves the next request looks here before it reads.
        Poll::Pending
    }

    fn poll_body(&mut self, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            match &mut self.left {
                Left::Endless => return Pin::new(&mut self.stream).poll_read(context, into),
                Left::Bytes(count) => {
                    let most = usize::try_from(*count).unwrap_or(usize::MAX).min(into.remaining());
                    let mut limited = ReadBuf::new(into.initialize_unfilled_to(most));
                    ready!(Pin::new(&mut self.stream).poll_read(context, &mut limited))?;
                    let read = limited.filled().len();
                    into.advance(read);
                    *count -= read as u64;
                    return Poll::Ready(Ok(()));
                }
                Left::Chunks(_) => {
                    if ready!(self.poll_fill(context, BODY_READ_BYTES))? == 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
        let most = self.ahead.len().min(into.remaining());
        let count = match &mut self.left {
            Left::Endless => most,
            Left::Bytes(count) => {
                let here = most.min(usize::try_from(*count).unwrap_or(usize::MAX));
                *count -= here as u64;
                here
            }
            Left::Chunks(chunks) => chunks.advance(&self.ahead[..most]),
        };
        into.put_slice(&self.ahead[..count]);
        self.ahead.advance(count);
        Poll::Ready(Ok(()))
    }

    /// Lets a write wait no longer than the write timeout.
    fn deadline<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let timeout = self.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
    }
}

impl AsyncRead for Inbound {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // Who reads has nothing more to write at present.
        if this.unflushed
            && let Poll::Ready(flushed) = Pin::new(&mut *this).poll_flush(context)
        {
            flushed?;
        }
        if into.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if this.is_between_requests() && !matches!(this.left, Left::Endless) {
            return this.poll_end(context);
        }
        this.poll_body(context, into)
    }
}

impl AsyncWrite for Inbound {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.unflushed = true;
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        if let (Some(wire), Poll::Ready(Ok(count))) = (&this.wire, &written) {
            wire.wrote(&bytes[..*count]);
        }
        this.deadline(context, written)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(context);
        this.unflushed = flushed.is_pending();
        if let (Some(wire), Poll::Ready(Ok(()))) = (&this.wire, &flushed) {
            wire.flushed();
        }
        this.deadline(context, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = Pin::new(&mut this.stream).poll_shutdown(context);
        this.deadline(context, shut)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.unflushed = true;
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        if let (Some(wire), Poll::Ready(Ok(count))) = (&this.wire, &written) {
            let mut left = *count;
            for slice in slices {
                let taken = left.min(slice.len());
                wire.wrote(&slice[..taken]);
                left -= taken;
            }
        }
        this.deadline(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        // While the stream is there: its socket's number may be another's a moment later.
        if let Some(wire) = &self.wire {
            wire.gone(self.stream.get_socket_digest().and_then(|socket| Tally::of(&socket)));
        }
    }
}

#[async_trait]
impl Shutdown for Inbound {
    async fn shutdown(&mut self) {
        if self.is_between_requests() && self.ahead.is_empty() {
            self.end().await;
        } else {
            self.linger().await;
        }
    }
}

impl UniqueID for Inbound {
    fn id(&self) -> UniqueIDType {
        self.stream.id()
    }
}

impl Ssl for Inbound {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.stream.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.stream.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.stream.selected_alpn_proto()
    }
}

impl GetTimingDigest for Inbound {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.stream.get_timing_digest()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.stream.get_read_pending_time()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.stream.get_write_pending_time()
    }
}

impl GetProxyDigest for Inbound {
    /// The one thing a connection can give to the streams that Pingora makes of it.
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        let wire = Arc::clone(self.wire.as_ref()?);
        let response = ResponseHeader::build(http::StatusCode::OK, None).ok()?;
        Some(Arc::new(ProxyDigest::new(Box::new(response), Some(Box::new(wire)))))
    }

    fn set_proxy_digest(&mut self, digest: ProxyDigest) {
        self.stream.set_proxy_digest(digest);
    }
}

impl GetSocketDigest for Inbound {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.stream.get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.stream.set_socket_digest(digest);
    }
}

/// Not supported: what a connection speaks is known before Pingora gets it.
impl Peek for Inbound {}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn pair(buffer_bytes: usize) -> (Inbound, tokio::io::DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(buffer_bytes);
        (Inbound::new(Box::new(ours), PATIENCE), theirs)
    }

    async fn read(inbound: &mut Inbound) -> Vec<u8> {
        let mut buffer = [0; 64];
        let count = inbound.read(&mut buffer).await.unwrap();
        buffer[..count].to_vec()
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_read_to_its_end_and_no_further() {
        for (body, sent, rest) in [
            (Body::Length(0), "", "GET /next"),
            (Body::Length(5), "hello", "GET /next"),
            (Body::Chunked, "5\r\nhello\r\n0\r\n\r\n", "GET /next"),
        ] {
            let (mut inbound, mut client) = pair(1024);
            client.write_all(format!("HEAD{sent}{rest}").as_bytes()).await.unwrap();
            assert!(inbound.fill().await);
            assert_eq!(inbound.begin(4, body), "HEAD");
            let mut all = Vec::new();
            while !inbound.is_between_requests() {
                all.extend(read(&mut inbound).await);
            }
            assert_eq!(all, sent.as_bytes());
            // Reading on only waits, and keeps what comes.
            client.write_all(b" HTTP/1.1").await.unwrap();
            tokio::time::timeout(Duration::from_secs(1), read(&mut inbound)).await.unwrap_err();
            assert_eq!(inbound.ahead(), &format!("{rest} HTTP/1.1"));
            drop(client);
            assert_eq!(read(&mut inbound).await, b"");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_read_as_it_comes() {
        for body in [Body::Length(10), Body::Chunked, Body::Endless] {
            let (mut inbound, mut client) = pair(1024);
            inbound.begin(0, body);
            for piece in ["5\r\nhe", "llo\r\n"] {
                client.write_all(piece.as_bytes()).await.unwrap();
                let read = read(&mut inbound).await;
                assert!(piece.as_bytes().starts_with(&read), "{body:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_further_requests_is_left_in_the_socket() {
        let (mut inbound, mut client) = pair(1024);
        inbound.begin(0, Body::Length(0));
        let flood = tokio::spawn(async move { client.write_all(&vec![b'x'; 10 * AHEAD_BYTES_MAX]).await });
        tokio::time::timeout(Duration::from_secs(1), read(&mut inbound)).await.unwrap_err();
        assert!(inbound.ahead().len() < 2 * AHEAD_BYTES_MAX);
        assert!(!flood.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_ends_the_write() {
        let (mut inbound, _client) = pair(16);
        let error = inbound.write_all(&[b'x'; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
