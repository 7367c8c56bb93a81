//! The orders that a schedule asks for, round by round. Tasks that do not count give no order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use fedreplay_sim::{RoundRecord, Seed, TaskRecord};

use super::inputs::Inputs;
use super::timeline::ScheduledRound;
use crate::dataset::round_rows;
use crate::lineage::{Contribution, Executor, Order, OrderError, OrderId, Rows, Training};
use crate::scenario::{self, Accumulation, Algorithm, Discount, LrSchedule, Optimizer, Protocol, Scenario, Weights};
use crate::training::{Accumulation as Weighing, AdamVariant, Hyper, Objective, Optimizer as Rule};

/// Number of the server among the aggregators.
const SERVER: u32 = 0;

/// The orders of one round, all demanded, once for each time that the ledger takes their values.
pub struct PlannedRound {
    /// Training of each counted task, in aggregation order.
    pub updates: Vec<OrderId>,
    /// The model that the round replaced.
    pub base: OrderId,
    /// The aggregator's model after the round.
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

/// Turns rounds into orders as they are scheduled.
pub struct Planner<'a> {
    scenario: &'a Scenario,
    inputs: &'a Inputs,
    executor: &'a Executor<'a>,
    /// Models by version, of all aggregators.
    versions: Vec<OrderId>,
    /// Weights of the updates in the models of edges since they were last merged.
    edge_weights: BTreeMap<u32, f64>,
    /// Models that are kept because a round that is not known yet may start from them.
    kept: Option<VecDeque<OrderId>>,
    /// How many trainings from one model are ordered as one, where company may change bits.
    keyed: Option<usize>,
}

impl<'a> Planner<'a> {
    /// A planner before the first round. `keeps_models` is for schedules that go on while orders are computed; `keyed` says
    /// how many trainings from one model are ordered as one, where company may change bits.
    pub fn new(
        scenario: &'a Scenario,
        inputs: &'a Inputs,
        executor: &'a Executor<'a>,
        keeps_models: bool,
        keyed: Option<usize>,
    ) -> Self {
        let initial = match &inputs.adapter {
            Some(adapter) => Order::Given(adapter.clone()),
            None => Order::Initial { layout: inputs.trainer.layout(), seed: Seed(scenario.seed) },
        };
        let initial = executor.add(initial);
        let kept = keeps_models.then(|| VecDeque::from([initial]));
        kept.iter().flatten().for_each(|&model| executor.demand(model));
        Self { scenario, inputs, executor, versions: vec![initial], edge_weights: BTreeMap::new(), kept, keyed }
    }

    /// Evaluates the model before any training.
    pub fn before(&self) -> Evaluations {
        self.evaluations(self.versions[0])
    }

    /// Adds the orders of a round and demands them.
    ///
    /// # Errors
    /// If a model that is not needed any more cannot be let go because an order failed.
    pub fn round(&mut self, scheduled: &ScheduledRound, is_last: bool) -> Result<PlannedRound, OrderError> {
        let round = &scheduled.round;
        let base = self.versions[round.base_version as usize];
        let mut updates = Vec::with_capacity(round.counted_tasks.len());
        if let Some(version) = round.version {
            assert_eq!(version as usize, self.versions.len(), "versions are numbered in the order of their making");
            let contributions = match round.merged_versions.is_empty() {
                true => self.contributions(scheduled, base, &mut updates),
                false => self.merge(round, base),
            };
            self.versions.push(self.executor.add(Order::Aggregate { server: base, contributions }));
        }
        let version = round.version.unwrap_or(round.base_version);
        let model = self.versions[version as usize];
        updates.iter().chain([&base, &model]).for_each(|&order| self.executor.demand(order));
        self.keep(model)?;
        let due =
            self.server_round(scheduled).is_some_and(|number| number.is_multiple_of(self.scenario.evaluation.every));
        let evaluations = (due || is_last).then(|| self.evaluations(model));
        Ok(PlannedRound { updates, base, model, version, is_new: round.version.is_some(), evaluations })
    }

    /// The number of a round among those of the server, from 1; none for the round of an edge.
    pub fn server_round(&self, scheduled: &ScheduledRound) -> Option<u32> {
        match self.scenario.server.protocol {
            Protocol::Hierarchical { .. } if scheduled.round.aggregator == SERVER => Some(scheduled.round.round + 1),
            Protocol::Hierarchical { .. } => None,
            _ => Some(scheduled.number),
        }
    }

