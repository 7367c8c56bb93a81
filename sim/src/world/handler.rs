//! Handlers of events: which events are still valid, and what each one does.

use super::World;
use super::state::Event;
use crate::kernel::{Ctx, EntityId, Key, Model};
use crate::record::{EventKind, Record};
use crate::server::protocol::Fact;

impl Model for World {
    type Event = Event;
    type Note = Record;

    // The numbers are part of the order digest; they are never reused.
    fn kind(event: &Event) -> u8 {
        match event {
            Event::TransfersEnd => 101,
            Event::LatencyOver { .. } => 102,
            Event::Trained { .. } => 103,
            Event::GivesUp { .. } => 104,
            Event::PresenceChanges { .. } => 105,
            Event::RegionChanges { .. } => 106,
            Event::CapacityChanges { .. } => 107,
            Event::EdgeLatencyOver { .. } => 108,
            Event::Deadline { .. } => 109,
            Event::Dispatch { .. } => 110,
            Event::Intervene { .. } => 111,
            Event::Stalled => 112,
        }
    }

    fn is_live(&self, entity: EntityId, event: &Event) -> bool {
        if self.is_over() {
            return false;
        }
        let index = entity.index();
        match event {
            Event::LatencyOver { stamp } | Event::Trained { stamp } | Event::GivesUp { stamp } => {
                self.stamp(index) == *stamp
            }
            Event::PresenceChanges { task } => self.has_task(index, *task),
            Event::CapacityChanges { stamp } => self.capacity_stamps[index as usize] == *stamp,
            _ => true,
        }
    }

    fn handle(&mut self, key: Key, event: Event, ctx: &mut Ctx<'_, Self>) {
        let index = key.entity.index();
        let is_stalled = event == Event::Stalled;
        match event {
            Event::TransfersEnd => self.end_transfers(ctx),
            Event::LatencyOver { .. } => self.start_flow(index, ctx),
            Event::Trained { .. } => self.finish_training(index, ctx),
            Event::GivesUp { .. } => self.give_up(index, ctx),
            Event::PresenceChanges { .. } => self.change_presence(index, ctx),
            Event::RegionChanges { is_cut } => {
                let kind = if is_cut { EventKind::RegionCut } else { EventKind::RegionRestored };
                self.note_event(kind, Default::default(), ctx);
            }
            Event::CapacityChanges { .. } => self.change_capacity(index, ctx),
            Event::EdgeLatencyOver { is_upload } => self.start_edge_flow(index, is_upload, ctx),
            Event::Deadline { round } => self.pass_deadline(index, round, ctx),
            Event::Dispatch { aggregator } => self.tell(Fact::Opportunity { aggregator }),
            Event::Intervene { index } => self.intervene(index, ctx),
            Event::Stalled => self.tell(Fact::Stalled),
        }
        // Handlers only queue facts. The protocol decides after the event has taken full effect; then the alarm is
        // moved, as transfers may have started or stopped.
        self.decide(ctx);
        if is_stalled && !self.is_over() {
            self.finish(ctx);
        }
        self.set_alarm(ctx);
    }
}
