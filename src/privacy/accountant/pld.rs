//! Privacy loss distributions: the tight accountant for Poisson sampling.
//!
//! The privacy loss of an output is ln(p/q) of its densities on two neighbours. Losses of composed mechanisms add up, so
//! their distribution is a convolution, here on a grid (Sommer et al. 2019, Koskela et al. 2020). Onto the grid a loss
//! comes pessimistically: what lies between two points is split among them so that the probability under both
//! neighbours is kept ("connect the dots", Doroshenko et al. 2022), which bounds delta from above at every epsilon.

use super::fourier::{Complex, transform};
use super::numeric::{normal_cdf, normal_mass};

/// The distribution of a privacy loss on a grid.
#[derive(Clone, Debug)]
pub struct LossDistribution {
    /// [1] Distance between grid points.
    interval: f64,
    /// The first grid point, in intervals.
    lowest: i64,
    /// Probability of each grid point, in order.
    masses: Vec<f64>,
    /// Probability of an output that identifies its neighbour, with everything that was cut off.
    infinite: f64,
}

/// Which neighbour has the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The outputs come from the data with the client; it is then removed.
    Remove,
    /// They come from the data without it; it is then added.
    Add,
}

/// One step: Gaussian noise on a sum in which each client takes part with a probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampled {
    /// [1] Standard deviation of the noise in sensitivities -- above 0.
    pub noise_multiplier: f64,
    /// [1] Probability that a client takes part -- above 0, at most 1.
    pub rate: f64,
}

/// [sigma] How far into the tails the noise is followed: beyond lies less than 1e-23.
const TAIL: f64 = 10.0;

/// Probability at either end of a composed loss that is not followed; it counts as identifying.
const CUT: f64 = 1e-16;

/// [1] The coarsest grid.
const INTERVAL_MAX: f64 = 1e-3;

/// [intervals] Grid points to a standard deviation of one step's loss.
const INTERVALS_PER_DEVIATION: f64 = 32.0;

/// [intervals] The longest grid.
const GRID_MAX: i64 = 1 << 22;

impl Sampled {
    /// The loss at noise `x`: its density with the client over that without.
    fn loss(&self, x: f64) -> f64 {
        let plain = (2.0 * x - 1.0) / (2.0 * self.noise_multiplier * self.noise_multiplier);
        if self.rate == 1.0 {
            plain
        } else if plain > 600.0 {
            plain + libm::log(self.rate)
        } else {
            libm::log1p(self.rate * libm::expm1(plain))
        }
    }

    /// The noise at which the loss is `loss`; minus infinity below every loss that occurs.
    fn noise_at(&self, loss: f64) -> f64 {
        let variance = self.noise_multiplier * self.noise_multiplier;
        let plain = match loss {
            _ if self.rate == 1.0 => loss,
            _ if loss > 600.0 => loss - libm::log(self.rate),
            _ => libm::log1p((libm::expm1(loss) / self.rate).max(-1.0)),
        };
        0.5 + variance * plain
    }

    /// Probabilities of noise between `from` and `to`, with the client and without.
    fn masses(&self, from: f64, to: f64) -> (f64, f64) {
        let sigma = self.noise_multiplier;
        let without = normal_mass(from / sigma, to / sigma);
        let with = normal_mass((from - 1.0) / sigma, (to - 1.0) / sigma);
        ((1.0 - self.rate) * without + self.rate * with, without)
    }

    /// The ends of the noise that is followed.
    fn ends(&self) -> (f64, f64) {
        (-TAIL * self.noise_multiplier, 1.0 + TAIL * self.noise_multiplier)
    }

    /// [1] A grid fine enough for this step: a part of the standard deviation of its loss.
    fn interval(&self) -> f64 {
        let (low, high) = self.ends();
        let cells = 2_000;
        let (mut first, mut second) = (0.0, 0.0);
        for cell in 0..cells {
            let at = |part: f64| low + (high - low) * (f64::from(cell) + part) / f64::from(cells);
            let (mass, _) = self.masses(at(0.0), at(1.0));
            let loss = self.loss(at(0.5));
            first += mass * loss;
            second += mass * loss * loss;
        }
        let deviation = libm::sqrt((second - first * first).max(0.0));
        let range = self.loss(high) - self.loss(low);
        (deviation / INTERVALS_PER_DEVIATION).min(INTERVAL_MAX).max(range / GRID_MAX as f64)
    }

