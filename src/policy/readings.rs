//! The ways in which origins read one and the same path.
//!
//! Servers differ: some decode `%2F` into a separator, decode twice, merge `//`, cut `;parameters` off
//! each segment, drop what Windows drops from the end of a file name, take the first segment after a
//! leading `//` for a host, bring text into a normal form, or take a decoded `?` or `#` for the end of
//! the path (Apache's rewriting did, CVE-2024-38474). Each habit alone and all of them together give a reading, and the route
//! table asks about every one. Most paths have one reading only. Which script an origin runs for a reading
//! is another matter: see [`scripts`].

use super::letters;
use super::path::PathError;
use super::scripts::{self, SCRIPTS_MAX};
use super::text::{self, INNER_SLASH};

/// Deepest escaping that is still looked into.
const LEVELS_MAX: u8 = 3;

/// More distinct readings are refused: no honest path has so many, and each costs a lookup.
const READINGS_MAX: usize = 32;

/// One way to read a path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading<'a> {
    /// Decoded, in the letter case it was sent in.
    pub(super) text: &'a str,
    /// The same with letter case folded.
    pub(super) folded: &'a str,
}

/// All distinct readings of a path, without copies of what equals its canonical form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Readings {
    strict: Texts,
    others: Vec<Texts>,
    /// Whether any of them leads through what looks like a script.
    scripts: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Texts {
    /// `None`: the canonical path.
    text: Option<String>,
    /// `None`: the same as the text.
    folded: Option<String>,
}

impl Readings {
    /// Finds the readings of a canonical path.
    pub(super) fn of(canonical: &str) -> Result<Self, PathError> {
        if !has_several(canonical) {
            let strict = Texts { text: None, folded: text::fold(canonical) };
            return Self { strict, ..Self::default() }.with_scripts(canonical);
        }
        let mut explorer = Explorer::default();
        let any = Origin { level: 0, splits: true, strips: true };
        explorer.visit(canonical.as_bytes(), any)?;
        let mut texts = explorer
            .found
            .into_iter()
            .map(|text| Texts { folded: text::fold(&text), text: (text != canonical).then_some(text) });
        let strict = texts.next().unwrap_or_default();
        Self { strict, others: texts.collect(), scripts: false }.with_scripts(canonical)
    }

    /// Whether any reading leads through what looks like a script.
    pub(super) fn has_scripts(&self) -> bool {
        self.scripts
    }

    /// The strict reading, then the others.
    pub(super) fn views<'a>(&'a self, canonical: &'a str) -> impl Iterator<Item = Reading<'a>> {
        std::iter::once(&self.strict).chain(&self.others).map(move |texts| {
            let text = texts.text.as_deref().unwrap_or(canonical);
            Reading { text, folded: texts.folded.as_deref().unwrap_or(text) }
        })
    }

    fn with_scripts(mut self, canonical: &str) -> Result<Self, PathError> {
        let count = |reading| scripts::within(reading).take(SCRIPTS_MAX + 1).count();
        match self.views(canonical).map(count).max() {
            Some(count) if count > SCRIPTS_MAX => return Err(PathError::TooManyReadings),
            count => self.scripts = count > Some(0),
        }
        Ok(self)
    }
}

/// Whether a canonical path can differ from its readings.
fn has_several(canonical: &str) -> bool {
    canonical.contains(['%', ';'])
        || canonical.contains("//")
        || canonical.contains(":$")
        || canonical.contains("./")
        || canonical.ends_with('.')
}

/// What is still open about the origin that reads.
#[derive(Clone, Copy)]
struct Origin {
    /// How often it has decoded.
    level: u8,
    /// Whether the slashes it decodes separate segments.
    splits: bool,
    /// Whether it may yet cut parameters off.
    strips: bool,
}

#[derive(Default)]
struct Explorer {
    found: Vec<String>,
}

