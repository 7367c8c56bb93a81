//! A base model of the hub, served from loopback: fetched once, found offline, and clear words where it is not.

use std::collections::BTreeMap;
use std::fs;

use super::support::{Said, World, output, project};
use super::test_support::model_hub::{Asked, COMMIT, Fault, ModelHub, REPOSITORY, Reply, Sending};

/// A world whose base model is the hub's, and a hub that has the tiny base.
fn world() -> (World, ModelHub) {
    let world = World::new();
    world.edit("scenario.ron", "folder: \"base\"", &format!("hub: (\"{REPOSITORY}\", \"v1\")"));
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(project("fixtures/tiny-base")).expect("the fixture is there") {
        let entry = entry.expect("a readable folder");
        files.insert(entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).expect("a file"));
    }
    (world, ModelHub::start(files))
}

/// Plays the scenario with the hub at `endpoint` and its cache in the folder `hf`.
fn run(world: &World, endpoint: &str, out: &str, offline: &str) -> Said {
    run_with_patience(world, endpoint, out, offline, "60")
}

fn run_with_patience(world: &World, endpoint: &str, out: &str, offline: &str, patience: &str) -> Said {
    let mut command = world.command(&["run", "scenario.ron", "--out", out, "--store", "none", "--set", "rounds=1"]);
    command.env("HF_ENDPOINT", endpoint).env("HF_HOME", world.path("hf")).env("HF_HUB_OFFLINE", offline);
    command.env_remove("HF_HUB_CACHE").env_remove("HF_TOKEN").env("HF_HUB_DOWNLOAD_TIMEOUT", patience);
    Said::of(output(&mut command).expect("the binary can be run"))
}

#[test]
fn a_model_is_fetched_once_and_gives_the_digest_of_its_folder() {
    let (world, server) = world();
    let fetched = run(&world, &server.endpoint(), "fetched", "0").succeeded();
    let contents = server.take_contents();
    assert!(contents.contains(&"model.safetensors".to_owned()), "{contents:?}");
    let config = fs::read_to_string(world.path("fetched/adapters/round-00001/adapter_config.json")).expect("a file");
    assert!(config.contains(REPOSITORY), "{config}");
    world.fedreplay(&["export", "fetched", "--to", "peft", "--store", "none", "--out", "exported"]).succeeded();
    let exported = fs::read_to_string(world.path("exported/adapter_config.json")).expect("a file");
    assert!(exported.contains(REPOSITORY) && exported.contains("\"revision\": \"v1\""), "{exported}");

    let offline = run(&world, &server.endpoint(), "offline", "1").succeeded();
    assert_eq!(server.take_requests(), [], "offline, the hub was asked");
    world.edit("scenario.ron", &format!("hub: (\"{REPOSITORY}\", \"v1\")"), "folder: \"base\"");
    let local = world.run("local", &["--set", "rounds=1"]).succeeded();
    for said in [&offline, &local] {
        assert_eq!(said.summary("digest"), fetched.summary("digest"));
    }
}

#[test]
fn what_is_not_there_is_named() {
    let (world, server) = world();
    let endpoint = server.endpoint();
    run(&world, &endpoint, "run", "1").refused(2, &["tiny/llama (revision v1) offline", "HF_HUB_OFFLINE is set"]);
    run(&world, &endpoint, "run", "perhaps").refused(2, &["HF_HUB_OFFLINE is \"perhaps\""]);
    server.edit(|files| {
        files.remove("tokenizer.json");
    });
    server.set(Fault::Lost("model.safetensors"));
    run(&world, &endpoint, "run", "0").refused(2, &["model.safetensors"]);
    server.set(Fault::None);
    run(&world, &endpoint, "run", "0").refused(2, &["tokenizer.json"]);
    world.edit("scenario.ron", "\"v1\"", "\"v2\"");
    run(&world, &endpoint, "run", "0").refused(2, &["tiny/llama (revision v2)", "its revision is not"]);
    world.edit("scenario.ron", "tiny/llama", "tiny/../llama");
    run(&world, &endpoint, "run", "0").refused(2, &["the repository is \"tiny/../llama\""]);
    assert!(!world.path("run").exists(), "a refused scenario left a folder");
}

#[test]
fn a_commit_is_found_without_asking() {
    let (world, server) = world();
    world.edit("scenario.ron", "\"v1\"", &format!("\"{COMMIT}\""));
    run(&world, &server.endpoint(), "first", "0").succeeded();
    server.take_requests();
    run(&world, &server.endpoint(), "second", "0").succeeded();
    assert_eq!(server.take_requests(), []);
}

/// Codes and messages of the program; `model::hub::tests::moods` has all moods of the hub.
#[test]
fn faults_of_the_hub_and_of_the_asker_end_with_other_codes() {
    let (world, server) = world();
    let endpoint = server.endpoint();
    let refused = |make: fn(&Asked, &mut Reply), code: i32, parts: &[&str]| {
        server.set(Fault::Makes(make));
        run_with_patience(&world, &endpoint, "run", "0", "1").refused(code, parts);
        assert!(!world.path("run").exists(), "a refused scenario left a folder");
    };
    refused(
        |asked, reply| {
            if asked.is_content("model.safetensors") {
                reply.body[100] ^= 1;
            }
        },
        1,
        &["/model.safetensors: its content has the hash"],
    );
    refused(|_, reply| *reply = Reply::new(403, "", ""), 2, &["access is restricted", "HF_TOKEN"]);
    refused(
        |asked, reply| {
            if asked.is_content("model.safetensors") {
                reply.sending = Sending::Stalls;
                reply.cut = Some(100);
            }
        },
        1,
        &["/model.safetensors: the connection ended after", "timeout"],
    );
    server.set(Fault::None);
    run(&world, &endpoint, "run", "0").succeeded();
}

#[test]
fn two_processes_share_one_download() {
    let (world, server) = world();
    let endpoint = server.endpoint();
    std::thread::scope(|scope| {
        let runs = ["first", "second"].map(|out| scope.spawn(|| run(&world, &endpoint, out, "0").succeeded()));
        let digests = runs.map(|run| run.join().expect("a run").summary("digest").to_owned());
        assert_eq!(digests[0], digests[1]);
    });
    let weights = server.take_contents().into_iter().filter(|name| name == "model.safetensors").count();
    assert_eq!(weights, 1, "the weights were fetched by both");
}
