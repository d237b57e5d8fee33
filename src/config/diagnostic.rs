//! What is wrong with a configuration, told like a compiler tells it.

use std::fmt;
use std::sync::Arc;

use super::source::Place;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The gateway does not start, or keeps the configuration it has.
    Error,
    /// Probably not meant, but the gateway can run with it.
    Warning,
}

/// One mistake or doubt, in the operator's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What it is: `routes[2].price: more decimals than USDC has (6)`.
    pub message: String,
    /// How to mend it.
    pub help: String,
    /// File name as the operator gave it.
    pub file: Arc<str>,
    /// Where; `None` when it is about the file as a whole.
    pub place: Option<Place>,
}

// Terminal colours (ECMA-48 SGR).
const RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[1;33m";
const BLUE: &str = "\x1b[1;34m";
const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";

impl Diagnostic {
    /// The diagnostic as text of several lines, with a line feed at the end.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let paint = |style: &'static str, text: &str| {
            if colour { format!("{style}{text}{PLAIN}") } else { text.to_owned() }
        };
        let (style, word) = match self.severity {
            Severity::Error => (RED, "error"),
            Severity::Warning => (YELLOW, "warning"),
        };
        let first =
            format!("{}{}", paint(style, word), paint(BOLD, &format!(": {}", visible(&self.message))));
        let (arrow, equals, bar) = (paint(BLUE, "-->"), paint(BLUE, "="), paint(BLUE, "|"));
        let Some(place) = &self.place else {
            let help = indented(&visible(&self.help), "          ");
            return format!("{first}\n {arrow} {}\n  {equals} help: {help}\n", self.file);
        };
        let number = place.line.to_string();
        let gutter = " ".repeat(number.len());
        let caret = " ".repeat(place.indent) + &paint(style, &"^".repeat(place.width));
        let help = indented(&visible(&self.help), &format!("{gutter}         "));
        let lines = [
            first,
            format!("{gutter}{arrow} {}:{}:{}", self.file, place.line, place.column),
            format!("{gutter} {bar}"),
            format!("{} {bar} {}", paint(BLUE, &number), place.text),
            format!("{gutter} {bar} {caret}"),
            format!("{gutter} {equals} help: {help}"),
        ];
        lines.join("\n") + "\n"
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.render(false))
    }
}

/// How many there are of each severity: `2 errors, 1 warning`; empty when there are none.
#[must_use]
pub fn count(diagnostics: &[Diagnostic]) -> String {
    let of = |severity, word: &str| {
        let number = diagnostics.iter().filter(|one| one.severity == severity).count();
        let plural = if number == 1 { "" } else { "s" };
        (number > 0).then(|| format!("{number} {word}{plural}"))
    };
    let parts = [of(Severity::Error, "error"), of(Severity::Warning, "warning")];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Text of the file as it may be quoted on a terminal, which obeys control characters.
fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() && letter != '\n' {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}

fn indented(text: &str, indent: &str) -> String {
    text.replace('\n', &format!("\n{indent}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagnostic(place: Option<Place>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            message: "routes[0].price: more decimals than USDC has (6)".into(),
            help: "the smallest price in USDC is 0.000001".into(),
            file: "gateway.toml".into(),
            place,
        }
    }

    #[test]
    fn what_the_file_says_does_nothing_to_a_terminal() {
        for place in [None, Some(Place { line: 1, column: 1, text: "x".into(), indent: 0, width: 1 })] {
            let told = Diagnostic {
                message: "pay_to: not \x1b[2J".into(),
                help: "write \"\u{9b}31m\"\nor not".into(),
                ..diagnostic(place)
            };
            let shown = told.render(false);
            assert!(!shown.contains(|letter: char| letter.is_control() && letter != '\n'), "{shown:?}");
            assert!(shown.contains("\\u{1b}[2J") && shown.contains("\\u{9b}31m"), "{shown}");
        }
    }

    #[test]
    fn a_diagnostic_shows_the_line_and_marks_the_text() {
        let place = Place { line: 12, column: 9, text: "price = \"0.0000001\"".into(), indent: 8, width: 11 };
        let expected = "\
error: routes[0].price: more decimals than USDC has (6)
  --> gateway.toml:12:9
   |
12 | price = \"0.0000001\"
   |         ^^^^^^^^^^^
   = help: the smallest price in USDC is 0.000001
";
        assert_eq!(diagnostic(Some(place.clone())).to_string(), expected);
        let coloured = diagnostic(Some(place)).render(true);
        assert!(coloured.starts_with("\x1b[1;31merror\x1b[0m\x1b[1m: routes"), "{coloured:?}");
    }

    #[test]
    fn a_diagnostic_about_the_whole_file_names_the_file() {
        assert!(diagnostic(None).to_string().contains(" --> gateway.toml\n"));
    }

    #[test]
    fn diagnostics_are_counted_by_severity() {
        let error = diagnostic(None);
        let warning = Diagnostic { severity: Severity::Warning, ..error.clone() };
        assert_eq!(count(&[]), "");
        assert_eq!(count(&[error.clone(), error.clone(), warning.clone()]), "2 errors, 1 warning");
        assert_eq!(count(&[warning]), "1 warning");
    }
}
