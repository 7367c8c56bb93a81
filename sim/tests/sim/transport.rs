//! Headers and slow start in whole runs, against timelines worked out by hand.

use crate::world::*;
use fedreplay_sim::*;

const S: u64 = 1_000_000_000;

/// Half as many bytes again on the wire, and 200 bytes a message.
const HALF_MORE: Overhead = Overhead { wire: 3, payload: 2, message_bytes: 200 };

/// One client: 1 MB down at 1 MB/s, 2 s of training, 1 MB up at 0.5 MB/s, without any overhead.
fn lone(transport: Transport) -> Federation {
    let mut world = federation(1, synchronous(1, 0, None), 1);
    world.links[0].transport = transport;
    world
}

#[test]
fn headers_take_time_and_are_counted_apart() {
    let run = play(lone(Transport { overhead: HALF_MORE, ..Transport::default() }));
    let task = run.tasks[0];
    // 1,500,200 bytes at 1 and at 0.5 MB/s.
    assert_eq!(task.download_done_at, Some(Time(1_500_200_000)));
    assert_eq!(task.upload_done_at, Some(Time(1_500_200_000 + 2 * S + 3_000_400_000)));
    assert_eq!((task.bytes_down, task.bytes_up), (1_000_000, 1_000_000));
    assert_eq!((task.wire_bytes_down, task.wire_bytes_up), (1_500_200, 1_500_200));
    let round = run.rounds.last().unwrap();
    assert_eq!((round.bytes_up, round.wire_bytes_down, round.wire_bytes_up), (1_000_000, 1_500_200, 1_500_200));
}

#[test]
fn a_connection_loses_time_before_it_has_its_rate() {
    // A round trip of 0.2 s. Down, windows of 100 and 200 kB take 0.1 and 0.2 s of it, so that 0.2 + 0.1 s are lost. Up they take 0.2 s,
    // so that the first one fills the link.
    let connection = Connection { handshakes: 1, initial_window: Some(100_000) };
    let mut world = lone(Transport { connection, ..Transport::default() });
    world.links[0].latency = Span::from_millis(100);
    let task = play(world).tasks[0];
    assert_eq!(task.download_done_at, Some(Time(1_000_000_000 + 100_000_000 + 300_000_000)));
    assert_eq!(task.upload_done_at, Some(Time(1_400_000_000 + 2 * S + 2_000_000_000 + 100_000_000 + 200_000_000)));
}

/// The upload begins at 3,500,200,000 ns. At 5 s it has moved 749,900 of 1,500,200 bytes on the wire, so that 750,300 are left: 500,200 of
/// the message, and 499,800 have moved.
#[test]
fn an_interrupted_message_continues_with_headers_of_its_own() {
    for (interruption, wire, up_again) in [
        (Interruption::Resume, 749_900 + 750_300 + 200, 750_300 + 200),
        (Interruption::Restart, 749_900 + 1_500_200, 1_500_200),
    ] {
        let mut world = lone(Transport { overhead: HALF_MORE, ..Transport::default() });
        let online = [(0, 5), (10, 100)].map(|(from, until)| (Time::from_secs(from), Time::from_secs(until)));
        world.availabilities[0] = Availability::Trace { online: online.to_vec(), period: None };
        world.interruption = interruption;
        let task = play(world).tasks[0];
        let restarted = interruption == Interruption::Restart;
        assert_eq!(task.bytes_up, if restarted { 1_499_800 } else { 1_000_000 });
        assert_eq!(task.wire_bytes_up, wire);
        assert_eq!(task.upload_done_at, Some(Time(10 * S + 2_000 * up_again)));
    }
}

