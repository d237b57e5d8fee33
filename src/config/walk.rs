//! Reading the parsed tree: every value knows its path and place, so that a mistake in it can be
//! told where it stands.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};

use toml::de::{DeTable, DeValue};

use super::keys::{Inner, Key, Table};
use super::report::Report;
use super::suggest::{list, nearest};

/// A value.
#[derive(Debug, Clone)]
pub(super) struct Node<'a> {
    report: &'a Report<'a>,
    path: String,
    key: Option<&'static Key>,
    key_span: Range<usize>,
    span: Range<usize>,
    value: &'a DeValue<'a>,
}

/// A table whose keys are known.
#[derive(Debug, Clone)]
pub(super) struct Section<'a> {
    report: &'a Report<'a>,
    path: String,
    span: Option<Range<usize>>,
    table: &'a DeTable<'a>,
    spec: &'static Table,
}

impl<'a> Section<'a> {
    /// The top of the file.
    pub(super) fn top(report: &'a Report<'a>, table: &'a DeTable<'a>, spec: &'static Table) -> Self {
        Self { report, path: String::new(), span: None, table, spec }
    }

    /// Reports every key that no table of this kind has, here and further down.
    pub(super) fn check_keys(&self) {
        for (name, value) in self.table {
            let Some(key) = self.spec.key(name.get_ref()) else {
                self.unknown(name.get_ref(), name.span());
                continue;
            };
            match key.inner {
                Inner::Free => {}
                Inner::Table(spec) => self.check_tables(key.name, value.get_ref(), spec),
                Inner::Named(spec) => {
                    for (_, value) in value.get_ref().as_table().into_iter().flatten() {
                        self.check_tables(key.name, value.get_ref(), spec);
                    }
                }
            }
        }
    }

    fn check_tables(&self, name: &str, value: &'a DeValue<'a>, spec: &'static Table) {
        let items = value.as_array().into_iter().flatten().filter_map(|item| item.get_ref().as_table());
        for table in value.as_table().into_iter().chain(items) {
            let path = self.path_of(name);
            Self { report: self.report, path, span: None, table, spec }.check_keys();
        }
    }

    /// The value of a key, if it is written. What is no key of the table counts as not written.
    pub(super) fn get(&self, name: &str) -> Option<Node<'a>> {
        let known = self.spec.key(name)?;
        let (key, value) = self.table.get_key_value(name)?;
        Some(Node {
            report: self.report,
            path: self.path_of(name),
            key: Some(known),
            key_span: key.span(),
            span: value.span(),
            value: value.get_ref(),
        })
    }

    /// The value of one of two keys that mean the same; both together are an error.
    pub(super) fn either(&self, one: &str, other: &str) -> Option<Node<'a>> {
        let (first, second) = (self.get(one), self.get(other));
        if let (Some(_), Some(second)) = (&first, &second) {
            second
                .key_error(format!("stands next to `{one}`"), format!("write one of `{one}` and `{other}`"));
        }
        first.or(second)
    }

    /// The keys that are written, in the order of the table's list.
    pub(super) fn written(&self) -> impl Iterator<Item = Node<'a>> {
        self.spec.keys.iter().filter_map(|key| self.get(key.name))
    }

    /// An error about the table as a whole: something it lacks.
    pub(super) fn missing(&self, message: impl Display, help: impl Display) {
        self.report.missing(self.span.clone(), self.about(message), help.to_string());
    }

    /// A doubt about the table as a whole.
    pub(super) fn warning(&self, message: impl Display, help: impl Display) {
        self.report.warning(self.span.clone(), self.about(message), help.to_string());
    }

    /// The path of a key of this table: `routes[2].price`.
    pub(super) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The path of the table; empty for the top of the file.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// A path of a file that need not be there: relative ones start at the folder of the configuration.
    pub(super) fn resolve(&self, path: &str) -> std::path::PathBuf {
        self.report.source().resolve(path)
    }

    /// The report this table is read for.
    pub(super) fn report(&self) -> &'a Report<'a> {
        self.report
    }

    /// Where it begins, seen from another table: the line, from 1, and the file if that is another.
    pub(super) fn place_from(&self, other: &Self) -> String {
        let source = self.report.source();
        let line = self.span.as_ref().map_or(1, |span| source.line_of(span.start) + 1);
        if std::ptr::eq(source, other.report.source()) {
            format!("line {line}")
        } else {
            format!("line {line} of {}", source.name())
        }
    }

    fn about(&self, message: impl Display) -> String {
        if self.path.is_empty() { message.to_string() } else { format!("{}: {message}", self.path) }
    }

    fn unknown(&self, name: &str, span: Range<usize>) {
        let shown = name.escape_debug();
        let is_included = self.spec.header == super::keys::INCLUDED.header;
        let place = if self.path.is_empty() && !is_included { "at" } else { "in" };
        let message = format!("unknown key `{shown}` {place} {}", self.spec.header);
        if self.report.is_crowded() {
            self.report.error(span, message, "see the other messages".into());
            return;
        }
        let names = || self.spec.keys.iter().map(|key| key.name);
        let elsewhere = super::keys::TABLES.iter().find(|table| table.key(name).is_some());
        let help = match (nearest(name, names()), elsewhere) {
            (None, Some(_)) if is_included => {
                format!("`{shown}` belongs into the file that includes this one, which has [[routes]] alone")
            }
            (Some(meant), _) => format!("did you mean `{meant}`?"),
            (None, Some(table)) if table.header == super::keys::TOP.header => {
                format!("`{shown}` belongs at the top of the file, before the first [table]")
            }
            (None, Some(table)) => format!("`{shown}` is a key of {}", table.header),
            (None, None) => format!("the keys are {}", list(names())),
        };
        self.report.error(span, message, help);
    }
}

