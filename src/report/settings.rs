//! In what the scenarios of several runs differ, and what the runs are called for it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::record::RunRecord;
use crate::scenario::Scenario;

/// Characters of a label that is made of differences.
const LABEL_CHARACTERS: usize = 60;

/// A scenario field by field: each path with its value as text. What changes no result is left out.
pub fn fields(scenario: &Scenario) -> BTreeMap<String, String> {
    let mut value = serde_json::to_value(scenario).expect("a scenario has only text keys");
    if let Some(top) = value.as_object_mut() {
        ["name", "execution", "output", "fidelity"].iter().for_each(|field| drop(top.remove(*field)));
    }
    let mut found = BTreeMap::new();
    flatten(String::new(), &value, &mut found);
    found
}

fn flatten(path: String, value: &Value, found: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let dot = if path.is_empty() { "" } else { "." };
                flatten(format!("{path}{dot}{name}"), value, found);
            }
        }
        Value::String(text) => drop(found.insert(path, text.clone())),
        other => drop(found.insert(path, other.to_string())),
    }
}

/// The fields in which two scenarios differ, with both values; a field that one does not have is absent there.
pub fn differences(a: &Scenario, b: &Scenario) -> Vec<(String, Option<String>, Option<String>)> {
    let (a, b) = (fields(a), fields(b));
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let pair = |name: &String| (name.clone(), a.get(name).cloned(), b.get(name).cloned());
    names.into_iter().map(pair).filter(|(_, a, b)| a != b).collect()
}

/// The scenario without its seed: runs of one setting differ in nothing else.
pub fn setting(scenario: &Scenario) -> BTreeMap<String, String> {
    let mut fields = fields(scenario);
    fields.remove("seed");
    fields
}

/// A name for each run, no two alike: its own, or what sets it apart where others have the same.
pub fn labels(runs: &[RunRecord]) -> Vec<String> {
    let varying = varying(runs);
    let label = |run: &RunRecord| {
        let name = &run.manifest.name;
        let namesakes = runs.iter().filter(|other| other.manifest.name == *name).count();
        let apart = if namesakes > 1 { apart(run, &varying) } else { String::new() };
        match (apart.is_empty(), namesakes == runs.len()) {
            (true, _) => name.clone(),
            (false, true) => apart,
            (false, false) => format!("{name}: {apart}"),
        }
    };
    let mut labels: Vec<String> = runs.iter().map(label).collect();
    let mut taken = BTreeSet::new();
    for label in &mut labels {
        let plain = label.clone();
        let mut copy = 1;
        while !taken.insert(label.clone()) {
            copy += 1;
            *label = format!("{plain} ({copy})");
        }
    }
    labels
}

/// The variant that a field belongs to: `FedProx` of `algorithm.FedProx.mu`.
fn variant_of<'a>(path: &'a str, kind: &str) -> Option<&'a str> {
    path.strip_prefix(kind)?.split('.').next()
}

/// The fields that are not the same in all runs.
fn varying(runs: &[RunRecord]) -> BTreeSet<String> {
    let Some(first) = runs.first() else { return BTreeSet::new() };
    let others = runs[1..].iter().flat_map(|run| differences(&first.scenario, &run.scenario));
    others.map(|(field, ..)| field).collect()
}

/// What a run has in the varying fields, each by the last part of its path; of methods and protocols, the name says most.
fn apart(run: &RunRecord, varying: &BTreeSet<String>) -> String {
    let fields = fields(&run.scenario);
    let kinds = ["algorithm.", "server.protocol."].map(|kind| {
        let variants: BTreeSet<&str> = varying.iter().filter_map(|path| variant_of(path, kind)).collect();
        (kind, variants.len() > 1)
    });
    let mut parts = Vec::new();
    for path in varying {
        let Some(value) = fields.get(path) else { continue };
        let kind = kinds.iter().find(|(kind, varies)| *varies && path.starts_with(kind));
        let part = match kind.and_then(|(kind, _)| variant_of(path, kind)) {
            Some(variant) => variant.to_owned(),
            None => format!("{}={value}", path.rsplit('.').next().unwrap_or(path)),
        };
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    let text = parts.join(", ");
    match text.char_indices().nth(LABEL_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
