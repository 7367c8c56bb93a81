//! The models of a run, computed again from its updates by the formulas of the papers, on plain numbers.

use std::collections::BTreeMap;
use std::path::Path;

use fedreplay::ledger::{PopulationRow, RunTables, TableView, read_table};
use fedreplay::store::{Digest, Key, Store};
use safetensors::SafeTensors;

use super::support::varint;

/// A server's optimizer with the defaults of a scenario, and its moments.
pub struct Optimizer<'a> {
    name: &'a str,
    /// Optimizer from the next step on, which begins without moments.
    next: Option<&'a str>,
    first: Vec<f64>,
    second: Vec<f64>,
}

impl<'a> Optimizer<'a> {
    pub fn new(name: &'a str) -> Self {
        Self { name, next: None, first: vec![], second: vec![] }
    }

    /// An optimizer that another one takes the place of after the first step.
    pub fn replaced(first: &'a str, next: &'a str) -> Self {
        Self { next: Some(next), ..Self::new(first) }
    }

    /// Returns the model after `model` moved by a mean update. Hsu et al. 2019 for FedAvgM (beta 0.9); Reddi et al. 2021,
    /// algorithm 2, for the others (eta and tau 1e-3, beta1 0.9, beta2 0.99).
    fn step(&mut self, model: &[f64], change: &[f64]) -> Vec<f64> {
        let count = model.len();
        self.first.resize(count, 0.0);
        self.second.resize(count, 1e-6);
        let mut next = Vec::with_capacity(count);
        for at in 0..count {
            let (delta, m, v) = (change[at], &mut self.first[at], &mut self.second[at]);
            let square = delta * delta;
            let moved = match self.name {
                "FedAvg" | "FedProx" => delta,
                "FedAvgM" => {
                    *m = 0.9 * *m + delta;
                    *m
                }
                "FedAdagrad" => {
                    *v += square;
                    1e-3 * delta / (v.sqrt() + 1e-3)
                }
                "FedYogi" | "FedAdam" => {
                    *m = 0.9 * *m + 0.1 * delta;
                    let toward = if *v > square { square } else { -square };
                    *v = if self.name == "FedAdam" { 0.99 * *v + 0.01 * square } else { *v - 0.01 * toward };
                    1e-3 * *m / (v.sqrt() + 1e-3)
                }
                other => panic!("no formula for {other}"),
            };
            next.push(model[at] + moved);
        }
        if let Some(name) = self.next.take() {
            *self = Self::new(name);
        }
        next
    }

    /// Whether updates are weighted by default by the rows that clients train on.
    fn weighs_rows(&self) -> bool {
        matches!(self.name, "FedAvg" | "FedProx" | "FedAvgM")
    }
}

/// Mean of changes by their weights, each times a factor.
fn mean(changes: &[(Vec<f64>, f64, f64)]) -> Vec<f64> {
    let total: f64 = changes.iter().map(|(_, weight, _)| weight).sum();
    let mut sums = vec![0.0; changes[0].0.len()];
    for (change, weight, factor) in changes {
        for (sum, value) in sums.iter_mut().zip(change) {
            *sum += weight / total * factor * value;
        }
    }
    sums
}

/// A training that counted.
pub struct Training {
    pub client: u64,
    /// Version of the model that it began with.
    pub from: u64,
    /// Version that it counted in.
    pub counted_in: u64,
    pub adapter: Vec<f64>,
    /// Adapter that the server received, which is another one if the client attacks, has pruned its rank or has compressed its change.
    pub received: Vec<f64>,
}

