//! In which fields two scenarios differ.

use serde_json::Value;

use super::Scenario;

/// A field with two values.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldDifference {
    /// From the top, `server.protocol.Synchronous.deadline`.
    pub path: String,
    pub left: Value,
    pub right: Value,
}

impl std::fmt::Display for FieldDifference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} against {}", self.path, self.left, self.right)
    }
}

/// The fields in which two scenarios differ, in the order of their names.
pub fn field_differences(left: &Scenario, right: &Scenario) -> Vec<FieldDifference> {
    let tree = |scenario| serde_json::to_value(scenario).expect("a scenario has only text keys");
    value_differences(&tree(left), &tree(right))
}

/// The members in which two trees differ: as deep down as both have the same shape.
pub fn value_differences(left: &Value, right: &Value) -> Vec<FieldDifference> {
    let mut found = Vec::new();
    collect(String::new(), left, right, &mut found);
    found
}

fn collect(path: String, left: &Value, right: &Value, found: &mut Vec<FieldDifference>) {
    let below =
        |name: &dyn std::fmt::Display| if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
    match (left, right) {
        (Value::Object(a), Value::Object(b)) if a.keys().eq(b.keys()) => {
            a.iter().zip(b.values()).for_each(|((name, a), b)| collect(below(name), a, b, found));
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().for_each(|(index, (a, b))| collect(below(&index), a, b, found));
        }
        _ if left == right => {}
        _ => found.push(FieldDifference { path, left: left.clone(), right: right.clone() }),
    }
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
