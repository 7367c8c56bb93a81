//! The ways in which a task ends, and its record.

use super::state::Event;
use super::state::{NO_TASK, World};
use super::task::{Phase, Task};
use super::wires::Way;
use crate::client::{INTERRUPTIONS_MAX, Interruption};
use crate::kernel::{Class, Ctx, EntityId, Time};
use crate::record::{Detail, EventKind, Outcome, Record, TaskRecord};
use crate::server::protocol::{Fact, Upload};

impl World {
    /// Ends a running task without an update, and tells the protocol.
    pub(super) fn lose(&mut self, client: u32, outcome: Outcome, ctx: &mut Ctx<'_, Self>) {
        let slot = self.clients[client as usize].slot;
        let Task { aggregator, round, .. } = *self.tasks.get(slot);
        self.stop_task(slot, outcome, ctx);
        self.tell(Fact::Lost { aggregator, round });
    }

    /// Ends a running task in its current phase, without telling the protocol.
    pub(super) fn stop_task(&mut self, slot: u32, outcome: Outcome, ctx: &mut Ctx<'_, Self>) {
        let Task { client, phase, .. } = *self.tasks.get(slot);
        let bytes = match phase {
            Phase::KeptBack { bytes } => bytes,
            _ => self.stop_transfer(slot, ctx.now()),
        };
        // The event that would have ended the current phase becomes stale.
        self.next_stamp(client);
        self.clients[client as usize].slot = NO_TASK;
        self.note_task(event_of(outcome), slot, bytes, ctx);
        self.record(slot, outcome, None, ctx);
    }

    /// Removes a task's transfer from the network, if one is under way, and returns the number of bytes that it moved.
    fn stop_transfer(&mut self, slot: u32, now: Time) -> u64 {
        let task = *self.tasks.get(slot);
        let Some((way, flow)) = task.flow() else { return 0 };
        let region = self.federation.clients[task.client as usize].region;
        let wire_left = self.wires.stop(now, way, task.client, region, flow);
        let overhead = self.federation.link(task.client).transport.overhead;
        let wire_moved = overhead.wire_bytes(task.bytes_due) - wire_left;
        // The rest stays due, so that a resumed transfer continues where it stopped.
        let left = overhead.payload_left(task.bytes_due, wire_left);
        let moved = task.bytes_due - left;
        let task = self.tasks.get_mut(slot);
        task.add_bytes(way, moved, wire_moved);
        task.bytes_due = left;
        task.phase = match way {
            Way::Down => Phase::DownloadWaits,
            Way::Up => Phase::UploadWaits,
        };
        moved
    }

    /// Ends a task whose update arrived but does not count.
    pub(super) fn reject(&mut self, upload: Upload, outcome: Outcome, ctx: &mut Ctx<'_, Self>) {
        self.note_task(event_of(outcome), upload.slot, 0, ctx);
        self.record(upload.slot, outcome, None, ctx);
    }

    /// Updates the task of a client that crashed, became unreachable or came back.
    pub(super) fn change_presence(&mut self, client: u32, ctx: &mut Ctx<'_, Self>) {
        let look = self.look(client, ctx.now());
        let slot = self.clients[client as usize].slot;
        let Task { is_cut, number, interruptions, .. } = *self.tasks.get(slot);
        if !look.is_up {
            return self.lose(client, Outcome::Crashed, ctx);
        }
        let is_lost = self.federation.interruption == Interruption::Abandon
            || look.until.is_none()
            || interruptions >= INTERRUPTIONS_MAX;
        if !look.is_reachable && is_lost {
            return self.lose(client, Outcome::Left, ctx);
        }
        // Keeps watching while the task runs. A reachable client is next seen leaving, an unreachable one joining.
        if let Some(at) = look.until {
            let class = if look.is_reachable { Class::Leave } else { Class::Join };
            ctx.schedule(at, class, EntityId::client(client), Event::PresenceChanges { task: number });
        }
        match (is_cut, look.is_reachable) {
            (false, false) => self.cut_off(client, slot, ctx),
            (true, true) => self.come_back(client, slot, ctx),
            _ => {}
        }
    }

    /// Suspends the transfer of a client that became unreachable. Training goes on.
    fn cut_off(&mut self, client: u32, slot: u32, ctx: &mut Ctx<'_, Self>) {
        let bytes = self.stop_transfer(slot, ctx.now());
        let restarts = self.federation.interruption == Interruption::Restart;
        let phase = self.tasks.get(slot).phase;
        if matches!(phase, Phase::DownloadWaits | Phase::UploadWaits) {
            // Makes the end of a latency that is passing stale. The latency passes again when the client is back.
            self.next_stamp(client);
            if restarts {
                let task = self.tasks.get_mut(slot);
                let is_down = phase == Phase::DownloadWaits;
                task.bytes_due = if is_down { task.whole.download_bytes } else { task.whole.upload_bytes };
            }
        }
        let task = self.tasks.get_mut(slot);
        task.is_cut = true;
        task.interruptions += 1;
        self.note_task(EventKind::ClientLeft, slot, bytes, ctx);
    }

    /// Continues the transfer of a client that is reachable again.
    fn come_back(&mut self, client: u32, slot: u32, ctx: &mut Ctx<'_, Self>) {
        let task = self.tasks.get_mut(slot);
        task.is_cut = false;
        let phase = task.phase;
        self.note_task(EventKind::ClientReturned, slot, 0, ctx);
        if matches!(phase, Phase::DownloadWaits | Phase::UploadWaits) {
            self.wait_latency(client, ctx);
        }
    }

