//! The scenarios of FedLLM-Bench's training scripts: their numbers, and some of them played on twins.

use fedreplay::scenario::{Algorithm, Batches, Loaded, LrSchedule, Protocol, Scenario, Selection};

use crate::support::{World, project};

fn folder() -> std::path::PathBuf {
    project("scenarios/fedllm-bench")
}

fn read(name: &str, sets: &[String]) -> Scenario {
    Loaded::read(&folder().join(format!("{name}.ron")), sets).unwrap_or_else(|error| panic!("{error}")).scenario
}

/// Name, rounds, clients of a round, steps, batch, accumulation, sequence length, rounds between checkpoints.
const SCRIPTS: &[(&str, [u32; 7])] = &[
    ("aya-all", [200, 4, 10, 4, 4, 1024, 50]),
    ("aya-local-ar", [100, 1, 10, 4, 4, 1024, 25]),
    ("aya-local-en", [25, 1, 10, 4, 4, 1024, 25]),
    ("aya-local-es", [40, 1, 10, 4, 4, 1024, 40]),
    ("aya-local-fr", [25, 1, 10, 4, 4, 1024, 25]),
    ("aya-local-pt", [75, 1, 10, 4, 4, 1024, 25]),
    ("aya-local-ru", [15, 1, 10, 4, 4, 1024, 15]),
    ("aya-local-te", [75, 1, 10, 4, 4, 1024, 25]),
    ("aya-local-zh", [50, 1, 10, 4, 4, 1024, 25]),
    ("chatbot-it-all", [100, 10, 5, 4, 4, 1024, 50]),
    ("chatbot-it-local-154", [30, 1, 5, 8, 1, 1024, 30]),
    ("chatbot-it-local-65", [30, 1, 5, 8, 1, 1024, 30]),
    ("wildchat-all", [100, 5, 10, 4, 4, 1024, 50]),
    ("wildchat-local-1702", [50, 1, 10, 8, 2, 1024, 50]),
    ("wildchat-local-813", [50, 1, 10, 8, 2, 1024, 50]),
    ("wildchat-multi-all", [100, 3, 10, 4, 4, 2048, 50]),
    ("wildchat-multi-local-202", [25, 1, 10, 4, 4, 2048, 25]),
    ("wildchat-multi-local-635", [75, 1, 10, 4, 4, 2048, 25]),
];

#[test]
fn scenarios_have_the_numbers_of_the_scripts() {
    for (name, numbers) in SCRIPTS {
        let scenario = read(name, &[]);
        let Protocol::Synchronous { clients_per_round, .. } = scenario.server.protocol else { panic!("{name}") };
        let training = &scenario.training;
        let found = [
            scenario.rounds,
            clients_per_round,
            training.local_steps,
            training.batch_size,
            training.gradient_accumulation,
            scenario.data.max_seq_length,
            scenario.output.save_adapter_every.expect("every script saves"),
        ];
        assert_eq!(found, *numbers, "{name}");
        assert_eq!((training.lr, training.lr_schedule), (2e-5, LrSchedule::Cosine { final_lr: 1e-6 }), "{name}");
        let lora = &scenario.model.lora;
        assert_eq!((lora.rank, lora.alpha, lora.dropout), (16, 32.0, 0.05), "{name}");
        assert_eq!(lora.target_modules, ["q_proj", "v_proj"]);
        assert_eq!(scenario.server.selection, Selection::PythonSample);
        let is_multi = name.contains("multi");
        assert_eq!(training.batches, if is_multi { Batches::SamePrefix } else { Batches::RoundSeeded }, "{name}");
        assert_eq!(scenario.algorithm == Algorithm::Local, name.contains("local"), "{name}");
    }
}

#[test]
fn every_scenario_can_be_read_and_has_a_tiny_form() {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder()).expect("the folder is there") {
        let path = entry.expect("a readable folder").path();
        if path.extension().is_some_and(|extension| extension == "ron") {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let tiny = format!("@{}", folder().join("tiny").join(format!("{name}.set")).display());
            assert_eq!(read(&name, &[tiny]).rounds, 2, "{name}");
            assert_eq!(read(&name, &[]).name, name);
            names.push(name);
        }
    }
    assert!(SCRIPTS.iter().all(|(name, _)| names.iter().any(|known| known == name)));
}

/// One of each kind: federated, local, multi-turn, dealt anew by language.
#[test]
fn tiny_forms_run_on_twins() {
    let world = World::new();
    for (twin, names) in [
        ("fed-chatbot-it", &["chatbot-it-all", "chatbot-it-local-65"][..]),
        ("fed-wildchat-multi", &["wildchat-multi-all"]),
        ("fed-aya", &["collaboration-alone"]),
    ] {
        let file = world.path(&format!("{twin}.json"));
        let file = file.to_str().expect("a path in UTF-8");
        world.fedreplay(&["data", "twin", twin, "--length-scale", "0.05", "--out", file]).succeeded();
        for name in names {
            let scenario = folder().join(format!("{name}.ron")).display().to_string();
            let tiny = format!("@{}", folder().join("tiny").join(format!("{name}.set")).display());
            let data = format!("data.file={file}");
            let arguments =
                ["run", &scenario, "--out", name, "--store", "none", "--set", &tiny, "--set", &data].map(str::to_owned);
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            world.fedreplay(&arguments).succeeded();
        }
    }
}
