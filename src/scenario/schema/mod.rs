//! Fields of a scenario file, with units, defaults and ranges.
//!
//! The doc comments of fields and variants are published: they form the scenario reference. See `reference` for their
//! form.

mod aggregation;
mod algorithm;
mod attackers;
mod carbon;
mod codec;
mod data;
mod evaluation;
mod execution;
mod federated_lora;
pub(super) mod fidelity;
mod network;
mod population;
mod precision;
mod privacy;
mod resolve;
mod server;
mod timing;
mod training;
mod transport;

pub use aggregation::{AggregationSpec, share_of};
pub use algorithm::{
    Algorithm, Correction, FirstMoment, FirstMomentDecay, Mean, MomentumDecay, MomentumSpec, RuleParameter,
    ScaffoldWeights, SecondMoment, WeightsSpec,
};
pub use attackers::{AttackSpec, AttackTiming, AttackersSpec, AttackingClients, Knowledge, MinMaxDirection};
pub use carbon::CarbonSpec;
pub use codec::CodecSpec;
pub use data::{BadRowsSpec, ColumnsSpec, LastQuestion, Masking, PairFormSpec, PartitionSpec, SpecialTokensInTextSpec};
pub use evaluation::{BenchmarkSpec, Evaluation};
pub use execution::{CheckpointingSpec, Execution, Grouping, Kernels, NumericsSpec};
pub use federated_lora::FederatedLora;
pub use fidelity::{ByFidelity, DefaultsBasis, Fidelity, FidelityDefault};
pub use network::{Capacity, GraphLink, Interruption, LinkSharing, LinkWeights, Network, RegionCut};
pub use population::{
    Availability, ClientTrace, Crashes, DeviceClassSpec, Dropout, GroupSpec, LatencyJitter, Link, Population, Stalls,
};
pub use precision::{ArithmeticSpec, PrecisionSpec};
pub use privacy::{AccountantSpec, ClippingSpec, Noise, NoisePlacement, Privacy};
pub use server::{CandidatesSpec, Discount, Edge, MemoryPolicy, Protocol, Selection, Server, Stragglers};
pub use timing::{Counts, ModelShape, Synthetic};
pub use training::{AccumulationSpec, AdamVariantSpec, ObjectiveSpec, OptimizerSpec, OptimizerState, ReferenceSpec};
pub use training::{Batches, DropoutMasks, DynamicSteps};
pub use transport::{Overhead, Radio, Transport};

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::quantity::Duration;
use super::range;

/// A federation and its training: which clients have which data, devices and links; how the server selects clients,
/// waits for them and aggregates their updates; how a client trains.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[serde(rename = "Scenario")]
pub struct ScenarioSpec {
    /// Name of the run's folder under `runs/`.
    pub name: String,
    /// Master seed, from which all random draws of the run are derived.
    #[serde(default = "one")]
    pub seed: u64,
    /// [rounds] Server rounds of the run -- 1 to 10,000,000.
    #[serde(deserialize_with = "range::at_least_one")]
    pub rounds: u32,
    /// Source of the defaults of fields on which papers and FedLLM-Bench's code differ.
    #[serde(default)]
    pub fidelity: Fidelity,
    pub model: ModelSpec,
    pub data: Data,
    pub training: TrainingSpec,
    #[serde(default)]
    pub algorithm: Algorithm,
    // Not serialized by default, so that scenarios keep the hashes that they had before this field was added.
    #[serde(default, skip_serializing_if = "FederatedLora::is_default")]
    #[schemars(extend("default" = "FedIt"))]
    pub federated_lora: FederatedLora,
    pub server: Server,
    /// Network between the clients' links and the server.
    #[serde(default)]
    pub network: Network,
    /// Weights by which transfers share links, such as `(weights: ByRoundTrip(), spread: 0.3)`. `None`, which is not written out, is equal
    /// shares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_sharing: Option<LinkSharing>,
    /// Times at which regions have no connection.
    #[serde(default)]
    pub region_cuts: Vec<RegionCut>,
    /// Treatment of the tasks of clients that go offline.
    #[serde(default)]
    pub interruption: Interruption,
    pub population: Population,
    #[serde(default)]
    pub evaluation: Evaluation,
    #[serde(default)]
    pub execution: Execution,
    #[serde(default)]
    pub output: Output,
    /// Protection of the clients' updates by differential privacy. `None`, which is not written out, protects nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy: Option<Privacy>,
    /// Clients that send something else than their trained update. `None`, which is not written out, is an honest federation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attackers: Option<AttackersSpec>,
    /// Carbon of the devices' energy. `None`, which is not written out, counts none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carbon: Option<CarbonSpec>,
    /// Changes of fields during the run, in the order of rounds. A fork of a run adds one.
    #[serde(default)]
    pub changes: Vec<Change>,
}

/// Change of fields from a round on. Earlier rounds are the same as without the change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// [rounds] First server round with the new values -- at least 2.
    pub at_round: u32,
    /// New values, each `path=value` as for `--set`.
    pub set: Vec<String>,
}