    /// Writes the record of a task that has ended, and removes the task.
    pub(super) fn record(&mut self, slot: u32, outcome: Outcome, version: Option<u32>, ctx: &mut Ctx<'_, Self>) {
        let task = self.tasks.remove(slot);
        let record = self.task_record(&task, outcome, version, ctx.now());
        self.totals.ended += 1;
        let desk = self.desk(task.aggregator);
        desk.period.add(&record);
        desk.in_flight -= 1;
        if self.federation.detail != Detail::Rounds {
            ctx.note(Record::Task(record));
        }
    }

    /// Returns the record of a task that ended at `now`, or earlier if it waited for its round to close.
    fn task_record(&self, task: &Task, outcome: Outcome, version: Option<u32>, now: Time) -> TaskRecord {
        let ended_at = happened(task.upload_done_at).unwrap_or(now);
        let (compute_flops, training_ns) = self.compute_done(task, ended_at);
        let energy = self.energy_of(task, ended_at, training_ns);
        let [download_mj, training_mj, upload_mj] = energy.map(|phase| (phase / PJ_PER_MJ) as u64);
        let counts = matches!(outcome, Outcome::Counted | Outcome::Stale);
        TaskRecord {
            task: task.id,
            client: task.client,
            round: task.round,
            aggregator: task.aggregator,
            client_task_number: task.number,
            based_on_version: task.based_on,
            dispatched_at: task.dispatched_at,
            download_done_at: happened(task.download_done_at),
            training_done_at: happened(task.training_done_at),
            upload_done_at: happened(task.upload_done_at),
            ended_at,
            outcome,
            counted_in_version: version,
            staleness: if counts { self.staleness(task) } else { 0 },
            bytes_down: task.bytes_down,
            bytes_up: task.bytes_up,
            wire_bytes_down: task.wire_bytes_down,
            wire_bytes_up: task.wire_bytes_up,
            compute_flops,
            training_ns,
            energy_mj: (energy.iter().sum::<u128>() / PJ_PER_MJ) as u64,
            download_mj,
            training_mj,
            upload_mj,
        }
    }

    /// [pJ] -- Returns the energy of a task that ended at `ended_at`: until it had the model, until it was trained, and after that. The
    /// device has its busy power while it trains, for `training_ns` in all, and its idle power for the rest.
    fn energy_of(&self, task: &Task, ended_at: Time, training_ns: u64) -> [u128; 3] {
        let device = self.federation.device(task.client);
        let radio = self.federation.link(task.client).radio;
        let down_at = task.download_done_at.min(ended_at);
        let trained_at = task.training_done_at.min(ended_at).max(down_at);
        [
            energy(device.idle_mw, down_at.since(task.dispatched_at).0)
                + energy_of_bits(task.wire_bytes_down, radio.down_pj_per_bit),
            energy(device.idle_mw, trained_at.since(down_at).0 - training_ns) + energy(device.busy_mw, training_ns),
            energy(device.idle_mw, ended_at.since(trained_at).0)
                + energy_of_bits(task.wire_bytes_up, radio.up_pj_per_bit),
        ]
    }

    /// Returns the number of versions that its aggregator has made since the task was dispatched.
    pub(super) fn staleness(&self, task: &Task) -> u32 {
        self.desks[self.model_of(task.aggregator) as usize].generation - task.generation
    }

    /// Returns the operations done [FLOP] and the time trained [ns] by `ended_at`.
    fn compute_done(&self, task: &Task, ended_at: Time) -> (u64, u64) {
        if task.training_due_at == Time::NEVER {
            return (0, 0);
        }
        let whole = task.training_due_at.since(task.download_done_at).0;
        let trained = task.training_due_at.min(ended_at).since(task.download_done_at).0;
        // Operations are done at a constant rate. The product needs 128 bits.
        let flops = u128::from(self.federation.work(task.client).flops) * u128::from(trained) / u128::from(whole);
        (flops as u64, trained)
    }
}

/// [pJ] -- Returns the energy of a power over a time: milliwatts times nanoseconds are picojoules.
fn energy(milliwatts: u32, ns: u64) -> u128 {
    u128::from(milliwatts) * u128::from(ns)
}

/// [pJ] -- Returns the energy of bytes on a radio.
fn energy_of_bits(bytes: u64, pj_per_bit: u64) -> u128 {
    8 * u128::from(bytes) * u128::from(pj_per_bit)
}

/// [pJ/mJ] -- Picojoules in a millijoule.
const PJ_PER_MJ: u128 = 1_000_000_000;

/// Returns the time, or `None` if the step has not happened.
fn happened(at: Time) -> Option<Time> {
    if at == Time::NEVER { None } else { Some(at) }
}

/// Returns the kind of event as which an outcome is recorded.
fn event_of(outcome: Outcome) -> EventKind {
    match outcome {
        Outcome::Counted => EventKind::Uploaded,
        Outcome::Late | Outcome::Stale => EventKind::Late,
        Outcome::Dropped(_) => EventKind::Dropped,
        Outcome::Crashed => EventKind::Crashed,
        Outcome::Left => EventKind::ClientLeft,
        Outcome::Unreachable => EventKind::Unreachable,
        Outcome::OutOfMemory => EventKind::OutOfMemory,
        Outcome::Cancelled | Outcome::Discarded => EventKind::Cancelled,
    }
}
