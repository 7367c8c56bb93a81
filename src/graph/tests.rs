//! Nodes on several workers: evaluations in parts, failures, and counts of the work.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fedreplay_sim::{Purpose, Seed, Stream};

use super::divided::Divided;
use super::divided::{Claimed, NodeInput};
use super::*;
use crate::adapter::Adapter;
use crate::data::{Rows, Sample};
use crate::scenario::UnusableUpdate;
use crate::store::{Digest, Store};
use crate::training::{Hyper, Objective, Trainer, on_tiny_base};

const DPO: Objective = Objective::Dpo { beta: 0.3, reference: None };

/// Returns an adapter that changes the model's output.
fn adapter(trainer: &Trainer) -> Arc<Adapter> {
    let mut adapter = Adapter::initial(trainer.layout(), Seed(1));
    let mut stream = Stream::new(Seed(1), Purpose::SyntheticData, 0);
    for value in &mut adapter.values {
        *value += (stream.unit() as f32 - 0.5) * 0.1;
    }
    Arc::new(adapter)
}

/// Returns samples of many lengths.
fn samples(count: u64) -> Vec<Sample> {
    let mut samples = Vec::new();
    for number in 0..count {
        let mut stream = Stream::new(Seed(2), Purpose::SyntheticData, number);
        let length = 20 + stream.below(60) as u32;
        let ids = (0..length).map(|_| stream.below(97) as u32).collect();
        samples.push(Sample { ids, targets: std::iter::once(length / 2..length).collect() });
    }
    samples
}

/// Returns two groups of rows that fill more than one part together.
fn groups() -> Vec<Arc<Rows>> {
    let mut first = samples(75);
    let second = first.split_off(31);
    vec![Arc::new(Rows::new(first)), Arc::new(Rows::new(second))]
}

/// Returns pairs, an odd number of which fills a part.
fn pairs() -> Vec<Arc<Rows>> {
    let samples = samples(90);
    let pairs = samples.chunks_exact(2).map(|two| [two[0].clone(), two[1].clone()]);
    vec![Arc::new(Rows::of_pairs(pairs.collect()))]
}

/// Returns the result of an evaluation on this many workers. The store caches log-probabilities of the reference model.
fn evaluated(
    trainer: &Trainer,
    store: &Store,
    workers: usize,
    groups: &[Arc<Rows>],
    objective: Objective,
) -> Result<Value, GraphError> {
    let none = Store::none();
    let stop = AtomicBool::new(false);
    let compute = Compute::new(trainer, UnusableUpdate::EndRun, store, &stop);
    let executor = Executor::new(std::slice::from_ref(&compute), &none, &stop, 1);
    executor.run(workers, || {
        let model = executor.add(Node::Given { adapter: adapter(trainer) });
        let evaluation = executor.add(Node::Evaluate { model, groups: groups.to_vec(), objective });
        executor.demand(evaluation);
        executor.take(evaluation)
    })
}

fn losses(value: &Value) -> &Evaluated {
    match value {
        Value::Evaluated(evaluated) => evaluated,
        _ => panic!("an evaluation gives losses"),
    }
}

#[test]
fn an_evaluation_has_the_same_bits_on_any_number_of_workers() {
    let trainer = on_tiny_base();
    let none = Store::none();
    for (groups, objective) in [(groups(), Objective::Sft), (pairs(), DPO)] {
        let one = evaluated(&trainer, &none, 1, &groups, objective).unwrap();
        for workers in [2, 3] {
            let more = evaluated(&trainer, &none, workers, &groups, objective).unwrap();
            assert_eq!(losses(&more), losses(&one), "{workers} workers, {objective:?}");
        }
    }
}

#[test]
fn an_evaluation_in_parts_has_the_bits_of_one_in_whole() {
    let trainer = on_tiny_base();
    let none = Store::none();
    let groups = groups();
    let value = evaluated(&trainer, &none, 2, &groups, Objective::Sft).unwrap();
    for (rows, found) in groups.iter().zip(&losses(&value).groups) {
        let whole = trainer.evaluate(&adapter(&trainer), &rows.samples).unwrap();
        let nats: f64 = whole.iter().map(|loss| loss.nats).sum();
        assert_eq!(found.loss, Some(nats / rows.target_tokens() as f64));
        assert_eq!(found.rows, rows.count() as u64);
    }
}

