//! Runs in the forms of other programs, read back here as those programs read them.

use std::collections::BTreeMap;
use std::fs;

use fedreplay::ledger::read_table;
use serde_json::Value;

use super::support::{World, files};

fn json(world: &World, name: &str) -> Value {
    serde_json::from_slice(&fs::read(world.path(name)).expect("the file is there")).expect("JSON")
}

#[test]
fn a_trace_has_a_slice_a_task_and_nested_phases() {
    let world = World::new();
    world.run("run", &[]).succeeded();
    world.fedreplay(&["export", "run", "--to", "perfetto"]).succeeded();
    let trace = json(&world, "run.perfetto.json");
    let events = trace["traceEvents"].as_array().expect("a list of events");
    let tasks = read_table(&world.path("run"), "tasks").expect("a table").num_rows();
    let number = |event: &Value, key: &str| event[key].as_f64().unwrap_or_else(|| panic!("no {key} in {event}"));
    let slices: Vec<&Value> = events.iter().filter(|event| event["ph"] == "X" && event["pid"] == 2).collect();
    assert_eq!(slices.iter().filter(|event| event["cat"] != "phase").count(), tasks);
    // On each track a slice is inside of the one before it, or begins where that one has ended.
    let mut open: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut sorted = slices.clone();
    sorted.sort_by(|a, b| {
        number(a, "ts").total_cmp(&number(b, "ts")).then(number(b, "dur").total_cmp(&number(a, "dur")))
    });
    for slice in sorted {
        let (from, until) = (number(slice, "ts"), number(slice, "ts") + number(slice, "dur"));
        let ends = open.entry(slice["tid"].to_string()).or_default();
        ends.retain(|&end| end > from + 1e-6);
        assert!(ends.iter().all(|&end| until <= end + 1e-6), "{slice} goes beyond a slice that it began in");
        ends.push(until);
    }
    let named: Vec<&str> = events
        .iter()
        .filter(|event| event["name"] == "thread_name")
        .filter_map(|event| event["args"]["name"].as_str())
        .collect();
    assert!(named.iter().any(|name| name.starts_with("user-3 (")), "{named:?}");
    let in_flight: Vec<f64> = events
        .iter()
        .filter(|event| event["name"] == "tasks in flight")
        .map(|event| number(&event["args"], "value"))
        .collect();
    assert_eq!(in_flight.last(), Some(&0.0));
    assert!(in_flight.iter().all(|&count| (0.0..=6.0).contains(&count)), "{in_flight:?}");
}

/// The scalars of an event file by the form of its records, each checksum computed bit by bit.
fn scalars(bytes: &[u8]) -> Vec<(String, u64, f64, f32)> {
    let mut rest = bytes;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().expect("eight bytes")) as usize;
        let check = |data: &[u8], stated: &[u8]| {
            let mut sum = !0u32;
            for byte in data {
                sum ^= u32::from(*byte);
                (0..8).for_each(|_| sum = if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 });
            }
            let masked = (!sum).rotate_right(15).wrapping_add(0xa282_ead8);
            assert_eq!(masked.to_le_bytes(), stated, "a checksum");
        };
        check(&rest[..8], &rest[8..12]);
        check(&rest[12..12 + length], &rest[12 + length..16 + length]);
        found.extend(scalar(&fields(&rest[12..12 + length])));
        rest = &rest[16 + length..];
    }
    found
}

/// The fields of a protobuf message by number.
fn fields(mut message: &[u8]) -> BTreeMap<u64, Vec<u8>> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }
    let mut found = BTreeMap::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let content = match key & 7 {
            0 => varint(&mut message).to_le_bytes().to_vec(),
            wire => {
                let length = [0, 8, 0, 0, 0, 4][wire as usize];
                let length = if wire == 2 { varint(&mut message) as usize } else { length };
                let content = message[..length].to_vec();
                message = &message[length..];
                content
            }
        };
        found.insert(key >> 3, content);
    }
    found
}

fn scalar(event: &BTreeMap<u64, Vec<u8>>) -> Option<(String, u64, f64, f32)> {
    let value = fields(fields(event.get(&5)?).get(&1)?);
    let tag = String::from_utf8(value[&1].clone()).expect("UTF-8");
    let eight = |bytes: &Vec<u8>| -> [u8; 8] { bytes.as_slice().try_into().expect("eight bytes") };
    let single = f32::from_le_bytes(value[&2].as_slice().try_into().expect("four bytes"));
    Some((tag, u64::from_le_bytes(eight(&event[&2])), f64::from_le_bytes(eight(&event[&1])), single))
}

