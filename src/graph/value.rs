//! Results of nodes, their hashes and their form on disk.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::adapter::Adapter;
use crate::algorithm::{AggregationError, ModuleError, ServerState};
use crate::store::{Digest, key_of};
use crate::training::Moments;

/// Result of a node.
#[derive(Clone, Debug)]
pub enum Value {
    /// Server model, initial or aggregated, with the state of its server optimizer. `weights` are those of the
    /// contributions after normalization. `clip_norm` is the clipping norm of the next private release, if it adapts. `error`
    /// is the aggregation's error, if it has one.
    Model {
        adapter: Arc<Adapter>,
        weights: Vec<f64>,
        state: ServerState,
        clip_norm: Option<f64>,
        error: Option<AggregationError>,
    },
    /// Control variate of a client.
    Control(Arc<Adapter>),
    /// Moments of a client's optimizer.
    Moments(Arc<Moments>),
    /// Factors that a client keeps; the others are zero.
    Kept(Arc<Adapter>),
    /// Memory of a client's error feedback: what it has not sent of its changes so far.
    Memory(Arc<Adapter>),
    /// Rank of a client that prunes it.
    Rank(u32),
    /// Update of a client.
    Trained(Arc<Trained>),
    /// Updates of a cohort, in the order of its members.
    Cohort(Vec<Arc<Trained>>),
    /// Losses.
    Evaluated(Arc<Evaluated>),
    /// Result of a benchmark, as bytes that only the benchmark interprets.
    BenchmarkResult(Arc<Vec<u8>>),
}

/// Adapter of a client after local training, with the training's record.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// Trained adapter; the one that training started from if the update is unusable.
    pub adapter: Arc<Adapter>,
    pub record: TrainedRecord,
    /// Moments of the optimizer after training, if they are kept.
    pub moments: Option<Arc<Moments>>,
}

/// Losses and counts of a local training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainedRecord {
    /// [nat/token, nat/pair in preference training] -- Training loss of each step; `None` if it was not finite.
    pub losses: Vec<Option<f64>>,
    /// [token] -- Tokens processed, prompts included.
    pub tokens: u64,
    /// [token] -- Tokens that the loss was taken on.
    pub target_tokens: u64,
    /// [1] -- L2 norm of the update.
    pub update_norm: f64,
    /// Reason why the update is unusable, if it is.
    pub unusable: Option<String>,
    /// Means over all steps, in preference training.
    pub preference: Option<Ranking>,
}

impl TrainedRecord {
    /// [nat/token] -- Returns the mean loss over the steps; `None` if any of them was not finite.
    pub fn mean_loss(&self) -> Option<f64> {
        // A sum of options is `None` as soon as one of them is.
        let sum: Option<f64> = self.losses.iter().copied().sum();
        sum.map(|sum| sum / self.losses.len() as f64)
    }
}

/// Ranking quality on preference pairs: means over the pairs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ranking {
    /// [1] -- Reward of the chosen answer minus that of the rejected one.
    pub margin: f64,
    /// [1] -- Share of pairs in which the chosen answer has the higher reward.
    pub accuracy: f64,
}

/// Losses on groups of rows, in the order of the groups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluated {
    pub groups: Vec<RowsLoss>,
}

/// Loss on one group of rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RowsLoss {
    pub rows: u64,
    /// [token] -- Tokens that the loss was taken on.
    pub target_tokens: u64,
    /// [nat/token, nat/pair on preference data] -- Mean loss; `None` if it was not finite or there was nothing to average.
    pub loss: Option<f64>,
    /// [1] -- Share of the target tokens to which the model gave the highest likelihood; `None` on preference data.
    pub token_accuracy: Option<f64>,
    /// Ranking of the pairs, on preference data.
    pub preference: Option<Ranking>,
}

