//! Computing what a client that attacks sends.

use std::sync::Arc;

use fedreplay_sim::{Purpose, Stream};

use super::node::Attack;
use super::value::{Trained, Value};
use crate::adapter::{Adapter, Factors};
use crate::algorithm::{AttackRule, Update};
use crate::privacy::NoiseStream;

/// Computes the update that an attacker sends. `inputs` are its own update and base, then update and base of each that it
/// knows of. The record is that of its training. An unusable update is sent as it is.
pub fn attack(attack: &Attack, inputs: &[Value]) -> Value {
    let (own, known) = inputs.split_at(2);
    let Value::Trained(trained) = &own[0] else { unreachable!("an attacker has trained") };
    if trained.record.unusable.is_some() {
        return own[0].clone();
    }
    let base = own[1].adapter();
    let own = received(attack.sent, own);
    let mut usable = Vec::with_capacity(known.len() / 2);
    for pair in known.chunks_exact(2) {
        if !matches!(&pair[0], Value::Trained(trained) if trained.record.unusable.is_some()) {
            usable.push((received(attack.sent, pair), pair[1].adapter()));
        }
    }
    let own = update(&own, base);
    let mut known_updates: Vec<Update> = usable.iter().map(|(adapter, base)| update(adapter, base)).collect();
    if known_updates.is_empty() {
        known_updates.push(own);
    }
    let mut change = match (attack.rule, attack.noise) {
        (AttackRule::Noise { deviation }, Some((seed, task))) => {
            let mut noise = vec![0.0; base.values.len()];
            NoiseStream::Seeded(Stream::new(seed, Purpose::AttackNoise, task)).add_gaussian(&mut noise, deviation);
            noise
        }
        (rule, _) => rule.change(base.values.len(), own, &known_updates),
    };
    attack.sent.keep_only(&base.layout, &mut change);
    let adapter = Arc::new(moved(base, &change));
    Value::Trained(Arc::new(Trained { adapter, record: trained.record.clone(), moments: None }))
}

/// Returns the adapter of an update as the server receives it, with those factors of its base that the client does not send.
/// `pair` are the update and its base.
pub fn received(sent: Factors, pair: &[Value]) -> Arc<Adapter> {
    match sent {
        Factors::Both => pair[0].adapter().clone(),
        _ => Arc::new(sent.replaced(pair[1].adapter(), pair[0].adapter())),
    }
}

fn update<'a>(adapter: &'a Adapter, base: &'a Adapter) -> Update<'a> {
    Update { adapter, base, weight: 1.0, discount: 1.0 }
}

/// Returns `base + change`. Values beyond those of an f32 are the largest that it has: an attacker sends numbers.
fn moved(base: &Adapter, change: &[f64]) -> Adapter {
    let most = f64::from(f32::MAX);
    let sums = base.values.iter().zip(change).map(|(&value, &change)| f64::from(value) + change);
    Adapter::new(base.layout.clone(), sums.map(|sum| sum.clamp(-most, most) as f32).collect())
}
