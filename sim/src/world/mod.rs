//! The world that the engine runs: clients, tasks in flight, the network and the server, joined.
//!
//! `wires` moves bytes, `lifecycle` takes a task from dispatch to its end, `decisions` carries out what the protocol
//! decides. Nothing here decides anything itself.

mod accounts;
mod changes;
mod decisions;
mod endings;
mod event;
mod groups;
mod handler;
mod lifecycle;
mod presence;
mod state;
mod task;
mod wires;

pub(crate) use event::Event;
pub(crate) use state::World;
