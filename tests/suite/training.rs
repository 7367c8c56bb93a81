//! How clients train, as scenarios ask for it: update rules, weighting of micro-batches.

use arrow::array::AsArray;
use fedreplay::ledger::read_table;

use super::support::World;

/// The hash of the last model of a run.
#[track_caller]
pub fn last_model(world: &World, run: &str) -> String {
    let rounds = read_table(&world.path(run), "rounds").expect("a table");
    rounds["model_hash"].as_string::<i32>().iter().flatten().last().expect("a model").to_owned()
}

/// Plays the scenario with these fields set and returns the hash of the last model.
#[track_caller]
fn model_of(world: &World, run: &str, sets: &[&str]) -> String {
    let sets: Vec<&str> = sets.iter().flat_map(|&set| ["--set", set]).collect();
    world.run(run, &sets).succeeded();
    last_model(world, run)
}

#[test]
fn every_update_rule_trains_and_each_trains_differently() {
    let world = World::new();
    // A large epsilon tells the variants apart from the first step on.
    let adamw = |variant: &str| format!(r#"training.optimizer={{"AdamW":{{"epsilon":1e-2,"variant":"{variant}"}}}}"#);
    let sgd = |momentum: f64| format!(r#"training.optimizer={{"Sgd":{{"momentum":{momentum}}}}}"#);
    let rules = [adamw("PyTorch"), adamw("Transformers"), sgd(0.0), sgd(0.9), "training.optimizer=AdamW".into()];
    let models: Vec<String> =
        rules.iter().enumerate().map(|(n, rule)| model_of(&world, &format!("run-{n}"), &["rounds=1", rule])).collect();
    for (n, model) in models.iter().enumerate() {
        assert!(!models[..n].contains(model), "{} gave what another rule gave", rules[n]);
    }
    assert_eq!(models[4], model_of(&world, "default", &["rounds=1"]), "a variant named alone has its defaults");
}

#[test]
fn micro_batches_are_weighted_as_the_scenario_says() {
    let world = World::new();
    let model = |run: &str, weighting: &str, accumulation: u32| {
        let accumulation = format!("training.gradient_accumulation={accumulation}");
        model_of(&world, run, &["rounds=1", &format!("training.accumulation={weighting}"), &accumulation])
    };
    assert_ne!(model("token-2", "PerToken", 2), model("micro-2", "PerMicroBatch", 2));
    assert_eq!(model("token-1", "PerToken", 1), model("micro-1", "PerMicroBatch", 1), "one micro-batch has one mean");
}

#[test]
fn a_schedule_can_be_named_alone() {
    let world = World::new();
    let short = model_of(&world, "short", &["training.lr_schedule=Cosine"]);
    let long = model_of(&world, "long", &[r#"training.lr_schedule={"Cosine":{"final_lr":0}}"#]);
    assert_eq!(short, long);
    world.run("none", &["--set", "training.lr_schedule=Linear"]).refused(2, &["unknown variant `Linear`"]);
}
