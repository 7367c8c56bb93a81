//! Errors of a schedule.

/// Reason why a scenario has no schedule.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// The federation that the scenario describes cannot be simulated.
    #[error("failed to accept the federation: {0}")]
    Federation(#[from] fedreplay_sim::Invalid),
    /// Virtual time overflowed, at the named event.
    #[error("failed to advance virtual time: {0}")]
    Simulation(#[from] fedreplay_sim::SimError),
    /// Another part of the scenario, its data or its trace is wrong.
    #[error("{0}")]
    Usage(String),
}
