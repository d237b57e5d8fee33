//! The canonical path: parsed once, matched and forwarded in the same form.

use super::readings::{Reading, Readings};
use super::scripts;
use super::text;

/// Longest path, in bytes, as sent and in canonical form.
pub const PATH_BYTES_MAX: usize = 8192;

/// A request path in canonical form, with every way an origin may read it.
///
/// Canonical means: escapes of unreserved characters decoded, other escapes in upper case, spaces
/// and non-ASCII text escaped, dot segments resolved (RFC 3986 §5.2.4 and §6.2.2). Everything else
/// (`//`, `%2F`, `;x`, a trailing `/`) stays, because the origin may need it.
///
/// A plain path (lower-case ASCII without `%`, `;`, `//`, dots at the ends of segments and scripts in the
/// middle) costs one allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutePath {
    canonical: String,
    readings: Readings,
}

/// Why a request target has no canonical path, in words for the client. The request is answered 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Not an absolute path.
    #[error("the request target is not an absolute path")]
    NotAbsolute,
    /// More than [`PATH_BYTES_MAX`] bytes.
    #[error("the path is longer than {PATH_BYTES_MAX} bytes")]
    TooLong,
    /// A `#`; fragments are not sent (RFC 9112 §3.2).
    #[error("the path contains a `#`")]
    Fragment,
    /// A `?`: the query was not cut off.
    #[error("the path contains a `?`")]
    Query,
    /// A control character, as it is or escaped, at any decoding level.
    #[error("the path contains a control character")]
    Control,
    /// A backslash, as it is or escaped, at any decoding level.
    #[error("the path contains a backslash")]
    Backslash,
    /// A `%` without two hexadecimal digits.
    #[error("the path contains a `%` without two hexadecimal digits after it")]
    Escape,
    /// An overlong form or a surrogate in UTF-8, at any decoding level.
    #[error("the path contains a character encoded in malformed UTF-8")]
    Malformed,
    /// `..` segments lead above the root.
    #[error("the path leads above the root")]
    AboveRoot,
    /// A dot segment that shows only once `%2F` or double escapes are decoded, `;` parameters cut
    /// off, or trailing dots and spaces dropped.
    #[error("the path contains a disguised `.` or `..` segment")]
    DotSegment,
    /// Escaped more than three times over.
    #[error("the path is escaped more than three times over")]
    TooDeep,
    /// Unusual constructs so mixed that servers could read the path in dozens of ways.
    #[error("the path can be read in too many ways")]
    TooManyReadings,
}

impl RoutePath {
    /// Parses the path of a request target, without its query. Idempotent: parsing [`Self::as_str`]
    /// gives the same path.
    ///
    /// # Errors
    /// See [`PathError`].
    pub fn parse(path: &str) -> Result<Self, PathError> {
        if path.len() > PATH_BYTES_MAX {
            return Err(PathError::TooLong);
        }
        if !path.starts_with('/') {
            return Err(PathError::NotAbsolute);
        }
        if is_plain(path) {
            return Ok(Self { canonical: path.to_owned(), readings: Readings::default() });
        }
        let escaped = normalise_escapes(path)?;
        let canonical = if has_dot_segment(&escaped) { resolve_dot_segments(&escaped)? } else { escaped };
        if canonical.len() > PATH_BYTES_MAX {
            return Err(PathError::TooLong);
        }
        let readings = Readings::of(&canonical)?;
        Ok(Self { canonical, readings })
    }

    /// The path as it is matched and forwarded.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.canonical
    }

    /// The ways an origin may read the path, for people; the first is the strict one.
    pub fn readings(&self) -> impl Iterator<Item = String> {
        self.views().map(|reading| text::for_people(reading.text))
    }

    /// Whether any reading leads through what looks like a script, with something behind it.
    pub(super) fn has_scripts(&self) -> bool {
        self.readings.has_scripts()
    }

    /// The strict reading, then the others.
    pub(super) fn views(&self) -> impl Iterator<Item = Reading<'_>> {
        self.readings.views(&self.canonical)
    }
}