/// Returns the trainings of a run that counted, in the order of its tasks.
pub fn trainings(run: &Path, store: &Path) -> Vec<Training> {
    let store = Store::open_existing(store).expect("the store of the run");
    let tasks = RunTables::read(run).expect("the tables of the run").tasks().expect("tasks");
    let clients = counts(&tasks, "client");
    let starts = counts(&tasks, "based_on_version");
    let counted_in = tasks.counts_or_none("counted_in_version").expect("versions");
    let updates = tasks.texts("update_key").expect("keys");
    let replacements = replacements(run);
    let mut found = Vec::new();
    for task in 0..clients.len() {
        if let (Some(counted_in), Some(key)) = (counted_in[task], updates[task]) {
            found.push(Training {
                client: clients[task],
                from: starts[task],
                counted_in,
                adapter: adapter(&store, key),
                received: adapter(&store, received(&replacements, key)),
            });
        }
    }
    found
}

/// Returns the models of a run by version, from the one that it begins with.
pub fn models(run: &Path, store: &Path) -> BTreeMap<u64, Vec<f64>> {
    let tables = RunTables::read(run).expect("the tables of the run");
    let store = Store::open_existing(store).expect("the store of the run");
    let mut models = BTreeMap::from([(0, initial_model(run, &store))]);
    let versions = counts(tables.rounds(), "version");
    let keys = tables.rounds().texts("model_key").expect("keys");
    for (version, key) in versions.into_iter().zip(keys) {
        if let Some(key) = key {
            models.insert(version, adapter(&store, key));
        }
    }
    models
}

/// Returns the adapter that a run begins with.
fn initial_model(run: &Path, store: &Store) -> Vec<f64> {
    adapter(store, &initial_key(run))
}

fn initial_key(run: &Path) -> String {
    let kinds = ["initial", "given", "first_step"];
    kinds.iter().flat_map(|kind| results(run, kind)).next().expect("a run begins with an adapter")
}

/// Returns the keys of a run's results of one kind, in the order in which they were planned.
fn results(run: &Path, kind: &str) -> Vec<String> {
    let lineage = read_table(run, "lineage").expect("a lineage");
    let lineage = fedreplay::ledger::Lineage::of(&lineage).expect("rows of lineage");
    let of_kind = lineage.entries.iter().filter(|entry| entry.kind == kind);
    of_kind.map(|entry| entry.key.to_string()).collect()
}

/// Returns the adapters of a run's results of one kind, in the order in which they were planned.
pub fn adapters(run: &Path, store: &Path, kind: &str) -> Vec<Vec<f64>> {
    let store = Store::open_existing(store).expect("the store of the run");
    results(run, kind).iter().map(|key| adapter(&store, key)).collect()
}

/// Returns the adapter of a stored result.
pub fn stored(store: &Path, key: &str) -> Vec<f64> {
    adapter(&Store::open_existing(store).expect("the store of the run"), key)
}

/// Returns the keys of what is put in the place of updates on their way to the server, by the keys of what they replace: attacks of
/// trainings, updates of a pruned rank, and compressed changes.
pub fn replacements(run: &Path) -> BTreeMap<String, String> {
    let lineage = read_table(run, "lineage").expect("a lineage");
    let lineage = fedreplay::ledger::Lineage::of(&lineage).expect("rows of lineage");
    let replacing =
        lineage.entries.iter().filter(|entry| ["attack", "pruned", "compress"].contains(&entry.kind.as_str()));
    replacing.map(|entry| (lineage.entries[entry.inputs[0]].key.to_string(), entry.key.to_string())).collect()
}

/// Returns the keys of models as clients receive them, by the keys of the server's, where they are encoded on the way.
pub fn broadcasts(run: &Path) -> BTreeMap<String, String> {
    let lineage = read_table(run, "lineage").expect("a lineage");
    let lineage = fedreplay::ledger::Lineage::of(&lineage).expect("rows of lineage");
    let broadcasts = lineage.entries.iter().filter(|entry| entry.kind == "broadcast");
    broadcasts.map(|entry| (lineage.entries[entry.inputs[0]].key.to_string(), entry.key.to_string())).collect()
}