    /// The trainings that a round counts, and what each weighs.
    fn contributions(
        &mut self,
        scheduled: &ScheduledRound,
        server: OrderId,
        updates: &mut Vec<OrderId>,
    ) -> Vec<Contribution> {
        let round = &scheduled.round;
        let mut contributions = Vec::with_capacity(round.counted_tasks.len());
        let trainings = round.counted_tasks.iter().map(|counted| {
            let base = self.versions[counted.based_on_version as usize];
            let task = scheduled.counted(counted.task);
            let training = self.training(counted.client, u64::from(task.client_task_number), self.lr_round(task));
            Order::Train { base, training }
        });
        updates.extend(self.ordered(trainings.collect()));
        for (counted, &update) in round.counted_tasks.iter().zip(&*updates) {
            let start = self.versions[counted.based_on_version as usize];
            let weight = self.weight(counted.client);
            let (mixes_models, discount) = self.discount(counted.staleness);
            let base = if mixes_models { server } else { start };
            contributions.push(Contribution { update, base, weight, discount });
            if round.aggregator != SERVER {
                *self.edge_weights.entry(round.aggregator).or_default() += weight;
            }
        }
        contributions
    }

    /// Adds trainings to the graph, one by one or in the groups that are part of their keys.
    fn ordered(&self, trainings: Vec<Order>) -> Vec<OrderId> {
        let Some(most) = self.keyed else {
            return trainings.into_iter().map(|training| self.executor.add(training)).collect();
        };
        let mut orders = vec![OrderId::end(); trainings.len()];
        for group in groups(&trainings, most) {
            let cohort = group.iter().map(|&place| trainings[place].clone()).collect();
            let cohort = self.executor.add(Order::Cohort(cohort));
            for (index, &place) in group.iter().enumerate() {
                let Order::Train { training, .. } = &trainings[place] else { unreachable!("they are trainings") };
                let client = training.client;
                orders[place] = self.executor.add(Order::Member { cohort, index, client });
            }
        }
        orders
    }

    /// The models of edges as changes of the server's model, weighted by the data behind them.
    fn merge(&mut self, round: &RoundRecord, base: OrderId) -> Vec<Contribution> {
        // Versions come ascending by edge, and an edge that sends a model has counted updates.
        let weights = std::mem::take(&mut self.edge_weights);
        assert_eq!(weights.len(), round.merged_versions.len(), "each edge with updates sends one model");
        let one = |(&version, weight): (&u32, f64)| Contribution {
            update: self.versions[version as usize],
            base,
            weight,
            discount: 1.0,
        };
        round.merged_versions.iter().zip(weights.into_values()).map(one).collect()
    }

    /// Whether the update's model is mixed into the server's, instead of its change being added; and the factor for an
    /// update of this staleness.
    fn discount(&self, staleness: u32) -> (bool, f64) {
        let factor = |discount: &Discount| discount.factor(staleness);
        match &self.scenario.server.protocol {
            Protocol::Synchronous { .. } | Protocol::Hierarchical { .. } => (false, 1.0),
            Protocol::SemiSynchronous { discount, .. } | Protocol::Tiered { discount, .. } => (false, factor(discount)),
            Protocol::Buffered { discount, server_lr, .. } => (false, server_lr * factor(discount)),
            Protocol::Asynchronous { discount, mixing, .. } => (true, mixing * factor(discount)),
        }
    }

    /// The round of the server, from 1 to `rounds`, whose learning rate a task trains with.
    fn lr_round(&self, task: &TaskRecord) -> u32 {
        let round = match self.scenario.server.protocol {
            Protocol::Tiered { .. } => task.based_on_version,
            Protocol::Hierarchical { edge_rounds, .. } => task.round / edge_rounds,
            _ => task.round,
        };
        (round + 1).min(self.scenario.rounds)
    }

    /// Holds a model for rounds to come, and lets go of those that none can start from.
    fn keep(&mut self, model: OrderId) -> Result<(), OrderError> {
        let Some(kept) = &mut self.kept else { return Ok(()) };
        self.executor.demand(model);
        kept.push_back(model);
        // Only in synchronous rounds is it plain that every task starts from the latest model.
        while matches!(self.scenario.server.protocol, Protocol::Synchronous { .. }) && kept.len() > 1 {
            self.executor.take(kept.pop_front().expect("there are two"))?;
        }
        Ok(())
    }

