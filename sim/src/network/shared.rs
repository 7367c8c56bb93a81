//! One link shared max-min fairly by flows with caps of their own: the level method.
//!
//! At any instant there is a level such that a flow whose cap is at most the level runs at its cap, and all others at
//! the level, `floor((C - sum of caps of capped flows) / number of others)`. Capped flows have fixed ends. The others
//! all progress alike, so they are ordered by virtual end: the value of `progress`, what a flow that never was capped
//! would have moved, at which they are done. A change moves flows across the level one at a time, O(log n) each.

use super::{FlowWork, Rate};
use crate::kernel::Time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The name of a flow on a link; ends of one instant come in its order.
pub type FlowId = u32;

/// A slot in the table of flows.
type Slot = u32;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Flow {
    id: FlowId,
    cap: Rate,
    state: State,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum State {
    /// Runs at its cap: `left` at `since`, done at `end`.
    Capped { left: FlowWork, since: Time, end: Time },
    /// Runs at the level: done when `progress` reaches `end`.
    Level { end: u128 },
    /// The slot is free.
    Free,
}

/// A link, its capacity, and the flows on it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SharedLink {
    capacity: Rate,
    now: Time,
    level: Rate,
    progress: u128,
    caps_sum: u128,
    flows: Vec<Flow>,
    free: Vec<Slot>,
    capped_by_end: BTreeSet<(Time, Slot)>,
    capped_by_cap: BTreeSet<(Rate, Slot)>,
    level_by_end: BTreeSet<(u128, Slot)>,
    level_by_cap: BTreeSet<(Rate, Slot)>,
    /// Whether flows or capacity changed since flows were last moved across the level. Changes of one instant are
    /// levelled together: between them no time passes, so the levels in between would move nothing.
    dirty: bool,
    is_unlimited: bool,
}

impl SharedLink {
    /// An empty link of `capacity` at time zero.
    pub fn new(capacity: Rate) -> Self {
        Self {
            capacity,
            now: Time::ZERO,
            level: capacity,
            progress: 0,
            caps_sum: 0,
            flows: Vec::new(),
            free: Vec::new(),
            capped_by_end: BTreeSet::new(),
            capped_by_cap: BTreeSet::new(),
            level_by_end: BTreeSet::new(),
            level_by_cap: BTreeSet::new(),
            dirty: false,
            is_unlimited: false,
        }
    }

    /// A link that is never scarce: each flow runs at its cap, whatever their sum.
    pub fn unlimited() -> Self {
        Self { is_unlimited: true, ..Self::new(Rate::MAX) }
    }

    /// How many flows are on the link.
    pub fn len(&self) -> usize {
        self.capped_by_end.len() + self.level_by_end.len()
    }

    /// Whether no flow is on the link.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Changes the capacity at `now`.
    pub fn set_capacity(&mut self, now: Time, capacity: Rate) {
        self.advance(now);
        self.capacity = capacity;
        self.dirty = true;
    }

