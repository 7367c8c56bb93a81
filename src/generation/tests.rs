//! Tests of generated answers: equal to those of Transformers, independent of the batch, ended for the right reason.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use fedreplay_sim::Seed;
use serde::Deserialize;

use super::request::{Answer, Ended, LanguageModel, PromptText, Request, Sampling};
use super::sampler::likeliest;
use super::{GenerationError, Generator, end_tokens};
use crate::adapter::Adapter;
use crate::data::{Prompts, Template, Tokenizer};
use crate::model::{Config, Device, LoraSpec, Precision, random, tensor_specs};
use crate::training::{Decoder, Numerics, Piece, Trainer};

#[derive(Deserialize)]
struct Reference {
    new_tokens: u32,
    answers: Vec<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    prompt: String,
    ids: Vec<u32>,
    text: String,
    ends: bool,
}

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn reference() -> Reference {
    serde_json::from_slice(&std::fs::read(fixtures().join("reference/generation.json")).unwrap()).unwrap()
}

struct Bench {
    tokenizer: Tokenizer,
    trainer: Trainer,
}

impl Bench {
    fn new() -> Self {
        let folder = fixtures().join("tiny-base");
        let lora = LoraSpec {
            rank: 4,
            alpha: 8.0,
            dropout: 0.0,
            target_modules: vec!["all-linear".into()],
            rank_stabilized: false,
            has_core: false,
        };
        let numerics = Numerics::default();
        let trainer = Trainer::load(&folder, Precision::F32, Device::Cpu, &lora, &numerics).unwrap();
        Self { tokenizer: Tokenizer::load(&folder).unwrap(), trainer }
    }

    /// Returns an adapter without zero matrices.
    fn adapter(&self, seed: u64) -> Arc<Adapter> {
        let mut adapter = Adapter::initial(self.trainer.layout(), Seed(seed));
        let spread = Adapter::initial(self.trainer.layout(), Seed(seed + 100)).values;
        let filled = adapter.values.iter().zip(spread.iter().rev()).map(|(a, b)| a + 0.3 * b).collect();
        adapter.values = filled;
        Arc::new(adapter)
    }

    fn generator(&self, adapters: &[Arc<Adapter>], seed: u64, slots: usize) -> Generator<'_> {
        let ends = end_tokens(&fixtures().join("tiny-base"), &self.tokenizer, &alpaca()).unwrap();
        Generator::new(&self.trainer, &self.tokenizer, ends, adapters, Seed(seed), slots).unwrap()
    }
}

fn alpaca() -> Prompts {
    Prompts::Template(Template::named("alpaca").unwrap())
}

fn greedy(max_tokens: u32) -> Sampling {
    Sampling { temperature: 0.0, top_p: 1.0, top_k: None, max_tokens, stop: vec![], spares_code_blocks: false }
}

fn sampled(max_tokens: u32) -> Sampling {
    Sampling { temperature: 0.9, top_p: 0.95, top_k: Some(50), ..greedy(max_tokens) }
}

fn request(prompt: &str, sampling: Sampling, stream: u64) -> Request {
    Request { prompt: PromptText::Raw(prompt.into()), sampling, stream }
}

#[test]
fn greedy_answers_are_those_of_transformers() {
    let (bench, reference) = (Bench::new(), reference());
    let generator = bench.generator(&[], 1, 5);
    let requests: Vec<_> =
        reference.answers.iter().map(|one| request(&one.prompt, greedy(reference.new_tokens), 0)).collect();
    let answers = generator.under(None).generate(&requests).unwrap();
    for (answer, expected) in answers.iter().zip(&reference.answers) {
        assert_eq!(answer.text, expected.text);
        assert_eq!(answer.tokens as usize, expected.ids.len());
        let ended = if expected.ends { Ended::EndOfSequence } else { Ended::MaxTokens };
        assert_eq!(answer.ended, ended, "{:?}", expected.text);
    }
    let ends = reference.answers.iter().filter(|one| one.ends).count();
    assert!(ends > 0 && ends < reference.answers.len(), "both ways of ending are there");
}

