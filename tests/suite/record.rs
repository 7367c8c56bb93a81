//! What stands in a run's folder: tables that add up, files that answer for their hashes.

use std::fs::{self, File};
use std::path::Path;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int64Type, UInt32Type, UInt64Type};
use arrow::record_batch::RecordBatch;
use fedreplay::ledger::read_table;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::support::{World, files};

/// A column of booleans of one Parquet file.
pub fn column_of_bools(path: &Path, column: &str) -> Vec<bool> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).expect("the file is there"));
    let batches = reader.and_then(|reader| reader.build()).expect("a Parquet file");
    let values = |batch: RecordBatch| batch[column].as_boolean().iter().flatten().collect::<Vec<_>>();
    batches.flat_map(|batch| values(batch.expect("a readable batch"))).collect()
}

/// Trainings of a run that were computed, not found.
pub fn trained(run: &Path) -> usize {
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(File::open(run.join("timing/orders.parquet")).expect("timings"));
    let batches = reader.and_then(|reader| reader.build()).expect("a Parquet file");
    let count = |rows: RecordBatch| {
        let (kinds, found) = (rows["kind"].as_string::<i32>(), rows["from_store"].as_boolean());
        (0..rows.num_rows()).filter(|&row| kinds.value(row) == "train" && !found.value(row)).count()
    };
    batches.map(|batch| count(batch.expect("a readable batch"))).sum()
}

fn texts(rows: &RecordBatch, column: &str) -> Vec<String> {
    rows[column].as_string::<i32>().iter().map(|text| text.unwrap_or("null").to_owned()).collect()
}

fn sum(rows: &RecordBatch, column: &str) -> u64 {
    match rows[column].as_primitive_opt::<UInt64Type>() {
        Some(values) => values.iter().flatten().sum(),
        None => rows[column].as_primitive::<UInt32Type>().iter().flatten().map(u64::from).sum(),
    }
}

#[test]
fn tables_agree_with_each_other() {
    let world = World::new();
    let said = world.run("run", &["--json"]).succeeded();
    let run = world.path("run");
    let [population, events, tasks, rounds, evaluations, lineage] =
        ["population", "events", "tasks", "rounds", "evaluations", "lineage"]
            .map(|name| read_table(&run, name).expect("a table"));
    assert_eq!(population.num_rows(), 6);
    assert_eq!(rounds.num_rows(), 3);
    let fates = texts(&tasks, "fate");
    for fate in ["counted", "late", "dropped", "cancelled"] {
        let in_tasks = fates.iter().filter(|&f| f == fate).count() as u64;
        assert_eq!(in_tasks, sum(&rounds, fate), "{fate}");
    }
    assert_eq!(sum(&rounds, "dispatched"), tasks.num_rows() as u64);
    // What did not count was never trained.
    let trained = tasks["steps"].len() - tasks["steps"].null_count();
    assert_eq!(trained as u64, sum(&rounds, "counted"));
    assert!(
        fates.iter().zip(tasks["steps"].as_primitive::<UInt32Type>()).all(|(f, s)| (f == "counted") == s.is_some())
    );
    let weights: f64 = tasks["weight"].as_primitive::<Float64Type>().iter().flatten().sum();
    assert!((weights - 3.0).abs() < 1e-12, "the weights of three rounds add up to {weights}");
    for (column, table) in
        [("event_rows", &events), ("task_rows", &tasks), ("evaluation_rows", &evaluations), ("lineage_rows", &lineage)]
    {
        assert_eq!(sum(&rounds, column), table.num_rows() as u64, "{column}");
    }
    let times = events["at_ns"].as_primitive::<Int64Type>().values().to_vec();
    assert!(times.is_sorted());
    let last: serde_json::Value = serde_json::from_str(said.stdout.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["rounds"], 3);
    assert_eq!(last["digest"], texts(&rounds, "digest")[2]);
    assert_eq!(last["run"], "run");
}

