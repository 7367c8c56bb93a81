//! Cache of the sequences' keys and values, by layer, and attention of new rows over it.
//!
//! On a CPU in f32 and bf16 attention is the program's own kernel, which gives a row the same bits as in a pass over
//! the whole sequence. Elsewhere it consists of plain products, one sequence at a time.

use tch::{Kind, TchError, Tensor};

use crate::model::Base;
use crate::training::kernels::attention;
use crate::training::kernels::native::decode::{self, POSITION_MULTIPLE, Pieces};
use crate::training::kernels::native::kernels::{self, Heads};
use crate::training::kernels::ops;

type Result<T> = std::result::Result<T, TchError>;

/// [position] -- Least growth of the cache: growing by one token at a time would copy it at every token.
const GROWTH: usize = 256;

/// Keys and values of several sequences, one in each slot.
pub struct Cache {
    /// Heads of each layer, which differ in their window alone.
    heads: Vec<Heads>,
    kind: Kind,
    device: tch::Device,
    /// Keys and values of each layer.
    layers: Vec<[Tensor; 2]>,
    slots: usize,
    /// [position] -- Capacity of each slot.
    capacity: usize,
    /// Whether the kernel reads the cache, so that keys are stored in its blocks.
    is_blocked: bool,
}

impl Cache {
    /// Creates a cache without capacity; see [`Self::reserve`].
    pub fn new(base: &Base, slots: usize) -> Result<Self> {
        let layers = base.config.layers;
        let heads = (0..layers).map(|layer| attention::heads_of(&base.config, base.config.window(layer))).collect();
        let is_blocked = kernels::serve(&base.norm);
        let mut cache = Self {
            heads,
            kind: base.precision.kind(),
            device: base.device.torch(),
            layers: Vec::new(),
            slots,
            capacity: 0,
            is_blocked,
        };
        cache.layers = (0..layers).map(|_| cache.empty(0)).collect::<Result<_>>()?;
        Ok(cache)
    }

    /// Ensures that every slot has capacity for `positions` positions. `most` is an upper bound on all future requests.
    pub fn reserve(&mut self, positions: usize, most: usize) -> Result<()> {
        if positions <= self.capacity {
            return Ok(());
        }
        // Geometric growth makes the cost of copying constant per token.
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

    /// Copies slot `from` to slot `to`.
    pub fn copy(&mut self, from: usize, to: usize) -> Result<()> {
        for tensor in self.layers.iter().flatten() {
            tensor.f_select(0, to as i64)?.f_copy_(&tensor.f_select(0, from as i64)?)?;
        }
        Ok(())
    }

    /// Returns tensors for keys and values. They are zero, since a product with memory that was never written could be
    /// NaN.
    fn empty(&self, capacity: usize) -> Result<[Tensor; 2]> {
        let slots = self.slots as i64;
        let heads = self.heads[0].keys as i64;
        let width = self.heads[0].width as i64;
        let capacity = capacity as i64;
        let together = POSITION_MULTIPLE as i64;
        let plain = vec![slots, heads, capacity, width];
        let blocked = vec![slots, heads, capacity / together, width, together];
        let options = (self.kind, self.device);
        let keys = Tensor::f_zeros(if self.is_blocked { &blocked } else { &plain }, options)?;
        Ok([keys, Tensor::f_zeros(&plain, options)?])
    }

    /// Appends the pieces' keys and values in `layer`, in place, and returns their attention `[rows, heads *
    /// head_dim]`; other rows are zero.
    pub fn attend(&self, layer: usize, pieces: &Pieces, qkv: &Tensor) -> Result<Tensor> {
        let heads = self.heads[layer];
        let width = (heads.queries * heads.width) as i64;
        let out = Tensor::f_zeros([qkv.size()[0], width], (self.kind, self.device))?;
        let [keys, values] = &self.layers[layer];
        if self.is_blocked {
            decode::attend_cached_into_(heads, pieces, qkv, keys, values, &out);
            return Ok(out);
        }
        for piece in 0..pieces.starts.len() {
            let rows = Rows {
                start: pieces.starts[piece],
                count: pieces.rows[piece],
                position: pieces.positions[piece],
                slot: pieces.slots[piece],
            };
            self.attend_plainly(heads, &rows, qkv, keys, values, &out)?;
        }
        Ok(out)
    }

    /// Does [`Self::attend`] for one piece, in plain products.
    fn attend_plainly(
        &self,
        heads: Heads,
        rows: &Rows,
        qkv: &Tensor,
        keys: &Tensor,
        values: &Tensor,
        out: &Tensor,
    ) -> Result<()> {
        let queries = heads.queries as i64;
        let shared = heads.keys as i64;
        let width = heads.width as i64;
        let read = rows.position + rows.count;
        let keys = keys.f_select(0, rows.slot)?;
        let values = values.f_select(0, rows.slot)?;
        keys.f_narrow(1, rows.position, rows.count)?.f_copy_(&rows.heads(qkv, queries, shared, width)?)?;
        values.f_narrow(1, rows.position, rows.count)?.f_copy_(&rows.heads(qkv, queries + shared, shared, width)?)?;
        // Dense copies: strides and alignment in the cache and in the pass depend on the other sequences, and may
        // change bits.
        let keys = keys.f_narrow(1, 0, read)?.f_contiguous()?;
        let values = values.f_narrow(1, 0, read)?.f_contiguous()?;
        let query = rows.heads(qkv, 0, queries, width)?.f_contiguous()?.f_unflatten(0, [shared, queries / shared])?;
        let master = if self.kind == Kind::Double { Kind::Double } else { Kind::Float };
        let scores = query.f_matmul(&keys.f_unsqueeze(1)?.f_transpose(2, 3)?)?.f_to_kind(master)?;
        let scores = scores.f_mul_scalar(heads.scale())?;
        if let Some(cap) = heads.cap {
            ops::plain::soft_cap_(&scores, cap)?;
        }
        let scores = scores.f_masked_fill(&self.unseen(heads, rows, read)?, f64::NEG_INFINITY)?;
        let powers = scores.f_softmax(-1, None::<Kind>)?.f_to_kind(self.kind)?;
        let result = powers.f_matmul(&values.f_unsqueeze(1)?)?.f_flatten(0, 1)?;
        rows.heads(out, 0, queries, width)?.f_copy_(&result)?;
        Ok(())
    }

    /// Returns the mask of the positions that each new row does not attend to, `[rows, read]`.
    fn unseen(&self, heads: Heads, rows: &Rows, read: i64) -> Result<Tensor> {
        let all = Tensor::f_ones([rows.count, read], (Kind::Bool, self.device))?;
        let seen = all.f_tril(rows.position)?;
        let window = heads.window.map_or(read, |window| window.min(read as usize) as i64);
        seen.f_triu(rows.position + 1 - window)?.f_logical_not()
    }
}

/// Rows of one piece.
struct Rows {
    /// First row in the pass.
    start: i64,
    count: i64,
    /// Position of the first row in its sequence.
    position: i64,
    slot: i64,
}

impl Rows {
    /// Returns the part of a table that belongs to these rows and to `count` heads from `first` on, as a view
    /// `[heads, rows, width]`.
    fn heads(&self, table: &Tensor, first: i64, count: i64, width: i64) -> Result<Tensor> {
        table
            .f_narrow(0, self.start, self.count)?
            .f_narrow(1, first * width, count * width)?
            .f_unflatten(1, [count, width])?
            .f_transpose(0, 1)
    }
}
