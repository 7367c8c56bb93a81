//! Hierarchical aggregation: each region has an edge that runs synchronous rounds with its clients and then sends one
//! model to the server, which merges the models of all edges. Follows Liu et al., "Client-edge-cloud hierarchical
//! federated learning" (2020).

use super::synchronous::{Synchronous, SynchronousState};
use super::{Act, Aggregator, Fact, SERVER};
use crate::kernel::{Span, Time};
use crate::network::{Capacity, Rate, Transport};
use crate::record::Failure;
use crate::server::Server;
use serde::{Deserialize, Serialize};

/// Settings of hierarchical aggregation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchical {
    /// Edges, by region; at least 1. Clients of region r belong to edge r.
    pub edges: Vec<EdgeLink>,
    /// Number of rounds of each edge per round of the server; at least 1.
    pub edge_rounds: u32,
    /// Settings of each edge's rounds.
    pub within: Synchronous,
    /// [byte] -- Transfer from the server to an edge per round; at least 1.
    pub download_bytes: u64,
    /// [byte] -- Transfer from an edge to the server per round; at least 1.
    pub upload_bytes: u64,
}

/// Connections of an edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeLink {
    /// Capacity from the server, above zero. The edges share the server's link or the topology.
    pub down: Rate,
    /// Capacity to the server, above zero.
    pub up: Rate,
    /// Latency to the server, each way.
    pub latency: Span,
    /// Transport protocol between edge and server. That to its clients is each client's own.
    pub transport: Transport,
    /// Capacity to the edge's clients, shared by their downloads.
    pub egress: Capacity,
    /// Capacity from the edge's clients, shared by their uploads.
    pub ingress: Capacity,
}

/// Progress of one edge in a round of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Progress {
    /// Receiving the server's model, running its rounds, or sending its model back.
    Busy,
    /// Its model is at the server.
    Arrived,
    /// None of its rounds produced a version.
    Failed,
}

/// State of hierarchical aggregation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HierarchicalState {
    edges: Vec<SynchronousState>,
    progress: Vec<Progress>,
    edge_rounds: u32,
    round: u32,
    rounds: u32,
    aggregation: Span,
    is_open: bool,
}

impl HierarchicalState {
    /// Returns the initial state.
    pub fn new(policy: &Hierarchical, server: &Server) -> Self {
        let count = policy.edges.len() as u32;
        Self {
            edges: (1..=count).map(|edge| SynchronousState::new(policy.within, edge, 0, server)).collect(),
            progress: vec![Progress::Arrived; count as usize],
            edge_rounds: policy.edge_rounds,
            round: 0,
            rounds: server.rounds,
            aggregation: server.aggregation,
            is_open: false,
        }
    }

    /// Reacts to `fact` at `now`.
    pub fn react(&mut self, now: Time, fact: Fact, acts: &mut Vec<Act>) {
        match fact {
            Fact::Opportunity { aggregator: SERVER } => self.open(acts),
            Fact::EdgeReady { aggregator } => {
                self.tell_edge(now, aggregator, Fact::Opportunity { aggregator }, acts);
            }
            Fact::EdgeArrived { aggregator } => self.settle(aggregator, Progress::Arrived, acts),
            Fact::Opportunity { aggregator }
            | Fact::Sent { aggregator, .. }
            | Fact::Lost { aggregator, .. }
            | Fact::Deadline { aggregator, .. } => self.tell_edge(now, aggregator, fact, acts),
            Fact::Arrived(upload) => self.tell_edge(now, upload.aggregator, fact, acts),
            Fact::Stalled if self.is_open => self.close(Some(Failure::Stalled), acts),
            Fact::Stalled => {}
        }
    }

    /// Opens a round of the server and sends its model to all edges.
    fn open(&mut self, acts: &mut Vec<Act>) {
        self.is_open = true;
        self.progress.fill(Progress::Busy);
        for edge in &mut self.edges {
            edge.extend(self.edge_rounds);
        }
        acts.push(Act::Open { aggregator: SERVER, round: self.round });
        for aggregator in 1..=self.edges.len() as u32 {
            acts.push(Act::SendToEdge { aggregator });
        }
    }

    /// Returns the state of an edge.
    fn edge(&mut self, aggregator: Aggregator) -> &mut SynchronousState {
        &mut self.edges[aggregator as usize - 1]
    }