/// Returns the models of a run by version as clients receive them.
pub fn received_models(run: &Path, store: &Path) -> BTreeMap<u64, Vec<f64>> {
    let broadcasts = broadcasts(run);
    let tables = RunTables::read(run).expect("the tables of the run");
    let versions = counts(tables.rounds(), "version");
    let keys = tables.rounds().texts("model_key").expect("keys");
    let mut received = BTreeMap::new();
    let later = versions.into_iter().zip(keys.into_iter().map(|key| key.map(str::to_owned)));
    for (version, key) in std::iter::once((0, Some(initial_key(run)))).chain(later) {
        if let Some(broadcast) = key.and_then(|key| broadcasts.get(&key)) {
            received.insert(version, stored(store, broadcast));
        }
    }
    received
}

/// Returns the key of what the server receives of an update.
pub fn received<'a>(replacements: &'a BTreeMap<String, String>, update: &'a str) -> &'a str {
    let mut key = update;
    while let Some(next) = replacements.get(key) {
        key = next;
    }
    key
}

/// Returns the number of values of each matrix of a run's adapters, in the order of the values.
pub fn matrices(run: &Path, store: &Path) -> Vec<usize> {
    let store = Store::open_existing(store).expect("the store of the run");
    tensors(&store, &initial_key(run)).into_iter().map(|(_, values)| values.len()).collect()
}

/// Fails unless a model is `before` plus the change, but for the rounding of its values to f32.
#[track_caller]
pub fn assert_moved(found: &[f64], before: &[f64], change: &[f64]) {
    let largest = change.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
    assert!(largest > 1e-4, "the change is seen");
    for ((found, before), change) in found.iter().zip(before).zip(change) {
        let expected = before + change;
        assert!((found - expected).abs() <= 1e-5 * largest + 1e-7, "{found} for {expected}");
    }
}

