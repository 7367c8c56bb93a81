//! Comparison of two runs: the first row, event, node and tensor that differ, and the input that explains them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use serde_json::Value as Json;

use crate::adapter::{Adapter, read_saved};
use crate::graph::Value;
use crate::ledger::{Comparison, LineageEntry, Manifest, OrderDifference, compare};
use crate::run::RunError;
use crate::scenario::{Scenario, field_differences, value_differences};
use crate::store::{Digest, Store, parse_json, read_limited};

/// Name of the scenario in the folder of a run.
const SCENARIO: &str = "scenario.ron";

/// First difference between two runs.
#[derive(Clone, Debug, serde::Serialize)]
pub struct FirstDifference {
    /// First row that differs.
    pub difference: String,
    /// First event that differs, if any does.
    pub event: Option<String>,
    /// First node of the computation graph with a different key, and the part of the key that differs.
    pub key: Option<String>,
    /// First tensor that differs, if the tensors are available.
    pub tensor: Option<String>,
    /// Inputs of the runs that differ.
    pub why: Vec<String>,
}

/// Compares two runs; `None` means that they are equal. Tensors are looked up in the store, or else in the saved adapters.
///
/// Runs with equal rows differ if one scenario.ron was changed after its run had begun, so that what it says is no longer what was
/// run.
///
/// # Errors
/// If a run is missing or cannot be read.
pub fn diff(left: &Path, right: &Path, store: &Store) -> Result<Option<FirstDifference>, RunError> {
    let compared = compare(left, right)?;
    let manifests = [Manifest::read(left)?, Manifest::read(right)?];
    let changed = changed_scenarios(&manifests, [left, right]);
    let Some(Comparison { first, event, key, result }) = compared else {
        let Some(difference) = changed.first().cloned() else { return Ok(None) };
        let why = scenario_fields([&manifests[0], &manifests[1]], [left, right]);
        return Ok(Some(FirstDifference { difference, event: None, key: None, tensor: None, why }));
    };
    // Results in the store are exact; saved adapters only show the models of some rounds.
    let tensor = result.as_ref().and_then(|found| stored_tensor(found, store)).or_else(|| saved_tensor(left, right));
    let mut why = causes(&manifests, left, right);
    why.extend(changed);
    if let (None, Some(found)) = (&key, &result) {
        let kind = &found.left.kind;
        why.push(format!("order {} ({kind}) has one key and two results: it was not reproduced", found.order));
    }
    Ok(Some(FirstDifference {
        difference: first.0,
        event: event.map(|event| event.0),
        key: key.map(|found| describe(&found)),
        tensor,
        why,
    }))
}

/// Returns which of two scenarios are not as their runs began with them; none if both are the same text.
fn changed_scenarios(manifests: &[Manifest; 2], folders: [&Path; 2]) -> Vec<String> {
    let texts = folders.map(|folder| read_limited(&folder.join(SCENARIO)).ok());
    let mut changed = Vec::new();
    if texts[0] == texts[1] {
        return changed;
    }
    for ((manifest, folder), text) in manifests.iter().zip(folders).zip(texts) {
        let now = text.map(|text| Digest(*blake3::hash(&text).as_bytes()));
        if manifest.files.get(SCENARIO).is_some_and(|file| Some(file.blake3) != now) {
            changed.push(format!("{} is not as the run began with it", folder.join(SCENARIO).display()));
        }
    }
    changed
}

/// Describes a node with two keys, and the part in which they differ. All nodes before it are equal, so the cause is not in
/// its inputs.
fn describe(found: &OrderDifference) -> String {
    let OrderDifference { order, left, right } = found;
    let which = match left.kind == right.kind {
        true => format!("order {order} ({} of round {})", left.kind, left.round),
        false => format!("order {order} ({} against {})", left.kind, right.kind),
    };
    format!("{which}: {}", part_of_key(left, right))
}

/// Returns the part of a node's key that differs.
fn part_of_key(left: &LineageEntry, right: &LineageEntry) -> String {
    // Causes come first: other code or another engine explains all differences below it.
    if left.code != right.code {
        return format!("code: {} against {}", left.code, right.code);
    }
    if left.engine != right.engine {
        return "engine: another base model, or other numerics".into();
    }
    if left.inputs != right.inputs {
        return "inputs: it reads other orders, so other tasks count, or from other models".into();
    }
    let left_parameters: Json = parse_json(left.parameters.as_bytes()).unwrap_or_default();
    let right_parameters: Json = parse_json(right.parameters.as_bytes()).unwrap_or_default();
    match value_differences(&left_parameters, &right_parameters).first() {
        Some(first) => format!("parameters.{first}"),
        None => "the keys differ and nothing that they are made of does, so one of the two runs was changed".into(),
    }
}

