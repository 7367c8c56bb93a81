//! The schedule of a run as it comes about: the federation in virtual time, played record by record.

use std::collections::VecDeque;

use fedreplay_sim::{
    Detail, EventRecord, Federation, Intervention, Protocol, Record, RoundRecord, Simulation, Step, TaskId, TaskRecord,
    TaskReport,
};

use super::client_facts::Clients;
use super::error::ScheduleError;
use super::federation::federation;
use crate::privacy::{Protection, within_budget};
use crate::scenario::Loaded;

/// Number of the server among the aggregators.
pub const SERVER: u32 = 0;

/// What comes next in virtual time.
#[derive(Debug)]
pub enum Next {
    /// A record. Every event and task comes before the round that it belongs to; those after the last round's end
    /// belong to the last round.
    Record(Record),
    /// The next decision reads the result of this task, which counted: it goes on after [`Timeline::supply`].
    Needs(TaskId),
    /// Nothing happens any more.
    End,
}

/// A federation being played.
pub struct Timeline {
    simulation: Simulation,
    /// What is still to be changed, and before which round of the server.
    changes: VecDeque<(u32, Vec<Intervention>)>,
    /// Rounds of the server that have ended.
    ended: u32,
    records: VecDeque<Record>,
    /// What the last step said, where it has been looked at ahead of its turn.
    ahead: Option<Step>,
}

impl Timeline {
    /// The federation of a scenario before its first event, without rounds that its privacy does not admit.
    ///
    /// # Errors
    /// A federation that cannot be played.
    pub fn of(
        loaded: &Loaded,
        privacy: Option<&Protection>,
        clients: &Clients,
        detail: Detail,
    ) -> Result<Self, ScheduleError> {
        let federation = federation(&within_budget(&loaded.scenario, privacy), clients, detail);
        Self::new(federation, loaded.interventions(clients))
    }

    fn new(federation: Federation, changes: Vec<(u32, Vec<Intervention>)>) -> Result<Self, ScheduleError> {
        let simulation = Simulation::new(federation)?;
        Ok(Self { simulation, changes: changes.into(), ended: 0, records: VecDeque::new(), ahead: None })
    }

    /// Plays on until there is something to tell.
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

    /// Events of virtual time that were handled so far.
    pub fn events(&self) -> u64 {
        self.simulation.events()
    }

    /// Hands in the mean loss [nats/token] of the task that was asked for.
    pub fn supply(&mut self, task: TaskId, loss: f64) {
        self.simulation.supply(task, TaskReport::from_loss(loss));
    }

    /// One step of the simulation and its records. After a round, one more step tells whether it was the last.
    fn step(&mut self) -> Result<Step, ScheduleError> {
        let mut step = self.simulation.step()?;
        loop {
            let new = self.simulation.drain();
            let rounds = new.iter().filter_map(|record| match record {
                Record::Round(round) => Some(self.is_of_server(round)),
                _ => None,
            });
            let rounds: Vec<bool> = rounds.collect();
            self.records.extend(new);
            if rounds.is_empty() {
                break;
            }
            self.ended += rounds.into_iter().map(u32::from).sum::<u32>();
            self.make_changes()?;
            step = self.simulation.step()?;
        }
        if step == Step::Idle {
            self.put_last_round_last();
        }
        self.ahead = Some(step).filter(|step| *step != Step::Advanced);
        Ok(Step::Advanced)
    }

    /// Whether a round is one of the server, by which changes are dated: tiers share the server's count.
    fn is_of_server(&self, round: &RoundRecord) -> bool {
        let has_edges = matches!(self.simulation.federation().server.protocol, Protocol::Hierarchical(_));
        !has_edges || round.aggregator == SERVER
    }

    /// Makes the changes that are due before the round that begins next.
    fn make_changes(&mut self) -> Result<(), ScheduleError> {
        while self.changes.front().is_some_and(|(from_round, _)| *from_round <= self.ended + 1) {
            let (_, changes) = self.changes.pop_front().expect("it was looked at");
            changes.into_iter().try_for_each(|change| self.simulation.change(change))?;
        }
        Ok(())
    }

    fn put_last_round_last(&mut self) {
        let last = self.records.iter().rposition(|record| matches!(record, Record::Round(_)));
        if let Some(round) = last.and_then(|last| self.records.remove(last)) {
            self.records.push_back(round);
        }
    }
}

/// What happened in virtual time between the ends of two rounds.
#[derive(Debug)]
pub struct ScheduledRound {
    /// Place among the rounds of all aggregators, from 1.
    pub number: u32,
    pub events: Vec<EventRecord>,
    /// Tasks whose fate was sealed in this time.
    pub tasks: Vec<TaskRecord>,
    pub round: RoundRecord,
}

impl ScheduledRound {
    /// The record of a task that the round counts.
    pub fn counted(&self, task: TaskId) -> &TaskRecord {
        let record = self.tasks.iter().find(|record| record.task == task);
        record.expect("a counted task is recorded before its round")
    }
}

/// Collects records into rounds.
#[derive(Default)]
pub struct Rounds {
    events: Vec<EventRecord>,
    tasks: Vec<TaskRecord>,
    count: u32,
}

impl Rounds {
    /// Takes a record, and gives the round that it completes.
    pub fn push(&mut self, record: Record) -> Option<ScheduledRound> {
        match record {
            Record::Event(event) => self.events.push(event),
            Record::Task(task) => self.tasks.push(task),
            Record::Round(round) => {
                self.count += 1;
                let (events, tasks) = (std::mem::take(&mut self.events), std::mem::take(&mut self.tasks));
                return Some(ScheduledRound { number: self.count, events, tasks, round });
            }
        }
        None
    }
}

/// The whole of a schedule whose policies read no results.
///
/// # Errors
/// A federation that cannot be played.
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
