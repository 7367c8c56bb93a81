//! Changes of a round's updates as points of one vector space, read in blocks of coordinates.

use std::cmp::Ordering;
use std::ops::Range;

use rayon::prelude::*;

use super::super::averaging::Update;

/// [value] -- Coordinates of a block, which are in the processor's cache for all points of a usual round.
const BLOCK: usize = 1024;

/// [value] -- Coordinates that one thread works on at a time, a multiple of [`BLOCK`]. Sums are taken span by span, so this
/// number, unlike the number of threads, is part of the result.
const SPAN: usize = 64 * BLOCK;

/// Changes `discount * (adapter - base)` of the updates that take part, in f64.
///
/// Updates are in an order that depends on their values alone: that of their first different coordinates, then of their
/// weights. Sums over points and ties follow this order, so a rule gives the same bits whatever the order of the updates.
pub struct Changes<'a> {
    coordinates: usize,
    points: Vec<Point<'a>>,
}

/// One update and its place in the round.
struct Point<'a> {
    update: Update<'a>,
    place: usize,
}

/// Some coordinates of all points.
pub struct CoordinateBlock {
    /// Coordinates, counted from the start of the adapter.
    pub range: Range<usize>,
    values: Vec<f64>,
    points: usize,
}

impl CoordinateBlock {
    /// Returns the coordinates of one point.
    pub fn of_point(&self, point: usize) -> &[f64] {
        let width = self.range.len();
        &self.values[point * width..(point + 1) * width]
    }

    /// Returns the coordinates of all points, in their order.
    pub fn points(&self) -> impl Iterator<Item = &[f64]> {
        (0..self.points).map(|point| self.of_point(point))
    }
}

impl<'a> Changes<'a> {
    /// Takes the updates that have a weight and whose values are finite.
    pub fn new(coordinates: usize, updates: &[Update<'a>]) -> Self {
        let mut points = Vec::with_capacity(updates.len());
        for (place, &update) in updates.iter().enumerate() {
            if update.weight > 0.0 && is_finite(update) {
                points.push(Point { update, place });
            }
        }
        points.sort_by(|left, right| compare(left.update, right.update));
        Self { coordinates, points }
    }

    /// [point] -- Returns the number of points.
    pub fn count(&self) -> usize {
        self.points.len()
    }

    /// [value] -- Returns the number of coordinates of a point.
    pub fn coordinates(&self) -> usize {
        self.coordinates
    }

    /// Returns the weights of the points, normalized to sum to 1.
    pub fn weights(&self) -> Vec<f64> {
        let total: f64 = self.points.iter().map(|point| point.update.weight).sum();
        self.points.iter().map(|point| point.update.weight / total).collect()
    }

    /// Returns, for each of `updates` updates of the round, the factor on its change before the discount, from the factors
    /// on the points. Updates that do not take part have 0.
    pub fn by_update(&self, updates: usize, factors: &[f64]) -> Vec<f64> {
        let mut found = vec![0.0; updates];
        for (point, factor) in self.points.iter().zip(factors) {
            found[point.place] = factor * point.update.discount;
        }
        found
    }

    /// Computes `count` sums over all coordinates; `add` adds those of a block.
    pub fn sums(&self, count: usize, add: impl Fn(&CoordinateBlock, &mut [f64]) + Sync) -> Vec<f64> {
        let spans: Vec<Range<usize>> = cut(0..self.coordinates, SPAN).collect();
        let of_spans: Vec<Vec<f64>> = spans.into_par_iter().map(|span| self.sums_of_span(span, count, &add)).collect();
        total(count, &of_spans)
    }

    fn sums_of_span(&self, span: Range<usize>, count: usize, add: impl Fn(&CoordinateBlock, &mut [f64])) -> Vec<f64> {
        let mut sums = vec![0.0; count];
        for range in cut(span, BLOCK) {
            add(&self.block(range), &mut sums);
        }
        sums
    }

    /// Computes a value per coordinate, and `count` sums over all coordinates. `write` gets a block, the values to write and
    /// the sums to add to.
    pub fn map(
        &self,
        count: usize,
        write: impl Fn(&CoordinateBlock, &mut [f64], &mut [f64]) + Sync,
    ) -> (Vec<f64>, Vec<f64>) {
        let mut values = vec![0.0; self.coordinates];
        let spans = values.par_chunks_mut(SPAN).enumerate();
        let of_spans: Vec<Vec<f64>> = spans
            .map(|(number, values)| {
                let mut sums = vec![0.0; count];
                for (index, values) in values.chunks_mut(BLOCK).enumerate() {
                    let start = number * SPAN + index * BLOCK;
                    write(&self.block(start..start + values.len()), values, &mut sums);
                }
                sums
            })
            .collect();
        (values, total(count, &of_spans))
    }

    /// Reads a block of coordinates of all points.
    fn block(&self, range: Range<usize>) -> CoordinateBlock {
        let mut values = Vec::with_capacity(self.points.len() * range.len());
        for Point { update, .. } in &self.points {
            let pairs = update.adapter.values[range.clone()].iter().zip(&update.base.values[range.clone()]);
            values.extend(pairs.map(|(&after, &before)| change(after, before, update.discount)));
        }
        CoordinateBlock { range, values, points: self.points.len() }
    }
}

/// Cuts a range into parts of this length; the last may be shorter.
fn cut(range: Range<usize>, length: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(length).map(move |start| start..end.min(start + length))
}

/// Adds sums of spans in the order of the spans.
fn total(count: usize, of_spans: &[Vec<f64>]) -> Vec<f64> {
    let mut total = vec![0.0; count];
    for sums in of_spans {
        for (total, sum) in total.iter_mut().zip(sums) {
            *total += sum;
        }
    }
    total
}

fn change(after: f32, before: f32, discount: f64) -> f64 {
    discount * (f64::from(after) - f64::from(before))
}

fn changes(update: Update<'_>) -> impl Iterator<Item = f64> {
    let pairs = update.adapter.values.iter().zip(&update.base.values);
    pairs.map(move |(&after, &before)| change(after, before, update.discount))
}

fn is_finite(update: Update) -> bool {
    changes(update).all(f64::is_finite)
}

/// Orders updates by their first different coordinates, then by their weights.
fn compare(left: Update, right: Update) -> Ordering {
    let different = changes(left).zip(changes(right)).map(|(left, right)| left.total_cmp(&right));
    let by_values = different.into_iter().find(|order| order.is_ne()).unwrap_or(Ordering::Equal);
    by_values.then(left.weight.total_cmp(&right.weight))
}
