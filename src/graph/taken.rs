//! Nodes that workers have taken from the queue.

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
