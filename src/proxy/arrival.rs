//! Whether clients are still there, and have what was sent to them, as far as TCP tells.
//!
//! Writing succeeds when the kernel has taken the bytes: also when the client has closed its side and
//! nobody will ever read them, and long before they have arrived. For a payment that makes the
//! difference between a delivery and one that broke off.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora::protocols::SocketDigest;
use pingora::protocols::http::ServerSession;
use pingora::proxy::Session;
use pingora::{Error, ErrorType};

use super::wire::{Tally, Wire};

/// States of a connection (`TCP_INFO` of Linux; RFC 9293 §3.3.2).
const ESTABLISHED: u8 = 1;
const CLOSE_WAIT: u8 = 8;
/// What systems say that do not tell the state of a connection.
const UNKNOWN: u8 = 0;

/// The first pause between two looks at a connection, and the longest.
const LOOK_FIRST: Duration = Duration::from_millis(1);
const LOOK_LAST: Duration = Duration::from_millis(50);

/// Nothing to do, if the client is still there. One that has closed its side only counts as gone, too,
/// as it does while the origin is being asked.
///
/// # Errors
/// The client has closed its connection, or lost it.
pub(super) fn still_there(session: &Session) -> pingora::Result<()> {
    let Some(connection) = Connection::of(session) else { return Ok(()) };
    let left = connection.is_gone()
        || connection.tally().is_some_and(|tally| !matches!(tally.state, UNKNOWN | ESTABLISHED));
    if left {
        Err(Error::explain(ErrorType::ConnectionClosed, "the client left").into_down())
    } else {
        Ok(())
    }
}

/// Waits until the client's system has confirmed everything that was written to its connection; false
/// when the connection or the stream ends before, or nothing is confirmed for `patience`. To be asked
/// when the answer is complete: nothing more can be written then.
pub(super) async fn has_arrived(session: &mut Session, patience: Duration) -> bool {
    let Some(connection) = Connection::of(session) else { return true };
    let mut stream = match session.as_downstream_mut() {
        // Nobody else needs it any more, and it alone knows the stream's number.
        ServerSession::H2(answered) => answered.take_response_body_writer(),
        _ => None,
    };
    let number = stream.as_ref().map(|stream| u32::from(stream.stream_id()));
    let mut expected = None;
    let (mut confirmed, mut since, mut pause) = (0, Instant::now(), LOOK_FIRST);
    loop {
        let Some(tally) = connection.tally() else { return true };
        if expected.is_none() && number.is_none_or(|number| connection.has_ended(number)) {
            // What was written before the end was seen counts, not what was counted before it.
            expected = connection.tally().map(|tally| tally.written);
        }
        if expected.is_some_and(|expected| tally.confirmed >= expected) {
            return true;
        }
        if connection.is_gone() || !matches!(tally.state, ESTABLISHED | CLOSE_WAIT) {
            return connection.tally().is_some_and(|last| expected.is_some_and(|all| last.confirmed >= all));
        }
        if tally.confirmed > confirmed {
            (confirmed, since) = (tally.confirmed, Instant::now());
        } else if since.elapsed() > patience {
            return false;
        }
        match &mut stream {
            Some(sending) => match tokio::time::timeout(pause, poll_fn(|cx| sending.poll_reset(cx))).await {
                // The client wants no more of it, and the library has dropped what was left.
                Ok(Ok(_)) => return false,
                // The connection has failed; how it fared is seen next.
                Ok(Err(_)) => stream = None,
                Err(_) => {}
            },
            None => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(LOOK_LAST);
    }
}

/// A client's connection, as far as its system tells of it.
struct Connection {
    socket: Arc<SocketDigest>,
    /// With HTTP/2, whose connection can be gone before its streams are.
    wire: Option<Arc<Wire>>,
}

impl Connection {
    fn of(session: &Session) -> Option<Self> {
        let digest = session.digest()?;
        let data = digest.proxy_digest.as_ref().and_then(|digest| digest.user_data.as_ref());
        let wire = data.and_then(|data| data.downcast_ref::<Arc<Wire>>()).cloned();
        Some(Self { socket: Arc::clone(digest.socket_digest.as_ref()?), wire })
    }

    fn tally(&self) -> Option<Tally> {
        match &self.wire {
            Some(wire) => wire.tally(&self.socket),
            None => Tally::of(&self.socket),
        }
    }

    fn is_gone(&self) -> bool {
        self.wire.as_ref().is_some_and(|wire| wire.is_gone())
    }

    fn has_ended(&self, stream: u32) -> bool {
        self.wire.as_ref().is_none_or(|wire| wire.has_ended(stream))
    }
}
