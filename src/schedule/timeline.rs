//! Timeline of a run: simulates the federation in virtual time, record by record, with the changes of the scenario as interventions.

use std::collections::VecDeque;

use fedreplay_sim::{
    Detail, EventRecord, Federation, Intervention, Protocol, Purpose, Record, RoundRecord, Seed, Simulation, Step,
    TaskId, TaskRecord, TaskReport,
};

use super::ScheduleError;
use super::client_facts::Clients;
use super::federation::{federation, network};
use super::protocol::server;
use crate::privacy::{PrivacyPlan, within_budget};
use crate::scenario::Scenario;
use crate::scenario::schema::ScenarioSpec;

/// Number of the server among the aggregators.
pub const SERVER: u32 = 0;

/// [nat/token] -- Loss of every task that a plan supplies to policies that read losses.
pub const STAND_IN_LOSS: f64 = 1.0;

/// Purposes of the draws that decide how a task goes.
const CHANCES: [Purpose; 6] = [
    Purpose::ComputeJitter,
    Purpose::LinkJitter,
    Purpose::Sharing,
    Purpose::Dropout,
    Purpose::Availability,
    Purpose::Fault,
];

/// Next item of a timeline.
#[derive(Debug)]
pub enum Next {
    /// Record of an event, task or round. Events and tasks precede the round that they belong to; those after the end of the
    /// last round belong to the last round.
    Record(Record),
    /// Request for the result of this task, which counted. The simulation continues after [`Timeline::supply`].
    Needs(TaskId),
    /// End of the simulation.
    End,
}

/// Simulated federation in virtual time.
#[derive(Clone)]
pub struct Timeline {
    simulation: Simulation,
    /// Pending changes, each with the round of the server before which it takes effect.
    changes: VecDeque<(u32, Vec<Intervention>)>,
    /// Number of the server's rounds that have ended.
    ended: u32,
    records: VecDeque<Record>,
    /// Result of a step that was made before the records of the previous step were consumed.
    ahead: Option<Step>,
}

impl Timeline {
    /// Creates the federation of a scenario before its first event, without the rounds that its privacy budget excludes.
    ///
    /// # Errors
    /// If the federation cannot be simulated.
    pub fn of(
        scenario: &Scenario,
        privacy: Option<&PrivacyPlan>,
        clients: &Clients,
        detail: Detail,
    ) -> Result<Self, ScheduleError> {
        let federation = federation(&within_budget(&scenario.scenario, privacy), clients, detail);
        Self::new(federation, scenario.interventions(clients))
    }

    fn new(federation: Federation, changes: Vec<(u32, Vec<Intervention>)>) -> Result<Self, ScheduleError> {
        let simulation = Simulation::new(federation)?;
        Ok(Self { simulation, changes: changes.into(), ended: 0, records: VecDeque::new(), ahead: None })
    }

    /// Draws all that is left to chance in tasks from other seeds: jitter, latency, shares of links,
    /// dropout, availability and crashes. Who is selected from the
    /// clients that are free, and which device and link each has, are drawn as before.
    ///
    /// # Errors
    /// If the simulation refuses it.
    pub fn reseed(&mut self, seed: Seed) -> Result<(), ScheduleError> {
        for purpose in CHANCES {
            self.simulation.change(Intervention::Reseed { purpose, seed })?;
        }
        Ok(())
    }

    /// Advances the simulation to the next item.
    ///
    /// # Errors
    /// If virtual time overflows.
    pub fn next(&mut self) -> Result<Next, ScheduleError> {
        loop {
            if let Some(record) = self.records.pop_front() {
                return Ok(Next::Record(record));
            }
            match self.ahead.take().map_or_else(|| self.step(), Ok)? {
                Step::Idle => {
                    self.ahead = Some(Step::Idle);
                    return Ok(Next::End);
                }
                Step::Needs(task) => return Ok(Next::Needs(task)),
                Step::Advanced => {}
            }
        }
    }

    /// Returns the number of events handled so far.
    pub fn events(&self) -> u64 {
        self.simulation.events()
    }

    /// Supplies the result of the requested task: its mean loss [nat/token].
    pub fn supply(&mut self, task: TaskId, loss: f64) {
        self.simulation.supply(task, TaskReport::from_loss(loss));
    }

    /// Makes one step of the simulation and collects its records. After a round, another step shows whether it was the last.
    fn step(&mut self) -> Result<Step, ScheduleError> {
        let mut step = self.simulation.step()?;
        loop {
            let new = self.simulation.drain();
            let mut has_rounds = false;
            for record in &new {
                if let Record::Round(round) = record {
                    has_rounds = true;
                    self.ended += u32::from(self.is_of_server(round));
                }
            }
            self.records.extend(new);
            if !has_rounds {
                break;
            }
            // Changes take effect between rounds, so they are made before the step that begins the next one.
            self.make_changes()?;
            step = self.simulation.step()?;
        }
        // Uploads and failures may still happen after the last round has ended.
        if step == Step::Idle {
            self.put_last_round_last();
        }
        self.ahead = Some(step).filter(|step| *step != Step::Advanced);
        Ok(Step::Advanced)
    }

