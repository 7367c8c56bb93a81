//! A judge's key and a hub's token are planted in the environment, and the other side repeats them in every part of its answers: no
//! output, log, file or store of any command that meets one has them, as they are, in part, or in another encoding.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::{fs, str};

use arrow::array::AsArray;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::json;

use super::evaluation::question;
use super::support::{Said, World, files};
use super::test_support::loopback::{HttpRequest, LoopbackServer};

const KEY: &str = "sk-Planted/AbCdEf+0123456789xyz";
const TOKEN: &str = "hf_PlantedTokenAbCdEf0123456789";
const PASSWORD: &str = "planted-password-123456";

/// [character] -- Length of the shortest part of a secret that counts as the secret.
const PART: usize = 14;

/// Forms of a secret: itself, its hexadecimal digits and its base64, all in lower case.
fn forms(secret: &str) -> Vec<String> {
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let base64 = BASE64.encode(secret);
    let basic = BASE64.encode(format!("u:{secret}"));
    // The first characters of `basic` are those of the user.
    [secret, &hex, &base64, &basic[4..]].map(str::to_ascii_lowercase).to_vec()
}

/// Fails if a text has a part of a secret.
#[track_caller]
fn check_text(text: &str, place: &str) {
    let text = text.to_ascii_lowercase();
    for secret in [KEY, TOKEN, PASSWORD] {
        for form in forms(secret) {
            let length = if form.len() > secret.len() { PART * 2 } else { PART };
            for part in form.as_bytes().windows(length) {
                let part = str::from_utf8(part).expect("ASCII");
                let at = text.find(part);
                assert!(at.is_none(), "{place} has `{part}`: {}", &text[at.unwrap_or(0).saturating_sub(200)..]);
            }
        }
    }
}

/// Fails if a file in a folder has a part of a secret, also within the compressed columns of a table.
#[track_caller]
fn check_files(folder: &Path) {
    for (name, bytes) in files(folder) {
        check_text(&String::from_utf8_lossy(&bytes), &name);
        check_text(&name, "the name of a file");
        if name.ends_with(".parquet") {
            let file = fs::File::open(folder.join(&name)).expect("a file");
            let batches = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|reader| reader.build());
            for batch in batches.expect("a table") {
                let columns = batch.expect("rows").columns().to_vec();
                let texts = columns.iter().filter_map(|column| column.as_string_opt::<i32>());
                texts.flat_map(|texts| texts.iter().flatten()).for_each(|text| check_text(text, &name));
            }
        }
    }
}

#[track_caller]
fn check_said(said: &Said) {
    check_text(&said.stdout, "stdout");
    check_text(&said.stderr, "stderr");
    assert!(!said.stderr.contains("panicked"), "{}", said.stderr);
}

/// An answer whose every part may repeat a secret, in chunks of seven bytes.
struct Answer {
    status: u16,
    headers: String,
    body: String,
}

impl Answer {
    fn write(&self, secret: &str, mut stream: &TcpStream) -> std::io::Result<()> {
        let Self { status, headers, body } = self;
        write!(stream, "HTTP/1.1 {status} Reason {secret}\r\nConnection: close\r\nX-Request: {secret}\r\n{headers}")?;
        write!(stream, "Set-Cookie: key={secret}\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        for chunk in body.as_bytes().chunks(7) {
            write!(stream, "{:x}\r\n", chunk.len())?;
            stream.write_all(chunk)?;
            stream.write_all(b"\r\n")?;
        }
        stream.write_all(b"0\r\n\r\n")
    }
}

/// Returns what follows `Bearer ` in a request.
fn bearer(request: &HttpRequest) -> String {
    let header = request.header("authorization").unwrap_or_default();
    header.strip_prefix("Bearer ").unwrap_or_default().to_owned()
}

