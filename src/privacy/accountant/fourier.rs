//! The discrete Fourier transform of power-of-two length.
//!
//! It is written here and not taken from a library because its sines come from `libm` and its sums run in one fixed
//! order. Vectorized libraries give different bits on different processors, and the epsilon computed from them is part
//! of digests.

/// A complex number.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Complex {
    pub re: f64,
    pub im: f64,
}

impl Complex {
    /// Returns the product.
    fn times(self, other: Self) -> Self {
        Self { re: self.re * other.re - self.im * other.im, im: self.re * other.im + self.im * other.re }
    }

    /// Returns the n-th power, by repeated squaring.
    pub fn power(self, mut n: u64) -> Self {
        let mut base = self;
        let mut result = Self { re: 1.0, im: 0.0 };
        while n > 0 {
            if n & 1 == 1 {
                result = result.times(base);
            }
            base = base.times(base);
            n >>= 1;
        }
        result
    }
}

/// Transforms `values` in place. With `is_inverse` it computes the inverse, without dividing by the length.
///
/// # Panics
/// If the length is not a power of two.
pub fn transform(values: &mut [Complex], is_inverse: bool) {
    let n = values.len();
    assert!(n.is_power_of_two(), "{n} is not a power of two");
    if n == 1 {
        return;
    }
    // Cooley and Tukey's radix-2 algorithm: first the bit-reversed order, then butterflies over blocks that double in
    // length.
    let shift = usize::BITS - n.trailing_zeros();
    for i in 0..n {
        let j = i.reverse_bits() >> shift;
        if i < j {
            values.swap(i, j);
        }
    }
    let turn = if is_inverse { 2.0 } else { -2.0 } * std::f64::consts::PI;
    let mut half = 1;
    while half < n {
        // One table of roots per stage, read in order: strided reads of a single table would miss the cache.
        let roots: Vec<Complex> = (0..half)
            .map(|k| {
                let (sin, cos) = libm::sincos(turn * k as f64 / (2 * half) as f64);
                Complex { re: cos, im: sin }
            })
            .collect();
        for block in values.chunks_exact_mut(2 * half) {
            let (low, high) = block.split_at_mut(half);
            for ((a, b), root) in low.iter_mut().zip(high).zip(&roots) {
                let t = b.times(*root);
                *b = Complex { re: a.re - t.re, im: a.im - t.im };
                *a = Complex { re: a.re + t.re, im: a.im + t.im };
            }
        }
        half *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back_is_the_length_times_the_values() {
        let values: Vec<Complex> = (0..64).map(|i| Complex { re: (i * i % 17) as f64, im: (i % 5) as f64 }).collect();
        let mut found = values.clone();
        transform(&mut found, false);
        transform(&mut found, true);
        for (found, value) in found.iter().zip(&values) {
            assert!((found.re / 64.0 - value.re).abs() < 1e-13 && (found.im / 64.0 - value.im).abs() < 1e-13);
        }
    }

    #[test]
    fn a_product_of_transforms_is_a_circular_convolution() {
        let mut coin = vec![Complex::default(); 8];
        coin[0].re = 0.5;
        coin[1].re = 0.5;
        transform(&mut coin, false);
        coin.iter_mut().for_each(|value| *value = value.power(5));
        transform(&mut coin, true);
        for (value, expected) in coin.iter().zip([1.0, 5.0, 10.0, 10.0, 5.0, 1.0, 0.0, 0.0]) {
            assert!((value.re / 8.0 - expected / 32.0).abs() < 1e-15, "{value:?}");
        }
    }
}
