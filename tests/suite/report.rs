//! The report: what it says, that it is safe, small and always the same, and that it works in a browser.

use std::fs;
use std::io::Read;
use std::path::Path;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, UInt32Type};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use fedreplay::ledger::{Manifest, RunState, read_table};
use serde_json::Value;

use super::browser::Browser;
use super::support::World;

/// Limit of a report of 200 rounds of 100 clients.
const MOST_BYTES: u64 = 3_000_000;

pub fn page(world: &World, name: &str) -> String {
    fs::read_to_string(world.path(name)).expect("the report is there")
}

/// The columns that a page carries.
pub fn columns(page: &str) -> Value {
    let (_, rest) = page.split_once("id=\"columns\">").expect("the page carries columns");
    let packed = BASE64.decode(rest.split('<').next().expect("text")).expect("base64");
    let mut text = String::new();
    flate2::read::ZlibDecoder::new(&packed[..]).read_to_string(&mut text).expect("compressed text");
    serde_json::from_str(&text).expect("JSON")
}

/// A figure among sections.
#[track_caller]
pub fn figure<'a>(sections: &'a Value, id: &str) -> &'a Value {
    let all = sections
        .as_array()
        .expect("sections")
        .iter()
        .flat_map(|section| section["figures"].as_array().expect("figures"));
    let mut named = all.filter(|figure| figure["id"] == id);
    named.next().unwrap_or_else(|| panic!("no figure {id}"))
}

#[track_caller]
pub fn numbers(figure: &Value, column: &str) -> Vec<Option<f64>> {
    let columns = figure["columns"].as_array().expect("columns");
    let column = columns.iter().find(|c| c["name"] == column).unwrap_or_else(|| panic!("no column {column}"));
    column["values"]["numbers"].as_array().expect("numbers").iter().map(Value::as_f64).collect()
}

#[track_caller]
pub fn texts(figure: &Value, column: &str) -> Vec<String> {
    let columns = figure["columns"].as_array().expect("columns");
    let column = columns.iter().find(|c| c["name"] == column).unwrap_or_else(|| panic!("no column {column}"));
    let names = &column["values"]["names"];
    let text =
        |place: &Value| names["texts"][place.as_u64().expect("a place") as usize].as_str().expect("text").to_owned();
    names["rows"].as_array().expect("rows").iter().map(text).collect()
}

#[test]
fn a_run_leaves_a_report_that_says_what_its_tables_say() {
    let world = World::new();
    let said = world.run("run", &[]).succeeded();
    let page = page(&world, "run/report.html");
    for name in ["loss before", "loss after", "loss alone"] {
        let loss = said.summary(name).split(' ').next().expect("a number");
        assert!(page.contains(loss), "{name} {loss} is not in the summary");
    }
    assert!(page.contains(said.summary("digest")));
    let columns = columns(&page);
    let run = &columns["runs"][0];
    let rounds = read_table(&world.path("run"), "rounds").expect("a table");
    for fate in ["counted", "late", "dropped", "cancelled"] {
        let expected: Vec<Option<f64>> =
            rounds[fate].as_primitive::<UInt32Type>().iter().map(|n| n.map(f64::from)).collect();
        assert_eq!(numbers(figure(run, "outcomes"), fate), expected, "{fate}");
    }
    let timeline = figure(run, "timeline");
    let tasks = read_table(&world.path("run"), "tasks").expect("a table");
    assert_eq!(texts(timeline, "fate").len(), tasks.num_rows());
    // Every task's phases fill its time from dispatch to end.
    let sums = ["download_s", "training_s", "upload_s"].map(|phase| numbers(timeline, phase));
    let time =
        |column: &str, row: usize| tasks[column].as_primitive::<arrow::datatypes::Int64Type>().value(row) as f64 / 1e9;
    for row in 0..tasks.num_rows() {
        let took: f64 = sums.iter().filter_map(|phase| phase[row]).sum();
        let expected = time("ended_at_ns", row) - time("dispatched_at_ns", row);
        assert!((took - expected).abs() < 1e-4 * expected.max(1.0), "task {row}: {took} against {expected}");
    }
    // The last server loss of each client, and the worst tenth of six is the worst.
    let evaluations = read_table(&world.path("run"), "evaluations").expect("a table");
    let (round, client) =
        (evaluations["round"].as_primitive::<UInt32Type>(), evaluations["client"].as_primitive::<UInt32Type>());
    let subject = evaluations["subject"].as_string::<i32>();
    let is_last = |row: &usize| round.value(*row) == 3 && client.is_valid(*row) && subject.value(*row) == "global";
    let losses = evaluations["loss"].as_primitive::<Float64Type>();
    let worst = (0..evaluations.num_rows()).filter(is_last).map(|row| losses.value(row)).fold(0.0, f64::max);
    let shown = numbers(figure(run, "fairness"), "worst_decile_loss").last().copied().flatten().expect("a loss");
    assert!((shown - worst).abs() < 1e-5, "{shown} against {worst}");
}

