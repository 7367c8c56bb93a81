//! Kinds of changes, in the order of the table.

use std::fs;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Float64Array};
use arrow::datatypes::Float64Type;
use fedreplay::algorithm::{AggregationError, ModuleError};
use fedreplay::ledger::{GenerationRow, RunKind, RunState, Table};
use fedreplay::store::Digest;
use serde_json::json;

use super::forged_run::{ForgedRun, Redone, TABLES_OF_ROUNDS, with_column, with_texts};
use super::other_kinds;
use super::support::copy;

use Redone::{All, Files, Nothing};

/// Kind of change: what was changed, and how far its traces are covered.
pub struct Forgery {
    /// Run that is changed.
    pub of: Of,
    pub what: &'static str,
    pub redone: Redone,
    /// Texts of which one is in what a check says that finds the change, so that it is not found for another reason.
    pub evidence: &'static [&'static str],
    pub make: fn(&ForgedRun),
}

/// Honest runs of which copies are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Of {
    /// Run with one model for all clients.
    Trained,
    /// Run in which each client keeps a model of its own.
    Alone,
    /// Run with differential privacy.
    Private,
    /// Run in which some clients attack.
    Attacked,
    /// Schedule without training.
    Plan,
}

impl Of {
    /// Returns the words that begin a row of the table.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Trained => "",
            Self::Alone => "own models: ",
            Self::Private => "privacy: ",
            Self::Attacked => "attackers: ",
            Self::Plan => "plan: ",
        }
    }
}

/// Control: copies of the honest run pass every check, also with tables written by the forger.
pub const NO_CHANGE: &str = "nothing (control)";

/// A hash of nothing.
pub const OTHER: Digest = Digest([7; 32]);

/// Returns all kinds of changes.
pub fn forgeries() -> Vec<Forgery> {
    let mut all = Vec::new();
    let mut add = |what, redone: &[Redone], evidence, make: fn(&ForgedRun)| {
        all.extend(redone.iter().map(|&redone| Forgery { of: Of::Trained, what, redone, evidence, make }));
    };
    of_nothing(&mut add);
    of_scenario(&mut add);
    of_adapters(&mut add);
    of_certificate(&mut add);
    of_files(&mut add);
    of_manifest(&mut add);
    of_rows(&mut add);
    of_whole_tables(&mut add);
    of_hashes(&mut add);
    for (kind, add_kinds) in other_kinds::ALL {
        let mut add = |what, redone: &[Redone], evidence, make: fn(&ForgedRun)| {
            all.extend(redone.iter().map(|&redone| Forgery { of: kind, what, redone, evidence, make }));
        };
        add_kinds(&mut add);
    }
    all
}

