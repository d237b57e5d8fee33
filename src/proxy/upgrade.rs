//! Connections to origins for requests that ask for a WebSocket.
//!
//! Pingora notes the end of such a request, which has no body, and reads the origin's answer in no
//! fixed order. When the answer to a switch comes first, it takes the end of the request for the end
//! of the conversation and hangs up, although the switch may have been paid for. Here the first read
//! after a write comes one turn later, so that the end of the request is noted first.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use pingora::connectors::L4Connect;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora::{ErrorType, OrErr as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// Makes such connections.
#[derive(Debug)]
pub(super) struct InTurn;

#[async_trait]
impl L4Connect for InTurn {
    async fn connect(&self, address: &SocketAddr) -> pingora::Result<Stream> {
        let connected = match address {
            SocketAddr::Inet(address) => tcp(*address).await,
            SocketAddr::Unix(address) => unix(address).await,
        };
        let socket = connected.or_err_with(ErrorType::ConnectError, || format!("to {address}"))?;
        Ok(VirtualSocketStream::new(socket).into())
    }
}

async fn tcp(address: std::net::SocketAddr) -> io::Result<Box<dyn VirtualSocket>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(Box::new(Turns { stream, has_written: false }))
}

async fn unix(address: &std::os::unix::net::SocketAddr) -> io::Result<Box<dyn VirtualSocket>> {
    let path = address.as_pathname().ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok(Box::new(Turns { stream: UnixStream::connect(path).await?, has_written: false }))
}

#[derive(Debug)]
struct Turns<S> {
    stream: S,
    has_written: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Turns<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.has_written) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Turns<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.has_written = true;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + Sync + std::fmt::Debug> VirtualSocket for Turns<S> {
    fn set_socket_option(&self, _option: VirtualSockOpt) -> io::Result<()> {
        // Set when the connection was made.
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn what_is_read_after_a_write_comes_one_turn_later() {
        let (ours, mut origin) = tokio::io::duplex(64);
        let mut socket = Turns { stream: ours, has_written: false };
        for _ in 0..2 {
            socket.write_all(b"GET").await.unwrap();
            origin.write_all(b"101").await.unwrap();
            let mut answer = [0; 3];
            let mut read = Box::pin(socket.read_exact(&mut answer));
            assert!((&mut read).now_or_never().is_none());
            assert!((&mut read).now_or_never().is_some());
            drop(read);
            assert_eq!(&answer, b"101");
        }
    }
}
