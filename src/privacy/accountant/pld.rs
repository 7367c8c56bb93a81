//! Privacy loss distributions: the tight accountant for Poisson sampling.
//!
//! The privacy loss of an output is ln(p/q) of its densities on two neighboring data sets. Under composition losses add
//! up, so their distribution is a convolution, computed here on a grid (Sommer et al. 2019, Koskela et al. 2020).
//! Losses are discretized pessimistically: the mass between two grid points is split between them so that its
//! probability under both neighbors is preserved ("connect the dots", Doroshenko et al. 2022), which bounds delta from
//! above at every epsilon.

use super::fourier::{Complex, transform};
use super::numeric::{normal_cdf, normal_mass};

/// Distribution of a privacy loss on a grid.
#[derive(Clone, Debug)]
pub struct LossDistribution {
    /// [1] -- Distance between grid points.
    interval: f64,
    /// [interval] -- First grid point.
    lowest: i64,
    /// Probability of each grid point, in order.
    masses: Vec<f64>,
    /// Probability of an infinite loss: outputs that only one of the neighbors can produce, and all truncated mass.
    infinite: f64,
}

/// The neighbor that contains the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Outputs come from the data with the client, which is then removed.
    Remove,
    /// Outputs come from the data without the client, which is then added.
    Add,
}

/// One step of the Poisson-sampled Gaussian mechanism: noise on a sum in which each client takes part at random.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampledMechanism {
    /// [sensitivity] -- Standard deviation of the noise, above 0.
    pub noise_multiplier: f64,
    /// [1] -- Probability that a client takes part, above 0 and at most 1.
    pub rate: f64,
}

/// [sigma] -- Tail of the noise that is integrated; the probability beyond is below 1e-23.
const TAIL: f64 = 10.0;

/// Probability that is truncated at either end of a composed loss; it is counted as an infinite loss.
const CUT: f64 = 1e-16;

/// [1] -- Coarsest grid interval.
const INTERVAL_MAX: f64 = 1e-3;

/// [interval] -- Grid points per standard deviation of one step's loss.
const INTERVALS_PER_DEVIATION: f64 = 32.0;

/// [1] -- Greatest loss of one step on the grid. The exponential of a loss overflows from 709 on.
const LOSS_MAX: f64 = 650.0;

/// [interval] -- Longest grid.
const GRID_MAX: i64 = 1 << 22;

impl SampledMechanism {
    /// Returns the loss at noise `x`: the logarithm of the density with the client over the density without.
    fn loss(&self, x: f64) -> f64 {
        // ln(1 - q + q exp(plain)), where `plain` is the loss without sampling. Above 600 the exponential would
        // overflow, and 1 - q no longer matters.
        let plain = (2.0 * x - 1.0) / (2.0 * self.noise_multiplier * self.noise_multiplier);
        if self.rate == 1.0 {
            plain
        } else if plain > 600.0 {
            plain + libm::log(self.rate)
        } else {
            libm::log1p(self.rate * libm::expm1(plain))
        }
    }

    /// Returns the noise at which the loss is `loss`: the inverse of [`Self::loss`]. Minus infinity below every
    /// possible loss.
    fn noise_at(&self, loss: f64) -> f64 {
        let variance = self.noise_multiplier * self.noise_multiplier;
        let plain = match loss {
            _ if self.rate == 1.0 => loss,
            _ if loss > 600.0 => loss - libm::log(self.rate),
            _ => libm::log1p((libm::expm1(loss) / self.rate).max(-1.0)),
        };
        0.5 + variance * plain
    }

    /// Returns the probabilities of an output between `from` and `to`, with the client and without.
    fn masses(&self, from: f64, to: f64) -> (f64, f64) {
        let sigma = self.noise_multiplier;
        let without = normal_mass(from / sigma, to / sigma);
        let with = normal_mass((from - 1.0) / sigma, (to - 1.0) / sigma);
        ((1.0 - self.rate) * without + self.rate * with, without)
    }

    /// Returns the range of outputs that is integrated.
    fn ends(&self) -> (f64, f64) {
        (-TAIL * self.noise_multiplier, 1.0 + TAIL * self.noise_multiplier)
    }

