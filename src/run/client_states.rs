//! What clients keep from one task that counts to their next: control variates and optimisers' moments, as orders.

use std::collections::BTreeMap;

use crate::graph::{Control, Executor, Order, OrderId, Training};

/// What each client keeps.
pub struct ClientStates<'a> {
    executor: &'a Executor<'a>,
    /// Whether a round that is not known yet may need what is kept.
    is_live: bool,
    controls: BTreeMap<u32, OrderId>,
    moments: BTreeMap<u32, OrderId>,
}

impl<'a> ClientStates<'a> {
    /// Before the first round, where nobody keeps anything.
    pub fn new(executor: &'a Executor<'a>, is_live: bool) -> Self {
        Self { executor, is_live, controls: BTreeMap::new(), moments: BTreeMap::new() }
    }

    /// The training of a client's next task from `base`, with all that the client kept.
    pub fn train(&self, base: OrderId, training: Training) -> Order {
        let of = |kept: &BTreeMap<u32, OrderId>| kept.get(&training.client).copied();
        Order::Train { base, control: of(&self.controls), moments: of(&self.moments), training }
    }

    /// Replaces a client's variate by what `change` makes of the one before; gives both.
    pub fn control(
        &mut self,
        client: u32,
        change: impl FnOnce(Option<OrderId>) -> Control,
    ) -> (OrderId, Option<OrderId>) {
        let before = self.controls.get(&client).copied();
        let after = self.executor.add(Order::Control(change(before)));
        self.controls.insert(client, after);
        self.hold(after, before);
        (after, before)
    }

    /// Keeps the moments of a client's training.
    pub fn keep_moments(&mut self, client: u32, update: OrderId) {
        let before = self.moments.get(&client).copied();
        let after = self.executor.add(Order::Moments { update, before });
        self.moments.insert(client, after);
        self.hold(after, before);
    }

    fn hold(&self, after: OrderId, before: Option<OrderId>) {
        if self.is_live {
            self.executor.demand(after);
            before.into_iter().for_each(|before| self.executor.let_go(before));
        }
    }
}