    /// Whether a round is one of the server, whose numbers decide when changes take effect. Tiers share the server's count.
    fn is_of_server(&self, round: &RoundRecord) -> bool {
        let has_edges = matches!(self.simulation.federation().server.protocol, Protocol::Hierarchical(_));
        !has_edges || round.aggregator == SERVER
    }

    /// Makes the changes that are due before the round that begins next.
    fn make_changes(&mut self) -> Result<(), ScheduleError> {
        while self.changes.front().is_some_and(|(from_round, _)| *from_round <= self.ended + 1) {
            let (_, changes) = self.changes.pop_front().expect("it was looked at");
            for change in changes {
                self.simulation.change(change)?;
            }
        }
        Ok(())
    }

    /// Moves the last round behind the events and tasks that follow its end, so that they belong to it.
    fn put_last_round_last(&mut self) {
        let last = self.records.iter().rposition(|record| matches!(record, Record::Round(_)));
        if let Some(round) = last.and_then(|last| self.records.remove(last)) {
            self.records.push_back(round);
        }
    }
}

/// Round of the schedule, with everything that happened since the end of the round before.
#[derive(Debug)]
pub struct ScheduledRound {
    /// Number among the rounds of all aggregators, from 1.
    pub number: u32,
    pub events: Vec<EventRecord>,
    /// Tasks that ended in this time.
    pub tasks: Vec<TaskRecord>,
    pub round: RoundRecord,
}

impl ScheduledRound {
    /// Returns the record of a task that the round counts.
    pub fn counted(&self, task: TaskId) -> &TaskRecord {
        let record = self.tasks.iter().find(|record| record.task == task);
        record.expect("a counted task is recorded before its round")
    }
}

/// Collector of records into rounds.
#[derive(Default)]
pub struct Rounds {
    events: Vec<EventRecord>,
    tasks: Vec<TaskRecord>,
    count: u32,
}

impl Rounds {
    /// Adds a record and returns the round that it completes, if any.
    pub fn push(&mut self, record: Record) -> Option<ScheduledRound> {
        match record {
            Record::Event(event) => self.events.push(event),
            Record::Task(task) => self.tasks.push(task),
            Record::Round(round) => {
                self.count += 1;
                let events = std::mem::take(&mut self.events);
                let tasks = std::mem::take(&mut self.tasks);
                return Some(ScheduledRound { number: self.count, events, tasks, round });
            }
        }
        None
    }
}

/// Simulates a whole schedule whose policies read no results.
///
/// # Errors
/// If virtual time overflows.
///
/// # Panics
/// If a policy reads results after all.
pub fn schedule(mut timeline: Timeline) -> Result<Vec<ScheduledRound>, ScheduleError> {
    let mut rounds = Rounds::default();
    let mut schedule = Vec::new();
    loop {
        match timeline.next()? {
            Next::Record(record) => schedule.extend(rounds.push(record)),
            Next::Needs(task) => unreachable!("a policy that reads no results asked for {task:?}"),
            Next::End => return Ok(schedule),
        }
    }
}

impl Scenario {
    /// Returns the interventions of the simulator that carry out the changes: for each phase its first round, and the
    /// interventions that take effect before that round.
    pub fn interventions(&self, clients: &Clients) -> Vec<(u32, Vec<Intervention>)> {
        let mut all = Vec::with_capacity(self.phases.len());
        let mut before = &self.scenario;
        for phase in &self.phases {
            all.push((phase.from_round, between(before, &phase.scenario, clients)));
            before = &phase.scenario;
        }
        all
    }
}

/// Returns the interventions that turn the simulated network and server of `before` into those of `now`.
fn between(before: &ScenarioSpec, now: &ScenarioSpec, clients: &Clients) -> Vec<Intervention> {
    let regions = &clients.placement.regions;
    let old_capacities = capacities(before, regions);
    let new_capacities = capacities(now, regions);
    let mut changes = Vec::new();
    // The topology itself cannot change, so links agree by their positions.
    for (link, (old, new)) in old_capacities.into_iter().zip(new_capacities).enumerate() {
        if old != new {
            changes.push(Intervention::SetCapacity { link: link as u32, capacity: new });
        }
    }
    let [old_traffic, new_traffic] = [before, now].map(|scenario| clients.costs.traffic(scenario));
    if old_traffic != new_traffic {
        let [traffic, even] = new_traffic;
        let every_second_round = Some(even).filter(|&even| even != traffic);
        changes.push(Intervention::SetTraffic { traffic, every_second_round });
    }
    let old_server = server(before, clients);
    let new_server = server(now, clients);
    if old_server.selection != new_server.selection {
        changes.push(Intervention::SetSelection(new_server.selection));
    }
    if old_server.protocol != new_server.protocol {
        changes.push(Intervention::SetProtocol(new_server.protocol));
    }
    changes
}

/// Returns the capacities of the simulated network, in the order in which [`Intervention::SetCapacity`] numbers links.
fn capacities(scenario: &ScenarioSpec, regions: &[String]) -> Vec<fedreplay_sim::Capacity> {
    match network(scenario, regions) {
        fedreplay_sim::Network::Unlimited => vec![],
        fedreplay_sim::Network::Server { egress, ingress } => vec![egress, ingress],
        fedreplay_sim::Network::Topology(topology) => topology.links.into_iter().map(|link| link.capacity).collect(),
    }
}
