//! The event loop: takes the first event, passes it to the model, and checks the events that the model schedules.

use super::{Chain, Class, EntityId, Key, Queue, Span, Time};
use serde::{Deserialize, Serialize};
use std::fmt::Debug;

/// A state machine that the engine can run. A clone is a fork.
pub trait Model: Clone {
    /// Events of the model: one closed type.
    type Event: Clone + Debug;
    /// Records that a handler may emit.
    type Note;

    /// Returns the number of the kind of `event`, which enters the order digest.
    fn kind(event: &Self::Event) -> u8;

    /// Returns whether `event` is still valid. Events are cancelled lazily: stale ones are skipped when they are due.
    fn is_live(&self, entity: EntityId, event: &Self::Event) -> bool;

    /// Handles `event` at `key`. All effects outside of the model go through `ctx`.
    fn handle(&mut self, key: Key, event: Self::Event, ctx: &mut Ctx<'_, Self>);
}

/// Error after which the engine cannot continue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// A handler scheduled an event beyond the range of 64-bit nanoseconds.
    #[error("failed to schedule {event} at {at} for {entity:?}: virtual time ends after 584 years")]
    TimeOverflow {
        /// The event that could not be scheduled.
        event: String,
        /// Time at which the handler ran.
        at: Time,
        /// Entity of the event.
        entity: EntityId,
    },
}

/// Interface of a handler to the engine: the time, scheduling, the alarm, the order digest and records.
pub struct Ctx<'a, M: Model> {
    key: Key,
    queue: &'a mut Queue<M::Event>,
    order: &'a mut Chain,
    notes: &'a mut Vec<M::Note>,
    failure: &'a mut Option<KernelError>,
}

impl<M: Model> Ctx<'_, M> {
    /// Returns the current instant.
    pub fn now(&self) -> Time {
        self.key.at
    }

    /// Returns the key of the event that is being handled.
    pub fn key(&self) -> Key {
        self.key
    }

    /// Schedules `event`.
    ///
    /// # Panics
    /// If its key is not greater than that of the event being handled. This guarantees that processed keys strictly
    /// increase, that the events of an instant are processed in order of class, and that cycles without delay cannot
    /// exist.
    pub fn schedule(&mut self, at: Time, class: Class, entity: EntityId, event: M::Event) {
        if self.refuse_overflow(at, entity, &event) {
            return;
        }
        let key = self.queue.push(at, class, entity, event);
        assert!(key > self.key, "an event at {:?} may not schedule {key:?}, which is not later", self.key);
    }

    /// Moves the alarm to `at`, with `event` of class `Finish` at the network.
    ///
    /// # Panics
    /// As [`Ctx::schedule`].
    pub fn set_alarm(&mut self, at: Time, event: M::Event) {
        if self.queue.alarm_at() == Some(at) || self.refuse_overflow(at, EntityId::NETWORK, &event) {
            return;
        }
        let key = self.queue.set_alarm(at, Class::Finish, EntityId::NETWORK, event);
        assert!(key > self.key, "an event at {:?} may not set the alarm to {key:?}, which is not later", self.key);
    }

    /// Removes the alarm.
    pub fn clear_alarm(&mut self) {
        self.queue.clear_alarm();
    }

    /// Adds a row to the order digest for something that happened within this event, such as one of the transfers that
    /// end together.
    pub fn witness(&mut self, entity: EntityId, kind: u8) {
        push_order(self.order, Key { entity, ..self.key }, kind);
    }

    /// Emits a record.
    pub fn note(&mut self, note: M::Note) {
        self.notes.push(note);
    }

    /// Returns whether `at` is beyond representable time, and fails the run if so.
    fn refuse_overflow(&mut self, at: Time, entity: EntityId, event: &M::Event) -> bool {
        if at == Time::NEVER {
            *self.failure = Some(KernelError::TimeOverflow { event: format!("{event:?}"), at: self.key.at, entity });
        }
        at == Time::NEVER
    }
}

