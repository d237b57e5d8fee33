//! The head of an HTTP/1 request as bytes: where it ends, and whether its framing is beyond doubt.
//!
//! Pingora parses the head afterwards. This check comes first because Pingora tolerates what another
//! server in the chain may read differently (RFC 9112 §2.2, §3.2, §6.1, §11.2), and because it
//! knows no deadline for a whole head.

pub use super::inbound::Body;

/// What is known of the bytes that have arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// More bytes are needed.
    Partial,
    /// The head is complete: so many bytes, the empty line included, and then this body.
    Complete(usize, Body),
    /// The head must not be acted on.
    Refused(&'static str),
}

/// Looks at the bytes that have arrived. `searched` is how many of them were looked at before.
#[must_use]
pub fn examine(bytes: &[u8], searched: usize) -> Head {
    let from = searched.saturating_sub(3);
    let Some(end) = bytes[from..].windows(4).position(|window| window == b"\r\n\r\n") else {
        return Head::Partial;
    };
    let end = from + end;
    match check(&bytes[..end + 2]) {
        Ok(body) => Head::Complete(end + 4, body),
        Err(reason) => Head::Refused(reason),
    }
}

#[derive(Default)]
struct Seen {
    content_lengths: u32,
    length: u64,
    transfer_encodings: u32,
    hosts: u32,
    upgrade: bool,
}

fn check(head: &[u8]) -> Result<Body, &'static str> {
    let mut lines = head.split_inclusive(|byte| *byte == b'\n');
    let request_line = lines.next().and_then(|line| line.strip_suffix(b"\r\n")).ok_or("a bare line feed")?;
    if request_line.is_empty() {
        return Err("an empty request line");
    }
    if request_line.contains(&b'\r') || request_line.contains(&0) {
        return Err("a control character in the request line");
    }
    let mut seen = Seen::default();
    for line in lines {
        let line = line.strip_suffix(b"\r\n").ok_or("a bare line feed")?;
        if line.contains(&b'\r') || line.contains(&0) {
            return Err("a control character in a header");
        }
        check_field(line, &mut seen)?;
    }
    if seen.content_lengths + seen.transfer_encodings > 1 {
        return Err("more than one length of the body");
    }
    if seen.hosts > 1 {
        return Err("more than one Host");
    }
    if seen.hosts == 0 && request_line.ends_with(b" HTTP/1.1") {
        return Err("no Host");
    }
    Ok(match (seen.upgrade, seen.transfer_encodings) {
        (true, _) => Body::Endless,
        (false, 0) => Body::Length(seen.length),
        (false, _) => Body::Chunked,
    })
}

fn check_field(line: &[u8], seen: &mut Seen) -> Result<(), &'static str> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err("a folded header");
    }
    let colon = line.iter().position(|byte| *byte == b':').ok_or("a header without a colon")?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    if matches!(name.last(), None | Some(b' ' | b'\t')) {
        return Err("white space before a colon");
    }
    if name.eq_ignore_ascii_case(b"content-length") {
        seen.content_lengths += 1;
        let digits =
            std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let length = digits.and_then(|text| text.parse().ok());
        seen.length = length.ok_or("a Content-Length that is no number")?;
    } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
        seen.transfer_encodings += 1;
        // Anything before `chunked` would reach the origin without its coding being named.
        if !value.eq_ignore_ascii_case(b"chunked") {
            return Err("a Transfer-Encoding other than chunked");
        }
    } else if name.eq_ignore_ascii_case(b"host") {
        seen.hosts += 1;
    } else if name.eq_ignore_ascii_case(b"upgrade") {
        seen.upgrade = true;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(head: &str) -> Head {
        examine(head.as_bytes(), 0)
    }

    #[test]
    fn a_plain_head_is_complete() {
        for (head, body) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Body::Length(0)),
            ("GET / HTTP/1.0\r\n\r\n", Body::Length(0)),
            ("POST / HTTP/1.1\r\nhost: a\r\nContent-Length: 3\r\n\r\n", Body::Length(3)),
            ("POST / HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: Chunked \r\n\r\n", Body::Chunked),
            ("GET / HTTP/1.1\r\nhost: a\r\nUpgrade: websocket\r\n\r\n", Body::Endless),
        ] {
            assert_eq!(whole(head), Head::Complete(head.len(), body), "{head:?}");
            assert_eq!(whole(&format!("{head}abc\n")), Head::Complete(head.len(), body), "{head:?}");
        }
    }

    #[test]
    fn a_head_may_arrive_in_any_pieces() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\nbody";
        let end = head.len() - 4;
        for cut in 0..end {
            assert_eq!(examine(&head[..cut], 0), Head::Partial, "{cut}");
            assert_eq!(examine(head, cut), Head::Complete(end, Body::Length(0)), "{cut}");
        }
    }

    #[test]
    fn doubtful_framing_is_refused() {
        for head in [
            "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\nX: y\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\n\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "GET /\r/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\n Transfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n: empty\r\n\r\n",
        ] {
            assert!(matches!(whole(head), Head::Refused(_)), "{head:?}");
        }
    }
}
