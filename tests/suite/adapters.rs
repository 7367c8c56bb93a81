//! Runs that start from a PEFT adapter, and adapters that do not fit.

use std::fs;
use std::sync::Arc;

use fedreplay::adapter::{Adapter, Layout, peft};
use fedreplay::evaluate::{EvalTarget, NamedTemplate};
use fedreplay::model::{Device, Precision};
use fedreplay::training::Numerics;
use serde_json::{Value, json};

use super::support::{World, project};
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

/// The forms in which PEFT writes the targets of one and the same adapter.
#[test]
fn a_run_starts_from_an_adapter_whatever_form_its_targets_have() {
    let world = world();
    let file = world.path("run/adapters/round-00002/adapter_config.json");
    let config: Value = serde_json::from_slice(&fs::read(&file).expect("a config")).expect("JSON");
    let starts = |out: &str, changes: Value| {
        let mut config = config.clone();
        for (key, value) in changes.as_object().expect("an object") {
            config[key] = value.clone();
        }
        fs::write(&file, config.to_string()).expect("a writable file");
        world.run(out, &["--set", LAST, "--set", "rounds=1"]).succeeded().summary("loss before").to_owned()
    };
    let plain = starts("plain", json!({}));
    let expression = r"model\.layers\.\d+\.self_attn\.(q|v)_proj";
    assert_eq!(starts("expression", json!({"target_modules": expression})), plain);
    let layers = json!({"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [0, 1, 2, 3]});
    assert_eq!(starts("layers", layers), plain);
    let off = json!({"use_dora": null, "modules_to_save": [], "lora_bias": false, "rank_pattern": {}});
    assert_eq!(starts("off", off), plain);
    assert_ne!(world.run("fresh", &["--set", "rounds=1"]).succeeded().summary("loss before"), plain);
}

#[test]
fn every_linear_module_can_be_adapted_and_a_full_name_is_one() {
    let world = World::new();
    let modules = |out: &str, targets: &str| {
        let set = format!("model.lora.target_modules={targets}");
        world.run(out, &["--set", "rounds=1", "--set", &set]).succeeded();
        let read = peft::read_folder(&world.path(out).join("adapters/round-00001")).expect("an adapter");
        read.adapter.layout.modules.len()
    };
    assert_eq!(modules("all", r#"["all-linear"]"#), 4 * 7);
    assert_eq!(modules("one", r#"["model.layers.1.self_attn.q_proj"]"#), 1);
    assert_eq!(modules("suffix", r#"["self_attn.o_proj", "down_proj"]"#), 4 * 2);
    assert_ne!(last_model(&world, "all"), last_model(&world, "one"));
}

/// The oracle is algebra: rows of zeros in A and columns of zeros in B leave B A as it is.
#[test]
fn a_rank_may_be_above_the_width_of_a_module() {
    let world = world();
    let narrow = peft::read_folder(&world.path("run/adapters/round-00002")).expect("an adapter").adapter;
    let rank = 200;
    assert!(narrow.layout.modules.iter().all(|module| module.in_features < rank));
    let layout = Layout { rank, alpha: narrow.layout.scale() * rank as f64, ..(*narrow.layout).clone() };
    let mut wide = Adapter::zeros(Arc::new(layout));
    for (module, (a, b)) in narrow.layout.ranges().into_iter().enumerate() {
        let (wide_a, wide_b) = wide.layout.ranges()[module].clone();
        wide.values[wide_a][..a.len()].copy_from_slice(&narrow.values[a]);
        let rows_of_b = narrow.values[b].chunks_exact(narrow.layout.rank);
        for (row, wide_row) in rows_of_b.zip(wide.values[wide_b].chunks_exact_mut(rank)) {
            wide_row[..row.len()].copy_from_slice(row);
        }
    }
    peft::write_folder(&world.path("wide"), &wide, &peft::Notes::default()).expect("a writable folder");
    let before = world.run("narrow", &["--set", LAST, "--set", "rounds=1"]).succeeded();
    let alpha = format!("model.lora.alpha={}", wide.layout.alpha);
    let sets = ["model.lora.initial=wide", "model.lora.rank=200", &alpha, "rounds=1"];
    let sets: Vec<&str> = sets.iter().flat_map(|&set| ["--set", set]).collect();
    let said = world.run("next", &sets).succeeded();
    assert_eq!(said.summary("loss before"), before.summary("loss before"));
    let learned = peft::read_folder(&world.path("next/adapters/round-00001")).expect("an adapter").adapter;
    assert_eq!(learned.layout, wide.layout);
    assert_ne!(learned.values, wide.values);
}

#[track_caller]
fn refused(change: impl FnOnce(&World), sets: &[&str], parts: &[&str]) {
    let world = world();
    change(&world);
    let sets: Vec<&str> = [&[LAST], sets].concat().into_iter().flat_map(|set| ["--set", set]).collect();
    let said = world.run("next", &sets).refused(2, &[&["failed to "], parts].concat());
    assert_eq!(said.stderr.lines().count(), 1, "one error, one line:\n{}", said.stderr);
    assert!(!world.path("next").exists(), "a refused scenario left a folder");
    // Without the weights of the base model, the same is said.
    let check = [&["scenario", "check", "scenario.ron", "--no-trial"], &sets[..]].concat();
    let checked = world.fedreplay(&check).refused(2, parts);
    assert_eq!(checked.stderr, said.stderr);
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

/// Copies a fixture of PEFT, which belongs to a smaller model, into the world.
fn copy_peft(world: &World, name: &str) {
    fs::create_dir(world.path("peft")).expect("a writable folder");
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        fs::copy(project("fixtures/peft").join(name).join(file), world.path("peft").join(file)).expect("a copy");
    }
}

/// What `eval` says of the base with an adapter that it refuses.
fn error_of_eval(world: &World, adapter: &str) -> String {
    let adapter = world.path(adapter);
    let (base, numerics) = (world.path("base"), Numerics::default());
    let template = NamedTemplate { name: "alpaca".into(), date: None };
    let target = EvalTarget::folder(&base, Some(&adapter), &template, Precision::F32, Device::Cpu, &numerics);
    target.err().expect("it is refused").to_string()
}

#[test]
fn an_adapter_of_another_model_is_refused_with_the_tensor_both_shapes_and_both_files() {
    let world = World::new();
    copy_peft(&world, "plain");
    let parts = [
        "peft/adapter_model.safetensors: tensor base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight is [4, 8]",
        "but model.layers.0.self_attn.q_proj.weight is [128, 128] by ",
        "base/config.json",
    ];
    world.run("run", &["--set", "model.lora.initial=peft"]).refused(2, &parts);
    let said = error_of_eval(&world, "peft");
    assert!(parts.iter().all(|part| said.contains(part)), "{said}");
}

#[test]
fn an_adapter_of_some_layers_is_refused_with_the_targets_that_it_has() {
    refused(
        |world| {
            world.run("one", &["--set", r#"model.lora.target_modules=["layers.1.self_attn.q_proj"]"#]).succeeded();
        },
        &["model.lora.initial=one/adapters/round-00003"],
        &["it lacks", "with model.lora.target_modules: [\"model.layers.1.self_attn.q_proj\"]"],
    );
}

#[test]
fn an_adapter_whose_config_changes_what_it_computes_is_refused_wherever_one_is_read() {
    let world = world();
    let config = "run/adapters/round-00002/adapter_config.json";
    world.edit(config, "\"init_lora_weights\": true", "\"init_lora_weights\": \"pissa_niter_4\"");
    let parts = ["round-00002/adapter_config.json: init_lora_weights is \"pissa_niter_4\""];
    world.run("next", &["--set", LAST]).refused(2, &parts);
    let said = error_of_eval(&world, "run/adapters/round-00002");
    assert!(said.contains(parts[0]), "{said}");
}

#[test]
fn a_run_does_not_start_from_modules_with_ranks_of_their_own() {
    let world = World::new();
    copy_peft(&world, "ranks");
    world
        .run("run", &["--set", "model.lora.initial=peft"])
        .refused(2, &["peft/adapter_config.json: rank_pattern is {"]);
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
