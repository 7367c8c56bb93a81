//! The tensors of a model under both names, and the changes that llama.cpp made to them.

use std::collections::{BTreeMap, BTreeSet};

use super::GgufFault;
use super::container::StoredTensor;
use super::decoder::{Decoder, GgufFamily, TensorFacts};

/// A tensor to be written.
#[derive(Clone, Debug)]
pub(super) struct PlannedTensor {
    /// Name in Transformers.
    pub name: String,
    /// Name in the GGUF file.
    pub source: String,
    pub shape: Vec<usize>,
    pub undo: Undo,
}

/// The change that llama.cpp made to a tensor, which must be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Undo {
    /// There is none.
    Nothing,
    /// The rows of each head were interleaved: rows 2i and 2i + 1 are rows i and i + width / 2 of Transformers.
    Interleaving { heads: usize },
    /// 1 was added: Gemma multiplies by 1 + weight.
    AddedOne,
}

/// Factors of the frequencies of RoPE in Llama 3.1 and later.
pub(super) const ROPE_FACTORS: &str = "rope_freqs.weight";

/// Name of the embedding and of the output head.
pub(super) const EMBEDDING: &str = "token_embd.weight";
const HEAD: &str = "output.weight";

/// Reads from the tensors what the metadata does not say. RoPE's factors and the type are filled in elsewhere.
pub(super) fn facts(decoder: &Decoder, stored: &BTreeMap<String, StoredTensor>) -> Result<TensorFacts, GgufFault> {
    let embedding = stored.get(EMBEDDING).ok_or_else(|| GgufFault::tensor(EMBEDDING, "is missing"))?;
    let vocab = embedding.shape[0];
    if let Some(named) = decoder.vocab.filter(|&named| named != vocab) {
        let reason = format!("has {vocab} rows, {}.vocab_size is {named}", decoder.family.name());
        return Err(GgufFault::tensor(EMBEDDING, reason));
    }
    let is_llama = decoder.family == GgufFamily::Llama;
    Ok(TensorFacts {
        vocab,
        is_tied: !stored.contains_key(HEAD),
        attention_bias: is_llama && stored.contains_key("blk.0.attn_output.bias"),
        mlp_bias: is_llama && stored.contains_key("blk.0.ffn_down.bias"),
        rope_scaling: None,
        dtype: "float32",
    })
}

/// Returns all tensors of the model, and checks that the file has exactly those, in the right shapes.
pub(super) fn planned(
    decoder: &Decoder,
    facts: &TensorFacts,
    stored: &BTreeMap<String, StoredTensor>,
) -> Result<Vec<PlannedTensor>, GgufFault> {
    let mut plan = Plan { decoder, tensors: vec![] };
    let norm = plan.norm();
    plan.add("model.embed_tokens.weight", EMBEDDING, &[facts.vocab, decoder.hidden], Undo::Nothing);
    for layer in 0..decoder.layers {
        // The number of layers is a claim of the file: a missing tensor ends the loop before it has filled memory.
        let first = plan.tensors.len();
        plan.add_layer(layer, facts);
        plan.tensors[first..].iter().try_for_each(|tensor| check(tensor, stored))?;
    }
    plan.add("model.norm.weight", "output_norm.weight", &[decoder.hidden], norm);
    if !facts.is_tied {
        plan.add("lm_head.weight", HEAD, &[facts.vocab, decoder.hidden], Undo::Nothing);
    }
    plan.tensors.iter().try_for_each(|tensor| check(tensor, stored))?;
    let used: BTreeSet<&str> = plan.tensors.iter().map(|tensor| tensor.source.as_str()).collect();
    let is_known = |name: &str| used.contains(name) || (decoder.family == GgufFamily::Llama && name == ROPE_FACTORS);
    match stored.keys().find(|name| !is_known(name)) {
        Some(name) => Err(GgufFault::tensor(name, format!("is none of a {} model's", decoder.family.name()))),
        None => Ok(plan.tensors),
    }
}

fn check(tensor: &PlannedTensor, stored: &BTreeMap<String, StoredTensor>) -> Result<(), GgufFault> {
    let Some(found) = stored.get(&tensor.source) else {
        return Err(GgufFault::tensor(&tensor.source, format!("is missing, expected shape {:?}", tensor.shape)));
    };
    if found.shape != tensor.shape {
        let reason = format!("has shape {:?}, expected {:?} by the metadata", found.shape, tensor.shape);
        return Err(GgufFault::tensor(&tensor.source, reason));
    }
    Ok(())
}

/// A list of tensors that is being made.
struct Plan<'a> {
    decoder: &'a Decoder,
    tensors: Vec<PlannedTensor>,
}

