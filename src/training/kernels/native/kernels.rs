//! The program's own CPU kernels behind safe functions: shapes and types are checked here, the work is in kernels.cpp.

use std::cell::Cell;
use std::ffi::c_int;
use std::sync::OnceLock;

use tch::{Kind, TchError, Tensor};

use crate::model::Activation;

type Result<T> = std::result::Result<T, TchError>;

/// An opaque `at::Tensor`.
#[repr(C)]
pub(super) struct At {
    _opaque: [u8; 0],
}

/// The constants of one AdamW step; the layout is that of `fedreplay::AdamW` in kernels.h.
#[repr(C)]
pub struct AdamW {
    /// Decay of the mean.
    pub beta1: f32,
    /// Decay of the mean square.
    pub beta2: f32,
    /// Added to the scaled root.
    pub eps: f32,
    /// Factor of mean / root.
    pub step: f32,
    /// Factor of the values.
    pub decay: f32,
    /// Factor of the root of the mean square.
    pub root_scale: f32,
    /// Whether the decay comes after the step.
    pub decay_last: c_int,
}

/// Shape that all heads of an attention share; the layout is that of `fedreplay::Shape` in attention.h.
#[repr(C)]
pub(super) struct Shape {
    heads: i64,
    kv_heads: i64,
    width: i64,
    window: i64,
    qkv_stride: i64,
    pub(super) out_stride: i64,
    scale: f32,
    cap: f32,
}

/// The heads of an attention, and how many keys a query sees where that is limited.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Query heads.
    pub queries: usize,
    /// Key and value heads.
    pub keys: usize,
    /// Width of a head.
    pub width: usize,
    /// Keys that a query sees, itself included.
    pub window: Option<usize>,
    /// Factor of the scores; `None` stands for 1 / sqrt(width).
    pub scale: Option<f64>,
    /// Bound of the scores: a scaled score s counts as cap tanh(s / cap).
    pub cap: Option<f64>,
}

impl Heads {
    /// Returns the factor of the scores.
    pub fn scale(&self) -> f64 {
        self.scale.unwrap_or_else(|| 1.0 / (self.width as f64).sqrt())
    }
}

unsafe extern "C" {
    fn fedreplay_product(a: *const At, b: *const At, out: *mut At, accumulate: c_int);
    fn fedreplay_uses_bf16_pairs() -> c_int;
    fn fedreplay_attend(
        shape: *const Shape,
        count: i64,
        starts: *const i64,
        lengths: *const i64,
        qkv: *const At,
        out: *mut At,
        sums: *mut At,
    );
    fn fedreplay_attend_backward(
        shape: *const Shape,
        count: i64,
        starts: *const i64,
        lengths: *const i64,
        qkv: *const At,
        out: *const At,
        sums: *const At,
        d_out: *const At,
        d_qkv: *mut At,
    );
    fn fedreplay_rms_norm(x: *const At, weight: *const At, eps: f64, y: *mut At, inverse: *mut At);
    fn fedreplay_rms_norm_backward(
        dy: *const At,
        x: *const At,
        inverse: *const At,
        weight: *const At,
        residual: *const At,
        dx: *mut At,
    );
    fn fedreplay_rotate(x: *mut At, cos: *const At, sin: *const At, sign: f64, heads: i64, width: i64);
    fn fedreplay_swiglu(gate_up: *const At, product: *mut At);
    fn fedreplay_swiglu_backward(gate_up: *mut At, d_product: *const At);
    fn fedreplay_geglu(gate_up: *const At, product: *mut At);
    fn fedreplay_geglu_backward(gate_up: *mut At, d_product: *const At);
    fn fedreplay_soft_cap(x: *mut At, cap: f64);
    fn fedreplay_soft_cap_backward(gradient: *mut At, capped: *const At, cap: f64);
    fn fedreplay_cross_entropy(logits: *mut At, labels: *const At, weights: *const At, nats: *mut At);
    fn fedreplay_expand_int8(codes: *const At, scales: *const At, out: *mut At);
    fn fedreplay_expand_nf4(codes: *const At, values: *const f32, maxima: *const At, out: *mut At);
    fn fedreplay_adamw(
        rule: *const AdamW,
        scale: f32,
        gradient: *const At,
        values: *mut At,
        mean: *mut At,
        square: *mut At,
    );
    fn fedreplay_sum_of_squares(values: *const At) -> f64;
}