#[test]
fn event_files_hold_the_losses_against_rounds_and_against_simulated_time() {
    let world = World::new();
    world.run("run", &[]).succeeded();
    world.fedreplay(&["export", "run", "--to", "tensorboard", "--out", "board"]).succeeded();
    let shown = world.fedreplay(&["show", "run", "--json"]).succeeded();
    let shown: Value = serde_json::from_str(shown.stdout.lines().last().expect("a line")).expect("JSON");
    let expected = shown["series"].as_array().expect("curves").iter().find(|series| series["name"] == "loss/test");
    let expected = expected.expect("there is a test file")["points"].as_array().expect("points").clone();
    assert_eq!(expected.len(), 4, "before the first round, and after each");
    for folder in ["by-round", "by-simulated-second"] {
        let all = files(&world.path("board").join(folder));
        let (name, bytes) = &all[0];
        assert!(all.len() == 1 && name.contains("tfevents"), "{name}");
        assert!(bytes[12..].windows(13).any(|part| part == b"brain.Event:2"));
        let losses: Vec<_> = scalars(bytes).into_iter().filter(|(tag, ..)| tag == "loss/test").collect();
        for ((_, step, wall, value), point) in losses.iter().zip(&expected) {
            let seconds = point["at_ns"].as_u64().expect("a time") as f64 / 1e9;
            let wanted =
                if folder == "by-round" { point["round"].as_u64().expect("a round") } else { seconds.round() as u64 };
            assert_eq!((*step, *wall, *value), (wanted, seconds, point["value"].as_f64().expect("a loss") as f32));
        }
        assert_eq!(losses.len(), expected.len());
    }
}

#[test]
fn csv_has_all_rows_and_says_what_columns_mean() {
    let world = World::new();
    world.run("run", &[]).succeeded();
    world.fedreplay(&["export", "run", "--to", "csv"]).succeeded();
    let read = |name: &str| fs::read_to_string(world.path("run.csv").join(name)).expect("the file is there");
    let mut columns = 0;
    for table in ["population", "events", "tasks", "rounds", "evaluations", "generations", "lineage"] {
        let rows = read_table(&world.path("run"), table).expect("a table");
        assert_eq!(read(&format!("{table}.csv")).lines().count(), rows.num_rows() + 1, "{table}");
        columns += rows.num_columns();
    }
    let said = read("columns.csv");
    assert_eq!(said.lines().count(), columns + 1);
    assert!(said.contains("tasks,energy_mj,UInt64,mJ,energy spent by the device on the task"), "{said}");
}

#[test]
fn history_lines_have_a_step_and_the_configuration_is_the_scenario() {
    let world = World::new();
    world.run("run", &[]).succeeded();
    world.fedreplay(&["export", "run", "--to", "wandb-offline-jsonl"]).succeeded();
    let history = fs::read_to_string(world.path("run.wandb/wandb-history.jsonl")).expect("the file is there");
    let lines: Vec<Value> = history.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(
        lines.iter().map(|line| line["_step"].as_u64()).collect::<Vec<_>>(),
        (0..=3).map(Some).collect::<Vec<_>>()
    );
    assert!(lines.iter().all(|line| line["loss/test"].is_f64()));
    assert_eq!(json(&world, "run.wandb/config.json")["training"]["local_steps"], 2);
    assert_eq!(json(&world, "run.wandb/wandb-summary.json")["loss/test"], lines[3]["loss/test"]);
}

#[test]
fn an_adapter_of_any_round_is_saved_or_in_the_store() {
    let world = World::new();
    world.fedreplay(&["run", "scenario.ron", "--out", "run", "--store", "store"]).succeeded();
    let export = |more: &[&str]| world.fedreplay(&[&["export", "run", "--to", "peft"], more].concat());
    let last = export(&["--store", "none"]).succeeded();
    assert!(last.stdout.contains("round 3, saved by the run"), "{}", last.stdout);
    assert!(files(&world.path("run.peft")) == files(&world.path("run/adapters/round-00003")));
    let first = export(&["--round", "1", "--store", "store", "--out", "first"]).succeeded();
    assert!(first.stdout.contains("round 1, in the store"), "{}", first.stdout);
    // What the store gives for a saved round is what was saved.
    fs::rename(world.path("run/adapters/round-00002"), world.path("saved")).expect("it was saved");
    export(&["--round", "2", "--store", "store", "--out", "second"]).succeeded();
    assert!(files(&world.path("second")) == files(&world.path("saved")));
    assert!(files(&world.path("second")) != files(&world.path("first")));
    export(&["--round", "1", "--store", "none", "--out", "x"])
        .refused(2, &["adapter of round 1", "save_adapter_every"]);
    export(&["--round", "9", "--out", "x"]).refused(2, &["round 9 is not from 1 to 3"]);
    export(&["--out", "first"]).refused(2, &["first", "there already"]);
}

#[test]
fn a_merged_folder_is_a_base_that_begins_where_the_run_ended() {
    let world = World::new();
    let run = world.run("run", &[]).succeeded();
    world.fedreplay(&["export", "run", "--to", "peft", "--merged", "--out", "whole"]).succeeded();
    let on = world.run("on", &["--set", "model.folder=whole", "--set", "rounds=1"]).succeeded();
    let loss = |name: &str, said: &super::support::Said| -> f64 {
        said.summary(name).split(' ').next().and_then(|number| number.parse().ok()).expect("a loss")
    };
    let (ended, began) = (loss("loss after", &run), loss("loss before", &on));
    assert!((ended - began).abs() < 2e-4, "the run ended at {ended}, the merged model begins at {began}");
    world.write("base/config.json", &(fs::read_to_string(world.path("base/config.json")).expect("a file") + " "));
    world
        .fedreplay(&["export", "run", "--to", "peft", "--merged", "--out", "x"])
        .refused(2, &["not what the run was made from"]);
}
