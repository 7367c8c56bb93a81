//! Models of single clients: adapters of their own next to the server's, and the last model, fine-tuned on a client's rows.

use std::collections::BTreeMap;

use fedreplay::adapter::peft;
use fedreplay::ledger::{EvalSubject, EvaluationRow, RunTables, Split};

use serde_json::Value;

use super::federated_lora::{EVERYONE, Played, scenario};
use super::recomputed;
use crate::support::World;

fn evaluations(world: &World, run: &str) -> Vec<EvaluationRow> {
    RunTables::read(&world.path(run)).expect("tables").evaluations().expect("evaluations")
}

/// The hashes of the models of one subject after the last round, by client.
fn hashes(rows: &[EvaluationRow], subject: EvalSubject) -> BTreeMap<u32, String> {
    let of_subject = rows.iter().filter(|row| row.subject == subject);
    of_subject.filter_map(|row| Some((row.client?, row.model_hash.clone()?))).collect()
}

/// Rows that do not depend on the round, so that another run can draw the same.
const SAME_ROWS: [&str; 2] = ["--set", "training.batches=SamePrefix"];

#[test]
fn a_fine_tuned_model_is_what_the_client_alone_makes_of_the_last_one() {
    let steps = ["--set", "evaluation.fine_tuning_steps=3", "--set", "algorithm=FedProx(mu: 0.1)"];
    let played = Played::new("FedIt", "FedAvg()", 3, &[&SAME_ROWS[..], &steps].concat());
    let world = &played.world;
    let rows = evaluations(world, "run");
    let tuned: Vec<&EvaluationRow> = rows.iter().filter(|row| row.subject == EvalSubject::FineTuned).collect();
    assert!(tuned.iter().all(|row| (row.round, row.version) == (4, 4) && row.split == Split::HeldOut));
    let found = hashes(&rows, EvalSubject::FineTuned);
    assert_eq!((found.len(), tuned.len()), (EVERYONE as usize, EVERYONE as usize));
    // One round of three steps by each client alone, from the last model.
    world.fedreplay(&["export", "run", "--to", "peft", "--out", "last"]).succeeded();
    let alone = [
        "run",
        "scenario.ron",
        "--out",
        "alone",
        "--store",
        "none",
        "--set=algorithm=Local",
        "--set=rounds=1",
        "--set=training.local_steps=3",
        "--set=model.lora.initial=last",
        "--set=server.protocol.Synchronous.clients_per_round=6",
    ];
    world.fedreplay(&[&alone[..], &SAME_ROWS].concat()).succeeded();
    let others = evaluations(world, "alone");
    assert_eq!(found, hashes(&others, EvalSubject::Local));
    for row in tuned {
        let same = others.iter().find(|other| other.subject == EvalSubject::Local && other.client == row.client);
        assert_eq!(row.loss, same.expect("the client alone").loss);
    }
    // The federation is what it is without them.
    let plain = ["run", "scenario.ron", "--out", "plain", "--store", "none", "--set=algorithm=FedProx(mu: 0.1)"];
    world.fedreplay(&[&plain[..], &SAME_ROWS].concat()).succeeded();
    let without: Vec<_> = rows.iter().filter(|row| row.subject != EvalSubject::FineTuned).cloned().collect();
    assert_eq!(without, evaluations(world, "plain"));
    world.fedreplay(&["verify", "run"]).succeeded();
    for more in [&[][..], &["--round", "4"], &["--client", "1"]] {
        world.fedreplay(&[&["replay", "run", "--store", "none"], more].concat()).succeeded();
    }
    let page = std::fs::read_to_string(world.path("run/report.html")).expect("a report");
    assert!(page.contains("fine-tuned on its own rows, the mean client comes to"));
    world.write("scenario.ron", &super::federated_lora::scenario("FedIt", "Local", EVERYONE));
    world
        .run("refused", &["--set", "evaluation.fine_tuning_steps=3"])
        .refused(2, &["evaluation.fine_tuning_steps: under Local there is no model of a federation to train on"]);
    world.run("refused", &["--set", "evaluation.fine_tuning_steps=0"]).refused(2, &["fine_tuning_steps"]);
    world.write("scenario.ron", &super::federated_lora::scenario("FedIt", "FedAvg()", 3));
    world.run("refused", &["--set", "evaluation.fine_tuning_steps=4294967295"]).refused(
        2,
        &["evaluation.fine_tuning_steps: fine_tuning_steps x gradient_accumulation x batch_size must be at most 10000000 rows"],
    );
    assert!(!world.path("refused").exists());
}

#[test]
fn a_client_with_factors_of_its_own_goes_on_from_its_own_model() {
    let sets = ["--set", "evaluation.fine_tuning_steps=2"];
    let played = Played::new("FedSaLora", "FedAvg()", EVERYONE, &[&SAME_ROWS[..], &sets].concat());
    let rows = evaluations(&played.world, "run");
    let tuned = hashes(&rows, EvalSubject::FineTuned);
    let last = played.world.path("run/adapters/round-00004");
    for client in 0..EVERYONE {
        let initial = last.join(format!("client-{client}"));
        let out = format!("alone-{client}");
        let alone = [
            "run",
            "scenario.ron",
            "--out",
            &out,
            "--store",
            "none",
            "--set=federated_lora=FedIt",
            "--set=algorithm=Local",
            "--set=rounds=1",
            &format!("--set=model.lora.initial={}", initial.display()),
        ];
        played.world.fedreplay(&[&alone[..], &SAME_ROWS].concat()).succeeded();
        let own = hashes(&evaluations(&played.world, &out), EvalSubject::Local);
        assert_eq!(own[&client], tuned[&client], "client {client}");
    }
}

