//! Fields of the execution: memory, batching of clients and numerics.
//!
//! On a CPU the results of a run do not depend on them, except for the numerics and the kernels, which may change bits.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of the execution. On a CPU only `numerics` and `kernels` change a digest. Where training is not
/// batch-invariant, the grouping of clients is part of every key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Execution {
    /// [clients] Clients whose trainings share one pass over the base model; `None` is 1 on a CPU, where more gain
    /// nothing, and 8 on a GPU -- at least 1.
    #[serde(default)]
    pub cohort_batch: Option<u32>,
    #[serde(default)]
    pub grouping: Grouping,
    #[serde(default)]
    pub checkpointing: CheckpointingSpec,
    #[serde(default)]
    pub numerics: NumericsSpec,
    // The default is not serialized, so that scenarios keep the hashes that they had before this field was added.
    #[serde(default, skip_serializing_if = "Kernels::is_auto")]
    #[schemars(extend("default" = "Auto"))]
    pub kernels: Kernels,
}

/// Choice of kernels, which is part of every key. `Auto` is not written out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Kernels {
    /// The program's own kernels on a CPU, LibTorch's on a GPU.
    #[default]
    Auto,
    /// LibTorch's kernels on every device, to check the code path of a GPU on a CPU. They are slower there, no grade
    /// above `A` is claimed for them, and they do not go with Portable numerics.
    LibTorch,
}

impl Kernels {
    fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

/// Set of processors on which results have the same bits. It is part of every key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename = "Numerics")]
pub enum NumericsSpec {
    /// The processors that the manifest names: each library takes its fastest path.
    #[default]
    Fast,
    /// Every x86-64 processor with AVX2 and FMA, of any vendor. Requires a CPU and arithmetic in f32.
    Portable,
}

/// Grouping of the trainings that share a pass over the base model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Grouping {
    /// Any trainings that are ready, if the start-up test found training to be batch-invariant; otherwise as
    /// [`Self::Keyed`].
    #[default]
    Auto,
    /// Trainings from one model in the order of the plan, `cohort_batch` at a time; the grouping is part of every key.
    Keyed,
}

/// Gradient checkpointing: whether layers are recomputed in the backward pass instead of saved. It changes no bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename = "Checkpointing")]
pub enum CheckpointingSpec {
    /// If the saved activations are predicted to take more than half of the device's free memory, shared by the
    /// workers.
    #[default]
    Auto,
    /// In every pass: a third more computation for a fraction of the memory.
    Always,
    /// Never.
    Never,
}
