//! Values of fields as people write them: JSON, RON with parentheses or without, and misspelt ones, wherever values are given.

use std::fs;

use super::support::World;

/// What the resolved scenario says of a field.
fn resolved(world: &World, set: &str) -> String {
    let said = world.fedreplay(&["scenario", "check", "scenario.ron", "--no-trial", "--set", set]).succeeded();
    said.stdout
}

#[test]
fn a_variant_is_written_as_in_the_file_or_by_its_name() {
    let world = World::new();
    let expected = resolved(&world, "algorithm={\"Scaffold\":{}}");
    for set in ["algorithm=Scaffold()", "algorithm=Scaffold", "algorithm=Scaffold(server_lr: 1)"] {
        assert_eq!(resolved(&world, set), expected, "{set}");
    }
    assert!(resolved(&world, "algorithm=FedProx(mu: 0.25, weights: Uniform)").contains("mu: 0.25"));
    assert!(
        resolved(&world, "server.protocol=Synchronous(clients_per_round: 3, deadline: Some(\"5m\"))")
            .contains("\"5 m\"")
    );
    // A path may look like a variant.
    assert!(resolved(&world, "evaluation.questions=q(1)").contains("questions: \"q(1)\""));
    assert!(resolved(&world, "model.lora.target_modules=[\"q_proj\"]").contains("q_proj"));
    for (set, nearest) in [
        ("algorithm=Scafold()", "did you mean `Scaffold`?"),
        ("algorithm=scaffold", "did you mean `Scaffold`?"),
        ("algoritm=Scaffold()", "did you mean `algorithm`?"),
        ("algorithm=FedProx(mhu: 1)", "did you mean `mu`?"),
        ("training.optimiser=Sgd()", "did you mean `optimizer`?"),
    ] {
        world.run("run", &["--set", set]).refused(2, &[set, nearest]);
    }
}

#[test]
fn forks_and_sweeps_take_the_same_values() {
    let world = World::new();
    world.run("run", &[]).succeeded();
    let fork = |set: &str| world.fedreplay(&["fork", "run", "--at-round", "3", "--set", set, "--store", "none"]);
    fork("algorithm=FedProx(mu: 0.5)").succeeded();
    let scenario = fs::read_to_string(world.path("run-from-3/scenario.ron")).expect("a scenario");
    assert!(scenario.contains("FedProx(mu: 0.5)"), "{scenario}");
    fork("algorithm=FedProks()").refused(2, &["did you mean `FedProx`?"]);

    let sweep = |methods: &str| {
        let axis = format!("axes: [(path: \"algorithm\", values: [{methods}])]");
        world.write(
            "sweep.ron",
            &format!("(name: \"methods\", scenario: \"scenario.ron\", set: [\"rounds=1\"], {axis})"),
        );
        world.fedreplay(&["sweep", "sweep.ron", "--out", "sweep", "--set", "training.optimizer=AdamW()"])
    };
    let said = sweep("\"Scaffold()\", \"Scaffold(server_lr: 0.5)\", \"FedAvg\"").succeeded();
    let told = said.stderr.matches("SCAFFOLD with AdamW").count();
    assert_eq!(told, 1, "a doubt that cells share is told once:\n{}", said.stderr);
    sweep("\"FedAvg\", \"Scafold()\"").refused(2, &["did you mean `Scaffold`?"]);
}
