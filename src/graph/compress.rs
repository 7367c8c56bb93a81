//! Computing what the server receives of a compressed update, and what the client remembers of it.

use std::borrow::Cow;
use std::sync::Arc;

use fedreplay_sim::{Purpose, Stream};

use super::node::Compress;
use super::value::{Trained, Value};
use crate::adapter::{Adapter, Factors};
use crate::compression::Sent;

/// Encodes a client's change and decodes it again. `inputs` are the update, the server's model that it started from, then the client's
/// memory if it has one. The record is that of the update. An update without use is passed on as it is, and so is one that is not
/// finite: no code has a place for it.
///
/// # Panics
/// If the encoded change has another length than the schedule has charged.
pub fn compress(order: &Compress, inputs: &[Value]) -> Value {
    let Value::Trained(trained) = &inputs[0] else { unreachable!("a client sends what it has trained") };
    let base = inputs[1].adapter();
    let change = change(inputs);
    if trained.record.unusable.is_some() || change.iter().any(|value| !value.is_finite()) {
        return inputs[0].clone();
    }
    let layout = &base.layout;
    let sent = Sent { layout, factors: order.sent, rank: order.rank };
    let change: Vec<f32> = change.into_iter().map(single).collect();
    let draws = order.draws.map(|(seed, task)| Stream::new(seed, Purpose::Compression, task));
    let bytes = order.compression.encode(&sent, &change, draws);
    assert_eq!(bytes.len() as u64, order.compression.bytes(&sent), "the schedule charges what is sent");
    let decoded = order.compression.decode(&sent, &bytes);
    // A client of lower rank started from the model without the rest, which the server does not get from it, either.
    let start = if order.rank < layout.rank { Cow::Owned(base.truncated(order.rank)) } else { Cow::Borrowed(&**base) };
    let sums = start.values.iter().zip(&decoded).map(|(&start, &change)| single(f64::from(start) + f64::from(change)));
    let adapter = Arc::new(Adapter::new(layout.clone(), sums.collect()));
    Value::Trained(Arc::new(Trained { adapter, record: trained.record.clone(), moments: None }))
}

/// Computes a client's memory after a task: what it wanted to send less what the server has received. `inputs` are the update, the
/// server's model that it started from, the update as the server received it, then the memory before, if there is one. After an
/// update without use, which the server has not applied, the memory is what it was.
pub fn memory(factors: Factors, rank: usize, inputs: &[Value]) -> Value {
    let Value::Trained(trained) = &inputs[0] else { unreachable!("a client sends what it has trained") };
    let base = inputs[1].adapter();
    let received = inputs[2].adapter();
    let mut after = match inputs.get(3) {
        Some(before) => Adapter::clone(before.adapter()),
        None => Adapter::zeros(base.layout.clone()),
    };
    let wanted = change(&[&inputs[..2], &inputs[3..]].concat());
    if trained.record.unusable.is_none() && wanted.iter().all(|value| value.is_finite()) {
        for place in (Sent { layout: &base.layout, factors, rank }).ranges().flatten() {
            let arrived = f64::from(received.values[place]) - f64::from(base.values[place]);
            after.values[place] = single(wanted[place] - arrived);
        }
    }
    Value::Memory(Arc::new(after))
}

/// Computes the change that a client wants to send: its update minus the model that this started from, plus its memory. Only values that
/// are sent have a meaning.
fn change(inputs: &[Value]) -> Vec<f64> {
    let pairs = inputs[0].adapter().values.iter().zip(&inputs[1].adapter().values);
    let mut change: Vec<f64> = pairs.map(|(&after, &before)| f64::from(after) - f64::from(before)).collect();
    if let Some(memory) = inputs.get(2) {
        for (value, &kept) in change.iter_mut().zip(&memory.adapter().values) {
            *value += f64::from(kept);
        }
    }
    change
}

/// Rounds to f32; values beyond its largest are that.
fn single(value: f64) -> f32 {
    let most = f64::from(f32::MAX);
    value.clamp(-most, most) as f32
}

#[cfg(test)]
mod tests {
    use fedreplay_sim::Seed;

    use super::*;
    use crate::adapter::{Layout, Module};
    use crate::compression::{Codec, Compression, SignSgd, TopK};
    use crate::graph::NodeId;
    use crate::graph::value::TrainedRecord;

