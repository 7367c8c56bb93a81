//! What clients learn from: pairs of answers, dialogues, and the prompts around them.

use arrow::array::AsArray;
use arrow::datatypes::Float64Type;
use fedreplay::ledger::read_table;
use serde_json::{Value, json};

use super::evaluation::table;
use super::support::World;

const THINGS: [&str; 12] =
    ["apple", "river", "stone", "cloud", "lamp", "chair", "bread", "horse", "tree", "boat", "song", "key"];

/// Pairs in which what is preferred is a manner of speaking.
fn pairs(client: usize, count: usize) -> Value {
    let pair = |n: usize| {
        let thing = THINGS[(5 * client + 3 * n) % THINGS.len()];
        json!({
            "prompt": format!("Say something of the {thing}."),
            "chosen": format!("The {thing} is good."),
            "rejected": format!("I hate number {n} and {client}."),
        })
    };
    (0..count).map(pair).collect()
}

fn federation(rows: impl Fn(usize) -> Value) -> String {
    let clients: serde_json::Map<_, _> = (0..6).map(|client| (format!("user-{client}"), rows(client))).collect();
    Value::Object(clients).to_string()
}

/// The small world with pairs of answers for data.
pub fn preference_world() -> World {
    let world = World::new();
    world.write("data.json", &federation(|client| pairs(client, 8 + client)));
    world.write("test.json", &pairs(7, 12).to_string());
    world.edit("scenario.ron", "training: (", "training: (objective: Dpo(beta: 0.1), ");
    world
}

fn numbers(world: &World, table: &str, column: &str) -> Vec<f64> {
    let rows = read_table(&world.path("run"), table).expect("a table");
    rows[column].as_primitive::<Float64Type>().iter().flatten().collect()
}

#[test]
fn preference_training_raises_margins_and_held_out_accuracy() {
    let world = preference_world();
    let store = world.path("store");
    let store = store.to_str().expect("UTF-8");
    let said = world.fedreplay(&["run", "scenario.ron", "--out", "run", "--store", store, "--json"]).succeeded();
    let last: Value = serde_json::from_str(said.stdout.lines().last().expect("a line")).expect("JSON");
    let [before, after] = [0, 1].map(|place| last["preference_accuracy"][place].as_f64().expect("a share"));
    assert!(after > 0.9 && after > before, "{last}");
    assert!(last["reward_margin"].as_f64().is_some_and(|margin| margin > 0.5), "{last}");
    assert_eq!(last["loss_before"], std::f64::consts::LN_2, "at the reference every pair costs ln 2");

    let rows = read_table(&world.path("run"), "evaluations").expect("a table");
    let splits: Vec<_> = rows["split"].as_string::<i32>().iter().flatten().map(str::to_owned).collect();
    let margins = numbers(&world, "evaluations", "reward_margin");
    assert_eq!(margins.len(), splits.len(), "every evaluation of pairs has a margin");
    let held_out: Vec<f64> =
        margins.iter().zip(&splits).filter(|(_, split)| *split == "held_out").map(|(margin, _)| *margin).collect();
    assert!(held_out.len() > 6 && held_out[..6].iter().all(|&margin| margin == 0.0), "{held_out:?}");
    assert!(held_out[6..].iter().sum::<f64>() > 0.0, "{held_out:?}");
    let trained = numbers(&world, "tasks", "reward_margin");
    assert!(trained.len() == 6 && trained.last() > trained.first(), "{trained:?}");

    // The reference's log-probabilities are in the store, and no one's results depend on that.
    let again = world.fedreplay(&["run", "scenario.ron", "--out", "again", "--store", store]).succeeded();
    let bare = world.run("bare", &["--workers", "4", "--set", "execution.cohort_batch=4"]).succeeded();
    for other in [&again, &bare] {
        assert_eq!(other.summary("digest"), said.summary("digest"));
    }
}