#[test]
fn a_stall_delays_a_transfer_by_its_time() {
    let stalls = |share| Some(Stalls { share, span: Quantiles::new(vec![7 * S, 7 * S]).unwrap() });
    let mut world = lone(Transport::default());
    world.links[0].stalls = stalls(Probability::ONE);
    let task = play(world).tasks[0];
    // Both transfers stall. They take 1 and 2 s otherwise, and the training 2 s.
    assert_eq!(task.download_done_at, Some(Time::from_secs(7 + 1)));
    assert_eq!(task.upload_done_at, Some(Time::from_secs(7 + 1 + 2 + 7 + 2)));

    // Of 600 transfers a tenth: 60, with a standard deviation of 7.3. What stalls does not change what else is drawn.
    let mut world = federation(1, synchronous(1, 0, None), 300);
    world.links[0].latency_jitter = Quantiles::new(vec![0, 1_000_000, 90_000_000]);
    let smooth = play(world.clone());
    world.links[0].stalls = stalls(Probability::from_f64(0.1).unwrap());
    let mut stalled = 0;
    for (smooth, task) in smooth.tasks.iter().zip(play(world).tasks) {
        let took = |task: &TaskRecord| {
            let [down, trained, up] =
                [task.download_done_at, task.training_done_at, task.upload_done_at].map(Option::unwrap);
            [down.since(task.dispatched_at).0, up.since(trained).0]
        };
        for (took, usual) in took(&task).into_iter().zip(took(smooth)) {
            assert!(took == usual || took == usual + 7 * S, "{took} beside {usual}");
            stalled += usize::from(took > usual);
        }
    }
    assert!((38..=82).contains(&stalled), "{stalled} of 600");
}

/// Until 1.5002 s it receives 1,500,200 bytes at 100 nJ/bit and 1 W, then it trains 2 s at 10 W, and sends as much until 6.5006 s at 400
/// nJ/bit.
#[test]
fn each_phase_has_its_energy() {
    let mut world = lone(Transport { overhead: HALF_MORE, ..Transport::default() });
    world.links[0].radio = Radio { down_pj_per_bit: 100_000, up_pj_per_bit: 400_000 };
    let task = play(world.clone()).tasks[0];
    assert_eq!(task.download_mj, 1_500 + 1_200);
    assert_eq!(task.training_mj, 20_000);
    assert_eq!(task.upload_mj, 3_000 + 4_801);
    // 2,700.36 + 20,000 + 7,801.04 mJ.
    assert_eq!(task.energy_mj, 30_501);
    // A client that leaves at 2.5002 s has trained for a second.
    world.availabilities[0] = Availability::Trace {
        online: vec![(Time::ZERO, Time(2_500_200_000)), (Time::from_secs(9), Time::from_secs(99))],
        period: None,
    };
    world.interruption = Interruption::Abandon;
    let left = play(world).tasks[0];
    assert_eq!(left.outcome, Outcome::Left);
    assert_eq!([left.download_mj, left.training_mj, left.upload_mj], [2_700, 10_000, 0]);
}

/// Two clients share 1 MB/s of the server: it carries their headers too.
#[test]
fn headers_share_the_servers_link() {
    let mut world = federation(2, synchronous(2, 0, None), 1);
    world.links[0].transport.overhead = HALF_MORE;
    world.network = Network::Server {
        egress: Capacity::constant(Rate::from_bits_per_s(8_000_000)),
        ingress: Capacity::constant(Rate::from_bits_per_s(1_000_000_000)),
    };
    for task in play(world).tasks {
        assert_eq!(task.download_done_at, Some(Time(2 * 1_500_200_000)));
    }
}

#[test]
fn an_impossible_transport_is_refused() {
    let fewer = Overhead { wire: 1, payload: 2, message_bytes: 0 };
    let no_window = Connection { handshakes: 0, initial_window: Some(0) };
    for (transport, field) in [
        (Transport { overhead: fewer, ..Transport::default() }, "overhead"),
        (Transport { connection: no_window, ..Transport::default() }, "initial_window"),
    ] {
        let error = Simulation::new(lone(transport)).err().unwrap().to_string();
        assert!(error.contains(field), "{error}");
    }
}
