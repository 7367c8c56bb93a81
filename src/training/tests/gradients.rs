//! The explicit backward pass against autograd on the textbook form of the model, in f64.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::*;
use crate::model::Folder;
use crate::test_support::reference_model::{Pairs, ReferenceModel, Weights};
use crate::training::engine::job::{AdamVariant, Optimizer};
use crate::training::{Accumulation, Status};

/// All weights of a folder in f64.
fn weights(folder: &Path) -> (Config, Weights) {
    let config = Folder::open(folder).unwrap().config().clone();
    let named = Tensor::read_safetensors(folder.join("model.safetensors")).unwrap();
    (config, named.into_iter().map(|(name, tensor)| (name, tensor.to_kind(Kind::Double))).collect())
}

fn pairs(adapter: &Adapter) -> Pairs {
    let leaf = |range: &std::ops::Range<usize>, rows: usize| {
        let columns = range.len() / rows;
        Tensor::from_slice(&adapter.values[range.clone()])
            .to_kind(Kind::Double)
            .view([rows as i64, columns as i64])
            .set_requires_grad(true)
    };
    let layout = &adapter.layout;
    let modules = layout.modules.iter().zip(layout.ranges());
    modules
        .map(|(m, (a, b))| (m.path.clone(), (leaf(&a, layout.rank), leaf(&b, m.out_features), layout.scale())))
        .collect()
}

/// Sum of the losses of a row's targets.
fn row_loss(model: &ReferenceModel, sample: &Sample) -> Tensor {
    let ids: Vec<i64> = sample.ids.iter().map(|&id| i64::from(id)).collect();
    let logits = model.logits(&Tensor::from_slice(&ids).unsqueeze(0)).unwrap().squeeze_dim(0);
    let log = logits.log_softmax(-1, None::<Kind>);
    let picked = sample.targets.iter().cloned().flatten().map(|p| log.get(i64::from(p) - 1).get(ids[p as usize]).neg());
    picked.reduce(|sum, nats| sum + nats).expect("the row has targets")
}

/// Gradients of the mean loss over all targets, in the adapter's layout.
fn gradient(model: &ReferenceModel, adapter: &Adapter, samples: &[Arc<Sample>]) -> (f64, Vec<f64>) {
    let count: usize = samples.iter().flat_map(|s| &s.targets).map(|r| r.len()).sum();
    let total = samples.iter().map(|s| row_loss(model, s)).reduce(|a, b| a + b).unwrap() / count as f64;
    let leaves: Vec<&Tensor> =
        adapter.layout.modules.iter().flat_map(|m| [&model.pairs[&m.path].0, &model.pairs[&m.path].1]).collect();
    let gradients = Tensor::run_backward(&[&total], &leaves, false, false);
    let flat = gradients.iter().flat_map(|g| Vec::<f64>::try_from(g.flatten(0, -1)).unwrap()).collect();
    (f64::try_from(total).unwrap(), flat)
}

fn largest_error(found: &[f64], expected: &[f64]) -> f64 {
    let most = expected.iter().fold(0.0f64, |most, v| most.max(v.abs()));
    found.iter().zip(expected).fold(0.0f64, |worst, (a, b)| worst.max((a - b).abs())) / most
}

/// Loss and gradient of one step by the engine: SGD without clipping moves by the gradient times the rate, and the rate is
/// large enough for the start to vanish in the rounding of the result to f32.
fn engine_gradient(trainer: &Trainer, adapter: &Arc<Adapter>, samples: &[Arc<Sample>]) -> (f64, Vec<f64>) {
    const RATE: f64 = 1e6;
    let hyper =
        Hyper { optimizer: Optimizer::Sgd { momentum: 0.0 }, learning_rate: RATE, clip_norm: None, ..Hyper::default() };
    let outcome = trainer.train(&[job(adapter.clone(), vec![vec![samples.to_vec()]], hyper)]).unwrap().remove(0);
    let change =
        outcome.adapter.values.iter().zip(&adapter.values).map(|(a, b)| (f64::from(*b) - f64::from(*a)) / RATE);
    (outcome.losses[0], change.collect())
}

