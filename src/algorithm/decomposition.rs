//! QR and singular value decompositions of small matrices, and of sums of products of a column and a row, in plain loops.
//!
//! No library is used, because aggregates must have the same bits on every processor, which matrix products and norms
//! of libraries do not guarantee.

/// Orthonormal basis of the span of some columns.
struct Basis {
    /// Columns of the basis.
    columns: Vec<Vec<f64>>,
    /// Coordinates of each original column in the basis.
    parts: Vec<Vec<f64>>,
}

/// [1] -- Norm of a column's component orthogonal to the basis, relative to the column, up to which it is only
/// rounding.
const ROUNDING: f64 = 1e-12;

/// Orthonormalizes columns by modified Gram-Schmidt, twice for each column, which suffices for orthogonality to working
/// precision (Giraud et al. 2005).
fn orthonormal(originals: &[Vec<f64>]) -> Basis {
    let mut columns: Vec<Vec<f64>> = Vec::new();
    let mut parts = Vec::with_capacity(originals.len());
    for original in originals {
        let mut rest = original.clone();
        let mut own = vec![0.0; columns.len()];
        // Subtracts the projections on the basis; the second pass removes what rounding left in the first.
        for _ in 0..2 {
            for (column, part) in columns.iter().zip(&mut own) {
                let along = dot(column, &rest);
                *part += along;
                for (rest, value) in rest.iter_mut().zip(column) {
                    *rest -= along * value;
                }
            }
        }
        // A column that depends on earlier ones adds no direction.
        let length = libm::sqrt(dot(&rest, &rest));
        if length > ROUNDING * libm::sqrt(dot(original, original)) {
            for value in &mut rest {
                *value /= length;
            }
            columns.push(rest);
            own.push(length);
        }
        parts.push(own);
    }
    // Early columns have no coordinates along directions that were found later.
    for own in &mut parts {
        own.resize(columns.len(), 0.0);
    }
    Basis { columns, parts }
}

/// Right singular vector of a matrix and its image, which is orthogonal to the images of all others.
pub struct Singular {
    /// Vector of length 1.
    pub direction: Vec<f64>,
    /// Image under the matrix, whose length is the singular value.
    pub image: Vec<f64>,
}

/// Limit on the number of sweeps over all pairs, far above the number that convergence takes.
const SWEEPS_MAX: usize = 60;

/// Computes the singular value decomposition of a matrix with these columns by one-sided Jacobi rotations (Hestenes
/// 1958). The greatest singular value comes first.
pub fn apart(mut columns: Vec<Vec<f64>>) -> Vec<Singular> {
    let count = columns.len();
    // The product of all rotations so far; it starts from the identity.
    let mut directions = vec![vec![0.0; count]; count];
    for (place, direction) in directions.iter_mut().enumerate() {
        direction[place] = 1.0;
    }
    for _ in 0..SWEEPS_MAX {
        let mut is_done = true;
        for a in 0..count {
            for b in a + 1..count {
                let aa = dot(&columns[a], &columns[a]);
                let bb = dot(&columns[b], &columns[b]);
                let ab = dot(&columns[a], &columns[b]);
                if ab.abs() <= f64::EPSILON * libm::sqrt(aa) * libm::sqrt(bb) {
                    continue;
                }
                is_done = false;
                // The angle that makes columns a and b orthogonal: with zeta = (bb - aa) / (2 ab), its tangent is the
                // smaller root of t^2 + 2 zeta t - 1 = 0.
                let slope = (bb - aa) / (2.0 * ab);
                let tangent = slope.signum() / (slope.abs() + libm::sqrt(1.0 + slope * slope));
                let cosine = 1.0 / libm::sqrt(1.0 + tangent * tangent);
                rotate(&mut columns, a, b, cosine, cosine * tangent);
                rotate(&mut directions, a, b, cosine, cosine * tangent);
            }
        }
        if is_done {
            break;
        }
    }
    let pairs = directions.into_iter().zip(columns);
    let mut found: Vec<Singular> = pairs.map(|(direction, image)| Singular { direction, image }).collect();
    found.sort_by(|a, b| dot(&b.image, &b.image).total_cmp(&dot(&a.image, &a.image)));
    found
}

/// Rotates columns a and b, with a < b, in their plane, in place.
fn rotate(columns: &mut [Vec<f64>], a: usize, b: usize, cosine: f64, sine: f64) {
    let (before, from_b) = columns.split_at_mut(b);
    for (x, y) in before[a].iter_mut().zip(&mut from_b[0]) {
        let rotated_x = cosine * *x - sine * *y;
        let rotated_y = sine * *x + cosine * *y;
        *x = rotated_x;
        *y = rotated_y;
    }
}

