//! SentencePiece tokenizers, as Llama 2 and Gemma have them: `tokenizer.ggml.model` is `llama`.
//!
//! The file has tokens with scores and no merges. As in Transformers, every way to split a token into two others becomes
//! a merge, and merges into tokens with higher scores come first.

use std::cmp::Ordering;
use std::collections::HashMap;

use serde_json::{Value, json};

use super::GgufFault;
use super::decoder::GgufFamily;
use super::metadata::{Metadata, required};
use super::vocabulary::{TokenType, Vocabulary};

/// The letter that a space becomes.
const SPACE: char = '\u{2581}';

/// Returns the tokenizer.json of a vocabulary. Tokens of Gemma that are spaces get the spelling of Transformers.
pub(super) fn tokenizer(
    metadata: &Metadata,
    vocabulary: &mut Vocabulary,
    family: GgufFamily,
) -> Result<Value, GgufFault> {
    let key = "tokenizer.ggml.scores";
    let scores = required(metadata.floats(key)?, key)?;
    if scores.len() != vocabulary.tokens.len() {
        let reason = format!("has {} elements for {} tokens", scores.len(), vocabulary.tokens.len());
        return Err(GgufFault::key(key, reason));
    }
    if let Some(id) = scores.iter().position(|score| score.is_nan()) {
        return Err(GgufFault::key(key, format!("is not a number for token {id}")));
    }
    if metadata.texts("tokenizer.ggml.merges")?.is_some() {
        return Err(GgufFault::key("tokenizer.ggml.merges", "is not supported in a SentencePiece tokenizer"));
    }
    let adds_space = metadata.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(family != GgufFamily::Gemma3);
    let merges = if family == GgufFamily::Gemma3 {
        respell_spaces(vocabulary);
        // Gemma's scores do not follow the order of its merges, its ids do.
        let ranks: Vec<f64> = (0..vocabulary.tokens.len()).map(|id| -(id as f64)).collect();
        merges(vocabulary, &ranks)
    } else {
        merges(vocabulary, scores)
    };
    let Scheme { normalizer, pre_tokenizer } = Scheme::of(family, adds_space);
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": vocabulary.added(),
        "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": vocabulary.post_processor(),
        "decoder": decoder(adds_space),
        "model": {
            "type": "BPE", "dropout": null, "unk_token": vocabulary.unknown.map(|id| vocabulary.text(id)),
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true,
            "ignore_merges": false, "vocab": vocabulary.ids(), "merges": merges,
        },
    }))
}

/// Writes tokens of spaces alone as the letter that a space becomes. They are then reached by merges, as other tokens.
fn respell_spaces(vocabulary: &mut Vocabulary) {
    for (token, kind) in vocabulary.tokens.iter_mut().zip(&mut vocabulary.types) {
        if !token.is_empty() && token.chars().all(|letter| letter == ' ') {
            *token = SPACE.to_string().repeat(token.len());
            *kind = TokenType::Normal;
        }
    }
}

/// The steps that turn the spaces of a text into letters.
struct Scheme {
    normalizer: Value,
    pre_tokenizer: Value,
}

impl Scheme {
    fn of(family: GgufFamily, adds_space: bool) -> Self {
        let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE});
        match family {
            GgufFamily::Gemma3 if !adds_space => Self {
                normalizer: replace,
                pre_tokenizer: json!({
                    "type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false,
                }),
            },
            GgufFamily::Phi3 if adds_space => {
                let prepend = json!({"type": "Prepend", "prepend": SPACE});
                let normalizer = json!({"type": "Sequence", "normalizers": [prepend, replace]});
                Self { normalizer, pre_tokenizer: Value::Null }
            }
            _ => {
                let scheme = if adds_space { "first" } else { "never" };
                let pre_tokenizer = json!({
                    "type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": false,
                });
                Self { normalizer: Value::Null, pre_tokenizer }
            }
        }
    }
}

fn decoder(adds_space: bool) -> Value {
    let mut steps = vec![
        json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if adds_space {
        steps.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    json!({"type": "Sequence", "decoders": steps})
}

/// A split of a token into two others.
struct Merge<'a> {
    left: &'a str,
    right: &'a str,
    left_id: usize,
    right_id: usize,
    score: f64,
    /// Lengths in letters.
    lengths: (usize, usize),
}

/// Returns all merges, first those into tokens of high scores, then those of long left parts, then of long right ones,
/// then of small ids.
///
/// Tokens that stand for something else than their letters are no result of a merge: a text that spells out `</s>` is
/// not the end of a sequence.
fn merges(vocabulary: &Vocabulary, scores: &[f64]) -> Vec<Value> {
    let ids: HashMap<&str, usize> =
        vocabulary.tokens.iter().enumerate().map(|(id, token)| (token.as_str(), id)).collect();
    let mut found = Vec::new();
    for (id, token) in vocabulary.tokens.iter().enumerate() {
        if !matches!(vocabulary.types[id], TokenType::Normal | TokenType::UserDefined) {
            continue;
        }
        let letters = token.chars().count();
        let first = found.len();
        for (before, (place, _)) in token.char_indices().enumerate().skip(1) {
            let (left, right) = token.split_at(place);
            if let (Some(&left_id), Some(&right_id)) = (ids.get(left), ids.get(right)) {
                let lengths = (before, letters - before);
                found.push(Merge { left, right, left_id, right_id, score: scores[id], lengths });
            }
        }
        found[first..].sort_by_key(|merge| (merge.left_id, merge.right_id));
    }
    // The sort is stable: among equals, the order of ids stays.
    found.sort_by(|a, b| b.score.partial_cmp(&a.score).unwrap_or(Ordering::Equal).then(b.lengths.cmp(&a.lengths)));
    found.iter().map(|merge| json!([merge.left, merge.right])).collect()
}
