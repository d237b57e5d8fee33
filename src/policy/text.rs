//! The text of a path as it is compared: escapes decoded, letter case folded.

use super::letters;
use super::path::PathError;

/// In a buffer of decoded bytes: a `/` that was escaped and does not separate segments. Control
/// bytes are refused at every decoding level, so this one cannot come from a client.
pub(super) const INNER_SLASH: u8 = 1;

/// The first of 256 private characters that stand for single bytes which are not text.
const STAND_IN: u32 = 0x10_FF00;

/// The byte that the escape at `at` stands for; `None` when there is no complete escape.
pub(super) fn escape_at(bytes: &[u8], at: usize) -> Option<u8> {
    let [b'%', high, low] = *bytes.get(at..at + 3)? else { return None };
    let value = char::from(high).to_digit(16)? * 16 + char::from(low).to_digit(16)?;
    u8::try_from(value).ok()
}

/// Whether any complete escape is left.
pub(super) fn has_escape(bytes: &[u8]) -> bool {
    bytes.iter().enumerate().any(|(at, byte)| *byte == b'%' && escape_at(bytes, at).is_some())
}

/// Bytes after one level of decoding.
pub(super) struct Decoded {
    pub(super) bytes: Vec<u8>,
    /// Whether a `/` was among the decoded.
    pub(super) slashes: bool,
}

/// Decodes every escape once. A decoded `/` becomes `slash`; a `%` that begins no escape stays.
pub(super) fn decode(bytes: &[u8], slash: u8) -> Result<Decoded, PathError> {
    let mut decoded = Decoded { bytes: Vec::with_capacity(bytes.len()), slashes: false };
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let Some(value) = escape_at(bytes, at) else {
            decoded.bytes.push(byte);
            at += 1;
            continue;
        };
        match value {
            b'\\' => return Err(PathError::Backslash),
            _ if value.is_ascii_control() => return Err(PathError::Control),
            b'/' => {
                decoded.slashes = true;
                decoded.bytes.push(slash);
            }
            _ => decoded.bytes.push(value),
        }
        at += 3;
    }
    if hides_character(&decoded.bytes) { Err(PathError::Malformed) } else { Ok(decoded) }
}

/// Whether a lenient decoder would read a character that strict ones do not see: an overlong form
/// (`C0 AF` for `/`) or an encoded surrogate (RFC 3629 §3, §10).
pub(super) fn hides_character(bytes: &[u8]) -> bool {
    if bytes.is_ascii() {
        return false;
    }
    let overlong = |pair: &[u8]| {
        matches!(
            pair,
            [0xE0, 0x80..=0x9F]
                | [0xED, 0xA0..=0xBF]
                | [0xF0, 0x80..=0x8F]
                | [0xF8, 0x80..=0x87]
                | [0xFC, 0x80..=0x83]
        )
    };
    bytes.iter().any(|byte| matches!(byte, 0xC0 | 0xC1)) || bytes.windows(2).any(overlong)
}

/// Makes text of decoded bytes without ever giving two byte strings the same text: bytes that are
/// not UTF-8 (old sites have paths in Latin-1) and inner slashes get a private character each.
pub(super) fn from_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        if chunk.valid().is_ascii() && !chunk.valid().contains(char::from(INNER_SLASH)) {
            text.push_str(chunk.valid());
            text.extend(chunk.invalid().iter().copied().map(stand_in));
            continue;
        }
        for character in chunk.valid().chars() {
            if character == char::from(INNER_SLASH) {
                text.push(stand_in(b'/'));
            } else if u32::from(character) >= STAND_IN {
                let mut buffer = [0; 4];
                text.extend(character.encode_utf8(&mut buffer).bytes().map(stand_in));
            } else {
                text.push(character);
            }
        }
        text.extend(chunk.invalid().iter().copied().map(stand_in));
    }
    text
}

/// The text with private characters written as the escapes they came from.
pub(super) fn for_people(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match u32::from(character).checked_sub(STAND_IN) {
            Some(byte) => push_escape(&mut shown, byte),
            None => shown.push(character),
        }
    }
    shown
}

/// Appends the escape of a byte, in upper case.
pub(super) fn push_escape(escaped: &mut String, byte: u32) {
    escaped.push('%');
    for digit in [byte >> 4, byte & 15] {
        escaped.extend(char::from_digit(digit, 16).map(|digit| digit.to_ascii_uppercase()));
    }
}

