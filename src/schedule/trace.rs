//! Trace of a population: properties of single clients, and the times at which each is online.
//!
//! `inputs::trace` reads it from tables, and [`Placed::new`](super::Placed::new) merges it with the groups.

use std::collections::BTreeMap;

use super::grid::Grids;
use crate::scenario::schema::Availability;

/// Properties of one client. A property that is not given is that of the client's group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TraceRow {
    /// Name of the client in the data. Rows with neither name nor index are in the order of the clients.
    pub client_id: Option<String>,
    /// Index of the client in the data, from 0. If the row has a name too, both mean one client.
    pub client: Option<u64>,
    /// Name of a device class. A class that is not in the scenario is new and needs a speed.
    pub device: Option<String>,
    /// [FLOP/s] -- Effective speed in training.
    pub flops_per_second: Option<u64>,
    /// [byte] -- Memory available to training.
    pub memory_bytes: Option<u64>,
    /// [byte/s] -- Memory bandwidth.
    pub memory_bandwidth_bytes_per_second: Option<u64>,
    /// [1] -- Standard deviation of the logarithm of a task's slowdown, from 0 to 5.
    pub jitter: Option<f64>,
    /// [W] -- Power while computing.
    pub busy_watts: Option<f64>,
    /// [W] -- Power while transferring or waiting.
    pub idle_watts: Option<f64>,
    /// Name of a link class. A class that is not in the scenario is new and needs both capacities.
    pub link: Option<String>,
    /// [bit/s] -- Capacity from the server to the client.
    pub downlink_bits_per_second: Option<u64>,
    /// [bit/s] -- Capacity from the client to the server.
    pub uplink_bits_per_second: Option<u64>,
    /// [ns] -- One-way latency.
    pub latency_ns: Option<u64>,
    pub region: Option<String>,
    /// [1] -- Probability of giving a task up before training, from 0 to 1.
    pub dropout_before_training: Option<f64>,
    /// [1] -- Probability of giving a task up during training, from 0 to 1.
    pub dropout_during_training: Option<f64>,
    /// [1] -- Probability of giving a task up after training, from 0 to 1.
    pub dropout_after_training: Option<f64>,
}

/// Trace of a population, and of its electricity grids.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// One row per client; `None` if only times online are given.
    pub clients: Option<Vec<TraceRow>>,
    /// Times at which clients are online, by their names in the data. Other clients keep their group's availability.
    pub online: BTreeMap<String, Availability>,
    /// Intensities of the clients' electricity grids, if the scenario counts carbon.
    pub grids: Option<Grids>,
}
