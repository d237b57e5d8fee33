//! Syntax errors in the operator's words, and which parts of a file are secret.

use std::collections::HashSet;
use std::ops::Range;

use toml::de::{DeTable, DeValue, Error};

use super::report::Report;

/// Most syntax errors that are told of one file; a text with more is hardly a configuration.
const ERRORS_MAX: usize = 100;

/// Reports what the TOML parser did not understand.
pub(super) fn report(report: &Report<'_>, errors: &[Error]) {
    let mut lines_seen = HashSet::new();
    for error in errors {
        let span = error.span();
        // One slip often makes the parser complain several times; the first complaint is the telling one.
        let line = span.as_ref().map(|span| report.source().line_of(span.start));
        if !lines_seen.insert(line) {
            continue;
        }
        if lines_seen.len() > ERRORS_MAX {
            break;
        }
        let shown = span.clone().filter(|span| !report.source().hides(span));
        let secret = span.is_some() && shown.is_none();
        let text = if secret { "…" } else { shown.map_or("", |span| report.source().slice(span)) };
        let (message, help) = explain(error.message(), text);
        report.syntax(span, message, help);
    }
}

fn explain(message: &str, text: &str) -> (String, String) {
    let shown = text.escape_debug();
    let starts = |start: &str| message.starts_with(start);
    if starts("string values must be quoted") {
        if text.is_empty() {
            return ("a value is missing".into(), "write a value after the `=`".into());
        }
        return ("text must stand in quotes".into(), format!("write \"{shown}\""));
    }
    if starts("duplicate key") {
        let help = "keep one of them; each further route begins with [[routes]], in double brackets";
        return (format!("`{shown}` is written twice"), help.into());
    }
    if starts("key with no value") {
        return ("a key without a value".into(), "write `key = value`".into());
    }
    if starts("invalid basic string") || starts("invalid literal string") {
        return ("the text is not closed, or has a character that must be escaped".into(), quotes());
    }
    if starts("cannot recurse further") || starts("recursion limit") {
        return ("nested too deeply".into(), "no key of a configuration nests this deeply".into());
    }
    if starts("cannot extend value") {
        let message = format!("`{shown}` already has a value that is not a table");
        return (message, "keep the value or the table".into());
    }
    // The parser's own words, without what it lists as expected: that goes into the help.
    match message.split_once(", expected ") {
        Some((what, expected)) => (what.to_owned(), format!("expected {expected}")),
        None => (message.to_owned(), "see https://toml.io for how TOML is written".into()),
    }
}

fn quotes() -> String {
    "end it with the quote it began with, on the same line;\n\
     in \"…\" write \\\\ for a backslash, in '…' nothing is escaped"
        .into()
}

/// The byte ranges of a file that are not shown in messages: secrets, and what may be one. Of a file
/// that is `broken` the tree does not have all that is written, so the text is looked through as well.
pub(super) fn secrets(text: &str, table: &DeTable<'_>, broken: bool) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    collect(text, table, false, &mut found);
    if broken {
        found.extend(text.match_indices('=').filter_map(|(at, _)| written_secret(text, at)));
        found.extend(text.match_indices("://").filter_map(|(at, _)| written_user(text, at + 3)));
    }
    found
}

/// What is written behind the `=` at a byte, when the word before it is the name of a secret.
fn written_secret(text: &str, at: usize) -> Option<Range<usize>> {
    let before = text.get(..at)?.trim_end_matches([' ', '\t', '"', '\'']);
    let is_part = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '-');
    let name = before.get(before.trim_end_matches(is_part).len()..)?.to_ascii_lowercase();
    let value = text.get(at + 1..)?.trim_start_matches([' ', '\t']);
    let quote = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quote| value.starts_with(quote));
    let start = text.len() - value.len() + quote.map_or(0, str::len);
    let content = text.get(start..)?;
    let end = match quote {
        None => content.find(['\n', ',', '}', '#']),
        Some("\"") => content.find(['\n', '"']),
        Some("'") => content.find(['\n', '\'']),
        Some(long) => content.find(long),
    };
    let content = content.get(..end.unwrap_or(content.len()))?;
    is_secret(&name, content, true).then(|| start..start + content.len())
}

/// `user:password` of a URL whose authority begins at a byte.
fn written_user(text: &str, at: usize) -> Option<Range<usize>> {
    let authority = text.get(at..)?.split(['/', '?', '#', '"', '\'', '\n']).next()?;
    authority.rfind('@').map(|length| at..at + length)
}

