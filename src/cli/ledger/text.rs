//! Text for people: columns, and names short enough for them.

use std::io::{self, Write};

pub(in crate::cli) use crate::cli::pay::clean;

/// Characters of a column beyond which the next one starts late, so that one long name does not push
/// all others out of sight.
const COLUMN_CHARACTERS_MAX: usize = 60;
/// Hexadecimal digits of an identity in a table; among a million payments two begin alike once in
/// millions of tables.
const ID_CHARACTERS: usize = "0x".len() + 12;

/// One column of a table.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) enum Column {
    /// Text.
    Left(&'static str),
    /// Amounts and numbers.
    Right(&'static str),
}

impl Column {
    const fn title(self) -> &'static str {
        match self {
            Self::Left(title) | Self::Right(title) => title,
        }
    }
}

/// Writes rows under their titles; cells that quote what others wrote must be [`clean`].
///
/// # Errors
/// When `out` cannot be written.
pub(in crate::cli) fn table<const COLUMNS: usize>(
    out: &mut dyn Write,
    columns: [Column; COLUMNS],
    rows: &[[String; COLUMNS]],
) -> io::Result<()> {
    let mut widths = columns.map(|column| column.title().len());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count().min(COLUMN_CHARACTERS_MAX));
        }
    }
    let titles = columns.map(|column| column.title().to_owned());
    for row in std::iter::once(&titles).chain(rows) {
        let mut line = String::new();
        for ((cell, width), column) in row.iter().zip(widths).zip(columns) {
            let padded = match column {
                Column::Left(_) => format!("{cell:width$}  "),
                Column::Right(_) => format!("{cell:>width$}  "),
            };
            line.push_str(&padded);
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// The beginning of an identity, with which `show` finds the payment.
pub(super) fn short_id(id: crate::scheme::PaymentId) -> String {
    let mut text = id.to_string();
    text.truncate(ID_CHARACTERS);
    text
}

/// Beginning and end of an account or a transaction; `-` when there is none.
pub(super) fn short(text: &str) -> String {
    let text = clean(text);
    let count = text.chars().count();
    let is_hex = text.starts_with("0x");
    let (first, last) = if is_hex { (6, 4) } else { (4, 4) };
    if text.is_empty() {
        "-".to_owned()
    } else if count <= first + last + 1 {
        text
    } else {
        let beginning: String = text.chars().take(first).collect();
        let end: String = text.chars().skip(count - last).collect();
        format!("{beginning}…{end}")
    }
}

/// `1 payment`, `2 payments`.
pub(super) fn counted(count: u64, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be_and_a_long_cell_spoils_only_its_line() {
        let long = "x".repeat(70);
        let rows = [
            ["a".to_owned(), "1".to_owned(), long.clone()],
            ["żółw".to_owned(), "10".to_owned(), "y".into()],
        ];
        let mut out = Vec::new();
        table(&mut out, [Column::Left("n"), Column::Right("sum"), Column::Left("rest")], &rows).unwrap();
        let expected = format!("n     sum  rest\na       1  {long}\nżółw   10  y\n");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn long_names_are_shown_by_their_ends() {
        assert_eq!(short("0xF39Fd6e51aad88F6F4ce6aB8827279cffFb92266"), "0xF39F…2266");
        assert_eq!(short("4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU"), "4zMM…ncDU");
        assert_eq!(
            (short("0xabc"), short(""), short("a\u{1b}b")),
            ("0xabc".into(), "-".into(), "a\\u{1b}b".into())
        );
    }
}
