//! Reference of the fields of a scenario with meaning, unit, default and range, generated from the types in `schema`.
//!
//! The doc comments and the defaults of those types are compiled into a JSON schema, so the reference cannot become
//! outdated. A comment has the form `[unit] meaning -- range.`

mod field;
mod lookup;
mod markdown;

pub use field::{Default, Entry};

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::error::UnknownField;
use super::schema::ScenarioSpec;

/// The schemas, which are the same throughout the program and take time to generate.
static SCHEMAS: LazyLock<Schemas> = LazyLock::new(Schemas::read);

/// Reference of the fields of a scenario.
pub struct Reference {
    schemas: &'static Schemas,
}

/// JSON schemas of the types: the scenario's own, and those of the types that it refers to.
struct Schemas {
    root: Value,
    definitions: Map<String, Value>,
}

impl Reference {
    /// Generates the reference.
    pub fn new() -> Self {
        Self { schemas: &SCHEMAS }
    }

    /// Explains the fields that a path names.
    ///
    /// Names of variants, indices into lists and names in maps may be omitted, as in `server.protocol.deadline`, so a
    /// path may name several fields.
    ///
    /// # Errors
    /// About a segment that names nothing, with the nearest name or all known ones.
    pub fn explain(&self, path: &str) -> Result<Vec<Entry>, UnknownField> {
        let segments: Vec<&str> = path.split('.').filter(|segment| !segment.is_empty()).collect();
        let places = self.schemas.find(&segments).map_err(UnknownField)?;
        Ok(places.into_iter().map(|place| self.schemas.entry(place)).collect())
    }

    /// Returns the reference of all fields in Markdown.
    pub fn markdown(&self) -> String {
        markdown::reference(self.schemas)
    }
}

impl std::default::Default for Reference {
    fn default() -> Self {
        Self::new()
    }
}

/// Adds to a scenario's tree the fields that are not serialized where they have their defaults.
pub(super) fn write_out(scenario: &mut Value) {
    SCHEMAS.write_out(&SCHEMAS.root, scenario);
}

impl Schemas {
    fn read() -> Self {
        // Schemars collects all types that the root refers to under `$defs`.
        let mut root = schemars::schema_for!(ScenarioSpec).to_value();
        let definitions = root["$defs"].as_object_mut().map(std::mem::take).unwrap_or_default();
        Self { root, definitions }
    }

    /// Adds the fields of the schema that a value lacks, with their defaults, to it and to the values in it.
    fn write_out(&self, schema: &Value, value: &mut Value) {
        let schema = self.resolved(schema);
        for (variant, _, content) in variants(schema) {
            // Only the chosen variant is there.
            if let (Some(content), Some(chosen)) = (content, value.get_mut(variant)) {
                self.write_out(content, chosen);
            }
        }
        match value {
            Value::Object(entries) => {
                for (name, field) in fields(schema) {
                    if let Some(default) = default_of(schema, name, field) {
                        entries.entry(name).or_insert(default);
                    }
                    if let Some(value) = entries.get_mut(name) {
                        self.write_out(field, value);
                    }
                }
                // In a map, all values have one schema.
                if schema["additionalProperties"].is_object() {
                    entries.values_mut().for_each(|value| self.write_out(&schema["additionalProperties"], value));
                }
            }
            // Elements of tuples have no `items`, and no fields that could be missing.
            Value::Array(items) => items.iter_mut().for_each(|item| self.write_out(&schema["items"], item)),
            _ => {}
        }
    }

    /// Follows references, and unwraps the content of optional values.
    fn resolved<'a>(&'a self, schema: &'a Value) -> &'a Value {
        if let Some(name) = named(schema) {
            return self.resolved(&self.definitions[name]);
        }
        match alternatives(schema, "anyOf").iter().find(|alternative| alternative["type"] != "null") {
            Some(other) if is_optional(schema) => self.resolved(other),
            _ => schema,
        }
    }
}

/// Returns the name of the type that a schema refers to.
fn named(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.rsplit('/').next()
}

fn alternatives<'a>(schema: &'a Value, kind: &str) -> &'a [Value] {
    schema[kind].as_array().map_or(&[], Vec::as_slice)
}

/// Returns whether `None` is a valid value.
fn is_optional(schema: &Value) -> bool {
    alternatives(schema, "anyOf").iter().any(|alternative| alternative["type"] == "null")
        || schema["type"].as_array().is_some_and(|types| types.iter().any(|name| name == "null"))
}

/// Returns the variants of an enum by name, each with the schema that describes it and, if it has content, the schema
/// of the content.
fn variants(schema: &Value) -> Vec<(&str, &Value, Option<&Value>)> {
    if schema["enum"].is_array() {
        return alternative_variants(schema);
    }
    alternatives(schema, "oneOf").iter().flat_map(alternative_variants).collect()
}

/// Returns the variants in one alternative of an enum's schema.
///
/// Schemars writes a variant without content as `const`, or several undocumented ones as `enum`, and a variant with
/// content as an object with one property.
fn alternative_variants(alternative: &Value) -> Vec<(&str, &Value, Option<&Value>)> {
    if let Some(name) = alternative["const"].as_str() {
        return vec![(name, alternative, None)];
    }
    let mut variants = Vec::new();
    for name in alternatives(alternative, "enum").iter().filter_map(Value::as_str) {
        variants.push((name, alternative, None));
    }
    for (name, content) in alternative["properties"].as_object().into_iter().flatten() {
        variants.push((name.as_str(), alternative, Some(content)));
    }
    variants
}

