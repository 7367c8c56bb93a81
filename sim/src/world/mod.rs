//! The model that the engine runs: clients, tasks in flight, the network and the server together.
//!
//! `wires` moves bytes, `transfers` begins their transfers, `lifecycle` takes a task from its dispatch to its arrival, `endings` ends tasks, `decisions`
//! carries out the protocol's decisions, and `changes` carries out interventions. This module takes no decisions
//! itself.

mod accounts;
mod changes;
mod decisions;
mod endings;
mod handler;
mod lifecycle;
mod presence;
mod state;
mod task;
mod transfers;
mod wires;

pub use changes::Intervention;
pub(crate) use state::{Event, World};
