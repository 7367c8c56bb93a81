//! Adapters whose products are B R A, with a matrix R `[rank, rank]` between the factors of each module.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Adapter, Layout};

impl Adapter {
    /// Returns the adapter with the same products that has B R in the place of B, and no R. The sums are in f64, and rounded once. An
    /// adapter without cores is that one already.
    pub fn with_core_in_b(&self) -> Cow<'_, Adapter> {
        if !self.layout.has_core {
            return Cow::Borrowed(self);
        }
        let rank = self.layout.rank;
        let layout = Arc::new(Layout { has_core: false, ..Layout::clone(&self.layout) });
        let mut values = Vec::with_capacity(layout.parameters());
        for ((a, b), core) in self.layout.ranges().into_iter().zip(self.layout.core_ranges()) {
            values.extend_from_slice(&self.values[a]);
            let core = &self.values[core];
            for row in self.values[b].chunks_exact(rank) {
                for column in 0..rank {
                    let terms = row.iter().zip(core.iter().skip(column).step_by(rank));
                    let sum: f64 = terms.map(|(&b, &r)| f64::from(b) * f64::from(r)).sum();
                    values.push(sum as f32);
                }
            }
        }
        Cow::Owned(Adapter::new(layout, values).on(self.base_change.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::Module;

    #[test]
    fn b_times_r_takes_the_place_of_b() {
        let modules = vec![Module { path: "m".into(), in_features: 1, out_features: 2 }];
        let layout = Layout { rank: 2, alpha: 2.0, rank_stabilized: false, has_core: true, modules };
        // A = (9, 8), B = [[1, 2], [3, 4]], R = [[5, 6], [7, 0.5]].
        let values = vec![9.0, 8.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 0.5];
        let adapter = Adapter::new(Arc::new(layout), values);
        let folded = adapter.with_core_in_b().into_owned();
        assert!(!folded.layout.has_core);
        assert_eq!(folded.values, [9.0, 8.0, 19.0, 7.0, 43.0, 20.0]);
        assert_eq!(folded.with_core_in_b().as_ref(), &folded);
        let read = Adapter::from_bytes(&adapter.to_bytes()).expect("it was just written");
        assert_eq!(read, adapter);
        assert_ne!(folded.hash(), adapter.hash());
    }
}
