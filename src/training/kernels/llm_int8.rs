//! Products of LLM.int8() (arXiv 2208.07339): activations are rounded to int8 by rows, except for columns with
//! outliers.
//!
//! The steps and their types are those of bitsandbytes' `MatMul8bitLt`: activations are rounded from half precision; an
//! element of at least [`THRESHOLD`] makes its column an outlier for all rows; the other columns are rounded relative
//! to each row's absolute maximum; and the product of the outliers with dequantized weights is added in the
//! activations' type.

use tch::{Device, Kind, TchError, Tensor};

use super::ops;
use crate::model::quantized::Int8;

/// Least absolute value of an outlier: the library's default.
const THRESHOLD: f64 = 6.0;

/// Least number of rows of a product: LibTorch's int8 products on a GPU need more than 16.
const ROWS_MIN: i64 = 32;

/// Computes input × weight^T + bias, `[rows, out]`, in the input's type.
///
/// All rows of `input` must belong to one job, since all of them decide which columns are outliers.
pub fn product(input: &Tensor, weight: &Int8, bias: Option<&Tensor>) -> Result<Tensor, TchError> {
    let half = input.f_to_kind(Kind::Half)?;
    let is_outlier = half.f_abs()?.f_ge(THRESHOLD)?;
    let columns = is_outlier.f_any_dim(0, false)?.f_nonzero()?.f_squeeze_dim(1)?;
    let inside = half.f_masked_fill(&is_outlier, 0.0)?.f_to_kind(Kind::Float)?;
    let most = inside.f_abs()?.f_amax([1i64], true)?;
    let most = most.f_masked_fill(&most.f_eq(0.0)?, 1.0)?;
    // x ≈ code · absmax / 127 on both sides, so that x w ≈ (codes · codes) · absmax_x · absmax_w / 127^2.
    let codes = inside.f_mul(&most.f_full_like(127.0)?.f_div(&most)?)?.f_round()?.f_index_fill(1, &columns, 0.0)?;
    let sums = integer_product(&codes.f_to_kind(Kind::Int8)?, &weight.codes)?.f_to_kind(Kind::Float)?;
    let mut output = sums.f_mul(&most.f_mul(&weight.most.f_tr()?)?)?.f_mul_scalar(1.0 / (127.0 * 127.0))?;
    if let Some(bias) = bias {
        output = output.f_add_(&bias.f_to_kind(Kind::Float)?)?;
    }
    let mut output = output.f_to_kind(input.kind())?;
    // The outliers were set to zero above; their product is added in higher precision.
    if columns.numel() > 0 {
        let codes = weight.codes.f_index_select(1, &columns)?;
        let expanded = Int8 { codes, most: weight.most.shallow_clone() }.expanded(input.kind())?;
        let kept = input.f_index_select(1, &columns)?.f_to_kind(Kind::Float)?;
        let product = ops::product(&kept, &expanded.f_to_kind(Kind::Float)?.f_tr()?)?;
        output = output.f_to_kind(Kind::Float)?.f_add(&product)?.f_to_kind(input.kind())?;
    }
    Ok(output)
}

/// Computes the exact product of int8 matrices in int32.
fn integer_product(rows: &Tensor, weight: &Tensor) -> Result<Tensor, TchError> {
    if rows.device() == Device::Cpu {
        return product_by_floats(rows, weight);
    }
    let count = rows.size()[0];
    let missing = (ROWS_MIN - count).max(0);
    let padded = if missing > 0 { rows.f_constant_pad_nd([0, 0, 0, missing])? } else { rows.shallow_clone() };
    padded.f_internal_int_mm(&weight.f_tr()?)?.f_narrow(0, 0, count)
}

/// Computes it from products of f32, which are exact in any order for so few columns: LibTorch's products of integers are
/// far slower on processors without instructions for them.
fn product_by_floats(rows: &Tensor, weight: &Tensor) -> Result<Tensor, TchError> {
    /// 1,024 products of two numbers of at most 128 add up to at most 2^24.
    const COLUMNS_MAX: i64 = 1024;
    let columns = rows.size()[1];
    let mut sum: Option<Tensor> = None;
    for begin in (0..columns).step_by(COLUMNS_MAX as usize) {
        let part = |codes: &Tensor| codes.f_narrow(1, begin, COLUMNS_MAX.min(columns - begin))?.f_to_kind(Kind::Float);
        let product = ops::product(&part(rows)?, &part(weight)?.f_tr()?)?.f_to_kind(Kind::Int)?;
        sum = Some(match sum {
            Some(mut sum) => sum.f_add_(&product)?,
            None => product,
        });
    }
    sum.map_or_else(|| Tensor::f_zeros([rows.size()[0], weight.size()[0]], (Kind::Int, rows.device())), Ok)
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::product_by_floats;

    #[test]
    fn products_of_integers_are_exact_at_any_width() {
        const ROWS: i64 = 3;
        const OUT: i64 = 5;
        for width in [1, 1023, 1024, 1025, 4097] {
            for extreme in [false, true] {
                let code =
                    |n: i64| if extreme { [-128, 127][(n % 7 == 3) as usize] } else { (n * 7919 + n * n) % 255 - 127 };
                let codes = |count: i64, from: i64| (from..from + count * width).map(code).collect::<Vec<_>>();
                let (rows, weight) = (codes(ROWS, 1), codes(OUT, 77));
                let matrix = |codes: &[i64], count| Tensor::from_slice(codes).view([count, width]).to_kind(Kind::Int8);
                let found = product_by_floats(&matrix(&rows, ROWS), &matrix(&weight, OUT)).unwrap();
                assert_eq!((found.kind(), found.device()), (Kind::Int, Device::Cpu));
                let width = width as usize;
                let cell = |row: &[i64], column: &[i64]| row.iter().zip(column).map(|(a, b)| a * b).sum::<i64>();
                let expected: Vec<i64> =
                    rows.chunks(width).flat_map(|row| weight.chunks(width).map(|column| cell(row, column))).collect();
                let found: Vec<i64> = found.to_kind(Kind::Int64).flatten(0, 1).try_into().unwrap();
                assert_eq!(found, expected, "{width} columns");
            }
        }
    }
}
