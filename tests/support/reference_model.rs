//! Reference implementation of the decoder through LibTorch's autograd, the oracle of the engine's explicit backward
//! pass. `fixtures/make` pretrains the tiny base model with it.

use std::collections::BTreeMap;

use fedreplay::model::{Activation, Config, NormPlacement, QueryKeyNorm, Rope, RotaryTables};
use tch::{Kind, TchError, Tensor};

type Result<T> = std::result::Result<T, TchError>;

/// Weights by their names in a Hugging Face folder.
pub type Weights = BTreeMap<String, Tensor>;

/// LoRA pairs by the path of their module: A, B and the scale of their product.
pub type Pairs = BTreeMap<String, (Tensor, Tensor, f64)>;

/// Decoder that autograd can differentiate.
pub struct ReferenceModel<'a> {
    /// Configuration.
    pub config: &'a Config,
    /// All weights.
    pub weights: &'a Weights,
    /// Adapted modules; empty if the weights themselves are trained.
    pub pairs: &'a Pairs,
}

impl ReferenceModel<'_> {
    /// Computes the logits `[batch, length, vocab]` of ids `[batch, length]`.
    pub fn logits(&self, ids: &Tensor) -> Result<Tensor> {
        let config = self.config;
        let variant = &config.variant;
        let length = ids.size()[1];
        let embedding = self.weight("model.embed_tokens.weight");
        let positions: Vec<i64> = (0..length).collect();
        let at = |rope: &Rope| rope.at(&positions, embedding.kind(), embedding.device());
        let global = at(&Rope::new(config))?;
        let tables = RotaryTables { global, local: Rope::local(config).as_ref().map(at).transpose()? };
        let mut x = Tensor::f_embedding(embedding, ids, -1, false, false)?;
        if variant.embedding_scale != 1.0 {
            x = x.f_mul_scalar(variant.embedding_scale)?;
        }
        let (input, attended, inner, result) = match variant.norms {
            NormPlacement::Before => (Some("input"), None, Some("post_attention"), None),
            NormPlacement::After => (None, Some("post_attention"), None, Some("post_feedforward")),
            NormPlacement::Around => {
                (Some("input"), Some("post_attention"), Some("pre_feedforward"), Some("post_feedforward"))
            }
        };
        for layer in 0..config.layers {
            let h = self.norm_if(&x, layer, input)?;
            let attention = self.norm_if(&self.attention(&h, layer, &tables)?, layer, attended)?;
            x = self.added(x, &attention)?;
            let h = self.norm_if(&x, layer, inner)?;
            let mlp = self.norm_if(&self.mlp(&h, layer)?, layer, result)?;
            x = self.added(x, &mlp)?;
        }
        let h = self.norm(&x, "model.norm.weight")?;
        let mut logits = h.f_matmul(&if config.tied { embedding } else { self.weight("lm_head.weight") }.f_tr()?)?;
        if variant.logit_scale != 1.0 {
            logits = logits.f_mul_scalar(variant.logit_scale)?;
        }
        capped(logits, variant.logit_cap)
    }

    /// Adds the result of attention or MLP to the residual stream.
    fn added(&self, x: Tensor, result: &Tensor) -> Result<Tensor> {
        match self.config.variant.residual_scale {
            1.0 => x.f_add(result),
            scale => x.f_add(&result.f_mul_scalar(scale)?),
        }
    }

    /// Applies a norm of a layer, if it has one.
    fn norm_if(&self, x: &Tensor, layer: usize, name: Option<&str>) -> Result<Tensor> {
        match name {
            Some(name) => self.norm(x, &format!("model.layers.{layer}.{name}_layernorm.weight")),
            None => Ok(x.shallow_clone()),
        }
    }

    /// Computes the MLP of a layer.
    fn mlp(&self, h: &Tensor, layer: usize) -> Result<Tensor> {
        let prefix = format!("model.layers.{layer}.mlp");
        let inner = self.config.intermediate_size as i64;
        let (gate, up) = if self.config.variant.fused {
            let both = self.linear(h, &format!("{prefix}.gate_up_proj"))?;
            (both.f_narrow(-1, 0, inner)?, both.f_narrow(-1, inner, inner)?)
        } else {
            (self.linear(h, &format!("{prefix}.gate_proj"))?, self.linear(h, &format!("{prefix}.up_proj"))?)
        };
        let gate = match self.config.variant.activation {
            Activation::Silu => gate.f_silu()?,
            Activation::GeluTanh => gate.f_gelu("tanh")?,
        };
        self.linear(&gate.f_mul(&up)?, &format!("{prefix}.down_proj"))
    }

    /// Returns a weight by its name.
    fn weight(&self, name: &str) -> &Tensor {
        self.weights.get(name).expect("the weights are those of the config")
    }

    /// Computes RMSNorm.
    fn norm(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let mean = x.f_square()?.f_mean_dim([-1i64].as_slice(), true, None::<Kind>)?;
        let unit = x.f_mul(&mean.f_add_scalar(self.config.rms_norm_eps)?.f_rsqrt()?)?;
        match self.config.variant.norms_from_one {
            false => unit.f_mul(self.weight(name)),
            true => unit.f_mul(&self.weight(name).f_add_scalar(1.0)?),
        }
    }

    /// Applies a linear module, with its LoRA pair if it has one: W x + b + s B A x.
    fn linear(&self, x: &Tensor, path: &str) -> Result<Tensor> {
        let bias = self.weights.get(&format!("{path}.bias"));
        let y = x.f_linear(self.weight(&format!("{path}.weight")), bias)?;
        match self.pairs.get(path) {
            None => Ok(y),
            Some((a, b, scale)) => y.f_add(&x.f_matmul(&a.f_tr()?)?.f_matmul(&b.f_tr()?)?.f_mul_scalar(*scale)?),
        }
    }

    /// Computes q, k and v of a layer, each `[batch, length, heads * head_dim]`.
    fn projections(&self, h: &Tensor, prefix: &str) -> Result<[Tensor; 3]> {
        let config = self.config;
        let queries = (config.heads * config.head_dim) as i64;
        let keys = (config.kv_heads * config.head_dim) as i64;
        if config.variant.fused {
            let all = self.linear(h, &format!("{prefix}.qkv_proj"))?;
            let part = |first, count| all.f_narrow(-1, first, count);
            return Ok([part(0, queries)?, part(queries, keys)?, part(queries + keys, keys)?]);
        }
        let [q, k, v] = ["q_proj", "k_proj", "v_proj"].map(|name| self.linear(h, &format!("{prefix}.{name}")));
        Ok([q?, k?, v?])
    }

    /// Splits a projection into heads, `[batch, heads, length, head_dim]`.
    fn split(&self, projection: &Tensor, heads: usize) -> Result<Tensor> {
        projection.f_unflatten(-1, [heads as i64, self.config.head_dim as i64])?.f_transpose(1, 2)
    }

    /// Splits queries or keys into heads, with their norm before or after.
    fn split_normed(&self, projection: &Tensor, heads: usize, norm: &str) -> Result<Tensor> {
        match self.config.variant.query_key_norm {
            QueryKeyNorm::None => self.split(projection, heads),
            QueryKeyNorm::Head => self.norm(&self.split(projection, heads)?, norm),
            QueryKeyNorm::Whole => self.split(&self.norm(projection, norm)?, heads),
        }
    }

    /// Computes causal attention of a layer, including its output module.
    fn attention(&self, h: &Tensor, layer: usize, tables: &RotaryTables) -> Result<Tensor> {
        let config = self.config;
        let prefix = format!("model.layers.{layer}.self_attn");
        let [q, k, v] = self.projections(h, &prefix)?;
        let mut q = self.split_normed(&q, config.heads, &format!("{prefix}.q_norm.weight"))?;
        let mut k = self.split_normed(&k, config.kv_heads, &format!("{prefix}.k_norm.weight"))?;
        if let Some(table) = config.rotary(layer) {
            q = rotated(&q, tables.of(table))?;
            k = rotated(&k, tables.of(table))?;
        }
        let v = self.split(&v, config.kv_heads)?;
        let result = match config.variant.attention_cap {
            Some(cap) => self.capped_attention(layer, &q, &k, &v, cap)?,
            None => {
                let mask = self.mask(layer, h.size()[1], h)?;
                let grouped = config.heads != config.kv_heads;
                let scale = config.variant.attention_scale;
                let is_causal = mask.is_none();
                Tensor::f_scaled_dot_product_attention(&q, &k, &v, mask.as_ref(), 0.0, is_causal, scale, grouped)?
            }
        };
        self.linear(&result.f_transpose(1, 2)?.f_flatten(2, 3)?, &format!("{prefix}.o_proj"))
    }

    /// Computes attention with bounded scores, `[batch, heads, length, head_dim]`.
    fn capped_attention(&self, layer: usize, q: &Tensor, k: &Tensor, v: &Tensor, cap: f64) -> Result<Tensor> {
        let config = self.config;
        let group = (config.heads / config.kv_heads) as i64;
        let scale = config.variant.attention_scale.unwrap_or(1.0 / (config.head_dim as f64).sqrt());
        let k = k.f_repeat_interleave_self_int(group, 1, None)?;
        let v = v.f_repeat_interleave_self_int(group, 1, None)?;
        let scores = capped(q.f_matmul(&k.f_transpose(2, 3)?)?.f_mul_scalar(scale)?, Some(cap))?;
        let length = q.size()[2];
        let all = Tensor::f_ones([length, length], (Kind::Bool, q.device()))?.f_tril(0)?;
        let seen = self.mask(layer, length, q)?.unwrap_or(all);
        let scores = scores.f_masked_fill(&seen.f_logical_not()?, f64::NEG_INFINITY)?;
        scores.f_softmax(-1, None::<Kind>)?.f_matmul(&v)
    }

    /// Returns the mask of a sliding window. `None` if the window is not shorter than the sequence.
    fn mask(&self, layer: usize, length: i64, like: &Tensor) -> Result<Option<Tensor>> {
        let Some(window) = self.config.window(layer).filter(|&window| (window as i64) < length) else {
            return Ok(None);
        };
        let ones = Tensor::f_ones([length, length], (Kind::Bool, like.device()))?;
        ones.f_tril(0)?.f_triu(1 - window as i64).map(Some)
    }
}

/// Bounds values softly: x becomes cap tanh(x / cap).
fn capped(x: Tensor, cap: Option<f64>) -> Result<Tensor> {
    match cap {
        Some(cap) => x.f_div_scalar(cap)?.f_tanh()?.f_mul_scalar(cap),
        None => Ok(x),
    }
}

/// Applies the rotary embedding to `[batch, heads, length, head_dim]`: element i is rotated with element i + half, where
/// half is the width of the tables, and elements beyond the two halves are left alone.
fn rotated(x: &Tensor, (cos, sin): (&Tensor, &Tensor)) -> Result<Tensor> {
    let half = cos.size()[1];
    let first = x.f_narrow(3, 0, half)?;
    let second = x.f_narrow(3, half, half)?;
    let turned_first = first.f_mul(cos)?.f_sub(&second.f_mul(sin)?)?;
    let turned_second = second.f_mul(cos)?.f_add(&first.f_mul(sin)?)?;
    let rest = x.f_narrow(3, 2 * half, x.size()[3] - 2 * half)?;
    Tensor::f_cat(&[turned_first, turned_second, rest], 3)
}