#[test]
fn losses_of_pairs_are_nats_per_pair_wherever_they_are_shown() {
    let world = preference_world();
    world.run("run", &["--set", "rounds=1"]).succeeded();
    world.fedreplay(&["export", "run", "--to", "perfetto", "--out", "trace.json"]).succeeded();
    let trace = std::fs::read_to_string(world.path("trace.json")).expect("a trace");
    assert!(trace.contains("loss [nats/pair]") && !trace.contains("nats/token"), "{trace}");
    world.fedreplay(&["export", "run", "--to", "csv", "--out", "csv"]).succeeded();
    let columns = std::fs::read_to_string(world.path("csv/columns.csv")).expect("the file is there");
    for column in ["rounds,train_loss", "tasks,loss_first", "tasks,loss_last", "tasks,loss_mean", "evaluations,loss"] {
        let line = columns.lines().find(|line| line.starts_with(&format!("{column},"))).expect("a line");
        assert!(line.contains(",Float64,nats/token or nats/pair,"), "{line}");
    }
    // Without rows to evaluate on, tasks alone tell.
    let bare = ["--set", "rounds=1", "--set", "data.held_out=0", "--set", "data.test_file=None"];
    let said = world.run("bare", &bare).succeeded();
    assert_eq!(said.summary("loss after"), "- nats/pair");
    let shown = world.fedreplay(&["show", "bare", "--json"]).succeeded();
    let shown: Value = serde_json::from_str(shown.stdout.lines().last().expect("a line")).expect("JSON");
    let series = shown["series"].as_array().expect("curves");
    let trained = series.iter().find(|series| series["name"] == "loss/train").expect("a training loss");
    assert_eq!(trained["unit"], "nats/pair");
}

#[test]
fn preference_training_from_an_adapter_measures_against_it_unless_the_base_is_asked_for() {
    let world = preference_world();
    world.run("first", &["--set", "rounds=1"]).succeeded();
    let from = ["--set", "model.lora.initial=first/adapters/round-00001", "--set", "rounds=1"];
    world.run("run", &from).succeeded();
    let before = |column: &str| numbers(&world, "evaluations", column)[0];
    assert_eq!((before("loss"), before("reward_margin")), (std::f64::consts::LN_2, 0.0));
    let manifest = std::fs::read_to_string(world.path("run/manifest.json")).expect("a manifest");
    assert!(manifest.contains("\"reference_adapter\""), "{manifest}");
    world.fedreplay(&["replay", "run"]).succeeded();
    let report = std::fs::read_to_string(world.path("run/report.html")).expect("a report");
    assert!(report.contains("the base model with the adapter of model.lora.initial"));
    // An evaluation afterwards measures against the same reference.
    world.fedreplay(&["eval", "run", "--out", "found"]).succeeded();
    let found = table(&world.path("found/evaluations.parquet"));
    let recorded = numbers(&world, "evaluations", "reward_margin");
    let margins: Vec<f64> = found["reward_margin"].as_primitive::<Float64Type>().iter().flatten().collect();
    assert!(margins.len() > 1 && margins.iter().all(|margin| recorded.contains(margin)), "{margins:?}: {recorded:?}");

    let objective = r#"training.objective={"Dpo":{"reference":"Base"}}"#;
    let base = [&from[..], &["--set", objective]].concat();
    std::fs::rename(world.path("run"), world.path("from-start")).expect("a folder");
    world.run("run", &base).succeeded();
    assert!(before("reward_margin") > 0.0, "the adapter has learnt something");
    let report = std::fs::read_to_string(world.path("run/report.html")).expect("a report");
    assert!(report.contains("the base model without adapter"));

    let check = |sets: &[&str]| {
        let said = world.fedreplay(&[&["scenario", "check", "scenario.ron", "--no-trial"], sets].concat()).succeeded();
        said.summary("reference").to_owned()
    };
    assert_eq!(check(&from), "the base model with the adapter of model.lora.initial");
    assert_eq!(check(&base), "the base model without adapter");
}

