//! Products and means of rows, divided into calls of one shape.
//!
//! A library that chooses its kernel by the shape of a product may give a row different bits if more rows share the
//! product. Here every call has [`BLOCK_ROWS`] rows, dense and equally aligned; the last block is padded with zeros.
//! Sums over rows are computed block by block, and the sums of the blocks are added in their order.

use tch::{Device, Kind, TchError, Tensor};

type Result<T> = std::result::Result<T, TchError>;

/// [row] -- Rows of one call. A recent GPU reads a weight from memory in about the time in which it multiplies 200 rows
/// with it in bf16, so padding a short pass costs little. It is part of the numerics class, since another number gives
/// other bits.
pub const BLOCK_ROWS: i64 = 256;

/// Returns the product of two matrices; the bits of a row depend on that row of `a` and on `b` alone.
pub fn product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let out = Tensor::f_empty([a.size()[0], b.size()[1]], (a.kind(), a.device()))?;
    product_into_(&out, a, b)?;
    Ok(out)
}

/// Writes the product of two matrices to `out`, which may be a part of a wider table.
pub fn product_into_(out: &Tensor, a: &Tensor, b: &Tensor) -> Result<()> {
    for block in blocks_of(a) {
        let input = block.padded(a)?;
        let mut part = block.of(out)?;
        // A full block is written in place; the result of a padded one is cut first.
        if block.rows == BLOCK_ROWS && is_dense(&part) {
            let _ = input.f_mm_out(&part, b)?;
        } else {
            part.f_copy_(&input.f_mm(b)?.f_narrow(0, 0, block.rows)?)?;
        }
    }
    Ok(())
}

/// Adds the product of two matrices to `out`, in place, which may be a part of a wider table and of a wider type.
pub fn add_product_(out: &Tensor, a: &Tensor, b: &Tensor) -> Result<()> {
    for block in blocks_of(a) {
        let product = block.padded(a)?.f_mm(b)?.f_narrow(0, 0, block.rows)?;
        let _ = block.of(out)?.f_add_(&product.f_to_kind(out.kind())?)?;
    }
    Ok(())
}

/// Adds the transpose of `a` times `b` to `out`, in place. This is a sum over the rows of both, which must belong to
/// one job.
pub fn add_sum_over_rows_(out: &Tensor, a: &Tensor, b: &Tensor) -> Result<()> {
    for block in blocks_of(a) {
        let sum = block.padded(a)?.f_tr()?.f_mm(&block.padded(b)?)?;
        let _ = out.shallow_clone().f_add_(&sum.f_to_kind(out.kind())?)?;
    }
    Ok(())
}

/// Returns the mean of each row, `[rows, 1]`. On a GPU the order of such a sum may depend on the number of rows.
pub fn row_means(table: &Tensor) -> Result<Tensor> {
    let means = Tensor::f_empty([table.size()[0], 1], (table.kind(), table.device()))?;
    for block in blocks_of(table) {
        let of_block = block.padded(table)?.f_mean_dim([-1i64].as_slice(), true, None::<Kind>)?;
        block.of(&means)?.f_copy_(&of_block.f_narrow(0, 0, block.rows)?)?;
    }
    Ok(means)
}

/// Consecutive rows of a table, at most [`BLOCK_ROWS`].
struct Block {
    start: i64,
    rows: i64,
}

impl Block {
    /// Returns the block's rows of a table, as a view.
    fn of(&self, table: &Tensor) -> Result<Tensor> {
        table.f_narrow(0, self.start, self.rows)
    }

    /// Returns the block's rows of a table as a dense table of [`BLOCK_ROWS`] rows, padded with zeros.
    fn padded(&self, table: &Tensor) -> Result<Tensor> {
        let part = self.of(table)?;
        if self.rows == BLOCK_ROWS && is_dense(&part) {
            return Ok(part);
        }
        let padded = Tensor::f_zeros([BLOCK_ROWS, table.size()[1]], (table.kind(), table.device()))?;
        padded.f_narrow(0, 0, self.rows)?.f_copy_(&part)?;
        Ok(padded)
    }
}

