//! Number of optimizer steps of a task.

use crate::scenario::schema::{Protocol, ScenarioSpec};

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
    use crate::scenario::Scenario;

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
