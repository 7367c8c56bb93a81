//! Token ids against those of Transformers: in training and in evaluation, for tokenizers in the forms that folders have.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use fedreplay::data::ClientData;
use fedreplay::data::{
    BadRows, ChatTemplate, Content, Exchange, Federation, LongPrompts, Message, Prompts, Role, Row, Sample,
    SequenceRules, SpecialTokensInText, Template, Tokenizer, tokenize,
};
use fedreplay::generation::{Generator, PromptText, Prompting, end_tokens};
use fedreplay::model::{Config, Device, LoraSpec, Precision};
use fedreplay::training::{Numerics, Trainer};
use fedreplay_sim::Seed;
use serde::Deserialize;
use serde_json::{Value, json};

use super::support::project;

fn read<T: serde::de::DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&fs::read(project("fixtures/reference").join(name)).unwrap()).unwrap()
}

fn tokenizer(name: &str) -> Tokenizer {
    Tokenizer::load(&project("fixtures/tokenizers").join(name)).unwrap()
}

/// A folder with these files beside one another.
fn folder(files: &[(&str, &Value)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content.to_string()).unwrap();
    }
    folder
}

fn ids_of(text: &str) -> Vec<u32> {
    text.split(' ').map(|id| id.parse().unwrap()).collect()
}

/// What `make_chat_ids.py` wrote.
#[derive(Deserialize)]
struct ChatIds {
    dialogues: Vec<Vec<Spoken>>,
    ids_of_turns: BTreeMap<String, String>,
    /// By tokenizer, for one exchange whose texts spell special tokens.
    ids_of_spelled: BTreeMap<String, String>,
    /// By tokenizer and template; `None` where the template refuses the dialogue.
    tokenizers: BTreeMap<String, BTreeMap<String, Vec<Option<Expected>>>>,
}

#[derive(Deserialize)]
struct Spoken {
    role: String,
    content: String,
}

#[derive(Deserialize)]
struct Expected {
    ids: String,
    prompts: Vec<Prompt>,
    targets: Option<Vec<(u32, u32)>>,
}

/// A prompt that begins the whole dialogue, by its length, or another one, by its ids.
#[derive(Deserialize)]
#[serde(untagged)]
enum Prompt {
    Length(usize),
    Ids(String),
}

fn messages(spoken: &[Spoken]) -> Vec<Message<'_>> {
    let role = |name: &str| match name {
        "system" => Role::System,
        "user" => Role::User,
        _ => Role::Assistant,
    };
    spoken.iter().map(|message| Message { role: role(&message.role), content: &message.content }).collect()
}

/// A template of tests/reference under a fixture tokenizer.
fn chat_template(tokenizer: &str, template: &str) -> ChatTemplate {
    let place = tempfile::tempdir().unwrap();
    let configuration = project("fixtures/tokenizers").join(tokenizer).join("tokenizer_config.json");
    fs::copy(configuration, place.path().join("tokenizer_config.json")).unwrap();
    let source = project("tests/reference/chat_templates").join(format!("{template}.jinja"));
    fs::copy(source, place.path().join("chat_template.jinja")).unwrap();
    ChatTemplate::load_dated(place.path(), "2024-07-26".parse().ok()).unwrap()
}

/// Calls `check` on each dialogue that Transformers renders under each template and tokenizer.
fn each_dialogue(check: impl Fn(&str, &Tokenizer, &ChatTemplate, &[Message], &Expected)) {
    let ChatIds { dialogues, tokenizers, .. } = read("chat_ids.json");
    assert!(tokenizers.len() >= 7);
    for (name, templates) in &tokenizers {
        let tokenizer = tokenizer(name);
        for (template_name, cases) in templates {
            let template = chat_template(name, template_name);
            for (number, (dialogue, expected)) in dialogues.iter().zip(cases).enumerate() {
                if let Some(expected) = expected {
                    let place = format!("{name}, {template_name}, dialogue {number}");
                    check(&place, &tokenizer, &template, &messages(dialogue), expected);
                }
            }
        }
    }
}

