//! Nodes that workers have taken from the queue, and evaluations in progress, whose parts are distributed over the workers.

use std::sync::Arc;

use super::evaluation::{Evaluation, PartScores};
use super::{Node, NodeId, Value};
use crate::store::Key;

/// Input of a node that is about to be computed.
pub(super) enum NodeInput {
    Value(Value),
    /// Key of a value that is only in the store.
    InStore(Key),
}

/// Node that a worker has taken.
pub(super) struct Claimed {
    pub id: NodeId,
    pub node: Node,
    pub key: Key,
    /// `None` if the result was expected from the store, so that the inputs were not computed.
    pub inputs: Option<Vec<NodeInput>>,
}

impl Claimed {
    /// Returns the inputs of a node that is to be computed.
    pub fn computed_inputs(&self) -> &[NodeInput] {
        self.inputs.as_deref().expect("orders without inputs are loaded or put back")
    }
}

/// Evaluations in progress, in the order in which they were divided.
#[derive(Default)]
pub(super) struct Divided(Vec<DividedNode>);

/// Evaluation in progress.
pub(super) struct DividedNode {
    pub claimed: Claimed,
    pub evaluation: Arc<Evaluation>,
    /// Index of the first part that no worker has taken.
    next: usize,
    /// Scores of each part; `None` until it is computed.
    scores: Vec<Option<PartScores>>,
    /// [parts] -- Parts that are not computed yet.
    missing: usize,
    /// [s] -- Wall-clock time that workers spent on the evaluation so far.
    pub seconds: f64,
}

/// Part of an evaluation that a worker has taken.
pub(super) struct Part {
    pub id: NodeId,
    pub evaluation: Arc<Evaluation>,
    pub index: usize,
}

impl Divided {
    /// Adds an evaluation with at least one part.
    pub fn push(&mut self, claimed: Claimed, evaluation: Evaluation) {
        let parts = evaluation.part_count();
        assert!(parts > 0, "an evaluation under way has parts");
        let scores = vec![None; parts];
        self.0.push(DividedNode {
            claimed,
            evaluation: Arc::new(evaluation),
            next: 0,
            scores,
            missing: parts,
            seconds: 0.0,
        });
    }

    /// Takes the next part that no worker has taken yet.
    pub fn take_part(&mut self) -> Option<Part> {
        let divided = self.0.iter_mut().find(|divided| divided.next < divided.scores.len())?;
        let index = divided.next;
        divided.next += 1;
        Some(Part { id: divided.claimed.id, evaluation: divided.evaluation.clone(), index })
    }

    /// Records the scores of a part, which took `seconds`. Returns the evaluation once its last part is computed.
    pub fn complete_part(&mut self, part: &Part, scores: PartScores, seconds: f64) -> Option<DividedNode> {
        let place = self.0.iter().position(|divided| divided.claimed.id == part.id);
        let place = place.expect("an evaluation is under way until its last part is there");
        let divided = &mut self.0[place];
        assert!(divided.scores[part.index].is_none(), "a part is computed once");
        divided.scores[part.index] = Some(scores);
        divided.missing -= 1;
        divided.seconds += seconds;
        if divided.missing > 0 {
            return None;
        }
        Some(self.0.remove(place))
    }
}

impl DividedNode {
    /// Returns the result of the evaluation, once its last part is computed.
    pub fn value(&mut self) -> Value {
        // Parts end in any order; their scores are joined in the order of the rows, so the sums do not depend on it.
        let mut scores = Vec::with_capacity(self.scores.len());
        for part in self.scores.drain(..) {
            scores.push(part.expect("the last part is there"));
        }
        self.evaluation.value(scores)
    }
}
