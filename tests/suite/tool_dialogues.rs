//! Rows in which tools are offered, called or answer, from the file to the tokens, against Transformers.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use fedreplay::data::{
    BadRows, ChatTemplate, ClientData, Federation, JsonValue, LongPrompts, Prompts, SequenceRules, SpecialTokensInText,
    Template, Tokenizer, tokenize, write_split,
};
use fedreplay_sim::Seed;
use serde::Deserialize;
use serde_json::json;

use super::support::{World, project};

/// What `make_tool_dialogues.py` wrote.
#[derive(Deserialize)]
struct ToolDialogues {
    rows: Vec<JsonValue>,
    /// By template and tokenizer, a case for each row.
    templates: BTreeMap<String, BTreeMap<String, Vec<Case>>>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
    targets: Vec<(u32, u32)>,
}

fn fixture() -> ToolDialogues {
    serde_json::from_slice(&fs::read(project("fixtures/reference/tool_dialogues.json")).expect("a fixture"))
        .expect("JSON")
}

fn chat(tokenizer: &str, source: &str) -> Prompts {
    let place = tempfile::tempdir().expect("a folder");
    let configuration = project("fixtures/tokenizers").join(tokenizer).join("tokenizer_config.json");
    fs::copy(configuration, place.path().join("tokenizer_config.json")).expect("a fixture");
    fs::write(place.path().join("chat_template.jinja"), source).expect("a writable folder");
    Prompts::Chat(Arc::new(ChatTemplate::load(place.path(), None).expect("a template")))
}

fn source(template: &str) -> String {
    fs::read_to_string(project("tests/reference/tool_templates").join(format!("{template}.jinja"))).expect("a template")
}

fn rules(prompts: Prompts) -> SequenceRules {
    let special_tokens = SpecialTokensInText::Refuse;
    SequenceRules {
        prompts,
        max_tokens: 4_096,
        long_prompts: LongPrompts::Refuse,
        learns_last_question: false,
        special_tokens,
    }
}

fn tokenizer(name: &str) -> Tokenizer {
    Tokenizer::load(&project("fixtures/tokenizers").join(name)).expect("a tokenizer")
}

fn client(rows: &str) -> ClientData {
    let data = Federation::read_from(rows.as_bytes(), Path::new("d"), BadRows::Refuse).expect("rows");
    data.clients.into_iter().next().expect("a client")
}

/// Fault of the first row under byte_level.
fn refused(row: &JsonValue, prompts: Prompts, special_tokens: SpecialTokensInText) -> String {
    let rules = SequenceRules { special_tokens, ..rules(prompts) };
    tokenize(&client(&row.to_string()), &tokenizer("byte_level"), &rules).expect_err("a refusal").to_string()
}

#[test]
fn calls_results_and_schemas_have_the_ids_and_the_mask_of_transformers() {
    let ToolDialogues { rows, templates } = fixture();
    assert!(templates.len() >= 2);
    for (template, tokenizers) in &templates {
        for (name, cases) in tokenizers {
            let tokenizer = tokenizer(name);
            let rules = rules(chat(name, &source(template)));
            for (number, (row, case)) in rows.iter().zip(cases).enumerate() {
                let place = format!("{template}, {name}, row {number}");
                let sample = tokenize(&client(&row.to_string()), &tokenizer, &rules).expect("tokens").samples.remove(0);
                let read = tokenizer.decode(&sample.ids).expect("a text");
                assert_eq!(sample.ids, case.ids, "{place}: {read:?} for {:?}", case.text);
                let found: Vec<(u32, u32)> = sample.targets.iter().map(|range| (range.start, range.end)).collect();
                assert_eq!(found, case.targets, "{place}");
            }
        }
    }
}

#[test]
fn the_assistants_calls_are_learnt_and_what_tools_say_is_not() {
    let ToolDialogues { rows, .. } = fixture();
    let tokenizer = tokenizer("byte_level");
    let rules = rules(chat("byte_level", &source("qwen2")));
    let sample = tokenize(&client(&rows[1].to_string()), &tokenizer, &rules).expect("tokens").samples.remove(0);
    let learnt = |range: &std::ops::Range<u32>| tokenizer.decode(&sample.ids[range.start as usize..range.end as usize]);
    let learnt: Vec<String> = sample.targets.iter().map(|range| learnt(range).expect("a text")).collect();
    let called =
        |b, a| format!("<tool_call>\n{{\"name\": \"add\", \"arguments\": {{\"b\": {b}, \"a\": {a}}}}}\n</tool_call>");
    let first = format!("One moment.\n{}\n{}\n", called(2, 1), called(4, 3));
    assert_eq!(learnt, [first, "3 and 7\n".into(), format!("{}\n", called(6, 5))]);
}

