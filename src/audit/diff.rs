//! Says where two runs part and why: the first row, event, order and tensor that differ, and the input behind them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value as Json;

use crate::adapter::{Adapter, peft};
use crate::graph::Value;
use crate::ledger::{Comparison, LineageEntry, Manifest, OrderDifference, compare};
use crate::run::RunError;
use crate::scenario::{Loaded, field_differences, value_differences};
use crate::store::Store;

/// Where two runs part.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Parting {
    /// The first row that differs.
    pub difference: String,
    /// The first event that differs, if any does.
    pub event: Option<String>,
    /// The first order with another key, and which part of its key differs.
    pub key: Option<String>,
    /// The first tensor that differs, where one is at hand.
    pub tensor: Option<String>,
    /// What the runs were made from that is not the same.
    pub why: Vec<String>,
}

/// Compares two runs; none means that they are the same. Tensors are looked up in the store, and else in the saved
/// adapters.
///
/// # Errors
/// If a run is not there or cannot be read.
pub fn diff(left: &Path, right: &Path, store: &Store) -> Result<Option<Parting>, RunError> {
    let Some(Comparison { first, event, key, result }) = compare(left, right)? else { return Ok(None) };
    let manifests = [Manifest::read(left)?, Manifest::read(right)?];
    let tensor = result.as_ref().and_then(|found| stored_tensor(found, store)).or_else(|| saved_tensor(left, right));
    let mut why = causes(&manifests, left, right);
    if let (None, Some(found)) = (&key, &result) {
        let kind = &found.left.kind;
        why.push(format!("order {} ({kind}) has one key and two results: it was not reproduced", found.order));
    }
    Ok(Some(Parting {
        difference: first.0,
        event: event.map(|event| event.0),
        key: key.map(|found| describe(&found)),
        tensor,
        why,
    }))
}

/// An order with two keys, and the part of the key in which they differ. All orders before it are the same, so none of its
/// inputs is to blame.
fn describe(found: &OrderDifference) -> String {
    let OrderDifference { order, left, right } = found;
    let which = match left.kind == right.kind {
        true => format!("order {order} ({} of round {})", left.kind, left.round),
        false => format!("order {order} ({} against {})", left.kind, right.kind),
    };
    format!("{which}: {}", part_of_key(left, right))
}

fn part_of_key(left: &LineageEntry, right: &LineageEntry) -> String {
    if left.code != right.code {
        return format!("code: {} against {}", left.code, right.code);
    }
    if left.engine != right.engine {
        return "engine: another base model, or other numerics".into();
    }
    if left.inputs != right.inputs {
        return "inputs: it reads other orders, so other tasks count, or from other models".into();
    }
    let parse = |text: &str| serde_json::from_str::<Json>(text).unwrap_or_default();
    let parameters = value_differences(&parse(&left.parameters), &parse(&right.parameters));
    match parameters.first() {
        Some(first) => format!("parameters.{first}"),
        None => "the keys differ and nothing that they are made of does: `fedreplay verify` both runs".into(),
    }
}

/// What differs in what two runs were made from.
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
        let hash = |run: &Manifest| run.inputs.get(role).map_or("none".to_owned(), |input| input.hash.to_string());
        if hash(left) != hash(right) {
            causes.push(format!("{}: {} against {}", role.replace('_', " "), hash(left), hash(right)));
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

/// The scenario's fields that differ and are part of its identity.
fn scenario_fields([left, right]: [&Manifest; 2], folders: [&Path; 2]) -> Vec<String> {
    let read = |folder, manifest: &Manifest| Loaded::of_run(folder, &manifest.scenario_folder, &[]).ok();
    let (Some(left), Some(right)) = (read(folders[0], left), read(folders[1], right)) else {
        return vec!["scenario: its fields cannot be compared, since one cannot be read".into()];
    };
    let fields = field_differences(&left.identified(), &right.identified());
    fields.iter().map(|field| format!("scenario: {field}")).collect()
}

/// The first tensor in which two results of an order differ, if both are in the store.
fn stored_tensor(found: &OrderDifference, store: &Store) -> Option<String> {
    let load = |entry: &LineageEntry| {
        let value = store.get(entry.key).and_then(|bytes| Value::from_bytes(&bytes));
        value.filter(|value| Some(value.hash()) == entry.result)
    };
    let (left, right) = (load(&found.left)?, load(&found.right)?);
    if matches!(left, Value::Evaluated(_) | Value::Cohort(_)) {
        return None;
    }
    let tensor = first_tensor(left.adapter(), right.adapter())?;
    Some(format!("{tensor} of order {} ({} of round {})", found.order, found.left.kind, found.left.round))
}

/// The first tensor in which saved adapters of one name differ.
fn saved_tensor(left: &Path, right: &Path) -> Option<String> {
    let adapters = |run: &Path| {
        let entries = fs::read_dir(run.join("adapters")).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name()).collect::<BTreeSet<_>>()
    };
    let read = |run: &Path, name| peft::read_folder(&run.join("adapters").join(name)).ok().map(|(adapter, _)| adapter);
    adapters(left).intersection(&adapters(right)).find_map(|name| {
        let tensor = first_tensor(&read(left, name)?, &read(right, name)?)?;
        Some(format!("{tensor} of adapters/{}", name.to_string_lossy()))
    })
}

fn first_tensor(left: &Adapter, right: &Adapter) -> Option<String> {
    if let Some(reason) = left.layout.difference_from(&right.layout) {
        return Some(format!("another layout: {reason}"));
    }
    let mut tensors = left.layout.tensors().into_iter();
    tensors.find_map(|(name, _, range)| {
        let pairs = left.values[range.clone()].iter().zip(&right.values[range]);
        let (place, (a, b)) = pairs.enumerate().find(|(_, (a, b))| a.to_bits() != b.to_bits())?;
        Some(format!("{name}, value {place}: {a} against {b}"))
    })
}
