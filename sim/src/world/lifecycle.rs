//! A task from its dispatch to its end: download, training, upload, and the ways not to get there.

use super::accounts::Period;
use super::event::Event;
use super::state::{Happened, NO_TASK, World};
use super::task::{Phase, Task};
use super::wires::Way;
use crate::client::{Fate, NOMINAL_PPB, Stage};
use crate::kernel::{Class, Ctx, EntityId, Span, Time};
use crate::random::{Probability, Purpose, Stream};
use crate::record::{Detail, EventKind, Outcome, Record, TaskId, TaskRecord};
use crate::server::protocol::{Fact, Upload};

impl World {
    /// Sends a task to `client` and lets its download begin.
    pub(super) fn dispatch(&mut self, client: u32, round: u32, ctx: &mut Ctx<'_, Self>) {
        let number = self.clients[client as usize].tasks;
        let task = Task {
            id: TaskId(self.totals.dispatched),
            client,
            round,
            number,
            based_on: self.version,
            phase: Phase::DownloadWaits,
            fate: self.federation.dropout(client).fate(self.federation.seed, client, number),
            dispatched_at: ctx.now(),
            download_done_at: Time::NEVER,
            training_done_at: Time::NEVER,
            upload_done_at: Time::NEVER,
            bytes_down: 0,
            bytes_up: 0,
            training_due_at: Time::NEVER,
        };
        self.totals.dispatched += 1;
        self.period.dispatched += 1;
        let slot = self.tasks.insert(task);
        let state = &mut self.clients[client as usize];
        assert!(state.slot == NO_TASK, "client {client} has one task at a time");
        (state.slot, state.tasks) = (slot, number + 1);
        self.note_task(EventKind::Dispatched, slot, 0, ctx);
        self.wait_latency(client, 2 * u64::from(number), ctx);
    }

    /// Waits out the latency of a transfer, whose jitter is draw `draw` of the client.
    fn wait_latency(&mut self, client: u32, draw: u64, ctx: &mut Ctx<'_, Self>) {
        let link = self.federation.link(client);
        let jitter = link.latency_jitter.as_ref().map_or(0, |table| {
            table.at(Stream::new(self.federation.seed, Purpose::LinkJitter, u64::from(client)).at(draw).next_u64())
        });
        let latency = Span(link.latency.0.saturating_add(jitter));
        if latency == Span::ZERO {
            return self.start_flow(client, ctx);
        }
        let stamp = self.next_stamp(client);
        ctx.schedule(ctx.now().after(latency), Class::Finish, EntityId::client(client), Event::LatencyOver { stamp });
    }

    /// Puts the transfer that waited on the network.
    pub(super) fn start_flow(&mut self, client: u32, ctx: &mut Ctx<'_, Self>) {
        self.next_stamp(client);
        let slot = self.clients[client as usize].slot;
        let (link, task) = (self.federation.link(client), self.tasks.get(slot));
        let (way, cap, kind) = match task.phase {
            Phase::DownloadWaits => (Way::Down, link.down, EventKind::DownloadStarted),
            Phase::UploadWaits => (Way::Up, link.up, EventKind::UploadStarted),
            phase => panic!("no transfer starts in phase {phase:?}"),
        };
        let flow = self.wires.start(ctx.now(), way, client, cap, self.transfer_bytes(task, way));
        self.tasks.get_mut(slot).phase = match way {
            Way::Down => Phase::Downloads { flow },
            Way::Up => Phase::Uploads { flow },
        };
        self.note_task(kind, slot, 0, ctx);
    }

    fn transfer_bytes(&self, task: &Task, way: Way) -> u64 {
        let work = self.federation.work(task.client);
        match way {
            Way::Down if task.number == 0 => work.download_bytes + work.first_download_bytes,
            Way::Down => work.download_bytes,
            Way::Up => work.upload_bytes,
        }
    }

    /// Ends all transfers that are due, downloads first, each in order of clients.
    pub(super) fn end_transfers(&mut self, ctx: &mut Ctx<'_, Self>) {
        let [downloads, uploads] = self.wires.take_ended(ctx.now());
        for client in downloads {
            ctx.witness(EntityId::client(client), EventKind::Downloaded as u8);
            self.finish_download(client, ctx);
        }
        for client in uploads {
            ctx.witness(EntityId::client(client), EventKind::Uploaded as u8);
            self.finish_upload(client, ctx);
        }
    }

