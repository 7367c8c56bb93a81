//! Records of a simulation: events, tasks that ended, and rounds that closed.
//!
//! Records are in the order of the events. Every dispatched task has exactly one [`TaskRecord`], which is written when
//! its outcome is known: at once if the task was given up, and at the close of its round, just before the
//! [`RoundRecord`], if the update arrived. Tasks that are cancelled or late at the close of a round are recorded before
//! that round's record too, unless the protocol lets stragglers finish. Those are recorded when they end, and are
//! counted in the next [`RoundRecord`].

use crate::client::Stage;
use crate::kernel::{Class, Time};
use serde::{Deserialize, Serialize};

/// Number of a task among those dispatched in the run, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(pub u64);

/// A record of a simulation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// An event.
    Event(EventRecord),
    /// A task ended.
    Task(TaskRecord),
    /// A round closed.
    Round(RoundRecord),
}

/// Level of detail of the records. Digests do not depend on it.
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

/// Kind of an event. The numbers are part of the ledger and are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum EventKind {
    /// A round opened.
    RoundOpened = 1,
    /// A task was dispatched.
    Dispatched = 2,
    /// The latency of a download passed, and its transfer started.
    DownloadStarted = 3,
    /// A download is complete.
    Downloaded = 4,
    /// Training began.
    TrainingStarted = 5,
    /// Training is complete.
    Trained = 6,
    /// The latency of an upload passed, and its transfer started.
    UploadStarted = 7,
    /// An upload is complete.
    Uploaded = 8,
    /// A client gave up its task.
    Dropped = 9,
    /// A task did not fit into its device's memory.
    OutOfMemory = 10,
    /// An update was too late or too stale.
    Late = 11,
    /// The server stopped a task that it does not need any more.
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
    /// A client became unreachable during a task.
    ClientLeft = 18,
    /// A client that became unreachable during a task returned.
    ClientReturned = 19,
    /// A region was cut off.
    RegionCut = 20,
    /// A region was reconnected.
    RegionRestored = 21,
    /// An unreachable client was selected.
    Unreachable = 22,
    /// The transfer of an edge's model to the server started.
    EdgeUploadStarted = 23,
    /// An edge's model arrived at the server.
    EdgeUploaded = 24,
    /// An intervention took effect.
    Intervened = 25,
}

impl EventKind {
    /// Returns the name in tables, in snake case.
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

/// Record of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRecord {
    /// Time of the event.
    pub at: Time,
    /// Class, which orders events within an instant.
    pub class: Class,
    /// Kind of the event.
    pub kind: EventKind,
    /// Client that it concerns, if any.
    pub client: Option<u32>,
    /// Task that it belongs to, if any.
    pub task: Option<TaskId>,
    /// Round that it belongs to, from 0, if any.
    pub round: Option<u32>,
    /// [byte] -- Amount transferred, at the end of a transfer, whether complete or not.
    pub bytes: u64,
}

/// Outcome of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// The update arrived in time and is part of a model version.
    #[default]
    Counted,
    /// The update missed the deadline, or arrived after its round had closed.
    Late,
    /// The update arrived, but was based on a version older than the bound on staleness allows.
    Stale,
    /// The client dropped out.
    Dropped(Stage),
    /// The device crashed.
    Crashed,
    /// The client went offline, or its region was cut off.
    Left,
    /// The client could not be reached when it was selected.
    Unreachable,
    /// The task did not fit into the device's memory.
    OutOfMemory,
    /// The server did not need the task any more, or the run ended.
    Cancelled,
    /// The update arrived in time, but its round failed.
    Discarded,
}

impl Outcome {
    /// All outcomes.
    pub const ALL: [Self; 12] = [
        Outcome::Counted,
        Outcome::Late,
        Outcome::Stale,
        Outcome::Dropped(Stage::BeforeTraining),
        Outcome::Dropped(Stage::DuringTraining),
        Outcome::Dropped(Stage::AfterTraining),
        Outcome::Crashed,
        Outcome::Left,
        Outcome::Unreachable,
        Outcome::OutOfMemory,
        Outcome::Cancelled,
        Outcome::Discarded,
    ];

    /// Returns the name in tables, in snake case.
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

    /// Returns the count of a round to which this outcome adds.
    pub const fn tally(self) -> Tally {
        match self {
            Outcome::Counted => Tally::Counted,
            Outcome::Late | Outcome::Stale => Tally::Late,
            Outcome::Cancelled | Outcome::Discarded => Tally::Cancelled,
            _ => Tally::Dropped,
        }
    }
}

/// The four outcomes that rounds count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tally {
    /// Part of a model version.
    #[default]
    Counted,
    /// Late or stale.
    Late,
    /// Dropped out, crashed, left, unreachable or out of memory.
    Dropped,
    /// Cancelled or discarded.
    Cancelled,
}

impl Tally {
    /// All tallies.
    pub const ALL: [Self; 4] = [Tally::Counted, Tally::Late, Tally::Dropped, Tally::Cancelled];

    /// Returns the name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Tally::Counted => "counted",
            Tally::Late => "late",
            Tally::Dropped => "dropped",
            Tally::Cancelled => "cancelled",
        }
    }
}