/// Returns the answer of a judge of this mood.
fn judgment(mood: usize, key: &str) -> Answer {
    let basic = BASE64.encode(format!("u:{key}"));
    let hex: String = key.bytes().map(|byte| format!("{byte:02x}")).collect();
    let reply = |content: serde_json::Value, model: &str| {
        let choices =
            json!([{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}]);
        let usage = json!({"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2});
        json!({"id": key, "model": model, "choices": choices, "usage": usage}).to_string()
    };
    let answer = |status, headers: &str, body: String| Answer { status, headers: headers.to_owned(), body };
    match mood {
        0 => answer(200, "", reply(json!(format!("[[5]] {key} {basic} {hex} {}", &key[3..20])), key)),
        1 => answer(302, &format!("Location: http://127.0.0.1:1/{key}?key={key}\r\n"), format!("moved, {key}")),
        2 => answer(400, "", format!("{{\"error\": {{\"message\": \"bad Basic {basic}, {hex}\"}}}}")),
        3 => answer(503, &format!("Retry-After: 0\r\nX-Key: {key}\r\n"), format!("{}{key}", "x".repeat(180))),
        4 => answer(200, "", reply(json!({ key: 7 }), key)),
        5 => answer(200, "", format!("{{\"{key}\": [}}")),
        6 => answer(200, &format!("Content-Encoding: {key}\r\n"), key.to_owned()),
        _ => answer(429, &format!("Retry-After: {key}\r\n"), key.replace('/', "\\/").replace('+', "\\u002b")),
    }
}

const MOODS: usize = 8;

#[test]
fn the_judges_key_is_nowhere() {
    let world = World::new();
    let questions: Vec<String> = (1..=MOODS as u32).map(|id| question(id, &format!("What is {id}?"))).collect();
    fs::create_dir_all(world.path("questions/vicuna")).expect("a folder");
    world.write("questions/vicuna/question.jsonl", &questions.join("\n"));
    let count = AtomicUsize::new(0);
    let sent = Arc::new(Mutex::new(BTreeSet::new()));
    let received = Arc::clone(&sent);
    let accept = move |_, request: &HttpRequest| {
        received.lock().expect("no test panics here").insert(bearer(request));
        (judgment(count.fetch_add(1, Ordering::Relaxed) % MOODS, &bearer(request)), bearer(request))
    };
    let server =
        LoopbackServer::start(accept, |(answer, key): (Answer, String), _, stream| answer.write(&key, &stream));
    let url = format!("{}/v1", server.url());
    for (out, format) in [("text", "text"), ("lines", "json")] {
        let usual = ["eval", "base", "--bench", "vicuna", "--data", "questions", "--answer-tokens-max", "4"];
        let judge =
            ["--judge-url", &url, "--judge-model", "judge", "--judge-concurrency", "1", "--judge-attempts", "1"];
        let more = ["--store", "store", "--out", out, "--log-format", format, "-vvv", "--json"];
        let mut command = world.command(&[&usual[..], &judge, &more].concat());
        command.env("OPENAI_API_KEY", KEY).env("RUST_LOG", "trace");
        let said = Said::of(command.output().expect("the binary can be run")).succeeded();
        check_said(&said);
    }
    assert_eq!(*sent.lock().expect("no test panics here"), BTreeSet::from([KEY.to_owned()]));
    for folder in ["text", "lines", "store"] {
        check_files(&world.path(folder));
    }
    // Addresses with a password or a query are refused and not repeated.
    for url in [format!("http://u:{PASSWORD}@127.0.0.1:1/v1"), format!("http://127.0.0.1:1/v1?key={PASSWORD}")] {
        let more = ["--judge-url", &url, "--judge-model", "judge", "--store", "none"];
        let usual = ["eval", "base", "--bench", "vicuna", "--data", "questions", "--answer-tokens-max", "4"];
        check_said(&world.fedreplay(&[&usual[..], &more].concat()).refused(2, &["the base URL is"]));
    }
}

/// Returns the answer of a hub about a revision.
fn listing(path: &str, token: &str) -> Answer {
    let answer = |status, headers: String, body: String| Answer { status, headers, body };
    let none = String::new();
    let revision = path.rsplit('/').next().unwrap_or_default().split('?').next().unwrap_or_default();
    match revision {
        "elsewhere" => answer(302, format!("Location: http://127.0.0.1:1/{token}?t={token}\r\n"), token.to_owned()),
        "gated" => answer(403, format!("X-Error-Code: Gated{token}\r\nX-Error-Message: {token}\r\n"), token.to_owned()),
        "named" => answer(200, none, json!({"sha": token, "siblings": [{"rfilename": token}]}).to_string()),
        "cut" => answer(200, none, format!("{{\"sha\": \"{token}\", \"{token}\":")),
        "scheme" => answer(302, format!("Location: {token}://x/\r\n"), none),
        "hashed" => {
            let file = json!({"rfilename": "config.json", "size": 5, "blobId": format!("x{token}")});
            let sha = "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567";
            answer(200, none, json!({ "sha": sha, "siblings": [file] }).to_string())
        }
        _ => answer(500, format!("X-Error-Code: {token}\r\n"), token.to_owned()),
    }
}

#[test]
fn the_hubs_token_is_nowhere() {
    let world = World::new();
    world.edit("scenario.ron", "folder: \"base\"", "hub: (\"tiny/llama\", \"REVISION\")");
    let text = fs::read_to_string(world.path("scenario.ron")).expect("a scenario");
    let sent = Arc::new(Mutex::new(BTreeSet::new()));
    let received = Arc::clone(&sent);
    let accept = move |_, request: &HttpRequest| {
        received.lock().expect("no test panics here").insert(bearer(request));
        (listing(&request.path, &bearer(request)), bearer(request))
    };
    let server =
        LoopbackServer::start(accept, |(answer, token): (Answer, String), _, stream| answer.write(&token, &stream));
    let run = |arguments: &[&str], endpoint: &str| {
        let mut command = world.command(arguments);
        command.env("HF_ENDPOINT", endpoint).env("HF_HOME", world.path("hf")).env("HF_TOKEN", TOKEN);
        command.env_remove("HF_HUB_OFFLINE").env_remove("HF_HUB_CACHE").env("RUST_LOG", "trace");
        Said::of(command.output().expect("the binary can be run"))
    };
    let check = |arguments: &[&str], endpoint: &str| {
        let said = run(arguments, endpoint);
        assert!([Some(1), Some(2)].contains(&said.code), "{arguments:?}: {:?}\n{}", said.code, said.stderr);
        check_said(&said);
    };
    world.write("sweep.ron", "(name: \"cells\", scenario: \"scenario.ron\", seeds: [1])");
    for revision in ["elsewhere", "gated", "named", "cut", "scheme", "hashed", "broken"] {
        world.write("scenario.ron", &text.replace("REVISION", revision));
        let plan = ["plan", "scenario.ron", "--out", "plan", "--log-format", "json", "-vvv"];
        check(&plan, &server.url());
    }
    for command in [
        &["run", "scenario.ron", "--out", "run", "--store", "store", "-vv"][..],
        &["scenario", "check", "scenario.ron", "--json"],
        &["sweep", "sweep.ron", "--out", "sweep", "--store", "store"],
    ] {
        check(command, &server.url());
    }
    check(&["run", "scenario.ron", "--out", "run", "--store", "none"], &format!("http://u:{PASSWORD}@127.0.0.1:1"));
    check(&["run", "scenario.ron", "--out", "run", "--store", "none"], &format!("http://127.0.0.1:1?key={PASSWORD}"));
    assert_eq!(*sent.lock().expect("no test panics here"), BTreeSet::from([TOKEN.to_owned()]));
    check_files(&world.path(""));
}
