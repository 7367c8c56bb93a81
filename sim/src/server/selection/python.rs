//! CPython's `random.sample` under `random.seed(round)`.

use super::View;
use super::mersenne::Mersenne;
use std::collections::BTreeSet;

/// Returns the clients that FedLLM-Bench would sample in this round, restricted to candidates.
pub(super) fn select(view: View<'_>) -> Vec<u32> {
    let sampled = if view.wanted >= view.population {
        (0..view.population).collect()
    } else {
        sample(view.round, view.population, view.wanted)
    };
    sampled.into_iter().filter(|client| (view.is_candidate)(*client)).collect()
}

/// Returns the result of `random.seed(seed); random.sample(range(population), count)`, in the order in which CPython
/// returns it.
pub fn sample(seed: u32, population: u32, count: u32) -> Vec<u32> {
    let mut generator = Mersenne::seeded(seed);
    let mut sampled = Vec::with_capacity(count as usize);
    if population <= pool_size_max(count) {
        // Small populations: a pool, whose last item fills the gap of the one that was drawn.
        let mut pool: Vec<u32> = (0..population).collect();
        for taken in 0..count {
            let last = population - taken - 1;
            let index = generator.below(last + 1) as usize;
            sampled.push(pool[index]);
            pool[index] = pool[last as usize];
        }
        return sampled;
    }
    // Large populations: draws are repeated until one is new.
    let mut seen = BTreeSet::new();
    while sampled.len() < count as usize {
        let drawn = generator.below(population);
        if seen.insert(drawn) {
            sampled.push(drawn);
        }
    }
    sampled
}

/// Returns the greatest population for which CPython uses a pool: 21, plus, for more than five samples, the least power
/// of four that is at least three times their number.
fn pool_size_max(count: u32) -> u32 {
    if count <= 5 {
        return 21;
    }
    let mut power: u64 = 1;
    while power < 3 * u64::from(count) {
        power *= 4;
    }
    u32::try_from(21 + power).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::Selection;
    use super::super::testing::Bench;
    use super::*;

    /// Lists of CPython 3; the first six are rounds of FedLLM-Bench.
    #[test]
    fn samples_are_those_of_cpython() {
        let check = |seed, population, count, expected: &[u32]| {
            let mut sampled = sample(seed, population, count);
            sampled.sort_unstable();
            assert_eq!(sampled, expected, "seed {seed}, {count} of {population}");
        };
        check(0, 38, 4, &[2, 16, 24, 26]);
        check(1, 38, 4, &[4, 8, 16, 36]);
        check(0, 237, 10, &[10, 66, 98, 103, 107, 124, 130, 194, 216, 227]);
        check(0, 100, 5, &[5, 33, 49, 53, 97]);
        check(0, 50, 3, &[24, 26, 48]);
        check(0, 747, 10, &[41, 265, 310, 366, 394, 414, 430, 488, 497, 523]);
        check(7, 20, 5, &[1, 2, 4, 10, 12]);
        check(3, 21, 6, &[4, 7, 11, 15, 17, 18]);
        assert_eq!(sample(199, 1_000, 100).iter().sum::<u32>(), 53_608);
        assert_eq!(sample(5, 90, 22).iter().sum::<u32>(), 949);
    }

    /// FedLLM-Bench's 200 rounds of 4 of 38 reach every client of Fed-Aya; 44 of 747 of Fed-ChatbotPA are never asked.
    #[test]
    fn the_round_is_the_seed() {
        let mut bench = Bench { population: 38, ..Bench::default() };
        assert_eq!(bench.select(Selection::PythonSample, 0, 4), [2, 16, 24, 26]);
        assert_eq!(bench.select(Selection::PythonSample, 0, 38), (0..38).collect::<Vec<_>>());
        let reached = |population, count, rounds| {
            (0..rounds).flat_map(|round| sample(round, population, count)).collect::<BTreeSet<u32>>().len()
        };
        assert_eq!(reached(38, 4, 200), 38);
        assert_eq!(reached(747, 10, 200), 747 - 44);
    }
}