fn rows(config: &Config) -> Vec<Arc<Sample>> {
    vec![sample(config, 23, 9, 1), sample(config, 23, 4, 2), sample(config, 6, 1, 3)]
}

/// The adapter's master values are f64 in F64, but travel as f32: hence 3e-7 of the largest gradient, not 1e-12.
#[test]
fn loss_and_gradients_agree_with_autograd_for_every_family() {
    for config in configs() {
        let folder = tempfile::tempdir().unwrap();
        write_model(folder.path(), &config);
        let load = |precision| {
            Trainer::load(folder.path(), precision, Device::Cpu, &lora(&["all-linear"]), &Numerics::default()).unwrap()
        };
        let (config, weights) = weights(folder.path());
        let samples = rows(&config);
        // Gemma 3 norms queries and keys by head, which carries the rounding of bf16 further than elsewhere.
        let bf16 = if config.architecture == Architecture::Gemma3 { 1.5e-1 } else { 6e-2 };
        for (precision, tolerance) in [(Precision::F64, 3e-7), (Precision::F32, 1e-5), (Precision::Bf16, bf16)] {
            let trainer = load(precision);
            let adapter = adapter(&trainer, 3);
            let pairs = pairs(&adapter);
            let model = ReferenceModel { config: &config, weights: &weights, pairs: &pairs };
            let (loss, expected) = gradient(&model, &adapter, &samples);
            let (found_loss, found) = engine_gradient(&trainer, &adapter, &samples);
            let name = config.architecture;
            assert!((found_loss - loss).abs() < tolerance * loss, "{name:?} {precision:?}: {found_loss} {loss}");
            for (tensor, _, range) in adapter.layout.tensors() {
                let error = largest_error(&found[range.clone()], &expected[range]);
                assert!(error < tolerance, "{name:?} {precision:?} {tensor}: {error}");
            }
        }
    }
}

#[test]
fn a_subset_of_layers_and_modules_gets_the_same_gradients() {
    let config = Config { layers: 3, ..configs().remove(0) };
    for targets in
        [&["layers.1.self_attn.v_proj"][..], &["layers.2.mlp.down_proj", "layers.1.mlp.gate_proj"], &["o_proj"]]
    {
        let folder = tempfile::tempdir().unwrap();
        write_model(folder.path(), &config);
        let trainer =
            Trainer::load(folder.path(), Precision::F64, Device::Cpu, &lora(targets), &Numerics::default()).unwrap();
        let (config, weights) = weights(folder.path());
        let adapter = adapter(&trainer, 3);
        let pairs = pairs(&adapter);
        let model = ReferenceModel { config: &config, weights: &weights, pairs: &pairs };
        let (_, expected) = gradient(&model, &adapter, &rows(&config));
        let (_, found) = engine_gradient(&trainer, &adapter, &rows(&config));
        let error = largest_error(&found, &expected);
        assert!(error < 3e-7, "{targets:?}: {error}");
    }
}

