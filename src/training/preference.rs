//! Direct preference optimisation: the loss of pairs, and the reference's log-probabilities, kept for the whole run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::job::{Preference, Step};
use super::{Error, Trainer};
use crate::adapter::Adapter;
use crate::data::Sample;

/// The pairs of one micro-batch: rewards of the chosen and of the rejected answer.
pub struct Pairs {
    beta: f64,
    rewards: Vec<[f64; 2]>,
}

impl Pairs {
    /// Pairs from the log-probabilities of rows under policy and reference, chosen and rejected in turn.
    pub fn new(beta: f64, policy: Vec<f64>, reference: &[f64]) -> Self {
        let rewards: Vec<f64> = policy.iter().zip(reference).map(|(policy, base)| beta * (policy - base)).collect();
        Self { beta, rewards: rewards.chunks_exact(2).map(|two| [two[0], two[1]]).collect() }
    }

    /// The sum over pairs of -ln sigmoid(margin).
    pub fn loss(&self) -> f64 {
        self.margins().map(loss_of).sum()
    }

    /// For each pair, how its loss grows with the negative log-likelihood of the chosen answer; that of the rejected
    /// one counts as much the other way.
    pub fn slopes(&self) -> impl Iterator<Item = f64> {
        self.margins().map(|margin| self.beta / (1.0 + libm::exp(margin)))
    }

    /// Adds each pair's part of a step's means.
    pub fn add_to(&self, preference: &mut Preference, weight: f64) {
        for [chosen, rejected] in &self.rewards {
            preference.chosen_reward += chosen * weight;
            preference.rejected_reward += rejected * weight;
            preference.accuracy += f64::from(u8::from(chosen > rejected)) * weight;
        }
    }

    fn margins(&self) -> impl Iterator<Item = f64> {
        self.rewards.iter().map(|[chosen, rejected]| chosen - rejected)
    }
}

/// Log-probabilities of rows under the base, by the hash of the row. Each row is computed alone, so that a value is a
/// function of its row on any device.
#[derive(Default)]
pub struct References(Mutex<BTreeMap<[u8; 32], f64>>);

impl References {
    fn get(&self, sample: &Sample) -> Option<f64> {
        self.0.lock().expect("no thread panics while it holds the lock").get(&key(sample)).copied()
    }
}

impl Trainer {
    /// Whether the reference's log-probability of a row is at hand.
    pub fn knows_reference(&self, sample: &Sample) -> bool {
        self.references.get(sample).is_some()
    }

    /// Takes a log-probability [nat] that [`Self::reference`] once gave for this row under this base.
    pub fn set_reference(&self, sample: &Sample, log_probability: f64) {
        let mut known = self.references.0.lock().expect("no thread panics while it holds the lock");
        known.insert(key(sample), log_probability);
    }

    /// The log-probability [nat] of a row's targets under the base without adapter, computed once.
    ///
    /// # Errors
    /// If the row does not fit the model, or LibTorch fails.
    pub fn reference(&self, sample: &Arc<Sample>) -> Result<f64, Error> {
        if let Some(known) = self.references.get(sample) {
            return Ok(known);
        }
        let losses = self.evaluate(&Adapter::zeros(self.layout()), std::slice::from_ref(sample))?;
        self.set_reference(sample, -losses[0].nats);
        Ok(-losses[0].nats)
    }

    /// The same of every row of a training: step, micro-batch, row.
    pub(super) fn references_of(&self, steps: &[Step]) -> Result<Vec<Vec<Vec<f64>>>, Error> {
        let of_rows = |rows: &Vec<Arc<Sample>>| rows.iter().map(|sample| self.reference(sample)).collect();
        steps.iter().map(|step| step.iter().map(of_rows).collect()).collect()
    }
}

/// Scores pairs from the log-probabilities [nat] of their rows under a model and under the reference; rows 2i and 2i + 1
/// are the chosen and the rejected answer of pair i.
pub fn score_pairs(beta: f64, policy: Vec<f64>, reference: &[f64]) -> Vec<PairScore> {
    let pairs = Pairs::new(beta, policy, reference);
    let score = |margin: f64| PairScore { loss: loss_of(margin), margin, is_right: margin > 0.0 };
    pairs.margins().map(score).collect()
}

/// How a model ranks one pair.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairScore {
    /// -ln sigmoid(margin) [nat].
    pub loss: f64,
    /// The reward of the chosen answer less that of the rejected one.
    pub margin: f64,
    /// Whether the chosen answer has the higher reward.
    pub is_right: bool,
}

/// -ln sigmoid(margin), without overflow. The platform's own functions differ in their last bits from processor to
/// processor.
fn loss_of(margin: f64) -> f64 {
    libm::log1p(libm::exp(-margin.abs())) + (-margin).max(0.0)
}

fn key(sample: &Sample) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(sample.ids.len() as u64).to_le_bytes());
    for id in &sample.ids {
        hasher.update(&id.to_le_bytes());
    }
    for range in &sample.targets {
        hasher.update(&range.start.to_le_bytes()).update(&range.end.to_le_bytes());
    }
    *hasher.finalize().as_bytes()
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
        let mut preference = Preference::default();
        at.add_to(&mut preference, 0.5);
        assert_eq!(preference.accuracy, 0.5);
    }
}
