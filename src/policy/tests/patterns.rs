//! What patterns match, and what is wrong with those that are refused.

use super::*;

/// Whether a free and a priced route with the pattern match the path.
fn matches(path_pattern: &PathPattern, path: &str) -> (bool, bool) {
    let on_its_own = |decision: Decision, default: Decision| {
        let table =
            RouteTable::new(vec![route(path_pattern.clone(), decision)], route(PathPattern::Any, default));
        table.choose(&Request::to(path).facts()) == Ok(Choice::Route(0))
    };
    (on_its_own(Decision::Free, priced()), on_its_own(priced(), Decision::Free))
}

const BOTH: (bool, bool) = (true, true);
const NEITHER: (bool, bool) = (false, false);
const PRICED_ONLY: (bool, bool) = (false, true);

#[test]
fn patterns_match_segment_by_segment() {
    for (text, path, expected) in [
        ("/", "/", BOTH),
        ("/", "/a", NEITHER),
        ("/a/b", "/a/b", BOTH),
        ("/a/b", "/a/B", PRICED_ONLY),
        ("/a/b", "/a/b/", PRICED_ONLY),
        ("/a/b/", "/a/b/", BOTH),
        ("/a/b/", "/a/b", PRICED_ONLY),
        ("/caf\u{E9}/a b", "/caf%C3%A9/a%20b", BOTH),
        ("/caf%c3%a9", "/caf\u{E9}", BOTH),
        ("/caf\u{E9}", "/CAF\u{C9}", PRICED_ONLY),
        ("/%7Ba%7D%2A", "/{a}*", BOTH),
        ("/%2A", "/b", NEITHER),
        // A final `/*`: everything below, and the bare prefix.
        ("/a/*", "/a", BOTH),
        ("/a/*", "/a/", BOTH),
        ("/a/*", "/a/b/c", BOTH),
        ("/a/*", "/a/b/c/", BOTH),
        ("/a/*", "/ab", NEITHER),
        ("/a/*", "/A/b", PRICED_ONLY),
        ("/a/**", "/a", BOTH),
        ("/*", "/", BOTH),
        ("/*", "/a/b", BOTH),
        ("/**", "/a/b/", BOTH),
        // One segment.
        ("/a/{id}", "/a/b", BOTH),
        ("/a/{id}", "/a", NEITHER),
        ("/a/{id}", "/a/b/c", NEITHER),
        ("/a/{id}", "/a/b/", PRICED_ONLY),
        ("/a/{id}/", "/a/b/", BOTH),
        ("/a/*/", "/a/b/", BOTH),
        ("/a/*/", "/a/b/c/", NEITHER),
        ("/a/*/c", "/a/b/c", BOTH),
        ("/a/*/c", "/a/c", NEITHER),
        ("/a/*/c", "/a/b/b/c", NEITHER),
        // Parts of one segment.
        ("/*.pdf", "/a.pdf", BOTH),
        ("/*.pdf", "/.pdf", BOTH),
        ("/*.pdf", "/a.PDF", PRICED_ONLY),
        ("/*.pdf", "/a.pdf/b", NEITHER),
        ("/*.pdf", "/a/b.pdf", NEITHER),
        ("/a*a", "/aa", BOTH),
        ("/a*a", "/a", NEITHER),
        ("/a*b*c", "/a-b-b-c", BOTH),
        ("/a*b*c", "/a-c-b", NEITHER),
        ("/*b*", "/abc", BOTH),
        ("/*b*", "/ac", NEITHER),
        ("/\u{DF}*", "/STRASSE", NEITHER),
        ("/\u{DF}*", "/SSE", PRICED_ONLY),
        // Any number of segments.
        ("/a/**/z", "/a/z", BOTH),
        ("/a/**/z", "/a/b/c/z", BOTH),
        ("/a/**/z", "/a/b/z/c", NEITHER),
        ("/a/**/y/**/z", "/a/x/y/y/x/z", BOTH),
        ("/a/**/y/**/z", "/a/x/x/z", NEITHER),
        ("/**/b", "/b", BOTH),
        ("/**/{id}/c", "/a/b/c", BOTH),
        ("/**/{id}/c", "/c", NEITHER),
        ("/a/**/", "/a/b/", BOTH),
        ("/a/**/", "/a/b", PRICED_ONLY),
        ("/a/**/*", "/a", BOTH),
    ] {
        assert_eq!(matches(&pattern(text), path), expected, "{text} on {path}");
    }
}

#[test]
fn an_empty_segment_is_nothing_a_free_wildcard_stands_for() {
    let free = RouteTable::new(vec![free_at("/a/*/c")], route(PathPattern::Any, priced()));
    assert_eq!(verdict(&free, "/a//c"), Verdict::Priced);
    let costs = RouteTable::new(
        vec![priced_at("/a/{id}/c"), priced_at("/a/c")],
        route(PathPattern::Any, Decision::Free),
    );
    assert_eq!(verdict(&costs, "/a//c"), Verdict::Refused, "two different prices");
}

