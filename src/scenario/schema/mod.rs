//! The fields of a scenario file: names, units, defaults and ranges.

mod algorithm;
mod batches;
mod change;
mod data;
mod evaluation;
mod execution;
pub(super) mod fidelity;
mod network;
mod population;
mod precision;
mod privacy;
mod server;
mod timing;
mod training;

pub use algorithm::{Algorithm, Correction, FirstMoment, Mean, Momentum, SecondMoment, Weights};
pub use batches::{Batches, DropoutMasks, DynamicSteps};
pub use change::Change;
pub use data::{BadRows, Columns, LastQuestion, Masking, PairForm, Partition};
pub use evaluation::{Benchmark, Evaluation};
pub use execution::{Checkpointing, Execution, Grouping, Kernels, Numerics};
pub use fidelity::Fidelity;
pub use network::{Capacity, GraphLink, Interruption, Network, RegionCut};
pub use population::{Availability, ClientTrace, Crashes, Device, Dropout, Group, LatencyJitter, Link, Population};
pub use precision::{Arithmetic, Precision};
pub use privacy::{Accountant, Clipping, Noise, NoisePlacement, Privacy};
pub use server::{Candidates, Discount, Edge, MemoryPolicy, Protocol, Selection, Server, Stragglers};
pub use timing::{Counts, ModelShape, Synthetic};
pub use training::{Accumulation, AdamVariant, Objective, Optimizer, OptimizerState};

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::quantity::Duration;
use super::range;

/// One federation: who has which data, on which device, behind which link; how the server picks, waits and
/// aggregates; how a client trains.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Name of the run's folder under `runs/`.
    pub name: String,
    /// Master seed: every random draw of the run follows from it.
    #[serde(default = "one")]
    pub seed: u64,
    /// [rounds] Server rounds to play -- at least 1.
    #[serde(deserialize_with = "range::at_least_one")]
    pub rounds: u32,
    /// Whose rules stand where this file names none.
    #[serde(default)]
    pub fidelity: Fidelity,
    pub model: Model,
    pub data: Data,
    pub training: Training,
    #[serde(default)]
    pub algorithm: Algorithm,
    pub server: Server,
    /// What lies between the clients' links and the server.
    #[serde(default)]
    pub network: Network,
    /// Regions without connection, and when.
    #[serde(default)]
    pub region_cuts: Vec<RegionCut>,
    /// What becomes of the tasks of clients that go offline.
    #[serde(default)]
    pub interruption: Interruption,
    pub population: Population,
    #[serde(default)]
    pub evaluation: Evaluation,
    #[serde(default)]
    pub execution: Execution,
    #[serde(default)]
    pub output: Output,
    /// What protects the clients' updates; none is nothing. It is not written out where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy: Option<Privacy>,
    /// Fields that have other values from a round on, in the order of rounds: what a fork of a run is.
    #[serde(default)]
    pub changes: Vec<Change>,
}

/// The frozen base model and the adapter on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Hugging Face folder: config.json, safetensors, tokenizer.json. Relative to the scenario file.
    #[serde(default)]
    pub folder: Option<PathBuf>,
    /// A model of the Hugging Face Hub, instead of a folder: `("org/name", "revision")`. HF_HOME, HF_ENDPOINT,
    /// HF_HUB_OFFLINE and HF_TOKEN are honoured. A run that must be repeatable anywhere names a commit.
    #[serde(default)]
    pub hub: Option<(String, String)>,
    /// The shape alone, instead of a folder: enough for `plan`, which trains nothing.
    #[serde(default)]
    pub shape: Option<ModelShape>,
    /// Folder of the tokenizer, where it is not the model's. Relative to the scenario file.
    #[serde(default)]
    pub tokenizer: Option<PathBuf>,
    /// Number format of the base model's weights.
    #[serde(default)]
    pub precision: Precision,
    /// Number format of the arithmetic on them: that of the weights, or where they are quantised, bf16 unless f32 is asked
    /// for.
    #[serde(default)]
    pub arithmetic: Option<Arithmetic>,
    pub lora: Lora,
}

/// Low-rank adaptation (Hu et al. 2021).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lora {
    /// [columns] Rank r -- at least 1.
    #[serde(deserialize_with = "range::at_least_one")]
    pub rank: u32,
    /// [1] Scaling numerator: the adapter's output is multiplied by alpha/rank -- above 0 in 32 bits.
    #[serde(deserialize_with = "range::positive_single")]
    pub alpha: f64,
    /// Names or suffixes of the linear modules that get an adapter; `all-linear` is every one.
    #[serde(default = "query_and_value")]
    pub target_modules: Vec<String>,
    /// PEFT folder of the adapter to start from, instead of fresh values. Relative to the scenario file.
    #[serde(default)]
    pub initial: Option<PathBuf>,
    /// Seed of its first values, where it is not the run's. FedLLM-Bench draws them unseeded: its runs differ in them.
    #[serde(default)]
    pub init_seed: Option<u64>,
    /// [1] Dropout probability on the adapter's input while training -- below 1.
    #[serde(default = "lora_dropout", deserialize_with = "range::below_one")]
    pub dropout: f64,
    /// Multiplies by alpha/sqrt(rank) instead (Kalajdzievski 2023).
    #[serde(default)]
    pub rank_stabilised: bool,
}

