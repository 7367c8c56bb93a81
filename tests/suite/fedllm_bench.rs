//! The scenarios of FedLLM-Bench's training scripts: their numbers, and some of them played on twins.

use fedreplay::scenario::{
    Algorithm, Batches, LrSchedule, ObjectiveSpec, PairFormSpec, PartitionSpec, Privacy, Protocol, Scenario,
    ScenarioSpec, Selection,
};

use crate::support::{World, project};

fn folder() -> std::path::PathBuf {
    project("scenarios/fedllm-bench")
}

fn read(name: &str, sets: &[String]) -> ScenarioSpec {
    Scenario::read(&folder().join(format!("{name}.ron")), sets).unwrap_or_else(|error| panic!("{error}")).scenario
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
        assert_eq!((lora.rank, lora.alpha, lora.dropout.get()), (16, 32.0, 0.05), "{name}");
        assert_eq!(lora.target_modules, ["q_proj", "v_proj"]);
        assert_eq!(scenario.server.selection.get(), Selection::PythonSample);
        let is_multi = name.contains("multi");
        assert_eq!(training.batches.get(), if is_multi { Batches::SamePrefix } else { Batches::RoundSeeded }, "{name}");
        assert_eq!(scenario.algorithm == Algorithm::Local, name.contains("local"), "{name}");
    }
}

#[test]
fn pairs_noise_and_openfedllm_have_the_numbers_of_their_scripts() {
    let steps = |scenario: &ScenarioSpec| {
        let training = &scenario.training;
        (scenario.rounds, training.batch_size * training.gradient_accumulation, training.lr, training.lr_schedule)
    };
    let cosine = |final_lr| LrSchedule::Cosine { final_lr };
    let pairs = read("chatbot-pa-all", &[]);
    assert_eq!(steps(&pairs), (200, 8, 1e-4, cosine(1e-5)));
    assert_eq!([5, 10, 13, 26, 76, 154].map(|rows| pairs.steps(rows, 747)), [1, 2, 2, 4, 11, 22]);
    let local = read("chatbot-pa-local-154", &[]);
    assert_eq!((steps(&local), local.training.local_steps), ((90, 8, 1e-4, cosine(1e-5)), 5));
    for scenario in [&pairs, &local] {
        assert!(matches!(scenario.training.objective, ObjectiveSpec::Dpo { beta: 0.1, .. }));
        assert_eq!(
            (scenario.data.pairs.get(), scenario.data.max_seq_length),
            (PairFormSpec::Raw { max_prompt: 128 }, 512)
        );
        let lora = &scenario.model.lora;
        assert_eq!((lora.rank, lora.alpha, lora.dropout.get()), (8, 16.0, 0.0));
    }
    let noisy = read("wildchat-dp", &[]);
    assert_eq!((steps(&noisy), noisy.training.local_steps), ((100, 1, 2e-5, cosine(1e-6)), 160));
    assert!(matches!(noisy.privacy, Some(Privacy::FedLlmBenchDp { claimed_epsilon: 1.0, sigma: None, .. })));
    let open = read("openfedllm-sft", &[]);
    assert_eq!(
        (steps(&open), open.data.partition),
        ((200, 16, 5e-5, cosine(1e-6)), PartitionSpec::Iid { clients: 20 })
    );
    assert_eq!((open.model.lora.rank, open.model.lora.alpha), (32, 64.0));
    assert_eq!(steps(&read("openfedllm-dpo", &[])), (200, 16, 5e-4, cosine(1e-5)));
}

#[test]
fn every_scenario_can_be_read_and_has_a_tiny_form() {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder()).expect("the folder is there") {
        let path = entry.expect("a readable folder").path();
        if path.extension().is_some_and(|extension| extension == "ron") {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            if name == "methods" {
                // A sweep.
                continue;
            }
            let tiny = format!("@{}", folder().join("tiny").join(format!("{name}.set")).display());
            assert_eq!(read(&name, &[tiny]).rounds, 2, "{name}");
            assert_eq!(read(&name, &[]).name, name);
            names.push(name);
        }
    }
    assert!(SCRIPTS.iter().all(|(name, _)| names.iter().any(|known| known == name)));
}

/// One of each kind: federated, local, multi-turn, dealt anew by language, pairs.
#[test]
fn tiny_forms_run_on_twins() {
    let world = World::new();
    for (twin, names) in [
        ("fed-chatbot-it", &["chatbot-it-all", "chatbot-it-local-65"][..]),
        ("fed-wildchat-multi", &["wildchat-multi-all"]),
        ("fed-aya", &["collaboration-alone"]),
        ("fed-chatbot-pa", &["chatbot-pa-all", "openfedllm-dpo"]),
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

/// The paper's kind of table of one dataset: Local beside the federated methods, differences in pairs, published figures
/// apart from ours.
#[test]
fn the_table_of_methods_can_be_made() {
    let world = World::new();
    // The sweep lies among the scenarios that it names, and writes its twins into their repository's `data`: a copy.
    let copy = world.path("scenarios/fedllm-bench");
    for (part, to) in [("", copy.clone()), ("tiny", copy.join("tiny"))] {
        std::fs::create_dir_all(&to).expect("a writable folder");
        for entry in std::fs::read_dir(folder().join(part)).expect("the folder is there") {
            let from = entry.expect("a readable folder").path();
            if from.is_file() {
                std::fs::copy(&from, to.join(from.file_name().expect("a file has a name"))).expect("a copy");
            }
        }
    }
    let base = format!("model.folder={}", project("fixtures/tiny-base").display());
    let arguments = ["sweep", "scenarios/fedllm-bench/methods.ron", "--only", "Fed-ChatbotIT", "--seeds", "1,2"];
    let short = ["--set", &base, "--set", "rounds=1", "--set", "training.local_steps=1"];
    let said = world.fedreplay(&[&arguments[..], &short, &["--out", "table"]].concat()).succeeded();
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert_eq!(lines[0], "Fed-ChatbotIT");
    assert!(lines[1].ends_with("published, of the original"), "{}", said.stdout);
    let names: Vec<&str> = lines[2..11].iter().filter_map(|line| line.split_whitespace().next()).collect();
    let methods =
        ["Local", "FedAvg", "FedProx", "SCAFFOLD", "FedAvgM", "FedAdagrad", "FedYogi", "FedAdam", "FedDP-0.1"];
    assert_eq!(names, methods);
    // Each has a deviation over its seeds, and all but the first an interval of the difference.
    let intervals = lines[2..11].iter().map(|line| line.matches('±').count()).collect::<Vec<_>>();
    assert_eq!(intervals, [1, 2, 2, 2, 2, 2, 2, 2, 2], "{}", said.stdout);
    assert!(lines[2].ends_with("open-ended average 5.00") && lines[3].ends_with("open-ended average 5.51"));
    assert!(!lines[4].contains("average"), "{}", lines[4]);
    let runs = std::fs::read_to_string(world.path("table/sweep.json")).expect("the figures");
    let runs: Vec<serde_json::Value> = serde_json::from_str(&runs).expect("JSON");
    assert_eq!(runs.len(), 18);
    assert!(!runs.iter().any(|run| run.to_string().contains("5.51")), "what others published is no figure of ours");
}
