//! Orders that workers have taken.

use super::{Node, NodeId, Value};
use crate::store::Key;

/// Input of an order that is about to be computed.
pub(super) enum NodeInput {
    Value(Value),
    /// Key of a value that is only in the store.
    Shelved(Key),
}

/// Order that a worker has taken.
pub(super) struct Claimed {
    pub id: NodeId,
    pub order: Node,
    pub key: Key,
    /// `None` if the result was expected from the store, so that the inputs were not computed.
    pub inputs: Option<Vec<NodeInput>>,
}

impl Claimed {
    /// Returns the inputs of an order that is to be computed.
    pub fn given(&self) -> &[NodeInput] {
        self.inputs.as_deref().expect("orders without inputs are loaded or put back")
    }
}
