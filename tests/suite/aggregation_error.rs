//! Errors of aggregations in the tables of runs, computed again from the adapters that were aggregated.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, UInt32Type};
use arrow::record_batch::RecordBatch;
use fedreplay::adapter::Adapter;
use fedreplay::ledger::read_table;
use fedreplay::store::{Digest, Key, Store};

use super::methods::{PROTOCOLS, scenario};
use super::recomputed::stored_adapter;
use super::support::World;

/// Reads the adapter of a stored result.
fn stored(store: &Store, key: &str) -> Adapter {
    let key = Key(Digest::from_hex(key).expect("a key in hex"));
    Adapter::from_bytes(&stored_adapter(store, key)).expect("an adapter")
}

/// Returns s B A of each module, row-major.
fn products(adapter: &Adapter) -> Vec<Vec<f64>> {
    let layout = &adapter.layout;
    let mut found = Vec::new();
    for (module, (a, b)) in layout.modules.iter().zip(layout.ranges()) {
        let [a, b] = [a, b].map(|range| adapter.values[range].iter().map(|&v| f64::from(v)).collect::<Vec<_>>());
        let mut product = vec![0.0; module.in_features * module.out_features];
        for (at, value) in product.iter_mut().enumerate() {
            let [output, input] = [at / module.in_features, at % module.in_features];
            for r in 0..layout.rank {
                *value += layout.scale() * b[output * layout.rank + r] * a[r * module.in_features + input];
            }
        }
        found.push(product);
    }
    found
}

/// Returns the mean of vectors by weights.
fn mean<'a>(vectors: impl Iterator<Item = (f64, &'a [f64])>) -> Vec<f64> {
    let mut sums: Vec<f64> = Vec::new();
    for (weight, vector) in vectors {
        sums.resize(vector.len(), 0.0);
        for (sum, value) in sums.iter_mut().zip(vector) {
            *sum += weight * value;
        }
    }
    sums
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt()
}

fn optional(rows: &RecordBatch, column: &str, row: usize) -> Option<f64> {
    let values = rows[column].as_primitive::<Float64Type>();
    values.is_valid(row).then(|| values.value(row))
}

fn whole(rows: &RecordBatch, column: &str, row: usize) -> u32 {
    rows[column].as_primitive::<UInt32Type>().value(row)
}

/// Tables of a run, and the store of its results.
struct Recorded {
    rounds: RecordBatch,
    tasks: RecordBatch,
    /// Norm and error of each module, by round.
    modules: BTreeMap<u32, Vec<(f64, Option<f64>)>>,
    store: Store,
}

impl Recorded {
    fn read(run: &Path, store: &Path) -> Self {
        let rows = read_table(run, "aggregation").expect("a table");
        let mut modules: BTreeMap<u32, Vec<(f64, Option<f64>)>> = BTreeMap::new();
        for row in 0..rows.num_rows() {
            let found = (optional(&rows, "norm", row).expect("a norm"), optional(&rows, "error", row));
            modules.entry(whole(&rows, "round", row)).or_default().push(found);
        }
        let store = Store::open_existing(store).expect("the store of the run");
        let [rounds, tasks] = ["rounds", "tasks"].map(|name| read_table(run, name).expect("a table"));
        Self { rounds, tasks, modules, store }
    }

    /// Returns the rows of the tasks that counted in a round.
    fn counted(&self, round: usize) -> Vec<usize> {
        let versions = self.tasks["counted_in_version"].as_primitive::<UInt32Type>();
        let version = whole(&self.rounds, "version", round);
        (0..self.tasks.num_rows()).filter(|&row| versions.is_valid(row) && versions.value(row) == version).collect()
    }

    /// Returns the adapters that a round aggregated, with their weights.
    fn aggregated(&self, round: usize) -> Vec<(f64, Adapter)> {
        let keys = self.tasks["update_key"].as_string::<i32>();
        let weight = |row| optional(&self.tasks, "weight", row).expect("a weight");
        self.counted(round).into_iter().map(|row| (weight(row), stored(&self.store, keys.value(row)))).collect()
    }

