//! The state of the world, and operations that all of its parts use.

use super::accounts::{Desk, Totals};
use super::presence::{Look, Presence};
use super::task::Tasks;
use super::wires::{Wires, capacities};
use crate::federation::Federation;
use crate::kernel::{Chain, Class, Ctx, Engine, EntityId, EntityKind, Time};
use crate::random::Seeds;
use crate::record::{Detail, EventKind, EventRecord, Record, TaskId};
use crate::server::protocol::{Act, Aggregator, Fact, ProtocolState, SERVER};
use crate::server::selection::Memory;
use crate::server::{Protocol, TaskReport};
use crate::world::Intervention;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Mutable state of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ClientState {
    /// Number of phases so far, by which events of a past phase are recognized as stale.
    pub stamp: u32,
    /// Slot of the running task, or [`NO_TASK`].
    pub slot: u32,
    /// Number of tasks dispatched so far, which is the number of the next one.
    pub tasks: u32,
}

/// Slot of a client without a task.
pub(super) const NO_TASK: u32 = u32::MAX;

impl ClientState {
    /// State of a client that has not had a task.
    pub const IDLE: ClientState = ClientState { stamp: 0, slot: NO_TASK, tasks: 0 };
}

/// State of a federation at one instant.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct World {
    pub(super) federation: Arc<Federation>,
    pub(super) seeds: Seeds,
    pub(super) clients: Vec<ClientState>,
    pub(super) groups: Groups,
    pub(super) presence: Presence,
    pub(super) tasks: Tasks,
    pub(super) wires: Wires,
    /// Number of interventions on each link, by which changes scheduled before one are recognized as stale.
    pub(super) capacity_stamps: Vec<u32>,
    pub(super) protocol: ProtocolState,
    /// Facts that the protocol has not been told yet, in order.
    pub(super) facts: VecDeque<Fact>,
    /// State of each aggregator.
    pub(super) desks: Vec<Desk>,
    /// Number of model versions made by all aggregators.
    pub(super) versions: u32,
    pub(super) memory: Memory,
    pub(super) totals: Totals,
    pub(super) results: Chain,
    /// Counted tasks, with their clients, whose results a policy will read and that have not been supplied yet.
    pub(super) wanted_reports: BTreeMap<TaskId, u32>,
    /// Interventions so far, by index.
    pub(super) interventions: Vec<Intervention>,
    pub(super) over: bool,
}

impl World {
    /// Returns the world at time zero.
    pub fn new(federation: Arc<Federation>) -> Self {
        Self {
            seeds: Seeds::new(federation.seed),
            clients: vec![ClientState::IDLE; federation.clients.len()],
            groups: Groups::new(&federation),
            presence: Presence::default(),
            tasks: Tasks::default(),
            wires: Wires::new(&federation),
            capacity_stamps: vec![0; capacities(&federation).len()],
            protocol: ProtocolState::new(&federation.server),
            facts: VecDeque::new(),
            desks: vec![Desk::default(); federation.server.protocol.aggregators() as usize],
            versions: 0,
            memory: Memory::default(),
            totals: Totals::default(),
            results: Chain::new("fedreplay results v1"),
            wanted_reports: BTreeMap::new(),
            interventions: Vec::new(),
            over: false,
            federation,
        }
    }

    /// Returns the engine at time zero, with the first dispatch, the first change of each capacity and all region cuts
    /// pending.
    pub fn engine(self) -> Engine<World> {
        let federation = Arc::clone(&self.federation);
        let mut engine = Engine::new(self);
        for (index, capacity) in (0u32..).zip(capacities(&federation)) {
            if let Some(at) = capacity.next_change(Time::ZERO) {
                let entity = EntityId::new(EntityKind::Link, index);
                engine.schedule(at, Class::Leave, entity, Event::CapacityChanges { stamp: 0 });
            }
        }
        for cut in &federation.region_cuts {
            let entity = EntityId::new(EntityKind::Region, cut.region);
            engine.schedule(cut.from, Class::Leave, entity, Event::RegionChanges { is_cut: true });
            engine.schedule(cut.until, Class::Join, entity, Event::RegionChanges { is_cut: false });
        }
        engine.schedule(Time::ZERO, Class::Dispatch, EntityId::SERVER, Event::Dispatch { aggregator: SERVER });
        engine
    }

    /// Returns whether the run has ended.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Returns the description of this world.
    pub fn federation(&self) -> &Federation {
        &self.federation
    }

    /// Returns the chained digest of the rounds' decisions.
    pub fn results(&self) -> &Chain {
        &self.results
    }

    /// Returns the first counted task whose result the next selection will read.
    pub fn wants_report(&self) -> Option<TaskId> {
        self.wanted_reports.keys().next().copied()
    }

    /// Accepts the result of a task. Returns `false` if it was not asked for.
    pub fn supply(&mut self, task: TaskId, report: TaskReport) -> bool {
        let Some(client) = self.wanted_reports.remove(&task) else {
            return false;
        };
        self.memory.report(client, report.loss_nanonats);
        true
    }

    /// Stores an intervention and returns the event with which it takes effect.
    pub fn plan(&mut self, intervention: Intervention) -> Event {
        self.interventions.push(intervention);
        Event::Intervene { index: self.interventions.len() as u32 - 1 }
    }

    /// Returns the stamp of a client's current phase.
    pub(super) fn stamp(&self, client: u32) -> u32 {
        self.clients[client as usize].stamp
    }

    /// Returns whether `client` runs its task of this number.
    pub(super) fn has_task(&self, client: u32, number: u32) -> bool {
        let slot = self.clients[client as usize].slot;
        slot != NO_TASK && self.tasks.get(slot).number == number
    }

