//! Costs of transport protocols: bytes of headers, and time until a new connection has its rate.

use serde::{Deserialize, Serialize};

use super::{FlowWork, Rate};
use crate::kernel::Span;

/// Transport protocol of a link's transfers. By default it adds nothing: a transfer is its bytes at the rate of its link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transport {
    /// Bytes of headers.
    pub overhead: Overhead,
    /// Time until a transfer has its rate.
    pub connection: Connection,
}

impl Transport {
    /// Returns the time before a transfer of `bytes` has its rate: the latency of its way, and what its connection loses on a link of this
    /// rate. `latencies` are that of its way, and that of the way back.
    pub fn delay(&self, bytes: u64, rate: Rate, latencies: [Span; 2]) -> Span {
        let round_trip = Span(latencies[0].0.saturating_add(latencies[1].0));
        let lost = self.connection.lost_time(self.overhead.wire_bytes(bytes), rate, round_trip);
        Span(latencies[0].0.saturating_add(lost.0))
    }
}

/// Bytes that headers add to a message on its way: a factor, given as a ratio, and a number of bytes.
///
/// # Examples
///
/// ```
/// use fedreplay_sim::Overhead;
///
/// // 1448 bytes of payload fill an Ethernet frame with TCP and time stamps, which takes the time of 1538.
/// let ethernet = Overhead { wire: 1538, payload: 1448, message_bytes: 0 };
/// assert_eq!(ethernet.wire_bytes(1_448_000), 1_538_000);
/// assert_eq!(Overhead::NONE.wire_bytes(1_448_000), 1_448_000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overhead {
    /// Bytes on the wire for each `payload` bytes of a message; at least as many.
    pub wire: u64,
    /// At least 1.
    pub payload: u64,
    /// [byte] -- Bytes on the wire that each message has in addition.
    pub message_bytes: u64,
}

impl Overhead {
    /// No overhead: bytes of messages are all that moves.
    pub const NONE: Self = Self { wire: 1, payload: 1, message_bytes: 0 };

    /// Returns the bytes on the wire of a message of `bytes`, rounded up.
    pub fn wire_bytes(&self, bytes: u64) -> u64 {
        self.grown(bytes).saturating_add(self.message_bytes)
    }

    /// Returns the part of a message of `bytes` that is left when `wire_left` of its bytes on the wire are, rounded up: a byte that has
    /// arrived in part has not arrived. The bytes of the message's own headers come first.
    pub(crate) fn payload_left(&self, bytes: u64, wire_left: u64) -> u64 {
        let left = (u128::from(wire_left) * u128::from(self.payload)).div_ceil(u128::from(self.wire));
        u64::try_from(left).unwrap_or(u64::MAX).min(bytes)
    }

    fn grown(&self, bytes: u64) -> u64 {
        let wire = (u128::from(bytes) * u128::from(self.wire)).div_ceil(u128::from(self.payload));
        u64::try_from(wire).unwrap_or(u64::MAX)
    }

    /// Returns what is wrong with it, if anything.
    pub(crate) fn fault(&self) -> Option<String> {
        let is_fair = self.payload >= 1 && self.wire >= self.payload;
        (!is_fair).then(|| format!("{} bytes on the wire for {} bytes of a message", self.wire, self.payload))
    }
}

impl Default for Overhead {
    fn default() -> Self {
        Self::NONE
    }
}

/// Time that a transfer loses until its connection has the rate of its link. By default it loses none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Round trips before the first byte: 1 for TCP's handshake, 2 with that of TLS 1.3.
    pub handshakes: u32,
    /// [byte] -- First congestion window, which doubles with each round trip (slow start, RFC 5681, section 3.1) until the
    /// link is full; `None` for a connection that begins at its full rate. At least 1.
    pub initial_window: Option<u64>,
}

