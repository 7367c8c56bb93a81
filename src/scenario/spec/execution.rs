//! How results are computed: memory and company. A run's results on a CPU are the same under any of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How results are computed. On a CPU nothing here changes a digest; where company may change bits, it stands in keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Execution {
    /// [clients] Trainings that share one pass over the base -- at least 1; none is 1 on a CPU, where more gain nothing,
    /// and 8 on a GPU.
    #[serde(default)]
    pub cohort_batch: Option<u32>,
    #[serde(default)]
    pub grouping: Grouping,
    #[serde(default)]
    pub checkpointing: Checkpointing,
}

/// Who trains beside whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Grouping {
    /// Whatever is ready, where the start-up test found that company changes no bit; else as [`Self::Keyed`].
    #[default]
    Auto,
    /// Trainings from one model in the order of the plan, so many at a time; the grouping is part of every key.
    Keyed,
}

/// Whether layers are run again in the backward pass instead of being kept. It changes no bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Checkpointing {
    /// Where what would be kept is predicted to take more than half of the device's free memory, shared by the workers.
    #[default]
    Auto,
    /// In every pass: a third more work for a fraction of the memory.
    Always,
    /// In no pass.
    Never,
}
