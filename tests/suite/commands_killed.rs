//! Every command of the program is killed and asked to stop at random moments, and runs twice at once: nothing half-made is under a
//! final name, nothing is left after the next start, and the results are those of a command that nobody disturbed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fedreplay::ledger::{Manifest, RunState};
use fedreplay::store::Digest;
use nix::errno::Errno;
use nix::sys::signal::Signal::{self, SIGINT, SIGKILL, SIGTERM};

use super::calibrate::profile_in;
use super::evaluation::question;
use super::signed::LAB;
use super::support::{Said, World, draws, not_possible, output, project, trials};
use super::test_support::chat_endpoint::ChatEndpoint;
use super::traced::{self, End, Moment, Traced};

/// A command of the program in the prepared folder.
struct Case {
    /// `{judge}` is the address of a judge.
    line: &'static str,
    made: Made,
    twice: Twice,
}

/// What a command makes.
enum Made {
    Nothing,
    /// Files and folders that are under their names only when they are complete.
    Whole,
    /// A run, or several.
    Run {
        folder: &'static str,
        /// What goes on with a run that has begun.
        go_on: &'static str,
    },
}

/// How two of the same command at once end.
enum Twice {
    /// Both succeed.
    Both,
    /// One succeeds. The other says that this is being made, or there already.
    One(&'static str),
    /// As before, or both succeed: the second one came late enough.
    OneOrBoth(&'static str),
}

use Made::{Nothing, Run, Whole};
use Twice::{Both, One, OneOrBoth};

const CASES: &[Case] = &[
    case("run scenario.ron --out out --store fresh --workers 2", run("out", "resume out --store fresh"), One("out")),
    case("plan scenario.ron --out out", run("out", "resume out"), One("out")),
    case("plan scenario.ron --repeat 300 --out out", run("out", "resume out"), One("out")),
    case(
        "sweep sweep.ron --out out --store store --workers 2",
        run("out", "sweep sweep.ron --out out --store store --workers 2"),
        OneOrBoth("out"),
    ),
    case("resume begun --store none --workers 2", run("begun", "resume begun --store none --workers 2"), One("begun")),
    case(
        "fork run --at-round 2 --set training.lr=0.02 --out out --store store",
        run("out", "resume out --store store"),
        One("out"),
    ),
    case("replay run --workers 2", Nothing, Both),
    case("replay run --scratch scratch --workers 2", Nothing, Both),
    case("replay run --round 2 --store store", Nothing, Both),
    case("verify run", Nothing, Both),
    case("certify run --key lab.pem --out statement.json", Whole, Both),
    case(
        "calibrate scenario.ron --out measured.ron --lengths 8,16 --rows 1 --repeats 2 --held-out 1 --least-seconds 0 --busy",
        Whole,
        Both,
    ),
    case("calibrate --from steps.parquet --out fitted.ron", Whole, Both),
    case("diff run other", Nothing, Both),
    case("show run", Nothing, Both),
    case("ls .", Nothing, Both),
    case("tail run", Nothing, Both),
    case("export run --to csv --out out", Whole, OneOrBoth("out")),
    case("export run --to perfetto --out out.json", Whole, OneOrBoth("out.json")),
    case("export run --to tensorboard --out out", Whole, OneOrBoth("out")),
    case("export run --to wandb --out out", Whole, OneOrBoth("out")),
    case("export run --to peft --out out", Whole, OneOrBoth("out")),
    case("export run --to peft --merged --out out", Whole, OneOrBoth("out")),
    case("scenario check scenario.ron --workers 2", Nothing, Both),
    case("scenario explain training.lr", Nothing, Both),
    case("scenario new new.ron --model base --data data.json", Whole, OneOrBoth("new.ron")),
    case("generate completions bash", Nothing, Both),
    case("generate man --out man", Whole, Both),
    case("generate scenario-reference", Nothing, Both),
    case("generate ledger-reference", Nothing, Both),
    case("generate method-combinations", Nothing, Both),
    case("report run other --out page.html", Whole, Both),
    case(
        "eval base --bench vicuna --data questions --answer-tokens-max 4 --store store --out out --judge-url {judge} \
          --judge-model judge --judge-concurrency 1",
        Whole,
        Both,
    ),
    case("eval run --store store --out out", Whole, Both),
    case("store ls --store store", Nothing, Both),
    case("store verify --store store", Nothing, Both),
    case("store gc --store old --max-age 0s", Whole, Both),
    case("data inspect data.json --tokenizer base --out out.parquet", Whole, Both),
    case("data diversity data.json --out out", Whole, Both),
    case("data split data.json --out out", Whole, Both),
    case("data twin fed-aya --length-scale 0.02 --out twin.json", Whole, Both),
    case("model import model.gguf --out out", Whole, OneOrBoth("out")),
    case("import train.sh", Nothing, Both),
    case("privacy epsilon --noise-multiplier 1 --clients 100 --cohort 10 --steps 10 --delta 1e-5", Nothing, Both),
    case("privacy noise --epsilon 4 --clients 100 --cohort 10 --steps 10 --delta 1e-5", Nothing, Both),
];

const fn case(line: &'static str, made: Made, twice: Twice) -> Case {
    Case { line, made, twice }
}

const fn run(folder: &'static str, go_on: &'static str) -> Made {
    Run { folder, go_on }
}

impl Case {
    /// The words that name the command, which come before all others.
    fn command(&self) -> String {
        let words: Vec<&str> = self.line.split_whitespace().collect();
        let has_subcommand = ["scenario", "generate", "store", "data", "model", "privacy"].contains(&words[0]);
        words[..1 + usize::from(has_subcommand)].join("-")
    }

    /// Whether a file is in a run that the command makes.
    fn is_of_run(&self, name: &str) -> bool {
        matches!(self.made, Run { folder, .. } if name.starts_with(folder))
    }

    fn makes_something(&self) -> bool {
        !matches!(self.made, Nothing)
    }

    /// Whether another line in the table has the same command and comes first.
    fn is_repeated(&self) -> bool {
        let first = CASES.iter().find(|case| case.command() == self.command()).expect("it is in the table");
        !std::ptr::eq(first, self)
    }
}

/// The files of a folder by path, and its folders, which have no bytes.
type Tree = BTreeMap<String, Option<Vec<u8>>>;

/// A folder that is what was prepared before each command.
struct Stage<'a> {
    prepared: &'a World,
    world: World,
    judge: ChatEndpoint,
    faults: Vec<String>,
}

impl<'a> Stage<'a> {
    fn new(prepared: &'a World) -> Self {
        Self { prepared, world: World::new(), judge: ChatEndpoint::start([]), faults: Vec::new() }
    }

