//! The orders that a schedule asks for. Tasks that do not count give no order.

use std::sync::Arc;

use fedreplay_sim::Seed;

use super::inputs::Inputs;
use super::schedule::ScheduledRound;
use crate::dataset::round_rows;
use crate::lineage::{Contribution, Executor, Order, OrderId, Rows, Training};
use crate::scenario::{Algorithm, LrSchedule, Optimizer, Scenario, Weights};
use crate::training::{AdamVariant, Hyper, Optimizer as Rule};

/// The orders of a whole run, all demanded, in the order in which the ledger needs them.
pub struct Plan {
    /// The adapter before any training.
    pub initial: OrderId,
    /// Evaluations of it.
    pub before: Evaluations,
    pub rounds: Vec<PlannedRound>,
    /// Every client trained alone, if the scenario asks for it.
    pub local: Vec<LocalBaseline>,
}

/// The orders of one round.
pub struct PlannedRound {
    /// Training of each counted task, in aggregation order.
    pub updates: Vec<OrderId>,
    /// Server model after the round.
    pub model: OrderId,
    /// Its number.
    pub version: u32,
    /// Whether the round made that model.
    pub is_new: bool,
    pub evaluations: Option<Evaluations>,
}

/// The evaluations of one server model.
pub struct Evaluations {
    pub model: OrderId,
    pub test: Option<OrderId>,
    pub held_out: OrderId,
}

/// A client trained alone from the initial adapter.
pub struct LocalBaseline {
    pub client: u32,
    pub model: OrderId,
    /// Losses on the test rows (if any), then on the client's held-out rows.
    pub evaluation: OrderId,
}

impl Plan {
    /// Adds all orders of a run to `executor` and demands them.
    pub fn lay(scenario: &Scenario, inputs: &Inputs, schedule: &[ScheduledRound], executor: &Executor) -> Self {
        let layout = inputs.trainer.layout();
        let initial = executor.add(Order::Initial { layout, seed: Seed(scenario.seed) });
        let planner = Planner { scenario, inputs, executor, initial, rounds: schedule.len() as u32 };
        let before = planner.evaluations(initial);
        let mut versions = vec![initial];
        let rounds = schedule.iter().map(|scheduled| planner.round(scheduled, &mut versions)).collect();
        let clients = if scenario.evaluation.local_baseline { inputs.clients.len() } else { 0 };
        let local = (0..clients as u32).map(|client| planner.local(client)).collect();
        let plan = Self { initial, before, rounds, local };
        plan.orders().for_each(|order| executor.demand(order));
        plan
    }

    /// Every order whose value the ledger takes, once for each time that it takes it.
    fn orders(&self) -> impl Iterator<Item = OrderId> {
        let of = |evaluations: &Evaluations| {
            [Some(evaluations.model), evaluations.test, Some(evaluations.held_out)].into_iter().flatten()
        };
        let rounds = self.rounds.iter().flat_map(move |round| {
            let evaluations = round.evaluations.iter().flat_map(of);
            round.updates.iter().copied().chain([round.model]).chain(evaluations)
        });
        let local = self.local.iter().flat_map(|local| [local.model, local.evaluation]);
        std::iter::once(self.initial).chain(of(&self.before)).chain(rounds).chain(local)
    }
}

struct Planner<'a> {
    scenario: &'a Scenario,
    inputs: &'a Inputs,
    executor: &'a Executor<'a>,
    initial: OrderId,
    rounds: u32,
}

