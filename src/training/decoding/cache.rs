//! Keys and values of what sequences have read, layer by layer, and attention of new rows over them.
//!
//! On a CPU in f32 and bf16 attention is the program's own kernel, which gives a row the bits that it has in the whole
//! sequence; elsewhere, plain products, one sequence at a time.

use tch::{Kind, TchError, Tensor};

use crate::model::{Base, Config};
use crate::training::native::decode::{self, POSITION_MULTIPLE, Pieces};
use crate::training::native::kernels::{self, Heads};

type Result<T> = std::result::Result<T, TchError>;

/// [positions] Least growth: a cache that grew by a token at a time would be copied at every token.
const GROWTH: usize = 256;

/// The caches of a number of sequences, one in each slot.
pub struct Cache {
    heads: Heads,
    kind: Kind,
    device: tch::Device,
    /// Keys and values of each layer.
    layers: Vec<[Tensor; 2]>,
    slots: usize,
    /// [positions] Room of each slot.
    capacity: usize,
    /// Whether the kernel serves it: keys then lie in blocks.
    is_blocked: bool,
}

impl Cache {
    /// Caches without room; [`Self::reserve`] gives it.
    pub fn new(base: &Base, slots: usize) -> Result<Self> {
        let Config { heads, kv_heads, head_dim, sliding_window, layers, .. } = base.config;
        let heads = Heads { queries: heads, keys: kv_heads, width: head_dim, window: sliding_window };
        let is_blocked = kernels::serve(&base.norm);
        let (kind, device) = (base.precision.kind(), base.device.torch());
        let mut cache = Self { heads, kind, device, layers: Vec::new(), slots, capacity: 0, is_blocked };
        cache.layers = (0..layers).map(|_| cache.empty(0)).collect::<Result<_>>()?;
        Ok(cache)
    }

    /// Sees that every slot has room for `positions`, at most `most` of which will ever be asked for.
    pub fn reserve(&mut self, positions: usize, most: usize) -> Result<()> {
        if positions <= self.capacity {
            return Ok(());
        }
        let wanted = positions.max(self.capacity * 3 / 2).max(self.capacity + GROWTH).min(most.max(positions));
        let capacity = wanted.next_multiple_of(POSITION_MULTIPLE);
        for layer in 0..self.layers.len() {
            let grown = self.empty(capacity)?;
            for (new, old) in grown.iter().zip(&self.layers[layer]) {
                new.f_narrow(2, 0, old.size()[2])?.f_copy_(old)?;
            }
            self.layers[layer] = grown;
        }
        self.capacity = capacity;
        Ok(())
    }

    /// Gives slot `to` what slot `from` has read.
    pub fn copy(&mut self, from: usize, to: usize) -> Result<()> {
        for tensor in self.layers.iter().flatten() {
            tensor.f_select(0, to as i64)?.f_copy_(&tensor.f_select(0, from as i64)?)?;
        }
        Ok(())
    }

    /// Keys and values without content. Zeros: a product with what was never written must not become NaN.
    fn empty(&self, capacity: usize) -> Result<[Tensor; 2]> {
        let (slots, heads, width) = (self.slots as i64, self.heads.keys as i64, self.heads.width as i64);
        let (capacity, together) = (capacity as i64, POSITION_MULTIPLE as i64);
        let plain = vec![slots, heads, capacity, width];
        let blocked = vec![slots, heads, capacity / together, width, together];
        let zeros = |shape: &[i64]| Tensor::f_zeros(shape, (self.kind, self.device));
        Ok([zeros(if self.is_blocked { &blocked } else { &plain })?, zeros(&plain)?])
    }

    /// Appends the pieces' keys and values in `layer` and returns their attention `[rows, heads * head_dim]`; other rows
    /// are zero.
    pub fn attend(&self, layer: usize, pieces: &Pieces, qkv: &Tensor) -> Result<Tensor> {
        let width = (self.heads.queries * self.heads.width) as i64;
        let out = Tensor::f_zeros([qkv.size()[0], width], (self.kind, self.device))?;
        let [keys, values] = &self.layers[layer];
        if self.is_blocked {
            decode::attend_cached(self.heads, pieces, qkv, keys, values, &out);
            return Ok(out);
        }
        for piece in 0..pieces.starts.len() {
            let rows = Rows {
                start: pieces.starts[piece],
                count: pieces.rows[piece],
                position: pieces.positions[piece],
                slot: pieces.slots[piece],
            };
            self.attend_plainly(&rows, qkv, keys, values, &out)?;
        }
        Ok(out)
    }

    fn attend_plainly(&self, rows: &Rows, qkv: &Tensor, keys: &Tensor, values: &Tensor, out: &Tensor) -> Result<()> {
        let (queries, shared, width) = (self.heads.queries as i64, self.heads.keys as i64, self.heads.width as i64);
        // `[heads, rows, width]` of the heads from `first` on.
        let heads = |table: &Tensor, first: i64, count: i64| {
            table
                .f_narrow(0, rows.start, rows.count)?
                .f_narrow(1, first * width, count * width)?
                .f_unflatten(1, [count, width])?
                .f_transpose(0, 1)
        };
        let read = rows.position + rows.count;
        let own = |cache: &Tensor| cache.f_select(0, rows.slot);
        own(keys)?.f_narrow(1, rows.position, rows.count)?.f_copy_(&heads(qkv, queries, shared)?)?;
        own(values)?.f_narrow(1, rows.position, rows.count)?.f_copy_(&heads(qkv, queries + shared, shared)?)?;
        // Copies without gaps: a cache's room and a piece's first row depend on the other sequences.
        let keys = own(keys)?.f_narrow(1, 0, read)?.f_contiguous()?;
        let values = own(values)?.f_narrow(1, 0, read)?.f_contiguous()?;
        let query = heads(qkv, 0, queries)?.f_contiguous()?.f_unflatten(0, [shared, queries / shared])?;
        let master = if self.kind == Kind::Double { Kind::Double } else { Kind::Float };
        let scores = query.f_matmul(&keys.f_unsqueeze(1)?.f_transpose(2, 3)?)?.f_to_kind(master)?;
        let scores = scores.f_mul_scalar(1.0 / (width as f64).sqrt())?;
        let scores = scores.f_masked_fill(&self.unseen(rows, read)?, f64::NEG_INFINITY)?;
        let powers = scores.f_softmax(-1, None::<Kind>)?.f_to_kind(self.kind)?;
        let result = powers.f_matmul(&values.f_unsqueeze(1)?)?.f_flatten(0, 1)?;
        heads(out, 0, queries)?.f_copy_(&result)?;
        Ok(())
    }

    /// Which of `read` positions each new row does not see, `[rows, read]`.
    fn unseen(&self, rows: &Rows, read: i64) -> Result<Tensor> {
        let all = Tensor::f_ones([rows.count, read], (Kind::Bool, self.device))?;
        let seen = all.f_tril(rows.position)?;
        let window = self.heads.window.map_or(read, |window| window.min(read as usize) as i64);
        seen.f_triu(rows.position + 1 - window)?.f_logical_not()
    }
}

/// One piece's rows.
struct Rows {
    start: i64,
    count: i64,
    position: i64,
    slot: i64,
}
