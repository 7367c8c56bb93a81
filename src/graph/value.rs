//! Results of orders, and how they are kept as bytes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::adapter::Adapter;
use crate::algorithm::ServerState;
use crate::store::{Digest, key_of};
use crate::training::Moments;

/// What an order gave.
#[derive(Clone, Debug)]
pub enum Value {
    /// A server model, initial or aggregated, with the state that its server keeps beside it. Weights are those of the
    /// contributions after normalisation. The clipping norm is what the next private release clips at, where it adapts.
    Model { adapter: Arc<Adapter>, weights: Vec<f64>, state: ServerState, clip_norm: Option<f64> },
    /// A client's control variate.
    Control(Arc<Adapter>),
    /// The moments of a client's optimiser.
    Moments(Arc<Moments>),
    /// A client's update.
    Trained(Arc<Trained>),
    /// The updates of a cohort, in its order.
    Cohort(Vec<Arc<Trained>>),
    /// Losses.
    Evaluated(Arc<Evaluated>),
    /// What an exam gave, as its maker wrote it.
    Examined(Arc<Vec<u8>>),
}

/// A client's adapter after local training, and how training went.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// The trained adapter; the one it started from where training went wrong.
    pub adapter: Arc<Adapter>,
    pub record: TrainedRecord,
    /// The optimiser's moments after it, where they are kept.
    pub moments: Option<Arc<Moments>>,
}

/// How a local training went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainedRecord {
    /// [nats/token, nats/pair under preference training] Training loss of each step; absent where it was not finite.
    pub losses: Vec<Option<f64>>,
    /// [tokens] Tokens processed, prompts included.
    pub tokens: u64,
    /// [tokens] Tokens that the loss was taken on.
    pub target_tokens: u64,
    /// [1] L2 norm of the update.
    pub update_norm: f64,
    /// Why the update cannot be used, if so.
    pub unusable: Option<String>,
    /// Under preference training, the means over all steps.
    pub preference: Option<Ranking>,
}

impl TrainedRecord {
    /// [nats/token] Mean over the steps; none if a step's loss was not finite.
    pub fn mean_loss(&self) -> Option<f64> {
        let sum: Option<f64> = self.losses.iter().copied().sum();
        sum.map(|sum| sum / self.losses.len() as f64)
    }
}

/// How pairs are ranked: means over them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ranking {
    /// [1] Reward of the chosen answer less that of the rejected one.
    pub margin: f64,
    /// [1] Share of pairs in which the chosen answer has the higher reward.
    pub accuracy: f64,
}

/// Losses on groups of rows, in the order of the groups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluated {
    pub groups: Vec<RowsLoss>,
}

/// The loss on one group of rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RowsLoss {
    pub rows: u64,
    /// [tokens] Tokens that the loss was taken on.
    pub target_tokens: u64,
    /// [nats/token, nats/pair of preference data] Mean over these; absent if it was not finite or there were none.
    pub loss: Option<f64>,
    /// [1] Share of the target tokens than which none was likelier; none of preference data.
    pub token_accuracy: Option<f64>,
    /// Of preference data.
    pub preference: Option<Ranking>,
}

/// The form of a value on disk.
#[derive(Serialize, Deserialize)]
enum Stored {
    Model { adapter: Vec<u8>, weights: Vec<f64>, state: [Option<Vec<u8>>; 3], clip_norm: Option<f64> },
    Control(Vec<u8>),
    Trained { adapter: Vec<u8>, record: TrainedRecord },
    Evaluated(Evaluated),
    Cohort(Vec<(Vec<u8>, TrainedRecord)>),
    Moments(StoredMoments),
    TrainedKeeping(Vec<u8>, TrainedRecord, StoredMoments),
    CohortKeeping(Vec<(Vec<u8>, TrainedRecord, StoredMoments)>),
    Examined(Vec<u8>),
}

/// Both moments and the number of steps.
type StoredMoments = (Option<Vec<u8>>, Option<Vec<u8>>, u32);