/// A model with its pending events, the current instant and the digest of all processed events.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound(
    serialize = "M: Serialize, M::Event: Serialize, M::Note: Serialize",
    deserialize = "M: Deserialize<'de>, M::Event: Deserialize<'de>, M::Note: Deserialize<'de>"
))]
pub struct Engine<M: Model> {
    model: M,
    queue: Queue<M::Event>,
    last: Option<Key>,
    order: Chain,
    notes: Vec<M::Note>,
}

impl<M: Model> Engine<M> {
    /// Returns an engine at time zero, without events.
    pub fn new(model: M) -> Self {
        Self {
            model,
            queue: Queue::default(),
            last: None,
            order: Chain::new("fedreplay event order v1"),
            notes: Vec::new(),
        }
    }

    /// Schedules an event from outside of a handler: at the start, or for an intervention.
    ///
    /// # Panics
    /// If its key is not later than the last event processed.
    pub fn schedule(&mut self, at: Time, class: Class, entity: EntityId, event: M::Event) {
        let key = self.queue.push(at, class, entity, event);
        assert!(self.last.is_none_or(|last| key > last), "{key:?} lies in the past");
    }

    /// Processes the next valid event. Returns `false` if there is none.
    ///
    /// # Errors
    /// If virtual time overflows.
    pub fn step(&mut self) -> Result<bool, KernelError> {
        while let Some((key, event)) = self.queue.pop() {
            if !self.model.is_live(key.entity, &event) {
                continue;
            }
            assert!(self.last.is_none_or(|last| key > last), "{key:?} comes after {:?}", self.last);
            self.last = Some(key);
            push_order(&mut self.order, key, M::kind(&event));
            let mut failure = None;
            let mut ctx = Ctx {
                key,
                queue: &mut self.queue,
                order: &mut self.order,
                notes: &mut self.notes,
                failure: &mut failure,
            };
            self.model.handle(key, event, &mut ctx);
            return failure.map_or(Ok(true), Err);
        }
        Ok(false)
    }

    /// Removes stale events and returns the key and content of the next valid one.
    pub fn peek(&mut self) -> Option<(Key, &M::Event)> {
        while let Some((key, event)) = self.queue.peek() {
            if self.model.is_live(key.entity, event) {
                break;
            }
            self.queue.pop();
        }
        self.queue.peek()
    }

    /// Returns the time of the last processed event.
    pub fn now(&self) -> Time {
        self.last.map_or(Time::ZERO, |last| last.at)
    }

    /// Returns the earliest instant and class at which an event of the network comes after all processed events. It
    /// comes before the next decision of the server, except that a decision which was the last event may be followed by
    /// another one at the same instant.
    pub fn before_next_decision(&self) -> (Time, Class) {
        match self.last {
            None => (Time::ZERO, Class::Leave),
            // The network entity is the least of its class, so it precedes any dispatch of this instant.
            Some(last) if last.class < Class::Dispatch => (last.at, Class::Dispatch),
            Some(last) => (last.at.after(Span(1)), Class::Leave),
        }
    }

    /// Returns whether any event was processed.
    pub fn has_begun(&self) -> bool {
        self.last.is_some()
    }

    /// Returns the chained digest of (time, class, entity, kind) of all processed events.
    pub fn order(&self) -> &Chain {
        &self.order
    }

    /// Returns the model.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// Returns the model for inputs from outside: requested results and interventions.
    pub fn model_mut(&mut self) -> &mut M {
        &mut self.model
    }

    /// Takes the records emitted since the last call.
    pub fn take_notes(&mut self) -> Vec<M::Note> {
        std::mem::take(&mut self.notes)
    }

    /// Returns the number of pending events, including stale ones.
    pub fn pending(&self) -> usize {
        self.queue.len()
    }
}

