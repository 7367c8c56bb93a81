//! The tensors of a model of a given shape: their names, as in Transformers, and their shapes.

use super::{Config, NormPlacement, QueryKeyNorm};

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

/// A linear module: name within the layer, input width, output width.
pub(crate) type Linear = (&'static str, usize, usize);

/// Returns the linear modules of one layer by the input that they share: that of attention, its result, the input of the
/// MLP, and the gated product. The results of modules with a common input are adjacent, in this order.
pub(crate) fn sites(config: &Config) -> [Vec<Linear>; 4] {
    let hidden = config.hidden_size;
    let inner = config.intermediate_size;
    let queries = config.heads * config.head_dim;
    let keys = config.kv_heads * config.head_dim;
    let output = vec![("self_attn.o_proj", queries, hidden)];
    let down = vec![("mlp.down_proj", inner, hidden)];
    if config.variant.fused {
        let attention = vec![("self_attn.qkv_proj", hidden, queries + 2 * keys)];
        return [attention, output, vec![("mlp.gate_up_proj", hidden, 2 * inner)], down];
    }
    let attention = vec![
        ("self_attn.q_proj", hidden, queries),
        ("self_attn.k_proj", hidden, keys),
        ("self_attn.v_proj", hidden, keys),
    ];
    [attention, output, vec![("mlp.gate_proj", hidden, inner), ("mlp.up_proj", hidden, inner)], down]
}

/// Returns the linear modules of one layer.
pub(super) fn linears(config: &Config) -> Vec<Linear> {
    sites(config).concat()
}

/// Names of a layer's norms within the layer, by their places.
pub(super) struct NormNames {
    /// Before attention.
    pub input: Option<&'static str>,
    /// After attention.
    pub attention: Option<&'static str>,
    /// Before the MLP.
    pub inner: Option<&'static str>,
    /// After the MLP.
    pub mlp: Option<&'static str>,
}

/// Returns the names of a layer's norms. The one after attention has the name that elsewhere has the one before the MLP.
pub(super) fn norm_names(config: &Config) -> NormNames {
    const AFTER: &str = "post_attention_layernorm";
    let (input, attention, inner, mlp) = match config.variant.norms {
        NormPlacement::Before => (Some("input_layernorm"), None, Some(AFTER), None),
        NormPlacement::After => (None, Some(AFTER), None, Some("post_feedforward_layernorm")),
        NormPlacement::Around => (
            Some("input_layernorm"),
            Some(AFTER),
            Some("pre_feedforward_layernorm"),
            Some("post_feedforward_layernorm"),
        ),
    };
    NormNames { input, attention, inner, mlp }
}

/// Returns the widths of the norms of queries and keys, if there are any.
pub(super) fn head_norm_widths(config: &Config) -> Option<(usize, usize)> {
    match config.variant.query_key_norm {
        QueryKeyNorm::None => None,
        QueryKeyNorm::Head => Some((config.head_dim, config.head_dim)),
        QueryKeyNorm::Whole => Some((config.heads * config.head_dim, config.kv_heads * config.head_dim)),
    }
}

/// Returns whether a tensor is the weight of a linear module of a layer, as which quantized formats store it.
pub(super) fn is_linear(name: &str) -> bool {
    name.starts_with("model.layers.") && name.ends_with("_proj.weight")
}

fn layer_specs(config: &Config, prefix: &str) -> Vec<TensorSpec> {
    let norms = norm_names(config);
    let mut specs = Vec::new();
    for name in [norms.input, norms.attention, norms.inner, norms.mlp].into_iter().flatten() {
        specs.push(spec(format!("{prefix}.{name}.weight"), &[config.hidden_size]));
    }
    if let Some((queries, keys)) = head_norm_widths(config) {
        specs.push(spec(format!("{prefix}.self_attn.q_norm.weight"), &[queries]));
        specs.push(spec(format!("{prefix}.self_attn.k_norm.weight"), &[keys]));
    }
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
