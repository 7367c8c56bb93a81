//! FLTrust: updates are weighted by how much they point along an update that the server has trained by itself (Cao et al. 2021,
//! arXiv 2012.13995, algorithm 2).

use super::changes::Changes;
use super::geometric_median::weighted_sum;

/// Computes the mean of the updates, each brought to the length of the server's own update, weighted by their trust scores
/// max(0, cosine with the server's update). `root` has the server's update as its only point.
///
/// Returns it with the factor on each point; `None` if the server has no update or trusts none.
pub fn fl_trust(changes: &Changes, root: &Changes) -> Option<(Vec<f64>, Vec<f64>)> {
    let direction = weighted_sum(root, &vec![1.0; root.count()]);
    // For each update its squared length, and its scalar product with the server's; last the squared length of that.
    let count = changes.count();
    let sums = changes.sums(2 * count + 1, |block, sums| {
        let along = &direction[block.range.clone()];
        for (index, point) in block.points().enumerate() {
            sums[2 * index] += point.iter().map(|value| value * value).sum::<f64>();
            sums[2 * index + 1] += point.iter().zip(along).map(|(value, along)| value * along).sum::<f64>();
        }
        sums[2 * count] += along.iter().map(|along| along * along).sum::<f64>();
    });
    let length = sums[2 * count].sqrt();
    let mut scores = Vec::with_capacity(count);
    let mut factors = Vec::with_capacity(count);
    for pair in sums[..2 * count].chunks_exact(2) {
        let norm = pair[0].sqrt();
        let cosine = pair[1] / norm / length;
        let score = if norm > 0.0 && length > 0.0 { cosine.max(0.0) } else { 0.0 };
        scores.push(score);
        factors.push(if score > 0.0 { score * length / norm } else { 0.0 });
    }
    let total: f64 = scores.iter().sum();
    if total == 0.0 {
        return None;
    }
    factors.iter_mut().for_each(|factor| *factor /= total);
    Some((weighted_sum(changes, &factors), factors))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{UPDATES, adapter};
    use crate::adapter::Adapter;
    use crate::algorithm::averaging::{MeanUpdate, Update};
    use crate::algorithm::{RobustAggregation, RobustContext};
    use crate::scenario::{AggregationSpec, Speed};

    const ROOT: [f32; 6] = UPDATES[5];

    /// Returns an adapter whose values are 1 plus a change.
    fn changed(change: &[f32; 6]) -> Adapter {
        adapter(&change.map(|value| 1.0 + value))
    }

    fn combine(updates: &[[f32; 6]], root: Option<[f32; 6]>) -> MeanUpdate {
        let server = changed(&[0.0; 6]);
        let trained: Vec<Adapter> = updates.iter().map(changed).collect();
        let updates: Vec<Update> = trained
            .iter()
            .zip(1..)
            .map(|(adapter, weight)| Update { adapter, base: &server, weight: f64::from(weight), discount: 1.0 })
            .collect();
        let root = root.map(|root| changed(&root));
        let root = root.as_ref().map(|adapter| Update { adapter, base: &server, weight: 1.0, discount: 1.0 });
        let rule = AggregationSpec::FlTrust { speed: Speed(1) };
        let rule = RobustAggregation::new(&rule).expect("it is not the mean");
        rule.aggregate(6, RobustContext { center: None, root }, &updates)
    }

    #[track_caller]
    fn check(root: [f32; 6], change: [f64; 6], weights: [f64; 5]) {
        let found = combine(&UPDATES[..5], Some(root));
        let found_change = found.change.expect("an update is trusted");
        for (found, expected) in found_change.iter().chain(&found.weights).zip(change.iter().chain(&weights)) {
            assert!((found - expected).abs() <= 1e-12, "{found} against {expected}");
        }
    }

    #[test]
    fn it_gives_the_numbers_of_numpy_whatever_the_weights() {
        check(
            ROOT,
            [
                0.6425236002937977,
                -1.0491742918541813,
                0.34771044890397956,
                2.2527106160902224,
                -0.005438033199240182,
                -0.9175919290656791,
            ],
            [0.29951792325799964, 0.3087240647637198, 0.2550934556505671, 0.31591716188698604, 0.0],
        );
        check(
            UPDATES[0].map(|value| -value),
            [
                1.3251401095594002,
                1.1779023196083558,
                -1.0306645296573114,
                -0.8834267397062668,
                0.7361889497552223,
                0.5889511598041779,
            ],
            [0.0, 0.0, 0.0, 0.0, 0.14723778995104447],
        );
    }

    #[test]
    fn nothing_changes_without_an_update_of_the_server_or_one_that_it_trusts() {
        let nothing = MeanUpdate { change: None, weights: vec![0.0; 4] };
        assert_eq!(combine(&UPDATES[..4], None), nothing);
        assert_eq!(combine(&UPDATES[..4], Some([0.0; 6])), nothing);
        assert_eq!(combine(&UPDATES[..4], Some([f32::NAN; 6])), nothing);
        assert_eq!(combine(&UPDATES[..4], Some(UPDATES[4])), nothing);
        assert_eq!(combine(&[[0.0; 6]; 4], Some(ROOT)), nothing);
    }

    proptest! {
        /// Whatever clients send, the change is no longer than the server's own, and does not point against it.
        #[test]
        fn no_attack_moves_the_model_farther_than_the_server_would(
            updates in proptest::collection::vec(
                proptest::array::uniform6(prop_oneof![-1.0f32..1.0, Just(1e30f32), Just(-1e30f32), Just(f32::MAX)]), 1..6),
        ) {
            let root = ROOT.map(|value| f64::from(1.0 + value) - 1.0);
            if let Some(change) = combine(&updates, Some(ROOT)).change {
                let product = |left: &[f64], right: &[f64]| left.iter().zip(right).map(|(l, r)| l * r).sum::<f64>();
                let most = product(&root, &root).sqrt();
                prop_assert!(product(&change, &change).sqrt() <= most * (1.0 + 1e-9), "{:?}", change);
                prop_assert!(product(&change, &root) >= -1e-9, "{:?}", change);
            }
        }
    }
}
