//! Kinds of changes of runs that record more, or less, than one model for all: clients' own models, privacy, attackers, and plans.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Float64Array, StringArray};
use arrow::datatypes::UInt32Type;
use fedreplay::ledger::RunKind;

use super::forged_run::{ForgedRun, Redone, with_column};
use super::kinds::{Add, BOTH, NO_CHANGE, OTHER, Of, ROUND_1, ROUND_2, TENSORS};
use super::support::copy;

use Redone::{All, Files, Nothing};

/// Runs of other kinds, each with the function that adds its changes.
pub const ALL: [(Of, fn(Add)); 4] =
    [(Of::Alone, of_alone), (Of::Private, of_private), (Of::Attacked, of_attacked), (Of::Plan, of_plans)];

/// Returns the folders of the clients' own adapters after round 2.
fn own_adapters(run: &ForgedRun) -> Vec<PathBuf> {
    let entries = fs::read_dir(run.path("adapters/round-00002")).expect("adapters of clients");
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    folders.sort();
    assert!(folders.len() > 1, "several clients have a model");
    folders
}

/// Saves the model of one client as that of another.
fn first_client_as_second(run: &ForgedRun) {
    let folders = own_adapters(run);
    fs::copy(folders[0].join(TENSORS), folders[1].join(TENSORS)).expect("an adapter");
}

fn of_alone(add: Add) {
    const OF_CLIENT: &[&str] = &["adapters/round-00002/client-"];
    add(NO_CHANGE, &[Nothing, Files, All], &[], |_| {});
    add("adapter of one client as that of another", &[Nothing, Files, All], OF_CLIENT, first_client_as_second);
    add("the same, with `evaluations.model_hash`", &[All], &["model_hash", "update_hash"], |run| {
        let rows = run.table("evaluations");
        let folders = own_adapters(run);
        let hashes = [&folders[0], &folders[1]].map(|folder| {
            let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
            let client: u32 = name.strip_prefix("client-").expect("a client").parse().expect("a number");
            let clients = rows["client"].as_primitive::<UInt32Type>();
            let own = (0..rows.num_rows()).rfind(|&row| clients.is_valid(row) && clients.value(row) == client);
            rows["model_hash"].as_string::<i32>().value(own.expect("it is evaluated")).to_owned()
        });
        first_client_as_second(run);
        let rounds = rows["round"].as_primitive::<UInt32Type>();
        let mut renamed = Vec::new();
        for (row, hash) in rows["model_hash"].as_string::<i32>().iter().enumerate() {
            let is_renamed = rounds.value(row) == 2 && hash == Some(&hashes[1]);
            renamed.push(if is_renamed { Some(hashes[0].as_str()) } else { hash });
        }
        run.put("evaluations", &with_column(&rows, "model_hash", Arc::new(StringArray::from(renamed))));
    });
    add("saved adapter of a client: one bit", &[Files, All], OF_CLIENT, |run| {
        let path = own_adapters(run)[0].join(TENSORS);
        let mut bytes = fs::read(&path).expect("an adapter");
        *bytes.last_mut().expect("bytes") ^= 1;
        fs::write(path, bytes).expect("a writable folder");
    });
    add("saved adapter of a client: removed", &[Files], OF_CLIENT, |run| {
        fs::remove_dir_all(&own_adapters(run)[0]).expect("an adapter");
    });
    add("saved adapter: one of a client that there is not", &[Files], OF_CLIENT, |run| {
        copy(&own_adapters(run)[0], &run.path("adapters/round-00002/client-77"));
    });
    add("saved adapter: one of the server, which has none", &[Files], &["adapters/round-00002"], |run| {
        let from = own_adapters(run).remove(0);
        for file in [TENSORS, "adapter_config.json"] {
            fs::copy(from.join(file), run.path("adapters/round-00002").join(file)).expect("an adapter");
        }
    });
    add("`evaluations.model_hash` of a client in round 2", BOTH, &["round 2", "adapters/round-00002"], |run| {
        run.edit_last_cell("evaluations", "model_hash");
    });
    add("`evaluations`: a loss of a client in round 2", BOTH, ROUND_2, |run| run.edit_last_cell("evaluations", "loss"));
    add("`tasks.update_hash` of the client", BOTH, ROUND_2, |run| run.edit_cell("tasks", "update_hash", run.task));
    add("the last round dropped, with its rows and its adapters", BOTH, &["rounds", "lineage says nothing"], |run| {
        run.drop_last_round();
    });
}

