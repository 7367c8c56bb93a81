//! Direct preference optimization (arXiv 2305.18290): the loss of pairs, and a cache of the reference's
//! log-probabilities.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use crate::adapter::Adapter;
use crate::data::Sample;
use crate::store::Digest;

/// Means over the pairs of one DPO step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PreferenceMetrics {
    /// Reward of the chosen answer: beta times the log-ratio of policy to reference.
    pub chosen_reward: f64,
    /// Reward of the rejected answer.
    pub rejected_reward: f64,
    /// Share of pairs in which the chosen answer has the higher reward.
    pub accuracy: f64,
}

/// Pairs of one micro-batch.
pub struct Pairs {
    beta: f64,
    /// Rewards of the chosen and of the rejected answer.
    rewards: Vec<[f64; 2]>,
}

impl Pairs {
    /// Computes the rewards from the log-probabilities of rows under policy and reference; chosen and rejected answers
    /// alternate.
    pub fn new(beta: f64, policy: Vec<f64>, reference: &[f64]) -> Self {
        let rewards: Vec<f64> = policy.iter().zip(reference).map(|(policy, base)| beta * (policy - base)).collect();
        Self { beta, rewards: rewards.chunks_exact(2).map(|two| [two[0], two[1]]).collect() }
    }

    /// Returns the sum over pairs of -ln sigmoid(margin).
    pub fn loss(&self) -> f64 {
        self.margins().map(loss_of).sum()
    }

    /// Returns the derivative of each pair's loss with respect to the negative log-likelihood of the chosen answer; the
    /// one for the rejected answer is its negative.
    pub fn slopes(&self) -> impl Iterator<Item = f64> {
        self.margins().map(|margin| self.beta / (1.0 + libm::exp(margin)))
    }

    /// Adds the pairs to a step's metrics, each with `weight`.
    pub fn add_to(&self, preference: &mut PreferenceMetrics, weight: f64) {
        for [chosen, rejected] in &self.rewards {
            preference.chosen_reward += chosen * weight;
            preference.rejected_reward += rejected * weight;
            preference.accuracy += f64::from(u8::from(chosen > rejected)) * weight;
        }
    }

    /// Returns the margin of each pair: the reward of the chosen answer minus that of the rejected one.
    fn margins(&self) -> impl Iterator<Item = f64> {
        self.rewards.iter().map(|[chosen, rejected]| chosen - rejected)
    }
}

/// Hash of the reference adapter, `None` for the base alone, and that of the row.
type ReferencedRow = (Option<Digest>, [u8; 32]);

/// Reference adapters by hash, and a cache of the rows' log-probabilities under them and under the base alone. Each row is
/// computed in its own pass, so that a value depends only on its row and reference on every device.
#[derive(Default)]
pub struct References {
    adapters: Mutex<BTreeMap<Digest, Arc<Adapter>>>,
    known: Mutex<BTreeMap<ReferencedRow, f64>>,
}

impl References {
    /// Adds a reference adapter under its hash, which is returned.
    pub fn add_adapter(&self, adapter: &Arc<Adapter>) -> Digest {
        let hash = Digest::from(adapter.hash());
        let mut adapters = self.adapters.lock().expect("no thread panics while it holds the lock");
        adapters.insert(hash, adapter.clone());
        hash
    }

    /// Returns a reference adapter by its hash.
    ///
    /// # Panics
    /// If it was not added.
    pub fn adapter(&self, hash: Digest) -> Arc<Adapter> {
        let adapters = self.adapters.lock().expect("no thread panics while it holds the lock");
        adapters.get(&hash).expect("the trainer is given every reference adapter before it is used").clone()
    }

    /// Returns the cached value of a row under a reference.
    pub fn get(&self, reference: Option<Digest>, sample: &Sample) -> Option<f64> {
        let known = self.known.lock().expect("no thread panics while it holds the lock");
        known.get(&(reference, *sample.hash().as_bytes())).copied()
    }

    /// Adds the value of a row under a reference.
    pub fn set(&self, reference: Option<Digest>, sample: &Sample, log_probability: f64) {
        let mut known = self.known.lock().expect("no thread panics while it holds the lock");
        known.insert((reference, *sample.hash().as_bytes()), log_probability);
    }
}

/// Scores pairs from the log-probabilities in nat of their rows under a model and under the reference; rows 2i and 2i +
/// 1 are the chosen and the rejected answer of pair i.
pub fn score_pairs(beta: f64, policy: Vec<f64>, reference: &[f64]) -> Vec<PairScore> {
    let mut scores = Vec::new();
    for margin in Pairs::new(beta, policy, reference).margins() {
        scores.push(PairScore { loss: loss_of(margin), margin, is_right: margin > 0.0 });
    }
    scores
}

/// Ranking of one pair by a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairScore {
    /// [nat] -- Loss of the pair, -ln sigmoid(margin).
    pub loss: f64,
    /// Reward of the chosen answer minus that of the rejected one.
    pub margin: f64,
    /// Whether the chosen answer has the higher reward.
    pub is_right: bool,
}

/// Returns -ln sigmoid(margin) without overflow.
fn loss_of(margin: f64) -> f64 {
    // -ln sigmoid(m) = ln(1 + exp(-|m|)) + max(-m, 0). From libm, since the platform's functions differ in their last bits
    // between processors.
    libm::log1p(libm::exp(-margin.abs())) + (-margin).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_is_the_derivative_of_the_loss() {
        let pairs = |chosen| Pairs::new(0.3, vec![chosen, -7.0, -90.0, -10.0], &[-6.0, -6.5, -10.0, -90.0]);
        let (at, step) = (pairs(-5.0), 1e-6);
        // The negative log-likelihood is the negative of what `pairs` takes.
        let measured = (pairs(-5.0 - step).loss() - pairs(-5.0 + step).loss()) / (2.0 * step);
        assert!((at.slopes().next().unwrap() - measured).abs() < 1e-8);
        assert!(at.loss().is_finite() && at.slopes().all(|slope| (0.0..=0.3).contains(&slope)));
        let mut preference = PreferenceMetrics::default();
        at.add_to(&mut preference, 0.5);
        assert_eq!(preference.accuracy, 0.5);
    }
}
