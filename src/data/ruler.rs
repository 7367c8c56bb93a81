//! The unit in which lengths of texts are counted.

use std::path::Path;

use super::error::{DatasetError, TokenizerError};
use super::tokenizer::Tokenizer;

/// A measure of the length of a text.
pub enum Ruler {
    /// Words separated by white space.
    Words,
    /// Tokens of a model's tokenizer, without template and special tokens.
    Tokens(Box<Tokenizer>),
}

impl Ruler {
    /// Counts in tokens of the tokenizer in this folder, or in words if there is none.
    ///
    /// # Errors
    /// If the tokenizer cannot be loaded.
    pub fn new(tokenizer: Option<&Path>) -> Result<Self, DatasetError> {
        Ok(match tokenizer {
            Some(folder) => Self::Tokens(Box::new(Tokenizer::load(folder)?)),
            None => Self::Words,
        })
    }

    /// Returns the name of the unit.
    pub fn unit(&self) -> &'static str {
        match self {
            Self::Words => "words",
            Self::Tokens(_) => "tokens",
        }
    }

    /// Returns the length of a text.
    ///
    /// # Errors
    /// The tokenizer's message.
    pub fn length(&self, text: &str) -> Result<u64, TokenizerError> {
        match self {
            Self::Words => Ok(text.split_whitespace().count() as u64),
            Self::Tokens(tokenizer) => Ok(tokenizer.encode(text)?.ids.len() as u64),
        }
    }
}
