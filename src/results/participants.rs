//! Who took part in a run and how it went for them: figures of single clients and of device classes.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::ledger::{LedgerError, TableView};

/// How many stragglers are named.
const STRAGGLERS_SHOWN: usize = 5;

/// One client's tasks.
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
    /// [ns] Virtual time from dispatch to arrival, in the mean over updates that arrived.
    pub arrival_ns: Option<u64>,
    #[serde(skip)]
    arrivals_ns: Vec<u64>,
}

impl ClientFigures {
    /// Tasks that were lost because others were quicker, or the deadline was.
    fn too_slow(&self) -> u64 {
        self.late + self.cancelled
    }
}

/// The tasks of all clients with one class of device.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupFigures {
    pub device: String,
    pub clients: u64,
    pub asked: u64,
    pub counted: u64,
    pub late: u64,
    pub dropped: u64,
    pub cancelled: u64,
    /// [ns] Median of virtual times from dispatch to arrival.
    pub arrival_ns: Option<u64>,
}

/// All clients.
pub(super) struct Participants {
    pub clients: Vec<ClientFigures>,
}

impl Participants {
    /// Adds up the tasks of each client.
    pub fn read(population: &TableView, tasks: &TableView) -> Result<Self, LedgerError> {
        let (ids, devices, links) =
            (population.names("client_id")?, population.names("device")?, population.names("link")?);
        let client = |at: usize| ClientFigures {
            client: at as u32,
            client_id: ids[at].to_owned(),
            device: devices[at].to_owned(),
            link: links[at].to_owned(),
            ..ClientFigures::default()
        };
        let mut clients: Vec<_> = (0..population.len()).map(client).collect();
        let (dispatched, arrived) = (tasks.counts("dispatched_at_ns")?, tasks.counts_or_none("upload_done_at_ns")?);
        for (at, (client, fate)) in tasks.counts("client")?.into_iter().zip(tasks.names("fate")?).enumerate() {
            let Some(client) = clients.get_mut(client as usize) else { continue };
            client.asked += 1;
            match fate {
                "counted" => client.counted += 1,
                "late" => client.late += 1,
                "cancelled" => client.cancelled += 1,
                _ => client.dropped += 1,
            }
            client.arrivals_ns.extend(arrived[at].map(|arrived| arrived.saturating_sub(dispatched[at])));
        }
        for client in &mut clients {
            let sum: u128 = client.arrivals_ns.iter().copied().map(u128::from).sum();
            client.arrival_ns = sum.checked_div(client.arrivals_ns.len() as u128).map(|mean| mean as u64);
        }
        Ok(Self { clients })
    }

    /// By class of device, in the order of their names.
    pub fn by_device(&self) -> Vec<GroupFigures> {
        let mut groups: BTreeMap<&str, Vec<&ClientFigures>> = BTreeMap::new();
        self.clients.iter().for_each(|client| groups.entry(&client.device).or_default().push(client));
        groups.into_iter().map(|(device, clients)| group(device, &clients)).collect()
    }

    /// The clients that were too slow most often, and of equals the slower ones first.
    pub fn stragglers(&self) -> Vec<ClientFigures> {
        let mut slow: Vec<_> = self.clients.iter().filter(|client| client.too_slow() > 0).collect();
        slow.sort_by_key(|client| std::cmp::Reverse((client.too_slow(), client.arrival_ns)));
        slow.into_iter().take(STRAGGLERS_SHOWN).cloned().collect()
    }
}

fn group(device: &str, clients: &[&ClientFigures]) -> GroupFigures {
    let sum = |count: fn(&ClientFigures) -> u64| clients.iter().map(|client| count(client)).sum();
    let mut arrivals: Vec<u64> = clients.iter().flat_map(|client| client.arrivals_ns.iter().copied()).collect();
    arrivals.sort_unstable();
    GroupFigures {
        device: device.to_owned(),
        clients: clients.len() as u64,
        asked: sum(|client| client.asked),
        counted: sum(|client| client.counted),
        late: sum(|client| client.late),
        dropped: sum(|client| client.dropped),
        cancelled: sum(|client| client.cancelled),
        arrival_ns: arrivals.get(arrivals.len() / 2).copied(),
    }
}
