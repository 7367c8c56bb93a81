//! What lengths of texts are counted in.

use std::path::Path;

use super::error::DatasetError;
use super::tokeniser::Tokeniser;

/// Counts the length of a text.
pub enum Ruler {
    /// Words between white space.
    Words,
    /// Tokens of a model, without template and special tokens.
    Tokens(Box<Tokeniser>),
}

impl Ruler {
    /// In tokens of the tokenizer in this folder, or in words.
    ///
    /// # Errors
    /// If the tokenizer cannot be loaded.
    pub fn new(tokenizer: Option<&Path>) -> Result<Self, DatasetError> {
        Ok(match tokenizer {
            Some(folder) => Self::Tokens(Box::new(Tokeniser::load(folder)?)),
            None => Self::Words,
        })
    }

    /// The name of the unit.
    pub fn unit(&self) -> &'static str {
        match self {
            Self::Words => "words",
            Self::Tokens(_) => "tokens",
        }
    }

    /// The length of a text.
    ///
    /// # Errors
    /// What the tokenizer said.
    pub fn length(&self, text: &str) -> Result<u64, String> {
        match self {
            Self::Words => Ok(text.split_whitespace().count() as u64),
            Self::Tokens(tokeniser) => Ok(tokeniser.encode(text)?.ids.len() as u64),
        }
    }
}
