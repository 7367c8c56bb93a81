//! Adaptive server steps: FedAdagrad, FedYogi and FedAdam (Reddi et al. 2021, arXiv 2003.00295, algorithm 2).

use serde::Serialize;

use super::ServerState;
use crate::adapter::Adapter;

/// Adaptive server rule. It adds nothing to local training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct AdaptiveOptimizer {
    /// [1] -- Server learning rate eta.
    pub lr: f64,
    /// [1] -- Term added to the root of the second moment; its square is the second moment before the first round.
    pub tau: f64,
    /// [1] -- Decay of the first moment; 0 steps along the update itself.
    pub beta1: f64,
    /// Update rule of the second moment.
    pub squares: SquareRule,
    /// Whether the first moment starts from the first update, as in FedLLM-Bench, instead of 0.
    pub starts_at_first: bool,
    /// Whether the second moment averages squares of first moments, as in FedLLM-Bench, instead of updates.
    pub squares_first_moments: bool,
}

/// Update rule of the second moment v with the square s of a new value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum SquareRule {
    /// v + s.
    Adagrad,
    /// v - (1 - beta2) s sign(v - s).
    Yogi { beta2: f64 },
    /// beta2 v + (1 - beta2) s.
    Adam { beta2: f64 },
}

impl SquareRule {
    fn next(self, v: f64, s: f64) -> f64 {
        match self {
            Self::Adagrad => v + s,
            // The rule means sign(0) = 0, unlike `signum`, so the case v = s is apart.
            Self::Yogi { beta2 } if v != s => v - (1.0 - beta2) * s * (v - s).signum(),
            Self::Yogi { .. } => v,
            Self::Adam { beta2 } => beta2 * v + (1.0 - beta2) * s,
        }
    }
}

impl AdaptiveOptimizer {
    /// Returns the next model and state, from a round's mean change.
    pub(super) fn apply(&self, server: &Adapter, state: &ServerState, change: &[f64]) -> (Adapter, ServerState) {
        let mut values = Vec::with_capacity(change.len());
        let mut first = Vec::with_capacity(change.len());
        let mut second = Vec::with_capacity(change.len());
        for (index, &change) in change.iter().enumerate() {
            // m_t = beta1 m_{t-1} + (1 - beta1) Delta_t, v_t by the rule from v_{t-1} and Delta_t^2 (or m_t^2), and
            // x_{t+1} = x_t + eta m_t / (sqrt(v_t) + tau), without bias correction.
            let m = match &state.momentum {
                Some(before) => self.beta1 * f64::from(before.values[index]) + (1.0 - self.beta1) * change,
                None if self.starts_at_first => change,
                None => (1.0 - self.beta1) * change,
            };
            let v = state.second_moment.as_ref().map_or(self.tau * self.tau, |v| f64::from(v.values[index]));
            let squared = if self.squares_first_moments { m } else { change };
            let v = self.squares.next(v, squared * squared);
            values.push((f64::from(server.values[index]) + self.lr * m / (v.sqrt() + self.tau)) as f32);
            first.push(m);
            second.push(v);
        }
        let next = ServerState {
            momentum: Some(ServerState::adapter_like(server, &first)),
            second_moment: Some(ServerState::adapter_like(server, &second)),
            ..state.clone()
        };
        (Adapter::new(server.layout.clone(), values), next)
    }
}
