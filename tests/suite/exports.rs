//! Runs in the forms of other programs, read back here as those programs read them.

use std::collections::BTreeMap;
use std::fs;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use fedreplay::ledger::read_table;
use serde_json::Value;

use super::support::{World, files, varint};

fn json(world: &World, name: &str) -> Value {
    serde_json::from_slice(&fs::read(world.path(name)).expect("the file is there")).expect("JSON")
}

/// A slice of a trace: its track, and from when until when [us].
struct Slice<'a> {
    track: (u64, u64),
    from: u64,
    until: u64,
    event: &'a Value,
}

/// The slices of a trace, each with a name, a category and whole times, tracks apart, in the order in which Perfetto reads them.
#[track_caller]
fn slices(trace: &Value) -> Vec<Slice<'_>> {
    let whole = |event: &Value, key: &str| event[key].as_u64().unwrap_or_else(|| panic!("no whole {key} in {event}"));
    let events = trace["traceEvents"].as_array().expect("a list of events");
    let mut slices: Vec<Slice> = Vec::new();
    for event in events.iter().filter(|event| event["ph"] == "X") {
        let is_text = |key: &str| event[key].as_str().is_some_and(|text| !text.is_empty());
        assert!(is_text("name") && is_text("cat"), "{event}");
        let from = whole(event, "ts");
        slices.push(Slice {
            track: (whole(event, "pid"), whole(event, "tid")),
            from,
            until: from + whole(event, "dur"),
            event,
        });
    }
    slices.sort_by_key(|slice| (slice.track, slice.from));
    slices
}

/// Fails unless the slices of each track lie in each other or apart, as readers want; and each track has a name.
#[track_caller]
fn assert_nested(trace: &Value) {
    let events = trace["traceEvents"].as_array().expect("a list of events");
    let named: Vec<(Option<u64>, Option<u64>)> = events
        .iter()
        .filter(|event| event["name"] == "thread_name")
        .map(|event| (event["pid"].as_u64(), event["tid"].as_u64()))
        .collect();
    let mut open: Vec<(u64, u64)> = Vec::new();
    let mut track = None;
    for slice in slices(trace) {
        if track != Some(slice.track) {
            track = Some(slice.track);
            open.clear();
            let (process, thread) = slice.track;
            assert!(named.contains(&(Some(process), Some(thread))), "a track without name: {:?}", slice.track);
            assert_eq!(named.iter().filter(|(_, other)| *other == Some(thread)).count(), 1, "a number of two tracks");
            assert_ne!(process, thread, "it would be read as the main thread of its process");
        }
        while open.last().is_some_and(|&(_, until)| until <= slice.from) {
            open.pop();
        }
        assert!(
            open.last().is_none_or(|&(_, until)| slice.until <= until),
            "{} leaves the slice that it began in",
            slice.event
        );
        open.push((slice.from, slice.until));
    }
}

#[test]
fn a_trace_has_a_slice_a_task_at_the_ledgers_times() {
    let world = World::new();
    world.run("run", &[]).succeeded();
    world.fedreplay(&["export", "run", "--to", "perfetto"]).succeeded();
    let trace = json(&world, "run.perfetto.json");
    assert_nested(&trace);
    let tasks = read_table(&world.path("run"), "tasks").expect("a table");
    let column =
        |name: &str| tasks[name].as_primitive::<Int64Type>().values().iter().map(|&ns| ns as u64).collect::<Vec<_>>();
    let (dispatched, ended) = (column("dispatched_at_ns"), column("ended_at_ns"));
    let mut expected: Vec<_> = dispatched.into_iter().zip(ended).collect();
    let of_tasks: Vec<_> =
        slices(&trace).into_iter().filter(|slice| slice.track.0 == 2 && slice.event["cat"] != "phase").collect();
    let mut found: Vec<(u64, u64)> = Vec::new();
    for slice in &of_tasks {
        let ns = |name: &str| slice.event["args"][name].as_u64().expect("a time");
        let (from_ns, until_ns) = (ns("dispatched_at_ns"), ns("ended_at_ns"));
        assert_eq!((slice.from, slice.until), (from_ns / 1000, until_ns / 1000), "{}", slice.event);
        found.push((from_ns, until_ns));
    }
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expected);
    let events = trace["traceEvents"].as_array().expect("a list of events");
    let named = |name: &str| events.iter().filter(|event| event["name"] == *name).collect::<Vec<_>>();
    let names: Vec<&str> = named("thread_name").iter().filter_map(|event| event["args"]["name"].as_str()).collect();
    assert!(names.iter().any(|name| name.starts_with("user-3 (")), "{names:?}");
    let in_flight: Vec<f64> =
        named("tasks in flight").iter().map(|event| event["args"]["value"].as_f64().expect("a count")).collect();
    assert_eq!(in_flight.last(), Some(&0.0));
    assert!(in_flight.iter().all(|&count| (0.0..=6.0).contains(&count)), "{in_flight:?}");
}

