//! Translation of a link's transport protocol into the simulator's integers.

use fedreplay_sim as sim;

use crate::scenario::schema::{Overhead, Radio, Transport};

/// [byte] -- On the wire for each [`SEGMENT`] bytes of a message, over Ethernet: TCP's header with time stamps (32), IPv4's (20), and the
/// frame's header (14), checksum (4), preamble (8) and gap (12).
const ETHERNET: u64 = SEGMENT + 32 + 20 + 14 + 4 + 8 + 12;
/// [byte] -- The same without checksum, preamble and gap, as the queue of a network interface has it.
const QUEUED: u64 = SEGMENT + 32 + 20 + 14;
/// [byte] -- Part of a message in one packet of 1500 bytes.
const SEGMENT: u64 = 1448;
/// [byte] -- Greatest payload of a frame of HTTP/2 that any peer accepts (RFC 9113, section 4.2).
const FRAME: u64 = 16_384;
/// [byte] -- Header of such a frame (RFC 9113, section 4.1).
const FRAME_HEADER: u64 = 9;
/// [byte] -- What gRPC puts before each message: a flag and the length.
const MESSAGE_PREFIX: u64 = 5;
/// Precision of a factor of one's own.
const BILLION: u64 = 1_000_000_000;

/// Returns the simulated protocol.
pub(super) fn transport(transport: &Transport) -> sim::Transport {
    let initial_window = transport.initial_window.map(|window| window.0);
    let connection = sim::Connection { handshakes: transport.handshakes, initial_window };
    sim::Transport { overhead: overhead(&transport.overhead), connection }
}

/// Returns the simulated radio.
pub(super) fn radio(radio: &Radio) -> sim::Radio {
    // From [nJ] to [pJ].
    let [down_pj_per_bit, up_pj_per_bit] = [radio.down, radio.up].map(|energy| (energy * 1e3).round() as u64);
    sim::Radio { down_pj_per_bit, up_pj_per_bit }
}

/// Returns the overhead of packets that take these bytes each.
fn packets(wire: u64) -> sim::Overhead {
    sim::Overhead { wire, payload: SEGMENT, message_bytes: 0 }
}

fn overhead(overhead: &Overhead) -> sim::Overhead {
    match *overhead {
        Overhead::Ideal => sim::Overhead::NONE,
        Overhead::Ethernet => packets(ETHERNET),
        Overhead::Tc => packets(QUEUED),
        Overhead::EthernetHttp2 => in_frames(packets(ETHERNET)),
        Overhead::TcHttp2 => in_frames(packets(QUEUED)),
        Overhead::Custom { factor, message } => {
            let wire = (factor * BILLION as f64).round() as u64;
            sim::Overhead { wire, payload: BILLION, message_bytes: message.map_or(0, |bytes| bytes.0) }
        }
    }
}

/// Returns the overhead of gRPC's messages in frames of HTTP/2, within packets.
fn in_frames(packets: sim::Overhead) -> sim::Overhead {
    sim::Overhead {
        wire: packets.wire * (FRAME + FRAME_HEADER),
        payload: packets.payload * FRAME,
        message_bytes: packets.wire_bytes(MESSAGE_PREFIX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_its_bytes_on_the_wire() {
        let bytes = |spec| overhead(&spec).wire_bytes(5_046_272);
        // By hand: 5,046,272 / 1448 = 3,484.99; 308 frames of 16,384 have 2,772 bytes of headers.
        assert_eq!(bytes(Overhead::Ideal), 5_046_272);
        assert_eq!(bytes(Overhead::Ethernet), 5_359_922);
        assert_eq!(bytes(Overhead::Tc), 5_276_282);
        assert_eq!(bytes(Overhead::EthernetHttp2), 5_362_866 + 6);
        assert_eq!(bytes(Overhead::TcHttp2), 5_279_180 + 6);
        let message = Some("100 B".parse().expect("a number of bytes"));
        assert_eq!(bytes(Overhead::Custom { factor: 1.25, message }), 6_307_840 + 100);
    }
}
