//! Layout of the rows of several jobs as one list of tokens, without padding between sequences.
//!
//! The tokens of each job, and its predicted rows, are padded to a multiple of 16, so that the tiles of products are full. Padding
//! belongs to its job and never depends on other jobs; products are batch-invariant without it.

use std::ops::Range;
use std::sync::Arc;

use tch::{Kind, TchError, Tensor};

use crate::data::Sample;
use crate::model::{Base, RotaryTables};
use crate::training::kernels::attention::SequenceGroup;

/// Multiple to which row counts are padded.
pub const ROW_MULTIPLE: usize = 16;

/// Part of a pass that belongs to one job.
pub struct BatchPart<'a> {
    /// Micro-batch.
    pub samples: &'a [Arc<Sample>],
    /// Weight of each target token's loss in the sum.
    pub weight: f64,
}

/// Rows of one pass through the model.
pub struct PackedBatch {
    /// Token ids `[rows]`.
    pub ids: Tensor,
    /// Cosines and sines of the rotary embeddings.
    pub rotary: RotaryTables,
    /// Sequences.
    pub runs: Vec<SequenceGroup>,
    /// Rows of each job, including padding.
    pub spans: Vec<Range<i64>>,
    /// Rows that predict a target token.
    pub predictions: Predictions,
}

/// Rows whose logits are needed, job by job; those of each job are padded to a multiple of 16 with rows of weight 0.
pub struct Predictions {
    /// Row of the pass for each prediction, `[predictions]`.
    pub rows: Tensor,
    /// Token to predict, `[predictions]`.
    pub labels: Tensor,
    /// Weight of the loss, `[predictions]`; 0 in padding.
    pub weights: Tensor,
    /// Rows of the pass that belong to predictions other than padding, ascending.
    pub real_rows: Tensor,
    /// Positions of those predictions among all predictions.
    pub real_places: Tensor,
    /// Positions of each job among the predictions, including padding.
    pub spans: Vec<Range<i64>>,
    /// Positions among the predictions, by job and sample.
    pub samples: Vec<Vec<Range<usize>>>,
}

/// Lays out the shares one after another.
pub fn pack(base: &Base, shares: &[BatchPart]) -> Result<PackedBatch, TchError> {
    let mut builder = Builder::default();
    for share in shares {
        builder.add_job(share);
    }
    builder.finish(base)
}

/// Layout in progress, with the fields of [`PackedBatch`] and [`Predictions`] on the host.
#[derive(Default)]
struct Builder {
    ids: Vec<i64>,
    positions: Vec<i64>,
    runs: Vec<SequenceGroup>,
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
    /// Appends the rows and predictions of a job, with padding.
    fn add_job(&mut self, share: &BatchPart) {
        let first_row = self.ids.len();
        let first_prediction = self.rows.len();
        let places = share.samples.iter().map(|sample| self.add_sample(sample, share.weight)).collect();
        self.samples.push(places);
        // Padded predictions point to the job's own first row, so that they read nothing of other jobs.
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

    /// Appends a sequence and returns its positions among the predictions.
    fn add_sample(&mut self, sample: &Sample, weight: f64) -> Range<usize> {
        let start = self.ids.len() as i64;
        let length = sample.ids.len() as i64;
        self.ids.extend(sample.ids.iter().map(|&id| i64::from(id)));
        self.positions.extend(0..length);
        // A sequence extends the last run if it has the same length and follows without padding.
        match self.runs.last_mut() {
            Some(run) if run.length == length && run.start + run.count * length == start => run.count += 1,
            _ => self.runs.push(SequenceGroup { start, count: 1, length }),
        }
        let first = self.rows.len();
        for position in sample.targets.iter().cloned().flatten() {
            // A token is predicted by the row before it.
            let row = start + i64::from(position) - 1;
            self.real_places.push(self.rows.len() as i64);
            self.real_rows.push(row);
            self.rows.push(row);
            self.labels.push(i64::from(sample.ids[position as usize]));
            self.weights.push(weight);
        }
        first..self.rows.len()
    }

    /// Copies the layout to the device.
    fn finish(self, base: &Base) -> Result<PackedBatch, TchError> {
        let device = base.device.torch();
        Ok(PackedBatch {
            ids: Tensor::f_from_slice(&self.ids)?.f_to_device(device)?,
            rotary: base.rotary_tables(&self.positions)?,
            runs: self.runs,
            spans: self.spans,
            predictions: Predictions {
                rows: Tensor::f_from_slice(&self.rows)?.f_to_device(device)?,
                labels: Tensor::f_from_slice(&self.labels)?.f_to_device(device)?,
                weights: Tensor::f_from_slice(&self.weights)?.f_to_kind(master(base))?.f_to_device(device)?,
                real_rows: Tensor::f_from_slice(&self.real_rows)?.f_to_device(device)?,
                real_places: Tensor::f_from_slice(&self.real_places)?.f_to_device(device)?,
                spans: self.prediction_spans,
                samples: self.samples,
            },
        })
    }
}

/// Returns the type of sums and updates.
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
    // The first token has no row before it that could predict it.
    let mut free = 1;
    for range in &sample.targets {
        if range.start < free || range.end < range.start || range.end as usize > length {
            return Err(format!("target range {range:?} is not ascending inside 1..{length}"));
        }
        free = range.end;
    }
    Ok(())
}
