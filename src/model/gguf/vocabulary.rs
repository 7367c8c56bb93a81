//! The tokens of a GGUF file, with their types and roles.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::GgufFault;
use super::metadata::{Metadata, required};

/// The kind of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenType {
    Normal,
    Unknown,
    /// Has no text of its own, such as `<s>`.
    Control,
    /// Is never split.
    UserDefined,
    Unused,
    /// One byte, such as `<0x0A>`.
    Byte,
}

/// The tokens of a model, and the facts about its tokenizer that both kinds of tokenizers share.
#[derive(Debug)]
pub(super) struct Vocabulary {
    pub tokens: Vec<String>,
    pub types: Vec<TokenType>,
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    /// Ends a turn of a chat, where that is not the EOS token.
    pub end_of_turn: Option<u32>,
    pub unknown: Option<u32>,
    pub padding: Option<u32>,
    pub adds_bos: bool,
    pub adds_eos: bool,
}

impl Vocabulary {
    /// Reads and checks the tokens. `adds_bos` applies where the file does not say.
    pub fn read(metadata: &Metadata, adds_bos: bool) -> Result<Self, GgufFault> {
        let key = "tokenizer.ggml.tokens";
        let tokens = required(metadata.texts(key)?, key)?.to_vec();
        let mut ids = HashMap::with_capacity(tokens.len());
        for (id, token) in tokens.iter().enumerate() {
            if let Some(first) = ids.insert(token.as_str(), id) {
                return Err(GgufFault::key(key, format!("has the token {token:?} twice, as {first} and as {id}")));
            }
        }
        let types = read_types(metadata, tokens.len())?;
        let special = |name: &str| special_token(metadata, &format!("tokenizer.ggml.{name}_token_id"), tokens.len());
        let adds = |name: &str, otherwise| {
            let found = metadata.flag(&format!("tokenizer.ggml.add_{name}_token"))?;
            Ok::<_, GgufFault>(found.unwrap_or(otherwise))
        };
        let vocabulary = Self {
            bos: special("bos")?,
            eos: special("eos")?,
            end_of_turn: special("eot")?,
            unknown: special("unknown")?,
            padding: special("padding")?,
            adds_bos: adds("bos", adds_bos)?,
            adds_eos: adds("eos", false)?,
            types,
            tokens,
        };
        if vocabulary.adds_bos && vocabulary.bos.is_none() {
            return Err(GgufFault::key("tokenizer.ggml.bos_token_id", "is missing, but texts begin with that token"));
        }
        if vocabulary.adds_eos && vocabulary.eos.is_none() {
            return Err(GgufFault::key("tokenizer.ggml.eos_token_id", "is missing, but texts end with that token"));
        }
        Ok(vocabulary)
    }

    /// Returns the text of a token.
    pub fn text(&self, id: u32) -> &str {
        &self.tokens[id as usize]
    }

    /// Returns each token with its id, as the model of a tokenizer has them.
    pub fn ids(&self) -> serde_json::Map<String, Value> {
        self.tokens.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect()
    }

    /// Returns the tokens that are found in a text before it is split: control tokens, which are special, tokens that
    /// the user defined, which are not, and the special tokens that have a role.
    pub fn added(&self) -> Vec<Value> {
        let roles = [self.bos, self.eos, self.end_of_turn, self.unknown, self.padding];
        let mut added = Vec::new();
        for (id, token) in self.tokens.iter().enumerate() {
            let is_special = self.types[id] == TokenType::Control || roles.contains(&Some(id as u32));
            if is_special || self.types[id] == TokenType::UserDefined {
                added.push(json!({
                    "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": is_special,
                }));
            }
        }
        added
    }

    /// Returns the post-processor that puts the BOS token before a text and the EOS token behind it.
    pub fn post_processor(&self) -> Value {
        let bos = self.bos.filter(|_| self.adds_bos);
        let eos = self.eos.filter(|_| self.adds_eos);
        if bos.is_none() && eos.is_none() {
            return Value::Null;
        }
        let pair = [self.framed("A", 0, bos, eos), self.framed("B", 1, bos, eos)].concat();
        let mut special = serde_json::Map::new();
        for id in [bos, eos].into_iter().flatten() {
            let token = self.text(id);
            special.insert(token.to_owned(), json!({"id": token, "ids": [id], "tokens": [token]}));
        }
        json!({
            "type": "TemplateProcessing", "single": self.framed("A", 0, bos, eos), "pair": pair,
            "special_tokens": special,
        })
    }

    /// Returns one text of a template, with its special tokens.
    fn framed(&self, name: &str, kind: u32, bos: Option<u32>, eos: Option<u32>) -> Vec<Value> {
        let special = |id| json!({"SpecialToken": {"id": self.text(id), "type_id": kind}});
        let mut parts: Vec<Value> = bos.map(special).into_iter().collect();
        parts.push(json!({"Sequence": {"id": name, "type_id": kind}}));
        parts.extend(eos.map(special));
        parts
    }
}

fn read_types(metadata: &Metadata, tokens: usize) -> Result<Vec<TokenType>, GgufFault> {
    let key = "tokenizer.ggml.token_type";
    let Some(numbers) = metadata.integers(key)? else { return Ok(vec![TokenType::Normal; tokens]) };
    if numbers.len() != tokens {
        return Err(GgufFault::key(key, format!("has {} elements for {tokens} tokens", numbers.len())));
    }
    let mut types = Vec::with_capacity(tokens);
    for (id, number) in numbers.iter().enumerate() {
        types.push(match number {
            0 | 1 => TokenType::Normal,
            2 => TokenType::Unknown,
            3 => TokenType::Control,
            4 => TokenType::UserDefined,
            5 => TokenType::Unused,
            6 => TokenType::Byte,
            other => return Err(GgufFault::key(key, format!("is {other} for token {id}, known are 0 to 6"))),
        });
    }
    Ok(types)
}

fn special_token(metadata: &Metadata, key: &str, tokens: usize) -> Result<Option<u32>, GgufFault> {
    match metadata.size(key)? {
        Some(id) if id >= tokens => Err(GgufFault::key(key, format!("is {id}, there are {tokens} tokens"))),
        found => Ok(found.map(|id| id as u32)),
    }
}
