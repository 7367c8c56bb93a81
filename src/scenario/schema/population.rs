//! The clients' fields: classes of devices and links, when clients are awake, and how they fail.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::quantity::{Bandwidth, Bytes, Duration, Rate, Speed};
use super::{day, unit};
use crate::scenario::range;

/// Who the clients are: named device and link classes, and their shares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Population {
    /// Catalog of device classes by data sheet, such as `devices.ron`. Relative to the scenario file. The classes that
    /// `mix` names and `devices` lacks are taken from it; in the resolved scenario they stand under `devices`.
    #[serde(default)]
    pub catalog: Option<PathBuf>,
    /// Classes of devices by name.
    #[serde(default, deserialize_with = "range::unique")]
    pub devices: BTreeMap<String, Device>,
    /// Classes of links by name.
    #[serde(default, deserialize_with = "range::unique")]
    pub links: BTreeMap<String, Link>,
    /// Groups of clients. Shares are normalised; who belongs where follows from the seed. It may be empty where a trace
    /// tells everything.
    #[serde(default)]
    pub mix: Vec<Group>,
    /// What is known of each client, instead of or on top of its group.
    #[serde(default)]
    pub trace: Option<ClientTrace>,
}

/// Tables with what is known of each client, Parquet or CSV by their file names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientTrace {
    /// A row a client, with the columns of a run's `population` table, each of them optional, and also
    /// `memory_bandwidth_bytes_per_second`, `jitter`, `busy_watts`, `idle_watts`, `dropout_before_training`,
    /// `dropout_during_training` and `dropout_after_training`. Without `client_id`, rows are in the order of the clients.
    /// Relative to the scenario file.
    #[serde(default)]
    pub clients: Option<PathBuf>,
    /// A row an interval in which a client is online: `client_id`, `from_seconds`, `until_seconds`. Clients without a row
    /// keep their group's availability. Relative to the scenario file.
    #[serde(default)]
    pub online: Option<PathBuf>,
    /// [time] If given, times online repeat with this period.
    #[serde(default)]
    pub online_period: Option<Duration>,
}

/// A device class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// [FLOP/s] Effective speed in training.
    pub speed: Speed,
    /// [1] Standard deviation of the logarithm of a task's slowdown (log-normal, median 1) -- 0 to 5.
    #[serde(default, deserialize_with = "range::up_to_five")]
    pub jitter: f64,
    /// [1] Instead of `jitter`: quantiles of a task's slowdown at equally spaced probabilities, the least first and the
    /// greatest last -- ascending, each above 0 and at most 1000; 1 is `speed` as it stands.
    #[serde(default)]
    pub slowdown: Option<Vec<f64>>,
    /// [B] Memory that training may fill; none is any amount.
    #[serde(default)]
    pub memory: Option<Bytes>,
    /// [B/s] Memory bandwidth; none never bounds a task.
    #[serde(default)]
    pub memory_bandwidth: Option<Bandwidth>,
    /// [W] Power drawn while computing.
    #[serde(default, deserialize_with = "range::non_negative")]
    pub busy_watts: f64,
    /// [W] Power drawn while transferring or waiting.
    #[serde(default, deserialize_with = "range::non_negative")]
    pub idle_watts: f64,
}

/// A link class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// [bit/s] From the server to the client.
    pub down: Rate,
    /// [bit/s] From the client to the server.
    pub up: Rate,
    /// [time] One way.
    #[serde(default)]
    pub latency: Duration,
    /// Addition to the latency of each transfer.
    #[serde(default)]
    pub latency_jitter: Option<LatencyJitter>,
}

/// A log-normal addition to a latency.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LatencyJitter {
    /// [time] Median.
    pub median: Duration,
    /// [1] Standard deviation of the logarithm -- 0 to 5.
    #[serde(deserialize_with = "range::up_to_five")]
    pub sigma: f64,
}

/// A group of clients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// [1] Share of the clients, relative to the other groups' shares.
    #[serde(deserialize_with = "range::positive")]
    pub share: f64,
    /// Name of a device class.
    pub device: String,
    /// Name of a link class.
    pub link: String,
    /// Name of a region; needed where the network or the protocol has regions.
    #[serde(default)]
    pub region: Option<String>,
    /// [1] Jitter of this group's devices, instead of the class's -- 0 to 5.
    #[serde(default, deserialize_with = "range::up_to_five_or_none")]
    pub jitter: Option<f64>,
    #[serde(default)]
    pub availability: Availability,
    #[serde(default)]
    pub dropout: Dropout,
    /// How devices crash; none is never.
    #[serde(default)]
    pub crashes: Option<Crashes>,
}

/// When clients of a group can be reached; each client draws its own times.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum Availability {
    /// At every instant.
    #[default]
    Always,
    /// Times online and offline are exponential, in turns.
    Markov {
        /// [time] Mean time online -- above 0.
        online: Duration,
        /// [time] Mean time offline -- above 0.
        offline: Duration,
    },
    /// Once a period, as phones that charge at night.
    Diurnal {
        /// [time] Length of a period.
        #[serde(default = "day")]
        period: Duration,
        /// [time] How far local time is ahead of the simulation's -- below `period`.
        #[serde(default)]
        time_zone: Duration,
        /// [time] When the window opens, in local time.
        opens: Duration,
        /// [time] How long it is open -- it closes within the period.
        open_for: Duration,
        /// [time] It opens later by a uniform time below this, drawn for each client and period.
        #[serde(default)]
        shift: Duration,
        /// [1] How likely it opens at all, drawn for each client and period -- above 0, at most 1.
        #[serde(default = "unit", deserialize_with = "range::positive_share")]
        shows_up: f64,
    },
    /// Given intervals.
    Trace {
        /// [time, time] Online from the first to before the second of each pair; ascending and apart.
        online: Vec<(Duration, Duration)>,
        /// [time] If given, the trace repeats with this period.
        #[serde(default)]
        period: Option<Duration>,
    },
}

/// How likely a task is given up at each stage. The stages exclude each other, so the sum is at most 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dropout {
    /// [1] After the download, before any training -- 0 to 1.
    #[serde(default, deserialize_with = "range::share")]
    pub before_training: f64,
    /// [1] At a uniformly drawn point of the training -- 0 to 1.
    #[serde(default, deserialize_with = "range::share")]
    pub during_training: f64,
    /// [1] When training is done, before the upload -- 0 to 1.
    #[serde(default, deserialize_with = "range::share")]
    pub after_training: f64,
}

/// Crashes of a device: a crash loses the task. Times up and down are exponential, in turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Crashes {
    /// [time] Mean time from the start or a return to the next crash -- above 0.
    pub every: Duration,
    /// [time] Mean time from a crash to the return -- above 0.
    pub down_for: Duration,
}