#[test]
fn every_column_states_unit_and_meaning() {
    let world = World::new();
    world.run("run", &[]).succeeded();
    for table in ["population", "events", "tasks", "rounds", "evaluations", "lineage"] {
        for field in read_table(&world.path("run"), table).expect("a table").schema().fields() {
            for key in ["unit", "description"] {
                assert!(
                    field.metadata().get(key).is_some_and(|text| !text.is_empty()),
                    "{table}.{} {key}",
                    field.name()
                );
            }
        }
    }
}

#[test]
fn losses_fall_and_adapters_are_saved() {
    let world = World::new();
    let said = world.run("run", &["--set", "rounds=4"]).succeeded();
    let loss = |name| said.summary(name).split(' ').next().expect("a number").parse::<f64>().expect("a number");
    assert!(loss("loss after") < loss("loss before") - 0.05, "{}", said.stdout);
    for round in ["round-00002", "round-00004"] {
        for file in ["adapter_config.json", "adapter_model.safetensors"] {
            assert!(world.path("run/adapters").join(round).join(file).is_file(), "{round}/{file}");
        }
    }
    let lines: Vec<_> = said.stderr.lines().filter(|line| line.starts_with("[ROUND ")).collect();
    assert_eq!(lines.len(), 4, "{}", said.stderr);
    assert!(lines[3].starts_with("[ROUND 4/4] closed at 0:"), "{}", lines[3]);
}

#[test]
fn verify_finds_any_changed_missing_or_added_file() {
    let world = World::new();
    world.run("run", &[]).succeeded();
    let run = world.path("run");
    let whole = world.fedreplay(&["verify", "run"]).succeeded();
    assert!(whole.stdout.starts_with("whole: "), "{}", whole.stdout);
    let check = |expected: &str| {
        let said = world.fedreplay(&["verify", "run"]);
        assert_eq!(said.code, Some(3), "{expected}: {}{}", said.stdout, said.stderr);
        assert!(said.stdout.contains(expected), "{expected}: {}", said.stdout);
    };
    // Neither wall-clock figures nor the report, which can be made again, are answered for.
    let is_answered = |name: &str| !name.starts_with("timing") && name != "report.html";
    let answered: Vec<_> = files(&run).into_iter().filter(|(name, _)| is_answered(name)).collect();
    let places = answered.len() + 1;
    for (index, (name, bytes)) in answered.into_iter().enumerate() {
        let mut changed = bytes.clone();
        let place = changed.len() * (index + 1) / places;
        changed[place] ^= 0x10;
        fs::write(run.join(&name), &changed).expect("a writable file");
        match name.as_str() {
            // A byte of the manifest may break its form instead of its seal.
            "manifest.json" => check("manifest.json"),
            name => check(name),
        }
        fs::write(run.join(&name), &bytes).expect("a writable file");
    }
    fs::write(run.join("ledger/stray.txt"), "x").expect("a writable folder");
    check("ledger/stray.txt: the manifest does not know this file");
    fs::remove_file(run.join("ledger/stray.txt")).expect("it is there");
    // Neither a link that leads back nor a pipe that never ends is followed.
    std::os::unix::fs::symlink("..", run.join("ledger/loop")).expect("a writable folder");
    check("ledger/loop: the manifest does not know this file");
    fs::remove_file(run.join("ledger/loop")).expect("it is there");
    let events = run.join("ledger/events/00001-00003.parquet");
    fs::remove_file(&events).expect("it is there");
    let made = std::process::Command::new("mkfifo").arg(&events).status().expect("mkfifo is there");
    assert!(made.success());
    check("ledger/events/00001-00003.parquet: its hash is");
    fs::remove_file(&events).expect("it is there");
    fs::remove_file(run.join("adapters/round-00002/adapter_config.json")).expect("it is there");
    check("adapters/round-00002/adapter_config.json: the file is missing");
}

#[test]
fn verify_computes_the_chain_from_the_rows() {
    let world = World::new();
    world.run("run", &[]).succeeded();
    world.run("other", &["--set", "training.lr=0.02"]).succeeded();
    // Tables of another run, with file hashes and seal that fit them: only the rows give it away.
    let manifest = world.path("run/manifest.json");
    for (name, bytes) in files(&world.path("other/ledger/tasks")) {
        fs::write(world.path("run/ledger/tasks").join(name), bytes).expect("a writable folder");
    }
    let mut sealed = fedreplay::ledger::Manifest::read(&world.path("run")).expect("a manifest");
    sealed.list_files(&world.path("run")).expect("readable files");
    sealed.write(&world.path("run")).expect("a writable folder");
    assert!(manifest.is_file());
    let said = world.fedreplay(&["verify", "run"]);
    assert_eq!(said.code, Some(3));
    assert!(said.stdout.contains("round 1: its rows give the digest"), "{}", said.stdout);
}

