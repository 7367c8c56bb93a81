//! Size of training tasks: their number of steps, and their costs by the simulator's model of LoRA training, with the settings of a
//! scenario.

use std::collections::BTreeMap;

use fedreplay_sim as sim;

use super::measured_time::{MeasuredClass, TaskSize};
use crate::adapter::{Factors, Layout, WireFormat, wire_bytes_of};
use crate::compression::{Compression, Sent};
use crate::scenario::schema::{Availability, Dropout, GroupSpec, Protocol, ScenarioSpec, Selection};
use crate::scenario::truncated_rank_max;

/// Table of the costs of tasks under one scenario. Clients whose tasks cost the same share a row.
#[derive(Clone, Debug)]
pub struct TaskCosts {
    training: sim::LoraTraining,
    /// Rows of a micro-batch, and micro-batches of a step.
    micro_batches: [u32; 2],
    layout: Layout,
    clients: usize,
    /// [byte] -- Frozen factors that a client receives with its first task.
    received_once_bytes: u64,
    /// Transfers in odd rounds, from 1, and in even ones, by rank.
    traffic: BTreeMap<u32, [sim::Traffic; 2]>,
    rows: BTreeMap<(TaskSize, Option<String>), u32>,
    works: Vec<sim::Work>,
}

impl TaskCosts {
    /// Creates an empty table for a model of this shape with an adapter of this layout on the modules `targets`, in a run
    /// with this number of clients.
    pub fn new(
        scenario: &ScenarioSpec,
        model: sim::ModelShape,
        targets: Vec<sim::Target>,
        layout: Layout,
        clients: usize,
    ) -> Self {
        let steps = &scenario.training;
        let base_bits = scenario.model.arithmetic_bits();
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
            // Moments are in f32.
            optimizer_bytes: 4 * steps.optimizer.get().moments(),
            recomputes: steps.recomputation,
            keeps_scores: false,
            wire_bytes: 4,
            wire_overhead_bytes: 0,
            downloads_base: scenario.server.sends_base,
        };
        let lora = &scenario.model.lora;
        let mut by_rank = BTreeMap::new();
        for &rank in lora.ranks.values().chain([&lora.rank]) {
            let layout = Layout { rank: rank as usize, ..layout.clone() };
            by_rank.insert(rank, [1, 2].map(|round| traffic(scenario, &layout, clients, round)));
        }
        let received_once_bytes = wire_bytes_of(&layout, WireFormat::F32, scenario.factors_received_once());
        Self {
            training,
            micro_batches: [steps.batch_size, steps.gradient_accumulation],
            layout,
            clients,
            received_once_bytes,
            traffic: by_rank,
            rows: BTreeMap::new(),
            works: vec![],
        }
    }

    /// Returns the row of a client whose tasks have this size, on a device of this class if it has a profile, and adds it if there is none
    /// yet.
    ///
    /// Operations, memory traffic and measured times are those of rows of the mean length, since the simulator does not know which rows
    /// a task draws; the peak memory is that of a batch of the longest rows. `None` if a size does not fit in 64 bits.
    pub fn row(&mut self, size: TaskSize, measured: Option<MeasuredClass>) -> Option<u32> {
        let key = (size, measured.map(|class| class.name.to_owned()));
        if let Some(&row) = self.rows.get(&key) {
            return Some(row);
        }
        // The mean length gives operations and memory traffic, the greatest length gives the peak memory.
        let training = sim::LoraTraining { steps: size.steps.into(), rank: size.rank.into(), ..self.training.clone() };
        let mean = sim::LoraTraining { sequence: size.mean_tokens.max(1), ..training.clone() };
        let longest = sim::LoraTraining { sequence: size.longest_tokens.max(1), ..training };
        if !(fits(&mean) && fits(&longest)) {
            return None;
        }
        let row = self.works.len() as u32;
        let [odd, even] = self.traffic[&size.rank];
        let work = mean.work();
        let [batch, accumulation] = self.micro_batches;
        let measured_bytes = measured.and_then(|class| class.peak_memory_bytes(size, batch));
        self.works.push(sim::Work {
            peak_memory_bytes: measured_bytes.unwrap_or_else(|| longest.peak_memory_bytes()),
            download_bytes: odd.download_bytes,
            upload_bytes: odd.upload_bytes,
            every_second_round: Some(even).filter(|&even| even != odd),
            first_download_bytes: work.first_download_bytes.saturating_add(self.received_once_bytes),
            training: measured.map(|class| class.training_span(size, batch, accumulation)),
            ..work
        });
        self.rows.insert(key, row);
        Some(row)
    }

    /// Returns all rows so far.
    pub fn works(&self) -> &[sim::Work] {
        &self.works
    }

    /// Returns the transfers of a task of the server's rank in odd rounds, from 1, and in even ones, under the scenario that is in
    /// force then.
    pub fn traffic(&self, scenario: &ScenarioSpec) -> [sim::Traffic; 2] {
        [1, 2].map(|round| traffic(scenario, &self.layout, self.clients, round))
    }

    /// Returns the transfers between two aggregators: those of a client's task in odd rounds, without compression.
    pub fn traffic_of_edges(&self, scenario: &ScenarioSpec) -> sim::Traffic {
        uncompressed(scenario, &self.layout, self.clients, 1)
    }
}

