//! The tokenizer of a GGUF file as Hugging Face's tokenizer.json.

use serde_json::Value;

use super::decoder::GgufFamily;
use super::metadata::{Metadata, required};
use super::vocabulary::Vocabulary;
use super::{GgufFault, byte_level, sentencepiece};

/// A tokenizer in the form of Hugging Face.
pub(super) struct BuiltTokenizer {
    /// Contents of tokenizer.json.
    pub json: Value,
    pub vocabulary: Vocabulary,
    /// The kind, for people to read.
    pub description: String,
}

/// Builds the tokenizer of a file. `pre_tokenizer` replaces the name in the file.
pub(super) fn tokenizer(
    metadata: &Metadata,
    family: GgufFamily,
    pre_tokenizer: Option<&str>,
) -> Result<BuiltTokenizer, GgufFault> {
    let key = "tokenizer.ggml.model";
    let (json, vocabulary, description) = match required(metadata.text(key)?, key)? {
        "gpt2" => {
            let pre = byte_level::PreTokenizer::read(metadata, pre_tokenizer)?;
            let vocabulary = Vocabulary::read(metadata, pre.adds_bos())?;
            let description = format!("byte-level BPE, pre-tokenizer {}", pre.name());
            (byte_level::tokenizer(metadata, &vocabulary, &pre)?, vocabulary, description)
        }
        "llama" => {
            let mut vocabulary = Vocabulary::read(metadata, true)?;
            let json = sentencepiece::tokenizer(metadata, &mut vocabulary, family)?;
            (json, vocabulary, "SentencePiece as BPE with byte fallback".to_owned())
        }
        other => return Err(GgufFault::key(key, format!("is {other:?}, \"gpt2\" and \"llama\" are supported"))),
    };
    check(&json, &vocabulary)?;
    Ok(BuiltTokenizer { json, vocabulary, description })
}

/// Checks that the tokenizer can be loaded and gives every token its id.
fn check(json: &Value, vocabulary: &Vocabulary) -> Result<(), GgufFault> {
    let loaded = tokenizers::Tokenizer::from_bytes(json.to_string())
        .map_err(|error| GgufFault::key("tokenizer.ggml", format!("makes no tokenizer: {error}")))?;
    for (id, token) in vocabulary.tokens.iter().enumerate() {
        let found = loaded.token_to_id(token);
        if found != Some(id as u32) {
            let reason = format!("has the token {token:?} as {id}, the tokenizer has it as {found:?}");
            return Err(GgufFault::key("tokenizer.ggml.tokens", reason));
        }
    }
    Ok(())
}
