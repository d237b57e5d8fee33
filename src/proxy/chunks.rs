//! Where a chunked body ends (RFC 9112 §7.1), found without changing it.

/// Longest line of a chunk's size with its extensions, or of a trailer field.
const LINE_BYTES_MAX: usize = 4096;

/// Follows a chunked body as it passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Chunks {
    at: At,
    line_bytes: usize,
    size: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum At {
    /// The digits of a chunk's size.
    #[default]
    Size,
    /// Extensions of a chunk, which nobody uses.
    Extension,
    /// The line feed behind a chunk's size.
    SizeEnd,
    Data,
    /// The line break behind a chunk's data.
    DataReturn,
    DataEnd,
    /// The beginning of a trailer field, or of the empty line that ends the body.
    TrailerStart,
    Trailer,
    TrailerEnd,
    LastEnd,
    Done,
    /// Not chunks; nobody can say where the body ends.
    Broken,
}

impl Chunks {
    /// Whether the whole body has passed.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        matches!(self.at, At::Done)
    }

    /// Follows the body through further bytes, and returns how many of them belong to it: all,
    /// unless it ends within them. What is malformed never ends.
    pub fn advance(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while let Some(&byte) = bytes.get(taken) {
            match self.at {
                At::Done => break,
                At::Broken => return bytes.len(),
                At::Data => {
                    let here = usize::try_from(self.size).unwrap_or(usize::MAX).min(bytes.len() - taken);
                    self.size -= here as u64;
                    taken += here;
                    if self.size == 0 {
                        self.at = At::DataReturn;
                    }
                    continue;
                }
                at => self.at = self.step(at, byte),
            }
            taken += 1;
        }
        taken
    }

    fn step(&mut self, at: At, byte: u8) -> At {
        self.line_bytes += 1;
        if self.line_bytes > LINE_BYTES_MAX {
            return At::Broken;
        }
        let next = match (at, byte) {
            (At::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => return self.digit(byte),
            (At::Size, b'\r') if self.line_bytes > 1 => At::SizeEnd,
            (At::Size, b';' | b' ' | b'\t') if self.line_bytes > 1 => return At::Extension,
            (At::Extension, b'\r') => At::SizeEnd,
            (At::Extension, byte) if byte != b'\n' => return At::Extension,
            (At::SizeEnd, b'\n') if self.size == 0 => At::TrailerStart,
            (At::SizeEnd, b'\n') => At::Data,
            (At::DataReturn, b'\r') => At::DataEnd,
            (At::DataEnd, b'\n') => At::Size,
            (At::TrailerStart, b'\r') => At::LastEnd,
            (At::TrailerStart | At::Trailer, byte) if byte != b'\n' && byte != b'\r' => return At::Trailer,
            (At::Trailer, b'\r') => At::TrailerEnd,
            (At::TrailerEnd, b'\n') => At::TrailerStart,
            (At::LastEnd, b'\n') => At::Done,
            _ => At::Broken,
        };
        self.line_bytes = 0;
        next
    }

    fn digit(&mut self, byte: u8) -> At {
        let value = char::from(byte).to_digit(16).map_or(0, u64::from);
        if self.line_bytes == 1 {
            self.size = 0;
        }
        match self.size.checked_mul(16) {
            Some(size) => {
                self.size = size + value;
                At::Size
            }
            None => At::Broken,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: [&str; 5] = [
        "0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        "00A;name=\"value\"\r\n0123456789\r\nff\r\nBODY\r\n0 ;x\r\n\r\n",
        "1\r\n\r\r\n1\r\n\n\r\n0\r\nX-Checksum: abc\r\nY: z\r\n\r\n",
        "2\r\n0\r\r\n0\r\n\r\n",
    ];

    fn body(text: &str) -> Vec<u8> {
        text.replace("BODY", &"b".repeat(255)).into_bytes()
    }

    #[test]
    fn a_body_ends_where_its_last_line_ends() {
        for text in WHOLE {
            let body = body(text);
            let mut chunks = Chunks::default();
            let followed = [body.as_slice(), b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(chunks.advance(&followed), body.len(), "{text:?}");
            assert!(chunks.is_done(), "{text:?}");
            assert_eq!(chunks.advance(b"GET"), 0);
        }
    }

    #[test]
    fn it_may_arrive_in_any_pieces() {
        for text in WHOLE {
            let body = body(text);
            for cut in 0..body.len() {
                let mut chunks = Chunks::default();
                assert_eq!(chunks.advance(&body[..cut]), cut);
                assert!(!chunks.is_done(), "{text:?} {cut}");
                assert_eq!(chunks.advance(&body[cut..]), body.len() - cut);
                assert!(chunks.is_done(), "{text:?} {cut}");
            }
        }
    }

    #[test]
    fn what_is_malformed_never_ends() {
        for text in [
            "\r\n\r\n",
            "x\r\n",
            "-1\r\n",
            "0x1\r\n",
            "+1\r\nx\r\n0\r\n\r\n",
            "1\nx\n0\n\n",
            "1\r\nxy\r\n0\r\n\r\n",
            "1\r\nx0\r\n\r\n",
            "0\r\n\n",
            "0\r\nX: y\n\r\n",
            "0\r\r\n\r\n",
            "10000000000000000\r\n",
            "1;\n\r\nx\r\n0\r\n\r\n",
        ] {
            let mut chunks = Chunks::default();
            let endless = [text.as_bytes(), b"0\r\n\r\n0\r\n\r\n"].concat();
            assert_eq!(chunks.advance(&endless), endless.len(), "{text:?}");
            assert!(!chunks.is_done(), "{text:?}");
        }
        let mut chunks = Chunks::default();
        chunks.advance(format!("1;{}\r\nx\r\n0\r\n\r\n", "x".repeat(LINE_BYTES_MAX)).as_bytes());
        assert!(!chunks.is_done());
    }
}
