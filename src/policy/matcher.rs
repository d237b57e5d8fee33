//! Conditions of a route on methods, headers and query parameters.

use std::borrow::Cow;

use http::HeaderMap;

use super::glob::Spelling;

/// How a value is matched.
#[derive(Debug, Clone)]
pub enum ValueMatch {
    /// Equal to this text.
    Equals(String),
    /// There (`true`) or not there (`false`).
    Present(bool),
    /// Matched anywhere by this regular expression.
    Regex(regex::Regex),
}

/// A condition on a named header or query parameter.
///
/// Doubt costs. A header or parameter may come several times, and origins differ in which one they
/// look at: on priced and denied routes the condition holds when any occurrence satisfies it, on free
/// routes it must be there and all occurrences must satisfy it. The same goes for parameters that
/// differ from the name in letter case only, which some origins take for the same parameter.
#[derive(Debug, Clone)]
pub struct Condition {
    /// Header (lower case) or parameter.
    pub name: String,
    /// What its value must be.
    pub value: ValueMatch,
}

/// A header or parameter as it came.
struct Occurrence<'a> {
    value: Cow<'a, str>,
    /// Whether the name is spelled as in the condition.
    same_name: bool,
    /// Whether the value is text, and not only close to it.
    is_text: bool,
}

impl Condition {
    /// Whether it holds for the headers of a request.
    pub(super) fn holds_in_headers(&self, headers: &HeaderMap, spelling: Spelling) -> bool {
        let values = headers.get_all(self.name.as_str()).into_iter().map(|value| {
            // Spaces around a value are not part of it (RFC 9110 §5.5).
            let value = String::from_utf8_lossy(value.as_bytes().trim_ascii());
            Occurrence { is_text: matches!(value, Cow::Borrowed(_)), value, same_name: true }
        });
        self.holds(values, spelling)
    }

    /// Whether it holds for a query, given without its `?`.
    pub(super) fn holds_in_query(&self, query: &str, spelling: Spelling) -> bool {
        // Some servers part at `;` as well, trim names, and write `_` for `.`, ` ` and `[`.
        let separators: &[char] = if spelling == Spelling::Any { &['&', ';'] } else { &['&'] };
        let values = query.split(separators).filter(|pair| !pair.is_empty()).filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, _) = decode_form(name);
            if !same_parameter(&name, &self.name) {
                return None;
            }
            let same_name = name == self.name;
            let (value, is_text) = decode_form(value);
            Some(Occurrence { value, same_name, is_text })
        });
        match (&self.value, spelling) {
            // Parameters are read with more latitude than headers.
            (ValueMatch::Equals(text), Spelling::Any) => {
                values.map(|value| value.value).any(|value| value.trim().eq_ignore_ascii_case(text))
            }
            _ => self.holds(values, spelling),
        }
    }

    fn holds<'a>(&self, mut values: impl Iterator<Item = Occurrence<'a>>, spelling: Spelling) -> bool {
        match (&self.value, spelling) {
            (ValueMatch::Present(true), Spelling::Any) => values.next().is_some(),
            (ValueMatch::Present(true), Spelling::AsWritten) => values.any(|value| value.same_name),
            (ValueMatch::Present(false), Spelling::Any) => !values.any(|value| value.same_name),
            (ValueMatch::Present(false), Spelling::AsWritten) => values.next().is_none(),
            (wanted, Spelling::Any) => values.any(|value| wanted.fits(&value.value)),
            (wanted, Spelling::AsWritten) => {
                let mut there = false;
                values.all(|value| {
                    there |= value.same_name;
                    value.is_text && wanted.fits(&value.value)
                }) && there
            }
        }
    }
}

impl ValueMatch {
    fn fits(&self, value: &str) -> bool {
        match self {
            Self::Equals(text) => text == value,
            Self::Regex(regex) => regex.is_match(value),
            Self::Present(present) => *present,
        }
    }
}

/// Whether a parameter's name is one that some server could take for `wanted`.
fn same_parameter(name: &str, wanted: &str) -> bool {
    let folded = |text: &str| text.trim().to_ascii_lowercase().replace(['.', ' ', '['], "_");
    name.eq_ignore_ascii_case(wanted) || folded(name) == folded(wanted)
}

/// Whether a method is among those of a route; GET stands for HEAD too (RFC 9110 §9.3.2).
pub(super) fn covers_method(methods: &[String], sent: &str, spelling: Spelling) -> bool {
    let same = |method: &String| match spelling {
        Spelling::AsWritten => method == sent || (method == "GET" && sent == "HEAD"),
        Spelling::Any => {
            method.eq_ignore_ascii_case(sent)
                || (method.eq_ignore_ascii_case("GET") && sent.eq_ignore_ascii_case("HEAD"))
        }
    };
    methods.is_empty() || methods.iter().any(same)
}

