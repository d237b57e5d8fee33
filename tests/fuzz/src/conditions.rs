//! Hosts, methods, headers and queries that decide which route applies, and origins that read them in
//! their own ways.

use std::borrow::Cow;
use std::sync::LazyLock;

use http::{HeaderMap, HeaderValue};
use tollgate::policy::{
    Condition, Decision, PathPattern, Route, RouteFacts, RoutePath, RouteTable, ValueMatch, normalise_host,
};

use crate::shop::{priced, route};

const NAME: &str = "tier";
const VALUE: &str = "gold";

/// The bytes are lines: a host, a method, a query, and values of one header. Nothing that is priced by
/// a condition is let through free as long as any origin could see the condition met, and nothing is
/// free by a condition unless every origin sees it met.
pub fn hold(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let mut text = || std::str::from_utf8(lines.next().unwrap_or_default()).ok();
    let (Some(host), Some(method), Some(query)) = (text(), text(), text()) else { return };
    let mut headers = HeaderMap::new();
    for value in lines.take(8) {
        let Ok(value) = HeaderValue::from_bytes(value) else { return };
        headers.append(NAME, value);
    }
    if let Some(host) = normalise_host(host) {
        assert_eq!(normalise_host(&host), Some(Cow::Borrowed(&*host)), "a host of two spellings");
        assert!(!host.ends_with('.') && !host.bytes().any(|byte| byte.is_ascii_uppercase()));
    }
    let path = RoutePath::parse("/").unwrap();
    let decides = |kind: &Kind| {
        let facts = RouteFacts { method, host: "", path: &path, query, headers: &headers };
        let route = kind.find(&facts);
        route == Decision::Free
    };
    let sent: Vec<&[u8]> = headers.get_all(NAME).iter().map(|value| value.as_bytes().trim_ascii()).collect();
    let in_headers = |which: Which| which.of(&sent).is_some_and(|value| value == VALUE.as_bytes());
    let in_query = |reader: Reader| reader.reads(query).is_some_and(|value| value == VALUE);
    if decides(&TABLES.priced_by_query) {
        let origin = Reader::all().find(|reader| in_query(*reader));
        assert!(origin.is_none(), "{origin:?} sees the priced parameter in {query}");
    }
    if decides(&TABLES.free_by_query) {
        let origin = Reader::all().find(|reader| !reader.is_sloppy() && !in_query(*reader));
        assert!(origin.is_none(), "{origin:?} does not see the free parameter in {query}");
    }
    if decides(&TABLES.priced_by_header) {
        assert!(!Which::ALL.into_iter().any(in_headers));
    }
    if decides(&TABLES.free_by_header) {
        assert!(Which::ALL.into_iter().all(in_headers));
    }
    if decides(&TABLES.priced_by_method) {
        assert!(!["get", "head"].contains(&method.to_ascii_lowercase().as_str()), "{method}");
    }
    if decides(&TABLES.free_by_method) {
        assert!(["GET", "HEAD"].contains(&method), "{method}");
    }
}

/// A table with one route, and a default that is the other thing.
struct Kind(RouteTable);

impl Kind {
    fn new(conditions: impl FnOnce(&mut Route), free: bool) -> Self {
        let (decision, default) = if free { (Decision::Free, priced()) } else { (priced(), Decision::Free) };
        let mut only = route(PathPattern::Any, decision);
        conditions(&mut only);
        Self(RouteTable::new(vec![only], route(PathPattern::Any, default)))
    }

    fn find(&self, facts: &RouteFacts<'_>) -> Decision {
        self.0.find(facts).map_or(Decision::Deny, |route| route.decision.clone())
    }
}

struct Tables {
    priced_by_query: Kind,
    free_by_query: Kind,
    priced_by_header: Kind,
    free_by_header: Kind,
    priced_by_method: Kind,
    free_by_method: Kind,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let condition = || Condition { name: NAME.to_owned(), value: ValueMatch::Equals(VALUE.to_owned()) };
    let by_query = |free| Kind::new(|route| route.query.push(condition()), free);
    let by_header = |free| Kind::new(|route| route.headers.push(condition()), free);
    let by_method = |free| Kind::new(|route| route.methods.push("GET".to_owned()), free);
    Tables {
        priced_by_query: by_query(false),
        free_by_query: by_query(true),
        priced_by_header: by_header(false),
        free_by_header: by_header(true),
        priced_by_method: by_method(false),
        free_by_method: by_method(true),
    }
});

/// Which of several values an origin looks at.
#[derive(Debug, Clone, Copy)]
enum Which {
    First,
    Last,
}

impl Which {
    const ALL: [Self; 2] = [Self::First, Self::Last];

    fn of<'a, T: ?Sized>(self, values: &[&'a T]) -> Option<&'a T> {
        match self {
            Self::First => values.first().copied(),
            Self::Last => values.last().copied(),
        }
    }
}

/// How an origin reads a query.
#[derive(Debug, Clone, Copy)]
struct Reader {
    which: Which,
    /// `;` separates parameters too.
    semicolons: bool,
    /// The letter case of names does not count.
    any_case: bool,
    /// Spaces around names and values do not count, nor the letter case of values.
    trims: bool,
}

impl Reader {
    fn all() -> impl Iterator<Item = Self> {
        (0..16).map(|bits| Self {
            which: if bits & 1 == 0 { Which::First } else { Which::Last },
            semicolons: bits & 2 != 0,
            any_case: bits & 4 != 0,
            trims: bits & 8 != 0,
        })
    }

    /// Whether it takes for the parameter what is free only when it is spelled as written.
    fn is_sloppy(self) -> bool {
        self.semicolons || self.trims
    }

    fn reads(self, query: &str) -> Option<String> {
        let separators: &[char] = if self.semicolons { &['&', ';'] } else { &['&'] };
        let pairs = query.split(separators).map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let values: Vec<String> = pairs
            .map(|(name, value)| (decoded(name), decoded(value)))
            .filter(|(name, _)| self.is_name(name))
            .map(|(_, value)| if self.trims { value.trim().to_ascii_lowercase() } else { value })
            .collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        self.which.of(&values).map(str::to_owned)
    }

    fn is_name(self, name: &str) -> bool {
        let name = if self.trims { name.trim() } else { name };
        if self.any_case { name.eq_ignore_ascii_case(NAME) } else { name == NAME }
    }
}

/// A form-encoded text. What is not text is none that is looked for.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let digits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match (first, digits.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(value)) => {
                bytes.push(value);
                rest = &behind[2..];
                continue;
            }
            (b'+', _) => bytes.push(b' '),
            (other, _) => bytes.push(*other),
        }
        rest = behind;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
