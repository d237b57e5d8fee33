//! What reaches the terminal: lines about the payment, and the body that was paid for.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Lines for the person at the terminal (standard error).
///
/// Every line is cleaned whole, because most of them quote a server.
pub(super) struct Console<'a>(pub(super) &'a mut dyn Write);

impl Console<'_> {
    /// Writes one line. Characters that could move the cursor, hide text or start another line
    /// are written as escapes.
    pub(super) fn line(&mut self, text: &str) {
        // Standard error that is gone must not end a payment half way.
        let _ = writeln!(self.0, "{}", clean(text));
        let _ = self.0.flush();
    }

    /// Writes a line with a label in the first column.
    pub(super) fn field(&mut self, label: &str, text: &str) {
        self.line(&format!("{label:<12} {text}"));
    }
}

/// Replaces control characters, and the invisible ones that reorder or hide text, by escapes.
pub(in crate::cli) fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || is_deceptive(character) {
            clean.extend(character.escape_unicode());
        } else {
            clean.push(character);
        }
    }
    clean
}

/// Invisible characters: directions (Unicode UAX 9), joiners, line separators, tags.
fn is_deceptive(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    )
}

/// At most `characters_max` characters of a text, marked where it was cut.
pub(super) fn excerpt(text: &str, characters_max: usize) -> String {
    match text.char_indices().nth(characters_max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Where the body goes.
pub(super) enum Output<'a> {
    /// Standard output.
    Stream(&'a mut dyn Write),
    /// A file, opened before anything is paid so that a wrong path costs nothing.
    File {
        /// For messages, and to remove what was not used.
        path: PathBuf,
        /// Open for writing, not emptied yet.
        file: File,
        /// Whether the file did not exist before.
        created: bool,
    },
}

impl<'a> Output<'a> {
    /// Opens `path`, or takes `standard` when there is none. An existing file keeps its content
    /// until [`Output::begin`].
    pub(super) fn open(path: Option<&Path>, standard: &'a mut dyn Write) -> io::Result<Self> {
        let Some(path) = path else { return Ok(Self::Stream(standard)) };
        let (file, created) = match OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(file) => (file, true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                (OpenOptions::new().write(true).open(path)?, false)
            }
            Err(error) => return Err(error),
        };
        Ok(Self::File { path: path.to_owned(), file, created })
    }

    /// Empties a regular file that is about to be written.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        match self {
            Self::File { file, .. } if file.metadata()?.is_file() => file.set_len(0),
            Self::File { .. } | Self::Stream(_) => Ok(()),
        }
    }

    /// Writes a piece of the body through to its reader at once.
    pub(super) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        match self {
            Self::Stream(stream) => stream.write_all(piece).and_then(|()| stream.flush()),
            Self::File { file, .. } => file.write_all(piece),
        }
    }

    /// Removes a file that was created for a body that never came.
    pub(super) fn discard(self) {
        if let Self::File { path, created: true, .. } = self {
            // It is empty; leaving it behind is untidy, not wrong.
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_neither_moves_the_cursor_nor_starts_a_line_nor_hides() {
        let mut written = Vec::new();
        let hostile = "a\u{1b}[2Jb\r\nfree!\u{9b}31m\u{202e}0x\u{200b}\u{2028}\u{7}c\u{e0041}";
        Console(&mut written).line(hostile);
        let shown = String::from_utf8(written).unwrap();
        assert_eq!(
            shown,
            "a\\u{1b}[2Jb\\u{d}\\u{a}free!\\u{9b}31m\\u{202e}0x\\u{200b}\\u{2028}\\u{7}c\\u{e0041}\n"
        );
        assert!(shown.trim_end().chars().all(|character| !character.is_control()));
        assert_eq!(clean("Zażółć 0.01 € – ok"), "Zażółć 0.01 € – ok");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(excerpt("żółć", 4), "żółć");
        assert_eq!(excerpt("żółć", 2), "żó…");
    }

    #[test]
    fn a_file_keeps_its_content_until_the_body_begins_and_an_unused_new_one_goes() {
        let directory = tempfile::tempdir().unwrap();
        let (old, new) = (directory.path().join("old"), directory.path().join("new"));
        std::fs::write(&old, "what was there before").unwrap();
        let mut unused = Vec::new();
        Output::open(Some(&old), &mut unused).unwrap().discard();
        assert_eq!(std::fs::read(&old).unwrap(), b"what was there before");
        let mut output = Output::open(Some(&old), &mut unused).unwrap();
        output.begin().unwrap();
        output.write(b"paid").unwrap();
        assert_eq!(std::fs::read(&old).unwrap(), b"paid");
        let output = Output::open(Some(&new), &mut unused).unwrap();
        assert!(new.exists());
        output.discard();
        assert!(!new.exists());
        assert!(Output::open(Some(&directory.path().join("no/such")), &mut unused).is_err());
    }
}
