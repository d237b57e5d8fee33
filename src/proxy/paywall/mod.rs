//! The page that a browser gets with the 402: it shows the offer, has a wallet sign it, and pays.
//!
//! The page is one document without external requests. It embeds the `PaymentRequired` object as JSON, asks an
//! EIP-1193 wallet for an EIP-712 signature over an EIP-3009 transfer, and fetches its own address again with
//! `PAYMENT-SIGNATURE`. It can only pay for a `GET`.
//!
//! A paid HTML answer takes the page's place under the same address. A document that is replaced so keeps the policy
//! it was loaded with, which is why [`content_security_policy`] names sources that the page itself never uses.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;

const DOCUMENT: &str = include_str!("paywall.html");
const STYLE: &str = include_str!("paywall.css");
const SCRIPTS: [&str; 3] = [include_str!("wallet.js"), include_str!("pay.js"), include_str!("page.js")];

/// The size of a nonce before its encoding, in bytes. The CSP specification asks for at least 16.
const NONCE_BYTES: usize = 16;

/// The paywall page, cut at the places that differ from one answer to the next.
#[derive(Debug, Clone)]
pub struct PaywallPage {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Nonce,
    PaymentRequired,
}

impl PaywallPage {
    /// Assembles the page. Done once; [`render`](Self::render) then only copies.
    #[must_use]
    pub fn prepare() -> Self {
        let document = DOCUMENT.replace("{{style}}", STYLE).replace("{{script}}", &SCRIPTS.join("\n"));
        let mut pieces = Vec::new();
        let mut rest = document.as_str();
        while let Some((text, piece, after)) = next_marker(rest) {
            pieces.push(Piece::Text(text.to_owned()));
            pieces.push(piece);
            rest = after;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Self { pieces }
    }

    /// The page for one answer.
    ///
    /// `payment_required_json` is the serialised `PaymentRequired` object of the same answer's `PAYMENT-REQUIRED`
    /// header; whatever stands in its strings stays text. `nonce` is that of the answer's
    /// [`content_security_policy`]; characters that no nonce has are left out.
    #[must_use]
    pub fn render(&self, payment_required_json: &str, nonce: &str) -> Bytes {
        let json = escape_json_for_html(payment_required_json);
        let nonce = plain_nonce(nonce);
        let parts: Vec<&str> = self
            .pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text.as_str(),
                Piece::Nonce => nonce.as_str(),
                Piece::PaymentRequired => json.as_str(),
            })
            .collect();
        parts.concat().into()
    }
}