impl Connection {
    /// Returns the time that a transfer of `bytes` on the wire loses on a link of this rate and round-trip time. Without
    /// contention, the transfer takes as long as one at the full rate that begins after this time.
    ///
    /// As long as a window takes less time on the link than a round trip, the sender waits for the rest of the round trip
    /// (Cardwell, Savage and Anderson, "Modeling TCP latency", INFOCOM 2000, equations 11 to 15, without losses and with a
    /// window that doubles).
    pub fn lost_time(&self, bytes: u64, rate: Rate, round_trip: Span) -> Span {
        let mut lost = round_trip.0.saturating_mul(u64::from(self.handshakes));
        let Some(mut window) = self.initial_window else { return Span(lost) };
        let mut sent: u64 = 0;
        while window.saturating_add(sent) < bytes {
            let Some(busy) = FlowWork::of_bytes(window).duration(rate).filter(|busy| *busy < round_trip) else { break };
            lost = lost.saturating_add(round_trip.0 - busy.0);
            sent += window;
            window = window.saturating_mul(2);
        }
        Span(lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_with_the_bytes() {
        let overhead = Overhead { wire: 1514, payload: 1448, message_bytes: 5 };
        assert_eq!(overhead.wire_bytes(0), 5);
        assert_eq!(overhead.wire_bytes(1), 2 + 5);
        // An adapter of SmolLM2-135M: 5,046,272 x 1514 / 1448 = 5,276,281.3.
        assert_eq!(overhead.wire_bytes(5_046_272), 5_276_282 + 5);
        assert_eq!(overhead.wire_bytes(u64::MAX), u64::MAX);
    }

    #[test]
    fn a_message_that_has_arrived_in_part_is_left_in_part() {
        let overhead = Overhead { wire: 3, payload: 2, message_bytes: 10 };
        let left = |wire_left| overhead.payload_left(100, wire_left);
        assert_eq!(overhead.wire_bytes(100), 160);
        // The headers of the message arrive first, then three bytes for each two.
        assert_eq!([160, 151, 150, 149, 147, 1, 0].map(left), [100, 100, 100, 100, 98, 1, 0]);
        for wire_left in [0, 1, 99, 100] {
            assert_eq!(Overhead::NONE.payload_left(100, wire_left), wire_left);
        }
    }

    #[test]
    fn faults_are_named() {
        assert_eq!(Overhead::NONE.fault(), None);
        let less = Overhead { wire: 9, payload: 10, message_bytes: 0 };
        assert_eq!(less.fault().unwrap(), "9 bytes on the wire for 10 bytes of a message");
        assert!(Overhead { wire: 1, payload: 0, message_bytes: 0 }.fault().is_some());
    }

    #[test]
    fn a_window_doubles_until_the_link_is_full() {
        // 1 MB/s and a round trip of 100 ms: 100 kB fill the link. Windows of 10, 20, 40 and 80 kB take 10 to 80 ms.
        let rate = Rate::from_bytes_per_s(1_000_000);
        let tcp = Connection { handshakes: 1, initial_window: Some(10_000) };
        let lost = |bytes| tcp.lost_time(bytes, rate, Span::from_millis(100)).0 / 1_000_000;
        assert_eq!(lost(10_000), 100);
        assert_eq!(lost(10_001), 100 + 90);
        assert_eq!(lost(30_000), 100 + 90);
        assert_eq!(lost(70_001), 100 + 90 + 80 + 60);
        assert_eq!(lost(150_001), 100 + 90 + 80 + 60 + 20);
        assert_eq!(lost(1 << 40), 350);
        let open = Connection { handshakes: 0, ..tcp };
        assert_eq!(open.lost_time(70_001, rate, Span::from_millis(100)), Span::from_millis(230));
        assert_eq!(open.lost_time(1 << 40, rate, Span::ZERO), Span::ZERO);
        assert_eq!(open.lost_time(1 << 40, Rate::ZERO, Span::from_millis(100)), Span::ZERO);
        assert_eq!(Connection::default().lost_time(1 << 40, rate, Span::from_millis(100)), Span::ZERO);
    }
}
