//! Prediction of a pass's memory on the device from its shapes, for the choice of checkpointing and for the forecast of
//! a run.
//!
//! The prediction follows the lifetimes of tensors in [`layer`](super::layer), [`cross_entropy`](crate::training::objectives::cross_entropy) and
//! [`trainer`](super::trainer). Each term of [`MemoryPlan`] is one group of tensors; [`MemoryPlan::training`] and
//! [`MemoryPlan::evaluating`] add up the groups that are alive at the same time.

use serde::{Deserialize, Serialize};

use super::pack::{PackedBatch, ROW_MULTIPLE};
use super::parameters::Site;
use super::trainer::Trainer;
use crate::model::{NormPlacement, QueryKeyNorm};
use crate::training::objectives::cross_entropy;
use crate::training::process::numerics::Checkpointing;

/// [byte] -- Predicted memory of one pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPlan {
    /// Frozen weights.
    pub weights: u64,
    /// Largest weight that is expanded (dequantized) at each use, with its intermediate copies; 0 if no weight is.
    pub expanded: u64,
    /// Values, gradients and optimizer states of all jobs.
    pub adapters: u64,
    /// Copies of adapters on the host while a job is read in or out.
    pub plain: u64,
    /// Token ids, tables of the rotary embedding, labels and weights.
    pub tables: u64,
    /// Activations that all layers save for the backward pass without checkpointing.
    pub kept: u64,
    /// Inputs of all layers, which are what checkpointing saves.
    pub inputs: u64,
    /// Activations saved by the layer that saves most, including its input.
    pub layer: u64,
    /// Input of one layer.
    pub input: u64,
    /// Temporary tensors of a layer's forward pass.
    pub forward: u64,
    /// Temporary tensors of a layer's backward pass.
    pub backward: u64,
    /// Output of the last layer in the rows that predict.
    pub output: u64,
    /// Gradients of the normalized output and of the last layer's output: three tensors of that size.
    pub output_gradients: u64,
    /// Chunk of logits, which is overwritten with its gradient.
    pub logits: u64,
    /// Dropout masks of one module's input, and that input under them; they exist only under dropout.
    pub masks: u64,
}

impl MemoryPlan {
    /// Returns the peak memory of a training pass in bytes, without weights and adapters.
    pub fn training(&self, checkpointed: bool) -> u64 {
        let loss = self.normalized_output() + self.output_gradients + self.logits;
        let held = if checkpointed { self.inputs } else { self.kept };
        let layer = match checkpointed {
            // The layer is run again, while the gradient of its output is alive, and then differentiated.
            true => self.layer - self.input + self.backward.max(self.forward + self.input),
            false => self.backward,
        };
        self.tables + held + self.output + loss.max(layer + self.expanded)
    }

    /// Returns the peak memory of a pass without gradients in bytes, without weights and adapter.
    pub fn evaluating(&self) -> u64 {
        let loss = self.output + self.normalized_output() + self.logits;
        self.tables + loss.max(self.layer + self.forward + self.expanded)
    }

    /// Returns the size of the normalized output, which is that of the output.
    fn normalized_output(&self) -> u64 {
        self.output
    }

    /// Returns the activations that checkpointing saves: each layer's input, and all of the layer that is run again.
    pub fn kept_checkpointed(&self) -> u64 {
        self.inputs + self.layer - self.input
    }
}

/// Sizes of a model that determine the memory of a pass.
#[derive(Clone, Copy, Debug)]
struct ModelShape {
    /// Number of layers that are differentiated.
    trained_layers: u64,
    hidden: u64,
    inner: u64,
    /// Width of all query heads together.
    queries: u64,
    /// Width of all key heads together.
    keys: u64,
    heads: u64,
    head_dim: u64,
    vocab: u64,
    /// Number of rows whose logits exist at the same time.
    chunk_rows: u64,
    /// [byte] -- Size of an activation.
    width: u64,
    /// [byte] -- Size of a value that is summed or updated.
    master: u64,
    /// Width of the low-rank products at each [`Site`].
    low: [u64; 4],
    /// Number of values of an adapter on the device, padding included.
    placed_values: u64,
    /// Number of values of an adapter without padding.
    plain_values: u64,
    weights: u64,
    largest_expanded: u64,
    /// Number of norms of a layer at the results of attention and MLP.
    result_norms: u64,
    /// Whether queries and keys have norms.
    has_head_norms: bool,
    /// Whether layers with a sliding window have their own rotary embedding.
    has_local_rope: bool,
    /// Whether logits are bounded, so that a copy of them is needed.
    bounds_logits: bool,
}

