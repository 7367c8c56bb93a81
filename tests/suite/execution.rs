//! How results are computed changes none of them: company in a pass, recomputed layers, workers, too little memory.

use std::fs;
use std::process::{Child, Stdio};

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use super::support::{Said, World, files};
use super::training::last_model;

/// Plays two rounds of six clients each with these fields set.
#[track_caller]
fn run(world: &World, out: &str, workers: u32, sets: &[&str]) -> Said {
    let sets: Vec<&str> = sets.iter().flat_map(|&set| ["--set", set]).collect();
    let workers = format!("--workers={workers}");
    world.run(out, &[&[workers.as_str(), "--set", "rounds=2"], &sets[..]].concat()).succeeded()
}

fn world() -> World {
    let world = World::new();
    world.edit("scenario.ron", "clients_per_round: 2, over_selection: 2, deadline: \"10m\"", "clients_per_round: 6");
    world
}

#[test]
fn any_company_and_any_number_of_workers_give_one_digest() {
    let world = world();
    let mut digests = Vec::new();
    for cohort in [1, 2, 4, 8] {
        let set = format!("execution.cohort_batch={cohort}");
        for workers in [1, 2, 4] {
            let said = run(&world, &format!("{cohort}-{workers}"), workers, &[&set]);
            digests.push((cohort, workers, said.summary("digest").to_owned()));
        }
    }
    for (cohort, workers, digest) in &digests {
        assert_eq!(*digest, digests[0].2, "{cohort} clients in a pass, {workers} workers");
    }
}

#[test]
fn grouping_in_keys_is_another_digest_of_the_same_models() {
    let world = world();
    let keyed = ["execution.grouping=Keyed", "execution.cohort_batch=4"];
    let free = run(&world, "free", 2, &[]);
    let first = run(&world, "first", 1, &keyed);
    let second = run(&world, "second", 4, &keyed);
    assert_eq!(first.summary("digest"), second.summary("digest"));
    assert_ne!(first.summary("digest"), free.summary("digest"), "the grouping is in the keys");
    assert_eq!(last_model(&world, "first"), last_model(&world, "free"), "on a CPU the bits are the same all the same");
    let other = run(&world, "other", 1, &["execution.grouping=Keyed", "execution.cohort_batch=3"]);
    assert_ne!(first.summary("digest"), other.summary("digest"));
    world.fedreplay(&["replay", "first"]).succeeded();
}

#[test]
fn recomputed_layers_change_no_bit() {
    let world = world();
    let digests: Vec<String> = ["Auto", "Always", "Never"]
        .iter()
        .map(|choice| {
            run(&world, choice, 2, &[&format!("execution.checkpointing={choice}")]).summary("digest").to_owned()
        })
        .collect();
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
}

/// The path that a GPU takes, on a CPU: a whole run ends where the program's own kernels take it, and claims no more than
/// `A`, under keys of its own.
#[test]
fn libtorch_alone_ends_with_the_loss_of_the_own_kernels() {
    let world = world();
    let own = run(&world, "own", 2, &[]);
    let by_libtorch = run(&world, "by-libtorch", 2, &["execution.kernels=LibTorch"]);
    let [expected, found] = [&own, &by_libtorch].map(|said| {
        let text = said.summary("loss after").split_whitespace().next().expect("a number");
        text.parse::<f64>().expect("a number")
    });
    assert!((found - expected).abs() < 1e-3, "{found} where the own kernels end with {expected}");
    assert_ne!(own.summary("digest"), by_libtorch.summary("digest"), "what computes is in the keys");
    let manifest = fedreplay::ledger::Manifest::read(&world.path("by-libtorch")).expect("a manifest");
    assert_eq!(manifest.grade, "A");
    assert!(manifest.numerics_class.contains("LibTorch in blocks of 256 rows"), "{}", manifest.numerics_class);
    world.fedreplay(&["replay", "by-libtorch"]).succeeded();
}

#[test]
fn libtorch_alone_is_refused_with_portable_numerics() {
    let world = World::new();
    let sets = ["--set", "execution.numerics=Portable", "--set", "execution.kernels=LibTorch"];
    world.run("run", &sets).refused(2, &["execution.kernels: LibTorch's kernels are not portable"]);
    assert!(!world.path("run").exists());
}