fn stored_moments(moments: &Moments) -> StoredMoments {
    let bytes = |part: &Option<Adapter>| part.as_ref().map(Adapter::to_bytes);
    (bytes(&moments.first), bytes(&moments.second), moments.steps)
}

/// The hash of moments and of the number of steps behind them.
fn of_moments(moments: &Moments) -> Digest {
    let of = |part: &Option<Adapter>| part.as_ref().map(|part| Digest(*part.hash().as_bytes()));
    key_of("fedreplay moments v1", &(of(&moments.first), of(&moments.second), moments.steps)).0
}

/// None if a part is no adapter.
fn read_moments((first, second, steps): StoredMoments) -> Option<Arc<Moments>> {
    let part = |bytes: Option<Vec<u8>>| {
        bytes.map(|bytes| Adapter::from_bytes(&bytes).ok()).map_or(Some(None), |part| part.map(Some))
    };
    Some(Arc::new(Moments { first: part(first)?, second: part(second)?, steps }))
}

impl Value {
    /// The hash of everything that a reader of the value may use, whatever form it is stored in. A model's is without the
    /// weights of its contributions, which nothing is computed from.
    pub fn hash(&self) -> Digest {
        let of = |adapter: &Arc<Adapter>| Digest(*adapter.hash().as_bytes());
        let trained = |one: &Arc<Trained>| {
            let update = key_of("fedreplay update v1", &(of(&one.adapter), &one.record)).0;
            let with =
                |moments: &Arc<Moments>| key_of("fedreplay update with moments v1", &(update, of_moments(moments)));
            one.moments.as_ref().map_or(update, |moments| with(moments).0)
        };
        match self {
            Self::Model { adapter, state, clip_norm, .. } => {
                key_of("fedreplay model v1", &(of(adapter), state.parts().map(|part| part.map(of)), clip_norm)).0
            }
            Self::Control(adapter) => key_of("fedreplay control v1", &of(adapter)).0,
            Self::Moments(moments) => of_moments(moments),
            Self::Trained(one) => trained(one),
            Self::Cohort(members) => key_of("fedreplay updates v1", &members.iter().map(trained).collect::<Vec<_>>()).0,
            Self::Evaluated(evaluated) => key_of("fedreplay losses v2", &**evaluated).0,
            Self::Examined(bytes) => key_of("fedreplay sheet v1", &**bytes).0,
        }
    }

    /// The adapter of a model, an update or a control variate.
    ///
    /// # Panics
    /// If the value is of losses, an exam or a cohort: no order takes one of them for a model.
    pub fn adapter(&self) -> &Arc<Adapter> {
        match self {
            Self::Model { adapter, .. } => adapter,
            Self::Trained(trained) => &trained.adapter,
            Self::Control(adapter) => adapter,
            Self::Evaluated(_) | Self::Examined(_) | Self::Cohort(_) | Self::Moments(_) => {
                unreachable!("losses, an exam, a cohort or moments were asked for an adapter")
            }
        }
    }

    /// Whether it is what a client keeps from task to task: that fills no memory in between.
    pub fn is_kept_by_a_client(&self) -> bool {
        matches!(self, Self::Control(_) | Self::Moments(_))
    }

    /// [tokens] Tokens that went through the model in the trainings that it came of.
    pub(super) fn trained_tokens(&self) -> u64 {
        match self {
            Self::Trained(trained) => trained.record.tokens,
            Self::Cohort(members) => members.iter().map(|trained| trained.record.tokens).sum(),
            _ => 0,
        }
    }

    /// The control variate of a model's server, if it keeps one.
    pub fn server_control(&self) -> Option<&Arc<Adapter>> {
        match self {
            Self::Model { state, .. } => state.control.as_ref(),
            _ => None,
        }
    }

    /// The weights of the contributions to a model; none for what is not a model.
    pub fn weights(&self) -> &[f64] {
        match self {
            Self::Model { weights, .. } => weights,
            _ => &[],
        }
    }

