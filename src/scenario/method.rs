//! Which methods go with which protocols, and why others do not.

use super::schema::{Algorithm, Optimizer, OptimizerState, Protocol, Scenario, Selection};

/// Why a method cannot be played under the scenario's protocol, if so: the offending field, and what is wrong with it.
pub(super) fn check_method(scenario: &Scenario) -> Result<(), (String, String)> {
    let name = scenario.algorithm.name();
    let refused = |field: &str, reason: String| Err((field.to_owned(), reason));
    if let Some(reason) = clash(&scenario.algorithm, &scenario.server.protocol) {
        return refused("server.protocol", format!("it does not go with {name}: {reason}"));
    }
    if scenario.data.clients.as_ref().is_some_and(Vec::is_empty) {
        return refused("data.clients", "it must name at least one client".into());
    }
    if scenario.training.dynamic_steps.is_some() && !matches!(scenario.server.protocol, Protocol::Synchronous { .. }) {
        return refused("training.dynamic_steps", "it counts on synchronous rounds".into());
    }
    if scenario.training.optimizer_state == OptimizerState::Kept
        && !matches!(scenario.server.protocol, Protocol::Synchronous { .. })
    {
        let reason = "a client goes on from its last task, and only synchronous rounds count one task of it at a time";
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
    if matches!(scenario.server.selection, Selection::PowerOfChoice { .. } | Selection::Oort { .. }) {
        return refused(
            "server.selection",
            format!("{name} asks every client, so there is nothing to select by losses"),
        );
    }
    Ok(())
}

/// Why these two do not go together, if so.
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
                "FedAsync mixes models, and a server optimiser steps along a mean update; use Buffered(buffer_size: 1)",
            )
        }
        _ => None,
    }
}

/// What can be played and is likely not meant.
pub(super) fn doubts(scenario: &Scenario) -> Vec<String> {
    let mut doubts = Vec::new();
    if matches!(scenario.algorithm, Algorithm::Scaffold { .. })
        && !matches!(scenario.training.optimizer, Optimizer::Sgd { .. })
    {
        doubts.push(
            "SCAFFOLD with AdamW: its variates are then means of normalised steps, not of gradients, and its analysis \
             does not hold; training.optimizer: Sgd() is what the paper trains with"
                .to_owned(),
        );
    }
    doubts
}

/// Whether every one of so many clients trains in every round, where the method needs it: what is wrong, if not.
pub(super) fn check_clients(scenario: &Scenario, clients: usize) -> Result<(), String> {
    match (&scenario.algorithm, &scenario.server.protocol) {
        (Algorithm::Local, &Protocol::Synchronous { clients_per_round, .. })
            if (clients_per_round as usize) < clients =>
        {
            Err(format!(
                "failed to accept server.protocol.clients_per_round: {clients_per_round} of {clients} clients, and under \
                 Local every client trains in every round (data.clients names fewer)"
            ))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Discount, Mean, Weights};

    #[test]
    fn every_cell_is_played_or_refused_with_a_reason() {
        let weights = Weights::Uniform;
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
