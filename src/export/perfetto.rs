//! Export of the simulated timeline as a trace for Perfetto and chrome://tracing, with one track per client, one slice
//! per phase, and counters.
//!
//! The format is that of Chrome's trace events in JSON, in whole microseconds of virtual time. Perfetto would multiply
//! a fraction by 1000 and truncate it, so that a slice could end a nanosecond after the slice that contains it, and be
//! dropped. Rounding down keeps the order of all instants; the exact nanoseconds of a task are among its arguments. A
//! slice within another must follow it in the file.

use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::{Value, json};

use crate::ledger::{LedgerError, RunTables, TableParts, TableView};
use crate::results::main_curve;
use crate::run::RunError;
use crate::store::atomic;

/// Process numbers of the two groups of tracks.
const SERVER: u32 = 1;
const CLIENTS: u32 = 2;

/// Number of the first track. Numbers are unique over both groups and differ from those of the groups, because Perfetto
/// takes the track with the number of its process for the process's main thread.
const FIRST_TRACK: u64 = 16;

/// Writes the trace of the run in `run_folder` to the file `out` and returns the number of its events.
///
/// # Errors
/// If the tables cannot be read, or the file cannot be written.
pub fn perfetto(run_folder: &Path, out: &Path) -> Result<u64, RunError> {
    let tables = RunTables::read(run_folder)?;
    let population = tables.population()?;
    let tasks = tables.tasks()?;
    let losses = main_curve(&tables)?;
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The file is streamed, since a trace may be large, and renamed to its name when it is complete.
    let mut pending = atomic::Pending::create(folder, "trace").map_err(LedgerError::io(folder))?;
    let lanes = Lanes::of(tables.rounds())?;
    let clients_from = FIRST_TRACK + lanes.all.len() as u64;
    let mut trace = Trace { out: BufWriter::new(pending.file()), events: 0, path: out, clients_from };
    trace.text("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n")?;
    trace.name_tracks(&lanes, population)?;
    trace.rounds(tables.rounds(), &lanes)?;
    trace.tasks(&tasks)?;
    trace.in_flight(&tasks)?;
    if let Some(losses) = &losses {
        let name = format!("loss [{}]", losses.unit);
        for point in &losses.points {
            trace.counter(&name, point.at_ns, point.value)?;
        }
    }
    trace.traffic(tables.rounds())?;
    trace.text("\n]}\n")?;
    trace.out.flush().map_err(LedgerError::io(out))?;
    let events = trace.events;
    drop(trace);
    pending.commit(out).map_err(LedgerError::io(out))?;
    Ok(events)
}

/// Writer of a trace.
struct Trace<'a> {
    out: BufWriter<&'a mut std::fs::File>,
    events: u64,
    path: &'a Path,
    /// Number of the first client's track.
    clients_from: u64,
}

/// Slice of a track.
struct Slice<'a> {
    track: (u32, u64),
    name: &'a str,
    category: &'a str,
    from_ns: u64,
    until_ns: u64,
    /// Arguments that viewers show with it; null for none.
    arguments: Value,
}