    /// Makes the pending events of a client's phase stale, and returns the stamp of the next phase.
    pub(super) fn next_stamp(&mut self, client: u32) -> u32 {
        let state = &mut self.clients[client as usize];
        state.stamp = state.stamp.wrapping_add(1);
        state.stamp
    }

    /// Returns the state of this aggregator.
    pub(super) fn desk(&mut self, aggregator: Aggregator) -> &mut Desk {
        &mut self.desks[aggregator as usize]
    }

    /// Returns the aggregator whose model this one updates: tiers share the server's model.
    pub(super) fn model_of(&self, aggregator: Aggregator) -> Aggregator {
        if matches!(self.federation.server.protocol, Protocol::Tiered(_)) { SERVER } else { aggregator }
    }

    /// Returns the reachability of `client` at `at`.
    pub(super) fn look(&mut self, client: u32, at: Time) -> Look {
        self.presence.look(&self.federation, &self.seeds, client, at)
    }

    /// Queues `fact` for the protocol.
    pub(super) fn tell(&mut self, fact: Fact) {
        self.facts.push_back(fact);
    }

    /// Passes the queued facts to the protocol and carries out its decisions, until no facts are left and no colluders
    /// deliver any more.
    pub(super) fn decide(&mut self, ctx: &mut Ctx<'_, Self>) {
        self.pass_facts(ctx);
        while self.deliver_together(ctx) {
            self.pass_facts(ctx);
        }
    }

    fn pass_facts(&mut self, ctx: &mut Ctx<'_, Self>) {
        // Carrying out a decision can queue further facts, such as a client that turns out to be unreachable.
        let mut acts: Vec<Act> = Vec::new();
        while let Some(fact) = self.facts.pop_front() {
            self.protocol.react(ctx.now(), fact, &mut acts);
            for act in acts.drain(..) {
                self.perform(act, ctx);
            }
            if self.over {
                self.facts.clear();
            }
        }
    }

    /// Sets the alarm to the end of the next transfer.
    pub(super) fn set_alarm(&mut self, ctx: &mut Ctx<'_, Self>) {
        match self.wires.next_end().filter(|_| !self.over) {
            Some(at) => ctx.set_alarm(at, Event::TransfersEnd),
            None => ctx.clear_alarm(),
        }
    }

    /// Records an event, if events are recorded.
    pub(super) fn note_event(&self, kind: EventKind, at: Happened, ctx: &mut Ctx<'_, Self>) {
        if self.federation.detail == Detail::Events {
            let Happened { client, task, round, bytes } = at;
            let key = ctx.key();
            ctx.note(Record::Event(EventRecord { at: key.at, class: key.class, kind, client, task, round, bytes }));
        }
    }
}

/// Details of an event record.
#[derive(Clone, Copy, Default)]
pub(super) struct Happened {
    pub client: Option<u32>,
    pub task: Option<TaskId>,
    pub round: Option<u32>,
    pub bytes: u64,
}

/// An event of the simulation. A client's events carry the stamp of the phase that they end; once the client has moved
/// on to another phase, they are stale. An event takes eight bytes, so that an entry of the queue is half a cache line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Event {
    /// Transfers end.
    TransfersEnd,
    /// The latency of a client's transfer is over.
    LatencyOver { stamp: u32 },
    /// A client has finished training.
    Trained { stamp: u32 },
    /// A client gives up its task.
    GivesUp { stamp: u32 },
    /// The reachability of the client with this task may change.
    PresenceChanges { task: u32 },
    /// A region is cut off or restored.
    RegionChanges { is_cut: bool },
    /// The capacity of a link of the network changes.
    CapacityChanges { stamp: u32 },
    /// The latency of an edge's transfer is over.
    EdgeLatencyOver { is_upload: bool },
    /// A round's deadline, at the server or at the group of the round's aggregator.
    Deadline { round: u32 },
    /// An aggregator may dispatch tasks.
    Dispatch { aggregator: Aggregator },
    /// The world or a policy is changed from outside.
    Intervene { index: u32 },
    /// No other events are pending.
    Stalled,
}

/// The aggregator of each client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Groups {
    /// The server selects from all clients.
    One,
    /// The tier of each client.
    Tiers(Vec<u32>),
    /// The edge of each client's region.
    Regions,
}

impl Groups {
    /// Assigns the clients of a federation.
    pub fn new(federation: &Federation) -> Self {
        match &federation.server.protocol {
            Protocol::Tiered(policy) => Groups::Tiers(tiers(federation, policy.tiers)),
            Protocol::Hierarchical(_) => Groups::Regions,
            _ => Groups::One,
        }
    }

    /// Returns the aggregator that selects `client`. A client that was added after the tiers were formed is in the last
    /// one.
    pub fn aggregator(&self, federation: &Federation, client: u32) -> u32 {
        match self {
            Groups::One => 0,
            Groups::Tiers(tiers) => {
                let last = tiers.iter().max().copied().unwrap_or(1);
                tiers.get(client as usize).copied().unwrap_or(last)
            }
            Groups::Regions => federation.clients[client as usize].region + 1,
        }
    }
}

/// Ranks clients by nominal task time, ties by number, and cuts the ranking into `count` equal tiers, numbered from 1.
fn tiers(federation: &Federation, count: u32) -> Vec<u32> {
    let population = federation.client_count();
    let mut ranked: Vec<u32> = (0..population).collect();
    ranked.sort_by_key(|client| (federation.nominal_task(*client), *client));
    let mut tiers = vec![0; population as usize];
    for (rank, client) in (0u64..).zip(ranked) {
        tiers[client as usize] = 1 + (rank * u64::from(count) / u64::from(population)) as u32;
    }
    tiers
}
