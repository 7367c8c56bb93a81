//! Poisson sampling: each client independently.

use super::View;
use crate::random::Probability;

/// Returns the candidates whose draw is below the rate. Draw n of the round's stream belongs to client n.
pub(super) fn select(mut view: View<'_>, rate: Probability) -> Vec<u32> {
    // One draw for every client, candidate or not, so that a client's draw does not depend on which others are
    // candidates.
    let hits: Vec<u32> = (0..view.population)
        .filter(|_| view.stream.below(u64::from(Probability::SCALE)) < u64::from(rate.ppb()))
        .collect();
    hits.into_iter().filter(|client| (view.is_candidate)(*client)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Selection;
    use super::super::testing::Bench;
    use crate::random::Probability;

    #[test]
    fn the_number_asked_varies_around_the_rate() {
        let mut bench = Bench { population: 1_000, ..Bench::default() };
        let rate = Probability::from_f64(0.1).unwrap();
        let sizes: Vec<usize> =
            (0..200).map(|round| bench.select(Selection::Poisson { rate }, round, 1).len()).collect();
        let mean = sizes.iter().sum::<usize>() as f64 / 200.0;
        assert!((98.0..102.0).contains(&mean), "{mean}");
        let variance = sizes.iter().map(|size| (*size as f64 - mean).powi(2)).sum::<f64>() / 199.0;
        assert!((70.0..115.0).contains(&variance), "{variance}");
    }
}
