//! Origins with habits, and the promise that none of them serves the article unpaid.

use std::sync::LazyLock;

use proptest::prelude::*;
use unicode_normalization::UnicodeNormalization as _;

use super::*;

/// An origin, told independently of how readings are computed.
#[derive(Debug, Clone, Copy)]
struct Origin {
    /// How often it decodes escapes.
    decodes: usize,
    /// Slashes that appear in its first so many decodings separate segments.
    splits: usize,
    /// After how many decodings it cuts `;parameters` off, if it does.
    strips: Option<usize>,
    /// Whether it reads `//host/path` as a URL with a host.
    parses_url: bool,
    /// Whether a `?` or `#` that it decodes ends the path.
    ends_late: bool,
    /// Whether it decomposes text and drops accents, and takes a slash that appears so for one.
    normalises: bool,
}

impl Origin {
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for decodes in 1..=3 {
            for splits in 0..=decodes {
                for strips in (0..=decodes).map(Some).chain([None]) {
                    for number in 0..8 {
                        let (parses_url, ends_late, normalises) =
                            (number & 1 > 0, number & 2 > 0, number & 4 > 0);
                        all.push(Self { decodes, splits, strips, parses_url, ends_late, normalises });
                    }
                }
            }
        }
        all
    }

    /// The path it looks up. All of them also merge slashes, trim names as Windows does, resolve dot
    /// segments and ignore letter case and a trailing slash: that can only make more of them serve
    /// the article, whose name none of this changes.
    fn reads(self, path: &str) -> Vec<String> {
        let mut rest = path.trim_start_matches('/');
        if self.parses_url && path.starts_with("//") {
            rest = rest.split_once('/').map_or("", |(_, rest)| rest);
        }
        let mut segments: Vec<Vec<u8>> = rest.split('/').map(|segment| segment.as_bytes().to_vec()).collect();
        self.strip(0, &mut segments);
        for level in 1..=self.decodes {
            segments = segments.iter().map(|segment| decoded(segment)).collect();
            if self.normalises {
                segments = segments.iter().flat_map(|segment| normal(segment)).collect();
            }
            let end = |segment: &[u8]| segment.iter().position(|byte| matches!(byte, b'?' | b'#'));
            let last = segments.iter().position(|segment| end(segment).is_some());
            if let (true, Some(last)) = (self.ends_late, last) {
                segments.truncate(last + 1);
                let at = end(&segments[last]).unwrap();
                segments[last].truncate(at);
            }
            if level <= self.splits {
                segments = segments
                    .iter()
                    .flat_map(|segment| segment.split(|byte| *byte == b'/'))
                    .map(<[u8]>::to_vec)
                    .collect();
            }
            self.strip(level, &mut segments);
        }
        let mut names: Vec<String> = Vec::new();
        for segment in segments {
            let text = String::from_utf8_lossy(&segment).into_owned();
            let name = text.split(":$").next().unwrap_or("").trim_end_matches(':');
            match name {
                ".." => drop(names.pop()),
                _ => match name.trim_end_matches(['.', ' ']) {
                    "" => {}
                    name => names.push(name.to_uppercase().to_lowercase()),
                },
            }
        }
        names
    }

    fn strip(self, level: usize, segments: &mut [Vec<u8>]) {
        if self.strips == Some(level) {
            for segment in segments {
                let end = segment.iter().position(|byte| *byte == b';').unwrap_or(segment.len());
                segment.truncate(end);
            }
        }
    }
}

/// The segments that a normal form makes of one.
fn normal(segment: &[u8]) -> Vec<Vec<u8>> {
    let text = String::from_utf8_lossy(segment);
    let plain: String = text.nfkd().filter(|letter| !('\u{300}'..'\u{370}').contains(letter)).collect();
    plain.split(['/', '\\', '\u{2044}', '\u{2215}']).map(|segment| segment.as_bytes().to_vec()).collect()
}

fn decoded(bytes: &[u8]) -> Vec<u8> {
    match bytes {
        [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
            let digits = std::str::from_utf8(&bytes[1..3]).unwrap();
            let mut decoded_rest = decoded(rest);
            decoded_rest.insert(0, u8::from_str_radix(digits, 16).unwrap());
            decoded_rest
        }
        [first, rest @ ..] => [&[*first], decoded(rest).as_slice()].concat(),
        [] => Vec::new(),
    }
}

/// The origins that would serve `/articles/secret` for a path.
pub(super) fn serving_the_article(path: &RoutePath) -> Vec<impl std::fmt::Debug + use<>> {
    Origin::all().into_iter().filter(|origin| origin.reads(path.as_str()) == ["articles", "secret"]).collect()
}

/// The origins that would run a script for a path, taking what follows its name for an argument.
pub(super) fn serving_script(path: &RoutePath, script: &[&str]) -> Vec<impl std::fmt::Debug + use<>> {
    let runs = |origin: &Origin| {
        let names = origin.reads(path.as_str());
        names.len() >= script.len() && names.iter().zip(script).all(|(name, wanted)| name == wanted)
    };
    Origin::all().into_iter().filter(runs).collect()
}