impl<'a> Node<'a> {
    /// Reports an error in this value.
    pub(super) fn error(&self, message: impl Display, help: impl Display) {
        self.report.error(self.span.clone(), format!("{}: {message}", self.path), help.to_string());
    }

    /// Reports a doubt about this value.
    pub(super) fn warning(&self, message: impl Display, help: impl Display) {
        self.report.warning(Some(self.span.clone()), format!("{}: {message}", self.path), help.to_string());
    }

    /// Reports an error about the key being there at all.
    pub(super) fn key_error(&self, message: impl Display, help: impl Display) {
        self.report.error(self.key_span.clone(), format!("{}: {message}", self.path), help.to_string());
    }

    /// Reports a doubt about the key being there at all.
    pub(super) fn key_warning(&self, message: impl Display, help: impl Display) {
        let message = format!("{}: {message}", self.path);
        self.report.warning(Some(self.key_span.clone()), message, help.to_string());
    }

    /// Reports something missing that this value makes necessary.
    pub(super) fn missing(&self, message: impl Display, help: impl Display) {
        self.report.missing(Some(self.span.clone()), message.to_string(), help.to_string());
    }

    /// Reports an error in a part of a text value: `length` bytes from byte `offset` on.
    pub(super) fn error_at(&self, offset: usize, length: usize, message: impl Display, help: impl Display) {
        let written = self.report.source().slice(self.span.clone());
        let same = |text: &str| self.value.as_str() == Some(text);
        let inside = written.get(1..written.len().saturating_sub(1)).is_some_and(same);
        let span = if inside {
            let start = (self.span.start + 1 + offset).min(self.span.end.saturating_sub(1));
            start..(start + length.max(1)).min(self.span.end)
        } else {
            // With escapes the bytes of the value are not those of the file.
            self.span.clone()
        };
        self.report.error(span, format!("{}: {message}", self.path), help.to_string());
    }

    /// The last part of the path.
    pub(super) fn name(&self) -> &str {
        self.path.rsplit('.').next().unwrap_or(&self.path)
    }

    /// The value as parsed.
    pub(super) fn value(&self) -> &'a DeValue<'a> {
        self.value
    }

    /// The report this value is read for.
    pub(super) fn report(&self) -> &'a Report<'a> {
        self.report
    }

