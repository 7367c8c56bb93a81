//! Populations from a trace: a row a client, and the times at which each is online.

use std::fs;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{Int64Type, UInt32Type, UInt64Type};
use fedreplay::ledger::read_table;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use super::support::{World, project};

/// The small world with a trace beside its groups.
fn world(trace: &str) -> World {
    let world = World::new();
    world.edit("scenario.ron", "mix: [", &format!("trace: ({trace}), mix: ["));
    world.edit("scenario.ron", "evaluation: (local_baseline: true)", "evaluation: (every: 1000)");
    world
}

fn plan(world: &World, out: &str) {
    world.fedreplay(&["plan", "scenario.ron", "--out", out]).succeeded();
}

fn table(world: &World, out: &str, name: &str) -> RecordBatch {
    read_table(&world.path(out), name).expect("a table of the ledger")
}

fn texts(rows: &RecordBatch, column: &str) -> Vec<String> {
    let column = rows.column_by_name(column).expect("a column").as_string::<i32>().clone();
    (0..column.len()).map(|row| column.value(row).to_owned()).collect()
}

fn counts(rows: &RecordBatch, column: &str) -> Vec<u64> {
    let column = rows.column_by_name(column).expect("a column");
    match column.as_primitive_opt::<Int64Type>() {
        Some(times) => times.values().iter().map(|&ns| u64::try_from(ns).expect("a time")).collect(),
        None => column.as_primitive::<UInt64Type>().values().to_vec(),
    }
}

#[test]
fn the_population_table_of_a_run_is_a_trace_of_it() {
    let world = world("");
    plan(&world, "by-share");
    fs::copy(world.path("by-share/ledger/population/00000-00000.parquet"), world.path("clients.parquet"))
        .expect("a population table");
    // Who has which device now comes from the table alone: the shares would give all of them the slow one.
    world.edit("scenario.ron", "trace: ()", "trace: (clients: \"clients.parquet\")");
    world.edit(
        "scenario.ron",
        "(share: 1, device: \"quick\", link: \"home\")",
        "(share: 1e-9, device: \"quick\", link: \"home\")",
    );
    world.edit("scenario.ron", ", dropout: (during_training: 0.3)", "");
    world.edit("scenario.ron", "speed: \"50 MFLOP/s\"", "speed: \"60 MFLOP/s\"");
    plan(&world, "by-trace");
    assert_eq!(table(&world, "by-share", "population"), table(&world, "by-trace", "population"));
}

#[test]
fn a_trace_on_which_its_parser_panics_is_refused_with_its_name() {
    let world = world("clients: \"clients.parquet\"");
    fs::copy(project("fixtures/damaged/rounds.parquet"), world.path("clients.parquet")).expect("a file");
    world.fedreplay(&["plan", "scenario.ron"]).refused(2, &["clients.parquet"]);
}

#[test]
fn a_trace_in_csv_changes_what_it_names_and_nothing_else() {
    let world = world("clients: \"clients.csv\"");
    world.write(
        "clients.csv",
        "\u{feff}client_id,device,flops_per_second,downlink_bits_per_second,latency_ns,jitter\n\
         user-5,quick,,,,\n\
         user-0,phone,3e7,,,0.5\n\
         user-1,,2000000000,,1000,\n\
         user-2, ,,1000000,,\n\
         user-3,,,,,\n\
         user-4,slow,,,,0\n",
    );
    plan(&world, "traced");
    let population = table(&world, "traced", "population");
    let (devices, speeds) = (texts(&population, "device"), counts(&population, "flops_per_second"));
    assert_eq!((devices[0].as_str(), speeds[0]), ("phone", 30_000_000));
    assert_eq!(speeds[1], 2_000_000_000);
    assert_eq!((devices[4].as_str(), speeds[4]), ("slow", 50_000_000));
    assert_eq!((devices[5].as_str(), speeds[5]), ("quick", 1_000_000_000));
    assert_eq!(counts(&population, "downlink_bits_per_second")[2..4], [1_000_000, 20_000_000]);
    assert_eq!(counts(&population, "latency_ns")[..2], [20_000_000, 1_000]);
    // Training sees the same times, and the record knows what was read.
    world.run("trained", &[]).succeeded();
    assert_eq!(
        counts(&table(&world, "traced", "tasks"), "ended_at_ns"),
        counts(&table(&world, "trained", "tasks"), "ended_at_ns")
    );
    world.fedreplay(&["replay", "trained"]).succeeded();
    world.edit("clients.csv", "2000000000", "2100000000");
    let said = world.fedreplay(&["replay", "trained"]).refused(3, &[]);
    assert!(said.stdout.contains("clients trace"), "{}", said.stdout);
}

