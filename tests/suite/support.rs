//! A fresh folder with a small federation in it, and the binary to play it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use arrow::array::AsArray;
use arrow::record_batch::RecordBatch;
use fedreplay_sim::{Purpose, Seed, Stream};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tempfile::TempDir;

pub use self::fork_server::output;

#[path = "fork_server.rs"]
pub mod fork_server;

/// What the binary said.
pub struct Said {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    pub fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("the program writes UTF-8");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Fails unless the program succeeded.
    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Fails unless the program ended with `code` and said all of `parts` on stderr.
    #[track_caller]
    pub fn refused(self, code: i32, parts: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        for part in parts {
            assert!(self.stderr.contains(part), "`{part}` is not in:\n{}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    /// The value of a line of the closing summary.
    #[track_caller]
    pub fn summary(&self, name: &str) -> &str {
        let line = self.stdout.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no `{name}` in:\n{}", self.stdout)).trim()
    }
}

/// Where the project's own files lie.
pub fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A folder with a federation of six clients on the tiny base model.
pub struct World {
    folder: TempDir,
}

impl World {
    pub fn new() -> Self {
        let world = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        world.write("scenario.ron", SCENARIO);
        world.write("data.json", &data(6, 8));
        world.write("test.json", &rows(4, "test").to_string());
        world.copy_base("base");
        world
    }

    /// Fails unless the scenario has this digest again under its seed, and another under another seed.
    #[track_caller]
    pub fn assert_draws_by_seed(&self, digest: &str, seed: u64) {
        let again = |seed: u64| {
            let (out, set) = (format!("seed-{seed}"), format!("seed={seed}"));
            let command = ["run", "scenario.ron", "--out", &out, "--store", "none", "--set", &set];
            self.fedreplay(&command).succeeded().summary("digest").to_owned()
        };
        assert_eq!(digest, again(seed));
        assert_ne!(digest, again(seed + 1));
    }

    /// Fails unless the scenario has one digest however it is computed: at once, killed and resumed, forked, by any number of workers, and
    /// where decisions read losses. Rounds of it are replayed without a store.
    #[track_caller]
    pub fn assert_state_survives(&self) {
        let play = |out: &str, more: &[&str]| {
            let command = ["run", "scenario.ron", "--out", out, "--set", "rounds=20"];
            self.fedreplay(&[&command, more].concat()).succeeded().summary("digest").to_owned()
        };
        let whole = play("whole", &["--store", "none", "--workers", "1"]);
        let killed =
            ["run", "scenario.ron", "--out", "killed", "--store", "store", "--workers=1", "--set", "rounds=20"];
        let mut child = self.command(&killed).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a child");
        until_rounds(&mut child, &self.path("killed"), "rounds", 6);
        child.kill().expect("it is still running");
        child.wait().expect("a child");
        let resumed = self.fedreplay(&["resume", "killed", "--store", "store"]).succeeded();
        assert_eq!(resumed.summary("digest"), whole);
        self.fedreplay(&["replay", "killed", "--round", "15", "--store", "none"]).succeeded();
        // What a fork does not train again, its clients still have.
        let set = ["--set", "training.lr=0.02", "--out", "fork", "--store", "store"];
        let forked = self.fedreplay(&[&["fork", "killed", "--at-round", "11"], &set[..]].concat()).succeeded();
        let change = r#"changes=[(at_round: 11, set: ["training.lr=0.02"])]"#;
        assert_eq!(forked.summary("digest"), play("fresh", &["--store", "none", "--set", change]));
        let live = ["--set", "server.selection=PowerOfChoice(draw: 5)"];
        let first = play("one", &[&live[..], &["--store", "none", "--workers", "1"]].concat());
        assert_eq!(first, play("two", &[&live[..], &["--store", "store", "--workers", "2"]].concat()));
        assert_ne!(first, whole);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a writable folder");
    }

    /// Changes a text file by replacing what must be in it.
    #[track_caller]
    pub fn edit(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(name)).expect("the file is there");
        assert!(text.contains(from), "`{from}` is not in {name}");
        self.write(name, &text.replace(from, to));
    }

    /// Copies the tiny base model, to be damaged.
    pub fn copy_base(&self, name: &str) {
        fs::create_dir(self.path(name)).expect("a writable folder");
        for entry in fs::read_dir(project("fixtures/tiny-base")).expect("the fixture is there") {
            let from = entry.expect("a readable folder").path();
            if from.is_file() {
                fs::copy(&from, self.path(name).join(from.file_name().expect("a file has a name"))).expect("a copy");
            }
        }
    }

    /// The binary in this folder, with a store of its own.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.command_of(env!("CARGO_BIN_EXE_fedreplay"));
        command.args(arguments);
        command
    }

    /// Another program in this folder, with the store where it would look for one.
    pub fn command_of(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder.path()).env("XDG_CACHE_HOME", self.path("cache")).env_remove("RUST_LOG");
        command
    }

    pub fn fedreplay(&self, arguments: &[&str]) -> Said {
        Said::of(output(&mut self.command(arguments)).expect("the binary can be run"))
    }

    /// Plays the scenario into `out` with no store.
    pub fn run(&self, out: &str, more: &[&str]) -> Said {
        let arguments = [&["run", "scenario.ron", "--out", out, "--store", "none"], more].concat();
        self.fedreplay(&arguments)
    }
}

/// Every file under `folder`, with its bytes, by path.
pub fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).expect("a readable folder") {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("it was found there").to_string_lossy().into_owned();
                found.push((name, fs::read(&path).expect("a readable file")));
            }
        }
    }
    found.sort();
    found
}

