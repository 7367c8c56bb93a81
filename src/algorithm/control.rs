//! SCAFFOLD's control variates (Karimireddy et al. 2020, arXiv 1910.06378, algorithm 1, option II).
//!
//! At the client the correction c - c_i enters every step; after its steps c_i becomes the mean gradient that its
//! update implies. At the server c follows the mean of all clients' variates. A variate that was never set is zero.

use std::sync::Arc;

use super::ServerState;
use crate::adapter::Adapter;

/// Control variate of a client whose update counts, before and after its task.
#[derive(Clone, Copy, Debug)]
pub struct ControlChange<'a> {
    /// `None` before the first task that counts.
    pub before: Option<&'a Adapter>,
    pub after: &'a Adapter,
}

/// Computes the correction c - c_i of a client's steps; `None` while both are zero.
pub fn correction(server: Option<&Arc<Adapter>>, client: Option<&Arc<Adapter>>) -> Option<Arc<Adapter>> {
    match (server, client) {
        (None, None) => None,
        (Some(server), None) => Some(server.clone()),
        (Some(server), Some(client)) => Some(Arc::new(server.difference(client))),
        (None, Some(client)) => Some(Arc::new(Adapter::zeros(client.layout.clone()).difference(client))),
    }
}

/// Computes the client's variate after its task: (base - trained) / (steps lr) - (c - c_i).
pub fn next_client_control(
    base: &Adapter,
    trained: &Adapter,
    correction: Option<&Adapter>,
    steps: u32,
    lr: f64,
) -> Adapter {
    let scale = 1.0 / (f64::from(steps) * lr);
    let mut values = Vec::with_capacity(base.values.len());
    for (index, (&before, &after)) in base.values.iter().zip(&trained.values).enumerate() {
        // Gradient descent moved by -lr times the sum of corrected gradients, so this is their mean.
        let gradient = (f64::from(before) - f64::from(after)) * scale;
        let correction = correction.map_or(0.0, |by| f64::from(by.values[index]));
        values.push((gradient - correction) as f32);
    }
    Adapter::new(base.layout.clone(), values)
}

/// Computes the server's state with c + 1/N times the sum of the changes of clients' variates, where N is `clients`.
///
/// All clients that count enter the sum equally, regardless of their weights in the model, as in the paper and in
/// FedLLM-Bench. The sum is taken in f64 in the order of `changes`.
pub fn next_server_control(state: ServerState, like: &Adapter, changes: &[ControlChange], clients: u32) -> ServerState {
    let mut next: Vec<f64> = match &state.control {
        Some(control) => control.values.iter().map(|&value| f64::from(value)).collect(),
        None => vec![0.0; like.values.len()],
    };
    let share = 1.0 / f64::from(clients);
    for change in changes {
        for (index, sum) in next.iter_mut().enumerate() {
            let before = change.before.map_or(0.0, |before| f64::from(before.values[index]));
            *sum += share * (f64::from(change.after.values[index]) - before);
        }
    }
    ServerState { control: Some(ServerState::adapter_like(like, &next)), ..state }
}

#[cfg(test)]
mod tests {
    use super::super::server::tests::{adapter, assert_close};
    use super::*;

    #[test]
    fn the_servers_variate_follows_the_published_numbers() {
        // Each round's changes of the clients' variates sum to (0.9, -1.8), of three clients.
        let (zero, first, second) = (adapter([0.0, 0.0]), adapter([0.3, -0.6]), adapter([0.6, -1.2]));
        let changes = [&first, &second].map(|after| ControlChange { before: None, after });
        let state = next_server_control(ServerState::default(), &zero, &changes, 3);
        assert_close(state.control.as_ref().unwrap(), [0.3, -0.6]);
        let later = [adapter([0.6, -1.2]), adapter([1.2, -2.4])];
        let changes = [(&first, &later[0]), (&second, &later[1])];
        let changes = changes.map(|(before, after)| ControlChange { before: Some(before), after });
        let state = next_server_control(state, &zero, &changes, 3);
        assert_close(state.control.as_ref().unwrap(), [0.6, -1.2]);
    }

    #[test]
    fn a_clients_variate_is_its_mean_gradient() {
        // Two steps of 0.5 along gradients 1 and 3, corrected by 0.25 each.
        let (base, by) = (adapter([2.0, 0.0]), adapter([0.25, 0.0]));
        let trained = adapter([2.0 - 0.5 * (1.25 + 3.25), 0.0]);
        assert_close(&next_client_control(&base, &trained, Some(&by), 2, 0.5), [2.0, 0.0]);
        let (server, client) = (Arc::new(adapter([1.0, 0.0])), Arc::new(adapter([0.75, 0.0])));
        assert_close(&correction(Some(&server), Some(&client)).unwrap(), [0.25, 0.0]);
        assert_close(&correction(None, Some(&client)).unwrap(), [-0.75, 0.0]);
        assert_eq!(correction(None, None), None);
    }
}
