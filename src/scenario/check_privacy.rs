//! What a scenario's privacy must have, so that its promise is one.

use super::schema::{
    Algorithm, Clipping, Mean, Noise, NoisePlacement, Privacy, Protocol, Scenario, Selection, Weights,
};

/// The first fault of the privacy fields, as field and message.
pub(super) fn check(scenario: &Scenario) -> Result<(), (String, String)> {
    let Some(privacy) = &scenario.privacy else { return Ok(()) };
    let fault = |field: &str, message: String| Err((field.to_owned(), message));
    let server = &scenario.server;
    if matches!(server.protocol, Protocol::Hierarchical { .. } | Protocol::Tiered { .. }) {
        return fault("privacy", "edges and tiers aggregate on their own, which is not accounted for".into());
    }
    if let Algorithm::FedAvg { mean: Mean::Products, .. } | Algorithm::FedProx { mean: Mean::Products, .. } =
        scenario.algorithm
    {
        return fault("algorithm.mean", "what is clipped and noised are factors; a mean of Products is neither".into());
    }
    let Privacy::UserLevel { clipping, noise_multiplier, epsilon, placement, grid, weight_bound, .. } = privacy else {
        return Ok(());
    };
    let noise = *noise_multiplier;
    if let Some(epsilon) = epsilon.filter(|_| noise == 0.0) {
        return fault(
            "privacy.noise_multiplier",
            format!("without noise no epsilon is finite, {epsilon} least of all"),
        );
    }
    if let Clipping::Adaptive { count_noise, .. } = clipping {
        match count_noise {
            None => {
                return fault(
                    "privacy.clipping.count_noise",
                    "adaptive clipping spends too: its count needs noise".into(),
                );
            }
            Some(count) if 2.0 * count <= noise => {
                return fault(
                    "privacy.clipping.count_noise",
                    format!(
                        "{count} must be above half the noise multiplier, {}, or the count alone spends it",
                        noise / 2.0
                    ),
                );
            }
            Some(_) => {}
        }
        if *placement != NoisePlacement::Central || grid.is_some() {
            return fault("privacy.clipping", "adaptive clipping needs placement Central and no grid".into());
        }
    }
    if let Some(grid) = grid.filter(|grid| *grid > 1.0 || noise / grid > f64::from(1 << 23)) {
        return fault("privacy.grid", format!("{grid} must be at most 1, and not too fine for the noise"));
    }
    if matches!(scenario.algorithm, Algorithm::Scaffold { .. } | Algorithm::Local | Algorithm::Centralised) {
        let name = scenario.algorithm.name();
        return fault("algorithm", format!("{name} moves more than the updates that clipping and noise protect"));
    }
    if scenario.algorithm.weights() != Weights::Uniform && weight_bound.is_none() {
        return fault(
            "privacy.weight_bound",
            "weights by rows have no bound: set it, or take algorithm FedAvg(weights: Uniform)".into(),
        );
    }
    if matches!(server.selection, Selection::PowerOfChoice { .. } | Selection::Oort { .. }) {
        return fault("server.selection", "it reads the clients' losses, which no noise protects".into());
    }
    match server.protocol {
        Protocol::Buffered { server_lr, .. } if server_lr > 1.0 => {
            fault("server.protocol.server_lr", format!("{server_lr} scales an update beyond its clipping norm"))
        }
        _ => Ok(()),
    }
}

impl Privacy {
    /// Whether noise comes from the operating system.
    pub fn is_secret(&self) -> bool {
        matches!(self, Self::UserLevel { noise: Noise::Secret, .. })
    }
}
