//! Mistakes of users: one clear error each, exit 2, and no run folder that looks finished.

use std::fs;

use serde_json::json;

use super::support::{Said, World, data};

/// Plays the scenario, which must be refused with these words, and leave no folder.
#[track_caller]
fn refused(world: &World, parts: &[&str]) -> Said {
    let said = world.run("run", &[]).refused(2, parts);
    assert!(said.stderr.starts_with("error: failed to "), "{}", said.stderr);
    assert_eq!(said.stderr.lines().count(), 1, "one error, one line:\n{}", said.stderr);
    assert!(!world.path("run").exists(), "a refused scenario left a folder");
    said
}

#[track_caller]
fn scenario_mistake(from: &str, to: &str, parts: &[&str]) {
    let world = World::new();
    world.edit("scenario.ron", from, to);
    refused(&world, parts);
}

#[test]
fn a_field_is_missing() {
    scenario_mistake("    rounds: 3,\n", "", &["scenario.ron:", "missing field named `rounds`"]);
}

#[test]
fn a_field_is_misspelt() {
    scenario_mistake("rank: 4", "ranc: 4", &["scenario.ron:5:", "`ranc`", "did you mean `rank`?"]);
}

#[test]
fn a_field_has_a_wrong_type() {
    scenario_mistake("local_steps: 2", "local_steps: \"two\"", &["scenario.ron:7:"]);
}

#[test]
fn a_value_is_out_of_range() {
    scenario_mistake(
        "batch_size: 2",
        "batch_size: 0",
        &["scenario.ron:7:", "0 is out of range: it must be at least 1"],
    );
    scenario_mistake("held_out: 0.2", "held_out: 1.2", &["scenario.ron:6:", "at least 0 and below 1"]);
    scenario_mistake("deadline: \"10m\"", "deadline: \"0s\"", &["server.protocol.deadline", "longer than 0"]);
}

#[test]
fn the_federation_cannot_be_played() {
    scenario_mistake("speed: \"50 MFLOP/s\"", "speed: \"0 FLOP/s\"", &["client ", "flops_per_s is 0"]);
    scenario_mistake("up: \"4 Mbit/s\"", "up: \"0 bit/s\"", &["client ", "up is 0"]);
    scenario_mistake("deadline: \"10m\"", "deadline: \"1ms\"", &["deadline"]);
}

#[test]
fn a_file_is_not_there() {
    scenario_mistake("data.json", "nothing.json", &["nothing.json"]);
    scenario_mistake("test.json", "nothing.json", &["nothing.json"]);
    scenario_mistake("\"base\"", "\"nothing\"", &["nothing"]);
    World::new().fedreplay(&["run", "nothing.ron"]).refused(2, &["failed to read the scenario nothing.ron"]);
}

#[track_caller]
fn data_mistake(change: impl FnOnce(&mut serde_json::Value), parts: &[&str]) {
    let world = World::new();
    let mut clients = serde_json::from_str(&data(6, 8)).expect("JSON");
    change(&mut clients);
    world.write("data.json", &clients.to_string());
    refused(&world, &[&["data.json"], parts].concat());
}

#[test]
fn a_client_has_no_rows() {
    data_mistake(|clients| clients["user-3"] = json!([]), &["\"user-3\"", "no usable row"]);
}

#[test]
fn a_row_has_no_response() {
    data_mistake(
        |clients| {
            clients["user-2"][5].as_object_mut().expect("a row").remove("response");
        },
        &["\"user-2\"", "row 5", "response"],
    );
    data_mistake(|clients| clients["user-2"][5]["response"] = json!(""), &["\"user-2\"", "row 5", "response"]);
    data_mistake(|clients| clients["user-2"][5]["response"] = json!([7]), &["\"user-2\"", "row 5", "response"]);
}

#[test]
fn the_data_is_not_json() {
    let world = World::new();
    world.edit("data.json", "  \"user-1\": [", "  \"user-1\": ");
    refused(&world, &["data.json", "line "]);
}

#[test]
fn a_prompt_is_longer_than_the_sequence() {
    let world = World::new();
    let mut clients: serde_json::Value = serde_json::from_str(&data(6, 8)).expect("JSON");
    clients["user-4"][1]["instruction"] = json!("word ".repeat(500));
    world.write("data.json", &clients.to_string());
    refused(&world, &["client \"user-4\", row 1", "leaves no room"]);
    world.edit("scenario.ron", "max_seq_length: 160", "max_seq_length: 160, long_prompts: Skip");
    world.run("run", &[]).succeeded();
}

#[track_caller]
fn model_mistake(change: impl FnOnce(&World), parts: &[&str]) {
    let world = World::new();
    change(&world);
    refused(&world, parts);
}

