//! Causal attention of packed sequences, forward and backward. Sequences do not attend to each other.
//!
//! On a CPU in f32 and bf16 it is the program's own kernel, which skips the scores that the mask would hide. Elsewhere,
//! and as the reference in tests, it is LibTorch's.

use tch::{TchError, Tensor};

use super::by_libtorch::attention as by_libtorch;
use super::native::kernels::{self, Heads, Sequences};
use crate::model::Config;

type Result<T> = std::result::Result<T, TchError>;

/// Consecutive sequences of equal length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceGroup {
    /// First row.
    pub start: i64,
    /// Number of sequences.
    pub count: i64,
    /// Tokens of each sequence.
    pub length: i64,
}

/// Computes attention, `[rows, heads * head_dim]` with zeros in padding rows, and returns it with the logarithms of the
/// softmax's denominators, which the backward pass reads.
pub fn forward(heads: Heads, qkv: &Tensor, runs: &[SequenceGroup]) -> Result<(Tensor, Vec<Tensor>)> {
    let output = qkv.f_new_zeros([qkv.size()[0], (heads.queries * heads.width) as i64], (qkv.kind(), qkv.device()))?;
    if kernels::serve(qkv) {
        let sums = kernels::attend_into_(heads, &sequences(runs), qkv, &output)?;
        return Ok((output, vec![sums]));
    }
    let sums = by_libtorch::forward(&heads, qkv, &sequences(runs), &output)?;
    Ok((output, sums))
}

/// Computes the gradient of `qkv` from that of the result; padding rows are zero.
pub fn backward(
    heads: Heads,
    qkv: &Tensor,
    output: &Tensor,
    sums: &[Tensor],
    d_output: &Tensor,
    runs: &[SequenceGroup],
) -> Result<Tensor> {
    let d_qkv = qkv.f_zeros_like()?;
    if kernels::serve(qkv) {
        kernels::attend_backward_into_(heads, &sequences(runs), [qkv, output, &sums[0], d_output], &d_qkv);
        return Ok(d_qkv);
    }
    let attended = by_libtorch::Attended { qkv, output, d_output };
    by_libtorch::backward(&heads, &attended, sums, &sequences(runs), &d_qkv)?;
    Ok(d_qkv)
}

/// Returns the shape of the heads of a layer with this window.
pub fn heads_of(config: &Config, window: Option<usize>) -> Heads {
    Heads {
        queries: config.heads,
        keys: config.kv_heads,
        width: config.head_dim,
        window,
        scale: config.variant.attention_scale,
        cap: config.variant.attention_cap,
    }
}

