//! What a trace says of clients: a row a client, and when each is online. Read by `inputs::trace`, merged by `placement`.

use std::collections::BTreeMap;

use crate::scenario::schema::Availability;

/// What a trace says of one client. What it leaves out stays as the client's group has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TraceRow {
    /// The client's name in the data; rows without one are taken in the order of the clients.
    pub client_id: Option<String>,
    /// Name of a device class; one that the scenario does not know is new, and needs a speed.
    pub device: Option<String>,
    /// [FLOP/s]
    pub flops_per_second: Option<u64>,
    /// [B]
    pub memory_bytes: Option<u64>,
    /// [B/s]
    pub memory_bandwidth_bytes_per_second: Option<u64>,
    /// [1] Standard deviation of the logarithm of a task's slowdown -- 0 to 5.
    pub jitter: Option<f64>,
    /// [W]
    pub busy_watts: Option<f64>,
    /// [W]
    pub idle_watts: Option<f64>,
    /// Name of a link class; one that the scenario does not know is new, and needs both capacities.
    pub link: Option<String>,
    /// [bit/s]
    pub downlink_bits_per_second: Option<u64>,
    /// [bit/s]
    pub uplink_bits_per_second: Option<u64>,
    /// [ns]
    pub latency_ns: Option<u64>,
    pub region: Option<String>,
    /// [1] -- 0 to 1, as the next two.
    pub dropout_before_training: Option<f64>,
    pub dropout_during_training: Option<f64>,
    pub dropout_after_training: Option<f64>,
}

/// A trace of a population.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// A row a client; none where only times online are given.
    pub clients: Option<Vec<TraceRow>>,
    /// When clients are online, by their names in the data. A client that is not named keeps its group's availability.
    pub online: BTreeMap<String, Availability>,
}
