//! Adapters with a matrix R between their factors, against torch's autograd and NumPy's singular value decomposition:
//! fixtures/reference/fed_sb.json, which tests/reference/make_fed_sb.py wrote.

use std::sync::atomic::{AtomicBool, AtomicU64};

use serde_json::Value;

use super::*;
use crate::adapter::{Factors, Layout};
use crate::algorithm::adapter_of_first_step;
use crate::training::engine::job::Optimizer;

/// Computes an initial adapter that nothing stops.
fn first_step(layout: &Arc<Layout>, gradients: &[Vec<f32>], step_size: f64) -> Adapter {
    adapter_of_first_step(layout, gradients, step_size, &AtomicBool::new(false)).unwrap()
}

const CASES: [&str; 2] = ["mistral", "llama_linear"];

struct Case {
    trainer: Trainer,
    expected: Value,
    rows: Vec<Arc<Sample>>,
}

impl Case {
    fn load(name: &str, precision: Precision) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/reference");
        let read =
            |path: &str| -> Value { serde_json::from_slice(&std::fs::read(folder.join(path)).unwrap()).unwrap() };
        let case = read(&format!("{name}/case.json"));
        let lora = LoraSpec {
            rank: case["lora"]["r"].as_u64().unwrap() as usize,
            alpha: case["lora"]["alpha"].as_f64().unwrap(),
            dropout: 0.0,
            target_modules: serde_json::from_value(case["lora"]["target_modules"].clone()).unwrap(),
            rank_stabilized: false,
            has_core: true,
        };
        let model = folder.join(name).join("model");
        let trainer = Trainer::load(&model, precision, Device::Cpu, &lora, &Numerics::default()).unwrap();
        let mut rows = Vec::new();
        for row in case["rows"].as_array().unwrap() {
            let ids: Vec<u32> = serde_json::from_value(row["ids"].clone()).unwrap();
            let response: Vec<u8> = serde_json::from_value(row["response"].clone()).unwrap();
            let targets = (1..ids.len()).filter(|&p| response[p] == 1).map(|p| p as u32..p as u32 + 1).collect();
            rows.push(Arc::new(Sample { ids, targets }));
        }
        Self { trainer, expected: read("fed_sb.json")[name].clone(), rows }
    }

    fn batches(&self) -> Vec<Vec<Arc<Sample>>> {
        let numbers: Vec<Vec<usize>> = serde_json::from_value(self.expected["batches"].clone()).unwrap();
        let batch = |places: Vec<usize>| places.into_iter().map(|place| self.rows[place].clone()).collect();
        numbers.into_iter().map(batch).collect()
    }

    fn modules(&self) -> &[Value] {
        self.expected["modules"].as_array().unwrap()
    }

    /// Returns B, A and R that the fixture's gradients of R are of.
    fn varied_adapter(&self) -> Arc<Adapter> {
        let layout = self.trainer.layout();
        let varied =
            |count: usize, start: usize| (0..count).map(move |n| (((n * 37 + start) % 101) as f32 - 50.0) / 128.0);
        let mut values = Vec::new();
        for (number, module) in layout.modules.iter().enumerate() {
            values.extend(varied(layout.rank * module.in_features, 3 + number));
            values.extend(varied(module.out_features * layout.rank, number));
            values.extend(varied(layout.rank * layout.rank, 7 + number));
        }
        Arc::new(Adapter::new(layout, values))
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    serde_json::from_value(value.clone()).unwrap()
}

#[track_caller]
fn assert_close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    let most = expected.iter().fold(0.0f64, |most, value| most.max(value.abs()));
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= tolerance * most, "{found} for {expected} of up to {most}");
    }
}

/// Returns s B R A of a module, row-major.
fn product(adapter: &Adapter, module: usize) -> Vec<f64> {
    let layout: &Layout = &adapter.layout;
    let (a, b) = layout.ranges()[module].clone();
    let core = layout.core_ranges()[module].clone();
    let [inputs, rank] = [layout.modules[module].in_features, layout.rank];
    let value = |place: usize| f64::from(adapter.values[place]);
    let mut product = Vec::new();
    for output in 0..layout.modules[module].out_features {
        for input in 0..inputs {
            let mut sum = 0.0;
            for (i, j) in (0..rank).flat_map(|i| (0..rank).map(move |j| (i, j))) {
                let right = value(a.start + j * inputs + input);
                sum += value(b.start + output * rank + i) * value(core.start + i * rank + j) * right;
            }
            product.push(layout.scale() * sum);
        }
    }
    product
}

