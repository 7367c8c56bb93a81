//! Readers and tokenisation on real files: the Llama-2 tokenizer and Aya's human prompts in eight languages.
//!
//! The files are not part of this repository. The tests read the folder named by `FEDREPLAY_REAL_DATA`, which holds
//! `tokenizer-llama2/` and `fed/`, and say that they did not run where the variable is absent.

use std::path::PathBuf;

use fedreplay::benchmarks::human_eval::Problems;
use fedreplay::benchmarks::mmlu;
use fedreplay::data::{
    BadRows, Content, Federation, FileForm, LongPrompts, Prompts, RowKind, Sample, SequenceRules, SpecialTokensInText,
    Statistics, Template, Tokenizer, after_last_key, key_ids, tokenize,
};
use fedreplay::model::{Config, random};

use super::support::{World, project};

/// The folder of real files, or `None` after saying so.
fn real_data() -> Option<PathBuf> {
    let folder = std::env::var_os("FEDREPLAY_REAL_DATA").map(PathBuf::from);
    if folder.is_none() {
        super::support::not_run("a test of real files", "FEDREPLAY_REAL_DATA is not set");
    }
    folder
}

fn llama2(folder: &std::path::Path) -> Tokenizer {
    Tokenizer::load(&folder.join("tokenizer-llama2")).unwrap()
}

fn rules(template: &str, max_tokens: usize) -> SequenceRules {
    SequenceRules {
        prompts: Prompts::Template(Template::named(template).unwrap()),
        max_tokens,
        long_prompts: LongPrompts::Refuse,
        learns_last_question: false,
        special_tokens: SpecialTokensInText::Refuse,
    }
}

/// A federation of one client with one row.
fn one_row(row: &str) -> Federation {
    Federation::read_from(format!("[{row}]").as_bytes(), "row.json".as_ref(), BadRows::Refuse).unwrap()
}

fn learnt_tokens(sample: &Sample, tokenizer: &Tokenizer) -> Vec<String> {
    let ids = sample.targets.iter().flat_map(|range| &sample.ids[range.start as usize..range.end as usize]);
    ids.map(|&id| tokenizer.token(id).unwrap()).collect()
}

#[test]
fn the_llama_2_mask_is_that_of_the_published_collator() {
    let Some(folder) = real_data() else { return };
    let tokenizer = llama2(&folder);
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.largest_id()), (Some(1), 2, 31_999));
    let federation = one_row(r#"{"instruction": "Greet me.", "response": "Hello there."}"#);
    let sample = &tokenize(&federation.clients[0], &tokenizer, &rules("alpaca", 1024)).unwrap().samples[0];
    assert_eq!(learnt_tokens(sample, &tokenizer), ["▁Hello", "▁there", ".", "</s>"]);
    let start = sample.targets[0].start as usize;
    assert_eq!(sample.ids[start - 4..start], [2277, 29937, 13291, 29901]);
    assert_eq!(sample.ids[..2], [1, 13866]);
}

/// The published collator's keys, with its two defects, and what of a row it learns.
#[test]
fn keys_find_what_the_published_collator_finds() {
    let Some(folder) = real_data() else { return };
    let tokenizer = llama2(&folder);
    let key = |name: &str| key_ids(Template::named(name).unwrap(), &tokenizer).unwrap();
    assert_eq!(key("alpaca"), [2277, 29937, 13291, 29901]);
    assert_eq!(key("vicuna_v1.1"), [1799, 9047, 13566, 29901]);
    let learnt = |template: &str, response: &str| {
        let row = serde_json::json!({ "instruction": "Greet me.", "response": response }).to_string();
        let federation = one_row(&row);
        let sample = tokenize(&federation.clients[0], &tokenizer, &rules(template, 1024)).unwrap().samples.remove(0);
        (learnt_tokens(&sample, &tokenizer), after_last_key(&sample, &key(template), 0))
    };
    for template in
        ["alpaca", "portuguese_alpaca", "telugu_alpaca", "russian_alpaca", "french_alpaca", "spanish_alpaca"]
    {
        let (built, found) = learnt(template, "Hello there.");
        assert_eq!(learnt_tokens(&found.unwrap(), &tokenizer), built, "{template}");
    }
    // A response that quotes the key loses its head.
    let (built, found) = learnt("alpaca", "One\n### Response: two");
    let found = learnt_tokens(&found.unwrap(), &tokenizer);
    assert!(found.len() < built.len() && built.ends_with(&found), "{found:?} of {built:?}");
    // Arabic's key is the header of the instruction, which is then learnt; Chinese's is never found.
    let (built, found) = learnt("arabic_alpaca", "Hello there.");
    assert!(learnt_tokens(&found.unwrap(), &tokenizer).len() > built.len());
    assert_eq!(learnt("chinese_alpaca", "Hello there.").1, None);
}

