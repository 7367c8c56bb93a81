//! `fedreplay calibrate`: what is measured of a scenario, what a profile of it says, and what is refused.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use fedreplay::profile::{DeviceProfile, Measurements};
use ron::extensions::Extensions;

use super::support::{Said, World, not_possible};

/// A small measurement, which takes no heed of how busy the machine is.
const SMALL: [&str; 10] =
    ["--rows", "1,2", "--lengths", "8,24", "--repeats", "2", "--least-seconds", "0", "--busy", "--held-out=2"];

/// Reads a profile, which is `None` if it is not whole.
pub fn profile_in(bytes: &[u8]) -> Option<DeviceProfile> {
    ron::Options::default().with_default_extension(Extensions::IMPLICIT_SOME).from_bytes(bytes).ok()
}

fn calibrate(world: &World, more: &[&str]) -> Said {
    world.fedreplay(&[&["calibrate", "scenario.ron", "--out", "this.ron"], &SMALL[..], more].concat())
}

#[test]
fn a_profile_is_of_what_the_scenario_trains_and_the_same_from_its_steps() {
    let world = World::new();
    let said = calibrate(&world, &["--steps", "steps.parquet", "--ranks", "4,8"]).succeeded();
    let profile = profile_in(&fs::read(world.path("this.ron")).expect("a file")).expect("a profile");
    let workload = &profile.workload;
    // As config.json of the base and the scenario have it.
    let model = &workload.model;
    assert_eq!((model.layers, model.hidden, model.intermediate, model.heads), (4, 128, 352, 4));
    assert_eq!((model.kv_heads, model.head_dim, model.vocabulary, model.ties_embeddings), (4, 32, 1024, true));
    assert_eq!(workload.targets, ["q_proj", "v_proj"]);
    let [precision, optimizer, objective] = [&workload.precision, &workload.optimizer, &workload.objective];
    assert_eq!([precision.as_str(), optimizer.as_str(), objective.as_str()], ["F32", "AdamW", "Sft"]);
    assert!(!workload.recomputation && profile.machine.busy);
    assert_eq!((profile.machine.threads, profile.machine.workers), (1, 1));
    assert!(profile.machine.versions.starts_with(&format!("fedreplay {}, LibTorch 2.", env!("CARGO_PKG_VERSION"))));
    assert_eq!((&profile.ranks[..], &profile.rows[..], &profile.lengths[..]), (&[4, 8][..], &[1, 2][..], &[8, 24][..]));
    assert!(profile.cells.iter().all(|cell| cell.repeats == 2 && cell.peak_memory_bytes.is_some()));
    let mut held_out: Vec<_> = profile.held_out.iter().map(|step| (step.rank, step.rows, step.length)).collect();
    held_out.sort_unstable();
    assert_eq!(held_out, [(6, 2, 16), (8, 1, 16)]);
    assert!(said.stdout.contains("held out      2 shapes: time off by"), "{}", said.stdout);
    assert!(said.stdout.contains("busy"), "{}", said.stdout);

    let steps = Measurements::read(&world.path("steps.parquet")).expect("steps");
    assert_eq!(steps.steps.len(), 2 * (8 + 2));
    world.fedreplay(&["calibrate", "--from", "steps.parquet", "--out", "again.ron"]).succeeded();
    let [this, again] = ["this.ron", "again.ron"].map(|name| fs::read(world.path(name)).expect("a profile"));
    assert!(this == again, "the profile of the same steps is the same");
}

#[test]
fn settings_of_the_scenario_and_of_the_command_are_in_the_profile() {
    let world = World::new();
    let sets = ["model.precision=Nf4", "model.arithmetic=F32", "training.recomputation=true", "model.lora.rank=2"];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let sgd = ["--set", "training.optimizer=Sgd(momentum: 0.5)", "--threads", "2", "--workers", "2"];
    calibrate(&world, &[&sets[..], &sgd].concat()).succeeded();
    let profile = profile_in(&fs::read(world.path("this.ron")).expect("a file")).expect("a profile");
    assert_eq!(profile.workload.precision, "Nf4 in F32");
    assert_eq!(profile.workload.optimizer, "Sgd with momentum");
    assert!(profile.workload.recomputation);
    assert_eq!((profile.machine.threads, profile.machine.workers), (2, 2));
    assert_eq!(profile.ranks, [2]);
    // The memory of a process with two trainings is that of no device.
    assert!(profile.cells.iter().all(|cell| cell.peak_memory_bytes.is_none()));
    assert!(profile.held_out.iter().all(|step| step.peak_memory_bytes.is_none()));
}

