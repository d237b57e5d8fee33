//! What is sold: the `resource` member of a 402, and its extensions.

use serde_json::{Map, Value};

use super::json;
use super::url::Url;
use super::walk::{Node, Section};
use crate::x402::ResourceInfo;

/// Keys of a resource, which mean nothing on a route that takes no payment.
pub(super) const RESOURCE: &[&str] =
    &["description", "mime_type", "service_name", "tags", "icon_url", "extensions"];

// Limits of the discovery extension (`bazaar`), and Coinbase's for descriptions.
const SERVICE_NAME_MAX: usize = 32;
const TAGS_MAX: usize = 5;
const TAG_MAX: usize = 32;
const ICON_URL_MAX: usize = 2048;
const DESCRIPTION_MAX: usize = 500;

/// Reads the resource of a route; what is wrong is reported.
pub(super) fn read(table: &Section<'_>) -> ResourceInfo {
    let text = |name: &str, check: fn(&Node<'_>, &str)| {
        let node = table.get(name)?;
        let text = node.text()?;
        check(&node, text);
        Some(text.to_owned())
    };
    ResourceInfo {
        description: text("description", |node, text| {
            if text.chars().count() > DESCRIPTION_MAX {
                let help = "some facilitators refuse longer ones; every 402 carries it";
                node.warning(format!("is longer than {DESCRIPTION_MAX} characters"), help);
            }
        }),
        mime_type: text("mime_type", |node, text| {
            let is_token = |part: &str| http::Method::from_bytes(part.as_bytes()).is_ok();
            let essence = text.split(';').next().unwrap_or_default().trim();
            if !essence.split_once('/').is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype)) {
                node.error("is not a media type", "write it like \"application/json\"");
            }
        }),
        service_name: text("service_name", |node, text| label(node, text, SERVICE_NAME_MAX)),
        tags: tags(table),
        icon_url: text("icon_url", icon_url),
    }
}

/// Reads `extensions`.
pub(super) fn extensions(table: &Section<'_>) -> Map<String, Value> {
    let Some(node) = table.get("extensions") else { return Map::new() };
    for (_, entry) in node.entries().unwrap_or_default() {
        if !entry.value().is_table() {
            let help = "write it like extensions = { name = { info = { … } } }";
            entry.error("an extension is a table", help);
        }
    }
    if node.value().is_table() { json::object(&node).unwrap_or_default() } else { Map::new() }
}

fn tags(table: &Section<'_>) -> Vec<String> {
    let Some(node) = table.get("tags") else { return Vec::new() };
    let items = node.items().unwrap_or_default();
    if items.len() > TAGS_MAX {
        node.error(format!("has {} entries, {TAGS_MAX} are allowed", items.len()), "keep the telling ones");
    }
    let mut tags = Vec::new();
    for item in &items {
        if let Some(text) = item.text() {
            label(item, text, TAG_MAX);
            tags.push(text.to_owned());
        }
    }
    tags
}

fn label(node: &Node<'_>, text: &str, max: usize) {
    let length = text.chars().count();
    if length > max {
        node.error(format!("has {length} characters, {max} are allowed"), "write a shorter one");
    } else if !text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        node.error("has characters outside printable ASCII", "write it in plain letters, digits and signs");
    }
}

fn icon_url(node: &Node<'_>, text: &str) {
    if text.len() > ICON_URL_MAX {
        node.error(format!("is longer than {ICON_URL_MAX} characters"), "use a shorter address");
        return;
    }
    // Icons are often served with a query, which the other URLs of a configuration cannot have.
    let plain = text.split(['?', '#']).next().unwrap_or_default();
    let is_web = Url::parse(plain).is_ok_and(|url| matches!(url.scheme.as_str(), "http" | "https"));
    if !is_web || text.parse::<http::Uri>().is_err() {
        node.error("is not an http or https URL", "write it like \"https://example.com/icon.png\"");
    }
}
