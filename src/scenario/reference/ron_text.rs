//! Text of values as a scenario would write them.

use serde_json::Value;

/// Returns a value as one line of RON.
///
/// In JSON a variant looks like a text; it is recognized by its capital letter, with which no default text begins.
pub(super) fn of(value: &Value) -> String {
    match value {
        Value::Null => "None".into(),
        Value::String(text) if is_variant(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => short(float),
            _ => number.to_string(),
        },
        Value::Array(items) => format!("[{}]", items.iter().map(of).collect::<Vec<_>>().join(", ")),
        Value::Object(entries) => match entries.iter().next() {
            None => "{}".into(),
            Some((name, content)) if is_variant(name) => format!("{name}{}", bracketed(&of(content))),
            Some(_) => {
                let fields: Vec<String> =
                    entries.iter().map(|(name, value)| format!("{name}: {}", of(value))).collect();
                format!("({})", fields.join(", "))
            }
        },
        plain => plain.to_string(),
    }
}

fn is_variant(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_uppercase()) && text.chars().all(char::is_alphanumeric)
}

fn bracketed(content: &str) -> String {
    if content.starts_with('(') { content.to_owned() } else { format!("({content})") }
}

/// Returns the shorter form of a number: 0, 0.5, 1e-8.
fn short(value: f64) -> String {
    if value != 0.0 && value.abs() < 1e-3 { format!("{value:e}") } else { value.to_string() }
}
