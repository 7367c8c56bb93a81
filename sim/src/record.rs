//! What a simulation writes down: events of virtual time, tasks that ended, rounds that closed.
//!
//! Records come in the order in which things happened. Every task that is dispatched ends in exactly one
//! [`TaskRecord`]. A task's record comes when its fate is known: at once if it is given up, and with the close of its
//! round if it arrived, just before the [`RoundRecord`]. Tasks that are cancelled or late at the close of a round are
//! recorded before that round's record too, unless the protocol lets stragglers finish: those are recorded when they
//! end, and belong to the counts of the [`RoundRecord`] that follows.

use crate::client::Stage;
use crate::kernel::{Class, Time};
use serde::{Deserialize, Serialize};

/// A dispatch of work to a client: the how-manieth of the run, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(pub u64);

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// Something happened.
    Event(EventRecord),
    /// A task ended.
    Task(TaskRecord),
    /// A round closed.
    Round(RoundRecord),
}

/// How much is recorded. Digests do not depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Detail {
    /// Rounds only.
    Rounds,
    /// Tasks and rounds.
    Tasks,
    /// Everything.
    #[default]
    Events,
}

/// What happened. The numbers are part of the ledger: they are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum EventKind {
    /// A round opened.
    RoundOpened = 1,
    /// A task was sent out.
    Dispatched = 2,
    /// The latency of a download passed; its bytes begin to move.
    DownloadStarted = 3,
    /// A download is complete.
    Downloaded = 4,
    /// Training began.
    TrainingStarted = 5,
    /// Training is complete.
    Trained = 6,
    /// The latency of an upload passed; its bytes begin to move.
    UploadStarted = 7,
    /// An upload is complete and in time.
    Uploaded = 8,
    /// A client gave up its task.
    Dropped = 9,
    /// A task did not fit into its device's memory.
    OutOfMemory = 10,
    /// A task was too late, or its update too stale.
    Late = 11,
    /// The server stopped a task that it no longer needs.
    Cancelled = 12,
    /// A deadline passed.
    DeadlinePassed = 13,
    /// A round closed with a new model version.
    RoundClosed = 14,
    /// A round closed without a new model version.
    RoundFailed = 15,
    /// The capacity of a link of the network changed.
    CapacityChanged = 16,
    /// A device crashed.
    Crashed = 17,
    /// A client went offline during a task.
    ClientLeft = 18,
    /// A client that went offline during a task came back.
    ClientReturned = 19,
    /// A region was cut off.
    RegionCut = 20,
    /// A region came back.
    RegionRestored = 21,
    /// A client was selected that cannot be reached.
    Unreachable = 22,
    /// An edge's model began to travel to the server.
    EdgeUploadStarted = 23,
    /// An edge's model arrived at the server.
    EdgeUploaded = 24,
    /// A changed policy or world took effect.
    Intervened = 25,
}

impl EventKind {
    /// A name for tables: snake case.
    pub const fn name(self) -> &'static str {
        match self {
            EventKind::RoundOpened => "round_opened",
            EventKind::Dispatched => "dispatched",
            EventKind::DownloadStarted => "download_started",
            EventKind::Downloaded => "downloaded",
            EventKind::TrainingStarted => "training_started",
            EventKind::Trained => "trained",
            EventKind::UploadStarted => "upload_started",
            EventKind::Uploaded => "uploaded",
            EventKind::Dropped => "dropped",
            EventKind::OutOfMemory => "out_of_memory",
            EventKind::Late => "late",
            EventKind::Cancelled => "cancelled",
            EventKind::DeadlinePassed => "deadline_passed",
            EventKind::RoundClosed => "round_closed",
            EventKind::RoundFailed => "round_failed",
            EventKind::CapacityChanged => "capacity_changed",
            EventKind::Crashed => "crashed",
            EventKind::ClientLeft => "client_left",
            EventKind::ClientReturned => "client_returned",
            EventKind::RegionCut => "region_cut",
            EventKind::RegionRestored => "region_restored",
            EventKind::Unreachable => "unreachable",
            EventKind::EdgeUploadStarted => "edge_upload_started",
            EventKind::EdgeUploaded => "edge_uploaded",
            EventKind::Intervened => "intervened",
        }
    }
}

/// One event of virtual time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRecord {
    /// When.
    pub at: Time,
    /// Its place within the instant.
    pub class: Class,
    /// What.
    pub kind: EventKind,
    /// Whom it concerns, if a client.
    pub client: Option<u32>,
    /// The task that it belongs to.
    pub task: Option<TaskId>,
    /// The round that it belongs to, from 0.
    pub round: Option<u32>,
    /// Bytes that moved [byte]: with the end of a transfer, completed or not.
    pub bytes: u64,
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// It arrived in time and is part of a model version.
    Counted,
    /// It missed the deadline, or arrived after its round had closed.
    Late,
    /// It arrived, based on a version older than the bound on staleness allows.
    Stale,
    /// The client gave it up.
    Dropped(Stage),
    /// The device crashed.
    Crashed,
    /// The client went offline, or its region was cut off.
    Left,
    /// The client could not be reached when it was selected.
    Unreachable,
    /// It did not fit into the device's memory.
    OutOfMemory,
    /// The server did not need it any more, or the run ended.
    Cancelled,
    /// It arrived in time, but its round failed.
    Discarded,
}

