//! What the protocol decides, carried out.

use super::accounts::{Period, push_result};
use super::event::Event;
use super::lifecycle::event_of;
use super::state::{Happened, NO_TASK, World};
use crate::kernel::{Class, Ctx, EntityId, EntityKind};
use crate::random::{Purpose, Stream};
use crate::record::{CountedTask, EventKind, Failure, Outcome, Record, RoundRecord, RoundStatus};
use crate::server::MemoryPolicy;
use crate::server::protocol::{Act, Fact, Upload};
use crate::server::selection::View;

impl World {
    pub(super) fn perform(&mut self, act: Act, ctx: &mut Ctx<'_, Self>) {
        match act {
            Act::Open { round } => {
                self.opened_at = ctx.now();
                self.note_round(EventKind::RoundOpened, round, ctx);
            }
            Act::Recruit { round, wanted } => self.recruit(round, wanted, ctx),
            Act::SetDeadline { round, at } => {
                ctx.schedule(at, Class::Deadline, EntityId::SERVER, Event::Deadline { round });
            }
            Act::Stop { round, outcome } => {
                for slot in self.tasks.running(|task| task.round == round) {
                    self.stop_task(slot, outcome, ctx);
                }
                self.reject_untold(|upload| upload.round == round, outcome, ctx);
            }
            Act::Reject { upload, outcome } => self.reject(upload, outcome, ctx),
            Act::Close { round, result } => self.close(round, result, ctx),
            Act::Wake { after } => {
                let at = ctx.now().after(after);
                // A dispatch at this very instant by a handler of class Dispatch comes after it by sequence.
                ctx.schedule(at, Class::Dispatch, EntityId::SERVER, Event::Dispatch);
            }
            Act::Finish => self.finish(ctx),
        }
    }

    /// Selects clients and sends them work.
    fn recruit(&mut self, round: u32, wanted: u32, ctx: &mut Ctx<'_, Self>) {
        let federation = std::sync::Arc::clone(&self.federation);
        let stream = Stream::new(federation.seed, Purpose::Selection, self.selections);
        self.selections += 1;
        let is_candidate = |client: u32| self.is_candidate(client);
        let view = View { stream, population: federation.client_count(), is_candidate: &is_candidate };
        let chosen = federation.server.selection.select(view, wanted);
        self.tell(Fact::Sent(chosen.len() as u32));
        for client in chosen {
            self.dispatch(client, round, ctx);
        }
    }

    fn is_candidate(&self, client: u32) -> bool {
        let is_free = self.clients[client as usize].slot == NO_TASK;
        let fits = self.federation.server.memory == MemoryPolicy::Fail
            || self.federation.device(client).holds(self.federation.work(client));
        is_free && fits
    }

    /// Ends a task whose update arrived and does not count.
    fn reject(&mut self, upload: Upload, outcome: Outcome, ctx: &mut Ctx<'_, Self>) {
        self.note_task(event_of(outcome), upload.slot, 0, ctx);
        self.record(upload.slot, outcome, None, ctx);
    }

    /// Rejects updates that arrived at this very instant, of which the protocol has not been told yet.
    fn reject_untold(&mut self, wanted: impl Fn(&Upload) -> bool, outcome: Outcome, ctx: &mut Ctx<'_, Self>) {
        for fact in std::mem::take(&mut self.facts) {
            match fact {
                Fact::Arrived(upload) if wanted(&upload) => self.reject(upload, outcome, ctx),
                other => self.facts.push_back(other),
            }
        }
    }

    pub(super) fn pass_deadline(&mut self, round: u32, ctx: &mut Ctx<'_, Self>) {
        self.note_round(EventKind::DeadlinePassed, round, ctx);
        self.tell(Fact::Deadline { round });
    }