/// Returns the fields of a struct, or of a variant's content, in the order of their names.
fn fields(schema: &Value) -> Vec<(&str, &Value)> {
    schema["properties"].as_object().into_iter().flatten().map(|(name, field)| (name.as_str(), field)).collect()
}

fn is_required(schema: &Value, field: &str) -> bool {
    alternatives(schema, "required").iter().any(|name| name == field)
}

/// Returns the names of types in the order in which fields first refer to them, depth first.
fn types_in_order(schemas: &Schemas) -> Vec<String> {
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    collect(schemas, &schemas.root, &mut order, &mut seen);
    order
}

fn collect(schemas: &Schemas, schema: &Value, order: &mut Vec<String>, seen: &mut BTreeSet<String>) {
    match schema {
        Value::Object(entries) => {
            if let Some(name) = named(schema)
                && seen.insert(name.to_owned())
            {
                order.push(name.to_owned());
                collect(schemas, &schemas.definitions[name], order, seen);
            }
            for value in entries.values() {
                collect(schemas, value, order, seen);
            }
        }
        Value::Array(items) => {
            for item in items {
                collect(schemas, item, order, seen);
            }
        }
        _ => {}
    }
}

/// Returns the default of a field, under the papers' rules if it depends on other fields; it is `null` for an optional
/// field. `None` if the field is required.
fn default_of(owner: &Value, name: &str, field: &Value) -> Option<Value> {
    if is_required(owner, name) {
        return None;
    }
    // A list that is not written out where it is empty has no default in its schema.
    let silent = if field["type"] == "array" { Value::Array(vec![]) } else { Value::Null };
    Some(field.get("default").cloned().unwrap_or(silent))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(path: &str) -> Entry {
        let mut found = Reference::new().explain(path).expect("there is such a field");
        assert_eq!(found.len(), 1, "{path}");
        found.remove(0)
    }

    #[test]
    fn a_field_has_unit_range_and_default() {
        let rounds = one("rounds");
        assert_eq!((rounds.unit.as_deref(), rounds.range.as_deref()), (Some("rounds"), Some("1 to 10,000,000")));
        assert!(rounds.defaults.is_empty(), "a field without default is to be given");
        let dropout = one("model.lora.dropout");
        assert_eq!(dropout.range.as_deref(), Some("below 1"));
        let defaults: Vec<_> = dropout.defaults.iter().map(|one| (one.under, one.value.as_str())).collect();
        assert_eq!(defaults, [("", "0"), ("fidelity: FedLlmBench", "0.05")]);
        assert_eq!(one("population.devices.phone.speed").unit.as_deref(), Some("FLOP/s"));
        assert_eq!(one("population.mix.0.jitter").range.as_deref(), Some("0 to 5"));
        assert_eq!(one("evaluation.benchmarks").defaults[0].value, "[]");
        let optimizer = one("training.optimizer");
        assert!(
            optimizer.defaults.iter().any(|one| one.under == "algorithm: Scaffold" && one.value.starts_with("Sgd("))
        );
    }

    #[test]
    fn variants_may_be_left_out_and_misspelt_names_are_answered() {
        let reference = Reference::new();
        let paths = |path: &str| -> Vec<String> {
            reference.explain(path).expect("a field").into_iter().map(|entry| entry.path).collect()
        };
        let all = ["Synchronous", "Tiered", "Hierarchical"].map(|name| format!("server.protocol.{name}.deadline"));
        assert_eq!(paths("server.protocol.deadline"), all);
        assert_eq!(paths("server.protocol.Tiered.deadline"), all[1..2]);
        for (path, nearest) in [
            ("trainin.lr", "`training`"),
            ("training.optimiser", "`optimizer`"),
            ("server.protocol.Synchronus", "`Synchronous`"),
            ("model.lora.rank.x", "rank"),
        ] {
            let said = reference.explain(path).expect_err("a misspelt field").to_string();
            assert!(said.contains(nearest), "{path}: {said}");
        }
    }

    /// The one thing that cannot be generated is that somebody wrote it.
    #[test]
    fn every_field_says_what_it_means_and_every_bare_number_its_unit() {
        let schemas = &*SCHEMAS;
        let mut silent = Vec::new();
        let types = types_in_order(schemas);
        let all =
            types.iter().map(|name| (name.as_str(), &schemas.definitions[name])).chain([("Scenario", &schemas.root)]);
        for (name, schema) in all {
            let contents = variants(schema).into_iter().filter_map(|(variant, _, content)| Some((variant, content?)));
            for (variant, owner) in contents.chain([("", schema)]) {
                for (field, content) in fields(owner) {
                    let entry = schemas.entry(lookup::Place::of_field(field, content, owner));
                    let wants_unit = matches!(content["type"].as_str(), Some("number"));
                    // A unit says enough of a field such as `clients`.
                    if entry.unit.is_none() && (entry.meaning.is_empty() || wants_unit) {
                        silent.push(format!("{name} {variant} {field}"));
                    }
                }
            }
        }
        // The fields of an enum's variants are those of its content, so an enum has no others.
        silent.retain(|line| !line.split(' ').next_back().is_some_and(|field| field.starts_with(char::is_uppercase)));
        assert_eq!(silent, Vec::<String>::new());
    }
}
