//! Planner: turns the rounds of a schedule into nodes of the computation graph.
//!
//! Only tasks that the schedule counts become nodes, so an update that is dropped, late or cancelled is never trained.
//! Nodes are numbered as they are added and the numbers are in the ledger, so the sequence of `add` calls is part of the
//! result: another sequence gives other digests.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use fedreplay_sim::{RoundRecord, Seed};

use super::attacks::Attackers;
use super::client_states::ClientStates;
use super::local_training::{Tasks, is_alone};
use super::planned_round::{Evaluations, OwnModel, PlannedRound};
use super::scheduled_benchmarks;
use crate::adapter::Factors;
use crate::algorithm::{RobustAggregation, ServerRule};
use crate::compression::Compression;
use crate::data::Rows;
use crate::graph::{Compress, Contribution, Control, Controls, Executor, GraphError, Node, NodeId};
use crate::inputs::Inputs;
use crate::ledger::EvalSubject;
use crate::privacy::{PrivacyPlan, Release};
use crate::scenario::{Protocol, Scenario, ScenarioSpec};
use crate::schedule::{SERVER, ScheduledRound};

/// Planner of a run: adds the nodes of each round to the executor as the round is scheduled.
pub struct Planner<'a> {
    scenario: &'a Scenario,
    inputs: &'a Inputs,
    executor: &'a Executor<'a>,
    /// Models of all aggregators, by version.
    versions: Vec<NodeId>,
    /// Models as clients receive them, by the server's, where they are encoded.
    broadcasts: BTreeMap<NodeId, NodeId>,
    /// Sum of the update weights in each edge's model since its last merge, by edge.
    edge_weights: BTreeMap<u32, f64>,
    tasks: Tasks<'a>,
    attackers: Attackers<'a>,
    /// State of each client after its last counted task.
    states: ClientStates<'a>,
    /// Latest model of each client, for algorithms without aggregation.
    own_models: BTreeMap<u32, NodeId>,
    /// Models held in memory because a round that is not scheduled yet may start from them.
    held: Option<VecDeque<NodeId>>,
    privacy: Option<&'a PrivacyPlan>,
    /// Number of updates per client that counted in private releases.
    participations: BTreeMap<u32, u32>,
    /// Number of private releases so far.
    releases: u64,
    /// Rule of the last step of the server.
    last_rule: Option<ServerRule>,
    /// Number of trainings from one model that form one node, where training is not batch-invariant.
    keyed: Option<usize>,
    /// Whether the planner demands every value that the ledger records, once per use.
    demands: bool,
    /// Number of nodes that belong to the rounds so far.
    in_rounds: usize,
    /// Model of the last round, with its version.
    last_model: (NodeId, u32),
}

impl<'a> Planner<'a> {
    /// Creates a planner before the first round. `holds_models` is for schedules that continue while nodes are computed;
    /// `keyed` is the number of trainings from one model that form one node, where training is not batch-invariant.
    pub fn new(
        scenario: &'a Scenario,
        inputs: &'a Inputs,
        privacy: Option<&'a PrivacyPlan>,
        executor: &'a Executor<'a>,
        holds_models: bool,
        keyed: Option<usize>,
    ) -> Self {
        let spec = &scenario.scenario;
        let layout = inputs.trainer().layout();
        let tasks = Tasks { scenario, inputs };
        let initial = executor.add(match (&inputs.initial, tasks.first_step()) {
            (Some(adapter), _) => Node::Given { adapter: adapter.clone() },
            (None, Some(first_step)) => Node::FirstStep(first_step),
            (None, None) => Node::Initial { layout, seed: tasks.init_seed() },
        });
        let mut held = None;
        if holds_models {
            executor.demand(initial);
            held = Some(VecDeque::from([initial]));
        }
        Self {
            scenario,
            inputs,
            executor,
            versions: vec![initial],
            broadcasts: BTreeMap::new(),
            edge_weights: BTreeMap::new(),
            tasks,
            attackers: Attackers { scenario: spec, clients: &inputs.facts.attackers },
            states: ClientStates::new(executor, holds_models, spec.kept_factors()),
            own_models: BTreeMap::new(),
            held,
            privacy,
            participations: BTreeMap::new(),
            releases: 0,
            last_rule: None,
            keyed,
            demands: true,
            in_rounds: 0,
            last_model: (initial, 0),
        }
    }