    fn finish_download(&mut self, client: u32, ctx: &mut Ctx<'_, Self>) {
        let slot = self.clients[client as usize].slot;
        let bytes = self.transfer_bytes(self.tasks.get(slot), Way::Down);
        let task = self.tasks.get_mut(slot);
        (task.bytes_down, task.download_done_at, task.phase) = (bytes, ctx.now(), Phase::Downloaded);
        let fate = task.fate;
        self.note_task(EventKind::Downloaded, slot, bytes, ctx);
        if fate == Fate::DropsBefore {
            self.lose(client, Outcome::Dropped(Stage::BeforeTraining), ctx);
        } else if !self.federation.device(client).holds(self.federation.work(client)) {
            self.lose(client, Outcome::OutOfMemory, ctx);
        } else {
            self.start_training(client, ctx);
        }
    }

    fn start_training(&mut self, client: u32, ctx: &mut Ctx<'_, Self>) {
        let (device, work) = (self.federation.device(client), self.federation.work(client));
        let slot = self.clients[client as usize].slot;
        let number = u64::from(self.tasks.get(slot).number);
        let slowdown_ppb = device.slowdown.as_ref().map_or(NOMINAL_PPB, |table| {
            let stream = Stream::new(self.federation.seed, Purpose::ComputeJitter, u64::from(client));
            table.at(stream.at(number).next_u64())
        });
        let span = device.training_span(work, slowdown_ppb);
        let stamp = self.next_stamp(client);
        let task = self.tasks.get_mut(slot);
        (task.phase, task.training_due_at) = (Phase::Trains, ctx.now().after(span));
        let entity = EntityId::client(client);
        match task.fate {
            Fate::DropsDuring(part) => {
                let until = span.portion(u64::from(part), u64::from(Probability::SCALE)).max(Span(1));
                ctx.schedule(ctx.now().after(until), Class::Leave, entity, Event::GivesUp { stamp });
            }
            _ => ctx.schedule(ctx.now().after(span), Class::Finish, entity, Event::Trained { stamp }),
        }
        self.note_task(EventKind::TrainingStarted, slot, 0, ctx);
    }

    /// A client gives up in the middle of training.
    pub(super) fn give_up(&mut self, client: u32, ctx: &mut Ctx<'_, Self>) {
        self.lose(client, Outcome::Dropped(Stage::DuringTraining), ctx);
    }

    /// A client has trained; its upload begins.
    pub(super) fn finish_training(&mut self, client: u32, ctx: &mut Ctx<'_, Self>) {
        let slot = self.clients[client as usize].slot;
        let task = self.tasks.get_mut(slot);
        (task.training_done_at, task.phase) = (ctx.now(), Phase::UploadWaits);
        let (fate, number) = (task.fate, u64::from(task.number));
        self.note_task(EventKind::Trained, slot, 0, ctx);
        if fate == Fate::DropsAfter {
            self.lose(client, Outcome::Dropped(Stage::AfterTraining), ctx);
        } else {
            self.wait_latency(client, 2 * number + 1, ctx);
        }
    }

    fn finish_upload(&mut self, client: u32, ctx: &mut Ctx<'_, Self>) {
        self.next_stamp(client);
        let slot = std::mem::replace(&mut self.clients[client as usize].slot, NO_TASK);
        let bytes = self.transfer_bytes(self.tasks.get(slot), Way::Up);
        let task = self.tasks.get_mut(slot);
        (task.bytes_up, task.upload_done_at, task.phase) = (bytes, ctx.now(), Phase::Arrived);
        let round = task.round;
        self.note_task(EventKind::Uploaded, slot, bytes, ctx);
        self.tell(Fact::Arrived(Upload { slot, round }));
    }

    /// Ends a running task without an update, and tells the protocol.
    fn lose(&mut self, client: u32, outcome: Outcome, ctx: &mut Ctx<'_, Self>) {
        let slot = self.clients[client as usize].slot;
        let round = self.tasks.get(slot).round;
        self.stop_task(slot, outcome, ctx);
        self.tell(Fact::Lost { round });
    }

