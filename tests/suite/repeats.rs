//! `plan --repeat`: quantiles against the distribution that a scenario states, equal tables on any number of threads, and what holds on to
//! the digest.

use std::fs;

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, UInt32Type};
use arrow::record_batch::RecordBatch;
use fedreplay::ledger::read_table;
use serde_json::Value;
use statrs::distribution::{ContinuousCDF, Normal};

use super::support::{Said, World};

/// Numbers of a column of times or counts.
fn times(rows: &RecordBatch, column: &str) -> Vec<i64> {
    rows[column].as_primitive::<Int64Type>().values().to_vec()
}

fn counts(rows: &RecordBatch, column: &str) -> Vec<u32> {
    rows[column].as_primitive::<UInt32Type>().values().to_vec()
}

fn bands(said: &Said) -> Value {
    let line = said.stdout.lines().last().expect("a line");
    serde_json::from_str::<Value>(line).expect("the last line is JSON")["bands"].clone()
}

/// The small world with one update a round, from clients of one class whose speed has a spread of 0.4, and with next to no transfers.
fn world(protocol: &str) -> World {
    let world = World::new();
    for (from, to) in [
        ("rounds: 3,", "rounds: 4, network: Unlimited,"),
        ("        downlink: \"10 Mbit/s\",\n", ""),
        ("        uplink: \"10 Mbit/s\",\n", ""),
        ("down: \"20 Mbit/s\", up: \"4 Mbit/s\", latency: \"20ms\"", "down: \"1000 Gbit/s\", up: \"1000 Gbit/s\""),
        ("(share: 1, device: \"quick\", link: \"home\"),", ""),
        (", dropout: (during_training: 0.3)", ""),
        ("evaluation: (local_baseline: true)", "evaluation: (every: 1000)"),
    ] {
        world.edit("scenario.ron", from, to);
    }
    let synchronous = r#"protocol: Synchronous(clients_per_round: 2, over_selection: 2, deadline: "10m"),"#;
    world.edit("scenario.ron", synchronous, &format!("{protocol},"));
    world
}

#[test]
fn a_deadline_is_met_as_often_as_the_jitter_says() {
    let free = world("protocol: Synchronous(clients_per_round: 1)");
    free.edit("scenario.ron", "jitter: 0.4", "jitter: 0");
    free.fedreplay(&["plan", "scenario.ron", "--out", "plan"]).succeeded();
    let tasks = read_table(&free.path("plan"), "tasks").expect("a table");
    let nominal: Vec<i64> = times(&tasks, "training_ns");
    // All clients have rows of one length, so that all tasks have one time but for some tokens; the deadline is 1.3 times the longest.
    let longest = *nominal.iter().max().expect("a task") as f64;
    let deadline = 1.3 * longest;
    let jittered = world(&format!("protocol: Synchronous(clients_per_round: 1, deadline: \"{deadline:.0}ns\")"));
    let said = jittered.fedreplay(&["plan", "scenario.ron", "--repeat", "2000", "--json"]).succeeded();
    let found = bands(&said);
    // Each task is late if its slowdown, log-normal with spread 0.4, is above deadline over its nominal time.
    let normal = Normal::standard();
    let late = |nominal: f64| 1.0 - normal.cdf((deadline / nominal).ln() / 0.4);
    let shortest = *nominal.iter().min().expect("a task") as f64;
    let share = found["at_deadline"].as_f64().expect("a share");
    // Four standard errors of 8,000 rounds.
    let error = 4.0 * (0.25f64 / 8_000.0).sqrt();
    assert!(
        share > late(shortest) - error && share < late(longest) + error,
        "{share}, {} to {}",
        late(shortest),
        late(longest)
    );
    assert_eq!(found["failed"].as_f64(), Some(share), "a round without its only update fails");
    assert!(said.stdout.contains("deadline      it ended "), "{}", said.stdout);
    // The median of ends of round 1 is that of min(slowdown, 1.3), and so the nominal time.
    let median = found["rounds"][0]["end_s"][2].as_f64().expect("a time") * 1e9;
    assert!(median > 0.95 * shortest && median < 1.05 * longest, "{median}, {shortest} to {longest}");
}

#[test]
fn repeats_are_equal_on_any_number_of_threads_and_begin_with_the_plan() {
    let world = World::new();
    let plan = |threads: &str, out: &str| {
        let mut command = world.command(&["plan", "scenario.ron", "--repeat", "70", "--out", out, "--json"]);
        Said::of(command.env("RAYON_NUM_THREADS", threads).output().expect("the binary can be run")).succeeded()
    };
    let (one, four) = (plan("1", "one"), plan("4", "four"));
    assert_eq!(one.summary("digest"), four.summary("digest"));
    assert_eq!(bands(&one), bands(&four));
    let repeats = read_table(&world.path("one"), "repeats").expect("a table");
    let rounds = read_table(&world.path("one"), "rounds").expect("a table");
    let first = repeats.slice(0, rounds.num_rows());
    assert_eq!(counts(&first, "repeat"), vec![0; rounds.num_rows()]);
    assert_eq!(times(&first, "closed_at_ns"), times(&rounds, "closed_at_ns"));
    assert_eq!(counts(&first, "counted"), counts(&rounds, "counted"));
    // Another repeat is another schedule.
    let ends = times(&repeats, "closed_at_ns");
    assert_ne!(ends[..3], ends[3..6]);
    assert_eq!(counts(&repeats, "repeat").last(), Some(&69));
}

#[test]
fn repeats_hang_on_the_digest_and_are_shown() {
    let world = World::new();
    world.fedreplay(&["plan", "scenario.ron", "--repeat", "40", "--out", "plan"]).succeeded();
    world.fedreplay(&["plan", "scenario.ron", "--repeat", "41", "--out", "other"]).succeeded();
    world.fedreplay(&["verify", "plan"]).succeeded();
    let page = world.fedreplay(&["report", "plan", "--out", "page.html"]).succeeded();
    assert!(page.stderr.is_empty(), "{}", page.stderr);
    world.fedreplay(&["export", "plan", "--to", "csv", "--out", "csv"]).succeeded();
    let text = fs::read_to_string(world.path("csv/repeats.csv")).expect("a table");
    assert_eq!(text.lines().count(), 1 + 40 * 3);
    let said = world.fedreplay(&["diff", "plan", "other"]);
    assert!(said.stdout.contains("one plan has 40 repeats, the other 41"), "{}{}", said.stdout, said.stderr);
    let file = "ledger/repeats/00000-00000.parquet";
    fs::copy(world.path("other").join(file), world.path("plan").join(file)).expect("a copy");
    let said = world.fedreplay(&["verify", "plan"]);
    assert_eq!(said.code, Some(3), "{}", said.stderr);
    for part in ["changed: table repeats, row group 0", "round 1: its rows give the digest"] {
        assert!(said.stdout.contains(part), "{}", said.stdout);
    }
}

#[test]
fn a_number_of_repeats_is_at_least_two() {
    let world = World::new();
    for count in ["0", "1", "10001", "many"] {
        world.fedreplay(&["plan", "scenario.ron", "--repeat", count]).refused(2, &["--repeat", count]);
    }
}
