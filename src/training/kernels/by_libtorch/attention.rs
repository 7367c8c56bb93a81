//! Causal attention of packed sequences in LibTorch's operations, with one call per sequence: its shapes, and so its
//! bits, depend only on that sequence.
//!
//! LibTorch's fused kernels, which do not materialize the matrix of scores, are used if they exist: on a CPU, and on
//! CUDA in half precision. Elsewhere (CUDA in f32) plain products are used, for [`QUERY_BLOCK`] queries at a time. The
//! fused kernels on CUDA have been compiled and linked, but not run.

use tch::{Kind, TchError, Tensor};

use crate::training::kernels::native::flash;
use crate::training::kernels::native::kernels::{Heads, Sequences};
use crate::training::kernels::ops::plain;

type Result<T> = std::result::Result<T, TchError>;

/// Number of queries whose scores exist at the same time in plain products.
const QUERY_BLOCK: i64 = 128;

/// Rows of one sequence in a table.
#[derive(Clone, Copy)]
pub struct Sequence {
    /// First row.
    pub start: i64,
    /// Number of rows, at least 1.
    pub length: i64,
}

/// Implementations of attention.
enum Operations {
    FusedOnCpu,
    FusedOnCuda,
    Products,
}

impl Operations {
    /// Selects the implementation by device, type and sequence only, so that other jobs do not influence it.
    fn of(shape: &Heads, table: &Tensor, sequence: Sequence) -> Self {
        // No fused kernel bounds its scores.
        if shape.cap.is_some() {
            return Self::Products;
        }
        if table.device() == tch::Device::Cpu {
            return Self::FusedOnCpu;
        }
        if shape.scale.is_some() {
            return Self::Products;
        }
        let is_half = matches!(table.kind(), Kind::BFloat16 | Kind::Half);
        let is_width_served = shape.width.is_multiple_of(8) && shape.width <= 256;
        // For a single query that kernel treats the heads that share a key as queries, and may split its sums.
        if is_half && is_width_served && sequence.length > 1 { Self::FusedOnCuda } else { Self::Products }
    }
}

/// Writes the attention's result to `output` and returns the logarithms of the softmax's denominators of each sequence,
/// which [`backward`] reads.
pub fn forward(shape: &Heads, qkv: &Tensor, sequences: &Sequences, output: &Tensor) -> Result<Vec<Tensor>> {
    let mut sums = Vec::with_capacity(sequences.starts.len());
    for sequence in each(sequences) {
        sums.push(match Operations::of(shape, qkv, sequence) {
            Operations::FusedOnCpu => fused_forward_on_cpu(shape, qkv, sequence, output)?,
            Operations::FusedOnCuda => fused_forward_on_cuda(shape, qkv, sequence, output)?,
            Operations::Products => products_forward(shape, qkv, sequence, output)?,
        });
    }
    Ok(sums)
}

/// Tensors of the forward pass that the backward pass reads, and the gradient of the result.
pub struct Attended<'a> {
    /// Queries, keys and values.
    pub qkv: &'a Tensor,
    /// Result.
    pub output: &'a Tensor,
    /// Gradient of the result.
    pub d_output: &'a Tensor,
}

/// Writes the gradient of `qkv` to `d_qkv`.
pub fn backward(
    shape: &Heads,
    attended: &Attended,
    sums: &[Tensor],
    sequences: &Sequences,
    d_qkv: &Tensor,
) -> Result<()> {
    for (sequence, sum) in each(sequences).zip(sums) {
        match Operations::of(shape, attended.qkv, sequence) {
            Operations::FusedOnCpu => fused_backward_on_cpu(shape, attended, sum, sequence, d_qkv)?,
            Operations::FusedOnCuda => fused_backward_on_cuda(shape, attended, sum, sequence, d_qkv)?,
            Operations::Products => products_backward(shape, attended, sum, sequence, d_qkv)?,
        }
    }
    Ok(())
}

/// Iterates over the sequences.
fn each(sequences: &Sequences) -> impl Iterator<Item = Sequence> {
    sequences.starts.iter().zip(&sequences.lengths).map(|(&start, &length)| Sequence { start, length })
}

/// Does [`forward`] for one sequence with LibTorch's flash attention on a CPU.
fn fused_forward_on_cpu(shape: &Heads, qkv: &Tensor, sequence: Sequence, output: &Tensor) -> Result<Tensor> {
    let [q, k, v] = split(shape, qkv, sequence)?;
    let mask = window_mask(shape, sequence, qkv)?;
    let (result, sum) = Tensor::f_internal_scaled_dot_product_flash_attention_for_cpu(
        &batch_of_one(&q)?,
        &batch_of_one(&k)?,
        &batch_of_one(&v)?,
        0.0,
        mask.is_none(),
        mask.as_ref(),
        shape.scale,
    )?;
    batch_of_one(&heads(output, sequence, 0, shape.queries, shape.width)?)?.f_copy_(&result)?;
    Ok(sum)
}

