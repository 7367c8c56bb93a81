//! The rows of one pass: the new tokens of all pieces, those under one adapter beside each other.

use tch::{TchError, Tensor};

use super::Piece;
use crate::model::{Base, Precision};
use crate::training::native::decode::Pieces;
use crate::training::native::kernels;
use crate::training::pack::ROW_MULTIPLE;

/// Rows that share an adapter.
pub struct Span {
    pub adapter: Option<usize>,
    start: i64,
    rows: i64,
}

impl Span {
    /// Its part of a table.
    pub fn of(&self, table: &Tensor) -> Result<Tensor, TchError> {
        table.f_narrow(0, self.start, self.rows)
    }
}

/// What a pass reads.
pub struct Laid {
    /// `[rows]`.
    pub ids: Tensor,
    /// Cosines of the positions `[rows, head_dim / 2]`.
    pub cos: Tensor,
    /// Their sines.
    pub sin: Tensor,
    pub pieces: Pieces,
    pub spans: Vec<Span>,
    /// The rows with which the last layer goes on after its attention.
    pub last: Tensor,
    pub last_spans: Vec<Span>,
    /// For each piece, in the order given, its place among those.
    pub places: Tensor,
}

/// Lays out the pieces; `lengths` is what each slot has read.
pub fn lay(base: &Base, pieces: &[Piece], lengths: &[usize]) -> Result<Laid, TchError> {
    let mut order: Vec<usize> = (0..pieces.len()).collect();
    order.sort_by_key(|&index| pieces[index].adapter);
    let mut table = Table { places: vec![0; pieces.len()], ..Table::default() };
    for group in order.chunk_by(|&a, &b| shares_span(base, &pieces[a], &pieces[b])) {
        table.add_span(base, pieces, group, lengths);
    }
    table.finish(base)
}

/// Under LLM.int8() rows decide each other's outliers, so a piece shares its products with no other.
fn shares_span(base: &Base, left: &Piece, right: &Piece) -> bool {
    left.adapter == right.adapter && !is_llm_int8(base)
}

/// Whether products round activations to int8 but for outliers.
pub fn is_llm_int8(base: &Base) -> bool {
    matches!(base.precision, Precision::LlmInt8(_))
}

/// Rows of a span are padded where LibTorch's products would otherwise depend on their number.
fn padded(base: &Base, rows: usize) -> usize {
    let is_independent = kernels::serve(&base.norm) || is_llm_int8(base);
    if is_independent { rows } else { rows.next_multiple_of(ROW_MULTIPLE) }
}

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
    fn add_span(&mut self, base: &Base, pieces: &[Piece], group: &[usize], lengths: &[usize]) {
        let (first, first_last) = (self.ids.len(), self.last.len());
        for &index in group {
            let Piece { slot, ids, .. } = pieces[index];
            let (start, position) = (self.ids.len() as i64, lengths[slot] as i64);
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

    fn finish(self, base: &Base) -> Result<Laid, TchError> {
        let device = base.device.torch();
        let place = |values: &[i64]| Tensor::f_from_slice(values)?.f_to_device(device);
        let (cos, sin) = base.rope.at(&self.positions, base.precision.master_kind(), device)?;
        Ok(Laid {
            ids: place(&self.ids)?,
            cos,
            sin,
            pieces: self.pieces,
            spans: self.spans,
            last: place(&self.last)?,
            last_spans: self.last_spans,
            places: place(&self.places)?,
        })
    }
}
