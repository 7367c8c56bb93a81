//! Pruning of ranks by clients (HetLoRA, arXiv 2401.06432, section 3): the rank that a client has after a task, and what it sends.

use std::sync::Arc;

use super::value::{Trained, Value};
use crate::adapter::pruned_rank;

/// Returns a client's rank after a task. `inputs` are the update, the model that it started from, and the rank before. The rank
/// is pruned if the components after the pruned rank are smaller after training than before; an update without use changes
/// nothing.
pub fn rank_after(gamma: f64, inputs: &[Value]) -> Value {
    let Value::Trained(trained) = &inputs[0] else { unreachable!("a client prunes what it has trained") };
    let start = inputs[1].adapter();
    let rank = rank(&inputs[2]);
    let left = pruned_rank(rank, gamma);
    let layout = &start.layout;
    let before = layout.size_of_components(&start.values, &(left..rank));
    let after = layout.size_of_components(&trained.adapter.values, &(left..rank));
    // A size that is not a number is not smaller.
    let is_pruned = trained.record.unusable.is_none() && after < before;
    Value::Rank(if is_pruned { left } else { rank } as u32)
}

/// Returns the update that a client sends: its own, cut to its rank. `inputs` are the update and the rank. The record is that of the update;
/// an update without use is passed on as it is.
pub fn pruned(inputs: &[Value]) -> Value {
    let Value::Trained(trained) = &inputs[0] else { unreachable!("a client sends what it has trained") };
    if trained.record.unusable.is_some() {
        return inputs[0].clone();
    }
    let adapter = Arc::new(trained.adapter.truncated(rank(&inputs[1])));
    Value::Trained(Arc::new(Trained { adapter, record: trained.record.clone(), moments: None }))
}

/// Returns the rank of a client.
pub fn rank(value: &Value) -> usize {
    match value {
        Value::Rank(rank) => *rank as usize,
        _ => unreachable!("a rank is a number"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::{Adapter, Layout, Module};
    use crate::graph::value::TrainedRecord;

    /// Rank 2 on widths 1: A is a column of two values, B is a row of two.
    fn adapter(values: [f32; 4]) -> Arc<Adapter> {
        let modules = vec![Module { path: "m".into(), in_features: 1, out_features: 1 }];
        let layout = Layout { rank: 2, alpha: 2.0, rank_stabilized: false, has_core: false, modules };
        Arc::new(Adapter::new(Arc::new(layout), values.to_vec()))
    }

    fn trained(values: [f32; 4], unusable: Option<&str>) -> Value {
        let record = TrainedRecord {
            losses: vec![Some(1.0)],
            tokens: 1,
            target_tokens: 1,
            update_norm: 1.0,
            unusable: unusable.map(str::to_owned),
            preference: None,
        };
        Value::Trained(Arc::new(Trained { adapter: adapter(values), record, moments: None }))
    }

    /// |B| |A| of the second component is 0.5 x 4 = 2 before.
    #[test]
    fn a_rank_is_pruned_where_the_rest_has_become_smaller() {
        let start = Value::Kept(adapter([1.0, 4.0, 1.0, 0.5]));
        for (after, unusable, rank) in [
            ([5.0, 4.0, 9.0, 0.4], None, 1),
            ([5.0, -8.0, 9.0, 0.2], None, 1),
            // As large as before, and larger.
            ([5.0, 4.0, 9.0, -0.5], None, 2),
            ([0.1, 4.0, 0.1, 0.6], None, 2),
            ([5.0, f32::NAN, 9.0, 0.1], None, 2),
            ([5.0, 4.0, 9.0, 0.4], Some("no use"), 2),
        ] {
            let update = trained(after, unusable);
            let found = rank_after(0.75, &[update.clone(), start.clone(), Value::Rank(2)]);
            assert_eq!(self::rank(&found), rank, "{after:?}");
            let sent = pruned(&[update, found]);
            let expected = if rank == 1 { [after[0], 0.0, after[2], 0.0] } else { after };
            assert_eq!(format!("{:?}", sent.adapter().values), format!("{expected:?}"));
        }
    }

    #[test]
    fn the_last_component_stays_and_a_rank_comes_back_from_its_bytes() {
        let start = Value::Kept(adapter([1.0, 0.0, 1.0, 0.0]));
        let found = rank_after(0.5, &[trained([0.5, 0.0, 0.5, 0.0], None), start, Value::Rank(1)]);
        assert_eq!(rank(&found), 1);
        let bytes = Value::Rank(7).to_bytes();
        assert_eq!(bytes[0], 14, "variants keep their places");
        let read = Value::from_bytes(&bytes).expect("a value");
        assert_eq!((rank(&read), read.hash()), (7, Value::Rank(7).hash()));
        assert_ne!(read.hash(), Value::Rank(8).hash());
    }
}