    /// Puts a flow named `id` on the link at `now`; it never exceeds `cap`. Returns the slot by which to remove it.
    ///
    /// # Panics
    /// If `work` or `cap` is zero: such a flow would end at once, or never.
    pub fn insert(&mut self, now: Time, id: FlowId, cap: Rate, work: FlowWork) -> u32 {
        assert!(work.0 > 0 && cap > Rate::ZERO, "a flow has work and a cap above zero");
        self.advance(now);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.flows.push(Flow { id, cap, state: State::Free });
            Slot::try_from(self.flows.len() - 1).expect("there are fewer than 2^32 flows")
        });
        self.flows[slot as usize] = Flow { id, cap, state: State::Free };
        if cap <= self.level {
            self.put_capped(slot, work)
        } else {
            self.put_level(slot, work)
        }
        self.dirty = true;
        slot
    }

    /// Takes the flow in `slot` off the link at `now` and returns what it had left.
    pub fn remove(&mut self, now: Time, slot: u32) -> FlowWork {
        self.advance(now);
        let left = self.take(slot);
        self.release(slot);
        left
    }

    /// When the next flow ends; `None` if there is no flow, or none that moves.
    pub fn next_end(&mut self) -> Option<Time> {
        self.relevel();
        let capped = self.capped_by_end.first().map(|(end, _)| *end);
        let level = self.level_by_end.first().and_then(|(end, _)| {
            FlowWork(end.saturating_sub(self.progress)).duration(self.level).map(|span| self.now.after(span))
        });
        capped.into_iter().chain(level).min()
    }

    /// Takes all flows off the link that have ended by `now`, and appends their names to `ended`, ascending.
    ///
    /// # Panics
    /// If a flow ended before `now`: ends must be asked for when they are due.
    pub fn take_ended(&mut self, now: Time, ended: &mut Vec<FlowId>) {
        self.advance(now);
        let first = ended.len();
        while let Some(&(end, slot)) = self.capped_by_end.first().filter(|(end, _)| *end <= now) {
            assert!(end == now, "a flow that ended at {end} was left on the link until {now}");
            self.take(slot);
            ended.push(self.flows[slot as usize].id);
            self.release(slot);
        }
        while let Some(&(_, slot)) = self.level_by_end.first().filter(|(end, _)| *end <= self.progress) {
            self.take(slot);
            ended.push(self.flows[slot as usize].id);
            self.release(slot);
        }
        ended[first..].sort_unstable();
    }

    /// The name and current rate of each flow, ascending by name: for checks and reports.
    pub fn rates(&mut self) -> Vec<(FlowId, Rate)> {
        self.relevel();
        let rate = |flow: &Flow| match flow.state {
            State::Capped { .. } => Some(flow.cap),
            State::Level { .. } => Some(self.level),
            State::Free => None,
        };
        let mut rates: Vec<_> = self.flows.iter().filter_map(|flow| Some((flow.id, rate(flow)?))).collect();
        rates.sort_unstable();
        rates
    }

    /// Lets time pass to `now` at the rates in force.
    fn advance(&mut self, now: Time) {
        if now == self.now {
            return;
        }
        self.relevel();
        self.progress += FlowWork::moved(self.level, now.since(self.now)).0;
        if self.level_by_end.is_empty() {
            self.progress = 0;
        }
        self.now = now;
    }

    /// Moves flows across the level until each is on its side of it.
    fn relevel(&mut self) {
        if !self.dirty || self.is_unlimited {
            return;
        }
        self.dirty = false;
        while let Some(&(cap, slot)) = self.capped_by_cap.last() {
            if !self.is_above_level(cap) {
                break;
            }
            let left = self.take(slot);
            self.put_level(slot, left);
        }
        while let Some(&(cap, slot)) = self.level_by_cap.first() {
            if self.is_above_level(cap) {
                break;
            }
            let left = self.take(slot);
            self.put_capped(slot, left);
        }
        self.dirty = false;
        self.level = self.share().unwrap_or(self.capacity);
        let taken = self.caps_sum + self.level_by_end.len() as u128 * u128::from(self.level.microbytes_per_s());
        assert!(taken <= u128::from(self.capacity.microbytes_per_s()), "rates exceed the capacity of the link");
    }

    /// What each flow that is not capped gets; `None` without such flows.
    fn share(&self) -> Option<Rate> {
        let flows = self.level_by_end.len() as u64;
        let rest = u128::from(self.capacity.microbytes_per_s()).saturating_sub(self.caps_sum) as u64;
        (flows > 0).then(|| Rate::from_microbytes_per_s(rest / flows))
    }

    /// Whether a flow of this cap must run at the level rather than at its cap.
    fn is_above_level(&self, cap: Rate) -> bool {
        match self.share() {
            Some(share) => cap > share,
            None => self.caps_sum > u128::from(self.capacity.microbytes_per_s()),
        }
    }

    fn put_capped(&mut self, slot: Slot, left: FlowWork) {
        let flow = &mut self.flows[slot as usize];
        let end = left.duration(flow.cap).map_or(Time::NEVER, |span| self.now.after(span));
        flow.state = State::Capped { left, since: self.now, end };
        self.capped_by_end.insert((end, slot));
        self.capped_by_cap.insert((flow.cap, slot));
        self.caps_sum += u128::from(flow.cap.microbytes_per_s());
    }

    fn put_level(&mut self, slot: Slot, left: FlowWork) {
        let flow = &mut self.flows[slot as usize];
        let end = self.progress + left.0;
        flow.state = State::Level { end };
        self.level_by_end.insert((end, slot));
        self.level_by_cap.insert((flow.cap, slot));
    }

    /// Takes a flow out of the sets and returns what it has left.
    fn take(&mut self, slot: Slot) -> FlowWork {
        self.dirty = true;
        let flow = &self.flows[slot as usize];
        match flow.state {
            State::Capped { left, since, end } => {
                self.capped_by_end.remove(&(end, slot));
                self.capped_by_cap.remove(&(flow.cap, slot));
                self.caps_sum -= u128::from(flow.cap.microbytes_per_s());
                left.less(FlowWork::moved(flow.cap, self.now.since(since)))
            }
            State::Level { end } => {
                self.level_by_end.remove(&(end, slot));
                self.level_by_cap.remove(&(flow.cap, slot));
                FlowWork(end.saturating_sub(self.progress))
            }
            State::Free => panic!("a flow ends once"),
        }
    }

    fn release(&mut self, slot: Slot) {
        self.flows[slot as usize].state = State::Free;
        self.free.push(slot);
    }

    /// The instant up to which the link was played.
    pub fn now(&self) -> Time {
        self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1_000_000;

    fn bytes_rate(bytes: u64) -> Rate {
        Rate::from_bytes_per_s(bytes)
    }

    /// Runs the link until it is empty; returns (end, flow) in order.
    fn play(link: &mut SharedLink) -> Vec<(u64, FlowId)> {
        let mut order = Vec::new();
        while let Some(end) = link.next_end() {
            let mut ended = Vec::new();
            link.take_ended(end, &mut ended);
            assert!(!ended.is_empty());
            order.extend(ended.into_iter().map(|id| (end.0, id)));
        }
        order
    }

    #[test]
    fn a_lone_flow_runs_at_the_slower_of_cap_and_capacity() {
        for (cap, seconds) in [(1, 8), (2, 4), (9, 2)] {
            let mut link = SharedLink::new(bytes_rate(4 * MB));
            link.insert(Time::ZERO, 7, bytes_rate(cap * MB), FlowWork::of_bytes(8 * MB));
            assert_eq!(play(&mut link), [(seconds * 1_000_000_000, 7)]);
        }
    }

    /// 10 MB/s; caps 2, 6, 9; 20 MB each: rates 2, 4, 4 until 5 s, then the first flow alone at 2 until 10 s.
    #[test]
    fn a_capped_flow_leaves_its_rest_to_the_others() {
        let mut link = SharedLink::new(bytes_rate(10 * MB));
        for (id, cap) in [(1, 2), (2, 6), (3, 9)] {
            link.insert(Time::ZERO, id, bytes_rate(cap * MB), FlowWork::of_bytes(20 * MB));
        }
        assert_eq!(play(&mut link), [(5_000_000_000, 2), (5_000_000_000, 3), (10_000_000_000, 1)]);
    }

    /// Processor sharing: 2 flows of 10 MB at 10 MB/s, the second after 0.5 s: 0.5 alone, then 1 s shared, 0.5 alone.
    #[test]
    fn an_arrival_slows_the_flow_before_it() {
        let mut link = SharedLink::new(bytes_rate(10 * MB));
        link.insert(Time::ZERO, 1, bytes_rate(99 * MB), FlowWork::of_bytes(10 * MB));
        link.insert(Time(500_000_000), 2, bytes_rate(99 * MB), FlowWork::of_bytes(10 * MB));
        assert_eq!(play(&mut link), [(1_500_000_000, 1), (2_000_000_000, 2)]);
    }

    #[test]
    fn an_outage_stops_flows_and_its_end_lets_them_go_on() {
        let mut link = SharedLink::new(bytes_rate(10 * MB));
        let slot = link.insert(Time::ZERO, 1, bytes_rate(5 * MB), FlowWork::of_bytes(10 * MB));
        link.set_capacity(Time::from_secs(1), Rate::ZERO);
        assert_eq!(link.next_end(), None);
        link.set_capacity(Time::from_secs(3), bytes_rate(MB));
        assert_eq!(link.next_end(), Some(Time::from_secs(8)));
        assert_eq!(link.remove(Time::from_secs(4), slot).bytes_left(), 4 * MB);
        assert!(link.is_empty());
    }
}
