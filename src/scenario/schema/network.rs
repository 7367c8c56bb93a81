//! Fields of the network: capacities as functions of time, graphs of links, and cuts of regions.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::super::quantity::{Bytes, Duration, Rate};
use crate::scenario::range;

/// Network between the clients' own links and the server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum Network {
    /// The server's own link in each direction: `server.downlink` and `server.uplink`.
    #[default]
    ServerLink,
    /// No bottleneck: each client transfers at the rate of its own link.
    Unlimited,
    /// A graph of links. Transfers take the path of least latency and share each link max-min fairly, by `network_sharing`.
    Topology {
        /// Node of the server.
        server: String,
        /// Node at which the clients of a region attach, by region.
        #[serde(deserialize_with = "range::unique")]
        regions: BTreeMap<String, String>,
        /// Links between nodes.
        links: Vec<GraphLink>,
    },
}

/// Link of a topology, with equal properties in both directions unless `one_way`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GraphLink {
    /// Node at which it starts. Nodes are defined by being named in links, regions or `server`.
    pub from: String,
    /// Node at which it ends.
    pub to: String,
    /// [bit/s] Capacity shared by all transfers in one direction; may be a function of time.
    pub capacity: Capacity,
    /// [time] One-way latency.
    #[serde(default)]
    pub latency: Duration,
    /// Whether it leads only from `from` to `to`.
    #[serde(default)]
    pub one_way: bool,
}

/// Weights by which transfers share the links of the server, of a topology and of edges: on a full link, those below the rate of their
/// own link have rates in proportion to their weights. [time.md](time.md#shares-of-a-link) says when to use which.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkSharing {
    /// Weights before noise.
    #[serde(default)]
    pub weights: LinkWeights,
    /// [1] Standard deviation of the logarithm of a factor on a transfer's weight, which is log-normal with median 1 and drawn once per
    /// transfer -- 0 to 5.
    #[serde(default, deserialize_with = "range::up_to_five")]
    pub spread: f64,
}

/// Weights of transfers that share a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum LinkWeights {
    /// All transfers have the same weight.
    #[default]
    Equal,
    /// The inverse of a transfer's round-trip time, as connections of TCP Reno with equal losses share a link: the latencies of the
    /// client's link and of the network's route, both ways, without jitter.
    ByRoundTrip {
        /// [time] Least round-trip time: shorter ones count as this -- above 0.
        #[serde(default = "one_millisecond")]
        least: Duration,
        /// [byte] Bytes that wait before each link on the way of the data, the client's own included; their time at the link's capacity
        /// adds to the round-trip time. `None` has no queues. Twice SimGrid's `network/weight-S`: "41074 B" for its model LV08.
        #[serde(default)]
        queue: Option<Bytes>,
    },
}

/// Returns the default of the least round-trip time.
fn one_millisecond() -> Duration {
    Duration(1_000_000)
}

/// Interval in which a region has no connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegionCut {
    /// Name of the region.
    pub region: String,
    /// [time] First instant of the cut.
    pub from: Duration,
    /// [time] First instant after the cut -- after `from`.
    pub until: Duration,
}

/// Treatment of the task of a client that goes offline, or whose region is cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Interruption {
    /// The task is lost.
    #[default]
    Abandon,
    /// Training continues; an interrupted transfer continues where it stopped when the client is back.
    Resume,
    /// Training continues; an interrupted transfer starts over when the client is back.
    Restart,
}

/// Capacity that may change over time: `"100 Mbit/s"`, or
/// `(initial: "100 Mbit/s", changes: [("18h", "20 Mbit/s"), ("23h", "100 Mbit/s")], period: "1d")`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// [bit/s] Capacity from the start on.
    pub initial: Rate,
    /// [time, bit/s] Times of changes, ascending, with the new capacities.
    pub changes: Vec<(Duration, Rate)>,
    /// [time] Period with which everything repeats, if given -- longer than the last change.
    pub period: Option<Duration>,
}

/// Serialized form of a capacity that changes; a constant one is a plain rate.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename = "Capacity")]
struct Changing {
    initial: Rate,
    changes: Vec<(Duration, Rate)>,
    #[serde(default)]
    period: Option<Duration>,
}

impl JsonSchema for Capacity {
    fn schema_name() -> Cow<'static, str> {
        "Capacity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "title": "data rate such as \"20 Mbit/s\", or one that changes" })
    }
}

impl Serialize for Capacity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.changes.is_empty() && self.period.is_none() {
            return self.initial.serialize(serializer);
        }
        Changing { initial: self.initial, changes: self.changes.clone(), period: self.period }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Capacity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RateOrChanges)
    }
}

/// Visitor that accepts both forms of a capacity.
struct RateOrChanges;

impl<'de> Visitor<'de> for RateOrChanges {
    type Value = Capacity;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a data rate like \"20 Mbit/s\", or (initial: .., changes: [(time, rate), ..], period: ..)")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Capacity, E> {
        let initial = text.parse().map_err(E::custom)?;
        Ok(Capacity { initial, changes: vec![], period: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Capacity, A::Error> {
        let Changing { initial, changes, period } = Changing::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Capacity { initial, changes, period })
    }
}