/// The tiny base, whose vocabulary does not matter to the encoding of prompts.
fn trainer() -> Trainer {
    let folder = project("fixtures/tiny-base");
    let lora = LoraSpec::smallest(&Config::read(&folder).unwrap());
    Trainer::load(&folder, Precision::F32, Device::Cpu, &lora, &Numerics::default()).unwrap()
}

/// The prompt of an evaluation for the answer after these messages.
fn examined(template: &ChatTemplate, messages: &[Message]) -> PromptText {
    let said = |role: Role| -> Vec<&str> {
        messages.iter().filter(|message| message.role == role).map(|message| message.content).collect()
    };
    let prompting = Prompting::Chat { template, system: said(Role::System).first().copied() };
    prompting.prompt(&said(Role::User), &said(Role::Assistant)).unwrap()
}

#[test]
fn prompts_of_every_template_have_the_ids_of_transformers_under_every_tokenizer() {
    let trainer = trainer();
    each_dialogue(|place, tokenizer, template, messages, expected| {
        let generator = Generator::new(&trainer, tokenizer, BTreeSet::new(), &[], Seed(1), 1).unwrap();
        let whole = ids_of(&expected.ids);
        let answers = (0..messages.len()).filter(|&index| messages[index].role == Role::Assistant);
        for (index, prompt) in answers.zip(&expected.prompts) {
            let found = generator.encode(&examined(template, &messages[..index])).unwrap();
            match prompt {
                Prompt::Length(length) => assert_eq!(found, whole[..*length], "{place}, message {index}"),
                Prompt::Ids(ids) => assert_eq!(found, ids_of(ids), "{place}, message {index}"),
            }
        }
    });
}

#[test]
fn dialogues_of_every_template_have_the_ids_of_transformers_under_every_tokenizer() {
    each_dialogue(|place, tokenizer, template, messages, expected| {
        // Templates whose earlier text changes with later messages have no answers to train on.
        if let Ok(dialogue) = template.dialogue(messages) {
            assert_eq!(tokenizer.encode_chat(&dialogue.text).unwrap().ids, ids_of(&expected.ids), "{place}");
        }
    });
}

fn rules(prompts: Prompts, special_tokens: SpecialTokensInText) -> SequenceRules {
    let long_prompts = LongPrompts::Refuse;
    SequenceRules { prompts, max_tokens: 4_096, long_prompts, learns_last_question: false, special_tokens }
}

fn one_row(content: Content) -> ClientData {
    ClientData { id: "c".into(), rows: vec![Row::from(content)] }
}

/// The only row of a client as a sample.
fn sample(content: Content, tokenizer: &Tokenizer, rules: &SequenceRules) -> Sample {
    tokenize(&one_row(content), tokenizer, rules).unwrap().samples.remove(0)
}

fn exchange(user: &str, assistant: &str) -> Exchange {
    Exchange { user: user.into(), assistant: assistant.into() }
}

#[test]
fn rows_under_a_chat_template_are_trained_on_with_the_ids_and_the_mask_of_transformers() {
    each_dialogue(|place, tokenizer, template, messages, expected| {
        // Rows are questions and answers in turn, and not every template tells these apart.
        if messages[0].role != Role::User || template.dialogue(messages).is_err() {
            return;
        }
        let exchanges = messages.chunks(2).map(|pair| exchange(pair[0].content, pair[1].content)).collect();
        let content = Content::MultiTurn { exchanges, unanswered: None };
        let prompts = Prompts::Chat(std::sync::Arc::new(chat_template_again(place)));
        let sample = sample(content, tokenizer, &rules(prompts, SpecialTokensInText::Refuse));
        assert_eq!(sample.ids, ids_of(&expected.ids), "{place}");
        if let Some(targets) = &expected.targets {
            let found: Vec<(u32, u32)> = sample.targets.iter().map(|range| (range.start, range.end)).collect();
            assert_eq!(found, *targets, "{place}");
        }
    });
}

/// The template of a place that [`each_dialogue`] names.
fn chat_template_again(place: &str) -> ChatTemplate {
    let parts: Vec<&str> = place.split(", ").collect();
    chat_template(parts[0], parts[1])
}

