//! Against the texts that Transformers writes, and what is said of templates and dialogues that do not work.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;

use serde::Deserialize;
use serde_json::{Value, json};

use super::source::Source;
use super::*;
use crate::data::{ChatMessage, Message, Role};

#[derive(Deserialize)]
struct Fixture {
    dialogues: Vec<Vec<Spoken>>,
    templates: Vec<Expected>,
}

#[derive(Deserialize)]
struct Spoken {
    role: String,
    content: String,
}

#[derive(Deserialize)]
struct Expected {
    name: String,
    source: String,
    tokens: BTreeMap<String, String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    whole: Outcome,
    prompt: Outcome,
    answers: Option<Answers>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Text(String),
    Refusal(String),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answers {
    Ranges(Vec<(usize, usize)>),
    NotAPrefix(usize),
}

fn fixture() -> Fixture {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/reference/chat_templates.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn messages(spoken: &[Spoken]) -> Vec<Message<'_>> {
    let role = |name: &str| match name {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        other => panic!("the fixture has a role {other:?}"),
    };
    spoken.iter().map(|message| Message { role: role(&message.role), content: &message.content }).collect()
}

fn owned(messages: &[Message]) -> Vec<ChatMessage> {
    messages.iter().map(ChatMessage::from).collect()
}

fn compiled(source: &str) -> Result<ChatTemplate, ChatTemplateError> {
    let tokens = BTreeMap::from([("bos_token", "<s>".to_owned()), ("eos_token", "</s>".to_owned())]);
    ChatTemplate::compile(Source { label: "t.jinja".into(), text: source.into(), tokens }, None)
}

/// Every template over every dialogue.
fn each_case(check: impl Fn(&str, &ChatTemplate, &[Message], &Case)) {
    let Fixture { dialogues, templates } = fixture();
    for Expected { name, source, tokens, cases } in templates {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("chat_template.jinja"), source).unwrap();
        fs::write(folder.path().join("tokenizer_config.json"), json!(tokens).to_string()).unwrap();
        let template = ChatTemplate::load(folder.path(), None).unwrap();
        assert_eq!(cases.len(), dialogues.len());
        for (n, (case, spoken)) in cases.iter().zip(&dialogues).enumerate() {
            check(&format!("{name}, dialogue {n}"), &template, &messages(spoken), case);
        }
    }
}

#[test]
fn texts_and_refusals_are_those_of_transformers() {
    each_case(|name, template, messages, case| {
        for (outcome, is_prompt) in [(&case.whole, false), (&case.prompt, true)] {
            match (outcome, template.render(&owned(messages), &[], is_prompt)) {
                (Outcome::Text(text), Ok(rendered)) => assert_eq!(*text, rendered, "{name}"),
                (Outcome::Refusal(said), Err(ChatTemplateError::Refused { message, .. })) => {
                    assert_eq!(*said, message, "{name}");
                }
                (outcome, rendered) => panic!("{name}: {outcome:?} by Transformers, {rendered:?} here"),
            }
        }
    });
}

#[test]
fn answers_are_where_the_prompts_of_transformers_end() {
    each_case(|name, template, messages, case| {
        let found = template.dialogue(messages);
        match &case.answers {
            None => assert!(matches!(case.whole, Outcome::Refusal(_)) <= found.is_err(), "{name}"),
            Some(Answers::Ranges(ranges)) => {
                let ranges: Vec<Range<usize>> = ranges.iter().map(|&(start, end)| start..end).collect();
                assert_eq!(found.unwrap().answers, ranges, "{name}");
            }
            Some(Answers::NotAPrefix(index)) => match found {
                Err(ChatTemplateError::NotAPrefix { message, .. }) => assert_eq!(message, *index, "{name}"),
                other => panic!("{name}: {other:?}"),
            },
        }
    });
}

#[test]
fn an_answer_is_its_text_and_what_closes_it() {
    let template = compiled(
        "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content + eos_token }}\
         {% endif %}{% endfor %}",
    )
    .unwrap();
    let user = |content| Message { role: Role::User, content };
    let assistant = |content| Message { role: Role::Assistant, content };
    let spoken = [user("é [/INST] a</s>"), assistant("é [/INST] a"), user("q"), assistant("b")];
    let Dialogue { text, answers, .. } = template.dialogue(&spoken).unwrap();
    let answers: Vec<&str> = answers.into_iter().map(|range| &text[range]).collect();
    assert_eq!(answers, [" é [/INST] a</s>", " b</s>"]);
    assert!(text.starts_with(&template.prompt(&spoken[..1]).unwrap()));
    assert!(template.dialogue(&spoken[..1]).unwrap().answers.is_empty());
}

