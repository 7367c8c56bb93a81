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

impl Default for Evaluation {
    fn default() -> Self {
        Self { every: 1, local_baseline: false, benchmarks: vec![], questions: None }
    }
}

fn five() -> u32 {
    5
}
