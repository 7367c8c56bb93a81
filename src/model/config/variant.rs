//! Differences of the decoders of other families from Llama's.

use serde::{Deserialize, Serialize};

/// Differences of a decoder from Llama's; the default is Llama.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecoderVariant {
    /// Places of the norms in a layer.
    pub norms: NormPlacement,
    /// Whether the weight of a norm is stored as its distance from 1.
    pub norms_from_one: bool,
    /// Norms of queries and keys.
    pub query_key_norm: QueryKeyNorm,
    /// Activation of the gate.
    pub activation: Activation,
    /// Whether q, k and v are one linear module, and gate and up another.
    pub fused: bool,
    /// Factor of the token embeddings.
    pub embedding_scale: f64,
    /// Factor of the results of attention and MLP before they are added to the residual stream.
    pub residual_scale: f64,
    /// Factor of the attention's scores; `None` stands for 1 / sqrt(head_dim).
    pub attention_scale: Option<f64>,
    /// Bound c of the attention's scores: a scaled score s counts as c tanh(s / c).
    pub attention_cap: Option<f64>,
    /// Factor of the logits.
    pub logit_scale: f64,
    /// Bound c of the logits: a logit l counts as c tanh(l / c).
    pub logit_cap: Option<f64>,
    /// Elements of a head that are rotated, from the first on; `None` stands for all.
    pub rotated: Option<usize>,
    /// Base of the rotary embedding in layers with a sliding window, if they have their own.
    pub local_rope_theta: Option<f64>,
    /// Layers that use the sliding window; `None` if all do.
    pub windowed_layers: Option<Vec<bool>>,
    /// Layers that use the rotary embedding; `None` if all do.
    pub rotated_layers: Option<Vec<bool>>,
}

impl Default for DecoderVariant {
    fn default() -> Self {
        Self {
            norms: NormPlacement::Before,
            norms_from_one: false,
            query_key_norm: QueryKeyNorm::None,
            activation: Activation::Silu,
            fused: false,
            embedding_scale: 1.0,
            residual_scale: 1.0,
            attention_scale: None,
            attention_cap: None,
            logit_scale: 1.0,
            logit_cap: None,
            rotated: None,
            local_rope_theta: None,
            windowed_layers: None,
            rotated_layers: None,
        }
    }
}

/// The places of the norms in a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NormPlacement {
    /// At the input of attention and of the MLP.
    Before,
    /// At their results, before these are added to the residual stream.
    After,
    /// At both.
    Around,
}

/// The norms of queries and keys before their rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum QueryKeyNorm {
    /// None.
    None,
    /// Over each head, with weights that the heads share.
    Head,
    /// Over all heads together.
    Whole,
}

/// The activation of the MLP's gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Activation {
    /// x sigmoid(x).
    Silu,
    /// GELU in its form with tanh.
    GeluTanh,
}

/// The rotary embedding of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotaryTable {
    /// That of the model.
    Global,
    /// That of layers with a sliding window.
    Local,
}
