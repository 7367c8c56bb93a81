//! The network's fields: capacities as functions of time, graphs of links, and regions that are cut off.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::super::quantity::{Duration, Rate};
use crate::scenario::range;

/// What lies between the clients' own links and the server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum Network {
    /// The server's own link in each direction: `server.downlink` and `server.uplink`.
    #[default]
    ServerLink,
    /// Nothing that is ever scarce: each client moves bytes at the rate of its own link.
    Unlimited,
    /// A graph of links; transfers take the way of least latency and share each link max-min fairly.
    Topology {
        /// Node of the server.
        server: String,
        /// Node at which the clients of a region attach, by region.
        #[serde(deserialize_with = "range::unique")]
        regions: BTreeMap<String, String>,
        /// The links between nodes.
        links: Vec<GraphLink>,
    },
}

/// A link of a topology, alike in both directions unless `one_way`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GraphLink {
    /// Node that it leaves. Nodes are what links, regions and the server name.
    pub from: String,
    /// Node that it enters.
    pub to: String,
    /// [bit/s] Shared by all transfers that cross it in one direction; also as a function of time.
    pub capacity: Capacity,
    /// [time] One way.
    #[serde(default)]
    pub latency: Duration,
    /// Whether it leads from `from` to `to` only.
    #[serde(default)]
    pub one_way: bool,
}

/// A region without connection from one instant to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegionCut {
    /// Name of the region.
    pub region: String,
    /// [time] First instant of the cut.
    pub from: Duration,
    /// [time] First instant after it -- after `from`.
    pub until: Duration,
}

/// What becomes of the task of a client that goes offline, or whose region is cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Interruption {
    /// It is lost.
    #[default]
    Abandon,
    /// Training goes on; a transfer goes on from where it was when the client is back.
    Resume,
    /// Training goes on; a transfer begins again when the client is back.
    Restart,
}

/// A capacity that may change over time: `"100 Mbit/s"`, or
/// `(initial: "100 Mbit/s", changes: [("18h", "20 Mbit/s"), ("23h", "100 Mbit/s")], period: "1d")`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// [bit/s] From the start on.
    pub initial: Rate,
    /// [time, bit/s] Later values and when they begin, ascending.
    pub changes: Vec<(Duration, Rate)>,
    /// [time] If given, all repeats with this period -- longer than the last change.
    pub period: Option<Duration>,
}

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