#[test]
fn a_dialogue_keeps_exactly_both_answers() {
    let Some(folder) = real_data() else { return };
    let tokenizer = llama2(&folder);
    let federation = one_row(
        r#"{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello there."},
            {"from": "human", "value": "Bye"}, {"from": "gpt", "value": "See you."}]}"#,
    );
    let sample = &tokenize(&federation.clients[0], &tokenizer, &rules("vicuna_v1.1", 2048)).unwrap().samples[0];
    let expected = ["▁Hello", "▁there", ".", "</s>", "▁See", "▁you", ".", "</s>"];
    assert_eq!(learnt_tokens(sample, &tokenizer), expected);
}

/// Ids of Transformers 4.57.6 with `use_fast=False`, and of 5.23.0: no dummy space after `</s>`.
#[test]
fn later_turns_have_the_ids_of_the_slow_tokenizer() {
    let Some(folder) = real_data() else { return };
    let tokenizer = llama2(&folder);
    assert_eq!(tokenizer.differences(), [""; 0]);
    assert_eq!(tokenizer.encode_turns(&["Hi", "USER: x"]).unwrap(), [1, 6324, 2, 11889, 29901, 921]);
    assert_eq!(tokenizer.encode_turns(&["Hi", " USER"]).unwrap(), [1, 6324, 2, 3148, 1001]);
    let parsed = |text: &str| tokenizer.encode_with_special_tokens(text).unwrap().ids;
    assert_eq!(parsed("a <s> b"), [263, 29871, 1, 289]);
    assert_eq!(parsed("x<unk>y"), [921, 0, 29891]);
    assert_eq!(parsed("[INST] a [/INST]"), [518, 25580, 29962, 263, 518, 29914, 25580, 29962]);
}

#[test]
fn every_canonical_solution_of_human_eval_is_decoded_as_it_is_written() {
    let Some(folder) = real_data() else { return };
    let problems = Problems::read(&Problems::file_in(&folder.join("eval"))).unwrap();
    let mut tokenizers = vec![llama2(&folder)];
    for entry in std::fs::read_dir(project("fixtures/tokenizers")).unwrap() {
        tokenizers.push(Tokenizer::load(&entry.unwrap().path()).unwrap());
    }
    for problem in problems.0 {
        let text = [problem.prompt.as_str(), &problem.canonical_solution].concat();
        for tokenizer in &tokenizers {
            let encoded = tokenizer.encode(&text).unwrap();
            let place = encoded.ends.partition_point(|&end| end <= problem.prompt.len());
            let (prompt, answer) = encoded.ids.split_at(place);
            let decoded = tokenizer.decode(prompt).unwrap() + &tokenizer.decode_after(prompt, answer).unwrap();
            assert_eq!(decoded, text, "{}", problem.task_id);
        }
    }
}

