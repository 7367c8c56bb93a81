//! Reference implementation of the decoder through LibTorch's autograd, the oracle of the engine's explicit backward
//! pass. `fixtures/make` pretrains the tiny base model with it.

use std::collections::BTreeMap;

use fedreplay::model::{Config, Rope};
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
        let length = ids.size()[1];
        let embedding = self.weight("model.embed_tokens.weight");
        let positions: Vec<i64> = (0..length).collect();
        let (cos, sin) = Rope::new(config).at(&positions, embedding.kind(), embedding.device())?;
        let mut x = Tensor::f_embedding(embedding, ids, -1, false, false)?;
        for layer in 0..config.layers {
            let prefix = format!("model.layers.{layer}");
            let h = self.norm(&x, &format!("{prefix}.input_layernorm.weight"))?;
            x = x.f_add(&self.attention(&h, &prefix, &cos, &sin)?)?;
            let h = self.norm(&x, &format!("{prefix}.post_attention_layernorm.weight"))?;
            let gate = self.linear(&h, &format!("{prefix}.mlp.gate_proj"))?.f_silu()?;
            let product = gate.f_mul(&self.linear(&h, &format!("{prefix}.mlp.up_proj"))?)?;
            x = x.f_add(&self.linear(&product, &format!("{prefix}.mlp.down_proj"))?)?;
        }
        let h = self.norm(&x, "model.norm.weight")?;
        h.f_matmul(&if config.tied { embedding } else { self.weight("lm_head.weight") }.f_tr()?)
    }

    /// Returns a weight by its name.
    fn weight(&self, name: &str) -> &Tensor {
        self.weights.get(name).expect("the weights are those of the config")
    }

    /// Computes RMSNorm.
    fn norm(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let mean = x.f_square()?.f_mean_dim([-1i64].as_slice(), true, None::<Kind>)?;
        x.f_mul(&mean.f_add_scalar(self.config.rms_norm_eps)?.f_rsqrt()?)?.f_mul(self.weight(name))
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

    /// Applies a linear module and splits its output into heads, `[batch, heads, length, head_dim]`.
    fn project(&self, h: &Tensor, path: &str, heads: usize) -> Result<Tensor> {
        self.linear(h, path)?.f_unflatten(-1, [heads as i64, self.config.head_dim as i64])?.f_transpose(1, 2)
    }

    /// Computes causal attention of a layer, including its output module.
    fn attention(&self, h: &Tensor, prefix: &str, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
        let config = self.config;
        let q = self.project(h, &format!("{prefix}.self_attn.q_proj"), config.heads)?;
        let q = rotated(&q, cos, sin)?;
        let k = self.project(h, &format!("{prefix}.self_attn.k_proj"), config.kv_heads)?;
        let k = rotated(&k, cos, sin)?;
        let v = self.project(h, &format!("{prefix}.self_attn.v_proj"), config.kv_heads)?;
        let mask = self.mask(h.size()[1], h)?;
        let grouped = config.heads != config.kv_heads;
        let result =
            Tensor::f_scaled_dot_product_attention(&q, &k, &v, mask.as_ref(), 0.0, mask.is_none(), None, grouped)?;
        self.linear(&result.f_transpose(1, 2)?.f_flatten(2, 3)?, &format!("{prefix}.self_attn.o_proj"))
    }

    /// Returns the mask of a sliding window. `None` if the window is not shorter than the sequence.
    fn mask(&self, length: i64, like: &Tensor) -> Result<Option<Tensor>> {
        let Some(window) = self.config.sliding_window.filter(|&window| (window as i64) < length) else {
            return Ok(None);
        };
        let ones = Tensor::f_ones([length, length], (Kind::Bool, like.device()))?;
        ones.f_tril(0)?.f_triu(1 - window as i64).map(Some)
    }
}

/// Applies the rotary embedding to `[batch, heads, length, head_dim]`: element i is rotated with element i + head_dim /
/// 2.
fn rotated(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let half = cos.size()[1];
    let first = x.f_narrow(3, 0, half)?;
    let second = x.f_narrow(3, half, half)?;
    let turned_first = first.f_mul(cos)?.f_sub(&second.f_mul(sin)?)?;
    let turned_second = second.f_mul(cos)?.f_add(&first.f_mul(sin)?)?;
    Tensor::f_cat(&[turned_first, turned_second], 3)
}
