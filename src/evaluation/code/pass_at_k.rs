//! The unbiased estimator of pass@k (Chen et al., "Evaluating Large Language Models Trained on Code", 2021, section
//! 2.1).

/// Returns the probability that at least one of `k` samples passes, if they are drawn without replacement from
/// `samples` samples of which `passed` passed: `1 - C(samples - passed, k) / C(samples, k)`. `None` if there are fewer
/// than `k` samples or `k` is 0.
///
/// # Panics
/// If more samples passed than there are.
pub fn pass_at_k(samples: usize, passed: usize, k: usize) -> Option<f64> {
    assert!(passed <= samples, "{passed} of {samples} samples passed");
    if k == 0 || k > samples {
        return None;
    }
    if samples - passed < k {
        return Some(1.0);
    }
    // C(n - c, k) / C(n, k) as the product of 1 - k / i over i = n - c + 1 .. n, which neither overflows nor cancels.
    let all_fail: f64 = (samples - passed + 1..=samples).map(|i| 1.0 - k as f64 / i as f64).product();
    Some(1.0 - all_fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts subsets one by one.
    fn by_counting(samples: usize, passed: usize, k: usize) -> f64 {
        let subsets = (0..1_u32 << samples).filter(|set| set.count_ones() as usize == k);
        let (hits, all) =
            subsets.fold((0, 0), |(hits, all), set| (hits + u32::from(set & ((1 << passed) - 1) != 0), all + 1));
        f64::from(hits) / f64::from(all)
    }

    #[test]
    fn it_is_the_share_of_subsets_with_a_solution() {
        for samples in 1..=8 {
            for passed in 0..=samples {
                for k in 1..=samples {
                    let estimated = pass_at_k(samples, passed, k).unwrap();
                    assert!((estimated - by_counting(samples, passed, k)).abs() < 1e-12, "{samples} {passed} {k}");
                }
            }
        }
    }

    #[test]
    fn large_counts_stay_finite_and_too_few_samples_give_nothing() {
        let estimated = pass_at_k(2000, 3, 100).unwrap();
        assert!(estimated > 0.14 && estimated < 0.15, "{estimated}");
        assert_eq!(pass_at_k(5, 5, 6), None);
        assert_eq!(pass_at_k(5, 1, 0), None);
    }
}