    /// Returns the same planner without demands: its nodes are added to the graph and none is computed.
    pub fn without_demands(self) -> Self {
        Self { demands: false, ..self }
    }

    fn spec(&self) -> &'a ScenarioSpec {
        &self.scenario.scenario
    }

    /// Adds the evaluation of the model before any training.
    pub fn before(&self) -> Evaluations {
        let before = self.evaluations(self.versions[0]);
        if self.demands {
            before.demand(self.executor);
        }
        before
    }

    /// Returns the server round (from 1) whose settings apply to the aggregate of a scheduled round.
    fn rules_round(&self, scheduled: &ScheduledRound) -> u32 {
        let round = scheduled.round.round;
        match self.spec().server.protocol {
            Protocol::Hierarchical { .. } if scheduled.round.aggregator == SERVER => round + 1,
            Protocol::Hierarchical { edge_rounds, .. } => round / edge_rounds + 1,
            _ => scheduled.number,
        }
    }

    /// Adds the nodes of a round and demands them.
    ///
    /// # Errors
    /// If a model that is released here, because no later round starts from it, could not be computed.
    pub fn round(&mut self, scheduled: &ScheduledRound, is_last: bool) -> Result<PlannedRound, GraphError> {
        let round = &scheduled.round;
        let base = self.versions[round.base_version as usize];
        let updates = self.aggregate_round(scheduled, base);
        let counted = round.counted_tasks.iter();
        let ranks = counted.filter_map(|counted| self.states.ranks_around_last_task(counted.client)).collect();
        let version = round.version.unwrap_or(round.base_version);
        let model = self.versions[version as usize];
        self.last_model = (model, version);
        let is_due = is_last || self.is_evaluation_due(scheduled);
        let server_round = self.server_round(scheduled);
        let has_own_models = self.has_own_models();
        let has_server_model = !self.is_alone() && self.spec().has_server_model();
        let (own_subject, of_version) = match self.is_alone() {
            true => (EvalSubject::Local, 0),
            false => (EvalSubject::Personal, version),
        };
        let is_asked =
            !has_server_model && self.inputs.benchmarks.iter().any(|benchmark| benchmark.is_due(server_round, is_last));
        let own = if has_own_models && (is_due || is_asked) { self.own_models(model) } else { vec![] };
        let mut evaluations = None;
        let mut alone = vec![];
        if is_due && has_own_models {
            let own = own.iter();
            alone = own.map(|&(client, model)| self.evaluated_on_own(client, model, own_subject, of_version)).collect();
        }
        if is_due && has_server_model {
            evaluations = Some(self.evaluations(model));
        }
        let subject = if has_server_model { EvalSubject::Global } else { own_subject };
        let subjects: Vec<(Option<u32>, NodeId)> = match has_server_model {
            true => vec![(None, model)],
            false => own.into_iter().map(|(client, model)| (Some(client), model)).collect(),
        };
        let benchmarks = scheduled_benchmarks::add(
            &self.inputs.benchmarks,
            self.executor,
            subject,
            &subjects,
            server_round,
            is_last,
        );
        // Everything that was added since the round before belongs to this round.
        let nodes = self.in_rounds..self.executor.count();
        self.in_rounds = nodes.end;
        let planned = PlannedRound {
            nodes,
            updates,
            ranks,
            base,
            model,
            version,
            is_new: round.version.is_some(),
            evaluations,
            benchmarks,
            alone,
            has_server_model,
            counts_alike: self.is_alone(),
            epsilon_spent: self.privacy.map(|privacy| privacy.epsilon(scheduled.number)),
        };
        if self.demands {
            planned.demand(self.executor);
        }
        self.hold(model)?;
        Ok(planned)
    }

    /// Adds the model that a round leads to, if there is a new one, and returns the trainings of the tasks that it counts.
    fn aggregate_round(&mut self, scheduled: &ScheduledRound, base: NodeId) -> Vec<NodeId> {
        let round = &scheduled.round;
        let mut updates = Vec::with_capacity(round.counted_tasks.len());
        if let Some(version) = round.version {
            assert_eq!(version as usize, self.versions.len(), "versions are numbered in the order of their making");
            let aggregate = self.aggregate(scheduled, base, &mut updates);
            self.versions.push(self.executor.add(aggregate));
        } else if self.privacy.is_some_and(PrivacyPlan::covers_failed_rounds) {
            // A failed round still releases noise: otherwise the missing noise would reveal that nobody took part. The
            // noised model takes the place of its base version, so that every later task starts from it.
            let release = self.release(vec![]);
            let rule = self.tasks.method(self.rules_round(scheduled)).server;
            let begins_anew = self.begins_anew(rule);
            let sent = self.sent(scheduled);
            let aggregate = Node::Aggregate {
                server: base,
                contributions: vec![],
                sent,
                release,
                robust: None,
                own_rule: None,
                root: None,
                rule,
                begins_anew,
                controls: None,
            };
            self.versions[round.base_version as usize] = self.executor.add(aggregate);
        }
        updates
    }

    /// Whether the model of a round is evaluated by the interval that the scenario sets.
    fn is_evaluation_due(&self, scheduled: &ScheduledRound) -> bool {
        match self.server_round(scheduled) {
            Some(round) => round.is_multiple_of(self.scenario.at(round).evaluation.every),
            None => false,
        }
    }

    /// As [`is_alone`].
    pub fn is_alone(&self) -> bool {
        is_alone(self.scenario, self.inputs.clients.len())
    }

    /// Builds the node of a round's new model: the server's, or that of an edge, which uses the plain mean. The trainings
    /// of the counted tasks are added to `updates`.
    fn aggregate(&mut self, scheduled: &ScheduledRound, base: NodeId, updates: &mut Vec<NodeId>) -> Node {
        let round = &scheduled.round;
        // A round either counts updates of clients or merges models of edges.
        let contributions = match round.merged_versions.is_empty() {
            true => self.contributions(scheduled, base, updates),
            false => self.merge(round, base),
        };
        let release = self.release(round.counted_tasks.iter().map(|counted| counted.task.0).collect());
        let method = self.tasks.method(self.rules_round(scheduled));
        let controls = method.client.correction.map(|_| self.controls(scheduled, updates));
        let sent = self.sent(scheduled);
        let robust = self.robust(scheduled);
        let root = self.root(scheduled, base);
        // A tier's round updates the model of the server, by the server's rule. An edge has a model of its own.
        if self.is_edge_round(round) {
            let rule = method.server.of_edges();
            return Node::Aggregate {
                server: base,
                contributions,
                sent,
                release,
                robust,
                own_rule: None,
                root,
                rule,
                begins_anew: false,
                controls,
            };
        }
        let rule = method.server.of_version(round.version.unwrap_or(round.base_version));
        let begins_anew = self.begins_anew(rule);
        Node::Aggregate {
            server: base,
            contributions,
            sent,
            release,
            robust,
            own_rule: self.inputs.own_rule.clone(),
            root,
            rule,
            begins_anew,
            controls,
        }
    }

    /// Returns the factors that clients send in a round.
    fn sent(&self, scheduled: &ScheduledRound) -> Factors {
        self.spec().sent_factors(self.rules_round(scheduled))
    }

    /// Returns the robust rule of a round: it combines updates of clients, and not the models of edges, which are merged by
    /// the mean.
    fn robust(&self, scheduled: &ScheduledRound) -> Option<RobustAggregation> {
        if !scheduled.round.merged_versions.is_empty() {
            return None;
        }
        RobustAggregation::new(&self.scenario.at(self.rules_round(scheduled)).server.aggregation)
    }

    /// Adds the server's own training from its model, if the rule of the round reads one.
    fn root(&self, scheduled: &ScheduledRound, base: NodeId) -> Option<NodeId> {
        let training = self.tasks.of_server(self.rules_round(scheduled))?;
        Some(self.executor.add(self.states.train(base, training)))
    }

    /// Takes note of the rule of the server's next step. Returns whether the moments that the server has are those of
    /// another rule, as after a change of the method, so that this one must not continue them.
    fn begins_anew(&mut self, rule: ServerRule) -> bool {
        self.last_rule.replace(rule).is_some_and(|before| !rule.continues(before))
    }

    /// Returns the private release of the next aggregate, over the updates of these tasks; `None` without privacy.
    fn release(&mut self, tasks: Vec<u64>) -> Option<Arc<Release>> {
        self.releases += 1;
        self.privacy.map(|privacy| privacy.release(self.releases, tasks))
    }

    /// Returns the weight of an update, bounded and capped as the privacy analysis requires: at most one update of a client
    /// per release, and no more in the run than are charged.
    fn private_weight(&mut self, client: u32, weight: f64, counts_already: bool) -> f64 {
        let Some(privacy) = self.privacy else { return weight };
        // An update beyond the cap stays in the plan with weight 0, so the schedule does not depend on the cap.
        let counted = self.participations.entry(client).or_default();
        if let Some(cap) = privacy.max_participations {
            if counts_already || *counted == cap {
                return 0.0;
            }
            *counted += 1;
        }
        // w = min(n / bound, 1): the sensitivity of the weighted sum is the clipping norm, whatever the client's data.
        match privacy.weight_bound {
            Some(bound) => (weight / bound).min(1.0),
            None => weight,
        }
    }

    /// Adds the control variates of the clients that a synchronous round counts (SCAFFOLD); each has one task in it.
    fn controls(&mut self, scheduled: &ScheduledRound, updates: &[NodeId]) -> Controls {
        let mut changes = Vec::with_capacity(updates.len());
        for (counted, &update) in scheduled.round.counted_tasks.iter().zip(updates) {
            let base = self.versions[counted.based_on_version as usize];
            let steps = self.tasks.step_count(counted.client);
            let learning_rate = self.tasks.hyper(self.tasks.round_of(scheduled.counted(counted.task))).learning_rate;
            changes.push(self.states.control(counted.client, |before| Control {
                update,
                base,
                before,
                steps,
                learning_rate,
            }));
        }
        Controls { changes, clients: self.inputs.clients.len() as u32 }
    }

    /// Whether clients have models of their own, which are evaluated and saved.
    fn has_own_models(&self) -> bool {
        self.is_alone() || self.states.are_personal()
    }

    /// Returns the clients' own models at this model of the server. Where nothing is aggregated, a client that has not trained
    /// has none.
    fn own_models(&self, server: NodeId) -> Vec<(u32, NodeId)> {
        if self.is_alone() {
            return self.own_models.iter().map(|(&client, &model)| (client, model)).collect();
        }
        let clients = 0..self.inputs.clients.len() as u32;
        clients.map(|client| (client, self.states.personal(client, server))).collect()
    }

    /// Returns the number of a round among the server's rounds, from 1; `None` for the round of an edge.
    pub fn server_round(&self, scheduled: &ScheduledRound) -> Option<u32> {
        match self.spec().server.protocol {
            Protocol::Hierarchical { .. } if scheduled.round.aggregator == SERVER => Some(scheduled.round.round + 1),
            Protocol::Hierarchical { .. } => None,
            _ => Some(scheduled.number),
        }
    }

    /// Whether a round leads to the model of an edge. The rounds of tiers, which are numbered as aggregators too, lead to
    /// the server's.
    fn is_edge_round(&self, round: &RoundRecord) -> bool {
        matches!(self.spec().server.protocol, Protocol::Hierarchical { .. }) && round.aggregator != SERVER
    }

    /// Adds the trainings that a round counts to the graph and to `updates`, and returns the contributions with their
    /// weights.
    fn contributions(
        &mut self,
        scheduled: &ScheduledRound,
        server: NodeId,
        updates: &mut Vec<NodeId>,
    ) -> Vec<Contribution> {
        let round = &scheduled.round;
        let weights = self.add_trainings(scheduled, updates);
        if !self.spec().lora_method().trains_own_adapter {
            for (counted, &update) in round.counted_tasks.iter().zip(&*updates) {
                self.states.keep_factors(counted.client, update);
            }
        }
        if self.tasks.keeps_moments() {
            for (counted, &update) in round.counted_tasks.iter().zip(&*updates) {
                self.states.keep_moments(counted.client, update);
            }
        }
        let mut clients = BTreeSet::new();
        let mut contributions = Vec::with_capacity(round.counted_tasks.len());
        for ((counted, weight), &update) in round.counted_tasks.iter().zip(weights).zip(&*updates) {
            let start = self.received_model(counted.based_on_version);
            let counts_already = !clients.insert(counted.client);
            let weight = self.private_weight(counted.client, weight, counts_already);
            // The contribution is the difference of the update from its base. Against the current server model it mixes
            // the client's model in (FedAsync); against the model that the task started from it adds the change.
            let (mixes_models, discount) = self.discount(counted.staleness, self.rules_round(scheduled));
            let base = if mixes_models { server } else { start };
            let rank = self.inputs.facts.rank(self.spec(), counted.client) as usize;
            let staleness = counted.staleness;
            contributions.push(Contribution { update, base, weight, discount, staleness, rank });
            if self.is_edge_round(round) {
                *self.edge_weights.entry(round.aggregator).or_default() += weight;
            }
        }
        if let Some(pruning) = self.spec().pruning() {
            for (counted, contribution) in round.counted_tasks.iter().zip(&mut contributions) {
                contribution.update = self.states.prune(counted.client, contribution.update, pruning.gamma);
            }
        }
        let sent = self.sent(scheduled);
        self.attackers.attack(self.executor, &round.counted_tasks, sent, &mut contributions);
        self.compress(round, sent, &mut contributions);
        contributions
    }

    /// Puts what the server receives of the counted tasks in the place of what their clients send, if that is compressed. A client
    /// that counts twice has its tasks one after another, in the order of their numbers.
    fn compress(&mut self, round: &RoundRecord, sent: Factors, contributions: &mut [Contribution]) {
        let Some(compression) = Compression::new(self.spec()) else { return };
        for (counted, contribution) in round.counted_tasks.iter().zip(contributions) {
            // The change is against the model that the task started from, whatever the server compares the update with.
            let order = Compress {
                update: contribution.update,
                base: self.received_model(counted.based_on_version),
                memory: None,
                compression,
                sent,
                rank: self.inputs.facts.rank(self.spec(), counted.client) as usize,
                draws: compression.codec.is_random().then_some((Seed(self.spec().seed), counted.task.0)),
            };
            contribution.update = self.states.compress(counted.client, order);
        }
    }

    /// Adds the trainings of the counted tasks to the graph and to `updates`, and returns the weight of each before
    /// normalization.
    fn add_trainings(&mut self, scheduled: &ScheduledRound, updates: &mut Vec<NodeId>) -> Vec<f64> {
        let is_alone = self.is_alone();
        let mut trainings = Vec::new();
        let mut weights = Vec::new();
        // Clients of one rank begin with one node.
        let mut starts = BTreeMap::new();
        for counted in &scheduled.round.counted_tasks {
            let start = self.received_model(counted.based_on_version);
            let task = scheduled.counted(counted.task);
            let round = self.tasks.round_of(task);
            let training = self.tasks.training(counted.client, u64::from(task.client_task_number), round);
            weights.push(if is_alone { 0.0 } else { self.tasks.weight(counted.client, &training, round) });
            let rank = self.inputs.facts.rank(self.spec(), counted.client);
            let start = match self.spec().pruning() {
                Some(_) => self.states.begin_with_rank(counted.client, start, rank),
                None => *starts.entry((start, rank)).or_insert_with(|| self.cut_to_rank(start, rank)),
            };
            let personal = self.states.personal(counted.client, start);
            let mut base = personal;
            if let Some(training) = self.tasks.own_adapter(counted.client, task.client_task_number.into(), round) {
                // What the client keeps is an adapter next to the server's, and not a part of what it sends.
                let (control, moments, anchor, rank) = (None, None, Some(start), None);
                let own = self.executor.add(Node::Train { base: personal, control, moments, anchor, rank, training });
                self.states.keep_factors(counted.client, own);
                base = start;
            }
            let base = self.own_models.get(&counted.client).copied().unwrap_or(base);
            let node = self.states.train(base, training);
            if is_alone {
                // Each client starts from a different model, so its training cannot share a pass. It is added at once,
                // because a later task of the same client in this round starts from it.
                let update = self.executor.add(node);
                self.own_models.insert(counted.client, update);
                updates.push(update);
            } else {
                trainings.push(node);
            }
        }
        updates.extend(self.add_grouped(trainings));
        weights
    }

    /// Returns the model that clients have of a version after its way to them.
    fn received_model(&mut self, version: u32) -> NodeId {
        let server = self.versions[version as usize];
        let Some(compression) = Compression::of_models(self.spec()) else { return server };
        let factors = self.spec().factors_on_the_way_down();
        let broadcast = Node::Broadcast { server, compression, factors };
        *self.broadcasts.entry(server).or_insert_with(|| self.executor.add(broadcast))
    }

    /// Returns the model that clients of a rank get of a model of the server: that model, or one of their lower rank.
    fn cut_to_rank(&self, server: NodeId, rank: u32) -> NodeId {
        if rank == self.spec().model.lora.rank {
            return server;
        }
        self.executor.add(Node::Truncated { server, rank: rank as usize })
    }

    /// Adds trainings to the graph: one by one, or in cohorts that are part of their keys. Returns them in the same
    /// order.
    fn add_grouped(&self, trainings: Vec<Node>) -> Vec<NodeId> {
        let Some(most) = self.keyed else {
            return trainings.into_iter().map(|training| self.executor.add(training)).collect();
        };
        // A cohort is computed as one node, and each of its trainings is a member node that reads the cohort's result.
        // `groups` sorts trainings by base model, so each member is put back in the place of its training.
        let mut updates = vec![NodeId::end(); trainings.len()];
        for group in groups(&trainings, most) {
            let cohort = group.iter().map(|&place| trainings[place].clone()).collect();
            let cohort = self.executor.add(Node::Cohort(cohort));
            for (index, &place) in group.iter().enumerate() {
                let Node::Train { training, .. } = &trainings[place] else { unreachable!("they are trainings") };
                let client = training.client;
                updates[place] = self.executor.add(Node::Member { cohort, index, client });
            }
        }
        updates
    }

    /// Returns the models of edges as contributions to the server's model, each weighted by the data behind it.
    fn merge(&mut self, round: &RoundRecord, base: NodeId) -> Vec<Contribution> {
        // Both lists ascend by edge, and an edge that sends a model has counted updates: the two can be zipped.
        let weights = std::mem::take(&mut self.edge_weights);
        assert_eq!(weights.len(), round.merged_versions.len(), "each edge with updates sends one model");
        let mut contributions = Vec::with_capacity(weights.len());
        for (&version, weight) in round.merged_versions.iter().zip(weights.into_values()) {
            let update = self.versions[version as usize];
            // Edges have models of the server's rank, and none is stale.
            let rank = self.spec().model.lora.rank as usize;
            contributions.push(Contribution { update, base, weight, discount: 1.0, staleness: 0, rank });
        }
        contributions
    }

    /// Returns whether the client's model is mixed into the server's, instead of its change being added, and the factor on
    /// an update of this staleness.
    fn discount(&self, staleness: u32, round: u32) -> (bool, f64) {
        match &self.scenario.at(round).server.protocol {
            Protocol::Synchronous { .. } | Protocol::Hierarchical { .. } => (false, 1.0),
            Protocol::SemiSynchronous { discount, .. } | Protocol::Tiered { discount, .. } => {
                (false, discount.factor(staleness))
            }
            Protocol::Buffered { discount, server_lr, .. } => (false, server_lr * discount.factor(staleness)),
            Protocol::Asynchronous { discount, mixing, .. } => (true, mixing * discount.factor(staleness)),
        }
    }

    /// Holds a model for later rounds, and releases the models that no later round can start from.
    fn hold(&mut self, model: NodeId) -> Result<(), GraphError> {
        let is_synchronous = matches!(self.spec().server.protocol, Protocol::Synchronous { .. });
        let Some(held) = &mut self.held else { return Ok(()) };
        self.executor.demand(model);
        held.push_back(model);
        // In synchronous rounds every task starts from the latest model. Under the other protocols a task that is still
        // to be scheduled may be based on any earlier version, so all of them stay.
        while is_synchronous && held.len() > 1 {
            self.executor.take(held.pop_front().expect("there are two"))?;
        }
        Ok(())
    }

    /// Adds the losses of a model on the test rows and on the held-out rows of each client.
    fn evaluations(&self, model: NodeId) -> Evaluations {
        let test = self.inputs.test.as_ref().map(|rows| self.evaluate(model, vec![rows.clone()]));
        let held_out = self.inputs.clients.iter().map(|client| client.held_out.clone()).collect();
        Evaluations { model, test, held_out: self.evaluate(model, held_out) }
    }

    /// Adds the losses of a model on groups of rows.
    fn evaluate(&self, model: NodeId, groups: Vec<Arc<Rows>>) -> NodeId {
        self.executor.add(Node::Evaluate { model, groups, objective: self.tasks.objective() })
    }

    /// Adds what the scenario asks to evaluate of every client after the last round: its local baseline, trained without federation,
    /// and the last model after some steps on its own rows.
    pub fn trained_apart(&self) -> Vec<OwnModel> {
        let evaluation = &self.spec().evaluation;
        let clients = 0..self.inputs.clients.len() as u32;
        let mut models = Vec::new();
        if evaluation.local_baseline {
            models.extend(clients.clone().map(|client| self.local(client)));
        }
        if let Some(steps) = evaluation.fine_tuning_steps {
            models.extend(clients.map(|client| self.fine_tuned(client, steps.get())));
        }
        if self.demands {
            for model in &models {
                model.demand(self.executor);
            }
        }
        models
    }

    /// Adds the last model after `steps` steps on a client's rows. Where the server's is none without a client's own factors, that
    /// client goes on from its own model.
    fn fine_tuned(&self, client: u32, steps: u32) -> OwnModel {
        let (model, version) = self.last_model;
        let pruned = self.states.of_rank(client, model);
        let start = pruned.unwrap_or_else(|| self.cut_to_rank(model, self.inputs.facts.rank(self.spec(), client)));
        let base = if self.spec().has_server_model() { start } else { self.states.personal(client, start) };
        let training = self.tasks.fine_tuning(client, steps);
        let trained = ClientStates::new(self.executor, false, Factors::None).train(base, training);
        let model = self.executor.add(trained);
        self.evaluated_on_own(client, model, EvalSubject::FineTuned, version)
    }

    /// Adds a client's local baseline: one task per round of the scenario, each from the model of the one before.
    fn local(&self, client: u32) -> OwnModel {
        let mut model = self.cut_to_rank(self.versions[0], self.inputs.facts.rank(self.spec(), client));
        let mut states = ClientStates::new(self.executor, false, Factors::None);
        for round in 1..=self.spec().rounds {
            let training = self.tasks.alone(client, u64::from(round - 1), round);
            model = self.executor.add(states.train(model, training));
            if self.tasks.keeps_moments() {
                states.keep_moments(client, model);
            }
        }
        self.evaluated_on_own(client, model, EvalSubject::Local, 0)
    }

    /// Adds the losses of a client's model on the test rows, if there are any, and on the client's own held-out rows.
    fn evaluated_on_own(&self, client: u32, model: NodeId, subject: EvalSubject, version: u32) -> OwnModel {
        let own = &self.inputs.clients[client as usize].held_out;
        let groups = self.inputs.test.iter().chain([own]).cloned().collect();
        OwnModel { client, subject, version, model, evaluation: self.evaluate(model, groups) }
    }
}

/// Groups the indices of trainings that start from the same model, in plan order, at most `most` per group.
fn groups(trainings: &[Node], most: usize) -> Vec<Vec<usize>> {
    let mut by_base: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
    for (place, training) in trainings.iter().enumerate() {
        by_base.entry(training.inputs()[0]).or_default().push(place);
    }
    by_base.values().flat_map(|places| places.chunks(most).map(<[usize]>::to_vec)).collect()
}
