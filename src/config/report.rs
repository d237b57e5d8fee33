//! Where mistakes are collected while a configuration is read.

use std::cell::RefCell;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::diagnostic::{Diagnostic, Severity};
use super::source::Source;

/// Most diagnostics that are shown of one file.
const SHOWN_MAX: usize = 200;

/// The mistakes found so far, in any order.
#[derive(Debug)]
pub(super) struct Report<'a> {
    source: &'a Source<'a>,
    found: RefCell<Vec<Found>>,
    files: RefCell<Vec<PathBuf>>,
}

#[derive(Debug, PartialEq, Eq)]
struct Found {
    kind: Kind,
    severity: Severity,
    /// `None`: about the file as a whole.
    span: Option<Range<usize>>,
    message: String,
    help: String,
}

/// What a finding rests on: after a syntax error some of the file is read in a way that was not
/// meant, and what is concluded from that part would only mislead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Syntax,
    /// Something that is written.
    Written,
    /// Something that is not.
    Missing,
}

impl<'a> Report<'a> {
    pub(super) fn new(source: &'a Source<'a>) -> Self {
        Self { source, found: RefCell::default(), files: RefCell::default() }
    }

    /// Takes note of another file that the configuration rests on.
    pub(super) fn rests_on(&self, file: &Path) {
        self.files.borrow_mut().push(file.to_owned());
    }

    /// The files that the configuration rests on, besides its own.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        self.files.borrow().clone()
    }

    /// The file that is read.
    pub(super) fn source(&self) -> &'a Source<'a> {
        self.source
    }

    /// An error in the file's syntax.
    pub(super) fn syntax(&self, span: Option<Range<usize>>, message: String, help: String) {
        self.push(Kind::Syntax, Severity::Error, span, message, help);
    }

    /// An error in what is written at `span`.
    pub(super) fn error(&self, span: Range<usize>, message: String, help: String) {
        self.push(Kind::Written, Severity::Error, Some(span), message, help);
    }

    /// A doubt about what is written at `span`; `None`: about the file as a whole.
    pub(super) fn warning(&self, span: Option<Range<usize>>, message: String, help: String) {
        self.push(Kind::Written, Severity::Warning, span, message, help);
    }

    /// An error by omission; `span` is what makes the missing part necessary.
    pub(super) fn missing(&self, span: Option<Range<usize>>, message: String, help: String) {
        self.push(Kind::Missing, Severity::Error, span, message, help);
    }

    /// Whether so much was found that further findings will not be shown in full.
    pub(super) fn is_crowded(&self) -> bool {
        self.found.borrow().len() > 10 * SHOWN_MAX
    }

    /// Whether anything found keeps the configuration from being used.
    pub(super) fn has_errors(&self) -> bool {
        self.found.borrow().iter().any(|found| found.severity == Severity::Error)
    }

    /// Everything found, in the order of the file; each finding once, and without conclusions from
    /// text that a syntax error made unreadable.
    pub(super) fn finish(self) -> Vec<Diagnostic> {
        let shadows = self.shadows();
        let is_shadowed = |found: &Found| match found.kind {
            Kind::Syntax => false,
            Kind::Missing => !shadows.is_empty(),
            Kind::Written => found.span.as_ref().is_some_and(|span| {
                let line = self.source.line_of(span.start);
                shadows.iter().any(|shadow| shadow.contains(&line))
            }),
        };
        let mut found: Vec<Found> = self.found.take();
        found.retain(|found| !is_shadowed(found));
        found.sort_by_key(|found| found.span.as_ref().map_or(usize::MAX, |span| span.start));
        // The same is often found several times, once for each route that uses what is wrong.
        found.dedup();
        let rest = found.split_off(found.len().min(SHOWN_MAX));
        let mut diagnostics: Vec<Diagnostic> = Vec::new();
        for found in found {
            let diagnostic = self.diagnostic(found);
            if !diagnostics.contains(&diagnostic) {
                diagnostics.push(diagnostic);
            }
        }
        if let Some(severity) = rest.iter().map(|found| found.severity).min() {
            let message = format!("and {} more, which are not shown", rest.len());
            let help = "mend these first".to_owned();
            diagnostics.push(self.diagnostic(Found {
                kind: Kind::Missing,
                severity,
                span: None,
                message,
                help,
            }));
        }
        diagnostics
    }

    // The lines that syntax errors make doubtful. Where a table's header is broken, its keys end up
    // in another table, so these are doubtful as well.
    fn shadows(&self) -> Vec<Range<usize>> {
        let found = self.found.borrow();
        let syntax = found.iter().filter(|found| found.kind == Kind::Syntax);
        syntax
            .map(|found| {
                let first = found.span.as_ref().map_or(0, |span| self.source.line_of(span.start));
                let is_header = |line: &str| line.trim_start().starts_with('[');
                let mut lines = self.source.lines_from(first);
                if !lines.next().is_some_and(|(_, line)| is_header(line)) {
                    return first..first + 1;
                }
                first..lines.find(|(_, line)| is_header(line)).map_or(usize::MAX, |(index, _)| index)
            })
            .collect()
    }

    fn push(
        &self,
        kind: Kind,
        severity: Severity,
        span: Option<Range<usize>>,
        message: String,
        help: String,
    ) {
        self.found.borrow_mut().push(Found { kind, severity, span, message, help });
    }

    fn diagnostic(&self, found: Found) -> Diagnostic {
        Diagnostic {
            severity: found.severity,
            message: found.message,
            help: found.help,
            file: self.source.name().clone(),
            place: found.span.map(|span| self.source.place(&span)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_come_in_the_order_of_the_file_and_once() {
        let source = Source::new("f", "a\nb\nc\n", Vec::new());
        let report = Report::new(&source);
        for (start, message) in [(4, "c"), (0, "a"), (4, "c"), (2, "b")] {
            report.error(start..start + 1, message.into(), String::new());
        }
        report.missing(None, "whole".into(), String::new());
        assert!(report.has_errors());
        let messages: Vec<String> = report.finish().into_iter().map(|one| one.message).collect();
        assert_eq!(messages, ["a", "b", "c", "whole"]);
    }

    #[test]
    fn very_many_findings_are_cut_short_and_errors_stay_errors() {
        let text = "x\n".repeat(300);
        let source = Source::new("f", &text, Vec::new());
        let report = Report::new(&source);
        for line in 0..300 {
            report.warning(Some(2 * line..2 * line + 1), "doubt".into(), String::new());
        }
        let diagnostics = report.finish();
        assert_eq!(diagnostics.len(), SHOWN_MAX + 1);
        assert_eq!(diagnostics.last().unwrap().message, "and 100 more, which are not shown");
    }

    #[test]
    fn nothing_is_concluded_from_what_a_syntax_error_made_unreadable() {
        let source = Source::new("f", "a = \nb\n[[x]\nc = 1\n[y]\nd = 1\n", Vec::new());
        let report = Report::new(&source);
        report.syntax(Some(4..5), "value".into(), String::new());
        report.syntax(Some(11..11), "header".into(), String::new());
        for (start, message) in [(0, "a"), (5, "b"), (13, "c"), (23, "d")] {
            report.error(start..start + 1, message.into(), String::new());
        }
        report.missing(None, "gone".into(), String::new());
        let messages: Vec<String> = report.finish().into_iter().map(|one| one.message).collect();
        assert_eq!(messages, ["value", "b", "header", "d"]);
    }
}
