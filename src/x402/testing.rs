//! JSON of any kind, for the tests of what is written and read.

use proptest::prelude::*;
use serde_json::{Map, Value};

/// Any JSON value of a few levels.
pub(crate) fn json() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // JSON has no infinities; any other bits are a number.
        any::<u64>().prop_map(|bits| Value::from(f64::from_bits(bits))),
        (-1_000_000..1_000_000).prop_map(|thousandths| Value::from(f64::from(thousandths) / 1000.0)),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number,
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Any JSON object.
pub(crate) fn object() -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::btree_map(any::<String>(), json(), 0..6)
        .prop_map(|members| members.into_iter().collect())
}