impl Plan<'_> {
    fn add(&mut self, name: impl Into<String>, source: impl Into<String>, shape: &[usize], undo: Undo) {
        self.tensors.push(PlannedTensor { name: name.into(), source: source.into(), shape: shape.into(), undo });
    }

    /// Returns the change to be undone in the weights of RMSNorm.
    fn norm(&self) -> Undo {
        if self.decoder.family == GgufFamily::Gemma3 { Undo::AddedOne } else { Undo::Nothing }
    }

    /// Adds the tensors of a layer.
    fn add_layer(&mut self, layer: usize, facts: &TensorFacts) {
        self.add_attention(layer, facts);
        self.add_mlp(layer, facts);
        let norms: &[(&str, &str)] = match self.decoder.family {
            GgufFamily::Gemma3 => &[
                ("input_layernorm", "attn_norm"),
                ("post_attention_layernorm", "post_attention_norm"),
                ("pre_feedforward_layernorm", "ffn_norm"),
                ("post_feedforward_layernorm", "post_ffw_norm"),
            ],
            _ => &[("input_layernorm", "attn_norm"), ("post_attention_layernorm", "ffn_norm")],
        };
        let undo = self.norm();
        for (name, source) in norms {
            let shape = [self.decoder.hidden];
            self.add(
                format!("model.layers.{layer}.{name}.weight"),
                format!("blk.{layer}.{source}.weight"),
                &shape,
                undo,
            );
        }
    }

    fn add_attention(&mut self, layer: usize, facts: &TensorFacts) {
        let Decoder { family, hidden, heads, kv_heads, head_dim, .. } = *self.decoder;
        let name = format!("model.layers.{layer}.self_attn");
        let queries = heads * head_dim;
        let keys = kv_heads * head_dim;
        self.add_linear(
            &format!("{name}.o_proj"),
            layer,
            "attn_output",
            [hidden, queries],
            facts.attention_bias,
            Undo::Nothing,
        );
        if family == GgufFamily::Phi3 {
            let rows = queries + 2 * keys;
            self.add_linear(&format!("{name}.qkv_proj"), layer, "attn_qkv", [rows, hidden], false, Undo::Nothing);
            return;
        }
        let has_bias = family == GgufFamily::Qwen2 || facts.attention_bias;
        let undo = |heads| if family == GgufFamily::Llama { Undo::Interleaving { heads } } else { Undo::Nothing };
        self.add_linear(&format!("{name}.q_proj"), layer, "attn_q", [queries, hidden], has_bias, undo(heads));
        self.add_linear(&format!("{name}.k_proj"), layer, "attn_k", [keys, hidden], has_bias, undo(kv_heads));
        self.add_linear(&format!("{name}.v_proj"), layer, "attn_v", [keys, hidden], has_bias, Undo::Nothing);
        if matches!(family, GgufFamily::Qwen3 | GgufFamily::Gemma3) {
            let undo = self.norm();
            for letter in ["q", "k"] {
                let source = format!("blk.{layer}.attn_{letter}_norm.weight");
                self.add(format!("{name}.{letter}_norm.weight"), source, &[head_dim], undo);
            }
        }
    }

    fn add_mlp(&mut self, layer: usize, facts: &TensorFacts) {
        let Decoder { family, hidden, intermediate, .. } = *self.decoder;
        let name = format!("model.layers.{layer}.mlp");
        let bias = facts.mlp_bias;
        if family == GgufFamily::Phi3 {
            // Gate and up are one tensor in both formats, in this order.
            let shape = [2 * intermediate, hidden];
            self.add_linear(&format!("{name}.gate_up_proj"), layer, "ffn_up", shape, false, Undo::Nothing);
        } else {
            for (leaf, source) in [("gate_proj", "ffn_gate"), ("up_proj", "ffn_up")] {
                let shape = [intermediate, hidden];
                self.add_linear(&format!("{name}.{leaf}"), layer, source, shape, bias, Undo::Nothing);
            }
        }
        let shape = [hidden, intermediate];
        self.add_linear(&format!("{name}.down_proj"), layer, "ffn_down", shape, bias, Undo::Nothing);
    }

    /// Adds the weight `[out, in]` of a linear module, and its bias if it has one.
    fn add_linear(&mut self, name: &str, layer: usize, source: &str, shape: [usize; 2], has_bias: bool, undo: Undo) {
        self.add(format!("{name}.weight"), format!("blk.{layer}.{source}.weight"), &shape, undo);
        if has_bias {
            self.add(format!("{name}.bias"), format!("blk.{layer}.{source}.bias"), &shape[..1], undo);
        }
    }
}
