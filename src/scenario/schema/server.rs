//! Fields of the server: selection of clients, protocol, discount of stale updates, and capacities.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::quantity::{Duration, Rate};
use super::aggregation::AggregationSpec;
use super::codec::CodecSpec;
use super::fidelity::{ByFidelity, DefaultsBasis, FidelityDefault};
use super::network::Capacity;
use super::{Transport, one_u32, unit};
use crate::scenario::range;

/// Selection of clients, protocol, and connection of the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Server {
    pub protocol: Protocol,
    #[serde(default)]
    pub selection: ByFidelity<Selection>,
    /// Rule by which the updates of a round become the change that `algorithm` applies. `Mean` is not written out.
    #[serde(default, skip_serializing_if = "AggregationSpec::is_mean")]
    #[schemars(extend("default" = "Mean"))]
    pub aggregation: AggregationSpec,
    /// Codec of the change that a client sends: its adapter minus the one that its task started from. `None`, which is not written
    /// out, sends all values in f32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink_codec: Option<CodecSpec>,
    /// Codec of the model that a client receives: `Int8` or `Nf4`, by which it begins its task with the decoded model. `None`, which
    /// is not written out, sends all values in f32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downlink_codec: Option<CodecSpec>,
    /// Clients that can be selected.
    #[serde(default)]
    pub candidates: CandidatesSpec,
    /// Treatment of clients whose memory is too small for the training.
    #[serde(default)]
    pub memory: MemoryPolicy,
    /// [bit/s] Capacity from the server to all clients together, shared max-min fairly; may be a function of time.
    /// Required unless `network` replaces it.
    #[serde(default)]
    pub downlink: Option<Capacity>,
    /// [bit/s] Capacity from all clients to the server together, shared max-min fairly; may be a function of time.
    /// Required unless `network` replaces it.
    #[serde(default)]
    pub uplink: Option<Capacity>,
    /// [time] Time from the end of a round to the next dispatch.
    #[serde(default)]
    pub aggregation_time: Duration,
    /// [time] Time until the server tries again if there was no client to select -- above 0.
    #[serde(default = "one_minute")]
    pub retry: Duration,
    /// Whether a client downloads the base model, at its precision, with its first task.
    #[serde(default)]
    pub sends_base: bool,
}

/// Clients that can be selected. A client with a running task never can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename = "Candidates")]
pub enum CandidatesSpec {
    /// Clients that are online at the moment of selection.
    #[default]
    Online,
    /// All clients: the server does not know who is online, and a task for an offline client ends as unreachable.
    Everyone,
}

/// Treatment of clients whose memory is too small for the training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MemoryPolicy {
    /// They are never selected.
    #[default]
    Ineligible,
    /// They are selected, download the model, and fail when training begins.
    Fail,
}

