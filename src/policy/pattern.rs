//! What operators write as the path of a route.

use std::borrow::Cow;

use super::glob::{Glob, Partial, Segment, Spelling};
use super::readings::Reading;
use super::text;

/// Longest pattern, in bytes.
pub const PATTERN_BYTES_MAX: usize = 2048;

/// Most segments of a pattern.
pub const PATTERN_SEGMENTS_MAX: usize = 64;

/// The path part of a route.
#[derive(Debug, Clone)]
pub enum PathPattern {
    /// Every path.
    Any,
    /// `/exact`, `/with/*`, `/with/{name}`, `/with/**`. Made by [`PathPattern::parse`].
    Glob(Glob),
    /// A regular expression that must match the whole path. Made by [`PathPattern::regex`].
    Regex(PathRegex),
}

/// A regular expression on whole paths: compiled as the operator wrote it for free routes, and
/// regardless of letter case and a trailing slash for priced and denied ones.
#[derive(Debug, Clone)]
pub struct PathRegex {
    source: String,
    as_written: regex::Regex,
    any_spelling: regex::Regex,
}

/// Why a text is not a path pattern, in words for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A mistake in a pattern.
    #[error("{problem} (at byte {offset})")]
    Glob {
        /// Where it is, in bytes from the start of the pattern.
        offset: usize,
        /// What it is.
        problem: PatternProblem,
    },
    /// A mistake in a regular expression, as the compiler of expressions explains it.
    #[error("{0}")]
    Regex(String),
}

/// A mistake in a path pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternProblem {
    /// No leading `/`.
    #[error("a path pattern begins with `/`")]
    NoSlash,
    /// More than [`PATTERN_BYTES_MAX`] bytes.
    #[error("the pattern is longer than {PATTERN_BYTES_MAX} bytes")]
    TooLong,
    /// More than [`PATTERN_SEGMENTS_MAX`] segments.
    #[error("the pattern has more than {PATTERN_SEGMENTS_MAX} segments")]
    TooManySegments,
    /// `//`.
    #[error("an empty segment: most servers read `//` as `/`")]
    EmptySegment,
    /// `.` or `..`, however written.
    #[error("a segment of dots: requests are matched after `.` and `..` are resolved")]
    DotSegment,
    /// `**` with something beside it.
    #[error("`**` must be a whole segment")]
    DoubleStar,
    /// `{` without `}`.
    #[error("`{{` is not closed in its segment")]
    Unclosed,
    /// A brace that is not around a name, or not around a whole segment.
    #[error("`{{name}}` must be a whole segment; write `*` for a part of one, or `%7B` and `%7D` for braces")]
    Brace,
    /// `:name`, which other routers know.
    #[error("`:name` is no wildcard here; write `{{name}}`, or `%3A` for a colon")]
    Colon,
    /// `?`.
    #[error("a path has no `?`; conditions on the query have their own key, and `%3F` is the character")]
    Query,
    /// `#`.
    #[error("a path has no `#`; write `%23` for the character")]
    Fragment,
    /// A backslash, escaped or not.
    #[error("no request with a backslash in its path is let through")]
    Backslash,
    /// A control character, escaped or not.
    #[error("no request with a control character in its path is let through")]
    Control,
    /// A `%` without two hexadecimal digits.
    #[error("`%` needs two hexadecimal digits; write `%25` for the character")]
    Escape,
    /// `%2541` and the like.
    #[error("escaped twice over: servers disagree about what it means, so it would never match")]
    DoubleEscape,
    /// `%2F`.
    #[error("`%2F`: servers disagree whether it separates segments, so it would never match; use a wildcard")]
    EncodedSlash,
    /// `;`.
    #[error("`;`: many servers drop what follows it in a segment, so it would never match; use a wildcard")]
    Parameters,
    /// A dot or space at the end of a segment, or `:$`.
    #[error("some servers drop dots, spaces and `:$…` at the end of a segment, so it would never match")]
    Dropped,
    /// An overlong form or a surrogate.
    #[error("a character encoded in malformed UTF-8")]
    Malformed,
}

