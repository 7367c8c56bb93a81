//! Errors of a run's inputs.

use std::path::PathBuf;

use crate::adapter::AdapterError;
use crate::algorithm::RuleError;
use crate::benchmarks::{BenchmarkName, EvaluationError, UnknownBenchmark};
use crate::data::{ChatTemplateError, DatasetError, PartitionError, Template, TokenizerError};
use crate::ledger::LedgerError;
use crate::model::hub::HubError;
use crate::profile::ProfileError;
use crate::schedule::ScheduleError;
use crate::store::StoreError;

/// Reason why the inputs of a run cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// Rows of a data file cannot be used, and the scenario does not say that they may be left out.
    #[error(transparent)]
    UnusableRows(#[from] UnusableRows),
    #[error(transparent)]
    ChatTemplate(#[from] ChatTemplateError),
    /// The base model could not be loaded as the scenario asks.
    #[error(transparent)]
    Model(crate::training::Error),
    /// A model of the hub could not be fetched.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// The adapter to start from cannot be used.
    #[error(transparent)]
    StartAdapter(AdapterError),
    /// The aggregation rule of one's own cannot be used.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// The scenario has a rule in Python, and the caller has not said that it may be run.
    #[error("failed to use the rule {}: it is a program, which is not run unasked where the scenario is that of a run", file.display())]
    RunsRule { file: PathBuf },
    /// The program has no rule of this name.
    #[error(
        "failed to find the rule `{name}` of algorithm.Custom: this program brings none of that name (a program that uses the library \
         puts it into RunOptions::rules)"
    )]
    NoRule { name: String },
    /// The start-up test failed.
    #[error(transparent)]
    SelfTest(crate::training::Error),
    /// The machine gave different bits for the same training.
    #[error(
        "failed to trust this machine: the same training gave different bits twice on {device}; nothing that it computes \
         could be repeated, so look for faulty memory or for variables that change how MKL, oneDNN or CUDA compute"
    )]
    NotRepeatable { device: String },
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    /// An input file or a setting of the scenario that needs it is missing.
    #[error("failed to train: {missing} is missing, so the scenario has times only")]
    TimesOnly { missing: &'static str },
    /// The scenario has benchmarks and no folder with their questions.
    #[error("failed to find questions: evaluation.questions names the folder of their files")]
    NoQuestions,
    /// The scenario names an unknown benchmark.
    #[error(transparent)]
    UnknownBenchmark(#[from] UnknownBenchmark),
    /// A benchmark runs generated code, which a run never does.
    #[error("failed to schedule {benchmark}: it runs code that the model writes, which a run never does")]
    RunsCode { benchmark: BenchmarkName },
    /// There is no prompt template of this name.
    #[error(
        "failed to find the template `{name}`: there are {}; names of scenarios, such as Vicuna, are known too",
        known_templates()
    )]
    UnknownTemplate { name: String },
    /// `data.masking` looks for a template's key, and a chat template has none.
    #[error("failed to use data.masking: a chat template has no key to look for")]
    NoMaskingKey,
    /// The key of the template cannot be tokenized.
    #[error("failed to tokenize the key of data.template: {0}")]
    MaskingKey(TokenizerError),
    /// The rows cannot be partitioned among clients.
    #[error("failed to partition the rows of {}: {source}", file.display())]
    Partition { file: PathBuf, source: PartitionError },
    /// `data.clients` names a client that the data do not have.
    #[error("failed to find the client \"{client}\" of data.clients in the data")]
    NoClient { client: String },
    /// No client has a row that can be trained on; the summary says why rows were left out.
    #[error("failed to find a row that can be used: {summary}")]
    NoUsableRow { summary: String },
    /// No row of the file that a field names can be used; the summary says why rows were left out.
    #[error("failed to use {field}: {summary}")]
    NoUsableRowIn { field: &'static str, summary: String },
    /// The model has fewer positions than the scenario's sequences.
    #[error("failed to accept data.max_seq_length: {tokens} is more than the {positions} positions of the base model")]
    TooLong { tokens: u32, positions: usize },
    /// Transformers would drop attention weights in the training of this model.
    #[error(
        "failed to accept {config}: attention_dropout is {attention_dropout}, and training supports only 0; set it to 0.0 to \
         train without dropout of attention weights",
        config = config.display()
    )]
    AttentionDropout { config: PathBuf, attention_dropout: f64 },
    /// The profile of a device class cannot be read.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A device trace cannot be read.
    #[error("failed to read {file}: {message}")]
    Trace { file: String, message: String },
    /// Two devices give different bits for the same training.
    #[error("failed to compute on {other}: it gives other bits than {first}")]
    DevicesDiffer { first: String, other: String },
    /// Several threads give other bits than one.
    #[error(
        "failed to compute with {threads} threads: they give other bits than one thread on this machine in this precision"
    )]
    ThreadsDiffer { threads: usize },
}

fn known_templates() -> String {
    let names: Vec<&str> = Template::names().chain(["chat"]).collect();
    names.join(", ")
}

/// All rows of a file that cannot be used and may not be left out.
#[derive(Debug, thiserror::Error)]
#[error("failed to use all rows of {}: {}", path.display(), kinds.join(", "))]
pub struct UnusableRows {
    pub(super) path: PathBuf,
    /// A clause for each kind of fault.
    pub(super) kinds: Vec<String>,
}
