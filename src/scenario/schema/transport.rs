//! Fields of a link's transport protocol: what it adds to a message, and the time until a connection has its rate.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::quantity::Bytes;
use crate::scenario::range;

/// Transport protocol of a link's transfers. [time.md](time.md#bytes-on-the-wire) says what each choice stands for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Transport {
    /// Bytes of headers on the wire.
    pub overhead: Overhead,
    /// [1] Round trips before the first byte of a transfer: 0 on a connection that stays open, 1 for TCP's handshake, 2 with that of
    /// TLS 1.3 -- 0 to 100.
    #[serde(default, deserialize_with = "range::up_to_a_hundred")]
    pub handshakes: u32,
    /// [byte] Congestion window with which each transfer begins, and which doubles with each round trip until the link is full (slow
    /// start, RFC 5681, section 3.1); `None` begins at the full rate. RFC 6928 has ten segments: "14480 B" where a segment holds 1448 --
    /// at least 1 byte.
    #[serde(default)]
    pub initial_window: Option<Bytes>,
}

/// Energy of a device's radio, in addition to its idle power.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Radio {
    /// [nJ/bit] Energy of each bit that it receives, headers included.
    #[serde(deserialize_with = "range::non_negative")]
    pub down: f64,
    /// [nJ/bit] Energy of each bit that it sends, headers included.
    #[serde(deserialize_with = "range::non_negative")]
    pub up: f64,
}

/// Bytes that headers add to a message.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub enum Overhead {
    /// None: only the message itself moves.
    Ideal,
    /// TCP with time stamps over IPv4 in Ethernet frames of 1500 bytes: 1538 bytes of the wire's time for 1448 of the message, with
    /// preamble, checksum and gap.
    Ethernet,
    /// The same as a shaper of Linux's `tc` counts it: 1514 bytes for 1448, without preamble, checksum and gap.
    Tc,
    /// gRPC over HTTP/2 over `Ethernet`: 9 bytes for each frame of 16,384 (RFC 9113, sections 4.1 and 4.2), and 5 for each message.
    EthernetHttp2,
    /// gRPC over HTTP/2 over `Tc`.
    TcHttp2,
    /// Factors of one's own.
    Custom {
        /// [1] Bytes on the wire for each byte of a message -- 1 to 1000.
        #[serde(deserialize_with = "range::one_to_a_thousand")]
        factor: f64,
        /// [byte] Bytes on the wire that each message has in addition.
        #[serde(default)]
        message: Option<Bytes>,
    },
}
