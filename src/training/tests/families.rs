//! Every family against Transformers and PEFT: tests/reference/make_families.py has made the numbers on small random
//! models, whose weights are a formula of their names.

use std::collections::BTreeMap;

use serde_json::Value;
use tch::{Kind, Tensor};

use super::*;
use crate::adapter::peft;
use crate::model::quantized::{Int8, Nf4};
use crate::model::{Arithmetic, TensorSpec, tensor_specs};
use crate::training::{Decoder, Optimizer, Piece};

/// What Transformers computes for one family.
#[derive(serde::Deserialize)]
struct Case {
    name: String,
    config: Value,
    targets: Vec<String>,
    rows: Vec<Row>,
    /// Logits at positions 0, 6 and 20 of the first row.
    logits: Vec<Vec<f64>>,
    loss: f64,
    /// For each matrix the sum of its gradient times fixed factors, and the gradient's norm.
    gradients: BTreeMap<String, [f64; 2]>,
    prompt: Vec<u32>,
    tokens: Vec<u32>,
}

#[derive(serde::Deserialize)]
struct Row {
    ids: Vec<u32>,
    first: u32,
}

/// Precisions, and the allowed distance as a part of the largest value.
const PRECISIONS: [(Precision, f64); 2] = [(Precision::F64, 1e-9), (Precision::F32, 2e-5)];

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../../../fixtures/reference/families.json")).unwrap()
}

/// The checksum of zlib.
fn crc32(bytes: &[u8]) -> u32 {
    let mut sum = !0u32;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg());
        }
    }
    !sum
}

/// The formula of the script: values of `count` places of a name, within `spread` of `center`.
fn values(name: &str, count: usize, spread: f64, center: f64) -> Vec<f64> {
    let start = u64::from(crc32(name.as_bytes())) << 32;
    let mut values = Vec::with_capacity(count);
    for place in 0..count as u64 {
        let mut word = start.wrapping_add(place.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let unit = ((word ^ (word >> 31)) >> 40) as f64 / 8_388_608.0 - 1.0;
        values.push(f64::from((center + spread * unit) as f32));
    }
    values
}

fn singles(values: Vec<f64>) -> Vec<f32> {
    values.into_iter().map(|value| value as f32).collect()
}

impl Case {
    fn config(&self) -> Config {
        Config::parse(self.config.to_string().as_bytes()).unwrap_or_else(|reason| panic!("{}: {reason}", self.name))
    }

    /// The weights of a tensor of the base.
    fn weights(&self, spec: &TensorSpec) -> Vec<f32> {
        let count = spec.shape.iter().product();
        if spec.shape.len() == 2 {
            return singles(values(&spec.name, count, 0.35, 0.0));
        }
        let is_around_one = spec.name.contains("norm") && !self.config().variant.norms_from_one;
        singles(values(&spec.name, count, 0.3, if is_around_one { 1.0 } else { 0.0 }))
    }

    /// Writes the folder with weights after `edit`, and config.json as Transformers was given it.
    fn write(&self, folder: &Path, edit: impl Fn(&TensorSpec, Vec<f32>) -> Vec<f32>) {
        let config = self.config();
        let mut tensors = Vec::new();
        for spec in tensor_specs(&config) {
            let values = edit(&spec, self.weights(&spec));
            tensors.push((spec.name, spec.shape, values));
        }
        random::write_values(folder, &config, &tensors).unwrap();
        std::fs::write(folder.join("config.json"), self.config.to_string()).unwrap();
    }

    fn trainer(&self, precision: Precision, edit: impl Fn(&TensorSpec, Vec<f32>) -> Vec<f32>) -> Trainer {
        let folder = tempfile::tempdir().unwrap();
        self.write(folder.path(), edit);
        let lora = LoraSpec {
            rank: 3,
            alpha: 6.0,
            dropout: 0.0,
            target_modules: self.targets.clone(),
            rank_stabilized: false,
            has_core: false,
        };
        Trainer::load(folder.path(), precision, Device::Cpu, &lora, &Numerics::default()).unwrap()
    }

    fn adapter(&self, trainer: &Trainer) -> Arc<Adapter> {
        let mut adapter = Adapter::zeros(trainer.layout());
        for (name, shape, range) in trainer.layout().tensors() {
            adapter.values[range].copy_from_slice(&singles(values(&name, shape[0] * shape[1], 0.25, 0.0)));
        }
        Arc::new(adapter)
    }

    fn samples(&self) -> Vec<Arc<Sample>> {
        let sample = |row: &Row| {
            let targets = std::iter::once(row.first..row.ids.len() as u32).collect();
            Arc::new(Sample { ids: row.ids.clone(), targets })
        };
        self.rows.iter().map(sample).collect()
    }
}

/// Calls `check` with every family in every precision.
fn for_all(check: impl Fn(&Case, &Trainer, f64)) {
    for case in cases() {
        for (precision, tolerance) in PRECISIONS {
            check(&case, &case.trainer(precision, |_, values| values), tolerance);
        }
    }
}

fn assert_close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let most = expected.iter().fold(0.0f64, |most, value| most.max(value.abs()));
    let apart = found.iter().zip(expected).fold(0.0f64, |most, (a, b)| most.max((a - b).abs()));
    assert!(apart <= tolerance * most, "{what}: {apart} apart where the largest is {most}");
}

