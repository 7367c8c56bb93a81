//! Reads a scenario file, applies overrides, and checks what single fields cannot.

use std::fs;
use std::path::{Path, PathBuf};

use super::changes::{Phase, phases};
use super::check::{Fault, check};
use super::ron_syntax::{options, syntax};
use super::schema::fidelity::{Reading, under};
use super::schema::{Change, Protocol, Scenario};
use super::{ScenarioError, catalog, method, overrides};
use crate::store::{Key, key_of};

/// A scenario that has been read and holds together.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub scenario: Scenario,
    /// What it becomes in mid-run, in the order of rounds.
    pub(crate) phases: Vec<Phase>,
    /// Folder that its relative paths start from.
    pub folder: PathBuf,
}

impl Loaded {
    /// Reads `file` and applies each `path=value` in order; `@FILE` stands for the lines of a file, of which those that
    /// are empty or begin with `//` are passed over.
    ///
    /// # Errors
    /// The first mistake, with line and column where it has one.
    pub fn read(file: &Path, sets: &[String]) -> Result<Self, ScenarioError> {
        let text = fs::read_to_string(file).map_err(|source| ScenarioError::Io { file: file.to_owned(), source })?;
        let sets = &expanded(sets)?;
        let as_written = read_under(Reading::default(), file, &text, sets)?;
        let mut scenario = read_under(as_written.reading(), file, &text, sets)?;
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        catalog::include(&mut scenario, folder)?;
        let invalid = |(field, message): Fault| ScenarioError::Invalid {
            file: file.to_owned(),
            line: line_of(&text, &field),
            field,
            message,
        };
        check(&scenario).map_err(invalid)?;
        let phases = under(as_written.reading(), || phases(&scenario)).map_err(invalid)?;
        Ok(Self { scenario, phases, folder: folder.to_owned() })
    }

    /// The scenario that a run was made from: its resolved text, with paths from `scenario_folder`, where it lay.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn of_run(run_folder: &Path, scenario_folder: &Path, sets: &[String]) -> Result<Self, ScenarioError> {
        let loaded = Self::read(&run_folder.join("scenario.ron"), sets)?;
        Ok(Self { folder: scenario_folder.to_owned(), ..loaded })
    }

    /// The scenario of [`Self::of_run`] with one more change, from a round of the server on. Those that it has stay.
    ///
    /// # Errors
    /// As [`Self::read`], for a field that cannot change in mid-run too.
    pub fn fork_of_run(
        run_folder: &Path,
        scenario_folder: &Path,
        at_round: u32,
        sets: &[String],
    ) -> Result<Self, ScenarioError> {
        let mut changes = Self::of_run(run_folder, scenario_folder, &[])?.scenario.changes;
        let sets = expanded(sets)?;
        match changes.binary_search_by_key(&at_round, |change| change.at_round) {
            Ok(same) => changes[same].set.extend(sets),
            Err(place) => changes.insert(place, Change { at_round, set: sets }),
        }
        let changes = serde_json::to_string(&changes).expect("a change has only text keys");
        Self::of_run(run_folder, scenario_folder, &[format!("changes={changes}")])
    }

    /// What can be played and is likely not meant.
    pub fn doubts(&self) -> Vec<String> {
        method::doubts(&self.scenario)
    }

    /// What may not be meant, now that the number of clients is known.
    pub fn doubt_about_cohort(&self, clients: usize) -> Option<String> {
        let wanted = match self.scenario.server.protocol {
            Protocol::Synchronous { clients_per_round, .. }
            | Protocol::Tiered { clients_per_round, .. }
            | Protocol::Hierarchical { clients_per_round, .. } => clients_per_round,
            _ => return None,
        };
        let asks = format!("server.protocol.clients_per_round asks for {wanted} clients, and there are {clients}");
        (wanted as usize > clients).then(|| asks + ": every round asks all of them")
    }

    /// Checks the scenario against the number of clients that its data has.
    ///
    /// # Errors
    /// What is wrong with a field, and the allowed range.
    pub fn check_clients(&self, clients: usize) -> Result<(), String> {
        method::check_clients(&self.scenario, clients)
    }

    /// A path of the scenario, as seen from the current folder.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    /// The scenario as RON with every default written out.
    pub fn resolved_text(&self) -> String {
        let pretty = ron::ser::PrettyConfig::new().indentor("  ");
        options().to_string_pretty(&self.scenario, pretty).expect("a scenario can be written as RON") + "\n"
    }

    /// The scenario without what is no part of its identity, but with its changes as they are written.
    pub fn identified(&self) -> Scenario {
        Scenario { changes: self.scenario.changes.clone(), ..identified(&self.scenario) }
    }

    /// The hash of what the scenario asks for. Its name, paths, what it saves and how it is executed are not part of it:
    /// what paths point to enters the digest by content.
    pub fn identity(&self) -> Key {
        let first = identified(&self.scenario);
        if self.phases.is_empty() {
            return key_of("fedreplay scenario v4", &first);
        }
        let later: Vec<_> = self.phases.iter().map(|phase| (phase.from_round, identified(&phase.scenario))).collect();
        key_of("fedreplay scenario with changes v1", &(first, later))
    }
}

