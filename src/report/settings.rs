//! In what the scenarios of several runs differ, and what the runs are called for it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::record::RunRecord;
use super::units::cut;
use crate::scenario::Scenario;

/// Characters of a label that is made of differences.
const LABEL_CHARACTERS: usize = 60;

/// Bytes from which on a value says less than it takes.
const LONG: usize = 24;

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
    let apart = apart(&runs.iter().map(|run| fields(&run.scenario)).collect::<Vec<_>>());
    let label = |(run, apart): (&RunRecord, String)| {
        let name = &run.manifest.name;
        let namesakes = runs.iter().filter(|other| other.manifest.name == *name).count();
        let apart = if namesakes > 1 { apart } else { String::new() };
        match (apart.is_empty(), namesakes == runs.len()) {
            (true, _) => name.clone(),
            (false, true) => apart,
            (false, false) => format!("{name}: {apart}"),
        }
    };
    let mut labels: Vec<String> = runs.iter().zip(apart).map(label).collect();
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

/// What tells scenarios apart, in as few parts as that takes: the method and the protocol by name, and other fields as
/// `name=value`, long ones last. A part that tells no more than those before it is left out.
fn apart(scenarios: &[BTreeMap<String, String>]) -> Vec<String> {
    let of_kind = |kind: &str| scenarios.iter().map(|fields| variant_of(fields, kind)).collect::<Vec<_>>();
    let mut paths: Vec<&String> = scenarios.iter().flat_map(BTreeMap::keys).collect();
    let is_long = |path: &str| scenarios.iter().filter_map(|fields| fields.get(path)).any(|value| value.len() > LONG);
    paths.sort_by_key(|path| (is_long(path), *path));
    paths.dedup();
    let of_field = |path: &&String| {
        let name = path.rsplit('.').next().unwrap_or(path);
        let part = |fields: &BTreeMap<String, String>| fields.get(*path).map(|value| format!("{name}={value}"));
        scenarios.iter().map(part).collect::<Vec<_>>()
    };
    let mut parts: Vec<Vec<String>> = vec![vec![]; scenarios.len()];
    let kinds = |parts: &[Vec<String>]| parts.iter().collect::<BTreeSet<_>>().len();
    for aspect in [of_kind("algorithm"), of_kind("server.protocol")].into_iter().chain(paths.iter().map(of_field)) {
        let mut with = parts.clone();
        with.iter_mut().zip(aspect).for_each(|(parts, part)| parts.extend(part));
        if kinds(&with) > kinds(&parts) {
            parts = with;
        }
    }
    parts.iter().map(|parts| cut(&parts.join(", "), LABEL_CHARACTERS)).collect()
}

/// The variant of an enum's field: `FedProx` where there is `algorithm.FedProx.mu`.
fn variant_of(fields: &BTreeMap<String, String>, kind: &str) -> Option<String> {
    let below = || fields.keys().find_map(|path| path.strip_prefix(kind)?.strip_prefix('.')?.split('.').next());
    fields.get(kind).map(String::as_str).or_else(below).map(str::to_owned)
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
