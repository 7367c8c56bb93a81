//! Rows of several jobs laid out as one list of tokens: no padding between sequences, none across jobs but to 16.
//!
//! LibTorch's CPU products give a row the same bits in any company only where row counts are multiples of 16, so each
//! job's tokens and each job's predicted rows are padded to that. Padding is part of a job, never of its neighbours.

use std::ops::Range;
use std::sync::Arc;

use tch::{Kind, TchError, Tensor};

use crate::data::Sample;
use crate::model::Base;

/// Row counts are padded to multiples of this.
pub const ROW_MULTIPLE: usize = 16;

/// One job's share of a pass: its rows, and the weight of each of its target tokens.
pub struct Share<'a> {
    /// The micro-batch.
    pub samples: &'a [Arc<Sample>],
    /// What each target token's loss is multiplied by before it is summed.
    pub weight: f64,
}

/// Consecutive sequences of one length, so that one attention call serves them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First row.
    pub start: i64,
    /// Number of sequences.
    pub count: i64,
    /// Tokens of each.
    pub length: i64,
}

/// The rows of one pass through the model.
pub struct Packed {
    /// Token ids `[rows]`.
    pub ids: Tensor,
    /// Cosines of the positions `[rows, head_dim / 2]`.
    pub cos: Tensor,
    /// Sines of the positions.
    pub sin: Tensor,
    /// The sequences.
    pub runs: Vec<Run>,
    /// Rows of each job, padding included.
    pub spans: Vec<Range<i64>>,
    /// The rows that predict a target token.
    pub predictions: Predictions,
}

/// The rows whose logits are needed, job by job, each job's padded to 16 with rows of weight 0.
pub struct Predictions {
    /// Row of the pass for each prediction, `[predictions]`.
    pub rows: Tensor,
    /// The token to predict, `[predictions]`.
    pub labels: Tensor,
    /// Weight of its loss, `[predictions]`; 0 in padding.
    pub weights: Tensor,
    /// The predictions that are not padding: rows of the pass, ascending.
    pub real_rows: Tensor,
    /// Their places among the predictions.
    pub real_places: Tensor,
    /// Each job's places among the predictions, padding included.
    pub spans: Vec<Range<i64>>,
    /// For each job, for each of its samples, its places among the predictions.
    pub samples: Vec<Vec<Range<usize>>>,
}

/// Lays out the shares one after another.
pub fn pack(base: &Base, shares: &[Share]) -> Result<Packed, TchError> {
    let mut builder = Builder::default();
    shares.iter().for_each(|share| builder.add_job(share));
    builder.finish(base)
}

#[derive(Default)]
struct Builder {
    ids: Vec<i64>,
    positions: Vec<i64>,
    runs: Vec<Run>,
    spans: Vec<Range<i64>>,
    rows: Vec<i64>,
    labels: Vec<i64>,
    weights: Vec<f64>,
    real_rows: Vec<i64>,
    real_places: Vec<i64>,
    prediction_spans: Vec<Range<i64>>,
    samples: Vec<Vec<Range<usize>>>,
}

impl Builder {
    fn add_job(&mut self, share: &Share) {
        let (first_row, first_prediction) = (self.ids.len(), self.rows.len());
        let places = share.samples.iter().map(|sample| self.add_sample(sample, share.weight)).collect();
        self.samples.push(places);
        let padded = first_row + (self.ids.len() - first_row).next_multiple_of(ROW_MULTIPLE);
        self.ids.resize(padded, 0);
        self.positions.resize(padded, 0);
        self.spans.push(first_row as i64..padded as i64);
        let padded = first_prediction + (self.rows.len() - first_prediction).next_multiple_of(ROW_MULTIPLE);
        self.rows.resize(padded, first_row as i64);
        self.labels.resize(padded, 0);
        self.weights.resize(padded, 0.0);
        self.prediction_spans.push(first_prediction as i64..padded as i64);
    }

    /// Returns the sample's places among the predictions.
    fn add_sample(&mut self, sample: &Sample, weight: f64) -> Range<usize> {
        let start = self.ids.len() as i64;
        let length = sample.ids.len() as i64;
        self.ids.extend(sample.ids.iter().map(|&id| i64::from(id)));
        self.positions.extend(0..length);
        match self.runs.last_mut() {
            Some(run) if run.length == length && run.start + run.count * length == start => run.count += 1,
            _ => self.runs.push(Run { start, count: 1, length }),
        }
        let first = self.rows.len();
        for position in sample.targets.iter().cloned().flatten() {
            let row = start + i64::from(position) - 1;
            self.real_places.push(self.rows.len() as i64);
            self.real_rows.push(row);
            self.rows.push(row);
            self.labels.push(i64::from(sample.ids[position as usize]));
            self.weights.push(weight);
        }
        first..self.rows.len()
    }

    fn finish(self, base: &Base) -> Result<Packed, TchError> {
        let device = base.device.torch();
        let place = |values: &[i64]| Tensor::f_from_slice(values)?.f_to_device(device);
        let (cos, sin) = base.rope.at(&self.positions, master(base), device)?;
        Ok(Packed {
            ids: place(&self.ids)?,
            cos,
            sin,
            runs: self.runs,
            spans: self.spans,
            predictions: Predictions {
                rows: place(&self.rows)?,
                labels: place(&self.labels)?,
                weights: Tensor::f_from_slice(&self.weights)?.f_to_kind(master(base))?.f_to_device(device)?,
                real_rows: place(&self.real_rows)?,
                real_places: place(&self.real_places)?,
                spans: self.prediction_spans,
                samples: self.samples,
            },
        })
    }
}

fn master(base: &Base) -> Kind {
    base.precision.master_kind()
}

/// Checks that a row fits the model; the error is a reason.
pub fn check_sample(base: &Base, sample: &Sample) -> Result<(), String> {
    let config = &base.config;
    let length = sample.ids.len();
    if length == 0 || length > config.max_positions {
        return Err(format!("it has {length} tokens, the model takes 1 to {}", config.max_positions));
    }
    if let Some(id) = sample.ids.iter().find(|&&id| id as usize >= config.vocab_size) {
        return Err(format!("token id {id} is beyond the embedding of {} tokens", config.vocab_size));
    }
    let mut free = 1;
    for range in &sample.targets {
        if range.start < free || range.end < range.start || range.end as usize > length {
            return Err(format!("target range {range:?} is not ascending inside 1..{length}"));
        }
        free = range.end;
    }
    Ok(())
}