/// PyTorch's AdamW with clipping, written out on plain numbers.
#[test]
fn ten_steps_of_adamw_follow_the_published_rule() {
    for variant in [AdamVariant::PyTorch, AdamVariant::Transformers] {
        let config = configs().remove(0);
        let folder = tempfile::tempdir().unwrap();
        write_model(folder.path(), &config);
        let trainer = Trainer::load(
            folder.path(),
            Precision::F64,
            Device::Cpu,
            &lora(&["q_proj", "v_proj"]),
            &Numerics::default(),
        )
        .unwrap();
        let (config, weights) = weights(folder.path());
        let start = adapter(&trainer, 3);
        let (beta1, beta2, eps, weight_decay, rate, clip) = (0.9, 0.99, 1e-6, 0.01, 3e-3, 0.05);
        let optimizer = Optimizer::AdamW { beta1, beta2, eps, weight_decay, variant };
        let hyper = Hyper { optimizer, learning_rate: rate, clip_norm: Some(clip), ..Hyper::default() };
        let samples = rows(&config);
        // Two micro-batches of unequal size: weighted per token they are one batch.
        let step = vec![samples[..1].to_vec(), samples[1..].to_vec()];
        let outcome = trainer.train(&[job(start.clone(), vec![step; 10], hyper)]).unwrap().remove(0);

        let mut values: Vec<f64> = start.values.iter().map(|&v| f64::from(v)).collect();
        let (mut m, mut v) = (vec![0.0; values.len()], vec![0.0; values.len()]);
        for count in 1..=10 {
            let now = Adapter::new(start.layout.clone(), values.iter().map(|&v| v as f32).collect());
            let pairs = pairs(&now);
            let model = ReferenceModel { config: &config, weights: &weights, pairs: &pairs };
            let (loss, gradient) = gradient(&model, &now, &samples);
            let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
            assert!((loss - outcome.losses[count - 1]).abs() < 1e-6);
            assert!((norm / outcome.grad_norms[count - 1] - 1.0).abs() < 1e-5 && norm > clip);
            let (c1, c2) = (1.0 - f64::powi(beta1, count as i32), 1.0 - f64::powi(beta2, count as i32));
            for i in 0..values.len() {
                let g = gradient[i] * clip / norm;
                m[i] = beta1 * m[i] + (1.0 - beta1) * g;
                v[i] = beta2 * v[i] + (1.0 - beta2) * g * g;
                match variant {
                    AdamVariant::PyTorch => {
                        values[i] -= rate * weight_decay * values[i];
                        values[i] -= rate * (m[i] / c1) / ((v[i] / c2).sqrt() + eps);
                    }
                    AdamVariant::Transformers => {
                        values[i] -= rate * c2.sqrt() / c1 * m[i] / (v[i].sqrt() + eps);
                        values[i] -= rate * weight_decay * values[i];
                    }
                }
            }
        }
        let moved: Vec<f64> = values.iter().zip(&start.values).map(|(a, b)| a - f64::from(*b)).collect();
        let found: Vec<f64> =
            outcome.adapter.values.iter().zip(&start.values).map(|(a, b)| f64::from(*a) - f64::from(*b)).collect();
        let apart = moved.iter().zip(&found).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
        let length = moved.iter().map(|a| a * a).sum::<f64>().sqrt();
        assert!(apart / length < 1e-4, "{variant:?}: {}", apart / length);
        assert_eq!(outcome.status, Status::Ok);
    }
}

#[test]
fn micro_batches_are_weighted_as_named() {
    let config = configs().remove(0);
    let trainer = trainer(&config, Precision::F32, &["v_proj"]);
    let start = adapter(&trainer, 3);
    let samples = rows(&config);
    let loss_of = |accumulation, step: super::super::Step| {
        let hyper = Hyper { accumulation, ..Hyper::default() };
        trainer.train(&[job(start.clone(), vec![step], hyper)]).unwrap()[0].losses[0]
    };
    let apart: Vec<f64> =
        [&samples[..1], &samples[1..]].map(|part| loss_of(Accumulation::PerToken, vec![part.to_vec()])).into();
    let split = vec![samples[..1].to_vec(), samples[1..].to_vec()];
    let (first, rest) = (14.0, 24.0);
    let per_token = (apart[0] * first + apart[1] * rest) / (first + rest);
    assert!((loss_of(Accumulation::PerToken, split.clone()) - per_token).abs() < 1e-6);
    assert!((loss_of(Accumulation::PerMicroBatch, split) - (apart[0] + apart[1]) / 2.0).abs() < 1e-6);
    assert!((apart[0] - apart[1]).abs() > 1e-3, "the two weightings could not be told apart");
}

#[test]
fn a_map_of_pairs_names_each_module_once() {
    let config = configs().remove(0);
    let trainer = trainer(&config, Precision::F32, &["all-linear"]);
    let named: BTreeMap<_, _> = pairs(&adapter(&trainer, 1));
    assert_eq!(named.len(), trainer.layout().modules.len());
}