#[test]
fn every_aya_answer_is_what_is_learnt() {
    let Some(folder) = real_data() else { return };
    let tokenizer = llama2(&folder);
    let federation = Federation::read(&folder.join("fed/aya_8c_160.json"), BadRows::Refuse).unwrap();
    assert_eq!((federation.form, federation.kind), (FileForm::Federated, RowKind::SingleTurn));
    assert_eq!((federation.clients.len(), federation.rows()), (8, 160));
    let mut tokenized = Vec::new();
    for client in &federation.clients {
        let samples = tokenize(client, &tokenizer, &rules("alpaca", 4096)).unwrap().samples;
        for (row, sample) in client.rows.iter().zip(&samples) {
            assert_eq!(row.attributes["language"], client.id.as_str());
            let Content::SingleTurn { response, .. } = &row.content else { panic!("a single-turn row") };
            let range = &sample.targets[0];
            let learnt = tokenizer.decode(&sample.ids[range.start as usize..range.end as usize]).unwrap();
            assert_eq!(&learnt, response);
            assert_eq!(range.end as usize, sample.ids.len());
        }
        tokenized.push((client.id.as_str(), samples));
    }
    let statistics = Statistics::of(tokenized.iter().map(|(id, samples)| (*id, &samples[..])));
    assert_eq!((statistics.samples, statistics.samples_per_client.deviation), (160, 0.0));
    assert!(statistics.clients.iter().all(|client| client.response_tokens > 0));
}

#[test]
fn a_local_file_is_one_client() {
    let Some(folder) = real_data() else { return };
    let federation = Federation::read(&folder.join("fed/local_fr_20.json"), BadRows::Refuse).unwrap();
    assert_eq!((federation.form, federation.clients.len(), federation.rows()), (FileForm::Array, 1, 20));
}

/// A smoke test of the whole run on real text in eight scripts; the losses mean nothing.
#[test]
fn a_random_llama_trains_on_real_prompts_with_the_real_tokenizer() {
    let Some(folder) = real_data() else { return };
    let world = World::new();
    let mut config = Config::llama(32_000, 64, 128, 2, 4);
    config.kv_heads = 2;
    random::write_folder(&world.path("llama"), &config, fedreplay_sim::Seed(5)).unwrap();
    let text = |path: &str| folder.join(path).to_str().unwrap().to_owned();
    world.edit("scenario.ron", "\"base\"", &format!("\"llama\", tokenizer: \"{}\"", text("tokenizer-llama2")));
    world.edit("scenario.ron", "\"data.json\"", &format!("\"{}\"", text("fed/aya_8c_160.json")));
    world.edit("scenario.ron", "\"test.json\"", &format!("\"{}\"", text("fed/local_fr_20.json")));
    world.edit("scenario.ron", "max_seq_length: 160", "max_seq_length: 384, long_prompts: Skip");
    let said = world.run("run", &["--set", "rounds=2", "--set", "evaluation.local_baseline=false"]).succeeded();
    world.fedreplay(&["verify", "run"]).succeeded();
    let population = fedreplay::ledger::read_table(&world.path("run"), "population").unwrap();
    assert_eq!(population.num_rows(), 8, "one client a language");
    let before: f64 = said.summary("loss before").split(' ').next().unwrap().parse().unwrap();
    assert!((before - 32_000f64.ln()).abs() < 0.5, "an untrained model knows nothing: {before}");
}

#[test]
fn the_files_of_mmlu_are_read_whole() {
    let Some(folder) = real_data() else { return };
    let subjects = mmlu::read(&folder.join("eval/mmlu"), 5).unwrap();
    assert!(subjects.len() >= 14, "{} subjects", subjects.len());
    assert!(subjects.iter().all(|subject| subject.examples.len() == 5 && subject.questions.len() >= 100));
    let mut answers = [0; 4];
    subjects.iter().flat_map(|subject| &subject.questions).for_each(|(_, question)| answers[question.answer] += 1);
    let asked: u32 = answers.iter().sum();
    assert!(answers.iter().all(|&count| count * 6 > asked), "answers are spread over the letters: {answers:?}");
}
