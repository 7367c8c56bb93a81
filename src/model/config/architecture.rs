//! The model families, by their names in Transformers.

use serde::{Deserialize, Serialize};

/// A model family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Architecture {
    /// Llama 1, 2 and 3, Falcon3 and others of that form.
    Llama,
    /// Mistral: Llama with an optional sliding window.
    Mistral,
    /// Qwen2 and 2.5: Llama with biases on q, k and v.
    Qwen2,
}

impl Architecture {
    /// All families.
    pub(super) const ALL: [Self; 3] = [Self::Llama, Self::Mistral, Self::Qwen2];

    /// Returns `model_type` of a config.json.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
        }
    }

    /// Returns the name of the class in Transformers.
    pub fn class(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
        }
    }

    /// Returns the family with this `model_type` or class name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| name == family.model_type() || name == family.class())
    }
}
