//! Clients that go and come back, crash or are cut off, against timelines worked out by hand.

use crate::world::*;
use fedreplay_sim::*;

const S: u64 = 1_000_000_000;

fn trace(online: &[(u64, u64)]) -> Availability {
    let at = Time::from_secs;
    Availability::Trace { online: online.iter().map(|(from, until)| (at(*from), at(*until))).collect(), period: None }
}

/// One client; 1 s down, 2 s training, 2 s up without interruption.
fn lone(availability: Availability, interruption: Interruption) -> Federation {
    let mut world = federation(1, synchronous(1, 0, None), 1);
    world.availabilities[0] = availability;
    world.interruption = interruption;
    world
}

#[test]
fn interrupted_uploads_are_lost_resume_or_restart() {
    // The upload runs from 3 s; the client is away from 4 to 10 s: half of the upload is through.
    let away = || trace(&[(0, 4), (10, 100)]);
    let cases = [
        (Interruption::Abandon, 4, Outcome::Left, 500_000),
        (Interruption::Resume, 11, Outcome::Counted, 1_000_000),
        (Interruption::Restart, 12, Outcome::Counted, 1_500_000),
    ];
    for (interruption, ended, outcome, bytes_up) in cases {
        let run = play(lone(away(), interruption));
        let task = run.tasks[0];
        assert_eq!((task.ended_at, task.outcome, task.bytes_up), (Time(ended * S), outcome, bytes_up));
    }
}

#[test]
fn training_goes_on_while_the_client_is_away() {
    // Away from 2 to 9 s: trained at 3 s, upload from 9 to 11 s.
    let run = play(lone(trace(&[(0, 2), (9, 100)]), Interruption::Resume));
    let expected = [
        "0:round_opened",
        "0:dispatched:0",
        "0:download_started:0",
        "1000:downloaded:0",
        "1000:training_started:0",
        "2000:client_left:0",
        "3000:trained:0",
        "9000:client_returned:0",
        "9000:upload_started:0",
        "11000:uploaded:0",
        "11000:round_closed",
    ];
    assert_eq!(timeline(&run), expected);
}

#[test]
fn who_never_comes_back_is_lost() {
    let run = play(lone(trace(&[(0, 2)]), Interruption::Resume));
    assert_eq!((run.tasks[0].outcome, run.tasks[0].ended_at), (Outcome::Left, Time(2 * S)));
    assert_eq!(run.rounds[0].status, RoundStatus::Failed(Failure::TooFewSurvived));
}

#[test]
fn a_cut_region_stops_its_clients_only() {
    let mut world = federation(2, synchronous(2, 0, None), 1);
    world.clients[1].region = 1;
    world.region_cuts.push(RegionCut { region: 1, from: Time(4 * S), until: Time(6 * S) });
    world.interruption = Interruption::Resume;
    let run = play(world);
    let ends: Vec<(u32, u64)> = run.tasks.iter().map(|task| (task.client, task.ended_at.0 / S)).collect();
    assert_eq!(ends, [(0, 5), (1, 7)]);
    assert!(timeline(&run).contains(&"4000:region_cut".to_string()));
}

#[test]
fn the_server_asks_who_is_online_or_finds_out() {
    let make = |candidates| {
        let mut world = federation(3, synchronous(3, 0, None), 1);
        world.availabilities.push(trace(&[(50, 60)]));
        world.clients[1].availability = 1;
        world.server.candidates = candidates;
        play(world)
    };
    assert_eq!(make(Candidates::Online).tasks.len(), 2);
    let everyone = make(Candidates::Everyone);
    let unreachable = everyone.tasks.iter().find(|task| task.client == 1).unwrap();
    assert_eq!((unreachable.outcome, unreachable.ended_at, unreachable.bytes_down), (Outcome::Unreachable, Time(0), 0));
    assert_eq!(everyone.rounds[0].counted, 2);
}

#[test]
fn rounds_without_anyone_online_fail_and_are_tried_again() {
    let mut world = federation(1, synchronous(1, 0, None), 3);
    world.availabilities[0] = trace(&[(100, 200)]);
    let run = play(world);
    let rounds: Vec<(u64, RoundStatus)> = run.rounds.iter().map(|r| (r.opened_at.0 / S, r.status)).collect();
    let failed = RoundStatus::Failed(Failure::NoCandidates);
    assert_eq!(rounds, [(0, failed), (60, failed), (120, RoundStatus::Closed)]);
}

#[test]
fn crashes_lose_the_task_and_the_device_comes_back() {
    let mut world = federation(1, synchronous(1, 0, None), 40);
    world.devices[0].crashes = Some(Crashes { mean_up: Span::from_secs(12), mean_down: Span::from_secs(30) });
    let run = play(world);
    let count = |outcome| run.tasks.iter().filter(|task| task.outcome == outcome).count();
    assert!(count(Outcome::Crashed) > 3 && count(Outcome::Counted) > 3, "{:?}", run.tasks.len());
    assert_eq!(count(Outcome::Crashed) + count(Outcome::Counted), run.tasks.len());
}

#[test]
fn availability_aware_selection_asks_who_stays() {
    let mut world = federation(2, synchronous(1, 0, None), 1);
    world.availabilities = vec![trace(&[(0, 4)]), trace(&[(0, 5)])];
    world.clients[1].availability = 1;
    for seed in 0..10 {
        world.seed = Seed(seed);
        world.server.selection = Selection::AvailabilityAware;
        assert_eq!(play(world.clone()).tasks[0].client, 1);
    }
}

#[test]
fn availability_that_never_opens_is_refused() {
    let world = lone(Availability::Trace { online: vec![], period: None }, Interruption::Abandon);
    let error = Simulation::new(world).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("client 0: availability is Trace") && error.contains("opens"), "{error}");
}

/// Two regions behind one core link of 8 Mbit/s, which their downloads share; latencies of 10 and 20 ms a link.
#[test]
fn a_topology_shares_its_links_and_adds_its_latencies() {
    let mut world = federation(2, synchronous(2, 0, None), 1);
    let megabit = |rate: u64| Capacity::constant(Rate::from_bits_per_s(rate * 1_000_000));
    let link = |from, to, rate, ms| TopologyLink { from, to, capacity: megabit(rate), latency: Span::from_millis(ms) };
    let links = vec![
        link(0, 1, 8, 10),
        link(1, 0, 100, 10),
        link(1, 2, 100, 20),
        link(2, 1, 100, 20),
        link(1, 3, 100, 20),
        link(3, 1, 100, 20),
    ];
    let nodes = ["server", "core", "a", "b"].map(String::from).to_vec();
    world.network = Network::Topology(Topology { nodes, links, server: 0, regions: vec![2, 3] });
    world.clients[1].region = 1;
    let run = play(world);
    let task = run.tasks[1];
    // 30 ms, then 1 MB at 0.5 MB/s; 2 s; 30 ms, then 2 s at the client's own 4 Mbit/s.
    assert_eq!(task.download_done_at, Some(Time(2_030_000_000)));
    assert_eq!(task.upload_done_at, Some(Time(6_060_000_000)));
}

/// The first task brings the base model along.
#[test]
fn the_base_model_is_downloaded_once() {
    let mut world = federation(1, synchronous(1, 0, None), 2);
    world.works[0].first_download_bytes = 9_000_000;
    let run = play(world);
    let downloads: Vec<u64> = run.tasks.iter().map(|task| task.bytes_down).collect();
    assert_eq!(downloads, [10_000_000, 1_000_000]);
    assert_eq!(run.tasks[0].download_done_at, Some(Time(10 * S)));
}
