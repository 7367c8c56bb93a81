//! Direct preference optimisation: the loss of pairs, and the reference's log-probabilities, kept for the whole run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::job::{Preference, Step};
use super::{Error, Trainer};
use crate::adapter::Adapter;
use crate::dataset::Sample;

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
        self.margins().map(|margin| (-margin.abs()).exp().ln_1p() + (-margin).max(0.0)).sum()
    }

    /// For each pair, how its loss grows with the negative log-likelihood of the chosen answer; that of the rejected
    /// one counts as much the other way.
    pub fn slopes(&self) -> impl Iterator<Item = f64> {
        self.margins().map(|margin| self.beta / (1.0 + margin.exp()))
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

/// Log-probabilities of rows under the base, by the hash of the row. A row's bits depend on no other row, so it does not
/// matter who asked for it first.
#[derive(Default)]
pub struct References(Mutex<BTreeMap<[u8; 32], f64>>);

impl Trainer {
    /// The base's log-probability of the targets of every row: step, micro-batch, row.
    pub(super) fn references_of(&self, steps: &[Step]) -> Result<Vec<Vec<Vec<f64>>>, Error> {
        let rows: Vec<&Arc<Sample>> = steps.iter().flatten().flatten().collect();
        self.compute_missing(&rows)?;
        let known = self.references.0.lock().expect("no thread panics while it holds the lock");
        let of = |sample: &Arc<Sample>| *known.get(&key(sample)).expect("it was just computed");
        let of_step = |step: &Step| step.iter().map(|rows| rows.iter().map(of).collect()).collect();
        Ok(steps.iter().map(of_step).collect())
    }

    fn compute_missing(&self, rows: &[&Arc<Sample>]) -> Result<(), Error> {
        let missing: BTreeMap<[u8; 32], Arc<Sample>> = {
            let known = self.references.0.lock().expect("no thread panics while it holds the lock");
            let keyed = rows.iter().map(|sample| (key(sample), (*sample).clone()));
            keyed.filter(|(key, _)| !known.contains_key(key)).collect()
        };
        if missing.is_empty() {
            return Ok(());
        }
        let samples: Vec<Arc<Sample>> = missing.values().cloned().collect();
        let losses = self.evaluate(&Adapter::zeros(self.layout()), &samples)?;
        let mut known = self.references.0.lock().expect("no thread panics while it holds the lock");
        known.extend(missing.into_keys().zip(losses.iter().map(|loss| -loss.nats)));
        Ok(())
    }
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
