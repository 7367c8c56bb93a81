//! Random streams: ChaCha8 with a key that BLAKE3 derives from seed, purpose and entity.

use blake3::hazmat::HasherExt;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// Master seed of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seed(pub u64);

/// Purpose of a stream. The numbers are part of every digest and are never reused or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u16)]
pub enum Purpose {
    /// Selection of clients; entity = aggregator << 32 | number of the selection.
    Selection = 1,
    /// Speed jitter of tasks; entity = client, draw = the client's task number.
    ComputeJitter = 2,
    /// Dropout of tasks; entity = client, draws 2n and 2n + 1 = the client's task number n.
    Dropout = 3,
    /// Availability; entity = client.
    Availability = 4,
    /// Link latency jitter; entity = client.
    LinkJitter = 5,
    /// Assignment of device, link and time zone; entity = client.
    Population = 6,
    /// Device crashes; entity = client.
    Fault = 7,
    /// Clients that attack; entity = 0.
    Attackers = 8,
    /// Noise of the weights by which transfers share links; entity = client, draws 2n and 2n + 1 = download and upload of the client's
    /// task number n; of an edge, its number counted down from the greatest, and n the generation of its model.
    Sharing = 9,
    /// Stalls of transfers; entity = client, draws 4n to 4n + 3 = whether and for how long the download and then the upload of the client's
    /// task number n stall.
    Stalls = 10,
    /// Rows that a client trains on, and their order; entity = client, a task's draws start at its number << 32.
    Batches = 32,
    /// Held-out rows; entity = client.
    HoldOut = 33,
    /// LoRA initialization; entity = module index, draw = element of A in row-major order.
    LoraInit = 34,
    /// Dropout masks inside LoRA.
    LoraDropout = 35,
    /// Partition of a pooled dataset over clients.
    Partition = 36,
    /// Noise of differential privacy. It is reproducible and not cryptographically secure.
    PrivacyNoise = 37,
    /// Sampled tokens in generation.
    Generation = 38,
    /// Synthetic data; entity = client.
    SyntheticData = 39,
    /// Weights of a randomly initialized model; entity = tensor index.
    ModelInit = 40,
    /// Noise that attackers send; entity = task.
    AttackNoise = 41,
    /// Random rounding of what clients send; entity = task, draw = value.
    Compression = 42,
    /// Seeds of a plan's repeats; entity = 0, draw = repeat.
    Repeats = 43,
}

/// A stream of uniform 64-bit draws.
///
/// Every draw consumes exactly one 64-bit number, whatever it is converted to, so that the n-th draw is addressable.
///
/// # Examples
///
/// ```
/// use fedreplay_sim::{Purpose, Seed, Stream};
///
/// let mut stream = Stream::new(Seed(1), Purpose::Batches, 7);
/// let drawn: Vec<u64> = (0..4).map(|_| stream.below(100)).collect();
/// // Draw 3 is the same number without the three draws before it.
/// assert_eq!(Stream::new(Seed(1), Purpose::Batches, 7).at(3).below(100), drawn[3]);
///
/// // Eight of 24 clients, without replacement.
/// let cohort = Stream::new(Seed(1), Purpose::Selection, 0).sample(24, 8);
/// assert_eq!(cohort.len(), 8);
/// assert!(cohort.is_sorted() && cohort[7] < 24);
/// ```
#[derive(Clone, Debug)]
pub struct Stream {
    rng: ChaCha8Rng,
}

/// Words of 32 bits per draw, the unit in which ChaCha counts positions.
const WORDS_PER_DRAW: u128 = 2;

/// Context that separates these keys from all other uses of BLAKE3.
#[cfg(test)]
const CONTEXT: &str = "fedreplay random stream v1";

/// Key that BLAKE3 derives from the context, precomputed because every stream needs it.
const CONTEXT_KEY: [u8; 32] = [
    254, 43, 120, 64, 228, 103, 201, 184, 22, 45, 121, 158, 115, 4, 55, 171, 193, 35, 28, 243, 148, 25, 114, 68, 243,
    90, 17, 203, 178, 189, 137, 13,
];

impl Stream {
    /// Returns the stream of `purpose` for `entity` under `seed`, at its first draw.
    pub fn new(seed: Seed, purpose: Purpose, entity: u64) -> Self {
        let mut hasher = blake3::Hasher::new_from_context_key(&CONTEXT_KEY);
        hasher.update(&seed.0.to_le_bytes());
        hasher.update(&(purpose as u16).to_le_bytes());
        hasher.update(&entity.to_le_bytes());
        Self { rng: ChaCha8Rng::from_seed(*hasher.finalize().as_bytes()) }
    }

