//! Fields of the population: classes of devices and links, and the availability and failures of clients.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use super::super::quantity::{Bandwidth, Bytes, Duration, Rate, Speed};
use super::{Radio, Transport, day, unit};
use crate::scenario::range;

/// Devices, links and behavior of the clients: named classes, and groups with shares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Population {
    /// Catalog of device classes, such as `devices.ron` ([devices.md](devices.md)). Relative to the scenario file. Classes that
    /// `mix` names and `devices` lacks are taken from it; the resolved scenario has them under `devices`.
    #[serde(default)]
    pub catalog: Option<PathBuf>,
    /// Device classes by name.
    #[serde(default, deserialize_with = "range::unique")]
    pub devices: BTreeMap<String, DeviceClassSpec>,
    /// Link classes by name.
    #[serde(default, deserialize_with = "range::unique")]
    pub links: BTreeMap<String, Link>,
    /// Groups of clients. Shares are normalized, and clients are assigned to groups at random from the seed. It may be
    /// empty if a trace describes every client.
    #[serde(default)]
    pub mix: Vec<GroupSpec>,
    /// Properties of single clients, instead of or in addition to those of their groups.
    #[serde(default)]
    pub trace: Option<ClientTrace>,
}

/// Tables with properties of single clients, in Parquet or CSV according to the file names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientTrace {
    /// Table with one row per client. Its columns are those of a run's `population` table, all optional, and also
    /// `memory_bandwidth_bytes_per_second`, `jitter`, `busy_watts`, `idle_watts`, `dropout_before_training`,
    /// `dropout_during_training` and `dropout_after_training`. A row is that of the client in `client_id`, else
    /// of the index in `client`; without both columns, rows are in the order of the clients. Relative to the scenario file.
    #[serde(default)]
    pub clients: Option<PathBuf>,
    /// Table with one row per interval in which a client is online: `client_id`, `from_seconds`, `until_seconds`.
    /// Intervals may overlap. Clients without a row keep the availability of their group. Relative to the scenario file.
    #[serde(default)]
    pub online: Option<PathBuf>,
    /// [time] Period with which the times online repeat, if given.
    #[serde(default)]
    pub online_period: Option<Duration>,
}

/// Device class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[serde(rename = "Device")]
pub struct DeviceClassSpec {
    /// [FLOP/s] Effective speed in training. `None` is for devices with a profile, which states times instead.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "without_option")]
    pub speed: Option<Speed>,
    /// File with measured times and memory of training steps, which `fedreplay calibrate` writes: instead of `speed` and `memory_bandwidth`.
    /// Relative to the scenario file. `None` is not written out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<PathBuf>,
    /// Whether clients may train on more or longer rows, or at other ranks, than the profile has, by terms that are fitted to its times. Without
    /// it they are refused. `false` is not written out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schemars(extend("default" = false))]
    pub extrapolate: bool,
    /// [1] Standard deviation of the logarithm of a task's slowdown, which is log-normal with median 1 -- 0 to 5.
    #[serde(default, deserialize_with = "range::up_to_five")]
    pub jitter: f64,
    /// [1] Quantiles of a task's slowdown at equally spaced probabilities from the minimum to the maximum, instead of
    /// `jitter`; a slowdown of 1 is the nominal `speed` -- ascending, each above 0 and at most 1000.
    #[serde(default)]
    pub slowdown: Option<Vec<f64>>,
    /// [byte] Memory available to training; `None` is unlimited.
    #[serde(default)]
    pub memory: Option<Bytes>,
    /// [byte/s] Memory bandwidth; `None` is unlimited.
    #[serde(default)]
    pub memory_bandwidth: Option<Bandwidth>,
    /// [W] Power while computing.
    #[serde(default, deserialize_with = "range::non_negative")]
    pub busy_watts: f64,
    /// [W] Power while transferring or waiting.
    #[serde(default, deserialize_with = "range::non_negative")]
    pub idle_watts: f64,
}

/// Serializes a value that is there as the value alone, as it was before it could be left out: scenarios keep their hashes.
fn without_option<S: Serializer>(speed: &Option<Speed>, serializer: S) -> Result<S::Ok, S::Error> {
    match speed {
        Some(speed) => speed.serialize(serializer),
        None => serializer.serialize_none(),
    }
}