/// Adds a row to the order digest: time, class, entity and kind, 14 bytes little-endian. The sequence number is left
/// out, because it depends on how events were scheduled and not on what happened.
fn push_order(order: &mut Chain, key: Key, kind: u8) {
    let mut row = [0u8; 14];
    row[..8].copy_from_slice(&key.at.0.to_le_bytes());
    row[8] = key.class as u8;
    row[9..13].copy_from_slice(&key.entity.code().to_le_bytes());
    row[13] = kind;
    order.push(&row);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes down what it sees, and schedules what the event says.
    #[derive(Clone)]
    struct Echo;

    #[derive(Clone, Debug, PartialEq)]
    enum Echoed {
        Note,
        Stale,
        Schedule(u64, Class, u32),
        Far,
    }

    impl Model for Echo {
        type Event = Echoed;
        type Note = (u64, Class, u32);

        fn kind(_: &Echoed) -> u8 {
            0
        }

        fn is_live(&self, _: EntityId, event: &Echoed) -> bool {
            *event != Echoed::Stale
        }

        fn handle(&mut self, key: Key, event: Echoed, ctx: &mut Ctx<'_, Self>) {
            ctx.note((key.at.0, key.class, key.entity.index()));
            match event {
                Echoed::Schedule(at, class, entity) => {
                    ctx.schedule(Time(at), class, EntityId::client(entity), Echoed::Note);
                }
                Echoed::Far => {
                    ctx.schedule(ctx.now().after(Span(u64::MAX)), Class::Finish, EntityId::client(0), Echoed::Note)
                }
                Echoed::Note | Echoed::Stale => {}
            }
        }
    }

    fn engine(events: &[(u64, Class, u32, Echoed)]) -> Engine<Echo> {
        let mut engine = Engine::new(Echo);
        for (at, class, entity, event) in events {
            engine.schedule(Time(*at), *class, EntityId::client(*entity), event.clone());
        }
        engine
    }

    #[test]
    fn an_instant_is_seen_in_class_order_and_stale_events_are_not_seen() {
        let mut engine = engine(&[
            (5, Class::Observe, 0, Echoed::Note),
            (5, Class::Dispatch, 0, Echoed::Note),
            (5, Class::Leave, 0, Echoed::Stale),
            (5, Class::Deadline, 9, Echoed::Schedule(5, Class::Dispatch, 3)),
            (5, Class::Finish, 2, Echoed::Schedule(5, Class::Join, 1)),
            (5, Class::Finish, 1, Echoed::Note),
        ]);
        while engine.step().unwrap() {}
        let seen: Vec<(Class, u32)> =
            engine.take_notes().into_iter().map(|(_, class, entity)| (class, entity)).collect();
        use Class::*;
        assert_eq!(
            seen,
            [(Finish, 1), (Finish, 2), (Join, 1), (Deadline, 9), (Dispatch, 0), (Dispatch, 3), (Observe, 0)]
        );
        assert_eq!(engine.order().len(), 7, "what is stale is in no digest");
    }

    #[test]
    fn a_handler_may_schedule_only_keys_greater_than_its_own() {
        let own = (5, Class::Deadline, 4);
        let step = |at, class, entity| {
            let mut engine = engine(&[(own.0, own.1, own.2, Echoed::Schedule(at, class, entity))]);
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| engine.step().unwrap())).is_ok()
        };
        assert!(step(5, Class::Deadline, 4), "later by sequence");
        assert!(step(5, Class::Deadline, 5) && step(5, Class::Dispatch, 0) && step(6, Class::Finish, 0));
        assert!(!step(5, Class::Deadline, 3) && !step(5, Class::Join, 9) && !step(4, Class::Observe, 9));
    }

    #[test]
    fn the_end_of_time_is_an_error_that_names_the_event() {
        let error = engine(&[(5, Class::Finish, 7, Echoed::Far)]).step().unwrap_err().to_string();
        assert!(error.contains("failed to schedule Note at 0.000000005s"), "{error}");
    }
}