/// Does [`backward`] for one sequence with LibTorch's flash attention on a CPU.
fn fused_backward_on_cpu(
    shape: &Heads,
    attended: &Attended,
    sum: &Tensor,
    sequence: Sequence,
    d_qkv: &Tensor,
) -> Result<()> {
    let [q, k, v] = split(shape, attended.qkv, sequence)?;
    let mask = window_mask(shape, sequence, attended.qkv)?;
    let output = heads(attended.output, sequence, 0, shape.queries, shape.width)?;
    let d_output = heads(attended.d_output, sequence, 0, shape.queries, shape.width)?;
    let (d_q, d_k, d_v) = Tensor::f_internal_scaled_dot_product_flash_attention_for_cpu_backward(
        &batch_of_one(&d_output)?,
        &batch_of_one(&q)?,
        &batch_of_one(&k)?,
        &batch_of_one(&v)?,
        &batch_of_one(&output)?,
        sum,
        0.0,
        mask.is_none(),
        mask.as_ref(),
        shape.scale,
    )?;
    for (part, gradient) in split(shape, d_qkv, sequence)?.iter().zip([d_q, d_k, d_v]) {
        batch_of_one(part)?.f_copy_(&gradient)?;
    }
    Ok(())
}

/// Returns heads `[rows, heads, width]` as a view `[1, heads, rows, width]`, the layout of the fused kernels on a CPU.
fn batch_of_one(heads: &Tensor) -> Result<Tensor> {
    heads.f_transpose(0, 1)?.f_unsqueeze(0)
}

/// Does [`forward`] for one sequence with the fused kernel on CUDA.
fn fused_forward_on_cuda(shape: &Heads, qkv: &Tensor, sequence: Sequence, output: &Tensor) -> Result<Tensor> {
    let [q, k, v] = split(shape, qkv, sequence)?;
    let bounds = bounds(sequence, qkv)?;
    let (result, sum) = flash::attend([&q, &k, &v], &bounds, sequence.length, older_keys(shape, sequence))?;
    heads(output, sequence, 0, shape.queries, shape.width)?.f_copy_(&result)?;
    Ok(sum)
}

/// Does [`backward`] for one sequence with the fused kernel on CUDA.
///
/// Since deterministic algorithms are enabled ([`crate::training::Switches`]), the kernel adds up the gradient of the
/// queries in a fixed order, in parts whose number depends on the GPU and the number of heads.
fn fused_backward_on_cuda(
    shape: &Heads,
    attended: &Attended,
    sum: &Tensor,
    sequence: Sequence,
    d_qkv: &Tensor,
) -> Result<()> {
    let [q, k, v] = split(shape, attended.qkv, sequence)?;
    let bounds = bounds(sequence, attended.qkv)?;
    let (d_q, d_k, d_v) = Tensor::f_internal_flash_attention_backward(
        &heads(attended.d_output, sequence, 0, shape.queries, shape.width)?,
        &q,
        &k,
        &v,
        &heads(attended.output, sequence, 0, shape.queries, shape.width)?,
        sum,
        &bounds,
        &bounds,
        sequence.length,
        sequence.length,
        0.0,
        true,
        // The state of a random generator, which is read only under dropout, so that any tensor will do.
        sum,
        sum,
        None,
        older_keys(shape, sequence),
        None,
    )?;
    for (mut part, gradient) in split(shape, d_qkv, sequence)?.into_iter().zip([d_q, d_k, d_v]) {
        part.f_copy_(&gradient)?;
    }
    Ok(())
}

/// Returns the bounds of the sequence in its own table, its first row and the first row after it, as the fused kernels
/// on CUDA read them. With bounds the kernels do not split sums over keys, as they may for one dense sequence. The
/// tensor is made on the device, since a copy from the host would synchronize.
fn bounds(sequence: Sequence, like: &Tensor) -> Result<Tensor> {
    Tensor::f_arange_start_step(0, 2 * sequence.length, sequence.length, (Kind::Int, like.device()))
}

/// Returns the number of keys before its own to which a query attends. `None` if no sliding window limits them.
fn older_keys(shape: &Heads, sequence: Sequence) -> Option<i64> {
    let window = shape.window? as i64;
    if window < sequence.length { Some(window - 1) } else { None }
}