/// Changes a copy of the run in folder `run`, whose manifest then lists the files as they are and is sealed again.
fn forge(world: &World, name: &str, change: impl FnOnce(&Path, &mut fedreplay::ledger::Manifest)) {
    let folder = world.path(name);
    for (file, bytes) in files(&world.path("run")) {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("a writable folder");
        fs::write(path, bytes).expect("a writable folder");
    }
    let mut manifest = fedreplay::ledger::Manifest::read(&folder).expect("a manifest");
    change(&folder, &mut manifest);
    manifest.list_files(&folder).expect("readable files");
    manifest.write(&folder).expect("a writable folder");
}

#[test]
fn what_is_outside_of_the_tables_is_compared_with_them() {
    let world = World::new();
    let short = ["--set=rounds=2", "--set=evaluation.local_baseline=false", "--set=output.save_adapter_every=1"];
    world.run("run", &short).succeeded();
    let differs = |arguments: &[&str], expected: &str| {
        let said = world.fedreplay(arguments);
        assert_eq!(said.code, Some(3), "{expected}: {}{}", said.stdout, said.stderr);
        assert!(said.stdout.contains(expected), "{expected}: {}", said.stdout);
    };
    forge(&world, "adapter", |run, _| {
        let name = "adapter_model.safetensors";
        fs::copy(run.join("adapters/round-00001").join(name), run.join("adapters/round-00002").join(name))
            .expect("an adapter");
    });
    let reason = "its content has the hash";
    differs(&["verify", "adapter"], reason);
    differs(&["replay", "adapter"], reason);
    differs(&["replay", "adapter", "--round", "2", "--store", "none"], reason);
    world.fedreplay(&["eval", "adapter", "--store", "none"]).refused(1, &["adapters/round-00002", reason]);
    let export = ["export", "adapter", "--to", "peft", "--store", "none", "--out", "peft"];
    world.fedreplay(&export).refused(1, &["adapters/round-00002", reason]);
    assert!(!world.path("peft").exists());

    forge(&world, "grade", |_, manifest| manifest.grade = "C".into());
    differs(&["verify", "grade"], "it says grade C, and its start-up test showed");
    forge(&world, "seed", |_, manifest| manifest.seed = 2);
    differs(&["verify", "seed"], "it says seed 2, the scenario 1");
    forge(&world, "input", |_, manifest| {
        manifest.inputs.get_mut("data").expect("data").hash = fedreplay::store::Digest([7; 32]);
    });
    differs(&["verify", "input"], "give the genesis");
    forge(&world, "stray", |run, _| fs::write(run.join("notes.txt"), "x").expect("a writable folder"));
    differs(&["verify", "stray"], "notes.txt: a run has no such file");
    forge(&world, "scenario", |run, _| {
        let path = run.join("scenario.ron");
        let text = fs::read_to_string(&path).expect("a scenario");
        assert!(text.contains("lr: 0.01"), "{text}");
        fs::write(path, text.replace("lr: 0.01", "lr: 0.02")).expect("a writable folder");
    });
    differs(&["verify", "scenario"], "scenario.ron: failed to understand");
    world.fedreplay(&["report", "scenario", "--out", "page.html"]).refused(1, &["scenario.ron"]);
    forge(&world, "certificate", |run, _| {
        let path = run.join("certificate.json");
        let text = fs::read_to_string(&path).expect("a certificate");
        fs::write(path, text.replace("\"seed\": 1", "\"seed\": 2")).expect("a writable folder");
    });
    differs(&["verify", "certificate"], "certificate.json: seed: 2 against 1");
    differs(&["verify", "run", "--certificate", "certificate/certificate.json"], "certificate: the seed is 1");
    differs(&["verify", "run", "--digest", &"0".repeat(64)], "is claimed");
    let digest = fedreplay::ledger::Manifest::read(&world.path("run")).expect("a manifest").digest.expect("a digest");
    world.fedreplay(&["verify", "run", "--digest", &digest.to_string()]).succeeded();

    forge(&world, "shorter", |run, _| {
        let file = fs::read_dir(run.join("ledger/rounds")).expect("a folder").next().expect("one file");
        let first = read_table(run, "rounds").expect("a table").slice(0, 1);
        let file = File::create(file.expect("a readable folder").path()).expect("a writable file");
        let mut writer = parquet::arrow::ArrowWriter::try_new(file, first.schema(), None).expect("columns of a table");
        writer.write(&first).and_then(|()| writer.close().map(drop)).expect("a writable file");
    });
    differs(&["verify", "shorter", "--certificate", "run/certificate.json"], "certificate: the run ends after round 1");

    // Another build may write the same content in another form, and fewer fields.
    forge(&world, "older", |run, manifest| {
        manifest.binary_hash = fedreplay::store::Digest([7; 32]);
        for (name, before) in [("scenario.ron", "("), ("adapters/round-00002/adapter_config.json", "{")] {
            let text = fs::read_to_string(run.join(name)).expect("a text");
            fs::write(run.join(name), text.replacen(before, &format!("{before} "), 1)).expect("a writable folder");
        }
        let path = run.join("certificate.json");
        let text = fs::read_to_string(&path).expect("a certificate");
        let mut value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        value["binary"] = serde_json::json!("07".repeat(32));
        value["numerics"]["tested_up_to"] = serde_json::json!([]);
        fs::write(&path, value.to_string()).expect("a writable folder");
    });
    assert!(world.fedreplay(&["verify", "older"]).succeeded().stdout.starts_with("whole: "));
}