/// Compares each request alone, all at once in few slots and in many, in another order, and with other adapters.
#[test]
fn an_answer_does_not_depend_on_its_company() {
    let (bench, reference) = (Bench::new(), reference());
    let adapters = [bench.adapter(1), bench.adapter(2)];
    let of = |n: usize| [None, Some(0), Some(1)][n % 3];
    let requests: Vec<Request> = reference
        .answers
        .iter()
        .enumerate()
        .map(|(n, one)| request(&one.prompt, if n % 4 == 0 { greedy(24) } else { sampled(24) }, n as u64))
        .collect();
    let asked: Vec<_> = requests.iter().enumerate().map(|(n, request)| (of(n), request)).collect();
    let go_on = &mut |_: usize, _: &Answer| ControlFlow::Continue(());
    let alone: Vec<Answer> =
        asked.iter().map(|one| bench.generator(&adapters, 7, 1).answer(&[*one], go_on).unwrap().remove(0)).collect();
    for slots in [1, 3, 16] {
        assert_eq!(bench.generator(&adapters, 7, slots).answer(&asked, go_on).unwrap(), alone, "{slots} slots");
    }
    let backwards: Vec<_> = asked.iter().rev().copied().collect();
    let mut answers = bench.generator(&adapters, 7, 4).answer(&backwards, go_on).unwrap();
    answers.reverse();
    assert_eq!(answers, alone);
    let other_seed = bench.generator(&adapters, 8, 4).answer(&asked, go_on).unwrap();
    assert_ne!(other_seed, alone, "sampled tokens follow the seed");
    let base = bench.generator(&adapters, 7, 4).answer(&requests.iter().map(|r| (None, r)).collect::<Vec<_>>(), go_on);
    assert_ne!(base.unwrap(), alone, "an adapter changes answers");
}

#[test]
fn an_answer_ends_where_it_should() {
    let bench = Bench::new();
    let generator = bench.generator(&[], 1, 2);
    let one = |request: Request| generator.under(None).generate(&[request]).unwrap().remove(0);
    let reference = reference();
    let long = reference.answers.iter().find(|one| !one.ends).expect("one answer goes on");
    let full = one(request(&long.prompt, greedy(30), 0));
    let stop = full.text.trim().split(' ').nth(2).expect("it has words").to_owned();
    let stopped = one(request(&long.prompt, Sampling { stop: vec![stop.clone()], ..greedy(30) }, 0));
    assert_eq!(stopped.ended, Ended::Stop);
    assert_eq!(stopped.text, full.text[..full.text.find(&stop).unwrap()]);
    assert!(stopped.tokens < full.tokens);
    assert_eq!(
        one(request(&long.prompt, greedy(0), 0)),
        Answer { text: String::new(), tokens: 0, ended: Ended::MaxTokens }
    );
    let too_long = "word ".repeat(600);
    assert_eq!(
        one(request(&too_long, greedy(5), 0)),
        Answer { text: String::new(), tokens: 0, ended: Ended::ContextFull }
    );
    let nearly = generator.encode_raw(&too_long).unwrap().len();
    assert!(nearly > 512);
    let fitting = "word ".repeat(500 * 600 / nearly);
    let room = 512 - generator.encode_raw(&fitting).unwrap().len();
    let filled = one(request(&fitting, Sampling { temperature: 5.0, ..greedy(1000) }, 3));
    assert!(filled.ended == Ended::EndOfSequence || filled.tokens as usize == room + 1, "{filled:?}");
}

/// Ids that the model writes greedily after a prompt.
fn greedy_ids(bench: &Bench, prompt: &[u32], count: usize) -> Vec<u32> {
    let mut decoder = Decoder::new(&bench.trainer, &[], 1).unwrap();
    let mut next = prompt.to_vec();
    let mut ids = Vec::with_capacity(count);
    while ids.len() < count {
        let logits = decoder.read(&[Piece { slot: 0, adapter: None, ids: &next }]).unwrap();
        let id = likeliest(logits.of(0).iter().copied());
        ids.push(id);
        next = vec![id];
    }
    ids
}

