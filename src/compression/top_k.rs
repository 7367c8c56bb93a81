//! Top-k sparsification: Stich et al., "Sparsified SGD with Memory", NeurIPS 2018, arXiv 1809.07599. The k values of
//! largest magnitude are sent in f32, each with its place as a 32-bit number; the others are zero.

use serde::Serialize;

use super::Encoding;
use super::blocks::singles;
use crate::scenario::share_of;

/// [byte] -- Length of a place, and of a value.
const WORD: usize = 4;

/// Top-k codec.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TopK {
    /// [1] -- Share of the values that is sent.
    pub share: f64,
}

impl TopK {
    /// Returns the number of values that are sent of `count`: the share rounded down, but at least one.
    fn kept(&self, count: usize) -> usize {
        (share_of(self.share, count as u64) as usize).max(1).min(count)
    }
}

impl Encoding for TopK {
    fn bytes(&self, count: usize) -> usize {
        2 * WORD * self.kept(count)
    }

    fn encode(&self, values: &[f32], _: &mut dyn FnMut() -> f64, out: &mut Vec<u8>) {
        let count = u32::try_from(values.len()).expect("an adapter in memory has fewer than 2^32 values");
        let kept = self.kept(values.len());
        let mut places: Vec<u32> = (0..count).collect();
        // Of equal magnitudes, the first come first: the order is total, so that the choice has one outcome.
        if kept < places.len() {
            places.select_nth_unstable_by(kept, |&left, &right| {
                let [of_left, of_right] = [left, right].map(|place| values[place as usize].abs());
                of_right.total_cmp(&of_left).then(left.cmp(&right))
            });
        }
        places.truncate(kept);
        places.sort_unstable();
        out.extend(places.iter().flat_map(|place| place.to_le_bytes()));
        out.extend(places.iter().flat_map(|&place| values[place as usize].to_le_bytes()));
    }

    fn decode(&self, bytes: &[u8], values: &mut [f32]) {
        let (places, kept) = bytes.split_at(bytes.len() / 2);
        for (place, value) in places.chunks_exact(WORD).zip(singles(kept)) {
            let place = u32::from_le_bytes([place[0], place[1], place[2], place[3]]);
            values[place as usize] = value;
        }
    }
}
