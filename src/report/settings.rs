//! Differences between the scenarios of several runs, and the labels of the runs that follow from them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::reported_run::ReportedRun;
use super::units::cut;
use crate::scenario::ScenarioSpec;

/// [character] -- Greatest length of a label made of differences.
const LABEL_CHARACTERS: usize = 60;

/// [byte] -- Values longer than this are used in labels only if shorter ones do not suffice.
const LONG: usize = 24;

/// Flattens a scenario to the paths of its fields with their values as text, without fields that do not affect results.
pub fn fields(scenario: &ScenarioSpec) -> BTreeMap<String, String> {
    let mut value = serde_json::to_value(scenario).expect("a scenario has only text keys");
    if let Some(top) = value.as_object_mut() {
        for field in ["name", "execution", "output", "fidelity"] {
            top.remove(field);
        }
    }
    let mut found = BTreeMap::new();
    flatten(String::new(), &value, &mut found);
    found
}

/// Adds the fields below `path`. Arrays are values: their elements have no names.
fn flatten(path: String, value: &Value, found: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let dot = if path.is_empty() { "" } else { "." };
                flatten(format!("{path}{dot}{name}"), value, found);
            }
        }
        Value::String(text) => {
            found.insert(path, text.clone());
        }
        other => {
            found.insert(path, other.to_string());
        }
    }
}

/// Returns the fields in which two scenarios differ, with both values; `None` if a scenario does not have the field.
pub fn differences(a: &ScenarioSpec, b: &ScenarioSpec) -> Vec<(String, Option<String>, Option<String>)> {
    let a = fields(a);
    let b = fields(b);
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let mut found = Vec::new();
    for name in names {
        let ours = a.get(name);
        let theirs = b.get(name);
        if ours != theirs {
            found.push((name.clone(), ours.cloned(), theirs.cloned()));
        }
    }
    found
}

/// Returns the fields without the seed, by which runs of one setting are recognized.
pub fn setting(scenario: &ScenarioSpec) -> BTreeMap<String, String> {
    let mut fields = fields(scenario);
    fields.remove("seed");
    fields
}

/// Returns a unique label for each run: its name, with what distinguishes it if several runs have that name.
pub fn labels(runs: &[ReportedRun]) -> Vec<String> {
    let apart = apart(&runs.iter().map(|run| fields(&run.scenario)).collect::<Vec<_>>());
    let mut labels = Vec::new();
    for (run, apart) in runs.iter().zip(apart) {
        let name = &run.record.manifest.name;
        let namesakes = runs.iter().filter(|other| other.record.manifest.name == *name).count();
        labels.push(if namesakes == 1 || apart.is_empty() {
            name.clone()
        } else if namesakes == runs.len() {
            apart
        } else {
            format!("{name}: {apart}")
        });
    }
    // Runs of equal scenarios are numbered from the second on.
    let mut used = BTreeSet::new();
    for label in &mut labels {
        let plain = label.clone();
        let mut copy = 1;
        while !used.insert(label.clone()) {
            copy += 1;
            *label = format!("{plain} ({copy})");
        }
    }
    labels
}

/// Describes what distinguishes each scenario from the others, in few parts: the method and the protocol by name, and
/// other fields as `name=value`, long ones last. A part that distinguishes no more scenarios than those before it is
/// left out.
fn apart(scenarios: &[BTreeMap<String, String>]) -> Vec<String> {
    // An aspect holds one part of each scenario's description.
    let mut aspects: Vec<Vec<Option<String>>> = Vec::new();
    for kind in ["algorithm", "server.protocol"] {
        aspects.push(scenarios.iter().map(|fields| variant_of(fields, kind)).collect());
    }
    for path in paths_by_length(scenarios) {
        let name = path.rsplit('.').next().unwrap_or(path);
        aspects.push(scenarios.iter().map(|fields| fields.get(path).map(|value| format!("{name}={value}"))).collect());
    }
    let mut parts: Vec<Vec<String>> = vec![vec![]; scenarios.len()];
    // Greedy: an aspect is used only if it increases the number of distinct descriptions.
    for aspect in aspects {
        let mut with = parts.clone();
        for (parts, part) in with.iter_mut().zip(aspect) {
            parts.extend(part);
        }
        if distinct(&with) > distinct(&parts) {
            parts = with;
        }
    }
    parts.iter().map(|parts| cut(&parts.join(", "), LABEL_CHARACTERS)).collect()
}

/// Returns the paths of all scenarios' fields, those with long values last.
fn paths_by_length(scenarios: &[BTreeMap<String, String>]) -> Vec<&String> {
    let names: BTreeSet<&String> = scenarios.iter().flat_map(BTreeMap::keys).collect();
    let mut paths = Vec::new();
    let mut long = Vec::new();
    for path in names {
        let is_long = scenarios.iter().filter_map(|fields| fields.get(path)).any(|value| value.len() > LONG);
        if is_long { long.push(path) } else { paths.push(path) }
    }
    paths.extend(long);
    paths
}

/// Returns the number of distinct descriptions.
fn distinct(parts: &[Vec<String>]) -> usize {
    parts.iter().collect::<BTreeSet<_>>().len()
}

/// Returns the variant of an enum's field, such as `FedProx` if there is a field `algorithm.FedProx.mu`.
fn variant_of(fields: &BTreeMap<String, String>, kind: &str) -> Option<String> {
    if let Some(variant) = fields.get(kind) {
        return Some(variant.clone());
    }
    let below = fields.keys().find_map(|path| path.strip_prefix(kind)?.strip_prefix('.')?.split('.').next())?;
    Some(below.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_say_what_tells_apart_and_no_more() {
        let scenario = |fields: &[(&str, &str)]| -> BTreeMap<String, String> {
            fields.iter().map(|&(path, value)| (path.to_owned(), value.to_owned())).collect()
        };
        let long = "[{\"every\":3,\"name\":\"vicuna\"},{\"name\":\"mmlu\"}]";
        let average =
            scenario(&[("algorithm.FedAvg.mean", "Factors"), ("evaluation.benchmarks", long), ("rounds", "6")]);
        let proximal = |mu: &str| scenario(&[("algorithm.FedProx.mu", mu), ("rounds", "6")]);
        let alone = scenario(&[("algorithm", "Local"), ("rounds", "4")]);
        let cases = [
            (vec![average.clone(), proximal("0.1"), alone], vec!["FedAvg", "FedProx", "Local"]),
            (vec![average.clone(), proximal("0.1"), proximal("1")], vec!["FedAvg", "FedProx, mu=0.1", "FedProx, mu=1"]),
            (
                vec![
                    scenario(&[("seed", "1"), ("training.lr", "1")]),
                    scenario(&[("seed", "2"), ("training.lr", "1")]),
                ],
                vec!["seed=1", "seed=2"],
            ),
            (vec![average.clone(), average], vec!["", ""]),
        ];
        for (scenarios, expected) in cases {
            assert_eq!(apart(&scenarios), expected);
        }
    }
}
