//! The life of a task from its dispatch to its arrival: download, training, upload.

use super::state::Event;
use super::state::{Happened, NO_TASK, World};
use super::task::{Phase, Task};
use super::transfers::Sender;
use super::wires::{Transfer, Way, edge_owner};
use crate::client::{Fate, NOMINAL_PPB, Stage, Traffic};
use crate::kernel::{Class, Ctx, EntityId, EntityKind, Span, Time};
use crate::random::{Probability, Purpose};
use crate::record::{EventKind, Outcome, TaskId};
use crate::server::Candidates;
use crate::server::protocol::{Aggregator, Fact, Upload};

impl World {
    /// Sends a task to `client` and starts its download.
    pub(super) fn dispatch(&mut self, client: u32, aggregator: Aggregator, round: u32, ctx: &mut Ctx<'_, Self>) {
        let number = self.clients[client as usize].tasks;
        let model = self.desks[self.model_of(aggregator) as usize];
        let whole = self.transfers(client, number, round);
        let task = Task {
            id: TaskId(self.totals.dispatched),
            client,
            aggregator,
            round,
            number,
            based_on: model.version,
            generation: model.generation,
            phase: Phase::DownloadWaits,
            fate: self.federation.dropout(client).fate(&self.seeds, client, number),
            is_cut: false,
            interruptions: 0,
            dispatched_at: ctx.now(),
            download_done_at: Time::NEVER,
            training_done_at: Time::NEVER,
            upload_done_at: Time::NEVER,
            training_due_at: Time::NEVER,
            bytes_down: 0,
            bytes_up: 0,
            wire_bytes_down: 0,
            wire_bytes_up: 0,
            whole,
            bytes_due: whole.download_bytes,
        };
        self.totals.dispatched += 1;
        let desk = self.desk(aggregator);
        desk.period.dispatched += 1;
        desk.in_flight += 1;
        let slot = self.tasks.insert(task);
        let state = &mut self.clients[client as usize];
        assert!(state.slot == NO_TASK, "client {client} has one task at a time");
        state.slot = slot;
        state.tasks = number + 1;
        self.note_task(EventKind::Dispatched, slot, 0, ctx);
        self.watch(client, number, ctx);
    }

    /// Starts the download if the client is reachable, and schedules the next check of its reachability.
    fn watch(&mut self, client: u32, number: u32, ctx: &mut Ctx<'_, Self>) {
        let look = self.look(client, ctx.now());
        if !look.is_reachable {
            assert!(self.federation.server.candidates == Candidates::Everyone, "only who is online is asked");
            return self.lose(client, Outcome::Unreachable, ctx);
        }
        if let Some(at) = look.until {
            let event = Event::PresenceChanges { task: number };
            ctx.schedule(at, Class::Leave, EntityId::client(client), event);
        }
        self.wait_latency(client, ctx);
    }

    /// Returns the sizes of the transfers of a client's task `number` in a round; the first download includes the base model.
    fn transfers(&self, client: u32, number: u32, round: u32) -> Traffic {
        let work = self.federation.work(client);
        let traffic = work.traffic(round);
        let base = if number == 0 { work.first_download_bytes } else { 0 };
        Traffic { download_bytes: traffic.download_bytes.saturating_add(base), ..traffic }
    }

    /// Ends all transfers that are due: downloads, then uploads, each in order of clients, then edges.
    pub(super) fn end_transfers(&mut self, ctx: &mut Ctx<'_, Self>) {
        let ended = self.wires.take_ended(ctx.now());
        let population = self.federation.client_count();
        for (way, owners) in [Way::Down, Way::Up].into_iter().zip(ended) {
            for owner in owners {
                if owner >= population {
                    self.finish_edge_transfer(EntityId::MAX_INDEX - owner, way, ctx);
                    continue;
                }
                // All transfers of an instant end in one event of the network. Each enters the order digest on its own.
                let entity = EntityId::client(owner);
                match way {
                    Way::Down => {
                        ctx.witness(entity, EventKind::Downloaded as u8);
                        self.finish_download(owner, ctx);
                    }
                    Way::Up => {
                        ctx.witness(entity, EventKind::Uploaded as u8);
                        self.finish_upload(owner, ctx);
                    }
                }
            }
        }
    }