/// Returns the transfers of a client's task in a round, from 1: the factors that the method sends each way, as they are encoded.
fn traffic(scenario: &ScenarioSpec, layout: &Layout, clients: usize, round: u32) -> sim::Traffic {
    let mut traffic = uncompressed(scenario, layout, clients, round);
    if let Some(compression) = Compression::new(scenario) {
        traffic.upload_bytes = compression.bytes(&Sent::new(layout, scenario.sent_factors(round)));
    }
    if let Some(compression) = Compression::of_models(scenario) {
        let factors = scenario.received_factors(round, nobody_misses_a_round(scenario, clients));
        traffic.download_bytes = compression.bytes(&Sent::new(layout, factors));
    }
    traffic
}

/// Returns the transfers of a task in f32: the factors that the method sends, and SCAFFOLD's control variates of the same factors.
fn uncompressed(scenario: &ScenarioSpec, layout: &Layout, clients: usize, round: u32) -> sim::Traffic {
    let bytes = |factors: Factors| {
        let adapter = wire_bytes_of(layout, WireFormat::F32, factors);
        adapter.saturating_mul(scenario.algorithm.adapters_on_the_wire())
    };
    let nobody_misses = nobody_misses_a_round(scenario, clients);
    let mut download_bytes = bytes(scenario.received_factors(round, nobody_misses));
    // A client that has every model receives what one round has changed; another may receive a model for the first time.
    let rounds = if nobody_misses { 1 } else { scenario.rounds };
    download_bytes = download_bytes.saturating_add(base_change_bytes(scenario, layout, clients, rounds));
    sim::Traffic { download_bytes, upload_bytes: bytes(scenario.sent_factors(round)) }
}

/// [byte] -- Returns the most that a change of the base takes in f32 after a number of rounds. A weight's change takes the factors of all
/// clients' products, or of as many as a cut by energy can keep, or all of its elements where those are fewer, or where rounds of another
/// phase may have had more clients.
pub fn base_change_bytes(scenario: &ScenarioSpec, layout: &Layout, clients: usize, rounds: u32) -> u64 {
    let Protocol::Synchronous { clients_per_round, .. } = scenario.server.protocol else { return 0 };
    if !scenario.lora_method().averages.changes_base() {
        return 0;
    }
    let counted = match scenario.server.selection.get() {
        Selection::Poisson { .. } => clients as u64,
        _ => u64::from(clients_per_round).min(clients as u64),
    };
    let products = counted.saturating_mul(scenario.model.lora.rank.into());
    let values = layout.modules.iter().map(|module| {
        let (inputs, outputs) = (module.in_features as u64, module.out_features as u64);
        let of_a_round = match scenario.kept_energy() {
            Some(threshold) => truncated_rank_max(threshold, products.min(inputs).min(outputs)),
            None => products,
        };
        let rank = if scenario.changes.is_empty() { of_a_round.saturating_mul(rounds.into()) } else { u64::MAX };
        rank.saturating_mul(inputs + outputs).min(inputs.saturating_mul(outputs))
    });
    values.fold(0, u64::saturating_add).saturating_mul(4)
}