/// Value in its form on disk. Postcard writes the index of a variant and no names, so variants and fields keep their places
/// and new variants go to the end.
#[derive(Serialize, Deserialize)]
enum Stored {
    Model {
        adapter: Vec<u8>,
        weights: Vec<f64>,
        state: [Option<Vec<u8>>; 3],
        clip_norm: Option<f64>,
    },
    Control(Vec<u8>),
    Trained {
        adapter: Vec<u8>,
        record: TrainedRecord,
    },
    Evaluated(Evaluated),
    Cohort(Vec<(Vec<u8>, TrainedRecord)>),
    Moments(StoredMoments),
    TrainedKeeping(Vec<u8>, TrainedRecord, StoredMoments),
    CohortKeeping(Vec<(Vec<u8>, TrainedRecord, StoredMoments)>),
    Examined(Vec<u8>),
    /// A model, and the center of its server's clipping.
    Centered(Box<Stored>, Vec<u8>),
    Kept(Vec<u8>),
    /// A model, and the norm and the error of each module's aggregation.
    Aggregated(Box<Stored>, Vec<(f64, Option<f64>)>),
    Memory(Vec<u8>),
    /// A model, and the state of the server's own rule.
    WithRuleState(Box<Stored>, Vec<u8>),
    Rank(u32),
    /// An aggregated model, and the number of products that were kept of each module's mean.
    AggregatedInPart(Box<Stored>, Vec<u32>),
}

/// First moment, second moment and number of steps.
type StoredMoments = (Option<Vec<u8>>, Option<Vec<u8>>, u32);

/// Returns moments in their form on disk.
fn stored_moments(moments: &Moments) -> StoredMoments {
    let first = moments.first.as_ref().map(Adapter::to_bytes);
    let second = moments.second.as_ref().map(Adapter::to_bytes);
    (first, second, moments.steps)
}

/// Reads moments back; `None` if a part is not an adapter.
fn read_moments((first, second, steps): StoredMoments) -> Option<Arc<Moments>> {
    Some(Arc::new(Moments { first: read_optional(first)?, second: read_optional(second)?, steps }))
}

/// Reads an adapter that may be absent: `Some(None)` if it is, `None` if the bytes are not an adapter.
fn read_optional(bytes: Option<Vec<u8>>) -> Option<Option<Adapter>> {
    match bytes {
        Some(bytes) => Adapter::from_bytes(&bytes).ok().map(Some),
        None => Some(None),
    }
}

/// Reads an adapter; `None` if the bytes are not one.
fn read_adapter(bytes: &[u8]) -> Option<Arc<Adapter>> {
    Adapter::from_bytes(bytes).ok().map(Arc::new)
}

/// Reads the state of a server without its center and the state of a rule of one's own; `None` if a part is not an adapter.
fn read_state(stored: [Option<Vec<u8>>; 3]) -> Option<ServerState> {
    let mut parts = [None, None, None];
    for (part, bytes) in parts.iter_mut().zip(stored) {
        *part = read_optional(bytes)?.map(Arc::new);
    }
    Some(ServerState::from_parts(parts))
}

/// Returns the hash of an adapter's content.
fn of_adapter(adapter: &Adapter) -> Digest {
    Digest::from(adapter.hash())
}

/// Returns the hash of moments and of the number of steps behind them.
fn of_moments(moments: &Moments) -> Digest {
    let first = moments.first.as_ref().map(of_adapter);
    let second = moments.second.as_ref().map(of_adapter);
    key_of("fedreplay moments v1", &(first, second, moments.steps)).0
}

/// Returns the hash of an update.
fn of_trained(trained: &Trained) -> Digest {
    let update = key_of("fedreplay update v1", &(of_adapter(&trained.adapter), &trained.record)).0;
    match &trained.moments {
        Some(moments) => key_of("fedreplay update with moments v1", &(update, of_moments(moments))).0,
        None => update,
    }
}

