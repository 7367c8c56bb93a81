//! Compression of the change that a client sends to the server, and of the model that it receives: codecs whose encoded size follows
//! from the number of values alone, so that a schedule can charge the bytes before anything is trained.
//!
//! A change is the client's adapter minus the one that its task started from, of which [`Sent`] says what a client sends.
//! [`Compression`] encodes it with the scenario's codec, [`TopK`] as one vector and the others matrix by matrix, and decodes what
//! the server aggregates. A new codec is a file with an implementation of `Encoding`, and a variant of [`Codec`]. Nothing is
//! transmitted in addition: shapes and parameters are known to both sides.

mod bits;
mod blocks;
mod int8;
mod nf4;
mod qsgd;
mod sign_sgd;
#[cfg(test)]
mod tests;
mod top_k;

pub use int8::Int8Blocks;
pub use nf4::Nf4Blocks;
pub use qsgd::Qsgd;
pub use sign_sgd::SignSgd;
pub use top_k::TopK;

use std::ops::Range;

use fedreplay_sim::Stream;
use serde::Serialize;

use crate::adapter::{Factors, Layout};
use crate::scenario::{CodecSpec, ScenarioSpec};

/// Lossy code of a vector of finite values.
trait Encoding {
    /// [byte] -- Returns the length of an encoded vector of this number of values.
    fn bytes(&self, count: usize) -> usize;

    /// Appends the encoded vector to `out`: as many bytes as [`Encoding::bytes`] says. `draw` returns uniform numbers in [0, 1).
    fn encode(&self, values: &[f32], draw: &mut dyn FnMut() -> f64, out: &mut Vec<u8>);

    /// Decodes the bytes of [`Encoding::encode`] into `values`, which are zero.
    fn decode(&self, bytes: &[u8], values: &mut [f32]);
}

/// Codec with its parameters. They enter the keys of results as they are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum Codec {
    TopK(TopK),
    Qsgd(Qsgd),
    SignSgd(SignSgd),
    Int8(Int8Blocks),
    Nf4(Nf4Blocks),
}

impl Codec {
    fn encoding(&self) -> &dyn Encoding {
        match self {
            Self::TopK(codec) => codec,
            Self::Qsgd(codec) => codec,
            Self::SignSgd(codec) => codec,
            Self::Int8(codec) => codec,
            Self::Nf4(codec) => codec,
        }
    }

    /// Whether it draws random numbers.
    pub fn is_random(&self) -> bool {
        matches!(self, Self::Qsgd(_))
    }
}

/// Compression of the clients' changes, or of the models that they receive.
///
/// # Examples
///
/// ```
/// use fedreplay::adapter::{Factors, Layout, Module};
/// use fedreplay::compression::{Codec, Compression, Sent, TopK};
///
/// let module = Module { path: "m".into(), in_features: 3, out_features: 2 };
/// let layout = Layout { rank: 1, alpha: 1.0, rank_stabilized: false, has_core: false, modules: vec![module] };
/// let half = Compression { codec: Codec::TopK(TopK { share: 0.5 }), error_feedback: true };
/// let sent = Sent::new(&layout, Factors::Both);
/// let bytes = half.encode(&sent, &[0.5, -4.0, 1.0, 0.25, 2.0], None);
/// assert_eq!(bytes.len() as u64, half.bytes(&sent));
/// assert_eq!(half.decode(&sent, &bytes), [0.0, -4.0, 0.0, 0.0, 2.0]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Compression {
    pub codec: Codec,
    /// Whether a client adds what a change has lost to its next change.
    pub error_feedback: bool,
}

impl Compression {
    /// Creates the compression of what clients send that a scenario names, if any.
    pub fn new(scenario: &ScenarioSpec) -> Option<Self> {
        scenario.server.uplink_codec.map(Self::by)
    }

    /// Creates the compression of the models that clients receive that a scenario names, if any.
    pub fn of_models(scenario: &ScenarioSpec) -> Option<Self> {
        scenario.server.downlink_codec.map(Self::by)
    }

    /// Creates the compression by a codec.
    fn by(codec: CodecSpec) -> Self {
        let (codec, error_feedback) = match codec {
            CodecSpec::TopK { share, error_feedback } => (Codec::TopK(TopK { share }), error_feedback),
            CodecSpec::Qsgd { levels, bucket } => (Codec::Qsgd(Qsgd { levels, bucket }), false),
            CodecSpec::SignSgd { error_feedback } => (Codec::SignSgd(SignSgd), error_feedback),
            CodecSpec::Int8 => (Codec::Int8(Int8Blocks), false),
            CodecSpec::Nf4 => (Codec::Nf4(Nf4Blocks), false),
        };
        Self { codec, error_feedback }
    }

