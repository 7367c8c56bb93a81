//! Participation in a run: figures of single clients and of device classes.

use std::collections::BTreeMap;

use fedreplay_sim::Tally;
use serde::Serialize;

use crate::ledger::{LedgerError, TableView};

/// Maximum number of stragglers that are listed.
const STRAGGLERS_SHOWN: usize = 5;

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
    #[serde(skip)]
    arrivals_ns: Vec<u64>,
}

impl ClientFigures {
    /// Returns the number of tasks that were lost because the client was slower than others or than the deadline.
    fn too_slow(&self) -> u64 {
        self.late + self.cancelled
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

/// Figures of all clients.
pub(super) struct Participants {
    pub clients: Vec<ClientFigures>,
}

impl Participants {
    /// Adds up the tasks of each client.
    pub fn read(population: &TableView, tasks: &TableView) -> Result<Self, LedgerError> {
        let ids = population.names("client_id")?;
        let devices = population.names("device")?;
        let links = population.names("link")?;
        let mut clients = Vec::with_capacity(population.len());
        for at in 0..population.len() {
            clients.push(ClientFigures {
                client: at as u32,
                client_id: ids[at].to_owned(),
                device: devices[at].to_owned(),
                link: links[at].to_owned(),
                ..ClientFigures::default()
            });
        }
        let dispatched = tasks.counts("dispatched_at_ns")?;
        let arrived = tasks.counts_or_none("upload_done_at_ns")?;
        for (at, (client, fate)) in tasks.counts("client")?.into_iter().zip(tasks.values::<Tally>("fate")?).enumerate()
        {
            // A task of an unknown client is a fault of the tables, which is for `verify` to report.
            let Some(client) = clients.get_mut(client as usize) else { continue };
            client.asked += 1;
            match fate {
                Tally::Counted => client.counted += 1,
                Tally::Late => client.late += 1,
                Tally::Cancelled => client.cancelled += 1,
                Tally::Dropped => client.dropped += 1,
            }
            client.arrivals_ns.extend(arrived[at].map(|arrived| arrived.saturating_sub(dispatched[at])));
        }
        for client in &mut clients {
            let sum: u128 = client.arrivals_ns.iter().copied().map(u128::from).sum();
            client.arrival_ns = sum.checked_div(client.arrivals_ns.len() as u128).map(|mean| mean as u64);
        }
        Ok(Self { clients })
    }

    /// Returns the figures by class of device, sorted by name.
    pub fn by_device(&self) -> Vec<GroupFigures> {
        let mut groups: BTreeMap<&str, Vec<&ClientFigures>> = BTreeMap::new();
        for client in &self.clients {
            groups.entry(&client.device).or_default().push(client);
        }
        groups.into_iter().map(|(device, clients)| group(device, &clients)).collect()
    }

    /// Returns the clients that were too slow most often; ties are sorted by arrival time, slowest first.
    pub fn stragglers(&self) -> Vec<ClientFigures> {
        let mut slow: Vec<_> = self.clients.iter().filter(|client| client.too_slow() > 0).collect();
        slow.sort_by_key(|client| std::cmp::Reverse((client.too_slow(), client.arrival_ns)));
        slow.into_iter().take(STRAGGLERS_SHOWN).cloned().collect()
    }
}

/// Adds up the figures of clients with the same class of device.
fn group(device: &str, clients: &[&ClientFigures]) -> GroupFigures {
    let mut arrivals: Vec<u64> = clients.iter().flat_map(|client| client.arrivals_ns.iter().copied()).collect();
    arrivals.sort_unstable();
    GroupFigures {
        device: device.to_owned(),
        clients: clients.len() as u64,
        asked: clients.iter().map(|client| client.asked).sum(),
        counted: clients.iter().map(|client| client.counted).sum(),
        late: clients.iter().map(|client| client.late).sum(),
        dropped: clients.iter().map(|client| client.dropped).sum(),
        cancelled: clients.iter().map(|client| client.cancelled).sum(),
        arrival_ns: arrivals.get(arrivals.len() / 2).copied(),
    }
}
