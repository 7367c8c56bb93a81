//! Turns a scenario and the facts of its clients into the federation that `sim` simulates, and its records into rounds.

pub(crate) mod client_facts;
mod error;
mod federation;
mod interventions;
pub(crate) mod model_shape;
mod placement;
mod protocol;
mod task_cost;
mod timeline;
mod trace;

pub use client_facts::{ClientFacts, Clients};
pub use error::{PlacementError, ScheduleError};
pub use federation::federation;
pub use placement::{DeviceClass, LinkClass, Place, Placed};
pub use task_cost::TaskCosts;
pub(crate) use timeline::{Next, Rounds, SERVER, ScheduledRound, Timeline, schedule};
pub use trace::{Trace, TraceRow};
