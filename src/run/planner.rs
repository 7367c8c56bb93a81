//! The orders that a schedule asks for, round by round. Tasks that do not count give no order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use fedreplay_sim::{RoundRecord, Seed};

use super::client_states::ClientStates;
use super::local_training::Tasks;
use super::planned_round::{Evaluations, LocalBaseline, PlannedRound};
use super::scheduled_benchmarks;
use crate::data::Rows;
use crate::graph::{Contribution, Control, Controls, Executor, Order, OrderError, OrderId};
use crate::inputs::Inputs;
use crate::privacy::{Protection, Release};
use crate::scenario::{Discount, Loaded, Protocol, Scenario};
use crate::schedule::{SERVER, ScheduledRound};

/// Turns rounds into orders as they are scheduled.
pub struct Planner<'a> {
    loaded: &'a Loaded,
    inputs: &'a Inputs,
    executor: &'a Executor<'a>,
    /// Models by version, of all aggregators.
    versions: Vec<OrderId>,
    /// Weights of the updates in the models of edges since they were last merged.
    edge_weights: BTreeMap<u32, f64>,
    tasks: Tasks<'a>,
    /// What each client kept after its last counted task.
    states: ClientStates<'a>,
    /// Each client's own last model, where nothing is aggregated.
    own_models: BTreeMap<u32, OrderId>,
    /// Models that are kept because a round that is not known yet may start from them.
    kept: Option<VecDeque<OrderId>>,
    privacy: Option<&'a Protection>,
    /// Updates of each client that counted in releases.
    participations: BTreeMap<u32, u32>,
    /// Releases so far.
    releases: u64,
    /// How many trainings from one model are ordered as one, where company may change bits.
    keyed: Option<usize>,
    /// Whether what the ledger takes is asked for, once for each time.
    demands: bool,
    /// Orders that are in the rounds so far.
    in_rounds: usize,
}

impl<'a> Planner<'a> {
    /// A planner before the first round. `keeps_models` is for schedules that go on while orders are computed; `keyed` says
    /// how many trainings from one model are ordered as one, where company may change bits.
    pub fn new(
        loaded: &'a Loaded,
        inputs: &'a Inputs,
        privacy: Option<&'a Protection>,
        executor: &'a Executor<'a>,
        keeps_models: bool,
        keyed: Option<usize>,
    ) -> Self {
        let scenario = &loaded.scenario;
        let layout = inputs.trainer().layout();
        let seed = Seed(scenario.model.lora.init_seed.unwrap_or(scenario.seed));
        let initial = executor.add(match &inputs.initial {
            Some(adapter) => Order::Given { adapter: adapter.clone() },
            None => Order::Initial { layout, seed },
        });
        let kept = keeps_models.then(|| VecDeque::from([initial]));
        kept.iter().flatten().for_each(|&model| executor.demand(model));
        Self {
            loaded,
            inputs,
            executor,
            versions: vec![initial],
            edge_weights: BTreeMap::new(),
            tasks: Tasks { loaded, inputs },
            states: ClientStates::new(executor, keeps_models),
            own_models: BTreeMap::new(),
            kept,
            privacy,
            participations: BTreeMap::new(),
            releases: 0,
            keyed,
            demands: true,
            in_rounds: 0,
        }
    }

    /// The same planner, which asks for nothing: its orders are there to be looked at.
    pub fn without_demands(self) -> Self {
        Self { demands: false, ..self }
    }