/// Iterates over the blocks of a table in order.
fn blocks_of(table: &Tensor) -> impl Iterator<Item = Block> {
    let rows = table.size()[0];
    (0..rows).step_by(BLOCK_ROWS as usize).map(move |start| Block { start, rows: BLOCK_ROWS.min(rows - start) })
}

/// Returns whether a table has the strides and the alignment of a newly allocated one, so that a library cannot
/// distinguish them.
fn is_dense(table: &Tensor) -> bool {
    let alignment = if table.device() == Device::Cpu { 64 } else { 256 };
    table.is_contiguous() && (table.data_ptr() as usize).is_multiple_of(alignment)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(rows: i64, width: i64, kind: Kind) -> Tensor {
        let flat: Vec<f32> = (0..rows * width).map(|n| (n * 7919 % 1013) as f32 / 1013.0 - 0.5).collect();
        Tensor::from_slice(&flat).view([rows, width]).to_kind(kind)
    }

    fn assert_close(found: &Tensor, expected: &Tensor, tolerance: f64) {
        let expected = expected.to_kind(Kind::Double);
        let apart = f64::try_from((found.to_kind(Kind::Double) - &expected).abs().max()).unwrap();
        assert!(apart <= tolerance * f64::try_from(expected.abs().max()).unwrap(), "{apart} apart");
    }

    #[test]
    fn products_and_sums_are_those_of_the_whole_matrices() {
        for (kind, tolerance) in [(Kind::Double, 1e-14), (Kind::Float, 2e-6), (Kind::BFloat16, 1e-2)] {
            for rows in [1, 16, 256, 272, 700] {
                let a = values(rows, 40, kind);
                let b = values(40, 24, kind);
                let wide = [&a, &b].map(|table| table.to_kind(Kind::Double));
                let expected = wide[0].mm(&wide[1]);
                assert_close(&product(&a, &b).unwrap(), &expected, tolerance);
                let table = Tensor::ones([rows, 30], (kind, Device::Cpu));
                add_product_(&table.narrow(1, 3, 24), &a, &b).unwrap();
                assert_close(&table.narrow(1, 3, 24), &(expected + 1.0), tolerance);
                assert_eq!(table.narrow(1, 0, 3), Tensor::ones([rows, 3], (kind, Device::Cpu)));
                let other = values(rows, 24, kind);
                let sum = Tensor::ones([40, 24], (Kind::Double, Device::Cpu));
                add_sum_over_rows_(&sum, &a, &other).unwrap();
                assert_close(&sum, &(wide[0].tr().mm(&other.to_kind(Kind::Double)) + 1.0), tolerance);
                let means = wide[0].mean_dim([-1i64].as_slice(), true, None::<Kind>);
                assert_close(&row_means(&a).unwrap(), &means, tolerance);
            }
        }
    }

    /// Rows before and after it, gaps between rows and odd addresses leave a row's bits as they are.
    #[test]
    fn a_row_has_its_bits_in_any_table() {
        for kind in [Kind::Float, Kind::BFloat16] {
            let table = values(700, 50, kind);
            let b = values(40, 24, kind);
            let rows = table.narrow(0, 250, 20).narrow(1, 3, 40);
            let alone = product(&rows.contiguous(), &b).unwrap();
            assert_eq!(product(&rows, &b).unwrap(), alone);
            assert_eq!(product(&table.narrow(1, 3, 40), &b).unwrap().narrow(0, 250, 20), alone);
            let into = Tensor::zeros([701, 24], (kind, Device::Cpu));
            product_into_(&into.narrow(0, 1, 700), &table.narrow(1, 3, 40), &b).unwrap();
            assert_eq!(into.narrow(0, 251, 20), alone);
        }
    }
}
