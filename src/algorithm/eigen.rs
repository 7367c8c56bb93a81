//! Eigenvectors of symmetric matrices, in plain loops, for the reason that [`super::decomposition`] gives. Its rotations of all pairs
//! of columns would take hours for the widths of a model's modules; these take a number of operations that grows with the cube of the width.

/// Eigenvalue of a symmetric matrix and its eigenvector of length 1.
pub struct Eigen {
    pub value: f64,
    pub vector: Vec<f64>,
}

/// Symmetric matrix that has been reduced to three diagonals: Q^T A Q = T.
struct Tridiagonal {
    /// Diagonal of T.
    diagonal: Vec<f64>,
    /// Elements next to the diagonal; the last one is zero.
    beside: Vec<f64>,
    /// Columns of Q.
    columns: Vec<Vec<f64>>,
}

/// Computes the eigenvalues of a symmetric matrix with these rows, the greatest first, and their vectors.
///
/// The matrix is reduced to three diagonals by reflections (Householder 1958), to which the QL algorithm with implicit shifts is applied
/// (Martin and Wilkinson 1968).
pub fn symmetric_eigen(rows: Vec<Vec<f64>>) -> Vec<Eigen> {
    let mut reduced = tridiagonal(rows);
    for place in 0..reduced.diagonal.len() {
        reduced.isolate_(place);
    }
    let pairs = reduced.diagonal.into_iter().zip(reduced.columns);
    let mut found: Vec<Eigen> = pairs.map(|(value, vector)| Eigen { value, vector }).collect();
    found.sort_by(|a, b| b.value.total_cmp(&a.value));
    found
}

/// Reduces a symmetric matrix with these rows to three diagonals.
fn tridiagonal(mut rows: Vec<Vec<f64>>) -> Tridiagonal {
    let width = rows.len();
    let mut diagonal = Vec::with_capacity(width);
    let mut beside = vec![0.0; width];
    let mut reflections = Vec::with_capacity(width);
    for place in 0..width {
        diagonal.push(rows[place][place]);
        // The column below the diagonal is reflected onto its first element.
        let mut normal = rows[place][place + 1..].to_vec();
        let Some(&first) = normal.first() else { break };
        let length = libm::sqrt(dot(&normal, &normal));
        let target = if first > 0.0 { -length } else { length };
        beside[place] = target;
        normal[0] -= target;
        let own_length = libm::sqrt(dot(&normal, &normal));
        if own_length > 0.0 {
            normal.iter_mut().for_each(|value| *value /= own_length);
            reflect_both_sides(&mut rows[place + 1..], place + 1, &normal);
        }
        reflections.push(normal);
    }
    // Q is the product of all reflections, of which the last is applied first.
    let mut columns = vec![vec![0.0; width]; width];
    for (place, column) in columns.iter_mut().enumerate() {
        column[place] = 1.0;
    }
    for (place, normal) in reflections.iter().enumerate().rev() {
        // Earlier columns are zero where the reflection acts.
        for column in &mut columns[place + 1..] {
            let part = &mut column[place + 1..];
            let along = -2.0 * dot(normal, part);
            add_multiple_(part, along, normal);
        }
    }
    Tridiagonal { diagonal, beside, columns }
}

/// Replaces the matrix C, which begins at column `from` of `rows`, by H C H with the reflection H = I - 2 n n^T, in place. `normal` is n, of
/// length 1, or zero.
fn reflect_both_sides(rows: &mut [Vec<f64>], from: usize, normal: &[f64]) {
    // H C H = C - 2 (n w^T + w n^T) with w = C n - (n^T C n) n.
    let mut moved: Vec<f64> = rows.iter().map(|row| dot(&row[from..], normal)).collect();
    let along = -dot(normal, &moved);
    add_multiple_(&mut moved, along, normal);
    for (row, (&of_normal, &of_moved)) in rows.iter_mut().zip(normal.iter().zip(&moved)) {
        for (value, (n, w)) in row[from..].iter_mut().zip(normal.iter().zip(&moved)) {
            *value -= 2.0 * (of_normal * w + of_moved * n);
        }
    }
}

/// Limit on the number of QL steps for one eigenvalue, far above the number that convergence takes.
const STEPS_MAX: usize = 200;

impl Tridiagonal {
    /// Applies QL steps, in place, until the element next to the diagonal at `place` is only rounding.
    fn isolate_(&mut self, place: usize) {
        for _ in 0..STEPS_MAX {
            let end = self.end_of_block(place);
            if end == place {
                return;
            }
            self.step_(place, end);
        }
    }