    fn adapter(values: Vec<f32>) -> Arc<Adapter> {
        let module = Module { path: "m".into(), in_features: 12, out_features: 8 };
        let layout = Layout { rank: 2, alpha: 1.0, rank_stabilized: false, modules: vec![module] };
        Arc::new(Adapter::new(Arc::new(layout), values))
    }

    fn random(entity: u64, scale: f32) -> Vec<f32> {
        let mut stream = Stream::new(Seed(1), Purpose::SyntheticData, entity);
        (0..40).map(|_| (stream.unit() as f32 - 0.5) * scale).collect()
    }

    fn trained(values: Vec<f32>, unusable: bool) -> Value {
        let record = TrainedRecord {
            losses: vec![],
            tokens: 0,
            target_tokens: 0,
            update_norm: 0.0,
            unusable: unusable.then(|| "it is".into()),
            preference: None,
        };
        Value::Trained(Arc::new(Trained { adapter: adapter(values), record, moments: None }))
    }

    fn order(codec: Codec, sent: Factors, rank: usize) -> Compress {
        let compression = Compression { codec, error_feedback: true };
        Compress { update: NodeId::end(), base: NodeId::end(), memory: None, compression, sent, rank, draws: None }
    }

    /// Everything that a client wanted to send has arrived, or is in its memory.
    fn check_sums(codec: Codec, sent: Factors, rank: usize) {
        let order = order(codec, sent, rank);
        let is_sent = |place: usize| match place {
            0..24 => sent != Factors::B && place / 12 < rank,
            _ => sent != Factors::A && place % 2 < rank,
        };
        let [mut wanted, mut arrived] = [[0.0; 40]; 2];
        let mut state: Vec<Value> = vec![];
        for task in 0..30 {
            let server = adapter(random(2 * task, 1.0));
            let start = server.truncated(rank).values;
            let change = random(2 * task + 1, 0.01);
            let update: Vec<f32> = start.iter().zip(&change).map(|(start, change)| start + change).collect();
            let update = adapter(update).truncated(rank).values;
            let pair = [trained(update.clone(), false), Value::Control(server.clone())];
            let received = compress(&order, &[&pair[..], &state].concat());
            let values = received.adapter().values.clone();
            state = vec![memory(sent, rank, &[&pair[..], &[received], &state].concat())];
            for place in 0..40 {
                if is_sent(place) {
                    wanted[place] += f64::from(update[place]) - f64::from(start[place]);
                    arrived[place] += f64::from(values[place]) - f64::from(start[place]);
                } else {
                    assert_eq!(values[place], start[place], "what is not sent is what the client started from");
                }
            }
        }
        let kept = &state[0].adapter().values;
        for place in 0..40 {
            let found = arrived[place] + f64::from(kept[place]);
            // One rounding of the memory to f32 for each task.
            assert!((found - wanted[place]).abs() <= 30.0 * 1e-9, "{order:?}: {found} for {}", wanted[place]);
            assert!(is_sent(place) || kept[place] == 0.0);
        }
        assert!(kept.iter().any(|&value| value.abs() > 1e-4), "something is left");
    }

    #[test]
    fn what_was_received_and_the_memory_are_the_sum_of_all_changes() {
        for codec in [Codec::TopK(TopK { share: 0.1 }), Codec::SignSgd(SignSgd)] {
            for sent in [Factors::A, Factors::B, Factors::Both] {
                for rank in [1, 2] {
                    check_sums(codec, sent, rank);
                }
            }
        }
    }

    #[test]
    fn updates_without_use_are_passed_on_and_leave_the_memory_as_it_was() {
        let order = order(Codec::SignSgd(SignSgd), Factors::Both, 2);
        let base = Value::Control(adapter(random(0, 1.0)));
        let before = Value::Memory(adapter(random(1, 0.1)));
        let mut endless = random(2, 1.0);
        endless[3] = f32::INFINITY;
        for update in [trained(random(2, 1.0), true), trained(endless, false)] {
            let received = compress(&order, &[update.clone(), base.clone(), before.clone()]);
            assert_eq!(received.hash(), update.hash());
            let inputs = [update.clone(), base.clone(), received.clone(), before.clone()];
            assert_eq!(memory(Factors::Both, 2, &inputs).hash(), before.hash());
            let first = memory(Factors::Both, 2, &[update, base.clone(), received]);
            assert!(first.adapter().values.iter().all(|&value| value == 0.0));
            let Some(Value::Memory(read)) = Value::from_bytes(&before.to_bytes()) else { panic!("no memory") };
            assert_eq!(&read, before.adapter());
        }
    }
}
