//! Sampling: the choice of the next token, a pure function of the logits, the request's settings and one uniform
//! number.

use super::request::Sampling;

/// A token that may be chosen, with its unnormalized probability.
struct Candidate {
    id: u32,
    weight: f64,
}

/// Returns the most likely token at temperature 0, the first one on a tie; otherwise a token drawn with `unit`, a
/// number in [0, 1).
///
/// As in Transformers, logits are divided by the temperature, then the `top_k` most likely tokens are kept, then the
/// fewest of those whose probability reaches `top_p`.
pub fn choose(logits: &[f32], sampling: &Sampling, unit: impl FnOnce() -> f64) -> u32 {
    let likeliest = likeliest(logits.iter().copied());
    if sampling.temperature == 0.0 {
        return likeliest;
    }
    // Weights are exp((z_i - max z) / T): the largest is 1, so that none overflows.
    let top = f64::from(logits[likeliest as usize]);
    let mut candidates = Vec::new();
    for (id, &logit) in (0..).zip(logits) {
        let weight = libm::exp((f64::from(logit) - top) / sampling.temperature);
        // Also drops NaN, which compares as false.
        if weight > 0.0 {
            candidates.push(Candidate { id, weight });
        }
    }
    restrict(&mut candidates, sampling);
    draw(&candidates, unit()).unwrap_or(likeliest)
}

/// Returns the place of the first of the largest logits. A NaN is only chosen if all are NaN.
pub(super) fn likeliest(logits: impl IntoIterator<Item = f32>) -> u32 {
    let mut best = 0;
    let mut largest = f32::NAN;
    for (place, logit) in (0..).zip(logits) {
        if logit > largest || (largest.is_nan() && !logit.is_nan()) {
            best = place;
            largest = logit;
        }
    }
    best
}

/// Drops the candidates outside of top-k and top-p. The rest is ordered by weight, the largest first.
fn restrict(candidates: &mut Vec<Candidate>, sampling: &Sampling) {
    if sampling.top_k.is_none() && sampling.top_p >= 1.0 {
        return;
    }
    // Ties are ordered by token id, which makes the order total and the draw deterministic.
    candidates.sort_unstable_by(|a, b| b.weight.total_cmp(&a.weight).then(a.id.cmp(&b.id)));
    if let Some(most) = sampling.top_k {
        candidates.truncate(most.max(1) as usize);
    }
    // The probability mass of top-p is relative to the candidates that top-k left.
    let wanted = sampling.top_p * candidates.iter().map(|candidate| candidate.weight).sum::<f64>();
    let mut mass = 0.0;
    let reached = candidates.iter().position(|candidate| {
        mass += candidate.weight;
        mass >= wanted
    });
    candidates.truncate(reached.map_or(candidates.len(), |last| last + 1));
}

/// Returns the candidate whose part of the cumulative distribution contains `unit`. `None` if there is no candidate.
fn draw(candidates: &[Candidate], unit: f64) -> Option<u32> {
    let wanted = unit * candidates.iter().map(|candidate| candidate.weight).sum::<f64>();
    let mut mass = 0.0;
    let drawn = candidates.iter().find(|candidate| {
        mass += candidate.weight;
        wanted < mass
    });
    // Rounding may leave the cumulative sum just below `wanted`: then it is the last candidate.
    drawn.or(candidates.last()).map(|candidate| candidate.id)
}

#[cfg(test)]
mod tests {
    use std::f32::consts::LN_2;

    use super::*;

    fn sampling(temperature: f64, top_p: f64, top_k: Option<u32>) -> Sampling {
        Sampling { temperature, top_p, top_k, max_tokens: 1, stop: vec![], spares_code_blocks: false }
    }

    /// Returns how often each token is chosen over a grid of uniform numbers.
    fn shares(logits: &[f32], sampling: &Sampling) -> Vec<f64> {
        const DRAWS: u32 = 10_000;
        let mut counts = vec![0.0; logits.len()];
        for n in 0..DRAWS {
            counts[choose(logits, sampling, || (f64::from(n) + 0.5) / f64::from(DRAWS)) as usize] += 1.0;
        }
        counts.iter().map(|count| count / f64::from(DRAWS)).collect()
    }

    fn close(found: &[f64], expected: &[f64]) {
        let is_close = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 2e-4);
        assert!(is_close, "{found:?} is not {expected:?}");
    }

    /// Probabilities 0.5, 0.25, 0.125, 0.125.
    const HALVES: [f32; 4] = [0.0, -LN_2, -2.0 * LN_2, -2.0 * LN_2];

    #[test]
    fn shares_are_those_of_the_softmax_after_temperature_then_k_then_p() {
        close(&shares(&HALVES, &sampling(1.0, 1.0, None)), &[0.5, 0.25, 0.125, 0.125]);
        let squares = 0.25 + 0.0625 + 2.0 * 0.015_625;
        close(
            &shares(&HALVES, &sampling(0.5, 1.0, None)),
            &[0.25 / squares, 0.0625 / squares, 0.015_625 / squares, 0.015_625 / squares],
        );
        close(&shares(&HALVES, &sampling(1.0, 1.0, Some(2))), &[2.0 / 3.0, 1.0 / 3.0, 0.0, 0.0]);
        close(&shares(&HALVES, &sampling(1.0, 0.6, None)), &[2.0 / 3.0, 1.0 / 3.0, 0.0, 0.0]);
        // Of the three likeliest the first holds 4/7 of the mass, which is enough for p = 0.55 only after k.
        close(&shares(&HALVES, &sampling(1.0, 0.55, Some(3))), &[1.0, 0.0, 0.0, 0.0]);
        close(&shares(&HALVES, &sampling(1.0, 0.0, None)), &[1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn the_likeliest_is_the_first_and_never_no_number() {
        let greedy = sampling(0.0, 1.0, None);
        let chosen = |logits: &[f32]| choose(logits, &greedy, || unreachable!("nothing is drawn at temperature 0"));
        assert_eq!(chosen(&[1.0, 3.0, 3.0]), 1);
        assert_eq!(chosen(&[f32::NAN, -5.0, f32::NEG_INFINITY]), 1);
        assert_eq!(chosen(&[f32::NAN, f32::NAN]), 0);
        assert_eq!(choose(&[f32::NAN, 2.0, f32::NEG_INFINITY], &sampling(1.0, 1.0, None), || 0.999), 1);
    }
}