    /// Ends a running task where it is, without telling the protocol.
    pub(super) fn stop_task(&mut self, slot: u32, outcome: Outcome, ctx: &mut Ctx<'_, Self>) {
        let now = ctx.now();
        let task = *self.tasks.get(slot);
        let mut bytes = 0;
        if let Some((way, flow)) = task.flow() {
            let left = self.wires.stop(now, way, flow);
            bytes = self.transfer_bytes(&task, way) - left;
            let task = self.tasks.get_mut(slot);
            match way {
                Way::Down => task.bytes_down = bytes,
                Way::Up => task.bytes_up = bytes,
            }
        }
        self.next_stamp(task.client);
        self.clients[task.client as usize].slot = NO_TASK;
        self.note_task(event_of(outcome), slot, bytes, ctx);
        self.record(slot, outcome, None, ctx);
    }

    /// Writes the record of a task that has ended, and forgets the task.
    pub(super) fn record(&mut self, slot: u32, outcome: Outcome, version: Option<u32>, ctx: &mut Ctx<'_, Self>) {
        let task = self.tasks.remove(slot);
        let record = self.task_record(&task, outcome, version, ctx.now());
        self.totals.ended += 1;
        Period::add(&mut self.period, &record);
        if self.federation.detail != Detail::Rounds {
            ctx.note(Record::Task(record));
        }
    }

    fn task_record(&self, task: &Task, outcome: Outcome, version: Option<u32>, now: Time) -> TaskRecord {
        let happened = |at: Time| (at != Time::NEVER).then_some(at);
        let ended_at = happened(task.upload_done_at).unwrap_or(now);
        let (compute_flops, training_ns) = self.compute_done(task, ended_at);
        let device = self.federation.device(task.client);
        let picojoule = u128::from(ended_at.since(task.dispatched_at).0 - training_ns) * u128::from(device.idle_mw)
            + u128::from(training_ns) * u128::from(device.busy_mw);
        let counts = version.is_some() || outcome == Outcome::Stale;
        TaskRecord {
            task: task.id,
            client: task.client,
            round: task.round,
            aggregator: 0,
            client_task_number: task.number,
            based_on_version: task.based_on,
            dispatched_at: task.dispatched_at,
            download_done_at: happened(task.download_done_at),
            training_done_at: happened(task.training_done_at),
            upload_done_at: happened(task.upload_done_at),
            ended_at,
            outcome,
            counted_in_version: version,
            staleness: if counts { version.map_or(self.version, |v| v - 1) - task.based_on } else { 0 },
            bytes_down: task.bytes_down,
            bytes_up: task.bytes_up,
            compute_flops,
            training_ns,
            energy_mj: (picojoule / 1_000_000_000) as u64,
        }
    }

    /// Operations done and time trained by `ended_at`.
    fn compute_done(&self, task: &Task, ended_at: Time) -> (u64, u64) {
        if task.training_due_at == Time::NEVER {
            return (0, 0);
        }
        let whole = task.training_due_at.since(task.download_done_at).0;
        let trained = task.training_due_at.min(ended_at).since(task.download_done_at).0;
        let flops = u128::from(self.federation.work(task.client).flops) * u128::from(trained) / u128::from(whole);
        (flops as u64, trained)
    }

    pub(super) fn note_task(&self, kind: EventKind, slot: u32, bytes: u64, ctx: &mut Ctx<'_, Self>) {
        let task = self.tasks.get(slot);
        let (client, round) = (Some(task.client), Some(task.round));
        self.note_event(kind, Happened { client, task: Some(task.id), round, bytes }, ctx);
    }
}

impl Task {
    /// The transfer that is under way.
    fn flow(&self) -> Option<(Way, u32)> {
        match self.phase {
            Phase::Downloads { flow } => Some((Way::Down, flow)),
            Phase::Uploads { flow } => Some((Way::Up, flow)),
            _ => None,
        }
    }
}

/// The event that an outcome appears as.
pub(super) fn event_of(outcome: Outcome) -> EventKind {
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
