//! Matrix products and elementwise operations of a decoder layer, with their derivatives.
//!
//! All are batch-invariant: the bits of a row depend on no other row. On a CPU in f32 and bf16 they are the program's own
//! kernels. On other devices, and as a reference in tests, they are LibTorch's operations.
//!
//! # Writes in place
//!
//! A `tch::Tensor` is a reference to memory that several tensors may share, and its methods change that memory through `&self`.
//! As in LibTorch, the name of a function that does so ends in `_`. It writes to its first argument or to `out`, often a view of
//! a wider table. The rule for all of [`training`](crate::training): nothing else reads that memory until the function has
//! returned, and none of the arguments that are read shares it. A saved activation that is overwritten is passed by value, since
//! it is read for the last time ([`swiglu_backward`]). Weights of the base model are never written to, which is why threads may
//! share them.

use tch::{Kind, TchError, Tensor};

use super::by_libtorch::blocks;
use super::native::kernels;
use crate::model::quantized::{Nf4, codebook};
use crate::model::{Activation, Held, Weight};

type Result<T> = std::result::Result<T, TchError>;

/// Returns the product of two matrices.
pub fn product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if !kernels::serve(a) {
        return blocks::product(a, b);
    }
    let out = Tensor::f_empty([a.size()[0], b.size()[1]], (a.kind(), a.device()))?;
    kernels::product_into_(a, b, &out, false);
    Ok(out)
}

/// Writes the product of two matrices to `out`, which may be a part of a wider table.
pub fn product_into_(out: &Tensor, a: &Tensor, b: &Tensor) -> Result<()> {
    if kernels::serve(a) {
        kernels::product_into_(a, b, out, false);
        return Ok(());
    }
    blocks::product_into_(out, a, b)
}

/// Adds the product of two matrices to `out`, which may be a part of a wider table. `out` may be in f32 if they are in bf16.
pub fn add_product_(out: &Tensor, a: &Tensor, b: &Tensor) -> Result<()> {
    if kernels::serve(a) {
        kernels::product_into_(a, b, out, true);
        return Ok(());
    }
    blocks::add_product_(out, a, b)
}

/// Adds the transpose of `a` times `b` to `out`: a sum over the rows of both, which belong to one job.
pub fn add_sum_over_rows_(out: &Tensor, a: &Tensor, b: &Tensor) -> Result<()> {
    if kernels::serve(a) {
        return add_product_(out, &a.f_tr()?, b);
    }
    blocks::add_sum_over_rows_(out, a, b)
}

/// Returns a weight as it is multiplied, `[out, in]`: a new tensor if it is stored in fewer bits.
pub fn expanded(weight: &Weight) -> Result<Tensor> {
    let (held, kind) = weight.held();
    match held {
        Held::Int8(int8) | Held::LlmInt8(int8) => {
            let out = Tensor::f_empty(int8.codes.size(), (kind, int8.codes.device()))?;
            if kernels::serve(&out) {
                kernels::expand_int8_into_(&out, &int8.codes, &int8.most.f_div_scalar(127.0)?);
                return Ok(out);
            }
        }
        Held::Nf4(parts) => {
            let [rows, columns] = [parts.iter().map(|part| part.shape()[0]).sum(), parts[0].shape()[1]];
            let out = Tensor::f_empty([rows, columns], (kind, parts[0].device()))?;
            if kernels::serve(&out) {
                expand_nf4_into_(&out, parts)?;
                return Ok(out);
            }
        }
        Held::Plain(_) => {}
    }
    weight.expanded()
}

/// Writes the expanded parts of a weight to `out`, one below the other.
fn expand_nf4_into_(out: &Tensor, parts: &[Nf4]) -> Result<()> {
    let mut first = 0;
    for part in parts {
        let (codes, maxima) = part.parts()?;
        let rows = part.shape()[0];
        kernels::expand_nf4_into_(&out.f_narrow(0, first, rows)?, &codes, &codebook(), &maxima);
        first += rows;
    }
    Ok(())
}

