//! Flows over any topology, max-min fair by weight, by progressive filling. More general than a shared link, and slower.

use super::bundle::{Bundle, FlowId, Flows};
use super::filling::{Claim, Demand, max_min_rates};
use super::{FlowWork, Rate};
use crate::kernel::{Span, Time};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Flows of one route, cap and weight, with their current rate.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Stream {
    claim: Claim,
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
    /// Streams without flows, for reuse.
    free: Vec<u32>,
    stream_of: BTreeMap<(u32, Claim), u32>,
    /// Whether the rates are out of date. Changes of one instant are solved together.
    is_dirty: bool,
}

impl Mesh {
    /// Returns an idle network at time zero, with links of these capacities, and with routes as lists of links.
    pub fn new(capacities: Vec<Rate>, routes: Vec<Vec<u32>>) -> Self {
        Self {
            capacities,
            routes,
            now: Time::ZERO,
            flows: Flows::default(),
            streams: Vec::new(),
            free: Vec::new(),
            stream_of: BTreeMap::new(),
            is_dirty: false,
        }
    }

    /// Changes the capacity of `link` at `now`.
    pub fn set_capacity(&mut self, now: Time, link: u32, capacity: Rate) {
        self.advance(now);
        self.capacities[link as usize] = capacity;
        self.is_dirty = true;
    }

    /// Starts a flow on `route` at `now`. Returns the slot by which it can be removed.
    ///
    /// # Panics
    /// If the work, cap or weight is zero.
    pub fn insert(&mut self, now: Time, id: FlowId, route: u32, claim: Claim, work: FlowWork) -> u32 {
        assert!(work.0 > 0 && claim.cap > Rate::ZERO, "a flow has work and a cap above zero");
        assert!(claim.weight > 0, "a flow has a weight above zero");
        self.advance(now);
        let index = match self.stream_of.get(&(route, claim)) {
            Some(index) => *index,
            None => self.add_stream(route, claim),
        };
        self.is_dirty = true;
        self.streams[index as usize].bundle.insert(&mut self.flows, id, work)
    }

    /// Removes the flow in `slot` at `now` and returns its remaining work.
    pub fn remove(&mut self, now: Time, slot: u32) -> FlowWork {
        self.advance(now);
        self.is_dirty = true;
        let index = self.flows.bundle_of(slot);
        let left = self.streams[index as usize].bundle.remove(&mut self.flows, slot);
        self.free_if_empty(index);
        left
    }

    /// Returns the time at which the next flow ends; `None` if there are no flows, or all have rate zero.
    pub fn next_end(&mut self) -> Option<Time> {
        self.solve();
        let mut shortest: Option<Span> = None;
        for stream in &mut self.streams {
            let Some(left) = stream.bundle.least_left(&self.flows) else { continue };
            let Some(span) = left.duration(stream.rate) else { continue };
            shortest = Some(shortest.map_or(span, |other| other.min(span)));
        }
        shortest.map(|span| self.now.after(span))
    }

    /// Removes all flows that have ended by `now` and appends their identifiers to `ended`, ascending.
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

    /// Returns the identifier and current rate of each flow, ascending by identifier, for checks and reports.
    pub fn rates(&mut self) -> Vec<(FlowId, Rate)> {
        self.solve();
        let mut rates: Vec<_> =
            self.flows.iter().map(|(id, stream)| (id, self.streams[stream as usize].rate)).collect();
        rates.sort_unstable();
        rates
    }

    /// Adds an empty stream, in a free place if there is one, and returns its index.
    fn add_stream(&mut self, route: u32, claim: Claim) -> u32 {
        let index = self.free.pop().unwrap_or(self.streams.len() as u32);
        let stream = Stream { claim, route, rate: Rate::ZERO, bundle: Bundle::new(index) };
        match self.streams.get_mut(index as usize) {
            Some(place) => *place = stream,
            None => self.streams.push(stream),
        }
        self.stream_of.insert((route, claim), index);
        index
    }

    /// Frees a stream if it has no flows.
    fn free_if_empty(&mut self, index: u32) {
        let stream = &self.streams[index as usize];
        if stream.bundle.len() == 0 {
            self.stream_of.remove(&(stream.route, stream.claim));
            self.free.push(index);
        }
    }

    /// Advances all flows to `now` at the current rates.
    fn advance(&mut self, now: Time) {
        if now == self.now {
            return;
        }
        // Changes made at the instant that ends here are still to be solved: their rates hold from then until `now`.
        self.solve();
        let passed = now.since(self.now);
        for stream in &mut self.streams {
            stream.bundle.advance(FlowWork::moved(stream.rate, passed));
        }
        self.now = now;
    }

    /// Computes the rates of all streams, if they are out of date.
    fn solve(&mut self) {
        if !std::mem::take(&mut self.is_dirty) {
            return;
        }
        let mut demands = Vec::with_capacity(self.streams.len());
        for stream in &self.streams {
            demands.push(Demand {
                count: u64::from(stream.bundle.len()),
                claim: stream.claim,
                links: &self.routes[stream.route as usize],
            });
        }
        let rates = max_min_rates(&self.capacities, &demands);
        for (stream, rate) in self.streams.iter_mut().zip(rates) {
            stream.rate = rate;
        }
    }
}
