//! What is measured, and how often.

use std::num::NonZeroU32;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scenario::range;

/// What is measured, and how often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// [rounds] Evaluate after every so many rounds, and always before the first and after the last.
    #[serde(default = "super::one_u32", deserialize_with = "range::at_least_one")]
    pub every: u32,
    /// Also train every client alone, for as many local steps as a client of every round would take, and evaluate that.
    #[serde(default)]
    pub local_baseline: bool,
    /// Benchmarks that the server's model is put to, or under `Local` each client's own. It is not written out where there
    /// are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub benchmarks: Vec<Benchmark>,
    /// Folder of the benchmarks' files, each in a folder of its name. Relative to the scenario file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub questions: Option<PathBuf>,
}

/// A benchmark of the server's model. Nobody judges in a run, and code that a model writes is not run: free answers are kept
/// without a rating, and `fedreplay eval RUN --judge-url ...` has those after the saved rounds judged, without generating
/// them again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Benchmark {
    /// Its name, such as `mmlu`.
    pub name: String,
    /// [rounds] Taken after every so many rounds too, not after the last alone -- at least 1.
    #[serde(default)]
    pub every: Option<NonZeroU32>,
    /// [questions] Most that are asked, spread evenly over it; none is all -- at least 1.
    #[serde(default)]
    pub limit: Option<NonZeroU32>,
    /// [examples] Solved examples before each question of MMLU.
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
