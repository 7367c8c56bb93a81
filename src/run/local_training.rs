//! Local training tasks: the batches and seeds of a client's task, the settings that it trains with, and the weight of its
//! update.

use std::collections::BTreeSet;
use std::sync::Arc;

use fedreplay_sim::{Purpose, Seed, Stream, TaskRecord};

use crate::adapter::Factors;
use crate::algorithm::Method;
use crate::data::{PublishedSubset, Rows, StepShape, published_steps, round_rows};
use crate::graph::{FirstStep, TrainingOrder};
use crate::inputs::Inputs;
use crate::inputs::translate;
use crate::scenario::{
    Batches, DropoutMasks, FirstStepSettings, OptimizerState, Protocol, Scenario, ScenarioSpec, WeightsSpec,
};
use crate::training::{Hyper, Objective};

/// Entity of the draws for the server's own training. No client has this number.
const SERVER_ENTITY: u32 = u32::MAX;

/// Tasks of a run. The cost of a task is the same in all rounds; its training follows the settings of its round.
pub struct Tasks<'a> {
    pub scenario: &'a Scenario,
    pub inputs: &'a Inputs,
}

/// Whether each of the clients continues from its own model instead of the server's. With a single client, averaging gives
/// the same result, so the server's model is used.
pub fn is_alone(scenario: &Scenario, clients: usize) -> bool {
    Method::new(scenario.at(1)).is_alone && clients > 1
}

/// Returns a training without the additions of the federated method. A matrix R between the factors is part of the adapter's form, and is
/// all of it that is trained.
fn without_method(order: TrainingOrder) -> TrainingOrder {
    let trains = if order.hyper.trains == Factors::Core { Factors::Core } else { Factors::Both };
    let hyper = Hyper { proximal: None, trains, first_steps: None, shrinkage: None, ..order.hyper };
    TrainingOrder { correction: None, hyper, ..order }
}