/// Computes RMSNorm (Zhang and Sennrich 2019). Returns the output and 1 / rms of each row `[rows, 1]` for the backward pass.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64, master: Kind) -> Result<(Tensor, Tensor)> {
    if kernels::serve(x) {
        return kernels::rms_norm(x, weight, eps);
    }
    plain::rms_norm(x, weight, eps, master)
}

/// Computes the derivative of [`rms_norm`] with respect to its input, plus `residual`.
pub fn rms_norm_backward(
    dy: &Tensor,
    x: &Tensor,
    inverse: &Tensor,
    weight: &Tensor,
    residual: &Tensor,
) -> Result<Tensor> {
    if kernels::serve(x) {
        return kernels::rms_norm_backward(dy, x, inverse, weight, residual);
    }
    plain::rms_norm_backward(dy, x, inverse, weight)?.f_add(residual)
}

/// Returns a dense copy of a table.
pub fn copied(table: &Tensor) -> Result<Tensor> {
    let mut copy = Tensor::f_empty(table.size(), (table.kind(), table.device()))?;
    copy.f_copy_(table)?;
    Ok(copy)
}

/// Computes act(gate) * up of `[rows, 2 inner]`, with gate in the first half of each row.
pub fn gated(activation: Activation, gate_up: &Tensor) -> Result<Tensor> {
    if kernels::serve(gate_up) { kernels::gated(activation, gate_up) } else { plain::gated(activation, gate_up) }
}

/// Computes the derivative of [`gated`] in the layout of its input. It may take the input's memory.
pub fn gated_backward_(activation: Activation, d_product: &Tensor, gate_up: Tensor) -> Result<Tensor> {
    if kernels::serve(&gate_up) {
        kernels::gated_backward_(activation, d_product, &gate_up);
        return Ok(gate_up);
    }
    plain::gated_backward_(activation, d_product, &gate_up)
}

/// Bounds values softly, in place: x becomes cap tanh(x / cap).
pub fn soft_cap_(x: &Tensor, cap: f64) -> Result<()> {
    if kernels::serve(x) {
        kernels::soft_cap_(x, cap);
        return Ok(());
    }
    plain::soft_cap_(x, cap)
}

/// Turns the gradient at the results of [`soft_cap_`] into that at its input, in place.
pub fn soft_cap_backward_(gradient: &Tensor, capped: &Tensor, cap: f64) -> Result<()> {
    if kernels::serve(gradient) {
        kernels::soft_cap_backward_(gradient, capped, cap);
        return Ok(());
    }
    plain::soft_cap_backward_(gradient, capped, cap)
}

/// Rotates the first `heads` heads of each row of `x` in place (RoPE, Su et al. 2021); the tables are `[rows, rotated / 2]`.
///
/// Only the first `rotated` elements of a head are rotated, which is all of them in most models. Pairs are those of
/// Transformers: element i with element i + rotated / 2. `backwards` rotates the other way, which is the derivative.
pub fn rotate_(
    x: &Tensor,
    heads: usize,
    head_width: usize,
    (cos, sin): (&Tensor, &Tensor),
    backwards: bool,
) -> Result<()> {
    if kernels::serve(x) {
        kernels::rotate_(x, heads, head_width, cos, sin, backwards);
        return Ok(());
    }
    plain::rotate_(x, heads, head_width, (cos, sin), backwards)
}

/// Returns the cross-entropy of each row of `logits` [nat]. With `weights`, the logits become the gradient of the weighted sum.
pub fn cross_entropy(logits: &mut Tensor, labels: &Tensor, weights: Option<&Tensor>, master: Kind) -> Result<Vec<f64>> {
    if kernels::serve(logits) {
        return kernels::cross_entropy(logits, labels, weights);
    }
    plain::cross_entropy(logits, labels, weights, master)
}

/// The same operations in LibTorch's, on any device and in any type.
pub mod plain {
    use super::*;