#[test]
fn without_an_adapter_to_start_from_the_reference_is_the_base_however_it_is_named() {
    let world = preference_world();
    let run = |out: &str, objective: &str| {
        let set = format!("training.objective={objective}");
        world.run(out, &["--set", "rounds=1", "--set", &set]).succeeded().summary("loss after").to_owned()
    };
    let unnamed = run("unnamed", r#"{"Dpo":{}}"#);
    assert_eq!(run("start", r#"{"Dpo":{"reference":"Start"}}"#), unnamed);
    assert_eq!(run("base-model", r#"{"Dpo":{"reference":"Base"}}"#), unnamed);
}

#[test]
fn pairs_that_are_too_long_are_counted_by_client() {
    let world = preference_world();
    let data = std::fs::read_to_string(world.path("data.json")).expect("the data is there");
    let prompt = "Say something of the apple.";
    let long = data.matches(prompt).count();
    world.write("data.json", &data.replace(prompt, &"word ".repeat(400)));
    let check = ["scenario", "check", "scenario.ron", "--no-trial"];
    world.fedreplay(&check).refused(2, &["with too long a prompt", "data.long_prompts: Skip"]);
    let said = world.fedreplay(&[&check[..], &["--set", "data.long_prompts=Skip"]].concat()).succeeded();
    let left_out = said.summary("left out");
    assert!(left_out.contains(&format!("{long} with too long a prompt; by client: ")), "{left_out}");
}

#[test]
fn an_objective_reads_its_own_kind_of_rows() {
    let world = preference_world();
    world.edit("scenario.ron", "objective: Dpo(beta: 0.1), ", "");
    world.run("run", &[]).refused(2, &["client \"user-0\", row 0", "supervised fine-tuning reads"]);
    let world = World::new();
    world.run("run", &["--set", "training.objective=Dpo"]).refused(2, &["preference alignment reads rows with"]);
    let sets = ["--set", r#"training.objective={"Dpo":{"beta":0}}"#];
    world.run("run", &sets).refused(2, &["0 is out of range: it must be above 0"]);
}

/// Dialogues of two exchanges.
fn dialogues(client: usize) -> Value {
    let row = |n: usize| {
        let turn = |from: &str, value: String| json!({"from": from, "value": value});
        json!({"conversations": [
            turn("human", format!("What is number {n}?")),
            turn("gpt", format!("It is {n} of {client}.")),
            turn("human", "And twice that?".into()),
            turn("gpt", format!("That is {}.", 2 * n)),
        ]})
    };
    (0..6 + client).map(row).collect()
}

/// A template in the manner of Llama 2's, which writes out the tokenizer's special tokens.
const CHAT: &str = "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}[INST] \
    {{ message['content'] }} [/INST]{% else %} {{ message['content'] }}{{ eos_token }}{% endif %}{% endfor %}";

#[test]
fn dialogues_train_under_every_template() {
    let world = World::new();
    world.write("data.json", &federation(dialogues));
    world.write("test.json", &dialogues(3).to_string());
    world.write("base/chat_template.jinja", CHAT);
    for template in ["Alpaca", "Vicuna", "Chat"] {
        let set = format!("data.template={template}");
        let said = world.run(template, &["--set", &set]).succeeded();
        let loss = |name| said.summary(name).split(' ').next().expect("a loss").parse::<f64>().expect("a number");
        assert!(loss("loss after") < loss("loss before"), "{template}:\n{}", said.stdout);
    }
}

#[test]
fn a_chat_template_is_an_input_of_the_run() {
    let world = World::new();
    world.write("base/chat_template.jinja", CHAT);
    let run = |out: &str| world.run(out, &["--set", "data.template=Chat", "--set", "rounds=1"]);
    run("first").succeeded();
    let manifest = std::fs::read_to_string(world.path("first/manifest.json")).expect("a manifest");
    assert!(manifest.contains("\"chat_template\""), "{manifest}");
    world.edit("base/chat_template.jinja", "[INST]", "[ASK]");
    let said = world.fedreplay(&["replay", "first"]);
    assert_eq!(said.code, Some(3), "{}", said.stderr);
    assert!(said.stdout.contains("chat template"), "{}", said.stdout);
}

#[test]
fn rows_and_templates_that_do_not_fit_are_refused() {
    let world = World::new();
    let run = || world.run("run", &["--set", "data.template=Chat"]);
    run().refused(2, &["failed to find a chat template in", "chat_template.jinja"]);
    world.write("base/chat_template.jinja", "{% for %}");
    run().refused(2, &["failed to read the chat template", "line 1"]);
    world.write("base/chat_template.jinja", CHAT);
    world.edit("data.json", "It is 4 for user 3.", "It is </s> for user 3.");
    run().refused(2, &["client \"user-3\", row 2", "holds the special token \"</s>\""]);
}