impl Value {
    /// Returns the hash of everything that a reader of the value may use, independent of the form in which it is stored. The
    /// hash of a model leaves out the weights of its contributions and the aggregation's error, as nothing is computed from
    /// them.
    pub fn hash(&self) -> Digest {
        match self {
            Self::Model { adapter, state, clip_norm, .. } => {
                let state_parts = state.parts().map(|part| part.map(|part| of_adapter(part)));
                let model = key_of("fedreplay model v1", &(of_adapter(adapter), state_parts, clip_norm)).0;
                let model = match &state.center {
                    Some(center) => key_of("fedreplay model with center v1", &(model, of_adapter(center))).0,
                    None => model,
                };
                match &state.own_rule {
                    Some(state) => key_of("fedreplay model with state of a rule v1", &(model, Digest::of(state))).0,
                    None => model,
                }
            }
            Self::Control(adapter) => key_of("fedreplay control v1", &of_adapter(adapter)).0,
            Self::Moments(moments) => of_moments(moments),
            Self::Kept(adapter) => key_of("fedreplay kept factors v1", &of_adapter(adapter)).0,
            Self::Memory(adapter) => key_of("fedreplay error feedback v1", &of_adapter(adapter)).0,
            Self::Rank(rank) => key_of("fedreplay rank v1", rank).0,
            Self::Trained(trained) => of_trained(trained),
            Self::Cohort(members) => {
                let updates: Vec<Digest> = members.iter().map(|member| of_trained(member)).collect();
                key_of("fedreplay updates v1", &updates).0
            }
            Self::Evaluated(evaluated) => key_of("fedreplay losses v2", &**evaluated).0,
            Self::BenchmarkResult(bytes) => key_of("fedreplay sheet v1", &**bytes).0,
        }
    }

    /// Returns the adapter of a model, an update, a control variate, kept factors or a memory.
    ///
    /// # Panics
    /// If the value is anything else: no node reads losses, benchmark results, cohorts, moments or ranks as a model.
    pub fn adapter(&self) -> &Arc<Adapter> {
        match self {
            Self::Model { adapter, .. } => adapter,
            Self::Trained(trained) => &trained.adapter,
            Self::Control(adapter) | Self::Kept(adapter) | Self::Memory(adapter) => adapter,
            Self::Evaluated(_) | Self::BenchmarkResult(_) | Self::Cohort(_) | Self::Moments(_) | Self::Rank(_) => {
                unreachable!("losses, an exam, a cohort, moments or a rank were asked for an adapter")
            }
        }
    }

    /// Whether the value is the state of a client between two tasks, of the size of an adapter. It takes no memory in that time, and
    /// cannot be taken from the executor. A rank is a number.
    pub fn is_client_state(&self) -> bool {
        matches!(self, Self::Control(_) | Self::Moments(_) | Self::Kept(_) | Self::Memory(_))
    }

    /// [token] -- Returns the number of tokens that went through the model in the trainings behind this value.
    pub(super) fn trained_tokens(&self) -> u64 {
        match self {
            Self::Trained(trained) => trained.record.tokens,
            Self::Cohort(members) => members.iter().map(|trained| trained.record.tokens).sum(),
            _ => 0,
        }
    }

    /// Returns the control variate of a model's server, if there is one.
    pub fn server_control(&self) -> Option<&Arc<Adapter>> {
        match self {
            Self::Model { state, .. } => state.control.as_ref(),
            _ => None,
        }
    }

    /// Returns the normalized weights of the contributions to a model; empty for other values.
    pub fn weights(&self) -> &[f64] {
        match self {
            Self::Model { weights, .. } => weights,
            _ => &[],
        }
    }

    /// Returns the error of the aggregation that made a model, if it has one.
    pub fn aggregation_error(&self) -> Option<&AggregationError> {
        match self {
            Self::Model { error, .. } => error.as_ref(),
            _ => None,
        }
    }

    /// [1] -- Returns the clipping norm for the release after this model, if it adapts.
    pub fn clip_norm(&self) -> Option<f64> {
        match self {
            Self::Model { clip_norm, .. } => *clip_norm,
            _ => None,
        }
    }

    /// Returns the hash of the adapter's content, as it is in the tables.
    pub fn adapter_hash(&self) -> Digest {
        Digest::from(self.adapter().hash())
    }

