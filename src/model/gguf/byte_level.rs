//! Byte-level BPE tokenizers, as GPT-2 has them: `tokenizer.ggml.model` is `gpt2`.

use serde_json::{Value, json};

use super::GgufFault;
use super::metadata::{Metadata, required};
use super::vocabulary::Vocabulary;

/// The key that names the pre-tokenizer.
const KEY: &str = "tokenizer.ggml.pre";

/// The way in which a text is split before BPE merges inside of the pieces.
///
/// The names are llama.cpp's (`llama-vocab.cpp`), the expressions those of the models' own tokenizer.json.
#[derive(Debug)]
pub(super) struct PreTokenizer {
    name: String,
    split: Split,
}

/// A way to split, which several names share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Split {
    /// As GPT-2.
    Gpt2,
    /// Each digit alone, then as GPT-2.
    DigitsGpt2,
    /// As Llama 3, which takes a piece that is a token as it is.
    Llama3,
    /// By the same expression as Llama 3.
    Llama3Pieces,
    Qwen2,
    Tekken,
    Gpt4o,
}

/// The names of each way to split. `default` is read as Transformers reads it, as GPT-2's.
const NAMES: [(Split, &[&str]); 7] = [
    (Split::Gpt2, &["default", "gpt-2", "phi-2", "olmo", "mpt", "exaone4", "trillion", "granite-docling", "a.x-4.0"]),
    (Split::DigitsGpt2, &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"]),
    (Split::Llama3, &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0"]),
    (Split::Llama3Pieces, &["dbrx", "smaug-bpe"]),
    (Split::Qwen2, &["qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "stablelm2", "hunyuan"]),
    (Split::Tekken, &["tekken"]),
    (Split::Gpt4o, &["gpt-4o", "llama4", "kanana2", "talkie"]),
];

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

impl PreTokenizer {
    /// Looks up the pre-tokenizer of a file, or the one of the name `instead`.
    pub fn read(metadata: &Metadata, instead: Option<&str>) -> Result<Self, GgufFault> {
        let Some(name) = instead.or(metadata.text(KEY)?) else {
            return Err(GgufFault::NoPreTokenizer { key: KEY });
        };
        match NAMES.iter().find(|(_, names)| names.contains(&name)) {
            Some((split, _)) => Ok(Self { name: name.to_owned(), split: *split }),
            None => {
                let known = NAMES.iter().flat_map(|(_, names)| *names).copied().collect();
                Err(GgufFault::UnknownPreTokenizer { key: KEY, name: name.to_owned(), known })
            }
        }
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns whether a text begins with the BOS token where the file does not say.
    pub fn adds_bos(&self) -> bool {
        matches!(self.split, Split::Llama3 | Split::Tekken)
    }

    /// Returns whether a piece that is a token is taken as it is, even if no merges lead to it.
    fn ignores_merges(&self) -> bool {
        matches!(self.split, Split::Llama3 | Split::Tekken)
    }

    fn json(&self) -> Value {
        let expression = match self.split {
            Split::Gpt2 => return bytes(true),
            Split::DigitsGpt2 => {
                let digits = json!({"type": "Digits", "individual_digits": true});
                return json!({"type": "Sequence", "pretokenizers": [digits, bytes(true)]});
            }
            Split::Llama3 | Split::Llama3Pieces => LLAMA3,
            Split::Qwen2 => QWEN2,
            Split::Tekken => TEKKEN,
            Split::Gpt4o => GPT4O,
        };
        let split = json!({"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": false});
        json!({"type": "Sequence", "pretokenizers": [split, bytes(false)]})
    }
}

/// Returns the step that writes each byte as a letter; with `use_regex`, it also splits as GPT-2.
fn bytes(use_regex: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex})
}

/// Returns the tokenizer.json of a vocabulary.
pub(super) fn tokenizer(metadata: &Metadata, vocabulary: &Vocabulary, pre: &PreTokenizer) -> Result<Value, GgufFault> {
    let key = "tokenizer.ggml.merges";
    let mut merges = Vec::new();
    for (index, merge) in required(metadata.texts(key)?, key)?.iter().enumerate() {
        // No token of a byte-level vocabulary has a space in it: the letter for that byte is another.
        match merge.split_once(' ') {
            Some((left, right)) if !right.contains(' ') => merges.push(json!([left, right])),
            _ => return Err(GgufFault::key(key, format!("has {merge:?} as element {index}, expected two tokens"))),
        }
    }
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": vocabulary.added(),
        "normalizer": null, "pre_tokenizer": pre.json(), "post_processor": vocabulary.post_processor(),
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": pre.ignores_merges(), "vocab": vocabulary.ids(), "merges": merges,
        },
    }))
}