/// One step of gradient descent without clipping, so that the pull toward the server's model can be told apart.
const ONE_STEP: [&str; 7] = [
    "--set=evaluation.fine_tuning_steps=2",
    "--set=training.optimizer=Sgd(momentum: 0)",
    "--set=training.max_grad_norm=null",
    "--set=training.local_steps=1",
    "--set=training.lr=0.5",
    "--set=rounds=6",
    "--set=evaluation.every=6",
];

/// The clients' own adapters after each of their tasks, in order: (client, adapter after, model of the server that it was pulled to).
fn own_adapters(played: &Played) -> BTreeMap<u64, Vec<Vec<f64>>> {
    let (run, store) = (played.world.path("run"), played.world.path("store"));
    let kept = recomputed::adapters(&run, &store, "kept");
    let mut own: BTreeMap<u64, Vec<Vec<f64>>> = BTreeMap::new();
    // Each task adds one, in the order of the tasks.
    assert_eq!(kept.len(), played.trainings.len());
    for (training, adapter) in played.trainings.iter().zip(kept) {
        own.entry(training.client).or_default().push(adapter);
    }
    own
}

#[test]
fn ditto_pulls_a_clients_own_adapter_toward_the_servers() {
    let play = |method: &str| Played::new(method, "FedAvg()", 3, &[&SAME_ROWS[..], &ONE_STEP].concat());
    let (pulled, free, plain) = (play("Ditto(lambda: 0.25)"), play("Ditto(lambda: 0)"), play("FedIt"));
    // What is sent and averaged is FedIT's.
    assert_eq!(pulled.models, plain.models);
    assert_eq!(pulled.traffic(2), plain.traffic(2));
    let (with, without) = (own_adapters(&pulled), own_adapters(&free));
    assert!(with.values().any(|adapters| adapters.len() > 2), "a client comes back");
    let mut seen = 0;
    for (client, adapters) in &with {
        let trainings: Vec<_> = pulled.trainings.iter().filter(|training| training.client == *client).collect();
        // In the first task the own adapter is the server's model, to which nothing pulls: it becomes what is sent.
        assert_eq!(adapters[0], trainings[0].adapter);
        assert_eq!(without[client][0], adapters[0]);
        let Some(second) = adapters.get(1) else { continue };
        let server = &plain.models[trainings[1].from as usize];
        for (place, value) in second.iter().enumerate() {
            // Both begin the second task with one adapter and have one gradient: the pull is the difference.
            let pull = 0.5 * 0.25 * (adapters[0][place] - server[place]);
            let expected = without[client][1][place] - pull;
            assert!((value - expected).abs() <= 1e-7, "{value} for {expected}");
            seen += usize::from(pull.abs() > 1e-5);
        }
    }
    assert!(seen > 100, "the pull is seen in {seen} values");
    let world = &pulled.world;
    let rows = evaluations(world, "run");
    let tuned = hashes(&rows, EvalSubject::FineTuned);
    assert_eq!(tuned.len(), EVERYONE as usize);
    assert_eq!(
        tuned,
        hashes(&evaluations(&plain.world, "run"), EvalSubject::FineTuned),
        "it begins with the server's model"
    );
    let last = |subject| rows.iter().filter(move |row| row.round == 6 && row.subject == subject);
    assert_eq!(last(EvalSubject::Global).count(), EVERYONE as usize, "there is a model of the server");
    assert_eq!(last(EvalSubject::Personal).count(), EVERYONE as usize);
    // Each is judged by its own adapter, or by the server's model before its first task.
    let run = world.path("run");
    for client in 0..EVERYONE {
        let saved =
            peft::read_folder(&run.join(format!("adapters/round-00006/client-{client}"))).expect("saved").adapter;
        let server = peft::read_folder(&run.join("adapters/round-00006")).expect("saved").adapter;
        let hash = hashes(&rows, EvalSubject::Personal)[&client].clone();
        assert_eq!(hash, saved.hash().to_string());
        assert_eq!(saved == server, !with.contains_key(&u64::from(client)));
    }
    world.fedreplay(&["verify", "run"]).succeeded();
    for more in [&[][..], &["--round", "4"], &["--round", "6"], &["--client", "1"]] {
        world.fedreplay(&[&["replay", "run", "--store", "none"], more].concat()).succeeded();
    }
    for more in [&[][..], &["--client", "0"]] {
        let out = format!("peft-{}", more.len());
        world.fedreplay(&[&["export", "run", "--to", "peft", "--out", &out], more].concat()).succeeded();
    }
    let page = std::fs::read_to_string(run.join("report.html")).expect("a report");
    assert!(page.contains("own models, the mean client ends at"));
    // Two trainings take twice the operations of one.
    let busy = |played: &Played| {
        let tasks = RunTables::read(&played.world.path("run")).expect("tables").tasks().expect("tasks");
        tasks.counts("compute_flops").expect("operations").iter().sum::<u64>()
    };
    assert_eq!(busy(&pulled), 2 * busy(&plain));
}