    /// Returns the ranges of an adapter's values that are encoded one vector after another. [`TopK`] takes all matrices as one vector, so
    /// that matrices which have changed more send more.
    fn vectors(&self, sent: &Sent) -> Vec<Vec<Range<usize>>> {
        match self.codec {
            Codec::TopK(_) => vec![sent.ranges().collect()],
            _ => sent.matrices(),
        }
    }

    /// [byte] -- Returns the length of an encoded change.
    pub fn bytes(&self, sent: &Sent) -> u64 {
        let encoding = self.codec.encoding();
        self.vectors(sent).iter().map(|vector| encoding.bytes(count(vector)) as u64).sum()
    }

    /// Encodes the values that are sent of a whole adapter's `values`, all of which are finite. `draws` is for codecs that round at
    /// random.
    ///
    /// # Panics
    /// If the codec rounds at random and there is no stream.
    pub fn encode(&self, sent: &Sent, values: &[f32], mut draws: Option<Stream>) -> Vec<u8> {
        let mut draw = || draws.as_mut().expect("a codec that rounds at random has a stream").unit();
        let mut out = Vec::with_capacity(self.bytes(sent) as usize);
        for vector in self.vectors(sent) {
            let gathered: Vec<f32> = vector.into_iter().flat_map(|range| values[range].iter().copied()).collect();
            self.codec.encoding().encode(&gathered, &mut draw, &mut out);
        }
        out
    }

    /// Decodes the bytes of [`Compression::encode`] into the values of a whole adapter; those that are not sent are zero.
    ///
    /// # Panics
    /// If there are not as many bytes as [`Compression::bytes`] says.
    pub fn decode(&self, sent: &Sent, bytes: &[u8]) -> Vec<f32> {
        let mut values = vec![0.0; sent.layout.parameters()];
        let mut rest = bytes;
        for vector in self.vectors(sent) {
            let mut decoded = vec![0.0; count(&vector)];
            let (own, others) = rest.split_at(self.codec.encoding().bytes(decoded.len()));
            rest = others;
            self.codec.encoding().decode(own, &mut decoded);
            let mut start = 0;
            for range in vector {
                let end = start + range.len();
                values[range].copy_from_slice(&decoded[start..end]);
                start = end;
            }
        }
        assert!(rest.is_empty(), "{} bytes are left over", rest.len());
        values
    }
}

/// Values of an adapter that a client sends: of the matrices among `factors`, the first `rank` rows of each A and columns of each B.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    /// Layout of the server's adapter.
    pub layout: &'a Layout,
    pub factors: Factors,
    /// Rank of the client, at most that of the layout.
    pub rank: usize,
}

impl<'a> Sent<'a> {
    /// Creates the values that a client of the layout's own rank sends.
    pub fn new(layout: &'a Layout, factors: Factors) -> Self {
        Self { layout, factors, rank: layout.rank }
    }

    /// Returns the ranges of each matrix among an adapter's values.
    fn matrices(&self) -> Vec<Vec<Range<usize>>> {
        let mut matrices = Vec::new();
        let ranges = self.layout.ranges().into_iter().zip(self.layout.core_ranges());
        let sent = ranges.zip(self.factors.by_module(self.layout));
        for (module, (((a, b), core), [has_a, has_b, has_core])) in self.layout.modules.iter().zip(sent) {
            if has_a {
                let rows = a.start..a.start + self.rank * module.in_features;
                matrices.push(vec![rows]);
            }
            // B is stored by outputs, so its first columns are a part of each row.
            if has_b && self.rank == self.layout.rank {
                matrices.push(vec![b]);
            } else if has_b {
                matrices.push(b.step_by(self.layout.rank).map(|row| row..row + self.rank).collect());
            }
            // Clients of lower ranks have no core.
            if has_core {
                matrices.push(vec![core]);
            }
        }
        matrices
    }

    /// Returns the ranges of all values, in the order in which they are sent.
    pub fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        self.matrices().into_iter().flatten()
    }
}

/// Returns the number of values in ranges.
fn count(ranges: &[Range<usize>]) -> usize {
    ranges.iter().map(Range::len).sum()
}