    fn reset(&self) {
        fs::remove_dir_all(self.world.path("")).expect("a folder");
        let copied = Command::new("cp").arg("-a").arg(self.prepared.path("")).arg(self.world.path("")).status();
        assert!(copied.expect("cp can be run").success());
        self.judge.take_requests();
    }

    fn command(&self, line: &str) -> Command {
        let line = line.replace("{judge}", &self.judge.base_url());
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut command = self.world.command(&words);
        command.env("TMPDIR", self.world.path("tmp")).env("OPENAI_API_KEY", "sk-test");
        command
    }

    fn traced(&self, line: &str, moment: Option<Moment>) -> Result<Traced, Errno> {
        traced::run(self.command(line), &self.world.path("stderr"), moment)
    }

    /// What is in the folder but for wall-clock times, and for reports of runs, which are in no hash. A whole profile that was measured is
    /// there without its times.
    fn tree(&self, case: &Case) -> Tree {
        let mut tree = Tree::new();
        walk(&self.world.path(""), "", &mut tree);
        for (name, bytes) in &mut tree {
            if let (true, Some(bytes)) = (name.ends_with("/sweep.json"), &mut *bytes) {
                let text = String::from_utf8_lossy(bytes).into_owned();
                let lines = text.lines().filter(|line| !line.contains("wall_seconds"));
                *bytes = lines.collect::<Vec<_>>().join("\n").into_bytes();
            }
            if let ("measured.ron", Some(bytes)) = (name.as_str(), &mut *bytes)
                && profile_in(bytes).is_some()
            {
                *bytes = b"a whole profile".to_vec();
            }
        }
        tree.retain(|name, _| {
            let is_of_run = case.is_of_run(name);
            !(name.contains("/timing/") || is_of_run && name.ends_with("/report.html"))
        });
        tree
    }

