//! Components of an adapter, each a row of A and the column of B at one place, in all modules. Under HetLoRA's pruning of ranks (arXiv
//! 2401.06432, section 3) clients shrink their last components, and give them up.

use std::ops::Range;

use super::Layout;

/// Returns the rank that pruning leaves of a rank of at least 1: floor(gamma rank), and at least 1.
///
/// # Examples
///
/// ```
/// use fedreplay::adapter::pruned_rank;
///
/// assert_eq!([8, 4, 1].map(|rank| pruned_rank(rank, 0.75)), [6, 3, 1]);
/// assert_eq!((pruned_rank(50, 0.58), pruned_rank(90, 0.7)), (29, 63));
/// ```
pub fn pruned_rank(rank: usize, gamma: f64) -> usize {
    // A share such as 0.58 has no exact binary form, and 0.58 of 50 are 29.
    ((gamma * rank as f64 * (1.0 + 4.0 * f64::EPSILON)) as usize).clamp(1, rank)
}

impl Layout {
    /// Returns the Frobenius norms of some rows of A and of the columns of B at the same places, by module. `values` are those of an
    /// adapter, in its order.
    fn component_norms<T: Copy + Into<f64>>(&self, values: &[T], components: &Range<usize>) -> Vec<[f64; 2]> {
        // A is [rank, in], so that some rows are one range; B is [out, rank], of which each row has a part.
        let mut norms = Vec::with_capacity(self.modules.len());
        for (module, (a, b)) in self.modules.iter().zip(self.ranges()) {
            let rows = &values[a][components.start * module.in_features..components.end * module.in_features];
            let columns = values[b].chunks_exact(self.rank).flat_map(|row| &row[components.clone()]);
            norms.push([norm(rows.iter()), norm(columns)]);
        }
        norms
    }

    /// Returns the size of some components: the sum over modules of the product of the norms of their part of A and of B.
    pub fn size_of_components<T: Copy + Into<f64>>(&self, values: &[T], components: &Range<usize>) -> f64 {
        self.component_norms(values, components).iter().map(|[a, b]| a * b).sum()
    }

    /// Returns the gradient of [`Self::size_of_components`] as a factor for each value: |B| / |A| in A and |A| / |B| in B. It is zero for
    /// other components, and where a norm is zero.
    pub fn size_gradient_factors(&self, values: &[f64], components: &Range<usize>) -> Vec<f32> {
        let mut factors = vec![0.0; values.len()];
        let norms = self.component_norms(values, components);
        for ((module, (a, b)), [of_a, of_b]) in self.modules.iter().zip(self.ranges()).zip(norms) {
            // With one norm at zero the gradient in that factor is not defined, and that in the other is zero.
            if of_a == 0.0 || of_b == 0.0 {
                continue;
            }
            let rows = components.start * module.in_features..components.end * module.in_features;
            factors[a][rows].fill((of_b / of_a) as f32);
            for row in factors[b].chunks_exact_mut(self.rank) {
                row[components.clone()].fill((of_a / of_b) as f32);
            }
        }
        factors
    }
}

/// Returns a Euclidean norm, summed in f64 in order.
fn norm<'a, T: Copy + Into<f64> + 'a>(values: impl Iterator<Item = &'a T>) -> f64 {
    let square: f64 = values.map(|&value| value.into() * value.into()).sum();
    libm::sqrt(square)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::Module;

    /// Two modules of rank 3. In the first the last two rows of A are (3, 0) and (0, 4), and the last two columns of B (1, 2) and (2, 4): the
    /// norms are 5 and 5. In the second A's are 1 and 0, and B is zero.
    fn example() -> (Layout, Vec<f64>) {
        let module = |path: &str, in_features, out_features| Module { path: path.into(), in_features, out_features };
        let modules = vec![module("m", 2, 2), module("n", 1, 1)];
        let layout = Layout { rank: 3, alpha: 3.0, rank_stabilized: false, has_core: false, modules };
        let first = [9.0, 9.0, 3.0, 0.0, 0.0, 4.0, /* B by rows */ 7.0, 1.0, 2.0, 8.0, 2.0, 4.0];
        let second = [6.0, 1.0, 0.0, 0.0, 0.0, 0.0];
        (layout, [&first[..], &second].concat())
    }

    #[test]
    fn the_size_of_components_is_a_product_of_norms() {
        let (layout, values) = example();
        assert_eq!(layout.size_of_components(&values, &(1..3)), 25.0);
        assert_eq!(layout.size_of_components(&values, &(2..3)), 4.0 * 20f64.sqrt());
        assert_eq!(layout.size_of_components(&values, &(3..3)), 0.0);
        let singles: Vec<f32> = values.iter().map(|&value| value as f32).collect();
        assert_eq!(layout.size_of_components(&singles, &(1..3)), 25.0);
    }

    #[test]
    fn its_gradient_is_zero_elsewhere_and_where_a_norm_is_zero() {
        let (layout, values) = example();
        let factors = layout.size_gradient_factors(&values, &(1..3));
        let first = [0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0];
        assert_eq!(factors, [&first[..], &[0.0; 6]].concat());
        let ratio = 20f64.sqrt() / 4.0;
        let last = layout.size_gradient_factors(&values, &(2..3));
        assert_eq!(last[4..6], [ratio as f32; 2]);
        assert_eq!([last[8], last[11]], [(1.0 / ratio) as f32; 2]);
        assert_eq!(last.iter().filter(|&&factor| factor != 0.0).count(), 4);
    }

    #[test]
    fn a_rank_is_pruned_down_to_one() {
        for (rank, gamma, left) in [(8, 0.99, 7), (7, 0.5, 3), (3, 0.1, 1), (1, 0.99, 1), (2, 0.99, 1)] {
            assert_eq!(pruned_rank(rank, gamma), left, "{gamma} of {rank}");
        }
    }
}