#[test]
fn own_models_of_clients_are_saved_where_they_are_evaluated() {
    let world = World::new();
    // The last client has no held-out rows, and there is no test file: it is in no evaluation.
    let mut clients: serde_json::Value = serde_json::from_str(&super::support::data(5, 8)).expect("JSON");
    clients["user-9"] = super::support::rows(1, "user 9");
    world.write("data.json", &clients.to_string());
    let alone = [
        "--set=algorithm=Local",
        "--set=data.test_file=None",
        "--set=server.protocol=Synchronous(clients_per_round: 6)",
        "--set=evaluation.every=2",
        "--set=evaluation.local_baseline=false",
        "--set=output.save_adapter_every=1",
    ];
    world.run("run", &alone).succeeded();
    assert!(world.path("run/adapters/round-00002").is_dir() && !world.path("run/adapters/round-00001").exists());
    assert!(world.fedreplay(&["verify", "run"]).succeeded().stdout.starts_with("whole: "));
    // Named from within, where it has no name.
    let mut command = world.command(&["replay", "."]);
    let said = command.current_dir(world.path("run")).output().expect("the binary can be run");
    super::support::Said::of(said).succeeded();
}

#[test]
fn diff_names_round_table_row_and_column() {
    let world = World::new();
    world.run("a", &[]).succeeded();
    world.run("b", &["--set", "training.lr=0.02"]).succeeded();
    let said = world.fedreplay(&["diff", "a", "b"]);
    assert_eq!(said.code, Some(3), "{}", said.stderr);
    assert!(said.stdout.starts_with("different: round 1, table tasks, row "), "{}", said.stdout);
    // Why: the first key that differs and its part, a tensor of the saved adapters, the field of the scenario.
    for part in [
        "(train of round 1): parameters.hyper.learning_rate: 0.01 against 0.02\n",
        "first tensor  base_model.model.model.layers.0.self_attn.q_proj.lora_",
        "because of    scenario: training.lr: 0.01 against 0.02\n",
    ] {
        assert!(said.stdout.contains(part), "{part}: {}", said.stdout);
    }
    assert!(!said.stdout.contains("first event"), "{}", said.stdout);
    world.run("c", &["--set", "server.uplink=1 Mbit/s"]).succeeded();
    let said = world.fedreplay(&["diff", "a", "c"]);
    assert!(said.stdout.contains("first event   round 1, table events, row "), "{}", said.stdout);
    assert!(said.stdout.contains("because of    scenario: server.uplink"), "{}", said.stdout);
    let said = world.fedreplay(&["diff", "a", "a", "--json"]).succeeded();
    let last: serde_json::Value = serde_json::from_str(said.stdout.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["same"], true);
    // A table that another program wrote is a difference, wherever it differs.
    let (from, to) = ("a/ledger/population/00000-00000.parquet", "b/ledger/tasks/00001-00003.parquet");
    fs::copy(world.path(from), world.path(to)).expect("a readable table");
    let said = world.fedreplay(&["diff", "a", "b"]);
    assert_eq!(said.code, Some(3), "{}{}", said.stdout, said.stderr);
}

