//! Everything that can happen in a federation.

use super::World;
use crate::kernel::{Ctx, EntityId, Key, Model};
use crate::record::Record;
use crate::server::protocol::Fact;
use serde::{Deserialize, Serialize};

/// The closed list of events. A client's events carry the stamp of the phase that they end; when the client has moved
/// on, they are stale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Event {
    /// Transfers end.
    TransfersEnd,
    /// The latency of a client's transfer is over.
    LatencyOver { stamp: u32 },
    /// A client has trained.
    Trained { stamp: u32 },
    /// A client gives its task up.
    GivesUp { stamp: u32 },
    /// The capacity of a link of the network changes.
    CapacityChanges,
    /// A round's deadline.
    Deadline { round: u32 },
    /// The server may dispatch.
    Dispatch,
    /// Nothing else is left to happen.
    Stalled,
}

impl Model for World {
    type Event = Event;
    type Note = Record;

    fn kind(event: &Event) -> u8 {
        match event {
            Event::TransfersEnd => 1,
            Event::LatencyOver { .. } => 2,
            Event::Trained { .. } => 3,
            Event::GivesUp { .. } => 4,
            Event::CapacityChanges => 5,
            Event::Deadline { .. } => 6,
            Event::Dispatch => 7,
            Event::Stalled => 8,
        }
    }

    fn is_live(&self, entity: EntityId, event: &Event) -> bool {
        if self.is_over() {
            return false;
        }
        match event {
            Event::LatencyOver { stamp } | Event::Trained { stamp } | Event::GivesUp { stamp } => {
                self.stamp(entity.index()) == *stamp
            }
            _ => true,
        }
    }

    fn handle(&mut self, key: Key, event: Event, ctx: &mut Ctx<'_, Self>) {
        let index = key.entity.index();
        match event {
            Event::TransfersEnd => self.end_transfers(ctx),
            Event::LatencyOver { .. } => self.start_flow(index, ctx),
            Event::Trained { .. } => self.finish_training(index, ctx),
            Event::GivesUp { .. } => self.give_up(index, ctx),
            Event::CapacityChanges => self.change_capacity(index, ctx),
            Event::Deadline { round } => self.pass_deadline(round, ctx),
            Event::Dispatch => self.tell(Fact::Opportunity),
            Event::Stalled => self.tell(Fact::Stalled),
        }
        self.decide(ctx);
        self.set_alarm(ctx);
        if event == Event::Stalled && !self.is_over() {
            self.finish(ctx);
        }
    }
}
