//! Runs that start from a PEFT adapter, and adapters that do not fit.

use std::fs;

use fedreplay::adapter::peft;

use super::support::World;
use super::training::last_model;

/// A world with a finished run of two rounds, whose adapters can be started from.
fn world() -> World {
    let world = World::new();
    world.edit("scenario.ron", "save_adapter_every: 2", "save_adapter_every: 1");
    world.run("run", &["--set", "rounds=2"]).succeeded();
    world
}

/// The folder of the run's last adapter, in the form that `--set` takes.
const LAST: &str = "model.lora.initial=run/adapters/round-00002";

#[test]
fn a_run_starts_where_another_ended() {
    let world = world();
    let first = world.run("next", &["--set", LAST, "--set", "rounds=1"]).succeeded();
    let before = world.run("whole", &["--set", "rounds=2"]).succeeded();
    assert_eq!(first.summary("loss before"), before.summary("loss after"), "it starts from the other's last model");
    let fresh = world.run("fresh", &["--set", "rounds=1"]).succeeded();
    assert_ne!(first.summary("digest"), fresh.summary("digest"));
    world.fedreplay(&["replay", "next"]).succeeded();
    let manifest = fs::read_to_string(world.path("next/manifest.json")).expect("a manifest");
    assert!(manifest.contains("\"initial_adapter\""), "{manifest}");
}

#[test]
fn every_linear_module_can_be_adapted_and_a_full_name_is_one() {
    let world = World::new();
    let modules = |out: &str, targets: &str| {
        let set = format!("model.lora.target_modules={targets}");
        world.run(out, &["--set", "rounds=1", "--set", &set]).succeeded();
        let (adapter, _) = peft::read_folder(&world.path(out).join("adapters/round-00001")).expect("an adapter");
        adapter.layout.modules.len()
    };
    assert_eq!(modules("all", r#"["all-linear"]"#), 4 * 7);
    assert_eq!(modules("one", r#"["model.layers.1.self_attn.q_proj"]"#), 1);
    assert_eq!(modules("suffix", r#"["self_attn.o_proj", "down_proj"]"#), 4 * 2);
    assert_ne!(last_model(&world, "all"), last_model(&world, "one"));
}

#[track_caller]
fn refused(change: impl FnOnce(&World), sets: &[&str], parts: &[&str]) {
    let world = world();
    change(&world);
    let sets: Vec<&str> = [&[LAST], sets].concat().into_iter().flat_map(|set| ["--set", set]).collect();
    let said = world.run("next", &sets).refused(2, &[&["failed to "], parts].concat());
    assert_eq!(said.stderr.lines().count(), 1, "one error, one line:\n{}", said.stderr);
    assert!(!world.path("next").exists(), "a refused scenario left a folder");
}

#[test]
fn an_adapter_must_agree_with_the_scenario() {
    let keep = |_: &World| {};
    refused(keep, &["model.lora.rank=8"], &["its rank r is 4, the scenario's is 8"]);
    refused(keep, &["model.lora.alpha=16"], &["its lora_alpha is 8, the scenario's is 16"]);
    refused(keep, &["model.lora.rank_stabilised=true"], &["use_rslora is false"]);
    let more = r#"model.lora.target_modules=["q_proj", "k_proj", "v_proj"]"#;
    refused(keep, &[more], &["it lacks model.layers.0.self_attn.k_proj"]);
    let less = r#"model.lora.target_modules=["q_proj"]"#;
    refused(keep, &[less], &["it adapts model.layers.0.self_attn.v_proj"]);
    refused(|_| {}, &["model.lora.initial=nowhere"], &["nowhere/adapter_config.json"]);
}

#[test]
fn a_damaged_adapter_is_refused() {
    let file = |world: &World, name: &str| world.path("run/adapters/round-00002").join(name);
    let tensors = "adapter_model.safetensors";
    let change = |edit: fn(&mut Vec<u8>)| {
        move |world: &World| {
            let path = file(world, tensors);
            let mut bytes = fs::read(&path).expect("an adapter");
            edit(&mut bytes);
            fs::write(path, bytes).expect("a writable file");
        }
    };
    refused(change(|bytes| bytes.truncate(bytes.len() - 5)), &[], &[tensors]);
    refused(
        change(|bytes| {
            let end = bytes.len();
            bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        }),
        &[],
        &["NaN or infinite"],
    );
    // One letter of a tensor's name: its partner is missing.
    refused(
        change(|bytes| {
            let place = bytes.windows(6).position(|part| part == b"lora_B").expect("a name");
            bytes[place + 5] = b'C';
        }),
        &[],
        &["lora_A", "has no partner"],
    );
    let config = |world: &World| world.edit("run/adapters/round-00002/adapter_config.json", "\"LORA\"", "\"IA3\"");
    refused(config, &[], &["peft_type is \"IA3\""]);
}
