//! The engine against Transformers and PEFT on small models of each family: fixtures/reference/README.md says how the
//! numbers were made and what each name means.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;

use serde_json::Value;
use tch::{Kind, Tensor};

use super::*;
use crate::adapter::peft;
use crate::training::engine::job::{AdamVariant, Optimizer};
use crate::training::{Accumulation, Step, TrainingOutcome};

const CASES: [&str; 5] = ["llama", "llama_gqa_tied", "mistral", "qwen2", "llama_linear"];

/// Allowed distance from the f64 numbers: as a part of a tensor's maximum, and of an update's norm.
const PRECISIONS: [(Precision, f64, f64); 2] = [(Precision::F32, 1e-5, 1e-5), (Precision::F64, 1e-10, 1e-8)];

struct Case {
    name: &'static str,
    json: Value,
    expected: HashMap<String, Tensor>,
    trainer: Trainer,
    adapter: Arc<Adapter>,
    fresh: Arc<Adapter>,
}

fn folder(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/reference").join(name)
}

fn load(name: &'static str, precision: Precision, rank_stabilized: bool) -> Case {
    let folder = folder(name);
    let json: Value = serde_json::from_slice(&std::fs::read(folder.join("case.json")).unwrap()).unwrap();
    let lora = LoraSpec {
        rank: json["lora"]["r"].as_u64().unwrap() as usize,
        alpha: json["lora"]["alpha"].as_f64().unwrap(),
        dropout: 0.0,
        target_modules: serde_json::from_value(json["lora"]["target_modules"].clone()).unwrap(),
        rank_stabilized,
        has_core: false,
    };
    let trainer = Trainer::load(&folder.join("model"), precision, Device::Cpu, &lora, &Numerics::default()).unwrap();
    let adapter = |name: &str| {
        let mut adapter = peft::read_folder(&folder.join(name)).unwrap().adapter;
        if rank_stabilized {
            adapter.layout = trainer.layout();
        }
        Arc::new(adapter)
    };
    let expected = Tensor::read_safetensors(folder.join("expected_f64.safetensors")).unwrap().into_iter().collect();
    Case { name, json, expected, adapter: adapter("adapter"), fresh: adapter("adapter_zero"), trainer }
}

/// Every case in every precision.
fn for_all(check: impl Fn(&Case, f64, f64)) {
    for name in CASES {
        for (precision, tolerance, drift) in PRECISIONS {
            check(&load(name, precision, false), tolerance, drift);
        }
    }
}

impl Case {
    fn row(&self, value: &Value) -> Arc<Sample> {
        let ids: Vec<u32> = serde_json::from_value(value["ids"].clone()).unwrap();
        let response: Vec<u8> = serde_json::from_value(value["response"].clone()).unwrap();
        let learnt = (1..ids.len()).filter(|&p| response[p] == 1).map(|p| p as u32..p as u32 + 1).collect();
        Arc::new(Sample { ids, targets: learnt })
    }

    fn rows(&self, numbers: &Value) -> Vec<Arc<Sample>> {
        let numbers: Vec<usize> = serde_json::from_value(numbers.clone()).unwrap();
        numbers.into_iter().map(|n| self.row(&self.json["rows"][n])).collect()
    }

    fn expected(&self, name: &str) -> Vec<f64> {
        let tensor = self.expected.get(name).unwrap_or_else(|| panic!("{} has no {name}", self.name));
        Vec::<f64>::try_from(tensor.to_kind(Kind::Double).flatten(0, -1)).unwrap()
    }

    /// Numbers named PREFIX.KEY for each matrix, in the adapter's order.
    fn expected_matrices(&self, prefix: &str) -> Vec<(String, Vec<f64>)> {
        let tensors = self.trainer.layout().tensors();
        tensors.into_iter().map(|(key, ..)| (key.clone(), self.expected(&format!("{prefix}.{key}")))).collect()
    }

    fn assert_close(&self, what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
        assert_eq!(found.len(), expected.len(), "{} {what}", self.name);
        let most = expected.iter().fold(0.0f64, |most, v| most.max(v.abs()));
        let apart = found.iter().zip(expected).fold(0.0f64, |most, (a, b)| most.max((a - b).abs()));
        let class = &self.trainer.numerics_class().precision;
        assert!(apart <= tolerance * most, "{} {class:?} {what}: {apart} apart where the largest is {most}", self.name);
    }

    /// What the job is after its steps, exactly, and what it reports.
    fn train(&self, job: Job) -> (Vec<f64>, TrainingOutcome) {
        let jobs = [job];
        let runner = self.trainer.run(&jobs, &AtomicU64::new(0)).unwrap().remove(0);
        (runner.parameters().exact_values().unwrap(), runner.finish().unwrap())
    }

