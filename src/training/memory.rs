//! How much memory a pass takes on the device, predicted from shapes: the choice of checkpointing rests on it.

use serde::{Deserialize, Serialize};

use super::Trainer;
use super::numerics::Checkpointing;
use super::pack::Packed;
use super::parameters::Site;

/// Predicted memory of one pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPlan {
    /// The frozen weights [byte].
    pub weights: u64,
    /// The largest weight that is expanded at each use; 0 where all are held as they are multiplied [byte].
    pub expanded: u64,
    /// Values, gradient and optimiser states of all jobs [byte].
    pub adapters: u64,
    /// What all layers keep for the backward pass without checkpointing [byte].
    pub kept: u64,
    /// The same with checkpointing: each layer's input, and all of one layer [byte].
    pub kept_checkpointed: u64,
}

impl Trainer {
    /// Predicts the memory of a pass of `jobs` jobs with `rows` tokens in all, `predictions` of them predicting.
    pub fn memory(&self, jobs: usize, rows: u64, predictions: u64) -> MemoryPlan {
        let config = &self.base.config;
        let width = self.base.precision.kind().elt_size_in_bytes() as u64;
        let master = self.base.precision.master_kind().elt_size_in_bytes() as u64;
        let lowest = self.placement.lowest_layer();
        let layers = (config.layers - lowest) as u64;
        let whole = self.kept_by_a_layer(rows, rows);
        let last = self.kept_by_a_layer(rows, predictions);
        let copies = if width == master { 4 } else { 5 };
        MemoryPlan {
            weights: self.base.device_bytes(),
            expanded: self.base.expanded_bytes(),
            adapters: jobs as u64 * copies * master * self.placement.length() as u64,
            kept: (layers - 1) * whole + last,
            kept_checkpointed: layers * rows * config.hidden_size as u64 * width + whole.max(last),
        }
    }

    /// Bytes that a layer keeps: `rows` enter its attention, `after` go on from there.
    fn kept_by_a_layer(&self, rows: u64, after: u64) -> u64 {
        let config = &self.base.config;
        let width = self.base.precision.kind().elt_size_in_bytes() as u64;
        let master = self.base.precision.master_kind().elt_size_in_bytes() as u64;
        let (hidden, inner) = (config.hidden_size as u64, config.intermediate_size as u64);
        let (queries, keys) = ((config.heads * config.head_dim) as u64, (config.kv_heads * config.head_dim) as u64);
        let low = |site| self.placement.low_width(site) as u64;
        let product = if low(Site::Down) > 0 { inner } else { 0 };
        // x, h, q, k, v and the attention's result; then the residual, its norm, gate, up, and the product if needed.
        let before = 2 * hidden + (queries + 2 * keys) + queries + low(Site::Attention);
        let then = 2 * hidden + 2 * inner + product + low(Site::Output) + low(Site::Mlp) + low(Site::Down);
        // Two inverse norms, and the attention's sum for each head.
        let sums = master * (rows * (1 + config.heads as u64) + after);
        width * (rows * before + after * then) + sums
    }

    /// Whether a pass keeps only the inputs of its layers.
    pub(super) fn checkpoints(&self, packed: &Packed) -> bool {
        match self.numerics.checkpointing {
            Checkpointing::Never => false,
            Checkpointing::Always => true,
            Checkpointing::Above(bytes) => {
                let (rows, predictions) = (packed.ids.size()[0] as u64, packed.predictions.rows.size()[0] as u64);
                self.memory(packed.spans.len(), rows, predictions).kept > bytes
            }
        }
    }
}
