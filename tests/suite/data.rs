//! Datasets on the command line and in scenarios: twins, statistics, splits, partitions, imported scripts.

use std::fs;

use arrow::array::AsArray;
use arrow::datatypes::UInt64Type;
use fedreplay::data::{BadRows, Federation};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::support::World;

#[test]
fn a_twin_says_that_it_is_one_wherever_it_is_read() {
    let world = World::new();
    let twin = ["data", "twin", "fed-chatbot-it", "--out", "it.json", "--seed", "4", "--length-scale", "0.05"];
    let said = world.fedreplay(&twin).succeeded();
    assert_eq!((said.summary("clients"), said.summary("samples")), ("237", "6166"));
    let manifest = fs::read_to_string(world.path("it.json.manifest.json")).expect("a manifest");
    assert!(manifest.contains("synthetic twin of Fed-ChatbotIT"), "{manifest}");
    let said = world.fedreplay(&["data", "inspect", "it.json", "--out", "it.parquet", "--json"]).succeeded();
    assert!(said.summary("note").contains("synthetic twin of fed-chatbot-it"));
    assert!(said.summary("a client").starts_with("26 ± 33"), "{}", said.stdout);
    let last: serde_json::Value = serde_json::from_str(said.stdout.lines().last().expect("a line")).expect("JSON");
    assert_eq!((&last["samples"], &last["length_unit"]), (&6166.into(), &"words".into()));
    let file = fs::File::open(world.path("it.parquet")).expect("the table is there");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|reader| reader.build()).expect("Parquet");
    let samples = |batch: arrow::record_batch::RecordBatch| -> u64 {
        batch["samples"].as_primitive::<UInt64Type>().values().iter().sum()
    };
    assert_eq!(reader.map(|batch| samples(batch.expect("readable"))).sum::<u64>(), 6166);
    // A run on it says so, and its clients' names do.
    world.edit("scenario.ron", "\"data.json\"", "\"it.json\"");
    let sets = ["data.max_seq_length=448", "data.long_prompts=Skip", "rounds=1", "evaluation.local_baseline=false"];
    world.run("run", &sets.map(|set| ["--set", set]).concat()).succeeded();
    let manifest = fs::read_to_string(world.path("run/manifest.json")).expect("a manifest");
    assert!(manifest.contains("synthetic_twin_of_fed-chatbot-it"), "{manifest}");
    world.fedreplay(&["data", "twin", "fed-bottle", "--out", "x.json"]).refused(2, &["fed-aya", "fed-chatbot-pa"]);
}

#[test]
fn a_split_has_every_row_once() {
    let world = World::new();
    let split = ["data", "split", "data.json", "--held-out", "0.25", "--out", "parts"];
    world.fedreplay(&split).succeeded();
    let read = |path: &str| Federation::read(&world.path(path), BadRows::Refuse).expect("a dataset");
    let (all, train, test) = (read("data.json"), read("parts/train.json"), read("parts/test.json"));
    assert_eq!(train.rows() + test.rows(), all.rows());
    for (client, (kept, held)) in all.clients.iter().zip(train.clients.iter().zip(&test.clients)) {
        assert_eq!((&client.id, &client.id), (&kept.id, &held.id));
        assert_eq!(held.rows.len(), (client.rows.len() as f64 * 0.25).round() as usize);
        assert!(client.rows.iter().all(|row| kept.rows.contains(row) != held.rows.contains(row)));
    }
}

