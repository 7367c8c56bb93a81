//! Truncation of a sum of products to the least rank that holds a share of its energy (FLoRIST: Ramesh and Dass 2026, arXiv 2506.09199,
//! section 3).

use super::decomposition::DecomposedSum;
use crate::scenario::truncated_rank_max;

/// Product of a column and a row.
type Product = (Vec<f64>, Vec<f64>);

/// Returns a sum of products as the fewest products whose energy, the sum of the squares of their singular values, is at least
/// `threshold` of the whole. Rows have length 1, and columns that of the singular value, the greatest first. By Eckart and Young no
/// sum of so few products is nearer.
///
/// Equal singular values are kept in the order in which the decomposition has them. A sum with a value that is not finite is
/// returned as it is.
pub(super) fn truncated(products: &[Product], threshold: f64) -> Vec<Product> {
    let is_finite = |values: &[f64]| values.iter().all(|value| value.is_finite());
    if !products.iter().all(|(column, row)| is_finite(column) && is_finite(row)) {
        return products.to_vec();
    }
    let (columns, rows): (Vec<_>, Vec<_>) = products.iter().cloned().unzip();
    let sum = DecomposedSum::new(&columns, &rows);
    let energies = sum.energies();
    let wanted = threshold * energies.iter().sum::<f64>();
    // More are never needed, whatever rounding makes of the energies.
    let most = truncated_rank_max(threshold, sum.rank_max() as u64) as usize;
    let mut kept = Vec::new();
    // Energies descend, so the first ones that hold enough are the fewest.
    let mut held = 0.0;
    for (place, energy) in energies.iter().enumerate().take(most) {
        // Of a sum that is not zero one is kept, even where its share of the energy is too small for a number.
        let is_enough = held >= wanted && !kept.is_empty();
        if is_enough || *energy == 0.0 {
            break;
        }
        held += energy;
        kept.push((sum.column(place), sum.row(place)));
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The sum as a matrix by rows.
    fn matrix(products: &[Product], shape: [usize; 2]) -> Vec<f64> {
        let mut sum = vec![0.0; shape[0] * shape[1]];
        for (column, row) in products {
            for (place, sum) in sum.iter_mut().enumerate() {
                *sum += column[place / shape[1]] * row[place % shape[1]];
            }
        }
        sum
    }

    fn square(values: impl IntoIterator<Item = f64>) -> f64 {
        values.into_iter().map(|value| value * value).sum()
    }

    proptest! {
        /// What is left out is at most 1 - threshold of the energy, and would be more with one product less; the number of products
        /// has the bound that schedules charge.
        #[test]
        fn the_least_rank_is_kept(
            count in 1..8usize, outputs in 1..6usize, inputs in 1..6usize, values in prop::collection::vec(-1.0f64..1.0, 80),
            threshold in 0.01f64..1.0, repeats: bool,
        ) {
            let vector = |from: usize, length: usize| -> Vec<f64> { (0..length).map(|n| values[(from + 7 * n) % 80]).collect() };
            let mut products: Vec<Product> = (0..count).map(|n| (vector(n, outputs), vector(n + 31, inputs))).collect();
            if repeats {
                products.extend(products.clone());
            }
            let kept = truncated(&products, threshold);
            let whole = matrix(&products, [outputs, inputs]);
            let lost = |kept: &[Product]| {
                let made = matrix(kept, [outputs, inputs]);
                square(whole.iter().zip(&made).map(|(whole, made)| whole - made)) / square(whole.iter().copied())
            };
            prop_assert!(lost(&kept) <= 1.0 - threshold + 1e-9);
            prop_assert!(lost(&kept[..kept.len() - 1]) >= 1.0 - threshold - 1e-9);
            let rank = products.len().min(outputs).min(inputs) as u64;
            prop_assert!(kept.len() as u64 <= truncated_rank_max(threshold, rank));
            for (_, row) in &kept {
                prop_assert!((square(row.iter().copied()) - 1.0).abs() < 1e-12);
            }
        }
    }

    /// The shares of the energy are 0.84495264, 0.14439723 and 0.01065012 by `numpy.linalg.svd` of the sum.
    #[test]
    fn ranks_of_a_sum_are_those_of_numpy() {
        let products = [
            (vec![1.0, 2.0, -1.0], vec![0.5, -1.0, 2.0, 0.0]),
            (vec![0.0, 1.0, 1.0], vec![1.0, 1.0, 0.0, -1.0]),
            (vec![0.5, 0.0, 0.25], vec![0.0, 0.5, 0.5, 1.0]),
        ];
        for (threshold, rank) in [(0.5, 1), (0.8449, 1), (0.845, 2), (0.9893, 2), (0.9894, 3), (1.0, 3)] {
            assert_eq!(truncated(&products, threshold).len(), rank, "{threshold}");
        }
    }

    #[test]
    fn equal_singular_values_need_no_more_than_their_share() {
        let products: Vec<Product> = (0..10)
            .map(|place| {
                let mut unit = vec![0.0; 10];
                unit[place] = 0.1;
                (unit.clone(), unit)
            })
            .collect();
        for (threshold, rank) in [(0.1, 1), (0.5, 5), (0.9, 9), (0.91, 10), (1.0, 10)] {
            assert_eq!(truncated(&products, threshold).len(), rank, "{threshold}");
        }
    }

    #[test]
    fn a_sum_of_zero_has_no_products_and_one_that_is_not_finite_stays() {
        let zero = [(vec![0.0, 0.0], vec![1.0, 2.0]), (vec![1.0, 1.0], vec![0.0, 0.0])];
        assert_eq!(truncated(&zero, 0.9), []);
        assert_eq!(truncated(&[], 0.9), []);
        let one = [(vec![3.0, 4.0], vec![1.0, 0.0])];
        assert_eq!(truncated(&one, f64::MIN_POSITIVE).len(), 1);
        assert_eq!(truncated(&one, 5e-324).len(), 1, "its share of the energy is no number above 0");
        let diverged = [(vec![f64::INFINITY, 1.0], vec![1.0, 2.0])];
        assert_eq!(truncated(&diverged, 0.9), diverged);
    }
}
