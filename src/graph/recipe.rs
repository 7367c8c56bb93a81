//! What each kind of order is made from: the parameters that stand in its key and in the table `lineage`.
//!
//! A parameter that is large stands as its hash. All are written as JSON in the order of declaration, so that equal
//! parameters are equal texts, and that two texts show which parameter differs.

use fedreplay_sim::Seed;
use serde::Serialize;

use super::OrderId;
use super::order::{Contribution, Controls, Order, Training};
use crate::algorithm::ServerRule;
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
    /// Of the dropout masks, where there are any: seed and stream.
    masks: Option<(Seed, u64)>,
    /// Where the optimiser's moments are kept: whether there are some to go on from, the last of the inputs.
    moments: Option<bool>,
}

#[derive(Serialize)]
struct Member<'a> {
    /// How many of the inputs are this member's.
    inputs: usize,
    training: Train<'a>,
}

#[derive(Serialize)]
struct Aggregate<'a> {
    /// Weight and discount of each contribution; its update and its base are inputs.
    contributions: Vec<(f64, f64)>,
    release: Option<Material>,
    rule: &'a ServerRule,
    controls: Option<Variates>,
}

/// The clients' control variates among the inputs, after the contributions.
#[derive(Serialize)]
struct Variates {
    clients: u32,
    /// Whether each changed client had a variate before.
    had_one: Vec<bool>,
}

impl Order {
    /// The recipe of the order. `engine` stands for base model and numerics; `key` gives the keys of the orders that it
    /// depends on.
    pub fn recipe(&self, engine: Digest, key: &dyn Fn(OrderId) -> Key) -> Recipe {
        let (code, needs_engine, parameters) = self.parameters();
        Recipe {
            code: code.into(),
            engine: needs_engine.then_some(engine),
            parameters,
            inputs: self.inputs().into_iter().map(key).collect(),
        }
    }

    /// The name and version of its code, whether base model and numerics matter, and everything else but its inputs.
    fn parameters(&self) -> (&'static str, bool, String) {
        #[derive(Serialize)]
        struct Initial {
            layout: Digest,
            seed: Seed,
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
        struct Steps {
            steps: u32,
            learning_rate: f64,
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
            Self::Given { adapter } => {
                ("given v2", false, text(&Given { adapter: Digest(*adapter.hash().as_bytes()) }))
            }
            Self::Train { training, moments, .. } => ("train v4", true, text(&train(training, *moments))),
            Self::Moments { .. } => ("moments v1", false, text(&())),
            Self::Cohort(members) => ("cohort v2", true, text(&members.iter().map(member).collect::<Vec<_>>())),
            Self::Member { index, .. } => ("member v2", false, text(&Place { index: *index })),
            Self::Control(control) => {
                let steps = Steps { steps: control.steps, learning_rate: control.learning_rate };
                ("control v2", false, text(&steps))
            }
            Self::Aggregate { contributions, release, rule, controls, .. } => {
                let aggregate = Aggregate {
                    contributions: contributions
                        .iter()
                        .map(|part: &Contribution| (part.weight, part.discount))
                        .collect(),
                    release: release.as_ref().map(|release| release.material()),
                    rule,
                    controls: controls.as_ref().map(variates),
                };
                ("aggregate v5", false, text(&aggregate))
            }
            Self::Evaluate { groups, objective, .. } => {
                let hashes: Vec<_> = groups.iter().map(|rows: &std::sync::Arc<Rows>| &rows.hashes).collect();
                let rows = key_of("fedreplay evaluated rows v1", &hashes).0;
                ("evaluate v4", true, text(&Evaluate { rows, objective: *objective }))
            }
            Self::Examine { exam, .. } => ("examine v1", true, text(&Examine { exam: exam.key() })),
        }
    }
}

fn train(training: &Training, moments: Option<OrderId>) -> Train<'_> {
    let hashes =
        |rows: &Vec<usize>| rows.iter().flat_map(|&row| training.rows.row_hashes(row)).copied().collect::<Vec<_>>();
    let steps: Vec<Vec<Vec<Digest>>> = training.steps.iter().map(|step| step.iter().map(hashes).collect()).collect();
    Train {
        rows: key_of("fedreplay trained rows v1", &steps).0,
        hyper: &training.hyper,
        objective: training.objective,
        correction: training.correction,
        masks: (training.hyper.dropout > 0.0).then_some((training.seed, training.stream)),
        moments: training.keeps_moments.then_some(moments.is_some()),
    }
}

fn member(order: &Order) -> Member<'_> {
    let Order::Train { training, moments, .. } = order else { unreachable!("a cohort's members are trainings") };
    Member { inputs: order.inputs().len(), training: train(training, *moments) }
}

fn variates(controls: &Controls) -> Variates {
    let had_one = controls.changes.iter().map(|(_, before)| before.is_some()).collect();
    Variates { clients: controls.clients, had_one }
}

fn text(parameters: &impl Serialize) -> String {
    serde_json::to_string(parameters).expect("parameters have only text keys")
}