impl Trace<'_> {
    fn text(&mut self, text: &str) -> Result<(), LedgerError> {
        self.out.write_all(text.as_bytes()).map_err(LedgerError::io(self.path))
    }

    fn event(&mut self, event: &Value) -> Result<(), LedgerError> {
        let comma = if self.events == 0 { "" } else { ",\n" };
        self.events += 1;
        write!(self.out, "{comma}{event}").map_err(LedgerError::io(self.path))
    }

    fn slice(&mut self, slice: Slice) -> Result<(), LedgerError> {
        let Slice { track: (process, track), name, category, from_ns, until_ns, arguments } = slice;
        let from = microseconds(from_ns);
        let until = microseconds(until_ns);
        let mut event = json!({
            "ph": "X", "pid": process, "tid": track, "name": name, "cat": category,
            "ts": from, "dur": until.saturating_sub(from),
        });
        if !arguments.is_null() {
            event["args"] = arguments;
        }
        self.event(&event)
    }

    /// Writes a value of a counter, unless it is not finite, which viewers reject.
    fn counter(&mut self, name: &str, at_ns: u64, value: f64) -> Result<(), LedgerError> {
        if !value.is_finite() {
            return Ok(());
        }
        self.event(&json!({
            "ph": "C", "pid": SERVER, "tid": FIRST_TRACK, "name": name, "ts": microseconds(at_ns),
            "args": { "value": value },
        }))
    }

    /// Writes the names of both groups of tracks and of all tracks, with indices by which viewers sort them.
    fn name_tracks(&mut self, lanes: &Lanes, population: TableParts) -> Result<(), LedgerError> {
        for (process, name) in [(SERVER, "server"), (CLIENTS, "clients")] {
            self.event(&json!({ "ph": "M", "pid": process, "name": "process_name", "args": { "name": name } }))?;
            self.event(&json!({
                "ph": "M", "pid": process, "name": "process_sort_index", "args": { "sort_index": process },
            }))?;
        }
        for (track, (aggregator, lane)) in (FIRST_TRACK..).zip(&lanes.all) {
            let whose = if *aggregator == 0 { String::new() } else { format!(" of aggregator {aggregator}") };
            let beside = if *lane == 0 { String::new() } else { format!(", beside others ({lane})") };
            self.name_track(SERVER, track, &format!("rounds{whose}{beside}"))?;
        }
        let mut track = self.clients_from;
        for clients in population {
            let clients = clients?;
            let devices = clients.names("device")?;
            let links = clients.names("link")?;
            for ((id, device), link) in clients.names("client_id")?.into_iter().zip(devices).zip(links) {
                self.name_track(CLIENTS, track, &format!("{id} ({device}, {link})"))?;
                track += 1;
            }
        }
        Ok(())
    }

    fn name_track(&mut self, process: u32, track: u64, name: &str) -> Result<(), LedgerError> {
        self.event(&json!({
            "ph": "M", "pid": process, "tid": track, "name": "thread_name", "args": { "name": name },
        }))?;
        self.event(&json!({
            "ph": "M", "pid": process, "tid": track, "name": "thread_sort_index", "args": { "sort_index": track },
        }))
    }

    /// Writes one slice per round.
    fn rounds(&mut self, rounds: &TableView, lanes: &Lanes) -> Result<(), LedgerError> {
        let opened = rounds.counts("opened_at_ns")?;
        let closed = rounds.counts("closed_at_ns")?;
        let status = rounds.names("status")?;
        let version = rounds.counts("version")?;
        let counted = rounds.counts("counted")?;
        let dispatched = rounds.counts("dispatched")?;
        let losses = rounds.numbers("train_loss")?;
        for at in 0..rounds.len() {
            self.slice(Slice {
                track: (SERVER, lanes.track(at)),
                name: &format!("round {}", at + 1),
                category: status[at],
                from_ns: opened[at],
                until_ns: closed[at],
                arguments: json!({
                    "status": status[at], "version": version[at], "dispatched": dispatched[at],
                    "counted": counted[at], "train_loss": losses[at],
                }),
            })?;
        }
        Ok(())
    }

    /// Writes one slice per task, followed by the slices of its phases: download, train, upload, wait.
    fn tasks(&mut self, tasks: &TableView) -> Result<(), LedgerError> {
        let client = tasks.counts("client")?;
        let round = tasks.counts("round")?;
        let dispatched = tasks.counts("dispatched_at_ns")?;
        let ended = tasks.counts("ended_at_ns")?;
        let downloaded = tasks.counts_or_none("download_done_at_ns")?;
        let trained = tasks.counts_or_none("training_done_at_ns")?;
        let uploaded = tasks.counts_or_none("upload_done_at_ns")?;
        let outcome = tasks.names("outcome")?;
        let fate = tasks.names("fate")?;
        let staleness = tasks.counts_or_none("staleness")?;
        let losses = tasks.numbers("loss_mean")?;
        let down = tasks.counts("bytes_down")?;
        let up = tasks.counts("bytes_up")?;
        for at in 0..tasks.len() {
            let track = (CLIENTS, self.clients_from + client[at]);
            self.slice(Slice {
                track,
                name: &format!("round {}: {}", round[at], outcome[at]),
                category: fate[at],
                from_ns: dispatched[at],
                until_ns: ended[at],
                arguments: json!({
                    "round": round[at], "outcome": outcome[at], "staleness": staleness[at], "loss": losses[at],
                    "bytes_down": down[at], "bytes_up": up[at],
                    "dispatched_at_ns": dispatched[at], "ended_at_ns": ended[at],
                }),
            })?;
            let ends = [downloaded[at], trained[at], uploaded[at]];
            for (name, from_ns, until_ns) in phases(dispatched[at], ends, ended[at]) {
                self.slice(Slice { track, name, category: "phase", from_ns, until_ns, arguments: Value::Null })?;
            }
        }
        Ok(())
    }

    /// Writes the number of tasks in flight as a counter.
    fn in_flight(&mut self, tasks: &TableView) -> Result<(), LedgerError> {
        // +1 at each start and -1 at each end, summed over time; all changes of one instant give one value.
        let starts = tasks.counts("dispatched_at_ns")?.into_iter().map(|at| (at, 1i64));
        let ends = tasks.counts("ended_at_ns")?.into_iter().map(|at| (at, -1i64));
        let mut changes: Vec<(u64, i64)> = starts.chain(ends).collect();
        changes.sort_unstable();
        let mut count = 0;
        for instant in changes.chunk_by(|a, b| a.0 == b.0) {
            count += instant.iter().map(|(_, change)| change).sum::<i64>();
            self.counter("tasks in flight", instant[0].0, count as f64)?;
        }
        Ok(())
    }

    /// Writes the cumulative traffic in each direction as counters.
    fn traffic(&mut self, rounds: &TableView) -> Result<(), LedgerError> {
        let closed = rounds.counts("closed_at_ns")?;
        for (name, column) in [("bytes down", "bytes_down"), ("bytes up", "bytes_up")] {
            let mut sum = 0u64;
            for (&at_ns, bytes) in closed.iter().zip(rounds.counts(column)?) {
                sum = sum.saturating_add(bytes);
                self.counter(name, at_ns, sum as f64)?;
            }
        }
        Ok(())
    }
}

