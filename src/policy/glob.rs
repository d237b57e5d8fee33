//! Path patterns, segment by segment.

use super::readings::Reading;
use super::text;

/// How strictly a route takes a request.
///
/// Doubt costs: what is priced or denied applies to every spelling an origin may take for the same
/// thing, what is free only to what the operator wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// Letter case and a trailing slash do not count: priced and denied routes.
    Any,
    /// Everything counts: free routes.
    AsWritten,
}

/// A parsed path pattern: segments of literal text and wildcards. Made by [`super::PathPattern::parse`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    pub(super) source: String,
    pub(super) segments: Vec<Segment>,
    /// Whether it ends in `/`.
    pub(super) slash: bool,
}

/// A segment of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    Literal(String),
    Partial(Partial),
    /// `*` or `{name}`: any one segment.
    One,
    /// `**`, or a final `*`: any number of segments, none included.
    Many,
}

/// Literal text with `*` in it: the pieces between the stars, at least two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Partial {
    pub(super) prefix: String,
    pub(super) middle: Vec<String>,
    pub(super) suffix: String,
}

/// How specific a segment is; the greater wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Many,
    One,
    /// With the number of its literal characters.
    Partial(usize),
    Literal,
}

impl Glob {
    /// The pattern of everything.
    pub(super) fn everything() -> Self {
        Self { source: "/**".to_owned(), segments: vec![Segment::Many], slash: false }
    }

    /// Whether it has no wildcard.
    pub(super) fn is_exact(&self) -> bool {
        self.segments.iter().all(|segment| matches!(segment, Segment::Literal(_)))
    }

    /// The text of a pattern without wildcards, without a trailing slash: empty for the root.
    pub(super) fn literal_path(&self) -> String {
        let mut path = String::new();
        for segment in &self.segments {
            if let Segment::Literal(literal) = segment {
                path.push('/');
                path.push_str(literal);
            }
        }
        path
    }

    /// Whether a path fits. In any spelling this folds the pattern first: for people, not for requests.
    pub(super) fn matches(&self, path: Reading<'_>, spelling: Spelling) -> bool {
        match spelling {
            Spelling::AsWritten => self.fits_slash(path.text) && self.fits_segments(path.text, spelling),
            Spelling::Any => self.folded().fits_segments(path.folded, spelling),
        }
    }

    /// The pattern with letter case folded.
    pub(super) fn folded(&self) -> Self {
        let fold = |text: &String| text::fold(text).unwrap_or_else(|| text.clone());
        let segments = self.segments.iter().map(|segment| match segment {
            Segment::Literal(literal) => Segment::Literal(fold(literal)),
            Segment::Partial(partial) => Segment::Partial(Partial {
                prefix: fold(&partial.prefix),
                middle: partial.middle.iter().map(fold).collect(),
                suffix: fold(&partial.suffix),
            }),
            Segment::One => Segment::One,
            Segment::Many => Segment::Many,
        });
        Self { source: self.source.clone(), segments: segments.collect(), slash: self.slash }
    }

    /// How specific it is: the greater of two wins, compared segment by segment.
    pub(super) fn specificity(&self) -> Vec<Rank> {
        let rank = |segment: &Segment| match segment {
            Segment::Literal(_) => Rank::Literal,
            Segment::Partial(partial) => Rank::Partial(partial.literal_characters()),
            Segment::One => Rank::One,
            Segment::Many => Rank::Many,
        };
        self.folded().segments.iter().map(rank).collect()
    }

    /// Its text without what does not tell two patterns apart: names of wildcards, escapes.
    pub(super) fn normalised(&self) -> String {
        let mut shape = String::new();
        for segment in &self.segments {
            shape.push('/');
            match segment {
                // A private mark keeps wildcards apart from an escaped `*` of a literal.
                Segment::Literal(literal) => shape.push_str(literal),
                Segment::Partial(partial) => {
                    for piece in std::iter::once(&partial.prefix).chain(&partial.middle) {
                        shape.push_str(piece);
                        shape.push_str("\0*");
                    }
                    shape.push_str(&partial.suffix);
                }
                Segment::One => shape.push_str("\0*"),
                Segment::Many => shape.push_str("\0**"),
            }
        }
        shape
    }

    fn fits_slash(&self, text: &str) -> bool {
        let open = !self.slash && matches!(self.segments.last(), Some(Segment::Many));
        open || self.slash == (text.len() > 1 && text.ends_with('/'))
    }

    /// The greedy way: a `**` first takes nothing, and when what follows does not fit, the last `**`
    /// takes one segment more. Time: segments of the path times segments of the pattern.
    fn fits_segments(&self, text: &str, spelling: Spelling) -> bool {
        let mut rest = body(text);
        let mut at = 0;
        let mut retry = None;
        loop {
            match (self.segments.get(at), rest) {
                (None, None) => return true,
                (Some(Segment::Many), _) => {
                    if at + 1 == self.segments.len() {
                        return true;
                    }
                    at += 1;
                    retry = Some((at, rest));
                    continue;
                }
                (Some(segment), Some(left)) => {
                    let (name, next) = first_segment(left);
                    if segment.fits(name, spelling) {
                        at += 1;
                        rest = next;
                        continue;
                    }
                }
                (None, Some(_)) | (Some(_), None) => {}
            }
            let Some((resume, Some(left))) = retry else { return false };
            rest = first_segment(left).1;
            at = resume;
            retry = Some((resume, rest));
        }
    }
}

impl Segment {
    fn fits(&self, name: &str, spelling: Spelling) -> bool {
        match self {
            Self::Literal(literal) => literal == name,
            Self::Partial(partial) => partial.matches(name),
            // `/a//b` is not what the operator of a free `/a/*/b` had in mind.
            Self::One => spelling == Spelling::Any || !name.is_empty(),
            Self::Many => true,
        }
    }
}

impl Partial {
    pub(super) fn matches(&self, name: &str) -> bool {
        let Some(rest) = name.strip_prefix(self.prefix.as_str()) else { return false };
        let Some(mut rest) = rest.strip_suffix(self.suffix.as_str()) else { return false };
        for piece in &self.middle {
            let Some(at) = rest.find(piece.as_str()) else { return false };
            rest = &rest[at + piece.len()..];
        }
        true
    }

    fn literal_characters(&self) -> usize {
        let pieces = [&self.prefix, &self.suffix].into_iter().chain(&self.middle);
        pieces.map(|piece| piece.chars().count()).sum()
    }
}

/// The segments of a path without the leading and one trailing slash; `None` when there are none,
/// which differs from one empty segment.
pub(super) fn body(path: &str) -> Option<&str> {
    let body = path.strip_prefix('/').unwrap_or(path);
    if body.is_empty() { None } else { Some(body.strip_suffix('/').unwrap_or(body)) }
}

/// The first segment of a body, and the body of the others.
pub(super) fn first_segment(body: &str) -> (&str, Option<&str>) {
    match body.split_once('/') {
        Some((first, rest)) => (first, Some(rest)),
        None => (body, None),
    }
}