/// Frozen base model, and the adapter on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[serde(rename = "Model")]
pub struct ModelSpec {
    /// Hugging Face folder with config.json, safetensors and tokenizer.json. Relative to the scenario file.
    #[serde(default)]
    pub folder: Option<PathBuf>,
    /// A model of the Hugging Face Hub, instead of a folder: `("org/name", "revision")`. HF_HOME, HF_ENDPOINT,
    /// HF_HUB_OFFLINE, HF_HUB_DOWNLOAD_TIMEOUT and HF_TOKEN are respected. For a run that others can repeat, give a commit as the
    /// revision.
    #[serde(default)]
    pub hub: Option<(String, String)>,
    /// Shape of the model, instead of a folder. It is enough for `plan`, which trains nothing.
    #[serde(default)]
    pub shape: Option<ModelShape>,
    /// Folder of the tokenizer, if it is not the model's. Relative to the scenario file.
    #[serde(default)]
    pub tokenizer: Option<PathBuf>,
    /// Number format of the base model's weights.
    #[serde(default)]
    pub precision: PrecisionSpec,
    /// Number format of the arithmetic. `None` is the format of the weights, or bf16 if they are quantized.
    #[serde(default)]
    pub arithmetic: Option<ArithmeticSpec>,
    pub lora: Lora,
}

/// Low-rank adaptation (Hu et al. 2021).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lora {
    /// [columns] Rank r -- at least 1.
    #[serde(deserialize_with = "range::at_least_one")]
    pub rank: u32,
    /// [columns] Ranks of clients by their class of `population.devices`, where they are lower than `rank`, which is the server's and that of all
    /// other devices. All have the server's scaling. For methods that take mixed ranks: docs/methods. No ranks are not written
    /// out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("default" = {}))]
    pub ranks: BTreeMap<String, u32>,
    /// [1] Scaling numerator: the adapter's output is multiplied by alpha/rank -- above 0 in 32 bits.
    #[serde(deserialize_with = "range::positive_single")]
    pub alpha: f64,
    /// Names or suffixes of the linear modules that get an adapter; `all-linear` selects all of them.
    #[serde(default = "query_and_value")]
    pub target_modules: Vec<String>,
    /// PEFT folder of the adapter to start from, instead of random initialization. Its rank, alpha and modules must be
    /// those given here. Relative to the scenario file.
    #[serde(default)]
    pub initial: Option<PathBuf>,
    /// Seed of the random initialization, if it is not the run's. FedLLM-Bench does not seed it: its runs differ in it.
    #[serde(default)]
    pub init_seed: Option<u64>,
    /// [1] Dropout probability on the adapter's input during training -- below 1.
    #[serde(default, deserialize_with = "range::below_one")]
    pub dropout: ByFidelity<LoraDropout>,
    /// Whether the scaling is alpha/sqrt(rank) instead (rsLoRA, Kalajdzievski 2023).
    #[serde(default, rename = "rank_stabilised")]
    pub rank_stabilized: bool,
}

/// The clients' data, and its conversion to tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// File of rows, or folder with one file per client, in a form of docs/data.md. Relative to the scenario file.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// Columns that hold the texts of a row.
    #[serde(default)]
    pub columns: ColumnsSpec,
    #[serde(default)]
    pub bad_rows: BadRowsSpec,
    /// Partition of the rows among clients.
    #[serde(default)]
    pub partition: PartitionSpec,
    /// [rows] Rows drawn at random before partitioning; `None` takes all.
    #[serde(default)]
    pub rows: Option<u32>,
    /// Ids of the clients that take part, in the order of the file; `None` takes all.
    #[serde(default)]
    pub clients: Option<Vec<String>>,
    /// Number of clients and amount of data of each, instead of a file. It is enough for `plan`.
    #[serde(default)]
    pub synthetic: Option<Synthetic>,
    /// File of rows for the global test loss, which no client has. Relative to the scenario file.
    #[serde(default)]
    pub test_file: Option<PathBuf>,
    /// File of rows that the server trains on under `server.aggregation: FlTrust`; other rules do not read it. Relative to the
    /// scenario file. `None` is not written out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_file: Option<PathBuf>,
    /// System prompt of the rows that bring none of their own. Under a template that is not the model's own it takes the
    /// place of the sentences that the template begins with. `None`, which is not written out, sets none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<String>,
    /// Prompt template.
    #[serde(default)]
    pub template: TemplateSpec,
    /// Selection of the tokens that contribute to the loss.
    #[serde(default)]
    pub masking: ByFidelity<Masking>,
    /// [tokens] Greatest length of a row; longer responses are truncated.
    #[serde(deserialize_with = "range::at_least_one")]
    pub max_seq_length: u32,
    /// Treatment of rows whose prompt leaves no room for a token of the response.
    #[serde(default)]
    pub long_prompts: LongPromptsSpec,
    /// Conversion of preference rows to sequences.
    #[serde(default)]
    pub pairs: ByFidelity<PairFormSpec>,
    /// Treatment of the last question of a conversation if it has no answer.
    #[serde(default)]
    pub last_question: ByFidelity<LastQuestion>,
    /// Treatment of special tokens of the tokenizer that a row's text spells, such as `</s>`.
    #[serde(default, skip_serializing_if = "ByFidelity::is_left_out")]
    pub special_tokens_in_text: ByFidelity<SpecialTokensInTextSpec>,
    /// The current date to a chat template that asks for it, as `2024-07-26`. `None`: the template takes the date that it has
    /// itself; a template without one is rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_date: Option<String>,
    /// [1] Share of each client's rows that is held out for its own evaluation -- below 1.
    #[serde(default, deserialize_with = "range::below_one")]
    pub held_out: f64,
}