fn of_private(add: Add) {
    add(NO_CHANGE, &[Nothing, Files, All], &[], |_| {});
    add("`rounds.epsilon_spent` of round 1", BOTH, ROUND_1, |run| run.edit_cell("rounds", "epsilon_spent", 0));
    add("`rounds.epsilon_spent` of round 2", BOTH, ROUND_2, |run| run.edit_cell("rounds", "epsilon_spent", 1));
    add("`rounds.epsilon_spent`: removed", BOTH, &["round 1", "round 2"], |run| {
        let rounds = run.table("rounds");
        let none = Arc::new(Float64Array::from(vec![None; rounds.num_rows()]));
        run.put("rounds", &with_column(&rounds, "epsilon_spent", none));
    });
    add("`rounds.aggregation_error`, which no round with privacy has", BOTH, &["round 1", "round 2"], |run| {
        let rounds = run.table("rounds");
        let errors = Arc::new(Float64Array::from(vec![0.5; rounds.num_rows()]));
        run.put("rounds", &with_column(&rounds, "aggregation_error", errors));
    });
    add("`scenario.ron`: noise multiplier", &[Nothing, Files], &["scenario"], |run| {
        run.edit_text("scenario.ron", "noise_multiplier: 2.0", "noise_multiplier: 4.0");
    });
    add("the same, with the genesis that follows", &[All], &["its key is", "round 1"], |run| {
        run.edit_text("scenario.ron", "noise_multiplier: 2.0", "noise_multiplier: 4.0");
        run.redo_genesis();
    });
    add("the same, with `rounds.epsilon_spent`", &[All], &["its key is", "round 1"], |run| {
        run.edit_text("scenario.ron", "noise_multiplier: 2.0", "noise_multiplier: 4.0");
        run.redo_genesis();
        run.edit_cell("rounds", "epsilon_spent", 0);
        run.edit_cell("rounds", "epsilon_spent", 1);
    });
    add("manifest: secret noise among its inputs", &[Files], &["genesis", "secret"], |run| {
        run.edit_manifest(|manifest| {
            let data = manifest.inputs["data"].clone();
            manifest.inputs.insert("secret_noise".into(), data);
        });
    });
    add("`tasks.weight` of the client", BOTH, ROUND_2, |run| run.edit_cell("tasks", "weight", run.task));
    add("`tasks.update_norm` of the client", BOTH, ROUND_2, |run| run.edit_cell("tasks", "update_norm", run.task));
}

/// Returns the row of lineage with the last attack of round 2.
fn last_attack(run: &ForgedRun) -> usize {
    let lineage = run.table("lineage");
    let kinds = lineage["kind"].as_string::<i32>();
    (0..kinds.len()).rfind(|&row| kinds.value(row) == "attack").expect("clients attack")
}

/// Replaces the text of the last attack of round 2 in a column of lineage.
fn edit_last_attack(run: &ForgedRun, column: &str, change: impl Fn(&str) -> String) {
    let row = last_attack(run);
    let lineage = run.table("lineage");
    let mut texts = Vec::new();
    for (place, text) in lineage[column].as_string::<i32>().iter().enumerate() {
        let text = text.map(str::to_owned);
        texts.push(if place == row { Some(change(text.as_deref().unwrap_or_default())) } else { text });
    }
    let forged = with_column(&lineage, column, Arc::new(StringArray::from(texts)));
    assert!(forged != lineage, "{column} of lineage was not changed");
    run.put("lineage", &forged);
}

/// Attack of the run, and another.
const ATTACK: &str = "\"factor\":2.0";
const OTHER_ATTACK: &str = "\"factor\":3.0";

