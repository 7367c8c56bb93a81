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
    /// Qwen3: norms over each query and key head.
    Qwen3,
    /// SmolLM3: layers without a rotary embedding.
    SmolLm3,
    /// Granite 3: factors of embeddings, scores, residual stream and logits.
    Granite,
    /// OLMo 2: norms at the results of attention and MLP.
    Olmo2,
    /// InternLM3: Llama with the biases under other names.
    InternLm3,
    /// Phi-3 and Phi-4: fused linear modules, partly rotated heads.
    Phi3,
    /// Gemma 2: norms around attention and MLP, bounded scores and logits, local attention.
    Gemma2,
    /// Gemma 3, text only: Gemma 2 with norms of queries and keys instead of bounds.
    Gemma3,
}

impl Architecture {
    /// All families.
    pub(super) const ALL: [Self; 11] = [
        Self::Llama,
        Self::Mistral,
        Self::Qwen2,
        Self::Qwen3,
        Self::SmolLm3,
        Self::Granite,
        Self::Olmo2,
        Self::InternLm3,
        Self::Phi3,
        Self::Gemma2,
        Self::Gemma3,
    ];

    /// Returns `model_type` of a config.json.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::SmolLm3 => "smollm3",
            Self::Granite => "granite",
            Self::Olmo2 => "olmo2",
            Self::InternLm3 => "internlm3",
            Self::Phi3 => "phi3",
            Self::Gemma2 => "gemma2",
            Self::Gemma3 => "gemma3_text",
        }
    }

    /// Returns the name of the class in Transformers.
    pub fn class(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
            Self::SmolLm3 => "SmolLM3ForCausalLM",
            Self::Granite => "GraniteForCausalLM",
            Self::Olmo2 => "Olmo2ForCausalLM",
            Self::InternLm3 => "InternLM3ForCausalLM",
            Self::Phi3 => "Phi3ForCausalLM",
            Self::Gemma2 => "Gemma2ForCausalLM",
            Self::Gemma3 => "Gemma3ForCausalLM",
        }
    }

    /// Returns the family with this `model_type` or class name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| name == family.model_type() || name == family.class())
    }
}