    /// Returns the value as bytes for the store.
    pub fn to_bytes(&self) -> Vec<u8> {
        let stored = match self {
            Self::Model { adapter, weights, state, clip_norm, error } => {
                let mut model = Stored::Model {
                    adapter: adapter.to_bytes(),
                    weights: weights.clone(),
                    state: state.parts().map(|part| part.map(|adapter| adapter.to_bytes())),
                    clip_norm: *clip_norm,
                };
                if let Some(center) = &state.center {
                    model = Stored::Centered(Box::new(model), center.to_bytes());
                }
                if let Some(state) = &state.own_rule {
                    model = Stored::WithRuleState(Box::new(model), state.to_vec());
                }
                match error {
                    Some(error) => {
                        let modules = error.modules.iter().map(|module| (module.norm, module.error)).collect();
                        let model = Stored::Aggregated(Box::new(model), modules);
                        match error.kept_ranks.is_empty() {
                            true => model,
                            false => Stored::AggregatedInPart(Box::new(model), error.kept_ranks.clone()),
                        }
                    }
                    None => model,
                }
            }
            Self::Control(adapter) => Stored::Control(adapter.to_bytes()),
            Self::Kept(adapter) => Stored::Kept(adapter.to_bytes()),
            Self::Memory(adapter) => Stored::Memory(adapter.to_bytes()),
            Self::Rank(rank) => Stored::Rank(*rank),
            Self::Moments(moments) => Stored::Moments(stored_moments(moments)),
            Self::Trained(trained) => {
                let adapter = trained.adapter.to_bytes();
                let record = trained.record.clone();
                match &trained.moments {
                    None => Stored::Trained { adapter, record },
                    Some(moments) => Stored::TrainedKeeping(adapter, record, stored_moments(moments)),
                }
            }
            Self::Evaluated(evaluated) => Stored::Evaluated(Evaluated::clone(evaluated)),
            Self::BenchmarkResult(bytes) => Stored::Examined(Vec::clone(bytes)),
            // Moments are kept by all members of a run or by none, and each case has a form of its own.
            Self::Cohort(members) if members.iter().all(|one| one.moments.is_some()) => {
                let mut stored = Vec::with_capacity(members.len());
                for one in members {
                    let moments = one.moments.as_deref().expect("all have them");
                    stored.push((one.adapter.to_bytes(), one.record.clone(), stored_moments(moments)));
                }
                Stored::CohortKeeping(stored)
            }
            Self::Cohort(members) => {
                Stored::Cohort(members.iter().map(|one| (one.adapter.to_bytes(), one.record.clone())).collect())
            }
        };
        postcard::to_stdvec(&stored).expect("a stored value has known lengths")
    }

