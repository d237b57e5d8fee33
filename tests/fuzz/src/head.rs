//! What arrives on a connection of HTTP/1: heads of requests, and chunked bodies.

use tollgate::proxy::chunks::Chunks;
use tollgate::proxy::head::{Body, Head, examine};

const HEADERS_MAX: usize = 256;

/// The bytes are a connection. However it is cut into pieces, a head ends in the same place and has the
/// same body; and where another parser understands it, it is one with exactly that body.
pub fn hold(data: &[u8]) {
    let whole = examine(data, 0);
    // Bytes that come later neither complete nor spoil what came before.
    let mut searched = 0;
    let mut in_pieces = Head::Partial;
    for end in cuts(data) {
        in_pieces = examine(&data[..end], searched);
        searched = end;
        if in_pieces != Head::Partial {
            break;
        }
    }
    assert_eq!(in_pieces, whole, "in pieces it is another head");
    if let Head::Complete(end, body) = whole {
        framed(&data[..end], body);
        if body == Body::Chunked {
            chunked(&data[end..]);
        }
    }
    chunked(data);
}

/// Places to cut at, the end among them: near line breaks, where it matters.
fn cuts(data: &[u8]) -> impl Iterator<Item = usize> {
    let near = |place: usize| data[place.saturating_sub(1)..].first().is_some_and(|byte| *byte <= b'\r');
    (1..data.len()).filter(move |place| near(*place) || place % 7 == 0).chain([data.len()])
}

/// The head as another parser reads it, in the terms of RFC 9112 §6.3.
fn framed(head: &[u8], body: Body) {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    // What is no request to others is refused behind this check.
    let Ok(httparse::Status::Complete(length)) = request.parse(head) else { return };
    assert_eq!(length, head.len(), "a head that ends elsewhere");
    let all = |name: &str| -> Vec<&[u8]> {
        let same = |header: &&httparse::Header<'_>| header.name.eq_ignore_ascii_case(name);
        request.headers.iter().filter(same).map(|header| header.value).collect()
    };
    let (lengths, codings) = (all("content-length"), all("transfer-encoding"));
    assert!(all("host").len() <= 1 && lengths.len() + codings.len() <= 1, "more than one framing");
    assert!(all("host").len() == 1 || request.version != Some(1), "no host");
    assert!(codings.iter().all(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"chunked")));
    match body {
        Body::Endless => assert!(!all("upgrade").is_empty()),
        Body::Chunked => assert_eq!(codings.len(), 1),
        Body::Length(length) => {
            let said = lengths.first().map_or(b"0".as_slice(), |said| said.trim_ascii());
            let said = std::str::from_utf8(said).unwrap().trim_start_matches('0');
            assert_eq!(if said.is_empty() { "0" } else { said }, length.to_string());
            assert!(codings.is_empty());
        }
    }
}

/// A chunked body ends where the grammar of RFC 9112 §7.1 ends it, in pieces too, or never.
fn chunked(data: &[u8]) {
    let mut chunks = Chunks::default();
    let taken = chunks.advance(data);
    match end_of_chunks(data) {
        Some(end) => assert!(chunks.is_done() && taken == end, "ends after {taken}, not after {end}"),
        None => assert!(!chunks.is_done() && taken == data.len(), "ends after {taken}, not at all"),
    }
    let mut pieces = Chunks::default();
    let mut passed = 0;
    for end in cuts(data) {
        passed += pieces.advance(&data[passed..end]);
    }
    assert_eq!((pieces.is_done(), passed), (chunks.is_done(), taken), "in pieces it is another body");
}

/// Where a chunked body ends; `None` when it is not complete, or is none.
fn end_of_chunks(data: &[u8]) -> Option<usize> {
    let mut rest = data;
    loop {
        let line = line(&mut rest)?;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (digits, extension) = line.split_at(digits);
        if digits.is_empty() || !matches!(extension.first(), None | Some(b';' | b' ' | b'\t')) {
            return None;
        }
        let size = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        if size == 0 {
            break;
        }
        let (data, behind) = rest.split_at_checked(usize::try_from(size).ok()?)?;
        let _ = data;
        rest = behind.strip_prefix(b"\r\n")?;
    }
    while !line(&mut rest)?.is_empty() {}
    Some(data.len() - rest.len())
}

/// A line without its break, of a length that is still reasonable.
fn line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n'))?;
    let (line, behind) = rest.split_at(end);
    *rest = behind.strip_prefix(b"\r\n")?;
    (line.len() < 4096).then_some(line)
}
