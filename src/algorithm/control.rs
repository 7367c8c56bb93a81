//! SCAFFOLD's control variates (Karimireddy et al. 2020, arXiv 1910.06378, algorithm 1, option II).
//!
//! At the client a correction c - c_i enters every step; after its steps c_i becomes what its update says about its
//! gradients. At the server c follows the mean of all clients' variates. A variate that was never set is zero.

use std::sync::Arc;

use super::ServerState;
use crate::adapter::Adapter;

/// A counted client's variate before and after its task.
#[derive(Clone, Copy, Debug)]
pub struct ControlChange<'a> {
    /// None before its first counted task.
    pub before: Option<&'a Adapter>,
    pub after: &'a Adapter,
}

/// c - c_i: what a client's steps are corrected by; none while both are zero.
pub fn correction(server: Option<&Arc<Adapter>>, client: Option<&Arc<Adapter>>) -> Option<Arc<Adapter>> {
    match (server, client) {
        (None, None) => None,
        (Some(server), None) => Some(server.clone()),
        (Some(server), Some(client)) => Some(Arc::new(server.difference(client))),
        (None, Some(client)) => Some(Arc::new(Adapter::zeros(client.layout.clone()).difference(client))),
    }
}

/// The client's variate after its task: (base - trained) / (steps lr) - (c - c_i).
pub fn next_client_control(
    base: &Adapter,
    trained: &Adapter,
    correction: Option<&Adapter>,
    steps: u32,
    lr: f64,
) -> Adapter {
    let scale = 1.0 / (f64::from(steps) * lr);
    let next = |index: usize| {
        let gradient = (f64::from(base.values[index]) - f64::from(trained.values[index])) * scale;
        (gradient - correction.map_or(0.0, |by| f64::from(by.values[index]))) as f32
    };
    Adapter { layout: base.layout.clone(), values: (0..base.values.len()).map(next).collect() }
}

/// The server's state with c + 1/N times the sum of its clients' changes, of `clients` N in all.
///
/// The sum is over all counted clients alike, whatever their weight in the model, as in the paper and in FedLLM-Bench.
/// It is taken in f64 in the order of `changes`.
pub fn next_server_control(state: ServerState, like: &Adapter, changes: &[ControlChange], clients: u32) -> ServerState {
    let zeros = || vec![0.0; like.values.len()];
    let wide = |adapter: &Arc<Adapter>| adapter.values.iter().map(|&value| f64::from(value)).collect();
    let mut next: Vec<f64> = state.control.as_ref().map_or_else(zeros, wide);
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