/// A nonce for one answer: 128 random bits, in letters, digits, `-` and `_`.
///
/// # Errors
/// When the operating system has no randomness to give. The page must not be sent then.
pub fn fresh_nonce() -> Result<String, getrandom::Error> {
    let mut bytes = [0; NONCE_BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// The value of `Content-Security-Policy` for a page rendered with `nonce` (CSP Level 3).
///
/// Only scripts with the nonce run, and what they load themselves; requests, and with them payments, go to the same
/// origin only; no other page may frame this one, where a click could be stolen. Styles, images, fonts, media, frames
/// and forms are those of the paid document that may take the page's place.
#[must_use]
pub fn content_security_policy(nonce: &str) -> String {
    format!(
        "default-src 'none'; script-src 'nonce-{}' 'strict-dynamic'; connect-src 'self'; \
         style-src 'self' https: 'unsafe-inline'; img-src 'self' https: data: blob:; font-src 'self' https: data:; \
         media-src 'self' https: data: blob:; frame-src 'self' https:; manifest-src 'self'; form-action 'self'; \
         base-uri 'self'; frame-ancestors 'none'",
        plain_nonce(nonce)
    )
}

/// The text before the first marker, the marker, and the text after it.
fn next_marker(text: &str) -> Option<(&str, Piece, &str)> {
    let markers = [("{{nonce}}", Piece::Nonce), ("{{payment_required}}", Piece::PaymentRequired)];
    markers
        .into_iter()
        .filter_map(|(marker, piece)| text.split_once(marker).map(|(before, after)| (before, piece, after)))
        .min_by_key(|(before, _, _)| before.len())
}

/// JSON that may stand in a `<script>` element: no `</script>`, no comment, and no line end that JSON allows in a
/// string and JavaScript once did not. In JSON these characters occur only in strings, where the escapes mean the same.
fn escape_json_for_html(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '&' => escaped.push_str("\\u0026"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// What of `nonce` may stand in an unquoted attribute as well as in a header; all of it for a [`fresh_nonce`].
fn plain_nonce(nonce: &str) -> String {
    nonce
        .chars()
        .filter(|character| character.is_ascii_alphanumeric() || matches!(character, '-' | '_'))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::{Value, json};

    use super::{PaywallPage, content_security_policy, fresh_nonce};

    const JSON_START: &str = "<script type=\"application/json\" id=\"payment-required\">";

    fn render(payment_required: &Value, nonce: &str) -> String {
        let page = PaywallPage::prepare().render(&payment_required.to_string(), nonce);
        String::from_utf8(page.to_vec()).expect("the page is UTF-8")
    }

    /// What a browser takes for the content of the JSON element: everything up to the next `</script`.
    fn embedded_json(page: &str) -> &str {
        let (_, after) = page.split_once(JSON_START).expect("the page has the element");
        let end = after.to_ascii_lowercase().find("</script").expect("the element ends");
        &after[..end]
    }

    #[test]
    fn the_page_embeds_the_payment_required_object_unchanged() {
        let object = json!({ "x402Version": 2, "resource": { "url": "https://shop.example/a?b=1&c=<2>" }, "accepts": [] });
        let page = render(&object, "abc");
        let embedded: Value = serde_json::from_str(embedded_json(&page)).expect("the element holds JSON");
        assert_eq!(embedded, object);
    }

    #[test]
    fn a_hostile_url_or_description_cannot_leave_the_json_element() {
        let attacks = [
            "</script><script>alert(1)</script>",
            "</SCRIPT ><img src=x onerror=alert(1)>",
            "<!--<script>",
            "]]>-->\u{2028}alert(1)\u{2029}//",
            "\"}<svg onload=alert(1)>",
            "{{nonce}}{{payment_required}}{{script}}",
            "$& $' &lt;/script&gt;",
        ];
        let harmless = render(&json!({ "resource": { "url": "x", "description": "x" } }), "abc");
        for attack in attacks {
            let object = json!({ "resource": { "url": attack, "description": attack } });
            let page = render(&object, "abc");
            let embedded = embedded_json(&page);
            assert_eq!(serde_json::from_str::<Value>(embedded).expect("still JSON"), object, "{attack}");
            for forbidden in ['<', '>', '&', '\u{2028}', '\u{2029}'] {
                assert!(!embedded.contains(forbidden), "{forbidden:?} from {attack}");
            }
            // Everything around the element is the same as for a harmless offer.
            assert_eq!(page.replace(embedded, ""), harmless.replace(embedded_json(&harmless), ""));
        }
    }

    #[test]
    fn every_script_and_style_that_runs_has_the_nonce_and_the_policy_names_it() {
        let nonce = fresh_nonce().expect("randomness");
        let page = render(&json!({ "accepts": [] }), &nonce);
        assert_eq!(page.matches(&format!("<script nonce=\"{nonce}\">")).count(), 1);
        assert_eq!(page.matches(&format!("<style nonce=\"{nonce}\">")).count(), 1);
        assert_eq!(page.matches("</script>").count(), 2, "the data and the one script");
        assert!(!page.contains("<!--"), "HTML would read on past the end of the script");
        assert!(!page.contains("{{"), "a marker was left");

        let policy = content_security_policy(&nonce);
        assert!(policy.contains(&format!("script-src 'nonce-{nonce}' 'strict-dynamic';")), "{policy}");
        for directive in ["default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'"] {
            assert!(policy.split("; ").any(|part| part == directive), "{directive} is missing in {policy}");
        }
        let script_sources = policy.split("; ").find(|part| part.starts_with("script-src")).expect("present");
        assert!(!script_sources.contains("unsafe"), "{script_sources}");
    }

    #[test]
    fn a_nonce_is_long_and_never_comes_twice() {
        let nonces: HashSet<String> = (0..1000).map(|_| fresh_nonce().expect("randomness")).collect();
        assert_eq!(nonces.len(), 1000);
        assert!(nonces.iter().all(|nonce| nonce.len() == 22));
    }

    #[test]
    fn a_nonce_with_other_characters_can_neither_leave_its_attribute_nor_its_directive() {
        let page = render(&json!({}), "a\"><script>b");
        assert!(page.contains("<style nonce=\"ascriptb\">"));
        assert!(content_security_policy("a' 'unsafe-inline'; x").contains("'nonce-aunsafe-inlinex' "));
    }

    #[test]
    fn the_page_uses_nothing_that_turns_text_into_markup_or_code_and_loads_nothing() {
        let page = render(&json!({}), "abc");
        for forbidden in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "eval(",
            "new Function",
            "srcdoc",
            "url(",
            "@import",
            "src=\"",
            "style=\"",
        ] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        // The paid document itself is the only text that is written as HTML.
        assert_eq!(page.matches("document.write(").count(), 1);
        assert_eq!(page.matches("<link").count(), 1);
        assert!(page.contains("<link rel=\"icon\" href=\"data:image/svg+xml,"));
    }
}
