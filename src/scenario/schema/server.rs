//! The server's fields: whom it asks, how long it waits, and which updates make a model version.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::quantity::{Duration, Rate};
use super::fidelity::choose;
use super::network::Capacity;
use super::{one_u32, unit};
use crate::scenario::range;

/// How the server picks clients, waits for them, and how it is connected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Server {
    pub protocol: Protocol,
    #[serde(default)]
    pub selection: Selection,
    /// Which clients can be asked.
    #[serde(default)]
    pub candidates: Candidates,
    /// What becomes of clients whose devices cannot hold the training.
    #[serde(default)]
    pub memory: MemoryPolicy,
    /// [bit/s] Capacity from the server to all clients together, shared max-min fairly; also as a function of time.
    /// Needed unless `network` says otherwise.
    #[serde(default)]
    pub downlink: Option<Capacity>,
    /// [bit/s] Capacity from all clients to the server together, shared max-min fairly; also as a function of time.
    /// Needed unless `network` says otherwise.
    #[serde(default)]
    pub uplink: Option<Capacity>,
    /// [time] From the end of a round to the next dispatch.
    #[serde(default)]
    pub aggregation_time: Duration,
    /// [time] Until the server tries again when it found nobody to ask -- above 0.
    #[serde(default = "one_minute")]
    pub retry: Duration,
    /// Whether a client downloads the base model, at its precision, with its first task.
    #[serde(default)]
    pub sends_base: bool,
}

/// Which clients can be asked. A client with a running task never can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Candidates {
    /// Those online at the moment of selection.
    #[default]
    Online,
    /// All: the server does not know who is online, and a task for a client that is not ends as unreachable.
    Everyone,
}

/// What becomes of clients whose devices cannot hold the training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MemoryPolicy {
    /// They are never asked.
    #[default]
    Ineligible,
    /// They are asked, download the model, and fail when training begins.
    Fail,
}

/// When updates become a model version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum Protocol {
    /// Rounds one after another (Bonawitz et al. 2019).
    Synchronous {
        /// [clients] Updates that close a round -- at least 1.
        #[serde(deserialize_with = "range::at_least_one")]
        clients_per_round: u32,
        /// [clients] Clients asked beyond that; those who are not needed any more are cancelled.
        #[serde(default)]
        over_selection: u32,
        /// [time] A round's longest duration; what has not arrived by then is late. None waits for all.
        #[serde(default)]
        deadline: Option<Duration>,
        /// [clients] Updates without which a round fails and the model stays as it was -- 1 to `clients_per_round`.
        #[serde(default = "one_u32", deserialize_with = "range::at_least_one")]
        minimum: u32,
        /// What becomes of tasks that still run when their round ends.
        #[serde(default)]
        stragglers: Stragglers,
    },
    /// Windows of fixed length: what arrives in one counts at its end, and slow clients work on into the next.
    SemiSynchronous {
        /// [time] Length of a window -- above 0.
        window: Duration,
        /// [tasks] Tasks in flight after each opening of a window -- at least 1.
        #[serde(deserialize_with = "range::at_least_one")]
        concurrency: u32,
        /// [updates] Updates without which a window makes no version; they then count in a later one -- at least 1.
        #[serde(default = "one_u32", deserialize_with = "range::at_least_one")]
        minimum: u32,
        /// [versions] Greatest staleness that counts.
        max_staleness: u32,
        /// How much less a stale update weighs.
        #[serde(default)]
        discount: Discount,
    },
    /// FedBuff (Nguyen et al. 2022): always as many tasks in flight, and a version whenever the buffer is full.
    Buffered {
        /// [tasks] Tasks in flight -- at least 1.
        #[serde(deserialize_with = "range::at_least_one")]
        concurrency: u32,
        /// [updates] Updates that make a version -- at least 1.
        #[serde(deserialize_with = "range::at_least_one")]
        buffer_size: u32,
        /// [versions] Greatest staleness that counts; none is any.
        #[serde(default)]
        max_staleness: Option<u32>,
        /// How much less a stale update weighs; the paper's is `Polynomial(exponent: 0.5)`.
        #[serde(default = "square_root")]
        discount: Discount,
        /// [1] Factor on the mean of the discounted updates -- above 0.
        #[serde(default = "unit", deserialize_with = "range::positive")]
        server_lr: f64,
        /// [tasks] Tasks lost or too stale since the last version at which a round fails -- at least 1.
        #[serde(default = "ten_thousand", deserialize_with = "range::at_least_one")]
        max_losses: u32,
    },
    /// FedAsync (Xie et al. 2019): a version for each update, mixed into the model.
    Asynchronous {
        /// [tasks] Tasks in flight -- at least 1.
        #[serde(deserialize_with = "range::at_least_one")]
        concurrency: u32,
        /// [versions] Greatest staleness that counts; none is any.
        #[serde(default)]
        max_staleness: Option<u32>,
        /// How much less a stale update weighs.
        #[serde(default = "square_root")]
        discount: Discount,
        /// [1] Share of a fresh update's model in the mixture -- above 0, at most 1.
        #[serde(default = "mixing", deserialize_with = "range::positive_share")]
        mixing: f64,
        /// [tasks] Tasks lost or too stale since the last version at which a round fails -- at least 1.
        #[serde(default = "ten_thousand", deserialize_with = "range::at_least_one")]
        max_losses: u32,
    },
    /// Tiers of like speed, each synchronous in itself, all updating one model (after FedAT, Chai et al. 2021).
    Tiered {
        /// [tiers] Clients are ranked by the nominal time of a task and cut into so many equal parts -- at least 1.
        #[serde(deserialize_with = "range::at_least_one")]
        tiers: u32,
        /// [clients] Updates that close a tier's round -- at least 1.
        #[serde(deserialize_with = "range::at_least_one")]
        clients_per_round: u32,
        /// [time] A tier's longest round; what has not arrived by then is late. None waits for all.
        #[serde(default)]
        deadline: Option<Duration>,
        /// [clients] Updates without which a tier's round fails -- 1 to `clients_per_round`.
        #[serde(default = "one_u32", deserialize_with = "range::at_least_one")]
        minimum: u32,
        /// How much less an update weighs that started before other tiers' versions.
        #[serde(default)]
        discount: Discount,
    },
    /// Edges that hold synchronous rounds for their regions, and a server that merges them (Liu et al. 2020).
    Hierarchical {
        /// One edge for each region, with the link to the server.
        edges: Vec<Edge>,
        /// [rounds] Rounds of each edge for one of the server -- at least 1.
        #[serde(default = "one_u32", deserialize_with = "range::at_least_one")]
        edge_rounds: u32,
        /// [clients] Updates that close an edge's round -- at least 1.
        #[serde(deserialize_with = "range::at_least_one")]
        clients_per_round: u32,
        /// [clients] Clients asked beyond that.
        #[serde(default)]
        over_selection: u32,
        /// [time] An edge's longest round. None waits for all.
        #[serde(default)]
        deadline: Option<Duration>,
        /// [clients] Updates without which an edge's round fails -- 1 to `clients_per_round`.
        #[serde(default = "one_u32", deserialize_with = "range::at_least_one")]
        minimum: u32,
    },
}

