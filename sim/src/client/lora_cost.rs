//! Cost model of LoRA training of a Llama-family model: operations, memory traffic, peak memory and bytes on the wire.
//!
//! Operations are those of matrix products and attention, about 99 % of the work at realistic sizes; norms, activation
//! functions and the optimizer are left out. Everything is an integer. A cost that does not fit into 64 bits saturates,
//! and validation then rejects it as implausible.

use super::Work;
use serde::{Deserialize, Serialize};

/// Dimensions of a Llama-family model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelShape {
    /// Number of transformer layers.
    pub layers: u64,
    /// Width of the residual stream.
    pub hidden: u64,
    /// Width of the gated feed-forward network.
    pub intermediate: u64,
    /// Number of query heads.
    pub heads: u64,
    /// Number of key and value heads; fewer than query heads in grouped-query attention.
    pub kv_heads: u64,
    /// Width of a head.
    pub head_dim: u64,
    /// [token] -- Size of the vocabulary.
    pub vocabulary: u64,
    /// Whether the output projection is tied to the embedding.
    pub ties_embeddings: bool,
}

/// A linear module of a layer to which an adapter can be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Target {
    /// `q_proj`.
    Query,
    /// `k_proj`.
    Key,
    /// `v_proj`.
    Value,
    /// `o_proj`.
    Output,
    /// `gate_proj`.
    Gate,
    /// `up_proj`.
    Up,
    /// `down_proj`.
    Down,
    /// `qkv_proj`: queries, keys and values in one module.
    QueryKeyValue,
    /// `gate_up_proj`: gate and up in one module.
    GateUp,
}

/// The linear modules of a layer, one by one.
pub const ALL_TARGETS: [Target; 7] =
    [Target::Query, Target::Key, Target::Value, Target::Output, Target::Gate, Target::Up, Target::Down];

/// Local training of one task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoraTraining {
    /// Base model.
    pub model: ModelShape,
    /// Rank of the adapter.
    pub rank: u64,
    /// Modules with an adapter, in each layer.
    pub targets: Vec<Target>,
    /// Number of optimizer steps.
    pub steps: u64,
    /// Micro-batches per step.
    pub accumulation: u64,
    /// Sequences per micro-batch.
    pub batch: u64,
    /// [token] -- Length of a sequence, including padding.
    pub sequence: u64,
    /// [bit] -- Size of a weight of the base model that is not quantized (embedding, norms, output projection): 32 or
    /// 16.
    pub base_bits: u64,
    /// [bit] -- Size of 64 weights of the linear modules, with the scales of their block: at most 64 times `base_bits`.
    pub linear_block_bits: u64,
    /// [byte] -- Size of an activation: 4 or 2.
    pub activation_bytes: u64,
    /// [byte] -- Optimizer state per adapter parameter: 8 for Adam in f32, 0 for SGD.
    pub optimizer_bytes: u64,
    /// Whether the backward pass recomputes layers instead of saving their activations.
    pub recomputes: bool,
    /// Whether attention saves its scores, sequence by sequence, instead of recomputing them in tiles.
    pub keeps_scores: bool,
    /// [byte] -- Size of an adapter parameter on the wire: 4, 2 or 1.
    pub wire_bytes: u64,
    /// [byte] -- Overhead of the wire format.
    pub wire_overhead_bytes: u64,
    /// Whether a client downloads the base model with its first task.
    pub downloads_base: bool,
}

impl ModelShape {
    /// Returns the number of inputs and outputs of a module.
    fn dims(&self, target: Target) -> (u64, u64) {
        let queries = self.heads * self.head_dim;
        let keys = self.kv_heads * self.head_dim;
        match target {
            Target::Query => (self.hidden, queries),
            Target::Key | Target::Value => (self.hidden, keys),
            Target::Output => (queries, self.hidden),
            Target::Gate | Target::Up => (self.hidden, self.intermediate),
            Target::Down => (self.intermediate, self.hidden),
            Target::QueryKeyValue => (self.hidden, queries + 2 * keys),
            Target::GateUp => (self.hidden, 2 * self.intermediate),
        }
    }

    /// Returns the number of parameters of the linear modules of one layer.
    fn layer_linear_params(&self) -> u64 {
        ALL_TARGETS.iter().map(|target| self.dims(*target)).map(|(inputs, outputs)| inputs * outputs).sum()
    }

    /// Returns the number of parameters: of linear modules, norms, embedding and output projection.
    pub fn params(&self) -> u64 {
        let embeddings = self.vocabulary * self.hidden * if self.ties_embeddings { 1 } else { 2 };
        let norms = (2 * self.layers + 1) * self.hidden;
        self.layers * self.layer_linear_params() + embeddings + norms
    }
}

impl LoraTraining {
    /// Returns the number of parameters of the adapter: rank times the sum of inputs and outputs of each module.
    pub fn adapter_params(&self) -> u64 {
        let a_layer: u64 = self.targets.iter().map(|target| self.model.dims(*target)).map(|(i, o)| i + o).sum();
        self.model.layers * self.rank * a_layer
    }

