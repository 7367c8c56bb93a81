//! Reports of runs that are not of one federated model: clients alone, one client, benchmarks, no figures of energy.

use super::evaluation::question;
use super::objectives::preference_world;
use super::report::{columns, figure, numbers, page, texts};
use super::support::World;

#[test]
fn clients_who_train_alone_are_shown_by_their_own_models() {
    let world = World::new();
    world.edit("scenario.ron", "local_baseline: true", "local_baseline: false");
    world.edit("scenario.ron", "clients_per_round: 2, over_selection: 2, deadline: \"10m\"", "clients_per_round: 6");
    let said = world.run("run", &["--set", "algorithm=Local"]).succeeded();
    let page = page(&world, "run/report.html");
    let loss = said.summary("loss after").split(' ').next().expect("a number").to_owned();
    assert!(page.contains("The clients&#x27; own models&#x27; test loss") && page.contains(&loss), "{loss}");
    assert!(!page.contains("better off alone") && !page.contains("The server model"), "there is no server model");
    let columns = columns(&page);
    let run = &columns["runs"][0];
    // Before training, and after each round.
    assert_eq!(numbers(figure(run, "loss"), "test_loss").into_iter().flatten().count(), 4);
    assert_eq!(numbers(figure(run, "fairness"), "median_loss").into_iter().flatten().count(), 4);
    assert!(figure(run, "clients")["caption"].as_str().is_some_and(|caption| caption.contains("its own model")));
}

#[test]
fn one_client_has_no_fairness() {
    let world = World::new();
    world.edit("scenario.ron", "local_baseline: true", "local_baseline: false");
    world.edit("scenario.ron", "clients_per_round: 2, over_selection: 2, deadline: \"10m\"", "clients_per_round: 1");
    world.run("run", &["--set", "algorithm=Centralised"]).succeeded();
    let page = page(&world, "run/report.html");
    assert!(!page.contains("worst tenth"), "a tenth of one client");
    let columns = columns(&page);
    let titles: Vec<&str> = columns["runs"][0]
        .as_array()
        .expect("sections")
        .iter()
        .filter_map(|section| section["title"].as_str())
        .collect();
    assert!(
        titles.contains(&"What was learnt") && !titles.iter().any(|title| title.contains("fairness")),
        "{titles:?}"
    );
}

#[test]
fn losses_of_pairs_say_so() {
    let world = preference_world();
    world.run("run", &[]).succeeded();
    let page = page(&world, "run/report.html");
    assert!(page.contains("nats&#x2f;pair") && page.contains("pairs ranked right"));
    let columns = columns(&page);
    let units: Vec<&str> = columns["runs"]
        .as_array()
        .expect("runs")
        .iter()
        .flat_map(|run| run.as_array().expect("sections"))
        .flat_map(|section| section["figures"].as_array().expect("figures"))
        .flat_map(|figure| figure["columns"].as_array().expect("columns"))
        .filter_map(|column| column["unit"].as_str())
        .collect();
    assert!(units.contains(&"nats/pair"));
    assert!(!units.contains(&"nats/token") && !units.contains(&"nats"), "{units:?}");
}

#[test]
fn benchmarks_have_a_table_and_some_of_their_answers() {
    let world = World::new();
    let question = |id: u32| question(id, &format!("Say <b>what</b> number {id} is."));
    std::fs::create_dir_all(world.path("questions/vicuna")).expect("a writable folder");
    world.write("questions/vicuna/question.jsonl", &(0..8).map(question).collect::<Vec<_>>().join("\n"));
    let sets =
        ["--set", "evaluation.questions=questions", "--set", "evaluation.benchmarks=[(name: \"vicuna\", every: 2)]"];
    world.run("run", &sets).succeeded();
    let page = page(&world, "run/report.html");
    assert!(!page.contains("<b>what</b>"), "a prompt became markup");
    let columns = columns(&page);
    let run = &columns["runs"][0];
    let benchmarks = figure(run, "benchmarks");
    assert_eq!(numbers(benchmarks, "round"), [Some(2.0), Some(3.0)]);
    assert_eq!(texts(benchmarks, "benchmark"), ["vicuna", "vicuna"]);
    assert_eq!(numbers(benchmarks, "questions"), [Some(8.0), Some(8.0)]);
    let answers = figure(run, "answers");
    assert_eq!(numbers(answers, "round"), [Some(3.0); 5], "the first five after the last round");
    assert!(texts(answers, "prompt")[4].contains("Say <b>what</b> number 4 is."));
    // The losses are no benchmark's.
    assert!(
        texts(figure(run, "evaluations"), "split").iter().all(|split| ["test", "held_out"].contains(&split.as_str()))
    );
    assert!(figure(run, "evaluations")["notes"].as_array().is_some_and(Vec::is_empty), "no loss is missing");

    let checked = world.fedreplay(&[&["scenario", "check", "scenario.ron", "--json"], &sets[..]].concat()).succeeded();
    let line: serde_json::Value = serde_json::from_str(checked.stdout.lines().last().expect("a line")).expect("JSON");
    let exam = &line["forecast"]["benchmarks"][0];
    assert_eq!((&exam["name"], &exam["times"], &exam["questions"]), (&"vicuna".into(), &2.into(), &8.into()));
    assert!(exam["read_tokens"].as_u64() > Some(8 * 20) && exam["written_tokens_max"].as_u64() > Some(8), "{exam}");
    assert!(line["forecast"]["benchmark_flops_max"].as_f64() > Some(1e6), "{line}");
    assert!(checked.summary("wall clock").contains("without what benchmarks have written"), "{}", checked.stdout);
    let untried =
        world.fedreplay(&[&["scenario", "check", "scenario.ron", "--no-trial"], &sets[..]].concat()).succeeded();
    assert!(untried.summary("benchmarks").contains("vicuna: not estimated"), "{}", untried.stdout);
}