    /// A file named by this value: relative paths start at the folder of the configuration.
    pub(super) fn file(&self) -> Option<std::path::PathBuf> {
        let path = self.report.source().resolve(self.text()?);
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {
                self.error(format!("{} is a folder", path.display()), "name a file");
                None
            }
            Ok(_) => {
                self.report.rests_on(&path);
                Some(path)
            }
            Err(error) => {
                let message = format!("cannot read {}: {}", path.display(), super::io_error(&error));
                self.error(message, "relative paths start at the folder of the configuration file");
                None
            }
        }
    }

    /// Reports that the value is of another type than the key wants.
    pub(super) fn wrong_type(&self) {
        let kind = self.key.map_or("text in quotes", |key| key.kind);
        let help = match (self.value, self.key) {
            (DeValue::Float(number), Some(key)) if key.kind.contains("price") => {
                format!("write it in quotes, because numbers with a point are not exact: \"{number}\"")
            }
            (DeValue::Integer(number), Some(key)) if key.kind.contains("in quotes") => {
                format!("write it in quotes: \"{number}\"")
            }
            (_, Some(key)) => format!("`{}`: {}", key.name, key.doc),
            (_, None) => "write it in quotes".to_owned(),
        };
        self.error(format!("expected {kind}, found {}", described(self.value)), help);
    }

    /// A text that is not empty and has no control characters.
    pub(super) fn text(&self) -> Option<&'a str> {
        let DeValue::String(text) = self.value else {
            self.wrong_type();
            return None;
        };
        let text: &'a str = text;
        if text.trim().is_empty() {
            self.error("is empty", "write a value or leave the key out");
            return None;
        }
        if text.chars().any(char::is_control) {
            self.error("has a control character, such as a line feed", "write it without");
            return None;
        }
        Some(text)
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self) -> Option<bool> {
        let value = self.value.as_bool();
        if value.is_none() {
            self.wrong_type();
        }
        value
    }

    /// A whole number within limits.
    pub(super) fn number(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let DeValue::Integer(integer) = self.value else {
            self.wrong_type();
            return None;
        };
        // Anything that does not fit is out of every range in use.
        let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let within = number.filter(|number| range.contains(number));
        if within.is_none() {
            let help = self.key.map_or(String::new(), |key| format!("`{}`: {}", key.name, key.doc));
            self.error(format!("must be from {} to {}", range.start(), range.end()), help);
        }
        within
    }

    /// One of several words.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        let found = choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        if found.is_none() {
            let names = || choices.iter().map(|(name, _)| *name);
            let quoted: Vec<String> = names().map(|name| format!("\"{name}\"")).collect();
            let help = match nearest(text, names()) {
                Some(meant) => format!("did you mean \"{meant}\"?"),
                None => format!("the choices are {}", list(quoted.iter().map(String::as_str))),
            };
            self.error(format!("unknown value \"{}\"", text.escape_debug()), help);
        }
        found
    }

    /// The items of a list.
    pub(super) fn items(&self) -> Option<Vec<Self>> {
        let Some(items) = self.value.as_array() else {
            self.wrong_type();
            return None;
        };
        let item = |(index, value): (usize, &'a toml::Spanned<DeValue<'a>>)| Self {
            report: self.report,
            path: format!("{}[{index}]", self.path),
            key: None,
            key_span: value.span(),
            span: value.span(),
            value: value.get_ref(),
        };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// The items of a list, or the value itself where one is enough; an empty list is an error.
    pub(super) fn one_or_many(&self) -> Vec<Self> {
        if !self.value.is_array() {
            return vec![self.clone()];
        }
        let items = self.items().unwrap_or_default();
        if items.is_empty() {
            self.error("is an empty list", "write at least one entry or leave the key out");
        }
        items
    }

    /// The value as a table of known keys.
    pub(super) fn section(&self, spec: &'static Table) -> Option<Section<'a>> {
        let Some(table) = self.value.as_table() else {
            self.wrong_type();
            return None;
        };
        Some(Section {
            report: self.report,
            path: self.path.clone(),
            span: Some(self.span.clone()),
            table,
            spec,
        })
    }

    /// The entries of a table whose names the operator chooses, in the order of the file.
    pub(super) fn entries(&self) -> Option<Vec<(&'a str, Self)>> {
        let Some(table) = self.value.as_table() else {
            self.wrong_type();
            return None;
        };
        let mut entries: Vec<(&'a str, Self)> = table
            .iter()
            .map(|(name, value)| {
                let node = Self {
                    report: self.report,
                    path: format!("{}.{}", self.path, name.get_ref().escape_debug()),
                    key: None,
                    key_span: name.span(),
                    span: value.span(),
                    value: value.get_ref(),
                };
                (&**name.get_ref(), node)
            })
            .collect();
        entries.sort_by_key(|(_, node)| node.key_span.start);
        Some(entries)
    }
}

fn described(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(true) => "true",
        DeValue::Boolean(false) => "false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