/// A model under Llama-2's kind of tokenizer each of whose tokens begins with a space: only the logits of two such tokens are
/// not zero, and one of them is positive.
fn of_spaced_words() -> (tempfile::TempDir, Bench) {
    let tokenizer = Tokenizer::load(&fixtures().join("tokenizers/llama_2")).unwrap();
    let is_word = |id: &u32| tokenizer.token(*id).is_some_and(|token| token.starts_with('▁') && token.len() > 5);
    let words: Vec<u32> = (0..=tokenizer.largest_id()).filter(is_word).take(2).collect();
    let config = Config::llama(tokenizer.largest_id() as usize + 1, 32, 48, 1, 2);
    let mut tensors = Vec::new();
    for (index, spec) in tensor_specs(&config).into_iter().enumerate() {
        let mut values = random::initial_values(&spec, Seed(3), index as u64);
        if spec.name == "lm_head.weight" {
            let row = values[..32].to_vec();
            values.fill(0.0);
            for (word, sign) in words.iter().zip([1.0, -1.0]) {
                let start = 32 * *word as usize;
                values[start..start + 32].iter_mut().zip(&row).for_each(|(value, of_row)| *value = sign * of_row);
            }
        }
        tensors.push((spec.name, spec.shape, values));
    }
    let folder = tempfile::tempdir().unwrap();
    random::write_values(folder.path(), &config, &tensors).unwrap();
    let lora = LoraSpec::smallest(&config);
    let trainer = Trainer::load(folder.path(), Precision::F32, Device::Cpu, &lora, &Numerics::default()).unwrap();
    (folder, Bench { tokenizer, trainer })
}

/// The text of an answer is what the decoder makes of prompt and answer together. Llama-2's tokenizer drops the space that
/// begins a text, so that an answer decoded alone would lose it.
#[test]
fn an_answer_keeps_the_space_that_it_begins_with_and_a_stop_text_may_begin_with_it() {
    let (_folder, bench) = of_spaced_words();
    let tokenizer = &bench.tokenizer;
    let generator = Generator::new(&bench.trainer, tokenizer, BTreeSet::new(), &[], Seed(1), 1).unwrap();
    for word in ["a", "def f(a):", "USER: a ASSISTANT:", "return"] {
        let prompt = generator.encode_raw(word).unwrap();
        let ids = greedy_ids(&bench, &prompt, 6);
        let whole = tokenizer.decode(&[&prompt[..], &ids].concat()).unwrap();
        let expected = whole.strip_prefix(&tokenizer.decode(&prompt).unwrap()).unwrap();
        assert!(expected.starts_with(' ') && expected.len() > 12, "{expected:?}");
        let answer = |sampling| generator.under(None).generate(&[request(word, sampling, 0)]).unwrap().remove(0);
        assert_eq!(answer(greedy(6)).text, expected, "{word}");
        // The whole first word and the space before the second lie over two tokens.
        let second = 1 + expected[1..].find(' ').unwrap();
        let stopped = answer(Sampling { stop: vec![expected[..=second].to_owned()], ..greedy(6) });
        assert_eq!((stopped.text.as_str(), stopped.ended, stopped.tokens), ("", Ended::Stop, 2), "{word}");
    }
}