/// Whether a path is in canonical form, folded, has one reading only, and leads through no script, judged
/// in one pass. May say no to paths for which all that is true.
fn is_plain(path: &str) -> bool {
    let mut previous = b' ';
    // Where the segment begins, and whether it has a dot.
    let (mut start, mut dotted) = (0, false);
    for (at, byte) in path.bytes().enumerate() {
        let plain = match byte {
            // An empty segment, or one that ends in a dot.
            b'/' if matches!(previous, b'/' | b'.') => false,
            b'/' => {
                let script = dotted && scripts::is_script(&path[start..at]);
                (start, dotted) = (at, false);
                !script
            }
            // A segment that begins with a dot may be a dot segment.
            b'.' => {
                dotted = true;
                previous != b'/'
            }
            // The stream syntax of Windows file names.
            b'$' => previous != b':',
            b'a'..=b'z' | b'0'..=b'9' => true,
            _ => b"-_~!&'()*+,=:@".contains(&byte),
        };
        if !plain {
            return false;
        }
        previous = byte;
    }
    previous != b'.'
}

/// Decodes escapes of unreserved characters, writes the others in upper case, escapes what may not
/// stand in a path raw (RFC 3986 §6.2.2).
fn normalise_escapes(path: &str) -> Result<String, PathError> {
    let bytes = path.as_bytes();
    let mut escaped = String::with_capacity(path.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'#' => return Err(PathError::Fragment),
            b'?' => return Err(PathError::Query),
            b'\\' => return Err(PathError::Backslash),
            b'%' => {
                let value = text::escape_at(bytes, at - 1).ok_or(PathError::Escape)?;
                at += 2;
                match value {
                    b'\\' => return Err(PathError::Backslash),
                    _ if value.is_ascii_control() => return Err(PathError::Control),
                    _ if value.is_ascii_alphanumeric() || b"-._~".contains(&value) => {
                        escaped.push(char::from(value));
                    }
                    _ => text::push_escape(&mut escaped, value.into()),
                }
            }
            _ if byte.is_ascii_control() => return Err(PathError::Control),
            b' ' | 0x80.. => text::push_escape(&mut escaped, byte.into()),
            _ => escaped.push(char::from(byte)),
        }
    }
    Ok(escaped)
}

fn has_dot_segment(path: &str) -> bool {
    path.contains("/.") && path.split('/').any(|segment| matches!(segment, "." | ".."))
}

