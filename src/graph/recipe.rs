//! Recipes: everything that can change the result of a node, as it enters the node's key and the table `lineage`.
//!
//! Large parameters are represented by their hashes. Parameters are written as JSON in the order of declaration, so equal
//! parameters have equal texts, and two texts show which parameter differs. Names and order of the fields below, and the
//! names and versions of the code, are therefore part of every key.

use std::sync::Arc;

use fedreplay_sim::Seed;
use serde::Serialize;

use super::NodeId;
use super::node::{Contribution, Controls, FirstStep, Node, TrainingOrder};
use crate::adapter::Factors;
use crate::algorithm::{AttackRule, RobustAggregation, ServerRule};
use crate::compression::Compression;
use crate::data::Rows;
use crate::privacy::Material;
use crate::store::{Digest, Key, Recipe, key_of};
use crate::training::{CorrectionPlace, Hyper, Objective};

#[derive(Serialize)]
struct Train<'a> {
    /// Hash of the rows, by step and micro-batch.
    rows: Digest,
    hyper: &'a Hyper,
    objective: Objective,
    correction: Option<CorrectionPlace>,
    /// Seed and stream of the dropout masks; `None` without dropout.
    masks: Option<(Seed, u64)>,
    /// If the optimizer's moments are kept: whether there are moments to continue from among the inputs.
    moments: Option<bool>,
    /// Whether the last input is the model that a proximal term pulls toward. Left out where it is false, so that the keys of
    /// other trainings stay.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    anchored: bool,
    /// Whether the last input is the client's rank. Left out where it is false, for the same reason.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    ranked: bool,
}

#[derive(Serialize)]
struct Member<'a> {
    /// Number of inputs that belong to this member.
    inputs: usize,
    training: Train<'a>,
}

#[derive(Serialize)]
struct Aggregate<'a> {
    /// Weight and discount of each contribution; its update and its base are inputs.
    contributions: Vec<(f64, f64)>,
    /// Left out where both factors are sent, so that the keys of such runs stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    sent: Option<Factors>,
    release: Option<Material>,
    /// Left out where it is the mean, as in the keys of versions without other rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    robust: Option<RobustAggregation>,
    rule: &'a ServerRule,
    /// Hash of a rule of one's own, with rank and staleness of each contribution. Left out under other rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    own_rule: Option<(Digest, Vec<(usize, u32)>)>,
    /// Left out where it is false, so that the keys of runs without a change of the method stay.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    begins_anew: bool,
    controls: Option<Variates>,
}

/// Control variates of the clients, which follow the contributions among the inputs.
#[derive(Serialize)]
struct Variates {
    clients: u32,
    /// Whether each changed client had a variate before.
    had_one: Vec<bool>,
}

impl Node {
    /// Returns the recipe of the node. `engine` is the hash of base model and numerics; `key` returns the keys of the
    /// node's inputs.
    pub fn recipe(&self, engine: Digest, key: &dyn Fn(NodeId) -> Key) -> Recipe {
        let (code, needs_engine, parameters) = self.parameters();
        Recipe {
            code: code.into(),
            engine: needs_engine.then_some(engine),
            parameters,
            inputs: self.inputs().into_iter().map(key).collect(),
        }
    }

