//! Adaptive server steps: FedAdagrad, FedYogi and FedAdam (Reddi et al. 2021, arXiv 2003.00295, algorithm 2).

use serde::Serialize;

use super::ServerState;
use crate::adapter::Adapter;

/// The adaptive rule. At the client nothing is added.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Adaptive {
    /// [1] The server's learning rate.
    pub lr: f64,
    /// [1] Added to the root of the second moment; its square is the second moment before the first round.
    pub tau: f64,
    /// [1] Decay of the first moment; 0 steps along the update itself.
    pub beta1: f64,
    /// How the second moment goes on.
    pub squares: SquareRule,
    /// Whether the first moment begins at the first update, as in FedLLM-Bench, instead of at 0.
    pub starts_at_first: bool,
    /// Whether the second moment is of first moments, as in FedLLM-Bench, instead of updates.
    pub squares_first_moments: bool,
}

/// How the second moment goes on.
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
            // The sign of zero is zero.
            Self::Yogi { beta2 } if v != s => v - (1.0 - beta2) * s * (v - s).signum(),
            Self::Yogi { .. } => v,
            Self::Adam { beta2 } => beta2 * v + (1.0 - beta2) * s,
        }
    }
}

impl Adaptive {
    /// The next model and state, from a round's mean change.
    pub(super) fn apply(&self, server: &Adapter, state: &ServerState, change: &[f64]) -> (Adapter, ServerState) {
        let parts = change.len();
        let (mut values, mut first, mut second) =
            (Vec::with_capacity(parts), Vec::with_capacity(parts), Vec::with_capacity(parts));
        for (index, &change) in change.iter().enumerate() {
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
        (Adapter { layout: server.layout.clone(), values }, next)
    }
}