    /// [1] The clipping norm that the release of this model left to the next.
    pub fn clip_norm(&self) -> Option<f64> {
        match self {
            Self::Model { clip_norm, .. } => *clip_norm,
            _ => None,
        }
    }

    /// The hash of the adapter's content, as tables name it.
    pub fn adapter_hash(&self) -> Digest {
        Digest(*self.adapter().hash().as_bytes())
    }

    /// The value as bytes for the store.
    pub fn to_bytes(&self) -> Vec<u8> {
        let stored = match self {
            Self::Model { adapter, weights, state, clip_norm } => Stored::Model {
                adapter: adapter.to_bytes(),
                weights: weights.clone(),
                state: state.parts().map(|part| part.map(|adapter| adapter.to_bytes())),
                clip_norm: *clip_norm,
            },
            Self::Control(adapter) => Stored::Control(adapter.to_bytes()),
            Self::Moments(moments) => Stored::Moments(stored_moments(moments)),
            Self::Trained(trained) => {
                let (adapter, record) = (trained.adapter.to_bytes(), trained.record.clone());
                match &trained.moments {
                    None => Stored::Trained { adapter, record },
                    Some(moments) => Stored::TrainedKeeping(adapter, record, stored_moments(moments)),
                }
            }
            Self::Evaluated(evaluated) => Stored::Evaluated(Evaluated::clone(evaluated)),
            Self::Examined(bytes) => Stored::Examined(Vec::clone(bytes)),
            Self::Cohort(members) if members.iter().all(|one| one.moments.is_some()) => {
                let one = |one: &Arc<Trained>| {
                    let moments = one.moments.as_deref().expect("all have them");
                    (one.adapter.to_bytes(), one.record.clone(), stored_moments(moments))
                };
                Stored::CohortKeeping(members.iter().map(one).collect())
            }
            Self::Cohort(members) => {
                Stored::Cohort(members.iter().map(|one| (one.adapter.to_bytes(), one.record.clone())).collect())
            }
        };
        postcard::to_stdvec(&stored).expect("a stored value has known lengths")
    }

    /// Reads what [`Self::to_bytes`] wrote; none if it is something else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let adapter = |bytes: Vec<u8>| Adapter::from_bytes(&bytes).ok().map(Arc::new);
        Some(match postcard::from_bytes(bytes).ok()? {
            Stored::Model { adapter: bytes, weights, state, clip_norm } => {
                let mut parts = [None, None, None];
                for (part, bytes) in parts.iter_mut().zip(state) {
                    *part = bytes.map(|bytes| adapter(bytes).ok_or(())).transpose().ok()?;
                }
                Self::Model { adapter: adapter(bytes)?, weights, state: ServerState::from_parts(parts), clip_norm }
            }
            Stored::Control(bytes) => Self::Control(adapter(bytes)?),
            Stored::Moments(moments) => Self::Moments(read_moments(moments)?),
            Stored::Trained { adapter: bytes, record } => {
                Self::Trained(Arc::new(Trained { adapter: adapter(bytes)?, record, moments: None }))
            }
            Stored::TrainedKeeping(bytes, record, moments) => {
                let moments = Some(read_moments(moments)?);
                Self::Trained(Arc::new(Trained { adapter: adapter(bytes)?, record, moments }))
            }
            Stored::CohortKeeping(members) => {
                let one = |(bytes, record, moments)| {
                    let moments = Some(read_moments(moments)?);
                    Some(Arc::new(Trained { adapter: adapter(bytes)?, record, moments }))
                };
                Self::Cohort(members.into_iter().map(one).collect::<Option<_>>()?)
            }
            Stored::Evaluated(evaluated) => Self::Evaluated(Arc::new(evaluated)),
            Stored::Examined(bytes) => Self::Examined(Arc::new(bytes)),
            Stored::Cohort(members) => {
                let one = |(bytes, record)| Some(Arc::new(Trained { adapter: adapter(bytes)?, record, moments: None }));
                Self::Cohort(members.into_iter().map(one).collect::<Option<_>>()?)
            }
        })
    }
}