/// Copies of an expanded weight: a weight of several modules is joined from its parts, which live until then.
const EXPANSION_COPIES: u64 = 2;

/// Copies of an adapter on the host: the one that the job starts from, the result, and their difference.
const PLAIN_COPIES: u64 = 3;

impl ModelShape {
    /// Predicts the memory of a pass.
    fn plan(&self, jobs: u64, rows: u64, predictions: u64) -> MemoryPlan {
        let whole = self.kept_by_a_layer(rows, rows);
        // After its attention, the last layer computes only the rows that predict.
        let last = self.kept_by_a_layer(rows, predictions);
        // Values, gradient and two moments in the master type; and the values in the compute type, if that is another.
        let copy = if self.width == self.master { 0 } else { self.width };
        let input = rows * self.hidden * self.width;
        let output = predictions * self.hidden * self.width;
        // cos and sin of half a head, ids; then rows, labels, weights, and the places of those that are not padding.
        let embeddings = if self.has_local_rope { 2 } else { 1 };
        let tables = rows * (embeddings * self.head_dim * self.master + 8) + predictions * (4 * 8 + self.master);
        let logit_copies = if self.bounds_logits { 2 } else { 1 };
        MemoryPlan {
            weights: self.weights,
            expanded: EXPANSION_COPIES * self.largest_expanded,
            adapters: jobs * self.placed_values * (4 * self.master + copy),
            plain: jobs * PLAIN_COPIES * 4 * self.plain_values,
            tables,
            kept: (self.trained_layers - 1) * whole + last,
            inputs: self.trained_layers * input,
            layer: if self.trained_layers == 1 { last } else { whole },
            input,
            forward: self.forward(rows),
            backward: self.backward(rows),
            output,
            output_gradients: 3 * output,
            logits: logit_copies * predictions.min(self.chunk_rows) * self.vocab * self.width,
            masks: self.masks(rows),
        }
    }

    /// Returns the bytes that a layer saves if `rows` rows enter its attention and `after` rows continue from there.
    fn kept_by_a_layer(&self, rows: u64, after: u64) -> u64 {
        let [attention, output, mlp, down] = self.low;
        let product = if down > 0 { self.inner } else { 0 };
        // x, h, q, k, v and the attention's result; then the residual, its norm, gate, up, and the product if needed.
        let before = 2 * self.hidden + (self.queries + 2 * self.keys) + self.queries + attention;
        let then = 2 * self.hidden + 2 * self.inner + product + output + mlp + down;
        // Two inverse norms, and the attention's sum for each head.
        let sums = self.master * (rows * (1 + self.heads) + after);
        // Results of attention and MLP before their norms; queries and keys before theirs.
        let results = self.result_norms * after * self.hidden;
        let of_heads = if self.has_head_norms { rows * (self.queries + self.keys) } else { 0 };
        self.width * (rows * before + after * then + results + of_heads) + sums
    }

    /// Returns the bytes of the gated product, if it is not saved, and of the layer's output.
    fn forward(&self, rows: u64) -> u64 {
        let [.., down] = self.low;
        let product = if down > 0 { 0 } else { self.inner };
        self.width * rows * (product + self.hidden)
    }

    /// Returns the bytes of the gradients that are alive at the same time, in the half of a layer in which they are
    /// more. The gradients of gate and up overwrite gate and up.
    fn backward(&self, rows: u64) -> u64 {
        // Of the layer's output, the gated product, the norm's output, and the residual sum.
        let mlp = 3 * self.hidden + self.inner;
        // Of the residual sum, the attention's result, q, k and v, the norm's output, and the layer's input.
        let attention = 3 * self.hidden + self.queries + (self.queries + 2 * self.keys);
        let low = self.low.into_iter().max().unwrap_or(0);
        self.width * rows * (mlp.max(attention) + low)
    }