#[test]
fn the_same_run_gives_the_same_bytes_and_stays_whole() {
    let world = World::new();
    world.run("run", &[]).succeeded();
    let by_run = page(&world, "run/report.html");
    world.fedreplay(&["report", "run"]).succeeded();
    assert!(page(&world, "run/report.html") == by_run);
    world.fedreplay(&["report", "run", "--out", "elsewhere/page.html"]).succeeded();
    assert!(page(&world, "elsewhere/page.html") == by_run);
    world.fedreplay(&["verify", "run"]).succeeded();
    for out in ["run/other.html", "run/ledger/report.html"] {
        world.fedreplay(&["report", "run", "--out", out]).refused(2, &["a run answers for every file in its folder"]);
    }
}

#[test]
fn what_is_no_run_and_what_is_damaged_is_refused_with_its_place() {
    let world = World::new();
    world.fedreplay(&["report", "nowhere"]).refused(2, &["failed to find a run in nowhere"]);
    world.run("run", &[]).succeeded();
    let tasks = world.path("run/ledger/tasks/00001-00003.parquet");
    let bytes = fs::read(&tasks).expect("a table");
    fs::write(&tasks, &bytes[..bytes.len() / 2]).expect("a writable file");
    world.fedreplay(&["report", "run"]).refused(1, &["ledger/tasks/00001-00003.parquet"]);
    fs::remove_file(&tasks).expect("it is there");
    world.fedreplay(&["report", "run"]).refused(1, &["ledger/tasks", "it has 0 rows, and table rounds counts"]);
    fs::remove_dir(world.path("run/ledger/tasks")).expect("it is empty");
    world.fedreplay(&["report", "run"]).refused(1, &["ledger/tasks"]);
    // Rows of another table: columns are missing.
    fs::create_dir(world.path("run/ledger/tasks")).expect("a writable folder");
    fs::copy(world.path("run/ledger/events/00001-00003.parquet"), &tasks).expect("a copy");
    world.fedreplay(&["report", "run"]).refused(1, &["ledger/tasks"]);
}

#[test]
fn a_run_that_was_killed_is_shown_as_far_as_it_came() {
    let world = World::new();
    world.run("run", &[]).succeeded();
    let run = world.path("run");
    let mut manifest = Manifest::read(&run).expect("a manifest");
    (manifest.state, manifest.digest) = (RunState::Running, None);
    manifest.write(&run).expect("a writable folder");
    world.fedreplay(&["report", "run"]).succeeded();
    assert!(page(&world, "run/report.html").contains("This run is not finished: 3 of 3 rounds"));
    // Killed in its first round: there is a population, and no round.
    for table in ["rounds", "tasks", "evaluations", "events"] {
        fs::remove_dir_all(run.join("ledger").join(table)).expect("it is there");
    }
    world.fedreplay(&["report", "run"]).succeeded();
    assert!(page(&world, "run/report.html").contains("This run is not finished: 0 of 3 rounds"));
}

#[test]
fn runs_are_compared_pair_by_pair() {
    let world = World::new();
    for (out, seed, lr) in [("a1", "1", "0.01"), ("a2", "2", "0.01"), ("b1", "1", "0.02"), ("b2", "2", "0.02")] {
        world.run(out, &["--seed", seed, "--set", &format!("training.lr={lr}")]).succeeded();
    }
    world.fedreplay(&["report", "a1", "a2", "b1", "b2", "--out", "all.html"]).succeeded();
    let columns = columns(&page(&world, "all.html"));
    let compared = Value::Array(vec![columns["comparison"].clone()]);
    let runs = figure(&compared, "runs");
    let after: Vec<f64> = numbers(runs, "loss_after").into_iter().flatten().collect();
    let names = texts(runs, "run");
    assert!(names.iter().any(|name| name == "seed=2, lr=0.02"), "{names:?}");
    let differences = figure(&compared, "differences");
    let by_seed =
        texts(differences, "pairs").iter().position(|pairs| pairs.starts_with("seeds")).expect("two seeds of each");
    let expected = ((after[2] - after[0]) + (after[3] - after[1])) / 2.0;
    let shown = numbers(differences, "mean_difference")[by_seed].expect("a number");
    assert!((shown - expected).abs() < 1e-5, "{shown} against {expected}");
    assert_eq!(numbers(differences, "count")[by_seed], Some(2.0));
    assert!(numbers(differences, "half_interval")[by_seed].is_some());
    // A run against itself differs nowhere.
    world.fedreplay(&["report", "a1", "a1", "--out", "same.html"]).succeeded();
    let columns = self::columns(&page(&world, "same.html"));
    let compared = Value::Array(vec![columns["comparison"].clone()]);
    assert!(numbers(figure(&compared, "differences"), "mean_difference").iter().all(|&mean| mean == Some(0.0)));
}

