//! Overrides `--set path=value`, which change one field of a scenario that has been read.
//!
//! The path names fields from the root, as in `server.protocol.deadline`; the name of an enum's variant may be omitted.
//! The value is JSON, or RON as in the file, or else plain text; `None` removes an optional field, and `"None"` is a text. A variant whose
//! fields all have defaults may be given by its name alone, with or without parentheses.

use serde_json::{Value, json};

use super::error::suggestion;
use super::ron_syntax::value_in;
use super::schema::{DefaultsBasis, ScenarioSpec};
use super::{ScenarioError, reference};

/// Fills in the fields that a scenario leaves out, and applies overrides in order.
///
/// # Errors
/// The first override that fails, as in [`apply`].
pub(super) fn resolved(as_written: &ScenarioSpec, arguments: &[String]) -> Result<ScenarioSpec, ScenarioError> {
    // Gaps are filled before any override is applied, since it may set a part of what fills them.
    let basis = basis_after(as_written, arguments);
    let mut scenario = as_written.clone();
    scenario.resolve(basis);
    for argument in arguments {
        scenario = apply(&scenario, argument, basis)?;
    }
    Ok(scenario)
}

/// Returns the settings that defaults depend on, as they are after all overrides.
fn basis_after(as_written: &ScenarioSpec, arguments: &[String]) -> DefaultsBasis {
    let mut scenario = as_written.clone();
    scenario.resolve(as_written.defaults_basis());
    for argument in arguments {
        let decides = argument.starts_with("fidelity=") || argument.starts_with("algorithm=");
        // One that fails is reported in its turn, when all are applied.
        if decides && let Ok(changed) = apply(&scenario, argument, as_written.defaults_basis()) {
            scenario = changed;
        }
    }
    scenario.defaults_basis()
}

/// Applies one override `path=value` to a scenario without gaps. Fields that it leaves out get their defaults under
/// `basis`.
///
/// # Errors
/// If the path names no field, or the value does not fit it.
pub(super) fn apply(
    scenario: &ScenarioSpec,
    argument: &str,
    basis: DefaultsBasis,
) -> Result<ScenarioSpec, ScenarioError> {
    let mut changed = changed(scenario, argument)
        .map_err(|message| ScenarioError::Override { argument: argument.to_owned(), message })?;
    // A variant that has just been chosen may leave out fields, as in `algorithm=FedAdam`.
    changed.resolve(basis);
    Ok(changed)
}

/// Applies one override; the error is only the message.
fn changed(scenario: &ScenarioSpec, argument: &str) -> Result<ScenarioSpec, String> {
    let (path, text) = argument.split_once('=').ok_or_else(|| "it must read path=value".to_owned())?;
    let value = read(text);
    // The scenario as JSON, in which a field can be found by its path, is changed and read back.
    let mut tree = serde_json::to_value(scenario).expect("a scenario has only text keys");
    // Fields that are not serialized at their defaults can be set like all others.
    reference::write_out(&mut tree);
    // An optional field of text would take the word as its text, so the removal is tried first.
    if text.trim() == "None"
        && let Ok(scenario) = set(&mut tree.clone(), path, Value::Null)
    {
        return Ok(scenario);
    }
    let first = match set(&mut tree, path, value.clone()) {
        Ok(scenario) => return Ok(scenario),
        Err(message) => message,
    };
    // A text may mean more than itself; anything else may be meant as a text. The first message is the one to report.
    match value {
        Value::String(name) if first.contains(NAMED_ALONE) => set(&mut tree, path, json!({ name: {} })),
        Value::String(_) => Err(first),
        // A file may be called `data(1)`.
        _ => set(&mut tree, path, Value::String(text.to_owned())).map_err(|_| first),
    }
}

/// Writes `value` into the field at `path` and reads the scenario back.
fn set(tree: &mut Value, path: &str, value: Value) -> Result<ScenarioSpec, String> {
    *find(tree, path)? = value;
    serde_json::from_value(tree.clone()).map_err(|source| with_suggestion(source.to_string()))
}

/// Parses a value: as JSON, as RON with brackets, or else as plain text.
fn read(text: &str) -> Value {
    if let Ok(value) = serde_json::from_str(text) {
        return value;
    }
    // A single word is valid RON too, but may just as well be a text. A number may have forms that JSON lacks: `.5`, `0x10`.
    let is_closed = text.trim_end().ends_with([')', ']', '}']);
    let is_number = text.trim_start().starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'));
    if (is_closed || is_number)
        && let Some(value) = value_in(text)
    {
        return value;
    }
    Value::String(text.to_owned())
}

/// Adds a suggestion to a message about an unknown name. Serde writes names in backticks, the unknown one first.
fn with_suggestion(message: String) -> String {
    if !message.starts_with("unknown ") {
        return message;
    }
    let mut names = message.split('`').skip(1).step_by(2);
    let found = names.next().unwrap_or_default();
    let suggestion = suggestion(found, names);
    message + &suggestion
}

/// Part of serde's message about a variant with fields that was given without them.
const NAMED_ALONE: &str = "invalid type: unit variant, expected struct variant";

/// Returns the value at `path`.
fn find<'a>(tree: &'a mut Value, path: &str) -> Result<&'a mut Value, String> {
    let mut here = tree;
    for segment in path.split('.') {
        here = enter(here, segment)?;
    }
    Ok(here)
}

