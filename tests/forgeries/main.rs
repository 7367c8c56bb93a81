//! Tables of forgeries: what each check of a run says after one thing in the run's folder was changed. Each kind of change is
//! made to a copy of an honest run. The tables are in `docs/determinism.md` and are compared with what the checks say. By default
//! every kind of change is verified, and one kind in ten is also replayed; `make forgeries` replays all of them, and
//! `make forgeries WRITE=1` writes them again.
//!
//! This is a program of its own, and not a test of the suite: it calls the library's checks in its own process, which spares
//! the start of a program with LibTorch for each of some 600 checks.

mod continued;
mod forged_run;
mod kinds;
mod other_kinds;
#[path = "../suite/support.rs"]
#[allow(dead_code, reason = "the suite uses the rest of it")]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use arrow::array::{Array, AsArray};
use arrow::datatypes::UInt32Type;
use fedreplay::audit::{SpotCheck, replay, sample};
use fedreplay::ledger::{Manifest, read_table};
use fedreplay::run::{Claims, PlanDetail, PlanSettings, RunError, plan, verify_run};
use fedreplay::store::Digest;
use fedreplay::{RunOptions, Scenario, init_process, run};

use forged_run::ForgedRun;
use kinds::{Forgery, NO_CHANGE, Of, forgeries};
use support::{World, copy, data, project};

/// Name of this test, which a filter of `cargo test` may contain.
const NAME: &str = "forgeries";

/// Variable that asks for all checks of all kinds: `full`, or `write` to write the table instead of comparing it.
const MODE: &str = "FEDREPLAY_FORGERIES";

/// Without it, one in this many kinds is replayed.
const REPLAYED: usize = 10;

/// Page with the table, and the lines around it.
const PAGE: &str = "docs/determinism.md";
const FOUND: Place = Place {
    begin: "<!-- The table of forgeries begins. `make forgeries WRITE=1` writes it. -->\n",
    end: "<!-- The table of forgeries ends. -->\n",
};
const CONTINUED: Place = Place {
    begin: "<!-- The table of what goes on begins. `make forgeries WRITE=1` writes it. -->\n",
    end: "<!-- The table of what goes on ends. -->\n",
};

/// Place of a table in the page: the lines around it.
struct Place {
    begin: &'static str,
    end: &'static str,
}

impl Place {
    /// Writes the table if `is_written`, or compares it with the one that is there.
    fn check(&self, table: &str, is_written: bool) {
        let path = project(PAGE);
        let page = fs::read_to_string(&path).expect("the page is there");
        let begin = page.find(self.begin).expect("the table begins") + self.begin.len();
        let end = page.find(self.end).expect("the table ends");
        if is_written {
            fs::write(&path, format!("{}\n{table}\n{}", &page[..begin], &page[end..])).expect("a writable page");
            return;
        }
        let written: Vec<&str> = page[begin..end].trim().lines().collect();
        for (seen, written) in table.lines().zip(&written) {
            let is_same = agree(seen, written);
            assert!(
                is_same,
                "{PAGE} says\n{written}\nand the checks\n{seen}\nIf that is meant, `make forgeries WRITE=1`"
            );
        }
        assert_eq!(table.lines().count(), written.len(), "the table in {PAGE} has another number of lines");
    }
}

fn main() {
    init_process();
    check_selection();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !is_selected(&arguments) {
        return;
    }
    let mode = std::env::var(MODE).unwrap_or_default();
    assert!(["", "full", "write"].contains(&mode.as_str()), "{MODE}={mode}");

    let honest = HonestRuns::new();
    let forgeries = forgeries();
    let rows = honest.outcomes(&forgeries, !mode.is_empty());

    FOUND.check(&table(&forgeries, &rows), mode == "write");
    check_evidence(&forgeries, &rows);
    CONTINUED.check(&continued::table(), mode == "write");
    println!("test {NAME}: {} changes of a run, as {PAGE} says ... ok", forgeries.len());
}

/// Options of a test harness that take a value, which is no filter.
const WITH_VALUE: [&str; 8] =
    ["--test-threads", "--skip", "--format", "--color", "--logfile", "--report-time", "--shuffle-seed", "-Z"];

