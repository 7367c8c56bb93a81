//! Local training tasks: the batches, hyperparameters and seeds of a client's task, and the weight of its update.

use std::collections::BTreeSet;

use fedreplay_sim::{Seed, TaskRecord};

use crate::algorithm::Method;
use crate::data::{PublishedSubset, StepShape, published_steps, round_rows};
use crate::graph::TrainingOrder;
use crate::inputs::Inputs;
use crate::inputs::translate::{objective, rule};
use crate::scenario::{
    AccumulationSpec, Batches, Correction, DropoutMasks, LrSchedule, OptimizerState, Protocol, Scenario, ScenarioSpec,
    WeightsSpec,
};
use crate::training::{Accumulation as Weighing, CorrectionPlace, Hyper, Objective};

/// Tasks of a run. The cost of a task is the same in all rounds; its training follows the settings of its round.
pub struct Tasks<'a> {
    pub scenario: &'a Scenario,
    pub inputs: &'a Inputs,
}

impl Tasks<'_> {
    fn spec(&self) -> &ScenarioSpec {
        &self.scenario.scenario
    }

    /// Returns the method of a round of the server, from 1.
    pub fn method(&self, round: u32) -> Method {
        Method::new(&self.scenario.at(round).algorithm)
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

    /// Returns a task of the local baseline: the client's training without the additions of the federated method.
    pub fn alone(&self, client: u32, client_task: u64, round: u32) -> TrainingOrder {
        let training = self.training(client, client_task, round);
        TrainingOrder { correction: None, hyper: Hyper { proximal: None, ..training.hyper }, ..training }
    }

    /// Returns the training of a client's task number `client_task`, from 0, with the settings of `round`, from 1.
    pub fn training(&self, client: u32, client_task: u64, round: u32) -> TrainingOrder {
        let rows = self.inputs.clients[client as usize].train.clone();
        let seed = Seed(self.spec().seed);
        // The random stream of dropout: unique per task, or the same for all tasks as in FedLLM-Bench's code.
        let stream = match self.spec().training.dropout_masks {
            DropoutMasks::PerTask => u64::from(client) << 32 | client_task,
            DropoutMasks::Shared => 0,
        };
        let correction = self.method(round).client.correction.map(|correction| match correction {
            Correction::Gradient => CorrectionPlace::Gradient,
            Correction::AfterUpdate => CorrectionPlace::AfterUpdate,
        });
        TrainingOrder {
            client,
            rows,
            steps: self.steps(client, client_task, round),
            hyper: self.hyper(round),
            objective: self.objective(),
            correction,
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
        objective(self.spec(), self.inputs.initial.as_deref())
    }

    /// [steps] -- Returns the number of steps of a client's task.
    pub fn step_count(&self, client: u32) -> u32 {
        let rows = self.inputs.clients[client as usize].train.count();
        self.spec().steps(rows as u64, self.inputs.clients.len())
    }

    /// Returns the rows of a task, as indices by step and micro-batch.
    fn steps(&self, client: u32, client_task: u64, round: u32) -> Vec<Vec<Vec<usize>>> {
        let training = &self.spec().training;
        let rows = self.inputs.clients[client as usize].train.count();
        let shape = StepShape {
            steps: self.step_count(client) as usize,
            accumulation: training.gradient_accumulation as usize,
            batch_size: training.batch_size as usize,
        };
        let seed = Seed(self.spec().seed);
        match training.batches {
            Batches::Fresh => shape.cut(&round_rows(seed, u64::from(client), client_task, rows, shape.rows())),
            Batches::RoundSeeded => published_steps(PublishedSubset::OfRound(round - 1), rows, shape),
            Batches::SamePrefix => published_steps(PublishedSubset::All, rows, shape),
        }
    }

    /// Returns the hyperparameters of tasks in a round of the server, from 1.
    pub fn hyper(&self, round: u32) -> Hyper {
        let spec = self.scenario.at(round);
        let training = &spec.training;
        Hyper {
            optimizer: rule(training.optimizer),
            learning_rate: learning_rate(training.lr, training.lr_schedule, round - 1, spec.rounds),
            clip_norm: training.max_grad_norm,
            accumulation: match training.accumulation {
                AccumulationSpec::PerToken => Weighing::PerToken,
                AccumulationSpec::PerMicroBatch if training.batches == Batches::Fresh => Weighing::PerMicroBatch,
                // Steps may be cut short by the end of an epoch, and are then divided by the full number all the same.
                AccumulationSpec::PerMicroBatch => Weighing::OverNominal(training.gradient_accumulation),
            },
            dropout: spec.model.lora.dropout,
            proximal: self.method(round).client.proximal,
        }
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

/// Returns the learning rate of round `t` (from 0) of `rounds`.
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