    /// Returns a grid interval that is fine enough for this step [1]: a fraction of the standard deviation of its loss.
    fn interval(&self) -> f64 {
        let (low, high) = self.ends();
        let cells = 2_000;
        // First and second moment of the loss by the midpoint rule.
        let mut first = 0.0;
        let mut second = 0.0;
        for cell in 0..cells {
            let [start, middle, end] =
                [0.0, 0.5, 1.0].map(|part| low + (high - low) * (f64::from(cell) + part) / f64::from(cells));
            let (mass, _) = self.masses(start, end);
            let loss = self.loss(middle);
            first += mass * loss;
            second += mass * loss * loss;
        }
        let deviation = libm::sqrt((second - first * first).max(0.0));
        let range = self.loss(high) - self.loss(low);
        (deviation / INTERVALS_PER_DEVIATION).min(INTERVAL_MAX).max(range / GRID_MAX as f64)
    }

    /// Returns the loss distribution of `steps` composed steps, on a grid that is coarsened until it fits.
    pub fn composed(&self, direction: Direction, steps: u64) -> LossDistribution {
        let mut interval = self.interval();
        loop {
            if let Some(composed) = LossDistribution::of_step(self, direction, interval).composed(steps) {
                return composed;
            }
            interval *= 2.0;
        }
    }

    /// Returns whether the losses of one step are within the range of the grid.
    pub fn is_within_grid(&self) -> bool {
        let (low, high) = self.ends();
        self.loss(high).max(-self.loss(low)) <= LOSS_MAX
    }

    /// Returns the smallest epsilon at `delta` after `steps` steps, for neighbors that differ by one client added or
    /// removed. Where there is so little noise that the losses are beyond the range of the grid, it is the epsilon of the
    /// exact Gaussian without sampling, which bounds it, because sampling never adds to what a step reveals.
    pub fn epsilon(&self, steps: u64, delta: f64) -> f64 {
        if !self.is_within_grid() {
            return gaussian_epsilon(libm::sqrt(steps as f64) / self.noise_multiplier, delta);
        }
        let removed = self.composed(Direction::Remove, steps).epsilon(delta);
        let added = self.composed(Direction::Add, steps).epsilon(delta);
        removed.max(added)
    }
}

impl LossDistribution {
    /// Discretizes the loss of one step onto a grid of this interval.
    fn of_step(step: &SampledMechanism, direction: Direction, interval: f64) -> Self {
        let (low, high) = step.ends();
        let sign = if direction == Direction::Remove { 1.0 } else { -1.0 };
        let loss_at_low = sign * step.loss(low);
        let loss_at_high = sign * step.loss(high);
        let lowest = (loss_at_low.min(loss_at_high) / interval).floor() as i64;
        let highest = ((loss_at_low.max(loss_at_high) / interval).ceil() as i64).max(lowest + 1);
        let mut masses = vec![0.0; (highest - lowest + 1) as usize];
        // Connect the dots: let p and q be the masses of a cell [l, l + h] under the two neighbors. The masses a at l
        // and b at l + h that preserve both, a + b = p and a exp(-l) + b exp(-l - h) = q, are b = (p - exp(l) q) / (1 -
        // exp(-h)) and a = p - b.
        let share = -libm::expm1(-interval);
        let mut from = step.noise_at(sign * lowest as f64 * interval).clamp(low, high);
        for cell in 0..masses.len() - 1 {
            let point = lowest + cell as i64;
            let to = step.noise_at(sign * (point + 1) as f64 * interval).clamp(low, high);
            let (with, without) = step.masses(from.min(to), from.max(to));
            let (own, other) = if direction == Direction::Remove { (with, without) } else { (without, with) };
            let upper = ((own - libm::exp(point as f64 * interval) * other) / share).clamp(0.0, own);
            masses[cell] += own - upper;
            masses[cell + 1] += upper;
            from = to;
        }
        // Beyond the range, the tail of small losses is rounded up to the lowest point, and that of large losses to
        // infinity.
        let (below_with, below_without) = step.masses(2.0 * low - high, low);
        let (above_with, above_without) = step.masses(high, 2.0 * high - low);
        let (least, infinite) = match direction {
            Direction::Remove => (below_with, above_with),
            Direction::Add => (above_without, below_without),
        };
        masses[0] += least;
        Self { interval, lowest, masses, infinite }
    }

