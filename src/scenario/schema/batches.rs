//! Which rows a task trains on, for how many steps, and with which dropout masks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fidelity::choose;
use crate::scenario::range;

/// Which rows a task trains on, and in what order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Batches {
    /// Epochs over all of the client's rows, in an order of their own for each task, from the run's seed.
    Fresh,
    /// FedLLM-Bench's for single turns and pairs: the round seeds the subset, alike for clients of one size, and one seed
    /// shuffles it.
    RoundSeeded,
    /// FedLLM-Bench's for conversations: every task of a client sees the same first rows of one order.
    SamePrefix,
}

impl Default for Batches {
    fn default() -> Self {
        choose(Self::Fresh, Self::RoundSeeded)
    }
}

/// Which dropout masks a task draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DropoutMasks {
    /// Its own.
    PerTask,
    /// The same in each task, as every trainer of FedLLM-Bench starts from seed 42.
    Shared,
}

impl Default for DropoutMasks {
    fn default() -> Self {
        choose(Self::PerTask, Self::Shared)
    }
}

/// Steps of a task by the client's rows, so that a client of the mean luck goes so many times through its rows in a run:
/// ceil(epochs n / (rounds clients_per_round / N) / rows of a step). Synchronous rounds only.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DynamicSteps {
    /// [epochs] -- above 0. FedLLM-Bench's is 3.
    #[serde(default = "three", deserialize_with = "range::positive")]
    pub epochs: f64,
}

fn three() -> f64 {
    3.0
}