/// Returns the phases of a task with their starts and ends. The last one ends with the task.
fn phases(dispatched_ns: u64, ends_ns: [Option<u64>; 3], ended_ns: u64) -> Vec<(&'static str, u64, u64)> {
    let mut phases = Vec::with_capacity(4);
    let mut from_ns = dispatched_ns;
    for (name, end_ns) in ["download", "train", "upload"].into_iter().zip(ends_ns) {
        let until_ns = end_ns.unwrap_or(ended_ns).min(ended_ns);
        phases.push((name, from_ns, until_ns));
        from_ns = until_ns;
        if end_ns.is_none() {
            return phases;
        }
    }
    if from_ns < ended_ns {
        phases.push(("wait", from_ns, ended_ns));
    }
    phases
}

/// Tracks of rounds. An aggregator has one lane, or more if its rounds overlap, since slices of one track must not.
struct Lanes {
    /// Aggregator and lane of each round.
    of_round: Vec<(u64, usize)>,
    /// All distinct pairs, in order.
    all: Vec<(u64, usize)>,
}

impl Lanes {
    fn of(rounds: &TableView) -> Result<Self, LedgerError> {
        let opened = rounds.counts("opened_at_ns")?;
        let closed = rounds.counts("closed_at_ns")?;
        Ok(Self::new(&rounds.counts("aggregator")?, &opened, &closed))
    }

    fn new(aggregators: &[u64], opened_ns: &[u64], closed_ns: &[u64]) -> Self {
        // Greedy interval coloring: in the order of opening, each round takes the first lane that is free by then.
        let mut order: Vec<usize> = (0..aggregators.len()).collect();
        order.sort_by_key(|&round| (aggregators[round], opened_ns[round], round));
        let mut of_round = vec![(0, 0); order.len()];
        // Ends of the last rounds in the lanes of the current aggregator.
        let mut taken_until_ns: Vec<u64> = Vec::new();
        for (place, &round) in order.iter().enumerate() {
            if place > 0 && aggregators[order[place - 1]] != aggregators[round] {
                taken_until_ns.clear();
            }
            let free = taken_until_ns.iter().position(|&until| until <= opened_ns[round]);
            let lane = free.unwrap_or(taken_until_ns.len());
            taken_until_ns.resize(taken_until_ns.len().max(lane + 1), 0);
            taken_until_ns[lane] = closed_ns[round];
            of_round[round] = (aggregators[round], lane);
        }
        let mut all = of_round.clone();
        all.sort_unstable();
        all.dedup();
        Self { of_round, all }
    }

    fn track(&self, round: usize) -> u64 {
        let place = self.all.binary_search(&self.of_round[round]).expect("all lanes of rounds are among all");
        FIRST_TRACK + place as u64
    }
}

/// Converts to microseconds, the unit of Chrome's trace events, rounded down.
fn microseconds(ns: u64) -> u64 {
    ns / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_that_overlap_lie_beside_each_other() {
        let lanes = Lanes::new(&[0, 0, 2, 0, 0], &[0, 1, 1, 3, 9], &[4, 3, 2, 8, 9]);
        assert_eq!(lanes.of_round, [(0, 0), (0, 1), (2, 0), (0, 1), (0, 0)]);
        assert_eq!((lanes.track(0), lanes.track(3), lanes.track(2)), (16, 17, 18));
    }

    #[test]
    fn a_task_has_the_phases_that_it_reached() {
        let whole = phases(0, [Some(2), Some(5), Some(6)], 9);
        assert_eq!(whole, [("download", 0, 2), ("train", 2, 5), ("upload", 5, 6), ("wait", 6, 9)]);
        assert_eq!(phases(0, [Some(2), Some(5), Some(6)], 6), whole[..3]);
        assert_eq!(phases(1, [Some(2), None, None], 4), [("download", 1, 2), ("train", 2, 4)]);
        assert_eq!(phases(1, [None, None, None], 1), [("download", 1, 1)]);
    }
}