    fn scenario(&self) -> &'a Scenario {
        &self.loaded.scenario
    }

    /// Evaluates the model before any training.
    pub fn before(&self) -> Evaluations {
        let before = self.evaluations(self.versions[0]);
        if self.demands {
            before.demand(self.executor);
        }
        before
    }

    /// The round of the server, from 1, by whose rules an aggregate is made.
    fn rules_round(&self, scheduled: &ScheduledRound) -> u32 {
        let round = scheduled.round.round;
        match self.scenario().server.protocol {
            Protocol::Hierarchical { .. } if scheduled.round.aggregator == SERVER => round + 1,
            Protocol::Hierarchical { edge_rounds, .. } => round / edge_rounds + 1,
            _ => scheduled.number,
        }
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
            let order = self.aggregate(scheduled, base, &mut updates);
            self.versions.push(self.executor.add(order));
        } else if self.privacy.is_some_and(Protection::covers_failed_rounds) {
            // The noise of a round in which nobody took part; every later task starts from the model with it.
            let release = self.release(vec![]);
            let (contributions, rule) = (vec![], self.tasks.method(self.rules_round(scheduled)).server);
            let order = Order::Aggregate { server: base, contributions, release, rule, controls: None };
            self.versions[round.base_version as usize] = self.executor.add(order);
        }
        let version = round.version.unwrap_or(round.base_version);
        let model = self.versions[version as usize];
        let due = self
            .server_round(scheduled)
            .is_some_and(|round| round.is_multiple_of(self.loaded.at(round).evaluation.every));
        let is_due = due || is_last;
        let is_alone = self.is_alone();
        let evaluations = (is_due && !is_alone).then(|| self.evaluations(model));
        let alone = if is_due && is_alone { self.evaluated_alone() } else { vec![] };
        let own = self.own_models.iter().filter(|_| is_alone).map(|(&client, &model)| (Some(client), model));
        let takers: Vec<_> = own.chain((!is_alone).then_some((None, model))).collect();
        let exams = scheduled_benchmarks::order(
            &self.inputs.exams,
            self.executor,
            &takers,
            self.server_round(scheduled),
            is_last,
        );
        let orders = self.in_rounds..self.executor.count();
        self.in_rounds = orders.end;
        let planned = PlannedRound {
            orders,
            updates,
            base,
            model,
            version,
            is_new: round.version.is_some(),
            evaluations,
            exams,
            alone,
            counts_alike: is_alone,
            epsilon_spent: self.privacy.map(|privacy| privacy.epsilon(scheduled.number)),
        };
        if self.demands {
            planned.demand(self.executor);
        }
        self.keep(model)?;
        Ok(planned)
    }

    /// Whether clients go on from their own models. A single one does so by plain averaging too, and its model is then
    /// the server's.
    pub fn is_alone(&self) -> bool {
        self.tasks.method(1).is_alone && self.inputs.clients.len() > 1
    }

    /// The order of a round's new model: the server's, or that of an edge, which averages plainly.
    fn aggregate(&mut self, scheduled: &ScheduledRound, base: OrderId, updates: &mut Vec<OrderId>) -> Order {
        let round = &scheduled.round;
        let contributions = match round.merged_versions.is_empty() {
            true => self.contributions(scheduled, base, updates),
            false => self.merge(round, base),
        };
        let release = self.release(round.counted_tasks.iter().map(|counted| counted.task.0).collect());
        let method = self.tasks.method(self.rules_round(scheduled));
        let rule = if round.aggregator == SERVER { method.server } else { method.server.of_edges() };
        let controls = method.client.correction.map(|_| self.controls(scheduled, updates));
        Order::Aggregate { server: base, contributions, release, rule, controls }
    }

    /// The private step of the next aggregate, over updates of these tasks.
    fn release(&mut self, tasks: Vec<u64>) -> Option<Arc<Release>> {
        self.releases += 1;
        self.privacy.map(|privacy| privacy.release(self.releases, tasks))
    }

    /// The weight of an update, bounded and capped as its privacy asks: one update of a client in each release, and no
    /// more in the run than were charged for.
    fn private_weight(&mut self, client: u32, weight: f64, counts_already: bool) -> f64 {
        let Some(privacy) = self.privacy else { return weight };
        let counted = self.participations.entry(client).or_default();
        if let Some(cap) = privacy.max_participations {
            if counts_already || *counted == cap {
                return 0.0;
            }
            *counted += 1;
        }
        privacy.weight_bound.map_or(weight, |bound| (weight / bound).min(1.0))
    }

    /// The variates of the clients that a synchronous round counts: each has one task in it.
    fn controls(&mut self, scheduled: &ScheduledRound, updates: &[OrderId]) -> Controls {
        let mut changes = Vec::with_capacity(updates.len());
        for (counted, &update) in scheduled.round.counted_tasks.iter().zip(updates) {
            let base = self.versions[counted.based_on_version as usize];
            let steps = self.tasks.step_count(counted.client);
            let learning_rate = self.tasks.hyper(self.tasks.round_of(scheduled.counted(counted.task))).learning_rate;
            let change = |before| Control { update, base, before, steps, learning_rate };
            changes.push(self.states.control(counted.client, change));
        }
        Controls { changes, clients: self.inputs.clients.len() as u32 }
    }

    /// The clients' own models, evaluated.
    fn evaluated_alone(&self) -> Vec<LocalBaseline> {
        self.own_models.iter().map(|(&client, &model)| self.evaluated_on_own(client, model)).collect()
    }

    /// The number of a round among those of the server, from 1; none for the round of an edge.
    pub fn server_round(&self, scheduled: &ScheduledRound) -> Option<u32> {
        match self.scenario().server.protocol {
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
        let mut clients = BTreeSet::new();
        let mut contributions = Vec::with_capacity(round.counted_tasks.len());
        let (mut trainings, mut weights) = (Vec::new(), Vec::new());
        for counted in &round.counted_tasks {
            let start = self.versions[counted.based_on_version as usize];
            let task = scheduled.counted(counted.task);
            let round = self.tasks.round_of(task);
            let training = self.tasks.training(counted.client, u64::from(task.client_task_number), round);
            weights.push(if self.is_alone() { 0.0 } else { self.tasks.weight(counted.client, &training, round) });
            let own = self.own_models.get(&counted.client).copied().unwrap_or(start);
            let order = self.states.train(own, training);
            if self.is_alone() {
                // Every client starts from another model: there is no company to be had.
                let update = self.executor.add(order);
                self.own_models.insert(counted.client, update);
                updates.push(update);
            } else {
                trainings.push(order);
            }
        }
        updates.extend(self.ordered(trainings));
        if self.tasks.keeps_moments() {
            let counted = round.counted_tasks.iter().zip(&*updates);
            counted.for_each(|(counted, &update)| self.states.keep_moments(counted.client, update));
        }
        for ((counted, weight), &update) in round.counted_tasks.iter().zip(weights).zip(&*updates) {
            let start = self.versions[counted.based_on_version as usize];
            let counts_already = !clients.insert(counted.client);
            let weight = self.private_weight(counted.client, weight, counts_already);
            let (mixes_models, discount) = self.discount(counted.staleness, self.rules_round(scheduled));
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
    fn discount(&self, staleness: u32, round: u32) -> (bool, f64) {
        let factor = |discount: &Discount| discount.factor(staleness);
        match &self.loaded.at(round).server.protocol {
            Protocol::Synchronous { .. } | Protocol::Hierarchical { .. } => (false, 1.0),
            Protocol::SemiSynchronous { discount, .. } | Protocol::Tiered { discount, .. } => (false, factor(discount)),
            Protocol::Buffered { discount, server_lr, .. } => (false, server_lr * factor(discount)),
            Protocol::Asynchronous { discount, mixing, .. } => (true, mixing * factor(discount)),
        }
    }

    /// Holds a model for rounds to come, and lets go of those that none can start from.
    fn keep(&mut self, model: OrderId) -> Result<(), OrderError> {
        let is_synchronous = matches!(self.scenario().server.protocol, Protocol::Synchronous { .. });
        let Some(kept) = &mut self.kept else { return Ok(()) };
        self.executor.demand(model);
        kept.push_back(model);
        // Only in synchronous rounds is it plain that every task starts from the latest model.
        while is_synchronous && kept.len() > 1 {
            self.executor.take(kept.pop_front().expect("there are two"))?;
        }
        Ok(())
    }

    fn evaluations(&self, model: OrderId) -> Evaluations {
        let objective = self.tasks.objective();
        let evaluate = |groups: Vec<Arc<Rows>>| self.executor.add(Order::Evaluate { model, groups, objective });
        let test = self.inputs.test.iter().map(|rows| evaluate(vec![rows.clone()])).next();
        let held_out = evaluate(self.inputs.clients.iter().map(|client| client.held_out.clone()).collect());
        Evaluations { model, test, held_out }
    }

    /// Every client trained alone, if the scenario asks for it.
    pub fn local_baselines(&self) -> Vec<LocalBaseline> {
        let clients = if self.scenario().evaluation.local_baseline { self.inputs.clients.len() } else { 0 };
        let locals: Vec<LocalBaseline> = (0..clients as u32).map(|client| self.local(client)).collect();
        if self.demands {
            locals.iter().for_each(|local| local.demand(self.executor));
        }
        locals
    }

    /// As many tasks one after another as the federation has rounds.
    fn local(&self, client: u32) -> LocalBaseline {
        let mut model = self.versions[0];
        let mut states = ClientStates::new(self.executor, false);
        for round in 1..=self.scenario().rounds {
            let training = self.tasks.alone(client, u64::from(round - 1), round);
            model = self.executor.add(states.train(model, training));
            if self.tasks.keeps_moments() {
                states.keep_moments(client, model);
            }
        }
        self.evaluated_on_own(client, model)
    }

    /// A client's model on the test rows and on its own held-out rows.
    fn evaluated_on_own(&self, client: u32, model: OrderId) -> LocalBaseline {
        let own = &self.inputs.clients[client as usize].held_out;
        let groups = self.inputs.test.iter().chain([own]).cloned().collect();
        let evaluation = self.executor.add(Order::Evaluate { model, groups, objective: self.tasks.objective() });
        LocalBaseline { client, model, evaluation }
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