const SPOKEN: [Message; 2] =
    [Message { role: Role::User, content: "q" }, Message { role: Role::Assistant, content: "a" }];

fn refused(source: &str) -> String {
    compiled(source).and_then(|template| template.dialogue(&SPOKEN)).unwrap_err().to_string()
}

#[test]
fn templates_without_a_mask_are_named() {
    assert_eq!(
        refused("{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}"),
        "failed to find the answers under the chat template t.jinja: what it writes before message 1 changes with what \
         follows, so prompt and answer cannot be told apart; use a prompt template instead"
    );
    assert_eq!(
        refused("{{ messages[0].content }}"),
        "failed to find the answers under the chat template t.jinja: it writes nothing for message 1"
    );
}

#[test]
fn broken_templates_are_named_with_their_line() {
    let text = refused("a\n{% if messages %}");
    assert!(text.starts_with("failed to read the chat template t.jinja: line 2: "), "{text}");
    assert_eq!(
        refused("\n\n{{ raise_exception('no ' + messages[0].role) }}"),
        "failed to apply the chat template t.jinja: line 3: no user"
    );
    let text = refused("{{ messages[0].content.frobnicate() }}");
    assert!(
        text.starts_with("failed to apply the chat template t.jinja: line 1: ") && text.contains("frobnicate"),
        "{text}"
    );
    let text = refused("{{ messages | tojson(ensure_ascii=true) }}");
    assert!(text.contains("ensure_ascii=true is not supported"), "{text}");
}

#[test]
fn the_date_is_never_asked() {
    let text = refused("{{ strftime_now('%d %b %Y') }}");
    assert!(text.contains("t.jinja: it asks for the current date (strftime_now)"), "{text}");
    let dated = "{{ strftime_now('%Y') if strftime_now is defined else 'no date' }}";
    assert_eq!(compiled(dated).unwrap().prompt(&SPOKEN).unwrap(), "no date");
}

/// As `datetime.datetime(2024, 7, 6).strftime(...)` of Python writes it.
#[test]
fn a_date_that_is_set_is_the_current_one() {
    let date = "2024-07-06".parse().ok();
    let dated = |text: &str| {
        let source = Source { label: "t.jinja".into(), text: text.into(), tokens: BTreeMap::new() };
        ChatTemplate::compile(source, date).unwrap().prompt(&SPOKEN).map_err(|error| error.to_string())
    };
    let all = "{{ strftime_now('%d %b %Y, %A %H:%M %-d %j %y %m/%B %p %I %a') }}";
    assert_eq!(dated(all).unwrap(), "06 Jul 2024, Saturday 00:00 6 188 24 07/July AM 12 Sat");
    assert!(dated("{{ strftime_now('%Q') }}").unwrap_err().contains("the format \"%Q\" is not known"));
}

#[test]
fn line_ends_of_a_template_are_line_feeds_and_those_of_messages_stay() {
    let written = |source: &str| {
        let prompts = [
            [("chat_template.jinja", json!(source)), ("tokenizer_config.json", json!({}))],
            [("tokenizer_config.json", json!({"chat_template": source})), ("special_tokens_map.json", json!({}))],
        ];
        let prompts = prompts.map(|files| {
            let folder = tempfile::tempdir().unwrap();
            for (file, content) in files {
                let text = content.as_str().map_or_else(|| content.to_string(), str::to_owned);
                fs::write(folder.path().join(file), text).unwrap();
            }
            let template = ChatTemplate::load(folder.path(), None).unwrap();
            template.prompt(&[Message { role: Role::User, content: "x\r\ny" }]).unwrap()
        });
        assert_eq!(prompts[0], prompts[1], "{source:?}");
        prompts[0].clone()
    };
    let source = "a\n{% if true %}\nb{{ messages[0].content }}\n{% endif %}\n";
    for end in ["\n", "\r\n", "\r"] {
        assert_eq!(written(&source.replace('\n', end)), "a\nbx\r\ny\n", "{end:?}");
    }
}

#[test]
fn what_is_set_inside_of_generation_is_not_set_outside() {
    let source = "{% set x = 1 %}{% generation %}{% set x = 2 %}a{{ x }}{% endgeneration %}{{ x }}";
    assert_eq!(compiled(source).unwrap().prompt(&SPOKEN).unwrap(), "a21");
}

