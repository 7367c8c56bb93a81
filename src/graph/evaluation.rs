//! Evaluation in parts: rows are cut into parts of constant size, any worker computes the scores of a part, and the scores
//! are summed in the order of the rows.

use std::ops::Range;
use std::sync::Arc;

use super::value::{Evaluated, Ranking, RowsLoss, Value};
use crate::adapter::Adapter;
use crate::data::{Rows, Sample};
use crate::training;
use crate::training::{Objective, PairScore, SampleLoss, Trainer, score_pairs};

/// Evaluation of one model, cut into parts.
pub(super) struct Evaluation {
    pub adapter: Arc<Adapter>,
    pub objective: Objective,
    groups: Vec<Arc<Rows>>,
    /// Samples of all groups, in order.
    samples: Vec<Arc<Sample>>,
    /// Consecutive ranges of `samples`.
    parts: Vec<Range<usize>>,
}

/// Scores of one part.
#[derive(Clone, Default)]
pub(super) struct PartScores {
    /// Loss of each sample.
    pub losses: Vec<SampleLoss>,
    /// [nat] -- Log-probability of each sample under the reference model, in preference training.
    pub references: Vec<f64>,
}

impl Evaluation {
    /// Cuts an evaluation into parts.
    ///
    /// # Errors
    /// If a row does not fit the model, or the adapter has another layout.
    pub fn new(
        trainer: &Trainer,
        adapter: &Arc<Adapter>,
        groups: &[Arc<Rows>],
        objective: Objective,
    ) -> Result<Self, training::Error> {
        let samples: Vec<_> = groups.iter().flat_map(|rows| rows.samples.iter().cloned()).collect();
        let parts = trainer.evaluation_parts(adapter, &samples)?;
        Ok(Self { adapter: adapter.clone(), objective, groups: groups.to_vec(), samples, parts })
    }

    /// [parts] -- Returns the number of parts; 0 without rows.
    pub fn part_count(&self) -> usize {
        self.parts.len()
    }

    /// Returns the samples of a part.
    pub fn part(&self, index: usize) -> &[Arc<Sample>] {
        &self.samples[self.parts[index].clone()]
    }

    /// [rows] -- Returns the number of rows that end in a part. The two samples of a pair may be in different parts; the
    /// pair counts in the later one, so that the sum over all parts is the number of rows.
    pub fn rows_of_part(&self, index: usize) -> u64 {
        let range = &self.parts[index];
        (range.end / self.width() - range.start / self.width()) as u64
    }

    /// [samples] -- Returns the number of samples per row.
    fn width(&self) -> usize {
        match self.objective {
            Objective::Sft => 1,
            Objective::Dpo { .. } => 2,
        }
    }

    /// Computes the result from the scores of all parts, given in order.
    pub fn value(&self, parts: Vec<PartScores>) -> Value {
        assert_eq!(parts.len(), self.parts.len(), "an evaluation ends with its last part");
        let mut losses = Vec::with_capacity(self.samples.len());
        let mut references = Vec::new();
        for part in parts {
            losses.extend(part.losses);
            references.extend(part.references);
        }
        let groups = match self.objective {
            Objective::Sft => by_group(&self.groups, self.width(), &losses, likelihood),
            Objective::Dpo { beta, .. } => {
                let policy = losses.iter().map(|loss| -loss.nats).collect();
                by_group(&self.groups, self.width(), &score_pairs(beta, policy, &references), ranking)
            }
        };
        Value::Evaluated(Arc::new(Evaluated { groups }))
    }
}

/// Splits scores, one per row of `width` samples, into groups and computes the loss of each group.
fn by_group<T>(
    groups: &[Arc<Rows>],
    width: usize,
    scores: &[T],
    score: impl Fn(&Rows, &[T]) -> RowsLoss,
) -> Vec<RowsLoss> {
    let mut rest = scores;
    let mut losses = Vec::with_capacity(groups.len());
    for rows in groups {
        let (own, others) = rest.split_at(rows.samples.len() / width);
        rest = others;
        losses.push(score(rows, own));
    }
    losses
}

/// Computes the mean negative log-likelihood of a group's target tokens.
fn likelihood(rows: &Rows, losses: &[SampleLoss]) -> RowsLoss {
    // Without target tokens the mean is 0/0 = NaN, and a loss that is not finite is recorded as absent.
    let nats: f64 = losses.iter().map(|row| row.nats).sum();
    let target_tokens: u64 = losses.iter().map(|row| u64::from(row.tokens)).sum();
    let loss = Some(nats / target_tokens as f64).filter(|loss| loss.is_finite());
    let hits: u64 = losses.iter().map(|row| u64::from(row.hits)).sum();
    let token_accuracy = loss.map(|_| hits as f64 / target_tokens as f64);
    RowsLoss { rows: rows.count() as u64, target_tokens, loss, token_accuracy, preference: None }
}

/// Computes the mean loss and ranking of a group's pairs.
fn ranking(rows: &Rows, scores: &[PairScore]) -> RowsLoss {
    let loss = Some(mean(scores, |score| score.loss)).filter(|loss| loss.is_finite());
    let accuracy = mean(scores, |score| f64::from(u8::from(score.is_right)));
    let preference = loss.map(|_| Ranking { margin: mean(scores, |score| score.margin), accuracy });
    let target_tokens = rows.target_tokens();
    RowsLoss { rows: rows.count() as u64, target_tokens, loss, token_accuracy: None, preference }
}

/// Computes the mean of a quantity over pairs; NaN without pairs.
fn mean(scores: &[PairScore], value: fn(&PairScore) -> f64) -> f64 {
    scores.iter().map(value).sum::<f64>() / scores.len() as f64
}