    /// Fails unless the errors of a round are those of its adapters, whose products lead to the nearest ones in the model if
    /// `nearest`, and whose factors lead to their means otherwise. Returns the total.
    fn check_round(&self, round: usize, nearest: bool) -> f64 {
        let adapters = self.aggregated(round);
        let layout = adapters[0].1.layout.clone();
        let all: Vec<(f64, Vec<Vec<f64>>)> = adapters.iter().map(|(weight, one)| (*weight, products(one))).collect();
        let reached = match nearest {
            true => {
                let key = self.rounds["model_key"].as_string::<i32>().value(round);
                products(&stored(&self.store, key))
            }
            false => products_of_mean(&adapters),
        };
        let tolerance = if nearest { 1e-6 } else { 1e-9 };
        let modules = &self.modules[&(round as u32 + 1)];
        assert_eq!(modules.len(), layout.modules.len());
        let mut squares = [0.0, 0.0];
        for (module, &(recorded_norm, recorded_error)) in modules.iter().enumerate() {
            let expected = mean(all.iter().map(|(weight, products)| (*weight, products[module].as_slice())));
            let size = norm(expected.iter().copied());
            let difference = norm(expected.iter().zip(&reached[module]).map(|(one, other)| one - other));
            assert!((recorded_norm - size).abs() <= 1e-12 * size, "{recorded_norm} for {size}");
            let error = recorded_error.expect("no mean is zero");
            assert!((error - difference / size).abs() < tolerance, "{error} for {difference} of {size}");
            squares[0] += size * size;
            squares[1] += difference * difference;
        }
        let total = optional(&self.rounds, "aggregation_error", round).expect("an error");
        assert!((total - (squares[1] / squares[0]).sqrt()).abs() < tolerance, "{total} for {squares:?}");
        total
    }
}

/// Returns the products of the mean of the factors, in f64.
fn products_of_mean(adapters: &[(f64, Adapter)]) -> Vec<Vec<f64>> {
    let layout = &adapters[0].1.layout;
    let as_f64: Vec<(f64, Vec<f64>)> =
        adapters.iter().map(|(weight, one)| (*weight, one.values.iter().map(|&v| f64::from(v)).collect())).collect();
    let values = mean(as_f64.iter().map(|(weight, values)| (*weight, values.as_slice())));
    let mut found = Vec::new();
    for (module, (a, b)) in layout.modules.iter().zip(layout.ranges()) {
        let [inputs, outputs] = [module.in_features, module.out_features];
        let mut product = vec![0.0; inputs * outputs];
        for (at, value) in product.iter_mut().enumerate() {
            let [output, input] = [at / inputs, at % inputs];
            let terms = (0..layout.rank)
                .map(|r| values[b.start + output * layout.rank + r] * values[a.start + r * inputs + input]);
            *value = layout.scale() * terms.sum::<f64>();
        }
        found.push(product);
    }
    found
}

#[test]
fn errors_are_those_of_the_adapters_that_were_aggregated() {
    let world = World::new();
    let mut totals = Vec::new();
    for (out, method, nearest) in [
        ("factors", "FedAvg()", false),
        ("products", "FedAvg(mean: Products)", true),
        ("adam", "FedAdam()", false),
        ("uniform", "FedAvg(weights: Uniform)", false),
    ] {
        world.write("scenario.ron", &scenario(method, PROTOCOLS[0].1));
        world.fedreplay(&["run", "scenario.ron", "--out", out, "--store", "store"]).succeeded();
        let recorded = Recorded::read(&world.path(out), &world.path("store"));
        assert_eq!(recorded.rounds.num_rows(), 2, "{out}");
        totals.push([0, 1].map(|round| recorded.check_round(round, nearest)));
    }
    // The first round of both has the same updates, and their mean is nearer to the nearest product.
    assert!(0.0 < totals[1][0] && totals[1][0] < totals[0][0], "{totals:?}");
    assert_eq!(totals[2][0], totals[3][0], "the mean comes before the optimizer's step");
    let shown = world.fedreplay(&["show", "factors", "--json"]).succeeded();
    assert!(shown.stdout.contains("update/aggregation_error"), "{}", shown.stdout);
}

#[test]
fn rounds_in_which_all_clients_have_one_of_the_factors_have_no_error() {
    let world = World::new();
    for method in ["FfaLora", "RoLora"] {
        let text = scenario("FedAvg()", PROTOCOLS[0].1)
            .replace("algorithm:", &format!("federated_lora: {method}, algorithm:"));
        world.write("scenario.ron", &text);
        world.fedreplay(&["run", "scenario.ron", "--out", method, "--store", "none"]).succeeded();
        let rounds = read_table(&world.path(method), "rounds").expect("a table");
        assert_eq!([0, 1].map(|round| optional(&rounds, "aggregation_error", round)), [Some(0.0); 2], "{method}");
    }
}

#[test]
fn results_of_a_store_have_the_errors_that_were_computed() {
    let world = World::new();
    world.write("scenario.ron", &scenario("FedAvg()", PROTOCOLS[0].1));
    let run = |out| world.fedreplay(&["run", "scenario.ron", "--out", out, "--store", "store"]).succeeded();
    let [first, second] = ["first", "second"].map(|out| run(out).summary("digest").to_owned());
    assert_eq!(first, second);
    let [first, second] = ["first", "second"].map(|out| read_table(&world.path(out), "aggregation").expect("a table"));
    assert!(first.num_rows() > 0 && first == second);
}