impl PathPattern {
    /// Parses a pattern: literal segments, `*` or `{name}` for one segment, `*` inside a segment for
    /// any part of it, `**` for any number of segments. A final `/*` is everything below and the
    /// bare prefix. Escapes and non-ASCII text are understood as in paths.
    ///
    /// # Errors
    /// What is wrong and where: [`PatternError::Glob`].
    pub fn parse(source: &str) -> Result<Self, PatternError> {
        parse_glob(source).map(Self::Glob).map_err(|(offset, problem)| PatternError::Glob { offset, problem })
    }

    /// Compiles a regular expression that must match the whole decoded path.
    ///
    /// # Errors
    /// [`PatternError::Regex`].
    pub fn regex(source: &str) -> Result<Self, PatternError> {
        let problem = |error: regex::Error| PatternError::Regex(error.to_string());
        // On its own first, so that `a)(b` cannot become an expression by what is put around it.
        regex::Regex::new(source).map_err(problem)?;
        Ok(Self::Regex(PathRegex {
            source: source.to_owned(),
            as_written: anchored(source, false).map_err(problem)?,
            any_spelling: anchored(source, true).map_err(problem)?,
        }))
    }

    /// The pattern as the operator wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Any => "/**",
            Self::Glob(glob) => &glob.source,
            Self::Regex(regex) => &regex.source,
        }
    }

    /// Whether a path fits.
    pub(super) fn matches(&self, path: Reading<'_>, spelling: Spelling) -> bool {
        match self {
            Self::Any => true,
            Self::Glob(glob) => glob.matches(path, spelling),
            Self::Regex(regex) => regex.matches(path, spelling),
        }
    }
}

impl PathRegex {
    /// The expression as the operator wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }

    pub(super) fn matches(&self, path: Reading<'_>, spelling: Spelling) -> bool {
        let any = &self.any_spelling;
        match spelling {
            Spelling::AsWritten => self.as_written.is_match(path.text),
            Spelling::Any => {
                let fits = |text: &str| any.is_match(text) || any.is_match(&other_slash(text));
                fits(path.text) || (path.folded != path.text && fits(path.folded))
            }
        }
    }
}

/// The path without its slash at the end, or with one. An expression cannot be made to allow for both:
/// it may end in an anchor of its own.
fn other_slash(text: &str) -> Cow<'_, str> {
    text.strip_suffix('/').map_or_else(|| Cow::Owned(format!("{text}/")), Cow::Borrowed)
}

fn anchored(source: &str, ignore_case: bool) -> Result<regex::Regex, regex::Error> {
    let build = |text: &str| regex::RegexBuilder::new(text).case_insensitive(ignore_case).build();
    build(&format!(r"\A(?:{source})\z"))
        // In `(?x)` mode a comment at the end swallows the anchor; a line break ends it.
        .or_else(|error| build(&format!("\\A(?:{source}\n)\\z")).map_err(|_| error))
}

type Problem = (usize, PatternProblem);

fn parse_glob(source: &str) -> Result<Glob, Problem> {
    if source.len() > PATTERN_BYTES_MAX {
        return Err((PATTERN_BYTES_MAX, PatternProblem::TooLong));
    }
    let Some(body) = source.strip_prefix('/') else { return Err((0, PatternProblem::NoSlash)) };
    let mut segments = Vec::new();
    let mut slash = false;
    let mut offset = 1;
    let mut pieces = body.split('/').peekable();
    while let Some(piece) = pieces.next() {
        let last = pieces.peek().is_none();
        if piece.is_empty() {
            if !last || slash {
                return Err((offset, PatternProblem::EmptySegment));
            }
            slash = !segments.is_empty();
            break;
        }
        let segment = match piece {
            "*" if last => Segment::Many,
            "**" => Segment::Many,
            _ => parse_segment(piece).map_err(|(at, problem)| (offset + at, problem))?,
        };
        // `**` twice in a row says nothing more than once.
        if segment != Segment::Many || segments.last() != Some(&Segment::Many) {
            segments.push(segment);
        }
        if segments.len() > PATTERN_SEGMENTS_MAX {
            return Err((offset, PatternProblem::TooManySegments));
        }
        offset += piece.len() + 1;
    }
    Ok(Glob { source: source.to_owned(), segments, slash })
}