    /// Returns the bytes of a mask of the widest adapted input, drawn in f32 on the host and converted to the
    /// activations' type, and of the masked input.
    fn masks(&self, rows: u64) -> u64 {
        let inputs = [self.hidden, self.queries, self.hidden, self.inner];
        let adapted = self.low.into_iter().zip(inputs).filter(|(low, _)| *low > 0);
        let widest = adapted.map(|(_, input)| input).max().unwrap_or(0);
        rows * widest * (2 * 4 + 2 * self.width)
    }
}

/// [byte] -- Scratch memory of a thread for its part of a product, besides that for attention.
const PRODUCT_ROOM: u64 = 8 << 20;

/// Number of f32 tables of size sequence times head width that a thread uses for attention and its derivative.
const ATTENTION_TABLES: u64 = 9;

/// Number of rows of f32 scores, and of their gradients, that a thread uses for attention.
const SCORE_ROWS: u64 = 2 * 48;

impl Trainer {
    /// Predicts the memory of a pass of `jobs` jobs with `rows` tokens in all, `predictions` of them predicting.
    pub fn memory(&self, jobs: usize, rows: u64, predictions: u64) -> MemoryPlan {
        self.shape().plan(jobs as u64, rows, predictions)
    }

    /// Predicts the peak memory of a training pass in bytes, without weights and adapters, with checkpointing if the
    /// pass would use it. `is_dropping` says whether its jobs have LoRA dropout.
    pub fn pass_bytes(&self, jobs: usize, rows: u64, predictions: u64, is_dropping: bool) -> u64 {
        let multiple = ROW_MULTIPLE as u64;
        let plan = self.memory(jobs, rows.next_multiple_of(multiple), predictions.next_multiple_of(multiple));
        let masks = if is_dropping { plan.masks } else { 0 };
        plan.training(self.recomputes(&plan)) + masks
    }

    /// Predicts the scratch memory of a worker's threads in bytes, for products and for attention over sequences of up
    /// to `longest` tokens.
    pub fn room_bytes(&self, longest: u64) -> u64 {
        let head = self.base.config.head_dim as u64;
        let attention = 4 * longest * (ATTENTION_TABLES * head + SCORE_ROWS);
        self.numerics.threads.max(1) as u64 * (PRODUCT_ROOM + attention)
    }

    /// Returns the sizes of this trainer's base and adapters.
    fn shape(&self) -> ModelShape {
        let config = &self.base.config;
        let sites = [Site::Attention, Site::Output, Site::Mlp, Site::Down];
        ModelShape {
            trained_layers: (config.layers - self.placement.lowest_layer()) as u64,
            hidden: config.hidden_size as u64,
            inner: config.intermediate_size as u64,
            queries: (config.heads * config.head_dim) as u64,
            keys: (config.kv_heads * config.head_dim) as u64,
            heads: config.heads as u64,
            head_dim: config.head_dim as u64,
            vocab: config.vocab_size as u64,
            chunk_rows: cross_entropy::chunk_rows(&self.base) as u64,
            width: self.base.precision.kind().elt_size_in_bytes() as u64,
            master: self.base.precision.master_kind().elt_size_in_bytes() as u64,
            low: sites.map(|site| self.placement.low_width(site) as u64),
            placed_values: self.placement.length() as u64,
            plain_values: self.layout().parameters() as u64,
            weights: self.base.device_bytes(),
            largest_expanded: self.base.expanded_bytes(),
            result_norms: if config.variant.norms == NormPlacement::Before { 0 } else { 2 },
            has_head_norms: config.variant.query_key_norm != QueryKeyNorm::None,
            has_local_rope: config.variant.local_rope_theta.is_some(),
            bounds_logits: config.variant.logit_cap.is_some(),
        }
    }

