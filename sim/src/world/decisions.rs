//! Execution of the protocol's decisions.

use super::accounts::push_result;
use super::state::Event;
use super::state::{Happened, NO_TASK, World};
use super::task::{Phase, Task};
use super::wires::Way;
use crate::kernel::{Class, Ctx, EntityId, EntityKind};
use crate::random::Purpose;
use crate::record::{CountedTask, EventKind, Failure, Outcome, Record, RoundRecord, RoundStatus};
use crate::server::protocol::{Act, Aggregator, Fact, SERVER, Upload};
use crate::server::selection::View;
use crate::server::{Candidates, MemoryPolicy};
use std::sync::Arc;

impl World {
    /// Carries out one decision.
    pub(super) fn perform(&mut self, act: Act, ctx: &mut Ctx<'_, Self>) {
        match act {
            Act::Open { aggregator, round } => {
                self.desk(aggregator).opened_at = ctx.now();
                self.note_round(EventKind::RoundOpened, round, ctx);
            }
            Act::Recruit { aggregator, round, wanted } => self.recruit(aggregator, round, wanted, ctx),
            Act::SetDeadline { aggregator, round, at } => {
                ctx.schedule(at, Class::Deadline, entity_of(aggregator), Event::Deadline { round });
            }
            Act::Stop { aggregator, round, outcome } => self.stop_round(aggregator, round, outcome, ctx),
            Act::Reject { upload, outcome } => self.reject(upload, outcome, ctx),
            Act::Close { aggregator, round, result } => self.close(aggregator, round, result, ctx),
            Act::Merge { round, result } => self.merge(round, result, ctx),
            Act::SendToEdge { aggregator } => self.send_edge(aggregator, Way::Down, ctx),
            Act::SendToServer { aggregator } => self.send_edge(aggregator, Way::Up, ctx),
            Act::Wake { aggregator, after } => {
                let at = ctx.now().after(after);
                // Every dispatch belongs to the server entity, because an edge or tier may make the server dispatch at
                // the same instant, and an event may only schedule a greater key.
                ctx.schedule(at, Class::Dispatch, EntityId::SERVER, Event::Dispatch { aggregator });
            }
            Act::Finish => self.finish(ctx),
        }
    }

    /// Selects clients and sends them tasks of this round.
    fn recruit(&mut self, aggregator: Aggregator, round: u32, wanted: u32, ctx: &mut Ctx<'_, Self>) {
        let now = ctx.now();
        let desk = self.desk(aggregator);
        // The stream of a selection depends on its aggregator and its number only, not on how many others were made.
        let draw = (u64::from(aggregator) << 32) | u64::from(desk.selections);
        desk.selections += 1;
        let federation = Arc::clone(&self.federation);
        let seeds = self.seeds.clone();
        let asks_all = federation.server.candidates == Candidates::Everyone;
        let any_size = federation.server.memory == MemoryPolicy::Fail;
        let clients = &self.clients;
        let groups = &self.groups;
        // Both predicates look at clients, which advances the memo of each client's alternation. The memo is shared, so
        // it is borrowed for the length of one look at a time.
        let presence = std::cell::RefCell::new(&mut self.presence);
        let chosen = federation.server.selection.select(View {
            stream: seeds.stream(Purpose::Selection, draw),
            population: federation.client_count(),
            round,
            wanted,
            // The cheap conditions come first: looking at a client may draw from its streams.
            is_candidate: &mut |client| {
                clients[client as usize].slot == NO_TASK
                    && groups.aggregator(&federation, client) == aggregator
                    && (any_size || federation.device(client).holds(federation.work(client)))
                    && (asks_all || presence.borrow_mut().look(&federation, &seeds, client, now).is_reachable)
            },
            lasts: &mut |client| {
                let until = presence.borrow_mut().look(&federation, &seeds, client, now).until;
                until.is_none_or(|until| now.after(federation.nominal_task(client)) <= until)
            },
            samples: &|client| federation.clients[client as usize].samples,
            memory: &mut self.memory,
            aggregator,
        });
        self.tell(Fact::Sent { aggregator, tasks: chosen.len() as u32 });
        for client in chosen {
            self.dispatch(client, aggregator, round, ctx);
        }
    }

