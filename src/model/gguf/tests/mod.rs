//! Imports of the files of fixtures/gguf, compared with what Transformers reads in them, and of broken files.

mod forged;
mod refusals;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokenizers::Tokenizer;

use super::blocks::BlockType;
use super::{ImportOptions, ImportSummary, WeightType, import};

/// Contents of fixtures/gguf/expected.json, which tests/reference/make_gguf.py wrote.
#[derive(Deserialize)]
struct Expected {
    texts: Vec<String>,
    models: BTreeMap<String, ExpectedModel>,
    tokenizers: BTreeMap<String, ExpectedIds>,
    pre_tokenizers: BTreeMap<String, Vec<Vec<u32>>>,
}

#[derive(Deserialize)]
struct ExpectedModel {
    config: BTreeMap<String, Value>,
    tensors: BTreeMap<String, ExpectedTensor>,
}

#[derive(Deserialize)]
struct ExpectedTensor {
    shape: Vec<usize>,
    /// Of the values in f32.
    sha256: String,
    first: f32,
}

#[derive(Deserialize)]
struct ExpectedIds {
    plain: Vec<Vec<u32>>,
    framed: Option<Vec<Vec<u32>>>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/gguf")
}

fn expected() -> Expected {
    serde_json::from_slice(&fs::read(fixtures().join("expected.json")).unwrap()).unwrap()
}

/// A folder that was imported.
struct Imported {
    folder: TempDir,
    summary: ImportSummary,
}

impl Imported {
    fn of(name: &str, options: &ImportOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = fixtures().join(format!("{name}.gguf"));
        let summary = import(&source, &folder.path().join("model"), options).unwrap();
        Self { folder, summary }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join("model").join(file)
    }

    fn json(&self, file: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(file)).unwrap()).unwrap()
    }

    fn tokenizer(&self) -> Tokenizer {
        Tokenizer::from_file(self.path("tokenizer.json")).unwrap()
    }
}

fn ids(tokenizer: &Tokenizer, texts: &[String], framed: bool) -> Vec<Vec<u32>> {
    texts.iter().map(|text| tokenizer.encode(text.as_str(), framed).unwrap().get_ids().to_vec()).collect()
}

/// Values of a tensor in f32, by the `half` crate's conversions alone.
fn values(tensor: &safetensors::tensor::TensorView) -> Vec<f32> {
    let kind = match tensor.dtype() {
        safetensors::Dtype::F32 => BlockType::F32,
        safetensors::Dtype::F16 => BlockType::F16,
        safetensors::Dtype::BF16 => BlockType::Bf16,
        other => panic!("{other} was written"),
    };
    kind.expand(tensor.data())
}