    /// Returns the distribution of the sum of `steps` independent losses, or `None` if the grid is too fine: longer
    /// than [`GRID_MAX`].
    fn composed(&self, steps: u64) -> Option<Self> {
        let (lowest, highest) = self.window(steps);
        if highest - lowest >= GRID_MAX {
            return None;
        }
        let length = ((highest - lowest + 1) as usize).next_power_of_two();
        // The convolution power is a power of the transform. It is circular: index 0 is `steps` times the lowest point,
        // and mass outside of the window wraps around into it. That mass is also added to the infinite loss, so the
        // result remains an upper bound.
        let mut values = vec![Complex::default(); length];
        for (index, mass) in self.masses.iter().enumerate() {
            values[index % length].re += mass;
        }
        transform(&mut values, false);
        for value in &mut values {
            *value = value.power(steps);
        }
        transform(&mut values, true);
        let origin = self.lowest * steps as i64;
        let mut masses = Vec::with_capacity((highest - lowest + 1) as usize);
        for point in lowest..=highest {
            let index = (point - origin).rem_euclid(length as i64) as usize;
            // Rounding can leave a mass slightly below zero.
            masses.push((values[index].re / length as f64).max(0.0));
        }
        let all_finite = libm::exp(steps as f64 * libm::log1p(-self.infinite));
        Some(Self { interval: self.interval, lowest, masses, infinite: (1.0 - all_finite) + 2.0 * CUT })
    }

    /// Returns the grid points between which the sum of `steps` losses lies, except with probability [`CUT`] at either
    /// end.
    fn window(&self, steps: u64) -> (i64, i64) {
        let steps_f = steps as f64;
        // Chernoff's bound: P(S >= s) <= exp(n ln E[exp(r L)] - r s) for every rate r > 0, and likewise from below. The
        // rates are powers of two, of which the best gives a window that is tight enough.
        let mut low = self.lowest as f64 * steps_f;
        let mut high = (self.lowest + self.masses.len() as i64) as f64 * steps_f;
        for power in -10..=16 {
            let rate = libm::exp2(f64::from(power));
            for signed in [rate, -rate] {
                let bound = (steps_f * self.log_moment(signed) - libm::log(CUT)) / rate / self.interval;
                if signed > 0.0 { high = high.min(bound) } else { low = low.max(-bound) }
            }
        }
        (low.floor() as i64, high.ceil() as i64)
    }

    /// Returns ln E[exp(rate L)] over finite losses.
    fn log_moment(&self, rate: f64) -> f64 {
        let ends = [self.lowest, self.lowest + self.masses.len() as i64 - 1];
        let greatest = ends.map(|end| rate * end as f64 * self.interval).into_iter().fold(f64::MIN, f64::max);
        let mut sum = 0.0;
        for (index, mass) in self.masses.iter().enumerate() {
            let exponent = rate * (self.lowest + index as i64) as f64 * self.interval - greatest;
            // Below -745 the exponential underflows to zero.
            if exponent < -745.0 {
                continue;
            }
            sum += mass * libm::exp(exponent);
        }
        greatest + libm::log(sum)
    }

    /// Returns the smallest epsilon, at least 0, at which delta is at most `delta`.
    pub fn epsilon(&self, delta: f64) -> f64 {
        if self.infinite > delta {
            return f64::INFINITY;
        }
        let decay = libm::exp(-self.interval);
        // delta(eps) = infinite + sum over losses l > eps of m(l) (1 - exp(eps - l)). Going down from the greatest
        // loss, `mass` is the sum of m(l) so far, and `discounted` that of m(l) exp(point - l), so that between this
        // point and the one below delta(eps) = mass - discounted exp(eps - point), which is solved for eps as soon as
        // it exceeds `delta`.
        let mut mass = self.infinite;
        let mut discounted = 0.0;
        for (index, &here) in self.masses.iter().enumerate().rev() {
            let point = (self.lowest + index as i64) as f64 * self.interval;
            mass += here;
            discounted = discounted * decay + here;
            if point <= 0.0 {
                // Delta is within the bound at epsilon zero already.
                if mass - discounted * libm::exp(-point) <= delta {
                    return 0.0;
                }
            }
            if mass - discounted * decay > delta {
                let epsilon = point + libm::log((mass - delta) / discounted);
                return epsilon.max(0.0);
            }
        }
        0.0
    }

    /// Returns delta at `epsilon`: the mean of max(0, 1 - exp(epsilon - loss)).
    pub fn delta(&self, epsilon: f64) -> f64 {
        let mut finite = 0.0;
        for (index, mass) in self.masses.iter().enumerate() {
            let excess = (self.lowest + index as i64) as f64 * self.interval - epsilon;
            if excess > 0.0 {
                finite += -mass * libm::expm1(-excess);
            }
        }
        self.infinite + finite
    }
}

