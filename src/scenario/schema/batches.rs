//! Fields of the batches of a task: their rows, their number, and the dropout masks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fidelity::{DefaultsBasis, FidelityDefault};
use crate::scenario::range;

/// Rows that a task trains on, and their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Batches {
    /// Epochs over all of the client's rows, in a new order for each task, drawn from the run's seed.
    Fresh,
    /// FedLLM-Bench's batches for single turns and pairs: the round seeds the subset, which is the same for clients
    /// with equal numbers of rows, and a fixed seed shuffles it.
    RoundSeeded,
    /// FedLLM-Bench's batches for conversations: every task of a client sees the same first rows of one order.
    SamePrefix,
}

impl FidelityDefault for Batches {
    type Value = Self;

    fn under(basis: DefaultsBasis) -> Self {
        basis.choose(Self::Fresh, Self::RoundSeeded)
    }
}

/// Dropout masks of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DropoutMasks {
    /// New masks for each task.
    PerTask,
    /// The same masks in each task, since every trainer of FedLLM-Bench starts from seed 42.
    Shared,
}

impl FidelityDefault for DropoutMasks {
    type Value = Self;

    fn under(basis: DefaultsBasis) -> Self {
        basis.choose(Self::PerTask, Self::Shared)
    }
}

/// Steps of a task in proportion to the client's n rows, so that a client that is selected as often as the average
/// passes over its rows `epochs` times in the run: ceil(epochs n / (rounds clients_per_round / N) / rows of a step),
/// with N clients. Synchronous rounds only.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DynamicSteps {
    /// [epochs] -- above 0. FedLLM-Bench uses 3.
    #[serde(default = "three", deserialize_with = "range::positive")]
    pub epochs: f64,
}

fn three() -> f64 {
    3.0
}
