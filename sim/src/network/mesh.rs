//! Flows over any topology, max-min fair by progressive filling: general, and slower than one shared link.

use super::bundle::{Bundle, FlowId, Flows};
use super::filling::{Demand, max_min_rates};
use super::{FlowWork, Rate};
use crate::kernel::Time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The flows of one route and cap.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Stream {
    cap: Rate,
    route: u32,
    rate: Rate,
    bundle: Bundle,
}

/// Links with capacities, routes over them, and flows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mesh {
    capacities: Vec<Rate>,
    routes: Vec<Vec<u32>>,
    now: Time,
    flows: Flows,
    streams: Vec<Stream>,
    /// Streams without flows, to be used again.
    free: Vec<u32>,
    stream_of: BTreeMap<(u32, Rate), u32>,
    /// Whether rates are out of date. Changes of one instant are solved together.
    is_dirty: bool,
}

impl Mesh {
    /// Links of these capacities, and routes as lists of links, at time zero.
    pub fn new(capacities: Vec<Rate>, routes: Vec<Vec<u32>>) -> Self {
        let flows = Flows::default();
        let (streams, free, stream_of) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { capacities, routes, now: Time::ZERO, flows, streams, free, stream_of, is_dirty: false }
    }

    /// Changes the capacity of `link` at `now`.
    pub fn set_capacity(&mut self, now: Time, link: u32, capacity: Rate) {
        self.advance(now);
        self.capacities[link as usize] = capacity;
        self.is_dirty = true;
    }

    /// Puts a flow on `route` at `now`. Returns the slot by which to remove it.
    ///
    /// # Panics
    /// If `work` or `cap` is zero.
    pub fn insert(&mut self, now: Time, id: FlowId, route: u32, cap: Rate, work: FlowWork) -> u32 {
        assert!(work.0 > 0 && cap > Rate::ZERO, "a flow has work and a cap above zero");
        self.advance(now);
        let index = match self.stream_of.get(&(route, cap)) {
            Some(index) => *index,
            None => self.add_stream(route, cap),
        };
        self.is_dirty = true;
        self.streams[index as usize].bundle.insert(&mut self.flows, id, work)
    }

    /// Takes the flow in `slot` off at `now` and returns what it had left.
    pub fn remove(&mut self, now: Time, slot: u32) -> FlowWork {
        self.advance(now);
        self.is_dirty = true;
        let index = self.flows.bundle_of(slot);
        let left = self.streams[index as usize].bundle.remove(&mut self.flows, slot);
        self.free_if_empty(index);
        left
    }

    /// When the next flow ends; `None` if there is no flow, or none that moves.
    pub fn next_end(&mut self) -> Option<Time> {
        self.solve();
        let (now, flows) = (self.now, &self.flows);
        let end = |stream: &mut Stream| stream.bundle.least_left(flows)?.duration(stream.rate);
        self.streams.iter_mut().filter_map(end).min().map(|span| now.after(span))
    }

    /// Takes all flows off that have ended by `now`, and appends their names to `ended`, ascending.
    pub fn take_ended(&mut self, now: Time, ended: &mut Vec<FlowId>) {
        self.advance(now);
        let first = ended.len();
        for index in 0..self.streams.len() {
            let before = ended.len();
            self.streams[index].bundle.take_ended(&mut self.flows, ended);
            if ended.len() > before {
                self.is_dirty = true;
                self.free_if_empty(index as u32);
            }
        }
        ended[first..].sort_unstable();
    }

    /// The name and current rate of each flow, ascending by name: for checks and reports.
    pub fn rates(&mut self) -> Vec<(FlowId, Rate)> {
        self.solve();
        let mut rates: Vec<_> =
            self.flows.iter().map(|(id, stream)| (id, self.streams[stream as usize].rate)).collect();
        rates.sort_unstable();
        rates
    }

    fn add_stream(&mut self, route: u32, cap: Rate) -> u32 {
        let index = self.free.pop().unwrap_or(self.streams.len() as u32);
        let stream = Stream { cap, route, rate: Rate::ZERO, bundle: Bundle::new(index) };
        match self.streams.get_mut(index as usize) {
            Some(place) => *place = stream,
            None => self.streams.push(stream),
        }
        self.stream_of.insert((route, cap), index);
        index
    }

    fn free_if_empty(&mut self, index: u32) {
        let stream = &self.streams[index as usize];
        if stream.bundle.len() == 0 {
            self.stream_of.remove(&(stream.route, stream.cap));
            self.free.push(index);
        }
    }

    fn advance(&mut self, now: Time) {
        if now == self.now {
            return;
        }
        self.solve();
        let passed = now.since(self.now);
        for stream in &mut self.streams {
            stream.bundle.advance(FlowWork::moved(stream.rate, passed));
        }
        self.now = now;
    }

    fn solve(&mut self) {
        if !std::mem::take(&mut self.is_dirty) {
            return;
        }
        let demand = |stream: &Stream| (u64::from(stream.bundle.len()), stream.cap, stream.route as usize);
        let demands: Vec<Demand<'_>> = self
            .streams
            .iter()
            .map(demand)
            .map(|(count, cap, route)| Demand { count, cap, links: &self.routes[route] })
            .collect();
        let rates = max_min_rates(&self.capacities, &demands);
        self.streams.iter_mut().zip(rates).for_each(|(stream, rate)| stream.rate = rate);
    }
}
