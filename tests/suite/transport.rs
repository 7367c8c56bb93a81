//! Headers, handshakes, slow start and radios of links in scenarios: virtual time by hand, bytes on the wire, energy, and what is refused.

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, UInt64Type};
use arrow::record_batch::RecordBatch;
use fedreplay::ledger::read_table;

use super::support::{Said, World};

/// The link of the small world.
const LINK: &str = r#""home": (down: "20 Mbit/s", up: "4 Mbit/s", latency: "20ms")"#;

/// The small world with further fields of its link, of which every transfer has the whole to itself.
fn world(more: &str) -> World {
    let world = World::new();
    let link = format!(r#""home": (down: "20 Mbit/s", up: "4 Mbit/s", latency: "20ms", {more})"#);
    world.edit("scenario.ron", LINK, &link);
    world.edit("scenario.ron", "rounds: 3,", "rounds: 3, network: Unlimited,");
    for way in ["downlink", "uplink"] {
        world.edit("scenario.ron", &format!("        {way}: \"10 Mbit/s\",\n"), "");
    }
    world
}

/// Its tasks, and what `plan` says.
fn planned(more: &str) -> (RecordBatch, Said) {
    let world = world(more);
    let said = world.fedreplay(&["plan", "scenario.ron", "--out", "plan"]).succeeded();
    (read_table(&world.path("plan"), "tasks").expect("a table"), said)
}

fn counts(tasks: &RecordBatch, column: &str) -> Vec<u64> {
    tasks[column].as_primitive::<UInt64Type>().values().to_vec()
}

/// [ns] -- The time from dispatch to the end of the download, of tasks that have one.
fn downloads(tasks: &RecordBatch) -> Vec<i64> {
    let time = |column: &str| tasks[column].as_primitive::<Int64Type>().clone();
    let pairs = time("dispatched_at_ns").iter().zip(time("download_done_at_ns").iter()).collect::<Vec<_>>();
    pairs.into_iter().filter_map(|(from, until)| Some(until? - from?)).collect()
}

#[test]
fn headers_and_slow_start_take_virtual_time() {
    let (ideal, _) = planned("");
    let message = counts(&ideal, "bytes_down")[0];
    assert_eq!(counts(&ideal, "wire_bytes_down"), counts(&ideal, "bytes_down"));
    let ns_of = |bytes: u64| (bytes * 400) as i64;
    assert!(downloads(&ideal).iter().all(|&took| took == 20_000_000 + ns_of(message)));

    let (tcp, said) = planned(r#"transport: (overhead: Tc, handshakes: 1, initial_window: "14480 B")"#);
    let on_wire = (message * 1514).div_ceil(1448);
    // A round trip of 40 ms is 100 kB: windows of 14,480 to 57,920 bytes do not fill it.
    let mut lost = 40_000_000;
    let mut sent = 0;
    for window in [14_480, 28_960, 57_920] {
        lost += if sent + window < on_wire { 40_000_000 - ns_of(window) } else { 0 };
        sent += window;
    }
    assert!(on_wire > 14_480, "slow start shows only in a message of more than a window");
    assert!(downloads(&tcp).iter().all(|&took| took == 20_000_000 + lost + ns_of(on_wire)));
    assert!(counts(&tcp, "wire_bytes_down").contains(&on_wire) && counts(&tcp, "bytes_down").contains(&message));
    assert!(said.summary("moved").contains("; on the wire "), "{}", said.stdout);
}

#[test]
fn stalls_of_a_link_take_virtual_time() {
    let (ideal, _) = planned("");
    let message = counts(&ideal, "bytes_down")[0];
    let (stalled, _) = planned(r#"stalls: (share: 1, median: "3s")"#);
    let expected = 3_000_000_000 + 20_000_000 + (message * 400) as i64;
    let found = downloads(&stalled);
    assert!(!found.is_empty() && found.iter().all(|&took| took == expected), "{found:?}, not {expected}");
    world(r#"stalls: (share: 1.5, median: "3s")"#)
        .fedreplay(&["plan", "scenario.ron"])
        .refused(2, &["scenario.ron:", "1.5 is out of range"]);
}

#[test]
fn a_run_tells_bytes_on_the_wire_and_energy_by_phase() {
    let world = world("transport: (overhead: EthernetHttp2), radio: (down: 50, up: 400)");
    world.run("run", &[]).succeeded();
    let shown = world.fedreplay(&["show", "run"]).succeeded();
    assert!(shown.stdout.contains("; on the wire "), "{}", shown.stdout);
    let [tasks, rounds] = ["tasks", "rounds"].map(|table| read_table(&world.path("run"), table).expect("a table"));
    assert!(counts(&rounds, "wire_bytes_up").iter().sum::<u64>() > counts(&rounds, "bytes_up").iter().sum());
    let columns = ["energy_mj", "download_mj", "training_mj", "upload_mj"].map(|column| counts(&tasks, column));
    for at in 0..tasks.num_rows() {
        let parts: u64 = columns[1..].iter().map(|column| column[at]).sum();
        assert!((parts..=parts + 2).contains(&columns[0][at]), "task {at}");
        // 50 nJ for each bit received.
        assert!(columns[1][at] >= counts(&tasks, "wire_bytes_down")[at] * 8 * 50 / 1_000_000, "task {at}");
    }
    world.fedreplay(&["verify", "run"]).succeeded();
}

#[test]
fn an_edge_has_a_transport_of_its_own() {
    let moved = |transport: &str| {
        let world = world("");
        let edge = format!(
            r#"protocol: Hierarchical(edges: [(region: "here", down: "8 Mbit/s", up: "8 Mbit/s", downlink: "9 Mbit/s",
            uplink: "9 Mbit/s"{transport})], edge_rounds: 1, clients_per_round: 2),"#
        );
        let synchronous = r#"protocol: Synchronous(clients_per_round: 2, over_selection: 2, deadline: "10m"),"#;
        world.edit("scenario.ron", synchronous, &edge);
        for device in ["quick", "slow"] {
            let at = format!("device: \"{device}\", link: \"home\"");
            world.edit("scenario.ron", &at, &format!("{at}, region: \"here\""));
        }
        world.fedreplay(&["plan", "scenario.ron", "--out", "plan"]).succeeded();
        let rounds = read_table(&world.path("plan"), "rounds").expect("a table");
        let last = rounds.num_rows() - 1;
        ["bytes_down", "wire_bytes_down"].map(|column| counts(&rounds, column)[last])
    };
    let [bytes, on_wire] = moved("");
    assert_eq!(bytes, on_wire);
    assert_eq!(
        moved(", transport: (overhead: Custom(factor: 1.5, message: \"7 B\"))"),
        [bytes, (3 * bytes).div_ceil(2) + 7]
    );
}

#[test]
fn impossible_transports_are_refused() {
    for (more, parts) in [
        ("transport: (overhead: Custom(factor: 0.9))", ["0.9", "from 1 to 1000"]),
        ("transport: (overhead: Token)", ["Token", "Ethernet"]),
        ("transport: (overhead: Ideal, handshakes: 101)", ["101", "from 0 to 100"]),
        ("transport: (overhead: Ideal, initial_window: \"0 B\")", ["initial_window", "0"]),
        ("radio: (down: -1, up: 0)", ["-1", "at least 0"]),
    ] {
        let said = world(more).fedreplay(&["plan", "scenario.ron"]).refused(2, &parts);
        assert_eq!(said.stderr.lines().count(), 1, "{}", said.stderr);
    }
}