/// Protocol by which updates become model versions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum Protocol {
    /// Synchronous rounds, one after another (Bonawitz et al. 2019).
    Synchronous {
        /// [clients] Updates that close a round -- at least 1.
        #[serde(deserialize_with = "range::at_least_one")]
        clients_per_round: u32,
        /// [clients] Clients selected in addition; tasks that are no longer needed are canceled.
        #[serde(default)]
        over_selection: u32,
        /// [time] A round's longest duration; an update that arrives after it is late. `None` waits for all.
        #[serde(default)]
        deadline: Option<Duration>,
        /// [clients] Fewest updates with which a round succeeds; otherwise the model stays as it is -- 1 to
        /// `clients_per_round`.
        #[serde(default = "one_u32", deserialize_with = "range::at_least_one")]
        minimum: u32,
        /// Treatment of tasks that are still running when their round ends.
        #[serde(default)]
        stragglers: Stragglers,
    },
    /// Windows of fixed length: updates that arrive in a window count at its end, and slow clients continue into the
    /// next.
    SemiSynchronous {
        /// [time] Length of a window -- above 0.
        window: Duration,
        /// [tasks] Tasks in flight after the start of each window -- at least 1.
        #[serde(deserialize_with = "range::at_least_one")]
        concurrency: u32,
        /// [updates] Fewest updates that make a version; fewer wait for a later window. Those of the whole run, rounds x minimum, are
        /// at most 1,000,000,000 -- 1 to 10,000,000.
        #[serde(default = "one_u32", deserialize_with = "range::at_least_one")]
        minimum: u32,
        /// [versions] Greatest staleness of an update that counts.
        max_staleness: u32,
        /// Discount on the weight of stale updates.
        #[serde(default)]
        discount: Discount,
    },
    /// FedBuff (Nguyen et al. 2022): a constant number of tasks in flight, and a version whenever the buffer is full.
    Buffered {
        /// [tasks] Tasks in flight -- at least 1.
        #[serde(deserialize_with = "range::at_least_one")]
        concurrency: u32,
        /// [updates] Updates that make a version. Those of the whole run, rounds x buffer_size, are at most 1,000,000,000 --
        /// 1 to 10,000,000.
        #[serde(deserialize_with = "range::at_least_one")]
        buffer_size: u32,
        /// [versions] Greatest staleness of an update that counts; `None` is unlimited.
        #[serde(default)]
        max_staleness: Option<u32>,
        /// Discount on the weight of stale updates. The paper uses `Polynomial(exponent: 0.5)`.
        #[serde(default = "square_root")]
        discount: Discount,
        /// [1] Factor on the mean of the discounted updates -- above 0.
        #[serde(default = "unit", deserialize_with = "range::positive")]
        server_lr: f64,
        /// [tasks] Number of tasks lost or too stale since the last version at which a round fails -- at least 1.
        #[serde(default = "ten_thousand", deserialize_with = "range::at_least_one")]
        max_losses: u32,
    },
    /// FedAsync (Xie et al. 2019): each update is mixed into the model and makes a version.
    Asynchronous {
        /// [tasks] Tasks in flight -- at least 1.
        #[serde(deserialize_with = "range::at_least_one")]
        concurrency: u32,
        /// [versions] Greatest staleness of an update that counts; `None` is unlimited.
        #[serde(default)]
        max_staleness: Option<u32>,
        /// Discount on the weight of stale updates.
        #[serde(default = "square_root")]
        discount: Discount,
        /// [1] Share of the client's model in the mixture if the update is not stale -- above 0, at most 1.
        #[serde(default = "mixing", deserialize_with = "range::positive_share")]
        mixing: f64,
        /// [tasks] Number of tasks lost or too stale since the last version at which a round fails -- at least 1.
        #[serde(default = "ten_thousand", deserialize_with = "range::at_least_one")]
        max_losses: u32,
    },
    /// Tiers of similar speed, each with synchronous rounds, that update one model (after FedAT, Chai et al. 2021).
    Tiered {
        /// [tiers] Number of equal parts into which clients are divided by the nominal time of a task -- at least 1.
        #[serde(deserialize_with = "range::at_least_one")]
        tiers: u32,
        /// [clients] Updates that close a tier's round -- at least 1.
        #[serde(deserialize_with = "range::at_least_one")]
        clients_per_round: u32,
        /// [time] Longest duration of a tier's round; an update that arrives after it is late. `None` waits for all.
        #[serde(default)]
        deadline: Option<Duration>,
        /// [clients] Fewest updates with which a tier's round succeeds -- 1 to `clients_per_round`.
        #[serde(default = "one_u32", deserialize_with = "range::at_least_one")]
        minimum: u32,
        /// Discount on the weight of updates that started before versions of other tiers.
        #[serde(default)]
        discount: Discount,
    },
    /// Edges with synchronous rounds in their regions, and a server that merges their models (Liu et al. 2020).
    Hierarchical {
        /// One edge for each region, with the link to the server.
        edges: Vec<Edge>,
        /// [rounds] Rounds of each edge per server round. Those of all edges in the whole run, rounds x edge_rounds x edges, are at
        /// most 100,000,000 -- at least 1.
        #[serde(default = "one_u32", deserialize_with = "range::at_least_one")]
        edge_rounds: u32,
        /// [clients] Updates that close an edge's round -- at least 1.
        #[serde(deserialize_with = "range::at_least_one")]
        clients_per_round: u32,
        /// [clients] Clients selected in addition.
        #[serde(default)]
        over_selection: u32,
        /// [time] Longest duration of an edge's round. `None` waits for all.
        #[serde(default)]
        deadline: Option<Duration>,
        /// [clients] Fewest updates with which an edge's round succeeds -- 1 to `clients_per_round`.
        #[serde(default = "one_u32", deserialize_with = "range::at_least_one")]
        minimum: u32,
    },
}