    fn fault(&mut self, case: &Case, about: &str, what: impl std::fmt::Display) {
        self.faults.push(format!("{} ({about}): {what}", case.line));
    }

    /// Compares the folder with what the undisturbed command left.
    fn compare(&mut self, case: &Case, about: &str, expected: &Tree) {
        let found = self.tree(case);
        let lacking: Vec<_> = expected.keys().filter(|name| !found.contains_key(*name)).collect();
        let more = found.iter().filter(|(name, bytes)| !expected.contains_key(*name) && !is_whole_entry(name, bytes));
        let more: Vec<_> = more.map(|(name, _)| name).collect();
        let is_other = |name: &&String| expected.get(*name).is_some_and(|bytes| *bytes != found[*name]);
        let other: Vec<_> = found.keys().filter(is_other).collect();
        if !(lacking.is_empty() && more.is_empty() && other.is_empty()) {
            let what = format!("not as undisturbed: lacks {lacking:?}, has {more:?}, differs in {other:?}");
            self.fault(case, about, what);
        }
    }

    /// Looks for what is half-made under a final name.
    fn find_half_made(&mut self, case: &Case, about: &str, before: &Tree, expected: &Tree) {
        let is_done =
            |run: &str| Manifest::read(&self.world.path(run)).is_ok_and(|manifest| manifest.state == RunState::Done);
        let found = self.tree(case);
        let mut half_made = Vec::new();
        for (name, bytes) in &found {
            let is_temporary = name.split('/').any(|part| part.starts_with('.') && part.ends_with(".partial"));
            let is_for_processes = ["sessions/", "claims/", "/lock"].iter().any(|part| name.contains(part));
            let is_before = before.get(name) == Some(bytes) || expected.get(name) == Some(bytes);
            let in_run = case.is_of_run(name)
                && !Path::new(name).ancestors().skip(1).any(|folder| is_done(&folder.to_string_lossy()));
            let is_folder = bytes.is_none() && name.starts_with("fresh/");
            if !(is_temporary || is_for_processes || is_before || in_run || is_folder || is_whole_entry(name, bytes)) {
                half_made.push(name.clone());
            }
        }
        for (name, bytes) in before {
            let is_removed = !expected.contains_key(name) || case.is_of_run(name);
            if found.get(name) != Some(bytes) && !is_removed && expected.get(name) == Some(bytes) {
                half_made.push(format!("{name} (which was there)"));
            }
        }
        if !half_made.is_empty() {
            self.fault(case, about, format!("half-made: {half_made:?}"));
        }
    }

    /// Disturbs the command, and after that what goes on with it, at moments that a seed draws; then lets it end.
    fn disturb(&mut self, case: &Case, seed: u64, signals: &[Signal], of: &Undisturbed) -> Result<(), Errno> {
        self.reset();
        let before = self.tree(case);
        let mut draws = draws(seed);
        let mut abouts = Vec::new();
        let mut hits = 0;
        for &signal in signals {
            let calls = if signal == SIGKILL { of.changes } else { of.opens };
            if calls == 0 {
                continue;
            }
            let call = 1 + draws.below(calls);
            abouts.push(format!("seed {seed}, {signal} at call {call} of {calls}"));
            let about = abouts.join(", then ");
            let line = self.line(case);
            let traced = self.traced(line, Some(Moment { signal, call }))?;
            hits += usize::from(traced.took.is_some());
            self.check_end(case, &about, signal, &traced);
            self.find_half_made(case, &about, &before, &of.tree);
        }
        let about = abouts.join(", then ");
        println!("{} ({about})", case.line);
        if case.makes_something() || trials(0) > 0 {
            self.go_on(case, &about);
            self.compare(case, &about, &of.tree);
        }
        self.check_judge(case, &about, hits);
        Ok(())
    }