#[test]
fn slices_of_a_track_nest_under_every_protocol() {
    for protocol in [
        "Synchronous(clients_per_round: 3, over_selection: 2, deadline: \"2m\")",
        "SemiSynchronous(window: \"1m\", concurrency: 4, max_staleness: 2)",
        "Buffered(concurrency: 4, buffer_size: 2)",
        "Asynchronous(concurrency: 4)",
        "Tiered(tiers: 2, clients_per_round: 2)",
    ] {
        let world = World::new();
        let set = format!("server.protocol={protocol}");
        world.fedreplay(&["plan", "scenario.ron", "--out", "plan", "--set", &set, "--set", "rounds=30"]).succeeded();
        world.fedreplay(&["export", "plan", "--to", "perfetto", "--out", "trace.json"]).succeeded();
        let trace = json(&world, "trace.json");
        assert_nested(&trace);
        let rounds = slices(&trace).into_iter().filter(|slice| slice.track.0 == 1).count();
        assert_eq!(rounds, read_table(&world.path("plan"), "rounds").expect("a table").num_rows(), "{protocol}");
    }
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

/// The fields of a protobuf message by number; of a repeated one the last.
fn fields(message: &[u8]) -> BTreeMap<u64, Vec<u8>> {
    all_fields(message).into_iter().collect()
}

/// The fields of a protobuf message in their order.
fn all_fields(mut message: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut found = Vec::new();
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
        found.push((key >> 3, content));
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

/// Folder of the curves over simulated time.
const BY_TIME: &str = "by-simulated-millisecond";

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
    for (folder, name_of_test) in [("by-round", "loss/test"), (BY_TIME, "by-simulated-millisecond/loss/test")] {
        let all = files(&world.path("board").join(folder));
        let (name, bytes) = &all[0];
        assert!(all.len() == 1 && name.contains("tfevents"), "{name}");
        assert!(bytes[12..].windows(13).any(|part| part == b"brain.Event:2"));
        let losses: Vec<_> = scalars(bytes).into_iter().filter(|(tag, ..)| tag == name_of_test).collect();
        for ((_, step, wall, value), point) in losses.iter().zip(&expected) {
            let seconds = point["at_ns"].as_u64().expect("a time") as f64 / 1e9;
            let wanted = match folder {
                BY_TIME => point["at_ns"].as_u64().expect("a time") / 1_000_000,
                _ => point["round"].as_u64().expect("a round"),
            };
            assert_eq!((*step, *wall, *value), (wanted, seconds, point["value"].as_f64().expect("a loss") as f32));
        }
        assert_eq!(losses.len(), expected.len());
        assert!(losses.windows(2).all(|pair| pair[0].1 < pair[1].1), "each round has a step of its own: {losses:?}");
    }
}

#[test]
fn csv_has_all_rows_and_says_what_columns_mean() {
    let world = World::new();
    world.run("run", &[]).succeeded();
    world.fedreplay(&["export", "run", "--to", "csv"]).succeeded();
    let read = |name: &str| fs::read_to_string(world.path("run.csv").join(name)).expect("the file is there");
    let mut columns = 0;
    for table in ["population", "events", "tasks", "rounds", "evaluations", "generations", "lineage", "aggregation"] {
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
    world.fedreplay(&["export", "run", "--to", "wandb"]).succeeded();
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

/// The records of a log of `wandb`, as its reader takes them: LevelDB's blocks, the CRC-32 of kind and part bit by bit.
fn records(log: &[u8]) -> Vec<BTreeMap<u64, Vec<u8>>> {
    assert_eq!(&log[..7], b":W&B\xe1\xbe\0");
    let (mut at, mut record, mut found) = (7, Vec::new(), Vec::new());
    while at < log.len() {
        let left = 32_768 - at % 32_768;
        if left < 7 {
            assert!(log[at..at + left].iter().all(|&byte| byte == 0), "the end of a block is empty");
            at += left;
            continue;
        }
        let length = usize::from(u16::from_le_bytes([log[at + 4], log[at + 5]]));
        let sum = log[at + 6..at + 7 + length].iter().fold(!0_u32, |sum, byte| {
            (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 })
        });
        assert_eq!(log[at..at + 4], (!sum).to_le_bytes(), "the checksum of the part at {at}");
        record.extend(&log[at + 7..at + 7 + length]);
        if matches!(log[at + 6], 1 | 4) {
            found.push(fields(&std::mem::take(&mut record)));
        }
        at += 7 + length;
    }
    assert!(record.is_empty(), "the last record is whole");
    found
}

#[test]
fn the_log_for_wandb_has_the_run_its_steps_and_its_end() {
    let world = World::new();
    world.run("run", &[]).succeeded();
    world.fedreplay(&["export", "run", "--to", "wandb"]).succeeded();
    let found = files(&world.path("run.wandb"));
    let (file, log) = found.iter().find(|(file, _)| file.ends_with(".wandb")).expect("a log");
    let records = records(log);
    let numbers: Vec<u64> =
        records.iter().map(|record| u64::from_le_bytes(record[&1][..8].try_into().unwrap())).collect();
    assert_eq!(numbers, (1..=records.len() as u64).collect::<Vec<_>>());
    assert!(records[0].contains_key(&21) && records.last().is_some_and(|record| record.contains_key(&18)));
    let run = fields(&records[1][&17]);
    let digest = json(&world, "run/manifest.json")["digest"].as_str().expect("a digest").to_owned();
    assert_eq!(
        (run[&1].as_slice(), file.as_str()),
        (&digest.as_bytes()[..8], &*format!("offline-run-{0}/run-{0}.wandb", &digest[..8]))
    );
    assert_eq!(run[&8], b"small");
    let steps: Vec<_> = records.iter().filter_map(|record| record.get(&2)).collect();
    let history = fs::read_to_string(world.path("run.wandb/wandb-history.jsonl")).expect("the file is there");
    assert_eq!(steps.len(), history.lines().count());
    for (step, line) in steps.iter().zip(history.lines()) {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let items = all_fields(step).into_iter().filter(|(number, _)| *number == 1).map(|(_, item)| fields(&item));
        let item = |item: BTreeMap<u64, Vec<u8>>| {
            let key = String::from_utf8(item[&2].clone()).expect("UTF-8");
            (key, serde_json::from_slice::<Value>(&item[&16]).expect("JSON"))
        };
        assert_eq!(Value::Object(items.map(item).collect()), line);
        // The run was written in this century, and its clock is simulated.
        assert!(line["_timestamp"].as_f64().expect("a time") > 1.7e9, "{line}");
    }
}

#[test]
fn an_adapter_of_any_round_is_saved_or_in_the_store() {
    let world = World::new();
    world.fedreplay(&["run", "scenario.ron", "--out", "run", "--store", "store"]).succeeded();
    let export = |more: &[&str]| world.fedreplay(&[&["export", "run", "--to", "peft"], more].concat());
    let last = export(&["--store", "none"]).succeeded();
    assert!(last.stdout.contains("round 3, saved by the run"), "{}", last.stdout);
    let weights = |folder: &str| fs::read(world.path(folder).join("adapter_model.safetensors")).expect("weights");
    assert!(weights("run.peft") == weights("run/adapters/round-00003"));
    let first = export(&["--round", "1", "--store", "store", "--out", "first"]).succeeded();
    assert!(first.stdout.contains("round 1, in the store"), "{}", first.stdout);
    // What the store gives for a saved round is what was saved.
    fs::rename(world.path("run/adapters/round-00002"), world.path("saved")).expect("it was saved");
    export(&["--round", "2", "--store", "store", "--out", "second"]).succeeded();
    assert!(weights("second") == weights("saved"));
    assert!(weights("second") != weights("first"));
    export(&["--round", "1", "--store", "none", "--out", "x"])
        .refused(2, &["adapter of round 1", "save_adapter_every"]);
    export(&["--round", "9", "--out", "x"]).refused(2, &["failed to find round 9", "the run has rounds 1 to 3"]);
    // A process that was killed when its export had its name already has left an empty folder.
    fs::create_dir(world.path(".first.12-0.partial")).expect("a writable folder");
    export(&["--out", "first"]).refused(2, &["first", "there already"]);
    assert!(!world.path(".first.12-0.partial").exists(), "what was left is left");
    export(&["--out", "/"]).refused(2, &["there already"]);
    export(&["--out", "run/ledger/more"]).refused(2, &["answers for every file there"]);
    world.fedreplay(&["plan", "scenario.ron", "--out", "plan"]).succeeded();
    world.fedreplay(&["export", "plan", "--to", "peft"]).refused(2, &["it is a plan"]);
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

#[test]
fn an_exported_adapter_names_its_base_by_the_path_and_a_saved_one_by_the_name() {
    let world = World::new();
    let dropout = ["--set", "model.lora.dropout=0.05"];
    world.fedreplay(&[&["run", "scenario.ron", "--out", "run", "--store", "store"], &dropout[..]].concat()).succeeded();
    world.fedreplay(&["export", "run", "--to", "peft", "--store", "store", "--round", "1"]).succeeded();
    let base = world.path("base");
    for (folder, name) in [("run.peft", base.to_str()), ("run/adapters/round-00002", Some("base"))] {
        let config = json(&world, &format!("{folder}/adapter_config.json"));
        assert_eq!(config["base_model_name_or_path"].as_str(), name, "{folder}");
        assert_eq!(config["lora_dropout"], 0.05, "{folder}");
    }
}

#[test]
fn a_merged_folder_says_the_type_that_its_weights_have() {
    let world = World::new();
    world.edit("base/config.json", "\"torch_dtype\": \"float32\"", "\"dtype\": \"bfloat16\"");
    world.run("run", &["--set", "rounds=1"]).succeeded();
    world.fedreplay(&["export", "run", "--to", "peft", "--merged", "--out", "whole"]).succeeded();
    let config = json(&world, "whole/config.json");
    assert_eq!((&config["torch_dtype"], config.get("dtype")), (&Value::from("float32"), None));
    assert_eq!(config["vocab_size"], 1024, "and everything else of the base");
}

#[test]
fn an_adapter_of_a_quantized_base_can_be_merged_into_its_rounded_weights() {
    let world = World::new();
    let nf4 = ["--set", "model.precision=Nf4Double", "--set", "model.arithmetic=F32", "--set", "rounds=1"];
    let run = world.run("run", &nf4).succeeded();
    let export = |more: &[&str]| {
        world.fedreplay(&[&["export", "run", "--to", "peft", "--store", "none"], more].concat()).succeeded()
    };
    let loss = |name: &str, said: &super::support::Said| -> f64 {
        said.summary(name).split(' ').next().and_then(|number| number.parse().ok()).expect("a loss")
    };
    let begins = |folder: &str| {
        let set = format!("model.folder={folder}");
        loss("loss before", &world.run(&format!("on-{folder}"), &["--set", &set, "--set", "rounds=1"]).succeeded())
    };
    let ended = loss("loss after", &run);
    let plain = export(&["--merged", "--out", "original"]);
    let rounded = export(&["--merged", "--base", "dequantized", "--out", "dequantized"]);
    assert!((begins("dequantized") - ended).abs() < 2e-4, "the run ended at {ended}");
    assert!((begins("original") - ended).abs() > 1e-2, "the run ended at {ended}");

    let warning = "trained on a base model rounded to Nf4Double and is merged into the unrounded one";
    assert!(plain.stderr.contains(warning) && plain.stderr.contains("--base dequantized"), "{}", plain.stderr);
    assert!(!rounded.stderr.contains("warning"), "{}", rounded.stderr);
    let readme = |folder: &str| fs::read_to_string(world.path(folder).join("README.md")).expect("a file");
    assert!(readme("original").contains(warning));
    assert!(readme("dequantized").contains("merged into these rounded weights"));
    assert!(export(&["--out", "adapter"]).stderr.contains("trained on a base model in Nf4Double"));
    world
        .fedreplay(&["export", "run", "--to", "peft", "--base", "dequantized", "--out", "x"])
        .refused(2, &["--base is of --merged"]);
}

#[test]
fn an_adapter_of_an_int8_base_ends_in_the_model_that_the_run_had() {
    let world = World::new();
    let int8 = ["--set", "model.precision=Int8", "--set", "model.arithmetic=F32", "--set", "rounds=1"];
    let run = world.run("run", &int8).succeeded();
    let merged =
        ["export", "run", "--to", "peft", "--store", "none", "--merged", "--base", "dequantized", "--out", "whole"];
    world.fedreplay(&merged).succeeded();
    let on = world.run("on", &["--set", "model.folder=whole", "--set", "rounds=1"]).succeeded();
    let loss = |name: &str, said: &super::support::Said| -> f64 {
        said.summary(name).split(' ').next().and_then(|number| number.parse().ok()).expect("a loss")
    };
    let (ended, began) = (loss("loss after", &run), loss("loss before", &on));
    assert!((ended - began).abs() < 2e-4, "the run ended at {ended}, the merged model begins at {began}");
}
