//! The private step of an aggregate: which rule releases the updates, with whose noise.

use serde::Serialize;

use super::{NoiseSource, Part, Rule, SecretMark};
use crate::adapter::Adapter;
use crate::algorithm;
use crate::algorithm::{MeanUpdate, Update};

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

/// All that can change the bits of a release, beyond its contributions.
#[derive(Serialize)]
pub struct Material {
    step: Step,
    source: SourceMark,
    number: u64,
    tasks: Vec<u64>,
}

/// What stands for a noise's source in keys.
#[derive(Serialize)]
pub enum SourceMark {
    Seeded(fedreplay_sim::Seed),
    Secret(SecretMark),
}

impl Release {
    /// All that can change the bits of the release, beyond its contributions.
    pub fn material(&self) -> Material {
        let source = match &self.source {
            NoiseSource::Seeded(seed) => SourceMark::Seeded(*seed),
            NoiseSource::Secret(secret) => SourceMark::Secret(secret.mark),
        };
        Material { step: self.step, source, number: self.number, tasks: self.tasks.clone() }
    }

    /// What the updates come to for the server's model, and the clipping norm of the next release, where it adapts.
    pub fn mean_update(
        &self,
        model: &Adapter,
        clip_norm: Option<f64>,
        updates: &[Update],
    ) -> (MeanUpdate, Option<f64>) {
        match &self.step {
            Step::UserLevel(rule) => self.user_level(rule, model, clip_norm, updates),
            Step::FedLlmBench { sigma } => (self.fedllm_bench(*sigma, model, updates), None),
        }
    }

    fn user_level(
        &self,
        rule: &Rule,
        model: &Adapter,
        clip_norm: Option<f64>,
        updates: &[Update],
    ) -> (MeanUpdate, Option<f64>) {
        let modules: Vec<_> = model.layout.ranges().into_iter().map(|(a, b)| a.start..b.end).collect();
        let part = |(update, &entity): (&Update, &u64)| {
            let pairs = update.adapter.values.iter().zip(&update.base.values);
            let weight = update.weight * update.discount;
            // What weighs nothing may not be finite, and is not looked at.
            let change = |(&after, &before): (&f32, &f32)| f64::from(after) - f64::from(before);
            Part { update: if weight > 0.0 { pairs.map(change).collect() } else { vec![] }, weight, entity }
        };
        let parts: Vec<Part> = updates.iter().zip(&self.tasks).map(part).collect();
        let weights = parts.iter().map(|part| part.weight / rule.expected_cohort).collect();
        let released = rule.release(parts, &modules, model.values.len(), clip_norm, &self.source, self.number);
        (MeanUpdate { change: Some(released.mean), weights }, released.next_norm)
    }

    fn fedllm_bench(&self, sigma: f64, model: &Adapter, updates: &[Update]) -> MeanUpdate {
        let MeanUpdate { change, weights } = algorithm::mean_update(model.values.len(), updates);
        let mut change = change.unwrap_or_else(|| vec![0.0; model.values.len()]);
        for (&weight, &task) in weights.iter().zip(&self.tasks) {
            self.source.stream(task).add_gaussian(&mut change, sigma * weight);
        }
        MeanUpdate { change: Some(change), weights }
    }
}