#[test]
fn tensors_are_those_that_transformers_reads() {
    for (name, model) in expected().models {
        let imported = Imported::of(&name, &ImportOptions::default());
        let bytes = fs::read(imported.path("model.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let mut names = tensors.names();
        names.sort_unstable();
        assert_eq!(names, model.tensors.keys().collect::<Vec<_>>(), "{name}");
        for (tensor, expected) in &model.tensors {
            let found = tensors.tensor(tensor).unwrap();
            let values = values(&found);
            assert_eq!(found.shape(), expected.shape, "{name} {tensor}");
            assert_eq!(values[0], expected.first, "{name} {tensor}");
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(digest, expected.sha256, "{name} {tensor}");
        }
    }
}

#[test]
fn the_config_is_the_one_that_transformers_reads() {
    for (name, model) in expected().models {
        let found = Imported::of(&name, &ImportOptions::default()).json("config.json");
        for (key, expected) in model.config {
            // Transformers does not read these two, and takes its defaults.
            let expected = match (name.as_str(), key.as_str()) {
                ("phi3", "sliding_window") => Value::from(48),
                ("gemma3", "query_pre_attn_scalar") => found["head_dim"].clone(),
                _ => expected,
            };
            let same = match (found[&key].as_f64(), expected.as_f64()) {
                // A number of 32 bits in the file.
                (Some(found), Some(expected)) => found as f32 == expected as f32,
                // A default of the family that the file does not have.
                _ if found.get(&key).is_none() => true,
                _ => found[&key] == expected,
            };
            assert!(same, "{name} {key}: {} instead of {expected}", found[&key]);
        }
    }
}

#[test]
fn ids_are_those_of_the_tokenizer_that_transformers_reads() {
    let Expected { texts, tokenizers, .. } = expected();
    for (name, expected) in tokenizers {
        let tokenizer = Imported::of(&name, &ImportOptions::default()).tokenizer();
        for (text, (found, expected)) in texts.iter().zip(ids(&tokenizer, &texts, false).iter().zip(&expected.plain)) {
            assert_eq!(found, expected, "{name} {text:?}");
        }
        if let Some(framed) = expected.framed {
            assert_eq!(ids(&tokenizer, &texts, true), framed, "{name}");
        }
    }
}

#[test]
fn ids_follow_the_pre_tokenizer() {
    let Expected { texts, pre_tokenizers, .. } = expected();
    for (pre, expected) in pre_tokenizers {
        let options = ImportOptions { pre_tokenizer: Some(pre.clone()), ..Default::default() };
        let tokenizer = Imported::of("qwen2", &options).tokenizer();
        for (text, (found, expected)) in texts.iter().zip(ids(&tokenizer, &texts, false).iter().zip(&expected)) {
            assert_eq!(found, expected, "{pre} {text:?}");
        }
    }
}

#[test]
fn a_text_that_spells_a_control_token_is_text() {
    let mut tokenizer = Imported::of("mistral", &ImportOptions::default()).tokenizer();
    tokenizer.set_encode_special_tokens(true);
    let end = tokenizer.token_to_id("</s>").unwrap();
    assert!(!tokenizer.encode("a</s>", false).unwrap().get_ids().contains(&end));
}

#[test]
fn special_tokens_and_the_chat_template_are_written() {
    let smol = Imported::of("llama", &ImportOptions::default());
    assert!(smol.summary.has_chat_template);
    assert!(fs::read_to_string(smol.path("chat_template.jinja")).unwrap().contains("<|im_start|>"));
    let config = smol.json("tokenizer_config.json");
    assert_eq!(config["bos_token"], "<|im_start|>");
    assert_eq!(config["eos_token"], "<|im_end|>");
    assert_eq!(config["add_bos_token"], false);
    assert_eq!(smol.json("generation_config.json")["eos_token_id"], 2);
    let gemma = Imported::of("gemma3", &ImportOptions::default());
    assert!(!gemma.path("chat_template.jinja").exists());
    assert_eq!(gemma.json("tokenizer_config.json")["add_bos_token"], true);
    // The end of a turn ends an answer as well.
    assert_eq!(gemma.json("generation_config.json")["eos_token_id"], serde_json::json!([1, 5]));
}

#[test]
fn weights_keep_their_type_unless_another_is_asked_for() {
    let dtypes = |options: &ImportOptions| {
        let imported = Imported::of("llama", options);
        let bytes = fs::read(imported.path("model.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let of = |name: &str| tensors.tensor(name).unwrap().dtype();
        [
            of("model.layers.1.self_attn.q_proj.weight"),
            of("model.layers.1.self_attn.v_proj.weight"),
            of("model.layers.1.self_attn.o_proj.weight"),
        ]
    };
    use safetensors::Dtype::{BF16, F16, F32};
    assert_eq!(dtypes(&ImportOptions::default()), [F32, F16, BF16]);
    assert_eq!(dtypes(&ImportOptions { dtype: Some(WeightType::Bf16), ..Default::default() }), [BF16; 3]);
}

#[test]
fn what_is_written_can_be_loaded_as_a_model() {
    let imported = Imported::of("mistral", &ImportOptions::default());
    let folder = crate::model::Folder::open(&imported.folder.path().join("model")).unwrap();
    assert_eq!(folder.config().layers, 1);
}

#[test]
fn chat_templates_with_names_are_written_as_transformers_stores_them() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("model.gguf");
    let mut file = forged::Forged::llama();
    file.put_text("tokenizer.chat_template", "plain");
    file.put_texts("tokenizer.chat_templates", &["tool_use", "rag"]);
    file.put_text("tokenizer.chat_template.tool_use", "with tools");
    file.put_text("tokenizer.chat_template.rag", "with texts");
    fs::write(&source, file.bytes()).unwrap();
    let target = folder.path().join("out");
    let summary = import(&source, &target, &ImportOptions::default()).unwrap();
    assert_eq!(summary.named_chat_templates, ["rag", "tool_use"]);
    for (name, text) in [
        ("chat_template.jinja", "plain"),
        ("additional_chat_templates/tool_use.jinja", "with tools"),
        ("additional_chat_templates/rag.jinja", "with texts"),
    ] {
        assert_eq!(fs::read_to_string(target.join(name)).unwrap(), text);
    }
}
