//! Carbon of tasks by the intensity of electricity grids: the figures of plans and runs, and what is refused.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int64Type, UInt64Type};
use arrow::record_batch::RecordBatch;
use fedreplay::ledger::read_table;

use super::support::World;

/// [g/kWh] -- 100 at midnight, and 10 more with each hour.
const fn intensity(hour: u64) -> u64 {
    100 + 10 * hour
}

fn hourly() -> String {
    let rows: Vec<String> = (0..24).map(|hour| format!("{hour},{}\n", intensity(hour))).collect();
    format!("from_hour,grams_per_kwh\n{}", rows.concat())
}

/// The small world with a grid of this table.
fn world(carbon: &str, table: &str) -> World {
    let world = World::new();
    world.edit("scenario.ron", "rounds: 3,", &format!("rounds: 3, carbon: (intensity: \"grid.csv\"{carbon}),"));
    world.write("grid.csv", table);
    world
}

fn optional(rows: &RecordBatch, column: &str) -> Vec<Option<u64>> {
    rows[column].as_primitive::<UInt64Type>().iter().collect()
}

fn times(rows: &RecordBatch, column: &str) -> Vec<Option<u64>> {
    rows[column].as_primitive::<Int64Type>().iter().map(|at| at.map(|at| at as u64)).collect()
}

/// [µg] -- The carbon of each task, hour by hour in floating-point numbers; virtual time begins at `starts_at` [ns].
fn by_hand(tasks: &RecordBatch, starts_at: u64) -> Vec<f64> {
    const HOUR: u64 = 3_600_000_000_000;
    let [begun, down, trained, ended] =
        ["dispatched_at_ns", "download_done_at_ns", "training_done_at_ns", "ended_at_ns"]
            .map(|name| times(tasks, name));
    let energies = ["download_mj", "training_mj", "upload_mj"].map(|name| optional(tasks, name));
    let mut found = Vec::new();
    for task in 0..tasks.num_rows() {
        let ended = ended[task].expect("an end");
        let down = down[task].unwrap_or(ended).min(ended);
        let trained = trained[task].unwrap_or(ended).min(ended);
        let ends = [begun[task].expect("a dispatch"), down, trained, ended];
        let mut sum = 0.0;
        for (phase, energy) in energies.iter().enumerate() {
            let energy = energy[task].expect("an energy") as f64;
            let [from, until] = [ends[phase] + starts_at, ends[phase + 1] + starts_at];
            let mut at = from;
            while at < until {
                let end = until.min((at / HOUR + 1) * HOUR);
                let share = (end - at) as f64 / (until - from) as f64;
                sum += share * energy / 3.6e9 * 1e6 * intensity(at / HOUR % 24) as f64;
                at = end;
            }
        }
        found.push(sum);
    }
    found
}

#[test]
fn a_plan_and_a_run_tell_the_carbon_of_tasks() {
    // The first tasks are under way at midnight.
    let world = world(", starts_at: \"23h59m59s\"", &hourly());
    let planned = world.fedreplay(&["plan", "scenario.ron", "--out", "plan"]).succeeded();
    world.run("run", &[]).succeeded();
    let shown = world.fedreplay(&["show", "run"]).succeeded();
    let grams = planned.summary("carbon");
    assert!(grams.ends_with(" g of CO2") && shown.stdout.contains(grams), "{grams}: {}", shown.stdout);
    for folder in ["plan", "run"] {
        let [tasks, rounds] = ["tasks", "rounds"].map(|name| read_table(&world.path(folder), name).expect("a table"));
        let stated = optional(&tasks, "carbon_ug");
        let expected = by_hand(&tasks, 86_399_000_000_000);
        let [begun, ended] = ["dispatched_at_ns", "ended_at_ns"].map(|name| times(&tasks, name));
        let midnight = Some(1_000_000_000);
        assert!(begun.iter().zip(&ended).any(|(begun, ended)| *begun < midnight && *ended > midnight));
        for (stated, expected) in stated.iter().zip(&expected) {
            let stated = stated.expect("carbon") as f64;
            assert!((expected - stated - 0.5).abs() < 0.6, "{stated} {expected}");
        }
        assert!(expected.iter().sum::<f64>() > 1_000.0, "{expected:?}");
        let sums = optional(&rounds, "carbon_ug");
        let mut next = 0;
        for (sum, rows) in sums.iter().zip(optional(&rounds, "task_rows")) {
            let end = next + rows.expect("a count") as usize;
            assert_eq!(*sum, stated[next..end].iter().copied().sum());
            next = end;
        }
        world.fedreplay(&["verify", folder]).succeeded();
    }
    world.fedreplay(&["replay", "run"]).succeeded();
    world.fedreplay(&["report", "run", "--out", "page.html"]).succeeded();
    // The content of the table is part of the run.
    world.edit("grid.csv", "\n1,110", "\n1,111");
    let said = world.fedreplay(&["replay", "run"]).refused(3, &[]);
    assert!(said.stdout.contains("grid intensity"), "{}", said.stdout);
}

