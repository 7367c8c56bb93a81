//! Shares of links by weight in scenarios: virtual time by hand, noise by seed, and what is refused.

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, UInt32Type, UInt64Type};
use fedreplay::ledger::read_table;

use super::support::World;

/// [B/s] -- Capacity of the server's downlink in these tests.
const CAPACITY: f64 = 12_500.0;

/// The small world with a narrow server, and with links of other latencies for slow devices: 20 and 180 ms.
fn world(sharing: &str) -> World {
    let world = World::new();
    world.edit("scenario.ron", r#"downlink: "10 Mbit/s""#, r#"downlink: "100 kbit/s""#);
    let home = r#""home": (down: "20 Mbit/s", up: "4 Mbit/s", latency: "20ms"),"#;
    let far = r#""far": (down: "20 Mbit/s", up: "4 Mbit/s", latency: "180ms"),"#;
    world.edit("scenario.ron", home, &format!("{home}\n{far}"));
    world.edit("scenario.ron", r#"device: "slow", link: "home""#, r#"device: "slow", link: "far""#);
    // Each round waits for all of its downloads.
    world.edit("scenario.ron", "clients_per_round: 2, over_selection: 2", "clients_per_round: 4, over_selection: 0");
    world.edit("scenario.ron", "rounds: 3,", &format!("rounds: 3, {sharing}"));
    world
}

/// A download of the first round, in which all begin at 0: whether its client is far, its bytes, and its end [s].
struct Download {
    is_far: bool,
    bytes: f64,
    end: f64,
}

fn first_downloads(sharing: &str) -> Vec<Download> {
    let world = world(sharing);
    world.fedreplay(&["plan", "scenario.ron", "--out", "plan"]).succeeded();
    let [population, tasks] =
        ["population", "tasks"].map(|table| read_table(&world.path("plan"), table).expect("a table"));
    let latencies = population["latency_ns"].as_primitive::<Int64Type>();
    let clients = tasks["client"].as_primitive::<UInt32Type>();
    let [from, until] =
        ["dispatched_at_ns", "download_done_at_ns"].map(|column| tasks[column].as_primitive::<Int64Type>());
    let mut downloads = Vec::new();
    for row in 0..tasks.num_rows() {
        if from.value(row) == 0 {
            downloads.push(Download {
                is_far: latencies.value(clients.value(row) as usize) == 180_000_000,
                bytes: tasks["bytes_down"].as_primitive::<UInt64Type>().value(row) as f64,
                end: until.value(row) as f64 / 1e9,
            });
        }
    }
    downloads
}

/// Ends of near and of far downloads of equal sizes: the near ones have the link alone until 0.18 s, and share it then by `weight` to 1.
fn expected(downloads: &[Download], weight: f64) -> [f64; 2] {
    let bytes = downloads[0].bytes;
    let far = downloads.iter().filter(|download| download.is_far).count() as f64;
    let near = downloads.len() as f64 - far;
    assert!(near > 0.0 && far > 0.0 && bytes * near > 0.16 * CAPACITY, "{near} near, {far} far, {bytes} bytes");
    let weights = weight * near + far;
    let near_shared = (bytes - 0.16 * CAPACITY / near) / (CAPACITY * weight / weights);
    let far_left = bytes - near_shared * CAPACITY / weights;
    [0.18 + near_shared, 0.18 + near_shared + far_left * far / CAPACITY]
}

#[test]
fn near_clients_have_more_of_the_servers_link_than_far_ones() {
    // Round trips of 40 and 360 ms.
    for (sharing, weight) in
        [("", 1.0), ("network_sharing: (weights: ByRoundTrip()),", 9.0), ("network_sharing: (weights: Equal),", 1.0)]
    {
        let downloads = first_downloads(sharing);
        let ends = expected(&downloads, weight);
        for download in &downloads {
            let expected = ends[usize::from(download.is_far)];
            assert!((download.end - expected).abs() < 1e-6, "{sharing} {} s, expected {expected}", download.end);
        }
    }
    // A least round trip of 120 ms: 3 to 1.
    let downloads = first_downloads(r#"network_sharing: (weights: ByRoundTrip(least: "120ms")),"#);
    let ends = expected(&downloads, 3.0);
    assert!(downloads.iter().all(|download| (download.end - ends[usize::from(download.is_far)]).abs() < 1e-6));
}

#[test]
fn noise_gives_each_transfer_a_share_of_its_own_which_the_seed_repeats() {
    let ends = |sharing: &str| -> Vec<u64> {
        let mut ends: Vec<u64> =
            first_downloads(sharing).iter().map(|download| (download.end * 1e9).round() as u64).collect();
        ends.sort_unstable();
        ends
    };
    let noisy = ends("network_sharing: (spread: 0.3),");
    assert_eq!(noisy, ends("network_sharing: (spread: 0.3),"));
    assert!(noisy.windows(2).all(|pair| pair[0] < pair[1]), "{noisy:?}");
    let equal = ends("");
    assert!(equal.windows(2).any(|pair| pair[0] == pair[1]), "{equal:?}");
    // The last bytes of all arrive at the same time, as the link is full until then.
    assert!(noisy.last().expect("some").abs_diff(*equal.last().expect("some")) < 1_000);
}

#[test]
fn equal_shares_are_not_written_out_and_a_run_can_be_verified_with_others() {
    let world = world("network_sharing: (weights: ByRoundTrip(queue: \"41074 B\"), spread: 0.2),");
    world.run("run", &[]).succeeded();
    world.fedreplay(&["verify", "run"]).succeeded();
    let written =
        |run: &str| std::fs::read_to_string(world.path(run).join("scenario.ron")).expect("the resolved scenario");
    assert!(written("run").contains("network_sharing"));
    world.run("equal", &["--set", "network_sharing=None"]).succeeded();
    assert!(!written("equal").contains("network_sharing"));
}

#[test]
fn impossible_weights_are_refused() {
    for (sharing, parts) in [
        ("network_sharing: (weights: ByRoundTrip(least: \"0s\")),", ["network_sharing", "above 0"]),
        ("network_sharing: (spread: -0.1),", ["-0.1", "from 0 to 5"]),
        ("network_sharing: (spread: 5.1),", ["5.1", "from 0 to 5"]),
        ("network_sharing: (weights: BySize),", ["BySize", "ByRoundTrip"]),
        ("network_sharing: (weight: Equal),", ["weight", "weights"]),
    ] {
        let said = world(sharing).fedreplay(&["plan", "scenario.ron"]).refused(2, &parts);
        assert_eq!(said.stderr.lines().count(), 1, "{}", said.stderr);
    }
}
