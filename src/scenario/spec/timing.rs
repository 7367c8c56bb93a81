//! Model shapes and synthetic data, which are enough to simulate times without training.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::range;

/// Shape of a model of the Llama family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelShape {
    /// [layers] -- at least 1.
    #[serde(deserialize_with = "range::at_least_one")]
    pub layers: u32,
    /// [columns] Width of the residual stream -- at least 1.
    #[serde(deserialize_with = "range::at_least_one")]
    pub hidden: u32,
    /// [columns] Width of the gated feed-forward network -- at least 1.
    #[serde(deserialize_with = "range::at_least_one")]
    pub intermediate: u32,
    /// [heads] Query heads -- at least 1, and `hidden` is a multiple of it.
    #[serde(deserialize_with = "range::at_least_one")]
    pub heads: u32,
    /// [heads] Key and value heads; `None` is the number of query heads.
    #[serde(default)]
    pub kv_heads: Option<u32>,
    /// [tokens] -- at least 1.
    #[serde(deserialize_with = "range::at_least_one")]
    pub vocabulary: u32,
    /// Whether the output projection shares its weights with the embedding.
    #[serde(default)]
    pub ties_embeddings: bool,
}

/// Clients without data: their number, and the amount of data that each is assumed to have.
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

/// Distribution of a whole number over clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Counts {
    /// The same number for all clients -- at least 1.
    Fixed(u32),
    /// A uniform number between two bounds, both included -- at least 1, ascending.
    Uniform(u32, u32),
}
