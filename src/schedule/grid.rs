//! Carbon intensity of electricity grids over time.

use std::collections::BTreeMap;

/// Intensity of a grid in equal steps of time, which repeat. `inputs::grid` reads it from a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GridIntensity {
    step_ns: u64,
    /// [µg/kWh] -- Intensity in each step; at least one step.
    steps: Vec<u64>,
    /// [µg/kWh * ns] -- Integral from the beginning to the start of each step, and to the end of the last.
    integrals: Vec<u128>,
}

impl GridIntensity {
    /// Creates a trace from the intensity in each step [µg/kWh], at most 2^40.
    pub fn new(step_ns: u64, steps: Vec<u64>) -> Self {
        assert!(step_ns > 0 && !steps.is_empty(), "a trace has at least one step");
        let mut integrals = vec![0];
        for &step in &steps {
            integrals.push(integrals[integrals.len() - 1] + u128::from(step) * u128::from(step_ns));
        }
        Self { step_ns, steps, integrals }
    }

    /// [ns] -- Returns the time after which the trace repeats.
    fn period_ns(&self) -> u128 {
        u128::from(self.step_ns) * self.steps.len() as u128
    }

    /// [µg/kWh * ns] -- Returns the integral from the beginning to a time [ns].
    fn integral(&self, until: u128) -> u128 {
        let whole = *self.integrals.last().expect("at least one step");
        // The whole trace for each period that has passed, the steps of this one, and a part of the last.
        let within = until % self.period_ns();
        let step = (within / u128::from(self.step_ns)) as usize;
        let rest = within % u128::from(self.step_ns);
        until / self.period_ns() * whole + self.integrals[step] + rest * u128::from(self.steps[step])
    }

    /// [µg/kWh] -- Returns the mean intensity between two times [ns], cut to a whole number; at one instant the intensity itself.
    pub(super) fn mean(&self, from: u128, until: u128) -> u128 {
        // A transfer without duration may have the energy of its bits.
        let until = until.max(from + 1);
        (self.integral(until) - self.integral(from)) / (until - from)
    }
}

/// Grids by region, as read from a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grids {
    /// Name of the file, for messages.
    pub file: String,
    /// The grid of each region, or the one of all regions under `None`.
    pub by_region: BTreeMap<Option<String>, GridIntensity>,
}

impl Grids {
    /// [h] -- Returns the length of a trace that ends before this time [ns]; `None` if there is none.
    pub(super) fn hours_before(&self, time_ns: u64) -> Option<u128> {
        let shorter = self.by_region.values().find(|grid| grid.period_ns() <= u128::from(time_ns));
        shorter.map(|grid| grid.period_ns() / HOUR_NS)
    }
}

/// [ns/h]
const HOUR_NS: u128 = 3_600_000_000_000;
