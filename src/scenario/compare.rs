//! Field-by-field comparison of two scenarios.

use serde_json::Value;

use super::{ScenarioSpec, reference};

/// Field with different values in two scenarios.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldDifference {
    /// Names from the root, such as `server.protocol.Synchronous.deadline`.
    pub path: String,
    pub left: Value,
    pub right: Value,
}

impl std::fmt::Display for FieldDifference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} against {}", self.path, self.left, self.right)
    }
}

/// Returns the fields in which two scenarios differ, in the order of their names.
pub fn field_differences(left: &ScenarioSpec, right: &ScenarioSpec) -> Vec<FieldDifference> {
    value_differences(&tree(left), &tree(right))
}

/// Returns a scenario as JSON, with the fields that are not written out at their defaults.
fn tree(scenario: &ScenarioSpec) -> Value {
    let mut tree =
        serde_json::to_value(scenario).expect("a scenario has only text keys, and a loaded one has all values");
    reference::write_out(&mut tree);
    tree
}

/// Returns the members in which two JSON trees differ, descending as long as both have the same shape.
pub fn value_differences(left: &Value, right: &Value) -> Vec<FieldDifference> {
    let mut found = Vec::new();
    collect(String::new(), left, right, &mut found);
    found
}

fn collect(path: String, left: &Value, right: &Value, found: &mut Vec<FieldDifference>) {
    match (left, right) {
        (Value::Object(a), Value::Object(b)) if a.keys().eq(b.keys()) => {
            for ((name, a), b) in a.iter().zip(b.values()) {
                collect(below(&path, name), a, b, found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                collect(below(&path, &index.to_string()), a, b, found);
            }
        }
        _ if left == right => {}
        _ => found.push(FieldDifference { path, left: left.clone(), right: right.clone() }),
    }
}

/// Returns the path of the member `name` of the value at `path`, which is empty for the root.
fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn differences_are_named_as_deep_down_as_shapes_agree() {
        let left = json!({ "a": { "b": [1, 2], "c": null }, "d": { "One": {} }, "e": [1] });
        let right = json!({ "a": { "b": [1, 3], "c": null }, "d": { "Two": {} }, "e": [] });
        let found: Vec<String> = value_differences(&left, &right).iter().map(FieldDifference::to_string).collect();
        assert_eq!(found, ["a.b.1: 2 against 3", "d: {\"One\":{}} against {\"Two\":{}}", "e: [1] against []"]);
        assert_eq!(value_differences(&left, &left), []);
    }
}