/// Decodes a name or value of a form-encoded query, and says whether the result is text. A `%` that
/// begins no escape stands for itself.
fn decode_form(encoded: &str) -> (Cow<'_, str>, bool) {
    if !encoded.contains(['%', '+']) {
        return (Cow::Borrowed(encoded), true);
    }
    let bytes = encoded.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if let Some(value) = super::text::escape_at(bytes, at) {
            decoded.push(value);
            at += 3;
        } else {
            decoded.push(if byte == b'+' { b' ' } else { byte });
            at += 1;
        }
    }
    match String::from_utf8(decoded) {
        Ok(text) => (Cow::Owned(text), true),
        Err(error) => (Cow::Owned(String::from_utf8_lossy(error.as_bytes()).into_owned()), false),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn equals(name: &str, value: &str) -> Condition {
        Condition { name: name.into(), value: ValueMatch::Equals(value.into()) }
    }

    fn present(name: &str, present: bool) -> Condition {
        Condition { name: name.into(), value: ValueMatch::Present(present) }
    }

    fn regex(name: &str, text: &str) -> Condition {
        Condition { name: name.into(), value: ValueMatch::Regex(regex::Regex::new(text).unwrap()) }
    }

    fn headers(pairs: &[(&'static str, &'static [u8])]) -> HeaderMap {
        let parse = |(name, value): &(&'static str, &'static [u8])| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())
        };
        pairs.iter().map(parse).collect()
    }

    #[test]
    fn one_fitting_header_is_enough_to_be_charged_and_one_that_does_not_fit_to_lose_a_free_route() {
        let (pdf, html) = (&b"pdf"[..], &b"html"[..]);
        for (condition, sent, priced, free) in [
            (equals("x", "pdf"), vec![], false, false),
            (equals("x", "pdf"), vec![("x", pdf)], true, true),
            (equals("x", "pdf"), vec![("x", b" pdf\t")], true, true),
            (equals("x", "pdf"), vec![("x", b"PDF")], false, false),
            (equals("x", "pdf"), vec![("x", html), ("x", pdf)], true, false),
            (regex("x", "^p"), vec![("x", pdf)], true, true),
            (regex("x", "^p"), vec![("x", pdf), ("x", html)], true, false),
            (regex("x", "^p"), vec![("x", b"p\xFF")], true, false),
            (present("x", true), vec![], false, false),
            (present("x", true), vec![("x", b"")], true, true),
            (present("x", false), vec![], true, true),
            (present("x", false), vec![("x", b"")], false, false),
        ] {
            let map = headers(&sent);
            assert_eq!(condition.holds_in_headers(&map, Spelling::Any), priced, "{condition:?} {sent:?}");
            assert_eq!(condition.holds_in_headers(&map, Spelling::AsWritten), free, "{condition:?} {sent:?}");
        }
    }

    #[test]
    fn query_parameters_are_decoded_and_doubt_about_them_costs() {
        for (condition, query, priced, free) in [
            (equals("f", "a b"), "", false, false),
            (equals("f", "a b"), "f=a+b", true, true),
            (equals("f", "a b"), "x=1&%66=a%20b&", true, true),
            (equals("f", "a b"), "f=a+b&f=c", true, false),
            (equals("f", "a b"), "f=c&F=a+b", true, false),
            (equals("f", "a b"), "F=a+b", true, false),
            (equals("f", "a=b"), "f=a=b", true, true),
            (equals("f", "100%"), "f=100%", true, true),
            (equals("f", ""), "f", true, true),
            (equals("f", "pdf"), "f=PDF", true, false),
            (equals("f", "pdf"), "x=1;f=pdf", true, false),
            (equals("f", "pdf"), "%20f=pdf", true, false),
            (equals("a.b", "1"), "a_b=1", true, false),
            (regex("f", "^.$"), "f=%FF", true, false),
            (present("f", true), "f", true, true),
            (present("f", true), "F=1", true, false),
            (present("f", true), "ff=1", false, false),
            (present("f", false), "", true, true),
            (present("f", false), "F=1", true, false),
            (present("f", false), "f=1", false, false),
        ] {
            assert_eq!(condition.holds_in_query(query, Spelling::Any), priced, "{condition:?} {query}");
            assert_eq!(condition.holds_in_query(query, Spelling::AsWritten), free, "{condition:?} {query}");
        }
    }

    #[test]
    fn a_route_for_get_covers_head() {
        let get = ["GET".to_owned(), "PUT".to_owned()];
        for (sent, priced, free) in [
            ("GET", true, true),
            ("HEAD", true, true),
            ("PUT", true, true),
            ("POST", false, false),
            ("get", true, false),
            ("head", true, false),
        ] {
            assert_eq!(covers_method(&get, sent, Spelling::Any), priced, "{sent}");
            assert_eq!(covers_method(&get, sent, Spelling::AsWritten), free, "{sent}");
        }
        assert!(covers_method(&[], "BREW", Spelling::AsWritten));
        assert!(!covers_method(&["HEAD".to_owned()], "GET", Spelling::Any));
    }
}
