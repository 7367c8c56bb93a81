//! Turns a scenario and the facts of its clients into the federation that `sim` simulates, and its records into rounds.

mod attackers;
mod carbon;
pub(crate) mod client_facts;
mod federation;
mod grid;
mod measured_time;
pub(crate) mod model_shape;
mod placement;
mod protocol;
mod task_cost;
mod timeline;
mod trace;
mod transport;

pub use carbon::{Carbon, CarbonError};
pub use client_facts::{ClientFacts, Clients};
pub use federation::federation;
pub use grid::{GridIntensity, Grids};
pub use measured_time::{MeasuredClass, PopulationFiles, TaskSize};
pub use placement::{DeviceClass, LinkClass, Place, Placed};
pub use task_cost::{TaskCosts, base_change_bytes};
pub use timeline::STAND_IN_LOSS;
pub(crate) use timeline::{Next, Rounds, SERVER, ScheduledRound, Timeline, schedule};
pub use trace::{Trace, TraceRow};

use crate::model::ModelError;
use crate::scenario::ScenarioError;

/// Reason why a scenario has no schedule.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// The federation that the scenario describes cannot be simulated.
    #[error("failed to accept the federation: {0}")]
    Federation(#[from] fedreplay_sim::Invalid),
    /// Virtual time overflowed, at the named event.
    #[error("failed to advance virtual time: {0}")]
    Simulation(#[from] fedreplay_sim::SimError),
    /// The base model has no modules of the names that LoRA is to be applied to.
    #[error(transparent)]
    Lora(#[from] ModelError),
    /// The operations of a task cannot be counted.
    #[error(
        "failed to cost a task: rows of {tokens} tokens in batches of {batch_size} on {layers} layers of width {width} are \
         beyond 64-bit counts"
    )]
    TaskTooLarge { tokens: u64, batch_size: u32, layers: usize, width: usize },
    /// The profile of a device class was measured with something else than the scenario trains.
    #[error("failed to use population.devices.{class}.profile: {message}")]
    Profile { class: String, message: String },
    /// A client has no device, link or region.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// The intensity of the grid is not that of the clients' regions and times.
    #[error(transparent)]
    Carbon(#[from] CarbonError),
    /// A field does not go with the clients of the data, or with the layers of the model.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
}

/// Reason why a client cannot be placed on a device, a link or in a region, with the client and what is missing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PlacementError(String);