fn of_attacked(add: Add) {
    add(NO_CHANGE, &[Nothing, Files, All], &[], |_| {});
    add("`scenario.ron`: the attack", &[Nothing, Files], &["scenario"], |run| {
        run.edit_text("scenario.ron", "factor: 2.0", "factor: 3.0");
    });
    add("the same, with the genesis that follows", &[All], &["its key is", "round 1"], |run| {
        run.edit_text("scenario.ron", "factor: 2.0", "factor: 3.0");
        run.redo_genesis();
    });
    add("`lineage.parameters` of an attack in round 2", BOTH, &["table lineage", "lineage says", "round 2"], |run| {
        edit_last_attack(run, "parameters", |text| text.replace(ATTACK, OTHER_ATTACK));
    });
    add("`lineage.parameters` of an attack, with all keys that follow", BOTH, &["its key is", "round 2"], |run| {
        run.redo_keys(last_attack(run), ATTACK, OTHER_ATTACK);
    });
    add("`lineage.result` of an attack, which has none", BOTH, &["round 2", "lineage says"], |run| {
        edit_last_attack(run, "result", |_| OTHER.to_string());
    });
    add("`lineage.key` of an attack in round 2", BOTH, &["table lineage", "lineage says"], |run| {
        run.edit_cell("lineage", "key", last_attack(run));
    });
    add("`lineage`: an attack as a training", BOTH, &["table lineage", "lineage says", "round 2"], |run| {
        edit_last_attack(run, "kind", |_| "train".to_owned());
    });
    add("`lineage`: the row of an attack dropped", BOTH, &["table lineage", "lineage says", "round 2"], |run| {
        let row = last_attack(run) as u32;
        let [first, second] = run.counts("lineage");
        let kept: Vec<u32> = (0..(first + second) as u32).filter(|&other| other != row).collect();
        run.select("lineage", &kept, [first, second - 1]);
    });
    add("`tasks.update_norm` of the client", BOTH, ROUND_2, |run| run.edit_cell("tasks", "update_norm", run.task));
}

fn of_plans(add: Add) {
    add(NO_CHANGE, &[Nothing, Files, All], &[], |_| {});
    add("`scenario.ron`: downlink", &[Nothing, Files], &["scenario"], |run| {
        run.edit_text("scenario.ron", "downlink: \"10 Mbit/s\"", "downlink: \"20 Mbit/s\"");
    });
    add("the same, with the genesis that follows", &[All], &[], |run| {
        run.edit_text("scenario.ron", "downlink: \"10 Mbit/s\"", "downlink: \"20 Mbit/s\"");
        run.redo_genesis();
    });
    add("manifest: `kind`", &[Files], &["genesis", "arithmetic"], |run| {
        run.edit_manifest(|m| m.kind = RunKind::Run);
    });
    add("manifest: `grade`", &[Files], &["grade"], |run| run.edit_manifest(|m| m.grade = "B".into()));
    add("manifest: `numerics_class`", &[Files], &["grade"], |run| run.edit_manifest(|m| m.numerics_class += "x"));
    add("manifest: `seed`", &[Files], &["seed"], |run| run.edit_manifest(|m| m.seed = 2));
    add("manifest: hash of the data", &[Files], &["genesis"], |run| {
        run.edit_manifest(|m| m.inputs.get_mut("data").expect("data").hash = OTHER);
    });
    add("`population`: a cell", BOTH, &["population", "round 1"], |run| run.edit_cell("population", "train_rows", 1));
    add("`events`: a cell of round 2", BOTH, ROUND_2, |run| run.edit_last_cell("events", "bytes"));
    add("`tasks`: a time of round 1", BOTH, ROUND_1, |run| run.edit_cell("tasks", "ended_at_ns", 0));
    add("`tasks`: a loss, which no plan has", BOTH, &["round 1"], |run| {
        let tasks = run.table("tasks");
        let mut losses = vec![None; tasks.num_rows()];
        losses[0] = Some(1.0);
        run.put("tasks", &with_column(&tasks, "loss_mean", Arc::new(Float64Array::from(losses))));
    });
    add("`tasks`: a row of round 2 dropped", BOTH, ROUND_2, |run| run.drop_last_row("tasks"));
    add("the last round dropped, with its rows", BOTH, &["rounds"], ForgedRun::drop_last_round);
    add("a certificate, which no plan has", &[Files], &["certificate.json"], |run| {
        fs::copy(run.other.join("certificate.json"), run.path("certificate.json")).expect("a certificate");
    });
}