/// The turns of `chat_ids.json` as exchanges in Vicuna's template.
const EXCHANGES: [(&str, &str); 3] = [("What is it?", "It is Riga."), ("Say it", "Riga"), (" return a", "\n\tb")];

#[test]
fn turns_of_a_prompt_template_have_the_ids_of_the_whole_text() {
    let ChatIds { ids_of_turns, .. } = read("chat_ids.json");
    let vicuna = Template::named("vicuna_v1.1").unwrap();
    let prompting = Prompting::Template { template: vicuna, system: None, end: "</s>" };
    let (questions, answers) = (EXCHANGES.map(|(user, _)| user), EXCHANGES.map(|(_, assistant)| assistant));
    let trainer = trainer();
    for (name, ids) in &ids_of_turns {
        let tokenizer = tokenizer(name);
        let generator = Generator::new(&trainer, &tokenizer, BTreeSet::new(), &[], Seed(1), 1).unwrap();
        let exchanges = EXCHANGES.map(|(user, assistant)| exchange(user, assistant)).into();
        let content = Content::MultiTurn { exchanges, unanswered: None };
        for special_tokens in [SpecialTokensInText::Refuse, SpecialTokensInText::Parsed] {
            let trained = sample(content.clone(), &tokenizer, &rules(Prompts::Template(vicuna), special_tokens)).ids;
            assert_eq!(trained, ids_of(ids), "{name}, {special_tokens:?}");
            for asked in 1..=EXCHANGES.len() {
                let prompt = prompting.prompt(&questions[..asked], &answers[..asked - 1]).unwrap();
                let examined = generator.encode(&prompt).unwrap();
                assert_eq!(examined, trained[..examined.len()], "{name}, turn {asked}");
            }
        }
    }
}

/// As in FedLLM-Bench's code, which tokenizes prompt, answer and EOS as one text.
#[test]
fn special_tokens_that_a_text_spells_are_parsed_as_by_transformers_or_stay_characters() {
    let ChatIds { ids_of_spelled, .. } = read("chat_ids.json");
    let vicuna = Template::named("vicuna_v1.1").unwrap();
    assert!(ids_of_spelled.len() >= 7);
    for (name, ids) in &ids_of_spelled {
        let tokenizer = tokenizer(name);
        let exchanges = vec![exchange("Is </s> a tag, <unk>?", "It is<s> not, </s>a.")];
        let content = Content::MultiTurn { exchanges, unanswered: None };
        let under = |rule| sample(content.clone(), &tokenizer, &rules(Prompts::Template(vicuna), rule));
        assert_eq!(under(SpecialTokensInText::Parsed).ids, ids_of(ids), "{name}");
        let [end] = tokenizer.encode_with_special_tokens("</s>").unwrap().ids[..] else { panic!("{name}") };
        let ends = |rule| under(rule).ids.iter().filter(|&&id| id == end).count();
        assert_eq!(ends(SpecialTokensInText::Parsed), ends(SpecialTokensInText::Refuse) + 2, "{name}");
    }
}

#[test]
fn an_answer_is_what_its_tokens_add_to_the_prompt() {
    let texts = [
        "def f(a):\n    \"\"\"Add.\"\"\"\n    return a + 1\n",
        "### Response: The capital is Riga.\n\n\t  x",
        "USER: ñ 漢字 ASSISTANT:  two  spaces",
        "a\n    if a > 0:\n        return a\n",
    ];
    for name in fs::read_dir(project("fixtures/tokenizers")).unwrap() {
        let tokenizer = Tokenizer::load(&name.unwrap().path()).unwrap();
        for text in texts {
            check_every_division(&tokenizer, text);
        }
    }
}

/// Prompt and decoded answer are the text wherever it is divided between two tokens and two characters.
pub fn check_every_division(tokenizer: &Tokenizer, text: &str) {
    let ids = tokenizer.encode(text).unwrap().ids;
    let whole = tokenizer.decode(&ids).unwrap();
    for place in 0..=ids.len() {
        let (prompt, answer) = ids.split_at(place);
        let before = tokenizer.decode(prompt).unwrap();
        if whole.starts_with(&before) {
            assert_eq!(before + &tokenizer.decode_after(prompt, answer).unwrap(), whole, "{text:?} at token {place}");
        }
    }
}

