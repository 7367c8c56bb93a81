//! A federation being played: one event at a time, forwards, forkable and storable at any event.

use crate::federation::Federation;
use crate::intervention::Intervention;
use crate::kernel::{Chain, Class, Engine, EntityId, KernelError, Span, Time};
use crate::record::{Record, TaskId};
use crate::server::TaskReport;
use crate::validation::Invalid;
use crate::world::{Event, World};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// An event was processed.
    Advanced,
    /// The run is over; nothing will happen any more.
    Idle,
    /// The next decision reads the result of this counted task: train it, [`Simulation::supply`] it, step again.
    /// Nothing was processed.
    Needs(TaskId),
}

/// Why a simulation cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SimError {
    /// Virtual time overflowed.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// A federation at one instant of its run. A clone is a fork: both go on independently.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Simulation {
    engine: Engine<World>,
}

impl Simulation {
    /// A simulation at time zero.
    ///
    /// # Errors
    /// If the federation has an absurd part; the error names it.
    pub fn new(federation: Federation) -> Result<Self, Invalid> {
        federation.validate()?;
        Ok(Self { engine: World::new(Arc::new(federation)).engine() })
    }

    /// Processes the next event.
    ///
    /// # Errors
    /// If virtual time overflows. The simulation cannot go on.
    pub fn step(&mut self) -> Result<Step, SimError> {
        if self.engine.model().is_over() {
            return Ok(Step::Idle);
        }
        if let Some(task) = self.engine.model().wants_report() {
            let is_decision = matches!(self.engine.peek(), Some((_, Event::Dispatch { .. })));
            if is_decision {
                return Ok(Step::Needs(task));
            }
        }
        if self.engine.step()? {
            return Ok(Step::Advanced);
        }
        // No event is left, but the protocol has not finished: it is told, and gives up.
        self.engine.schedule(self.now().after(Span(1)), Class::Dispatch, EntityId::SERVER, Event::Stalled);
        Ok(if self.engine.step()? { Step::Advanced } else { Step::Idle })
    }

    /// Processes all events up to and at `until`, the run's end, or the first result that is needed.
    ///
    /// # Errors
    /// As [`Simulation::step`].
    pub fn run_until(&mut self, until: Time) -> Result<Step, SimError> {
        while self.engine.peek().is_none_or(|(key, _)| key.at <= until) {
            match self.step()? {
                Step::Advanced => {}
                stop => return Ok(stop),
            }
        }
        Ok(Step::Advanced)
    }

    /// Hands in the result of a task that [`Step::Needs`] asked for.
    ///
    /// # Panics
    /// If it was not asked for: the driver would then train what nobody reads.
    pub fn supply(&mut self, task: TaskId, report: TaskReport) {
        assert!(self.engine.model_mut().supply(task, report), "the result of task {} was not asked for", task.0);
    }

    /// A simulation that goes on from here with one change. The fork without a change keeps the digests; with one, all
    /// streams that it does not name draw the same numbers.
    ///
    /// # Errors
    /// If the change refers to what does not exist, or makes the federation absurd.
    pub fn fork(&self, intervention: Intervention) -> Result<Self, Invalid> {
        let mut fork = self.clone();
        if intervention == Intervention::None {
            return Ok(fork);
        }
        fork.engine.model().check(&intervention)?;
        let at = if self.engine.has_begun() { self.now().after(Span(1)) } else { Time::ZERO };
        let event = fork.engine.model_mut().plan(intervention);
        fork.engine.schedule(at, Class::Leave, EntityId::NETWORK, event);
        Ok(fork)
    }

    /// Changes this simulation, before the next decision of the server. Unlike [`Simulation::fork`], which leaves a
    /// nanosecond, it is in time for a decision of this very instant.
    ///
    /// # Errors
    /// As [`Simulation::fork`].
    pub fn change(&mut self, intervention: Intervention) -> Result<(), Invalid> {
        self.engine.model().check(&intervention)?;
        let (at, class) = self.engine.before_next_decision();
        let event = self.engine.model_mut().plan(intervention);
        self.engine.schedule(at, class, EntityId::NETWORK, event);
        Ok(())
    }

    /// Takes what was recorded since the last call, in the order in which it happened.
    pub fn drain(&mut self) -> Vec<Record> {
        self.engine.take_notes()
    }

    /// The time of the last processed event.
    pub fn now(&self) -> Time {
        self.engine.now()
    }

    /// The federation that is played.
    pub fn federation(&self) -> &Federation {
        self.engine.model().federation()
    }

    /// The digest of (time, class, entity, kind) of every event so far.
    pub fn order_digest(&self) -> [u8; 32] {
        self.engine.order().value()
    }

    /// The digest of what the rounds so far decided: counted tasks, bytes and versions.
    pub fn result_digest(&self) -> [u8; 32] {
        self.engine.model().results().value()
    }

    /// The chained order digest with its links, by which a divergence of two runs is located.
    pub fn order(&self) -> &Chain {
        self.engine.order()
    }

    /// Events processed so far, each transfer that ended counted.
    pub fn events(&self) -> u64 {
        self.engine.order().len()
    }
}