/// Returns the exact delta of a Gaussian mechanism whose means on neighbors differ by `distance` standard deviations
/// (Balle and Wang 2018, theorem 8).
pub fn gaussian_delta(distance: f64, epsilon: f64) -> f64 {
    let half = distance / 2.0;
    let part = epsilon / distance;
    let tail = -half - part;
    // delta = P(Z <= d/2 - eps/d) - exp(eps) P(Z <= -d/2 - eps/d). The tail may underflow where exp(eps) is large, so
    // their product is taken in logarithms.
    let second = if tail > -37.0 { libm::exp(epsilon + libm::log(normal_cdf(tail))) } else { 0.0 };
    (normal_cdf(half - part) - second).max(0.0)
}

/// Returns the smallest epsilon at `delta` of a Gaussian mechanism whose means on neighbors differ by `distance`
/// standard deviations, to a relative 1e-12.
pub fn gaussian_epsilon(distance: f64, delta: f64) -> f64 {
    if distance == 0.0 || gaussian_delta(distance, 0.0) <= delta {
        return 0.0;
    }
    if !distance.is_finite() {
        return f64::INFINITY;
    }
    // Doubling until the answer is enclosed, then bisection. The upper end is returned, which never understates
    // epsilon.
    let mut low = 0.0;
    let mut high = 1.0;
    while gaussian_delta(distance, high) > delta {
        low = high;
        high *= 2.0;
    }
    while high - low > 1e-12 * high {
        let middle = 0.5 * (low + high);
        if gaussian_delta(distance, middle) > delta { low = middle } else { high = middle }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_noise_is_charged_at_most_as_without_sampling_and_never_less_than_more_noise() {
        for (rate, steps) in [(1.0, 1), (0.5, 1), (0.01, 1), (0.01, 1000), (0.3, 100_000)] {
            let mut before = f64::INFINITY;
            for noise in [1e-300, 1e-9, 1e-4, 0.01, 0.03, 0.034, 0.035, 0.0355, 0.036, 0.0365, 0.037, 0.038, 0.05, 0.1]
            {
                let found = SampledMechanism { noise_multiplier: noise, rate }.epsilon(steps, 1e-5);
                let bound = gaussian_epsilon(libm::sqrt(steps as f64) / noise, 1e-5);
                assert!(found <= bound * (1.0 + 1e-3), "{noise} {rate} {steps}: {found} above {bound}");
                assert!(found > 0.0 && found <= before, "{noise} {rate} {steps}: {found} after {before}");
                before = found;
            }
        }
        // One step of a client that takes part for sure, by Balle and Wang's theorem 8: d^2/2 + d z(delta), nearly.
        let found = SampledMechanism { noise_multiplier: 0.02, rate: 1.0 }.epsilon(1, 1e-5);
        assert!((found / (1250.0 + 50.0 * 4.264_890_8) - 1.0).abs() < 1e-3, "{found}");
    }

    #[test]
    fn without_sampling_it_is_the_exact_gaussian() {
        for (noise, steps, delta) in [(1.0, 1, 1e-5), (4.0, 100, 1e-5), (0.5, 3, 1e-3), (20.0, 1000, 1e-8)] {
            let found = SampledMechanism { noise_multiplier: noise, rate: 1.0 }.epsilon(steps, delta);
            let exact = gaussian_epsilon(libm::sqrt(steps as f64) / noise, delta);
            assert!((found / exact - 1.0).abs() < 1e-4, "{noise} {steps}: {found} against {exact}");
            assert!(found >= exact * (1.0 - 1e-9), "the bound is below the truth: {found} < {exact}");
        }
    }

    #[test]
    fn delta_and_epsilon_are_inverse() {
        let composed = SampledMechanism { noise_multiplier: 1.0, rate: 0.05 }.composed(Direction::Remove, 100);
        for delta in [1e-2, 1e-5, 1e-8] {
            let epsilon = composed.epsilon(delta);
            assert!((composed.delta(epsilon) / delta - 1.0).abs() < 1e-6, "{delta}");
        }
    }

    #[test]
    fn probabilities_add_up_to_one() {
        for direction in [Direction::Remove, Direction::Add] {
            let composed = SampledMechanism { noise_multiplier: 0.7, rate: 0.01 }.composed(direction, 1_000);
            let total: f64 = composed.masses.iter().sum::<f64>() + composed.infinite;
            assert!((total - 1.0).abs() < 1e-9, "{direction:?}: {total}");
        }
    }
}
