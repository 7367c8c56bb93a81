//! The beginning of a transfer: its latency, its claim on the links that it shares, and its flow.

use super::state::{Event, World};
use super::task::Phase;
use super::wires::{Transfer, Way};
use crate::kernel::{Class, Ctx, EntityId, Span, Time};
use crate::network::{Claim, Rate};
use crate::random::Purpose;
use crate::record::EventKind;

/// A transfer over its owner's own link, as far as its weight depends on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender {
    pub way: Way,
    pub owner: u32,
    pub region: u32,
    /// Capacity of the owner's own link in this direction.
    pub cap: Rate,
    /// Latency of the owner's own link.
    pub latency: Span,
    /// Number of the owner's task. A transfer that starts again after an interruption has the same number.
    pub number: u32,
}

impl World {
    /// Schedules the end of the latency of the transfer that is due, and of the time that its connection loses or stalls. Its jitter is draw 2n of the client's stream for
    /// the download of task n, and draw 2n + 1 for the upload.
    pub(super) fn wait_latency(&mut self, client: u32, ctx: &mut Ctx<'_, Self>) {
        let task = self.tasks.get(self.clients[client as usize].slot);
        let way = if task.phase == Phase::DownloadWaits { Way::Down } else { Way::Up };
        let draw = 2 * u64::from(task.number) + way as u64;
        let link = self.federation.link(client);
        // The draw is addressed by its number, so that a transfer which starts again after an interruption has the same
        // jitter as before.
        let jitter = match &link.latency_jitter {
            None => 0,
            Some(table) => {
                let mut stream = self.seeds.stream(Purpose::LinkJitter, u64::from(client)).at(draw);
                table.at(stream.next_u64())
            }
        };
        let region = self.federation.clients[client as usize].region;
        let rate = if way == Way::Down { link.down } else { link.up };
        let latencies = self.latencies(way, client, region, link.latency);
        let delay = link.transport.delay(task.bytes_due, rate, latencies);
        let stall = match &link.stalls {
            None => Span::ZERO,
            Some(stalls) => stalls.of_transfer(&self.seeds, client, task.number, way as u64),
        };
        let latency = Span(delay.0.saturating_add(jitter).saturating_add(stall.0));
        if latency == Span::ZERO {
            return self.start_flow(client, ctx);
        }
        let stamp = self.next_stamp(client);
        ctx.schedule(ctx.now().after(latency), Class::Finish, EntityId::client(client), Event::LatencyOver { stamp });
    }

    /// Returns the latencies between the server and an owner whose own link has latency `own`: this way, and the way back.
    pub(super) fn latencies(&self, way: Way, owner: u32, region: u32, own: Span) -> [Span; 2] {
        let back = if way == Way::Down { Way::Up } else { Way::Down };
        [way, back].map(|way| Span(own.0.saturating_add(self.wires.latency(way, owner, region).0)))
    }

    /// Starts the flow of the transfer whose latency has passed.
    pub(super) fn start_flow(&mut self, client: u32, ctx: &mut Ctx<'_, Self>) {
        self.next_stamp(client);
        let slot = self.clients[client as usize].slot;
        let link = self.federation.link(client);
        let task = self.tasks.get(slot);
        let (way, cap, kind) = match task.phase {
            Phase::DownloadWaits => (Way::Down, link.down, EventKind::DownloadStarted),
            Phase::UploadWaits => (Way::Up, link.up, EventKind::UploadStarted),
            phase => panic!("no transfer starts in phase {phase:?}"),
        };
        let region = self.federation.clients[client as usize].region;
        let bytes = link.transport.overhead.wire_bytes(task.bytes_due);
        let sender = Sender { way, owner: client, region, cap, latency: link.latency, number: task.number };
        let claim = self.claim(ctx.now(), sender);
        let transfer = Transfer { way, owner: client, region, claim, bytes };
        let flow = self.wires.start(ctx.now(), transfer);
        self.tasks.get_mut(slot).phase = match way {
            Way::Down => Phase::Downloads { flow },
            Way::Up => Phase::Uploads { flow },
        };
        self.note_task(kind, slot, 0, ctx);
    }

    /// Returns the claim of a transfer that starts at `now`. The noise of its weight is draw 2n of the owner's stream for download n, and
    /// draw 2n + 1 for upload n.
    pub(super) fn claim(&self, now: Time, sender: Sender) -> Claim {
        let Sender { way, owner, region, cap, latency, number } = sender;
        let sharing = &self.federation.sharing;
        if sharing.is_equal() {
            return Claim::equal(cap);
        }
        let [there, back] = self.latencies(way, owner, region, latency);
        let mut capacities = self.wires.capacities_of(&self.federation, now, way, owner, region);
        capacities.push(cap);
        let draw = match &sharing.noise {
            None => 0,
            Some(_) => {
                let position = 2 * u64::from(number) + way as u64;
                self.seeds.stream(Purpose::Sharing, u64::from(owner)).at(position).next_u64()
            }
        };
        let weight = sharing.weight(Span(there.0.saturating_add(back.0)), &capacities, draw);
        Claim { cap, weight }
    }
}