    /// Completes a download and starts training, unless the client drops out or lacks memory.
    fn finish_download(&mut self, client: u32, ctx: &mut Ctx<'_, Self>) {
        let slot = self.clients[client as usize].slot;
        let task = self.tasks.get_mut(slot);
        let bytes = std::mem::take(&mut task.bytes_due);
        let wire_bytes = self.federation.wire_bytes(client, bytes);
        task.add_bytes(Way::Down, bytes, wire_bytes);
        task.download_done_at = ctx.now();
        task.phase = Phase::Downloaded;
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

    /// Starts training and schedules its end, or the moment at which the client gives up.
    fn start_training(&mut self, client: u32, ctx: &mut Ctx<'_, Self>) {
        let device = self.federation.device(client);
        let work = self.federation.work(client);
        let slot = self.clients[client as usize].slot;
        let number = u64::from(self.tasks.get(slot).number);
        let slowdown_ppb = match &device.slowdown {
            None => NOMINAL_PPB,
            Some(table) => {
                let mut stream = self.seeds.stream(Purpose::ComputeJitter, u64::from(client)).at(number);
                table.at(stream.next_u64())
            }
        };
        let span = device.training_span(work, slowdown_ppb);
        let stamp = self.next_stamp(client);
        let task = self.tasks.get_mut(slot);
        task.phase = Phase::Trains;
        task.training_due_at = ctx.now().after(span);
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

    /// Ends the task of a client that gives up during training.
    pub(super) fn give_up(&mut self, client: u32, ctx: &mut Ctx<'_, Self>) {
        self.lose(client, Outcome::Dropped(Stage::DuringTraining), ctx);
    }

    /// Completes training and starts the upload, or leaves it waiting until the client is reachable.
    pub(super) fn finish_training(&mut self, client: u32, ctx: &mut Ctx<'_, Self>) {
        let slot = self.clients[client as usize].slot;
        let whole = self.tasks.get(slot).whole.upload_bytes;
        let task = self.tasks.get_mut(slot);
        task.training_done_at = ctx.now();
        task.phase = Phase::UploadWaits;
        task.bytes_due = whole;
        let Task { fate, is_cut, .. } = *task;
        self.note_task(EventKind::Trained, slot, 0, ctx);
        if fate == Fate::DropsAfter {
            self.lose(client, Outcome::Dropped(Stage::AfterTraining), ctx);
        } else if !is_cut {
            self.wait_latency(client, ctx);
        }
    }

    /// Completes an upload, unless its client keeps it back for its colluders.
    fn finish_upload(&mut self, client: u32, ctx: &mut Ctx<'_, Self>) {
        self.next_stamp(client);
        let task = self.tasks.get_mut(self.clients[client as usize].slot);
        let bytes = std::mem::take(&mut task.bytes_due);
        let wire_bytes = self.federation.wire_bytes(client, bytes);
        task.add_bytes(Way::Up, bytes, wire_bytes);
        if self.federation.colluders.contains(&client) {
            task.phase = Phase::KeptBack { bytes };
        } else {
            self.deliver(client, bytes, ctx);
        }
    }

    /// Hands an update to the protocol and frees its client. `bytes` is the size of its last transfer.
    pub(super) fn deliver(&mut self, client: u32, bytes: u64, ctx: &mut Ctx<'_, Self>) {
        let slot = std::mem::replace(&mut self.clients[client as usize].slot, NO_TASK);
        let task = self.tasks.get_mut(slot);
        task.upload_done_at = ctx.now();
        task.phase = Phase::Arrived;
        let Task { aggregator, round, generation, .. } = *task;
        self.note_task(EventKind::Uploaded, slot, bytes, ctx);
        self.tell(Fact::Arrived(Upload { slot, aggregator, round, generation }));
    }

    /// Delivers the updates that colluders keep back, if each of them that has a task keeps one back and the protocol
    /// has places for them: the oldest tasks first. Returns whether it delivered any.
    pub(super) fn deliver_together(&mut self, ctx: &mut Ctx<'_, Self>) -> bool {
        if self.over {
            return false;
        }
        let mut ready = Vec::new();
        for &client in &self.federation.colluders {
            let slot = self.clients[client as usize].slot;
            if slot == NO_TASK {
                continue;
            }
            let task = self.tasks.get(slot);
            match task.phase {
                Phase::KeptBack { bytes } if !task.is_cut => ready.push((task.id, client, bytes)),
                _ => return false,
            }
        }
        if ready.is_empty() {
            return false;
        }
        ready.sort_unstable();
        let places = self.protocol.places_together(ctx.now(), ready.len() as u32);
        for &(_, client, bytes) in &ready[..places as usize] {
            self.deliver(client, bytes, ctx);
        }
        places > 0
    }

    /// Sends a model between the server and an edge: schedules the end of the latency.
    pub(super) fn send_edge(&mut self, aggregator: Aggregator, way: Way, ctx: &mut Ctx<'_, Self>) {
        let edge = aggregator - 1;
        let (policy, link) = self.federation.edge(edge);
        let is_upload = way == Way::Up;
        let (rate, bytes) = if is_upload { (link.up, policy.upload_bytes) } else { (link.down, policy.download_bytes) };
        let latencies = self.latencies(way, edge_owner(edge), edge, link.latency);
        let latency = link.transport.delay(bytes, rate, latencies);
        if latency == Span::ZERO {
            return self.start_edge_flow(aggregator, is_upload, ctx);
        }
        let entity = EntityId::new(EntityKind::Group, aggregator);
        ctx.schedule(ctx.now().after(latency), Class::Finish, entity, Event::EdgeLatencyOver { is_upload });
    }

    /// Starts the flow of an edge's transfer.
    pub(super) fn start_edge_flow(&mut self, aggregator: Aggregator, is_upload: bool, ctx: &mut Ctx<'_, Self>) {
        let edge = aggregator - 1;
        let (policy, link) = self.federation.edge(edge);
        let (way, cap, bytes) = match is_upload {
            true => (Way::Up, link.up, policy.upload_bytes),
            false => (Way::Down, link.down, policy.download_bytes),
        };
        let bytes = link.transport.overhead.wire_bytes(bytes);
        let owner = edge_owner(edge);
        let number = self.desks[aggregator as usize].generation;
        let sender = Sender { way, owner, region: edge, cap, latency: link.latency, number };
        let claim = self.claim(ctx.now(), sender);
        self.wires.start(ctx.now(), Transfer { way, owner, region: edge, claim, bytes });
        if is_upload {
            self.note_event(EventKind::EdgeUploadStarted, Happened::default(), ctx);
        }
    }

    /// Completes a transfer between the server and an edge, and tells the protocol.
    fn finish_edge_transfer(&mut self, edge: u32, way: Way, ctx: &mut Ctx<'_, Self>) {
        let aggregator = edge + 1;
        let entity = EntityId::new(EntityKind::Group, aggregator);
        let (policy, link) = self.federation.edge(edge);
        let overhead = link.transport.overhead;
        let down = policy.download_bytes;
        let up = policy.upload_bytes;
        match way {
            Way::Down => {
                ctx.witness(entity, EventKind::Downloaded as u8);
                self.desks[0].period.bytes_down += down;
                self.desks[0].period.wire_bytes_down += overhead.wire_bytes(down);
                // The edge takes over the server's model, which is a new generation for its own clients.
                let server = self.desks[0];
                let desk = self.desk(aggregator);
                desk.version = server.version;
                desk.generation += 1;
                self.tell(Fact::EdgeReady { aggregator });
            }
            Way::Up => {
                ctx.witness(entity, EventKind::EdgeUploaded as u8);
                self.desks[0].period.bytes_up += up;
                self.desks[0].period.wire_bytes_up += overhead.wire_bytes(up);
                self.note_event(EventKind::EdgeUploaded, Happened { bytes: up, ..Happened::default() }, ctx);
                self.tell(Fact::EdgeArrived { aggregator });
            }
        }
    }

    /// Records an event of a task.
    pub(super) fn note_task(&self, kind: EventKind, slot: u32, bytes: u64, ctx: &mut Ctx<'_, Self>) {
        let task = self.tasks.get(slot);
        let about = Happened { client: Some(task.client), task: Some(task.id), round: Some(task.round), bytes };
        self.note_event(kind, about, ctx);
    }
}