/// Singular value decomposition of a sum of products of a column and a row.
///
/// The sum is L R^T, with the columns in L and the rows in R. With the QR decompositions L = Q_l P_l and R = Q_r P_r it is
/// Q_l (P_l P_r^T) Q_r^T, so the decomposition of the small matrix in the middle gives that of the whole.
pub(super) struct DecomposedSum {
    left: Basis,
    right: Basis,
    pairs: Vec<Singular>,
    /// Lengths of a column and of a row.
    lengths: [usize; 2],
}

impl DecomposedSum {
    /// Decomposes the sum of the products of each column with the row at the same place.
    pub fn new(columns: &[Vec<f64>], rows: &[Vec<f64>]) -> Self {
        let left = orthonormal(columns);
        let right = orthonormal(rows);
        let pairs = apart(middle(&left, &right));
        let lengths = [columns, rows].map(|vectors| vectors.first().map_or(0, Vec::len));
        Self { left, right, pairs, lengths }
    }

    /// Returns the greatest rank that the sum can have.
    pub fn rank_max(&self) -> usize {
        self.left.columns.len().min(self.right.columns.len())
    }

    /// Returns the squares of the singular values, the greatest first.
    pub fn energies(&self) -> Vec<f64> {
        self.pairs.iter().map(|pair| dot(&pair.image, &pair.image)).collect()
    }

    /// Returns the right singular vector of a place, whose length is 1.
    pub fn row(&self, place: usize) -> Vec<f64> {
        combined(&self.right.columns, &self.pairs[place].direction, self.lengths[1])
    }

    /// Returns the left singular vector of a place times the singular value.
    pub fn column(&self, place: usize) -> Vec<f64> {
        combined(&self.left.columns, &self.pairs[place].image, self.lengths[0])
    }
}

/// Computes P_l P_r^T by columns, from the coordinates of both sides.
fn middle(left: &Basis, right: &Basis) -> Vec<Vec<f64>> {
    let mut columns = Vec::with_capacity(right.columns.len());
    for of_right in 0..right.columns.len() {
        let mut column = Vec::with_capacity(left.columns.len());
        for of_left in 0..left.columns.len() {
            // Row i of P_l times row j of P_r, over the products of the sum.
            let terms = left.parts.iter().zip(&right.parts);
            column.push(terms.map(|(left, right)| left[of_left] * right[of_right]).sum());
        }
        columns.push(column);
    }
    columns
}

/// Computes a linear combination of columns of this length.
fn combined(columns: &[Vec<f64>], factors: &[f64], length: usize) -> Vec<f64> {
    let mut sum = vec![0.0; length];
    for (column, factor) in columns.iter().zip(factors) {
        for (sum, value) in sum.iter_mut().zip(column) {
            *sum += factor * value;
        }
    }
    sum
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bases_and_directions_are_orthonormal_and_give_the_matrix_back(
            width in 1..6usize, height in 1..6usize, values in prop::collection::vec(-1.0f64..1.0, 36), repeats: bool,
        ) {
            let mut columns: Vec<Vec<f64>> = values.chunks(height).take(width).map(<[f64]>::to_vec).collect();
            if repeats {
                columns.push(columns[0].iter().map(|value| -2.0 * value).collect());
            }
            let basis = orthonormal(&columns);
            prop_assert!(basis.columns.len() <= width.min(height));
            for (original, parts) in columns.iter().zip(&basis.parts) {
                for at in 0..height {
                    let sum: f64 = basis.columns.iter().zip(parts).map(|(column, part)| column[at] * part).sum();
                    prop_assert!((sum - original[at]).abs() < 1e-11);
                }
            }
            let singular = apart(columns.clone());
            for (place, one) in singular.iter().enumerate() {
                prop_assert!((dot(&one.direction, &one.direction) - 1.0).abs() < 1e-12);
                for other in &singular[..place] {
                    prop_assert!(dot(&one.direction, &other.direction).abs() < 1e-12);
                    prop_assert!(dot(&one.image, &other.image).abs() < 1e-12);
                }
                for at in 0..height {
                    let image: f64 = columns.iter().zip(&one.direction).map(|(column, part)| column[at] * part).sum();
                    prop_assert!((image - one.image[at]).abs() < 1e-12);
                }
            }
        }
    }

    #[test]
    fn singular_values_are_known_ones() {
        // [[3, 0], [4, 5]] has 3 sqrt 5 and sqrt 5.
        let lengths: Vec<f64> =
            apart(vec![vec![3.0, 4.0], vec![0.0, 5.0]]).iter().map(|one| dot(&one.image, &one.image).sqrt()).collect();
        assert!((lengths[0] - 45f64.sqrt()).abs() < 1e-12 && (lengths[1] - 5f64.sqrt()).abs() < 1e-12, "{lengths:?}");
    }
}