    /// Returns the size of the adapter on the wire [byte].
    pub fn adapter_wire_bytes(&self) -> u64 {
        self.adapter_params() * self.wire_bytes + self.wire_overhead_bytes
    }

    /// Returns the size of the base model at its precision [byte].
    pub fn base_bytes(&self) -> u64 {
        let linear = self.model.layers * self.model.layer_linear_params();
        ((self.model.params() - linear) * self.base_bits + (linear * self.linear_block_bits).div_ceil(64)).div_ceil(8)
    }

    /// Returns the operations of one micro-batch [FLOP].
    ///
    /// The forward pass takes 2 operations per weight and token, plus causal attention over all earlier tokens. The
    /// backward pass takes as many again for the frozen linear modules (gradients of activations only), and twice as
    /// many for attention and for the adapter, which has gradients of weights too. Recomputation repeats the forward
    /// pass of the layers.
    pub fn micro_batch_flops(&self) -> u128 {
        let model = &self.model;
        let tokens = u128::from(self.batch * self.sequence);
        let layers = 2 * tokens * u128::from(model.layers * model.layer_linear_params());
        let head = 2 * tokens * u128::from(model.vocabulary * model.hidden);
        let adapter = 2 * tokens * u128::from(self.adapter_params());
        // Two products (scores, and their weighted sum) of width heads * head_dim for each token and each token not
        // after it, at 2 operations per element.
        let pairs = u128::from(self.batch) * u128::from(self.sequence * (self.sequence + 1) / 2);
        let attention = 4 * pairs * u128::from(model.layers * model.heads * model.head_dim);
        let again = if self.recomputes { layers + attention + adapter } else { 0 };
        (2 * layers + 2 * head) + 3 * attention + 3 * adapter + again
    }

    /// Returns the traffic between memory and compute units of one micro-batch [byte]: base weights once per pass over
    /// them, and activations written and read.
    fn micro_batch_traffic(&self) -> u128 {
        let passes = if self.recomputes { 3 } else { 2 };
        let activations = self.layer_activation_elements() * self.model.layers * self.activation_bytes;
        // Each pass reads the weights and touches the activations; the forward pass writes the activations in addition.
        passes * (u128::from(self.base_bytes()) + u128::from(activations)) + u128::from(activations)
    }

    /// Returns the number of activations that the backward pass of one layer needs: inputs of both norms and of the
    /// linear modules; queries, keys, values and the output of attention; the three of the feed-forward network; and
    /// the scores, if they are saved.
    fn layer_activation_elements(&self) -> u64 {
        let model = &self.model;
        let queries = model.heads * model.head_dim;
        let keys = model.kv_heads * model.head_dim;
        let a_token = 4 * model.hidden + 2 * queries + 2 * keys + 3 * model.intermediate;
        let scores = if self.keeps_scores { 2 * model.heads * self.sequence } else { 0 };
        self.batch * self.sequence * (a_token + scores)
    }

    /// Returns the peak memory [byte]: base model; adapter in f32 with gradients and optimizer state; activations,
    /// which with recomputation are those of one layer and the input of each layer; and logits in f32 with their
    /// gradients.
    pub fn peak_memory_bytes(&self) -> u64 {
        let model = &self.model;
        let tokens = self.batch * self.sequence;
        let adapter = self.adapter_params() * (4 + 4 + self.optimizer_bytes);
        let layer = self.layer_activation_elements();
        let elements =
            if self.recomputes { layer + model.layers * tokens * model.hidden } else { model.layers * layer };
        let logits = 2 * 4 * tokens * model.vocabulary;
        self.base_bytes() + adapter + elements * self.activation_bytes + logits
    }

    /// Returns the cost of the task: the download of an adapter, training, and the upload of an adapter.
    pub fn work(&self) -> Work {
        let micro_batches = u128::from(self.steps * self.accumulation);
        Work {
            flops: saturate(micro_batches * self.micro_batch_flops()),
            memory_traffic_bytes: saturate(micro_batches * self.micro_batch_traffic()),
            peak_memory_bytes: self.peak_memory_bytes(),
            download_bytes: self.adapter_wire_bytes(),
            upload_bytes: self.adapter_wire_bytes(),
            first_download_bytes: if self.downloads_base { self.base_bytes() } else { 0 },
            every_second_round: None,
            training: None,
        }
    }
}

