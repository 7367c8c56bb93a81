//! Computing what the server receives of a compressed update, what the client remembers of it, and what clients receive of a model.

use std::borrow::Cow;
use std::sync::Arc;

use fedreplay_sim::{Purpose, Stream};

use super::node::Compress;
use super::value::{Trained, Value};
use crate::adapter::{Adapter, Factors};
use crate::compression::{Compression, Sent};

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

/// Encodes some factors of a model and decodes them again; the others are as they were. A model that is not finite is passed on as it
/// is: no code has a place for it.
pub fn broadcast(compression: &Compression, factors: Factors, server: &Arc<Adapter>) -> Arc<Adapter> {
    if !server.is_finite() {
        return server.clone();
    }
    let received = Sent::new(&server.layout, factors);
    let bytes = compression.encode(&received, &server.values, None);
    let decoded = Adapter::new(server.layout.clone(), compression.decode(&received, &bytes));
    Arc::new(factors.replaced(server, &decoded))
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
    use crate::compression::{Codec, Int8Blocks, Nf4Blocks, SignSgd, TopK};
    use crate::graph::NodeId;
    use crate::graph::value::TrainedRecord;

    fn adapter(values: Vec<f32>) -> Arc<Adapter> {
        let module = Module { path: "m".into(), in_features: 12, out_features: 8 };
        let layout = Layout { rank: 2, alpha: 1.0, rank_stabilized: false, has_core: false, modules: vec![module] };
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
    /// By hand: A has one block of 24 values and B one of 16, each with its absolute maximum as the unit.
    #[test]
    fn a_broadcast_model_is_decoded_in_the_factors_that_travel() {
        let mut values = [0.0; 40];
        values[..3].copy_from_slice(&[1.27, -0.5, 0.004]);
        values[24..27].copy_from_slice(&[-2.0, 1.0, 0.1]);
        let server = adapter(values.to_vec());
        let decoded = |codec, factors| {
            let compression = Compression { codec, error_feedback: false };
            broadcast(&compression, factors, &server).values.clone()
        };
        let int8 = decoded(Codec::Int8(Int8Blocks), Factors::Both);
        // 127 v / M is 127, -50 and 0.4; then -127, 63.5, which is rounded to even, and 6.35.
        let expected = [1.27, -0.5, 0.0, -2.0, 2.0 * 64.0 / 127.0, 2.0 * 6.0 / 127.0];
        for (place, expected) in [0, 1, 2, 24, 25, 26].into_iter().zip(expected) {
            assert!((int8[place] - expected).abs() < 1e-6, "{} for {expected}", int8[place]);
        }
        let nf4 = decoded(Codec::Nf4(Nf4Blocks), Factors::B);
        assert_eq!(nf4[..24], server.values[..24], "A is as it was");
        // Of the sixteen values, -1, 0.4407098 and 0.0795803 are the nearest to -1, 0.5 and 0.05.
        for (place, expected) in [(24, -2.0), (25, 2.0 * 0.440_709_83), (26, 2.0 * 0.079_580_3)] {
            assert!((nf4[place] - expected).abs() < 1e-6, "{} for {expected}", nf4[place]);
        }
        for entity in 0..50 {
            let server = adapter(random(entity, 3.0));
            for (codec, bound) in [(Codec::Int8(Int8Blocks), 1.0 / 254.0), (Codec::Nf4(Nf4Blocks), 0.152)] {
                let decoded = broadcast(&Compression { codec, error_feedback: false }, Factors::Both, &server);
                for block in [0..24, 24..40] {
                    let most = server.values[block.clone()].iter().fold(0.0, |most: f32, value| most.max(value.abs()));
                    for place in block {
                        let lost = (server.values[place] - decoded.values[place]).abs();
                        assert!(lost <= 1.00001 * bound * most, "{codec:?}: {lost} of {most}");
                    }
                }
            }
        }
        let endless = adapter([&[f32::INFINITY], &[1.0; 39][..]].concat());
        let compression = Compression { codec: Codec::Int8(Int8Blocks), error_feedback: false };
        assert_eq!(broadcast(&compression, Factors::Both, &endless), endless);
    }
}