#[test]
fn ditto_names_what_it_does_not_go_with() {
    let world = World::new();
    let refusals = [
        ("algorithm=Local", "algorithm: it does not go with Ditto"),
        ("server.protocol=Buffered(concurrency: 3, buffer_size: 2)", "server.protocol: it does not go with Ditto"),
        (r#"privacy={"FedLlmBenchDp":{}}"#, "privacy: it does not go with Ditto"),
        (r#"model.lora.ranks={"quick": 1}"#, "Ditto has one rank"),
        ("federated_lora=Ditto(lambda: -1)", "must be at least 0"),
        ("federated_lora=Ditto(lambda: 1e39)", "out of range"),
    ];
    for (set, reason) in refusals {
        world.write("scenario.ron", &super::federated_lora::scenario("Ditto()", "FedAvg()", 3));
        world.run("refused", &["--set", set]).refused(2, &[reason]);
    }
    assert!(!world.path("refused").exists());
}

/// The mean over clients of their last losses on their own rows, by the tables.
fn mean_by_client(rows: &[EvaluationRow], subject: EvalSubject) -> Option<f64> {
    let mut last = BTreeMap::new();
    for row in rows.iter().filter(|row| row.subject == subject && row.split == Split::HeldOut && row.round > 0) {
        last.insert(row.client, row.loss.expect("a finite loss"));
    }
    (!last.is_empty()).then(|| last.values().sum::<f64>() / last.len() as f64)
}

#[test]
fn means_by_client_are_told_at_the_end_by_show_and_by_sweeps() {
    let fine_tuning = ["--set", "evaluation.fine_tuning_steps=2"];
    // Under FedPer the server has no model of its own.
    for (method, sets, kinds) in [
        ("Ditto()", &fine_tuning[..], ["own model", "server's model", "fine-tuned"].as_slice()),
        ("FedPer(local_layers: 1)", &[], &["own model"]),
        ("FedIt", &fine_tuning, &["server's model", "fine-tuned"]),
        ("FedIt", &[], &[]),
    ] {
        let world = World::new();
        world.write("scenario.ron", &scenario(method, "FedAvg()", 3));
        let sets = [&["--json", "--set", "rounds=2"][..], sets].concat();
        let said = world.run("run", &sets).succeeded();
        let shown = world.fedreplay(&["show", "run", "--json"]).succeeded();
        let rows = evaluations(&world, "run");
        let subjects = [EvalSubject::Personal, EvalSubject::Global, EvalSubject::FineTuned];
        let expected = subjects.map(|subject| mean_by_client(&rows, subject));
        for said in [&said, &shown] {
            let line: Value = serde_json::from_str(said.stdout.lines().last().expect("a line")).expect("JSON");
            let means = &line["client_means"];
            assert_eq!(means.is_null(), kinds.is_empty(), "{method}: {line}");
            for (name, expected) in ["personal", "global", "fine_tuned"].into_iter().zip(expected) {
                let Some(expected) = expected.filter(|_| !kinds.is_empty()) else {
                    assert!(means[name].is_null(), "{method}: {means}");
                    continue;
                };
                assert!((means[name].as_f64().expect("a mean") - expected).abs() < 1e-12, "{method}: {means}");
                assert!(said.stdout.contains(&format!("{expected:.4} ")), "{}", said.stdout);
            }
            for name in ["own model", "server's model", "fine-tuned"] {
                assert_eq!(said.stdout.contains(name), kinds.contains(&name), "{method}: {}", said.stdout);
            }
        }
    }
}

#[test]
fn a_sweep_has_a_column_of_means_by_client_where_a_cell_has_them() {
    let world = World::new();
    world.write("scenario.ron", &scenario("FedIt", "FedAvg()", 3));
    let sweep = r#"(name: "s", scenario: "scenario.ron", set: ["rounds=1"],
        variants: [(name: "plain"), (name: "Ditto", set: ["federated_lora=Ditto()"])])"#;
    world.write("sweep.ron", sweep);
    let said = world.fedreplay(&["sweep", "sweep.ron", "--out", "out"]).succeeded();
    assert!(said.stdout.contains("by client: own, server's, fine-tuned"), "{}", said.stdout);
    let rows = evaluations(&world, "out/0002-Ditto");
    let [own, of_server] =
        [EvalSubject::Personal, EvalSubject::Global].map(|subject| mean_by_client(&rows, subject).expect("a mean"));
    let line = |name: &str| said.stdout.lines().find(|line| line.starts_with(name)).expect("a line").to_owned();
    assert!(line("Ditto").ends_with(&format!("{own:.4}  {of_server:.4}       -")), "{}", said.stdout);
    assert!(line("plain").ends_with("     -       -       -"), "{}", said.stdout);
}