fn stand_in(byte: u8) -> char {
    char::from_u32(STAND_IN + u32::from(byte)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The text with letter case and other differences folded that are none to some origin: accents, full
/// and half width, characters without a shape. `None` when it is folded already.
pub(super) fn fold(text: &str) -> Option<String> {
    if text.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
        return None;
    }
    if text.is_ascii() {
        return Some(text.to_ascii_lowercase());
    }
    let mut folded = String::with_capacity(text.len());
    let mut parts = String::new();
    for character in text.chars() {
        match character {
            'İ' => folded.push('i'),
            _ if character.is_ascii() => fold_character(character, &mut folded),
            _ => {
                parts.clear();
                letters::decompose(character, &mut parts);
                parts.chars().for_each(|part| fold_character(part, &mut folded));
            }
        }
    }
    Some(letters::without_accents(&folded))
}

/// Folds so widely that no origin's idea of "the same letter" is finer: through lower, upper and
/// lower case, so that `K` (Kelvin), `ſ`, `ı`, `İ` and `ẞ` meet `k`, `s`, `i`, `i` and `ss`.
fn fold_character(character: char, folded: &mut String) {
    if character.is_ascii() {
        folded.push(character.to_ascii_lowercase());
        return;
    }
    // Capital letters of Latin-1, which lie 32 below the small ones, as in windows-1251.
    if let Some(byte @ 0xC0..=0xDE) = u32::from(character).checked_sub(STAND_IN) {
        folded.extend(char::from_u32(STAND_IN + byte + 0x20));
        return;
    }
    let upper = character.to_lowercase().flat_map(char::to_uppercase);
    folded.extend(upper.flat_map(char::to_lowercase));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(text: &str) -> String {
        fold(text).unwrap_or_else(|| text.to_owned())
    }

    #[test]
    fn folding_unites_a_character_with_its_upper_and_lower_case_and_is_stable() {
        // There is no letter case beyond the first two planes.
        for character in (char::MIN..'\u{20000}').filter(|character| *character != 'İ') {
            let once = folded(&character.to_string());
            let upper: String = character.to_uppercase().collect();
            let lower: String = character.to_lowercase().collect();
            assert_eq!(folded(&upper), once, "upper case of {character:?}");
            assert_eq!(folded(&lower), once, "lower case of {character:?}");
            assert_eq!(folded(&once), once, "{character:?} folded twice");
            assert_eq!(once.contains('/'), character == '/', "{character:?} may not add a separator");
        }
    }

    #[test]
    fn folding_knows_the_letters_that_only_some_tables_unite() {
        for (odd, plain) in [
            ("K", "k"),
            ("ſ", "s"),
            ("ı", "i"),
            ("İ", "i"),
            ("ẞ", "ss"),
            ("ß", "ss"),
            ("ς", "σ"),
            ("i\u{307}", "i"),
            ("cafe\u{301}", "cafe"),
            ("CAF\u{c9}", "cafe"),
            ("Łødź", "lodz"),
            ("हिन्दी", "हिन्दी"),
            ("ＶＡＵＬＴ", "vault"),
            ("va\u{200D}u\u{AD}lt", "vault"),
            ("ﬁle", "file"),
            ("a／b", "a／b"),
            ("\u{212B}", "a"),
        ] {
            assert_eq!(folded(odd), plain);
        }
        assert_eq!(folded(&from_bytes(b"caf\xC9")), from_bytes(b"caf\xE9"), "É and é of Latin-1");
        assert_eq!(fold("/plain-path_1"), None);
    }

    #[test]
    fn different_bytes_never_become_the_same_text() {
        let texts = [
            from_bytes(b"a\x01b"),
            from_bytes(b"a/b"),
            from_bytes(b"a%2Fb"),
            from_bytes(b"a\xAFb"),
            from_bytes(format!("a{}b", stand_in(b'/')).as_bytes()),
            from_bytes(format!("a{}b", stand_in(0xAF)).as_bytes()),
        ];
        for (index, text) in texts.iter().enumerate() {
            assert!(!texts[..index].contains(text), "{text:?}");
        }
        assert_eq!(for_people(&texts[0]), "a%2Fb");
        assert_eq!(for_people(&texts[3]), "a%AFb");
    }

    #[test]
    fn decoding_takes_one_level_off_and_leaves_a_lone_percent_sign() {
        let decoded = decode(b"/a%2541%2Fb%c3%A9%", INNER_SLASH).unwrap();
        assert_eq!(decoded.bytes, b"/a%41\x01b\xC3\xA9%");
        assert!(decoded.slashes);
        assert!(!decode(b"/a%41", INNER_SLASH).unwrap().slashes);
        assert!(has_escape(b"x%41") && !has_escape(b"100% a%4"));
    }

    #[test]
    fn hidden_characters_are_seen_in_every_overlong_form() {
        let slashes: [&[u8]; 7] = [
            b"\xC0\xAF",
            b"\xC0/",
            b"\xE0\x80\xAF",
            b"\xF0\x80\x80\xAF",
            b"\xF8\x80\x80\x80\xAF",
            b"\xFC\x80\x80\x80\x80\xAF",
            b"\xED\xA0\xBD\xED\xB8\x80",
        ];
        assert!(slashes.iter().all(|bytes| hides_character(bytes)));
        for character in (char::MIN..=char::MAX).step_by(7) {
            assert!(!hides_character(character.to_string().as_bytes()), "{character:?} is well-formed");
        }
        assert!(!hides_character(b"caf\xE9"));
    }
}