/// Whether all clients are asked in every round and none can fail to get a model: a client that misses one needs more later.
fn nobody_misses_a_round(scenario: &ScenarioSpec, clients: usize) -> bool {
    let asks_all = match (&scenario.server.protocol, scenario.server.selection.get()) {
        // Each client is drawn by itself, whatever the size of a round.
        (Protocol::Synchronous { deadline: None, .. }, Selection::Poisson { rate }) => rate >= 1.0,
        (&Protocol::Synchronous { clients_per_round, deadline: None, .. }, selection) => {
            let draws_all = !matches!(selection, Selection::PowerOfChoice { draw } if (draw as usize) < clients);
            draws_all && clients_per_round as usize >= clients
        }
        _ => false,
    };
    let population = &scenario.population;
    let is_present = |group: &GroupSpec| {
        group.availability == Availability::Always && group.dropout == Dropout::default() && group.crashes.is_none()
    };
    let can_fail = population.trace.is_some() || !scenario.region_cuts.is_empty() || !scenario.changes.is_empty();
    asks_all && !can_fail && population.mix.iter().all(is_present)
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

impl ScenarioSpec {
    /// [step] -- Returns the steps of a task of a client with this number of rows, as one of `clients` clients.
    pub fn steps(&self, rows: u64, clients: usize) -> u32 {
        let (Some(dynamic), Protocol::Synchronous { clients_per_round, .. }) =
            (self.training.dynamic_steps, &self.server.protocol)
        else {
            return self.training.local_steps;
        };
        // ceil(epochs n / (rounds clients_per_round / N) / rows of a step), as in FedLLM-Bench: a client takes part in
        // `turns` rounds on average, which together should pass over its rows `epochs` times.
        let turns = f64::from(self.rounds) * f64::from(*clients_per_round) / clients as f64;
        let per_step = f64::from(self.training.batch_size) * f64::from(self.training.gradient_accumulation);
        (dynamic.epochs * rows as f64 / turns / per_step).ceil().clamp(1.0, f64::from(u32::MAX)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::{base_change_bytes, nobody_misses_a_round};
    use crate::adapter::{Layout, Module};
    use crate::scenario::Scenario;

    /// Six clients, by settings of the server's protocol and selection.
    #[test]
    fn who_may_miss_a_round_and_who_takes_part_follow_from_the_selection() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("scenario.ron");
        let text = r#"(
            name: "downloads", rounds: 3, federated_lora: Flora,
            model: (folder: "base", lora: (rank: 2, alpha: 4)),
            data: (file: "data.json", max_seq_length: 64),
            training: (local_steps: 1, batch_size: 1, lr: 1e-4),
            server: (protocol: Synchronous(clients_per_round: 6), downlink: "1 Gbit/s", uplink: "1 Gbit/s"),
            population: (
                devices: { "gpu": (speed: "1 TFLOP/s") },
                links: { "lan": (down: "1 Gbit/s", up: "1 Gbit/s") },
                mix: [(share: 1, device: "gpu", link: "lan")],
            ),
        )"#;
        std::fs::write(&file, text).unwrap();
        let modules = vec![Module { path: "m".into(), in_features: 1000, out_features: 500 }];
        let layout = Layout { rank: 2, alpha: 4.0, rank_stabilized: false, has_core: false, modules };
        let found = |sets: &[&str]| {
            let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
            let scenario = Scenario::read(&file, &sets).unwrap().scenario;
            // [clients] that may take part, by the factors of rank 2 in f32 of one round.
            let clients = base_change_bytes(&scenario, &layout, 6, 1) / (4 * 2 * 1500);
            (nobody_misses_a_round(&scenario, 6), clients)
        };
        let one = "server.protocol.Synchronous.clients_per_round=1";
        assert_eq!(found(&[]), (true, 6));
        assert_eq!(found(&[one]), (false, 1));
        assert_eq!(found(&["server.selection=Poisson(rate: 0.5)"]), (false, 6));
        assert_eq!(found(&["server.selection=Poisson(rate: 1)", one]), (true, 6));
        assert_eq!(found(&["server.selection=PowerOfChoice(draw: 3)"]), (false, 6));
        assert_eq!(found(&["server.selection=PowerOfChoice(draw: 6)"]), (true, 6));
    }

    /// FedLLM-Bench's steps for clients of Fed-ChatbotPA: 747 clients, 200 rounds of 10, batches of 8.
    #[test]
    fn dynamic_steps_are_those_of_fedllm_bench() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pa.ron");
        let text = r#"(
            name: "pa", rounds: 200,
            model: (folder: "base", lora: (rank: 8, alpha: 16)),
            data: (file: "pa.json", max_seq_length: 512),
            training: (local_steps: 10, dynamic_steps: (epochs: 3), batch_size: 8, lr: 1e-4),
            server: (protocol: Synchronous(clients_per_round: 10), downlink: "1 Gbit/s", uplink: "1 Gbit/s"),
            population: (
                devices: { "gpu": (speed: "1 TFLOP/s") },
                links: { "lan": (down: "1 Gbit/s", up: "1 Gbit/s") },
                mix: [(share: 1, device: "gpu", link: "lan")],
            ),
        )"#;
        std::fs::write(&file, text).unwrap();
        let scenario = Scenario::read(&file, &[]).unwrap().scenario;
        let steps = [5, 10, 13, 26, 76, 154].map(|rows| scenario.steps(rows, 747));
        assert_eq!(steps, [1, 2, 2, 4, 11, 22]);
        let fixed = Scenario::read(&file, &["training.dynamic_steps=null".to_owned()]).unwrap().scenario;
        assert_eq!(fixed.steps(154, 747), 10);
    }
}