    /// The command that goes on with what is there.
    fn line<'c>(&self, case: &'c Case) -> &'c str {
        match case.made {
            Run { folder, go_on } if Manifest::path(&self.world.path(folder)).exists() => go_on,
            _ => case.line,
        }
    }

    /// Lets the command go on undisturbed, after which it must be done.
    fn go_on(&mut self, case: &Case, about: &str) {
        let said = said(self.command(self.line(case)));
        let is_done_already = said.code == Some(2)
            && ["is there already", "exists", "nothing to resume", "already"]
                .iter()
                .any(|part| said.stderr.contains(part));
        if said.code != Some(0) && !is_done_already {
            self.fault(case, about, format!("goes on with {:?}: {}", said.code, said.stderr));
        }
    }

    fn check_end(&mut self, case: &Case, about: &str, signal: Signal, traced: &Traced) {
        let Traced { end, stderr, took, .. } = traced;
        if stderr.contains("panicked") {
            self.fault(case, about, format!("panicked: {stderr}"));
        }
        let Some(took) = took else { return };
        let code = 128 + signal as i32;
        let is_expected = match signal {
            SIGKILL => *end == End::Signal(SIGKILL),
            // It may have been done already.
            _ => *end == End::Code(code) || *end == End::Code(0),
        };
        if !is_expected {
            self.fault(case, about, format!("ended with {end:?}: {stderr}"));
        }
        if *end == End::Code(code) {
            let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
            if errors.len() != 1 || !errors[0].starts_with("error: interrupted") {
                self.fault(case, about, format!("said {stderr:?}"));
            }
        }
        let most = Duration::from_secs(2);
        if *took > most && *took > most.mul_f64(self.slowness()) {
            self.fault(
                case,
                about,
                format!("ended after {took:?}, on a machine that is {:.1} times slow", self.slowness()),
            );
        }
    }

    /// How much longer the start of the program takes at the moment than on an idle machine, with a margin.
    fn slowness(&self) -> f64 {
        let began = Instant::now();
        self.command("--version").stdout(Stdio::null()).status().expect("the binary can be run");
        (began.elapsed().as_secs_f64() / 0.5).max(1.0)
    }

    /// Runs two of the command at once.
    fn twice(&mut self, case: &Case, of: &Undisturbed) {
        self.reset();
        let [first, second] = [self.command(case.line), self.command(case.line)];
        let both = std::thread::spawn(move || said(first));
        let said = [said(second), both.join().expect("a command was run")];
        let lost: Vec<&Said> = said.iter().filter(|said| said.code != Some(0)).collect();
        let most = match case.twice {
            Both => 0..=0,
            One(_) => 1..=1,
            OneOrBoth(_) => 0..=1,
        };
        if !most.contains(&lost.len()) {
            let what: Vec<_> = said.iter().map(|said| (said.code, said.stderr.clone())).collect();
            self.fault(case, "twice", format!("{what:?}"));
        }
        if let (Some(loser), One(folder) | OneOrBoth(folder)) = (lost.first(), &case.twice) {
            let errors: Vec<&str> = loser.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
            if loser.code != Some(2) || errors.len() != 1 || !errors[0].contains(folder) {
                self.fault(case, "twice", format!("the loser says {:?}: {}", loser.code, loser.stderr));
            }
        }
        self.compare(case, "twice", &of.tree);
        self.check_judge(case, "twice", 0);
    }

    /// The judge gets each question once, but for those that were under way when the process was disturbed.
    fn check_judge(&mut self, case: &Case, about: &str, disturbed: usize) {
        let mut bodies: Vec<String> =
            self.judge.take_requests().iter().map(|request| request.body.to_string()).collect();
        let requests = bodies.len();
        bodies.sort();
        bodies.dedup();
        if requests - bodies.len() > disturbed {
            self.fault(case, about, format!("the judge was asked {requests} times for {} replies", bodies.len()));
        }
    }
}