/// Returns the element or field of a value that a segment of a path names.
fn enter<'a>(here: &'a mut Value, segment: &str) -> Result<&'a mut Value, String> {
    match here {
        Value::Array(items) => {
            let length = items.len();
            let element = segment.parse::<usize>().ok().and_then(|index| items.get_mut(index));
            element.ok_or_else(|| format!("`{segment}` is not an index below {length}"))
        }
        Value::Object(fields) => {
            // A variant with fields is an object with one entry, which a path may skip.
            let is_variant =
                fields.len() == 1 && fields.values().all(Value::is_object) && !fields.contains_key(segment);
            let names = fields.keys().cloned().collect::<Vec<_>>().join(", ");
            if is_variant {
                return enter(fields.values_mut().next().expect("a variant's object has one entry"), segment);
            }
            let suggestion = suggestion(segment, fields.keys().map(String::as_str));
            fields.get_mut(segment).ok_or(format!("there is no field `{segment}` here, only {names}{suggestion}"))
        }
        _ => Err(format!("a plain value has no field `{segment}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{OptimizerSpec, PairFormSpec, Scenario};

    const QUICKSTART: &str = include_str!("../../scenarios/quickstart.ron");

    fn scenario() -> ScenarioSpec {
        let scenario = Scenario::from_ron(QUICKSTART, std::path::Path::new(".")).unwrap().scenario;
        let sets = [
            r#"data.columns={"SingleTurn": {"instruction": "q", "response": "a"}}"#,
            r#"training.objective={"Dpo": {}}"#,
        ];
        sets.iter().fold(scenario, |scenario, set| set_papers(&scenario, set))
    }

    fn set_papers(scenario: &ScenarioSpec, set: &str) -> ScenarioSpec {
        apply(scenario, set, scenario.defaults_basis()).unwrap()
    }

    /// Collects the fields of the schema that an object lacks. Only objects that are there are entered.
    fn missing(schema: &Value, definitions: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
        if let Some(name) = schema["$ref"].as_str() {
            missing(&definitions[name.rsplit('/').next().unwrap()], definitions, value, path, found);
        }
        for choices in ["anyOf", "oneOf"] {
            for choice in schema[choices].as_array().into_iter().flatten() {
                let tag = choice["required"][0].as_str();
                if tag.is_none_or(|tag| value.get(tag).is_some()) {
                    missing(choice, definitions, value, path, found);
                }
            }
        }
        for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
            match value {
                Value::Object(fields) if !fields.contains_key(name) => found.push(format!("{path}.{name}")),
                Value::Object(fields) => missing(inner, definitions, &fields[name], &format!("{path}.{name}"), found),
                _ => {}
            }
        }
    }

    #[test]
    fn every_field_of_the_schema_can_be_set() {
        let schema = schemars::schema_for!(ScenarioSpec).to_value();
        let mut tree = serde_json::to_value(scenario()).unwrap();
        let mut found = Vec::new();
        missing(&schema, &schema["$defs"], &tree, "", &mut found);
        assert!(found.contains(&".data.system_prompt".to_owned()), "not written out: {found:?}");
        reference::write_out(&mut tree);
        found.clear();
        missing(&schema, &schema["$defs"], &tree, "", &mut found);
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn an_unwritten_field_keeps_what_is_set() {
        let set = set_papers(&scenario(), "data.system_prompt=Be brief.");
        assert_eq!(set.data.system_prompt.as_deref(), Some("Be brief."));
        let again = set_papers(&set, "data.columns.system=persona");
        assert_eq!(again.data.system_prompt.as_deref(), Some("Be brief."));
        assert_eq!(set_papers(&again, "data.system_prompt=None").data.system_prompt, None);
    }

    /// What is written out must not change what is set.
    #[test]
    fn writing_out_changes_no_scenario() {
        let mut tree = serde_json::to_value(scenario()).unwrap();
        reference::write_out(&mut tree);
        assert_eq!(serde_json::from_value::<ScenarioSpec>(tree).unwrap(), scenario());
    }

    /// The order of overrides does not matter to the defaults: `fidelity` and the method are settled first.
    #[test]
    fn defaults_follow_the_fidelity_and_the_method_that_are_set() {
        let with = |sets: &[&str]| {
            let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
            Scenario::of_text(std::path::Path::new("scenario.ron"), QUICKSTART, &sets)
        };
        let set = with(&["data.pairs.max_prompt=64", "fidelity=FedLlmBench"]).unwrap().scenario;
        assert_eq!(set.data.pairs.get(), PairFormSpec::Raw { max_prompt: 64 });
        let set = with(&["training.optimizer.momentum=0.5", "algorithm=Scaffold"]).unwrap().scenario;
        assert_eq!(set.training.optimizer.get(), OptimizerSpec::Sgd { momentum: 0.5 });
        assert_eq!(set.training.max_grad_norm.get(), None);
        let error = with(&["rounds=0", "fidelity=Paper"]).unwrap_err().to_string();
        assert!(error.contains("rounds=0"), "{error}");
        let error = with(&["fidelity=Paper", "rounds=0"]).unwrap_err().to_string();
        assert!(error.contains("did you mean `Papers`?"), "{error}");
    }
}