/// 100 clients, all asked in each of 200 rounds: as times alone.
const WIDE: &str = r#"(
    name: "wide", rounds: 200,
    model: (shape: (layers: 2, hidden: 64, intermediate: 128, heads: 2, vocabulary: 500), lora: (rank: 4, alpha: 8)),
    data: (synthetic: (clients: 100, rows: Uniform(10, 100), tokens_per_row: 100), max_seq_length: 128),
    training: (local_steps: 10, batch_size: 4, lr: 1e-3),
    server: (protocol: PROTOCOL, downlink: "1 Gbit/s", uplink: "1 Gbit/s"),
    population: (
        devices: {"phone": (speed: "50 MFLOP/s", jitter: 0.5, busy_watts: 5, idle_watts: 1)},
        links: {"mobile": (down: "20 Mbit/s", up: "5 Mbit/s", latency: "40ms")},
        mix: [(share: 1, device: "phone", link: "mobile", dropout: (during_training: 0.1))],
    ),
)"#;

fn planned(world: &World, protocol: &str, detail: &str) {
    world.write("wide.ron", &WIDE.replace("PROTOCOL", protocol));
    world.fedreplay(&["plan", "wide.ron", "--out", "wide", "--detail", detail]).succeeded();
    world.fedreplay(&["report", "wide"]).succeeded();
}

#[test]
fn two_hundred_rounds_of_a_hundred_clients_stay_small_and_whole() {
    let world = World::new();
    planned(&world, "Synchronous(clients_per_round: 100)", "tasks");
    let bytes = fs::metadata(world.path("wide/report.html")).expect("a report").len();
    assert!(bytes < MOST_BYTES, "{bytes} bytes");
    let columns = columns(&page(&world, "wide/report.html"));
    let timeline = figure(&columns["runs"][0], "timeline");
    assert_eq!(texts(timeline, "fate").len(), 20_000, "every task is drawn");
    assert_eq!(timeline["notes"], serde_json::json!([]));
}

#[test]
fn what_is_too_much_to_draw_is_left_out_with_a_word() {
    let world = World::new();
    planned(&world, "Buffered(concurrency: 90, buffer_size: 200)", "tasks");
    let columns = columns(&page(&world, "wide/report.html"));
    let run = &columns["runs"][0];
    let timeline = figure(run, "timeline");
    let (drawn, note) = (texts(timeline, "fate").len(), timeline["notes"][0].as_str().expect("a note"));
    assert!(drawn <= 25_000 && note.contains("All other figures count all tasks."), "{drawn}: {note}");
    let counted: f64 = numbers(figure(run, "outcomes"), "counted").into_iter().flatten().sum();
    assert_eq!(counted, 40_000.0);
    assert!(!numbers(figure(run, "staleness"), "updates").is_empty());
}

#[test]
fn a_plan_without_tasks_says_so() {
    let world = World::new();
    planned(&world, "Synchronous(clients_per_round: 10)", "rounds");
    let page = page(&world, "wide/report.html");
    assert!(page.contains("No task was recorded") && page.contains("this is a plan"));
}

/// A report in the browser, with all of its figures drawn.
fn opened(file: &Path) -> Option<Browser> {
    let browser = Browser::start()?;
    browser.open(file);
    browser.promised(
        "for (const f of document.querySelectorAll('.figure')) { f.scrollIntoView({behavior: 'instant'}); \
         for (let n = 0; n < 600 && !f.querySelector('.body').children.length; n += 1) await new Promise(requestAnimationFrame); }",
    );
    browser.wait("[...document.querySelectorAll('.figure .body')].every(body => body.children.length > 0)");
    Some(browser)
}

