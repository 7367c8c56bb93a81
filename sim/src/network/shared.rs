//! A link that is shared max-min fairly by flows with individual caps, by the level method.
//!
//! At any instant there is a level such that flows whose cap is at most the level run at their cap, and all others at
//! the level, `floor((C - sum of caps of capped flows) / number of others)`. Flows of one cap form a bundle, and
//! bundles cross the level one at a time, in O(log n) each. Capped bundles have fixed end times. The others all
//! progress at the same rate, so they are ordered by the value of this common progress at which their first flow ends.

use super::bundle::{Bundle, FlowId, Flows};
use super::{FlowWork, Rate};
use crate::kernel::Time;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Index of a bundle.
type Index = u32;

/// A bundle and its position relative to the level.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Class {
    cap: Rate,
    bundle: Bundle,
    side: Side,
}

/// Position of a bundle relative to the level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Side {
    /// No flows.
    Empty,
    /// Each flow runs at the cap. The bundle's progress is as of `since`; its first flow ends at `end`.
    Capped { since: Time, end: Time },
    /// Each flow runs at the level. The bundle's progress is as of common progress `since`; its first flow ends at
    /// common progress `end`.
    Level { since: u128, end: u128 },
}

/// A link with its capacity and the flows on it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SharedLink {
    capacity: Rate,
    is_unlimited: bool,
    now: Time,
    level: Rate,
    /// Common progress: the work of a flow that has run at the level from the beginning.
    progress: u128,
    /// Sum of the caps of all capped flows.
    caps_sum: u128,
    /// Number of flows at the level.
    level_flows: u64,
    flows: Flows,
    classes: Vec<Class>,
    /// Classes without flows, for reuse.
    free: Vec<Index>,
    class_of_cap: BTreeMap<Rate, Index>,
    capped_by_end: BTreeSet<(Time, Index)>,
    capped_by_cap: BTreeSet<(Rate, Index)>,
    level_by_end: BTreeSet<(u128, Index)>,
    level_by_cap: BTreeSet<(Rate, Index)>,
    /// Whether flows or capacity changed since bundles were last moved across the level. Changes of one instant are
    /// handled together: no time passes between them, so intermediate levels would transfer nothing.
    is_dirty: bool,
}

impl SharedLink {
    /// Returns an empty link of `capacity` at time zero.
    pub fn new(capacity: Rate) -> Self {
        Self {
            capacity,
            is_unlimited: false,
            now: Time::ZERO,
            level: capacity,
            progress: 0,
            caps_sum: 0,
            level_flows: 0,
            flows: Flows::default(),
            classes: Vec::new(),
            free: Vec::new(),
            class_of_cap: BTreeMap::new(),
            capped_by_end: BTreeSet::new(),
            capped_by_cap: BTreeSet::new(),
            level_by_end: BTreeSet::new(),
            level_by_cap: BTreeSet::new(),
            is_dirty: false,
        }
    }

    /// Returns a link of unlimited capacity, on which each flow runs at its cap.
    pub fn unlimited() -> Self {
        Self { is_unlimited: true, ..Self::new(Rate::MAX) }
    }

    /// Changes the capacity at `now`.
    pub fn set_capacity(&mut self, now: Time, capacity: Rate) {
        self.advance(now);
        self.capacity = capacity;
        self.is_dirty = true;
    }

    /// Starts a flow `id` at `now` that never exceeds `cap`. Returns the slot by which it can be removed.
    ///
    /// # Panics
    /// If `work` or `cap` is zero: such a flow would end at once, or never.
    pub fn insert(&mut self, now: Time, id: FlowId, cap: Rate, work: FlowWork) -> u32 {
        assert!(work.0 > 0 && cap > Rate::ZERO, "a flow has work and a cap above zero");
        self.advance(now);
        let index = self.class(cap);
        self.settle(index);
        let class = &mut self.classes[index as usize];
        let slot = class.bundle.insert(&mut self.flows, id, work);
        match class.side {
            Side::Capped { .. } => self.caps_sum += u128::from(cap.microbytes_per_s()),
            Side::Level { .. } => self.level_flows += 1,
            Side::Empty => {}
        }
        // A bundle with flows stays on its side until the next `relevel`, because the sums count it there. An empty one
        // enters on the side that is right for the current level.
        let preference = match self.classes[index as usize].side {
            Side::Empty if cap <= self.level => Preference::Capped,
            Side::Empty => Preference::Level,
            _ => Preference::Stay,
        };
        self.place(index, preference);
        slot
    }

    /// Removes the flow in `slot` at `now` and returns its remaining work.
    pub fn remove(&mut self, now: Time, slot: u32) -> FlowWork {
        self.advance(now);
        let index = self.flows.bundle_of(slot);
        self.settle(index);
        let left = self.classes[index as usize].bundle.remove(&mut self.flows, slot);
        self.uncount(index, 1);
        self.place(index, Preference::Stay);
        left
    }