/// Times and outcomes are those of the scenario without `carbon`, whose tables have no figures of it.
#[test]
fn carbon_changes_no_time() {
    let with = world("", &hourly());
    let without = World::new();
    let tasks = [&with, &without].map(|world| {
        let said = world.fedreplay(&["plan", "scenario.ron", "--out", "plan"]).succeeded();
        assert_eq!(said.stdout.contains("CO2"), std::ptr::eq(world, &with), "{}", said.stdout);
        read_table(&world.path("plan"), "tasks").expect("a table")
    });
    assert_eq!(times(&tasks[0], "ended_at_ns"), times(&tasks[1], "ended_at_ns"));
    assert_eq!(tasks[1]["carbon_ug"].null_count(), tasks[1].num_rows());
    assert_eq!(tasks[0]["carbon_ug"].null_count(), 0);
}

#[test]
fn damaged_tables_and_regions_without_a_grid_are_refused() {
    let refused = |carbon: &str, table: &str, parts: &[&str]| {
        let said = world(carbon, table).fedreplay(&["plan", "scenario.ron"]);
        said.refused(2, &[parts, &["grid.csv"]].concat());
    };
    let half_days = |rows: &str| format!("from_hour,grams_per_kwh\n{rows}");
    refused("", &half_days(""), &["it has no rows"]);
    refused("", &half_days("0,NaN\n12,300\n"), &["row 1: grams_per_kwh: `NaN` is out of range"]);
    refused("", &half_days("0,300\n12,-1\n"), &["row 2: grams_per_kwh: `-1` is out of range"]);
    refused("", &half_days("0,300\n12,\n"), &["row 2: grams_per_kwh is missing"]);
    refused("", &half_days("0,300\n12,310\n12,320\n"), &["row 3: from_hour: hour 12 stands there twice"]);
    refused("", &half_days("0,300\n0,310\n"), &["row 2: from_hour: hour 0 stands there twice"]);
    refused("", &half_days("12,300\n18,310\n"), &["row 1: from_hour: hour 0 is missing before hour 12"]);
    refused("", &half_days("0,300\n6,310\n18,320\n"), &["row 3: from_hour: hour 12 is missing before hour 18"]);
    refused("", &half_days("0,300\n6,310\n12,320\n"), &["row 3: from_hour: hour 18 is missing after hour 12"]);
    refused("", &half_days("-1,300\n"), &["row 1: from_hour: `-1` is out of range"]);
    refused("", "from_hour,grams_per_kw\n0,1\n", &["there is no column `grams_per_kw`; did you mean `grams_per_kwh`?"]);
    refused("", "region,from_hour,grams_per_kwh\n,0,1\n", &["row 1: region is missing"]);
    let regional = "region,from_hour,grams_per_kwh\nDE,0,300\nFR,0,50\n";
    refused("", regional, &["client 0 has no region, and carbon.default_region is not given"]);
    refused(
        ", default_region: \"ES\"",
        regional,
        &["carbon.default_region: column region lacks \"ES\"; it has DE, FR"],
    );
    refused(", starts_at: \"24h\"", &hourly(), &["carbon.starts_at, 1 d, is not within its 24 hours"]);
    let by_region = world(", default_region: \"FR\"", regional);
    by_region.fedreplay(&["plan", "scenario.ron"]).succeeded();
}
