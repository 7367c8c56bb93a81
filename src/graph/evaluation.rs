//! An evaluation in parts: rows are cut into parts of constant size, the scores of each are computed by any worker, and are
//! added up in the order of the rows, whoever computed them and when.

use std::ops::Range;
use std::sync::Arc;

use super::value::{Evaluated, Ranking, RowsLoss, Value};
use crate::adapter::Adapter;
use crate::data::{Rows, Sample};
use crate::training;
use crate::training::{Objective, PairScore, SampleLoss, Trainer, score_pairs};

/// An evaluation of one model, cut into parts.
pub(super) struct Evaluation {
    pub adapter: Arc<Adapter>,
    pub objective: Objective,
    groups: Vec<Arc<Rows>>,
    /// The samples of all groups, in order.
    samples: Vec<Arc<Sample>>,
    /// Consecutive ranges of `samples`.
    parts: Vec<Range<usize>>,
}

/// The scores of one part.
#[derive(Clone, Default)]
pub(super) struct PartScores {
    /// One for each sample.
    pub losses: Vec<SampleLoss>,
    /// [nat] Under preference training, the log-probability of each sample under the reference.
    pub references: Vec<f64>,
}

impl Evaluation {
    /// Cuts an evaluation.
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

    /// [parts] How many there are: none of no rows.
    pub fn part_count(&self) -> usize {
        self.parts.len()
    }

    /// The samples of a part.
    pub fn part(&self, index: usize) -> &[Arc<Sample>] {
        &self.samples[self.parts[index].clone()]
    }

    /// [rows] Rows that end in a part: over all parts, all rows. A pair may lie in two parts.
    pub fn rows_of_part(&self, index: usize) -> u64 {
        let range = &self.parts[index];
        (range.end / self.width() - range.start / self.width()) as u64
    }

    /// [samples] Samples of a row.
    fn width(&self) -> usize {
        match self.objective {
            Objective::Sft => 1,
            Objective::Dpo { .. } => 2,
        }
    }

    /// The result, from the scores of all parts in their order.
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
            Objective::Dpo { beta } => {
                let policy = losses.iter().map(|loss| -loss.nats).collect();
                by_group(&self.groups, self.width(), &score_pairs(beta, policy, &references), ranking)
            }
        };
        Value::Evaluated(Arc::new(Evaluated { groups }))
    }
}

/// Cuts scores, one for each `width` samples, into groups.
fn by_group<T>(
    groups: &[Arc<Rows>],
    width: usize,
    scores: &[T],
    score: impl Fn(&Rows, &[T]) -> RowsLoss,
) -> Vec<RowsLoss> {
    let mut rest = scores;
    let mut of_group = |rows: &Arc<Rows>| {
        let (mine, others) = rest.split_at(rows.samples.len() / width);
        rest = others;
        score(rows, mine)
    };
    groups.iter().map(&mut of_group).collect()
}

/// The mean negative log-likelihood of a group's target tokens.
fn likelihood(rows: &Rows, losses: &[SampleLoss]) -> RowsLoss {
    let nats: f64 = losses.iter().map(|row| row.nats).sum();
    let target_tokens: u64 = losses.iter().map(|row| u64::from(row.tokens)).sum();
    let loss = Some(nats / target_tokens as f64).filter(|loss| loss.is_finite());
    let hits: u64 = losses.iter().map(|row| u64::from(row.hits)).sum();
    let token_accuracy = loss.map(|_| hits as f64 / target_tokens as f64);
    RowsLoss { rows: rows.count() as u64, target_tokens, loss, token_accuracy, preference: None }
}

/// The mean over a group's pairs.
fn ranking(rows: &Rows, scores: &[PairScore]) -> RowsLoss {
    let mean = |value: fn(&PairScore) -> f64| scores.iter().map(value).sum::<f64>() / scores.len() as f64;
    let loss = Some(mean(|score| score.loss)).filter(|loss| loss.is_finite());
    let accuracy = mean(|score| f64::from(u8::from(score.is_right)));
    let preference = loss.map(|_| Ranking { margin: mean(|score| score.margin), accuracy });
    let (rows, target_tokens) = (rows.count() as u64, rows.target_tokens());
    RowsLoss { rows, target_tokens, loss, token_accuracy: None, preference }
}
