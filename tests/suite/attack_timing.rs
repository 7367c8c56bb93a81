//! Attackers that choose when their updates arrive: always first, or together in one buffer.

use std::collections::{BTreeMap, BTreeSet};

use fedreplay::ledger::{PopulationRow, RunTables, TableView};

use super::attacks::{ALL, UNIFORM, run};
use super::methods::PROTOCOLS;
use super::recomputed::{self, Optimizer};
use super::support::World;

/// Two of six clients.
const ATTACKERS: [u64; 2] = [1, 4];
const BUFFERED: &str = "Buffered(concurrency: 6, buffer_size: 3)";

fn attackers(timing: &str) -> String {
    format!(r#"clients: Ids(["user-1", "user-4"]), attack: SignFlip(), timing: {timing}"#)
}

fn tasks(world: &World, out: &str) -> TableView {
    RunTables::read(&world.path(out)).expect("tables").tasks().expect("tasks")
}

/// Returns the clients of the updates that counted, by the version that they counted in.
fn counted(world: &World, out: &str) -> BTreeMap<u64, Vec<u64>> {
    let tasks = tasks(world, out);
    let clients = tasks.counts("client").expect("clients");
    let versions = tasks.counts_or_none("counted_in_version").expect("versions");
    let mut counted: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for (client, version) in clients.into_iter().zip(versions) {
        if let Some(version) = version {
            counted.entry(version).or_default().push(client);
        }
    }
    counted
}

#[test]
fn attackers_that_are_always_first_take_the_places_of_others() {
    let world = World::new();
    // Six clients are asked, or have tasks at any time, and two or three updates make a version.
    let over_selected = "Synchronous(clients_per_round: 2, over_selection: 4)";
    for (name, protocol) in [("synchronous", over_selected), ("buffered", BUFFERED)] {
        for (kind, network) in [("unlimited", "network=Unlimited"), ("shared", "server.uplink=1 Mbit/s")] {
            let honest = format!("{name}-{kind}-honest");
            run(&world, &honest, [UNIFORM, protocol, &attackers("Honest")], &[network]).succeeded();
            assert!(counted(&world, &honest).values().flatten().any(|client| !ATTACKERS.contains(client)), "{honest}");
            let out = format!("{name}-{kind}");
            run(&world, &out, [UNIFORM, protocol, &attackers("AlwaysFirst")], &[network]).succeeded();
            let counted = counted(&world, &out);
            assert_eq!(counted.len(), 2, "{out}");
            assert!(counted.values().flatten().all(|client| ATTACKERS.contains(client)), "{out}: {counted:?}");
            assert!(world.fedreplay(&["verify", &out]).succeeded().stdout.starts_with("whole: "));
        }
    }
}

/// At 100 Tbit/s a byte takes 0.08 ps, at 10^18 FLOP/s an operation 1 as; each phase takes whole nanoseconds, at least one.
#[test]
fn attackers_that_are_always_first_have_the_stated_device_and_link() {
    let world = World::new();
    run(&world, "run", [UNIFORM, ALL, &attackers("AlwaysFirst")], &["network=Unlimited"]).succeeded();
    let tasks = tasks(&world, "run");
    let column = |name: &str| tasks.counts(name).expect("counts");
    let [clients, began, down, up, flops] =
        ["client", "dispatched_at_ns", "bytes_down", "bytes_up", "compute_flops"].map(column);
    let arrived = tasks.counts_or_none("upload_done_at_ns").expect("times");
    let mut checked = 0;
    for task in (0..clients.len()).filter(|&task| ATTACKERS.contains(&clients[task])) {
        let transfers = (down[task] * 8).div_ceil(100_000) + (up[task] * 8).div_ceil(100_000);
        let training = flops[task].div_ceil(1_000_000_000).max(1);
        assert_eq!(arrived[task], Some(began[task] + transfers + training), "task {task}");
        checked += 1;
    }
    assert_eq!(checked, 4, "two attackers in two rounds");
    let population = TableView::read::<PopulationRow>(&world.path("run")).expect("a population");
    let speeds = population.counts("flops_per_second").expect("speeds");
    let latencies = population.counts("latency_ns").expect("latencies");
    for client in 0..6 {
        let is_first = ATTACKERS.contains(&(client as u64));
        assert_eq!(speeds[client] == 1_000_000_000_000_000_000, is_first, "{client}");
        assert_eq!(latencies[client], 0);
    }
    assert_eq!(population.names("device").expect("names"), ["quick"; 6]);
}

#[test]
fn attackers_of_one_buffer_arrive_together_and_count_in_one_version() {
    let world = World::new();
    // The versions of updates that arrived at one instant, of all attackers' updates.
    let together = |out: &str| {
        let tasks = tasks(&world, out);
        let clients = tasks.counts("client").expect("clients");
        let arrived = tasks.counts_or_none("upload_done_at_ns").expect("times");
        let versions = tasks.counts_or_none("counted_in_version").expect("versions");
        let mut instants: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for task in (0..clients.len()).filter(|&task| ATTACKERS.contains(&clients[task])) {
            if let (Some(at), Some(version)) = (arrived[task], versions[task]) {
                instants.entry(at).or_default().push(version);
            }
        }
        instants.into_values().collect::<Vec<Vec<u64>>>()
    };
    run(&world, "honest", [UNIFORM, BUFFERED, &attackers("Honest")], &["rounds=5"]).succeeded();
    assert!(together("honest").iter().all(|versions| versions.len() == 1), "{:?}", together("honest"));
    run(&world, "run", [UNIFORM, BUFFERED, &attackers("SameBuffer")], &["rounds=5"]).succeeded();
    let found = together("run");
    assert!(!found.is_empty() && found.iter().all(|versions| versions.len() == 2 && versions[0] == versions[1]));
    let of_attackers: BTreeSet<u64> = found.iter().map(|versions| versions[0]).collect();
    assert!(of_attackers.len() < counted(&world, "run").len(), "other versions have no update of theirs");
    // Models are those of the formulas, with the staleness that the waiting costs.
    let mut optimizer = Optimizer::new("FedAdam");
    run(&world, "adam", ["FedAdam()", BUFFERED, &attackers("SameBuffer")], &["rounds=5"]).succeeded();
    assert_eq!(recomputed::check(&world.path("adam"), &world.path("store"), "buffered", &mut optimizer), 5);
    for command in [&["verify", "run"][..], &["replay", "run", "--store", "none"]] {
        world.fedreplay(command).succeeded();
    }
}

#[test]
fn one_buffer_is_refused_where_there_is_none() {
    let world = World::new();
    for (name, protocol) in PROTOCOLS.iter().filter(|(name, _)| !["buffered", "asynchronous"].contains(name)) {
        let said = run(&world, name, [UNIFORM, protocol, &attackers("SameBuffer")], &[]);
        said.refused(2, &["attackers.timing", "SameBuffer needs the buffer of server.protocol: Buffered"]);
        run(&world, name, [UNIFORM, protocol, &attackers("AlwaysFirst")], &["rounds=1"]).succeeded();
    }
}
