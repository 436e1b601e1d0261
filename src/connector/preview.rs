//! Preview: items → the events they would become, without a store. What `omnigate try` and the fixtures show.

use serde_json::Value;

use crate::model::item::Item;

/// The events of `items`, without ids, keys, sequence and times of ours.
pub fn events(items: &[Item]) -> Vec<Value> {
    let _ = items;
    Vec::new()
}

/// The whole document of `omnigate try --json`: `{"outcome", "code", "events"}`.
pub fn document(items: &[Item]) -> Value {
    let _ = items;
    Value::Null
}