    fn evaluations(&self, model: OrderId) -> Evaluations {
        let objective = self.objective();
        let evaluate = |groups: Vec<Arc<Rows>>| self.executor.add(Order::Evaluate { model, groups, objective });
        let test = self.inputs.test.iter().map(|rows| evaluate(vec![rows.clone()])).next();
        let held_out = evaluate(self.inputs.clients.iter().map(|client| client.held_out.clone()).collect());
        [Some(model), test, Some(held_out)].into_iter().flatten().for_each(|order| self.executor.demand(order));
        Evaluations { model, test, held_out }
    }

    /// Every client trained alone, if the scenario asks for it.
    pub fn local_baselines(&self) -> Vec<LocalBaseline> {
        let clients = if self.scenario.evaluation.local_baseline { self.inputs.clients.len() } else { 0 };
        (0..clients as u32).map(|client| self.local(client)).collect()
    }

    /// As many tasks one after another as the federation has rounds.
    fn local(&self, client: u32) -> LocalBaseline {
        let mut model = self.versions[0];
        for round in 1..=self.scenario.rounds {
            let training = self.training(client, u64::from(round - 1), round);
            model = self.executor.add(Order::Train { base: model, training });
        }
        let own = &self.inputs.clients[client as usize].held_out;
        let groups = self.inputs.test.iter().chain([own]).cloned().collect();
        let evaluation = self.executor.add(Order::Evaluate { model, groups, objective: self.objective() });
        [model, evaluation].into_iter().for_each(|order| self.executor.demand(order));
        LocalBaseline { client, model, evaluation }
    }

    fn training(&self, client: u32, client_task: u64, round: u32) -> Training {
        let training = &self.scenario.training;
        let rows = &self.inputs.clients[client as usize].train;
        let (batch_size, accumulation) = (training.batch_size as usize, training.gradient_accumulation as usize);
        let wanted = training.local_steps as usize * accumulation * batch_size;
        let seed = Seed(self.scenario.seed);
        let picks = round_rows(seed, u64::from(client), client_task, rows.count(), wanted);
        let hyper = self.hyper(round);
        let stream = u64::from(client) << 32 | client_task;
        let (rows, objective) = (rows.clone(), self.objective());
        Training { client, rows, picks, batch_size, accumulation, hyper, objective, seed, stream }
    }

    fn objective(&self) -> Objective {
        match self.scenario.training.objective {
            scenario::Objective::Sft => Objective::Sft,
            scenario::Objective::Dpo { beta } => Objective::Dpo { beta },
        }
    }

    fn hyper(&self, round: u32) -> Hyper {
        let training = &self.scenario.training;
        Hyper {
            optimizer: rule(training.optimizer),
            learning_rate: learning_rate(training.lr, training.lr_schedule, round - 1, self.scenario.rounds),
            clip_norm: training.max_grad_norm,
            accumulation: match training.accumulation {
                Accumulation::PerToken => Weighing::PerToken,
                Accumulation::PerMicroBatch => Weighing::PerMicroBatch,
            },
            dropout: self.scenario.model.lora.dropout,
            ..Hyper::default()
        }
    }

    fn weight(&self, client: u32) -> f64 {
        let Algorithm::FedAvg { weights } = self.scenario.algorithm;
        match weights {
            Weights::Samples => self.inputs.clients[client as usize].train.count() as f64,
            Weights::Uniform => 1.0,
        }
    }
}

/// The places of trainings that start from one model, in plan order, at most so many together.
fn groups(trainings: &[Order], most: usize) -> Vec<Vec<usize>> {
    let mut by_base: BTreeMap<OrderId, Vec<usize>> = BTreeMap::new();
    for (place, training) in trainings.iter().enumerate() {
        by_base.entry(training.inputs()[0]).or_default().push(place);
    }
    by_base.values().flat_map(|places| places.chunks(most).map(<[usize]>::to_vec)).collect()
}

/// The scenario's optimiser as the training engine names it.
fn rule(optimizer: Optimizer) -> Rule {
    match optimizer {
        Optimizer::AdamW { beta1, beta2, epsilon, weight_decay, variant } => {
            let variant = match variant {
                scenario::AdamVariant::PyTorch => AdamVariant::PyTorch,
                scenario::AdamVariant::Transformers => AdamVariant::Transformers,
            };
            Rule::AdamW { beta1, beta2, eps: epsilon, weight_decay, variant }
        }
        Optimizer::Sgd { momentum } => Rule::Sgd { momentum },
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