#[test]
fn the_special_token_that_closes_an_answer_ends_it() {
    for (name, template, expected) in [
        ("metaspace_first", "qwen2", vec!["</s>", "<|im_end|>"]),
        ("metaspace_first", "generation_tags", vec!["</s>", "<|im_end|>"]),
        ("metaspace_first", "zephyr", vec!["</s>"]),
        ("byte_level_bos", "llama3", vec!["<|eot_id|>"]),
        ("prepend", "llama2", vec!["</s>"]),
        ("llama_2", "llama3", vec!["</s>", "<|eot_id|>"]),
    ] {
        let tokenizer = tokenizer(name);
        let prompts = Prompts::Chat(std::sync::Arc::new(chat_template(name, template)));
        // The folder has neither config.json nor generation_config.json.
        let ends = end_tokens(&project("fixtures/tokenizers"), &tokenizer, &prompts).unwrap();
        let ends: Vec<String> = ends.into_iter().map(|id| tokenizer.token(id).unwrap()).collect();
        assert_eq!(ends, expected, "{name}, {template}");
    }
}

/// A row of `tokenizer_tables.json` on how a sequence begins.
#[derive(Deserialize)]
struct Beginning {
    post_processor: String,
    configuration: Value,
    bos: bool,
    ids: Vec<u32>,
}

/// A row of `tokenizer_tables.json` on a token that stands in one of the files.
#[derive(Deserialize)]
struct AddedToken {
    in_vocabulary: bool,
    configuration: Value,
    files: BTreeMap<String, Value>,
    ids: Vec<u32>,
    text: String,
    eos: u32,
}

#[derive(Deserialize)]
struct Table {
    beginnings: Vec<Beginning>,
    added: Vec<AddedToken>,
}

fn tables() -> (Table, Table) {
    let mut tables: BTreeMap<String, Table> = read("tokenizer_tables.json");
    (tables.remove("transformers_5").unwrap(), tables.remove("transformers_4").unwrap())
}