/// What an undisturbed command does.
struct Undisturbed {
    opens: u64,
    changes: u64,
    tree: Tree,
}

/// Runs a command that nobody disturbs.
fn said(mut command: Command) -> Said {
    Said::of(output(&mut command).expect("the binary can be run"))
}

/// Whether a file is a whole entry of a store. On a slow machine runs store the result of their start-up test.
fn is_whole_entry(name: &str, bytes: &Option<Vec<u8>>) -> bool {
    let folders = ["store/", "fresh/"].iter().any(|store| name.starts_with(store));
    let file = name.rsplit('/').next().expect("a path has a last part");
    match bytes {
        None => folders && (name.contains("/contents/") || name.contains("/results/")),
        Some(bytes) if name.contains("/contents/") => folders && Digest::of(bytes).to_string() == file,
        Some(bytes) if name.contains("/results/") => {
            folders && String::from_utf8_lossy(bytes).split_whitespace().nth(1) == Some(file)
        }
        Some(_) => false,
    }
}

fn walk(folder: &Path, name: &str, tree: &mut Tree) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable folder").path();
        let name = format!("{name}{}", path.file_name().expect("a name").to_string_lossy());
        if path.is_dir() {
            walk(&path, &format!("{name}/"), tree);
            tree.insert(format!("{name}/"), None);
        } else {
            tree.insert(name, Some(fs::read(&path).expect("a readable file")));
        }
    }
}

/// The folder that all commands begin in.
fn prepare() -> Result<World, Errno> {
    let world = World::new();
    world.edit("scenario.ron", "rounds: 3", "rounds: 2");
    world.edit("scenario.ron", "evaluation: (local_baseline: true)", "evaluation: ()");
    fs::create_dir(world.path("tmp")).expect("a writable folder");
    fs::create_dir(world.path("scratch")).expect("a writable folder");
    fs::create_dir_all(world.path("questions/vicuna")).expect("a writable folder");
    let questions: Vec<String> = (1..=3).map(|id| question(id, &format!("What is {id}?"))).collect();
    world.write("questions/vicuna/question.jsonl", &questions.join("\n"));
    world.write("sweep.ron", "(name: \"s\", scenario: \"scenario.ron\", set: [\"rounds=1\"], seeds: [1, 2])");
    world.write("lab.pem", LAB);
    world.write("train.sh", "python main_sft.py --model_name_or_path m --dataset_name d --use_peft --template alpaca --learning_rate 1e-4\n");
    fs::copy(project("fixtures/gguf/llama.gguf"), world.path("model.gguf")).expect("a copy");
    world.fedreplay(&["run", "scenario.ron", "--out", "run", "--store", "store"]).succeeded();
    super::support::copy(&world.path("run"), &world.path("other"));
    let measure =
        "calibrate scenario.ron --out other.ron --steps steps.parquet --lengths 8,16 --rows 1 --repeats 1 --held-out 0";
    let measure: Vec<&str> = measure.split(' ').chain(["--least-seconds", "0", "--busy"]).collect();
    world.fedreplay(&measure).succeeded();
    let old = ["run", "scenario.ron", "--out", "gone", "--store", "old", "--set", "rounds=1"];
    world.fedreplay(&old).succeeded();
    fs::remove_dir_all(world.path("gone")).expect("a run");
    let begin = ["run", "scenario.ron", "--out", "begun", "--store", "none"];
    let begun = |moment| traced::run(world.command(&begin), &world.path("stderr"), moment);
    let changes = begun(None)?.changes;
    fs::remove_dir_all(world.path("begun")).expect("a run");
    begun(Some(Moment { signal: SIGKILL, call: changes * 3 / 5 }))?;
    let manifest = Manifest::read(&world.path("begun")).expect("it was begun");
    assert_eq!(manifest.state, RunState::Running);
    Ok(world)
}