    /// The gradient at `adapter`, as the move of one step of plain descent.
    fn gradient(
        &self,
        adapter: &Arc<Adapter>,
        rows: Vec<Arc<Sample>>,
        objective: Objective,
    ) -> (Vec<f64>, TrainingOutcome) {
        const RATE: f64 = 1e6;
        let optimizer = Optimizer::Sgd { momentum: 0.0 };
        let hyper = Hyper { optimizer, learning_rate: RATE, clip_norm: None, ..Hyper::default() };
        let (after, outcome) = self.train(Job { objective, ..job(adapter.clone(), vec![vec![rows]], hyper) });
        let moved = adapter.values.iter().zip(after).map(|(before, after)| (f64::from(*before) - after) / RATE);
        (moved.collect(), outcome)
    }

    fn assert_matrices(&self, what: &str, found: &[f64], tolerance: f64) {
        let layout = self.trainer.layout();
        for ((key, expected), (.., range)) in self.expected_matrices(what).iter().zip(layout.tensors()) {
            self.assert_close(&format!("{what}.{key}"), &found[range], expected, tolerance);
        }
    }
}

fn mean(losses: Vec<crate::training::SampleLoss>) -> f64 {
    let tokens: u32 = losses.iter().map(|loss| loss.tokens).sum();
    losses.iter().map(|loss| loss.nats).sum::<f64>() / f64::from(tokens)
}

#[test]
fn logits_and_losses_with_and_without_adapter() {
    for_all(|case, tolerance, _| {
        for (prefix, adapter) in [("base", &case.fresh), ("lora", &case.adapter)] {
            for row in 0..3 {
                let ids: Vec<u32> = serde_json::from_value(case.json["rows"][row]["ids"].clone()).unwrap();
                let logits = case.trainer.logits(adapter, &ids).unwrap().to_kind(Kind::Double).flatten(0, -1);
                let name = format!("{prefix}.logits.{row}");
                let found = Vec::<f64>::try_from(logits).unwrap();
                case.assert_close(&name, &found, &case.expected(&name), tolerance);
            }
            let batches = case.json["loss_batches"].as_array().unwrap();
            let loss = |batch| mean(case.trainer.evaluate(adapter, &case.rows(batch)).unwrap());
            let losses: Vec<f64> = batches.iter().map(loss).collect();
            let name = format!("{prefix}.loss");
            case.assert_close(&name, &losses, &case.expected(&name), tolerance);
        }
    });
}

#[test]
fn rank_stabilized_scaling() {
    for name in CASES {
        let case = load(name, Precision::F64, true);
        let rows = case.rows(&case.json["loss_batches"][0]);
        let loss = mean(case.trainer.evaluate(&case.adapter, &rows).unwrap());
        case.assert_close("rslora.loss", &[loss], &case.expected("rslora.loss"), 1e-10);
    }
}

#[test]
fn gradients_of_every_matrix() {
    for_all(|case, tolerance, _| {
        let rows = case.rows(&case.json["gradient_batch"]);
        let (found, _) = case.gradient(&case.adapter, rows.clone(), Objective::Sft);
        case.assert_matrices("grad", &found, tolerance);
        let (found, _) = case.gradient(&case.fresh, rows, Objective::Sft);
        case.assert_matrices("grad_zero", &found, tolerance);
    });
}

fn hyper(json: &Value, name: &str) -> Hyper {
    let train = &json["train"];
    let rule = &train["optimizers"][name];
    let number = |field: &str| rule[field].as_f64().unwrap();
    let optimizer = match rule["rule"].as_str().unwrap() {
        "torch.optim.SGD" => Optimizer::Sgd { momentum: number("momentum") },
        rule_name => Optimizer::AdamW {
            beta1: rule["betas"][0].as_f64().unwrap(),
            beta2: rule["betas"][1].as_f64().unwrap(),
            eps: number("eps"),
            weight_decay: number("weight_decay"),
            variant: match rule_name {
                "torch.optim.AdamW" => AdamVariant::PyTorch,
                _ => AdamVariant::Transformers,
            },
        },
    };
    let accumulation = if name.ends_with("per_token") { Accumulation::PerToken } else { Accumulation::PerMicroBatch };
    Hyper {
        optimizer,
        learning_rate: number("lr"),
        clip_norm: train["clip_norm"].as_f64(),
        accumulation,
        ..Hyper::default()
    }
}

