//! Datasets in the forms in which other tools write them, and rows that cannot be used, from the file to the run.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use fedreplay::data::{
    BadRows, ChatTemplate, ClientData, Columns, Federation, LongPrompts, Prompts, SequenceRules, SpecialTokensInText,
    Tokenizer, tokenize,
};
use fedreplay::ledger::Manifest;
use serde_json::{Value, json};

use super::support::{World, project};

fn form(name: &str) -> std::path::PathBuf {
    project("fixtures/forms").join(name)
}

fn stored(name: &str) -> Value {
    serde_json::from_slice(&fs::read(form(name)).expect("a fixture")).expect("JSON")
}

/// Rows of every client as JSON, by the client's id.
fn read(path: &Path) -> Vec<(String, Vec<Value>)> {
    let data = Federation::read(path, BadRows::Refuse).expect("a dataset");
    data.clients.into_iter().map(|client| (client.id, client.rows.iter().map(|row| row.to_json()).collect())).collect()
}

fn rows(path: &Path) -> Vec<Value> {
    let clients = read(path);
    assert_eq!(clients.len(), 1);
    clients.into_iter().next().expect("a client").1
}

#[test]
fn parquet_of_every_codec_is_read() {
    let expected =
        [json!({"instruction": "Add 1 and 2", "response": "3"}), json!({"instruction": "Say hi", "response": "Hi"})];
    for codec in ["snappy", "gzip", "brotli", "lz4", "zstd", "none"] {
        assert_eq!(rows(&form(&format!("{codec}.parquet"))), expected, "{codec}");
    }
}

#[test]
fn parquet_is_known_by_its_content_and_may_be_packed() {
    let world = World::new();
    let plain = fs::read(form("snappy.parquet")).expect("a fixture");
    fs::write(world.path("table"), &plain).expect("a writable folder");
    fs::write(world.path("TABLE.PARQUET.ZST"), zstd::encode_all(&plain[..], 0).expect("bytes"))
        .expect("a writable folder");
    assert_eq!(rows(&world.path("table")), rows(&form("snappy.parquet")));
    assert_eq!(rows(&world.path("TABLE.PARQUET.ZST")), rows(&form("snappy.parquet")));
}

#[test]
fn lists_of_messages_in_parquet_are_conversations() {
    let messages = rows(&form("messages.parquet"));
    let spoken = json!([{"from": "human", "value": "q"}, {"from": "gpt", "value": "good"}]);
    assert_eq!(messages, [json!({"conversations": spoken, "system": "Be brief."})]);
    let pair = json!({"prompt": "q", "chosen": "good", "rejected": "bad", "score": 0.5});
    assert_eq!(rows(&form("ultrafeedback.parquet")), [pair]);
}

/// The oracle is pyarrow's `to_pylist` with Python's `str`.
#[test]
fn columns_of_any_scalar_type_have_the_text_of_pyarrow() {
    for (column, text) in stored("scalars.json").as_object().expect("an object") {
        let columns = Columns::SingleTurn {
            instruction: column.clone(),
            input: None,
            response: "string".into(),
            system: None,
            drops_repeated: false,
        };
        // The answer is a column of its own, so it is not asked for twice.
        if column == "string" {
            continue;
        }
        let data = Federation::read_columns(&form("scalars.parquet"), &columns, BadRows::Refuse).expect("a dataset");
        assert_eq!(data.clients[0].rows[0].asked(), [text.as_str().expect("a text")], "{column}");
    }
}

