//! Reference of all fields as a Markdown page, with one section per type and one row per field.

use std::fmt::Write;

use serde_json::Value;

use super::field::Entry;
use super::lookup::Place;
use super::{Schemas, fields, named, types_in_order, variants};

const HEAD: &str = "\
# Scenario reference

Every field of a scenario file, with unit, default and range. This page is generated from the program (`make docs`), and
`fedreplay scenario explain PATH` prints the same in the terminal. Fields without default must be given. Where a default
depends on `fidelity` or on the method, each is named. Quantities are written with their units: `\"1m30s\"`,
`\"20 Mbit/s\"`, `\"8 GB\"`, `\"2 TFLOP/s\"`.
";

pub(super) fn reference(schemas: &Schemas) -> String {
    let mut page = HEAD.to_owned();
    section(schemas, &mut page, "Scenario", &schemas.root);
    for name in types_in_order(schemas) {
        // Quantities have no fields; their title is shown as the kind of a field.
        if schemas.definitions[&name]["title"].is_string() {
            continue;
        }
        section(schemas, &mut page, &name, &schemas.definitions[&name]);
    }
    page
}

/// Appends the section of one type.
fn section(schemas: &Schemas, page: &mut String, name: &str, schema: &Value) {
    let _ = writeln!(page, "\n## {name}\n");
    let _ = writeln!(page, "{}", joined(schema["description"].as_str().unwrap_or_default()));
    let own = fields(schema);
    let variants = variants(schema);
    if variants.is_empty() && !own.is_empty() {
        rows(schemas, page, schema);
        return;
    }
    if !variants.is_empty() {
        let _ = writeln!(page, "\n| variant | meaning |\n|---|---|");
    }
    for (variant, described, content) in &variants {
        let brackets = match content {
            Some(content) if fields(content).is_empty() => format!("({})", schemas.kind(content)),
            Some(_) => "(..)".into(),
            None => String::new(),
        };
        let text = joined(described["description"].as_str().unwrap_or_default());
        let _ = writeln!(page, "| `{variant}{brackets}` | {} |", cell(&text));
    }
    for (variant, _, content) in variants {
        if let Some(content) = content
            && !fields(content).is_empty()
        {
            let _ = writeln!(page, "\n### {name}: {variant}");
            rows(schemas, page, content);
        }
    }
}

/// Appends the table of the fields of `owner`, a struct or the content of a variant.
fn rows(schemas: &Schemas, page: &mut String, owner: &Value) {
    let _ = writeln!(page, "\n| field | type | unit | default | range | meaning |\n|---|---|---|---|---|---|");
    for (name, schema) in fields(owner) {
        let entry = schemas.entry(Place::of_field(name, schema, owner));
        let _ = writeln!(page, "{}", row(schemas, schema, &entry));
    }
}

fn row(schemas: &Schemas, schema: &Value, entry: &Entry) -> String {
    let defaults: Vec<String> = entry.defaults.iter().map(default_text).collect();
    let defaults = if defaults.is_empty() { "must be given".to_owned() } else { defaults.join("; ") };
    format!(
        "| `{}` | {} | {} | {} | {} | {} |",
        entry.path,
        linked(schemas, schema, &entry.kind),
        optional_cell(entry.unit.as_deref()),
        cell(&defaults),
        optional_cell(entry.range.as_deref()),
        cell(&entry.meaning),
    )
}

fn default_text(default: &super::Default) -> String {
    match default.under {
        "" => format!("`{}`", default.value),
        under => format!("`{}` under `{under}`", default.value),
    }
}

/// Returns the kind of a field, with a link to the section of the type that it names.
fn linked(schemas: &Schemas, schema: &Value, kind: &str) -> String {
    let inner = [schema, &schema["items"], &schema["additionalProperties"]];
    let alternatives = super::alternatives(schema, "anyOf").iter();
    // Types with a title are quantities, which have no section.
    let mut names = inner.into_iter().chain(alternatives).filter_map(named);
    let kind = cell(kind);
    match names.find(|name| !schemas.definitions[*name]["title"].is_string()) {
        Some(name) => kind.replacen(name, &format!("[{name}](#{})", name.to_lowercase()), 1),
        None => kind,
    }
}

fn joined(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Escapes a text for a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn optional_cell(text: Option<&str>) -> String {
    text.map_or("-".to_owned(), cell)
}