/// Link class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// [bit/s] Capacity from the server to the client.
    pub down: Rate,
    /// [bit/s] Capacity from the client to the server.
    pub up: Rate,
    /// [time] One-way latency.
    #[serde(default)]
    pub latency: Duration,
    /// Random addition to the latency of each transfer.
    #[serde(default)]
    pub latency_jitter: Option<LatencyJitter>,
    /// Transfers in which the connection carries nothing for some time. `None`, which is not written out, has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stalls: Option<Stalls>,
    /// Transport protocol: headers, handshakes and slow start. `None`, which is not written out, moves only the messages themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<Transport>,
    /// Energy of the device's radio. `None`, which is not written out, has none beyond the device's idle power.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub radio: Option<Radio>,
}

/// Log-normal addition to a latency.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LatencyJitter {
    /// [time] Median.
    pub median: Duration,
    /// [1] Standard deviation of the logarithm -- 0 to 5.
    #[serde(deserialize_with = "range::up_to_five")]
    pub sigma: f64,
}

/// Stalls of transfers: a connection that carries nothing for some time, as after a lost packet that is repeated late. It is a fault of
/// the link and not of the client, whose task goes on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stalls {
    /// [1] Share of the transfers that stall, each once -- 0 to 1.
    #[serde(deserialize_with = "range::share")]
    pub share: f64,
    /// [time] Median of the duration, which is added before the transfer's first byte.
    pub median: Duration,
    /// [1] Standard deviation of the logarithm of the duration -- 0 to 5.
    #[serde(default, deserialize_with = "range::up_to_five")]
    pub sigma: f64,
}

/// Group of clients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[serde(rename = "Group")]
pub struct GroupSpec {
    /// [1] Share of the clients, relative to the other groups' shares.
    #[serde(deserialize_with = "range::positive")]
    pub share: f64,
    /// Name of a device class.
    pub device: String,
    /// Name of a link class.
    pub link: String,
    /// Name of a region; required if the network or the protocol has regions.
    #[serde(default)]
    pub region: Option<String>,
    /// [1] Jitter of this group's devices, instead of the class's -- 0 to 5.
    #[serde(default, deserialize_with = "range::up_to_five_or_none")]
    pub jitter: Option<f64>,
    #[serde(default)]
    pub availability: Availability,
    #[serde(default)]
    pub dropout: Dropout,
    /// Crashes of the devices; `None` for devices that never crash.
    #[serde(default)]
    pub crashes: Option<Crashes>,
}

/// Times at which the clients of a group are online. Each client draws its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum Availability {
    /// Always online.
    #[default]
    Always,
    /// Alternating intervals online and offline, with exponential durations.
    Markov {
        /// [time] Mean time online -- above 0.
        online: Duration,
        /// [time] Mean time offline -- above 0.
        offline: Duration,
    },
    /// One window per period, as for phones that charge at night.
    Diurnal {
        /// [time] Length of a period.
        #[serde(default = "day")]
        period: Duration,
        /// [time] Local time minus the simulation's time -- below `period`.
        #[serde(default)]
        time_zone: Duration,
        /// [time] Local time at which the window opens.
        opens: Duration,
        /// [time] Length of the window -- it closes within the period.
        open_for: Duration,
        /// [time] Upper bound of a uniform delay of the opening, drawn for each client and period.
        #[serde(default)]
        shift: Duration,
        /// [1] Probability that the window opens at all, drawn for each client and period -- above 0, at most 1.
        #[serde(default = "unit", deserialize_with = "range::positive_share")]
        shows_up: f64,
    },
    /// Given intervals.
    Trace {
        /// [time, time] Start and end of each interval online, ascending and disjoint; the end is not included.
        online: Vec<(Duration, Duration)>,
        /// [time] Period with which the intervals repeat, if given.
        #[serde(default)]
        period: Option<Duration>,
    },
}

/// Probabilities that a client gives a task up at each stage. The events exclude each other, so the sum is at most 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dropout {
    /// [1] After the download, before any training -- 0 to 1.
    #[serde(default, deserialize_with = "range::share")]
    pub before_training: f64,
    /// [1] At a uniformly drawn point of the training -- 0 to 1.
    #[serde(default, deserialize_with = "range::share")]
    pub during_training: f64,
    /// [1] After the training, before the upload -- 0 to 1.
    #[serde(default, deserialize_with = "range::share")]
    pub after_training: f64,
}

/// Crashes of a device, each of which loses the running task. Times up and down alternate and are exponential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Crashes {
    /// [time] Mean time up: from the start or a recovery to the next crash -- above 0.
    pub every: Duration,
    /// [time] Mean time down: from a crash to the recovery -- above 0.
    pub down_for: Duration,
}
