//! Paths of any bytes: every command works in a folder whose name has 255 bytes, begins with a dash, is no UTF-8, and has spaces,
//! a line break, an escape of terminals, quotes and a comma. What is printed has no control characters but line breaks and tabs.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use arrow::array::AsArray;
use fedreplay::ledger::{Manifest, RunState};
use serde_json::Value;

use super::evaluation::question;
use super::signed::{LAB, LAB_PUBLIC};
use super::support::{World, copy, project};

/// Commands of the list below have this in the place of the folder.
const FOLDER: &str = "@";

/// Every command that takes a path, with the code that it ends with. Words are separated by spaces.
const COMMANDS: &[(&str, i32)] = &[
    ("run @/scenario.ron --out @/run --store @/store", 0),
    ("run @/scenario.ron --out @/same --store @/store --json -v", 0),
    ("plan @/scenario.ron --out @/plan", 0),
    ("plan @/scenario.ron --out @/plan-2 --json", 0),
    ("sweep @/sweep.ron --out @/sweep --store @/store", 0),
    ("sweep @/sweep.ron --out @/sweep --store @/store --json", 0),
    ("resume @/stopped --store @/store --json", 0),
    ("fork @/run --at-round 2 --set training.lr=0.02 --out @/fork --store @/store --json", 0),
    ("replay @/run", 0),
    ("replay @/run --json", 0),
    ("replay @/run --round 2 --store @/store --json", 0),
    ("verify @/run --certificate @/run/certificate.json --json", 0),
    ("verify @/run", 0),
    ("certify @/run --key @/key.pem --json", 0),
    ("verify @/run --signed-by @/key.pub", 0),
    (
        "calibrate @/scenario.ron --out @/this.ron --steps @/steps.parquet --lengths 8,16 --rows 1 --repeats 1 --held-out 0 \
         --least-seconds 0 --busy",
        0,
    ),
    ("calibrate --from @/steps.parquet --out @/again.ron", 0),
    ("diff @/run @/same --store @/store", 0),
    ("diff @/run @/fork --store @/store", 3),
    ("diff @/run @/fork --store @/store --json", 3),
    ("show @/run", 0),
    ("show @/plan --json", 0),
    ("ls @", 0),
    ("ls @ --json", 0),
    ("tail @/run", 0),
    ("tail @/run --json", 0),
    ("report @/run", 0),
    ("report @/run @/fork --out @/both.html --json", 0),
    ("export @/run --to csv --out @/csv", 0),
    ("export @/run --to peft --out @/peft --json", 0),
    ("export @/run --to peft --merged --out @/merged", 0),
    ("export @/run --to perfetto --json", 0),
    ("export @/run --to tensorboard", 0),
    ("export @/run --to wandb-offline-jsonl", 0),
    ("scenario check @/scenario.ron", 0),
    ("scenario check @/scenario.ron --json", 0),
    ("scenario new @/new.ron --model @/base --data @/data.json --json", 0),
    ("generate man --out @/man --json", 0),
    ("eval @/run --out @/losses --store @/store", 0),
    ("eval @/base --adapter @/peft --bench vicuna --data @/questions --answer-tokens-max 4 --out @/answers --json", 0),
    ("store ls --store @/store", 0),
    ("store ls --store @/store --json", 0),
    ("store verify --store @/store --json", 0),
    ("store gc --store @/store --keep @/run --max-size 1MB --json", 0),
    ("store gc --store @/store --forget @/fork", 0),
    ("data inspect @/data.json --tokenizer @/base --out @/data.parquet", 0),
    ("data inspect @/data.json --json", 0),
    ("data split @/data.json --held-out 0.2 --out @/split --json", 0),
    ("data diversity @/data.json --tokenizer @/base --out @/diversity --json", 0),
    ("data twin fed-aya --out @/twin.json --json", 0),
    ("model import @/model.gguf --out @/imported --json", 0),
    ("import @/train.sh", 0),
    ("import @/train.sh --json", 0),
];

/// Commands that take no path.
const WITHOUT_PATH: [&str; 2] = ["privacy", "help"];