thread_local! {
    /// Whether LibTorch's operations compute on this thread even what the kernels could.
    static LEFT_TO_LIBTORCH: Cell<bool> = const { Cell::new(false) };
}

/// Sets whether the calling thread leaves to LibTorch's operations what the kernels could compute. Returns what was set
/// before. A kernel that is called nonetheless panics.
pub fn leave_to_libtorch(leave: bool) -> bool {
    LEFT_TO_LIBTORCH.replace(leave)
}

/// Whether the kernels work on this tensor: on a CPU with AVX2 and FMA, in f32 or bf16, unless the thread leaves it to
/// LibTorch.
pub fn serve(tensor: &Tensor) -> bool {
    !LEFT_TO_LIBTORCH.get()
        && tensor.device() == tch::Device::Cpu
        && matches!(tensor.kind(), Kind::Float | Kind::BFloat16)
        && are_supported()
}

/// Whether the processor has AVX2 and FMA.
pub fn are_supported() -> bool {
    static AVX2: OnceLock<bool> = OnceLock::new();
    *AVX2.get_or_init(|| std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma"))
}

pub(super) fn read(tensor: &Tensor) -> *const At {
    tensor.as_ptr().cast()
}

pub(super) fn written(tensor: &Tensor) -> *mut At {
    tensor.as_ptr().cast_mut().cast()
}

/// Asserts what the kernels take for granted of a dense tensor.
pub(super) fn check(tensor: &Tensor, kind: Kind, shape: &[i64]) {
    assert_eq!(tensor.device(), tch::Device::Cpu, "a kernel was given a tensor of another device");
    assert_eq!(tensor.kind(), kind, "a kernel was given a tensor of another type");
    assert_eq!(tensor.size(), shape, "a kernel was given a tensor of another shape");
    assert!(tensor.is_contiguous(), "a kernel was given a tensor with gaps");
}

/// Asserts that a tensor is a dense table of f32 or bf16 and returns its type, rows and width.
fn table(tensor: &Tensor) -> (Kind, i64, i64) {
    assert!(serve(tensor), "a kernel was given a tensor that it does not serve");
    let (rows, width) = tensor.size2().expect("a table has two dimensions");
    check(tensor, tensor.kind(), &[rows, width]);
    (tensor.kind(), rows, width)
}

/// Writes a b to `out`, or adds it: matrices of any strides, `out` with dense rows. `a` and `b` have one type, f32 or bf16,
/// and `out` has theirs or f32. Each element is summed in f32 in the order of the inner index, and rounded once.
pub fn product_into_(a: &Tensor, b: &Tensor, out: &Tensor, accumulate: bool) {
    let (rows, inner) = matrix(a);
    let (depth, columns) = matrix(b);
    assert_eq!(a.kind(), b.kind(), "the matrices of a product have two types");
    assert_eq!(inner, depth, "the matrices of a product do not fit");
    assert_eq!(matrix(out), (rows, columns), "a product was to be written to a matrix of another shape");
    assert!(out.kind() == a.kind() || out.kind() == Kind::Float, "a product was to be written in another type");
    assert!(columns == 1 || out.stride()[1] == 1, "a product was to be written to rows with gaps");
    // SAFETY: all three were asserted to be f32 or bf16 matrices on the CPU whose types and shapes fit; elements are
    // addressed by strides.
    unsafe { fedreplay_product(read(a), read(b), written(out), accumulate.into()) };
}

/// Whether products of bf16 use the processor's own products of pairs, which take subnormal numbers for zero.
pub fn use_bf16_pairs() -> bool {
    // SAFETY: a plain call that reads the processor's features and a variable, once.
    unsafe { fedreplay_uses_bf16_pairs() != 0 }
}

pub(super) fn matrix(tensor: &Tensor) -> (i64, i64) {
    assert!(serve(tensor), "a product was asked of a tensor that is not served");
    tensor.size2().expect("a matrix has two dimensions")
}

/// First row and length of each sequence.
pub struct Sequences {
    /// First rows.
    pub starts: Vec<i64>,
    /// Lengths, at least 1.
    pub lengths: Vec<i64>,
}

impl Sequences {
    fn check(&self, rows: i64) {
        assert_eq!(self.starts.len(), self.lengths.len(), "every sequence has a start and a length");
        let inside = |(start, length): (&i64, &i64)| *start >= 0 && *length >= 1 && start + length <= rows;
        assert!(self.starts.iter().zip(&self.lengths).all(inside), "a sequence lies outside of its rows");
    }
}

pub(super) fn shape(heads: Heads, qkv: &Tensor) -> Shape {
    let Heads { queries, keys, width, window, scale, cap } = heads;
    let (_, _, stride) = table(qkv);
    assert_eq!(stride as usize, (queries + 2 * keys) * width, "a row holds all heads of q, k and v");
    assert!(queries % keys == 0, "every key head serves as many query heads");
    Shape {
        heads: queries as i64,
        kv_heads: keys as i64,
        width: width as i64,
        window: window.unwrap_or(0) as i64,
        qkv_stride: stride,
        out_stride: (queries * width) as i64,
        // The plain factor is computed in f32 throughout.
        scale: scale.map_or_else(|| 1.0 / (width as f32).sqrt(), |scale| scale as f32),
        cap: cap.unwrap_or(0.0) as f32,
    }
}

/// Attention of packed sequences: writes the result to `out` `[rows, queries * width]`, whose other rows stay as they
/// are, and returns the logarithms of the softmax's denominators `[rows, queries]`.
pub fn attend_into_(heads: Heads, sequences: &Sequences, qkv: &Tensor, out: &Tensor) -> Result<Tensor> {
    let shape = shape(heads, qkv);
    let rows = qkv.size()[0];
    check(out, qkv.kind(), &[rows, shape.out_stride]);
    sequences.check(rows);
    let sums = Tensor::f_empty([rows, shape.heads], (Kind::Float, tch::Device::Cpu))?;
    let count = sequences.starts.len() as i64;
    let (starts, lengths) = (sequences.starts.as_ptr(), sequences.lengths.as_ptr());
    // SAFETY: types, shapes and density were asserted above, the sequences lie inside of the rows, and both arrays have
    // `count` elements. Sequences and heads write to disjoint places.
    unsafe { fedreplay_attend(&shape, count, starts, lengths, read(qkv), written(out), written(&sums)) };
    Ok(sums)
}

/// The gradient of [`attend_into_`]: written to `d_qkv`, whose rows outside of the sequences stay as they are.
pub fn attend_backward_into_(
    heads: Heads,
    sequences: &Sequences,
    [qkv, out, sums, d_out]: [&Tensor; 4],
    d_qkv: &Tensor,
) {
    let shape = shape(heads, qkv);
    let rows = qkv.size()[0];
    check(d_qkv, qkv.kind(), &[rows, shape.qkv_stride]);
    [out, d_out].iter().for_each(|tensor| check(tensor, qkv.kind(), &[rows, shape.out_stride]));
    check(sums, Kind::Float, &[rows, shape.heads]);
    sequences.check(rows);
    let count = sequences.starts.len() as i64;
    let (starts, lengths) = (sequences.starts.as_ptr(), sequences.lengths.as_ptr());
    let (sums, d_out, d_qkv) = (read(sums), read(d_out), written(d_qkv));
    // SAFETY: as in `attend_into_`; in addition each key head's gradients are written by one call alone.
    unsafe {
        fedreplay_attend_backward(&shape, count, starts, lengths, read(qkv), read(out), sums, d_out, d_qkv);
    }
}

/// See [`crate::training::kernels::ops::rms_norm`].
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<(Tensor, Tensor)> {
    let (kind, rows, width) = table(x);
    check(weight, kind, &[width]);
    let (y, inverse) = (x.f_empty_like()?, Tensor::f_empty([rows, 1], (Kind::Float, tch::Device::Cpu))?);
    // SAFETY: types, shapes and density were asserted above; the results are new and of the shapes that are written.
    unsafe { fedreplay_rms_norm(read(x), read(weight), eps, written(&y), written(&inverse)) };
    Ok((y, inverse))
}

/// See [`crate::training::kernels::ops::rms_norm_backward`].
pub fn rms_norm_backward(
    dy: &Tensor,
    x: &Tensor,
    inverse: &Tensor,
    weight: &Tensor,
    residual: &Tensor,
) -> Result<Tensor> {
    let (kind, rows, width) = table(x);
    check(dy, kind, &[rows, width]);
    check(residual, kind, &[rows, width]);
    check(inverse, Kind::Float, &[rows, 1]);
    check(weight, kind, &[width]);
    let dx = x.f_empty_like()?;
    // SAFETY: types, shapes and density were asserted above; the result is new and of the shape of `x`.
    unsafe {
        fedreplay_rms_norm_backward(read(dy), read(x), read(inverse), read(weight), read(residual), written(&dx));
    }
    Ok(dx)
}

/// See [`crate::training::kernels::ops::rotate`].
pub fn rotate_(x: &Tensor, heads: usize, head_width: usize, cos: &Tensor, sin: &Tensor, backwards: bool) {
    let (_, rows, width) = table(x);
    let half = cos.size()[1];
    check(cos, Kind::Float, &[rows, half]);
    check(sin, Kind::Float, &[rows, half]);
    assert!(2 * half <= head_width as i64, "more of a head is to be turned than it has");
    assert!((heads * head_width) as i64 <= width, "more heads are to be turned than a row holds");
    let sign = if backwards { -1.0 } else { 1.0 };
    // SAFETY: types, shapes and density were asserted above; only the first `heads` heads of each row are touched.
    unsafe { fedreplay_rotate(written(x), read(cos), read(sin), sign, heads as i64, head_width as i64) };
}

/// See [`crate::training::kernels::ops::gated`].
pub fn gated(activation: Activation, gate_up: &Tensor) -> Result<Tensor> {
    let (kind, rows, width) = table(gate_up);
    assert!(width % 2 == 0, "gate and up are equally wide");
    let product = Tensor::f_empty([rows, width / 2], (kind, tch::Device::Cpu))?;
    // SAFETY: type and density were asserted above; the result is new and half as wide.
    unsafe {
        match activation {
            Activation::Silu => fedreplay_swiglu(read(gate_up), written(&product)),
            Activation::GeluTanh => fedreplay_geglu(read(gate_up), written(&product)),
        }
    }
    Ok(product)
}

/// See [`crate::training::kernels::ops::gated_backward`]: the derivative is written over gate and up.
pub fn gated_backward_(activation: Activation, d_product: &Tensor, gate_up: &Tensor) {
    let (kind, rows, width) = table(gate_up);
    assert!(width % 2 == 0, "gate and up are equally wide");
    check(d_product, kind, &[rows, width / 2]);
    // SAFETY: types, shapes and density were asserted above; every place is read before it is written.
    unsafe {
        match activation {
            Activation::Silu => fedreplay_swiglu_backward(written(gate_up), read(d_product)),
            Activation::GeluTanh => fedreplay_geglu_backward(written(gate_up), read(d_product)),
        }
    }
}

/// See [`crate::training::kernels::ops::soft_cap_`].
pub fn soft_cap_(x: &Tensor, cap: f64) {
    let _ = table(x);
    // SAFETY: type and density were asserted above; every place is read before it is written.
    unsafe { fedreplay_soft_cap(written(x), cap) };
}

/// See [`crate::training::kernels::ops::soft_cap_backward_`].
pub fn soft_cap_backward_(gradient: &Tensor, capped: &Tensor, cap: f64) {
    let (kind, rows, width) = table(gradient);
    check(capped, kind, &[rows, width]);
    // SAFETY: types, shapes and density were asserted above; every place is read before it is written.
    unsafe { fedreplay_soft_cap_backward(written(gradient), read(capped), cap) };
}

/// See [`crate::training::kernels::ops::cross_entropy`].
pub fn cross_entropy(logits: &mut Tensor, labels: &Tensor, weights: Option<&Tensor>) -> Result<Vec<f64>> {
    let (_, rows, width) = table(logits);
    check(labels, Kind::Int64, &[rows]);
    if let Some(weights) = weights {
        check(weights, Kind::Float, &[rows]);
    }
    let smallest = i64::try_from(labels.f_min()?)?;
    let largest = i64::try_from(labels.f_max()?)?;
    assert!(0 <= smallest && largest < width, "a label lies outside of the vocabulary");
    let nats = Tensor::f_empty([rows], (Kind::Double, tch::Device::Cpu))?;
    let scales = weights.map_or(std::ptr::null(), read);
    // SAFETY: types, shapes and density were asserted above, and labels are columns; a null `weights` is allowed.
    unsafe { fedreplay_cross_entropy(written(logits), read(labels), scales, written(&nats)) };
    Vec::<f64>::try_from(nats)
}

/// Writes codes times the scale of their row to `out` `[rows, width]`, f32 or bf16.
pub fn expand_int8_into_(out: &Tensor, codes: &Tensor, scales: &Tensor) {
    let (_, rows, width) = table(out);
    check(codes, Kind::Int8, &[rows, width]);
    check(scales, Kind::Float, &[rows, 1]);
    // SAFETY: types, shapes and density were asserted above.
    unsafe { fedreplay_expand_int8(read(codes), read(scales), written(out)) };
}

/// Writes the numbers that NormalFloat4 codes stand for to `out`, f32 or bf16: each the value of its code times the maximum
/// of its block of 64.
pub fn expand_nf4_into_(out: &Tensor, codes: &Tensor, values: &[f32; 16], maxima: &Tensor) {
    assert!(serve(out) && out.is_contiguous(), "a kernel was given a tensor that it does not serve");
    let blocks = out.numel().div_ceil(64) as i64;
    check(codes, Kind::Uint8, &[32 * blocks]);
    check(maxima, Kind::Float, &[blocks]);
    // SAFETY: types, sizes and density were asserted above, and there are sixteen values.
    unsafe { fedreplay_expand_nf4(read(codes), values.as_ptr(), read(maxima), written(out)) };
}

/// One step of AdamW on flat f32 vectors of one length, the gradient scaled by `scale`.
pub fn adamw_(rule: &AdamW, scale: f32, gradient: &Tensor, values: &Tensor, mean: &Tensor, square: &Tensor) {
    let length = values.size();
    [gradient, values, mean, square].iter().for_each(|tensor| check(tensor, Kind::Float, &length));
    assert!(serve(values), "the processor has no AVX2");
    // SAFETY: all four were asserted to be dense f32 of one length; they are distinct tensors of one job.
    unsafe {
        fedreplay_adamw(rule, scale, read(gradient), written(values), written(mean), written(square));
    }
}

/// The sum of squares of a dense f32 tensor in f64, in an order that depends on its length alone.
pub fn sum_of_squares(values: &Tensor) -> f64 {
    check(values, Kind::Float, &values.size());
    assert!(serve(values), "the processor has no AVX2");
    // SAFETY: the tensor was asserted to be dense f32.
    unsafe { fedreplay_sum_of_squares(read(values)) }
}
