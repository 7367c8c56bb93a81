//! The state of the world, and what every part of it uses.

use super::accounts::{Period, Totals};
use super::event::Event;
use super::task::Tasks;
use super::wires::{Wires, capacities};
use crate::federation::Federation;
use crate::kernel::{Chain, Class, Ctx, Engine, EntityId, EntityKind, Time};
use crate::record::{Detail, EventKind, EventRecord, Record, TaskId};
use crate::server::TaskReport;
use crate::server::protocol::{Act, Fact, ProtocolState};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// What changes about a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ClientState {
    /// Counts phases, so that events of a past phase are known as stale.
    pub stamp: u32,
    /// The slot of the running task, or [`NO_TASK`].
    pub slot: u32,
    /// Tasks dispatched so far: the number of the next one.
    pub tasks: u32,
}

/// The slot of a client that has nothing to do.
pub(super) const NO_TASK: u32 = u32::MAX;

/// The state of a federation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct World {
    pub(super) federation: Arc<Federation>,
    pub(super) clients: Vec<ClientState>,
    pub(super) tasks: Tasks,
    pub(super) wires: Wires,
    pub(super) protocol: ProtocolState,
    pub(super) facts: VecDeque<Fact>,
    /// The newest model version.
    pub(super) version: u32,
    /// When the open round opened.
    pub(super) opened_at: Time,
    pub(super) selections: u64,
    pub(super) period: Period,
    pub(super) totals: Totals,
    pub(super) results: Chain,
    /// Counted tasks whose results a policy will read, and that were not supplied.
    pub(super) wanted_reports: BTreeSet<TaskId>,
    pub(super) over: bool,
}

impl World {
    pub fn new(federation: Arc<Federation>) -> Self {
        let clients = vec![ClientState { stamp: 0, slot: NO_TASK, tasks: 0 }; federation.clients.len()];
        Self {
            clients,
            tasks: Tasks::default(),
            wires: Wires::new(&federation.network),
            protocol: ProtocolState::new(&federation.server),
            facts: VecDeque::new(),
            version: 0,
            opened_at: Time::ZERO,
            selections: 0,
            period: Period::default(),
            totals: Totals::default(),
            results: Chain::new("fedreplay results v1"),
            wanted_reports: BTreeSet::new(),
            over: false,
            federation,
        }
    }

    /// The engine at time zero, with the first dispatch and the first change of each capacity pending.
    pub fn engine(self) -> Engine<World> {
        let federation = Arc::clone(&self.federation);
        let mut engine = Engine::new(self);
        for (index, (capacity, _)) in (0u32..).zip(capacities(&federation.network)) {
            if let Some(at) = capacity.next_change(Time::ZERO) {
                engine.schedule(at, Class::Leave, EntityId::new(EntityKind::Link, index), Event::CapacityChanges);
            }
        }
        engine.schedule(Time::ZERO, Class::Dispatch, EntityId::SERVER, Event::Dispatch);
        engine
    }

    /// Whether the run has ended.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// The description of this world.
    pub fn federation(&self) -> &Federation {
        &self.federation
    }

    /// The chained digest of what rounds decided.
    pub fn results(&self) -> &Chain {
        &self.results
    }

    /// The first counted task whose result the selection of clients is about to read.
    pub fn wants_report(&self) -> Option<TaskId> {
        self.wanted_reports.first().copied()
    }

    /// Takes a result that was asked for; `false` if it was not.
    pub fn supply(&mut self, task: TaskId, _report: TaskReport) -> bool {
        self.wanted_reports.remove(&task)
    }

    pub(super) fn stamp(&self, client: u32) -> u32 {
        self.clients[client as usize].stamp
    }

    /// Makes the pending events of a client's phase stale, and returns the stamp of the next phase.
    pub(super) fn next_stamp(&mut self, client: u32) -> u32 {
        let state = &mut self.clients[client as usize];
        state.stamp = state.stamp.wrapping_add(1);
        state.stamp
    }

    /// Puts `fact` in the queue of what the protocol is told.
    pub(super) fn tell(&mut self, fact: Fact) {
        self.facts.push_back(fact);
    }

    /// Tells the protocol what happened and does what it decides, until nothing follows.
    pub(super) fn decide(&mut self, ctx: &mut Ctx<'_, Self>) {
        let mut acts: Vec<Act> = Vec::new();
        while let Some(fact) = self.facts.pop_front() {
            if self.over {
                continue;
            }
            self.protocol.react(ctx.now(), fact, &mut acts);
            for act in acts.drain(..) {
                self.perform(act, ctx);
            }
        }
    }

    /// Sets the alarm for the next transfer that ends.
    pub(super) fn set_alarm(&mut self, ctx: &mut Ctx<'_, Self>) {
        match self.wires.next_end() {
            Some(at) => ctx.set_alarm(at, Event::TransfersEnd),
            None => ctx.clear_alarm(),
        }
    }

    pub(super) fn note_event(&self, kind: EventKind, at: Happened, ctx: &mut Ctx<'_, Self>) {
        if self.federation.detail == Detail::Events {
            let Happened { client, task, round, bytes } = at;
            let (at, class) = (ctx.now(), ctx.key().class);
            ctx.note(Record::Event(EventRecord { at, class, kind, client, task, round, bytes }));
        }
    }
}

/// The particulars of an event record.
#[derive(Clone, Copy, Default)]
pub(super) struct Happened {
    pub client: Option<u32>,
    pub task: Option<TaskId>,
    pub round: Option<u32>,
    pub bytes: u64,
}