/// Returns whether the arguments of `cargo test` select this test: a filter, if there is one, must be part of its name.
/// Options of other harnesses, known here or not, skip nothing.
fn is_selected(arguments: &[String]) -> bool {
    if arguments.iter().any(|argument| argument == "--list") {
        return false;
    }
    let mut filters = Vec::new();
    let mut skipped = Vec::new();
    let mut is_exact = false;
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        is_exact |= argument == "--exact";
        if WITH_VALUE.contains(&argument.as_str()) {
            let value = rest.next();
            if argument == "--skip" {
                skipped.extend(value);
            }
        } else if !argument.starts_with('-') {
            filters.push(argument);
        }
    }
    let matches = |filter: &String| if is_exact { NAME == filter } else { NAME.contains(filter.as_str()) };
    !skipped.into_iter().any(matches) && (filters.is_empty() || filters.into_iter().any(matches))
}

/// Checks which arguments select this test.
fn check_selection() {
    for (arguments, expected) in [
        ("", true),
        ("--test-threads 4", true),
        ("--test-threads=4 --nocapture", true),
        ("forg --color never", true),
        ("golden:: forgeries", true),
        ("--skip golden::", true),
        ("golden::", false),
        ("--skip forger", false),
        ("--exact forg", false),
        ("--list --format terse", false),
    ] {
        let arguments: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
        assert_eq!(is_selected(&arguments), expected, "{arguments:?}");
    }
}

/// Cell of a check that was not made.
const NOT_MADE: &str = "?";

/// Returns whether a line of the table says what the page says, apart from checks that were not made.
fn agree(seen: &str, written: &str) -> bool {
    let seen: Vec<&str> = seen.split(" | ").collect();
    let written: Vec<&str> = written.split(" | ").collect();
    seen.len() == written.len()
        && seen.iter().zip(&written).all(|(seen, written)| seen == written || seen.trim_end_matches(" |") == NOT_MADE)
}

/// Checks of a run, in the order of the table's columns.
#[derive(Clone, Copy, PartialEq)]
enum Check {
    Verify,
    VerifyDigest,
    VerifyCertificate,
    Replay,
    ReplayRound,
    ReplayClient,
}

use Check::{Replay, ReplayClient, ReplayRound, Verify, VerifyCertificate, VerifyDigest};

impl Check {
    const ALL: [Self; 6] = [Verify, VerifyDigest, VerifyCertificate, Replay, ReplayRound, ReplayClient];

    /// Returns the command that makes this check.
    fn name(self) -> &'static str {
        match self {
            Verify => "`verify`",
            VerifyDigest => "`verify --digest`",
            VerifyCertificate => "`verify --certificate`",
            Replay => "`replay`",
            ReplayRound => "`replay --round`",
            ReplayClient => "`replay --client`",
        }
    }

    /// Whether this check trains, which takes most of the time.
    fn trains(self) -> bool {
        matches!(self, Replay | ReplayRound | ReplayClient)
    }

    /// Returns a text by which this check says that the run is not the one that is claimed, whatever was changed.
    fn evidence_of_claim(self) -> Option<&'static str> {
        match self {
            VerifyDigest => Some("is claimed"),
            VerifyCertificate => Some("certificate: "),
            _ => None,
        }
    }
}

/// What a check says of a run.
enum Outcome {
    Same,
    /// The run has nothing that the check could compare.
    Absent,
    /// Differences that it names.
    Found(Vec<String>),
    /// Error that kept it from comparing.
    Refused(String),
}

impl Outcome {
    /// Returns the outcome as a cell of the table.
    fn cell(&self) -> &'static str {
        match self {
            Self::Same => "–",
            Self::Absent => "none",
            Self::Found(_) => "found",
            Self::Refused(_) => "refused",
        }
    }

    fn messages(&self) -> &[String] {
        match self {
            Self::Same | Self::Absent => &[],
            Self::Found(messages) => messages,
            Self::Refused(message) => std::slice::from_ref(message),
        }
    }

    fn of(differences: Result<Vec<String>, RunError>) -> Self {
        match differences {
            Ok(differences) if differences.is_empty() => Self::Same,
            Ok(differences) => Self::Found(differences),
            Err(error) => Self::Refused(error.to_string()),
        }
    }
}

/// Outcomes of the checks of one run; `None` for a check that was not made.
type Row = [Option<Outcome>; Check::ALL.len()];

/// Honest runs, of which copies are changed.
struct HonestRuns {
    world: World,
    runs: BTreeMap<Of, HonestRun>,
}

/// An honest run.
struct HonestRun {
    folder: PathBuf,
    digest: Digest,
    /// Certificate of the run, which is kept outside of it. A plan has none.
    certificate: Option<PathBuf>,
    /// Client with an update that counts in round 2, and the row of that update in table `tasks`.
    client: u32,
    task: usize,
}

/// Fields of all runs.
const SMALL: [&str; 5] = [
    "rounds=2",
    "evaluation.local_baseline=false",
    "output.save_adapter_every=1",
    "server.protocol.over_selection=1",
    "training.local_steps=1",
];