/// Disturbs a command in all ways.
fn examine(stage: &mut Stage, index: usize, case: &Case) -> Result<(), Errno> {
    stage.reset();
    let traced = stage.traced(case.line, None)?;
    if traced.end != End::Code(0) {
        stage.fault(case, "undisturbed", format!("ended with {:?}: {}", traced.end, traced.stderr));
        return Ok(());
    }
    let of = Undisturbed { opens: traced.opens, changes: traced.changes, tree: stage.tree(case) };
    let is_soak = trials(0) > 0;
    let asked = [SIGINT, SIGTERM][index % 2];
    if !is_soak && !case.makes_something() {
        return stage.disturb(case, index as u64, &[asked], &of);
    }
    stage.disturb(case, index as u64, &[SIGKILL, asked], &of)?;
    stage.twice(case, &of);
    // One in eight of a soak's trials, in turn of each kind.
    for trial in 1..=trials(0).div_ceil(8) {
        let signals = [&[SIGKILL][..], &[SIGINT], &[SIGTERM], &[SIGKILL, SIGKILL], &[SIGINT, SIGKILL]];
        stage.disturb(case, trial << 32 | index as u64, signals[trial as usize % signals.len()], &of)?;
        if trial % 8 == 0 {
            stage.twice(case, &of);
        }
    }
    Ok(())
}

#[test]
fn every_command_is_whole_after_kills_and_signals_and_beside_itself() {
    let prepared = match prepare() {
        Ok(prepared) => prepared,
        Err(error) => return not_possible("kills of every command", &format!("nobody may trace here ({error})")),
    };
    let chosen = std::env::var("FEDREPLAY_COMMAND").ok();
    let cases: Vec<(usize, &Case)> = CASES
        .iter()
        .enumerate()
        .filter(|(_, case)| match &chosen {
            Some(chosen) => case.line.starts_with(chosen.as_str()),
            // The other forms of a command are for the soak.
            None => trials(0) > 0 || !case.is_repeated() || case.line.contains("{judge}"),
        })
        .collect();
    let (next, faults) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut stage = Stage::new(&prepared);
                while let Some((index, case)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    examine(&mut stage, *index, case).expect("it was traced before");
                }
                faults.lock().expect("nobody panics").append(&mut stage.faults);
            });
        }
    });
    let faults = faults.into_inner().expect("nobody panics");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_command_of_the_program_is_in_the_table() {
    let world = World::new();
    world.fedreplay(&["generate", "man", "--out", "man"]).succeeded();
    let pages = fs::read_dir(world.path("man")).expect("man pages").map(|page| page.expect("a page").file_name());
    let pages: Vec<String> = pages.map(|page| page.to_string_lossy().into_owned()).collect();
    let names: Vec<&str> =
        pages.iter().filter_map(|page| page.strip_prefix("fedreplay-")?.strip_suffix(".1")).collect();
    // The page of a command with subcommands is not that of one which does something.
    let is_parent = |name: &str| names.iter().any(|other| other.starts_with(&format!("{name}-")));
    let commands = names.iter().filter(|name| !is_parent(name) && **name != "help" && !name.ends_with("-help"));
    let missing: Vec<_> = commands.filter(|name| CASES.iter().all(|case| case.command() != **name)).collect();
    assert!(names.len() > 30 && missing.is_empty(), "of {names:?} these are missing: {missing:?}");
}