#[test]
fn public_columns_are_dealt_to_clients() {
    let world = World::new();
    let row = |n: usize| {
        let topic = ["sums", "words", "maps"][n % 3];
        format!(
            r#"{{"instruction": "Say {n}.", "input": "Twice {n}.", "output": "It is {n}, {n}.", "topic": "{topic}"}}"#
        )
    };
    let rows: Vec<String> = (0..60).map(row).collect();
    world.write("public.jsonl", &rows.join("\n"));
    world.edit("scenario.ron", "\"data.json\"", "\"public.jsonl\", columns: Alpaca");
    let clients = |out: &str, sets: &[&str]| {
        let more: Vec<&str> = [&["--set", "rounds=1", "--set", "evaluation.local_baseline=false"], sets].concat();
        world.run(out, &more).succeeded();
        fedreplay::ledger::read_table(&world.path(out), "population").expect("a table").num_rows()
    };
    assert_eq!(clients("iid", &["--set", r#"data.partition={"Iid":{"clients":5}}"#, "--set", "data.rows=40"]), 5);
    assert_eq!(clients("topics", &["--set", r#"data.partition={"ByAttribute":{"attribute":"topic"}}"#]), 3);
    let uneven = r#"data.partition={"Dirichlet":{"clients":4,"alpha":0.3,"attribute":"topic"}}"#;
    assert_eq!(clients("uneven", &["--set", uneven]), 4);
    let chosen = r#"data.clients=["maps","sums"]"#;
    let by_topic = r#"data.partition={"ByAttribute":{"attribute":"topic"}}"#;
    assert_eq!(clients("two", &["--set", by_topic, "--set", chosen]), 2);
    let unknown = r#"data.partition={"ByAttribute":{"attribute":"colour"}}"#;
    world.run("none", &["--set", unknown]).refused(2, &["colour", "it has: topic"]);
    world.run("pooled", &["--set", "data.rows=4"]).refused(2, &["data.partition"]);
    let said = world.fedreplay(&["data", "inspect", "public.jsonl", "--columns", "alpaca"]).succeeded();
    assert_eq!(said.summary("samples"), "60");
    world.fedreplay(&["data", "inspect", "public.jsonl", "--columns", "gsm8k"]).refused(2, &["line 1", "instruction"]);
    world.fedreplay(&["data", "inspect", "public.jsonl", "--columns", "gsm9k"]).refused(2, &["gsm8k"]);
}

#[test]
fn a_script_is_imported_and_what_is_lost_is_said() {
    let world = World::new();
    world.write(
        "run_sft.sh",
        "lr=5e-5\npython main_sft.py --learning_rate $lr --fed_alg fedadam --sample_clients 2 --num_rounds 7 \\\n \
         --batch_size 16 --peft_lora_r 32 --peft_lora_alpha 64 --load_in_8bit --use_peft --wandb yes\n",
    );
    let said = world.fedreplay(&["import", "run_sft.sh"]).succeeded();
    for part in ["rounds: 7", "rank: 32", "alpha: 64", "FedAdam(", "LlmInt8", "lr: 5e-5"] {
        assert!(said.stdout.contains(part), "`{part}` is not in:\n{}", said.stdout);
    }
    assert!(said.stderr.contains("--wandb: it has no counterpart"), "{}", said.stderr);
    world.write("empty.sh", "echo\n");
    world.fedreplay(&["import", "empty.sh"]).refused(2, &["empty.sh", "main_sft.py"]);
    world.write("two.sh", "python main_sft.py --use_peft\npython main_dpo.py --use_peft\n");
    world.fedreplay(&["import", "two.sh"]).refused(2, &["two.sh", "lines 1, 2; choose one with --call N"]);
    let second = world.fedreplay(&["import", "two.sh", "--call", "2"]).succeeded();
    assert!(second.stdout.contains("Dpo("), "{}", second.stdout);
}

#[test]
fn unusable_rows_end_a_run_or_are_counted() {
    let world = World::new();
    let data = fs::read_to_string(world.path("data.json")).expect("the data is there");
    world.write("data.json", &data.replacen("\"response\"", "\"answer\"", 2));
    world.run("refused", &[]).refused(2, &["line", "user-0", "response"]);
    let said = world.run("run", &["--set", "data.bad_rows=Skip", "--set", "rounds=1"]).succeeded();
    assert!(said.stderr.contains("2 rows of"), "{}", said.stderr);
}
