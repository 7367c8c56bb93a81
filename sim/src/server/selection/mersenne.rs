//! MT19937 as seeded and read by CPython and PyTorch, for policies that reproduce the draws of published code.

/// Length of the state [word].
const STATE_LEN: usize = 624;
/// Distance of the words that the recurrence combines [word].
const SHIFT_LEN: usize = 397;

/// The generator of Matsumoto and Nishimura (1998), which returns 32 bits at a time.
pub struct Mersenne {
    state: [u32; STATE_LEN],
    index: usize,
}

impl Mersenne {
    /// Returns the generator after `random.seed(seed)` for an integer of 32 bits: `init_by_array([seed])`.
    pub fn seeded(seed: u32) -> Self {
        // The reference code mixes the key array into the state in two passes, the first of which adds key[j] + j. With
        // one word in the key, j is always zero.
        let mut state = first_state(19_650_218);
        let mut i = 1;
        for _ in 0..STATE_LEN {
            state[i] = (state[i] ^ spread(state[i - 1], 1_664_525)).wrapping_add(seed);
            i = next_place(&mut state, i);
        }
        for _ in 1..STATE_LEN {
            state[i] = (state[i] ^ spread(state[i - 1], 1_566_083_941)).wrapping_sub(i as u32);
            i = next_place(&mut state, i);
        }
        state[0] = 1 << 31;
        Self { state, index: STATE_LEN }
    }

    /// Returns the generator after `torch.manual_seed(seed)`: `init_genrand(seed)`.
    pub fn of_torch(seed: u32) -> Self {
        Self { state: first_state(seed), index: STATE_LEN }
    }

    /// Draws 32 bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.index == STATE_LEN {
            self.twist();
        }
        // Tempering, as published.
        let mut y = self.state[self.index];
        self.index += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// Draws a uniform number in `0..bound` as `Random._randbelow` does: as many bits as `bound` has, repeated until
    /// they are below it.
    pub fn below(&mut self, bound: u32) -> u32 {
        assert!(bound > 0, "a draw below zero was asked for");
        loop {
            let drawn = self.next_u32() >> bound.leading_zeros();
            if drawn < bound {
                return drawn;
            }
        }
    }

    /// Replaces the state by the next one.
    fn twist(&mut self) {
        for i in 0..STATE_LEN {
            let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % STATE_LEN] & 0x7fff_ffff);
            let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + SHIFT_LEN) % STATE_LEN] ^ (y >> 1) ^ odd;
        }
        self.index = 0;
    }
}

/// Returns the state of `init_genrand(seed)`.
fn first_state(seed: u32) -> [u32; STATE_LEN] {
    let mut state = [seed; STATE_LEN];
    for i in 1..STATE_LEN {
        state[i] = spread(state[i - 1], 1_812_433_253).wrapping_add(i as u32);
    }
    state
}

/// Mixes a word of the state, the common part of the initialization formulas.
fn spread(previous: u32, factor: u32) -> u32 {
    (previous ^ (previous >> 30)).wrapping_mul(factor)
}

/// Returns the index after `i`. At the end, the last word is copied to the front and the index continues at 1.
fn next_place(state: &mut [u32; STATE_LEN], i: usize) -> usize {
    if i + 1 < STATE_LEN {
        return i + 1;
    }
    state[0] = state[STATE_LEN - 1];
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `random.seed(0); [random.getrandbits(32) for _ in range(3)]` and the same for 12345, of CPython 3.
    #[test]
    fn words_are_those_of_cpython() {
        let words = |seed| {
            let mut generator = Mersenne::seeded(seed);
            [0; 3].map(|_: u32| generator.next_u32())
        };
        assert_eq!(words(0), PYTHON_SEED_0);
        assert_eq!(words(12_345), PYTHON_SEED_12345);
    }

    const PYTHON_SEED_0: [u32; 3] = [3_626_764_237, 1_654_615_998, 3_255_389_356];
    const PYTHON_SEED_12345: [u32; 3] = [1_789_368_711, 3_146_859_322, 43_676_229];
}