/// Prompt template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename = "Template")]
pub enum TemplateSpec {
    #[default]
    Alpaca,
    Vicuna,
    /// OpenFedLLM's template for medical questions.
    Medquad,
    /// The chat template in the tokenizer's folder, which writes special tokens itself.
    Chat,
    /// Alpaca's template in another language, translated by this project, as the ones below.
    ArabicAlpaca,
    ChineseAlpaca,
    PortugueseAlpaca,
    TeluguAlpaca,
    RussianAlpaca,
    FrenchAlpaca,
    SpanishAlpaca,
}

/// Treatment of rows whose prompt leaves no room for a token of the response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename = "LongPrompts")]
pub enum LongPromptsSpec {
    /// An error that names client and row.
    #[default]
    Refuse,
    /// The row is left out and counted in a warning, the manifest and the report.
    Skip,
}

/// Local training of a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[serde(rename = "Training")]
pub struct TrainingSpec {
    /// [steps] Optimizer steps of one task -- at least 1.
    #[serde(deserialize_with = "range::at_least_one")]
    pub local_steps: u32,
    /// Steps in proportion to the client's rows, instead of `local_steps`.
    #[serde(default)]
    pub dynamic_steps: Option<DynamicSteps>,
    #[serde(default)]
    pub batches: ByFidelity<Batches>,
    #[serde(default)]
    pub dropout_masks: ByFidelity<DropoutMasks>,
    /// [rows] Rows of one micro-batch -- at least 1.
    #[serde(deserialize_with = "range::at_least_one")]
    pub batch_size: u32,
    /// [micro-batches] Micro-batches of one optimizer step -- at least 1.
    #[serde(default = "one_u32", deserialize_with = "range::at_least_one")]
    pub gradient_accumulation: u32,
    #[serde(default)]
    pub objective: ObjectiveSpec,
    /// Weighting of the micro-batches of one step.
    #[serde(default)]
    pub accumulation: ByFidelity<AccumulationSpec>,
    #[serde(default)]
    pub optimizer: ByFidelity<OptimizerSpec>,
    /// Treatment of the optimizer's moments between the tasks of a client.
    #[serde(default)]
    pub optimizer_state: OptimizerState,
    /// [1] Learning rate of the first round -- above 0 in 32 bits.
    #[serde(deserialize_with = "range::positive_single")]
    pub lr: f64,
    #[serde(default)]
    pub lr_schedule: LrSchedule,
    /// [1] L2 norm to which the gradient of a step is clipped; `None` does not clip.
    #[serde(default, deserialize_with = "range::positive_or_none")]
    pub max_grad_norm: ByFidelity<MaxGradNorm>,
    /// Treatment of updates that are not finite or equal to zero.
    #[serde(default)]
    pub unusable_update: UnusableUpdate,
    /// Whether the simulated clients recompute layers in the backward pass instead of saving their activations: more
    /// operations, less memory, the same results.
    #[serde(default)]
    pub recomputation: bool,
}

/// Schedule of the learning rate over rounds. Within a task the rate is constant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum LrSchedule {
    #[default]
    Constant,
    /// final_lr + (lr - final_lr) (1 + cos(pi t / T)) / 2 in round t of T, counted from 0, as in FedLLM-Bench.
    Cosine {
        /// [1] Learning rate that the schedule approaches in the last round -- at least 0.
        #[serde(default, deserialize_with = "range::non_negative_single")]
        final_lr: f64,
    },
}

/// Treatment of updates that are not finite or equal to zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UnusableUpdate {
    /// The update gets weight 0 in the aggregate and is recorded with the reason.
    #[default]
    ZeroWeight,
    /// The run ends with an error.
    EndRun,
}

/// Files written in addition to the tables. No field here changes a digest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// [rounds] Interval at which the server's adapter is saved. The last one is always saved.
    #[serde(default)]
    pub save_adapter_every: Option<u32>,
}

fn one() -> u64 {
    1
}

fn one_u32() -> u32 {
    1
}

/// Default of `lora.dropout`: that of FedLLM-Bench's scripts under its fidelity, otherwise no dropout.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoraDropout;

impl FidelityDefault for LoraDropout {
    type Value = f64;

    fn under(basis: DefaultsBasis) -> f64 {
        basis.choose(0.0, 0.05)
    }
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

/// Default of `max_grad_norm`: no clipping under SCAFFOLD, whose variates are means of gradients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaxGradNorm;

impl FidelityDefault for MaxGradNorm {
    type Value = Option<f64>;

    fn under(basis: DefaultsBasis) -> Option<f64> {
        if basis.wants_plain_descent() { None } else { Some(1.0) }
    }
}