    /// Reads what [`Self::to_bytes`] wrote; `None` if the bytes are something else, such as a damaged file.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Self::read(postcard::from_bytes(bytes).ok()?)
    }

    /// Reads a value from its form on disk.
    fn read(stored: Stored) -> Option<Self> {
        Some(match stored {
            Stored::Aggregated(model, modules) => {
                let Self::Model { adapter, weights, state, clip_norm, .. } = Self::read(*model)? else { return None };
                let modules = modules.into_iter().map(|(norm, error)| ModuleError { norm, error }).collect();
                Self::Model { adapter, weights, state, clip_norm, error: Some(AggregationError::new(modules)) }
            }
            Stored::AggregatedInPart(model, kept_ranks) => {
                let Self::Model { adapter, weights, state, clip_norm, error } = Self::read(*model)? else {
                    return None;
                };
                let error = AggregationError { kept_ranks, ..error? };
                Self::Model { adapter, weights, state, clip_norm, error: Some(error) }
            }
            // A rule of one's own has neither a center nor an error to store.
            Stored::WithRuleState(model, own_state) => {
                let Stored::Model { adapter, weights, state, clip_norm } = *model else { return None };
                let state = ServerState { own_rule: Some(Arc::new(own_state)), ..read_state(state)? };
                Self::Model { adapter: read_adapter(&adapter)?, weights, state, clip_norm, error: None }
            }
            Stored::Centered(model, center) => {
                let Stored::Model { adapter, weights, state, clip_norm } = *model else { return None };
                let mut state = read_state(state)?;
                state.center = Some(read_adapter(&center)?);
                Self::Model { adapter: read_adapter(&adapter)?, weights, state, clip_norm, error: None }
            }
            Stored::Model { adapter, weights, state, clip_norm } => {
                let state = read_state(state)?;
                Self::Model { adapter: read_adapter(&adapter)?, weights, state, clip_norm, error: None }
            }
            Stored::Control(bytes) => Self::Control(read_adapter(&bytes)?),
            Stored::Kept(bytes) => Self::Kept(read_adapter(&bytes)?),
            Stored::Memory(bytes) => Self::Memory(read_adapter(&bytes)?),
            // No component is the first that a client gives up: a rank of zero is of a damaged file.
            Stored::Rank(rank) => Self::Rank(Some(rank).filter(|&rank| rank > 0)?),
            Stored::Moments(moments) => Self::Moments(read_moments(moments)?),
            Stored::Trained { adapter, record } => {
                Self::Trained(Arc::new(Trained { adapter: read_adapter(&adapter)?, record, moments: None }))
            }
            Stored::TrainedKeeping(bytes, record, moments) => {
                let moments = Some(read_moments(moments)?);
                Self::Trained(Arc::new(Trained { adapter: read_adapter(&bytes)?, record, moments }))
            }
            Stored::CohortKeeping(members) => {
                let mut updates = Vec::with_capacity(members.len());
                for (bytes, record, moments) in members {
                    let moments = Some(read_moments(moments)?);
                    updates.push(Arc::new(Trained { adapter: read_adapter(&bytes)?, record, moments }));
                }
                Self::Cohort(updates)
            }
            Stored::Evaluated(evaluated) => Self::Evaluated(Arc::new(evaluated)),
            Stored::Examined(bytes) => Self::BenchmarkResult(Arc::new(bytes)),
            Stored::Cohort(members) => {
                let mut updates = Vec::with_capacity(members.len());
                for (bytes, record) in members {
                    updates.push(Arc::new(Trained { adapter: read_adapter(&bytes)?, record, moments: None }));
                }
                Self::Cohort(updates)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::{Layout, Module};

    #[test]
    fn a_model_comes_back_from_its_bytes_with_its_error_and_without() {
        let module = Module { path: "m".into(), in_features: 1, out_features: 1 };
        let layout = Layout { rank: 1, alpha: 1.0, rank_stabilized: false, has_core: false, modules: vec![module] };
        let stored = Arc::new(Adapter::new(Arc::new(layout), vec![1.0, 2.0]));
        let modules = vec![ModuleError { norm: 2.0, error: Some(0.25) }, ModuleError { norm: 0.0, error: None }];
        let whole = AggregationError::new(modules);
        let cut = AggregationError { kept_ranks: vec![3, 1], ..whole.clone() };
        for (expected, variant) in [(None, 0), (Some(whole), 11), (Some(cut), 15)] {
            let state = ServerState { momentum: Some(stored.clone()), ..ServerState::default() };
            let value = Value::Model {
                adapter: stored.clone(),
                weights: vec![0.5, 0.5],
                state: state.clone(),
                clip_norm: Some(3.0),
                error: expected.clone(),
            };
            let bytes = value.to_bytes();
            assert_eq!(bytes[0], variant, "variants keep their places");
            let Some(Value::Model { adapter, weights, state: read, clip_norm, error }) = Value::from_bytes(&bytes)
            else {
                panic!("no model")
            };
            assert_eq!((adapter, weights, read, clip_norm), (stored.clone(), vec![0.5, 0.5], state, Some(3.0)));
            assert_eq!(error, expected);
        }
    }
}