/// What becomes of tasks that still run when their round ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Stragglers {
    /// They are stopped.
    #[default]
    Stop,
    /// They run on, their clients busy meanwhile, and are late.
    Finish,
}

/// The aggregator of a region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Edge {
    /// Region whose clients it asks.
    pub region: String,
    /// [bit/s] From the server to the edge, within the server's own link.
    pub down: Rate,
    /// [bit/s] From the edge to the server, within the server's own link.
    pub up: Rate,
    /// [time] To the server, one way.
    #[serde(default)]
    pub latency: Duration,
    /// [bit/s] From the edge to all its clients together, shared max-min fairly; also as a function of time.
    pub downlink: Capacity,
    /// [bit/s] From all its clients together to the edge, shared max-min fairly; also as a function of time.
    pub uplink: Capacity,
}

/// Factor on the weight of an update by its staleness s: the versions made since the one it started from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum Discount {
    /// 1.
    #[default]
    Constant,
    /// (1 + s)^-exponent.
    Polynomial {
        /// [1] -- above 0.
        #[serde(deserialize_with = "range::positive")]
        exponent: f64,
    },
    /// 1 up to a staleness of `from`, then 1 / (slope (s - from) + 1).
    Hinge {
        /// [1] -- above 0.
        #[serde(deserialize_with = "range::positive")]
        slope: f64,
        /// [versions] Staleness up to which nothing is discounted.
        from: u32,
    },
}

/// Which clients are asked. Each states what it reads beyond who is a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum Selection {
    /// Without replacement, all alike.
    Uniform,
    /// Each on its own with this probability, whatever `clients_per_round` says; synchronous rounds only.
    Poisson {
        /// [1] Sampling rate -- above 0, at most 1.
        #[serde(deserialize_with = "range::positive_share")]
        rate: f64,
    },
    /// Without replacement, in proportion to training rows.
    BySize,
    /// In turns.
    RoundRobin,
    /// Those first who stay online for the nominal time of their task, as an oracle would know.
    AvailabilityAware,
    /// The greatest last losses among `draw` clients drawn by size (Cho et al. 2020, rpow-d). Reads losses.
    PowerOfChoice {
        /// [clients] Clients to draw -- at least 1.
        #[serde(deserialize_with = "range::at_least_one")]
        draw: u32,
    },
    /// High loss and short duration, with exploration (Lai et al. 2021). Reads losses and durations.
    Oort {
        /// [1] Part of a cohort that was never asked, at first -- 0 to 1.
        #[serde(default = "nine_tenths", deserialize_with = "range::share")]
        explore: f64,
        /// [1] Factor on it from selection to selection -- 0 to 1.
        #[serde(default = "oort_decay", deserialize_with = "range::share")]
        explore_decay: f64,
        /// [1] The least that it becomes -- 0 to 1.
        #[serde(default = "one_fifth", deserialize_with = "range::share")]
        explore_min: f64,
        /// [time] Duration of a task beyond which a client is penalised -- above 0.
        preferred: Duration,
        /// [1] Exponent of the penalty.
        #[serde(default = "two")]
        penalty: u32,
        /// [1] Part of the utility at the cut that still admits a client -- 0 to 1.
        #[serde(default = "oort_cutoff", deserialize_with = "range::share")]
        cutoff: f64,
    },
    /// FedLLM-Bench's: CPython's `random.seed(round); random.sample(range(N), k)`. Reads the round, not the seed.
    PythonSample,
}

impl Default for Selection {
    fn default() -> Self {
        choose(Self::Uniform, Self::PythonSample)
    }
}

fn one_minute() -> Duration {
    Duration(60_000_000_000)
}

fn square_root() -> Discount {
    Discount::Polynomial { exponent: 0.5 }
}

fn mixing() -> f64 {
    0.6
}

fn ten_thousand() -> u32 {
    10_000
}

fn nine_tenths() -> f64 {
    0.9
}

fn oort_decay() -> f64 {
    0.98
}

fn one_fifth() -> f64 {
    0.2
}

fn two() -> u32 {
    2
}

fn oort_cutoff() -> f64 {
    0.95
}