#[test]
fn the_order_in_which_parts_are_computed_changes_nothing() {
    let trainer = on_tiny_base();
    let none = Store::none();
    let stop = AtomicBool::new(false);
    let compute = Compute::new(&trainer, UnusableUpdate::EndRun, &none, &stop);
    let node = Node::Evaluate { model: NodeId::new(0), groups: pairs(), objective: DPO };
    let model = Value::Control(adapter(&trainer));
    let expected = compute.compute(&node, std::slice::from_ref(&model), &WorkCounters::default()).unwrap();

    let evaluation = compute.divide(&node, std::slice::from_ref(&model)).unwrap();
    let mut rows = 0;
    for part in 0..evaluation.part_count() {
        rows += evaluation.rows_of_part(part);
    }
    assert_eq!(rows, 45, "a pair that lies in two parts counts once");
    let inputs = Some(vec![NodeInput::Value(model)]);
    let mut divided = Divided::default();
    divided.push(Claimed { id: NodeId::new(1), node, key: crate::store::key_of("test", &()), inputs }, evaluation);
    let mut parts = Vec::new();
    while let Some(part) = divided.take_part() {
        parts.push(part);
    }
    assert!(parts.len() > 2, "there are {} parts", parts.len());
    let mut done = None;
    for part in parts.iter().rev() {
        assert!(done.is_none(), "it ends with its last part");
        let scores = compute.evaluate_part(&part.evaluation, part.index).unwrap();
        done = divided.complete_part(part, scores, 0.5);
    }
    let mut done = done.expect("all parts are there");
    assert_eq!(losses(&done.value()), losses(&expected));
    assert_eq!(done.seconds, 0.5 * parts.len() as f64);
}

#[test]
fn a_row_that_does_not_fit_the_model_ends_the_evaluation_and_is_named() {
    let trainer = on_tiny_base();
    let none = Store::none();
    let mut samples = samples(75);
    samples[70].ids[3] = u32::MAX;
    let groups = [Arc::new(Rows::new(samples))];
    let error = evaluated(&trainer, &none, 2, &groups, Objective::Sft).unwrap_err().to_string();
    assert!(error.contains("row 70"), "{error}");
}

#[test]
fn an_error_in_a_part_ends_the_evaluation_with_it() {
    let trainer = on_tiny_base();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    // The log-probabilities of the reference model cannot be stored.
    let contents = folder.path().join("contents");
    fs::remove_dir_all(&contents).unwrap();
    fs::write(&contents, "no folder").unwrap();
    let error = evaluated(&trainer, &store, 3, &pairs(), DPO).unwrap_err();
    assert!(matches!(error, GraphError::Store(_)), "{error}");
}

#[test]
fn an_evaluation_that_is_asked_to_stop_computes_no_further_part() {
    let trainer = on_tiny_base();
    let none = Store::none();
    let stop = AtomicBool::new(true);
    let compute = Compute::new(&trainer, UnusableUpdate::EndRun, &none, &stop);
    let executor = Executor::new(std::slice::from_ref(&compute), &none, &stop, 1);
    let found = executor.run(2, || {
        let model = executor.add(Node::Given { adapter: adapter(&trainer) });
        let evaluation = executor.add(Node::Evaluate { model, groups: groups(), objective: Objective::Sft });
        executor.demand(evaluation);
        executor.take(evaluation)
    });
    assert!(matches!(found, Err(GraphError::Interrupted)));
    assert_eq!(executor.counters().counts().done, WorkAmount::default());
}

/// A benchmark that panics.
#[derive(Debug)]
struct Panicking;

impl ScheduledEvaluation for Panicking {
    fn key(&self) -> Digest {
        Digest::of(b"panicking")
    }

    fn evaluate(&self, _: &EvalResources, _: &Arc<Adapter>) -> Result<Vec<u8>, GraphError> {
        panic!("this benchmark panics")
    }

    fn is_result(&self, _: &[u8]) -> bool {
        true
    }
}

#[test]
fn a_panic_ends_the_waiting_for_an_evaluation_under_way() {
    let trainer = on_tiny_base();
    let none = Store::none();
    let stop = AtomicBool::new(false);
    let compute = Compute::new(&trainer, UnusableUpdate::EndRun, &none, &stop);
    let executor = Executor::new(std::slice::from_ref(&compute), &none, &stop, 1);
    let run = || {
        executor.run(2, || {
            let model = executor.add(Node::Given { adapter: adapter(&trainer) });
            let benchmark = executor.add(Node::Benchmark { model, benchmark: Arc::new(Panicking) });
            let evaluation = executor.add(Node::Evaluate { model, groups: groups(), objective: Objective::Sft });
            executor.demand(benchmark);
            executor.demand(evaluation);
            let _ = executor.take(benchmark);
            executor.take(evaluation)
        })
    };
    assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
}

