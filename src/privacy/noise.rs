//! Noise sources, and samplers of the Gaussian and of the discrete Gaussian distribution.
//!
//! The discrete Gaussian is sampled exactly, in integer arithmetic: Canonne, Kamath and Steinke, "The discrete Gaussian
//! for differential privacy" (2020).

use std::io::Read;

use fedreplay_sim::{Purpose, Seed, Stream};
use serde::{Deserialize, Serialize};

/// Origin of the noise of a run.
#[derive(Clone, Debug)]
pub enum NoiseSource {
    /// The run's seed: reproducible, but no protection against anyone who knows the seed.
    Seeded(Seed),
    /// A key from the operating system that is never stored.
    Secret(Secret),
}

/// A key from the operating system. Its mark identifies it in records without revealing it.
#[derive(Clone)]
pub struct Secret {
    key: [u8; 32],
    /// Identifier that represents the key in content hashes.
    pub mark: SecretMark,
}

/// Identifier of a secret key: distinct for distinct keys, and computed by a one-way function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretMark([u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret").field("mark", &self.mark).finish_non_exhaustive()
    }
}

impl Secret {
    /// Draws a new key.
    ///
    /// # Errors
    /// If the operating system's generator cannot be read.
    pub fn draw() -> std::io::Result<Self> {
        let mut key = [0; 32];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut key)?;
        let mark = SecretMark(blake3::derive_key("fedreplay mark of a noise key v1", &key));
        Ok(Self { key, mark })
    }
}

/// A stream of noise. Each release has its own, and so has each task under local placement.
pub enum NoiseStream {
    /// Draws from the seed.
    Seeded(Stream),
    /// Output of keyed BLAKE3.
    Secret(blake3::OutputReader),
}

impl NoiseSource {
    /// Returns the stream of `entity`, at its beginning.
    pub fn stream(&self, entity: u64) -> NoiseStream {
        match self {
            Self::Seeded(seed) => NoiseStream::Seeded(Stream::new(*seed, Purpose::PrivacyNoise, entity)),
            Self::Secret(secret) => {
                NoiseStream::Secret(blake3::Hasher::new_keyed(&secret.key).update(&entity.to_le_bytes()).finalize_xof())
            }
        }
    }
}

impl NoiseStream {
    /// Draws 64 uniform bits.
    pub fn next_u64(&mut self) -> u64 {
        match self {
            Self::Seeded(stream) => stream.next_u64(),
            Self::Secret(reader) => {
                let mut bytes = [0; 8];
                reader.fill(&mut bytes);
                u64::from_le_bytes(bytes)
            }
        }
    }

