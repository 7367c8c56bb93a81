//! The kernels of generation behind safe functions: attention over a cache, and products with packed weights.

use tch::{TchError, Tensor};

use super::kernels::{At, Heads, Shape, check, matrix, read, serve, shape, written};

type Result<T> = std::result::Result<T, TchError>;

/// [positions] What a cache's capacity is a multiple of; `KEYS_TOGETHER` of decode.h.
pub const POSITION_MULTIPLE: usize = 16;

unsafe extern "C" {
    fn fedreplay_packed_size(inner: i64, columns: i64) -> i64;
    fn fedreplay_pack(b: *const At, into: *mut At);
    fn fedreplay_product_packed(a: *const At, packed: *const At, out: *mut At);
    fn fedreplay_attend_cached(
        shape: *const Shape,
        count: i64,
        starts: *const i64,
        rows: *const i64,
        positions: *const i64,
        slots: *const i64,
        capacity: i64,
        qkv: *const At,
        keys: *mut At,
        values: *mut At,
        out: *mut At,
    );
}

/// A matrix in the order in which products read it, for many products of few rows: packing it costs as much as one of them.
pub struct PackedWeights {
    panels: Tensor,
    inner: i64,
    columns: i64,
}

impl PackedWeights {
    /// Packs `b`, a matrix `[inner, columns]` of any strides in f32 or bf16.
    pub fn new(b: &Tensor) -> Result<Self> {
        let (inner, columns) = matrix(b);
        // SAFETY: plain arithmetic on two integers.
        let size = unsafe { fedreplay_packed_size(inner, columns) };
        // Panels are read in whole vectors, which must be aligned: LibTorch's memory is, to 64 bytes.
        let panels = Tensor::f_empty([size], (b.kind(), tch::Device::Cpu))?;
        // SAFETY: `b` was asserted to be a served matrix on the CPU, and `panels` is new, of its type and of the size that
        // packing asks for.
        unsafe { fedreplay_pack(read(b), written(&panels)) };
        Ok(Self { panels, inner, columns })
    }

    /// The product of dense rows of the matrix's type with the matrix: the bits of the same product with the matrix unpacked.
    pub fn product(&self, a: &Tensor) -> Result<Tensor> {
        let kind = self.panels.kind();
        let rows = a.size()[0];
        check(a, kind, &[rows, self.inner]);
        let out = Tensor::f_empty([rows, self.columns], (kind, tch::Device::Cpu))?;
        // SAFETY: types, shapes and density were asserted above; the panels are those of `columns` columns.
        unsafe { fedreplay_product_packed(read(a), read(&self.panels), written(&out)) };
        Ok(out)
    }
}

/// New rows of several sequences, which lie one after another in a table.
#[derive(Default)]
pub struct Pieces {
    /// First row of each.
    pub starts: Vec<i64>,
    /// Rows of each, at least 1.
    pub rows: Vec<i64>,
    /// Position of the first row in its sequence.
    pub positions: Vec<i64>,
    /// The sequence's place in the caches; no two pieces have the same.
    pub slots: Vec<i64>,
}

impl Pieces {
    fn check(&self, rows: i64, slots: i64, capacity: i64) {
        let count = self.starts.len();
        let lengths = [self.rows.len(), self.positions.len(), self.slots.len()];
        assert!(lengths.iter().all(|&length| length == count), "every piece has rows, a position and a slot");
        let mut taken = vec![false; slots as usize];
        for piece in 0..count {
            let (start, own, position) = (self.starts[piece], self.rows[piece], self.positions[piece]);
            assert!(start >= 0 && own >= 1 && start + own <= rows, "a piece lies outside of its rows");
            assert!(position >= 0 && position + own <= capacity, "a piece lies outside of its cache");
            let slot = usize::try_from(self.slots[piece]).expect("slots are counted from 0");
            assert!(slot < taken.len() && !std::mem::replace(&mut taken[slot], true), "two pieces share a slot");
        }
    }
}

/// Appends keys and values of the pieces to the caches, `[slots, kv_heads, capacity / 16, width, 16]` and
/// `[slots, kv_heads, capacity, width]`, and writes their attention to `out` `[rows, queries * width]`.
pub fn attend_cached_into_(heads: Heads, pieces: &Pieces, qkv: &Tensor, keys: &Tensor, values: &Tensor, out: &Tensor) {
    assert!(serve(qkv), "a kernel was given a tensor that it does not serve");
    let shape = shape(heads, qkv);
    let (rows, kind) = (qkv.size()[0], qkv.kind());
    let (slots, capacity) = (values.size()[0], values.size()[2]);
    let (kv_heads, width, together) = (heads.keys as i64, heads.width as i64, POSITION_MULTIPLE as i64);
    assert!(capacity % together == 0, "a cache holds whole blocks of keys");
    check(values, kind, &[slots, kv_heads, capacity, width]);
    check(keys, kind, &[slots, kv_heads, capacity / together, width, together]);
    check(out, kind, &[rows, shape.out_stride]);
    pieces.check(rows, slots, capacity);
    let count = pieces.starts.len() as i64;
    let [starts, lengths, positions, places] =
        [&pieces.starts, &pieces.rows, &pieces.positions, &pieces.slots].map(|list| list.as_ptr());
    let (qkv, keys, values, out) = (read(qkv), written(keys), written(values), written(out));
    // SAFETY: types, shapes and density were asserted above; the pieces lie inside of the rows and of the caches, the four
    // arrays have `count` elements, and no two pieces write to one slot or row.
    unsafe {
        fedreplay_attend_cached(&shape, count, starts, lengths, positions, places, capacity, qkv, keys, values, out);
    }
}
