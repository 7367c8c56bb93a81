//! How far clients are from each other, and a plane that shows as much of it as a plane can.

use crate::algorithm::{Singular, apart};

/// Clients' vectors, compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Geometry {
    /// [1] Cosine distance of each two clients, row-major: 0 is the same direction, 1 a right angle.
    pub distances: Vec<f64>,
    /// Each client's place on the first two principal components.
    pub places: Vec<[f64; 2]>,
    /// [1] Share of the variance that the plane shows.
    pub shown: f64,
}

/// Compares vectors of one width.
pub fn geometry(vectors: &[Vec<f64>]) -> Geometry {
    let count = vectors.len();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let norms: Vec<f64> = vectors.iter().map(|vector| libm::sqrt(dot(vector, vector)).max(f64::MIN_POSITIVE)).collect();
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

/// Principal components, by the singular directions of the clients' vectors less their mean.
fn principal_plane(vectors: &[Vec<f64>]) -> (Vec<[f64; 2]>, f64) {
    let count = vectors.len();
    let width = vectors.first().map_or(0, Vec::len);
    let mean: Vec<f64> =
        (0..width).map(|at| vectors.iter().map(|vector| vector[at]).sum::<f64>() / count as f64).collect();
    let centred = vectors.iter().map(|vector| vector.iter().zip(&mean).map(|(value, mean)| value - mean).collect());
    let components = apart(centred.collect());
    let variance = |component: &Singular| component.image.iter().map(|value| value * value).sum::<f64>();
    let total: f64 = components.iter().map(variance).sum();
    let mut places = vec![[0.0; 2]; count];
    for (axis, component) in components.iter().take(2).enumerate() {
        // A component has no sense of its own: its largest part points up.
        let larger = |most: f64, &part: &f64| if part.abs() > most.abs() { part } else { most };
        let sense = if component.direction.iter().fold(0.0, larger) < 0.0 { -1.0 } else { 1.0 };
        let scale = sense * libm::sqrt(variance(component));
        places.iter_mut().zip(&component.direction).for_each(|(place, part)| place[axis] = scale * part);
    }
    let shown: f64 = components.iter().take(2).map(variance).sum();
    (places, if total > 0.0 { shown / total } else { 1.0 })
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