/// RFC 3986 §5.2.4, except that leaving the root is an error: no two servers agree where it leads.
fn resolve_dot_segments(path: &str) -> Result<String, PathError> {
    let mut resolved = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "." => {}
            ".." => drop(resolved.pop().ok_or(PathError::AboveRoot)?),
            _ => {
                resolved.push(segment);
                continue;
            }
        }
        if segments.peek().is_none() {
            resolved.push("");
        }
    }
    Ok(format!("/{}", resolved.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(path: &str) -> String {
        RoutePath::parse(path).map_or_else(|error| format!("{error:?}"), |path| path.as_str().to_owned())
    }

    #[test]
    fn a_path_has_one_canonical_spelling() {
        for (path, expected) in [
            ("/", "/"),
            ("/a/b.html", "/a/b.html"),
            ("/%61%7e%2D%5f%2e/B", "/a~-_./B"),
            ("/%c3%a9", "/%C3%A9"),
            ("/é b", "/%C3%A9%20b"),
            ("/a/./b/../c", "/a/c"),
            ("/a/%2e/b/%2E%2e/c", "/a/c"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/.", "/"),
            ("/a//../b", "/a/b"),
            ("//a//b/", "//a//b/"),
            ("/a%2fb;x=1", "/a%2Fb;x=1"),
            ("/.well-known/x..y/..z", "/.well-known/x..y/..z"),
            ("/a[1]{b}|c^`\"<>", "/a[1]{b}|c^`\"<>"),
            ("/caf%E9", "/caf%E9"),
            ("/100%25", "/100%25"),
        ] {
            assert_eq!(canonical(path), expected, "{path}");
        }
    }

    #[test]
    fn what_servers_could_read_differently_beyond_repair_is_refused() {
        for (path, error) in [
            ("", PathError::NotAbsolute),
            ("a", PathError::NotAbsolute),
            ("*", PathError::NotAbsolute),
            ("http://x/a", PathError::NotAbsolute),
            ("/a#b", PathError::Fragment),
            ("/a?b", PathError::Query),
            ("/a\0", PathError::Control),
            ("/a\x7f", PathError::Control),
            ("/a\r\nb", PathError::Control),
            ("/a%00", PathError::Control),
            ("/a%0A", PathError::Control),
            ("/a%7F", PathError::Control),
            ("/a%2500", PathError::Control),
            ("/a%25250a", PathError::Control),
            ("/a\\b", PathError::Backslash),
            ("/a%5cb", PathError::Backslash),
            ("/a%255Cb", PathError::Backslash),
            ("/a%2525%35%43b", PathError::Backslash),
            ("/a%", PathError::Escape),
            ("/a%4", PathError::Escape),
            ("/a%zz", PathError::Escape),
            ("/a%u0041", PathError::Escape),
            ("/a%+1", PathError::Escape),
            ("/%C0%AF", PathError::Malformed),
            ("/%c1%9c", PathError::Malformed),
            ("/%e0%80%af", PathError::Malformed),
            ("/%25c0%25af", PathError::Malformed),
            ("/..", PathError::AboveRoot),
            ("/a/../../b", PathError::AboveRoot),
            ("/%2e%2e/b", PathError::AboveRoot),
            ("/a/..%2fb", PathError::DotSegment),
            ("/a%2f../b", PathError::DotSegment),
            ("/a/%252e%252e/b", PathError::DotSegment),
            ("/a/..;x/b", PathError::DotSegment),
            ("/a/.;/b", PathError::DotSegment),
            ("/a/..%3Bx/b", PathError::DotSegment),
            ("/a/..%20/b", PathError::DotSegment),
            ("/a/.../b", PathError::DotSegment),
            ("/a/..::$DATA/b", PathError::DotSegment),
            ("/a%25252541", PathError::TooDeep),
        ] {
            assert_eq!(RoutePath::parse(path), Err(error), "{path:?}");
        }
        let long = format!("/{}", "a".repeat(PATH_BYTES_MAX));
        assert_eq!(RoutePath::parse(&long), Err(PathError::TooLong));
        assert!(RoutePath::parse(&long[..PATH_BYTES_MAX]).is_ok());
        let grows = format!("/{}", " ".repeat(PATH_BYTES_MAX / 2));
        assert_eq!(RoutePath::parse(&grows), Err(PathError::TooLong));
    }

    #[test]
    fn plain_paths_take_the_short_way_and_get_the_same_answer() {
        for path in ["/", "/a", "/a/b/", "/a.b/c~d", "/v1.2/a.php", "/a:b@c,d+e=f&g", "/v1/models/x:predict"]
        {
            assert!(is_plain(path), "{path}");
            assert_eq!(normalise_escapes(path).as_deref(), Ok(path));
            assert_eq!(Readings::of(path), Ok(Readings::default()), "{path}");
        }
        for path in [
            "//", "/a//b", "/a/.", "/a./b", "/a.", "/..", "/A", "/a;b", "/a%41", "/a b", "/a:$b", "/é",
            "/a.do/x",
        ] {
            assert!(!is_plain(path), "{path}");
        }
    }

    #[test]
    fn the_short_way_is_taken_only_where_it_changes_nothing() {
        let alphabet = *b"/.:$;%2fA a~";
        for number in 0..alphabet.len().pow(5) {
            let letters = (0..5).map(|place| alphabet[number / alphabet.len().pow(place) % alphabet.len()]);
            let path: String = std::iter::once('/').chain(letters.map(char::from)).collect();
            if is_plain(&path) {
                assert_eq!(normalise_escapes(&path).as_deref(), Ok(path.as_str()));
                assert!(!has_dot_segment(&path), "{path}");
                assert_eq!(Readings::of(&path), Ok(Readings::default()), "{path}");
            }
        }
    }
}
