//! Judged examinations over loopback: nothing is asked twice and nothing finished is lost, whatever becomes of judge or
//! program; and the key is nowhere to be read.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::evaluation::{question, table, texts};
use super::support::{Said, World, files, output};
use super::test_support::chat_endpoint::{ChatEndpoint, Turn};

const KEY: &str = "sk-test-fedcba9876543210";

/// Two questions of MT-Bench, one of them with a reference, and `vicuna` of Vicuna.
fn world(vicuna: u32) -> World {
    let world = World::new();
    fs::create_dir_all(world.path("questions/vicuna")).unwrap();
    fs::create_dir_all(world.path("questions/mt-bench")).unwrap();
    let lines: Vec<String> = (1..=vicuna).map(|id| question(id, &format!("What is {id}?"))).collect();
    world.write("questions/vicuna/question.jsonl", &lines.join("\n"));
    world.write(
        "questions/mt-bench/question.jsonl",
        "{\"question_id\": 1, \"category\": \"writing\", \"turns\": [\"Write.\", \"Again.\"]}\n\
         {\"question_id\": 2, \"category\": \"math\", \"turns\": [\"Add.\", \"Subtract.\"]}\n",
    );
    world.write(
        "questions/mt-bench/reference_answers.jsonl",
        r#"{"question_id": 2, "choices": [{"index": 0, "turns": ["2", "0"]}]}"#,
    );
    world
}

/// Both benchmarks, short answers, one judgement at a time.
fn eval(world: &World, url: &str, out: &str, more: &[&str]) -> Command {
    let usual = ["eval", "base", "--data", "questions", "--answer-tokens-max", "8", "--store", "store", "--out", out];
    let judge = ["--judge-url", url, "--judge-model", "judge", "--judge-concurrency", "1"];
    let mut command = world.command(&[&usual[..], &judge, more].concat());
    command.env("OPENAI_API_KEY", KEY).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn said(mut command: Command) -> Said {
    Said::of(output(&mut command).expect("the binary can be run"))
}

/// What an examination wrote, by name.
fn written(world: &World, out: &str) -> Vec<(String, Vec<u8>)> {
    files(&world.path(out))
}

fn text(world: &World, path: &str) -> String {
    fs::read_to_string(world.path(path)).expect("a text")
}

const BOTH: [&str; 2] = ["--bench", "mt-bench,vicuna"];

#[test]
fn a_killed_examination_asks_for_what_is_missing_and_is_repeated_offline_byte_for_byte() {
    let world = world(6);
    let (tell, hear) = mpsc::channel();
    let server = ChatEndpoint::start([Turn::Says("Rating: [[3]]"), Turn::Says("I cannot say."), Turn::Holds(tell)]);
    let url = server.base_url();
    let mut child = eval(&world, &url, "found", &BOTH).spawn().expect("the binary can be run");
    hear.recv_timeout(Duration::from_secs(120)).expect("a third request");
    let command_line = fs::read(format!("/proc/{}/cmdline", child.id())).expect("it is running");
    assert!(!String::from_utf8_lossy(&command_line).contains(KEY));
    child.kill().expect("it is still running");
    child.wait().expect("a child");
    assert_eq!(server.take_requests().len(), 3);

    // Ten judgements, of which two are in the store.
    let finished = said(eval(&world, &url, "found", &BOTH)).succeeded();
    assert_eq!(server.take_requests().len(), 8);
    let table_text = text(&world, "found/table.txt");
    assert!(finished.stdout.contains(&table_text), "{}\n{table_text}", finished.stdout);
    assert!(
        finished.summary("judge").starts_with("8 judgements asked for (800 tokens read, 80 written), 2 from the store")
    );
    // Turns of 3 and an unparsable one, then of 7 and 7.
    let lines: Vec<Vec<&str>> = table_text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["model", "MT-1", "MT-2", "MT-Bench", "Vicuna"]);
    assert_eq!(lines[1], ["base", "3.00", "7.00", "5.67", "7.00"]);
    assert_eq!(
        table_text.lines().nth(2),
        Some("base, MT-Bench: 1 of 4 judgements without a rating; 4.00 with them counted as -1")
    );

    drop(server);
    for (out, more) in [("offline", &["--judge-offline"][..]), ("gone", &[])] {
        let again = said(eval(&world, &url, out, &[&BOTH[..], more].concat())).succeeded();
        assert!(again.summary("judge").starts_with("0 judgements asked for"), "{}", again.stdout);
        assert_eq!(written(&world, out), written(&world, "found"), "{out}");
    }
    let dry = said(eval(&world, &url, "dry", &[&BOTH[..], &["--dry-run", "--judge-prices", "30,60"]].concat()));
    for part in ["at most 0 to write", "6 judgements are stored, 0 to ask for", ", 0.00 at most"] {
        assert!(dry.stdout.contains(part), "`{part}` is not in:\n{}", dry.stdout);
    }
}

