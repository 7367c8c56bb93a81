//! Inputs of every format with random changes go through the program: each is used or refused in one sentence, in time.
//!
//! `make soak` tries 20,000. A finding is kept in `fixtures/damaged`, and tried again by every run of this test.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use fedreplay_sim::Stream;

use super::evaluation::question;
use super::signed::{LAB, LAB_PUBLIC};
use super::support::fork_server::{End, output_within};
use super::support::{World, copy, draws, files, project, trials};

/// A format that the program reads.
struct Format {
    /// Ending of its files' names.
    extension: &'static str,
    /// File that is changed.
    file: &'static str,
    /// Commands that read it.
    commands: &'static [&'static str],
}

const fn format(extension: &'static str, file: &'static str, commands: &'static [&'static str]) -> Format {
    Format { extension, file, commands }
}

const CHECK: &str = "scenario check scenario.ron --no-trial";
const INSPECT_SKIPPING: &str = "data inspect {} --skip-bad-rows";
const READ_RUN: &[&str] = &["verify run", "show run", "report run --out page.html", "export run --to csv --out csv"];

const FORMATS: [Format; 32] = [
    format("ron", "scenario.ron", &[CHECK, "plan scenario.ron --out planned"]),
    format("json", "data.json", &[CHECK, "data inspect {}", INSPECT_SKIPPING]),
    format("jsonl", "rows.jsonl", &["data inspect {}", INSPECT_SKIPPING]),
    format("csv", "rows.csv", &["data inspect {}", INSPECT_SKIPPING]),
    format("parquet", "rows.parquet", &["data inspect {}", INSPECT_SKIPPING]),
    format("gz", "rows.json.gz", &["data inspect {}", INSPECT_SKIPPING]),
    format("zst", "rows.json.zst", &["data inspect {}", INSPECT_SKIPPING]),
    format("json", "base/config.json", &[CHECK]),
    format("json", "base/tokenizer.json", &[CHECK, "data inspect data.json --tokenizer base"]),
    format("json", "base/tokenizer_config.json", &[CHECK]),
    format("json", "base/special_tokens_map.json", &[CHECK]),
    format("jinja", "base/chat_template.jinja", &["scenario check scenario.ron --no-trial --set data.template=Chat"]),
    format("safetensors", "base/model.safetensors", &["run scenario.ron --set rounds=1 --out ran --store none"]),
    format("gguf", "model.gguf", &["model import {} --out imported"]),
    format(
        "json",
        "adapter/adapter_config.json",
        &["scenario check scenario.ron --no-trial --set model.lora.initial=adapter"],
    ),
    format(
        "safetensors",
        "adapter/adapter_model.safetensors",
        &["scenario check scenario.ron --no-trial --set model.lora.initial=adapter"],
    ),
    format("sh", "train.sh", &["import {}"]),
    format("csv", "clients.csv", &["plan traced.ron --out planned"]),
    format("parquet", "clients.parquet", &["plan traced-parquet.ron --out planned"]),
    format("json", "run/manifest.json", READ_RUN),
    format("json", "run/certificate.json", &["verify run", "verify whole --certificate {}"]),
    format("ron", "run/scenario.ron", READ_RUN),
    format("parquet", "run/ledger/population/00000-00000.parquet", READ_RUN),
    format("parquet", "run/ledger/events/00001-00001.parquet", READ_RUN),
    format("parquet", "run/ledger/tasks/00001-00001.parquet", READ_RUN),
    format("parquet", "run/ledger/rounds/00001-00001.parquet", READ_RUN),
    format("parquet", "run/ledger/evaluations/00001-00001.parquet", READ_RUN),
    format("parquet", "run/ledger/lineage/00001-00001.parquet", READ_RUN),
    format("json", "whole.intoto.json", &["verify whole --signed-by lab.pub.pem"]),
    format("pem", "lab.pem", &["certify whole --key {} --out out.json"]),
    format(
        "csv",
        "questions/mmlu/test/anatomy_test.csv",
        &["eval base --data questions --bench mmlu --shots 0 --limit 1"],
    ),
    format(
        "jsonl",
        "questions/vicuna/question.jsonl",
        &["eval base --data questions --bench vicuna --limit 1 --answer-tokens-max 1 --out found"],
    ),
];

/// Files of formats, with inputs in `fixtures/damaged` that ended the program badly in their place.
const FOUND: [(&str, &str); 2] =
    [("run/ledger/rounds/00001-00001.parquet", "rounds.parquet"), ("clients.parquet", "rounds.parquet")];

/// Endings of files in fixtures and scenarios that the program does not read: pages, sources of fixtures, options of tiny forms, a script, and
/// files without an ending or half-made ones in a store.
const NOT_READ: [&str; 5] = ["md", "rs", "set", "partial", ""];