#[test]
fn rounds_have_an_error_if_all_their_updates_are_fresh_and_count_in_full() {
    let world = World::new();
    let mut with_error = BTreeMap::new();
    for (name, protocol) in PROTOCOLS {
        world.write("scenario.ron", &scenario("FedAvg()", protocol).replace("rounds: 2", "rounds: 5"));
        world.fedreplay(&["run", "scenario.ron", "--out", name, "--store", "store"]).succeeded();
        let recorded = Recorded::read(&world.path(name), &world.path("store"));
        let staleness = recorded.tasks["staleness"].as_primitive::<UInt32Type>();
        for round in 0..recorded.rounds.num_rows() {
            let is_made = whole(&recorded.rounds, "version", round) != whole(&recorded.rounds, "base_version", round);
            let is_fresh = recorded.counted(round).into_iter().all(|task| staleness.value(task) == 0);
            let has_error = optional(&recorded.rounds, "aggregation_error", round).is_some();
            // The default mixing of the asynchronous protocol is below 1.
            assert_eq!(has_error, is_made && is_fresh && name != "asynchronous", "{name}, round {}", round + 1);
            assert_eq!(has_error, recorded.modules.contains_key(&(round as u32 + 1)), "{name}, round {}", round + 1);
            with_error.entry(name).or_insert([0, 0])[usize::from(has_error)] += 1;
        }
    }
    assert_eq!(with_error["synchronous"], [0, 5]);
    assert!(with_error["buffered"].iter().all(|&rounds| rounds > 0), "{with_error:?}");
    assert!(with_error["hierarchical"][1] > 5, "the rounds of edges and those of the server: {with_error:?}");
}

#[test]
fn the_servers_round_has_the_error_of_the_edges_models() {
    let world = World::new();
    let edge = |region| {
        format!(r#"(region: "{region}", down: "1 Gbit/s", up: "1 Gbit/s", downlink: "1 Gbit/s", uplink: "1 Gbit/s")"#)
    };
    let protocol =
        format!("Hierarchical(clients_per_round: 2, edge_rounds: 1, edges: [{}, {}])", edge("here"), edge("there"));
    let mix = r#"mix: [(share: 1, device: "quick", link: "home", region: "here")],"#;
    let text = scenario("FedAvg()", &protocol);
    assert!(text.contains(mix));
    let both =
        format!("{} {}", mix.replace("],", ","), r#"(share: 1, device: "quick", link: "home", region: "there")],"#);
    world.write("scenario.ron", &text.replace(mix, &both));
    world.fedreplay(&["run", "scenario.ron", "--out", "run", "--store", "store"]).succeeded();
    let recorded = Recorded::read(&world.path("run"), &world.path("store"));
    let mut of_server = 0;
    for round in 0..recorded.rounds.num_rows() {
        if whole(&recorded.rounds, "aggregator", round) > 0 {
            recorded.check_round(round, false);
            continue;
        }
        let merged = recorded.rounds["merged_versions"].as_string::<i32>().value(round);
        if merged.split(' ').count() > 1 {
            let total = optional(&recorded.rounds, "aggregation_error", round).expect("an error");
            assert!(total > 0.0, "two edges have other models");
            of_server += 1;
        }
    }
    assert!(of_server > 0);
}

#[test]
fn neither_clients_alone_nor_private_or_robust_rounds_nor_plans_have_an_error() {
    let world = World::new();
    world.write("alone.ron", &scenario("Local", PROTOCOLS[0].1));
    let private =
        "privacy: UserLevel(clipping: Fixed(norm: 0.1), noise_multiplier: 1.0, delta: 0.01),\n    evaluation:";
    let text = scenario("FedAvg(weights: Uniform)", PROTOCOLS[0].1).replace("evaluation:", private);
    world.write("private.ron", &text);
    let text = self::scenario("FedAvg()", PROTOCOLS[0].1);
    world.write("robust.ron", &text.replace("server: (", "server: (aggregation: Median, "));
    world.write("kept.ron", &text.replace("algorithm:", "federated_lora: FedSaLora, algorithm:"));
    let runs = ["alone.ron", "private.ron", "robust.ron", "kept.ron"].map(|scenario| (scenario, "run"));
    for (scenario, command) in runs.into_iter().chain([("private.ron", "plan")]) {
        let out = format!("{command}-{scenario}");
        world.fedreplay(&[command, scenario, "--out", &out]).succeeded();
        let rounds = read_table(&world.path(&out), "rounds").expect("a table");
        assert_eq!(rounds["aggregation_error"].null_count(), 2, "{out}");
        assert_eq!(read_table(&world.path(&out), "aggregation").expect("a table").num_rows(), 0, "{out}");
    }
}