/// Does [`forward`] for one sequence in plain products, on any device and in any type.
pub fn products_forward(shape: &Heads, qkv: &Tensor, sequence: Sequence, output: &Tensor) -> Result<Tensor> {
    let [q, k, v] = split(shape, qkv, sequence)?;
    let result = heads(output, sequence, 0, shape.queries, shape.width)?;
    let mut sums = Vec::new();
    for block in blocks_of(shape, sequence) {
        let scores = block.scores(shape, &block.queries(shape, &q)?, &block.keys(&k)?)?;
        // softmax(s) = exp(s - logsumexp(s)); the logarithms are saved for the backward pass.
        let sum = scores.f_logsumexp([-1i64].as_slice(), true)?;
        let powers = scores.f_sub(&sum)?.f_exp()?.f_to_kind(v.kind())?;
        block.write_queries(shape, &result, &powers.f_bmm(&block.keys(&v)?)?)?;
        sums.push(sum);
    }
    Tensor::f_cat(&sums, 1)
}

/// Does [`backward`] for one sequence in plain products.
pub fn products_backward(
    shape: &Heads,
    attended: &Attended,
    sums: &Tensor,
    sequence: Sequence,
    d_qkv: &Tensor,
) -> Result<()> {
    let [q, k, v] = split(shape, attended.qkv, sequence)?;
    let [d_q, mut d_k, mut d_v] = split(shape, d_qkv, sequence)?;
    let output = heads(attended.output, sequence, 0, shape.queries, shape.width)?;
    let d_output = heads(attended.d_output, sequence, 0, shape.queries, shape.width)?;
    let kind = q.kind();
    // The gradients of keys and values are sums over the blocks of queries, added in order in the wider type.
    let size = [shape.keys as i64, sequence.length, shape.width as i64];
    let sum_k = Tensor::f_zeros(size, (sums.kind(), q.device()))?;
    let sum_v = sum_k.f_zeros_like()?;
    for block in blocks_of(shape, sequence) {
        let q = block.queries(shape, &q)?;
        let result = block.queries(shape, &output)?;
        let d_result = block.queries(shape, &d_output)?;
        let k = block.keys(&k)?;
        let v = block.keys(&v)?;
        let scores = block.scores(shape, &q, &k)?;
        let powers = scores.f_sub(&block.of_sums(shape, sums)?)?.f_exp()?;
        // Derivative of the softmax: dS = P (dP - rowsum(P dP)), with rowsum(P dP) = rowsum(dO O).
        let d_powers = d_result.f_bmm(&v.f_transpose(1, 2)?)?.f_to_kind(powers.kind())?;
        let row_mean = d_result.f_mul(&result)?.f_to_kind(powers.kind())?;
        let row_mean = row_mean.f_sum_dim_intlist([-1i64].as_slice(), true, None::<Kind>)?;
        let mut d_scores = powers.f_mul(&d_powers.f_sub(&row_mean)?)?;
        if let Some(cap) = shape.cap {
            // Masked scores are minus infinity, where the bound's slope would be; their powers are 0.
            plain::soft_cap_backward_(&d_scores, &scores.f_clamp_min(-cap)?, cap)?;
        }
        d_scores = d_scores.f_mul_scalar(shape.scale())?.f_to_kind(kind)?;
        block.write_queries(shape, &d_q, &d_scores.f_bmm(&k)?)?;
        block.add_keys(&sum_k, &d_scores.f_transpose(1, 2)?.f_bmm(&q)?)?;
        block.add_keys(&sum_v, &powers.f_to_kind(kind)?.f_transpose(1, 2)?.f_bmm(&d_result)?)?;
    }
    d_k.f_copy_(&sum_k.f_transpose(0, 1)?)?;
    d_v.f_copy_(&sum_v.f_transpose(0, 1)?)?;
    Ok(())
}

/// Consecutive queries of a sequence, with the keys to which any of them attends.
struct Block {
    /// First query.
    first: i64,
    /// Number of queries.
    count: i64,
    /// First key.
    oldest: i64,
    window: i64,
}

/// Iterates over the blocks of a sequence in order.
fn blocks_of(shape: &Heads, sequence: Sequence) -> impl Iterator<Item = Block> {
    let length = sequence.length;
    let window = window(shape, sequence);
    (0..length).step_by(QUERY_BLOCK as usize).map(move |first| Block {
        first,
        count: QUERY_BLOCK.min(length - first),
        oldest: (first - window + 1).max(0),
        window,
    })
}

impl Block {
    /// Returns the number of keys.
    fn keys_seen(&self) -> i64 {
        self.first + self.count - self.oldest
    }

    /// Returns the queries of a table `[rows, heads, width]`, with those that share a key head one below the other, as
    /// a dense tensor `[kv_heads, group * count, width]`.
    fn queries(&self, shape: &Heads, table: &Tensor) -> Result<Tensor> {
        let of_heads = table.f_narrow(0, self.first, self.count)?.f_transpose(0, 1)?.f_contiguous()?;
        of_heads.f_view([shape.keys as i64, -1, shape.width as i64])
    }

