//! Participation in a run: what became of the tasks of single clients and of kinds of clients.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use arrow::array::Array;
use fedreplay_sim::Tally;
use serde::Serialize;

use super::record::{RunRecord, span_ns};
use super::statistics::{quantile, sorted};

/// Maximum number of stragglers that are listed.
const STRAGGLERS_SHOWN: usize = 5;

/// Numbers of tasks by their fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FateCounts([u64; Tally::ALL.len()]);

impl FateCounts {
    /// Counts a task.
    pub fn add(&mut self, fate: Tally) {
        self.add_many(fate, 1);
    }

    /// Counts tasks that all have this fate.
    pub fn add_many(&mut self, fate: Tally, tasks: u64) {
        self.0[fate as usize] += tasks;
    }

    /// Returns the number of tasks with a fate.
    pub fn of(&self, fate: Tally) -> u64 {
        self.0[fate as usize]
    }

    /// Returns the number of all tasks.
    pub fn all(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Returns the number of tasks that were dispatched and did not count.
    pub fn lost(&self) -> u64 {
        self.all() - self.of(Tally::Counted)
    }

    /// Returns the number of tasks that were lost because the client was slower than others or than the deadline.
    pub fn too_slow(&self) -> u64 {
        self.of(Tally::Late) + self.of(Tally::Cancelled)
    }
}

/// Ends of the tasks of one client, or of clients of one kind.
#[derive(Clone, Debug, Default)]
pub struct Participation {
    pub tasks: FateCounts,
    /// [ns] -- Times from dispatch to arrival, of the updates that arrived.
    arrivals_ns: Vec<u64>,
}

impl Participation {
    /// Adds a task of a run, by its row.
    fn add(&mut self, run: &RunRecord, task: usize) {
        let tasks = &run.tasks;
        self.tasks.add(tasks.fate[task]);
        if tasks.upload_done_at_ns.is_valid(task) {
            let dispatched = tasks.dispatched_at_ns.value(task);
            self.arrivals_ns.push(span_ns(dispatched, tasks.upload_done_at_ns.value(task)));
        }
    }

    /// [s] -- Returns a quantile of the times from dispatch to arrival; `None` if no update arrived.
    pub fn arrival_s(&self, share: f64) -> Option<f64> {
        quantile(&sorted(self.arrivals_ns.iter().map(|&ns| ns as f64 / 1e9)), share)
    }

    /// [ns] -- Returns the mean time from dispatch to arrival; `None` if no update arrived.
    pub fn mean_arrival_ns(&self) -> Option<u64> {
        let sum: u128 = self.arrivals_ns.iter().copied().map(u128::from).sum();
        sum.checked_div(self.arrivals_ns.len() as u128).map(|mean| mean as u64)
    }

    /// [ns] -- Returns the median time from dispatch to arrival; `None` if no update arrived.
    pub fn median_arrival_ns(&self) -> Option<u64> {
        let sorted = sorted(self.arrivals_ns.iter().map(|&ns| ns as f64));
        quantile(&sorted, 0.5).map(|ns| ns.round() as u64)
    }
}

/// Returns what became of the tasks of each client that was asked.
pub fn by_client(run: &RunRecord) -> BTreeMap<u32, Participation> {
    let mut clients: BTreeMap<u32, Participation> = BTreeMap::new();
    for task in 0..run.tasks.task.len() {
        clients.entry(run.tasks.client.value(task)).or_default().add(run, task);
    }
    clients
}

/// Returns what became of tasks by device and link of their clients, sorted by name.
pub fn by_device_and_link(run: &RunRecord) -> BTreeMap<(&str, &str), Participation> {
    let mut kinds: BTreeMap<(&str, &str), Participation> = BTreeMap::new();
    for task in 0..run.tasks.task.len() {
        let client = run.tasks.client.value(task);
        let kind = (run.population.device(client), run.population.link(client));
        kinds.entry(kind).or_default().add(run, task);
    }
    kinds
}

/// Returns the clients that lost tasks, for any reason, the most lost tasks first and equal ones by number.
pub fn most_lost(clients: &BTreeMap<u32, Participation>) -> Vec<(u32, &Participation)> {
    let lost = clients.iter().filter(|(_, participation)| participation.tasks.lost() > 0);
    let mut ranked: Vec<(u32, &Participation)> = lost.map(|(&client, tasks)| (client, tasks)).collect();
    ranked.sort_by_key(|&(client, participation)| (Reverse(participation.tasks.lost()), client));
    ranked
}

/// Figures of one client's tasks.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ClientFigures {
    pub client: u32,
    pub client_id: String,
    pub device: String,
    pub link: String,
    pub asked: u64,
    pub counted: u64,
    pub late: u64,
    pub dropped: u64,
    pub cancelled: u64,
    /// [ns] -- Mean virtual time from dispatch to arrival, over the updates that arrived.
    pub arrival_ns: Option<u64>,
}

