//! Discrete-event engine: virtual time, the total order of events, the event queue and the digest of processed events.
//!
//! Nothing here depends on federations. A model is a cloneable state machine with one closed type of event; the engine
//! passes it the events in order and accepts the events that it schedules. No handler sees a clock of the host, a
//! thread or a file.

mod digest;
mod engine;
mod key;
mod queue;
mod sorted;
mod time;

pub use digest::{CHAIN_BLOCK_EVENTS, Chain};
pub use engine::{Ctx, Engine, KernelError, Model};
pub use key::{Class, EntityId, EntityKind, Key};
pub use queue::Queue;
pub(crate) use sorted::SortedQueue;
pub use time::{Span, Time};