    /// The loss distribution of `steps` of these steps.
    pub fn composed(&self, direction: Direction, steps: u64) -> LossDistribution {
        let mut interval = self.interval();
        loop {
            if let Some(composed) = LossDistribution::of_step(self, direction, interval).composed(steps) {
                return composed;
            }
            interval *= 2.0;
        }
    }

    /// The least epsilon at `delta` after `steps` steps, neighbours differing by one client more or less.
    pub fn epsilon(&self, steps: u64, delta: f64) -> f64 {
        let of = |direction| self.composed(direction, steps).epsilon(delta);
        of(Direction::Remove).max(of(Direction::Add))
    }
}

impl LossDistribution {
    fn of_step(step: &Sampled, direction: Direction, interval: f64) -> Self {
        let (low, high) = step.ends();
        let sign = if direction == Direction::Remove { 1.0 } else { -1.0 };
        let (end, other) = (sign * step.loss(low), sign * step.loss(high));
        let lowest = (end.min(other) / interval).floor() as i64;
        let highest = ((end.max(other) / interval).ceil() as i64).max(lowest + 1);
        let mut masses = vec![0.0; (highest - lowest + 1) as usize];
        // Of the probability within an interval, this part goes to its upper end by the difference of both neighbours.
        let share = -libm::expm1(-interval);
        let noise = |point: i64| step.noise_at(sign * point as f64 * interval).clamp(low, high);
        let mut from = noise(lowest);
        for cell in 0..masses.len() - 1 {
            let point = lowest + cell as i64;
            let to = noise(point + 1);
            let (with, without) = step.masses(from.min(to), from.max(to));
            let (own, other) = if direction == Direction::Remove { (with, without) } else { (without, with) };
            let upper = ((own - libm::exp(point as f64 * interval) * other) / share).clamp(0.0, own);
            masses[cell] += own - upper;
            masses[cell + 1] += upper;
            from = to;
        }
        let (below, above) = (step.masses(2.0 * low - high, low), step.masses(high, 2.0 * high - low));
        let (least, infinite) = match direction {
            Direction::Remove => (below.0, above.0),
            Direction::Add => (above.1, below.1),
        };
        masses[0] += least;
        Self { interval, lowest, masses, infinite }
    }

    /// The distribution of the sum of `steps` independent losses; none if the grid is too fine for its length.
    fn composed(&self, steps: u64) -> Option<Self> {
        let (lowest, highest) = self.window(steps);
        if highest - lowest >= GRID_MAX {
            return None;
        }
        let length = ((highest - lowest + 1) as usize).next_power_of_two();
        // Indices count from `steps` times the lowest point, around a circle: what the window leaves out comes in
        // again at its other end, and is counted as identifying besides.
        let mut values = vec![Complex::default(); length];
        for (index, mass) in self.masses.iter().enumerate() {
            values[index % length].re += mass;
        }
        transform(&mut values, false);
        values.iter_mut().for_each(|value| *value = value.power(steps));
        transform(&mut values, true);
        let origin = self.lowest * steps as i64;
        let at = |point: i64| values[(point - origin).rem_euclid(length as i64) as usize].re / length as f64;
        let masses = (lowest..=highest).map(|point| at(point).max(0.0)).collect();
        let kept = libm::exp(steps as f64 * libm::log1p(-self.infinite));
        Some(Self { interval: self.interval, lowest, masses, infinite: (1.0 - kept) + 2.0 * CUT })
    }

    /// Grid points between which the sum of `steps` losses lies but for [`CUT`] at either end (Chernoff's bound).
    fn window(&self, steps: u64) -> (i64, i64) {
        let steps_f = steps as f64;
        let (mut low, mut high) =
            (self.lowest as f64 * steps_f, (self.lowest + self.masses.len() as i64) as f64 * steps_f);
        for power in -10..=16 {
            let rate = libm::exp2(f64::from(power));
            for signed in [rate, -rate] {
                let bound = (steps_f * self.log_moment(signed) - libm::log(CUT)) / rate / self.interval;
                if signed > 0.0 { high = high.min(bound) } else { low = low.max(-bound) }
            }
        }
        (low.floor() as i64, high.ceil() as i64)
    }

