//! What stands for a model and for data where only times are asked for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scenario::range;

/// The shape of a Llama-family model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelShape {
    /// [layers] -- at least 1.
    #[serde(deserialize_with = "range::at_least_one")]
    pub layers: u32,
    /// [columns] Width of the residual stream -- at least 1.
    #[serde(deserialize_with = "range::at_least_one")]
    pub hidden: u32,
    /// [columns] Width of the gated feed-forward part -- at least 1.
    #[serde(deserialize_with = "range::at_least_one")]
    pub intermediate: u32,
    /// [heads] Query heads -- at least 1, and `hidden` is a multiple of it.
    #[serde(deserialize_with = "range::at_least_one")]
    pub heads: u32,
    /// [heads] Key and value heads; none is as many as query heads.
    #[serde(default)]
    pub kv_heads: Option<u32>,
    /// [tokens] -- at least 1.
    #[serde(deserialize_with = "range::at_least_one")]
    pub vocabulary: u32,
    /// Whether the output projection is the embedding.
    #[serde(default)]
    pub ties_embeddings: bool,
}

/// Clients without data: how many, and how much each would have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Synthetic {
    /// [clients] -- at least 1.
    #[serde(deserialize_with = "range::at_least_one")]
    pub clients: u32,
    /// [rows] Training rows of a client.
    pub rows: Counts,
    /// [tokens] Tokens of every row, prompt included -- at least 1.
    #[serde(deserialize_with = "range::at_least_one")]
    pub tokens_per_row: u32,
}

/// A whole number for each client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Counts {
    /// The same for all -- at least 1.
    Fixed(u32),
    /// Uniform between two numbers, both included -- at least 1, ascending.
    Uniform(u32, u32),
}
