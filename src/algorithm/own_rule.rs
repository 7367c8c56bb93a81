//! Aggregation rules that are not FedReplay's own: the interface by which a program that uses the library brings one, and by
//! which a rule in Python is connected.

use std::fmt::Debug;
use std::sync::atomic::AtomicBool;

use super::averaging::{Update, mean_update};
use crate::adapter::{Adapter, Factors};

/// Update of a client as a rule reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleUpdate {
    /// Trained adapter less the one that the client started from, times the update's discount, in the order of the server's
    /// layout. Values that the client does not train or send are zero, such as the rows of A and columns of B beyond its rank.
    pub change: Vec<f64>,
    /// Rank of the client, which may be lower than the server's.
    pub rank: usize,
    /// [1] -- Weight by `algorithm`'s field `weights`; those of all updates sum to 1.
    pub weight: f64,
    /// [version] -- Number of models that the server made between the one that the client started from and this round's.
    pub staleness: u32,
}

/// Input of a rule: the server's model, the updates of a round, and the rule's state.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleInput<'a> {
    /// Model of the server.
    pub server: &'a Adapter,
    /// Usable updates with a weight, in the order of their tasks; at least one.
    pub updates: Vec<RuleUpdate>,
    /// State that the rule returned the round before; empty in the beginning.
    pub state: &'a [u8],
}

/// Result of a rule: the next model, and the rule's state.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleOutput {
    /// Values of the server's next adapter, in the order of its layout.
    pub values: Vec<f64>,
    /// State for the next round. It is part of the model: a resumed run reads it from the store.
    pub state: Vec<u8>,
}

/// Reason why a rule gave no model.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// The rule did what it must not do.
    #[error("failed to use the rule {rule}: {reason}")]
    Fault { rule: String, reason: String },
    /// There is no Python that can compute the rule.
    #[error("failed to start Python for the rule {rule}: {reason}")]
    NoPython { rule: String, reason: String },
    /// The process of the rule ended by itself.
    #[error("failed to go on with the rule {rule}: {reason}")]
    Ended { rule: String, reason: String },
    /// The run was asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Aggregation rule of a program's own.
///
/// A rule is a pure function of its input: everything else that decides its result is in its hash, and what it has to remember
/// is in the state that it returns. `docs/own-rules.md` shows one in a run.
pub trait AggregationRule: Debug + Send + Sync {
    /// Returns the name of the rule, for messages.
    fn name(&self) -> String;

    /// Returns the hash of everything besides the input that decides the result, such as parameters and a version.
    fn hash(&self) -> blake3::Hash;

    /// Computes the server's next model. `stop` asks for an early end.
    ///
    /// # Errors
    /// If the rule has no result.
    fn aggregate(&self, input: &RuleInput, stop: &AtomicBool) -> Result<RuleOutput, RuleError>;

    /// [byte] -- Returns the memory that the rule takes in other processes between calls.
    fn outside_bytes(&self) -> u64 {
        0
    }
}

/// Next model by a rule of one's own.
pub struct OwnStep {
    pub adapter: Adapter,
    /// State of the rule; empty if there is none.
    pub state: Vec<u8>,
    /// [1] -- Normalized weight times discount of each update, as the rule got them.
    pub weights: Vec<f64>,
}

/// Update that the server has received.
#[derive(Clone, Copy, Debug)]
pub struct ReceivedUpdate<'a> {
    pub update: Update<'a>,
    /// Rank of the client.
    pub rank: usize,
    /// As in [`RuleUpdate`].
    pub staleness: u32,
}

/// Computes the next model by `rule` from the updates of a round. Without an update that has a weight the
/// model and the state stay as they are. `sent` are the factors that clients send; the others of the model must stay.
///
/// # Errors
/// If the rule fails, or its result is not an adapter that may follow `server`.
pub fn own_step(
    rule: &dyn AggregationRule,
    server: &Adapter,
    state: &[u8],
    received: &[ReceivedUpdate],
    sent: Factors,
    stop: &AtomicBool,
) -> Result<OwnStep, RuleError> {
    let updates: Vec<Update> = received.iter().map(|received| received.update).collect();
    // Of no values, for the weights alone.
    let weights = mean_update(0, &updates).weights;
    let total: f64 = updates.iter().map(|update| update.weight).sum();
    let mut input = RuleInput { server, updates: Vec::new(), state };
    for &ReceivedUpdate { update, rank, staleness } in received.iter().filter(|received| received.update.weight > 0.0) {
        // A client of a lower rank has begun with as much of the model.
        let cut = (rank < update.base.layout.rank).then(|| update.base.truncated(rank));
        let base = cut.as_ref().unwrap_or(update.base);
        let pairs = update.adapter.values.iter().zip(&base.values);
        let mut change: Vec<f64> =
            pairs.map(|(&after, &before)| update.discount * (f64::from(after) - f64::from(before))).collect();
        sent.keep_only(&server.layout, &mut change);
        input.updates.push(RuleUpdate { change, rank, weight: update.weight / total, staleness });
    }
    if input.updates.is_empty() {
        return Ok(OwnStep { adapter: server.clone(), state: state.to_vec(), weights });
    }
    let RuleOutput { values, state } = rule.aggregate(&input, stop)?;
    let adapter =
        next_adapter(server, &values, sent).map_err(|reason| RuleError::Fault { rule: rule.name(), reason })?;
    Ok(OwnStep { adapter, state, weights })
}