#[test]
fn tensors_do_not_fit_the_config() {
    let edit = |from: &'static str, to: &'static str| move |world: &World| world.edit("base/config.json", from, to);
    model_mistake(edit("\"num_hidden_layers\": 4", "\"num_hidden_layers\": 5"), &["model.layers.4."]);
    model_mistake(edit("\"num_hidden_layers\": 4", "\"num_hidden_layers\": 3"), &["model.layers.3."]);
    model_mistake(edit("\"hidden_size\": 128", "\"hidden_size\": 256"), &["model.embed_tokens.weight", "256", "128"]);
    model_mistake(edit("\"model_type\": \"llama\"", "\"model_type\": \"lama\""), &["config.json", "lama"]);
}

#[test]
fn a_config_that_no_decoder_has_is_refused_at_once() {
    let edit = |from: &'static str, to: &'static str| move |world: &World| world.edit("base/config.json", from, to);
    model_mistake(
        edit("\"num_hidden_layers\": 4", "\"num_hidden_layers\": 4000000000"),
        &["config.json", "num_hidden_layers is 4000000000, at most 10000"],
    );
    model_mistake(
        edit("\"vocab_size\": 1024", "\"vocab_size\": 1152921504606846976"),
        &["config.json", "vocab_size is 1152921504606846976"],
    );
    model_mistake(
        edit("\"hidden_act\": \"silu\"", "\"hidden_act\": \"gelu\""),
        &["config.json", "hidden_act is \"gelu\""],
    );
}

/// Rewrites the header of the weights, keeping the length of the file.
fn edit_header(world: &World, edit: impl FnOnce(&mut serde_json::Value)) {
    let path = world.path("base/model.safetensors");
    let bytes = fs::read(&path).expect("the fixture");
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).expect("JSON");
    edit(&mut header);
    let header = header.to_string().into_bytes();
    let data = &bytes[8 + length..];
    fs::write(&path, [&(header.len() as u64).to_le_bytes()[..], &header, data].concat()).expect("a writable file");
}

#[test]
fn weights_that_lie_upon_each_other_or_nowhere_are_refused() {
    let norm = "model.norm.weight";
    let other = "model.layers.0.input_layernorm.weight";
    let header = |edit: fn(&mut serde_json::Value, &str, &str)| {
        move |world: &World| edit_header(world, |header| edit(header, norm, other))
    };
    model_mistake(
        header(|header, norm, other| header[norm]["data_offsets"] = header[other]["data_offsets"].clone()),
        &["model.safetensors", "begins inside of another"],
    );
    let huge = |header: &mut serde_json::Value, norm: &str, _: &str| {
        header[norm]["data_offsets"] = json!([u64::MAX - 511, u64::MAX]);
    };
    model_mistake(header(huge), &["model.safetensors", norm, "do not hold shape"]);
    let far = |header: &mut serde_json::Value, norm: &str, _: &str| {
        header[norm]["data_offsets"] = json!([1u64 << 40, (1u64 << 40) + 512]);
    };
    model_mistake(header(far), &["model.safetensors", "nothing describes its bytes"]);
    let swollen = |header: &mut serde_json::Value, norm: &str, _: &str| {
        header[norm]["shape"] = json!([u64::MAX / 2, u64::MAX / 2]);
    };
    model_mistake(header(swollen), &["model.safetensors", norm]);
}

#[test]
fn weights_hold_what_is_no_number() {
    model_mistake(
        |world| {
            let path = world.path("base/model.safetensors");
            let mut bytes = fs::read(&path).expect("the fixture");
            let end = bytes.len();
            bytes[end - 4..].copy_from_slice(&[0xff; 4]);
            fs::write(&path, bytes).expect("a writable file");
        },
        &["tensor ", "NaN or infinite"],
    );
}