/// The clients' data and how it becomes tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// FedLLM-Bench's JSON: an object of clients, or an array for one client. Relative to the scenario file.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// Where the rows' texts stand.
    #[serde(default)]
    pub columns: Columns,
    #[serde(default)]
    pub bad_rows: BadRows,
    /// How rows are dealt to clients.
    #[serde(default)]
    pub partition: Partition,
    /// [rows] Rows drawn before they are dealt; none is all.
    #[serde(default)]
    pub rows: Option<u32>,
    /// Ids of the clients that take part, of those in the file; none is all. Their order is the file's.
    #[serde(default)]
    pub clients: Option<Vec<String>>,
    /// How many clients there are and how much data each has, instead of a file: enough for `plan`.
    #[serde(default)]
    pub synthetic: Option<Synthetic>,
    /// Array of rows that no client has, for the global test loss. Relative to the scenario file.
    #[serde(default)]
    pub test_file: Option<PathBuf>,
    /// Prompt template.
    #[serde(default)]
    pub template: Template,
    /// How learnt tokens are found.
    #[serde(default)]
    pub masking: Masking,
    /// [tokens] Longest row; longer responses are cut.
    #[serde(deserialize_with = "range::at_least_one")]
    pub max_seq_length: u32,
    /// What becomes of a row whose prompt leaves no room for a token of its response.
    #[serde(default)]
    pub long_prompts: LongPrompts,
    /// How preference rows become sequences.
    #[serde(default)]
    pub pairs: PairForm,
    /// What becomes of a conversation's last question, where it has no answer.
    #[serde(default)]
    pub last_question: LastQuestion,
    /// [1] Share of each client's rows that is kept for its own evaluation -- below 1.
    #[serde(default, deserialize_with = "range::below_one")]
    pub held_out: f64,
}

/// Prompt templates by their names in the field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Template {
    #[default]
    Alpaca,
    Vicuna,
    /// OpenFedLLM's for medical questions.
    Medquad,
    /// The chat template of the tokenizer's folder. It writes special tokens itself.
    Chat,
    /// Alpaca's in other languages, in this project's translations.
    ArabicAlpaca,
    ChineseAlpaca,
    PortugueseAlpaca,
    TeluguAlpaca,
    RussianAlpaca,
    FrenchAlpaca,
    SpanishAlpaca,
}

/// What becomes of a row whose prompt leaves no room for a token of its response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LongPrompts {
    /// It is an error that names client and row.
    #[default]
    Refuse,
    /// It is left out; the population table counts the rows that remain.
    Skip,
}

/// How a client trains.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// [steps] Optimiser steps of one task -- at least 1.
    #[serde(deserialize_with = "range::at_least_one")]
    pub local_steps: u32,
    /// Steps by the client's rows instead.
    #[serde(default)]
    pub dynamic_steps: Option<DynamicSteps>,
    #[serde(default)]
    pub batches: Batches,
    #[serde(default)]
    pub dropout_masks: DropoutMasks,
    /// [rows] Rows of one micro-batch -- at least 1.
    #[serde(deserialize_with = "range::at_least_one")]
    pub batch_size: u32,
    /// [micro-batches] Micro-batches of one optimiser step -- at least 1.
    #[serde(default = "one_u32", deserialize_with = "range::at_least_one")]
    pub gradient_accumulation: u32,
    #[serde(default)]
    pub objective: Objective,
    /// How the micro-batches of one step are weighted.
    #[serde(default)]
    pub accumulation: Accumulation,
    #[serde(default)]
    pub optimizer: Optimizer,
    /// What becomes of the optimiser's moments between the tasks of a client.
    #[serde(default)]
    pub optimizer_state: OptimizerState,
    /// [1] Learning rate of the first round -- above 0 in 32 bits.
    #[serde(deserialize_with = "range::positive_single")]
    pub lr: f64,
    #[serde(default)]
    pub lr_schedule: LrSchedule,
    /// [1] Largest L2 norm of a step's gradient; none leaves it as it is.
    #[serde(default = "unit_norm", deserialize_with = "range::positive_or_none")]
    pub max_grad_norm: Option<f64>,
    /// What becomes of an update that is not finite or did not change.
    #[serde(default)]
    pub unusable_update: UnusableUpdate,
    /// Whether clients recompute layers in the backward pass instead of keeping their activations: more operations, less
    /// memory, the same results.
    #[serde(default)]
    pub recomputation: bool,
}

/// The learning rate over rounds; within a task it is constant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum LrSchedule {
    #[default]
    Constant,
    /// final + (lr - final) (1 + cos(pi t / T)) / 2 in round t of T, from 0 (FedLLM-Bench's).
    Cosine {
        /// [1] Learning rate that the last round comes near -- at least 0.
        #[serde(default, deserialize_with = "range::non_negative_single")]
        final_lr: f64,
    },
}

/// What becomes of an update that is not finite or did not change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UnusableUpdate {
    /// It gets weight 0 in the aggregate and is recorded with its reason.
    #[default]
    ZeroWeight,
    /// The run ends with an error.
    EndRun,
}

/// What is kept beside the tables. Nothing here changes a digest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// [rounds] Save the server's adapter after every so many rounds; the last one is always saved.
    #[serde(default)]
    pub save_adapter_every: Option<u32>,
}

fn one() -> u64 {
    1
}

fn one_u32() -> u32 {
    1
}

/// FedLLM-Bench's scripts drop out; nothing here does unless it is told to.
fn lora_dropout() -> f64 {
    fidelity::choose(0.0, 0.05)
}

fn query_and_value() -> Vec<String> {
    vec!["q_proj".into(), "v_proj".into()]
}

fn unit() -> f64 {
    1.0
}

fn day() -> Duration {
    Duration(86_400_000_000_000)
}

fn unit_norm() -> Option<f64> {
    Some(1.0)
}
