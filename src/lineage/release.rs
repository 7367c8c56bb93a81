//! Private release of an aggregate: the rule that clips, sums and noises its updates, and the source of the noise.

use serde::Serialize;

use crate::adapter::Adapter;
use crate::algorithm::{self, MeanUpdate, Update};
use crate::privacy::{NoiseSource, Part, Rule, SecretMark};

/// Treatment of the updates between their collection and their use.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum Step {
    /// Clips the updates, sums them, adds noise and divides by the expected cohort.
    UserLevel(Rule),
    /// Adds noise of this standard deviation to each update, unclipped: FedLLM-Bench's FedDP, which guarantees nothing.
    FedLlmBench { sigma: f64 },
}

/// Private release of one aggregate.
#[derive(Clone, Debug)]
pub struct Release {
    pub step: Step,
    pub source: NoiseSource,
    /// Number of the release in the run, from 1.
    pub number: u64,
    /// Tasks of the contributions, in the same order: each names a stream of noise.
    pub tasks: Vec<u64>,
}

/// Everything except the contributions that can change the bits of a release.
#[derive(Serialize)]
pub struct Material {
    step: Step,
    source: SourceMark,
    number: u64,
    tasks: Vec<u64>,
}

/// Representation of a noise source in keys: the seed, or a mark in place of a secret.
#[derive(Serialize)]
pub enum SourceMark {
    Seeded(fedreplay_sim::Seed),
    Secret(SecretMark),
}

impl Release {
    /// Returns everything except the contributions that can change the bits of the release.
    pub fn material(&self) -> Material {
        let source = match &self.source {
            NoiseSource::Seeded(seed) => SourceMark::Seeded(*seed),
            NoiseSource::Secret(secret) => SourceMark::Secret(secret.mark),
        };
        Material { step: self.step, source, number: self.number, tasks: self.tasks.clone() }
    }

    /// Computes the noised mean update of the server's model, and the clipping norm of the next release if it adapts.
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
        // A module is one LoRA pair; clipping per layer takes both of its matrices together.
        let modules: Vec<_> = model.layout.ranges().into_iter().map(|(a, b)| a.start..b.end).collect();
        let mut parts = Vec::with_capacity(updates.len());
        for (update, &entity) in updates.iter().zip(&self.tasks) {
            let weight = update.weight * update.discount;
            // An update of weight 0 may contain values that are not finite, so its values are not read at all.
            let mut change = vec![];
            if weight > 0.0 {
                let pairs = update.adapter.values.iter().zip(&update.base.values);
                change = pairs.map(|(&after, &before)| f64::from(after) - f64::from(before)).collect();
            }
            parts.push(Part { update: change, weight, entity });
        }
        // The divisor is the expected cohort, never the number of clients that came: that number is private.
        let weights = parts.iter().map(|part| part.weight / rule.expected_cohort).collect();
        let released = rule.release(parts, &modules, model.values.len(), clip_norm, &self.source, self.number);
        (MeanUpdate { change: Some(released.mean), weights }, released.next_norm)
    }

    fn fedllm_bench(&self, sigma: f64, model: &Adapter, updates: &[Update]) -> MeanUpdate {
        let MeanUpdate { change, weights } = algorithm::mean_update(model.values.len(), updates);
        let mut change = change.unwrap_or_else(|| vec![0.0; model.values.len()]);
        // Noise on each update before the mean is the same as noise of sigma * weight per update on the mean.
        for (&weight, &task) in weights.iter().zip(&self.tasks) {
            self.source.stream(task).add_gaussian(&mut change, sigma * weight);
        }
        MeanUpdate { change: Some(change), weights }
    }
}