#[test]
fn who_breaks_off_keeps_what_was_finished() {
    let (bench, reference) = (Bench::new(), reference());
    let requests: Vec<_> = reference.answers.iter().map(|one| request(&one.prompt, greedy(8), 0)).collect();
    let asked: Vec<_> = requests.iter().map(|request| (None, request)).collect();
    let mut heard = BTreeSet::new();
    let broken = bench.generator(&[], 1, 2).answer(&asked, &mut |index, _| {
        heard.insert(index);
        if heard.len() == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(broken, Err(GenerationError::Interrupted)));
    assert_eq!(heard.len(), 3);
}

#[test]
fn a_shared_beginning_changes_no_bit_of_the_next_logits() {
    let bench = Bench::new();
    let adapters = [bench.adapter(3)];
    let generator = bench.generator(&adapters, 1, 3);
    let text =
        |n: usize| format!("The sorted list of words is {}", ["net, shell", "ship", "zebra and fox", "a", "tin"][n]);
    let mut prompts: Vec<Vec<u32>> = (0..5).map(|n| generator.encode_raw(&text(n)).unwrap()).collect();
    prompts.insert(2, vec![1; 513]);
    let bits = |logits: &[f32]| logits.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let mut shared = Vec::new();
    let mut note = |place: usize, logits: Option<&[f32]>| {
        shared.push((place, logits.map(bits)));
        ControlFlow::Continue(())
    };
    generator.next_logits(Some(0), &prompts, &mut note).unwrap();
    assert_eq!(shared.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [2, 0, 1, 3, 4, 5]);
    for (place, logits) in shared {
        let mut alone = None;
        let mut note = |_: usize, logits: Option<&[f32]>| {
            alone = logits.map(bits);
            ControlFlow::Continue(())
        };
        generator.next_logits(Some(0), &prompts[place..=place], &mut note).unwrap();
        assert_eq!(logits, alone, "prompt {place}");
        assert_eq!(logits.is_none(), place == 2, "what does not fit has no logits");
    }
}

/// Writes the tokenizer of the tiny base without the merges of a space with A, B, C or D.
fn without_merged_letters() -> (tempfile::TempDir, Tokenizer) {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixtures().join("tiny-base")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    let path = folder.path().join("tokenizer.json");
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let is_merged_letter = |text: &str| ["ĠA", "ĠB", "ĠC", "ĠD"].contains(&text);
    json["model"]["merges"].as_array_mut().unwrap().retain(|merge| {
        let [left, right] = [0, 1].map(|side| merge[side].as_str().unwrap());
        !is_merged_letter(&format!("{left}{right}")) && !is_merged_letter(left)
    });
    std::fs::write(&path, serde_json::to_vec(&json).unwrap()).unwrap();
    let tokenizer = Tokenizer::load(folder.path()).unwrap();
    (folder, tokenizer)
}

/// The letters are those of Transformers 5.23 in f32 by the summed log-probabilities of all tokens of ` A` to ` D`. With the
/// space as a token of its own, the letter's token directly after `Answer:` would be D, D, D, B, B, B, B, B.
#[test]
fn the_likeliest_letter_is_that_of_its_whole_continuation() {
    let bench = Bench::new();
    let (_folder, split) = without_merged_letters();
    let words = ["net", "shell", "ship", "zebra", "fox", "a", "tin"];
    for (tokenizer, lead, expected) in [(&split, 1, "CCCCCCCC"), (&bench.tokenizer, 0, "BBBBBBBB")] {
        let generator = Generator::new(&bench.trainer, tokenizer, BTreeSet::new(), &[], Seed(1), 3).unwrap();
        let letters = generator.letters(&["A", "B", "C", "D"]).unwrap();
        assert_eq!(letters.lead.len(), lead);
        let mut prompts = Vec::new();
        for n in 0..8 {
            let [word, a, b, c] = [n, n + 1, n + 2, 3 * n + 4].map(|place| words[place % 7]);
            let text = format!("Which word follows {word} and {n}?\nA. {a}\nB. {b}\nC. {c}\nD. {n}\nAnswer:");
            let ids = generator.encode_for_letters(&text, &letters).unwrap();
            assert_eq!(ids, [&generator.encode_raw(&text).unwrap()[..], &letters.lead].concat());
            prompts.push(ids);
        }
        let mut chosen = String::new();
        generator
            .next_logits(None, &prompts, &mut |_, logits| {
                let scores = letters.ids.iter().map(|&id| logits.unwrap()[id as usize]);
                chosen.push(['A', 'B', 'C', 'D'][likeliest(scores) as usize]);
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(chosen, expected);
    }
    let generator = bench.generator(&[], 1, 1);
    assert!(matches!(generator.letters(&["A", "zebras"]), Err(GenerationError::Letter { .. })));
}
