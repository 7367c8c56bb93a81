//! Compatibility of federated methods with protocols and other settings.

use super::schema::{Algorithm, OptimizerSpec, OptimizerState, Protocol, RuleParameter, ScenarioSpec, Selection};
use super::{ScenarioError, check_aggregation, check_codec};

/// Checks that the method goes with the scenario's protocol, data, evaluation and selection.
///
/// # Errors
/// The offending field, and what is wrong with it.
pub(super) fn check_method(scenario: &ScenarioSpec) -> Result<(), (String, String)> {
    check_own_rule(scenario)?;
    let name = scenario.algorithm.name();
    if let Some(reason) = clash(&scenario.algorithm, &scenario.server.protocol) {
        return refused("server.protocol", format!("it does not go with {name}: {reason}"));
    }
    if scenario.data.clients.as_ref().is_some_and(Vec::is_empty) {
        return refused("data.clients", "it must name at least one client".into());
    }
    if scenario.training.dynamic_steps.is_some() && !matches!(scenario.server.protocol, Protocol::Synchronous { .. }) {
        return refused("training.dynamic_steps", "it requires synchronous rounds".into());
    }
    if scenario.training.optimizer_state == OptimizerState::Kept
        && !matches!(scenario.server.protocol, Protocol::Synchronous { .. })
    {
        let reason =
            "a client continues from its last task, and only synchronous rounds count one task of a client at a time";
        return refused("training.optimizer_state", reason.into());
    }
    let is_apart = matches!(scenario.algorithm, Algorithm::Local | Algorithm::Centralised);
    if !is_apart {
        return Ok(());
    }
    if scenario.data.synthetic.is_some() {
        return refused("data.synthetic", format!("{name} needs the rows of `file`"));
    }
    if scenario.evaluation.local_baseline {
        return refused("evaluation.local_baseline", format!("{name} is a baseline itself"));
    }
    if scenario.evaluation.fine_tuning_steps.is_some() {
        return refused(
            "evaluation.fine_tuning_steps",
            format!("under {name} there is no model of a federation to train on"),
        );
    }
    if matches!(scenario.server.selection.get(), Selection::PowerOfChoice { .. } | Selection::Oort { .. }) {
        return refused(
            "server.selection",
            format!("{name} asks every client, so there is nothing to select by losses"),
        );
    }
    Ok(())
}

/// Checks that the rest of the scenario goes with a rule of one's own.
///
/// # Errors
/// The offending field, and what is wrong with it.
fn check_own_rule(scenario: &ScenarioSpec) -> Result<(), (String, String)> {
    if !scenario.algorithm.is_own_rule() {
        return Ok(());
    }
    if let Algorithm::Python { parameters, .. } = &scenario.algorithm {
        for (name, value) in parameters {
            if matches!(value, RuleParameter::Number(number) if !number.is_finite()) {
                return Err((format!("algorithm.parameters.{name}"), "it is no finite number".into()));
            }
        }
    }
    let refused = |field: &str, reason: &str| {
        let name = scenario.algorithm.name();
        refused(field, format!("it does not go with algorithm {name}: {reason}"))
    };
    if scenario.privacy.is_some() {
        return refused("privacy", "the rule reads the updates of single clients, which no noise protects");
    }
    if !scenario.server.aggregation.is_mean() {
        return refused("server.aggregation", "the rule combines the updates itself");
    }
    if matches!(scenario.server.protocol, Protocol::Asynchronous { .. }) {
        return refused(
            "server.protocol",
            "FedAsync mixes models, and a rule combines updates; use Buffered(buffer_size: 1)",
        );
    }
    Ok(())
}

fn refused(field: &str, reason: String) -> Result<(), (String, String)> {
    Err((field.to_owned(), reason))
}

/// Returns why the two do not go together, or `None` if they do.
fn clash(algorithm: &Algorithm, protocol: &Protocol) -> Option<&'static str> {
    let is_synchronous = matches!(protocol, Protocol::Synchronous { .. });
    match algorithm {
        Algorithm::FedAvg { .. } | Algorithm::FedProx { .. } => None,
        Algorithm::Scaffold { .. } if !is_synchronous => Some(
            "control variates are defined where all clients of a round start from one model and one c; use Synchronous",
        ),
        Algorithm::Local | Algorithm::Centralised if !is_synchronous => {
            Some("nothing is aggregated, so there is nothing to wait for; use Synchronous")
        }
        Algorithm::FedAvgM { .. }
        | Algorithm::FedAdagrad { .. }
        | Algorithm::FedYogi { .. }
        | Algorithm::FedAdam { .. }
            if matches!(protocol, Protocol::Asynchronous { .. }) =>
        {
            Some(
                "FedAsync mixes models, and a server optimizer steps along a mean update; use Buffered(buffer_size: 1)",
            )
        }
        _ => None,
    }
}

