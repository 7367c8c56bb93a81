//! Layout of the rows of one pass: the new tokens of all pieces, grouped by adapter.

use tch::{TchError, Tensor};

use super::Piece;
use crate::model::{Base, Precision, RotaryTables};
use crate::training::engine::pack::ROW_MULTIPLE;
use crate::training::kernels::native::decode::Pieces;
use crate::training::kernels::native::kernels;

/// Consecutive rows with the same adapter.
pub struct Span {
    pub adapter: Option<usize>,
    start: i64,
    rows: i64,
}

impl Span {
    /// Returns the span's rows of a table, as a view.
    pub fn of(&self, table: &Tensor) -> Result<Tensor, TchError> {
        table.f_narrow(0, self.start, self.rows)
    }
}

/// Rows of one pass on the device.
pub struct Laid {
    /// Token ids `[rows]`.
    pub ids: Tensor,
    /// Cosines and sines of the rotary embeddings.
    pub rotary: RotaryTables,
    pub pieces: Pieces,
    pub spans: Vec<Span>,
    /// Rows with which the last layer continues after its attention.
    pub last: Tensor,
    /// Spans of those rows.
    pub last_spans: Vec<Span>,
    /// Position of each piece among those rows, in the order in which the pieces were given.
    pub places: Tensor,
}

/// Lays out the pieces; `lengths` are the lengths of the sequences in all slots.
pub fn lay(base: &Base, pieces: &[Piece], lengths: &[usize]) -> Result<Laid, TchError> {
    // The sort is stable, so that pieces with the same adapter stay in order.
    let mut order: Vec<usize> = (0..pieces.len()).collect();
    order.sort_by_key(|&index| pieces[index].adapter);
    let mut table = Table { places: vec![0; pieces.len()], ..Table::default() };
    for group in order.chunk_by(|&a, &b| shares_span(base, &pieces[a], &pieces[b])) {
        table.add_span(base, pieces, group, lengths);
    }
    table.finish(base)
}

/// Returns whether two pieces share their products. Under LLM.int8() rows decide each other's outliers, so no pieces
/// do.
fn shares_span(base: &Base, left: &Piece, right: &Piece) -> bool {
    left.adapter == right.adapter && !is_llm_int8(base)
}

/// Returns whether products round activations to int8 except for outliers.
pub fn is_llm_int8(base: &Base) -> bool {
    matches!(base.precision, Precision::LlmInt8(_))
}

/// Returns the number of rows of a span with padding, which LibTorch's products need to be batch-invariant.
fn padded(base: &Base, rows: usize) -> usize {
    let is_independent = kernels::serve(&base.norm) || is_llm_int8(base);
    if is_independent { rows } else { rows.next_multiple_of(ROW_MULTIPLE) }
}

/// Layout in progress, with the fields of [`Laid`] on the host.
#[derive(Default)]
struct Table {
    ids: Vec<i64>,
    positions: Vec<i64>,
    pieces: Pieces,
    spans: Vec<Span>,
    last: Vec<i64>,
    last_spans: Vec<Span>,
    places: Vec<i64>,
}

impl Table {
    /// Appends the pieces of `group`, which share an adapter, with padding.
    fn add_span(&mut self, base: &Base, pieces: &[Piece], group: &[usize], lengths: &[usize]) {
        let first = self.ids.len();
        let first_last = self.last.len();
        for &index in group {
            let Piece { slot, ids, .. } = pieces[index];
            let start = self.ids.len() as i64;
            let position = lengths[slot] as i64;
            self.pieces.starts.push(start);
            self.pieces.rows.push(ids.len() as i64);
            self.pieces.positions.push(position);
            self.pieces.slots.push(slot as i64);
            self.ids.extend(ids.iter().map(|&id| i64::from(id)));
            self.positions.extend(position..position + ids.len() as i64);
            self.places[index] = self.last.len() as i64;
            self.last.push(self.ids.len() as i64 - 1);
        }
        let rows = padded(base, self.ids.len() - first);
        self.ids.resize(first + rows, 0);
        self.positions.resize(first + rows, 0);
        let last_rows = padded(base, group.len());
        self.last.resize(first_last + last_rows, first as i64);
        let adapter = pieces[group[0]].adapter;
        self.spans.push(Span { adapter, start: first as i64, rows: rows as i64 });
        self.last_spans.push(Span { adapter, start: first_last as i64, rows: last_rows as i64 });
    }

    /// Copies the layout to the device.
    fn finish(self, base: &Base) -> Result<Laid, TchError> {
        let device = base.device.torch();
        Ok(Laid {
            ids: Tensor::f_from_slice(&self.ids)?.f_to_device(device)?,
            rotary: base.rotary_tables(&self.positions)?,
            pieces: self.pieces,
            spans: self.spans,
            last: Tensor::f_from_slice(&self.last)?.f_to_device(device)?,
            last_spans: self.last_spans,
            places: Tensor::f_from_slice(&self.places)?.f_to_device(device)?,
        })
    }
}