/// The codecs of pandas, pyarrow, polars and DuckDB.
#[test]
fn a_trace_in_parquet_of_every_codec_is_read() {
    let world = world("clients: \"clients.PARQUET\"");
    let ids: ArrayRef = Arc::new(StringArray::from_iter_values((0..6).rev().map(|user| format!("user-{user}"))));
    let latencies: ArrayRef = Arc::new(UInt64Array::from_iter_values((1..=6).rev()));
    let rows = RecordBatch::try_from_iter([("client_id", ids), ("latency_ns", latencies)]).expect("two columns");
    for (name, codec) in [
        ("snappy", Compression::SNAPPY),
        ("gzip", Compression::GZIP(Default::default())),
        ("brotli", Compression::BROTLI(Default::default())),
        ("lz4", Compression::LZ4_RAW),
        ("zstd", Compression::ZSTD(Default::default())),
        ("none", Compression::UNCOMPRESSED),
    ] {
        let file = fs::File::create(world.path("clients.PARQUET")).expect("a writable folder");
        let properties = WriterProperties::builder().set_compression(codec).build();
        let mut writer = ArrowWriter::try_new(file, rows.schema(), Some(properties)).expect("a writer");
        writer.write(&rows).expect("a writable file");
        writer.close().expect("a writable file");
        plan(&world, name);
        assert_eq!(counts(&table(&world, name, "population"), "latency_ns"), [1, 2, 3, 4, 5, 6], "{name}");
    }
}

#[test]
fn without_groups_a_trace_gives_everything() {
    let world = world("clients: \"clients.csv\"");
    let scenario = fs::read_to_string(world.path("scenario.ron")).expect("the scenario");
    let (before, after) = scenario.split_once("mix: [").expect("a mix");
    let (_, after) = after.split_once("],").expect("the end of the mix");
    world.write("scenario.ron", &format!("{before}{after}"));
    let row = "1000000000,10000000,1000000\n";
    let header = "flops_per_second,downlink_bits_per_second,uplink_bits_per_second\n";
    world.write("clients.csv", &format!("{header}{}", row.repeat(6)));
    plan(&world, "plan");
    assert_eq!(texts(&table(&world, "plan", "population"), "device"), ["traced"; 6]);
    world.write("clients.csv", &format!("{header}{}1000000000,,\n", row.repeat(5)));
    world
        .fedreplay(&["plan", "scenario.ron"])
        .refused(2, &["client \"user-5\"", "neither its trace nor a group gives it a link"]);
    world.write("clients.csv", &format!("{header}{}", row.repeat(5)));
    world.fedreplay(&["plan", "scenario.ron"]).refused(2, &["it has 5 clients, and the data 6"]);
}

#[test]
fn a_traced_client_is_asked_only_while_it_is_online() {
    let world = world("online: \"online.csv\", online_period: \"1h\"");
    let others: String = (1..6).map(|user| format!("user-{user},3000,3600\n")).collect();
    world.write(
        "online.csv",
        &format!("client_id,from_seconds,until_seconds\n{others}user-0,0.5,1000\nuser-0,2000,2500\n"),
    );
    world.edit("scenario.ron", "deadline: \"10m\"", "deadline: \"2h\"");
    world.edit("scenario.ron", "clients_per_round: 2, over_selection: 2", "clients_per_round: 1");
    // Rounds without anyone to ask are tried again a minute later, and count.
    world.edit("scenario.ron", "rounds: 3", "rounds: 100");
    world.edit("scenario.ron", "downlink: \"10 Mbit/s\",", "downlink: \"10 Mbit/s\", aggregation_time: \"100s\",");
    plan(&world, "plan");
    let tasks = table(&world, "plan", "tasks");
    let clients = tasks.column_by_name("client").expect("a column").as_primitive::<UInt32Type>().clone();
    for (client, at) in clients.values().iter().zip(counts(&tasks, "dispatched_at_ns")) {
        let within = at % 3_600_000_000_000;
        let seconds = within as f64 / 1e9;
        let is_online = match client {
            0 => (0.5..1000.0).contains(&seconds) || (2000.0..2500.0).contains(&seconds),
            _ => seconds >= 3000.0,
        };
        assert!(is_online, "client {client} was asked {seconds} s after the hour");
    }
    let asked = |who: fn(&u32) -> bool| clients.values().iter().filter(|client| who(client)).count();
    assert!(asked(|client| *client == 0) > 0 && asked(|client| *client > 0) > 0);
}