    /// Returns the time at which the next flow ends; `None` if there are no flows, or all have rate zero.
    pub fn next_end(&mut self) -> Option<Time> {
        self.relevel();
        let capped = self.capped_by_end.first().map(|(end, _)| *end);
        // The end of a bundle at the level is a value of common progress; the current level turns it into a time.
        let level = self.level_by_end.first().and_then(|(end, _)| {
            let left = FlowWork(end.saturating_sub(self.progress));
            left.duration(self.level).map(|span| self.now.after(span))
        });
        capped.into_iter().chain(level).min()
    }

    /// Removes all flows that have ended by `now` and appends their identifiers to `ended`, ascending.
    ///
    /// # Panics
    /// If a capped flow ended before `now`: this must be called at the end of each flow.
    pub fn take_ended(&mut self, now: Time, ended: &mut Vec<FlowId>) {
        self.advance(now);
        let first = ended.len();
        while let Some(&(end, index)) = self.capped_by_end.first().filter(|(end, _)| *end <= now) {
            assert!(end == now, "a flow that ended at {end} was left on the link until {now}");
            self.take_ended_of(index, ended);
        }
        while let Some(&(_, index)) = self.level_by_end.first().filter(|(end, _)| *end <= self.progress) {
            self.take_ended_of(index, ended);
        }
        ended[first..].sort_unstable();
    }

    /// Returns the identifier and current rate of each flow, ascending by identifier, for checks and reports.
    pub fn rates(&mut self) -> Vec<(FlowId, Rate)> {
        self.relevel();
        let mut rates = Vec::new();
        for (id, index) in self.flows.iter() {
            let class = &self.classes[index as usize];
            let is_level = matches!(class.side, Side::Level { .. });
            rates.push((id, if is_level { self.level } else { class.cap }));
        }
        rates.sort_unstable();
        rates
    }

    /// Removes the flows of one bundle that have ended.
    fn take_ended_of(&mut self, index: Index, ended: &mut Vec<FlowId>) {
        self.settle(index);
        let before = ended.len();
        self.classes[index as usize].bundle.take_ended(&mut self.flows, ended);
        let count = ended.len() - before;
        assert!(count > 0, "a bundle is due when its first flow is");
        self.uncount(index, count as u64);
        self.place(index, Preference::Stay);
    }

    /// Advances to `now` at the current rates.
    fn advance(&mut self, now: Time) {
        if now == self.now {
            return;
        }
        // Only the common progress is updated, in O(1). Bundles are brought up to date when they are touched, by
        // `settle`.
        self.relevel();
        let passed = now.since(self.now);
        self.progress = if self.level_flows == 0 { 0 } else { self.progress + FlowWork::moved(self.level, passed).0 };
        self.now = now;
    }

    /// Moves bundles across the level until each is on the right side of it.
    fn relevel(&mut self) {
        if !self.is_dirty || self.is_unlimited {
            return;
        }
        // Each move changes the sums, and with them the share that decides the next move. First, capped bundles whose
        // cap is above the share move to the level, the greatest cap first; then bundles at the level whose cap is
        // within the share become capped, the smallest cap first.
        while let Some(&(cap, index)) = self.capped_by_cap.last().filter(|(cap, _)| self.is_above_level(*cap)) {
            self.settle(index);
            let flows = self.classes[index as usize].bundle.len();
            self.caps_sum -= u128::from(cap.microbytes_per_s()) * u128::from(flows);
            self.level_flows += u64::from(flows);
            self.place(index, Preference::Level);
        }
        while let Some(&(cap, index)) = self.level_by_cap.first().filter(|(cap, _)| !self.is_above_level(*cap)) {
            self.settle(index);
            let flows = self.classes[index as usize].bundle.len();
            self.caps_sum += u128::from(cap.microbytes_per_s()) * u128::from(flows);
            self.level_flows -= u64::from(flows);
            self.place(index, Preference::Capped);
        }
        self.is_dirty = false;
        self.level = self.share().unwrap_or(self.capacity);
        let taken = self.caps_sum + u128::from(self.level_flows) * u128::from(self.level.microbytes_per_s());
        assert!(taken <= u128::from(self.capacity.microbytes_per_s()), "rates exceed the capacity of the link");
    }

    /// Returns the rate of each flow at the level, or `None` without such flows.
    fn share(&self) -> Option<Rate> {
        if self.level_flows == 0 {
            return None;
        }
        let rest = u128::from(self.capacity.microbytes_per_s()).saturating_sub(self.caps_sum) as u64;
        Some(Rate::from_microbytes_per_s(rest / self.level_flows))
    }

    /// Returns whether a flow of this cap must run at the level and not at its cap.
    fn is_above_level(&self, cap: Rate) -> bool {
        match self.share() {
            Some(share) => cap > share,
            None => self.caps_sum > u128::from(self.capacity.microbytes_per_s()),
        }
    }