#[test]
fn diff_tells_a_scenario_that_was_edited_after_its_run() {
    let world = World::new();
    world.run("a", &["--set", "rounds=1"]).succeeded();
    // Another text that gives the same results.
    world.run("b", &["--set", "rounds=1", "--set", "name=\"other\""]).succeeded();
    assert_eq!(world.fedreplay(&["diff", "a", "b"]).succeeded().stdout, "same\n");
    world.edit("b/scenario.ron", "lr: 0.01", "lr: 0.02");
    for pair in [["a", "b"], ["b", "a"]] {
        let said = world.fedreplay(&["diff", pair[0], pair[1]]);
        assert_eq!(said.code, Some(3), "{}", said.stderr);
        assert!(
            said.stdout.starts_with("different: b/scenario.ron is not as the run began with it\n"),
            "{}",
            said.stdout
        );
        assert!(said.stdout.contains("because of    scenario: training.lr: "), "{}", said.stdout);
    }
    fs::remove_file(world.path("b/scenario.ron")).expect("the scenario");
    assert_eq!(world.fedreplay(&["diff", "a", "b"]).code, Some(3));
}

#[test]
fn nothing_in_the_digest_names_this_machine() {
    let world = World::new();
    let here = world.path("").to_str().expect("UTF-8").to_owned();
    for (from, to) in [("\"base\"", "base"), ("\"data.json\"", "data.json"), ("\"test.json\"", "test.json")] {
        world.edit("scenario.ron", from, &format!("\"{here}{to}\""));
    }
    world.run("run", &[]).succeeded();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").expect("Linux has it");
    let home = std::env::var("HOME").unwrap_or_default();
    let names = [here.trim_end_matches('/'), host.trim(), home.trim_end_matches('/')];
    let mut looked_at = 0;
    // The scenario holds what its author wrote; the manifest and the timings are of this machine.
    for (name, bytes) in
        super::support::hashed(&world.path("run")).into_iter().filter(|(name, _)| name != "scenario.ron")
    {
        for identifying in names.iter().filter(|text| text.len() > 3) {
            let found = bytes.windows(identifying.len()).any(|window| window == identifying.as_bytes());
            assert!(!found, "{name} holds `{identifying}`");
        }
        looked_at += 1;
    }
    assert!(looked_at >= 7, "{looked_at} files");
    for table in ["population", "events", "tasks", "rounds", "evaluations", "lineage"] {
        let rows = read_table(&world.path("run"), table).expect("a table");
        let schema = rows.schema();
        for field in schema.fields().iter().filter(|field| *field.data_type() == arrow::datatypes::DataType::Utf8) {
            let values = texts(&rows, field.name());
            assert!(!values.iter().any(|text| text.contains('/')), "{table}.{}: {values:?}", field.name());
        }
    }
}

#[test]
fn output_that_nobody_reads_is_no_panic() {
    let world = World::new();
    world.run("run", &["--set", "rounds=1"]).succeeded();
    let mut command = world.command(&["verify", "run"]);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let said = super::support::Said::of(command.stdout(full).output().expect("the binary can be run"));
    said.refused(1, &["failed to write to standard output"]);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let said = super::support::Said::of(command.stdout(writer).output().expect("the binary can be run"));
    said.refused(141, &[]);
}
