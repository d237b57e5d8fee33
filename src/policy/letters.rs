//! One letter, many encodings: what Unicode and old code pages take for the same.

use unicode_normalization::UnicodeNormalization as _;

/// The path as an origin reads it that brings text into a normal form (NFKC) before it routes, or into
/// an 8-bit code page, where what looks like a slash or a dash becomes one (Windows' "best fit",
/// CVE-2024-4577). `None` when that changes nothing. Back-slashes that arise are slashes.
pub(super) fn normalised(bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.is_ascii() {
        return None;
    }
    let mut normal = Vec::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        let text: String = chunk.valid().nfkc().map(best_fit).collect();
        normal.extend_from_slice(text.as_bytes());
        // A soft hyphen of Latin-1.
        normal.extend(chunk.invalid().iter().map(|byte| if *byte == 0xAD { b'-' } else { *byte }));
    }
    (normal != bytes).then_some(normal)
}

/// Appends a character in its compatibility decomposition, without characters that only some servers
/// see. A character that would become a separator or another sign stays as it is: what is compared has
/// the segments that were sent.
pub(super) fn decompose(character: char, into: &mut String) {
    if is_ignorable(character) {
        return;
    }
    let parts = || std::iter::once(character).nfkd();
    if parts().any(|part| part.is_ascii() && !part.is_ascii_alphanumeric()) {
        into.push(character);
    } else {
        into.extend(parts().filter(|part| !is_ignorable(*part)));
    }
}

/// The text without accents, as databases compare it (`MySQL` does by default) and systems for blogs
/// look pages up (`WordPress` does). Marks of scripts whose words need them stay.
pub(super) fn without_accents(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.nfd().filter(|letter| !matches!(letter, '\u{300}'..='\u{36F}')) {
        match letter {
            'ø' => plain.push('o'),
            'æ' => plain.push_str("ae"),
            'œ' => plain.push_str("oe"),
            'đ' | 'ð' => plain.push('d'),
            'ł' => plain.push('l'),
            'þ' => plain.push_str("th"),
            'ħ' => plain.push('h'),
            'ŧ' => plain.push('t'),
            'ŋ' => plain.push('n'),
            'ĸ' => plain.push('k'),
            other => plain.push(other),
        }
    }
    plain
}

fn best_fit(letter: char) -> char {
    match letter {
        '\u{2044}' | '\u{2215}' | '\u{29F8}' | '\\' | '\u{2216}' | '\u{29F5}' => '/',
        '\u{AD}' | '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
        other => other,
    }
}

/// Characters without a shape of their own, which HFS+ and others leave out of account (Unicode's
/// `Default_Ignorable_Code_Point`).
fn is_ignorable(character: char) -> bool {
    matches!(
        character,
        '\u{AD}'
            | '\u{34F}'
            | '\u{61C}'
            | '\u{115F}'..='\u{1160}'
            | '\u{17B4}'..='\u{17B5}'
            | '\u{180B}'..='\u{180F}'
            | '\u{200B}'..='\u{200F}'
            | '\u{202A}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}'
            | '\u{3164}'
            | '\u{FE00}'..='\u{FE0F}'
            | '\u{FEFF}'
            | '\u{FFA0}'
            | '\u{FFF0}'..='\u{FFF8}'
            | '\u{1BCA0}'..='\u{1BCA3}'
            | '\u{1D173}'..='\u{1D17A}'
            | '\u{E0000}'..='\u{E0FFF}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(text: &str) -> String {
        let normal = normalised(text.as_bytes()).unwrap_or_else(|| text.as_bytes().to_vec());
        String::from_utf8(normal).unwrap()
    }

    #[test]
    fn what_looks_alike_is_read_alike() {
        for (odd, plain) in [
            ("/ｖａｕｌｔ", "/vault"),
            ("／a⁄b∕c＼d﹨e", "/a/b/c/d/e"),
            ("/a‐b−c", "/a-b-c"),
            ("/cafe\u{301}", "/café"),
            ("/\u{212B}", "/Å"),
            ("/x․y", "/x.y"),
            ("/℀", "/a/c"),
            ("/plain", "/plain"),
            ("/日本", "/日本"),
        ] {
            assert_eq!(normal(odd), plain);
        }
        assert_eq!(normalised(b"/a\xADb\xFF"), Some(b"/a-b\xFF".to_vec()));
        assert_eq!(normalised("/日本".as_bytes()), None);
    }

    #[test]
    fn a_normal_form_is_its_own_normal_form() {
        for character in char::MIN..='\u{3FFFF}' {
            let once = normal(&format!("/{character}"));
            assert_eq!(normal(&once), once, "{character:?}");
        }
    }
}
