//! The tensors of a model of a given shape: their names, as in Transformers, and their shapes.

use super::Config;

/// The name and shape of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// The name, such as `model.layers.0.mlp.up_proj.weight`.
    pub name: String,
    /// The shape; `[out, in]` for the weight of a linear module.
    pub shape: Vec<usize>,
}

/// Returns all tensors of a model, in the order of computation.
pub fn tensor_specs(config: &Config) -> Vec<TensorSpec> {
    let mut specs = vec![spec("model.embed_tokens.weight", &[config.vocab_size, config.hidden_size])];
    for layer in 0..config.layers {
        specs.extend(layer_specs(config, &format!("model.layers.{layer}")));
    }
    specs.push(spec("model.norm.weight", &[config.hidden_size]));
    if !config.tied {
        specs.push(spec("lm_head.weight", &[config.vocab_size, config.hidden_size]));
    }
    specs
}

/// Returns the linear modules of one layer: name within the layer, input width, output width.
pub(super) fn linears(config: &Config) -> [(&'static str, usize, usize); 7] {
    let hidden = config.hidden_size;
    let inner = config.intermediate_size;
    let queries = config.heads * config.head_dim;
    let keys = config.kv_heads * config.head_dim;
    [
        ("self_attn.q_proj", hidden, queries),
        ("self_attn.k_proj", hidden, keys),
        ("self_attn.v_proj", hidden, keys),
        ("self_attn.o_proj", queries, hidden),
        ("mlp.gate_proj", hidden, inner),
        ("mlp.up_proj", hidden, inner),
        ("mlp.down_proj", inner, hidden),
    ]
}

/// Returns whether a tensor is the weight of a linear module of a layer, as which quantized formats store it.
pub(super) fn is_linear(name: &str) -> bool {
    name.starts_with("model.layers.") && name.ends_with("_proj.weight")
}

fn layer_specs(config: &Config, prefix: &str) -> Vec<TensorSpec> {
    let mut specs = vec![
        spec(format!("{prefix}.input_layernorm.weight"), &[config.hidden_size]),
        spec(format!("{prefix}.post_attention_layernorm.weight"), &[config.hidden_size]),
    ];
    for (name, input, output) in linears(config) {
        specs.push(spec(format!("{prefix}.{name}.weight"), &[output, input]));
        // Which modules have biases depends on the family; see `Config`.
        let biased = match name {
            "self_attn.o_proj" => config.output_bias,
            _ if name.starts_with("mlp") => config.mlp_bias,
            _ => config.qkv_bias,
        };
        if biased {
            specs.push(spec(format!("{prefix}.{name}.bias"), &[output]));
        }
    }
    specs
}

fn spec(name: impl Into<String>, shape: &[usize]) -> TensorSpec {
    TensorSpec { name: name.into(), shape: shape.to_vec() }
}