#[test]
fn text_files_are_read_in_the_forms_of_pandas_leaf_and_others() {
    let world = World::new();
    let row = json!({"instruction": "Add", "response": "3"});
    let utf_16: Vec<u8> = format!("\u{feff}{}", json!([row])).encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(world.path("utf16.json"), utf_16).expect("a writable folder");
    world.write("table.CSV", "instruction,response\n\"Add\",3\n");
    world.write("table.tsv", "instruction\tresponse\nAdd\t3\n");
    world.write("columns.json", r#"{"instruction": {"0": "Add"}, "response": {"0": 3}}"#);
    world.write("lists.json", r#"{"instruction": ["Add"], "response": ["3"]}"#);
    world.write("tags.jsonl", r#"{"tags": ["a"], "instruction": "Add", "response": "3"}"#);
    for name in ["utf16.json", "table.CSV", "table.tsv", "columns.json", "lists.json"] {
        assert_eq!(rows(&world.path(name)), std::slice::from_ref(&row), "{name}");
    }
    assert_eq!(rows(&world.path("tags.jsonl"))[0]["tags"], json!(["a"]));
    world.write("leaf.json", r#"{"users": ["u", "v"], "num_samples": [1, 1], "user_data": {"u": {"x": ["Add"], "y": ["3"]}, "v": [{"instruction": "Add", "response": "3"}]}}"#);
    assert_eq!(read(&world.path("leaf.json")), [("u".into(), vec![row.clone()]), ("v".into(), vec![row])]);
}

#[test]
fn a_folder_is_a_client_per_file() {
    let world = World::new();
    for client in [10, 2] {
        fs::create_dir_all(world.path("clients")).expect("a writable folder");
        world.write(
            &format!("clients/client_{client}.jsonl"),
            &format!(r#"{{"instruction": "Say", "response": "{client}"}}"#),
        );
    }
    let expected = |n: &str| (format!("client_{n}"), vec![json!({"instruction": "Say", "response": n})]);
    assert_eq!(read(&world.path("clients")), [expected("2"), expected("10")]);
    let hash =
        |world: &World| Federation::read(&world.path("clients"), BadRows::Refuse).expect("a dataset").content_hash;
    let before = hash(&world);
    world.write("clients/client_2.jsonl", r#"{"instruction": "Say", "response": "two"}"#);
    assert_ne!(hash(&world), before);
}

#[test]
fn splits_are_no_clients() {
    let world = World::new();
    world.write(
        "splits.json",
        r#"{"train": [{"instruction": "i", "response": "r"}], "test": [{"instruction": "i", "response": "r"}]}"#,
    );
    world.fedreplay(&["data", "inspect", "splits.json"]).refused(2, &["the splits test, train"]);
}

/// The oracle is `apply_chat_template` of Transformers.
#[test]
fn a_system_prompt_reaches_the_chat_template() {
    let case = stored("system_prompt.json");
    let world = World::new();
    fs::create_dir_all(world.path("model")).expect("a writable folder");
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(project("fixtures/tiny-base").join(file), world.path("model").join(file)).expect("a fixture");
    }
    world.write("model/chat_template.jinja", case["template"].as_str().expect("a text"));
    let tokenizer = Tokenizer::load(&world.path("model")).expect("a tokenizer");
    let template = ChatTemplate::load(&world.path("model"), None).expect("a template");
    let rules = SequenceRules {
        prompts: Prompts::Chat(Arc::new(template)),
        max_tokens: 512,
        long_prompts: LongPrompts::Refuse,
        learns_last_question: false,
        special_tokens: SpecialTokensInText::Refuse,
    };
    let messages = &case["messages"];
    for row in [
        json!({"messages": messages}),
        json!({"system": "Be brief.", "instruction": "Add 1 and 2", "response": "It is 3."}),
        json!({"prompt": messages.as_array().expect("a list")[..2], "completion": "It is 3."}),
    ] {
        let data = Federation::read_from(row.to_string().as_bytes(), Path::new("d"), BadRows::Refuse).expect("a row");
        let client: &ClientData = &data.clients[0];
        let ids = &tokenize(client, &tokenizer, &rules).expect("tokens").samples[0].ids;
        assert_eq!(json!(ids), case["ids"], "{row}");
    }
}

/// Rows with four kinds of faults in two clients, one of which has no other.
const FAULTY: &str = r#"{"a": [
  {"instruction": "Say", "response": "one"},
  {"instruction": "Say", "response": " "},
  {"instruction": "Say \ud83d", "response": "two"},
  {"instruction": "Say", "answer": "three"},
  {"instruction": "Say", "response": "four", "score": NaN}],
"b": [{"instruction": "LONG", "response": "five"}]}"#;

fn faulty() -> World {
    let world = World::new();
    world.write("faulty.json", &FAULTY.replace("LONG", &"word ".repeat(400)));
    world.edit("scenario.ron", "\"data.json\"", "\"faulty.json\"");
    world
}

#[test]
fn all_obstacles_of_a_file_are_named_at_once_with_the_fields_that_lift_them() {
    let said = faulty().fedreplay(&["scenario", "check", "scenario.ron", "--no-trial"]);
    said.refused(
        2,
        &[
            "1 row of 1 client with an empty answer (the first at line 3, client \"a\", row 1",
            "2 rows of 1 client with torn or not JSON (the first at line 4, client \"a\", row 2",
            "with a column missing or not text (the first at line 5, client \"a\", row 3",
            "with too long a prompt (the first at line 7, client \"b\", row 0",
            "lifted by a larger data.max_seq_length, data.long_prompts: Skip, or data.bad_rows: Skip",
        ],
    );
}

#[test]
fn what_is_left_out_is_counted_everywhere() {
    let world = faulty();
    let sets = ["--set", "data.bad_rows=Skip", "--set", "rounds=1", "--set", "server.protocol.clients_per_round=1"];
    let check = [&["scenario", "check", "scenario.ron", "--no-trial"][..], &sets].concat();
    let parts = [
        "5 rows of data are left out: 1 with a column missing or not text, 1 with an empty answer, 1 with too long a prompt, \
         2 with torn or not JSON; by client: \"a\" 4, \"b\" 1",
        "1 client of data takes no part, for want of a usable row: \"b\"",
    ];
    let trial = [&["scenario", "check", "scenario.ron"][..], &sets].concat();
    for arguments in [check, trial] {
        let said = world.fedreplay(&arguments).succeeded();
        for part in parts {
            assert!(said.stdout.contains(part), "{}", said.stdout);
        }
        assert!(!said.stderr.contains("left out"), "it is said twice: {}", said.stderr);
    }
    let said = world.run("run", &sets).succeeded();
    assert_eq!(said.stderr.matches("5 rows of").count(), 1, "{}", said.stderr);
    let left_out = &Manifest::read(&world.path("run")).expect("a manifest").left_out["data"];
    assert_eq!((left_out.rows, left_out.clients["b"]["too long a prompt"]), (5, 1));
    assert_eq!(left_out.clients_without_rows, ["b"]);
    world.fedreplay(&["report", "run", "--out", "report.html"]).succeeded();
    let report = fs::read_to_string(world.path("report.html")).expect("a report");
    assert!(report.contains("5 rows of data are left out"));
}

/// A chat template that refuses one text.
const REFUSING_CHAT: &str = "{% for m in messages %}{% if 'forbidden' in m.content %}{{ raise_exception('not this') }}{% endif %}\
    [{{ m.role }}] {{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}";

#[test]
fn rows_that_spell_a_special_token_or_that_the_template_refuses_are_left_out_by_reason() {
    let world = World::new();
    world.write("base/chat_template.jinja", REFUSING_CHAT);
    let row = |asked: &str| json!({"instruction": asked, "response": "one"}).to_string();
    let rows = [row("Say"), row("Say </s>"), row("Say what is forbidden"), row("Say <s> too"), row("Say it")];
    world.write("rows.jsonl", &rows.join("\n"));
    world.edit("scenario.ron", "\"data.json\"", "\"rows.jsonl\", template: Chat");
    let check = |sets: &[&str]| {
        let sets = [sets, &["server.protocol.clients_per_round=1"]].concat();
        let sets: Vec<&str> = sets.iter().flat_map(|&set| ["--set", set]).collect();
        world.fedreplay(&[&["scenario", "check", "scenario.ron", "--no-trial"][..], &sets].concat())
    };
    check(&[]).refused(
        2,
        &[
            "2 rows of 1 client with a special token in its text (the first at line 2, client \"local\", row 1",
            "lifted by data.special_tokens_in_text: AsText, or data.bad_rows: Skip",
            "1 row of 1 client with refused by the chat template (the first at line 3, client \"local\", row 2",
            "lifted by another data.template, or data.bad_rows: Skip",
        ],
    );
    let left_out =
        |sets: &[&str]| check(&[sets, &["data.bad_rows=Skip"]].concat()).succeeded().summary("left out").to_owned();
    assert_eq!(
        left_out(&[]),
        "3 rows of data are left out: 2 with a special token in its text, 1 with refused by the chat template; by client: \
         \"local\" 3"
    );
    assert_eq!(
        left_out(&["data.special_tokens_in_text=AsText"]),
        "1 row of data is left out: 1 with refused by the chat template; by client: \"local\" 1"
    );
}

#[test]
fn answers_before_the_first_question_are_left_out_and_counted() {
    let world = World::new();
    let said = |from: &str, value: &str| json!({"from": from, "value": value});
    let rows = [
        json!({"conversations": [said("gpt", "Hello."), said("human", "q"), said("gpt", "a")]}),
        json!({"conversations": [said("human", "q"), said("gpt", "a")]}),
        json!({"messages": [{"role": "system", "content": "s"}, {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}),
    ];
    world.write("rows.json", &json!({"a": rows}).to_string());
    world.edit("scenario.ron", "\"data.json\"", "\"rows.json\"");
    let sets = ["--set", "rounds=1", "--set", "server.protocol.clients_per_round=1"];
    let said = world.run("run", &sets).succeeded();
    let sentence = "begin with an answer, which is left out";
    assert!(
        said.stderr.contains(&format!("rows.json {sentence}")) && said.stderr.contains("2 conversations"),
        "{}",
        said.stderr
    );
    assert_eq!(Manifest::read(&world.path("run")).expect("a manifest").left_out["data"].first_answers, 2);
    assert!(fs::read_to_string(world.path("run/report.html")).expect("a report").contains(sentence));
}

#[test]
fn a_row_of_parquet_has_a_number_and_no_line() {
    let world = World::new();
    let file = form("scalars.parquet");
    let said = world.fedreplay(&["data", "inspect", file.to_str().expect("UTF-8")]);
    let said = said.refused(2, &["client \"local\", row 0: it has no \"instruction\""]);
    assert!(!said.stderr.contains(" line "), "{}", said.stderr);
}

#[test]
fn a_row_keeps_its_place_in_the_file_after_a_partition() {
    let world = World::new();
    let good = r#"{"instruction": "Say", "response": "one"}"#;
    let long = format!(r#"{{"instruction": "{}", "response": "one"}}"#, "word ".repeat(400));
    world.write("rows.jsonl", &[good, "{}", good, &long, good].join("\n"));
    world.edit("scenario.ron", "\"data.json\"", "\"rows.jsonl\"");
    let partition = r#"data.partition={"Iid":{"clients":2}}"#;
    let said = world.fedreplay(&["scenario", "check", "scenario.ron", "--no-trial", "--set", partition]);
    said.refused(2, &["line 2, client \"local\", row 1", "line 4, client \"local\", row 3"]);
}