#[test]
fn noncharacters_that_mark_places_are_refused() {
    let template = compiled("{{ messages[0].content }}").unwrap();
    let error = template.prompt(&[Message { role: Role::User, content: "a\u{fdd3}" }]).unwrap_err().to_string();
    assert!(error.contains("a message holds the noncharacter U+FDD3"), "{error}");
}

/// What a folder with these files says of `name`: the prompt, or the error.
fn of_folder(files: &[(&str, &Value)], name: Option<&str>) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    for (file, content) in files {
        let text = content.as_str().map_or_else(|| content.to_string(), str::to_owned);
        fs::write(folder.path().join(file), text).unwrap();
    }
    let prompt = ChatTemplate::load(folder.path(), name).and_then(|template| template.prompt(&SPOKEN));
    prompt.map_err(|error| error.to_string().replace(folder.path().to_str().unwrap(), "model"))
}

#[test]
fn a_folder_says_which_template_and_which_tokens() {
    let plain =
        json!({"chat_template": "{{ bos_token }}c{{ eos_token }}", "bos_token": {"content": "<b>"}, "eos_token": null});
    let tokens = json!({"bos_token": "<x>", "eos_token": "<e>"});
    let files = [("tokenizer_config.json", &plain), ("special_tokens_map.json", &tokens)];
    assert_eq!(of_folder(&files, None).unwrap(), "<b>c<e>");
    assert_eq!(of_folder(&files, Some("default")).unwrap(), "<b>c<e>");
    // The file of its own comes first; its last line break is not part of the text.
    let jinja = json!("j{{ bos_token }}\n");
    let files = [("tokenizer_config.json", &plain), ("chat_template.jinja", &jinja)];
    assert_eq!(of_folder(&files, None).unwrap(), "j<b>");

    let several =
        json!({"chat_template": [{"name": "default", "template": "d"}, {"name": "rag", "template": "{{ x( }}"}]});
    let files = [("tokenizer_config.json", &several)];
    assert_eq!(of_folder(&files, None).unwrap(), "d");
    let text = of_folder(&files, Some("rag")).unwrap_err();
    assert!(
        text.starts_with("failed to read the chat template \"rag\" of model/tokenizer_config.json: line 1: "),
        "{text}"
    );
    assert_eq!(
        of_folder(&files, Some("tools")).unwrap_err(),
        "failed to find the chat template \"tools\" in model/tokenizer_config.json; there are: default, rag"
    );
}

#[test]
fn a_folder_without_a_template_says_so() {
    let text = of_folder(&[("tokenizer_config.json", &json!({}))], None).unwrap_err();
    assert!(text.starts_with("failed to find a chat template in model: neither chat_template.jinja nor"), "{text}");
    assert!(of_folder(&[], None).unwrap_err().starts_with("failed to find a chat template in model"));
    let text = of_folder(&[("tokenizer_config.json", &json!({"chat_template": [1]}))], None).unwrap_err();
    assert!(text.contains("its chat_template must be a string or a list of objects with name and template"), "{text}");
    let text = of_folder(&[("tokenizer_config.json", &json!("{"))], None).unwrap_err();
    assert!(text.starts_with("failed to load the tokenizer model/tokenizer_config.json"), "{text}");
}

#[test]
fn templates_that_take_all_time_or_memory_are_refused() {
    let long = "x".repeat(300_000);
    for source in [
        "{{ messages|tojson(indent=10**9) }}",
        "{{ 'x'|indent(10**10) }}",
        "{{ messages|batch(10**10, 'x')|list }}",
        "{{ messages|slice(10**9)|list }}",
        "{% set ns=namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}x",
        "{{ 'x' * 10**12 }}",
        "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}",
        &long,
    ] {
        let source = Source { label: "t".into(), text: source.to_owned(), tokens: Default::default() };
        let rendered = ChatTemplate::compile(source, None)
            .and_then(|template| template.prompt(&[Message { role: Role::User, content: "hello" }]));
        let error = rendered.expect_err("it is refused").to_string();
        assert!(error.len() < 1_000, "{error}");
    }
}

#[test]
fn a_deep_template_of_any_length_is_read_or_refused() {
    // The stack grows with the template, and one that overflows ends the process.
    for bytes in [100, 1_000, 10_000, 60_000] {
        for (before, operator, operand) in
            [("", "not ", "x"), ("1", "+1", ""), ("", "-", "1"), ("", "(", "1"), ("x", "[0]", ""), ("", "[", "")]
        {
            let text = format!("{{{{ {before}{}{operand} }}}}", operator.repeat(bytes / operator.len()));
            let source = Source { label: "t".into(), text, tokens: Default::default() };
            let _ = ChatTemplate::compile(source, None);
        }
    }
}