    /// Returns the class of this cap, which is created if it does not exist.
    fn class(&mut self, cap: Rate) -> Index {
        if let Some(index) = self.class_of_cap.get(&cap) {
            return *index;
        }
        let index = self.free.pop().unwrap_or(self.classes.len() as Index);
        let class = Class { cap, bundle: Bundle::new(index), side: Side::Empty };
        match self.classes.get_mut(index as usize) {
            Some(place) => *place = class,
            None => self.classes.push(class),
        }
        self.class_of_cap.insert(cap, index);
        index
    }

    /// Brings a bundle's progress up to the current time. Needed before its flows or its side change.
    fn settle(&mut self, index: Index) {
        let class = &mut self.classes[index as usize];
        match &mut class.side {
            Side::Empty => {}
            Side::Capped { since, .. } => {
                class.bundle.advance(FlowWork::moved(class.cap, self.now.since(*since)));
                *since = self.now;
            }
            Side::Level { since, .. } => {
                class.bundle.advance(FlowWork(self.progress - *since));
                *since = self.progress;
            }
        }
    }

    /// Subtracts `count` flows of a bundle from the sums.
    fn uncount(&mut self, index: Index, count: u64) {
        let class = &self.classes[index as usize];
        match class.side {
            Side::Capped { .. } => {
                self.caps_sum -= u128::from(class.cap.microbytes_per_s()) * u128::from(count);
            }
            Side::Level { .. } => self.level_flows -= count,
            Side::Empty => panic!("a bundle that lost flows had some"),
        }
    }

    /// Updates the position of a settled bundle in the four orders. A bundle that was empty also enters the sums here,
    /// on the side that is probably right; `relevel` moves it if it is not.
    fn place(&mut self, index: Index, preference: Preference) {
        self.is_dirty = true;
        let class = &mut self.classes[index as usize];
        let left = class.bundle.least_left(&self.flows);
        let old = class.side;
        let cap = class.cap;
        let capped = match (preference, old) {
            (Preference::Capped, _) => true,
            (Preference::Level, _) => false,
            (Preference::Stay, side) => matches!(side, Side::Capped { .. }),
        };
        class.side = match left {
            None => Side::Empty,
            Some(left) if capped => {
                let end = left.duration(cap).map_or(Time::NEVER, |span| self.now.after(span));
                Side::Capped { since: self.now, end }
            }
            Some(left) => Side::Level { since: self.progress, end: self.progress + left.0 },
        };
        let new = class.side;
        let flows = u64::from(class.bundle.len());
        if old == Side::Empty && capped {
            self.caps_sum += u128::from(cap.microbytes_per_s()) * u128::from(flows);
        } else if old == Side::Empty {
            self.level_flows += flows;
        }
        self.reorder(index, cap, old, new);
        if new == Side::Empty {
            self.class_of_cap.remove(&cap);
            self.free.push(index);
        }
    }

    /// Moves a bundle in the orders from its old side to its new one.
    fn reorder(&mut self, index: Index, cap: Rate, old: Side, new: Side) {
        // Most calls change nothing: a flow joined or left that was not the first to end.
        match (old, new) {
            (Side::Capped { end: old, .. }, Side::Capped { end: new, .. }) if old == new => return,
            (Side::Level { end: old, .. }, Side::Level { end: new, .. }) if old == new => return,
            _ => {}
        }
        match old {
            Side::Empty => {}
            Side::Capped { end, .. } => {
                self.capped_by_end.remove(&(end, index));
                if !matches!(new, Side::Capped { .. }) {
                    self.capped_by_cap.remove(&(cap, index));
                }
            }
            Side::Level { end, .. } => {
                self.level_by_end.remove(&(end, index));
                if !matches!(new, Side::Level { .. }) {
                    self.level_by_cap.remove(&(cap, index));
                }
            }
        }
        match new {
            Side::Empty => {}
            Side::Capped { end, .. } => {
                self.capped_by_end.insert((end, index));
                self.capped_by_cap.insert((cap, index));
            }
            Side::Level { end, .. } => {
                self.level_by_end.insert((end, index));
                self.level_by_cap.insert((cap, index));
            }
        }
    }
}

/// The side of the level on which a bundle is placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Preference {
    Stay,
    Capped,
    Level,
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
        assert_eq!(link.rates(), [(1, bytes_rate(2 * MB)), (2, bytes_rate(4 * MB)), (3, bytes_rate(4 * MB))]);
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
        assert_eq!(link.next_end(), None);
    }

    #[test]
    fn an_unlimited_link_never_slows_anyone() {
        let mut link = SharedLink::unlimited();
        for id in 0..100 {
            link.insert(Time::ZERO, id, Rate::MAX, FlowWork::of_bytes(18_446_744_073_709));
        }
        assert_eq!(play(&mut link).last(), Some(&(1_000_000_000, 99)));
    }
}