    /// As in Transformers, the normalized row is rounded to the activations' type before the weight is applied.
    pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64, master: Kind) -> Result<(Tensor, Tensor)> {
        let wide = x.f_to_kind(master)?;
        let mean = blocks::row_means(&wide.f_square()?)?;
        let inverse = mean.f_add_scalar(eps)?.f_rsqrt()?;
        let y = wide.f_mul(&inverse)?.f_to_kind(x.kind())?.f_mul(weight)?;
        Ok((y, inverse))
    }

    pub fn rms_norm_backward(dy: &Tensor, x: &Tensor, inverse: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let master = inverse.kind();
        let scaled = dy.f_mul(weight)?.f_to_kind(master)?;
        let unit = x.f_to_kind(master)?.f_mul(inverse)?;
        let along = blocks::row_means(&scaled.f_mul(&unit)?)?;
        scaled.f_sub(&unit.f_mul(&along)?)?.f_mul(inverse)?.f_to_kind(x.kind())
    }

    pub fn gated(activation: Activation, gate_up: &Tensor) -> Result<Tensor> {
        let inner = gate_up.size()[1] / 2;
        activated(activation, &gate_up.f_narrow(1, 0, inner)?)?.f_mul(&gate_up.f_narrow(1, inner, inner)?)
    }

    pub fn gated_backward_(activation: Activation, d_product: &Tensor, gate_up: &Tensor) -> Result<Tensor> {
        let inner = gate_up.size()[1] / 2;
        let gate = gate_up.f_narrow(1, 0, inner)?;
        let up = gate_up.f_narrow(1, inner, inner)?;
        let d_activated = d_product.f_mul(&up)?;
        let d_gate = match activation {
            Activation::Silu => gate.f_silu_backward(&d_activated)?,
            Activation::GeluTanh => gate.f_gelu_backward(&d_activated, "tanh")?,
        };
        Tensor::f_cat(&[d_gate, d_product.f_mul(&activated(activation, &gate)?)?], 1)
    }

    fn activated(activation: Activation, gate: &Tensor) -> Result<Tensor> {
        match activation {
            Activation::Silu => gate.f_silu(),
            Activation::GeluTanh => gate.f_gelu("tanh"),
        }
    }

    pub fn soft_cap_(x: &Tensor, cap: f64) -> Result<()> {
        let _ = x.shallow_clone().f_div_scalar_(cap)?.f_tanh_()?.f_mul_scalar_(cap)?;
        Ok(())
    }

    pub fn soft_cap_backward_(gradient: &Tensor, capped: &Tensor, cap: f64) -> Result<()> {
        let slope = capped.f_div_scalar(cap)?.f_square()?.f_neg()?.f_add_scalar(1.0)?;
        let _ = gradient.shallow_clone().f_mul_(&slope)?;
        Ok(())
    }

    pub fn rotate_(
        x: &Tensor,
        heads: usize,
        head_width: usize,
        (cos, sin): (&Tensor, &Tensor),
        backwards: bool,
    ) -> Result<()> {
        let half = cos.size()[1];
        let size = [heads as i64, head_width as i64];
        let heads = x.f_narrow(1, 0, size[0] * size[1])?.f_unflatten(1, size)?;
        let cos = cos.f_to_kind(x.kind())?.f_unsqueeze(1)?;
        let mut sin = sin.f_to_kind(x.kind())?.f_unsqueeze(1)?;
        if backwards {
            sin = sin.f_neg()?;
        }
        let mut first = heads.f_narrow(2, 0, half)?;
        let mut second = heads.f_narrow(2, half, half)?;
        // Both halves are computed before either is written.
        let turned_first = first.f_mul(&cos)?.f_sub(&second.f_mul(&sin)?)?;
        let turned_second = second.f_mul(&cos)?.f_add(&first.f_mul(&sin)?)?;
        first.f_copy_(&turned_first)?;
        second.f_copy_(&turned_second)?;
        Ok(())
    }

    pub fn cross_entropy(
        logits: &mut Tensor,
        labels: &Tensor,
        weights: Option<&Tensor>,
        master: Kind,
    ) -> Result<Vec<f64>> {
        let labels = labels.f_unsqueeze(1)?;
        let log = logits.f_to_kind(master)?.f_log_softmax(-1, None::<Kind>)?;
        let found = log.f_gather(1, &labels, false)?.f_neg()?.f_squeeze_dim(1)?;
        if let Some(weights) = weights {
            // weight * (softmax - one-hot), written over the logits.
            let mut gradient = log.f_exp()?;
            let at_label = gradient.f_gather(1, &labels, false)?.f_sub_scalar(1.0)?;
            let _ = gradient.f_scatter_(1, &labels, &at_label)?;
            let _ = gradient.f_mul_(&weights.f_unsqueeze(1)?)?;
            logits.f_copy_(&gradient)?;
        }
        Vec::<f64>::try_from(found.f_to_kind(Kind::Double)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every element is one chain of fused multiply-adds, whatever the strides, the shape and the place in a wider table.
    #[test]
    fn a_product_is_a_chain_of_fused_multiply_adds() {
        check_chains(Kind::Float, |inner| (0..inner).collect());
    }

    /// In bf16 the chain takes two inner indices at a time, the higher one first, and is rounded at its end.
    #[test]
    fn a_product_of_bf16_is_a_chain_in_f32_that_is_rounded_once() {
        check_chains(Kind::BFloat16, |inner| {
            let pairs = (0..inner).step_by(2);
            pairs.flat_map(|first| (first..inner.min(first + 2)).rev()).collect()
        });
    }

    fn check_chains(kind: Kind, order: impl Fn(i64) -> Vec<i64>) {
        for (rows, inner, columns) in [(1, 1, 1), (16, 7, 33), (13, 200, 16), (50, 1025, 70), (500, 130, 9)] {
            let (a, b) = (values(rows, inner, 2.0).to_kind(kind), values(inner, columns, 3.0).to_kind(kind));
            let start = values(rows, columns + 5, 1.0).to_kind(kind);
            let order = order(inner);
            let rounded = |sum: f32| Tensor::from(sum).to_kind(kind).double_value(&[]) as f32;
            let chain = |i: i64, j: i64, from: f32| {
                let at = |t: &Tensor, i, j| t.double_value(&[i, j]) as f32;
                rounded(order.iter().fold(from, |sum, &k| at(&a, i, k).mul_add(at(&b, k, j), sum)))
            };
            let turned = |t: &Tensor| t.tr().contiguous().tr();
            for (a, b) in
                [(a.copy(), b.copy()), (turned(&a), b.copy()), (a.copy(), turned(&b)), (turned(&a), turned(&b))]
            {
                let out = product(&a, &b).unwrap();
                let table = start.copy();
                add_product_(&table.narrow(1, 2, columns), &a, &b).unwrap();
                for (i, j) in (0..rows).step_by(7).flat_map(|i| (0..columns).step_by(4).map(move |j| (i, j))) {
                    check_element(kind, out.double_value(&[i, j]) as f32, chain(i, j, 0.0));
                    let before = start.double_value(&[i, j + 2]) as f32;
                    check_element(kind, table.double_value(&[i, j + 2]) as f32, chain(i, j, before));
                }
                for outside in [0, 1, columns + 2, columns + 4] {
                    assert_eq!(table.select(1, outside), start.select(1, outside));
                }
            }
        }
    }

    /// Equal bits, but where the processor's own products of bf16 pairs are used: those follow its maker's documentation.
    fn check_element(kind: Kind, found: f32, expected: f32) {
        if kind == Kind::BFloat16 && kernels::use_bf16_pairs() {
            assert!((found - expected).abs() <= expected.abs() / 128.0 + 1e-6, "{found} for {expected}");
            return;
        }
        assert_eq!(found, expected);
    }

    /// Products large enough to be shared, by rows and by columns, whole and in a wider table.
    #[test]
    fn no_kernel_depends_on_the_number_of_threads() {
        let labels = Tensor::arange(300, (Kind::Int64, tch::Device::Cpu));
        let computed = |threads: i32| {
            tch::set_num_threads(threads);
            let mut all = Vec::new();
            for kind in [Kind::Float, Kind::BFloat16] {
                for (rows, inner, columns) in [(300, 900, 40), (64, 300, 1100), (500, 130, 999), (700, 512, 16)] {
                    let (a, b) = (values(rows, inner, 2.0).to_kind(kind), values(inner, columns, 3.0).to_kind(kind));
                    let table = values(rows, columns + 5, 1.0).to_kind(kind);
                    add_product_(&table.narrow(1, 2, columns), &a, &b).unwrap();
                    all.extend([product(&a, &b).unwrap(), table]);
                }
                let [x, dy] = [3.0, 2.0].map(|spread| values(300, 1034, spread).to_kind(kind));
                let weight = values(1, 1034, 1.0).squeeze_dim(0).to_kind(kind);
                let (y, inverse) = rms_norm(&x, &weight, 1e-5, Kind::Float).unwrap();
                let dx = rms_norm_backward(&dy, &x, &inverse, &weight, &dy).unwrap();
                let product = gated(Activation::GeluTanh, &x).unwrap();
                let d_gate_up = gated_backward_(Activation::GeluTanh, &product, dy.copy()).unwrap();
                let mut logits = x.copy();
                let weights = values(1, 300, 1.0).squeeze_dim(0);
                let nats = cross_entropy(&mut logits, &labels, Some(&weights), Kind::Float).unwrap();
                all.extend([y, inverse, dx, product, d_gate_up, logits, Tensor::from_slice(&nats)]);
            }
            all
        };
        let alone = computed(1);
        for threads in 2..=4 {
            for (index, (one, several)) in alone.iter().zip(computed(threads)).enumerate() {
                assert_eq!(*one, several, "result {index} on {threads} threads");
            }
        }
        tch::set_num_threads(1);
    }

    /// Values that differ from row to row, in a width that is no multiple of eight.
    fn values(rows: i64, width: i64, spread: f64) -> Tensor {
        let flat: Vec<f32> =
            (0..rows * width).map(|n| ((n * 7919 % 1013) as f64 / 1013.0 - 0.5) as f32 * spread as f32).collect();
        Tensor::from_slice(&flat).view([rows, width])
    }

    fn assert_close(found: &Tensor, expected: &Tensor, tolerance: f64) {
        let expected = expected.to_kind(Kind::Double);
        let apart = f64::try_from((found.to_kind(Kind::Double) - &expected).abs().max()).unwrap();
        let most = f64::try_from(expected.abs().max()).unwrap();
        assert!(apart <= tolerance * most, "{apart} apart where the largest is {most}");
    }

    /// Runs `check` in f32 with a tight and in bf16 with a loose tolerance.
    fn both_kinds(check: impl Fn(Kind, f64)) {
        check(Kind::Float, 2e-6);
        check(Kind::BFloat16, 2e-2);
    }

    #[test]
    fn rms_norm_and_its_derivative_agree_with_libtorch() {
        both_kinds(|kind, tolerance| {
            let [x, dy, residual] = [3.0, 2.0, 1.0].map(|spread| values(5, 77, spread).to_kind(kind));
            let weight = (values(1, 77, 1.0).squeeze_dim(0) + 1.0).to_kind(kind);
            let (y, inverse) = rms_norm(&x, &weight, 1e-5, Kind::Float).unwrap();
            let (plain_y, plain_inverse) = plain::rms_norm(&x, &weight, 1e-5, Kind::Float).unwrap();
            assert_close(&y, &plain_y, tolerance);
            assert_close(&inverse, &plain_inverse, 2e-6);
            let dx = rms_norm_backward(&dy, &x, &inverse, &weight, &residual).unwrap();
            let plain_dx = plain::rms_norm_backward(&dy, &x, &inverse, &weight).unwrap() + &residual;
            assert_close(&dx, &plain_dx, tolerance);
        });
    }

    #[test]
    fn gated_products_and_their_derivatives_agree_with_libtorch() {
        for activation in [Activation::Silu, Activation::GeluTanh] {
            both_kinds(|kind, tolerance| {
                let gate_up = values(6, 2 * 43, 12.0).to_kind(kind);
                let d = values(6, 43, 2.0).to_kind(kind);
                let product = gated(activation, &gate_up).unwrap();
                assert_close(&product, &plain::gated(activation, &gate_up).unwrap(), tolerance);
                let plain = plain::gated_backward_(activation, &d, &gate_up).unwrap();
                assert_close(&gated_backward_(activation, &d, gate_up).unwrap(), &plain, tolerance);
            });
        }
    }

    #[test]
    fn a_soft_cap_and_its_derivative_agree_with_libtorch() {
        both_kinds(|kind, tolerance| {
            for spread in [0.1, 1.0, 400.0] {
                let start = values(5, 77, spread).to_kind(kind);
                let d = values(5, 77, 2.0).to_kind(kind);
                let (own, plain) = (start.copy(), start.copy());
                soft_cap_(&own, 3.0).unwrap();
                plain::soft_cap_(&plain, 3.0).unwrap();
                assert_close(&own, &plain, tolerance);
                // LibTorch's slope of a saturated bound has few digits in bf16: 1 minus almost 1.
                if kind == Kind::BFloat16 && spread > 1.0 {
                    continue;
                }
                let (own_d, plain_d) = (d.copy(), d.copy());
                soft_cap_backward_(&own_d, &own, 3.0).unwrap();
                plain::soft_cap_backward_(&plain_d, &own, 3.0).unwrap();
                assert_close(&own_d, &plain_d, tolerance);
            }
        });
    }

    #[test]
    fn rotation_agrees_with_libtorch_and_turns_back() {
        both_kinds(|kind, tolerance| {
            let angles = values(4, 6, 50.0);
            let (cos, sin) = (angles.cos(), angles.sin());
            let start = values(4, 5 * 12, 2.0).to_kind(kind);
            let (own, plain) = (start.copy(), start.copy());
            rotate_(&own, 4, 12, (&cos, &sin), false).unwrap();
            plain::rotate_(&plain, 4, 12, (&cos, &sin), false).unwrap();
            assert_close(&own, &plain, tolerance);
            assert_eq!(own.narrow(1, 48, 12), start.narrow(1, 48, 12), "the fifth head is left alone");
            rotate_(&own, 4, 12, (&cos, &sin), true).unwrap();
            assert_close(&own, &start, tolerance);
            // Three heads of 20, of which 12 elements turn.
            let (own, plain) = (start.copy(), start.copy());
            rotate_(&own, 3, 20, (&cos, &sin), false).unwrap();
            plain::rotate_(&plain, 3, 20, (&cos, &sin), false).unwrap();
            assert_close(&own, &plain, tolerance);
            assert_eq!(own.narrow(1, 12, 8), start.narrow(1, 12, 8), "the end of a head is left alone");
        });
    }

    #[test]
    fn cross_entropy_and_its_gradient_agree_with_libtorch() {
        both_kinds(|kind, tolerance| {
            let logits = values(7, 131, 30.0).to_kind(kind);
            let labels = Tensor::from_slice(&[0i64, 130, 5, 7, 8, 64, 129]);
            let weights = Tensor::from_slice(&[1.0f32, 0.5, 0.25, 0.0, 2.0, 1.0, -1.0]);
            let (mut own, mut plain) = (logits.copy(), logits.copy());
            let nats = cross_entropy(&mut own, &labels, Some(&weights), Kind::Float).unwrap();
            let expected = plain::cross_entropy(&mut plain, &labels, Some(&weights), Kind::Float).unwrap();
            assert!(nats.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 2e-6 * b.abs().max(1.0)));
            assert_close(&own, &plain, tolerance);
            let mut untouched = logits.copy();
            assert_eq!(cross_entropy(&mut untouched, &labels, None, Kind::Float).unwrap(), nats);
            assert_eq!(untouched, logits);
        });
    }

    #[test]
    fn a_number_that_is_not_finite_is_passed_on() {
        let labels = Tensor::from_slice(&[0i64, 3]);
        for bad in [f32::NAN, f32::INFINITY] {
            let mut logits = values(2, 20, 1.0);
            let _ = logits.get(1).get(9).fill_(f64::from(bad));
            let nats = cross_entropy(&mut logits, &labels, None, Kind::Float).unwrap();
            assert!(nats[0].is_finite() && !nats[1].is_finite());
        }
    }
}
