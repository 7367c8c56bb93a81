//! The engine of virtual time: instants, the total order of events, the queue and the digest of what was processed.
//!
//! Nothing here knows what a federation is. A model is a cloneable state machine with one closed type of event;
//! the engine hands it the events in order and takes back what it schedules. No handler sees a clock of the host,
//! a thread or a file.

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
