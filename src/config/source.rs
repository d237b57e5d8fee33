//! The text of a configuration file, and where in it something stands.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longest part of a source line that a diagnostic shows, in characters.
const SHOWN_CHARS: usize = 120;

/// The text of a configuration file.
#[derive(Debug)]
pub(super) struct Source<'a> {
    name: Arc<str>,
    text: &'a str,
    line_starts: Vec<usize>,
    hidden: Vec<Range<usize>>,
}

/// A place in a configuration file, with the line it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is shown of the line: tabs and control characters are spaces, secrets are stars.
    pub text: String,
    /// Characters of `text` before the marked part.
    pub indent: usize,
    /// Characters that are marked, at least one.
    pub width: usize,
}

impl<'a> Source<'a> {
    /// A source whose lines are shown with the byte ranges in `hidden` starred out.
    pub(super) fn new(name: &str, text: &'a str, hidden: Vec<Range<usize>>) -> Self {
        let line_starts =
            std::iter::once(0).chain(text.match_indices('\n').map(|(index, _)| index + 1)).collect();
        Self { name: name.into(), text, line_starts, hidden }
    }

    /// The file's name as the operator gave it.
    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The text at a byte range; empty when the range is not one of the text.
    pub(super) fn slice(&self, span: Range<usize>) -> &'a str {
        self.text.get(span).unwrap_or_default()
    }

    /// Whether any of a byte range is secret.
    pub(super) fn hides(&self, span: &Range<usize>) -> bool {
        self.hidden.iter().any(|hidden| hidden.start < span.end && span.start < hidden.end)
    }

    /// A path written in the file: relative ones start at the file's folder.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        Path::new(&*self.name).parent().unwrap_or(Path::new("")).join(path)
    }

    /// Index of the line with the byte at `offset`, from 0.
    pub(super) fn line_of(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset).saturating_sub(1)
    }

    /// The lines from index `first` on, each with its index.
    pub(super) fn lines_from(&self, first: usize) -> impl Iterator<Item = (usize, &'a str)> {
        self.text.lines().enumerate().skip(first)
    }

    /// Where a byte range stands; a range over several lines is marked on its first.
    pub(super) fn place(&self, span: &Range<usize>) -> Place {
        let start = floor_char(self.text, span.start);
        let line = self.line_of(start);
        let line_start = self.line_starts.get(line).copied().unwrap_or(0);
        let rest = self.text.get(line_start..).unwrap_or_default();
        let raw = rest.split('\n').next().unwrap_or_default().trim_end_matches('\r');
        let line_end = line_start + raw.len();
        let hidden: Vec<_> =
            self.hidden.iter().filter(|range| range.start < line_end && line_start < range.end).collect();
        let is_hidden = |offset: usize| hidden.iter().any(|range| range.contains(&offset));
        let shown: Vec<char> = raw
            .char_indices()
            .map(|(index, character)| match character {
                _ if is_hidden(line_start + index) => '*',
                '\u{feff}' | '\t' => ' ',
                other if other.is_control() => ' ',
                other => other,
            })
            .collect();
        let chars_before = |offset: usize| {
            let end = offset.saturating_sub(line_start).min(raw.len());
            raw.get(..floor_char(raw, end)).unwrap_or_default().chars().count()
        };
        let column = chars_before(start);
        let width = chars_before(span.end.max(start)).saturating_sub(column).max(1);
        let (text, indent) = window(&shown, column);
        let width = width.min(text.chars().count().saturating_sub(indent).max(1));
        Place { line: line + 1, column: column + 1, text, indent, width }
    }
}

/// The part of a long line around `column`, and where the column is in it.
fn window(line: &[char], column: usize) -> (String, usize) {
    let trimmed = line.iter().rposition(|character| *character != ' ').map_or(0, |last| last + 1);
    let line = line.get(..trimmed.max(column.min(line.len()))).unwrap_or(line);
    if line.len() <= SHOWN_CHARS {
        return (line.iter().collect(), column);
    }
    let first = column.saturating_sub(SHOWN_CHARS / 3);
    let last = (first + SHOWN_CHARS).min(line.len());
    let mut text = String::new();
    let mut indent = column - first;
    if first > 0 {
        text.push('…');
        indent += 1;
    }
    text.extend(line.get(first..last).unwrap_or_default());
    if last < line.len() {
        text.push('…');
    }
    (text, indent)
}

fn floor_char(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str, span: Range<usize>) -> (usize, usize, String, usize, usize) {
        let Place { line, column, text, indent, width } = Source::new("f", text, Vec::new()).place(&span);
        (line, column, text, indent, width)
    }

    #[test]
    fn lines_and_columns_count_from_one_and_in_characters() {
        assert_eq!(place("a = 1\nb = 2\n", 6..7), (2, 1, "b = 2".into(), 0, 1));
        assert_eq!(place("é = \"ü\" # x", 5..9), (1, 5, "é = \"ü\" # x".into(), 4, 3));
        assert_eq!(place("a = \"x\r\ny\"\r\n", 4..9), (1, 5, "a = \"x".into(), 4, 2));
        assert_eq!(place("\ta = 1", 1..2), (1, 2, " a = 1".into(), 1, 1));
    }

    #[test]
    fn places_outside_the_text_are_at_its_end() {
        assert_eq!(place("", 0..0), (1, 1, String::new(), 0, 1));
        assert_eq!(place("a", 7..9), (1, 2, "a".into(), 1, 1));
        assert_eq!(place("a\n", 2..2), (2, 1, String::new(), 0, 1));
    }

    #[test]
    fn hidden_text_is_not_shown() {
        let text = "token = \"hunter2\" # x";
        let place = Source::new("f", text, vec![9..16, 40..50]).place(&(8..17));
        assert_eq!(place.text, "token = \"*******\" # x");
    }

    #[test]
    fn long_lines_are_shown_around_the_place() {
        let text = format!("a = \"{}\", b", "x".repeat(500));
        let shown = Source::new("f", &text, Vec::new()).place(&(508..509));
        assert_eq!((shown.column, shown.text.chars().nth(shown.indent)), (509, Some('b')));
        assert!(shown.text.chars().count() <= SHOWN_CHARS + 2, "{}", shown.text);
    }
}