/// Rounds values to the adapter after `server`.
///
/// # Errors
/// What is wrong with them.
fn next_adapter(server: &Adapter, values: &[f64], sent: Factors) -> Result<Adapter, String> {
    let layout = &server.layout;
    if values.len() != server.values.len() {
        return Err(format!("it returned {} values, and the adapter has {}", values.len(), server.values.len()));
    }
    // A value beyond those of an f32 becomes infinite here, and is refused with the value that it was.
    let rounded: Vec<f32> = values.iter().map(|&value| value as f32).collect();
    for (name, _, range) in layout.tensors() {
        if let Some(value) = values[range.clone()].iter().find(|value| !(**value as f32).is_finite()) {
            return Err(format!("it returned {value} in {name}, which is no finite f32"));
        }
    }
    // What is not sent is the server's own, and must keep its bits.
    let mut others = Vec::new();
    sent.others().for_ranges(layout, |range| others.push(range));
    for (name, _, range) in layout.tensors() {
        let has_changed = |place: usize| rounded[place].to_bits() != server.values[place].to_bits();
        if others.contains(&range) && range.into_iter().any(has_changed) {
            return Err(format!("it changed {name}, which clients neither train nor send"));
        }
    }
    Ok(Adapter { values: rounded, ..server.clone() })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::server::tests::{adapter, assert_close};
    use super::*;

    /// Adds the weighted mean, and counts its calls in its state.
    #[derive(Debug)]
    struct Mean;

    impl AggregationRule for Mean {
        fn name(&self) -> String {
            "mean".to_owned()
        }

        fn hash(&self) -> blake3::Hash {
            blake3::hash(b"mean v1")
        }

        fn aggregate(&self, input: &RuleInput, _stop: &AtomicBool) -> Result<RuleOutput, RuleError> {
            let mut values: Vec<f64> = input.server.values.iter().map(|&value| value.into()).collect();
            for update in &input.updates {
                values.iter_mut().zip(&update.change).for_each(|(value, change)| *value += update.weight * change);
            }
            Ok(RuleOutput { values, state: vec![input.state.len() as u8 + input.updates[0].staleness as u8] })
        }
    }

    /// Returns fixed values.
    #[derive(Debug)]
    struct Fixed(Vec<f64>);

    impl AggregationRule for Fixed {
        fn name(&self) -> String {
            "fixed".to_owned()
        }

        fn hash(&self) -> blake3::Hash {
            blake3::hash(b"fixed v1")
        }

        fn aggregate(&self, _input: &RuleInput, _stop: &AtomicBool) -> Result<RuleOutput, RuleError> {
            Ok(RuleOutput { values: self.0.clone(), state: vec![] })
        }
    }

    fn step(rule: &dyn AggregationRule, weights: [f64; 2], sent: Factors) -> Result<OwnStep, RuleError> {
        let (server, first, second) = (adapter([1.0, 2.0]), adapter([2.0, 2.0]), adapter([5.0, 6.0]));
        let received = |adapter, weight, discount, staleness| {
            let update = Update { adapter, base: &server, weight, discount };
            ReceivedUpdate { update, rank: 1, staleness }
        };
        let updates = [received(&first, weights[0], 1.0, 7), received(&second, weights[1], 0.5, 0)];
        own_step(rule, &server, &[0; 3], &updates, sent, &AtomicBool::new(false))
    }

    #[test]
    fn a_rule_gets_discounted_changes_and_weights_that_sum_to_one() {
        // 1 + 3/4 * 1 + 1/4 * 0.5 * 4 and 2 + 1/4 * 0.5 * 4; the state before has three bytes, the first update's staleness is 7.
        let OwnStep { adapter, state, weights } = step(&Mean, [3.0, 1.0], Factors::Both).expect("it has a mean");
        assert_close(&adapter, [2.25, 2.5]);
        assert_eq!((state, weights), (vec![10], vec![0.75, 0.125]));
        // What clients do not send does not move.
        assert_close(&step(&Mean, [3.0, 1.0], Factors::B).expect("it has a mean").adapter, [1.0, 2.5]);
    }

    #[test]
    fn without_a_weight_nothing_moves() {
        let OwnStep { adapter: next, state, weights } = step(&Mean, [0.0, 0.0], Factors::Both).expect("nothing to do");
        assert_eq!((next, state, weights), (adapter([1.0, 2.0]), vec![0; 3], vec![0.0; 2]));
    }

    #[test]
    fn results_that_are_no_adapter_are_refused_by_what_is_wrong() {
        let refused = |values: &[f64], sent| {
            let error = step(&Fixed(values.to_vec()), [1.0, 1.0], sent).err().expect("it is refused");
            error.to_string()
        };
        assert!(refused(&[1.0], Factors::Both).contains("returned 1 values, and the adapter has 2"));
        assert!(refused(&[1.0, f64::NAN], Factors::Both).contains("NaN in base_model.model.m.lora_B.weight"));
        assert!(refused(&[1e39, 1.0], Factors::Both).contains("no finite f32"), "an f32 has no 1e39");
        assert!(refused(&[1.5, 3.0], Factors::B).contains("changed base_model.model.m.lora_A.weight"));
        assert!(step(&Fixed(vec![1.0, 3.0]), [1.0, 1.0], Factors::B).is_ok());
        let _: Arc<dyn AggregationRule> = Arc::new(Mean);
    }
}