    /// Records a deadline and tells the protocol.
    pub(super) fn pass_deadline(&mut self, aggregator: Aggregator, round: u32, ctx: &mut Ctx<'_, Self>) {
        self.note_round(EventKind::DeadlinePassed, round, ctx);
        self.tell(Fact::Deadline { aggregator, round });
    }

    /// Ends the running tasks of a round, and those that arrived at this very instant but have not been reported to the
    /// protocol yet.
    fn stop_round(&mut self, aggregator: Aggregator, round: u32, outcome: Outcome, ctx: &mut Ctx<'_, Self>) {
        let running = self
            .tasks
            .find(|task| task.phase != Phase::Arrived && task.aggregator == aggregator && task.round == round);
        for slot in running {
            self.stop_task(slot, outcome, ctx);
        }
        // Facts about other rounds stay queued, in their order.
        for fact in std::mem::take(&mut self.facts) {
            match fact {
                Fact::Arrived(upload) if (upload.aggregator, upload.round) == (aggregator, round) => {
                    self.reject(upload, outcome, ctx);
                }
                other => self.facts.push_back(other),
            }
        }
    }

    /// Makes a version of the uploads, unless the round failed, and writes the records of the counted tasks and of the
    /// round.
    fn close(
        &mut self,
        aggregator: Aggregator,
        round: u32,
        result: Result<Vec<Upload>, Failure>,
        ctx: &mut Ctx<'_, Self>,
    ) {
        let (status, version, mut uploads) = match result {
            Ok(uploads) => (RoundStatus::Closed, Some(self.next_version()), uploads),
            Err(failure) => (RoundStatus::Failed(failure), None, Vec::new()),
        };
        // The order of aggregation: results do not depend on the order of arrival.
        uploads.sort_by_cached_key(|upload| {
            let task = self.tasks.get(upload.slot);
            (task.client, task.id)
        });
        let mut counted_tasks = Vec::with_capacity(uploads.len());
        for upload in uploads {
            counted_tasks.push(self.count(upload, version, ctx));
        }
        self.finish_round(
            Closing { aggregator, round, version, status, counted_tasks, merged_versions: Vec::new() },
            ctx,
        );
    }

    /// Records a task as part of a version.
    fn count(&mut self, upload: Upload, version: Option<u32>, ctx: &mut Ctx<'_, Self>) -> CountedTask {
        let task = *self.tasks.get(upload.slot);
        if self.federation.server.selection.reads_results() {
            self.wanted_reports.insert(task.id, task.client);
            self.memory.count(task.client, task.round, task.upload_done_at.since(task.dispatched_at).0);
        }
        let staleness = self.staleness(&task);
        self.record(upload.slot, Outcome::Counted, version, ctx);
        CountedTask { task: task.id, client: task.client, based_on_version: task.based_on, staleness }
    }

    /// Makes a version of the models of these edges, unless the round failed, and writes the record of the server's
    /// round.
    fn merge(&mut self, round: u32, result: Result<Vec<Aggregator>, Failure>, ctx: &mut Ctx<'_, Self>) {
        let (status, version, edges) = match result {
            Ok(edges) => (RoundStatus::Closed, Some(self.next_version()), edges),
            Err(failure) => (RoundStatus::Failed(failure), None, Vec::new()),
        };
        let merged_versions = edges.into_iter().map(|edge| self.desks[edge as usize].version).collect();
        let counted_tasks = Vec::new();
        self.finish_round(Closing { aggregator: SERVER, round, version, status, counted_tasks, merged_versions }, ctx);
    }