fn file_of(tokenizer: &str) -> Value {
    let path = project("fixtures/tokenizers").join(tokenizer).join("tokenizer.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn with_names(configuration: &Value) -> Value {
    let mut all = json!({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"});
    for (key, value) in configuration.as_object().unwrap() {
        all[key] = value.clone();
    }
    all
}

#[test]
fn a_sequence_begins_as_in_transformers_5_and_says_where_transformers_4_differs() {
    let (table, older) = tables();
    for (expected, older) in table.beginnings.iter().zip(&older.beginnings) {
        let mut file = file_of("prepend");
        match expected.post_processor.as_str() {
            "none" => file["post_processor"] = Value::Null,
            "byte_level" => {
                file["post_processor"] =
                    json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
            }
            _ => {}
        }
        let configuration = with_names(&expected.configuration);
        let model = json!({"model_type": "llama"});
        let files = [("tokenizer.json", &file), ("tokenizer_config.json", &configuration), ("config.json", &model)];
        let tokenizer = Tokenizer::load(folder(&files).path()).unwrap();
        let place = format!("{} {}", expected.post_processor, expected.configuration);
        assert_eq!(tokenizer.bos().is_some(), expected.bos, "{place}");
        // The class of GPT-2 does not fit this vocabulary.
        if expected.configuration["tokenizer_class"] == "GPT2Tokenizer" {
            continue;
        }
        assert_eq!(tokenizer.encode_with_special_tokens("a</s>user").unwrap().ids, expected.ids, "{place}");
        let differs = older.bos != expected.bos || older.ids != expected.ids;
        assert_eq!(!tokenizer.differences().is_empty(), differs, "{place}: {:?}", tokenizer.differences());
    }
}

#[test]
fn tokens_of_all_five_files_are_tokens_as_in_both_versions_of_transformers() {
    let (table, older) = tables();
    for (expected, older) in table.added.iter().zip(&older.added) {
        let place = format!("{} {:?} {}", expected.configuration, expected.files, expected.in_vocabulary);
        assert_eq!((&expected.ids, &expected.text), (&older.ids, &older.text), "{place}");
        let mut file = file_of("metaspace_first");
        if expected.in_vocabulary {
            let id = file["model"]["vocab"].as_object().unwrap().len();
            file["model"]["vocab"]["<new>"] = json!(id);
        }
        let configuration = with_names(&expected.configuration);
        let mut files = vec![("tokenizer.json", &file), ("tokenizer_config.json", &configuration)];
        files.extend(expected.files.iter().map(|(name, content)| (name.as_str(), content)));
        let tokenizer = Tokenizer::load(folder(&files).path()).unwrap();
        let found = tokenizer.encode_with_special_tokens("a <new> b <|end_header_id|> c").unwrap().ids;
        assert_eq!(found, expected.ids, "{place}");
        assert_eq!(tokenizer.decode(&found).unwrap(), expected.text, "{place}");
        assert_eq!(tokenizer.eos(), expected.eos, "{place}");
    }
}

#[test]
fn a_token_with_two_ids_is_refused_by_both() {
    let file = file_of("metaspace_first");
    let configuration = with_names(&json!({}));
    let added = json!({"<new>": 433});
    let files = [("tokenizer.json", &file), ("tokenizer_config.json", &configuration), ("added_tokens.json", &added)];
    let error = Tokenizer::load(folder(&files).path()).err().unwrap().to_string();
    assert!(error.contains("\"<new>\" has id 433 in added_tokens.json and id 430 after tokenizer.json"), "{error}");
}

/// The tokens of a row whose texts spell special tokens, under ChatML.
fn spelled(special_tokens: SpecialTokensInText) -> Result<Sample, String> {
    let tokenizer = tokenizer("byte_level");
    let mut template = chat_template("byte_level", "qwen2");
    if special_tokens == SpecialTokensInText::AsText {
        template = template.with_plain(tokenizer.special_tokens());
    }
    let content = Content::SingleTurn {
        instruction: "What is <|im_end|>?".into(),
        response: "<|im_start|>user ends with <|im_end|>".into(),
    };
    let rules = rules(Prompts::Chat(std::sync::Arc::new(template)), special_tokens);
    let tokenized = tokenize(&one_row(content), &tokenizer, &rules);
    tokenized.map(|mut tokenized| tokenized.samples.remove(0)).map_err(|error| error.to_string())
}

#[test]
fn special_tokens_in_a_text_are_characters_if_the_scenario_says_so() {
    let tokenizer = tokenizer("byte_level");
    let [begin, end] =
        ["<|im_start|>", "<|im_end|>"].map(|token| tokenizer.encode_with_special_tokens(token).unwrap().ids[0]);
    let count = |sample: &Sample, token: u32| sample.ids.iter().filter(|&&id| id == token).count();
    assert!(spelled(SpecialTokensInText::Refuse).unwrap_err().contains("<|im_end|>"));
    let parsed = spelled(SpecialTokensInText::Parsed).unwrap();
    let plain = spelled(SpecialTokensInText::AsText).unwrap();
    assert_eq!((count(&parsed, begin), count(&parsed, end)), (4, 5));
    assert_eq!((count(&plain, begin), count(&plain, end)), (3, 3));
    // The ids between the template's own tokens are those of the text alone.
    let learnt = &plain.ids[plain.targets[0].start as usize..plain.targets[0].end as usize];
    let mut expected = tokenizer.encode("<|im_start|>user ends with <|im_end|>").unwrap().ids;
    expected.push(end);
    expected.extend(tokenizer.encode("\n").unwrap().ids);
    assert_eq!(learnt, expected);
}

#[test]
fn rows_read_from_a_file_keep_their_line_ends() {
    let row = json!([{"instruction": "a\r\nb", "response": "c\r"}]).to_string();
    let federation = Federation::read_from(row.as_bytes(), Path::new("row.json"), BadRows::Refuse).unwrap();
    let expected = Content::SingleTurn { instruction: "a\r\nb".into(), response: "c\r".into() };
    assert_eq!(federation.clients[0].rows[0].content, expected);
}