impl Explorer {
    /// Follows every origin that has come to read the path as `bytes`. The first reading found is the
    /// strict one: decoded once, nothing else done to it.
    fn visit(&mut self, bytes: &[u8], origin: Origin) -> Result<(), PathError> {
        if bytes.split(|byte| *byte == b'/').any(is_disguised_dots) {
            return Err(PathError::DotSegment);
        }
        let escaped = text::has_escape(bytes);
        if origin.level > 0 || !escaped {
            self.finish(bytes)?;
        }
        if escaped {
            let level = origin.level + 1;
            if level > LEVELS_MAX {
                return Err(PathError::TooDeep);
            }
            let kept = text::decode(bytes, INNER_SLASH)?;
            self.visit(&kept.bytes, Origin { level, splits: origin.splits && !kept.slashes, ..origin })?;
            if origin.splits && kept.slashes {
                self.visit(&text::decode(bytes, b'/')?.bytes, Origin { level, ..origin })?;
            }
        }
        // A normal form is its own, so this ends.
        if let Some(normal) = letters::normalised(bytes) {
            self.visit(&normal, origin)?;
        }
        if origin.strips && bytes.contains(&b';') {
            self.visit(&without_parameters(bytes), Origin { strips: false, ..origin })?;
        }
        for end in [b'?', b'#'] {
            if let Some(at) = bytes.iter().position(|byte| *byte == end) {
                self.visit(&bytes[..at], origin)?;
            }
        }
        if let Some(path) = without_authority(bytes) {
            self.visit(path, origin)?;
        }
        Ok(())
    }

    /// Records what origins with the remaining habits make of decoded bytes.
    fn finish(&mut self, bytes: &[u8]) -> Result<(), PathError> {
        let trimmed = trim_segments(bytes);
        for path in [Some(bytes), trimmed.as_deref()].into_iter().flatten() {
            self.record(path)?;
            if path.windows(2).any(|pair| pair == b"//") {
                self.record(&merge_slashes(path))?;
            }
        }
        Ok(())
    }

    fn record(&mut self, bytes: &[u8]) -> Result<(), PathError> {
        let text = text::from_bytes(bytes);
        if self.found.contains(&text) {
            return Ok(());
        }
        if self.found.len() == READINGS_MAX {
            return Err(PathError::TooManyReadings);
        }
        self.found.push(text);
        Ok(())
    }
}

/// Whether a segment may be taken for `.` or `..`: dots and spaces only, once what Windows ignores is
/// gone. Real dot segments are resolved before.
fn is_disguised_dots(segment: &[u8]) -> bool {
    if !matches!(segment.first(), Some(b'.' | b' ')) {
        return false;
    }
    let name = without_stream(segment);
    name.contains(&b'.') && name.iter().all(|byte| matches!(byte, b'.' | b' '))
}

/// Java servers cut `;name=value` off each segment before they map the path.
fn without_parameters(bytes: &[u8]) -> Vec<u8> {
    let mut names = Vec::with_capacity(bytes.len());
    let mut inside = false;
    for &byte in bytes {
        inside = byte == b';' || (inside && byte != b'/');
        if !inside {
            names.push(byte);
        }
    }
    names
}

/// URL libraries read `//host/path` as a reference to another host (RFC 3986 §4.2), and browsers'
/// rules take any number of leading slashes for two.
fn without_authority(bytes: &[u8]) -> Option<&[u8]> {
    let rest = bytes.strip_prefix(b"//")?;
    let host = rest.iter().position(|byte| *byte != b'/')?;
    let path = rest[host..].iter().position(|byte| *byte == b'/').map_or(rest.len(), |length| host + length);
    Some(if path == rest.len() { b"/" } else { &rest[path..] })
}

/// Windows ignores dots and spaces at the end of a file name, and `::$DATA`, `:$I30:…` after it.
/// `None` when that changes nothing.
fn trim_segments(bytes: &[u8]) -> Option<Vec<u8>> {
    let suspicious = |pair: &[u8]| matches!(pair, [b'.' | b' ', b'/'] | [b':', b'$']);
    if !bytes.ends_with(b".") && !bytes.ends_with(b" ") && !bytes.windows(2).any(suspicious) {
        return None;
    }
    let mut trimmed = Vec::with_capacity(bytes.len());
    for (position, segment) in bytes.split(|byte| *byte == b'/').enumerate() {
        if position > 0 {
            trimmed.push(b'/');
        }
        let name = without_stream(segment);
        let end = name.iter().rposition(|byte| !matches!(byte, b'.' | b' ')).map_or(0, |last| last + 1);
        trimmed.extend_from_slice(&name[..end]);
    }
    (trimmed.len() < bytes.len()).then_some(trimmed)
}

