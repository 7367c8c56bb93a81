//! Orders in the hands of workers.

use super::{Order, OrderId, Value};
use crate::store::Key;

/// An input of an order that is about to be computed.
pub(super) enum Given {
    Value(Value),
    Shelved(Key),
}

/// An order in a worker's hands.
pub(super) struct Taken {
    pub id: OrderId,
    pub order: Order,
    pub key: Key,
    pub inputs: Option<Vec<Given>>,
}

impl Taken {
    pub fn given(&self) -> &[Given] {
        self.inputs.as_deref().expect("orders without inputs are loaded or put back")
    }
}
