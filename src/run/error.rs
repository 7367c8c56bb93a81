//! Errors of a run.

use std::path::PathBuf;

use crate::adapter::AdapterError;
use crate::benchmarks::EvaluationError;
use crate::data::{ChatTemplateError, DatasetError, Twin};
use crate::diversity::DiversityError;
use crate::graph::GraphError;
use crate::inputs::InputError;
use crate::ledger::{LedgerError, SCHEMA_VERSION};
use crate::model::gguf::GgufError;
use crate::model::hub::HubError;
use crate::privacy::PrivacyError;
use crate::scenario::ScenarioError;
use crate::schedule::ScheduleError;
use crate::store::StoreError;

/// Version of this program.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Reason why a statement cannot be signed or read.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// The file has no key that can be used. Nothing of its contents is shown.
    #[error("failed to read the key {}: it is {reason}", path.display())]
    Key { path: PathBuf, reason: &'static str },
    #[error("failed to read the statement {}: {reason}", path.display())]
    Statement { path: PathBuf, reason: String },
    /// The run is not what its own hashes say.
    #[error("failed to certify {}: {difference}", run.display())]
    Different { run: PathBuf, difference: String },
}

/// Reason why a run, or something else that is done with runs, failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The differences between a dataset's clients could not be analyzed.
    #[error(transparent)]
    Diversity(#[from] DiversityError),
    #[error(transparent)]
    ChatTemplate(#[from] ChatTemplateError),
    /// The base model could not be loaded as the scenario asks.
    #[error(transparent)]
    Model(crate::training::Error),
    /// A model of the hub could not be fetched.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// A GGUF file could not be imported.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The adapter to start from cannot be used.
    #[error(transparent)]
    StartAdapter(AdapterError),
    /// The scenario has no schedule.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// The data, the models or the machine that the scenario needs cannot be used.
    #[error(transparent)]
    Input(Box<InputError>),
    /// The scenario's privacy cannot be provided.
    #[error(transparent)]
    Privacy(#[from] PrivacyError),
    /// The scenario asks for portable numerics, and the process was started without them. Call
    /// [`crate::training::restart_portably`] to restart it with them.
    #[error("failed to compute portably: LibTorch's libraries were not started on paths that all processors share")]
    NotStartedPortably,
    /// The scenario asks for portable numerics, and the device has none.
    #[error("failed to compute portably on {device}: it takes an x86-64 processor with AVX2 and FMA, and no GPU")]
    NotPortable { device: String },
    /// The base model is larger than the free memory, in bytes.
    #[error("failed to try a step: the weights in {} are {bytes} bytes, and {free} are left", folder.display())]
    TooLarge { folder: PathBuf, bytes: u64, free: u64 },
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    #[error(transparent)]
    Graph(#[from] GraphError),
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    /// The run is not of the kind, or not in the state, that the action needs.
    #[error("failed to {action} {}: {reason}", run.display())]
    Unsuitable { action: &'static str, run: PathBuf, reason: Unsuitability },
    /// Data, models, scenario or arithmetic are not what the run was made from.
    #[error("failed to {action} {}: {change}", run.display())]
    Changed { action: &'static str, run: PathBuf, change: RunChange },
    /// The folder of a sweep's cell has a run of another scenario.
    #[error("failed to sweep into {}: it holds a run of another scenario", folder.display())]
    OtherScenario { folder: PathBuf },
    /// A cell of a sweep, by the name of its folder, could not be run.
    #[error("{error} (cell {folder} of the sweep)")]
    Cell { folder: String, error: Box<RunError> },
    /// Another process runs in the folder.
    #[error("failed to write to {}: another process is running there", folder.display())]
    InUse { folder: PathBuf },
    /// A run that used the store is out of reach, so that nobody knows which results it needs.
    #[error("failed to tell what {} needs: neither it nor the folder around it is there; mount its disk", run.display())]
    OutOfReach { run: PathBuf },
    /// The path of an export is taken.
    #[error("failed to export to {}: it is there already", out.display())]
    OutputExists { out: PathBuf },
    /// The path of an output is inside of a run, whose manifest lists every file.
    #[error("failed to write to {}: the run in {} answers for every file there", out.display(), run.display())]
    OutputInRun { out: PathBuf, run: PathBuf },
    /// The run has no such round.
    #[error("failed to find round {round} of {}: the run has rounds 1 to {rounds}", run.display())]
    NoRound { run: PathBuf, round: u32, rounds: u32 },
    /// The run has no such client.
    #[error("failed to find the client {client}: neither a name, nor a number below {clients}")]
    NoClient { client: String, clients: usize },
    /// No update of the client counted in the rounds that are checked.
    #[error("failed to check client {client}: no update of it counted there")]
    NothingCounted { client: String },
    /// The run saved no adapter after the round, or none at all if no round is given.
    #[error(
        "failed to find an adapter of {} in {}: saved are {}; output.save_adapter_every saves more",
        round.map_or_else(|| "any round".to_owned(), |round| format!("round {round}")),
        folder.display(),
        list(saved)
    )]
    NotSaved { round: Option<u32>, folder: PathBuf, saved: Vec<u32> },
    /// An adapter is neither saved by the run nor in the store.
    #[error(
        "failed to find the adapter of round {round}: {} is not there, and the store has none under its model_key; \
         `output.save_adapter_every` saves them, and a run with the store that it was run with finds them",
        folder.display()
    )]
    NotKept { round: u32, folder: PathBuf },
    /// A statement about a run cannot be signed or read.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// There is no synthetic twin of this name.
    #[error("failed to make a twin `{name}`: known are {}", known_twins())]
    UnknownTwin { name: String },
}

/// Property of a run that rules out an action.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsuitability {
    #[error("it is a plan, which trained nothing")]
    Plan,
    #[error("it trained nothing")]
    Untrained,
    #[error("each client has a model of its own, which --client selects")]
    Personal,
    #[error("its base has changed by more than an adapter holds; --merged writes the whole model")]
    ChangedBase,
    #[error("it is not finished")]
    Unfinished,
    #[error("there is nothing to resume, it is finished")]
    Finished,
    /// Fresh noise on the same updates would spend privacy twice, and would give other bits.
    #[error("its noise is secret and kept nowhere, and fresh noise would spend its privacy twice")]
    SecretNoise,
    /// Results or tables would differ, whatever was computed.
    #[error(
        "fedreplay {made_by} made it, with tables of version {tables}, and this is fedreplay {VERSION}, with tables of \
         version {SCHEMA_VERSION}; use fedreplay {made_by}, or run its scenario.ron again"
    )]
    OtherVersion { made_by: String, tables: u32 },
}

/// First difference between what a run was made from and what is there now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunChange {
    #[error("its scenario was changed")]
    Scenario,
    /// Classes of the arithmetic, which decides the bits.
    #[error("the machine's arithmetic is {now}, the run was made with {then}")]
    Numerics { then: String, now: String },
    /// Input by its role, such as `base_model`, with the path at which the run found it.
    #[error("the {} at {} is not what the run was made from", role.replace('_', " "), path.display())]
    Input { role: String, path: PathBuf },
    /// None of them, but the hash that the digests begin with.
    #[error("its genesis is not the one that its scenario, its inputs and the machine's arithmetic give")]
    Genesis,
}

/// Lists rounds for a message.
fn list(rounds: &[u32]) -> String {
    if rounds.is_empty() {
        return "none".to_owned();
    }
    let rounds: Vec<String> = rounds.iter().map(u32::to_string).collect();
    rounds.join(", ")
}

fn known_twins() -> String {
    let known: Vec<_> = Twin::all().iter().map(|twin| twin.name).collect();
    known.join(", ")
}

// Boxed by hand: an input error is the largest of all, and every result of a run would have its size.
impl From<InputError> for RunError {
    fn from(error: InputError) -> Self {
        Self::Input(Box::new(error))
    }
}
