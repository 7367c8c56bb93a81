//! Amounts of transfer, in a unit in which rate times time is exact.

use super::Rate;
use crate::kernel::Span;
use serde::{Deserialize, Serialize};

/// An amount of transfer [10^-15 byte]: microbytes per second times nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FlowWork(pub u128);

const UNITS_PER_BYTE: u128 = 1_000_000_000_000_000;

impl FlowWork {
    /// Returns the work of transferring `bytes`.
    pub const fn of_bytes(bytes: u64) -> Self {
        FlowWork(bytes as u128 * UNITS_PER_BYTE)
    }

    /// Returns the work that is done at `rate` in `span`.
    pub const fn moved(rate: Rate, span: Span) -> Self {
        FlowWork(rate.microbytes_per_s() as u128 * span.0 as u128)
    }

    /// Returns the number of bytes, rounded up: a byte that has arrived in part has not arrived.
    pub const fn bytes_left(self) -> u64 {
        self.0.div_ceil(UNITS_PER_BYTE) as u64
    }

    /// Returns the work that is left after `done`, at least zero.
    pub const fn less(self, done: FlowWork) -> Self {
        FlowWork(self.0.saturating_sub(done.0))
    }

    /// Returns the time that this takes at `rate`, rounded up to the nanosecond; `None` at rate zero or beyond
    /// representable time.
    pub fn duration(self, rate: Rate) -> Option<Span> {
        if rate == Rate::ZERO {
            return None;
        }
        let rate = u128::from(rate.microbytes_per_s());
        // Most transfers fit into 64 bits, where a division costs a fifth of one of 128 bits.
        let ns = match u64::try_from(self.0) {
            Ok(work) => u128::from(work.div_ceil(rate as u64)),
            Err(_) => self.0.div_ceil(rate),
        };
        u64::try_from(ns).ok().map(Span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_megabyte_over_eight_megabits_takes_a_second() {
        let work = FlowWork::of_bytes(1_000_000);
        assert_eq!(work.duration(Rate::from_bits_per_s(8_000_000)), Some(Span::from_secs(1)));
        assert_eq!(work.duration(Rate::ZERO), None);
    }

    #[test]
    fn bytes_left_round_up() {
        let work = FlowWork::of_bytes(10).less(FlowWork(1));
        assert_eq!(work.bytes_left(), 10);
        assert_eq!(work.less(FlowWork::of_bytes(20)).bytes_left(), 0);
    }
}