/// The text of an element of the page.
fn text(browser: &Browser, selector: &str) -> String {
    let script = format!("return document.querySelector({}).textContent;", serde_json::json!(selector));
    browser.script(&script).as_str().expect("text").to_owned()
}

#[test]
fn figures_can_be_zoomed_filtered_and_read_in_a_browser() {
    let world = World::new();
    world.run("run", &[]).succeeded();
    let Some(browser) = opened(&world.path("run/report.html")) else { return };
    // A canvas on which nothing was drawn has one colour.
    let blank = "return [...document.querySelectorAll('.plot canvas')].filter(c => { \
         const d = new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer); \
         return d.every(pixel => pixel === d[0]); }).length;";
    assert_eq!(browser.script(blank), 0, "empty charts");
    assert_eq!(browser.script("return performance.getEntriesByType('resource').length"), 0, "something was loaded");

    let status = "#run-1-timeline .status";
    let whole = text(&browser, status);
    browser.drag("#run-1-timeline .u-over", [0.2, 0.5], [0.5, 0.5]);
    let zoomed = text(&browser, status);
    assert_ne!(zoomed, whole, "a drag zooms");
    browser.script("document.querySelector('#run-1-timeline .plot').focus()");
    // WebDriver's code of the right arrow.
    browser.press(&["\u{E014}"]);
    let moved = text(&browser, status);
    assert_ne!(moved, zoomed, "an arrow moves");
    browser.press(&["+"]);
    assert_ne!(text(&browser, status), moved, "+ zooms");
    browser.press(&["0"]);
    assert_eq!(text(&browser, status), whole, "0 shows all");

    let lost = read_table(&world.path("run"), "tasks").expect("a table");
    let counted = lost["fate"].as_string::<i32>().iter().filter(|&fate| fate == Some("counted")).count();
    browser.script("document.querySelector('#run-1-timeline input[name=counted]').click()");
    let left = lost.num_rows() - counted;
    assert!(
        text(&browser, status).starts_with(&format!("{left} of {} tasks", lost.num_rows())),
        "{}",
        text(&browser, status)
    );

    let csv = "let blob; URL.createObjectURL = given => { blob = given; return '#'; }; \
         const link = document.querySelector('#run-1-outcomes .csv'); \
         link.addEventListener('click', e => e.preventDefault()); link.click(); return blob.text();";
    let csv = browser.promised(csv);
    let csv = csv.as_str().expect("text");
    assert!(csv.starts_with("round,virtual_time_s,counted,late,dropped,cancelled,in_flight\r\n"), "{csv}");
    assert_eq!(csv.lines().count(), 4);
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn a_report_can_be_read_in_the_dark_on_paper_and_on_a_narrow_screen() {
    let world = World::new();
    world.run("run", &[]).succeeded();
    let Some(browser) = opened(&world.path("run/report.html")) else { return };
    let paper = "return getComputedStyle(document.body).backgroundColor";
    browser.screen(1280, "light");
    let light = browser.script(paper);
    browser.screen(1280, "dark");
    assert_ne!(browser.script(paper), light);
    browser.screen(390, "dark");
    browser.wait("document.documentElement.scrollWidth <= innerWidth");
    assert!(browser.print() > 10_000);
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn names_that_look_like_markup_stay_names() {
    let world = World::new();
    let hostile = "</script><img src=x onerror='window.broken=1'>&\"";
    world.edit("data.json", "\"user-0\"", &serde_json::json!(hostile).to_string());
    world.run("run", &[]).succeeded();
    world.fedreplay(&["report", "run", "run", "--out", "twice.html"]).succeeded();
    for file in ["run/report.html", "twice.html"] {
        let page = page(&world, file);
        assert!(!page.contains("<img"), "{file}");
        let columns = columns(&page);
        assert!(texts(figure(&columns["runs"][0], "timeline"), "client_id").iter().any(|id| id == hostile), "{file}");
    }
    let Some(browser) = opened(&world.path("run/report.html")) else { return };
    browser.script("document.querySelectorAll('details').forEach(details => { details.open = true; })");
    browser.wait("document.querySelector('#run-1-timeline table') !== null");
    assert_eq!(browser.script("return window.broken ?? document.images.length"), 0);
    assert!(browser.script("return document.body.textContent").as_str().expect("text").contains(hostile));
    assert_eq!(browser.complaints(), Vec::<String>::new());
}