/// Treatment of tasks that are still running when their round ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Stragglers {
    /// They are stopped.
    #[default]
    Stop,
    /// They run to their ends, with their clients busy meanwhile, and are late.
    Finish,
}

/// Edge: the aggregator of a region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Edge {
    /// Region whose clients it selects from.
    pub region: String,
    /// [bit/s] Capacity from the server to the edge, within the server's own link.
    pub down: Rate,
    /// [bit/s] Capacity from the edge to the server, within the server's own link.
    pub up: Rate,
    /// [time] One-way latency to the server.
    #[serde(default)]
    pub latency: Duration,
    /// Transport protocol between edge and server. That to its clients is each link's own. `None`, which is not written out, moves only
    /// the messages themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<Transport>,
    /// [bit/s] Capacity from the edge to all its clients together, shared max-min fairly; may be a function of time.
    pub downlink: Capacity,
    /// [bit/s] Capacity from all its clients together to the edge, shared max-min fairly; may be a function of time.
    pub uplink: Capacity,
}

/// Factor on the weight of an update by its staleness s, the number of versions since the one that it started from.
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
        /// [versions] Greatest staleness without discount.
        from: u32,
    },
}

/// Selection of clients among the candidates. Each variant states which results it reads.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum Selection {
    /// Uniform, without replacement.
    Uniform,
    /// Each client independently with this probability, regardless of `clients_per_round`; synchronous rounds only.
    Poisson {
        /// [1] Sampling rate -- above 0, at most 1.
        #[serde(deserialize_with = "range::positive_share")]
        rate: f64,
    },
    /// In proportion to training rows, without replacement.
    BySize,
    /// In turn.
    RoundRobin,
    /// Clients first that will stay online for the nominal time of their task, which no real server can know.
    AvailabilityAware,
    /// The clients with the greatest last losses among `draw` clients drawn by size (Cho et al. 2020, rpow-d). Reads
    /// losses.
    PowerOfChoice {
        /// [clients] Number of clients drawn -- at least 1.
        #[serde(deserialize_with = "range::at_least_one")]
        draw: u32,
    },
    /// Oort (Lai et al. 2021): high loss and short duration, with exploration. Reads losses and durations.
    Oort {
        /// [1] Initial share of clients in a cohort that were never selected before -- 0 to 1.
        #[serde(default = "nine_tenths", deserialize_with = "range::share")]
        explore: f64,
        /// [1] Factor on that share after each selection -- 0 to 1.
        #[serde(default = "oort_decay", deserialize_with = "range::share")]
        explore_decay: f64,
        /// [1] Lower bound of that share -- 0 to 1.
        #[serde(default = "one_fifth", deserialize_with = "range::share")]
        explore_min: f64,
        /// [time] Duration of a task beyond which a client is penalized -- above 0.
        preferred: Duration,
        /// [1] Exponent of the penalty.
        #[serde(default = "two")]
        penalty: u32,
        /// [1] Fraction of the utility at the cutoff that still admits a client -- 0 to 1.
        #[serde(default = "oort_cutoff", deserialize_with = "range::share")]
        cutoff: f64,
    },
    /// FedLLM-Bench's selection: CPython's `random.seed(round); random.sample(range(N), k)`, independent of the seed.
    PythonSample,
}

impl FidelityDefault for Selection {
    type Value = Self;

    fn under(basis: DefaultsBasis) -> Self {
        basis.choose(Self::Uniform, Self::PythonSample)
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