#[test]
fn rows_keep_their_order_of_keys_in_a_split() {
    let ToolDialogues { rows, templates } = fixture();
    let world = World::new();
    let data = json!({"a": []}).to_string().replace("[]", &format!("{}", JsonValue::List(rows)));
    let data = Federation::read_from(data.as_bytes(), Path::new("d"), BadRows::Refuse).expect("rows");
    write_split(&data, 0.0, Seed(1), &world.path("split")).expect("a writable folder");
    let again = Federation::read(&world.path("split/train.json"), BadRows::Refuse).expect("rows");
    let rules = rules(chat("byte_level", &source("qwen2")));
    let tokenized = tokenize(&again.clients[0], &tokenizer("byte_level"), &rules).expect("tokens");
    for (sample, case) in tokenized.samples.iter().zip(&templates["qwen2"]["byte_level"]) {
        assert_eq!(sample.ids, case.ids);
    }
}

#[test]
fn a_template_without_a_place_for_tools_refuses_the_row() {
    let ToolDialogues { rows, .. } = fixture();
    let says = |row: usize, source: &str| refused(&rows[row], chat("byte_level", source), SpecialTokensInText::Refuse);
    let texts_only = "{% for m in messages %}{{ m.role }}:{{ m.content }}\n{% endfor %}\
                      {% if add_generation_prompt %}assistant:{% endif %}";
    let said = says(0, texts_only);
    assert!(said.contains("client \"local\", row 0") && said.contains("it leaves out the schemas of tools"), "{said}");
    let said = says(1, texts_only);
    assert!(said.contains("it leaves out the tool calls of message 1; use a model whose chat template"), "{said}");
    let no_results = "{% for m in messages if m.role != 'tool' %}{{ m.role }}:{{ m.content }}{{ m.tool_calls }}\n{% endfor %}\
                      {% if add_generation_prompt %}assistant:{% endif %}";
    assert!(says(1, no_results).contains("it leaves out the tool's result of message 2"), "{}", says(1, no_results));
    let raising =
        "{% for m in messages %}{% if m.tool_calls %}{{ raise_exception('no calls') }}{% endif %}{% endfor %}";
    assert!(says(1, raising).contains("no calls"));
    let alpaca = Prompts::Template(Template::named("alpaca").expect("a template"));
    let said = refused(&rows[2], alpaca, SpecialTokensInText::Refuse);
    assert!(
        said.contains("row 0: it has tools or reasoning, which only a chat template can write; data.template: Chat"),
        "{said}"
    );
}

#[test]
fn a_special_token_inside_of_a_call_is_seen() {
    let row = json!({"messages": [
        {"role": "user", "content": "q"},
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"a": ["x <|im_end|>"]}}}]}
    ]});
    let row = JsonValue::from(row);
    let said = refused(&row, chat("byte_level", &source("qwen2")), SpecialTokensInText::Refuse);
    assert!(said.contains("special token \"<|im_end|>\""), "{said}");
    let place = tempfile::tempdir().expect("a folder");
    fs::write(place.path().join("chat_template.jinja"), source("qwen2")).expect("a writable folder");
    let plain = ChatTemplate::load(place.path(), None).expect("a template").with_plain(&["<|im_end|>".into()]);
    let rules = SequenceRules { special_tokens: SpecialTokensInText::AsText, ..rules(Prompts::Chat(Arc::new(plain))) };
    let tokenizer = tokenizer("byte_level");
    let sample = tokenize(&client(&row.to_string()), &tokenizer, &rules).expect("tokens").samples.remove(0);
    let end = tokenizer.encode_chat("<|im_end|>").expect("an id").ids[0];
    assert_eq!(sample.ids.iter().filter(|&&id| id == end).count(), 2, "those of the template");
    assert!(tokenizer.decode(&sample.ids).expect("a text").contains("{\"a\": [\"x <|im_end|>\"]}"));
}

/// The oracle is the number of rows that have tools.
#[test]
fn rows_with_tools_are_skipped_by_reason_and_named_with_what_lifts_them() {
    let world = World::new();
    let plain = json!({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]});
    let ToolDialogues { rows, .. } = fixture();
    world.write("tools.jsonl", &[plain.to_string(), rows[0].to_string(), plain.to_string()].join("\n"));
    world.edit("scenario.ron", "\"data.json\"", "\"tools.jsonl\"");
    let check = ["scenario", "check", "scenario.ron", "--no-trial"];
    let clients = ["--set", "server.protocol.clients_per_round=1"];
    world.fedreplay(&[&check[..], &clients].concat()).refused(
        2,
        &[
            "tools under a template without a place for them (the first at line 2, client \"local\", row 1",
            "data.template: Chat",
        ],
    );
    let skipped = [&check[..], &clients, &["--set", "data.bad_rows=Skip"]].concat();
    let said = world.fedreplay(&skipped).succeeded();
    assert!(said.stdout.contains("1 with tools under a template without a place for them"), "{}", said.stdout);
}