    /// Writes a tensor in the layout of [`Self::queries`] to its rows of a table `[rows, heads, width]`.
    fn write_queries(&self, shape: &Heads, table: &Tensor, queries: &Tensor) -> Result<()> {
        let of_heads = queries.f_view([shape.queries as i64, self.count, shape.width as i64])?;
        table.f_narrow(0, self.first, self.count)?.f_copy_(&of_heads.f_transpose(0, 1)?)?;
        Ok(())
    }

    /// Returns the keys, or the values, of a table `[rows, kv_heads, width]` as a dense tensor `[kv_heads, keys,
    /// width]`.
    fn keys(&self, table: &Tensor) -> Result<Tensor> {
        table.f_narrow(0, self.oldest, self.keys_seen())?.f_transpose(0, 1)?.f_contiguous()
    }

    /// Adds a tensor in the layout of [`Self::keys`] to its part of a sum `[kv_heads, rows, width]`, in place.
    fn add_keys(&self, sum: &Tensor, keys: &Tensor) -> Result<()> {
        sum.f_narrow(1, self.oldest, self.keys_seen())?.f_add_(&keys.f_to_kind(sum.kind())?).map(drop)
    }

    /// Returns the block's part of the logarithms of all blocks, `[kv_heads, group * rows, 1]`.
    fn of_sums(&self, shape: &Heads, sums: &Tensor) -> Result<Tensor> {
        let group = (shape.queries / shape.keys) as i64;
        sums.f_narrow(1, group * self.first, group * self.count)
    }

    /// Computes scaled scores `[kv_heads, group * count, keys]` in f32 (f64 if q is), with minus infinity for masked
    /// keys.
    fn scores(&self, shape: &Heads, q: &Tensor, k: &Tensor) -> Result<Tensor> {
        let kind = if q.kind() == Kind::Double { Kind::Double } else { Kind::Float };
        let scores = q.f_bmm(&k.f_transpose(1, 2)?)?.f_to_kind(kind)?.f_mul_scalar(shape.scale())?;
        if let Some(cap) = shape.cap {
            plain::soft_cap_(&scores, cap)?;
        }
        let hidden = seen(self.count, self.keys_seen(), self.first - self.oldest, self.window, q)?.f_logical_not()?;
        let of_heads = scores.f_view([shape.queries as i64, self.count, self.keys_seen()])?;
        of_heads.f_masked_fill(&hidden, f64::NEG_INFINITY)?.f_view_as(&scores)
    }
}

/// Returns the number of keys to which a query attends at most, including its own.
fn window(shape: &Heads, sequence: Sequence) -> i64 {
    shape.window.map_or(sequence.length, |window| sequence.length.min(window as i64))
}

/// Returns a mask `[queries, keys]` of the keys to which each query attends, if the first query is at the position of
/// key `at`.
fn seen(queries: i64, keys: i64, at: i64, window: i64, like: &Tensor) -> Result<Tensor> {
    let past = Tensor::f_ones([queries, keys], (Kind::Bool, like.device()))?.f_tril(at)?;
    past.f_triu(at + 1 - window)
}

/// Returns q, k and v of one sequence, each `[rows, heads, width]`, as views.
fn split(shape: &Heads, qkv: &Tensor, sequence: Sequence) -> Result<[Tensor; 3]> {
    let width = shape.width;
    Ok([
        heads(qkv, sequence, 0, shape.queries, width)?,
        heads(qkv, sequence, shape.queries * width, shape.keys, width)?,
        heads(qkv, sequence, (shape.queries + shape.keys) * width, shape.keys, width)?,
    ])
}

/// Returns the heads of one sequence from a column on, `[rows, heads, width]`, as a view.
fn heads(table: &Tensor, sequence: Sequence, column: usize, heads: usize, width: usize) -> Result<Tensor> {
    table
        .f_narrow(0, sequence.start, sequence.length)?
        .f_narrow(1, column as i64, (heads * width) as i64)?
        .f_unflatten(1, [heads as i64, width as i64])
}

/// Returns an additive mask. `None` if the sliding window is not shorter than the sequence, so that attention is
/// plainly causal.
fn window_mask(shape: &Heads, sequence: Sequence, like: &Tensor) -> Result<Option<Tensor>> {
    let window = window(shape, sequence);
    let length = sequence.length;
    if window == length {
        return Ok(None);
    }
    let hidden = seen(length, length, 0, window, like)?.f_logical_not()?;
    let mask = Tensor::f_zeros([length, length], (like.kind(), like.device()))?;
    Ok(Some(mask.f_masked_fill(&hidden, f64::NEG_INFINITY)?))
}