/// Lists all sequences of the runs.
fn sequences(runs: &[SequenceGroup]) -> Sequences {
    let mut starts = Vec::new();
    let mut lengths = Vec::new();
    for run in runs {
        for n in 0..run.count {
            starts.push(run.start + n * run.length);
            lengths.push(run.length);
        }
    }
    Sequences { starts, lengths }
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;

    fn random(rows: i64, width: i64, scale: f64) -> Tensor {
        let flat: Vec<f32> =
            (0..rows * width).map(|n| (((n * n + 31 * n) % 1009) as f64 / 1009.0 - 0.5) as f32).collect();
        Tensor::from_slice(&flat).view([rows, width]) * scale
    }

    fn apart(found: &Tensor, expected: &Tensor) -> f64 {
        let expected = expected.to_kind(Kind::Double);
        let worst = f64::try_from((found.to_kind(Kind::Double) - &expected).abs().max()).unwrap();
        worst / f64::try_from(expected.abs().max()).unwrap()
    }

    /// The same in plain products, which serve a GPU in f32: sequences of less and of more than a block of queries.
    #[test]
    fn plain_products_agree_with_fused_kernels() {
        let runs = [(0, 3, 9), (27, 1, 300)].map(|(start, count, length)| SequenceGroup { start, count, length });
        let rows = 330;
        for (kv_heads, sliding_window) in [(4, None), (2, Some(6)), (1, Some(140)), (2, Some(500))] {
            let scale = sliding_window.map(|_| 0.3);
            let heads = Heads { queries: 4, keys: kv_heads, width: 8, window: sliding_window, scale, cap: None };
            let qkv = random(rows, ((4 + 2 * kv_heads) * 8) as i64, 4.0).to_kind(Kind::Double);
            let d_output = random(rows, 32, 1.0).to_kind(Kind::Double);
            let (expected, sums) = forward(heads, &qkv, &runs).unwrap();
            let expected_d = backward(heads, &qkv, &expected, &sums, &d_output, &runs).unwrap();
            for (kind, tolerance) in [(Kind::Double, 1e-12), (Kind::Float, 3e-6), (Kind::BFloat16, 2e-2)] {
                let (qkv, d_output) = (qkv.to_kind(kind), d_output.to_kind(kind));
                let (output, d_qkv) = (expected.zeros_like().to_kind(kind), qkv.zeros_like());
                let all = sequences(&runs);
                for (&start, &length) in all.starts.iter().zip(&all.lengths) {
                    let sequence = by_libtorch::Sequence { start, length };
                    let sums = by_libtorch::products_forward(&heads, &qkv, sequence, &output).unwrap();
                    let attended = by_libtorch::Attended { qkv: &qkv, output: &output, d_output: &d_output };
                    by_libtorch::products_backward(&heads, &attended, &sums, sequence, &d_qkv).unwrap();
                }
                assert!(apart(&output, &expected) < tolerance, "{kind:?} {kv_heads} {sliding_window:?}");
                assert!(apart(&d_qkv, &expected_d) < tolerance, "{kind:?} {kv_heads} {sliding_window:?}");
            }
        }
    }

    /// Lengths around the kernel's blocks, grouped heads, odd widths, and windows.
    #[test]
    fn the_kernel_agrees_with_libtorch() {
        let runs = [(0, 2, 1), (2, 1, 47), (49, 1, 48), (97, 2, 49), (195, 1, 130)];
        let runs = runs.map(|(start, count, length)| SequenceGroup { start, count, length });
        for (heads, kv_heads, head_dim, window, scale, cap) in [
            (4, 4, 32, None, None, None),
            (4, 2, 20, None, None, None),
            (3, 1, 64, Some(7), None, None),
            (2, 2, 12, Some(50), None, None),
            (2, 1, 16, None, Some(0.4), None),
            (2, 1, 20, Some(50), Some(0.5), Some(1.5)),
            (2, 2, 32, None, None, Some(4.0)),
        ] {
            let shape = Heads { queries: heads, keys: kv_heads, width: head_dim, window, scale, cap };
            let rows = 330;
            let qkv = random(rows, ((heads + 2 * kv_heads) * head_dim) as i64, 4.0);
            let d_output = random(rows, (heads * head_dim) as i64, 1.0);
            let (wide, wide_d) = (qkv.to_kind(Kind::Double), d_output.to_kind(Kind::Double));
            let (expected, expected_sums) = forward(shape, &wide, &runs).unwrap();
            let expected_d = backward(shape, &wide, &expected, &expected_sums, &wide_d, &runs).unwrap();
            for (kind, tolerance) in [(Kind::Float, 3e-6), (Kind::BFloat16, 2e-2)] {
                let (qkv, d_output) = (qkv.to_kind(kind), d_output.to_kind(kind));
                let (output, sums) = forward(shape, &qkv, &runs).unwrap();
                assert!(apart(&output, &expected) < tolerance, "{kind:?} {heads} {kv_heads} {head_dim}");
                let d_qkv = backward(shape, &qkv, &output, &sums, &d_output, &runs).unwrap();
                assert!(apart(&d_qkv, &expected_d) < tolerance, "{kind:?} {heads} {kv_heads} {head_dim}");
                let padding = d_qkv.narrow(0, 325, 5).abs().max();
                assert_eq!(f64::try_from(padding).unwrap(), 0.0, "padding has no gradient");
            }
        }
    }
}