/// A scenario without what is no part of its identity.
fn identified(scenario: &Scenario) -> Scenario {
    let mut scenario = scenario.clone();
    scenario.name.clear();
    scenario.model.folder = None;
    scenario.model.hub = None;
    scenario.model.tokenizer = None;
    scenario.model.lora.initial = None;
    scenario.data.file = None;
    scenario.data.test_file = None;
    scenario.evaluation.questions = None;
    if let Some(trace) = &mut scenario.population.trace {
        (trace.clients, trace.online) = (None, None);
    }
    scenario.execution = Default::default();
    scenario.output = Default::default();
    // Every rule that it stands for is written out.
    scenario.fidelity = Default::default();
    // They are hashed by what they come to.
    scenario.changes.clear();
    scenario
}

/// The overrides, with those of files in their places.
fn expanded(sets: &[String]) -> Result<Vec<String>, ScenarioError> {
    let mut all = Vec::with_capacity(sets.len());
    for set in sets {
        let Some(file) = set.strip_prefix('@') else {
            all.push(set.clone());
            continue;
        };
        let text = fs::read_to_string(file).map_err(|source| ScenarioError::Io { file: file.into(), source })?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
        all.extend(lines.map(str::to_owned));
    }
    Ok(all)
}

/// Reads the text and applies each override, with defaults as `reading` wants them.
fn read_under(reading: Reading, file: &Path, text: &str, sets: &[String]) -> Result<Scenario, ScenarioError> {
    under(reading, || {
        let mut scenario: Scenario = options().from_str(text).map_err(|error| syntax(file, &error))?;
        for argument in sets {
            scenario = overrides::apply(&scenario, argument)?;
        }
        Ok(scenario)
    })
}

/// The line of a field in the text, found by walking down its path: a name by its colon, a number by counting the
/// elements of a list.
fn line_of(text: &str, field: &str) -> Option<usize> {
    let mut from = 0;
    for segment in field.split('.') {
        from = match segment.parse::<usize>() {
            Ok(index) => element(text, from, index)?,
            Err(_) => from + name_at(&text[from..], segment)?,
        };
    }
    Some(text[..from].matches('\n').count() + 1)
}

/// Where a field or key of this name stands in the text.
fn name_at(text: &str, name: &str) -> Option<usize> {
    let is_field = |at: usize| {
        let rest = text[at + name.len()..].trim_start_matches('"').trim_start();
        let before = text[..at].chars().next_back();
        rest.starts_with(':') && !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '-')
    };
    text.match_indices(name).map(|(at, _)| at).find(|&at| is_field(at))
}