    /// ln E[exp(rate L)] over finite losses.
    fn log_moment(&self, rate: f64) -> f64 {
        let ends = [self.lowest, self.lowest + self.masses.len() as i64 - 1];
        let greatest = ends.map(|end| rate * end as f64 * self.interval).into_iter().fold(f64::MIN, f64::max);
        let term = |(index, mass): (usize, &f64)| {
            let exponent = rate * (self.lowest + index as i64) as f64 * self.interval - greatest;
            if exponent < -745.0 { 0.0 } else { mass * libm::exp(exponent) }
        };
        greatest + libm::log(self.masses.iter().enumerate().map(term).sum::<f64>())
    }

    /// The least epsilon of at least 0 at which delta is at most this.
    pub fn epsilon(&self, delta: f64) -> f64 {
        if self.infinite > delta {
            return f64::INFINITY;
        }
        let decay = libm::exp(-self.interval);
        // Down from the top: all mass so far, and that mass times exp(point - loss).
        let (mut mass, mut discounted) = (self.infinite, 0.0);
        for (index, &here) in self.masses.iter().enumerate().rev() {
            let point = (self.lowest + index as i64) as f64 * self.interval;
            mass += here;
            discounted = discounted * decay + here;
            if point <= 0.0 {
                // Between the last point above zero and zero the bound is not reached: epsilon is zero.
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

    /// The probability that is left when outputs are told apart by more than exp(epsilon).
    pub fn delta(&self, epsilon: f64) -> f64 {
        let term = |(index, mass): (usize, &f64)| {
            let excess = (self.lowest + index as i64) as f64 * self.interval - epsilon;
            if excess > 0.0 { -mass * libm::expm1(-excess) } else { 0.0 }
        };
        self.infinite + self.masses.iter().enumerate().map(term).sum::<f64>()
    }
}

/// The exact delta of a Gaussian whose means differ by `distance` standard deviations (Balle and Wang 2018, theorem 8).
pub fn gaussian_delta(distance: f64, epsilon: f64) -> f64 {
    let (half, part) = (distance / 2.0, epsilon / distance);
    let tail = -half - part;
    // exp(epsilon) times a tail that may be too small for a float: together they are not.
    let second = if tail > -37.0 { libm::exp(epsilon + libm::log(normal_cdf(tail))) } else { 0.0 };
    (normal_cdf(half - part) - second).max(0.0)
}

/// The least epsilon at `delta` of a Gaussian whose means differ by `distance` standard deviations; exact to 1e-12.
pub fn gaussian_epsilon(distance: f64, delta: f64) -> f64 {
    if distance == 0.0 || gaussian_delta(distance, 0.0) <= delta {
        return 0.0;
    }
    if !distance.is_finite() {
        return f64::INFINITY;
    }
    let (mut low, mut high) = (0.0, 1.0);
    while gaussian_delta(distance, high) > delta {
        (low, high) = (high, 2.0 * high);
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
    fn without_sampling_it_is_the_exact_gaussian() {
        for (noise, steps, delta) in [(1.0, 1, 1e-5), (4.0, 100, 1e-5), (0.5, 3, 1e-3), (20.0, 1000, 1e-8)] {
            let found = Sampled { noise_multiplier: noise, rate: 1.0 }.epsilon(steps, delta);
            let exact = gaussian_epsilon(libm::sqrt(steps as f64) / noise, delta);
            assert!((found / exact - 1.0).abs() < 1e-4, "{noise} {steps}: {found} against {exact}");
            assert!(found >= exact * (1.0 - 1e-9), "the bound is below the truth: {found} < {exact}");
        }
    }

    #[test]
    fn delta_and_epsilon_are_inverse() {
        let composed = Sampled { noise_multiplier: 1.0, rate: 0.05 }.composed(Direction::Remove, 100);
        for delta in [1e-2, 1e-5, 1e-8] {
            let epsilon = composed.epsilon(delta);
            assert!((composed.delta(epsilon) / delta - 1.0).abs() < 1e-6, "{delta}");
        }
    }

    #[test]
    fn probabilities_add_up_to_one() {
        for direction in [Direction::Remove, Direction::Add] {
            let composed = Sampled { noise_multiplier: 0.7, rate: 0.01 }.composed(direction, 1_000);
            let total: f64 = composed.masses.iter().sum::<f64>() + composed.infinite;
            assert!((total - 1.0).abs() < 1e-9, "{direction:?}: {total}");
        }
    }
}
