//! Checks that the privacy guarantee of a scenario holds: that every released value is clipped, noised and accounted
//! for.

use super::schema::{
    Algorithm, ClippingSpec, Noise, NoisePlacement, Privacy, Protocol, ScenarioSpec, Selection, WeightsSpec,
};

/// Checks the privacy fields.
///
/// # Errors
/// The first fault, as field and message.
pub(super) fn check(scenario: &ScenarioSpec) -> Result<(), (String, String)> {
    let Some(privacy) = &scenario.privacy else { return Ok(()) };
    let server = &scenario.server;
    if matches!(server.protocol, Protocol::Hierarchical { .. } | Protocol::Tiered { .. }) {
        return fault("privacy", "edges and tiers aggregate on their own, which is not accounted for".into());
    }
    if scenario.averages_products() {
        return fault("algorithm.mean", "what is clipped and noised are factors; a mean of Products is neither".into());
    }
    let Privacy::UserLevel { clipping, noise_multiplier, epsilon, placement, grid, weight_bound, .. } = privacy else {
        return Ok(());
    };
    let noise = *noise_multiplier;
    if let Some(epsilon) = epsilon.filter(|_| noise == 0.0) {
        return fault(
            "privacy.noise_multiplier",
            format!("without noise no epsilon is finite, so a budget of {epsilon} cannot be kept"),
        );
    }
    if let ClippingSpec::Adaptive { count_noise, .. } = clipping {
        check_count_noise(*count_noise, noise)?;
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
    if scenario.algorithm.weights() != WeightsSpec::Uniform && weight_bound.is_none() {
        return fault(
            "privacy.weight_bound",
            "weights by rows have no bound: set it, or take algorithm FedAvg(weights: Uniform)".into(),
        );
    }
    if matches!(server.selection.get(), Selection::PowerOfChoice { .. } | Selection::Oort { .. }) {
        return fault("server.selection", "it reads the clients' losses, which no noise protects".into());
    }
    match server.protocol {
        Protocol::Buffered { server_lr, .. } if server_lr > 1.0 => {
            fault("server.protocol.server_lr", format!("{server_lr} scales an update beyond its clipping norm"))
        }
        _ => Ok(()),
    }
}

/// Checks the noise on the count of unclipped updates, which adaptive clipping releases in each round.
fn check_count_noise(count_noise: Option<f64>, noise: f64) -> Result<(), (String, String)> {
    let field = "privacy.clipping.count_noise";
    match count_noise {
        None => fault(field, "adaptive clipping spends privacy, too: its count needs noise".into()),
        // With noise z in all and z_b on the count, z_delta^-2 = z^-2 - (2 z_b)^-2 must be above 0.
        Some(count) if 2.0 * count <= noise => fault(
            field,
            format!("{count} must be above half the noise multiplier, {}, or the count alone spends it", noise / 2.0),
        ),
        Some(_) => Ok(()),
    }
}

fn fault(field: &str, message: String) -> Result<(), (String, String)> {
    Err((field.to_owned(), message))
}

impl Privacy {
    /// Returns whether the noise comes from the operating system's random generator.
    pub fn is_secret(&self) -> bool {
        matches!(self, Self::UserLevel { noise: Noise::Secret, .. })
    }
}