/// Texts that are rarely thought of.
const ODD: [&[u8]; 16] = [
    b"",
    b"\0",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"-1",
    b"1e400",
    b"NaN",
    b"18446744073709551616",
    b"-9223372036854775808",
    b"\"",
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    b"{\"a\":{\"a\":{\"a\":",
    b"\\u0000",
    b"\r\n\r\n",
    "\u{202e}\u{1F600}".as_bytes(),
    b"../../../../etc/passwd",
];

/// Changes bytes in one to four places.
fn mutate(bytes: &mut Vec<u8>, draws: &mut Stream) {
    for _ in 0..=draws.below(4) {
        let length = bytes.len() as u64;
        let place = |draws: &mut Stream| draws.below(length + 1) as usize;
        // Headers and footers decide more than what is between them.
        let near_an_end = |draws: &mut Stream| match draws.below(3) {
            0 => draws.below(length.min(64) + 1) as usize,
            1 => (length - draws.below(length.min(64) + 1)) as usize,
            _ => draws.below(length + 1) as usize,
        };
        match draws.below(9) {
            0 => bytes.truncate(place(draws)),
            1 => {
                let (a, b) = (place(draws), place(draws));
                drop(bytes.drain(a.min(b)..a.max(b).min(a.min(b) + 400)));
            }
            2 => {
                let from = place(draws);
                let part = bytes[from..bytes.len().min(from + 400)].to_vec();
                let to = place(draws);
                drop(bytes.splice(to..to, part));
            }
            3 => {
                let at = near_an_end(draws);
                let word = ODD[draws.below(ODD.len() as u64) as usize];
                drop(bytes.splice(at..at, word.iter().copied()));
            }
            4 => replace_number(bytes, draws),
            5 => remove_line(bytes, draws),
            6 if length > 0 => {
                // A length, or a part of one, that no file has.
                let at = near_an_end(draws).min(bytes.len() - 1);
                for byte in bytes.iter_mut().skip(at).take(8) {
                    *byte = 0xff;
                }
            }
            _ if length > 0 => {
                let at = near_an_end(draws).min(bytes.len() - 1);
                bytes[at] ^= 1 << draws.below(8);
            }
            _ => bytes.push(draws.below(256) as u8),
        }
    }
}

/// Replaces a number in the text by an odd word.
fn replace_number(bytes: &mut Vec<u8>, draws: &mut Stream) {
    let begins = |at: usize| bytes[at].is_ascii_digit() && (at == 0 || !bytes[at - 1].is_ascii_digit());
    let numbers: Vec<usize> = (0..bytes.len()).filter(|&at| begins(at)).collect();
    if numbers.is_empty() {
        return;
    }
    let from = numbers[draws.below(numbers.len() as u64) as usize];
    let digits = bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let word = ODD[draws.below(ODD.len() as u64) as usize];
    bytes.splice(from..from + digits, word.iter().copied());
}

fn remove_line(bytes: &mut Vec<u8>, draws: &mut Stream) {
    let mut lines: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
    if lines.is_empty() {
        return;
    }
    lines.remove(draws.below(lines.len() as u64) as usize);
    *bytes = lines.concat();
}

/// Every format's file, as it should be.
fn world() -> World {
    let world = World::new();
    let rows = super::support::rows(6, "anything");
    let lines: Vec<String> = rows.as_array().expect("rows").iter().map(ToString::to_string).collect();
    world.write("rows.jsonl", &lines.join("\n"));
    world.write("rows.csv", "instruction,response\n\"What, then?\",\"This\"\nSecond,Third\n");
    fs::copy(project("fixtures/forms/messages.parquet"), world.path("rows.parquet")).expect("a copy");
    fs::copy(project("fixtures/gguf/llama.gguf"), world.path("model.gguf")).expect("a copy");
    let file = fs::File::create(world.path("rows.json.gz")).expect("a writable folder");
    let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    gzip.write_all(rows.to_string().as_bytes()).and_then(|()| gzip.finish().map(drop)).expect("a writable folder");
    let packed = zstd::encode_all(rows.to_string().as_bytes(), 1).expect("memory");
    fs::write(world.path("rows.json.zst"), packed).expect("a writable folder");
    world.write(
        "base/chat_template.jinja",
        "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] | trim }}\n{% endfor %}\
         {% if add_generation_prompt %}<assistant>{% endif %}",
    );
    world
        .write("train.sh", "rank=8\npython main_sft.py --use_peft --peft_lora_r $rank \\\n  --num_rounds 2 --seed 1\n");
    let trace =
        "client_id,device,flops_per_second,downlink_bits_per_second\nuser-0,quick,1e9,1000000\nuser-3,phone,,500000\n";
    world.write("clients.csv", trace);
    world.run("whole", &["--set=rounds=1", "--set=output.save_adapter_every=1"]).succeeded();
    copy(&world.path("whole"), &world.path("run"));
    fs::copy(world.path("whole/ledger/population/00000-00000.parquet"), world.path("clients.parquet")).expect("a copy");
    let scenario = fs::read_to_string(world.path("scenario.ron")).expect("a scenario");
    for (name, trace) in [("traced.ron", "clients.csv"), ("traced-parquet.ron", "clients.parquet")] {
        world.write(name, &scenario.replace("mix: [", &format!("trace: (clients: \"{trace}\"), mix: [")));
    }
    fs::create_dir(world.path("adapter")).expect("a writable folder");
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        fs::copy(world.path("whole/adapters/round-00001").join(name), world.path("adapter").join(name))
            .expect("a copy");
    }
    world.write("lab.pem", LAB);
    world.write("lab.pub.pem", LAB_PUBLIC);
    world.fedreplay(&["certify", "whole", "--key", "lab.pem"]).succeeded();
    for folder in ["questions/vicuna", "questions/mmlu/test"] {
        fs::create_dir_all(world.path(folder)).expect("a writable folder");
    }
    world.write("questions/vicuna/question.jsonl", &[question(1, "Who?"), question(2, "What?")].join("\n"));
    world.write("questions/mmlu/test/anatomy_test.csv", "Is it so?,Yes,No,\"Now, and then\",Never,A\n");
    world
}