/// Returns the clients that were too slow most often; ties are sorted by arrival time, slowest first.
pub(super) fn stragglers(run: &RunRecord, clients: &BTreeMap<u32, Participation>) -> Vec<ClientFigures> {
    let mut slow: Vec<_> = clients.iter().filter(|(_, participation)| participation.tasks.too_slow() > 0).collect();
    slow.sort_by_key(|(_, participation)| Reverse((participation.tasks.too_slow(), participation.mean_arrival_ns())));
    slow.into_iter()
        .take(STRAGGLERS_SHOWN)
        .map(|(&client, participation)| figures(run, client, participation))
        .collect()
}

/// Returns the figures of one client.
fn figures(run: &RunRecord, client: u32, participation: &Participation) -> ClientFigures {
    let population = &run.population;
    ClientFigures {
        client,
        client_id: population.client_id(client).to_owned(),
        device: population.device(client).to_owned(),
        link: population.link(client).to_owned(),
        asked: participation.tasks.all(),
        counted: participation.tasks.of(Tally::Counted),
        late: participation.tasks.of(Tally::Late),
        dropped: participation.tasks.of(Tally::Dropped),
        cancelled: participation.tasks.of(Tally::Cancelled),
        arrival_ns: participation.mean_arrival_ns(),
    }
}

/// Figures of the tasks of all clients with one class of device.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupFigures {
    pub device: String,
    pub clients: u64,
    pub asked: u64,
    pub counted: u64,
    pub late: u64,
    pub dropped: u64,
    pub cancelled: u64,
    /// [ns] -- Median virtual time from dispatch to arrival.
    pub arrival_ns: Option<u64>,
}

/// Returns the figures by class of device, sorted by name.
pub(super) fn by_device(run: &RunRecord) -> Vec<GroupFigures> {
    // Classes whose clients were never asked are listed too.
    let mut classes: BTreeMap<&str, (u64, Participation)> = BTreeMap::new();
    for (device, &clients) in run.population.devices() {
        classes.entry(device).or_default().0 = clients;
    }
    for task in 0..run.tasks.task.len() {
        let device = run.population.device(run.tasks.client.value(task));
        classes.entry(device).or_default().1.add(run, task);
    }
    let mut figures = Vec::with_capacity(classes.len());
    for (device, (clients, participation)) in classes {
        figures.push(GroupFigures {
            device: device.to_owned(),
            clients,
            asked: participation.tasks.all(),
            counted: participation.tasks.of(Tally::Counted),
            late: participation.tasks.of(Tally::Late),
            dropped: participation.tasks.of(Tally::Dropped),
            cancelled: participation.tasks.of(Tally::Cancelled),
            arrival_ns: participation.median_arrival_ns(),
        });
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_two_arrivals_lies_between_them() {
        let participation =
            Participation { tasks: FateCounts::default(), arrivals_ns: vec![4_000_000_000, 1_000_000_000] };
        assert_eq!(participation.median_arrival_ns(), Some(2_500_000_000));
        assert_eq!(participation.arrival_s(0.5), Some(2.5));
        assert_eq!(participation.mean_arrival_ns(), Some(2_500_000_000));
    }
}