impl Outcome {
    /// A name for tables: snake case.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Counted => "counted",
            Outcome::Late => "late",
            Outcome::Stale => "stale",
            Outcome::Dropped(Stage::BeforeTraining) => "dropped_before_training",
            Outcome::Dropped(Stage::DuringTraining) => "dropped_during_training",
            Outcome::Dropped(Stage::AfterTraining) => "dropped_after_training",
            Outcome::Crashed => "crashed",
            Outcome::Left => "left",
            Outcome::Unreachable => "unreachable",
            Outcome::OutOfMemory => "out_of_memory",
            Outcome::Cancelled => "cancelled",
            Outcome::Discarded => "discarded",
        }
    }

    /// Which of a round's counts this outcome adds to.
    pub const fn tally(self) -> Tally {
        match self {
            Outcome::Counted => Tally::Counted,
            Outcome::Late | Outcome::Stale => Tally::Late,
            Outcome::Cancelled | Outcome::Discarded => Tally::Cancelled,
            _ => Tally::Dropped,
        }
    }
}

/// The four ways to end, as rounds count them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tally {
    /// In a model version.
    Counted,
    /// Late or stale.
    Late,
    /// Given up, crashed, left, unreachable or out of memory.
    Dropped,
    /// Cancelled or discarded.
    Cancelled,
}

/// One task, when it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// Which task.
    pub task: TaskId,
    /// Whose.
    pub client: u32,
    /// The round in which it was dispatched, from 0.
    pub round: u32,
    /// The aggregator that dispatched it: 0 is the server, or tier or edge number + 1.
    pub aggregator: u32,
    /// The how-manieth task of its client, from 0.
    pub client_task_number: u32,
    /// The model version that it started from.
    pub based_on_version: u32,
    /// When it was sent out.
    pub dispatched_at: Time,
    /// When the client had the model.
    pub download_done_at: Option<Time>,
    /// When training was complete.
    pub training_done_at: Option<Time>,
    /// When the server had the update.
    pub upload_done_at: Option<Time>,
    /// When it ended: arrived, was given up or was stopped.
    pub ended_at: Time,
    /// How it ended.
    pub outcome: Outcome,
    /// The model version that it is part of.
    pub counted_in_version: Option<u32>,
    /// Versions between the one it started from and the one before it was counted; 0 unless counted or stale.
    pub staleness: u32,
    /// Bytes from server to client that moved [byte].
    pub bytes_down: u64,
    /// Bytes from client to server that moved [byte].
    pub bytes_up: u64,
    /// Floating-point operations that were done [FLOP].
    pub compute_flops: u64,
    /// How long the device trained [ns].
    pub training_ns: u64,
    /// Energy from dispatch to end [mJ].
    pub energy_mj: u64,
}

/// Why a round produced no model version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Failure {
    /// No client could be selected.
    NoCandidates,
    /// Fewer updates than the minimum arrived before the deadline.
    TooFewInTime,
    /// Every dispatched task ended, and fewer updates than the minimum arrived.
    TooFewSurvived,
    /// Nothing was left that could happen.
    Stalled,
}

impl Failure {
    /// A name for tables: snake case.
    pub const fn name(self) -> &'static str {
        match self {
            Failure::NoCandidates => "no_candidates",
            Failure::TooFewInTime => "too_few_in_time",
            Failure::TooFewSurvived => "too_few_survived",
            Failure::Stalled => "stalled",
        }
    }
}

/// How a round closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RoundStatus {
    /// With a new model version.
    Closed,
    /// Without.
    Failed(Failure),
}

/// A task that is part of a model version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountedTask {
    /// Which task.
    pub task: TaskId,
    /// Whose.
    pub client: u32,
    /// The model version that it started from.
    pub based_on_version: u32,
    /// Versions between that one and the one before this round's.
    pub staleness: u32,
}

/// One round, when it has closed: for a synchronous protocol a cohort, for a buffered one a full buffer.
///
/// The counts are of what happened since this aggregator's previous record, so over the run
/// `dispatched = counted + late + dropped + cancelled`, plus at any record the tasks `in_flight`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundRecord {
    /// Which round of its aggregator, from 0.
    pub round: u32,
    /// Which aggregator: 0 is the server, or tier or edge number + 1.
    pub aggregator: u32,
    /// The model version that it produced; versions count from 1, over all aggregators. Version 0 is the initial model.
    pub version: Option<u32>,
    /// The version that this one replaces at its aggregator.
    pub base_version: u32,
    /// When it opened.
    pub opened_at: Time,
    /// When it closed.
    pub closed_at: Time,
    /// How it closed.
    pub status: RoundStatus,
    /// Tasks sent out.
    pub dispatched: u32,
    /// Tasks that are part of the version.
    pub counted: u32,
    /// Tasks late or stale.
    pub late: u32,
    /// Tasks given up, crashed, left, unreachable or out of memory.
    pub dropped: u32,
    /// Tasks cancelled or discarded.
    pub cancelled: u32,
    /// Tasks of this aggregator that are still running.
    pub in_flight: u32,
    /// Bytes from server to clients, of the tasks that ended [byte].
    pub bytes_down: u64,
    /// Bytes from clients to server, of the tasks that ended [byte].
    pub bytes_up: u64,
    /// The tasks that count, in the order of aggregation: ascending by client, then by task.
    pub counted_tasks: Vec<CountedTask>,
    /// For a version merged from models of edges: their versions, ascending by edge.
    pub merged_versions: Vec<u32>,
}
