//! The configuration's keys for editors, as a JSON Schema (draft 7, which TOML editors read), and for
//! people, as a table.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::keys::{Inner, Key, TABLES, TOP, Table};

/// The JSON Schema of a configuration file.
#[must_use]
pub fn schema() -> Value {
    let definitions: Map<String, Value> =
        TABLES.iter().skip(1).map(|table| (name(table), object(table))).collect();
    let mut schema = object(&TOP);
    schema["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    schema["title"] = "gateway.toml of tollgate".into();
    schema["definitions"] = definitions.into();
    schema
}

/// Every key with what its value is and what it is for, as a Markdown table.
#[must_use]
pub fn keys_in_markdown() -> String {
    let mut page = String::from("| Key | Value | |\n|---|---|---|\n");
    for table in TABLES {
        let place = if table.header == TOP.header { "" } else { table.header };
        for key in table.keys {
            let Key { name, kind, doc, .. } = key;
            // Writing to a String cannot fail.
            let _ = writeln!(page, "| {} | {kind} | {doc} |", format!("{place} `{name}`").trim_start());
        }
    }
    page
}

fn object(table: &Table) -> Value {
    let properties: Map<String, Value> =
        table.keys.iter().map(|key| (key.name.to_owned(), described(key))).collect();
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}

fn described(key: &Key) -> Value {
    let mut value = value(key);
    value["description"] = format!("{} ({})", key.doc, key.kind).into();
    value
}

/// What is told apart by a key's kind, in the words that messages have for it.
fn value(key: &Key) -> Value {
    let inner = match key.inner {
        Inner::Free => None,
        Inner::Table(table) | Inner::Named(table) => Some(reference(table)),
    };
    let text = || json!({"type": "string"});
    let texts = || json!({"type": "array", "items": text()});
    let list = |items: &Value| json!({"type": "array", "items": items});
    let named = |values: &Value| json!({"type": "object", "additionalProperties": values});
    let any = |kinds: Vec<Value>| json!({"anyOf": kinds});
    match (key.kind, inner) {
        ("true", _) => json!({"const": true}),
        ("true or false", _) => json!({"type": "boolean"}),
        ("a whole number", _) => json!({"type": "integer", "minimum": 0}),
        ("a list of texts", _) => texts(),
        ("text in quotes or a list of texts", _) => any(vec![text(), texts()]),
        ("true, false or \"only\"", _) => any(vec![json!({"type": "boolean"}), json!({"const": "only"})]),
        ("an address in quotes or false", _) => any(vec![text(), json!({"const": false})]),
        ("an address in quotes or a table of addresses", _) => any(vec![text(), named(&text())]),
        ("text in quotes", None) => choices(key.doc).map_or_else(text, |choices| json!({"enum": choices})),
        ("a table", None) => json!({"type": "object"}),
        ("a table", Some(table)) => match key.inner {
            // A value, whether it is there, or an expression.
            Inner::Named(_) if matches!(key.name, "header" | "query") => {
                named(&any(vec![text(), json!({"type": "boolean"}), table]))
            }
            Inner::Named(_) => named(&table),
            Inner::Free | Inner::Table(_) => table,
        },
        ("a price in quotes", Some(table)) => any(vec![text(), table]),
        ("text in quotes, a table, or a list of them", Some(table)) => {
            let one = any(vec![text(), table]);
            any(vec![text(), one["anyOf"][1].clone(), list(&one)])
        }
        ("text in quotes, a list of texts, or [assets.NAME] tables", Some(table)) => {
            any(vec![text(), texts(), named(&table)])
        }
        (kind, Some(table)) if kind.starts_with("a list of") => list(&table),
        // Everything else is some kind of text: a price, an amount, a number too large for others.
        _ => text(),
    }
}

/// The texts a key can have, where its description is nothing but these.
fn choices(doc: &str) -> Option<Vec<&str>> {
    let parts: Vec<&str> = doc.split('"').collect();
    let (between, texts): (Vec<_>, Vec<_>) =
        parts.iter().enumerate().partition(|(number, _)| number % 2 == 0);
    let is_list = between.iter().all(|(_, words)| matches!(words.trim(), "" | "," | "or"));
    (texts.len() > 1 && is_list).then(|| texts.into_iter().map(|(_, text)| *text).collect())
}

fn reference(table: &Table) -> Value {
    json!({"$ref": format!("#/definitions/{}", name(table))})
}

/// The header of a table in letters.
fn name(table: &Table) -> String {
    let words = table.header.split(|letter: char| !letter.is_ascii_alphanumeric());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("_").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written again by `tollgate schema` and `tollgate schema --keys`.
    #[test]
    fn the_schema_and_the_readme_have_every_key() {
        let shipped: Value = serde_json::from_str(include_str!("../../deploy/gateway.schema.json")).unwrap();
        assert_eq!(shipped, schema(), "write it anew: tollgate schema > deploy/gateway.schema.json");
        let readme = include_str!("../../README.md");
        assert!(
            readme.contains(&keys_in_markdown()),
            "put into the README what this prints: tollgate schema --keys"
        );
    }

    #[test]
    fn kinds_of_values_are_those_that_are_read() {
        let schema = schema();
        let property = |table: &str, key: &str| {
            let table = if table.is_empty() { &schema } else { &schema["definitions"][table] };
            let mut property = table["properties"][key].clone();
            property.as_object_mut().unwrap().remove("description");
            property
        };
        assert_eq!(property("", "settle"), json!({"enum": ["before-response", "before-request"]}));
        assert_eq!(property("log", "level")["enum"].as_array().unwrap().len(), 5);
        assert_eq!(property("upstreams_name", "host"), json!({"type": "string"}));
        assert_eq!(property("limits", "header_bytes"), json!({"type": "integer", "minimum": 0}));
        assert_eq!(
            property("", "routes"),
            json!({"type": "array", "items": {"$ref": "#/definitions/routes"}})
        );
        assert_eq!(property("", "log"), json!({"$ref": "#/definitions/log"}));
        assert_eq!(
            property("routes", "price"),
            json!({"anyOf": [{"type": "string"}, {"$ref": "#/definitions/price"}]})
        );
        assert_eq!(property("routes", "free"), json!({"const": true}));
        let upstreams =
            json!({"type": "object", "additionalProperties": {"$ref": "#/definitions/upstreams_name"}});
        assert_eq!(property("", "upstreams"), upstreams);
    }
}
