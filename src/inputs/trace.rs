//! Reader of client traces, from Parquet or CSV tables.

use std::collections::BTreeMap;

use super::error::InputError;
use super::grid;
use super::table::Table;
use crate::ledger::Input;
use crate::scenario::{Availability, Duration, Scenario};
use crate::schedule::{Trace, TraceRow};

/// Ignored columns of a trace. They are in a run's `population` table, and follow from the data and the model.
const DERIVED: [&str; 5] = ["train_rows", "held_out_rows", "train_tokens", "task_flops", "task_memory_bytes"];
const CLIENTS: [&str; 17] = [
    "client_id",
    "client",
    "device",
    "flops_per_second",
    "memory_bytes",
    "memory_bandwidth_bytes_per_second",
    "jitter",
    "busy_watts",
    "idle_watts",
    "link",
    "downlink_bits_per_second",
    "uplink_bits_per_second",
    "latency_ns",
    "region",
    "dropout_before_training",
    "dropout_during_training",
    "dropout_after_training",
];
const ONLINE: [&str; 3] = ["client_id", "from_seconds", "until_seconds"];
/// [s] -- Maximum time, one hundred years. A larger one is probably in the wrong unit.
const SECONDS_MAX: f64 = 100.0 * 365.0 * 86_400.0;

/// Reads the trace that a scenario names, and the intensities of its grids; without them, returns an empty trace. Adds the files to
/// `read`, by role.
///
/// # Errors
/// If a file cannot be read, a column is unknown or a value is out of range.
pub fn read(scenario: &Scenario, read: &mut BTreeMap<String, Input>) -> Result<Trace, InputError> {
    let mut trace = Trace { grids: grid::read(scenario, read)?, ..Trace::default() };
    let Some(spec) = &scenario.scenario.population.trace else { return Ok(trace) };
    if let Some(file) = &spec.clients {
        let table = Table::open(&scenario.resolve(file), &CLIENTS, &DERIVED, "clients_trace", read)?;
        trace.clients = Some((0..table.rows()).map(|row| table.client(row)).collect::<Result<_, _>>()?);
    }
    if let Some(file) = &spec.online {
        let table = Table::open(&scenario.resolve(file), &ONLINE, &[], "online_trace", read)?;
        let period = spec.online_period;
        for (client, online) in table.intervals(period)? {
            trace.online.insert(client, Availability::Trace { online, period });
        }
    }
    Ok(trace)
}

impl Table {
    fn client(&self, row: usize) -> Result<TraceRow, InputError> {
        Ok(TraceRow {
            client_id: self.name("client_id", row),
            client: self.number("client", row, "the index of a client in the data, from 0", |_: &u64| true)?,
            device: self.name("device", row),
            flops_per_second: self.count("flops_per_second", row, 1.0)?,
            memory_bytes: self.count("memory_bytes", row, 1.0)?,
            memory_bandwidth_bytes_per_second: self.count("memory_bandwidth_bytes_per_second", row, 1.0)?,
            jitter: self.float("jitter", row, 5.0)?,
            busy_watts: self.float("busy_watts", row, 1e6)?,
            idle_watts: self.float("idle_watts", row, 1e6)?,
            link: self.name("link", row),
            downlink_bits_per_second: self.count("downlink_bits_per_second", row, 1.0)?,
            uplink_bits_per_second: self.count("uplink_bits_per_second", row, 1.0)?,
            latency_ns: self.count("latency_ns", row, 0.0)?,
            region: self.name("region", row),
            dropout_before_training: self.float("dropout_before_training", row, 1.0)?,
            dropout_during_training: self.float("dropout_during_training", row, 1.0)?,
            dropout_after_training: self.float("dropout_after_training", row, 1.0)?,
        })
    }

    /// Returns the online intervals of each client, ascending. Intervals that overlap or repeat become one.
    fn intervals(&self, period: Option<Duration>) -> Result<BTreeMap<String, Vec<(Duration, Duration)>>, InputError> {
        let mut online: BTreeMap<String, Vec<(Duration, Duration)>> = BTreeMap::new();
        for row in 0..self.rows() {
            let client = self.name("client_id", row).ok_or_else(|| self.fault(row, "client_id is missing"))?;
            let from = self.time("from_seconds", row)?;
            let until = self.time("until_seconds", row)?;
            if from >= until {
                return Err(self.fault(row, format!("client \"{client}\": from_seconds must be before until_seconds")));
            }
            if let Some(period) = period
                && until > period
            {
                let what =
                    format!("client \"{client}\": until_seconds is after population.trace.online_period, {period}");
                return Err(self.fault(row, what));
            }
            online.entry(client).or_default().push((from, until));
        }
        for intervals in online.values_mut() {
            intervals.sort_unstable();
            // Ascending intervals: one that begins before the last one ends continues it.
            intervals.dedup_by(|next, last| {
                let overlaps = next.0 < last.1;
                if overlaps {
                    last.1 = last.1.max(next.1);
                }
                overlaps
            });
        }
        Ok(online)
    }

    /// Returns a time in seconds as a duration, rounded to nanoseconds.
    fn time(&self, column: &str, row: usize) -> Result<Duration, InputError> {
        let Some(seconds) = self.float(column, row, SECONDS_MAX)? else {
            return Err(self.fault(row, format!("{column} is missing")));
        };
        Ok(Duration((seconds * 1e9).round() as u64))
    }
}
