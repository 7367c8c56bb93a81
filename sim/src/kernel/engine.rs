//! The loop of virtual time: takes the first event, hands it to the model, checks what the model schedules.

use super::{Chain, Class, EntityId, Key, Queue, Span, Time};
use serde::{Deserialize, Serialize};
use std::fmt::Debug;

/// A world that the engine can run. Cloning it forks the world.
pub trait Model: Clone {
    /// Everything that can happen. Closed: adding a kind of event is a change of this type.
    type Event: Clone + Debug;
    /// What a handler may write down.
    type Note;

    /// The number of the kind of `event`, as it enters the order digest.
    fn kind(event: &Self::Event) -> u8;

    /// Whether `event` still means anything: the check of generations behind lazy cancellation.
    fn is_live(&self, entity: EntityId, event: &Self::Event) -> bool;

    /// Reacts to `event` at `key`. All effects go through `ctx`.
    fn handle(&mut self, key: Key, event: Self::Event, ctx: &mut Ctx<'_, Self>);
}

/// Why the engine cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// A handler asked for an instant that nanoseconds in 64 bits cannot name.
    #[error("failed to schedule {event} at {at} for {entity:?}: virtual time ends after 584 years")]
    TimeOverflow {
        /// The event that could not be scheduled.
        event: String,
        /// When the handler ran.
        at: Time,
        /// Whom the event was for.
        entity: EntityId,
    },
}

/// All that a handler may do: read the time, schedule, set the alarm, witness, note.
pub struct Ctx<'a, M: Model> {
    key: Key,
    queue: &'a mut Queue<M::Event>,
    order: &'a mut Chain,
    notes: &'a mut Vec<M::Note>,
    failure: &'a mut Option<KernelError>,
}

impl<M: Model> Ctx<'_, M> {
    /// The current instant.
    pub fn now(&self) -> Time {
        self.key.at
    }

    /// The place of the event that is being handled.
    pub fn key(&self) -> Key {
        self.key
    }

    /// Schedules `event`.
    ///
    /// # Panics
    /// If its key is not greater than that of the event being handled. Hence processed keys strictly increase, an
    /// instant is seen in class order, and cycles without delay cannot exist.
    pub fn schedule(&mut self, at: Time, class: Class, entity: EntityId, event: M::Event) {
        if self.refuse_overflow(at, entity, &event) {
            return;
        }
        let key = self.queue.push(at, class, entity, event);
        assert!(key > self.key, "an event at {:?} may not schedule {key:?}, which is not later", self.key);
    }

    /// Moves the alarm to `at`, for `event` of class `Finish` at the network.
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

    /// Enters something that happened within this event into the order digest: one of the transfers that end together.
    pub fn witness(&mut self, entity: EntityId, kind: u8) {
        push_order(self.order, Key { entity, ..self.key }, kind);
    }

    /// Writes something down.
    pub fn note(&mut self, note: M::Note) {
        self.notes.push(note);
    }

    fn refuse_overflow(&mut self, at: Time, entity: EntityId, event: &M::Event) -> bool {
        if at == Time::NEVER {
            *self.failure = Some(KernelError::TimeOverflow { event: format!("{event:?}"), at: self.key.at, entity });
        }
        at == Time::NEVER
    }
}

/// A model, its pending events, the current instant and the digest of all that was processed.
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
    /// An engine at time zero with nothing pending.
    pub fn new(model: M) -> Self {
        Self {
            model,
            queue: Queue::default(),
            last: None,
            order: Chain::new("fedreplay event order v1"),
            notes: Vec::new(),
        }
    }

    /// Schedules an event from outside: at the start, or by an intervention.
    ///
    /// # Panics
    /// If its key is not later than the last event processed.
    pub fn schedule(&mut self, at: Time, class: Class, entity: EntityId, event: M::Event) {
        let key = self.queue.push(at, class, entity, event);
        assert!(self.last.is_none_or(|last| key > last), "{key:?} lies in the past");
    }

    /// Processes the next live event; `false` if there is none.
    pub fn step(&mut self) -> Result<bool, KernelError> {
        while let Some((key, event)) = self.queue.pop() {
            if !self.model.is_live(key.entity, &event) {
                continue;
            }
            assert!(self.last.is_none_or(|last| key > last), "{key:?} comes after {:?}", self.last);
            self.last = Some(key);
            push_order(&mut self.order, key, M::kind(&event));
            let mut failure = None;
            let (queue, order, notes) = (&mut self.queue, &mut self.order, &mut self.notes);
            self.model.handle(key, event, &mut Ctx { key, queue, order, notes, failure: &mut failure });
            return failure.map_or(Ok(true), Err);
        }
        Ok(false)
    }

    /// The place and content of the next live event, after removing stale ones before it.
    pub fn peek(&mut self) -> Option<(Key, &M::Event)> {
        while let Some((key, event)) = self.queue.peek() {
            if self.model.is_live(key.entity, event) {
                break;
            }
            self.queue.pop();
        }
        self.queue.peek()
    }

    /// The time of the last processed event.
    pub fn now(&self) -> Time {
        self.last.map_or(Time::ZERO, |last| last.at)
    }

    /// The instant and class at which an event of the network comes after all that was processed, and before the next
    /// decision of the server wherever that can be: a decision that was the last event may be followed by another one at
    /// the same instant.
    pub fn before_next_decision(&self) -> (Time, Class) {
        match self.last {
            None => (Time::ZERO, Class::Leave),
            Some(last) if last.class < Class::Dispatch => (last.at, Class::Dispatch),
            Some(last) => (last.at.after(Span(1)), Class::Leave),
        }
    }

    /// Whether an event was processed.
    pub fn has_begun(&self) -> bool {
        self.last.is_some()
    }

    /// The chained digest of (time, class, entity, kind) of all that was processed.
    pub fn order(&self) -> &Chain {
        &self.order
    }

    /// The world.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The world, for inputs from outside: results that were asked for, interventions.
    pub fn model_mut(&mut self) -> &mut M {
        &mut self.model
    }

    /// Takes what was noted since the last call.
    pub fn take_notes(&mut self) -> Vec<M::Note> {
        std::mem::take(&mut self.notes)
    }

    /// How many events are pending, stale ones included.
    pub fn pending(&self) -> usize {
        self.queue.len()
    }
}

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
