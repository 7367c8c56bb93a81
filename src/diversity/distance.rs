//! Distances between clients' embeddings, and their projection on the plane of the first two principal components.

use crate::algorithm::{Singular, apart};

/// Distances and projection of clients' vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct Geometry {
    /// [1] -- Cosine distances of all pairs of clients, row-major: 0 for the same direction, 1 for a right angle.
    pub distances: Vec<f64>,
    /// Coordinates of each client on the first two principal components.
    pub places: Vec<[f64; 2]>,
    /// [1] -- Share of the variance in these two components.
    pub shown: f64,
}

/// Computes distances and projection of vectors of equal width.
pub fn geometry(vectors: &[Vec<f64>]) -> Geometry {
    let count = vectors.len();
    let mut norms = Vec::with_capacity(count);
    for vector in vectors {
        // The minimum keeps a zero vector from dividing by 0.
        norms.push(libm::sqrt(dot(vector, vector)).max(f64::MIN_POSITIVE));
    }
    let mut distances = vec![0.0; count * count];
    for a in 0..count {
        for b in 0..a {
            let distance = 1.0 - dot(&vectors[a], &vectors[b]) / norms[a] / norms[b];
            distances[a * count + b] = distance.max(0.0);
            distances[b * count + a] = distance.max(0.0);
        }
    }
    let (places, shown) = principal_plane(vectors);
    Geometry { distances, places, shown }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Returns the coordinates on the first two principal components and their share of the variance.
fn principal_plane(vectors: &[Vec<f64>]) -> (Vec<[f64; 2]>, f64) {
    let count = vectors.len();
    let mean = mean(vectors);
    let mut centered: Vec<Vec<f64>> = Vec::with_capacity(count);
    for vector in vectors {
        centered.push(vector.iter().zip(&mean).map(|(value, mean)| value - mean).collect());
    }
    // The matrix with the centered vectors as columns is U S V^T. The coordinates of client i on component k are s_k
    // V_ik.
    let components = apart(centered);
    let total: f64 = components.iter().map(variance).sum();
    let mut places = vec![[0.0; 2]; count];
    for (axis, component) in components.iter().take(2).enumerate() {
        let scale = sign(&component.direction) * libm::sqrt(variance(component));
        for (place, part) in places.iter_mut().zip(&component.direction) {
            place[axis] = scale * part;
        }
    }
    let shown: f64 = components.iter().take(2).map(variance).sum();
    (places, if total > 0.0 { shown / total } else { 1.0 })
}

fn mean(vectors: &[Vec<f64>]) -> Vec<f64> {
    let width = vectors.first().map_or(0, Vec::len);
    let mut mean = Vec::with_capacity(width);
    for at in 0..width {
        mean.push(vectors.iter().map(|vector| vector[at]).sum::<f64>() / vectors.len() as f64);
    }
    mean
}

/// Returns the squared singular value of a component, which is proportional to its variance.
fn variance(component: &Singular) -> f64 {
    component.image.iter().map(|value| value * value).sum()
}

/// Returns -1 if the entry of largest magnitude is negative, else 1. The sign of a singular vector is arbitrary: this
/// makes its largest entry positive.
fn sign(direction: &[f64]) -> f64 {
    let mut largest: f64 = 0.0;
    for &part in direction {
        if part.abs() > largest.abs() {
            largest = part;
        }
    }
    if largest < 0.0 { -1.0 } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_cloud_keeps_its_distances() {
        // Four corners of a rectangle in a plane of space.
        let corners = [[0.0, 0.0], [4.0, 0.0], [4.0, 1.0], [0.0, 1.0]];
        let vectors: Vec<Vec<f64>> =
            corners.iter().map(|[x, y]| vec![1.0 + 0.6 * x, 2.0 + 0.8 * x, 3.0 + y, 5.0]).collect();
        let found = geometry(&vectors);
        assert!((found.shown - 1.0).abs() < 1e-12);
        let far = |a: usize, b: usize| {
            let ([x, y], [u, v]) = (found.places[a], found.places[b]);
            (x - u).hypot(y - v)
        };
        for (a, b, expected) in [(0, 1, 4.0), (1, 2, 1.0), (0, 2, 17f64.sqrt())] {
            assert!((far(a, b) - expected).abs() < 1e-9, "{a} to {b}: {}", far(a, b));
        }
    }

    #[test]
    fn distances_are_of_directions() {
        let found = geometry(&[vec![1.0, 0.0], vec![3.0, 0.0], vec![0.0, 2.0]]);
        let expected = [0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0];
        assert!(found.distances.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-12));
        assert_eq!(geometry(&[vec![1.0]]).places, [[0.0, 0.0]]);
    }
}