fn parse_segment(piece: &str) -> Result<Segment, Problem> {
    if piece == "*" {
        return Ok(Segment::One);
    }
    if let Some(at) = piece.find("**") {
        return Err((at, PatternProblem::DoubleStar));
    }
    if let Some(at) = piece.find(['{', '}']) {
        return parse_name(piece, at);
    }
    if piece.starts_with(':') && piece[1..].starts_with(|next: char| next.is_alphabetic() || next == '_') {
        return Err((0, PatternProblem::Colon));
    }
    let mut texts = Vec::new();
    let mut offset = 0;
    for part in piece.split('*') {
        texts.push(parse_literal(part).map_err(|(at, problem)| (offset + at, problem))?);
        offset += part.len() + 1;
    }
    let whole = texts.len() == 1;
    let Some(suffix) = texts.pop() else { return Ok(Segment::One) };
    if whole && suffix.contains('.') && suffix.chars().all(|character| matches!(character, '.' | ' ')) {
        return Err((0, PatternProblem::DotSegment));
    }
    if suffix.ends_with(['.', ' ']) {
        return Err((piece.len() - 1, PatternProblem::Dropped));
    }
    if whole {
        return Ok(Segment::Literal(suffix));
    }
    let prefix = texts.remove(0);
    Ok(Segment::Partial(Partial { prefix, middle: texts, suffix }))
}

fn parse_name(piece: &str, at: usize) -> Result<Segment, Problem> {
    let Some(inner) = piece.strip_prefix('{') else { return Err((at, PatternProblem::Brace)) };
    let Some(length) = inner.find('}') else { return Err((at, PatternProblem::Unclosed)) };
    let (name, rest) = inner.split_at(length);
    let valid = |character: char| character.is_alphanumeric() || matches!(character, '_' | '-');
    if rest == "}" && !name.is_empty() && name.chars().all(valid) {
        Ok(Segment::One)
    } else {
        Err((at, PatternProblem::Brace))
    }
}

/// Decodes literal text the way paths are decoded, and refuses what no request could match for sure.
fn parse_literal(part: &str) -> Result<String, Problem> {
    let bytes = part.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = byte == b'%';
        let value =
            if escaped { text::escape_at(bytes, at).ok_or((at, PatternProblem::Escape))? } else { byte };
        match value {
            b'?' if !escaped => return Err((at, PatternProblem::Query)),
            b'#' if !escaped => return Err((at, PatternProblem::Fragment)),
            b'\\' => return Err((at, PatternProblem::Backslash)),
            b';' => return Err((at, PatternProblem::Parameters)),
            b'/' => return Err((at, PatternProblem::EncodedSlash)),
            _ if value.is_ascii_control() => return Err((at, PatternProblem::Control)),
            _ => {}
        }
        at += if escaped { 3 } else { 1 };
    }
    let decoded = text::decode(bytes, text::INNER_SLASH).map_err(|_| (0, PatternProblem::Malformed))?;
    if text::has_escape(&decoded.bytes) {
        return Err((part.find('%').unwrap_or(0), PatternProblem::DoubleEscape));
    }
    if decoded.bytes.windows(2).any(|pair| pair == b":$") {
        return Err((part.find([':', '%']).unwrap_or(0), PatternProblem::Dropped));
    }
    Ok(text::from_bytes(&decoded.bytes))
}
