//! Orders that workers have taken.

use super::{Order, OrderId, Value};
use crate::store::Key;

/// Input of an order that is about to be computed.
pub(super) enum Given {
    Value(Value),
    /// Key of a value that is only in the store.
    Shelved(Key),
}

/// Order that a worker has taken.
pub(super) struct Taken {
    pub id: OrderId,
    pub order: Order,
    pub key: Key,
    /// `None` if the result was expected from the store, so that the inputs were not computed.
    pub inputs: Option<Vec<Given>>,
}

impl Taken {
    /// Returns the inputs of an order that is to be computed.
    pub fn given(&self) -> &[Given] {
        self.inputs.as_deref().expect("orders without inputs are loaded or put back")
    }
}