    /// Returns the same stream, positioned so that the next draw is number `n`.
    pub fn at(mut self, n: u64) -> Self {
        self.rng.set_word_pos(u128::from(n) * WORDS_PER_DRAW);
        self
    }

    /// Returns the number of the next draw.
    pub fn position(&self) -> u64 {
        (self.rng.get_word_pos() / WORDS_PER_DRAW) as u64
    }

    /// Draws a uniform 64-bit number.
    pub fn next_u64(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// Draws a uniform number in `0..bound`, by widening multiplication. The bias is below `bound / 2^64`.
    ///
    /// # Panics
    /// If `bound` is zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "a draw below zero was asked for");
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// Draws a uniform number in [0, 1), a multiple of 2^-53.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Draws `count` distinct numbers of `0..population` and returns them ascending (Floyd's algorithm: exactly `count`
    /// draws).
    ///
    /// # Panics
    /// If `count` exceeds `population`.
    pub fn sample(&mut self, population: u64, count: u64) -> Vec<u64> {
        assert!(count <= population, "{count} of {population} cannot be sampled without replacement");
        let mut chosen = std::collections::BTreeSet::new();
        for upper in population - count..population {
            // A number that was chosen before is replaced by `upper`, which cannot have been.
            let candidate = self.below(upper + 1);
            if !chosen.insert(candidate) {
                chosen.insert(upper);
            }
        }
        chosen.into_iter().collect()
    }

    /// Shuffles `items` uniformly in place (Fisher-Yates: `items.len() - 1` draws).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

/// A master seed with exceptions by purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seeds {
    master: Seed,
    /// At most one per purpose; a list, because there are few.
    exceptions: Vec<(Purpose, Seed)>,
}

impl Seeds {
    /// Returns one seed for all purposes.
    pub fn new(master: Seed) -> Self {
        Self { master, exceptions: Vec::new() }
    }

    /// Sets the seed of `purpose`. Streams of other purposes draw the same numbers as before.
    pub fn reseed(&mut self, purpose: Purpose, seed: Seed) {
        self.exceptions.retain(|(known, _)| *known != purpose);
        self.exceptions.push((purpose, seed));
    }

    /// Returns the stream of `purpose` for `entity`, at its first draw.
    pub fn stream(&self, purpose: Purpose, entity: u64) -> Stream {
        let exception = self.exceptions.iter().find(|(known, _)| *known == purpose);
        Stream::new(exception.map_or(self.master, |(_, seed)| *seed), purpose, entity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_is_a_pure_function_of_its_address() {
        let mut sequential = Stream::new(Seed(7), Purpose::Dropout, 3);
        let drawn: Vec<u64> = (0..100).map(|_| sequential.next_u64()).collect();
        for (n, expected) in drawn.iter().enumerate().rev() {
            let mut stream = Stream::new(Seed(7), Purpose::Dropout, 3).at(n as u64);
            assert_eq!(stream.position(), n as u64);
            assert_eq!(stream.next_u64(), *expected);
        }
    }

    #[test]
    fn the_context_key_is_that_of_the_context() {
        assert_eq!(blake3::hazmat::hash_derive_key_context(CONTEXT), CONTEXT_KEY);
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        hasher.update(&[1, 2, 3]);
        let mut same = blake3::Hasher::new_from_context_key(&CONTEXT_KEY);
        same.update(&[1, 2, 3]);
        assert_eq!(hasher.finalize(), same.finalize());
    }

    #[test]
    fn streams_differ_in_each_part_of_their_name() {
        let first = |seed, purpose, entity| Stream::new(Seed(seed), purpose, entity).next_u64();
        let base = first(1, Purpose::Selection, 1);
        assert_ne!(base, first(2, Purpose::Selection, 1));
        assert_ne!(base, first(1, Purpose::Dropout, 1));
        assert_ne!(base, first(1, Purpose::Selection, 2));
    }

    #[test]
    fn a_sample_is_distinct_sorted_and_uniform() {
        let mut counts = [0u32; 10];
        for entity in 0..10_000 {
            let sample = Stream::new(Seed(1), Purpose::Selection, entity).sample(10, 3);
            assert!(sample.windows(2).all(|pair| pair[0] < pair[1]));
            sample.iter().for_each(|&i| counts[i as usize] += 1);
        }
        assert!(counts.iter().all(|&n| (2_800..3_200).contains(&n)), "{counts:?}");
    }
}