#[test]
fn the_manifest_records_what_the_machine_showed() {
    let world = World::new();
    world.run("run", &["--set", "rounds=1"]).succeeded();
    let text = std::fs::read_to_string(world.path("run/manifest.json")).expect("a manifest");
    let manifest: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let found = &manifest["numerics"]["self_test"];
    let kept = ["repeats", "company", "threads"].iter().all(|kind| found[kind] == true);
    assert_eq!(manifest["grade"], if kept { "B" } else { "A" }, "{found}");
    assert_eq!(found["repeats"], true);
    for (field, is_right) in [
        ("device", manifest["numerics"]["device"] == "Cpu"),
        ("driver", manifest["numerics"]["driver"].is_null()),
        ("threads", manifest["numerics"]["threads"] == 1),
        ("cpu_capability", manifest["numerics"]["cpu_capability"].as_str().is_some_and(|text| !text.is_empty())),
        ("torch", manifest["numerics"]["class"]["torch"].as_str().is_some_and(|text| text.starts_with("2."))),
        ("switches", manifest["numerics"]["switches"]["deterministic_algorithms"] == true),
    ] {
        assert!(is_right, "{field}: {}", manifest["numerics"]);
    }
}

#[test]
fn the_manifest_says_up_to_which_shapes_the_machine_was_tested() {
    let world = World::new();
    let tested = |out: &str, sets: &[&str]| {
        let sets: Vec<&str> = sets.iter().flat_map(|&set| ["--set", set]).collect();
        world.run(out, &[&["--set", "rounds=1"], &sets[..]].concat()).succeeded();
        let text = std::fs::read_to_string(world.path(out).join("manifest.json")).expect("a manifest");
        let manifest: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        manifest["numerics"]["tested_up_to"].clone()
    };
    let (small, large) = (tested("small", &[]), tested("large", &["training.batch_size=8"]));
    let number = |tested: &serde_json::Value, field: &str| tested[field].as_u64().expect("a number");
    assert!(number(&large, "micro_batch_rows") == 8, "{large}");
    assert!(number(&large, "micro_batch_tokens") > number(&small, "micro_batch_tokens"), "{small} {large}");
    assert!(number(&small, "longest_row_tokens") >= 61 && number(&small, "evaluated_tokens") > 0, "{small}");
    assert_eq!(small["threads"], serde_json::json!([1, 2]));
    let together = tested("together", &["execution.cohort_batch=6"]);
    assert_eq!(number(&together, "clients_in_a_pass"), 6);
}

#[test]
fn a_device_that_is_not_there_is_a_clear_error() {
    let world = World::new();
    world.run("run", &["--device", "cuda:99"]).refused(2, &["cuda:99", "failed to"]);
    assert!(!world.path("run").exists());
}

#[test]
fn too_little_memory_says_what_was_needed_and_the_run_goes_on_with_more() {
    let world = World::new();
    // One pass of hundreds of rows keeps about a gigabyte, more than the limit leaves beside the program itself.
    world.edit("scenario.ron", "batch_size: 2", "batch_size: 700");
    world.edit("scenario.ron", "local_steps: 2", "local_steps: 1");
    world.edit("scenario.ron", "clients_per_round: 2, over_selection: 2, deadline: \"10m\"", "clients_per_round: 1");
    let sets = "--set rounds=1 --set evaluation.local_baseline=false --workers 1";
    let binary = env!("CARGO_BIN_EXE_fedreplay");
    let line = format!("ulimit -v 1500000; exec {binary} run scenario.ron --out run --store none {sets}");
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &line]).current_dir(world.path("")).stdin(Stdio::null());
    let said = Said::of(shell.output().expect("a shell"));
    let said = said.refused(1, &["out of memory on cpu", "clients with", "execution.checkpointing=Always"]);
    assert!(said.stderr.contains("fedreplay resume"), "{}", said.stderr);
    assert!(!files(&world.path("run")).is_empty());
    let resume = ["resume", "run", "--store", "none", "--set", "training.lr=0.5"];
    world.fedreplay(&resume).refused(2, &["its scenario was changed"]);
    let resume = ["resume", "run", "--store", "none", "--set", "execution.checkpointing=Always", "--workers", "1"];
    world.fedreplay(&resume).succeeded();
    world.fedreplay(&["verify", "run"]).succeeded();
}