#[test]
fn mistakes_in_a_trace_are_named() {
    let world = world("clients: \"clients.csv\", online: \"online.csv\", online_period: \"1h\"");
    let online = "client_id,from_seconds,until_seconds\nuser-0,0,10\n";
    let rows = |header: &str, row: &str| format!("{header}\n{}", format!("{row}\n").repeat(6));
    let refused = |clients: &str, online: &str, parts: &[&str]| {
        world.write("clients.csv", clients);
        world.write("online.csv", online);
        world.fedreplay(&["plan", "scenario.ron", "--out", "out"]).refused(2, parts);
        assert!(!world.path("out").exists());
    };
    refused(&rows("devise", "quick"), online, &["clients.csv", "no column `devise`", "did you mean `device`?"]);
    refused(&rows("jitter", "fast"), online, &["clients.csv", "row 1", "jitter: `fast`", "from 0 to 5"]);
    refused(&rows("latency_ns", "-3"), online, &["latency_ns: `-3`", "at least 0"]);
    refused(&rows("device", "laptop"), online, &["client \"user-0\"", "no device `laptop`", "flops_per_second"]);
    refused(&rows("client_id", "user-0"), online, &["two rows of client \"user-0\""]);
    refused(&rows("dropout_after_training", "0.8"), online, &["add up to more than 1"]);
    let quick = &rows("device", "quick");
    refused(quick, "client_id,from_seconds,until_seconds\nuser-0,9,3\n", &["online.csv", "row 1", "before"]);
    let late = "client_id,from_seconds,until_seconds\nuser-0,0,3\nuser-1,2,3601\n";
    refused(quick, late, &["online.csv", "row 2", "user-1", "online_period"]);
    refused(quick, "client_id,from_seconds\nuser-0,0\n", &["until_seconds is missing"]);
    refused(quick, "client_id,from_seconds,until_seconds\nuser-9,0,3\n", &["no client \"user-9\""]);
    fs::remove_file(world.path("online.csv")).expect("it was there");
    world.fedreplay(&["plan", "scenario.ron"]).refused(2, &["online.csv"]);
}

#[test]
fn the_client_column_of_a_trace_orders_its_rows() {
    let world = world("clients: \"clients.csv\"");
    let latencies = |world: &World, out: &str| counts(&table(world, out, "population"), "latency_ns");
    world.write("clients.csv", "client,latency_ns\n5,6\n4,5\n3,4\n2,3\n1,2\n0,1\n");
    plan(&world, "by-index");
    assert_eq!(latencies(&world, "by-index"), [1, 2, 3, 4, 5, 6]);
    let named = "client,client_id,latency_ns\n5,user-5,6\n0,user-0,1\n4,user-4,5\n2,user-2,3\n1,user-1,2\n3,user-3,4\n";
    world.write("clients.csv", named);
    plan(&world, "by-both");
    assert_eq!(latencies(&world, "by-both"), [1, 2, 3, 4, 5, 6]);
    let refused = |text: &str, part: &str| {
        world.write("clients.csv", text);
        world.fedreplay(&["plan", "scenario.ron", "--out", "out"]).refused(2, &[part]);
    };
    refused(&named.replace("5,user-5", "4,user-5"), "calls client \"user-5\" number 4");
    refused("client,jitter\n0,0\n0,0\n1,0\n2,0\n3,0\n4,0\n", "two rows of client number 0");
    refused("client,jitter\n1,0\n2,0\n3,0\n4,0\n5,0\n6,0\n", "client number 6");
    refused("client,jitter\nc0,0\nc1,0\nc2,0\nc3,0\nc4,0\nc5,0\n", "client: `c0`");
}

#[test]
fn times_online_that_overlap_or_repeat_are_joined() {
    let world = world("online: \"online.csv\"");
    let header = "client_id,from_seconds,until_seconds\n";
    world.write("online.csv", &format!("{header}user-0,2,500\nuser-0,0,3\nuser-0,2,500\nuser-0,100,200\n"));
    plan(&world, "overlapping");
    world.write("online.csv", &format!("{header}user-0,0,500\n"));
    plan(&world, "joined");
    assert_eq!(table(&world, "overlapping", "tasks"), table(&world, "joined", "tasks"));
}