/// A benchmark whose result is the letters `ab`.
#[derive(Debug)]
struct Letters;

impl ScheduledEvaluation for Letters {
    fn key(&self) -> Digest {
        Digest::of(b"letters")
    }

    fn evaluate(&self, _: &EvalResources, _: &Arc<Adapter>) -> Result<Vec<u8>, GraphError> {
        Ok(b"ab".to_vec())
    }

    fn is_result(&self, bytes: &[u8]) -> bool {
        bytes == b"ab"
    }
}

#[test]
fn a_stored_value_that_the_node_cannot_have_is_computed_again() {
    let trainer = on_tiny_base();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let stop = AtomicBool::new(false);
    let compute = Compute::new(&trainer, UnusableUpdate::EndRun, &store, &stop);
    let of_another_kind = Value::Kept(adapter(&trainer));
    for stored in [Value::BenchmarkResult(Arc::new(b"abc".to_vec())), of_another_kind] {
        let executor = Executor::new(std::slice::from_ref(&compute), &store, &stop, 1);
        let model = executor.add(Node::Given { adapter: adapter(&trainer) });
        let result = executor.add(Node::Benchmark { model, benchmark: Arc::new(Letters) });
        let key = executor.recorded(0..2)[1].key;
        store.put(key, &stored.to_bytes()).unwrap();
        let value = executor.run(1, || {
            executor.demand(result);
            executor.take(result).unwrap()
        });
        assert!(matches!(&value, Value::BenchmarkResult(bytes) if **bytes == b"ab"), "{value:?}");
    }
}

fn training(client: u32) -> TrainingOrder {
    let rows = Arc::new(Rows::new(samples(4)));
    TrainingOrder {
        client: Some(client),
        rows,
        steps: vec![vec![vec![0, 1], vec![2]], vec![vec![3]]],
        hyper: Hyper::default(),
        objective: Objective::Sft,
        correction: None,
        seed: Seed(3),
        stream: 0,
        keeps_moments: false,
    }
}

#[test]
fn counts_say_what_is_wanted_and_what_is_done() {
    let trainer = on_tiny_base();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let stop = AtomicBool::new(false);
    let compute = Compute::new(&trainer, UnusableUpdate::EndRun, &store, &stop);
    let run = || {
        let executor = Executor::new(std::slice::from_ref(&compute), &store, &stop, 1);
        let base = executor.add(Node::Given { adapter: adapter(&trainer) });
        let train = |client| Node::Train {
            base,
            control: None,
            moments: None,
            anchor: None,
            rank: None,
            training: training(client),
        };
        // The second has the key of the first, so its result is found.
        let trainings = [executor.add(train(0)), executor.add(train(1))];
        let node = Node::Evaluate { model: trainings[0], groups: groups(), objective: Objective::Sft };
        let evaluation = executor.add(node);
        for id in trainings.into_iter().chain([evaluation]) {
            executor.demand(id);
        }
        let wanted = executor.counters().counts().wanted;
        executor.run(2, || {
            for id in trainings.into_iter().chain([evaluation]) {
                executor.take(id).unwrap();
            }
        });
        assert!(executor.counters().under_way().is_empty());
        (wanted, executor.counters().counts())
    };
    let (wanted, counts) = run();
    assert_eq!(wanted.trainings, 2);
    let training_tokens = Rows::new(samples(4)).tokens();
    let expected = WorkAmount {
        trainings: 1,
        trained_tokens: training_tokens,
        evaluated_rows: 75,
        evaluated_tokens: Rows::new(samples(75)).tokens(),
        questions: 0,
    };
    assert_eq!(counts, WorkCounts { done: expected, wanted: expected });
    assert_eq!(wanted, WorkAmount { trainings: 2, trained_tokens: 2 * training_tokens, ..expected });

    let (wanted, counts) = run();
    assert_eq!(wanted, WorkAmount::default(), "what is in the store is not wanted");
    assert_eq!(counts, WorkCounts::default());
    assert!(!stop.load(Ordering::Relaxed));
}