    /// Makes a version of the uploads, or none, and writes the records of the tasks that count and of the round.
    fn close(&mut self, round: u32, result: Result<Vec<Upload>, Failure>, ctx: &mut Ctx<'_, Self>) {
        let status = result.as_ref().map_or_else(|failure| RoundStatus::Failed(*failure), |_| RoundStatus::Closed);
        let base_version = self.version;
        let version = result.is_ok().then_some(base_version + 1);
        let mut uploads = result.unwrap_or_default();
        uploads.sort_unstable_by_key(|upload| {
            let task = self.tasks.get(upload.slot);
            (task.client, task.id)
        });
        let counted_tasks: Vec<CountedTask> = uploads.iter().map(|upload| self.counted(*upload)).collect();
        for (upload, counted) in uploads.iter().zip(&counted_tasks) {
            if self.federation.server.selection.reads_results() {
                self.wanted_reports.insert(counted.task);
            }
            self.record(upload.slot, Outcome::Counted, version, ctx);
        }
        self.version = version.unwrap_or(base_version);
        let kind = if version.is_some() { EventKind::RoundClosed } else { EventKind::RoundFailed };
        self.note_round(kind, round, ctx);
        let period = std::mem::take(&mut self.period);
        let record = RoundRecord {
            round,
            aggregator: 0,
            version,
            base_version,
            opened_at: self.opened_at,
            closed_at: ctx.now(),
            status,
            in_flight: self.tasks.len(),
            counted_tasks,
            merged_versions: Vec::new(),
            ..totals_of(period)
        };
        self.check_totals();
        push_result(&mut self.results, &record);
        ctx.note(Record::Round(record));
    }

    fn counted(&self, upload: Upload) -> CountedTask {
        let task = self.tasks.get(upload.slot);
        let staleness = self.version - task.based_on;
        CountedTask { task: task.id, client: task.client, based_on_version: task.based_on, staleness }
    }

    fn check_totals(&self) {
        let (sent, ended, left) = (self.totals.dispatched, self.totals.ended, u64::from(self.tasks.len()));
        assert!(sent == ended + left, "{sent} tasks were dispatched, {ended} ended and {left} are in flight");
    }

    /// Ends the run: whatever still runs is cancelled.
    pub(super) fn finish(&mut self, ctx: &mut Ctx<'_, Self>) {
        for slot in self.tasks.running(|_| true) {
            self.stop_task(slot, Outcome::Cancelled, ctx);
        }
        self.reject_untold(|_| true, Outcome::Cancelled, ctx);
        self.over = true;
        self.check_totals();
        assert!(self.tasks.len() == 0, "a protocol finishes with no update waiting");
        ctx.clear_alarm();
    }

    /// Gives a link of the network its new capacity.
    pub(super) fn change_capacity(&mut self, index: u32, ctx: &mut Ctx<'_, Self>) {
        let next = self.wires.change_capacity(&self.federation, index, ctx.now());
        self.note_event(EventKind::CapacityChanged, Happened::default(), ctx);
        if let Some(at) = next {
            ctx.schedule(at, Class::Leave, EntityId::new(EntityKind::Link, index), Event::CapacityChanges);
        }
    }

    pub(super) fn note_round(&self, kind: EventKind, round: u32, ctx: &mut Ctx<'_, Self>) {
        self.note_event(kind, Happened { round: Some(round), ..Happened::default() }, ctx);
    }
}

/// A round record that has only its sums.
fn totals_of(period: Period) -> RoundRecord {
    let Period { dispatched, counted, late, dropped, cancelled, bytes_down, bytes_up } = period;
    RoundRecord {
        round: 0,
        aggregator: 0,
        version: None,
        base_version: 0,
        opened_at: Default::default(),
        closed_at: Default::default(),
        status: RoundStatus::Closed,
        dispatched,
        counted,
        late,
        dropped,
        cancelled,
        in_flight: 0,
        bytes_down,
        bytes_up,
        counted_tasks: Vec::new(),
        merged_versions: Vec::new(),
    }
}