/// Returns warnings about settings that are valid but probably not intended.
pub(super) fn doubts(scenario: &ScenarioSpec) -> Vec<String> {
    let mut doubts: Vec<String> =
        check_aggregation::doubt(scenario).into_iter().chain(check_codec::doubt(scenario)).collect();
    if !matches!(scenario.algorithm, Algorithm::Scaffold { .. }) {
        return doubts;
    }
    // A variate is (start - end) / (steps * learning rate), the mean gradient of the steps only if they are plain descent.
    let other = match scenario.training.optimizer.get() {
        OptimizerSpec::Sgd { momentum: 0.0 } => None,
        OptimizerSpec::Sgd { .. } => Some(("momentum", "momentum buffers")),
        OptimizerSpec::AdamW { .. } => Some(("AdamW", "normalized steps")),
    };
    if let Some((optimizer, averaged)) = other {
        doubts.push(format!(
            "SCAFFOLD with {optimizer}: its variates are then means of {averaged}, not of gradients, and its analysis does \
             not hold; training.optimizer: Sgd() is what the paper trains with"
        ));
    }
    if let Some(norm) = scenario.training.max_grad_norm.get() {
        doubts.push(format!(
            "SCAFFOLD with gradients clipped at {norm}: where they are longer, its variates are means of clipped steps, \
             not of gradients, and its analysis does not hold; training.max_grad_norm: None is what the paper trains with"
        ));
    }
    doubts
}

/// Returns warnings about settings that are valid but probably not intended with this number of clients.
pub(super) fn doubts_about_clients(scenario: &ScenarioSpec, clients: usize) -> Vec<String> {
    let mut doubts = Vec::new();
    // Poisson sampling asks each client by chance, however many a round is said to have.
    let rate = match scenario.server.selection.get() {
        Selection::Poisson { rate } => Some(rate),
        _ => None,
    };
    if rate.is_none()
        && let Protocol::Synchronous { clients_per_round, .. }
        | Protocol::Tiered { clients_per_round, .. }
        | Protocol::Hierarchical { clients_per_round, .. } = scenario.server.protocol
        && clients_per_round as usize > clients
    {
        doubts.push(format!(
            "server.protocol.clients_per_round asks for {clients_per_round} clients, and there are {clients}: every \
             round asks all of them"
        ));
    }
    if scenario.training.optimizer_state == OptimizerState::Kept
        && let Some(part) = part_of_clients(&scenario.server.protocol, rate, clients)
    {
        doubts.push(format!(
            "training.optimizer_state: Kept with {part} in a round: a client continues from moments of gradients at a \
             model that others have since moved"
        ));
    }
    doubts
}

/// Describes which part of the clients a synchronous round asks. `None` if it asks all.
fn part_of_clients(protocol: &Protocol, rate: Option<f64>, clients: usize) -> Option<String> {
    match (protocol, rate) {
        (_, Some(rate)) => (rate < 1.0).then(|| format!("each client by a chance of {rate}")),
        (&Protocol::Synchronous { clients_per_round, .. }, None) if (clients_per_round as usize) < clients => {
            Some(format!("{clients_per_round} of {clients} clients"))
        }
        _ => None,
    }
}

/// Checks that every client trains in every round, if the method requires it.
///
/// # Errors
/// If it does not; the error names the field.
pub(super) fn check_clients(scenario: &ScenarioSpec, clients: usize) -> Result<(), ScenarioError> {
    match (&scenario.algorithm, &scenario.server.protocol) {
        (Algorithm::Local, &Protocol::Synchronous { clients_per_round, .. })
            if (clients_per_round as usize) < clients =>
        {
            let message = format!(
                "{clients_per_round} of {clients} clients, and under Local every client trains in every round (data.clients \
                 names fewer)"
            );
            Err(ScenarioError::Inputs { field: "server.protocol.clients_per_round", message })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Discount, Mean, WeightsSpec};

    #[test]
    fn every_cell_is_played_or_refused_with_a_reason() {
        let weights = WeightsSpec::Uniform;
        let asynchronous = Protocol::Asynchronous {
            concurrency: 1,
            max_staleness: None,
            discount: Discount::Constant,
            mixing: 0.5,
            max_losses: 1,
        };
        let adagrad = Algorithm::FedAdagrad { server_lr: 1.0, tau: 1.0, weights };
        assert!(clash(&adagrad, &asynchronous).is_some_and(|reason| reason.contains("Buffered")));
        assert_eq!(clash(&Algorithm::FedProx { mu: 1.0, weights, mean: Mean::Factors }, &asynchronous), None);
        assert!(clash(&Algorithm::Local, &asynchronous).is_some());
    }
}
