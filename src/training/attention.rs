//! Causal attention of packed sequences, forward and backward. No sequence sees another.

use tch::{Kind, TchError, Tensor};

use super::pack::Run;
use crate::model::Config;

type Result<T> = std::result::Result<T, TchError>;

/// The attention's result `[rows, heads * head_dim]` (padding rows zero), and per run what the backward pass needs.
pub fn forward(config: &Config, qkv: &Tensor, runs: &[Run]) -> Result<(Tensor, Vec<Tensor>)> {
    let output =
        qkv.f_new_zeros([qkv.size()[0], (config.heads * config.head_dim) as i64], (qkv.kind(), qkv.device()))?;
    let mut sums = Vec::with_capacity(runs.len());
    for run in runs {
        let [q, k, v] = split(config, qkv, run)?;
        let mask = window_mask(config, run, qkv)?;
        let (result, sum) = Tensor::f_internal_scaled_dot_product_flash_attention_for_cpu(
            &q,
            &k,
            &v,
            0.0,
            mask.is_none(),
            mask.as_ref(),
            None,
        )?;
        heads(&output, run, 0, config.heads, config.head_dim)?.f_copy_(&result)?;
        sums.push(sum);
    }
    Ok((output, sums))
}

/// The gradient of `qkv` from that of the result; padding rows are zero.
pub fn backward(
    config: &Config,
    qkv: &Tensor,
    output: &Tensor,
    sums: &[Tensor],
    d_output: &Tensor,
    runs: &[Run],
) -> Result<Tensor> {
    let d_qkv = qkv.f_zeros_like()?;
    for (run, sum) in runs.iter().zip(sums) {
        let [q, k, v] = split(config, qkv, run)?;
        let mask = window_mask(config, run, qkv)?;
        let whole = |tensor: &Tensor| heads(tensor, run, 0, config.heads, config.head_dim);
        let (d_q, d_k, d_v) = Tensor::f_internal_scaled_dot_product_flash_attention_for_cpu_backward(
            &whole(d_output)?,
            &q,
            &k,
            &v,
            &whole(output)?,
            sum,
            0.0,
            mask.is_none(),
            mask.as_ref(),
            None,
        )?;
        let parts = split(config, &d_qkv, run)?;
        for (mut part, gradient) in parts.into_iter().zip([d_q, d_k, d_v]) {
            part.f_copy_(&gradient)?;
        }
    }
    Ok(d_qkv)
}

/// q, k and v of one run, each `[count, heads, length, head_dim]`, as views.
fn split(config: &Config, qkv: &Tensor, run: &Run) -> Result<[Tensor; 3]> {
    let (heads_q, heads_kv, width) = (config.heads, config.kv_heads, config.head_dim);
    Ok([
        heads(qkv, run, 0, heads_q, width)?,
        heads(qkv, run, heads_q * width, heads_kv, width)?,
        heads(qkv, run, (heads_q + heads_kv) * width, heads_kv, width)?,
    ])
}

fn heads(rows: &Tensor, run: &Run, column: usize, heads: usize, width: usize) -> Result<Tensor> {
    rows.f_narrow(0, run.start, run.count * run.length)?
        .f_narrow(1, column as i64, (heads * width) as i64)?
        .f_unflatten(1, [heads as i64, width as i64])?
        .f_unflatten(0, [run.count, run.length])?
        .f_transpose(1, 2)
}

/// An additive mask where the sliding window is shorter than the sequence; `None` where plain causal attention does.
fn window_mask(config: &Config, run: &Run, like: &Tensor) -> Result<Option<Tensor>> {
    let Some(window) = config.sliding_window.filter(|&window| (window as i64) < run.length) else {
        return Ok(None);
    };
    let seen = Tensor::f_ones([run.length, run.length], (Kind::Bool, like.device()))?;
    let seen = seen.f_tril(0)?.f_triu(1 - window as i64)?;
    let mask = Tensor::f_zeros([run.length, run.length], (like.kind(), like.device()))?;
    Ok(Some(mask.f_masked_fill(&seen.f_logical_not()?, f64::NEG_INFINITY)?))
}
