//! How the gateway identifies itself to a facilitator, and where its secrets come from.

use std::path::Path;

use super::Env;
use super::keys::AUTH;
use super::syntax::is_variable_name;
use super::walk::{Node, Section};
use crate::facilitator::settings::Auth;
use crate::secret::Secret;

/// Longest secret that is read, in bytes; an RSA key in PEM has about 3000.
const SECRET_BYTES_MAX: u64 = 16 * 1024;

/// What secrets are read with.
#[derive(Clone, Copy)]
pub(super) struct Secrets<'a> {
    pub(super) env: Env<'a>,
    /// Whether secrets may stand in the file.
    pub(super) plaintext: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    None,
    Bearer,
    Header,
    Cdp,
}

/// Reads `auth` of a facilitator; `None` when something was reported.
pub(super) fn read(node: &Node<'_>, secrets: Secrets<'_>) -> Option<Auth> {
    let table = node.section(&AUTH)?;
    let Some(kind_node) = table.get("kind") else {
        table.missing("has no `kind`", "write kind = \"bearer\", \"header\" or \"cdp\"");
        return None;
    };
    let kinds =
        [("none", Kind::None), ("bearer", Kind::Bearer), ("header", Kind::Header), ("cdp", Kind::Cdp)];
    let kind = kind_node.choice(&kinds)?;
    refuse_others(&table, kind, kind_node.text()?);
    match kind {
        Kind::None => Some(Auth::None),
        Kind::Bearer => secret(&table, "token", secrets).map(Auth::Bearer),
        Kind::Header => {
            let name = header_name(&table);
            let value = secret(&table, "value", secrets);
            Some(Auth::Header { name: name?, value: value? })
        }
        Kind::Cdp => {
            let key_id = key_id(&table, secrets);
            let key = secret(&table, "secret", secrets);
            let key = key.filter(|key| check_cdp_key(&table, key));
            Some(Auth::Cdp { key_id: key_id?, key: key? })
        }
    }
}

/// Whether a facilitator that says no more than this is Coinbase's.
pub(super) fn is_cdp(node: &Node<'_>) -> bool {
    let kind = node.value().as_table().and_then(|table| table.get("kind"));
    kind.and_then(|kind| kind.get_ref().as_str()) == Some("cdp")
}

/// Checks an API key of Coinbase's CDP.
///
/// # Errors
/// What is wrong with it, without the key.
pub(super) fn parse_cdp_key(key: &str) -> Result<(), String> {
    crate::facilitator::cdp::CdpKey::parse(key).map(|_| ())
}

fn check_cdp_key(table: &Section<'_>, key: &Secret<String>) -> bool {
    let Err(error) = parse_cdp_key(key.expose()) else { return true };
    let written = ["secret", "secret_env", "secret_file"].iter().find_map(|name| table.get(name));
    if let Some(node) = written {
        let help =
            "it is the base64 text of an Ed25519 key or the PEM text of an EC key, as Coinbase shows it once";
        node.error(format!("the key cannot be used: {error}"), help);
    }
    false
}

fn refuse_others(table: &Section<'_>, kind: Kind, shown: &str) {
    let family = |name: &str| match name {
        "kind" => None,
        "token" | "token_env" | "token_file" => Some(Kind::Bearer),
        "name" | "value" | "value_env" | "value_file" => Some(Kind::Header),
        _ => Some(Kind::Cdp),
    };
    for node in table.written() {
        if family(node.name()).is_some_and(|family| family != kind) {
            node.key_error(
                format!("means nothing with kind = \"{shown}\""),
                "leave it out, or change `kind`",
            );
        }
    }
}