#[test]
fn what_a_misbehaving_judge_costs_is_its_own_judgments_and_they_are_asked_for_again() {
    let world = world(14);
    let faults = [
        (Turn::Answers(429, "Retry-After: 0\r\n", "slow down"), "it answered 429 (slow down), asking to wait 0 s"),
        (Turn::Answers(500, "", "oops"), "it answered 500 (oops)"),
        (Turn::Silent, "the connection failed"),
        (Turn::Truncated, "its reply is not of the chat API"),
        (Turn::Answers(200, "", r#"{"object": "list"}"#), "missing field `choices`"),
        (Turn::Closes, "the connection failed"),
        (Turn::Cut, "the connection failed"),
    ];
    let turns = faults.iter().flat_map(|(fault, _)| [fault.clone(), Turn::Says("[[5]]")]);
    let server = ChatEndpoint::start(turns);
    let url = server.base_url();
    // Long enough for a busy host to answer in, since only one of the faults waits for its end.
    let impatient = ["--bench", "vicuna", "--judge-attempts", "1", "--judge-timeout", "5"];
    said(eval(&world, &url, "found", &impatient)).succeeded();
    let judgements = texts(&table(&world.path("found/generations.parquet")), "judgement");
    for ((_, reason), pair) in faults.iter().zip(judgements.chunks(2)) {
        assert!(pair[0].starts_with("none: ") && pair[0].contains(reason), "{reason}: {}", pair[0]);
        assert_eq!(pair[1], "[[5]]");
    }
    let table_text = text(&world, "found/table.txt");
    assert!(table_text.contains("5.00") && table_text.contains("7 of 14 answers not judged"), "{table_text}");

    server.take_requests();
    said(eval(&world, &url, "found", &impatient)).succeeded();
    assert_eq!(server.take_requests().len(), 7, "only what failed");
    assert_eq!(text(&world, "found/table.txt"), "model  Vicuna\nbase     6.00\n");
}

#[test]
fn a_judgment_that_was_cut_off_counts_for_nothing_is_told_and_is_asked_for_again() {
    let world = world(4);
    let cut = r#"{"choices": [{"message": {"content": "A grade of [[2]] may be"}, "finish_reason": "length"}]}"#;
    let reasoned =
        r#"{"choices": [{"message": {"content": null, "reasoning_content": "[[3]]"}, "finish_reason": "length"}]}"#;
    let answers = |body| Turn::Answers(200, "", body);
    let server = ChatEndpoint::start([
        answers(cut),
        Turn::Says("[[4]]"),
        answers(reasoned),
        Turn::Says("<think>[[1]]</think>[[5]]"),
    ]);
    let bench = ["--bench", "vicuna"];
    let found = said(eval(&world, &server.base_url(), "found", &bench)).succeeded();
    assert_eq!(server.take_requests().len(), 4);
    assert!(found.stdout.contains("2 judgements were cut off or empty") && found.stdout.contains("--judge-tokens-max"));
    let table_text = text(&world, "found/table.txt");
    let remark = "base, Vicuna: 2 of 4 answers not judged; 2 of 4 judgements cut off or empty\n";
    assert!(table_text.contains("4.50") && table_text.contains(remark), "{table_text}");
    let judgements = texts(&table(&world.path("found/generations.parquet")), "judgement");
    assert!(
        judgements[0].starts_with("none: ") && judgements[0].ends_with("A grade of [[2]] may be"),
        "{judgements:?}"
    );

    said(eval(&world, &server.base_url(), "found", &bench)).succeeded();
    assert_eq!(server.take_requests().len(), 2);
    assert!(text(&world, "found/table.txt").contains("5.75"));
    // FastChat's scripts take the first number of the whole text.
    let thinks = Turn::Says("<think>[[1]]</think>[[5]]");
    for (out, more, score) in [("ours", None, "5.00"), ("published", Some("--as-published"), "1.00")] {
        let server = ChatEndpoint::start(std::iter::repeat_n(thinks.clone(), 4));
        let options: Vec<&str> = bench.into_iter().chain(more).chain(["--judge-temperature", "0.5"]).collect();
        said(eval(&world, &server.base_url(), out, &options)).succeeded();
        let table_text = text(&world, &format!("{out}/table.txt"));
        assert!(table_text.contains(score), "{table_text}");
        let is_said = table_text.contains("4 of 4 judgements with several different ratings");
        assert_eq!(is_said, more.is_some(), "{table_text}");
    }
}

#[test]
fn an_endpoint_that_never_answers_is_left_and_the_answers_are_kept() {
    let world = world(5);
    let server = ChatEndpoint::start(std::iter::repeat_n(Turn::Silent, 5));
    let impatient = ["--bench", "vicuna", "--judge-attempts", "1", "--judge-timeout", "1"];
    let left = said(eval(&world, &server.base_url(), "found", &impatient)).succeeded();
    assert!(left.stderr.contains("the judge is not asked any more"), "{}", left.stderr);
    assert!(left.stdout.contains("base, Vicuna: 5 of 5 answers not judged"), "{}", left.stdout);
    // On a busy host a request may be given up before the server has read it.
    assert!(server.take_requests().len() <= 3);
    let rows = table(&world.path("found/generations.parquet"));
    assert!(texts(&rows, "answer").iter().all(|answer| answer != "null"));
    assert!(texts(&rows, "judgement")[4].starts_with("none: not asked: "), "{:?}", texts(&rows, "judgement"));
}

#[test]
fn an_examination_does_not_wait_for_a_judge_when_it_is_asked_to_stop() {
    let world = world(3);
    let (tell, hear) = mpsc::channel();
    let server = ChatEndpoint::start([Turn::Says("[[5]]"), Turn::Holds(tell)]);
    let patient = ["--bench", "vicuna", "--judge-timeout", "600"];
    let mut child = eval(&world, &server.base_url(), "found", &patient).spawn().expect("the binary can be run");
    hear.recv_timeout(Duration::from_secs(120)).expect("a second request");
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill can be run").success());
    let code = child.wait().expect("a child").code();
    let told = Said::of(child.wait_with_output().expect("a child"));
    assert_eq!(code, Some(143));
    assert!(told.stderr.contains("given up; the same command goes on where it was"), "{}", told.stderr);
    // The judgment that had arrived is in the store.
    assert_eq!(server.take_requests().len(), 2);
    said(eval(&world, &server.base_url(), "found", &patient)).succeeded();
    assert_eq!(server.take_requests().len(), 2);
}

#[test]
fn a_greatest_cost_is_that_of_the_whole_command() {
    let world = world(6);
    let server = ChatEndpoint::start([]);
    // A judgement of 100 and 10 tokens costs 0.0036 here: the second one of MT-Bench's four reaches the limit.
    let limit = ["--judge-prices", "30,60", "--judge-cost-max", "0.005", "--json"];
    let stopped = said(eval(&world, &server.base_url(), "found", &[&BOTH[..], &limit].concat())).succeeded();
    assert_eq!(server.take_requests().len(), 2);
    assert!(stopped.summary("judge").contains("0.01), 0 from the store, 8 not to be had"), "{}", stopped.stdout);
    let last: serde_json::Value = serde_json::from_str(stopped.stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&last["judge"]["asked"], &last["judge"]["failed"]), (&2.into(), &8.into()));
    assert_eq!(last["table"][2]["column"], "MT-Bench");
    assert_eq!(last["table"][2]["measured"], 7.0);
    assert_eq!(last["table"][2]["published"], serde_json::Value::Null);
}

#[test]
fn the_key_is_in_no_file_and_no_log_even_where_the_endpoint_repeats_it() {
    let world = world(6);
    let repeats = [200, 400, 200, 500].map(|status| Turn::Repeats { status });
    let server = ChatEndpoint::start(repeats);
    let mut command = eval(&world, &server.base_url(), "found", &["--bench", "vicuna", "--judge-attempts", "1", "-vv"]);
    command.env("RUST_LOG", "trace");
    let told = said(command).succeeded();
    let requests = server.take_requests();
    assert!(requests.len() == 6 && requests.iter().all(|sent| sent.authorization == Some(format!("Bearer {KEY}"))));
    assert!(told.stderr.contains("INFO"), "the log was on: {}", told.stderr);
    assert!(!told.stdout.contains(KEY) && !told.stderr.contains(KEY), "it is in the log");
    let holds_key = |bytes: &[u8]| bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes());
    for folder in ["found", "store"] {
        let spread: Vec<String> =
            written(&world, folder).into_iter().filter(|(_, bytes)| holds_key(bytes)).map(|(name, _)| name).collect();
        assert!(spread.is_empty(), "it is in {folder}: {spread:?}");
    }
    let judgements = texts(&table(&world.path("found/generations.parquet")), "judgement");
    assert_eq!(judgements[0], "Bearer (hidden)");
    assert!(judgements[1].contains("it answered 400 (Bearer (hidden))"), "{judgements:?}");
}