/// Privacy of the private run, which evaluates at its end alone.
const PRIVACY: &str = "evaluation: (every: 1000, local_baseline: false), \
                       privacy: UserLevel(clipping: Fixed(norm: 0.1), noise_multiplier: 2.0, delta: 0.01)";

/// Protocol of the world's scenario.
const PROTOCOL: &str = "protocol: Synchronous(clients_per_round: 2, over_selection: 2, deadline: \"10m\"),";

impl HonestRuns {
    fn new() -> Self {
        let world = World::new();
        fs::copy(world.path("data.json"), world.path("copy.json")).expect("a copy of the data");
        world.write("other.json", &data(6, 9));
        let small = fs::read_to_string(world.path("scenario.ron")).expect("a scenario");
        assert!(small.contains(PROTOCOL), "{small}");
        let all = small.replace(PROTOCOL, "protocol: Synchronous(clients_per_round: 6),");
        world.write("alone.ron", &all.replace("    rounds: 3,", "    rounds: 3,\n    algorithm: Local,"));
        let private = small
            .replace(PROTOCOL, "protocol: Synchronous(clients_per_round: 2), selection: Poisson(rate: 0.6),")
            .replace("    rounds: 3,", "    rounds: 3,\n    algorithm: FedAvg(weights: Uniform),")
            .replace("evaluation: (local_baseline: true)", PRIVACY);
        world.write("private.ron", &private);
        let attackers = "attackers: (clients: Number(3), attack: Scaling(factor: 2.0)),";
        world.write("attacked.ron", &all.replace("    rounds: 3,", &format!("    rounds: 3,\n    {attackers}")));
        for (file, out, more) in [
            ("scenario.ron", "run", &[][..]),
            ("scenario.ron", "other", &["training.lr=0.02"]),
            ("alone.ron", "alone", &["server.protocol.over_selection=0"]),
            ("private.ron", "private", &["server.protocol.over_selection=0"]),
            ("attacked.ron", "attacked", &["server.protocol.over_selection=0"]),
        ] {
            let sets: Vec<String> = SMALL.iter().chain(more).map(|set| (*set).to_owned()).collect();
            let scenario = Scenario::read(&world.path(file), &sets).expect("a scenario");
            run(&scenario, &RunOptions::new(world.path(out)), &mut ()).expect("a run");
        }
        let sets = SMALL.map(str::to_owned);
        let scenario = Scenario::read(&world.path("scenario.ron"), &sets).expect("a scenario");
        let stop = AtomicBool::new(false);
        let settings =
            PlanSettings { out: Some(world.path("plan")), detail: PlanDetail::Events, repeats: None, stop: &stop };
        plan(&scenario, &settings, &mut ()).expect("a plan");
        let runs = [
            (Of::Trained, "run"),
            (Of::Alone, "alone"),
            (Of::Private, "private"),
            (Of::Attacked, "attacked"),
            (Of::Plan, "plan"),
        ];
        let runs = runs.into_iter().map(|(of, name)| (of, HonestRun::read(&world, name))).collect();
        Self { world, runs }
    }

    /// Makes all changes, each to a copy of its own, and lets the checks look at each copy: all of them if `is_full`.
    fn outcomes(&self, forgeries: &[Forgery], is_full: bool) -> Vec<Row> {
        let rows: Mutex<Vec<Option<Row>>> = Mutex::new(forgeries.iter().map(|_| None).collect());
        let next = AtomicUsize::new(0);
        let threads = thread::available_parallelism().map_or(1, |count| count.get()).min(4);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let Some(forgery) = forgeries.get(number) else { break };
                        let row = self.row(forgery, number, is_full || number.is_multiple_of(REPLAYED));
                        rows.lock().expect("no other thread has failed")[number] = Some(row);
                    }
                });
            }
        });
        let rows = rows.into_inner().expect("no thread has failed");
        rows.into_iter().map(|row| row.expect("each change was made")).collect()
    }

    /// Makes one change and lets the checks look at it, those that train only if `is_replayed`.
    fn row(&self, forgery: &Forgery, number: usize, is_replayed: bool) -> Row {
        let folder = self.world.path(&format!("forged-{number}"));
        let honest = &self.runs[&forgery.of];
        copy(&honest.folder, &folder);
        let forged = ForgedRun { folder, other: self.world.path("other"), task: honest.task };
        (forgery.make)(&forged);
        forged.redo(forgery.redone);
        let row = Check::ALL.map(|check| {
            let is_made = is_replayed || !check.trains();
            is_made.then(|| honest.outcome(check, &forged.folder))
        });
        fs::remove_dir_all(&forged.folder).expect("a copy");
        row
    }
}