#[test]
fn logits_are_those_of_transformers() {
    for_all(|case, trainer, tolerance| {
        let logits = trainer.logits(&case.adapter(trainer), &case.rows[0].ids).unwrap().to_kind(Kind::Double);
        for (position, expected) in [0, 6, 20].into_iter().zip(&case.logits) {
            let found = Vec::<f64>::try_from(logits.get(position)).unwrap();
            assert_close(&format!("{} at {position}", case.name), &found, expected, tolerance);
        }
    });
}

#[test]
fn losses_and_gradients_of_every_matrix_are_those_of_transformers() {
    const RATE: f64 = 1e6;
    for_all(|case, trainer, tolerance| {
        let start = case.adapter(trainer);
        let optimizer = Optimizer::Sgd { momentum: 0.0 };
        let hyper = Hyper { optimizer, learning_rate: RATE, clip_norm: None, ..Hyper::default() };
        let jobs = [job(start.clone(), vec![vec![case.samples()]], hyper)];
        let runner = trainer.run(&jobs, &std::sync::atomic::AtomicU64::new(0)).unwrap().remove(0);
        let after = runner.parameters().exact_values().unwrap();
        let outcome = runner.finish().unwrap();
        assert_close(&case.name, &outcome.losses, &[case.loss], tolerance);
        let layout = trainer.layout();
        assert_eq!(layout.tensors().len(), case.gradients.len(), "{}", case.name);
        for (name, shape, range) in layout.tensors() {
            let signs = values(&format!("signs of {name}"), shape[0] * shape[1], 1.0, 0.0);
            let mut sum = 0.0;
            let mut squares = 0.0;
            for (place, sign) in range.zip(signs) {
                let gradient = (f64::from(start.values[place]) - after[place]) / RATE;
                sum += gradient * sign;
                squares += gradient * gradient;
            }
            let [expected_sum, norm] = case.gradients[&name];
            let name = format!("{} {name}", case.name);
            assert!((squares.sqrt() - norm).abs() <= 10.0 * tolerance * norm, "{name}: {} for {norm}", squares.sqrt());
            assert!((sum - expected_sum).abs() <= 10.0 * tolerance * norm, "{name}: {sum} for {expected_sum}");
        }
    });
}

#[test]
fn greedy_tokens_are_those_of_generate() {
    for_all(|case, trainer, _| {
        let mut decoder = Decoder::new(trainer, &[case.adapter(trainer)], 1).unwrap();
        decoder.read(&[Piece { slot: 0, adapter: Some(0), ids: &case.prompt[..3] }]).unwrap();
        let mut next = case.prompt[3..].to_vec();
        for expected in &case.tokens {
            let logits = decoder.read(&[Piece { slot: 0, adapter: Some(0), ids: &next }]).unwrap();
            let logits = logits.of(0);
            next = vec![(0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u32];
            assert_eq!(next, [*expected], "{}", case.name);
        }
    });
}

/// Rounds the linear modules of layers, as the file has them, and returns what the codes stand for.
fn rounded(spec: &TensorSpec, values: Vec<f32>, round: impl Fn(&Tensor) -> Tensor) -> Vec<f32> {
    if spec.shape.len() != 2 || !spec.name.contains(".layers.") {
        return values;
    }
    let weight = Tensor::from_slice(&values).view([spec.shape[0] as i64, spec.shape[1] as i64]);
    Vec::<f32>::try_from(round(&weight).flatten(0, -1)).unwrap()
}

#[test]
fn quantized_weights_compute_what_their_codes_stand_for() {
    let int8 = |weight: &Tensor| Int8::round(weight).unwrap().expanded(Kind::Float).unwrap();
    let nf4 = |weight: &Tensor| Nf4::round(weight, false).unwrap().expanded(Kind::Float).unwrap();
    for case in cases() {
        let expanded = [
            case.trainer(Precision::F32, |spec, values| rounded(spec, values, int8)),
            case.trainer(Precision::F32, |spec, values| rounded(spec, values, nf4)),
        ];
        let held =
            [Precision::Int8Held(Arithmetic::F32), Precision::Nf4 { arithmetic: Arithmetic::F32, double: false }];
        for (precision, expanded) in held.into_iter().zip(expanded) {
            let held = case.trainer(precision, |_, values| values);
            let losses = [&held, &expanded].map(|trainer| {
                let losses = trainer.evaluate(&case.adapter(trainer), &case.samples()).unwrap();
                losses.iter().map(|loss| loss.nats).collect::<Vec<f64>>()
            });
            assert_close(&format!("{} {precision:?}", case.name), &losses[0], &losses[1], 1e-6);
        }
    }
}

/// The files have PEFT's names, which those of the gradients show, and come back in the order of the trainer.
#[test]
fn an_adapter_written_for_peft_reads_back_as_it_was() {
    for case in cases() {
        let trainer = case.trainer(Precision::F32, |_, values| values);
        let adapter = case.adapter(&trainer);
        let folder = tempfile::tempdir().unwrap();
        peft::write_folder(folder.path(), &adapter, &peft::Notes::default()).unwrap();
        assert_eq!(peft::read_folder(folder.path()).unwrap().adapter, *adapter, "{}", case.name);
    }
}

#[test]
fn the_smallest_lora_fits_every_family() {
    for case in cases() {
        let config = case.config();
        assert_eq!(LoraSpec::smallest(&config).layout(&config).unwrap().modules.len(), config.layers, "{}", case.name);
    }
}

#[test]
fn a_written_config_reads_back_as_the_same_family() {
    for config in cases().iter().map(Case::config).chain(configs()) {
        assert_eq!(Config::parse(config.to_json().to_string().as_bytes()), Ok(config));
    }
}
