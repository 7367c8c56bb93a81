//! Norms and rotation of queries and keys, in the table `[rows, (heads + 2 kv_heads) * head_dim]` of q, k and v.

use tch::{TchError, Tensor};

use crate::model::{Base, Block, Config, RotaryTables};
use crate::training::kernels::ops;

type Result<T> = std::result::Result<T, TchError>;

/// Queries and keys before their norms, which the backward pass reads.
pub struct SavedHeads {
    queries: Normed,
    keys: Normed,
}

/// Input of a norm, one vector per row, and 1 / rms of each.
struct Normed {
    input: Tensor,
    inverse: Tensor,
}

/// Applies the family's norms to queries and keys, in place. `None` if it has none.
pub fn normalize_(base: &Base, block: &Block, qkv: &Tensor) -> Result<Option<SavedHeads>> {
    let Some(norms) = &block.head_norms else { return Ok(None) };
    let [queries, keys] = columns(&base.config);
    let queries = normalize_columns_(base, qkv, queries, &norms.queries)?;
    let keys = normalize_columns_(base, qkv, keys, &norms.keys)?;
    Ok(Some(SavedHeads { queries, keys }))
}

/// Turns the gradient at the normalized queries and keys into that before their norms, in place.
pub fn normalize_backward_(base: &Base, block: &Block, saved: Option<&SavedHeads>, d_qkv: &Tensor) -> Result<()> {
    let (Some(norms), Some(saved)) = (&block.head_norms, saved) else { return Ok(()) };
    let [queries, keys] = columns(&base.config);
    differentiate_columns_(d_qkv, queries, &norms.queries, &saved.queries)?;
    differentiate_columns_(d_qkv, keys, &norms.keys, &saved.keys)
}

/// Rotates queries and keys by their positions, in place, if the layer has a rotary embedding; `backwards` is the
/// derivative.
pub fn rotate_(config: &Config, block: &Block, qkv: &Tensor, tables: &RotaryTables, backwards: bool) -> Result<()> {
    let Some(table) = block.rotary else { return Ok(()) };
    ops::rotate_(qkv, config.heads + config.kv_heads, config.head_dim, tables.of(table), backwards)
}

/// Consecutive columns of the table.
#[derive(Clone, Copy)]
struct Columns {
    first: i64,
    count: i64,
}

/// Returns the columns of queries and of keys.
fn columns(config: &Config) -> [Columns; 2] {
    let queries = (config.heads * config.head_dim) as i64;
    let keys = (config.kv_heads * config.head_dim) as i64;
    [Columns { first: 0, count: queries }, Columns { first: queries, count: keys }]
}

impl Columns {
    /// Returns a copy of these columns as a dense table of vectors of a norm's width.
    fn vectors(self, table: &Tensor, width: i64) -> Result<Tensor> {
        ops::copied(&table.f_narrow(1, self.first, self.count)?)?.f_view([-1, width])
    }

    /// Writes vectors back to these columns.
    fn write_(self, table: &Tensor, vectors: &Tensor) -> Result<()> {
        let rows = table.size()[0];
        table.f_narrow(1, self.first, self.count)?.f_copy_(&vectors.f_view([rows, self.count])?)?;
        Ok(())
    }
}

fn normalize_columns_(base: &Base, table: &Tensor, columns: Columns, weight: &Tensor) -> Result<Normed> {
    let input = columns.vectors(table, weight.size()[0])?;
    let (output, inverse) = ops::rms_norm(&input, weight, base.config.rms_norm_eps, base.precision.master_kind())?;
    columns.write_(table, &output)?;
    Ok(Normed { input, inverse })
}

fn differentiate_columns_(gradient: &Tensor, columns: Columns, weight: &Tensor, saved: &Normed) -> Result<()> {
    let dy = columns.vectors(gradient, weight.size()[0])?;
    let dx = ops::rms_norm_backward(&dy, &saved.input, &saved.inverse, weight, &dy.f_zeros_like()?)?;
    columns.write_(gradient, &dx)
}
