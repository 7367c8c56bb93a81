//! Orthonormal columns and singular values of small matrices, in plain loops.
//!
//! No library, for what an aggregate computes must have the same bits on every processor: products of matrices and roots of
//! sums of squares in libraries do not.

/// Columns in an orthonormal basis of what they span.
pub(super) struct Basis {
    /// The basis.
    pub columns: Vec<Vec<f64>>,
    /// For each original column, its parts along the basis.
    pub parts: Vec<Vec<f64>>,
}

/// What is left of a column beside the basis, in its own length, that is no direction of its own but rounding.
const ROUNDING: f64 = 1e-12;

/// Gram's and Schmidt's method, each column twice, which is as good as it gets (Giraud et al. 2005).
pub(super) fn orthonormal(originals: &[Vec<f64>]) -> Basis {
    let mut columns: Vec<Vec<f64>> = Vec::new();
    let mut parts = Vec::with_capacity(originals.len());
    for original in originals {
        let (mut rest, mut own) = (original.clone(), vec![0.0; columns.len()]);
        for _ in 0..2 {
            for (column, part) in columns.iter().zip(&mut own) {
                let along = dot(column, &rest);
                *part += along;
                rest.iter_mut().zip(column).for_each(|(rest, value)| *rest -= along * value);
            }
        }
        let length = libm::sqrt(dot(&rest, &rest));
        if length > ROUNDING * libm::sqrt(dot(original, original)) {
            rest.iter_mut().for_each(|value| *value /= length);
            columns.push(rest);
            own.push(length);
        }
        parts.push(own);
    }
    parts.iter_mut().for_each(|own: &mut Vec<f64>| own.resize(columns.len(), 0.0));
    Basis { columns, parts }
}

/// A direction that a matrix takes to an image, at right angles to the images of all others.
pub struct Singular {
    /// Of length 1.
    pub direction: Vec<f64>,
    /// As long as the singular value.
    pub image: Vec<f64>,
}

/// Sweeps over all pairs beyond which nothing changes.
const SWEEPS_MAX: usize = 60;

/// The singular directions of a matrix of these columns, the longest image first: Jacobi's rotations of pairs of columns
/// (Hestenes 1958).
pub fn apart(mut columns: Vec<Vec<f64>>) -> Vec<Singular> {
    let count = columns.len();
    let unit = |place: usize| (0..count).map(|at| f64::from(u8::from(at == place))).collect::<Vec<f64>>();
    let mut directions: Vec<Vec<f64>> = (0..count).map(unit).collect();
    for _ in 0..SWEEPS_MAX {
        let mut is_done = true;
        for a in 0..count {
            for b in a + 1..count {
                let (aa, bb) = (dot(&columns[a], &columns[a]), dot(&columns[b], &columns[b]));
                let ab = dot(&columns[a], &columns[b]);
                if ab.abs() <= f64::EPSILON * libm::sqrt(aa) * libm::sqrt(bb) {
                    continue;
                }
                is_done = false;
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
    let singular = |(direction, image)| Singular { direction, image };
    let mut found: Vec<Singular> = directions.into_iter().zip(columns).map(singular).collect();
    found.sort_by(|a, b| dot(&b.image, &b.image).total_cmp(&dot(&a.image, &a.image)));
    found
}

fn rotate(columns: &mut [Vec<f64>], a: usize, b: usize, cosine: f64, sine: f64) {
    let (before, from_b) = columns.split_at_mut(b);
    for (x, y) in before[a].iter_mut().zip(&mut from_b[0]) {
        (*x, *y) = (cosine * *x - sine * *y, sine * *x + cosine * *y);
    }
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
