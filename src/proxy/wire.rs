//! What a connection of HTTP/2 has really written, and how it ended.
//!
//! The library takes an answer and keeps what the client does not read yet: whoever has handed it the
//! last byte knows nothing. So the frames that go out are looked at. And a connection can be gone,
//! and its number given to another, while one of its streams is still asking how it fares.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pingora::protocols::SocketDigest;

/// Streams whose end is remembered: those that asked for it have long done so.
const ENDED_MAX: usize = 1024;

const FRAME_HEAD_BYTES: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;

/// Bytes of a connection, as its system counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tally {
    /// State (`TCP_INFO` of Linux; RFC 9293 §3.3.2).
    pub(super) state: u8,
    /// Handed to the system.
    pub(super) written: u64,
    /// Confirmed by the client's.
    pub(super) confirmed: u64,
}

impl Tally {
    /// How a connection fares, where the system tells.
    pub(super) fn of(socket: &SocketDigest) -> Option<Self> {
        let info = socket.tcp_info()?;
        let sent = info.tcpi_bytes_sent.saturating_sub(info.tcpi_bytes_retrans);
        let written = sent.saturating_add(u64::from(info.tcpi_notsent_bytes));
        Some(Self { state: info.tcpi_state, written, confirmed: info.tcpi_bytes_acked })
    }
}

/// What is known of a connection of HTTP/2 by all of its streams.
#[derive(Debug, Default)]
pub(super) struct Wire(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    frame: Frame,
    /// Streams whose last frame was written, and not flushed yet.
    ending: Vec<u32>,
    ended: VecDeque<u32>,
    forgotten: bool,
    /// The connection is given up.
    gone: bool,
    /// How it fared at last, where the system told.
    last: Option<Tally>,
}

/// The frame that is being written.
#[derive(Debug, Default)]
struct Frame {
    head: Vec<u8>,
    /// Bytes of its payload that are to come.
    left: usize,
}

impl Wire {
    /// Bytes that were written next.
    pub(super) fn wrote(&self, mut bytes: &[u8]) {
        let mut state = self.state();
        while !bytes.is_empty() {
            let ended;
            (ended, bytes) = state.frame.advance(bytes);
            state.ending.extend(ended);
        }
    }

    /// Everything that was written has been handed to the system.
    pub(super) fn flushed(&self) {
        let mut state = self.state();
        let ending = std::mem::take(&mut state.ending);
        state.ended.extend(ending);
        let surplus = state.ended.len().saturating_sub(ENDED_MAX);
        state.forgotten |= surplus > 0;
        state.ended.drain(..surplus);
    }

    /// The connection is given up, and fared so at last.
    pub(super) fn gone(&self, last: Option<Tally>) {
        let mut state = self.state();
        (state.gone, state.last) = (true, last);
    }

    /// How the connection fares, or did at last; `None`: nobody can tell.
    pub(super) fn tally(&self, socket: &SocketDigest) -> Option<Tally> {
        // As long as this is locked the socket is not closed, so its number is nobody else's.
        let state = self.state();
        if state.gone { state.last } else { Tally::of(socket) }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.state().gone
    }

    /// Whether the last frame of a stream has been handed to the system, as far as that is remembered.
    pub(super) fn has_ended(&self, stream: u32) -> bool {
        let state = self.state();
        state.forgotten || state.ended.contains(&stream)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change above is complete before it can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Frame {
    /// Takes bytes of the present frame; returns the stream that it ends, if this was its last byte,
    /// and the bytes behind.
    fn advance<'a>(&mut self, bytes: &'a [u8]) -> (Option<u32>, &'a [u8]) {
        let missing = FRAME_HEAD_BYTES - self.head.len();
        let (head, rest) = bytes.split_at(missing.min(bytes.len()));
        self.head.extend_from_slice(head);
        if let (&[a, b, c, ..], true) = (&*self.head, head.len() == missing && missing > 0) {
            self.left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        }
        if self.head.len() < FRAME_HEAD_BYTES {
            return (None, rest);
        }
        let (payload, rest) = rest.split_at(self.left.min(rest.len()));
        self.left -= payload.len();
        if self.left > 0 {
            return (None, rest);
        }
        let ended = self.ends();
        self.head.clear();
        (ended, rest)
    }

    /// The stream that ends with the present frame.
    fn ends(&self) -> Option<u32> {
        let &[_, _, _, kind, flags, a, b, c, d] = &*self.head else { return None };
        let ends = matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0;
        ends.then(|| u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: usize) -> Vec<u8> {
        let mut bytes = u32::try_from(payload).unwrap().to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(std::iter::repeat_n(b'x', payload));
        bytes
    }

    proptest! {
        /// However the bytes are cut, a stream has ended when the last byte of its last frame is flushed.
        #[test]
        fn a_stream_has_ended_when_its_last_frame_is_flushed(cuts in proptest::collection::vec(1_usize..40, 0..40)) {
            let frames = [
                frame(4, 0, 0, 12), frame(HEADERS, 4, 1, 30), frame(DATA, 0, 1, 50), frame(HEADERS, 5, 3, 20),
                frame(DATA, END_STREAM, 1, 0), frame(6, 1, 0, 8), frame(DATA, 0, 5, 10), frame(DATA, 9, 5, 33),
            ];
            let ends = [(3, 3), (1, 4), (5, 7)];
            let all = frames.concat();
            let wire = Wire::default();
            let (mut at, mut cuts) = (0, cuts.into_iter());
            while at < all.len() {
                let to = cuts.next().map_or(all.len(), |cut| all.len().min(at + cut));
                wire.wrote(&all[at..to]);
                at = to;
                wire.flushed();
                for (stream, index) in ends {
                    let end: usize = frames[..=index].iter().map(Vec::len).sum();
                    prop_assert_eq!(wire.has_ended(stream), at >= end, "{} of {}", stream, at);
                }
            }
        }
    }

    #[test]
    fn what_is_not_flushed_has_not_ended() {
        let wire = Wire::default();
        wire.wrote(&frame(DATA, END_STREAM, 7, 3));
        assert!(!wire.has_ended(7));
        wire.flushed();
        assert!(wire.has_ended(7));
    }

    #[test]
    fn who_asks_too_late_is_not_kept_waiting() {
        let wire = Wire::default();
        for stream in 0..=u32::try_from(ENDED_MAX).unwrap() {
            wire.wrote(&frame(DATA, END_STREAM, 2 * stream + 1, 0));
            wire.flushed();
        }
        assert!(wire.has_ended(1));
    }
}