/// What attackers put before the article, between its segments, and behind it.
const PREFIXES: &[&str] = &[
    "", "", "", "/x/..", "//h", "///h", "/%2Fh", "//h%2Fx", "//h;x", "/;x", "/%20", "/.", "/%2e", "/%3Bx",
    "/%253Bx",
];
const SLASHES: &[&str] = &[
    "/",
    "/",
    "/",
    "/",
    "//",
    "%2F",
    "%2f",
    "%252F",
    "%25252F",
    "/./",
    "/x/../",
    "/;x/",
    "/%20/",
    "\\",
    "%5C",
    "/%2e/",
    ";x/",
    ";%2F/",
    ";x%2F",
    "%3B/",
    "%253B%2F/",
    "./",
    "%20/",
    "::$DATA/",
    "\u{FF0F}",
    "%EF%BC%8F",
    "%25EF%25BC%258F",
    "\u{2215}",
    "\u{FF3C}",
    ":$I30:$INDEX_ALLOCATION/",
];
const SUFFIXES: &[&str] = &[
    "",
    "",
    "",
    "/",
    "//",
    ".",
    "%20",
    "%2520",
    ";x",
    "%3Bx",
    "%253Bx",
    ";%2Fx",
    "::$DATA",
    "%2F",
    "%252F",
    "/.",
    "/x/..",
    "%00",
    "%0A",
    ";/",
    "/;x",
    "x",
    "%3F",
    "%3Fx",
    "%253fx/y",
    "%23x",
    "\u{FF0E}",
    "\u{FF1B}x",
    "\u{301}",
    "\u{A0}",
    "\u{FF1F}x",
];

/// Spellings of the article, most of them strange, made of what attackers combine.
fn spelling() -> impl Strategy<Value = String> {
    let prefix = prop::sample::select(PREFIXES);
    let slash = || prop::sample::select(SLASHES);
    let suffix = prop::sample::select(SUFFIXES);
    let letter = |letter: char| {
        let code = u32::from(letter);
        let upper = letter.to_ascii_uppercase();
        prop_oneof![
            30 => Just(letter.to_string()),
            2 => Just(upper.to_string()),
            1 => Just(format!("%{code:02x}")),
            1 => Just(format!("%25{code:02X}")),
            1 => Just(format!("%2525{code:02X}")),
            1 => Just(format!("%{:02X}", u32::from(upper))),
            1 => Just(format!("{letter}\u{301}")),
            1 => Just(char::from_u32(code + 0xFEE0).unwrap().to_string()),
            1 => Just(if letter == 's' { "ſ".to_owned() } else { letter.to_string() }),
            1 => Just(if letter == 'i' { "%C4%B1".to_owned() } else { letter.to_string() }),
        ]
    };
    let word =
        move |word: &str| word.chars().map(letter).collect::<Vec<_>>().prop_map(|letters| letters.concat());
    (prefix, slash(), word("articles"), slash(), word("secret"), suffix).prop_map(
        |(prefix, first, articles, second, secret, suffix)| {
            format!("{prefix}{first}{articles}{second}{secret}{suffix}")
        },
    )
}

/// Tables that price the article in different ways and let much else through.
static TABLES: LazyLock<Vec<RouteTable>> = LazyLock::new(|| {
    let everything_else_priced = RouteTable::new(
        vec![free_at("/articles/*").method("OPTIONS"), free_at("/"), free_at("/x/**"), free_at("/h/**")],
        route(PathPattern::Any, priced()),
    );
    vec![
        table(vec![priced_at("/articles/secret")]),
        table(vec![priced_at("/articles/*"), free_at("/articles/index"), free_at("/articles/*/secret")]),
        table(vec![priced_at("/*/secret"), free_at("/x/*")]),
        table(vec![priced_at("/**/secret")]),
        table(vec![priced_at("/art*/*cret")]),
        table(vec![route(regex("/articles/[a-z]+"), priced())]),
        table(vec![denied_at("/ARTICLES/{name}")]),
        everything_else_priced,
    ]
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn no_origin_serves_the_article_to_a_request_that_was_let_through_free(text in spelling()) {
        let Ok(path) = RoutePath::parse(&text) else { return Ok(()) };
        let mut serving = None;
        for (number, table) in TABLES.iter().enumerate() {
            if verdict(table, &text) == Verdict::Free {
                let serving = serving.get_or_insert_with(|| serving_the_article(&path));
                prop_assert!(serving.is_empty(), "table {} lets {:?} through to {:?}", number, path.as_str(), serving);
            }
        }
    }

    #[test]
    fn the_canonical_path_is_canonical(text in prop_oneof![spelling(), "/[a-zA-Z./%;:$ \\\\~é]{0,30}", "/(%[0-9a-f]{2}|[./a]){0,12}"]) {
        if let Ok(path) = RoutePath::parse(&text) {
            prop_assert_eq!(RoutePath::parse(path.as_str()), Ok(path));
        }
    }

    #[test]
    fn any_text_is_a_path_or_is_refused(text in prop_oneof![".*", "/.*", "/(%[0-9a-fA-F]{1,2}|[/.;\\\\]|.){0,40}"]) {
        if let Ok(path) = RoutePath::parse(&text) {
            prop_assert!(path.as_str().is_ascii() && path.as_str().starts_with('/'));
            prop_assert!(!path.as_str().contains(['\\', ' ', '#', '?']));
            prop_assert!(!path.as_str().split('/').any(|segment| segment == "." || segment == ".."));
            for table in &*TABLES {
                let _ = table.find(&Request::to(&text).facts());
            }
        }
    }

    #[test]
    fn any_text_is_a_pattern_or_is_refused(text in prop_oneof![".*", "/.*", "/(%[0-9a-fA-F]{1,2}|[/.;*{}a]|\\*\\*){0,40}"]) {
        match PathPattern::parse(&text) {
            Ok(pattern) => prop_assert_eq!(pattern.as_str(), &text),
            Err(PatternError::Glob { offset, .. }) => prop_assert!(offset <= text.len()),
            Err(error) => prop_assert!(false, "{}", error),
        }
        if let Ok(regex) = PathPattern::regex(&text) {
            prop_assert_eq!(regex.as_str(), &text);
        }
    }
}