/// Where the element of this index begins, in the list that begins first after `from`.
fn element(text: &str, from: usize, index: usize) -> Option<usize> {
    let list = from + text[from..].find('[')? + 1;
    let (mut depth, mut commas, mut in_text, mut in_comment) = (0usize, 0, false, false);
    let mut previous = ' ';
    for (at, c) in text[list..].char_indices() {
        match c {
            '\n' => in_comment = false,
            _ if in_comment => {}
            '"' if previous != '\\' => in_text = !in_text,
            _ if in_text => {}
            '/' if previous == '/' => in_comment = true,
            '(' | '[' | '{' => {
                if depth == 0 && commas == index {
                    return Some(list + at);
                }
                depth += 1;
            }
            ')' | ']' | '}' => depth = depth.checked_sub(1)?,
            ',' if depth == 0 => commas += 1,
            _ => {}
        }
        previous = c;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = r#"(
    name: "minimal",
    rounds: 2,
    model: (folder: "base", lora: (rank: 4, alpha: 8)),
    data: (file: "data.json", max_seq_length: 64),
    training: (local_steps: 3, batch_size: 2, lr: 1e-3),
    server: (
        protocol: Synchronous(clients_per_round: 2, deadline: "5m"),
        downlink: "1 Gbit/s",
        uplink: "1 Gbit/s",
    ),
    population: (
        devices: {"laptop": (speed: "1 TFLOP/s")},
        links: {"home": (down: "50 Mbit/s", up: "10 Mbit/s")},
        mix: [(share: 1, device: "laptop", link: "home")],
    ),
)"#;

    fn read(text: &str, sets: &[&str]) -> Result<Loaded, ScenarioError> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("scenario.ron");
        fs::write(&file, text).expect("a writable folder");
        Loaded::read(&file, &sets.iter().map(|&set| set.to_owned()).collect::<Vec<_>>())
    }

    fn message(text: &str, sets: &[&str]) -> String {
        let error = read(text, sets).expect_err("the scenario is wrong").to_string();
        error.rsplit_once("scenario.ron").map_or(error.clone(), |(_, message)| message.to_owned())
    }

    #[test]
    fn the_resolved_text_reads_back_as_the_same_scenario() {
        let loaded = read(MINIMAL, &[]).expect("the scenario is right");
        let again = read(&loaded.resolved_text(), &[]).expect("what is written can be read");
        assert_eq!(loaded.scenario, again.scenario);
        assert_eq!(loaded.identity(), again.identity());
    }

    #[test]
    fn mistakes_are_named_with_line_and_column() {
        for (from, to, expected) in [
            ("rounds: 2", "rouns: 2", ":3:5: unexpected field named `rouns` in `Scenario`, expected one of "),
            ("rounds: 2", "rounds: 0", "0 is out of range: it must be at least 1"),
            ("rounds: 2", "rounds: -2", ":3:"),
            ("rounds: 2,", "", "unexpected missing field named `rounds` in `Scenario`"),
            ("rank: 4", "rank: \"four\"", ":4:"),
            ("\"50 Mbit/s\"", "\"50 Mbits\"", "write it like \"20 Mbit/s\""),
            ("Synchronous(", "Synchronus(", "did you mean `Synchronous`?"),
            ("device: \"laptop\"", "device: \"desktop\"", "no device `desktop`, only laptop"),
            ("name: \"minimal\"", "name: \"../up\"", "`../up` must be letters"),
            ("lr: 1e-3", "lr: 0", "0 is out of range: it must be above 0"),
            ("lr: 1e-3", "lr: 1e39", "it must be above 0 and finite in 32 bits"),
            ("rank: 4, alpha: 8", "rank: 4, alpha: 1e39", "it must be above 0 and finite in 32 bits"),
        ] {
            let wrong = MINIMAL.replace(from, to);
            assert_ne!(wrong, MINIMAL);
            let found = message(&wrong, &[]);
            assert!(found.contains(expected), "{from} -> {to}: {found}");
        }
        assert!(message(&MINIMAL.replace("rounds: 2", "rouns: 2"), &[]).contains("did you mean `rounds`?"));
    }

    #[test]
    fn cross_field_mistakes_name_the_line() {
        let found = message(&MINIMAL.replace("device: \"laptop\"", "device: \"desktop\""), &[]);
        assert!(found.starts_with(":15: population.mix.0.device"), "{found}");
        let second = "[\n            // (one, [two]\n            (share: 1, device: \"laptop\", link: \"home\"),\n            (share: 1,\n             device: \"desktop\", link: \"home\"),\n        ]";
        let wrong = MINIMAL.replace("[(share: 1, device: \"laptop\", link: \"home\")]", second);
        let found = message(&wrong, &[]);
        assert!(found.starts_with(":19: population.mix.1.device"), "{found}");
    }

    #[test]
    fn a_name_that_stands_twice_is_refused() {
        let twice = MINIMAL.replace("devices: {", "devices: {\"laptop\": (speed: \"2 TFLOP/s\"), ");
        assert!(message(&twice, &[]).contains("`laptop` stands there twice"));
    }

    #[test]
    fn overrides_reach_into_variants_and_are_checked() {
        let sets = ["server.protocol.deadline=90s", "training.lr=0.5", "population.mix.0.share=2", "seed=9"];
        let scenario = read(MINIMAL, &sets).expect("the overrides fit").scenario;
        assert_eq!((scenario.seed, scenario.training.lr, scenario.population.mix[0].share), (9, 0.5, 2.0));
        assert!(
            matches!(&scenario.server.protocol, Protocol::Synchronous { deadline: Some(d), .. } if d.0 == 90_000_000_000)
        );
        let none = read(MINIMAL, &["server.protocol.deadline=None"]).expect("an optional field").scenario;
        assert!(matches!(&none.server.protocol, Protocol::Synchronous { deadline: None, .. }));
        assert!(message(MINIMAL, &["training.lr=None"]).contains("training.lr=None"));
        assert!(message(MINIMAL, &["training.lrr=1"]).contains("there is no field `lrr` here"));
        assert!(message(MINIMAL, &["rounds=0"]).contains("it must be at least 1"));
        assert!(message(MINIMAL, &["rounds"]).contains("path=value"));
    }

    #[test]
    fn the_identity_ignores_names_and_sees_values() {
        let base = read(MINIMAL, &[]).expect("right").identity();
        assert_eq!(base, read(MINIMAL, &["name=other", "data.file=else.json"]).expect("right").identity());
        assert_ne!(base, read(MINIMAL, &["training.lr=0.5"]).expect("right").identity());
        assert_ne!(base, read(MINIMAL, &["seed=2"]).expect("right").identity());
    }

    #[test]
    fn kernels_are_written_and_hashed_as_before_where_they_are_the_default() {
        let plain = read(MINIMAL, &[]).expect("right");
        let set = read(MINIMAL, &["execution.kernels=LibTorch"]).expect("right");
        assert!(!plain.resolved_text().contains("kernels"));
        assert!(set.resolved_text().contains("kernels: LibTorch"));
        assert_eq!(plain.identity(), set.identity(), "the class of numerics tells them apart");
        let both = ["execution.kernels=LibTorch", "execution.numerics=Portable"];
        assert!(message(MINIMAL, &both).contains("execution.kernels: LibTorch's kernels are not portable"));
    }
}