impl Planner<'_> {
    fn round(&self, scheduled: &ScheduledRound, versions: &mut Vec<OrderId>) -> PlannedRound {
        let round = &scheduled.round;
        let mut updates = Vec::with_capacity(round.counted_tasks.len());
        let mut contributions = Vec::with_capacity(round.counted_tasks.len());
        for counted in &round.counted_tasks {
            let base = versions[counted.based_on_version as usize];
            let number = scheduled.client_task_number(counted.task);
            let training = self.training(counted.client, u64::from(number), scheduled.number);
            let update = self.executor.add(Order::Train { base, training });
            updates.push(update);
            contributions.push(Contribution { update, base, weight: self.weight(counted.client) });
        }
        if let Some(version) = round.version {
            assert_eq!(version as usize, versions.len(), "versions are numbered in the order of their making");
            let server = versions[round.base_version as usize];
            versions.push(self.executor.add(Order::Aggregate { server, contributions }));
        }
        let version = versions.len() as u32 - 1;
        let model = versions[version as usize];
        let due = scheduled.number.is_multiple_of(self.scenario.evaluation.every);
        let evaluations = (due || scheduled.number == self.rounds).then(|| self.evaluations(model));
        PlannedRound { updates, model, version, is_new: round.version.is_some(), evaluations }
    }

    fn evaluations(&self, model: OrderId) -> Evaluations {
        let evaluate = |groups: Vec<Arc<Rows>>| self.executor.add(Order::Evaluate { model, groups });
        let test = self.inputs.test.iter().map(|rows| evaluate(vec![rows.clone()])).next();
        let held_out = evaluate(self.inputs.clients.iter().map(|client| client.held_out.clone()).collect());
        Evaluations { model, test, held_out }
    }

    /// As many tasks one after another as the federation has rounds.
    fn local(&self, client: u32) -> LocalBaseline {
        let mut model = self.initial;
        for round in 1..=self.scenario.rounds {
            let training = self.training(client, u64::from(round - 1), round);
            model = self.executor.add(Order::Train { base: model, training });
        }
        let own = &self.inputs.clients[client as usize].held_out;
        let groups = self.inputs.test.iter().chain([own]).cloned().collect();
        let evaluation = self.executor.add(Order::Evaluate { model, groups });
        LocalBaseline { client, model, evaluation }
    }

    fn training(&self, client: u32, client_task: u64, round: u32) -> Training {
        let training = &self.scenario.training;
        let rows = &self.inputs.clients[client as usize].train;
        let (batch_size, accumulation) = (training.batch_size as usize, training.gradient_accumulation as usize);
        let wanted = training.local_steps as usize * accumulation * batch_size;
        let seed = Seed(self.scenario.seed);
        let picks = round_rows(seed, u64::from(client), client_task, rows.samples.len(), wanted);
        let hyper = self.hyper(round);
        let stream = u64::from(client) << 32 | client_task;
        Training { client, rows: rows.clone(), picks, batch_size, accumulation, hyper, seed, stream }
    }

    fn hyper(&self, round: u32) -> Hyper {
        let training = &self.scenario.training;
        let Optimizer::AdamW { beta1, beta2, epsilon, weight_decay } = training.optimizer;
        Hyper {
            optimizer: Rule::AdamW { beta1, beta2, eps: epsilon, weight_decay, variant: AdamVariant::PyTorch },
            learning_rate: learning_rate(training.lr, training.lr_schedule, round - 1, self.scenario.rounds),
            clip_norm: training.max_grad_norm,
            dropout: self.scenario.model.lora.dropout,
            ..Hyper::default()
        }
    }

    fn weight(&self, client: u32) -> f64 {
        let Algorithm::FedAvg { weights } = self.scenario.algorithm;
        match weights {
            Weights::Samples => self.inputs.clients[client as usize].train.samples.len() as f64,
            Weights::Uniform => 1.0,
        }
    }
}

/// The learning rate of round `t` (from 0) of `rounds`.
fn learning_rate(lr: f64, schedule: LrSchedule, t: u32, rounds: u32) -> f64 {
    match schedule {
        LrSchedule::Constant => lr,
        LrSchedule::Cosine { final_lr } => {
            // The pure-Rust cosine gives the same bits on every platform, and the rate is in every key.
            let phase = std::f64::consts::PI * f64::from(t) / f64::from(rounds);
            final_lr + 0.5 * (lr - final_lr) * (1.0 + libm::cos(phase))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cosine_schedule_is_fedllm_benchs() {
        let schedule = LrSchedule::Cosine { final_lr: 1e-6 };
        for (t, expected) in [(0, 2e-5), (1, 1.99988e-5), (100, 1.05e-5), (199, 1.00117e-6)] {
            let found = learning_rate(2e-5, schedule, t, 200);
            assert!((found / expected - 1.0).abs() < 1e-5, "round {t}: {found}");
        }
        assert_eq!(learning_rate(0.5, LrSchedule::Constant, 7, 10), 0.5);
    }
}