/// Runs a command on a file. Returns why its end is not one that a user should see, if so.
fn fault(world: &World, command: &str, file: &str) -> Option<String> {
    /// Far more than any of these inputs needs.
    const LIMIT: Duration = Duration::from_secs(60);
    const MEMORY: u64 = 6 << 30;
    let words: Vec<String> = command.split(' ').map(|word| word.replace("{}", file)).collect();
    let mut program = world.command(&[]);
    let end = output_within(program.args(&words), Some(MEMORY), Some(LIMIT)).expect("the program can be run");
    let End::Ended(output) = end else {
        return Some(format!("`{command}` had not ended after {LIMIT:?}"));
    };
    for made in ["planned", "ran", "imported", "csv", "found"] {
        let _ = fs::remove_dir_all(world.path(made));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let ends_well = match output.status.code() {
        Some(0 | 3) => true,
        Some(1 | 2) => said.lines().filter(|line| line.starts_with("error: ")).count() == 1,
        _ => false,
    };
    let fault = format!("`{command}` ended with {}:\n{said}", output.status);
    (!ends_well || said.contains("panicked")).then_some(fault)
}

/// Tries a format's commands on these bytes.
fn try_bytes(world: &World, format: &Format, bytes: &[u8]) -> Option<String> {
    let path = world.path(format.file);
    let whole = fs::read(&path).expect("the format's file");
    fs::write(&path, bytes).expect("a writable file");
    let found = format.commands.iter().find_map(|command| fault(world, command, format.file));
    fs::write(&path, whole).expect("a writable file");
    found
}

#[test]
fn changed_inputs_of_every_format_are_used_or_refused_in_one_sentence() {
    let world = world();
    for format in &FORMATS {
        let whole = fs::read(world.path(format.file)).expect("every format has a file");
        let fault = try_bytes(&world, format, &whole);
        assert_eq!(fault, None, "{} as it should be", format.file);
    }
    // One of each format, and 20,000 in a soak of 200 trials.
    let count = trials(1) * if std::env::var_os("FEDREPLAY_SOAK").is_some() { 100 } else { FORMATS.len() as u64 };
    let mut found = Vec::new();
    for seed in 0..count {
        let format = &FORMATS[seed as usize % FORMATS.len()];
        let mut bytes = fs::read(world.path(format.file)).expect("every format has a file");
        mutate(&mut bytes, &mut draws(seed));
        if let Some(fault) = try_bytes(&world, format, &bytes) {
            let kept = std::env::temp_dir().join(format!("fedreplay-mutated-{seed}.{}", format.extension));
            fs::write(&kept, &bytes).expect("a writable folder");
            println!("seed {seed}: {} is kept as {}: {fault}", format.file, kept.display());
            found.push(seed);
        }
    }
    assert!(found.is_empty(), "of {count} seeds, {found:?}");
}

#[test]
fn what_was_found_before_is_refused() {
    let world = world();
    for (file, damaged) in FOUND {
        let format = FORMATS.iter().find(|format| format.file == file).expect("a format with this file");
        let bytes = fs::read(project("fixtures/damaged").join(damaged)).expect("a fixture");
        assert_eq!(try_bytes(&world, format, &bytes), None, "{damaged} as {file}");
    }
    for (name, _) in files(&project("fixtures/damaged")) {
        assert!(FOUND.iter().any(|&(_, damaged)| damaged == name), "fixtures/damaged/{name} is not tried");
    }
}

#[test]
fn every_format_of_fixtures_and_scenarios_is_mutated() {
    let known: BTreeSet<&str> = FORMATS.iter().map(|format| format.extension).chain(NOT_READ).collect();
    for folder in ["fixtures", "scenarios"] {
        for (name, _) in files(&project(folder)) {
            let extension = Path::new(&name).extension().unwrap_or_default().to_string_lossy().into_owned();
            assert!(known.contains(extension.as_str()), "{folder}/{name}: files of this format are not mutated");
        }
    }
}