fn collect(text: &str, table: &DeTable<'_>, in_auth: bool, found: &mut Vec<Range<usize>>) {
    for (name, value) in table {
        let name = name.get_ref().to_ascii_lowercase();
        match value.get_ref() {
            DeValue::String(content) => {
                if is_secret(&name, content, in_auth) {
                    found.push(inside_quotes(text, value.span()));
                }
                found.extend(user_information(text, value.span()));
            }
            DeValue::Table(inner) => collect(text, inner, in_auth || name == "auth", found),
            DeValue::Array(items) => {
                for item in items {
                    match item.get_ref() {
                        DeValue::Table(inner) => collect(text, inner, in_auth, found),
                        DeValue::String(_) => found.extend(user_information(text, item.span())),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
}

fn is_secret(name: &str, content: &str, in_auth: bool) -> bool {
    let telling =
        ["secret", "token", "password", "api_key", "private"].iter().any(|word| name.contains(word));
    match name.rsplit_once('_').map(|(_, last)| last) {
        // The secret itself, where the name of its variable belongs, is a common slip.
        Some("env") => !is_variable_name(content),
        Some("file") => false,
        // Providers of nodes put keys into their URLs.
        _ => {
            telling
                || name == "rpc"
                || (in_auth && name == "value")
                || (name == "key" && is_private_key(content))
        }
    }
}

/// Whether a text looks like the name of an environment variable and unlike a secret.
pub(super) fn is_variable_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=64).contains(&text.len())
        && text.bytes().all(plain)
        && !text.starts_with(|first: char| first.is_ascii_digit())
}

fn inside_quotes(text: &str, span: Range<usize>) -> Range<usize> {
    let written = text.get(span.clone()).unwrap_or_default();
    let quote = |quote| written.len() >= 2 && written.starts_with(quote) && written.ends_with(quote);
    if quote('"') || quote('\'') { span.start + 1..span.end - 1 } else { span }
}

/// Whether a text is the private key of an account; most that is called `key` is a file.
fn is_private_key(text: &str) -> bool {
    let digits = text.trim().trim_start_matches("0x");
    digits.len() >= 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// `user:password` of a URL.
fn user_information(text: &str, span: Range<usize>) -> Option<Range<usize>> {
    let written = text.get(span.clone())?;
    let start = written.find("://")? + 3;
    let authority = written.get(start..)?.split(['/', '?', '#']).next()?;
    let length = authority.rfind('@')?;
    Some(span.start + start..span.start + start + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(text: &str) -> Vec<&str> {
        let (table, _) = DeTable::parse_recoverable(text);
        secrets(text, table.get_ref(), false).into_iter().map(|span| &text[span]).collect()
    }

    #[test]
    fn secrets_are_found_wherever_they_are_written() {
        for (text, expected) in [
            ("auth = { kind = \"bearer\", token = \"abc\" }", vec!["abc"]),
            ("[facilitators.x]\nauth = { value = 'abc', value_env = \"NAME\" }", vec!["abc"]),
            ("[[x]]\npassword = \"abc\"", vec!["abc"]),
            ("x.auth.secret = \"\"\"abc\ndef\"\"\"", vec!["\"\"abc\ndef\"\""]),
            ("[chains.base]\nrpc = \"https://node.example/v2/abc\"", vec!["https://node.example/v2/abc"]),
            ("rpc_env = \"https://node.example/v2/abc\"", vec!["https://node.example/v2/abc"]),
            ("secret_env = \"hunter2\"\nsecret_file = \"key.pem\"", vec!["hunter2"]),
            ("url = \"https://me:pw@example.com/@\"", vec!["me:pw"]),
            ("facilitator = [\"https://me@example.com\", \"sandbox\"]", vec!["me"]),
            ("token = hunter2", vec!["hunter2"]),
            ("key = \"site.key\"", vec![]),
            (
                "key = \"0x4242424242424242424242424242424242424242424242424242424242424242\"",
                vec!["0x4242424242424242424242424242424242424242424242424242424242424242"],
            ),
            ("token = \"hunter2", vec!["\"hunter2"]),
            ("header = { X-Tier = \"bulk\" }\nvalue = \"shown\"", vec![]),
        ] {
            assert_eq!(hidden(text), expected, "{text}");
        }
    }

    #[test]
    fn secrets_are_found_in_what_the_parser_gave_up_on() {
        let in_broken = |text: &str| {
            let (table, errors) = DeTable::parse_recoverable(text);
            assert!(!errors.is_empty(), "{text}");
            let hidden = secrets(text, table.get_ref(), true);
            text.char_indices()
                .filter(|(at, _)| !hidden.iter().any(|range| range.contains(at)))
                .map(|(_, c)| c)
                .collect::<String>()
        };
        for (text, shown) in [
            ("x = [1,\ntoken = \"hunter2\"\ny = 1", "x = [1,\ntoken = \"\"\ny = 1"),
            (
                "x = [\nauth = { kind = 'header', value = 'hunter2' }",
                "x = [\nauth = { kind = 'header', value = '' }",
            ),
            ("x = [\nurl = \"https://me:hunter2@a.example/\"", "x = [\nurl = \"https://a.example/\""),
            ("x = [\n\"api_key\" = '''hunter2\nhunter3'''", "x = [\n\"api_key\" = ''''''"),
            ("x = [\npassword = hunter2, y = 1", "x = [\npassword = , y = 1"),
            (
                "x = [\ntoken_env = \"hunter2\" # \ntoken_env = \"NAME\"",
                "x = [\ntoken_env = \"\" # \ntoken_env = \"NAME\"",
            ),
            ("x = [\ntoken = \"\"\"hunter2", "x = [\ntoken = \"\"\""),
        ] {
            assert_eq!(in_broken(text).replace('@', ""), shown, "{text}");
        }
    }
}