/// [byte] -- Returns the highest resident memory of a program, as the kernel counts it until the program ends.
pub fn peak_bytes(program: &mut Child) -> u64 {
    let status = format!("/proc/{}/status", program.id());
    let mut peak = 0;
    while program.try_wait().expect("a child").is_none() {
        let table = fs::read_to_string(&status).unwrap_or_default();
        let line = table.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        peak = kibibytes.map_or(peak, |kibibytes| 1024 * kibibytes);
        std::thread::yield_now();
    }
    assert!(program.wait().expect("a child").success());
    peak
}

/// Asserts that the peak memory of a run is within 15 % of the forecast.
#[track_caller]
fn takes_what_is_forecast(world: &World, set: &str) {
    let common = ["scenario.ron", "--set", set, "--workers", "1"];
    // Not forked: a forked process has fewer pages of its libraries than a run that loads them.
    let mut check = world.command(&[&["scenario", "check", "--json"][..], &common].concat());
    let check = Said::of(check.output().expect("the binary can be run")).succeeded();
    let said: Value = serde_json::from_str(check.stdout.lines().last().expect("a line")).expect("JSON");
    let forecast = said["forecast"]["memory_bytes"].as_u64().expect("a number of bytes");
    let mut run = world.command(&[&["run", "--out", "run", "--store", "none"][..], &common].concat());
    let mut run = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary can be run");
    let peak = peak_bytes(&mut run);
    let share = peak as f64 / forecast as f64;
    assert!(
        (0.85..1.15).contains(&share),
        "{set}: {peak} B at the peak, {forecast} B forecast: {}",
        said["forecast"]["memory"]
    );
    fs::remove_dir_all(world.path("run")).expect("a run");
}

/// Rows of unequal length, so that each pass takes other sizes of memory than the one before.
#[test]
fn a_run_takes_the_memory_that_check_forecasts() {
    let world = World::new();
    let row = |n: usize| json!({"instruction": format!("Say it {n}."), "response": "word ".repeat(1 + n * 37 % 300)});
    world.write("data.json", &json!({"one": (0..60).map(row).collect::<Vec<Value>>()}).to_string());
    world.edit("scenario.ron", "max_seq_length: 160, held_out: 0.2", "max_seq_length: 448");
    world.edit("scenario.ron", "local_steps: 2, batch_size: 2", "local_steps: 5, batch_size: 12");
    world.edit("scenario.ron", "clients_per_round: 2, over_selection: 2, deadline: \"10m\"", "clients_per_round: 1");
    world.edit("scenario.ron", "rounds: 3", "rounds: 1");
    world.edit("scenario.ron", "local_baseline: true", "local_baseline: false");
    takes_what_is_forecast(&world, "model.precision=F32");
}

/// An embedding that is by far the largest part of the model: it is not held several times while it is read.
#[test]
fn reading_a_model_takes_no_more_memory_than_running_it() {
    const WORDS: usize = 400_000;
    let world = World::new();
    let folder = world.path("base");
    let bytes = fs::read(folder.join("model.safetensors")).expect("weights");
    let weights = SafeTensors::deserialize(&bytes).expect("weights");
    let grown = |(name, view): (String, TensorView<'_>)| {
        let mut bytes = view.data().to_vec();
        let mut shape = view.shape().to_vec();
        if name == "model.embed_tokens.weight" {
            shape[0] = WORDS;
            bytes.resize(WORDS * shape[1] * 4, 0);
        }
        (name, shape, bytes)
    };
    let tensors: Vec<_> = weights.tensors().into_iter().map(grown).collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (name, TensorView::new(weights.tensor(name).expect("a tensor").dtype(), shape.clone(), bytes).expect("a view"))
    });
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors")).expect("a file");
    world.edit("base/config.json", "\"vocab_size\": 1024", &format!("\"vocab_size\": {WORDS}"));
    world.edit("scenario.ron", "rounds: 3", "rounds: 1");
    world.edit("scenario.ron", "local_baseline: true", "local_baseline: false");
    world.edit("scenario.ron", "max_seq_length: 160", "max_seq_length: 64");
    for precision in ["F32", "Bf16", "Nf4"] {
        takes_what_is_forecast(&world, &format!("model.precision={precision}"));
    }
}