fn header_name(table: &Section<'_>) -> Option<String> {
    let Some(node) = table.get("name") else {
        table.missing("has no `name`", "write name = \"X-Api-Key\", the header the facilitator wants");
        return None;
    };
    let text = node.text()?;
    let name = http::HeaderName::from_bytes(text.as_bytes()).ok();
    // These belong to the connection; a facilitator client that sets them breaks its own requests.
    let reserved = ["host", "content-length", "content-type", "transfer-encoding", "connection"];
    match name {
        Some(name) if reserved.contains(&name.as_str()) => {
            node.error("is a header the gateway sets itself", "write the header the facilitator wants");
            None
        }
        Some(name) => Some(name.as_str().to_owned()),
        None => {
            node.error("is not the name of a header", "write it like \"X-Api-Key\"");
            None
        }
    }
}

fn key_id(table: &Section<'_>, secrets: Secrets<'_>) -> Option<String> {
    match table.either("key_id", "key_id_env") {
        None => {
            table.missing("has no `key_id`", "write key_id = \"…\" or key_id_env = \"CDP_API_KEY_ID\"");
            None
        }
        Some(node) if node.name() == "key_id" => node.text().map(str::to_owned),
        Some(node) => variable(&node, secrets.env),
    }
}

/// A secret by `name`, `name_env` or `name_file`.
pub(super) fn secret(table: &Section<'_>, name: &str, secrets: Secrets<'_>) -> Option<Secret<String>> {
    let (by_env, by_file) = (format!("{name}_env"), format!("{name}_file"));
    let written: Vec<Node<'_>> =
        [name, &by_env, &by_file].into_iter().filter_map(|key| table.get(key)).collect();
    let [node] = written.as_slice() else {
        match written.get(1) {
            None => {
                let help =
                    format!("write {by_env} = \"…\", the name of an environment variable, or {by_file}");
                table.missing(format!("has no `{by_env}`"), help);
            }
            Some(second) => second.key_error("is one of several places for one secret", "keep one of them"),
        }
        return None;
    };
    let value = if node.name() == name {
        let text = node.value().as_str();
        if text.is_none() {
            node.wrong_type();
        }
        if !secrets.plaintext {
            let help = format!(
                "write {by_env} = \"…\", the name of an environment variable, or {by_file};\n\
                 or allow_plaintext_secrets = true at the top of the file"
            );
            node.error("a secret stands in the file in clear", help);
            return None;
        }
        text?.to_owned()
    } else if node.name() == by_env {
        variable(node, secrets.env)?
    } else {
        file(&node.file()?, node)?
    };
    let value = value.trim();
    if value.is_empty() {
        node.error("the secret is empty", "put the secret where this points to");
        return None;
    }
    // A key in PEM has lines and goes into no header; everything else does.
    if name != "secret" && !value.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        node.error("the secret has characters that a header cannot have", "check that it is the right one");
        return None;
    }
    Some(Secret::new(value.to_owned()))
}

/// The value of the environment variable that a key names.
pub(super) fn variable(node: &Node<'_>, env: Env<'_>) -> Option<String> {
    let name = node.text()?;
    match env(name) {
        Some(value) if value.trim().is_empty() => {
            node.error(
                format!("the environment variable {name} is empty"),
                "set it before the gateway starts",
            );
            None
        }
        Some(value) => Some(value.trim().to_owned()),
        None if is_variable_name(name) => {
            let message = format!("the environment variable {name} is not set");
            node.error(message, format!("set it before the gateway starts: export {name}=…"));
            None
        }
        None => {
            // What stands here may be the secret itself and must not be repeated.
            let help =
                "write the name of a variable, such as \"FACILITATOR_TOKEN\", and not the secret itself";
            node.error("no environment variable has this name", help);
            None
        }
    }
}

fn file(path: &Path, node: &Node<'_>) -> Option<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text));
    match read {
        Ok(_) if text.len() as u64 > SECRET_BYTES_MAX => {
            node.error(
                format!("{} is too large for a secret", path.display()),
                "name the file with the secret",
            );
            None
        }
        Ok(_) => Some(text),
        Err(error) => {
            let message = format!("cannot read {}: {}", path.display(), super::io_error(&error));
            node.error(message, "make it readable for the user the gateway runs as");
            None
        }
    }
}