#[test]
fn the_first_step_is_that_of_autograd_cut_to_the_rank() {
    for (name, precision) in CASES.into_iter().flat_map(|name| [(name, Precision::F32), (name, Precision::F64)]) {
        let case = Case::load(name, precision);
        let gradients = case.trainer.weight_gradients(&case.batches()).unwrap();
        let step_size = case.expected["step_size"].as_f64().unwrap();
        let adapter = first_step(&case.trainer.layout(), &gradients, step_size);
        assert_eq!(adapter.layout.scale(), 3.0, "the scale is not 1");
        for (place, (gradient, module)) in gradients.iter().zip(case.modules()).enumerate() {
            let layout = &adapter.layout;
            assert_eq!(layout.modules[place].path, module["path"].as_str().unwrap());
            let gradient: Vec<f64> = gradient.iter().map(|&value| value.into()).collect();
            let norm = gradient.iter().map(|value| value * value).sum::<f64>().sqrt();
            assert_close(&[norm], &[module["gradient_norm"].as_f64().unwrap()], 1e-6);
            let sum = gradient.iter().sum::<f64>();
            assert!((sum - module["gradient_sum"].as_f64().unwrap()).abs() <= 1e-5 * norm);
            let best: Vec<f64> = module["best_rows"].as_array().unwrap().iter().flat_map(numbers).collect();
            assert_close(&product(&adapter, place)[..best.len()], &best, 1e-6);
            // R is diagonal: the singular values over the scale.
            let core = &adapter.values[layout.core_ranges()[place].clone()];
            let values = numbers(&module["values"]);
            for (at, &found) in core.iter().enumerate() {
                let expected = if at % (layout.rank + 1) == 0 { values[at / layout.rank] / 3.0 } else { 0.0 };
                assert!((f64::from(found) - expected).abs() <= 1e-6 * values[0], "{found} for {expected}");
            }
        }
    }
}

#[test]
fn r_has_the_gradient_of_autograd_and_the_factors_keep_their_bits() {
    for (name, (precision, tolerance)) in
        CASES.into_iter().flat_map(|name| [(name, (Precision::F32, 1e-5)), (name, (Precision::F64, 1e-10))])
    {
        let case = Case::load(name, precision);
        let before = case.varied_adapter();
        let optimizer = Optimizer::Sgd { momentum: 0.0 };
        let rate = 1e3;
        let hyper =
            Hyper { optimizer, learning_rate: rate, clip_norm: None, trains: Factors::Core, ..Hyper::default() };
        let jobs = [job(before.clone(), vec![vec![case.batches().remove(0)]], hyper)];
        let runner = case.trainer.run(&jobs, &AtomicU64::new(0)).unwrap().remove(0);
        let after = runner.parameters().exact_values().unwrap();
        assert_close(&runner.finish().unwrap().losses, &[case.expected["r_loss"].as_f64().unwrap()], tolerance);
        for (core, module) in before.layout.core_ranges().into_iter().zip(case.modules()) {
            let moved = after[core.clone()].iter().zip(&before.values[core]);
            let found: Vec<f64> = moved.map(|(after, before)| (f64::from(*before) - after) / rate).collect();
            assert_close(&found, &numbers(&module["r_gradient"]), tolerance);
        }
        let moved = after.iter().zip(&before.values).map(|(after, before)| after - f64::from(*before));
        let mut frozen: Vec<f64> = moved.collect();
        Factors::ButCore.keep_only(&before.layout, &mut frozen);
        assert!(frozen.iter().all(|&value| value == 0.0), "B and A moved");
        // The loss is that of the adapter with B R in the place of B.
        let folded = before.with_core_in_b();
        let plain = Case::trainer_of(name, precision, &folded.layout);
        let rows = case.batches().concat();
        let nats = |trainer: &Trainer, adapter: &Adapter| -> Vec<f64> {
            trainer.evaluate(adapter, &rows).unwrap().iter().map(|row| row.nats).collect()
        };
        assert_close(&nats(&case.trainer, &before), &nats(&plain, &folded), 1e-5);
    }
}

impl Case {
    /// Returns a trainer of the same modules without R.
    fn trainer_of(name: &str, precision: Precision, layout: &Layout) -> Trainer {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/reference").join(name).join("model");
        let lora = LoraSpec {
            rank: layout.rank,
            alpha: layout.alpha,
            dropout: 0.0,
            target_modules: layout.modules.iter().map(|module| module.path.clone()).collect(),
            rank_stabilized: false,
            has_core: false,
        };
        Trainer::load(&folder, precision, Device::Cpu, &lora, &Numerics::default()).unwrap()
    }
}

#[test]
fn bits_with_r_depend_neither_on_threads_nor_on_company() {
    let config = configs().remove(0);
    for precision in [Precision::F32, Precision::Bf16] {
        let folder = tempfile::tempdir().unwrap();
        write_model(folder.path(), &config);
        let spec = LoraSpec { has_core: true, ..lora(&["all-linear"]) };
        let trainer = Trainer::load(folder.path(), precision, Device::Cpu, &spec, &Numerics::default()).unwrap();
        let row = |length, seed| sample(&config, length, 2, seed);
        let batches = vec![vec![row(60, 1), row(31, 2)], vec![row(64, 3)]];
        let first = |threads| trainer.with_threads(threads, || trainer.weight_gradients(&batches).unwrap());
        let gradients = first(1);
        assert_eq!(gradients, first(4), "{precision:?}");
        let start = Arc::new(first_step(&trainer.layout(), &gradients, 0.01));
        let hyper = Hyper { trains: Factors::Core, dropout: 0.1, ..Hyper::default() };
        let mut jobs = Vec::new();
        for (stream, rows) in [(1, vec![row(60, 4)]), (2, vec![row(17, 5), row(50, 6)]), (3, vec![row(64, 7)])] {
            jobs.push(Job { stream, ..job(start.clone(), vec![vec![rows.clone()], vec![rows]], hyper.clone()) });
        }
        let together = trainer.with_threads(3, || trainer.train(&jobs).unwrap());
        for (job, expected) in jobs.iter().zip(&together) {
            let alone = trainer.train(std::slice::from_ref(job)).unwrap().remove(0);
            assert_eq!(alone.adapter.hash(), expected.adapter.hash(), "{precision:?}");
            assert_ne!(alone.adapter.hash(), start.hash());
        }
    }
}