    /// Returns the last place of the block of T that begins at `start`.
    fn end_of_block(&self, start: usize) -> usize {
        for place in start..self.diagonal.len() - 1 {
            let size = self.diagonal[place].abs() + self.diagonal[place + 1].abs();
            if self.beside[place].abs() <= f64::EPSILON * size {
                return place;
            }
        }
        self.diagonal.len() - 1
    }

    /// Applies one QL step with Wilkinson's shift to the block from `start` to `end`, by rotations of neighboring places from its end on.
    fn step_(&mut self, start: usize, end: usize) {
        let Self { diagonal, beside, columns } = self;
        let half = (diagonal[start + 1] - diagonal[start]) / (2.0 * beside[start]);
        let root = libm::sqrt(half * half + 1.0);
        let shift = diagonal[start] - beside[start] / (half + if half < 0.0 { -root } else { root });
        let mut bulge = diagonal[end] - shift;
        let mut sine = 1.0;
        let mut cosine = 1.0;
        let mut moved = 0.0;
        for place in (start..end).rev() {
            let outer = sine * beside[place];
            let inner = cosine * beside[place];
            let length = libm::sqrt(outer * outer + bulge * bulge);
            beside[place + 1] = length;
            if length == 0.0 {
                // The block falls apart here.
                diagonal[place + 1] -= moved;
                beside[end] = 0.0;
                return;
            }
            sine = outer / length;
            cosine = bulge / length;
            let before = diagonal[place + 1] - moved;
            let turned = (diagonal[place] - before) * sine + 2.0 * cosine * inner;
            moved = sine * turned;
            diagonal[place + 1] = before + moved;
            bulge = cosine * turned - inner;
            let (lower, upper) = columns.split_at_mut(place + 1);
            rotate(&mut lower[place], &mut upper[0], cosine, sine);
        }
        diagonal[start] -= moved;
        beside[start] = bulge;
        beside[end] = 0.0;
    }
}

/// Rotates two columns in their plane, in place.
fn rotate(lower: &mut [f64], upper: &mut [f64], cosine: f64, sine: f64) {
    for (x, y) in lower.iter_mut().zip(upper) {
        let rotated_y = sine * *x + cosine * *y;
        *x = cosine * *x - sine * *y;
        *y = rotated_y;
    }
}

/// Adds a multiple of a vector to another, in place.
pub(super) fn add_multiple_(sum: &mut [f64], factor: f64, vector: &[f64]) {
    for (sum, value) in sum.iter_mut().zip(vector) {
        *sum += factor * value;
    }
}

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Checks that the eigenvectors are orthonormal, and that the matrix multiplies each by its value.
    fn check(rows: &[Vec<f64>]) {
        let size = rows.iter().flatten().fold(1.0f64, |most, value| most.max(value.abs()));
        let found = symmetric_eigen(rows.to_vec());
        assert_eq!(found.len(), rows.len());
        for (place, one) in found.iter().enumerate() {
            assert!((dot(&one.vector, &one.vector) - 1.0).abs() < 1e-12);
            for other in &found[..place] {
                assert!(dot(&one.vector, &other.vector).abs() < 1e-12);
                assert!(other.value >= one.value);
            }
            for (row, part) in rows.iter().zip(&one.vector) {
                assert!((dot(row, &one.vector) - one.value * part).abs() < 1e-12 * size * rows.len() as f64);
            }
        }
    }

    proptest! {
        #[test]
        fn eigenvectors_are_orthonormal_and_keep_their_direction(
            width in 1..9usize, values in prop::collection::vec(-3i8..4, 81),
        ) {
            // Small whole numbers give equal eigenvalues, and matrices that fall apart.
            let element = |row: usize, column: usize| f64::from(values[row.min(column) * 9 + row.max(column)]);
            let rows: Vec<Vec<f64>> =
                (0..width).map(|row| (0..width).map(|column| element(row, column)).collect()).collect();
            check(&rows);
        }
    }

    #[test]
    fn eigenvalues_are_known_ones() {
        let values = |rows: &[[f64; 3]]| {
            let rows: Vec<Vec<f64>> = rows.iter().map(|row| row.to_vec()).collect();
            check(&rows);
            symmetric_eigen(rows).iter().map(|one| one.value).collect::<Vec<f64>>()
        };
        let close = |found: Vec<f64>, expected: [f64; 3]| {
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-14), "{found:?}");
        };
        // The path of three places has the eigenvalues 2 cos(k pi / 4).
        let root = 2f64.sqrt();
        close(values(&[[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]), [root, 0.0, -root]);
        close(values(&[[1.0; 3]; 3]), [3.0, 0.0, 0.0]);
        close(values(&[[0.0; 3]; 3]), [0.0; 3]);
    }
}