/// Lists the inputs in which two runs differ.
fn causes([left, right]: &[Manifest; 2], left_folder: &Path, right_folder: &Path) -> Vec<String> {
    let mut causes = Vec::new();
    if left.schema_version != right.schema_version {
        causes.push(format!("version of the tables: {} against {}", left.schema_version, right.schema_version));
    }
    if left.scenario_hash != right.scenario_hash {
        causes.extend(scenario_fields([left, right], [left_folder, right_folder]));
    }
    let roles: BTreeSet<&String> = left.inputs.keys().chain(right.inputs.keys()).collect();
    for role in roles {
        let left_hash = input_hash(left, role);
        let right_hash = input_hash(right, role);
        if left_hash != right_hash {
            causes.push(format!("{}: {left_hash} against {right_hash}", role.replace('_', " ")));
        }
    }
    if left.numerics_class != right.numerics_class {
        causes.push(format!("numerics: {} against {}", left.numerics_class, right.numerics_class));
    }
    if left.binary_hash != right.binary_hash {
        causes.push(format!("program: {} against {}", left.binary_hash, right.binary_hash));
    }
    causes
}

/// Returns the hash of an input by its role, or `none`.
fn input_hash(run: &Manifest, role: &str) -> String {
    run.inputs.get(role).map_or("none".to_owned(), |input| input.hash.to_string())
}

/// Lists the fields of two scenarios that differ and are part of their identity.
fn scenario_fields([left, right]: [&Manifest; 2], folders: [&Path; 2]) -> Vec<String> {
    let left = Scenario::of_run(folders[0], &left.scenario_folder, &[]);
    let right = Scenario::of_run(folders[1], &right.scenario_folder, &[]);
    let (Ok(left), Ok(right)) = (left, right) else {
        return vec!["scenario: its fields cannot be compared, since one cannot be read".into()];
    };
    let fields = field_differences(&left.identified(), &right.identified());
    fields.iter().map(|field| format!("scenario: {field}")).collect()
}

/// Reads a result from the store, if it is the one that the lineage records.
fn stored(entry: &LineageEntry, store: &Store) -> Option<Value> {
    let value = store.get(entry.key).and_then(|bytes| Value::from_bytes(&bytes));
    value.filter(|value| Some(value.hash()) == entry.result)
}

/// Returns the first tensor in which two results of a node differ, if both are in the store.
fn stored_tensor(found: &OrderDifference, store: &Store) -> Option<String> {
    let left = stored(&found.left, store)?;
    let right = stored(&found.right, store)?;
    let has_adapter = |value: &Value| matches!(value, Value::Model { .. } | Value::Trained(_) | Value::Control(_));
    if !has_adapter(&left) || !has_adapter(&right) {
        return None;
    }
    let tensor = first_tensor(left.adapter(), right.adapter())?;
    Some(format!("{tensor} of order {} ({} of round {})", found.order, found.left.kind, found.left.round))
}

/// Returns the first tensor in which two saved adapters of the same name differ.
fn saved_tensor(left: &Path, right: &Path) -> Option<String> {
    for name in saved_names(left).intersection(&saved_names(right)) {
        let left = read_saved(&left.join("adapters").join(name));
        let right = read_saved(&right.join("adapters").join(name));
        let (Ok(left), Ok(right)) = (left, right) else { continue };
        if let Some(tensor) = first_tensor(&left, &right) {
            return Some(format!("{tensor} of adapters/{}", name.to_string_lossy()));
        }
    }
    None
}

/// Returns the names of a run's saved adapters.
fn saved_names(run: &Path) -> BTreeSet<OsString> {
    let entries = fs::read_dir(run.join("adapters")).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).collect()
}

/// Describes the first value in which two adapters differ, by its bits.
fn first_tensor(left: &Adapter, right: &Adapter) -> Option<String> {
    if let Some(reason) = left.layout.difference_from(&right.layout) {
        return Some(format!("another layout: {reason}"));
    }
    let mut tensors = left.layout.tensors().into_iter();
    let in_adapter = tensors.find_map(|(name, _, range)| {
        let pairs = left.values[range.clone()].iter().zip(&right.values[range]);
        let (place, (a, b)) = pairs.enumerate().find(|(_, (a, b))| a.to_bits() != b.to_bits())?;
        Some(format!("{name}, value {place}: {a} against {b}"))
    });
    in_adapter.or_else(|| {
        let module = left.base_change_differs_in(right)?;
        Some(format!("the change of the base in {module}"))
    })
}