#[test]
fn regular_expressions_match_whole_decoded_paths() {
    for (text, path, expected) in [
        ("/a/[0-9]+", "/a/12", BOTH),
        ("/a/[0-9]+", "/a/12/b", NEITHER),
        ("/a/[0-9]+", "/x/a/12", NEITHER),
        ("/a|/b", "/b", BOTH),
        ("/a|/b", "/b/x", NEITHER),
        ("/a", "/A", PRICED_ONLY),
        ("/a", "/a/", PRICED_ONLY),
        ("/a/", "/a", PRICED_ONLY),
        ("/a/.+", "/a/b/", BOTH),
        ("/caf\u{E9} .", "/caf%C3%A9%20x", BOTH),
        ("/stra\u{DF}e", "/STRASSE", NEITHER),
        ("/sekt", "/\u{17F}e\u{212A}t", PRICED_ONLY),
        ("/pin", "/p%C4%B1n", PRICED_ONLY),
        ("(?x) /a  # the first letter", "/a", BOTH),
        ("(?x) /a  # the first letter", "/ab", NEITHER),
        ("(?m)^/a$", "/a", BOTH),
    ] {
        assert_eq!(matches(&regex(text), path), expected, "{text} on {path}");
    }
    for text in ["(", "a)|(b", "[", "(?x) a # (", "\\"] {
        let alone = ::regex::Regex::new(text).is_ok();
        assert_eq!(PathPattern::regex(text).is_ok(), alone, "{text}");
    }
}

#[test]
fn a_refused_pattern_says_what_is_wrong_and_where() {
    use PatternProblem as P;
    for (text, offset, problem) in [
        ("", 0, P::NoSlash),
        ("a/b", 0, P::NoSlash),
        ("*", 0, P::NoSlash),
        ("//", 1, P::EmptySegment),
        ("/a//b", 3, P::EmptySegment),
        ("/a//", 3, P::EmptySegment),
        ("//a", 1, P::EmptySegment),
        ("/a/./b", 3, P::DotSegment),
        ("/a/..", 3, P::DotSegment),
        ("/a/%2e%2E/b", 3, P::DotSegment),
        ("/a/.../b", 3, P::DotSegment),
        ("/a/b**", 4, P::DoubleStar),
        ("/a/***", 3, P::DoubleStar),
        ("/a/{id", 3, P::Unclosed),
        ("/a/{id/b}", 3, P::Unclosed),
        ("/a/v{n}", 4, P::Brace),
        ("/a/{n}.pdf", 3, P::Brace),
        ("/a/{}", 3, P::Brace),
        ("/a/{a b}", 3, P::Brace),
        ("/a/b}", 4, P::Brace),
        ("/a/:id", 3, P::Colon),
        ("/a?b=c", 2, P::Query),
        ("/a#b", 2, P::Fragment),
        ("/a\\b", 2, P::Backslash),
        ("/a%5cb", 2, P::Backslash),
        ("/a\tb", 2, P::Control),
        ("/a*%00", 3, P::Control),
        ("/a/b%", 4, P::Escape),
        ("/a/*x%zz", 5, P::Escape),
        ("/a%2541", 2, P::DoubleEscape),
        ("/a%2Fb", 2, P::EncodedSlash),
        ("/a/b;c", 4, P::Parameters),
        ("/a/b%3bc", 4, P::Parameters),
        ("/a/b./c", 4, P::Dropped),
        ("/a/b%20", 6, P::Dropped),
        ("/a/*.", 4, P::Dropped),
        ("/a/b::$DATA", 4, P::Dropped),
        ("/a/%C0%AF", 3, P::Malformed),
    ] {
        assert_eq!(PathPattern::parse(text).err(), Some(PatternError::Glob { offset, problem }), "{text:?}");
    }
    let message = PathPattern::parse("/a/v{n}").unwrap_err().to_string();
    assert_eq!(
        message,
        "`{name}` must be a whole segment; write `*` for a part of one, or `%7B` and `%7D` for braces (at byte 4)"
    );
    let long = PathPattern::parse(&format!("/{}", "a".repeat(PATTERN_BYTES_MAX)));
    assert_eq!(long.err(), Some(PatternError::Glob { offset: PATTERN_BYTES_MAX, problem: P::TooLong }));
    let deep = PathPattern::parse(&"/a".repeat(PATTERN_SEGMENTS_MAX + 1));
    assert!(matches!(deep.err(), Some(PatternError::Glob { problem: P::TooManySegments, .. })));
}
