//! The shape of a decoder and the constants of its computation.

use serde::{Deserialize, Serialize};

use super::{Architecture, DecoderVariant, RopeScaling, RotaryTable};

/// The shape of a decoder, and the constants of its computation.
///
/// # Examples
///
/// ```
/// use std::path::Path;
///
/// use fedreplay::model::{Architecture, Config};
///
/// let config = Config::read(Path::new("fixtures/tiny-base"))?;
/// assert_eq!(config.architecture, Architecture::Llama);
/// assert_eq!((config.layers, config.hidden_size, config.vocab_size), (4, 128, 1024));
/// assert!(config.tied);
/// // What is written reads back as the same model.
/// assert_eq!(Config::parse(config.to_json().to_string().as_bytes())?, config);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The model family.
    pub architecture: Architecture,
    /// Number of tokens in the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the hidden layer of the MLP.
    pub intermediate_size: usize,
    /// Number of decoder layers.
    pub layers: usize,
    /// Number of query heads.
    pub heads: usize,
    /// Number of key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head; even.
    pub head_dim: usize,
    /// Epsilon of RMSNorm.
    pub rms_norm_eps: f64,
    /// Base of the rotary embedding.
    pub rope_theta: f64,
    /// The scaling of RoPE, if any.
    pub rope_scaling: Option<RopeScaling>,
    /// [token] -- Longest sequence.
    pub max_positions: usize,
    /// [token] -- Number of keys that a query attends to, including its own, if limited.
    pub sliding_window: Option<usize>,
    /// [1] -- Probability with which Transformers drops an attention weight in training. It changes nothing else.
    pub attention_dropout: f64,
    /// Whether the output head is the embedding.
    pub tied: bool,
    /// Whether q, k and v have biases.
    pub qkv_bias: bool,
    /// Whether o has a bias.
    pub output_bias: bool,
    /// Whether gate, up and down have biases.
    pub mlp_bias: bool,
    /// Differences from Llama's decoder beyond these.
    pub variant: DecoderVariant,
}

impl Config {
    /// Returns a Llama without biases, grouped heads or RoPE scaling, for tests and small generated models.
    pub fn llama(vocab_size: usize, hidden_size: usize, intermediate_size: usize, layers: usize, heads: usize) -> Self {
        Self {
            architecture: Architecture::Llama,
            vocab_size,
            hidden_size,
            intermediate_size,
            layers,
            heads,
            kv_heads: heads,
            head_dim: hidden_size / heads,
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            rope_scaling: None,
            max_positions: 2048,
            sliding_window: None,
            attention_dropout: 0.0,
            tied: false,
            qkv_bias: false,
            output_bias: false,
            mlp_bias: false,
            variant: DecoderVariant::default(),
        }
    }

    /// Returns the number of keys that a query of a layer attends to, including its own, if limited.
    pub fn window(&self, layer: usize) -> Option<usize> {
        let is_windowed = self.variant.windowed_layers.as_ref().is_none_or(|layers| layers[layer]);
        self.sliding_window.filter(|_| is_windowed)
    }

    /// Returns the rotary embedding of a layer, if it has one.
    pub fn rotary(&self, layer: usize) -> Option<RotaryTable> {
        if self.variant.rotated_layers.as_ref().is_some_and(|layers| !layers[layer]) {
            return None;
        }
        let is_local = self.variant.local_rope_theta.is_some() && self.window(layer).is_some();
        Some(if is_local { RotaryTable::Local } else { RotaryTable::Global })
    }

    /// Returns the number of elements of a head that are rotated.
    pub fn rotated(&self) -> usize {
        self.variant.rotated.unwrap_or(self.head_dim)
    }

    /// Checks the properties that the rest of the program relies on.
    pub(super) fn check(&self) -> Result<(), String> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.layers),
            ("num_attention_heads", self.heads),
            ("num_key_value_heads", self.kv_heads),
            ("max_position_embeddings", self.max_positions),
            ("head_dim", self.head_dim),
        ];
        if let Some((name, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
            return Err(format!("{name} is 0, at least 1 is needed"));
        }
        if self.layers > LAYERS_MAX {
            return Err(format!("num_hidden_layers is {}, at most {LAYERS_MAX} are allowed", self.layers));
        }
        if let Some((name, size)) = sizes.into_iter().find(|(_, size)| *size > SIZE_MAX) {
            return Err(format!("{name} is {size}, at most {SIZE_MAX} is allowed"));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(format!(
                "num_key_value_heads {} does not divide num_attention_heads {}",
                self.kv_heads, self.heads
            ));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(format!("head_dim is {}, the rotary embedding needs an even one", self.head_dim));
        }
        if !self.rotated().is_multiple_of(2) || !(1..=self.head_dim).contains(&self.rotated()) {
            let part = self.rotated();
            return Err(format!("{part} elements of each head are rotated, an even number up to head_dim is needed"));
        }
        if !(self.rms_norm_eps > 0.0 && self.rope_theta > 0.0) {
            return Err("rms_norm_eps and rope_theta must be above 0".into());
        }
        Ok(())
    }
}

/// Largest number of layers. No decoder has as many; a larger number is a mistake that would only fill memory.
const LAYERS_MAX: usize = 10_000;

/// Largest value of every other size. Products of two of them, in bytes, stay below 2^63.
const SIZE_MAX: usize = 1 << 28;