pub fn minus(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

/// Checks every model of a run under a protocol of the name `protocol`, whose settings are the defaults, and returns how many
/// models of the server there were.
pub fn check(run: &Path, store: &Path, protocol: &str, optimizer: &mut Optimizer) -> usize {
    let received_models = received_models(run, store);
    let store = Store::open_existing(store).expect("the store of the run");
    let tables = RunTables::read(run).expect("the tables of the run");
    let tasks = tables.tasks().expect("tasks");
    let rounds = tables.rounds();
    let population = TableView::read::<PopulationRow>(run).expect("a population");
    let rows = counts(&population, "train_rows");
    let mut models = BTreeMap::from([(0, initial_model(run, &store))]);
    let mut behind_edge: BTreeMap<u64, f64> = BTreeMap::new();
    let mut of_server = 0;
    let column = |name| counts(rounds, name);
    let (aggregators, versions, bases) = (column("aggregator"), column("version"), column("base_version"));
    let (merged, keys) = (rounds.texts("merged_versions").expect("texts"), rounds.texts("model_key").expect("keys"));
    let (counted_in, staleness) = (tasks.counts_or_none("counted_in_version"), tasks.counts_or_none("staleness"));
    let (counted_in, staleness) = (counted_in.expect("versions"), staleness.expect("versions"));
    let (clients, starts) = (counts(&tasks, "client"), counts(&tasks, "based_on_version"));
    let updates = tasks.texts("update_key").expect("keys");
    let replacements = replacements(run);
    for round in 0..versions.len() {
        if versions[round] == bases[round] {
            continue;
        }
        let base = models[&bases[round]].clone();
        let is_edge = protocol == "hierarchical" && aggregators[round] != 0;
        let mut changes = Vec::new();
        for version in merged[round].unwrap_or_default().split_whitespace() {
            let version: u64 = version.parse().expect("a version");
            let (_, weight) = behind_edge.pop_first().expect("an edge has updates");
            changes.push((minus(&models[&version], &base), weight, 1.0));
        }
        for task in (0..clients.len()).filter(|&task| counted_in[task] == Some(versions[round])) {
            let weight = if optimizer.weighs_rows() { rows[clients[task] as usize] as f64 } else { 1.0 };
            let fresh = (1.0 + staleness[task].expect("it counted") as f64).powf(-0.5);
            let began = received_models.get(&starts[task]).unwrap_or_else(|| &models[&starts[task]]);
            let (start, factor) = match protocol {
                "asynchronous" => (&base, 0.6 * fresh),
                "buffered" => (began, fresh),
                _ => (began, 1.0),
            };
            let key = updates[task].expect("it was trained");
            let update = adapter(&store, received(&replacements, key));
            changes.push((minus(&update, start), weight, factor));
            if is_edge {
                *behind_edge.entry(aggregators[round]).or_default() += weight;
            }
        }
        let change = mean(&changes);
        let expected =
            if is_edge { Optimizer::new("FedAvg").step(&base, &change) } else { optimizer.step(&base, &change) };
        let found = adapter(&store, keys[round].expect("a model"));
        let moved = minus(&expected, &base).iter().fold(0.0, |most: f64, value| most.max(value.abs()));
        for (found, expected) in found.iter().zip(&expected) {
            // Models are kept in f32.
            let tolerance = 1e-5 * moved + 1e-8 + expected.abs() * f64::from(f32::EPSILON);
            assert!((found - expected).abs() <= tolerance, "round {}: {found} for {expected}", round + 1);
        }
        models.insert(versions[round], found);
        of_server += usize::from(!is_edge);
    }
    of_server
}

fn counts(table: &TableView, column: &str) -> Vec<u64> {
    table.counts(column).unwrap_or_else(|error| panic!("{column}: {error}"))
}

/// Numbers of the variants of stored results that hold another one, with a center, an error or a rule's state after it.
const AROUND_ANOTHER: [u64; 4] = [9, 11, 13, 15];

/// The adapter at the beginning of a stored result, in the order of its tensors' names.
fn adapter(store: &Store, key: &str) -> Vec<f64> {
    tensors(store, key).into_iter().flat_map(|(_, values)| values).collect()
}

/// Tells for each value of an adapter, in the same order, whether it is of A.
pub fn is_of_a(run: &Path, store: &Path) -> Vec<bool> {
    let store = Store::open_existing(store).expect("the store of the run");
    let found = tensors(&store, &initial_key(run));
    found.into_iter().flat_map(|(name, values)| vec![name.contains("lora_A"); values.len()]).collect()
}

/// Returns for each value of an adapter, in the same order, the number of its decoder layer.
pub fn layers(run: &Path, store: &Path) -> Vec<usize> {
    let store = Store::open_existing(store).expect("the store of the run");
    let mut layers = Vec::new();
    for (name, values) in tensors(&store, &initial_key(run)) {
        let (_, rest) = name.split_once(".layers.").expect("a tensor of a layer");
        let layer: usize = rest.split('.').next().expect("a number").parse().expect("a number");
        layers.extend(std::iter::repeat_n(layer, values.len()));
    }
    layers
}

/// Returns the safetensors of the adapter at the beginning of a stored result, after its variants and its length as varints.
pub fn stored_adapter(store: &Store, key: Key) -> Vec<u8> {
    let bytes = store.get(key).expect("the store has the result");
    let mut rest = bytes.as_slice();
    while AROUND_ANOTHER.contains(&varint(&mut rest)) {}
    let length = varint(&mut rest) as usize;
    rest[..length].to_vec()
}

/// The tensors of the adapter of a stored result.
fn tensors(store: &Store, key: &str) -> Vec<(String, Vec<f64>)> {
    let bytes = stored_adapter(store, Key(Digest::from_hex(key).expect("a key in hex")));
    let tensors = SafeTensors::deserialize(&bytes).expect("an adapter");
    let mut names = tensors.names();
    // A change of the base is beside the adapter.
    names.retain(|name| !name.starts_with("base_change."));
    names.sort_unstable();
    let mut found = Vec::new();
    for name in names {
        let view = tensors.tensor(name).expect("it is named");
        let singles = view.data().chunks_exact(4);
        let values = singles.map(|four| f64::from(f32::from_le_bytes(four.try_into().expect("four bytes"))));
        found.push((name.to_owned(), values.collect()));
    }
    found
}
