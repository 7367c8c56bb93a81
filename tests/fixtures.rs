//! The committed fixtures are those that their generator makes, and they suit each other.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use fedreplay::data::{
    BadRows, Content, Federation, LongPrompts, Prompts, Row, SequenceRules, SpecialTokensInText, Template, Tokenizer,
    tokenize,
};
use fedreplay_sim::random::Seed;

// The generator's modules, without its command line and pretraining.
#[path = "../fixtures/make/chatter.rs"]
mod chatter;
#[path = "../fixtures/make/draw.rs"]
mod draw;
#[path = "../fixtures/make/everyday.rs"]
mod everyday;
#[path = "../fixtures/make/federation.rs"]
mod federation;
#[allow(dead_code, reason = "the corpus is written by the command line only")]
#[path = "../fixtures/make/json.rs"]
mod json;
#[path = "../fixtures/make/prose.rs"]
mod prose;
#[path = "../fixtures/make/skills.rs"]
mod skills;
#[path = "../fixtures/make/styles.rs"]
mod styles;
#[path = "../fixtures/make/tokenizer.rs"]
mod tokenizer;
#[path = "../fixtures/make/words.rs"]
mod words;

fn committed(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(path)
}

fn instruction(row: &Row) -> &str {
    let Content::SingleTurn { instruction, .. } = &row.content else { panic!("the skills are single-turn rows") };
    instruction
}

#[test]
fn data_and_tokenizer_are_made_again_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    federation::write(&folder.path().join("skills"), Seed(20_260_101)).unwrap();
    tokenizer::write(&folder.path().join("tiny-base"), Seed(20_260_101)).unwrap();
    for path in [
        "skills/train.json",
        "skills/test.json",
        "tiny-base/tokenizer.json",
        "tiny-base/tokenizer_config.json",
        "tiny-base/special_tokens_map.json",
    ] {
        let (made, kept) = (fs::read(folder.path().join(path)).unwrap(), fs::read(committed(path)).unwrap());
        assert!(made == kept, "{path} is not what its generator makes");
    }
}

#[test]
fn the_base_model_is_the_one_that_its_readme_names() {
    let model = fs::read(committed("tiny-base/model.safetensors")).unwrap();
    let readme = fs::read_to_string(committed("tiny-base/README.md")).unwrap();
    assert!(readme.contains(blake3::hash(&model).to_hex().as_str()), "tiny-base/README.md names another hash");
    let bytes: u64 =
        fs::read_dir(committed("tiny-base")).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes <= 8_000_000, "the tiny base has {bytes} bytes");
}

#[test]
fn every_row_fits_the_tokenizer_and_the_tokenizer_the_model() {
    let tokenizer = Tokenizer::load(&committed("tiny-base")).unwrap();
    tokenizer.check_vocabulary(1_024, &committed("tiny-base")).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.largest_id()), (Some(1), 2, 1_023));
    let template = Template::named("alpaca").unwrap();
    let rules = SequenceRules {
        prompts: Prompts::Template(template),
        max_tokens: 96,
        long_prompts: LongPrompts::Refuse,
        learns_last_question: false,
        special_tokens: SpecialTokensInText::Refuse,
    };
    for path in ["skills/train.json", "skills/test.json"] {
        for client in Federation::read(&committed(path), BadRows::Refuse).unwrap().clients {
            assert_eq!(tokenize(&client, &tokenizer, &rules).unwrap().truncated, 0);
        }
    }
}

#[test]
fn the_test_set_asks_for_what_no_client_knows_alone() {
    let train = Federation::read(&committed("skills/train.json"), BadRows::Refuse).unwrap();
    let test = Federation::read(&committed("skills/test.json"), BadRows::Refuse).unwrap();
    let skills = |rows: &[Row]| rows.iter().map(|row| row.attributes["skill"].to_string()).collect::<BTreeSet<_>>();
    assert_eq!((train.clients.len(), skills(&test.clients[0].rows).len()), (24, 12));
    assert!(train.clients.iter().all(|client| skills(&client.rows).len() <= 3));
    let known: BTreeSet<&str> = train.clients.iter().flat_map(|client| &client.rows).map(instruction).collect();
    assert!(test.clients[0].rows.iter().all(|row| !known.contains(instruction(row))));
}
