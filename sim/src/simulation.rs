//! Simulations, which advance one event at a time and can be forked and stored at any event.

use crate::federation::Federation;
use crate::kernel::{Chain, Class, Engine, EntityId, KernelError, Span, Time};
use crate::record::{Record, TaskId};
use crate::server::TaskReport;
use crate::validation::Invalid;
use crate::world::Intervention;
use crate::world::{Event, World};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Result of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// An event was processed.
    Advanced,
    /// The run is over; no more events will follow.
    Idle,
    /// The next decision reads the result of this counted task. No event was processed. The driver has to train the
    /// task, [`Simulation::supply`] its result, and step again.
    Needs(TaskId),
}

/// Error after which a simulation cannot continue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SimError {
    /// Virtual time overflowed.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// A federation at one instant of its run. A clone is a fork: both continue independently.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Simulation {
    engine: Engine<World>,
}

impl Simulation {
    /// Returns a simulation at time zero.
    ///
    /// # Errors
    /// If the federation is invalid; the error names the first fault.
    pub fn new(federation: Federation) -> Result<Self, Invalid> {
        federation.validate()?;
        Ok(Self { engine: World::new(Arc::new(federation)).engine() })
    }

    /// Processes the next event.
    ///
    /// # Errors
    /// If virtual time overflows. The simulation cannot continue then.
    pub fn step(&mut self) -> Result<Step, SimError> {
        if self.engine.model().is_over() {
            return Ok(Step::Idle);
        }
        // Selections read results only at a dispatch. Until then the simulation continues while the driver trains.
        if let Some(task) = self.engine.model().wants_report() {
            let is_decision = matches!(self.engine.peek(), Some((_, Event::Dispatch { .. })));
            if is_decision {
                return Ok(Step::Needs(task));
            }
        }
        if self.engine.step()? {
            return Ok(Step::Advanced);
        }
        // No events are left, but the protocol has not finished. It is notified and gives up, so that a run never
        // hangs.
        self.engine.schedule(self.now().after(Span(1)), Class::Dispatch, EntityId::SERVER, Event::Stalled);
        Ok(if self.engine.step()? { Step::Advanced } else { Step::Idle })
    }

    /// Processes all events up to and including `until`, the end of the run, or the first result that is needed.
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

    /// Supplies the result of a task that was requested by [`Step::Needs`].
    ///
    /// # Panics
    /// If it was not requested, because the driver would then train tasks whose results are never read.
    pub fn supply(&mut self, task: TaskId, report: TaskReport) {
        assert!(self.engine.model_mut().supply(task, report), "the result of task {} was not asked for", task.0);
    }

    /// Returns a simulation that continues from here with one change. A fork without a change has the same digests.
    /// With a change, all random streams that it does not name draw the same numbers.
    ///
    /// # Errors
    /// If the change refers to something that does not exist, or makes the federation invalid.
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

    /// Changes this simulation before the next decision of the server. Unlike [`Simulation::fork`], whose change takes
    /// effect one nanosecond later, it precedes a decision at the current instant.
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

    /// Takes the records since the last call, in the order of events.
    pub fn drain(&mut self) -> Vec<Record> {
        self.engine.take_notes()
    }

    /// Returns the time of the last processed event.
    pub fn now(&self) -> Time {
        self.engine.now()
    }

    /// Returns the federation, including all changes so far.
    pub fn federation(&self) -> &Federation {
        self.engine.model().federation()
    }

    /// Returns the digest of (time, class, entity, kind) of all events so far.
    pub fn order_digest(&self) -> [u8; 32] {
        self.engine.order().value()
    }

    /// Returns the digest of the decisions of all rounds so far: counted tasks, bytes and versions.
    pub fn result_digest(&self) -> [u8; 32] {
        self.engine.model().results().value()
    }

    /// Returns the chained order digest with its links, by which the first difference of two runs can be located.
    pub fn order(&self) -> &Chain {
        self.engine.order()
    }

    /// Returns the number of events processed so far; each transfer that ended counts as one.
    pub fn events(&self) -> u64 {
        self.engine.order().len()
    }
}
