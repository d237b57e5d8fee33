//! Whether clients are still there, and have what was sent to them, as far as TCP tells.
//!
//! Writing succeeds when the kernel has taken the bytes: also when the client has closed its side and
//! nobody will ever read them, and long before they have arrived. For a payment that makes the
//! difference between a delivery and one that broke off.

use std::time::{Duration, Instant};

use pingora::protocols::SocketDigest;
use pingora::proxy::Session;
use pingora::{Error, ErrorType};

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
    let info = socket(session).and_then(SocketDigest::tcp_info);
    match info {
        Some(info) if !matches!(info.tcpi_state, UNKNOWN | ESTABLISHED) => {
            Err(Error::explain(ErrorType::ConnectionClosed, "the client left").into_down())
        }
        Some(_) | None => Ok(()),
    }
}

/// Waits until the client's system has confirmed everything that was written to its connection; false
/// when the connection ends before, or nothing is confirmed for `patience`. What HTTP/2 holds back
/// for the client's window is not written yet, and not waited for.
pub(super) async fn has_arrived(session: &Session, patience: Duration) -> bool {
    let Some(socket) = socket(session) else { return true };
    let mut expected = None;
    let (mut confirmed, mut since, mut pause) = (0, Instant::now(), LOOK_FIRST);
    loop {
        let Some(info) = socket.tcp_info() else { return true };
        let expected = *expected.get_or_insert_with(|| {
            let sent = info.tcpi_bytes_sent.saturating_sub(info.tcpi_bytes_retrans);
            sent.saturating_add(u64::from(info.tcpi_notsent_bytes))
        });
        if info.tcpi_bytes_acked >= expected {
            return true;
        }
        if !matches!(info.tcpi_state, ESTABLISHED | CLOSE_WAIT) {
            return false;
        }
        if info.tcpi_bytes_acked > confirmed {
            (confirmed, since) = (info.tcpi_bytes_acked, Instant::now());
        } else if since.elapsed() > patience {
            return false;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOK_LAST);
    }
}

fn socket(session: &Session) -> Option<&SocketDigest> {
    session.digest()?.socket_digest.as_deref()
}