impl Tasks<'_> {
    fn spec(&self) -> &ScenarioSpec {
        &self.scenario.scenario
    }

    /// Returns the method of a round of the server, from 1.
    pub fn method(&self, round: u32) -> Method {
        Method::new(self.scenario.at(round))
    }

    /// Returns the round of the server, from 1 to `rounds`, whose settings a task trains with.
    pub fn round_of(&self, task: &TaskRecord) -> u32 {
        // Rounds of tiers and edges are numbered separately, and are mapped to rounds of the server here.
        let round = match self.spec().server.protocol {
            Protocol::Tiered { .. } => task.based_on_version,
            Protocol::Hierarchical { edge_rounds, .. } => task.round / edge_rounds,
            _ => task.round,
        };
        (round + 1).min(self.spec().rounds)
    }

    /// Returns the first step from which the initial adapter is made, on rows drawn without replacement from those of all clients, in
    /// batches; `None` under methods that draw the adapter.
    pub fn first_step(&self) -> Option<FirstStep> {
        let FirstStepSettings { samples, step_size } = self.spec().first_step()?;
        let mut pooled = Vec::new();
        for client in self.inputs.clients.iter() {
            pooled.extend((0..client.train.count()).map(|row| (client.train.clone(), row)));
        }
        Stream::new(self.init_seed(), Purpose::LoraInit, 0).shuffle(&mut pooled);
        pooled.truncate(samples as usize);
        let batch_size = self.spec().training.batch_size as usize;
        let batches = pooled.chunks(batch_size).map(<[_]>::to_vec).collect();
        Some(FirstStep { layout: self.inputs.trainer().layout(), batches, step_size })
    }

    /// Returns the seed of the initial adapter.
    pub fn init_seed(&self) -> Seed {
        Seed(self.spec().model.lora.init_seed.unwrap_or(self.spec().seed))
    }

    /// Returns a task of the local baseline: the client's training without the additions of the federated method.
    pub fn alone(&self, client: u32, client_task: u64, round: u32) -> TrainingOrder {
        without_method(self.training(client, client_task, round))
    }

    /// Returns the training of a client's own adapter in a task, which is pulled toward the server's model (Ditto); `None` under methods
    /// without one.
    pub fn own_adapter(&self, client: u32, client_task: u64, round: u32) -> Option<TrainingOrder> {
        let lambda = self.spec().own_adapter_pull()?;
        let mut training = self.alone(client, client_task, round);
        training.hyper.proximal = Some(lambda);
        Some(TrainingOrder { keeps_moments: false, ..training })
    }

    /// Returns the training of the last model on a client's rows, which takes `steps` steps with the settings of the last round.
    /// Where each task draws rows and masks of its own, so does this one.
    pub fn fine_tuning(&self, client: u32, steps: u32) -> TrainingOrder {
        let rows = &self.inputs.clients[client as usize].train;
        let order = self.order(client, u64::from(u32::MAX), rows, steps, self.spec().rounds);
        TrainingOrder { client: Some(client), keeps_moments: false, ..without_method(order) }
    }

    /// Returns the training of a client's task number `client_task`, from 0, with the settings of `round`, from 1.
    pub fn training(&self, client: u32, client_task: u64, round: u32) -> TrainingOrder {
        let rows = &self.inputs.clients[client as usize].train;
        TrainingOrder { client: Some(client), ..self.order(client, client_task, rows, self.step_count(client), round) }
    }

    /// Returns the server's own training in `round`, from 1, if its rule asks for one. It takes `local_steps` steps.
    pub fn of_server(&self, round: u32) -> Option<TrainingOrder> {
        let rows = self.inputs.root.as_ref()?;
        Some(self.order(SERVER_ENTITY, u64::from(round - 1), rows, self.spec().training.local_steps, round))
    }

    /// Returns the training of task number `task`, from 0, of a client or the server on its rows, with the settings of `round`,
    /// from 1. `entity` is whose draws it has.
    fn order(&self, entity: u32, task: u64, rows: &Arc<Rows>, steps: u32, round: u32) -> TrainingOrder {
        let seed = Seed(self.spec().seed);
        // The random stream of dropout: unique per task, or the same for all tasks as in FedLLM-Bench's code.
        let stream = match self.spec().training.dropout_masks.get() {
            DropoutMasks::PerTask => u64::from(entity) << 32 | task,
            DropoutMasks::Shared => 0,
        };
        TrainingOrder {
            client: None,
            rows: rows.clone(),
            steps: self.steps(entity, task, rows.count(), steps, round),
            hyper: self.hyper(round),
            objective: self.objective(),
            correction: self.method(round).client.correction.map(translate::correction),
            seed,
            stream,
            keeps_moments: self.keeps_moments(),
        }
    }

    /// Whether the optimizers of clients keep their moments between tasks.
    pub fn keeps_moments(&self) -> bool {
        self.spec().training.optimizer_state == OptimizerState::Kept
    }

    /// Returns the training objective.
    pub fn objective(&self) -> Objective {
        translate::objective(self.spec(), self.inputs.initial.as_deref())
    }

    /// [steps] -- Returns the number of steps of a client's task.
    pub fn step_count(&self, client: u32) -> u32 {
        let rows = self.inputs.clients[client as usize].train.count();
        self.spec().steps(rows as u64, self.inputs.clients.len())
    }

    /// Returns the rows of a task with this number of steps, as indices below `rows` by step and micro-batch.
    fn steps(&self, entity: u32, task: u64, rows: usize, steps: u32, round: u32) -> Vec<Vec<Vec<usize>>> {
        let training = &self.spec().training;
        let shape = StepShape {
            steps: steps as usize,
            accumulation: training.gradient_accumulation as usize,
            batch_size: training.batch_size as usize,
        };
        let seed = Seed(self.spec().seed);
        match training.batches.get() {
            Batches::Fresh => shape.cut(&round_rows(seed, u64::from(entity), task, rows, shape.rows())),
            Batches::RoundSeeded => published_steps(PublishedSubset::OfRound(round - 1), rows, shape),
            Batches::SamePrefix => published_steps(PublishedSubset::All, rows, shape),
        }
    }

    /// Returns the hyperparameters of tasks in a round of the server, from 1.
    pub fn hyper(&self, round: u32) -> Hyper {
        translate::hyper(self.scenario.at(round), round)
    }

    /// Returns the weight of a client's update before normalization, by the settings of a round.
    pub fn weight(&self, client: u32, training: &TrainingOrder, round: u32) -> f64 {
        match self.scenario.at(round).algorithm.weights() {
            WeightsSpec::Samples => self.inputs.clients[client as usize].train.count() as f64,
            WeightsSpec::SamplesUsed => training.steps.iter().flatten().flatten().collect::<BTreeSet<_>>().len() as f64,
            WeightsSpec::Uniform => 1.0,
        }
    }
}