#[test]
fn the_tokenizer_knows_more_tokens_than_the_embedding() {
    model_mistake(
        |world| {
            let path = world.path("base/tokenizer.json");
            let mut tokenizer: serde_json::Value =
                serde_json::from_slice(&fs::read(&path).expect("the fixture")).expect("JSON");
            let token = json!({"id": 5000, "content": "<extra>", "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true});
            tokenizer["added_tokens"].as_array_mut().expect("a list").push(token);
            fs::write(&path, tokenizer.to_string()).expect("a writable file");
        },
        &["1024"],
    );
}

#[test]
fn a_rank_is_zero_or_beyond_all_layers() {
    scenario_mistake("rank: 4", "rank: 0", &["scenario.ron:5:", "0 is out of range: it must be at least 1"]);
    scenario_mistake("rank: 4", "rank: 65537", &["rank is 65537, allowed is 1 to 65536"]);
    scenario_mistake("alpha: 8", "alpha: 1e39", &["scenario.ron:5:", "finite in 32 bits"]);
}

#[test]
fn the_weights_are_cut_short() {
    for share in [0, 1, 50, 99] {
        model_mistake(
            |world| {
                let path = world.path("base/model.safetensors");
                let bytes = fs::read(&path).expect("the fixture");
                fs::write(&path, &bytes[..bytes.len() * share / 100]).expect("a writable file");
            },
            &["model.safetensors"],
        );
    }
}

#[test]
fn a_lora_target_matches_nothing() {
    scenario_mistake("\"v_proj\"", "\"w_proj\"", &["w_proj"]);
}

#[test]
fn the_folder_holds_another_run() {
    let world = World::new();
    world.run("run", &[]).succeeded();
    let before = super::support::files(&world.path("run"));
    world.run("run", &[]).refused(2, &["failed to start a run in run", "already holds a run"]);
    assert!(super::support::files(&world.path("run")) == before, "a refused run changed the folder");
    fs::create_dir(world.path("full")).expect("a writable folder");
    world.write("full/notes.txt", "mine");
    world.run("full", &[]).refused(2, &["already holds other files"]);
}

#[test]
fn usage_mistakes_exit_with_2() {
    let world = World::new();
    world.fedreplay(&["run"]).refused(2, &["required"]);
    world.fedreplay(&["run", "scenario.ron", "--workers", "0"]).refused(2, &["--workers"]);
    for device in ["tpu", "cpu,tpu", "", "cuda:x"] {
        world.fedreplay(&["run", "scenario.ron", "--device", device]).refused(2, &["--device"]);
    }
    world.fedreplay(&["run", "scenario.ron", "--set", "training.lrr=1"]).refused(2, &["no field `lrr`"]);
    for command in ["replay", "verify", "resume"] {
        world.fedreplay(&[command, "nothing"]).refused(2, &["failed to find a run in nothing"]);
    }
    world.fedreplay(&["run", "scenario.ron", "--out", "data.json/run"]).refused(2, &["data.json/run", "--out"]);
    world.fedreplay(&["run", "scenario.ron", "--store", "data.json"]).refused(2, &["data.json", "--store"]);
    world.fedreplay(&["run", "scenario.ron", "--set", "rounds=4294967295"]).refused(2, &["rounds: it must be at most"]);
}

#[test]
fn sequences_are_longer_than_the_model_reads() {
    model_mistake(
        |world| world.edit("base/config.json", "\"max_position_embeddings\": 512", "\"max_position_embeddings\": 50"),
        &["data.max_seq_length: 160 is more than the 50 positions"],
    );
}

#[test]
fn a_task_asks_for_more_rows_than_anybody_has_time_for() {
    scenario_mistake("local_steps: 2", "local_steps: 4294967295", &["training.local_steps", "at most 10000000 rows"]);
}

#[test]
fn a_run_waits_for_more_updates_than_anybody_has_time_for() {
    let world = World::new();
    let edge = r#"(region: "here", down: "1 Gbit/s", up: "1 Gbit/s", latency: "1ms", downlink: "1 Gbit/s", uplink: "1 Gbit/s")"#;
    let edges = format!("Hierarchical(clients_per_round: 2, edge_rounds: 2147483648, edges: [{edge}])");
    for (protocol, field) in [
        (edges.as_str(), "server.protocol.edge_rounds: rounds x edge_rounds x edges must be at most 100000000"),
        (
            "Buffered(concurrency: 3, buffer_size: 2147483648)",
            "server.protocol.buffer_size: it must be at most 10000000",
        ),
        (
            "SemiSynchronous(window: \"1h\", concurrency: 3, minimum: 2147483648, max_staleness: 2)",
            "server.protocol.minimum: it must be at",
        ),
    ] {
        let set = format!("server.protocol={protocol}");
        world.fedreplay(&["scenario", "check", "scenario.ron", "--set", &set]).refused(2, &[field]);
    }
    let long = ["--set", "rounds=1000", "--set", "server.protocol=Buffered(concurrency: 3, buffer_size: 10000000)"];
    let expected = "server.protocol.buffer_size: rounds x buffer_size must be at most 1000000000";
    world.fedreplay(&[&["scenario", "check", "scenario.ron"], &long[..]].concat()).refused(2, &[expected]);
}

#[test]
fn a_step_of_any_size_is_tried_in_part() {
    let world = World::new();
    // A task of such steps takes hours of virtual time.
    let protocol = "server.protocol=Synchronous(clients_per_round: 1)";
    let sets = ["--set", "training.batch_size=65536", "--set", "training.local_steps=1", "--set", protocol];
    let said = world.fedreplay(&[&["scenario", "check", "scenario.ron", "--json"], &sets[..]].concat()).succeeded();
    let line: serde_json::Value = serde_json::from_str(said.stdout.lines().last().expect("a line")).expect("JSON");
    let tokens = line["forecast"]["step_tokens"].as_u64().expect("a number of tokens");
    assert!((8_000..=16_384).contains(&tokens), "{tokens} tokens were tried");
}