    /// Returns whether a pass saves only the inputs of its layers.
    pub fn checkpoints(&self, packed: &PackedBatch) -> bool {
        let rows = packed.ids.size()[0] as u64;
        let predictions = packed.predictions.rows.size()[0] as u64;
        self.recomputes(&self.memory(packed.spans.len(), rows, predictions))
    }

    /// Returns whether a pass with the memory of `plan` saves only the inputs of its layers.
    fn recomputes(&self, plan: &MemoryPlan) -> bool {
        match self.numerics.checkpointing {
            Checkpointing::Never => false,
            Checkpointing::Always => true,
            Checkpointing::Fitting { .. } => unreachable!("it was settled when the base was loaded"),
            Checkpointing::Above(bytes) => plan.kept > bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SmolLM2-135M in f32 with LoRA of rank 16 on all linear modules.
    fn small_model() -> ModelShape {
        ModelShape {
            trained_layers: 30,
            hidden: 576,
            inner: 1536,
            queries: 576,
            keys: 192,
            heads: 9,
            head_dim: 64,
            vocab: 49152,
            chunk_rows: 336,
            width: 4,
            master: 4,
            low: [48, 16, 32, 16],
            placed_values: 5_000_000,
            plain_values: 5_000_000,
            weights: 538_000_000,
            largest_expanded: 0,
            result_norms: 0,
            has_head_norms: false,
            has_local_rope: false,
            bounds_logits: false,
        }
    }

    #[test]
    fn what_is_kept_is_counted_by_token_and_layer() {
        let plan = small_model().plan(1, 2048, 2048);
        let floats = 2 * 576 + 960 + 576 + 48 + 2 * 576 + 3 * 1536 + 16 + 32 + 16;
        let a_layer = 4 * 2048 * (floats + 1 + 9 + 1);
        assert_eq!(plan.layer, a_layer);
        assert_eq!(plan.kept, 30 * a_layer);
        assert_eq!(plan.inputs, 30 * 4 * 2048 * 576);
        assert_eq!(plan.kept_checkpointed(), plan.inputs + a_layer - 4 * 2048 * 576);
        assert_eq!(plan.adapters, 4 * 4 * 5_000_000, "values, gradient and two moments");
    }

    #[test]
    fn a_peak_is_of_what_is_alive_together() {
        let plan = small_model().plan(1, 2048, 2048);
        let output = 4 * 2048 * 576;
        // The chunk of logits is more than any layer's gradients here.
        let logits = 4 * 336 * 49152;
        assert_eq!(plan.training(false), plan.tables + plan.kept + 5 * output + logits);
        let layer = plan.layer - plan.input + plan.backward;
        assert_eq!(plan.training(true), plan.tables + plan.inputs + output + layer.max(4 * output + logits));
        assert!(plan.training(true) < plan.training(false) / 3);
        assert_eq!(plan.evaluating(), plan.tables + (plan.layer + plan.forward).max(2 * output + logits));
    }

    #[test]
    fn few_predictions_have_few_logits() {
        let plan = small_model().plan(1, 2048, 16);
        assert_eq!(plan.logits, 4 * 16 * 49152);
        assert!(plan.kept < small_model().plan(1, 2048, 2048).kept);
    }

    #[test]
    fn half_precision_halves_what_is_kept_and_adds_a_copy_of_the_adapter() {
        let narrow = ModelShape { width: 2, ..small_model() };
        let plan = narrow.plan(2, 1024, 1024);
        let wide = small_model().plan(2, 1024, 1024);
        assert_eq!(plan.adapters, wide.adapters + 2 * 2 * 5_000_000);
        assert!(plan.kept < wide.kept / 2 + wide.kept / 100, "sums stay in f32");
        assert_eq!(plan.plain, wide.plain);
    }

    #[test]
    fn an_expanded_weight_counts_where_layers_decide() {
        let held = ModelShape { largest_expanded: 7 << 20, vocab: 1000, ..small_model() };
        let plan = held.plan(1, 2048, 2048);
        let without = ModelShape { largest_expanded: 0, ..held }.plan(1, 2048, 2048);
        assert_eq!(plan.training(false), without.training(false) + (14 << 20));
    }
}