/// The longest name that a folder may have.
fn name() -> OsString {
    let mut bytes = b"-two words\nline\x1b[31m,\"'=\xff\xfe".to_vec();
    bytes.resize(255, b'n');
    OsString::from_vec(bytes)
}

/// Makes a world in a folder of that name within a world.
fn odd_world() -> (World, PathBuf) {
    let world = World::new();
    let folder = world.path("").join(name());
    world.edit("scenario.ron", "rounds: 3", "rounds: 2");
    world.edit("scenario.ron", "local_baseline: true", "local_baseline: false");
    fs::create_dir(&folder).expect("a folder");
    copy(&world.path("base"), &folder.join("base"));
    for file in ["scenario.ron", "data.json", "test.json"] {
        fs::copy(world.path(file), folder.join(file)).expect("a copy");
    }
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect("a writable folder");
    write("sweep.ron", "(name: \"cells\", scenario: \"scenario.ron\", set: [\"rounds=1\"], seeds: [1])");
    write(
        "train.sh",
        "python main_sft.py --fed_alg fedavg --num_rounds 7 --peft_lora_r 32 --use_peft --load_in_8bit\n",
    );
    fs::create_dir_all(folder.join("questions/vicuna")).expect("a folder");
    write("questions/vicuna/question.jsonl", &question(1, "What is 1?"));
    fs::copy(project("fixtures/gguf/llama.gguf"), folder.join("model.gguf")).expect("a fixture");
    for (name, text) in [("key.pem", LAB), ("key.pub", LAB_PUBLIC)] {
        write(name, text);
    }
    (world, folder)
}

/// Puts the folder in the place of its sign.
fn words(command: &str, folder: &OsStr) -> Vec<OsString> {
    let mut words = Vec::new();
    for word in command.split(' ') {
        let mut bytes = Vec::new();
        let mut parts = word.split(FOLDER);
        bytes.extend(parts.next().expect("a part").as_bytes());
        for part in parts {
            bytes.extend(folder.as_bytes());
            bytes.extend(part.as_bytes());
        }
        words.push(OsString::from_vec(bytes));
    }
    words
}

/// Fails unless a command ends with this code and prints clean text.
#[track_caller]
fn check(mut command: Command, what: &str, code: i32) {
    let output = command.output().expect("the binary can be run");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert_eq!(output.status.code(), Some(code), "{what}:\n{stdout}\n{stderr}");
    assert!(!stderr.contains("panicked"), "{what}:\n{stderr}");
    let is_clean = |text: &str| !text.chars().any(|c| c.is_control() && !['\n', '\t'].contains(&c));
    assert!(is_clean(&stdout) && is_clean(&stderr), "{what}:\n{stdout:?}\n{stderr:?}");
    if what.ends_with("--json") {
        let last = stdout.lines().last().unwrap_or_default();
        serde_json::from_str::<Value>(last).unwrap_or_else(|error| panic!("{what}: {error}:\n{stdout}"));
    }
}

/// Makes the finished run `from` look like one that was killed.
fn stop(from: &Path, to: &Path) {
    copy(from, to);
    let mut manifest = Manifest::read(to).expect("a manifest");
    manifest.state = RunState::Running;
    manifest.digest = None;
    manifest.list_scenario(to).expect("a scenario");
    manifest.write(to).expect("a writable folder");
}

#[test]
fn every_command_takes_paths_of_any_bytes() {
    let (world, folder) = odd_world();
    // A path that begins with a dash is told from an option by what precedes it.
    let relative = [b"./", name().as_bytes()].concat();
    for &(text, code) in COMMANDS {
        if text.starts_with("resume") {
            stop(&folder.join("run"), &folder.join("stopped"));
        }
        let mut command = world.command(&[]);
        command.args(words(text, OsStr::from_bytes(&relative)));
        check(command, text, code);
    }
    let digest = |run: &str| Manifest::read(&folder.join(run)).expect("a manifest").digest;
    assert_eq!(digest("stopped"), digest("run"), "a run that was resumed");

    // Within the folder, for which the manifest has the only absolute path.
    for text in ["replay run", "eval run --store store", "scenario check scenario.ron", "scenario check new.ron"] {
        let mut command = world.command(&[]);
        command.current_dir(&folder).args(text.split(' '));
        check(command, text, 0);
    }
}

