//! Measured steps of training: what was trained, on which machine, and how long micro-batches of each shape took.

use fedreplay_sim as sim;
use serde::{Deserialize, Serialize};

/// Model, adapter and training that were measured. They must agree with a scenario that uses the measurements.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Shape of the base model.
    pub model: sim::ModelShape,
    /// Names of the modules with an adapter in each layer, such as `q_proj`.
    pub targets: Vec<String>,
    /// `model.precision` of the scenario, with `model.arithmetic` where that is not the usual one: `F32`, `Nf4`, `Nf4 in F32`.
    pub precision: String,
    /// Whether layers are recomputed in the backward pass.
    pub recomputation: bool,
    /// `training.optimizer` of the scenario: `AdamW`, `Sgd` or `Sgd with momentum`.
    pub optimizer: String,
    /// `training.objective` of the scenario: `Sft` or `Dpo`.
    pub objective: String,
}

/// Machine and programs with which steps were measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Name of the processor or device.
    pub device: String,
    /// Threads of one training.
    pub threads: u32,
    /// Trainings at the same time.
    pub workers: u32,
    /// Programs and their versions, such as `fedreplay 0.2.0, LibTorch 2.11.0`.
    pub versions: String,
    /// Date, such as `2026-11-30`.
    pub measured_on: String,
    /// Whether other processes were busy.
    #[serde(default)]
    pub busy: bool,
}

/// Measured micro-batch. Several steps of one shape are repeats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeasuredStep {
    /// [rows] -- Rows of the micro-batch.
    pub rows: u32,
    /// [token] -- Length of each row.
    pub length: u32,
    /// [columns] -- Rank of the adapter.
    pub rank: u32,
    /// [s] -- Forward and backward pass of the micro-batch.
    pub micro_batch_seconds: f64,
    /// [s] -- Step of the optimizer.
    pub optimizer_seconds: Option<f64>,
    /// [byte] -- Peak memory of the training.
    pub peak_memory_bytes: Option<u64>,
    /// Whether the fit must not see the step: it is compared with the fitted profile instead.
    pub held_out: bool,
}

/// Measured steps of one workload on one machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurements {
    pub workload: Workload,
    pub machine: Machine,
    pub steps: Vec<MeasuredStep>,
}

impl Workload {
    /// Returns the first field that differs from `wanted`, with the values here and there.
    pub fn difference(&self, wanted: &Self) -> Option<(&'static str, String, String)> {
        let [here, there] = [self, wanted].map(Self::fields);
        let differing = here.into_iter().zip(there).find(|(here, there)| here != there);
        differing.map(|((field, here), (_, there))| (field, here, there))
    }

    fn fields(&self) -> [(&'static str, String); 13] {
        let model = &self.model;
        // The order of modules is that of whoever wrote them.
        let mut targets: Vec<&str> = self.targets.iter().map(String::as_str).collect();
        targets.sort_unstable();
        [
            ("layers", model.layers.to_string()),
            ("hidden", model.hidden.to_string()),
            ("intermediate", model.intermediate.to_string()),
            ("heads", model.heads.to_string()),
            ("kv_heads", model.kv_heads.to_string()),
            ("head_dim", model.head_dim.to_string()),
            ("vocabulary", model.vocabulary.to_string()),
            ("ties_embeddings", model.ties_embeddings.to_string()),
            ("targets", targets.join(",")),
            ("precision", self.precision.clone()),
            ("recomputation", self.recomputation.to_string()),
            ("optimizer", self.optimizer.clone()),
            ("objective", self.objective.clone()),
        ]
    }
}