#[test]
fn what_cannot_be_measured_is_refused_before_anything_is_computed() {
    let world = World::new();
    let refused = |more: &[&str], parts: &[&str]| {
        calibrate(&world, more).refused(2, parts);
        assert!(!world.path("this.ron").exists());
    };
    refused(&["--set", "training.objective=Dpo(beta: 0.1)"], &["training.objective", "Dpo"]);
    refused(&["--set", "federated_lora=FedSb()"], &["federated_lora", "FedSb"]);
    let with = |name, value| {
        let other: Vec<&str> = ["calibrate", "scenario.ron", "--out", "this.ron", name, value].to_vec();
        world.fedreplay(&other)
    };
    with("--lengths", "24").refused(2, &["lengths", "two lengths"]);
    with("--lengths", "1,24").refused(2, &["lengths", "2 tokens"]);
    with("--lengths", "8,4096").refused(2, &["lengths", "4096", "512 positions"]);
    with("--rows", "0,1").refused(2, &["rows", "0 cannot be measured"]);
    with("--ranks", "0").refused(2, &["ranks", "0 cannot be measured"]);
    with("--least-seconds", "NaN").refused(2, &["--least-seconds"]);
    with("--from", "steps.parquet").refused(2, &["--from", "cannot be used with"]);
    with("--device", "cuda:63").refused(2, &["cuda"]);
    let sizes = "layers: 4, hidden: 128, intermediate: 352, heads: 4, vocabulary: 1024";
    let text = fs::read_to_string(world.path("scenario.ron")).expect("a scenario");
    world.write("shape.ron", &text.replace("folder: \"base\"", &format!("shape: ({sizes}), tokenizer: \"base\"")));
    world.fedreplay(&["calibrate", "shape.ron", "--out", "this.ron"]).refused(2, &["model.folder is missing"]);
    fs::create_dir(world.path("folder")).expect("a writable folder");
    world.fedreplay(&["calibrate", "scenario.ron", "--out", "folder"]).refused(2, &["folder: it is a folder"]);
    world.fedreplay(&["calibrate", "--out", "this.ron"]).refused(2, &["<SCENARIO>"]);
    assert!(!world.path("this.ron").exists());
}

#[test]
fn steps_that_are_none_are_refused_with_their_file() {
    let world = World::new();
    let from = |file: &str| world.fedreplay(&["calibrate", "--from", file, "--out", "this.ron"]);
    from("missing.parquet").refused(2, &["missing.parquet"]);
    from("data.json").refused(2, &["data.json"]);
    world.fedreplay(&["calibrate", "--from", "data.json", "--rows", "1", "--out", "this.ron"]).refused(2, &["--from"]);
    assert!(!world.path("this.ron").exists());
}

#[test]
fn a_busy_machine_is_refused_with_how_busy_it_is() {
    let world = World::new();
    let is_over = AtomicBool::new(false);
    let table = fs::read_to_string("/proc/stat").expect("the system's table");
    let processors = table.lines().filter(|line| line.starts_with("cpu")).count() - 1;
    // One more than the twentieth of the processors that may be busy.
    let busy = processors / 20 + 2;
    if std::thread::available_parallelism().map_or(1, usize::from) < processors / 20 + 1 {
        return not_possible("a busy machine", "this process may not take enough of its processors");
    }
    let said = std::thread::scope(|scope| {
        for _ in 0..busy {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let said = world.fedreplay(&["calibrate", "scenario.ron", "--out", "this.ron"]);
        is_over.store(true, Ordering::Relaxed);
        said
    });
    said.refused(1, &["busy machine", "other programs took", "--busy"]);
    assert!(!world.path("this.ron").exists());
}