impl HonestRun {
    /// Reads what is claimed of a run, and keeps its certificate elsewhere.
    fn read(world: &World, name: &str) -> Self {
        let folder = world.path(name);
        let digest = Manifest::read(&folder).expect("a manifest").digest.expect("a finished run has a digest");
        let own = folder.join("certificate.json");
        let certificate = own.exists().then(|| world.path(&format!("{name}.json")));
        if let Some(kept) = &certificate {
            fs::copy(own, kept).expect("a certificate");
        }
        let tasks = read_table(&folder, "tasks").expect("a table");
        let rounds = tasks["round"].as_primitive::<UInt32Type>();
        let clients = tasks["client"].as_primitive::<UInt32Type>();
        let is_plan = certificate.is_none();
        let counts = |row: usize| rounds.value(row) == 2 && (is_plan || tasks["update_key"].is_valid(row));
        let task = (0..tasks.num_rows()).find(|&row| counts(row)).expect("updates count in round 2");
        Self { folder, digest, certificate, client: clients.value(task), task }
    }

    fn outcome(&self, check: Check, folder: &Path) -> Outcome {
        let verified = |claims: &Claims| {
            let found = verify_run(folder, claims);
            Outcome::of(found.map(|found| found.into_iter().map(|difference| difference.0).collect()))
        };
        match check {
            Verify => verified(&Claims::default()),
            VerifyDigest => verified(&Claims { digest: Some(self.digest), ..Claims::default() }),
            VerifyCertificate => match &self.certificate {
                Some(certificate) => verified(&Claims { certificate: Some(certificate), ..Claims::default() }),
                None => Outcome::Absent,
            },
            Replay => {
                let again = folder.with_extension("replay");
                let found = replay(folder, RunOptions::new(&again), &mut ());
                if again.exists() {
                    fs::remove_dir_all(&again).expect("a repeated run");
                }
                Outcome::of(found.map(|found| found.into_iter().map(|difference| difference.0).collect()))
            }
            ReplayRound => sampled(folder, &SpotCheck { round: Some(2), client: None }),
            ReplayClient => sampled(folder, &SpotCheck { round: None, client: Some(self.client.to_string()) }),
        }
    }
}

/// Lets a spot check look at a run, without a store.
fn sampled(folder: &Path, spot_check: &SpotCheck) -> Outcome {
    let report = sample(folder, spot_check, &RunOptions::new(""), &mut ());
    Outcome::of(report.map(|report| report.difference.into_iter().collect()))
}

/// Checks that every change was found for what it is: a check that finds it says one of the texts that the kind of change
/// expects. A run without a change must pass every check, whatever was computed again.
fn check_evidence(forgeries: &[Forgery], rows: &[Row]) {
    let mut unexplained = Vec::new();
    for (forgery, row) in forgeries.iter().zip(rows) {
        for (check, outcome) in Check::ALL.into_iter().zip(row) {
            let Some(outcome) = outcome else { continue };
            let messages = outcome.messages();
            let mut expected = forgery.evidence.to_vec();
            if forgery.what != NO_CHANGE {
                expected.extend(check.evidence_of_claim());
            }
            if forgery.of == Of::Plan && check.trains() {
                expected.push("which trained nothing");
            }
            let is_explained = messages.iter().any(|message| expected.iter().any(|text| message.contains(text)));
            if !messages.is_empty() && !is_explained {
                let Forgery { what, redone, .. } = forgery;
                let messages = messages.join("\n    ");
                unexplained.push(format!("{what} ({}), {}:\n    {messages}", redone.name(), check.name()));
            }
        }
    }
    assert!(unexplained.is_empty(), "found, but not for what was changed:\n{}", unexplained.join("\n"));
}

/// Returns the table as Markdown.
fn table(forgeries: &[Forgery], rows: &[Row]) -> String {
    let checks = Check::ALL.map(Check::name);
    let mut table = format!("| changed | computed again | {} |\n", checks.join(" | "));
    table += &format!("|---|---|{}\n", "---|".repeat(checks.len()));
    for (forgery, row) in forgeries.iter().zip(rows) {
        let cells = row.each_ref().map(|outcome| outcome.as_ref().map_or(NOT_MADE, Outcome::cell));
        let Forgery { of, what, redone, .. } = forgery;
        table += &format!("| {}{what} | {} | {} |\n", of.prefix(), redone.name(), cells.join(" | "));
    }
    table
}