/// Record of a task that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// Number of the task.
    pub task: TaskId,
    /// Client that ran it.
    pub client: u32,
    /// Round in which it was dispatched, from 0.
    pub round: u32,
    /// Aggregator that dispatched it: 0 for the server, or the number of the tier or edge, from 0, plus 1.
    pub aggregator: u32,
    /// Number among the tasks of its client, from 0.
    pub client_task_number: u32,
    /// Model version that it started from.
    pub based_on_version: u32,
    /// Time of dispatch.
    pub dispatched_at: Time,
    /// Time at which the client had the model.
    pub download_done_at: Option<Time>,
    /// Time at which training was complete.
    pub training_done_at: Option<Time>,
    /// Time at which the server had the update.
    pub upload_done_at: Option<Time>,
    /// Time at which it ended: arrived, was given up or was stopped.
    pub ended_at: Time,
    /// Outcome.
    pub outcome: Outcome,
    /// Model version that it is part of.
    pub counted_in_version: Option<u32>,
    /// [version] -- Staleness: versions between the one it started from and the last one before it counted. 0 unless
    /// counted or stale.
    pub staleness: u32,
    /// [byte] -- Amount transferred from the server to the client.
    pub bytes_down: u64,
    /// [byte] -- Amount transferred from the client to the server.
    pub bytes_up: u64,
    /// [byte] -- What the first of these was on the wire, with the transport's headers.
    pub wire_bytes_down: u64,
    /// [byte] -- What the second of these was on the wire.
    pub wire_bytes_up: u64,
    /// [FLOP] -- Floating-point operations performed.
    pub compute_flops: u64,
    /// [ns] -- Training time.
    pub training_ns: u64,
    /// [mJ] -- Energy of the device from dispatch to end.
    pub energy_mj: u64,
    /// [mJ] -- Part of it until the model had arrived: waiting, and receiving.
    pub download_mj: u64,
    /// [mJ] -- Part of it from then to the end of training.
    pub training_mj: u64,
    /// [mJ] -- Part of it after training: waiting, and sending. Each part is rounded down by itself.
    pub upload_mj: u64,
}

/// Reason why a round produced no model version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Failure {
    /// No client could be selected.
    NoCandidates,
    /// Fewer updates than the minimum arrived before the deadline.
    TooFewInTime,
    /// All dispatched tasks ended, and fewer updates than the minimum arrived.
    TooFewSurvived,
    /// No events were pending any more.
    Stalled,
}

impl Failure {
    /// Returns the name in tables, in snake case.
    pub const fn name(self) -> &'static str {
        match self {
            Failure::NoCandidates => "no_candidates",
            Failure::TooFewInTime => "too_few_in_time",
            Failure::TooFewSurvived => "too_few_survived",
            Failure::Stalled => "stalled",
        }
    }
}

/// Status of a closed round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RoundStatus {
    /// Closed with a new model version.
    Closed,
    /// Closed without a new model version.
    Failed(Failure),
}

/// A task that is part of a model version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountedTask {
    /// Number of the task.
    pub task: TaskId,
    /// Client that ran it.
    pub client: u32,
    /// Model version that it started from.
    pub based_on_version: u32,
    /// [version] -- Staleness: versions between that one and the last one before this round's.
    pub staleness: u32,
}

/// Record of a round that has closed: a cohort of a synchronous protocol, a full buffer of a buffered one.
///
/// Counts are since this aggregator's previous record. Summed up to any record,
/// `dispatched = counted + late + dropped + cancelled + in_flight`, where `in_flight` is that of the last record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundRecord {
    /// Number of the round at its aggregator, from 0.
    pub round: u32,
    /// Aggregator: 0 for the server, or the number of the tier or edge, from 0, plus 1.
    pub aggregator: u32,
    /// Model version that it produced. Versions are numbered from 1 over all aggregators; version 0 is the initial
    /// model.
    pub version: Option<u32>,
    /// Version that was current at the aggregator before.
    pub base_version: u32,
    /// Time at which it opened.
    pub opened_at: Time,
    /// Time at which it closed.
    pub closed_at: Time,
    /// Status.
    pub status: RoundStatus,
    /// Number of tasks dispatched.
    pub dispatched: u32,
    /// Number of tasks that are part of the version.
    pub counted: u32,
    /// Number of tasks late or stale.
    pub late: u32,
    /// Number of tasks dropped out, crashed, left, unreachable or out of memory.
    pub dropped: u32,
    /// Number of tasks cancelled or discarded.
    pub cancelled: u32,
    /// Number of tasks of this aggregator that have no record yet.
    pub in_flight: u32,
    /// [byte] -- Amount transferred from the server to clients, of the tasks that ended.
    pub bytes_down: u64,
    /// [byte] -- Amount transferred from clients to the server, of the tasks that ended.
    pub bytes_up: u64,
    /// [byte] -- What the first of these was on the wire, with the transport's headers.
    pub wire_bytes_down: u64,
    /// [byte] -- What the second of these was on the wire.
    pub wire_bytes_up: u64,
    /// Tasks that are part of the version, in the order of aggregation: ascending by client, then by task.
    pub counted_tasks: Vec<CountedTask>,
    /// Versions of the edges' models from which the version was merged, ascending by edge; else empty.
    pub merged_versions: Vec<u32>,
}
