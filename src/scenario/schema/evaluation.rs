//! Fields of the evaluation: losses and benchmarks, and their intervals.

use std::num::NonZeroU32;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scenario::range;

/// Evaluation during the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// [rounds] Interval between evaluations. The model is also evaluated before the first and after the last round.
    #[serde(default = "super::one_u32", deserialize_with = "range::at_least_one")]
    pub every: u32,
    /// Whether to evaluate a baseline too, in which every client trains alone, for as many local steps as a client that
    /// takes part in every round.
    #[serde(default)]
    pub local_baseline: bool,
    /// [steps] Local steps for which each client trains the last model on its own rows; what comes of it is evaluated on the client's
    /// held-out rows and the test rows. `None` evaluates no such models -- at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fine_tuning_steps: Option<NonZeroU32>,
    /// Benchmarks of the server's model, or under `Local` of each client's own. An empty list is not written out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub benchmarks: Vec<BenchmarkSpec>,
    /// Folder of the benchmarks' files, with one folder per benchmark. Relative to the scenario file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub questions: Option<PathBuf>,
}

/// Benchmark of the server's model.
///
/// A run calls no judge and executes no generated code: open-ended answers are stored without a rating, and
/// `fedreplay eval RUN --judge-url ...` rates those of the saved rounds later, without generating them again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[serde(rename = "Benchmark")]
pub struct BenchmarkSpec {
    /// Name, such as `mmlu`.
    pub name: String,
    /// [rounds] Interval between evaluations; `None` evaluates after the last round only -- at least 1.
    #[serde(default)]
    pub every: Option<NonZeroU32>,
    /// [questions] Greatest number of questions, spread evenly over the benchmark; `None` asks all -- at least 1.
    #[serde(default)]
    pub limit: Option<NonZeroU32>,
    /// [examples] Few-shot examples before each question of MMLU.
    #[serde(default = "five")]
    pub shots: u32,
}

impl Evaluation {
    /// Whether models are trained for the evaluation alone, after the last round.
    pub fn trains_apart(&self) -> bool {
        self.local_baseline || self.fine_tuning_steps.is_some()
    }
}

impl Default for Evaluation {
    fn default() -> Self {
        Self { every: 1, local_baseline: false, fine_tuning_steps: None, benchmarks: vec![], questions: None }
    }
}

fn five() -> u32 {
    5
}
