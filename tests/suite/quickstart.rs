//! The quickstart keeps what it says: federation matters, for each of several seeds: two, or as many as FEDREPLAY_SEEDS says.

use super::support::{Said, World, project};

/// [nats/token] By how much the federated adapter must beat the mean client trained alone.
const GAIN: f64 = 0.1;

#[test]
fn the_federated_adapter_beats_the_mean_client_alone_for_every_seed() {
    let world = World::new();
    let scenario = project("scenarios/quickstart.ron");
    let seeds = std::env::var("FEDREPLAY_SEEDS").map_or(2, |count| count.parse().expect("a number"));
    for seed in 1..=seeds {
        let seed = &seed.to_string();
        let out = format!("seed-{seed}");
        let said = world.fedreplay(&[
            "run",
            scenario.to_str().expect("UTF-8"),
            "--out",
            &out,
            "--store",
            "none",
            "--seed",
            seed,
            // Losses are needed before the first round and after the last; the ones between cost as much again.
            "--set",
            "evaluation.every=1000",
        ]);
        let said = said.succeeded();
        let [before, after, alone] = ["loss before", "loss after", "loss alone"].map(|name| loss(&said, name));
        assert!(after < before, "seed {seed}:\n{}", said.stdout);
        assert!(after <= alone - GAIN, "seed {seed}:\n{}", said.stdout);
        let fates = said.summary("tasks");
        assert!(!fates.contains(" 0 dropped") && !fates.contains(" 0 cancelled"), "seed {seed}: {fates}");
    }
}

fn loss(said: &Said, name: &str) -> f64 {
    said.summary(name).split(' ').next().and_then(|number| number.parse().ok()).expect("a loss")
}
