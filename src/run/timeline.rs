//! The schedule of a run as it comes about: the federation in virtual time, played record by record.

use std::collections::VecDeque;

use fedreplay_sim::{EventRecord, Federation, Record, RoundRecord, Simulation, Step, TaskId, TaskRecord, TaskReport};

use super::RunError;

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
    records: VecDeque<Record>,
    /// What the last step said, where it has been looked at ahead of its turn.
    ahead: Option<Step>,
}

impl Timeline {
    /// A federation before its first event.
    ///
    /// # Errors
    /// A federation that cannot be played.
    pub fn new(federation: Federation) -> Result<Self, RunError> {
        Ok(Self { simulation: Simulation::new(federation)?, records: VecDeque::new(), ahead: None })
    }

    /// Plays on until there is something to tell.
    ///
    /// # Errors
    /// If virtual time overflows.
    pub fn next(&mut self) -> Result<Next, RunError> {
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
    fn step(&mut self) -> Result<Step, RunError> {
        let mut step = self.simulation.step()?;
        loop {
            let new = self.simulation.drain();
            let has_round = new.iter().any(|record| matches!(record, Record::Round(_)));
            self.records.extend(new);
            if !has_round {
                break;
            }
            step = self.simulation.step()?;
        }
        if step == Step::Idle {
            self.put_last_round_last();
        }
        self.ahead = Some(step).filter(|step| *step != Step::Advanced);
        Ok(Step::Advanced)
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

/// The whole schedule of a federation whose policies read no results.
///
/// # Errors
/// A federation that cannot be played.
///
/// # Panics
/// If a policy reads results after all.
pub fn schedule(federation: Federation) -> Result<Vec<ScheduledRound>, RunError> {
    let mut timeline = Timeline::new(federation)?;
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
