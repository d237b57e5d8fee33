//! Parts of a configuration that go on the wire as they are written: TOML as JSON.

use serde_json::{Map, Value};
use toml::de::DeValue;

use super::walk::Node;

/// A table as a JSON object; `None` when something was reported.
pub(super) fn object(node: &Node<'_>) -> Option<Map<String, Value>> {
    let entries = node.entries()?;
    let count = entries.len();
    let members: Map<String, Value> = entries
        .into_iter()
        .filter_map(|(name, node)| value(&node).map(|value| (name.to_owned(), value)))
        .collect();
    (members.len() == count).then_some(members)
}

fn value(node: &Node<'_>) -> Option<Value> {
    match node.value() {
        DeValue::String(text) => Some(Value::String(text.clone().into_owned())),
        DeValue::Boolean(flag) => Some(Value::Bool(*flag)),
        DeValue::Integer(integer) => {
            let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
            if number.is_none() {
                node.error("is too large a number", "write it in quotes");
            }
            number.map(Value::from)
        }
        DeValue::Float(float) => {
            let number = float.as_str().parse().ok().and_then(serde_json::Number::from_f64);
            if number.is_none() {
                node.error("is a number that JSON does not have", "write it in quotes");
            }
            number.map(Value::Number)
        }
        DeValue::Datetime(time) => Some(Value::String(time.to_string())),
        DeValue::Array(_) => {
            let items = node.items()?;
            let count = items.len();
            let values: Vec<Value> = items.iter().filter_map(value).collect();
            (values.len() == count).then_some(Value::Array(values))
        }
        DeValue::Table(_) => object(node).map(Value::Object),
    }
}
