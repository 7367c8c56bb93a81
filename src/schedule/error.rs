//! Everything that can end a schedule.

/// Why a scenario has no schedule.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// The federation that the scenario describes cannot be played.
    #[error("failed to accept the federation: {0}")]
    Federation(#[from] fedreplay_sim::Invalid),
    /// Virtual time could not go on: an overflow, named by its event.
    #[error("failed to advance virtual time: {0}")]
    Simulation(#[from] fedreplay_sim::SimError),
    /// Something else about the scenario, its data or its trace is wrong.
    #[error("{0}")]
    Usage(String),
}