#[test]
fn ten_steps_with_clipping_and_accumulation_under_every_rule() {
    let mut rules = 0;
    for_all(|case, tolerance, drift| {
        let steps: Vec<Step> = case.json["train"]["steps"]
            .as_array()
            .unwrap()
            .iter()
            .map(|step| step.as_array().unwrap().iter().map(|rows| case.rows(rows)).collect())
            .collect();
        for name in case.json["train"]["optimizers"].as_object().unwrap().keys() {
            let hyper = hyper(&case.json, name);
            let per_micro_batch = hyper.accumulation == Accumulation::PerMicroBatch;
            let (values, outcome) = case.train(job(case.fresh.clone(), steps.clone(), hyper));
            let prefix = format!("train.{name}");
            let norms = case.expected(&format!("{prefix}.grad_norm"));
            case.assert_close(&format!("{prefix}.grad_norm"), &outcome.grad_norms, &norms, 10.0 * tolerance);
            if per_micro_batch {
                let micro = case.expected(&format!("{prefix}.micro_loss"));
                let losses: Vec<f64> = micro.chunks_exact(2).map(|two| (two[0] + two[1]) / 2.0).collect();
                case.assert_close(&prefix, &outcome.losses, &losses, tolerance);
            }
            let expected: Vec<f64> =
                case.expected_matrices(&format!("{prefix}.adapter")).into_iter().flat_map(|(_, v)| v).collect();
            let start = case.fresh.values.iter().map(|&v| f64::from(v));
            let (mut apart, mut length) = (0.0, 0.0);
            for ((found, expected), start) in values.iter().zip(&expected).zip(start) {
                apart += (found - expected).powi(2);
                length += (expected - start).powi(2);
            }
            let relative = (apart / length).sqrt();
            assert!(relative <= drift, "{} {prefix}: the update is {relative} of its norm away", case.name);
        }
    });
    for name in CASES {
        let json: Value = serde_json::from_slice(&std::fs::read(folder(name).join("case.json")).unwrap()).unwrap();
        rules += json["train"]["optimizers"].as_object().unwrap().len();
    }
    assert!(rules >= 8, "only {rules} rules were compared");
}

#[test]
fn direct_preference_optimisation() {
    for_all(|case, tolerance, _| {
        let dpo = &case.json["dpo"];
        let pairs = dpo["pairs"].as_array().unwrap();
        let rows: Vec<_> =
            pairs.iter().flat_map(|pair| [case.row(&pair["chosen"]), case.row(&pair["rejected"])]).collect();
        for (kind, adapter) in [("policy", &case.adapter), ("reference", &case.fresh)] {
            let nats: Vec<f64> = case.trainer.evaluate(adapter, &rows).unwrap().iter().map(|row| -row.nats).collect();
            for (place, answer) in ["chosen", "rejected"].iter().enumerate() {
                let found: Vec<f64> = nats.iter().skip(place).step_by(2).copied().collect();
                let name = format!("dpo.{kind}_{answer}");
                case.assert_close(&name, &found, &case.expected(&name), tolerance);
            }
        }
        let objective = Objective::Dpo { beta: dpo["beta"].as_f64().unwrap(), reference: None };
        let (gradient, outcome) = case.gradient(&case.adapter, rows, objective);
        case.assert_close("dpo.loss", &outcome.losses, &case.expected("dpo.loss"), tolerance);
        let reward = |name: &str| {
            let rewards = case.expected(name);
            rewards.iter().sum::<f64>() / rewards.len() as f64
        };
        let rewards = [outcome.preferences[0].chosen_reward, outcome.preferences[0].rejected_reward];
        let expected = [reward("dpo.rewards_chosen"), reward("dpo.rewards_rejected")];
        // A reward is a small difference of large sums: its error is theirs.
        case.assert_close("dpo.rewards", &rewards, &expected, 20.0 * tolerance);
        case.assert_matrices("dpo.grad", &gradient, tolerance);
    });
}

#[test]
fn preference_training_measures_against_the_adapter_that_it_is_given() {
    let text = std::fs::read(folder("dpo_from_adapter.json")).unwrap();
    let expected: Value = serde_json::from_slice(&text).unwrap();
    let case = load("llama", Precision::F64, false);
    let pairs = case.json["dpo"]["pairs"].as_array().unwrap();
    let rows: Vec<_> = pairs.iter().flat_map(|pair| [case.row(&pair["chosen"]), case.row(&pair["rejected"])]).collect();
    let reference = Some(case.trainer.add_reference_adapter(&case.adapter));
    let objective = Objective::Dpo { beta: expected["beta"].as_f64().unwrap(), reference };
    let optimizer = Optimizer::Sgd { momentum: 0.0 };
    let learning_rate = expected["rate"].as_f64().unwrap();
    let hyper = Hyper { optimizer, learning_rate, clip_norm: None, ..Hyper::default() };
    let steps = expected["steps"].as_array().unwrap();
    let plan = vec![vec![rows]; steps.len()];
    let (_, outcome) = case.train(Job { objective, ..job(case.adapter.clone(), plan, hyper) });
    for (at, step) in steps.iter().enumerate() {
        let metrics = &outcome.preferences[at];
        for (found, name) in
            [(outcome.losses[at], "loss"), (metrics.chosen_reward, "chosen"), (metrics.rejected_reward, "rejected")]
        {
            let value = step[name].as_f64().unwrap();
            assert!((found - value).abs() <= 1e-7 * value.abs().max(1e-2), "step {at} {name}: {found} for {value}");
        }
    }
}