    /// Passes a fact to an edge. After its last round, the edge sends its model, if it has made one.
    fn tell_edge(&mut self, now: Time, aggregator: Aggregator, fact: Fact, acts: &mut Vec<Act>) {
        let first = acts.len();
        self.edge(aggregator).react(now, fact, acts);
        let is_done = acts[first..].iter().any(|act| matches!(act, Act::Finish));
        if !is_done {
            return;
        }
        // An edge ends its rounds with `Finish`, which must not reach the server: it would end the run.
        acts.retain(|act| !matches!(act, Act::Finish));
        if self.edge(aggregator).succeeded > 0 {
            acts.push(Act::SendToServer { aggregator });
        } else {
            self.settle(aggregator, Progress::Failed, acts);
        }
    }

    /// Notes the result of an edge, and closes the server's round after the last one.
    fn settle(&mut self, aggregator: Aggregator, progress: Progress, acts: &mut Vec<Act>) {
        self.progress[aggregator as usize - 1] = progress;
        if !self.progress.contains(&Progress::Busy) {
            self.close(None, acts);
        }
    }

    /// Closes the server's round: merges the models that arrived, or fails.
    fn close(&mut self, cut_short: Option<Failure>, acts: &mut Vec<Act>) {
        let mut arrived: Vec<Aggregator> = Vec::new();
        for (edge, progress) in (1u32..).zip(&self.progress) {
            if *progress == Progress::Arrived {
                arrived.push(edge);
            }
        }
        let result = match cut_short {
            Some(failure) => Err(failure),
            None if arrived.is_empty() => Err(Failure::TooFewSurvived),
            None => Ok(arrived),
        };
        acts.push(Act::Merge { round: self.round, result });
        self.round += 1;
        self.is_open = false;
        acts.push(match self.round == self.rounds || cut_short.is_some() {
            true => Act::Finish,
            false => Act::Wake { aggregator: SERVER, after: self.aggregation },
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::synchronous::Stragglers;
    use super::super::testing::{check, server};
    use super::super::{Protocol, Upload};
    use super::*;

    #[test]
    fn edges_play_their_rounds_and_the_server_merges_them() {
        let capacity = Capacity::constant(Rate::MAX);
        let (egress, ingress) = (capacity.clone(), capacity);
        let edge = EdgeLink {
            down: Rate::MAX,
            up: Rate::MAX,
            latency: Span(1),
            transport: Transport::default(),
            egress,
            ingress,
        };
        let within =
            Synchronous { cohort: 1, over_selection: 0, deadline: None, minimum: 1, stragglers: Stragglers::Stop };
        let edges = vec![edge.clone(), edge];
        let policy = Hierarchical { edges, edge_rounds: 2, within, download_bytes: 1, upload_bytes: 1 };
        let mut state = HierarchicalState::new(&policy, &server(Protocol::Hierarchical(policy.clone()), 1));
        let mut react = |at, fact, expected| check(|now, fact, acts| state.react(now, fact, acts), at, fact, expected);
        let open = |aggregator| Fact::Opportunity { aggregator };
        let sent = |aggregator, tasks| Fact::Sent { aggregator, tasks };
        let arrived = |aggregator, round| Fact::Arrived(Upload { slot: 0, aggregator, round, generation: 0 });
        react(0, open(0), "open0 down[1] down[2]");
        react(5, Fact::EdgeReady { aggregator: 1 }, "open0[1] recruit1[1]");
        react(5, sent(1, 1), "");
        react(9, arrived(1, 0), "stop:cancelled[1] close1[1] wake+7[1]");
        react(16, open(1), "open1[1] recruit1[1]");
        react(16, sent(1, 1), "");
        react(20, arrived(1, 1), "stop:cancelled[1] close1[1] up[1]");
        // Edge 2 finds nobody, twice.
        react(21, Fact::EdgeReady { aggregator: 2 }, "open0[2] recruit1[2]");
        react(21, sent(2, 0), "stop:late[2] fail:no_candidates[2] wake+60[2]");
        react(81, open(2), "open1[2] recruit1[2]");
        react(81, sent(2, 0), "stop:late[2] fail:no_candidates[2]");
        react(90, Fact::EdgeArrived { aggregator: 1 }, "merge[1] finish");
    }
}
