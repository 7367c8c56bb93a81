//! The schedule of a run: the federation in virtual time, played to its end and cut into rounds.

use fedreplay_sim::{EventRecord, Federation, Record, RoundRecord, Simulation, Step, TaskId, TaskRecord};

use super::RunError;

/// What happened in virtual time between the ends of two rounds.
#[derive(Debug)]
pub struct ScheduledRound {
    /// Place among the rounds of the run, from 1.
    pub number: u32,
    pub events: Vec<EventRecord>,
    /// Tasks whose fate was sealed in this time.
    pub tasks: Vec<TaskRecord>,
    pub round: RoundRecord,
}

impl ScheduledRound {
    /// The how-manieth task of its client a counted task is.
    pub fn client_task_number(&self, task: TaskId) -> u32 {
        let record = self.tasks.iter().find(|record| record.task == task);
        record.expect("a counted task is recorded before its round").client_task_number
    }
}

/// Plays the federation without training anything.
///
/// Events and tasks after the last round's end belong to the last round.
///
/// # Errors
/// A federation that cannot be played.
pub fn schedule(federation: Federation) -> Result<Vec<ScheduledRound>, RunError> {
    let mut simulation = Simulation::new(federation)?;
    let mut rounds = Vec::new();
    let (mut events, mut tasks) = (Vec::new(), Vec::new());
    loop {
        let step = simulation.step()?;
        for record in simulation.drain() {
            match record {
                Record::Event(event) => events.push(event),
                Record::Task(task) => tasks.push(task),
                Record::Round(round) => rounds.push(ScheduledRound {
                    number: rounds.len() as u32 + 1,
                    events: std::mem::take(&mut events),
                    tasks: std::mem::take(&mut tasks),
                    round,
                }),
            }
        }
        match step {
            Step::Advanced => {}
            Step::Idle => break,
            Step::Needs(task) => unreachable!("no policy of a scenario reads results, yet task {task:?} was asked for"),
        }
    }
    if let Some(last) = rounds.last_mut() {
        last.events.append(&mut events);
        last.tasks.append(&mut tasks);
    }
    Ok(rounds)
}