    /// Returns the name and version of the node's code, whether its result depends on base model and numerics, and all
    /// other parameters as JSON.
    fn parameters(&self) -> (&'static str, bool, String) {
        #[derive(Serialize)]
        struct Initial {
            layout: Digest,
            seed: Seed,
        }
        #[derive(Serialize)]
        struct InitialStep {
            layout: Digest,
            /// Hash of the rows, by batch.
            rows: Digest,
            step_size: f64,
        }
        #[derive(Serialize)]
        struct Given {
            adapter: Digest,
        }
        #[derive(Serialize)]
        struct Place {
            index: usize,
        }
        #[derive(Serialize)]
        struct Own {
            factors: Factors,
        }
        #[derive(Serialize)]
        struct Broadcast {
            compression: Compression,
            factors: Factors,
        }
        #[derive(Serialize)]
        struct Cut {
            rank: usize,
        }
        #[derive(Serialize)]
        struct Pruning {
            gamma: f64,
        }
        #[derive(Serialize)]
        struct Steps {
            steps: u32,
            learning_rate: f64,
        }
        #[derive(Serialize)]
        struct Attack {
            rule: AttackRule,
            noise: Option<(Seed, u64)>,
            /// As in an aggregate.
            #[serde(skip_serializing_if = "Option::is_none")]
            sent: Option<Factors>,
        }
        #[derive(Serialize)]
        struct Compress {
            compression: Compression,
            sent: Factors,
            rank: usize,
            draws: Option<(Seed, u64)>,
        }
        #[derive(Serialize)]
        struct Memory {
            sent: Factors,
            rank: usize,
        }
        #[derive(Serialize)]
        struct Evaluate {
            rows: Digest,
            objective: Objective,
        }
        #[derive(Serialize)]
        struct Examine {
            exam: Digest,
        }
        match self {
            Self::Initial { layout, seed } => {
                let layout = key_of("fedreplay layout v1", &**layout).0;
                ("initial v3", false, text(&Initial { layout, seed: *seed }))
            }
            Self::FirstStep(FirstStep { layout, batches, step_size }) => {
                let layout = key_of("fedreplay layout v1", &**layout).0;
                let hashes: Vec<Vec<Digest>> = batches.iter().map(|batch| row_hashes(batch)).collect();
                let rows = key_of("fedreplay trained rows v1", &hashes).0;
                ("first_step v1", true, text(&InitialStep { layout, rows, step_size: *step_size }))
            }
            Self::Given { adapter } => ("given v2", false, text(&Given { adapter: Digest::from(adapter.hash()) })),
            Self::Train { training, moments, anchor, rank, .. } => {
                ("train v4", true, text(&train(training, *moments, anchor.is_some(), rank.is_some())))
            }
            Self::Moments { .. } => ("moments v1", false, text(&())),
            Self::Kept { factors, .. } => ("kept v1", false, text(&Own { factors: *factors })),
            Self::Personal { factors, .. } => ("personal v1", false, text(&Own { factors: *factors })),
            Self::Broadcast { compression, factors, .. } => {
                let broadcast = Broadcast { compression: *compression, factors: *factors };
                ("broadcast v1", false, text(&broadcast))
            }
            Self::Truncated { rank, .. } => ("truncated v1", false, text(&Cut { rank: *rank })),
            Self::Rank { rank } => ("rank v1", false, text(&Cut { rank: *rank as usize })),
            Self::PrunedRank(order) => ("pruned_rank v1", false, text(&Pruning { gamma: order.gamma })),
            Self::OfRank { .. } => ("of_rank v1", false, text(&())),
            Self::Pruned { .. } => ("pruned v1", false, text(&())),
            Self::Cohort(members) => ("cohort v2", true, text(&members.iter().map(member).collect::<Vec<_>>())),
            Self::Member { index, .. } => ("member v2", false, text(&Place { index: *index })),
            Self::Control(control) => {
                let steps = Steps { steps: control.steps, learning_rate: control.learning_rate };
                ("control v2", false, text(&steps))
            }
            Self::Attack(attack) => {
                let sent = Some(attack.sent).filter(|&sent| sent != Factors::Both);
                ("attack v1", false, text(&Attack { rule: attack.rule, noise: attack.noise, sent }))
            }
            Self::Compress(order) => {
                let super::node::Compress { compression, sent, rank, draws, .. } = *order;
                let compress = Compress { compression, sent, rank, draws };
                ("compress v1", false, text(&compress))
            }
            Self::Memory { sent, rank, .. } => ("memory v1", false, text(&Memory { sent: *sent, rank: *rank })),
            Self::Aggregate { contributions, sent, release, robust, own_rule, rule, begins_anew, controls, .. } => {
                // Updates and models are inputs; only the numbers that combine them are parameters.
                let aggregate = Aggregate {
                    contributions: contributions
                        .iter()
                        .map(|part: &Contribution| (part.weight, part.discount))
                        .collect(),
                    sent: Some(*sent).filter(|&sent| sent != Factors::Both),
                    release: release.as_ref().map(|release| release.material()),
                    robust: *robust,
                    rule,
                    own_rule: own_rule.as_ref().map(|rule| {
                        (rule.hash().into(), contributions.iter().map(|part| (part.rank, part.staleness)).collect())
                    }),
                    begins_anew: *begins_anew,
                    controls: controls.as_ref().map(variates),
                };
                // Stored results of an earlier form have no ranks of the products that were kept.
                let code = match rule {
                    ServerRule::MergeTruncatedProducts { .. } => "aggregate v7",
                    _ => "aggregate v6",
                };
                (code, false, text(&aggregate))
            }
            Self::Evaluate { groups, objective, .. } => {
                let hashes: Vec<_> = groups.iter().map(|rows: &std::sync::Arc<Rows>| &rows.hashes).collect();
                let rows = key_of("fedreplay evaluated rows v1", &hashes).0;
                ("evaluate v4", true, text(&Evaluate { rows, objective: *objective }))
            }
            Self::Benchmark { benchmark, .. } => ("examine v1", true, text(&Examine { exam: benchmark.key() })),
        }
    }
}

/// Returns the hashes of the rows of a batch.
fn row_hashes(batch: &[(Arc<Rows>, usize)]) -> Vec<Digest> {
    batch.iter().flat_map(|(rows, row)| rows.row_hashes(*row)).copied().collect()
}

fn train(training: &TrainingOrder, moments: Option<NodeId>, anchored: bool, ranked: bool) -> Train<'_> {
    // Rows enter by content and not by index: two clients with the same rows in the same steps share a result.
    let mut steps: Vec<Vec<Vec<Digest>>> = Vec::with_capacity(training.steps.len());
    for step in &training.steps {
        let mut hashes = Vec::with_capacity(step.len());
        for micro_batch in step {
            hashes.push(micro_batch.iter().flat_map(|&row| training.rows.row_hashes(row)).copied().collect());
        }
        steps.push(hashes);
    }
    Train {
        rows: key_of("fedreplay trained rows v1", &steps).0,
        hyper: &training.hyper,
        objective: training.objective,
        correction: training.correction,
        // Without dropout the seed changes nothing, so runs with different seeds may share the result.
        masks: (training.hyper.dropout > 0.0).then_some((training.seed, training.stream)),
        moments: training.keeps_moments.then_some(moments.is_some()),
        anchored,
        ranked,
    }
}

fn member(node: &Node) -> Member<'_> {
    let Node::Train { training, moments, anchor, rank, .. } = node else {
        unreachable!("a cohort's members are trainings")
    };
    Member { inputs: node.inputs().len(), training: train(training, *moments, anchor.is_some(), rank.is_some()) }
}

fn variates(controls: &Controls) -> Variates {
    let had_one = controls.changes.iter().map(|(_, before)| before.is_some()).collect();
    Variates { clients: controls.clients, had_one }
}

fn text(parameters: &impl Serialize) -> String {
    serde_json::to_string(parameters).expect("parameters have only text keys")
}