/// Copies a folder.
pub fn copy(from: &Path, to: &Path) {
    for (name, bytes) in files(from) {
        let path = to.join(name);
        fs::create_dir_all(path.parent().expect("a file stands in a folder")).expect("a writable folder");
        fs::write(path, bytes).expect("a writable folder");
    }
}

/// The hashed files of a run: everything but the manifest, wall-clock timings and reports.
pub fn hashed(run: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = files(run);
    let is_hashed = |name: &str| {
        !["manifest.json", "report.html"].contains(&name) && !name.starts_with("timing/") && !is_cut_report(name)
    };
    found.retain(|(name, _)| is_hashed(name));
    found
}

/// Whether a kill after a run's end left this of its report, which is in no hash.
pub fn is_cut_report(name: &str) -> bool {
    name.starts_with(".report.html.")
}

/// The keys under which a store holds results.
pub fn stored(store: &Path) -> BTreeSet<String> {
    let name = |(path, _): (String, Vec<u8>)| path.rsplit('/').next().unwrap_or_default().to_owned();
    let results = store.join("results");
    if !results.exists() {
        return BTreeSet::new();
    }
    files(&results).into_iter().map(name).filter(|name| !name.starts_with('.')).collect()
}

/// The orders of a run by their keys, and whether their results came from the store.
pub fn orders(run: &Path) -> Vec<(String, bool)> {
    let file = File::open(run.join("timing/orders.parquet")).expect("a run writes its timings");
    let batches = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|reader| reader.build());
    let of_batch = |batch: RecordBatch| {
        let keys = batch["key"].as_string::<i32>().iter().flatten().map(str::to_owned).collect::<Vec<_>>();
        keys.into_iter().zip(batch["from_store"].as_boolean().iter().flatten().collect::<Vec<_>>())
    };
    batches.expect("a Parquet file").flat_map(|batch| of_batch(batch.expect("a readable batch"))).collect()
}

/// Takes a whole number in seven bits per byte from the beginning of `bytes`, the least significant first.
pub fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

/// Draws that a seed repeats.
pub fn draws(seed: u64) -> Stream {
    Stream::new(Seed(seed), Purpose::SyntheticData, 0)
}

/// How many trials a test of many makes: so many, unless a soak asks for more.
pub fn trials(usual: u64) -> u64 {
    std::env::var("FEDREPLAY_SOAK").map_or(usual, |text| text.parse().expect("FEDREPLAY_SOAK is a number of trials"))
}

/// Says that a test could not look because of what this host allows, past the test's own captured output.
pub fn not_possible(what: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "{what} was NOT RUN: {reason}");
}

/// Says that a test could not look because something is not installed, past the test's own captured output. With
/// `FEDREPLAY_TESTS=all` that is a failure.
pub fn not_run(what: &str, reason: &str) {
    let is_failure = std::env::var_os("FEDREPLAY_TESTS").is_some_and(|tests| tests == "all");
    assert!(!is_failure, "{what} was not run: {reason}");
    not_possible(what, reason);
}

/// A federation of `clients` clients with `rows` rows or a few more each.
pub fn data(clients: usize, count: usize) -> String {
    let entry = |client: usize| (format!("user-{client}"), rows(count + client, &format!("user {client}")));
    let clients: serde_json::Map<_, _> = (0..clients).map(entry).collect();
    serde_json::to_string_pretty(&clients).expect("plain data")
}

/// So many rows about something.
pub fn rows(count: usize, about: &str) -> serde_json::Value {
    let row = |n: usize| {
        serde_json::json!({
            "instruction": format!("Say what number {n} of {about} is."),
            "response": format!("It is {} for {about}.", n * n),
        })
    };
    (0..count).map(row).collect()
}

const SCENARIO: &str = r#"(
    name: "small",
    seed: 1,
    rounds: 3,
    model: (folder: "base", lora: (rank: 4, alpha: 8, target_modules: ["q_proj", "v_proj"])),
    data: (file: "data.json", test_file: "test.json", max_seq_length: 160, held_out: 0.2),
    training: (local_steps: 2, batch_size: 2, lr: 1e-2),
    server: (
        protocol: Synchronous(clients_per_round: 2, over_selection: 2, deadline: "10m"),
        downlink: "10 Mbit/s",
        uplink: "10 Mbit/s",
    ),
    population: (
        devices: {
            "quick": (speed: "1 GFLOP/s", jitter: 0.2, busy_watts: 40, idle_watts: 5),
            "slow": (speed: "50 MFLOP/s", jitter: 0.4, busy_watts: 5, idle_watts: 1),
        },
        links: {
            "home": (down: "20 Mbit/s", up: "4 Mbit/s", latency: "20ms"),
        },
        mix: [
            (share: 1, device: "quick", link: "home"),
            (share: 1, device: "slow", link: "home", dropout: (during_training: 0.3)),
        ],
    ),
    evaluation: (local_baseline: true),
    output: (save_adapter_every: 2),
)
"#;

/// Number of rounds whose rows of a table a run has on disk.
pub fn rounds_on_disk(run: &Path, table: &str) -> u32 {
    let files = fs::read_dir(run.join("ledger").join(table)).into_iter().flatten().flatten();
    let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
    let last = |name: String| name.strip_suffix(".parquet")?.split_once('-')?.1.parse().ok();
    names.filter_map(last).max().unwrap_or(0)
}

/// Waits until a run that `child` computes has this many rounds of a table on disk.
pub fn until_rounds(child: &mut Child, run: &Path, table: &str, rounds: u32) {
    while rounds_on_disk(run, table) < rounds {
        assert!(child.try_wait().expect("a child").is_none(), "the run ended before its round {rounds}");
        std::thread::yield_now();
    }
}