fn without_stream(segment: &[u8]) -> &[u8] {
    let stream = |at: &usize| *at > 0 && segment[*at - 1] == b':';
    let Some(at) = (0..segment.len()).filter(|at| segment[*at] == b'$').find(stream) else { return segment };
    let name = &segment[..at - 1];
    name.strip_suffix(b":").unwrap_or(name)
}

fn merge_slashes(bytes: &[u8]) -> Vec<u8> {
    let mut merged = bytes.to_vec();
    merged.dedup_by(|next, previous| *next == b'/' && *previous == b'/');
    merged
}

#[cfg(test)]
mod tests {
    use super::super::path::RoutePath;
    use super::*;

    fn readings(path: &str) -> Vec<String> {
        RoutePath::parse(path).unwrap().readings().collect()
    }

    #[test]
    fn most_paths_have_one_reading() {
        for path in
            ["/a/b.html", "/A/B", "/caf%C3%A9", "/a%20b", "/100%25", "/.well-known/x", "/x%40y", "/v1:run"]
        {
            assert_eq!(readings(path).len(), 1, "{path}");
        }
        assert_eq!(readings("/caf%C3%A9"), ["/café"]);
        assert_eq!(readings("/%E8%BF%9B%E5%87%BB"), ["/进击"]);
        assert_eq!(readings("/A%25"), ["/A%"]);
    }

    #[test]
    fn each_habit_gives_a_reading() {
        for (path, expected) in [
            ("/a//b", vec!["/a//b", "/a/b"]),
            ("/a%2Fb", vec!["/a%2Fb", "/a/b"]),
            ("/a%2541", vec!["/a%41", "/aA"]),
            ("/a;x=1/b", vec!["/a;x=1/b", "/a/b"]),
            ("/a%3Bx/b", vec!["/a;x/b", "/a/b"]),
            ("/a./b%20", vec!["/a./b ", "/a/b"]),
            ("/a::$DATA", vec!["/a::$DATA", "/a"]),
            ("/a:$I30:$INDEX_ALLOCATION/b", vec!["/a:$I30:$INDEX_ALLOCATION/b", "/a/b"]),
            ("//h/a", vec!["//h/a", "/h/a", "/a"]),
            ("//h", vec!["//h", "/h", "/"]),
            ("//h//i/a", vec!["//h//i/a", "/h/i/a", "//i/a", "/i/a", "/a"]),
            ("//", vec!["//", "/"]),
            ("/a/%20/b", vec!["/a/ /b", "/a//b", "/a/b"]),
            ("/a/;x/b", vec!["/a/;x/b", "/a//b", "/a/b"]),
            ("/a%252Fb", vec!["/a%2Fb", "/a%2Fb", "/a/b"]),
            ("/a%3Fb/c", vec!["/a?b/c", "/a"]),
            ("/cafe%CC%81", vec!["/cafe\u{301}", "/café"]),
            ("/a%EF%BC%8Fb", vec!["/a／b", "/a/b"]),
            ("/a%EF%BC%9F", vec!["/a？", "/a?", "/a"]),
            ("/a%E2%88%95b%AD", vec!["/a∕b%AD", "/a/b-"]),
            ("/a%2523b%3Fc", vec!["/a%23b?c", "/a#b?c", "/a#b", "/a", "/a%23b"]),
        ] {
            assert_eq!(readings(path), expected, "{path}");
        }
    }

    #[test]
    fn habits_are_combined() {
        let found = readings("/a;x%2Fb//c.");
        for expected in ["/a;x/b//c.", "/a;x%2Fb/c", "/a/c", "/a/b/c", "/a;x/b/c", "/a//c"] {
            assert!(found.iter().any(|reading| reading == expected), "{expected} is not in {found:?}");
        }
    }

    #[test]
    fn a_path_that_mixes_everything_is_refused_instead_of_costing_a_hundred_lookups() {
        let path = "//h%252F%25252Fa;x%3By%253Bz./b%2F%20//c.";
        assert_eq!(RoutePath::parse(path), Err(PathError::TooManyReadings));
    }
}
