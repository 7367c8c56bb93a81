//! How results are computed: memory, company and numerics. A run's results on a CPU are the same under any of it, but for
//! the numerics and the kernels, which may change their bits.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How results are computed. On a CPU nothing here but `numerics` and `kernels` changes a digest; where company may change
/// bits, it stands in keys.
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
    #[serde(default)]
    pub numerics: Numerics,
    // Hashes of scenarios are those of before there was this field.
    #[serde(default, skip_serializing_if = "Kernels::is_auto")]
    #[schemars(extend("default" = "Auto"))]
    pub kernels: Kernels,
}

/// Whose kernels compute. What it chooses is part of every key; it is not written out where it is Auto.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Kernels {
    /// The program's own on a CPU, LibTorch's on a GPU.
    #[default]
    Auto,
    /// LibTorch's on every device: the path that a GPU takes, on a CPU. It is slower there, for checks of that path, and no
    /// grade above `A` is claimed for it. It does not go with Portable numerics.
    LibTorch,
}

impl Kernels {
    fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

/// On which processors results have the same bits. What it chooses is part of every key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Numerics {
    /// On those that the manifest names: each library takes its fastest path.
    #[default]
    Fast,
    /// On every x86-64 processor with AVX2 and FMA, whoever made it. Needs a CPU and arithmetic in f32.
    Portable,
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