#[test]
fn a_run_may_have_the_longest_name_itself() {
    let world = World::new();
    world.write("key.pem", LAB);
    let relative = [b"./", name().as_bytes()].concat();
    for text in [
        "run scenario.ron --out @ --store store --set rounds=2 --set evaluation.local_baseline=false",
        "show @",
        "ls . --json",
        "replay @ --json",
        "verify @",
        "report @ --json",
        "export @ --to csv --out csv",
        "export @ --to peft --store none --out peft",
        // Results under names that follow from the run's, which are cut.
        "export @ --to csv",
        "export @ --to perfetto",
        "export @ --to tensorboard",
        "export @ --to wandb",
        "export @ --to peft --store none",
        "export @ --to peft --merged --store none",
        "fork @ --at-round 2 --set training.lr=0.02 --store store",
        "certify @ --key key.pem",
        // Results under names of the greatest length.
        "export @ --to csv --out @/../csv/@",
        "export @ --to perfetto --out @/../perfetto/@",
        "report @ --out @/../page/@",
    ] {
        let mut command = world.command(&[]);
        command.args(words(text, OsStr::from_bytes(&relative)));
        check(command, text, 0);
    }
}

#[test]
fn the_list_has_every_command() {
    let help = World::new().fedreplay(&["--help"]).succeeded().stdout;
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // A line that begins with more spaces goes on with the one before.
    let names = commands.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    let mut count = 0;
    for name in names {
        let is_listed = COMMANDS.iter().any(|(text, _)| text.split(' ').next() == Some(name));
        assert!(is_listed || WITHOUT_PATH.contains(&name), "{name} is not in the list");
        count += 1;
    }
    assert!(count > 20, "{help}");
}

/// Names with an escape of terminals, a carriage return, a bell and a control character of two bytes.
const NAME_OF_CLIENT: &str = "user\u{1b}[31m\r\u{7}\u{9b}2J-";

#[test]
fn names_of_clients_devices_and_links_reach_no_terminal_with_their_control_characters() {
    let world = World::new();
    world.edit("scenario.ron", "rounds: 3", "rounds: 2");
    world.edit("scenario.ron", "local_baseline: true", "local_baseline: false");
    world.edit("scenario.ron", "\"quick\"", r#""quick\u{1b}[2J\u{7}""#);
    world.edit("scenario.ron", "\"home\"", r#""home\u{d}\u{9b}31m""#);
    let escaped = serde_json::to_string(NAME_OF_CLIENT).expect("a text");
    world.edit("data.json", "\"user-", &escaped[..escaped.len() - 1]);
    let names: Value = serde_json::from_slice(&fs::read(world.path("data.json")).expect("data")).expect("JSON");
    assert!(names.as_object().expect("clients").keys().all(|name| name.starts_with(NAME_OF_CLIENT)), "{names}");
    for (text, code) in [
        ("run scenario.ron --out run --store store -v", 0),
        ("run scenario.ron --out slow --store store --set training.lr=0.02", 0),
        ("plan scenario.ron --out plan", 0),
        ("scenario check scenario.ron", 0),
        ("show run", 0),
        ("show plan", 0),
        ("ls .", 0),
        ("tail run", 0),
        ("diff run slow --store store", 3),
        ("report run slow --out both.html", 0),
        ("eval run --store store --out losses", 0),
        ("data inspect data.json", 0),
        ("data diversity data.json --out diversity", 0),
        ("export run --to csv --out csv", 0),
        ("show run --json", 0),
        ("diff run slow --store store --json", 3),
        ("data inspect data.json --json", 0),
        ("replay run --client nobody", 2),
    ] {
        let mut command = world.command(&[]);
        command.args(text.split(' '));
        check(command, text, code);
    }
    let page = fs::read_to_string(world.path("both.html")).expect("a page");
    assert!(!page.chars().any(|c| c.is_control() && !c.is_whitespace()), "the page has a control character");
    // Tables have the names as they are.
    let clients = fedreplay::read_table(&world.path("run"), "population").expect("a table");
    assert!(clients["client_id"].as_string::<i32>().value(0).starts_with(NAME_OF_CLIENT));
}
