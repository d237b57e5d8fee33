//! Reads single values out of a query string.

use axum::http::Uri;

/// The first value of the parameter `name`, with `+` and percent escapes decoded.
///
/// Bytes that are not UTF-8 become U+FFFD; a `%` that starts no escape stays as it is.
pub(super) fn parameter(uri: &Uri, name: &str) -> Option<String> {
    uri.query()?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key) == name).then(|| decode(value))
    })
}

/// The whole number in the parameter `name`, or `default` when the parameter is absent.
///
/// # Errors
/// A sentence for the client when the value is no whole number from `least` to `most`.
pub(super) fn number(uri: &Uri, name: &str, default: u64, least: u64, most: u64) -> Result<u64, String> {
    let Some(text) = parameter(uri, name) else {
        return Ok(default);
    };
    match text.parse() {
        Ok(value) if (least..=most).contains(&value) => Ok(value),
        _ => Err(format!("{name} must be a whole number from {least} to {most}")),
    }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let (byte, after) = match (first, tail) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (hex_value(*high) * 16 + hex_value(*low), after)
            }
            (b'+', _) => (b' ', tail),
            (byte, _) => (*byte, tail),
        };
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}
