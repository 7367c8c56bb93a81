//! The private step of an aggregate: which rule releases the updates, with whose noise.

use std::sync::Arc;

use serde::Serialize;

use super::value::Value;
use crate::adapter::Adapter;
use crate::algorithm::{self, Update};
use crate::privacy::{NoiseSource, Part, Rule, SecretMark};

/// What is done to updates between their collection and their use.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum Step {
    /// They are clipped, summed, noised, and divided by the expected cohort.
    UserLevel(Rule),
    /// Noise of this standard deviation is added to each, unclipped: FedLLM-Bench's FedDP, which guarantees nothing.
    FedLlmBench { sigma: f64 },
}

/// A private step of one aggregate.
#[derive(Clone, Debug)]
pub struct Release {
    pub step: Step,
    pub source: NoiseSource,
    /// Its place among the releases of the run, from 1.
    pub number: u64,
    /// The tasks of the contributions, in their order: each names a stream of noise.
    pub tasks: Vec<u64>,
}

/// What stands for a noise's source in keys.
#[derive(Serialize)]
pub enum SourceMark {
    Seeded(fedreplay_sim::Seed),
    Secret(SecretMark),
}

impl Release {
    /// All that can change the bits of the release, beyond its contributions.
    pub fn material(&self) -> impl Serialize + use<> {
        let source = match &self.source {
            NoiseSource::Seeded(seed) => SourceMark::Seeded(*seed),
            NoiseSource::Secret(secret) => SourceMark::Secret(secret.mark),
        };
        (self.step, source, self.number, self.tasks.clone())
    }

    /// The server's next model.
    pub fn apply(&self, server: &Value, updates: &[Update]) -> Value {
        match &self.step {
            Step::UserLevel(rule) => self.user_level(rule, server, updates),
            Step::FedLlmBench { sigma } => self.fedllm_bench(*sigma, server.adapter(), updates),
        }
    }

    fn user_level(&self, rule: &Rule, server: &Value, updates: &[Update]) -> Value {
        let adapter = server.adapter();
        let modules: Vec<_> = adapter.layout.ranges().into_iter().map(|(a, b)| a.start..b.end).collect();
        let part = |(update, &entity): (&Update, &u64)| {
            let pairs = update.adapter.values.iter().zip(&update.base.values);
            let weight = update.weight * update.discount;
            // What weighs nothing may not be finite, and is not looked at.
            let change = |(&after, &before): (&f32, &f32)| f64::from(after) - f64::from(before);
            Part { update: if weight > 0.0 { pairs.map(change).collect() } else { vec![] }, weight, entity }
        };
        let parts: Vec<Part> = updates.iter().zip(&self.tasks).map(part).collect();
        let weights = parts.iter().map(|part| part.weight / rule.expected_cohort).collect();
        let length = adapter.values.len();
        let released = rule.release(parts, &modules, length, server.clip_norm(), &self.source, self.number);
        let values = adapter.values.iter().zip(&released.mean).map(|(&value, mean)| (f64::from(value) + mean) as f32);
        let adapter = Adapter { layout: adapter.layout.clone(), values: values.collect() };
        Value::Released { adapter: Arc::new(adapter), weights, next_norm: released.next_norm }
    }

    fn fedllm_bench(&self, sigma: f64, server: &Adapter, updates: &[Update]) -> Value {
        let (mut adapter, weights) = algorithm::weighted_mean(server, updates);
        let mut noise = vec![0.0; adapter.values.len()];
        for (&weight, &task) in weights.iter().zip(&self.tasks) {
            self.source.stream(task).add_gaussian(&mut noise, sigma * weight);
        }
        adapter.values.iter_mut().zip(noise).for_each(|(value, noise)| *value = (f64::from(*value) + noise) as f32);
        Value::Model { adapter: Arc::new(adapter), weights }
    }
}
