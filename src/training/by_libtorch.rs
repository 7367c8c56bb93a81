//! Causal attention of packed sequences in LibTorch's operations: its flash kernel on a CPU, plain products elsewhere.

use tch::{Kind, TchError, Tensor};

use super::pack::Run;
use crate::model::Config;

type Result<T> = std::result::Result<T, TchError>;

/// Writes the attention's result to `output` and returns the sums of each run.
pub fn forward(config: &Config, qkv: &Tensor, runs: &[Run], output: &Tensor) -> Result<Vec<Tensor>> {
    match qkv.device() {
        tch::Device::Cpu => flash_forward(config, qkv, runs, output),
        _ => products_forward(config, qkv, runs, output),
    }
}

fn flash_forward(config: &Config, qkv: &Tensor, runs: &[Run], output: &Tensor) -> Result<Vec<Tensor>> {
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
        heads(output, run, 0, config.heads, config.head_dim)?.f_copy_(&result)?;
        sums.push(sum);
    }
    Ok(sums)
}

/// Writes the gradient of `qkv` to `d_qkv`.
pub fn backward(
    config: &Config,
    qkv: &Tensor,
    output: &Tensor,
    sums: &[Tensor],
    d_output: &Tensor,
    runs: &[Run],
    d_qkv: &Tensor,
) -> Result<()> {
    match qkv.device() {
        tch::Device::Cpu => flash_backward(config, qkv, output, sums, d_output, runs, d_qkv),
        _ => products_backward(config, qkv, output, sums, d_output, runs, d_qkv),
    }
}

fn flash_backward(
    config: &Config,
    qkv: &Tensor,
    output: &Tensor,
    sums: &[Tensor],
    d_output: &Tensor,
    runs: &[Run],
    d_qkv: &Tensor,
) -> Result<()> {
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
        let parts = split(config, d_qkv, run)?;
        for (mut part, gradient) in parts.into_iter().zip([d_q, d_k, d_v]) {
            part.f_copy_(&gradient)?;
        }
    }
    Ok(())
}

/// [`forward`] in plain products: every score exists at once, on any device and in any type.
pub fn products_forward(config: &Config, qkv: &Tensor, runs: &[Run], output: &Tensor) -> Result<Vec<Tensor>> {
    let mut sums = Vec::with_capacity(runs.len());
    for run in runs {
        let [q, k, v] = split(config, qkv, run)?;
        let scores = scores(config, run, &q, &shared(config, &k)?)?;
        let sum = scores.f_logsumexp([-1i64].as_slice(), true)?;
        let powers = scores.f_sub(&sum)?.f_exp()?.f_to_kind(v.kind())?;
        heads(output, run, 0, config.heads, config.head_dim)?.f_copy_(&powers.f_matmul(&shared(config, &v)?)?)?;
        sums.push(sum);
    }
    Ok(sums)
}

/// [`backward`] in plain products.
pub fn products_backward(
    config: &Config,
    qkv: &Tensor,
    output: &Tensor,
    sums: &[Tensor],
    d_output: &Tensor,
    runs: &[Run],
    d_qkv: &Tensor,
) -> Result<()> {
    for (run, sum) in runs.iter().zip(sums) {
        let [q, k, v] = split(config, qkv, run)?;
        let (k, v) = (shared(config, &k)?, shared(config, &v)?);
        let whole = |tensor: &Tensor| heads(tensor, run, 0, config.heads, config.head_dim);
        let (result, d_result) = (whole(output)?, whole(d_output)?);
        let powers = scores(config, run, &q, &k)?.f_sub(sum)?.f_exp()?;
        let along =
            d_result.f_mul(&result)?.f_to_kind(powers.kind())?.f_sum_dim_intlist([-1i64].as_slice(), true, None)?;
        let d_powers = d_result.f_matmul(&v.f_transpose(2, 3)?)?.f_to_kind(powers.kind())?;
        let d_scores = powers.f_mul(&d_powers.f_sub(&along)?)?.f_mul_scalar(scale(config))?.f_to_kind(q.kind())?;
        let d_v = powers.f_to_kind(q.kind())?.f_transpose(2, 3)?.f_matmul(&d_result)?;
        let d_k = d_scores.f_transpose(2, 3)?.f_matmul(&q)?;
        let gradients = [d_scores.f_matmul(&k)?, gathered(config, &d_k)?, gathered(config, &d_v)?];
        for (mut part, gradient) in split(config, d_qkv, run)?.into_iter().zip(gradients) {
            part.f_copy_(&gradient)?;
        }
    }
    Ok(())
}

fn scale(config: &Config) -> f64 {
    1.0 / (config.head_dim as f64).sqrt()
}

/// Scaled scores `[count, heads, length, length]` in f32 (f64 where q is), minus infinity where a key is not seen.
fn scores(config: &Config, run: &Run, q: &Tensor, k: &Tensor) -> Result<Tensor> {
    let kind = if q.kind() == Kind::Double { Kind::Double } else { Kind::Float };
    let scores = q.f_matmul(&k.f_transpose(2, 3)?)?.f_to_kind(kind)?.f_mul_scalar(scale(config))?;
    let seen = seen(run, config.sliding_window.unwrap_or(usize::MAX), q)?;
    scores.f_masked_fill(&seen.f_logical_not()?, f64::NEG_INFINITY)
}

/// Keys or values with each head repeated for the query heads that share it.
fn shared(config: &Config, heads: &Tensor) -> Result<Tensor> {
    heads.f_repeat_interleave_self_int((config.heads / config.kv_heads) as i64, 1, None)
}

/// The sum over the query heads that share a key head.
fn gathered(config: &Config, heads: &Tensor) -> Result<Tensor> {
    let group = (config.heads / config.kv_heads) as i64;
    heads.f_unflatten(1, [config.kv_heads as i64, group])?.f_sum_dim_intlist([2i64].as_slice(), false, None)
}

/// Which keys each query sees, `[length, length]`.
fn seen(run: &Run, window: usize, like: &Tensor) -> Result<Tensor> {
    let past = Tensor::f_ones([run.length, run.length], (Kind::Bool, like.device()))?.f_tril(0)?;
    if window as u64 >= run.length as u64 { Ok(past) } else { past.f_triu(1 - window as i64) }
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
    let seen = seen(run, window, like)?;
    let mask = Tensor::f_zeros([run.length, run.length], (like.kind(), like.device()))?;
    Ok(Some(mask.f_masked_fill(&seen.f_logical_not()?, f64::NEG_INFINITY)?))
}
