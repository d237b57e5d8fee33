//! Paths, and the origins behind the gateway that read them in their own ways.

use std::sync::LazyLock;

use http::HeaderMap;
use tollgate::policy::{Decision, PathPattern, RouteError, RouteFacts, RoutePath, RouteTable};

use crate::shop::{priced, route};

/// The bytes are a path. Its canonical form is one, and stays; every reading of it begins at the root;
/// and what is let through free is nothing priced to any origin.
pub fn hold(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(path) = RoutePath::parse(text) else { return };
    let canonical = path.as_str();
    assert_eq!(RoutePath::parse(canonical).as_ref(), Ok(&path), "parsed again it is another path");
    assert!(canonical.is_ascii() && canonical.starts_with('/'));
    assert!(!canonical.contains(['\\', ' ', '#', '?']) && !canonical.contains(char::is_control));
    assert!(!canonical.split('/').any(|segment| matches!(segment, "." | "..")));
    assert!(path.readings().all(|reading| reading.starts_with('/')));
    let free: Vec<&Shop> = SHOPS.iter().filter(|shop| is_free(&shop.table, &path)).collect();
    if free.is_empty() {
        return;
    }
    for origin in Origin::all() {
        let names = origin.reads(canonical);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for shop in &free {
            assert!(!(shop.sells)(&names), "{origin:?} serves {names:?} for {canonical} free");
        }
    }
}

/// What is priced, as a table and as a rule about the names that a path leads through.
struct Shop {
    table: RouteTable,
    sells: fn(&[&str]) -> bool,
}

static SHOPS: LazyLock<Vec<Shop>> = LazyLock::new(|| {
    let shop = |patterns: &[(&str, Decision)], sells| {
        let route =
            |(path, decision): &(&str, Decision)| route(PathPattern::parse(path).unwrap(), decision.clone());
        let routes = patterns.iter().map(route).collect();
        let default = crate::shop::route(PathPattern::Any, Decision::Free);
        Shop { table: RouteTable::new(routes, default), sells }
    };
    vec![
        shop(&[("/a/b", priced())], |names| names == ["a", "b"]),
        shop(&[("/a/*", priced()), ("/a/free", Decision::Free)], |names| {
            names.first() == Some(&"a") && names.get(1) != Some(&"free")
        }),
        shop(&[("/*/b", priced()), ("/x/*", Decision::Free)], |names| {
            names.len() == 2 && names[1] == "b" && names[0] != "x"
        }),
        shop(&[("/**/b", Decision::Deny)], |names| names.last() == Some(&"b")),
        shop(&[("/a*/b*", priced())], |names| {
            names.len() == 2 && names[0].starts_with('a') && names[1].starts_with('b')
        }),
        // A script is run whatever follows its name.
        shop(&[("/a/b.php", priced())], |names| names.starts_with(&["a", "b.php"])),
    ]
});

fn is_free(table: &RouteTable, path: &RoutePath) -> bool {
    let headers = HeaderMap::new();
    let facts = RouteFacts { method: "GET", host: "", path, query: "", headers: &headers };
    match table.find(&facts).map(|route| &route.decision) {
        Ok(Decision::Free) => true,
        Ok(Decision::Deny | Decision::Paid(_)) | Err(RouteError::Ambiguous) => false,
    }
}

/// A server and its habits.
#[derive(Debug, Clone, Copy)]
struct Origin {
    /// How often it decodes escapes.
    decodes: usize,
    /// In how many of its decodings a slash that appears separates names.
    splits: usize,
    /// After how many decodings it cuts `;parameters` off, if ever.
    strips: Option<usize>,
    /// Whether it takes the first name after several slashes for a host.
    has_host: bool,
    /// Whether a `?` or `#` that it decodes ends the path.
    ends: bool,
}

impl Origin {
    fn all() -> impl Iterator<Item = Self> {
        let of = |decodes: usize| {
            (0..=decodes).flat_map(move |splits| {
                (0..=decodes).map(Some).chain([None]).flat_map(move |strips| {
                    [(false, false), (true, false), (false, true), (true, true)]
                        .map(|(has_host, ends)| Self { decodes, splits, strips, has_host, ends })
                })
            })
        };
        (1..=3).flat_map(of)
    }

    /// The names it looks up. Every origin also merges slashes, drops from the end of a name what
    /// Windows does, resolves what dots it then finds, and ignores letter case.
    fn reads(self, path: &str) -> Vec<String> {
        let mut bytes = path.as_bytes().to_vec();
        if self.has_host && path.starts_with("//") {
            let rest = path.trim_start_matches('/');
            bytes = rest.find('/').map_or("/", |at| &rest[at..]).as_bytes().to_vec();
        }
        let mut parts: Vec<Vec<u8>> = bytes.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect();
        self.strip(0, &mut parts);
        for level in 1..=self.decodes {
            parts = parts.iter().map(|part| decoded(part)).collect();
            if self.ends {
                end(&mut parts);
            }
            if level <= self.splits {
                let split =
                    |part: Vec<u8>| part.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect::<Vec<_>>();
                parts = parts.into_iter().flat_map(split).collect();
            }
            self.strip(level, &mut parts);
        }
        let mut names = Vec::new();
        for part in parts {
            let text = String::from_utf8_lossy(&part).into_owned();
            // `name:stream:$TYPE`, of which the stream may have no name.
            let file = text.split_once(":$").map(|(name, _)| name.strip_suffix(':').unwrap_or(name));
            let name = file.unwrap_or(&text);
            if name == ".." {
                names.pop();
            }
            let name = name.trim_end_matches(['.', ' ']);
            if !name.is_empty() {
                names.push(name.to_uppercase().to_lowercase());
            }
        }
        names
    }

    fn strip(self, level: usize, parts: &mut [Vec<u8>]) {
        if self.strips == Some(level) {
            for part in parts {
                let length = part.iter().position(|byte| *byte == b';').unwrap_or(part.len());
                part.truncate(length);
            }
        }
    }
}

/// Ends a path at its first `?` or `#`.
fn end(parts: &mut Vec<Vec<u8>>) {
    let mark = |part: &Vec<u8>| part.iter().position(|byte| matches!(byte, b'?' | b'#'));
    if let Some((last, at)) = parts.iter().enumerate().find_map(|(place, part)| Some((place, mark(part)?))) {
        parts.truncate(last + 1);
        parts[last].truncate(at);
    }
}

/// Takes one level of escapes off.
fn decoded(part: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut rest = part;
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let digits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match digits.map(|digits| u8::from_str_radix(digits, 16)) {
            Some(Ok(value)) if *first == b'%' => {
                decoded.push(value);
                rest = &behind[2..];
            }
            _ => {
                decoded.push(*first);
                rest = behind;
            }
        }
    }
    decoded
}