/// Returns `value` as 64 bits, at most the greatest such number.
fn saturate(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Device;
    use crate::kernel::Span;

    const LLAMA_2_7B: ModelShape = ModelShape {
        layers: 32,
        hidden: 4_096,
        intermediate: 11_008,
        heads: 32,
        kv_heads: 32,
        head_dim: 128,
        vocabulary: 32_000,
        ties_embeddings: false,
    };

    fn training(model: ModelShape) -> LoraTraining {
        LoraTraining {
            model,
            rank: 16,
            targets: vec![Target::Query, Target::Value],
            steps: 10,
            accumulation: 1,
            batch: 16,
            sequence: 512,
            base_bits: 16,
            linear_block_bits: 64 * 8,
            activation_bytes: 2,
            optimizer_bytes: 8,
            recomputes: true,
            keeps_scores: false,
            wire_bytes: 4,
            wire_overhead_bytes: 0,
            downloads_base: false,
        }
    }

    /// Published: 6,738,415,616 parameters; 8,388,608 trainable with rank 16 on queries and values, 32 MiB in f32.
    #[test]
    fn parameters_of_llama_2_7b_are_the_published_ones() {
        assert_eq!(LLAMA_2_7B.params(), 6_738_415_616);
        let training = training(LLAMA_2_7B);
        assert_eq!(training.adapter_params(), 8_388_608);
        assert_eq!(training.adapter_wire_bytes(), 32 << 20);
    }

    /// Phi-3-mini: heads of 96, rank 4 on the fused modules; its `qkv_proj` is 9,216 wide and its `gate_up_proj` 16,384.
    #[test]
    fn a_fused_module_has_one_adapter() {
        let phi3 = ModelShape { layers: 1, hidden: 3_072, intermediate: 8_192, head_dim: 96, ..LLAMA_2_7B };
        let targets = vec![Target::QueryKeyValue, Target::GateUp];
        let fused = LoraTraining { rank: 4, targets, ..training(phi3) };
        assert_eq!(fused.adapter_params(), 4 * (3_072 + 9_216 + 3_072 + 16_384));
    }

    /// A model small enough for hand arithmetic: one layer, width 2, one head.
    #[test]
    fn operations_equal_hand_arithmetic() {
        let model = ModelShape {
            layers: 1,
            hidden: 2,
            intermediate: 3,
            heads: 1,
            kv_heads: 1,
            head_dim: 2,
            vocabulary: 5,
            ties_embeddings: true,
        };
        let small = LoraTraining { rank: 1, batch: 1, sequence: 4, recomputes: false, ..training(model) };
        // 4 squares of 2 x 2 and 3 of 2 x 3 are 34 weights; 4 tokens: forward 272, backward 272. Head: 10 weights, 80
        // and 80. Attention: 10 pairs, 4 * 2 each: 80, three times. Adapter: 2 * (2 + 2) = 8 weights, 64, three times.
        assert_eq!(small.micro_batch_flops(), 272 * 2 + 80 * 2 + 80 * 3 + 64 * 3);
        let recomputed = LoraTraining { recomputes: true, ..small };
        assert_eq!(recomputed.micro_batch_flops(), 1136 + 272 + 80 + 64);
    }

    /// Without recomputation about 4 operations a weight and token, with it about 6: the usual rules of thumb.
    #[test]
    fn operations_follow_the_rules_of_thumb() {
        let tokens = 16.0 * 512.0;
        for (recomputes, factor) in [(false, 4.0), (true, 6.0)] {
            let training = LoraTraining { recomputes, ..training(LLAMA_2_7B) };
            let ratio = training.micro_batch_flops() as f64 / (6.6e9 * tokens);
            assert!((ratio / factor - 1.0).abs() < 0.05, "{ratio}");
        }
    }

    #[test]
    fn memory_falls_with_recomputation_and_bits() {
        let gib = |training: &LoraTraining| training.peak_memory_bytes() as f64 / f64::from(1 << 30);
        let base = training(LLAMA_2_7B);
        let kept = LoraTraining { recomputes: false, ..base.clone() };
        let half = LoraTraining { linear_block_bits: 64 * 16, ..base.clone() };
        assert!(gib(&base) < gib(&half) && gib(&half) < gib(&kept), "{} {} {}", gib(&base), gib(&half), gib(&kept));
        // 6,476,005,376 of the weights are linear: NormalFloat4 with double quantisation holds them in 4.14 bits each.
        let tiny = LoraTraining { linear_block_bits: 265, ..base.clone() };
        assert_eq!(tiny.base_bytes(), (262_410_240 * 16 + 6_476_005_376 / 64 * 265) / 8);
        // 8-bit 7B at batch 16 x 512 with recomputation fits 24 GiB, without it does not.
        assert!(gib(&base) < 16.0 && gib(&kept) > 24.0, "{} {}", gib(&base), gib(&kept));
    }

    #[test]
    fn one_token_at_a_time_is_bounded_by_memory() {
        let device = Device {
            name: "test".into(),
            flops_per_s: 100_000_000_000_000,
            memory_bytes: 1 << 40,
            memory_bytes_per_s: 1_000_000_000_000,
            idle_mw: 1,
            busy_mw: 1,
            slowdown: None,
            crashes: None,
        };
        let token = LoraTraining { batch: 1, sequence: 1, ..training(LLAMA_2_7B) }.work();
        let by_memory = Span::of_work(token.memory_traffic_bytes, device.memory_bytes_per_s);
        assert_eq!(device.training_span(&token, 1_000_000_000), by_memory);
        let batch = training(LLAMA_2_7B).work();
        assert_eq!(device.training_span(&batch, 1_000_000_000), Span::of_work(batch.flops, device.flops_per_s));
    }
}
