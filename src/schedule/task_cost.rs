//! Costs of training tasks: the simulator's cost model of LoRA training, with the settings of a scenario.

use std::collections::BTreeMap;

use fedreplay_sim as sim;

use crate::scenario::schema::{OptimizerSpec, ScenarioSpec};

/// Table of the costs of tasks under one scenario. Clients whose tasks cost the same share a row.
#[derive(Clone, Debug)]
pub struct TaskCosts {
    training: sim::LoraTraining,
    adapter_bytes: u64,
    rows: BTreeMap<(u64, u64, u32), u32>,
    works: Vec<sim::Work>,
}

impl TaskCosts {
    /// Creates an empty table for a model of this shape, whose adapter on the modules `targets` takes `adapter_bytes`
    /// on the wire. What the method transfers in addition, such as SCAFFOLD's control variates, is added.
    pub fn new(scenario: &ScenarioSpec, model: sim::ModelShape, targets: Vec<sim::Target>, adapter_bytes: u64) -> Self {
        let steps = &scenario.training;
        let base_bits = scenario.model.arithmetic_bits();
        let optimizer_bytes = match steps.optimizer.get() {
            // Two moments in f32.
            OptimizerSpec::AdamW { .. } => 8,
            OptimizerSpec::Sgd { momentum: 0.0 } => 0,
            // One buffer.
            OptimizerSpec::Sgd { .. } => 4,
        };
        let training = sim::LoraTraining {
            model,
            rank: scenario.model.lora.rank.into(),
            targets,
            steps: steps.local_steps.into(),
            accumulation: steps.gradient_accumulation.into(),
            batch: steps.batch_size.into(),
            sequence: 1,
            base_bits,
            linear_block_bits: scenario.model.linear_block_bits(),
            activation_bytes: base_bits / 8,
            optimizer_bytes,
            recomputes: steps.recomputation,
            keeps_scores: false,
            wire_bytes: 4,
            wire_overhead_bytes: 0,
            downloads_base: scenario.server.sends_base,
        };
        let adapter_bytes = adapter_bytes.saturating_mul(scenario.algorithm.adapters_on_the_wire());
        Self { training, adapter_bytes, rows: BTreeMap::new(), works: vec![] }
    }

    /// Returns the row of a client whose tasks have `steps` steps, on rows of `mean_tokens` on average and
    /// `longest_tokens` at most, and adds it if there is none yet.
    ///
    /// Operations and memory traffic are those of rows of the mean length, since the simulator does not know which rows
    /// a task draws; the peak memory is that of a batch of the longest rows. `None` if a size does not fit in 64 bits.
    pub fn row(&mut self, mean_tokens: u64, longest_tokens: u64, steps: u32) -> Option<u32> {
        if let Some(&row) = self.rows.get(&(mean_tokens, longest_tokens, steps)) {
            return Some(row);
        }
        // The mean length gives operations and memory traffic, the greatest length gives the peak memory.
        let training = sim::LoraTraining { steps: steps.into(), ..self.training.clone() };
        let mean = sim::LoraTraining { sequence: mean_tokens.max(1), ..training.clone() };
        let longest = sim::LoraTraining { sequence: longest_tokens.max(1), ..training };
        if !(fits(&mean) && fits(&longest)) {
            return None;
        }
        let row = self.works.len() as u32;
        // Adapters are on the wire, with everything that the method transfers in addition.
        self.works.push(sim::Work {
            peak_memory_bytes: longest.peak_memory_bytes(),
            download_bytes: self.adapter_bytes,
            upload_bytes: self.adapter_bytes,
            ..mean.work()
        });
        self.rows.insert((mean_tokens, longest_tokens, steps), row);
        Some(row)
    }

    /// Returns all rows so far.
    pub fn works(&self) -> &[sim::Work] {
        &self.works
    }

    /// [byte] -- Returns the size of an adapter on the wire, with all that the method transfers in addition.
    pub fn adapter_bytes(&self) -> u64 {
        self.adapter_bytes
    }
}

/// Returns whether memory and traffic can be counted in 64 bits.
fn fits(training: &sim::LoraTraining) -> bool {
    let model = &training.model;
    // Generous upper bounds in f64, which cannot overflow; 2^62 leaves room for their rounding.
    let width = (6 * model.hidden + 3 * model.intermediate + 4 * model.heads * model.head_dim) as f64;
    let activations = product(&[training.batch, training.sequence, model.layers, 16]) * width;
    let logits = product(&[training.batch, training.sequence, model.vocabulary, 8]);
    let weights = (product(&[model.layers, 8]) * width + product(&[model.vocabulary, 2])) * model.hidden as f64 * 32.0;
    let squares = product(&[training.batch, training.sequence, training.sequence]);
    activations + logits + weights + squares < 2f64.powi(62)
}

fn product(factors: &[u64]) -> f64 {
    factors.iter().map(|&factor| factor as f64).product()
}