/// Adds a kind of change, once for each degree of covering its traces.
pub type Add<'a> = &'a mut dyn FnMut(&'static str, &[Redone], &'static [&'static str], fn(&ForgedRun));

pub const BOTH: &[Redone] = &[Files, All];

fn of_nothing(add: Add) {
    add(NO_CHANGE, &[Nothing, Files, All], &[], |_| {});
    add("nothing but the compression of the tables", BOTH, &[], |run| {
        for table in TABLES_OF_ROUNDS.into_iter().chain(["population"]) {
            run.put(table, &run.table(table));
        }
    });
    add("nothing but the compression of the tables", &[Nothing], &["its hash is"], |run| {
        run.put("tasks", &run.table("tasks"));
    });
    add("`timing/` and `report.html`", &[Nothing], &[], |run| {
        fs::write(run.path("timing/summary.json"), "{}").expect("a writable folder");
        fs::write(run.path("report.html"), "x").expect("a writable folder");
    });
}

fn of_scenario(add: Add) {
    add("`scenario.ron`: learning rate", &[Nothing, Files], &["scenario"], |run| {
        run.edit_text("scenario.ron", "lr: 0.01", "lr: 0.02");
    });
    add("the same, with the genesis that follows", &[All], &["its key is", "update_norm"], |run| {
        run.edit_text("scenario.ron", "lr: 0.01", "lr: 0.02");
        run.redo_genesis();
    });
    add("`scenario.ron`: a comment", &[Files], &["scenario.ron"], |run| run.edit_text("scenario.ron", "(", "// x\n("));
    add("the same, in a run of another build", &[All], &[], |run| {
        run.edit_text("scenario.ron", "(", "// x\n(");
        run.edit_manifest(|manifest| manifest.binary_hash = OTHER);
    });
    add("`scenario.ron`: path of the data, to a copy of them", &[Files], &[], |run| {
        run.edit_text("scenario.ron", "\"data.json\"", "\"copy.json\"");
    });
    add("`scenario.ron`: path of the data, to other data", &[Files], &["data"], |run| {
        run.edit_text("scenario.ron", "\"data.json\"", "\"other.json\"");
    });
    add("`scenario.ron`: `execution.checkpointing`", &[Files], &[], |run| {
        run.edit_text("scenario.ron", "checkpointing: Auto", "checkpointing: Always");
    });
    add("`scenario.ron`: `output.save_adapter_every`, with the saved adapters", &[Files], &[], |run| {
        run.edit_text("scenario.ron", "save_adapter_every: 1", "save_adapter_every: 2");
        fs::remove_dir_all(run.path("adapters/round-00001")).expect("an adapter");
    });
    add("`scenario.ron`: `name`", &[Files], &["name"], |run| {
        run.edit_text("scenario.ron", "name: \"small\"", "name: \"large\"");
    });
    add("`scenario.ron` and manifest: `name`", &[Files], &[], |run| {
        run.edit_text("scenario.ron", "name: \"small\"", "name: \"large\"");
        run.edit_manifest(|manifest| manifest.name = "large".into());
    });
}

/// File of an adapter's tensors.
pub const TENSORS: &str = "adapter_model.safetensors";

/// Saves the adapter of round 1 as that of round 2.
fn first_as_second(run: &ForgedRun) {
    let from = run.path("adapters/round-00001").join(TENSORS);
    fs::copy(from, run.path("adapters/round-00002").join(TENSORS)).expect("an adapter");
}

fn of_adapters(add: Add) {
    add("adapter of round 1 as that of round 2", &[Nothing, Files], &["adapters/round-00002"], first_as_second);
    add("the same, with `rounds.model_hash`", &[All], &["model_hash"], |run| {
        first_as_second(run);
        let rounds = run.table("rounds");
        let first = rounds["model_hash"].as_string::<i32>().value(0).to_owned();
        run.put("rounds", &with_texts(&rounds, "model_hash", |_| first.clone()));
    });
    add("saved adapter: one bit", &[Files], &["adapters/round-00002"], |run| {
        let path = run.path("adapters/round-00002").join(TENSORS);
        let mut bytes = fs::read(&path).expect("an adapter");
        *bytes.last_mut().expect("bytes") ^= 1;
        fs::write(path, bytes).expect("a writable folder");
    });
    add("saved adapter: `lora_alpha`", &[Files], &["adapters/round-00002"], |run| {
        run.edit_text("adapters/round-00002/adapter_config.json", "\"lora_alpha\": 8", "\"lora_alpha\": 16");
    });
    add("saved adapter: `lora_dropout`", &[Files], &["adapters/round-00002"], |run| {
        run.edit_text("adapters/round-00002/adapter_config.json", "\"lora_dropout\": 0.0", "\"lora_dropout\": 0.5");
    });
    add("the same, in a run of another build", &[All], &[], |run| {
        run.edit_text("adapters/round-00002/adapter_config.json", "\"lora_dropout\": 0.0", "\"lora_dropout\": 0.5");
        run.edit_manifest(|manifest| manifest.binary_hash = OTHER);
    });
    add("saved adapter: removed", &[Files], &["adapters/round-00001"], |run| {
        fs::remove_dir_all(run.path("adapters/round-00001")).expect("an adapter");
    });
    add("saved adapter: one of a round that the run has not", &[Files], &["adapters/round-00003"], |run| {
        copy(&run.path("adapters/round-00002"), &run.path("adapters/round-00003"));
    });
}

fn of_certificate(add: Add) {
    const CERTIFICATE: &[&str] = &["certificate.json"];
    add("layout of the certificate's file", &[Files], CERTIFICATE, |run| {
        run.edit_text("certificate.json", ": ", ":  ");
    });
    add("certificate: removed", &[Files], CERTIFICATE, |run| {
        fs::remove_file(run.path("certificate.json")).expect("a certificate");
    });
    add("certificate: `grade`", &[Nothing, Files], CERTIFICATE, |run| {
        run.edit_certificate(|c| c["grade"] = json!("C"))
    });
    add("certificate: `seed`", &[Files], CERTIFICATE, |run| run.edit_certificate(|c| c["seed"] = json!(7)));
    add("certificate: `fedreplay_version`", &[Files], CERTIFICATE, |run| {
        run.edit_certificate(|c| c["fedreplay_version"] = json!("9.9.9"));
    });
    add("certificate: `binary`", &[Files], CERTIFICATE, |run| run.edit_certificate(|c| c["binary"] = json!(OTHER)));
    add("certificate: model of a round", &[Files], CERTIFICATE, |run| {
        run.edit_certificate(|c| c["rounds"][1]["model"] = json!(OTHER));
    });
    add("certificate: digest of a round", &[Files], &["certificate.json", "certificate: round 2"], |run| {
        run.edit_certificate(|c| c["rounds"][1]["digest"] = json!(OTHER));
    });
    add("certificate: `numerics`", &[Files], CERTIFICATE, |run| {
        run.edit_certificate(|c| c["numerics"]["processor"] = json!("x"));
    });
    add("certificate: `libtorch`", &[Files], &[], |run| {
        run.edit_certificate(|c| c["libtorch"]["libc10.so"] = json!(OTHER));
    });
}

fn of_files(add: Add) {
    add("a file that no run has", &[Nothing, Files], &["ledger/notes.txt"], |run| {
        fs::write(run.path("ledger/notes.txt"), "x").expect("a writable folder");
    });
    add("the whole folder: an honest run of another scenario", &[Nothing], &[], |run| {
        fs::remove_dir_all(&run.folder).expect("a folder");
        copy(&run.other, &run.folder);
    });
}

fn of_manifest(add: Add) {
    const SEALED: &[&str] = &["after it was sealed"];
    add("manifest: `seed`, not sealed again", &[Nothing], &["after it was sealed", "seed"], |run| {
        run.edit_text("manifest.json", "\"seed\": 1", "\"seed\": 2");
    });
    add("manifest: layout of the file", &[Nothing], SEALED, |run| run.edit_text("manifest.json", ": ", ":  "));
    add("manifest: a field that there is not", &[Nothing], &["unknown field"], |run| {
        run.edit_text("manifest.json", "\"seed\": 1", "\"seeds\": 1, \"seed\": 1");
    });
    add("manifest: `schema_version`", &[Files], &["digest", "version"], |run| {
        run.edit_manifest(|m| m.schema_version -= 1);
    });
    add("manifest: `fedreplay_version`", &[Files], &["9.9.9"], |run| {
        run.edit_manifest(|m| m.fedreplay_version = "9.9.9".into());
    });
    add("manifest: `kind`", &[Files], &["plan"], |run| run.edit_manifest(|m| m.kind = RunKind::Plan));
    add("manifest: `state`", &[Files], &["not finished", "if it is finished"], |run| {
        run.edit_manifest(|m| m.state = RunState::Running);
    });
    add("manifest: `name`", &[Files], &["name"], |run| run.edit_manifest(|m| m.name = "large".into()));
    add("manifest: `seed`", &[Files], &["seed"], |run| run.edit_manifest(|m| m.seed = 2));
    add("manifest: `scenario_hash`", &[Files], &["scenario"], |run| run.edit_manifest(|m| m.scenario_hash = OTHER));
    add("manifest: `scenario_folder`", &[Files], &["/nowhere"], |run| {
        run.edit_manifest(|m| m.scenario_folder = "/nowhere".into());
    });
    add("manifest: hash of the data", &[Files], &["genesis"], |run| {
        run.edit_manifest(|m| m.inputs.get_mut("data").expect("data").hash = OTHER);
    });
    add("manifest: path of the data", &[Files], &[], |run| {
        run.edit_manifest(|m| m.inputs.get_mut("data").expect("data").path = "/nowhere".into());
    });
    add("manifest: an input that the run has not", &[Files], &["genesis"], |run| {
        run.edit_manifest(|m| {
            let data = m.inputs["data"].clone();
            m.inputs.insert("more_data".into(), data);
        });
    });
    add("manifest: `left_out`", &[Files], &["left out"], |run| {
        run.edit_manifest(|m| m.left_out.entry("data".into()).or_default().rows = 3);
    });
    add("manifest: `binary_hash`", &[Files], &["binary"], |run| run.edit_manifest(|m| m.binary_hash = OTHER));
    add("manifest: `numerics.processor`", &[Files], &["processor"], |run| {
        run.edit_manifest(|m| m.numerics["processor"] = json!("x"));
    });
    add("manifest: `numerics.threads`", &[Files], &[], |run| run.edit_manifest(|m| m.numerics["threads"] = json!(64)));
    add("manifest: `numerics.class`", &[Files], &["numerics"], |run| {
        run.edit_manifest(|m| m.numerics["class"]["torch"] = json!("9"));
    });
    add("manifest: `numerics_class`", &[Files], &["numerics", "arithmetic"], |run| {
        run.edit_manifest(|m| m.numerics_class += "x");
    });
    add("manifest: `genesis`", &[Files], &["genesis"], |run| run.edit_manifest(|m| m.genesis = OTHER));
    add("manifest: `grade`", &[Files], &["grade"], |run| run.edit_manifest(|m| m.grade = "C".into()));
    add("manifest: `rounds`", &[Files], &["rounds"], |run| run.edit_manifest(|m| m.rounds += 1));
    add("manifest: `digest`", &[Files], &["digest"], |run| run.edit_manifest(|m| m.digest = Some(OTHER)));
    add("manifest: a file that there is not", &[Nothing], &["ledger/tasks/none.parquet"], |run| {
        run.edit_manifest(|m| {
            let entry = m.files["scenario.ron"];
            m.files.insert("ledger/tasks/none.parquet".into(), entry);
        });
    });
    add("manifest and certificate: `fedreplay_version`", &[All], &["9.9.9"], |run| {
        run.edit_manifest(|m| m.fedreplay_version = "9.9.9".into());
    });
    add("the same, in a run of another build", &[All], &["9.9.9"], |run| {
        run.edit_manifest(|m| {
            m.fedreplay_version = "9.9.9".into();
            m.binary_hash = OTHER;
        });
    });
    add("manifest and certificate: `binary_hash`", &[All], &[], |run| run.edit_manifest(|m| m.binary_hash = OTHER));
    add("manifest and certificate: `numerics.processor`", &[All], &[], |run| {
        run.edit_manifest(|m| m.numerics["processor"] = json!("x"));
    });
    add("manifest and certificate: `grade`, with the start-up test", &[All], &[], |run| {
        run.edit_manifest(|m| {
            m.grade = "C".into();
            m.numerics["self_test"]["portable"] = json!(true);
        });
    });
    add("manifest and certificate: hash of the data, with the genesis that follows", &[All], &["data"], |run| {
        run.edit_manifest(|m| m.inputs.get_mut("data").expect("data").hash = OTHER);
        run.redo_genesis();
    });
}

/// Cells and rows. The sample of the spot checks is round 2, and a client whose update counts in it.
fn of_rows(add: Add) {
    add("`population`: a cell", BOTH, &["population", "round 1"], |run| run.edit_cell("population", "train_rows", 1));
    add("`events`: a cell of round 2", BOTH, ROUND_2, |run| run.edit_last_cell("events", "bytes"));
    add("`tasks`: a loss of the client in round 2", BOTH, ROUND_2, |run| {
        run.edit_cell("tasks", "loss_mean", run.task);
    });
    add("`tasks`: a time of round 1", BOTH, ROUND_1, |run| run.edit_cell("tasks", "ended_at_ns", 0));
    add("`evaluations`: a loss of round 2", BOTH, ROUND_2, |run| run.edit_last_cell("evaluations", "loss"));
    add("`rounds`: a loss of round 1", BOTH, ROUND_1, |run| run.edit_cell("rounds", "train_loss", 0));
    add("`rounds`: a loss of round 2", BOTH, ROUND_2, |run| run.edit_cell("rounds", "train_loss", 1));
    add("`rounds`: `epsilon_spent` of a run without privacy", BOTH, &["round 1", "round 2"], |run| {
        let rounds = run.table("rounds");
        let spent = Arc::new(Float64Array::from(vec![0.5; rounds.num_rows()]));
        run.put("rounds", &with_column(&rounds, "epsilon_spent", spent));
    });
    add("`rounds.aggregation_error` of round 2", BOTH, ROUND_2, |run| run.edit_cell("rounds", "aggregation_error", 1));
    add("`aggregation.error` of the last module", BOTH, ROUND_2, |run| run.edit_last_cell("aggregation", "error"));
    add("`aggregation`: the same, with `rounds.aggregation_error`", BOTH, ROUND_2, |run| {
        run.edit_last_cell("aggregation", "error");
        let rows = run.table("aggregation");
        let first = run.counts("aggregation")[0] as usize;
        let modules = (first..rows.num_rows()).map(|row| ModuleError {
            norm: rows["norm"].as_primitive::<Float64Type>().value(row),
            error: Some(rows["error"].as_primitive::<Float64Type>().value(row)),
        });
        let total = AggregationError::new(modules.collect()).total();
        let rounds = run.table("rounds");
        let stated = rounds["aggregation_error"].as_primitive::<Float64Type>();
        let errors = vec![stated.is_valid(0).then(|| stated.value(0)), total];
        run.put("rounds", &with_column(&rounds, "aggregation_error", Arc::new(Float64Array::from(errors))));
    });
    add("`tasks`: a row of round 2 dropped", BOTH, ROUND_2, |run| run.drop_last_row("tasks"));
    add("`tasks`: a row of round 2 twice", BOTH, ROUND_2, |run| {
        let [first, second] = run.counts("tasks");
        let mut kept: Vec<u32> = (0..(first + second) as u32).collect();
        kept.push((first + second - 1) as u32);
        run.select("tasks", &kept, [first, second + 1]);
    });
    add("`tasks`: two rows of round 2 in the other order", BOTH, ROUND_2, |run| {
        let [first, second] = run.counts("tasks");
        let mut kept: Vec<u32> = (0..(first + second) as u32).collect();
        kept.swap(first as usize, (first + second - 1) as usize);
        run.select("tasks", &kept, [first, second]);
    });
    add("`tasks`: a row of round 2 counted to round 1", BOTH, &["round 1", "round 2"], |run| {
        let [first, second] = run.counts("tasks");
        run.set_counts("tasks", [first + 1, second - 1]);
    });
    add("`events`: a row of round 2 dropped", BOTH, ROUND_2, |run| run.drop_last_row("events"));
    add("`evaluations`: a row of round 2 dropped", BOTH, ROUND_2, |run| run.drop_last_row("evaluations"));
    add("`lineage`: the last row dropped", BOTH, &["round 2", "lineage says nothing"], |run| {
        run.drop_last_row("lineage")
    });
}

pub const ROUND_1: &[&str] = &["round 1"];
pub const ROUND_2: &[&str] = &["round 2"];

fn of_whole_tables(add: Add) {
    add("`generations`: an answer in a run that has none", BOTH, ROUND_2, |run| {
        let row = GenerationRow { round: 2, benchmark: "x".into(), ..GenerationRow::default() };
        run.put("generations", &GenerationRow::batch(&[row]));
        run.set_counts("generations", [0, 1]);
    });
    add(
        "the last round dropped, with its rows and its adapter",
        BOTH,
        &["rounds", "lineage says nothing"],
        ForgedRun::drop_last_round,
    );
}

fn of_hashes(add: Add) {
    add("`rounds.digest` of round 2", &[Files], ROUND_2, |run| run.edit_cell("rounds", "digest", 1));
    add("`rounds.rows_digest` of round 2", &[Files], ROUND_2, |run| run.edit_cell("rounds", "rows_digest", 1));
    add("`rounds.model_hash` of round 2", BOTH, &["round 2", "adapters/round-00002"], |run| {
        run.edit_cell("rounds", "model_hash", 1);
    });
    add("`tasks.update_hash` of the client", BOTH, ROUND_2, |run| run.edit_cell("tasks", "update_hash", run.task));
    add("`tasks.update_key` of the client", BOTH, &["update_key", "round 2"], |run| {
        run.edit_cell("tasks", "update_key", run.task);
    });
    add("`lineage.key` of the last row", BOTH, &["table lineage", "lineage says"], |run| {
        run.edit_last_cell("lineage", "key");
    });
    add("`lineage.result` of the client's update", BOTH, &["round 2", "lineage says"], |run| {
        run.edit_cell("lineage", "result", run.training());
    });
    add("`lineage.parameters` of the client, with all keys that follow", BOTH, &["its key is", "round 2"], |run| {
        run.redo_keys(run.training(), "\"learning_rate\":0.01", "\"learning_rate\":0.02")
    });
}
