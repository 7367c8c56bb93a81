//! How clients differ: the tables and pictures of `data diversity`, with embeddings of a server on loopback.

use std::fs;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, UInt32Type, UInt64Type};
use arrow::record_batch::RecordBatch;
use serde_json::{Value, json};

use super::evaluation;
use super::support::{Said, World, output};
use super::test_support::chat_endpoint::{ChatEndpoint, Turn};

const CLIENTS: usize = 5;
const ROWS: usize = 6;

/// Rows that are embedded of each client.
const EMBEDDED: usize = 3;

/// The first clients write English, and the others Telugu.
fn world() -> World {
    let world = World::new();
    let row = |client: usize, n: usize| {
        let (language, asked) =
            if client < 3 { ("en", "What is") } else { ("te", "ప్రశ్న ఏమిటి") };
        json!({ "instruction": format!("{asked} {n}"), "response": format!("It is {n}."), "language": language })
    };
    let rows = |client: usize| -> Value { (0..ROWS).map(|n| row(client, n)).collect() };
    let data: serde_json::Map<_, _> = (0..CLIENTS).map(|client| (format!("user-{client}"), rows(client))).collect();
    world.write("many.json", &Value::Object(data).to_string());
    world
}

fn diversity(world: &World, url: &str, out: &str) -> Said {
    let rows = EMBEDDED.to_string();
    let mut command = world.command(&[
        "data",
        "diversity",
        "many.json",
        "--out",
        out,
        "--rows",
        &rows,
        "--embeddings-url",
        url,
        "--embeddings-model",
        "embed-1",
        "--embeddings-key",
        "MY_KEY",
        "--json",
    ]);
    Said::of(output(command.env("MY_KEY", "sk-secret")).expect("the binary can be run"))
}

/// [radians] Directions of the clients' embeddings in a plane.
fn angle(client: usize) -> f64 {
    0.2 * (client * client) as f64
}

/// An answer with the embeddings of all rows, the last first: an index says whose each is.
fn answer() -> &'static str {
    let entry = |place: usize| {
        let (y, x) = angle(place / EMBEDDED).sin_cos();
        json!({ "object": "embedding", "index": place, "embedding": [3.0 * x, 3.0 * y, 0.0] })
    };
    let data: Vec<Value> = (0..CLIENTS * EMBEDDED).rev().map(entry).collect();
    json!({ "object": "list", "data": data, "model": "embed-1" }).to_string().leak()
}

fn table(world: &World, name: &str) -> RecordBatch {
    evaluation::table(&world.path(&format!("found/{name}.parquet")))
}

#[test]
fn distances_are_those_of_the_servers_embeddings() {
    let world = world();
    let server = ChatEndpoint::start([Turn::Answers(200, "", answer())]);
    let said = diversity(&world, &server.base_url(), "found").succeeded();
    let [request] = server.take_requests().try_into().expect("one request of few texts");
    assert_eq!((request.path.as_str(), request.authorization.as_deref()), ("/v1/embeddings", Some("Bearer sk-secret")));
    assert_eq!((&request.body["model"], request.body["input"].as_array().map(Vec::len)), (&"embed-1".into(), Some(15)));
    assert!(!(said.stdout + &said.stderr).contains("sk-secret"));

    let distances = table(&world, "distances");
    let client = |name: &str| distances[name].as_primitive::<UInt32Type>().clone();
    let (one, other, found) = (client("client"), client("other"), distances["distance"].as_primitive::<Float64Type>());
    assert_eq!(found.len(), CLIENTS * (CLIENTS - 1) / 2);
    for row in 0..found.len() {
        let expected = 1.0 - (angle(one.value(row) as usize) - angle(other.value(row) as usize)).cos();
        assert!((found.value(row) - expected).abs() < 1e-9, "{} and {}", one.value(row), other.value(row));
    }
    // A flat cloud is shown whole.
    let clients = table(&world, "clients");
    let place = |row: usize| ["x", "y"].map(|axis| clients[axis].as_primitive::<Float64Type>().value(row));
    let ([ax, ay], [bx, by]) = (place(0), place(4));
    let chord = 2.0 * ((angle(4) - angle(0)) / 2.0).sin();
    assert!(((ax - bx).hypot(ay - by) - chord.abs()).abs() < 1e-9);
}

#[test]
fn tables_and_pictures_say_what_the_rows_are() {
    let world = world();
    let server = ChatEndpoint::start([Turn::Answers(200, "", answer())]);
    diversity(&world, &server.base_url(), "found").succeeded();
    let clients = table(&world, "clients");
    let samples: Vec<u64> = clients["samples"].as_primitive::<UInt64Type>().values().to_vec();
    assert_eq!(samples, [ROWS as u64; CLIENTS]);
    let main: Vec<&str> = clients["main_language"].as_string::<i32>().iter().flatten().collect();
    assert_eq!(main, ["en", "en", "en", "te", "te"]);
    assert!(clients["ifd_mean"].is_null(0), "there is no model that could score");
    let openings = table(&world, "openings");
    let (words, rows) = (openings["opening"].as_string::<i32>(), openings["rows"].as_primitive::<UInt64Type>());
    let of = |opening: &str| (0..rows.len()).find(|&row| words.value(row) == opening).map(|row| rows.value(row));
    assert_eq!((of("what"), of("what is"), of("what is 0")), (Some(18), Some(18), Some(3)));

    let picture = |name: &str| fs::read_to_string(world.path("found").join(name)).expect("the picture is there");
    for name in ["quantity", "languages", "lengths", "openings", "projection", "distances"] {
        let text = picture(&format!("{name}.svg"));
        assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>") && text.contains("<text"), "{name}");
        assert!(!text.contains("NaN") && !text.contains("inf"), "{name}");
    }
    assert!(!world.path("found/quality.svg").exists());
    let openings = picture("openings.svg");
    assert!(openings.contains("[Telugu]") && !openings.contains("ప్రశ్న") && openings.contains("what"), "{openings}");
    let quantity = picture("quantity.svg");
    assert!(!quantity.contains(".0\n") && !quantity.contains(".5\n"), "counts with a point:\n{quantity}");
}

#[test]
fn a_server_that_fails_is_named_and_leaves_no_tables() {
    for (turn, part) in [
        (Turn::Answers(500, "", "out of order"), "out of order"),
        (Turn::Answers(200, "", "{\"data\": []}"), "0 vectors"),
        (Turn::Closes, "failed to get embeddings"),
    ] {
        let world = world();
        let server = ChatEndpoint::start([turn]);
        let url = server.base_url();
        diversity(&world, &url, "found").refused(1, &[&url, part]);
        assert!(!world.path("found/distances.parquet").exists());
    }
}

#[test]
fn a_server_that_repeats_the_key_does_not_spread_it() {
    let world = world();
    let server = ChatEndpoint::start([Turn::Repeats { status: 401 }]);
    let said = diversity(&world, &server.base_url(), "found").refused(1, &["it answered 401", "Bearer (hidden)"]);
    assert!(!said.stderr.contains("sk-secret"), "{}", said.stderr);
}