    /// Draws a uniform number in (0, 1].
    fn unit(&mut self) -> f64 {
        ((self.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// Draws two independent standard normals (Box and Muller 1958), from two uniform draws.
    pub fn normals(&mut self) -> [f64; 2] {
        let radius = libm::sqrt(-2.0 * libm::log(self.unit()));
        let (sin, cos) = libm::sincos(2.0 * std::f64::consts::PI * self.unit());
        [radius * cos, radius * sin]
    }

    /// Adds Gaussian noise of standard deviation `deviation` to each value, in place.
    pub fn add_gaussian(&mut self, values: &mut [f64], deviation: f64) {
        for pair in values.chunks_mut(2) {
            let noise = self.normals();
            for (value, noise) in pair.iter_mut().zip(noise) {
                *value += deviation * noise;
            }
        }
    }

    /// Draws a uniform integer below `bound`, without bias.
    fn below(&mut self, bound: u128) -> u128 {
        assert!(bound > 0, "a draw below zero was asked for");
        // Rejection sampling: with the smallest mask that covers the bound, at least half of all draws succeed.
        let mask = u128::MAX >> (bound - 1).leading_zeros().min(127);
        loop {
            let wide = u128::from(self.next_u64()) << 64 | u128::from(self.next_u64());
            if wide & mask < bound {
                return wide & mask;
            }
        }
    }

    /// Returns true with probability exp(-numerator / denominator), exactly (Canonne, Kamath and Steinke 2020,
    /// algorithm 1).
    fn decays(&mut self, numerator: u128, denominator: u128) -> bool {
        // exp(-n/d) = exp(-1)^whole * exp(-rest/d), each factor a coin of its own.
        let whole = numerator / denominator;
        let rest = numerator % denominator;
        (0..whole).all(|_| self.decays_below_one(1, 1)) && self.decays_below_one(rest, denominator)
    }

    /// Returns the same as [`Self::decays`], for a ratio of at most 1.
    fn decays_below_one(&mut self, numerator: u128, denominator: u128) -> bool {
        // Coin k succeeds with probability g / k for g = n/d, so k successes have probability g^k / k!. The index of
        // the first failure is odd with probability sum over k of (-g)^k / k! = exp(-g).
        let mut k = 1u128;
        while self.below(denominator * k) < numerator {
            k += 1;
        }
        k % 2 == 1
    }

    /// Draws from the discrete Laplace distribution of this scale, exactly (ibid., algorithm 2 with s = 1).
    fn discrete_laplace(&mut self, scale: u64) -> i128 {
        loop {
            // The magnitude is geometric, split into low + scale * high: `low` by rejection, `high` by counting coins.
            let low = self.below(u128::from(scale));
            if !self.decays_below_one(low, u128::from(scale)) {
                continue;
            }
            let mut high = 0u128;
            while self.decays_below_one(1, 1) {
                high += 1;
            }
            let magnitude = (low + u128::from(scale) * high) as i128;
            let is_negative = self.below(2) == 1;
            // Without this, zero would have twice its probability, once for each sign.
            if !(is_negative && magnitude == 0) {
                return if is_negative { -magnitude } else { magnitude };
            }
        }
    }

    /// Draws from the discrete Gaussian with parameter `deviation`, exactly (ibid., algorithm 3).
    ///
    /// # Panics
    /// Unless the deviation is between 1 and [`DEVIATION_MAX`].
    pub fn discrete_gaussian(&mut self, deviation: u64) -> i64 {
        assert!((1..=DEVIATION_MAX).contains(&deviation), "{deviation} is out of range");
        let scale = deviation + 1;
        let variance = u128::from(deviation) * u128::from(deviation);
        loop {
            let candidate = self.discrete_laplace(scale);
            // A Laplace candidate y is accepted with probability exp(-(|y| - variance / scale)^2 / (2 variance)), with
            // the exponent as a ratio of integers. Beyond 2^60 the square would overflow, and acceptance is impossible
            // in practice.
            let distance = (candidate.unsigned_abs() * u128::from(scale)).abs_diff(variance);
            let denominator = 2 * variance * u128::from(scale) * u128::from(scale);
            if distance < 1 << 60 && self.decays(distance * distance, denominator) {
                return candidate as i64;
            }
        }
    }
}

/// Largest parameter of a discrete Gaussian: the integers of the sampler then stay within 128 bits.
pub const DEVIATION_MAX: u64 = 1 << 24;

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(entity: u64) -> NoiseStream {
        NoiseSource::Seeded(Seed(1)).stream(entity)
    }

    /// Kolmogorov and Smirnov's distance of `sample` to a distribution function.
    fn distance(mut sample: Vec<f64>, cdf: impl Fn(f64) -> f64) -> f64 {
        sample.sort_by(f64::total_cmp);
        let n = sample.len() as f64;
        let at =
            |(index, &x): (usize, &f64)| ((index + 1) as f64 / n - cdf(x)).abs().max((cdf(x) - index as f64 / n).abs());
        sample.iter().enumerate().map(at).fold(0.0, f64::max)
    }

    #[test]
    fn gaussian_noise_has_its_variance_and_is_normal() {
        let mut values = vec![0.0; 200_000];
        stream(0).add_gaussian(&mut values, 3.0);
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let moment = |k: i32| values.iter().map(|x| ((x - mean) / 3.0).powi(k)).sum::<f64>() / n;
        // Five standard errors of each estimate.
        assert!(mean.abs() < 5.0 * 3.0 / n.sqrt(), "{mean}");
        assert!((moment(2) - 1.0).abs() < 5.0 * (2.0 / n).sqrt(), "{}", moment(2));
        assert!(moment(3).abs() < 5.0 * (15.0 / n).sqrt(), "{}", moment(3));
        assert!((moment(4) - 3.0).abs() < 5.0 * (96.0 / n).sqrt(), "{}", moment(4));
        let cdf = |x: f64| 0.5 * libm::erfc(-x / 3.0 / std::f64::consts::SQRT_2);
        assert!(distance(values, cdf) < 1.95 / n.sqrt());
    }

    #[test]
    fn discrete_noise_has_the_probabilities_of_its_definition() {
        for deviation in [1u64, 3, 40] {
            let mut stream = stream(deviation);
            let n = 60_000;
            let draws: Vec<i64> = (0..n).map(|_| stream.discrete_gaussian(deviation)).collect();
            let s = deviation as f64;
            let weight = |k: i64| (-(k * k) as f64 / (2.0 * s * s)).exp();
            let total: f64 = (-400..=400).map(weight).sum();
            for k in -2..=2 {
                let (p, found) = (weight(k) / total, draws.iter().filter(|&&draw| draw == k).count() as f64 / n as f64);
                assert!((found - p).abs() < 5.0 * (p * (1.0 - p) / n as f64).sqrt(), "{deviation} at {k}: {found} {p}");
            }
            let variance = draws.iter().map(|&k| (k * k) as f64).sum::<f64>() / n as f64;
            let expected: f64 = (-400..=400).map(|k| (k * k) as f64 * weight(k) / total).sum();
            assert!((variance / expected - 1.0).abs() < 5.0 * (2.0 / n as f64).sqrt(), "{deviation}: {variance}");
        }
    }

    #[test]
    fn the_largest_deviation_fits_its_integers() {
        let mut stream = stream(9);
        let draws: Vec<f64> = (0..200).map(|_| stream.discrete_gaussian(DEVIATION_MAX) as f64).collect();
        let deviation = (draws.iter().map(|x| x * x).sum::<f64>() / 200.0).sqrt() / DEVIATION_MAX as f64;
        assert!((0.75..1.25).contains(&deviation), "{deviation}");
    }

    #[test]
    fn secret_noise_differs_from_key_to_key_and_is_fixed_within_one() {
        let (one, other) = (Secret::draw().expect("an operating system"), Secret::draw().expect("an operating system"));
        assert_ne!(one.mark, other.mark);
        let first = |secret: &Secret| NoiseSource::Secret(secret.clone()).stream(7).next_u64();
        assert_eq!(first(&one), first(&one));
        assert_ne!(first(&one), first(&other));
        assert!(!format!("{one:?}").contains("key:"));
    }
}
