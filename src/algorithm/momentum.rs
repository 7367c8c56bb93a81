//! Server momentum: FedAvgM (Hsu et al. 2019, arXiv 1909.06335).

use serde::Serialize;

use super::ServerState;
use super::averaging::add;
use crate::adapter::Adapter;

/// FedAvgM's server rule. It adds nothing to local training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Momentum {
    /// [1] -- Decay of the momentum.
    pub beta: f64,
    /// [1] -- Factor on the momentum in the step.
    pub lr: f64,
    /// Whether the momentum is a moving average that starts from the first update, as in FedLLM-Bench, instead of the
    /// paper's sum.
    pub averages: bool,
}

impl Momentum {
    /// Returns the next model and state, from a round's mean change.
    pub(super) fn apply(&self, server: &Adapter, state: &ServerState, change: &[f64]) -> (Adapter, ServerState) {
        let Self { beta, lr, averages } = *self;
        // m_t = beta m_{t-1} + Delta_t, or with (1 - beta) Delta_t for an average; m_1 = Delta_1 for both.
        let share = if averages { 1.0 - beta } else { 1.0 };
        let momentum: Vec<f64> = match &state.momentum {
            Some(before) => {
                before.values.iter().zip(change).map(|(&m, &change)| beta * f64::from(m) + share * change).collect()
            }
            None => change.to_vec(),
        };
        let kept = ServerState::adapter_like(server, &momentum);
        (add(server, lr, &momentum), ServerState { momentum: Some(kept), ..state.clone() })
    }
}