    /// Returns the number of a new model version.
    fn next_version(&mut self) -> u32 {
        self.versions += 1;
        self.versions
    }

    /// Installs the new version, if there is one, and writes the round's record.
    fn finish_round(&mut self, closing: Closing, ctx: &mut Ctx<'_, Self>) {
        let Closing { aggregator, round, version, status, counted_tasks, merged_versions } = closing;
        let model = self.model_of(aggregator);
        let model = self.desk(model);
        let base_version = model.version;
        if let Some(version) = version {
            model.version = version;
            model.generation += 1;
        }
        let kind = if version.is_some() { EventKind::RoundClosed } else { EventKind::RoundFailed };
        self.note_round(kind, round, ctx);
        let desk = self.desk(aggregator);
        let opened_at = desk.opened_at;
        let in_flight = desk.in_flight;
        // The totals start again from zero for the aggregator's next record.
        let period = std::mem::take(&mut desk.period);
        let record = RoundRecord {
            round,
            aggregator,
            version,
            base_version,
            opened_at,
            closed_at: ctx.now(),
            status,
            dispatched: period.dispatched,
            counted: period.counted,
            late: period.late,
            dropped: period.dropped,
            cancelled: period.cancelled,
            in_flight,
            bytes_down: period.bytes_down,
            bytes_up: period.bytes_up,
            wire_bytes_down: period.wire_bytes_down,
            wire_bytes_up: period.wire_bytes_up,
            counted_tasks,
            merged_versions,
        };
        self.check_totals();
        push_result(&mut self.results, &record);
        ctx.note(Record::Round(record));
    }

    /// Checks that no task was lost or counted twice.
    fn check_totals(&self) {
        let sent = self.totals.dispatched;
        let ended = self.totals.ended;
        let left = u64::from(self.tasks.len());
        assert!(sent == ended + left, "{sent} tasks were dispatched, {ended} ended and {left} are in flight");
    }

    /// Ends the run and cancels the remaining tasks, whether they run or wait to be counted.
    pub(super) fn finish(&mut self, ctx: &mut Ctx<'_, Self>) {
        for slot in self.tasks.find(|_| true) {
            let task = *self.tasks.get(slot);
            if task.phase == Phase::Arrived {
                let Task { aggregator, round, generation, .. } = task;
                self.reject(Upload { slot, aggregator, round, generation }, Outcome::Cancelled, ctx);
            } else {
                self.stop_task(slot, Outcome::Cancelled, ctx);
            }
        }
        self.over = true;
        self.check_totals();
    }

    /// Gives a link of the network the capacity that holds now, and schedules its next change.
    pub(super) fn change_capacity(&mut self, index: u32, ctx: &mut Ctx<'_, Self>) {
        let next = self.wires.change_capacity(&self.federation, index, ctx.now());
        self.note_event(EventKind::CapacityChanged, Happened::default(), ctx);
        if let Some(at) = next {
            let stamp = self.capacity_stamps[index as usize];
            let entity = EntityId::new(EntityKind::Link, index);
            ctx.schedule(at, Class::Leave, entity, Event::CapacityChanges { stamp });
        }
    }

    /// Records an event of a round.
    pub(super) fn note_round(&self, kind: EventKind, round: u32, ctx: &mut Ctx<'_, Self>) {
        self.note_event(kind, Happened { round: Some(round), ..Happened::default() }, ctx);
    }
}

/// Facts about a round at its close.
struct Closing {
    aggregator: Aggregator,
    round: u32,
    version: Option<u32>,
    status: RoundStatus,
    counted_tasks: Vec<CountedTask>,
    merged_versions: Vec<u32>,
}

/// Returns the entity of an aggregator.
fn entity_of(aggregator: Aggregator) -> EntityId {
    match aggregator {
        SERVER => EntityId::SERVER,
        group => EntityId::new(EntityKind::Group, group),
    }
}
