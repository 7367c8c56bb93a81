//! Loading of a scenario file: parsing, overrides, checks across fields, and the identity of the result.

use std::path::{Path, PathBuf};

use super::changes::{Phase, phases};
use super::check::{Fault, check};
use super::ron_syntax::{options, syntax};
use super::schema::{Algorithm, Change, ScenarioSpec, SpecialTokensInTextSpec};
use super::{ScenarioError, catalog, check_aggregation, method, overrides};
use crate::store::{Key, key_of, read_text_limited};

/// Scenario that has been read and checked.
///
/// # Examples
///
/// ```
/// use std::path::Path;
///
/// use fedreplay::scenario::{Scenario, Protocol};
///
/// let sets = ["rounds=3".to_owned(), "server.protocol.deadline=90s".to_owned()];
/// let loaded = Scenario::read(Path::new("scenarios/quickstart.ron"), &sets)?;
/// assert_eq!(loaded.scenario.rounds, 3);
/// let Protocol::Synchronous { deadline: Some(deadline), .. } = loaded.scenario.server.protocol else { panic!() };
/// assert_eq!(deadline.0, 90_000_000_000);
///
/// let error = Scenario::read(Path::new("scenarios/quickstart.ron"), &["rouns=3".to_owned()]).unwrap_err();
/// assert!(error.to_string().contains("rounds"), "{error}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Scenario {
    pub scenario: ScenarioSpec,
    /// Scenarios in force after each change during the run, in the order of rounds.
    pub(crate) phases: Vec<Phase>,
    /// Folder that relative paths of the scenario start from.
    pub folder: PathBuf,
}

impl Scenario {
    /// Reads `file` and applies each override `path=value` in order. An override `@FILE` is replaced by the lines of
    /// that file, without empty lines and lines that begin with `//`.
    ///
    /// # Errors
    /// The first mistake, with line and column where they are known.
    pub fn read(file: &Path, sets: &[String]) -> Result<Self, ScenarioError> {
        let text = read_text_limited(file).map_err(|source| ScenarioError::Io { file: file.to_owned(), source })?;
        Self::of_text(file, &text, &expanded(sets)?)
    }

    /// Reads a scenario from RON text. Its relative paths start from `folder`.
    ///
    /// # Errors
    /// As [`Self::read`]. Messages call the text `scenario.ron` in `folder`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::path::Path;
    ///
    /// use fedreplay::Scenario;
    ///
    /// let text = std::fs::read_to_string("scenarios/quickstart.ron")?.replace("rounds: 12", "rounds: 2");
    /// let loaded = Scenario::from_ron(&text, Path::new("scenarios"))?;
    /// assert_eq!(loaded.scenario.rounds, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_ron(text: &str, folder: &Path) -> Result<Self, ScenarioError> {
        Self::of_text(&folder.join("scenario.ron"), text, &[])
    }

    /// Parses and checks `text`, which is or will be the content of `file`, with overrides applied in order.
    ///
    /// # Errors
    /// As [`Self::read`], but for those of reading the file.
    pub fn of_text(file: &Path, text: &str, sets: &[String]) -> Result<Self, ScenarioError> {
        let as_written: ScenarioSpec = options().from_str(text).map_err(|error| syntax(file, &error))?;
        let mut scenario = overrides::resolved(&as_written, sets)?;
        // Checks come after the catalog, which may provide the classes that groups name.
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        catalog::include(&mut scenario, folder)?;
        check(&scenario).map_err(|fault| invalid(file, text, fault))?;
        // Changes in mid-run are applied now, so that a mistake in one is found before the first round.
        let phases = phases(&scenario).map_err(|fault| invalid(file, text, fault))?;
        Ok(Self { scenario, phases, folder: folder.to_owned() })
    }

    /// Reads the resolved scenario of a run. Its relative paths start from `scenario_folder`, where the original file
    /// was.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn of_run(run_folder: &Path, scenario_folder: &Path, sets: &[String]) -> Result<Self, ScenarioError> {
        let loaded = Self::read(&run_folder.join("scenario.ron"), sets)?;
        Ok(Self { folder: scenario_folder.to_owned(), ..loaded })
    }

    /// Reads the scenario of a run as [`Self::of_run`] does and adds a change that takes effect in server round
    /// `at_round`. The changes that it has already stay.
    ///
    /// # Errors
    /// As [`Self::read`], and if a field cannot change during a run.
    pub fn fork_of_run(
        run_folder: &Path,
        scenario_folder: &Path,
        at_round: u32,
        sets: &[String],
    ) -> Result<Self, ScenarioError> {
        // A change in the same round as an existing one extends it; changes stay in the order of rounds.
        let mut changes = Self::of_run(run_folder, scenario_folder, &[])?.scenario.changes;
        let sets = expanded(sets)?;
        match changes.binary_search_by_key(&at_round, |change| change.at_round) {
            Ok(same) => changes[same].set.extend(sets),
            Err(place) => changes.insert(place, Change { at_round, set: sets }),
        }
        let changes = serde_json::to_string(&changes).expect("a change has only text keys");
        Self::of_run(run_folder, scenario_folder, &[format!("changes={changes}")])
    }

    /// Returns warnings about settings that are valid but probably not intended, in any round.
    pub fn doubts(&self) -> Vec<String> {
        self.over_phases(method::doubts)
    }

    /// Returns warnings about settings that are valid but probably not intended with this number of clients, in any round.
    pub fn doubts_about_clients(&self, clients: usize) -> Vec<String> {
        self.over_phases(|scenario| method::doubts_about_clients(scenario, clients))
    }

    /// Returns the warnings about the first scenario in force, then those that a change adds, with its round.
    fn over_phases(&self, doubts_about: impl Fn(&ScenarioSpec) -> Vec<String>) -> Vec<String> {
        let mut known = doubts_about(&self.scenario);
        let mut doubts = known.clone();
        for phase in &self.phases {
            for doubt in doubts_about(&phase.scenario) {
                if !known.contains(&doubt) {
                    doubts.push(format!("from round {} on: {doubt}", phase.from_round));
                    known.push(doubt);
                }
            }
        }
        doubts
    }

    /// Checks the scenario against the number of clients in its data.
    ///
    /// # Errors
    /// If a field does not go with that number; the error names the field.
    pub fn check_clients(&self, clients: usize) -> Result<(), ScenarioError> {
        method::check_clients(&self.scenario, clients)?;
        let later = self.phases.iter().map(|phase| &phase.scenario);
        std::iter::once(&self.scenario)
            .chain(later)
            .try_for_each(|scenario| check_aggregation::check_clients(scenario, clients))
    }

    /// Converts a path in the scenario to one relative to the current folder.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    /// Returns the scenario as RON, with every default written out.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::path::Path;
    ///
    /// use fedreplay::scenario::Scenario;
    ///
    /// let loaded = Scenario::read(Path::new("scenarios/quickstart.ron"), &[])?;
    /// let text = loaded.resolved_text();
    /// assert!(text.contains("checkpointing: Auto"), "the file does not set it");
    /// let written = tempfile::NamedTempFile::new()?;
    /// std::fs::write(&written, &text)?;
    /// assert_eq!(Scenario::read(written.path(), &[])?.scenario, loaded.scenario);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resolved_text(&self) -> String {
        written(&self.scenario)
    }

    /// Returns the scenario without fields that do not belong to its identity, but with its changes as written.
    pub(crate) fn identified(&self) -> ScenarioSpec {
        ScenarioSpec { changes: self.scenario.changes.clone(), ..identified(&self.scenario) }
    }

    /// Returns the hash of the scenario as far as it determines results. Name, paths, output and execution settings are
    /// not part of it; the files at the paths enter the digest of the run by their contents.
    pub fn identity(&self) -> Key {
        // A scenario without changes is hashed alone, under a kind of its own.
        let first = identified(&self.scenario);
        if self.phases.is_empty() {
            return key_of("fedreplay scenario v4", &first);
        }
        let later: Vec<_> = self.phases.iter().map(|phase| (phase.from_round, identified(&phase.scenario))).collect();
        key_of("fedreplay scenario with changes v1", &(first, later))
    }
}

/// Returns a scenario without the fields that do not belong to its identity.
fn identified(scenario: &ScenarioSpec) -> ScenarioSpec {
    // Paths are hashed by the contents of their files, elsewhere; names and output settings change no result.
    let mut scenario = scenario.clone();
    scenario.name.clear();
    scenario.model.folder = None;
    scenario.model.hub = None;
    scenario.model.tokenizer = None;
    scenario.model.lora.initial = None;
    scenario.data.file = None;
    scenario.data.test_file = None;
    scenario.data.root_file = None;
    scenario.evaluation.questions = None;
    if let Algorithm::Python { file, check_every, time_limit, .. } = &mut scenario.algorithm {
        // What a rule is comes from the contents of its file; how it is watched changes no result.
        (*file, *check_every, *time_limit) = (PathBuf::new(), 0, 0.0);
    }
    if let Some(trace) = &mut scenario.population.trace {
        trace.clients = None;
        trace.online = None;
    }
    for device in scenario.population.devices.values_mut() {
        device.profile = device.profile.as_ref().map(|_| PathBuf::new());
    }
    scenario.execution = Default::default();
    scenario.output = Default::default();
    // All defaults that `fidelity` selects are written out, so it carries no further information.
    scenario.fidelity = Default::default();
    // The field came later than the first scenarios, whose identity it does not change where they mean `Refuse`.
    if scenario.data.special_tokens_in_text.get() == SpecialTokensInTextSpec::Refuse {
        scenario.data.special_tokens_in_text = Default::default();
    }
    // Changes are hashed as the scenarios that they lead to.
    scenario.changes.clear();
    scenario
}

/// Returns a scenario as RON with one field per line.
pub(super) fn written(spec: &ScenarioSpec) -> String {
    let pretty = ron::ser::PrettyConfig::new().indentor("  ");
    let text = options().to_string_pretty(spec, pretty);
    text.expect("a scenario can be written as RON") + "\n"
}

/// Converts a fault into an error with the line of the field in the text.
fn invalid(file: &Path, text: &str, (field, message): Fault) -> ScenarioError {
    ScenarioError::Invalid { file: file.to_owned(), line: line_of(text, &field), field, message }
}

/// Replaces each `@FILE` among the overrides by the overrides in that file.
fn expanded(sets: &[String]) -> Result<Vec<String>, ScenarioError> {
    let mut all = Vec::with_capacity(sets.len());
    for set in sets {
        let Some(file) = set.strip_prefix('@') else {
            all.push(set.clone());
            continue;
        };
        let text =
            read_text_limited(Path::new(file)).map_err(|source| ScenarioError::Io { file: file.into(), source })?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
        all.extend(lines.map(str::to_owned));
    }
    Ok(all)
}

/// Returns the line of a field in the text.
///
/// It follows the path of the field through the text: names are found by the colon after them, indices by counting the
/// elements of a list. `None` if a segment is not found, as for a field that an override sets.
fn line_of(text: &str, field: &str) -> Option<usize> {
    let mut from = 0;
    for segment in field.split('.') {
        from = match segment.parse::<usize>() {
            Ok(index) => element(text, from, index)?,
            // A name is searched for from the position of its parent on.
            Err(_) => from + name_at(&text[from..], segment)?,
        };
    }
    Some(text[..from].matches('\n').count() + 1)
}

/// Returns the position of the first field or key of this name in the text.
fn name_at(text: &str, name: &str) -> Option<usize> {
    for (at, _) in text.match_indices(name) {
        // A whole word before a colon; the quote after it is that of a key in a map.
        let before = text[..at].chars().next_back();
        let is_end_of_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '-');
        let rest = text[at + name.len()..].trim_start_matches('"').trim_start();
        if rest.starts_with(':') && !is_end_of_word {
            return Some(at);
        }
    }
    None
}

/// Returns the position of the element at `index` of the first list after `from`.
fn element(text: &str, from: usize, index: usize) -> Option<usize> {
    let list = from + text[from..].find('[')? + 1;
    // One pass over the characters: commas count only outside of nested brackets, strings and comments.
    let mut depth = 0usize;
    let mut commas = 0;
    let mut in_text = false;
    let mut in_comment = false;
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
    use crate::scenario::schema::Protocol;

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

    fn read(text: &str, sets: &[&str]) -> Result<Scenario, ScenarioError> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("scenario.ron");
        std::fs::write(&file, text).expect("a writable folder");
        Scenario::read(&file, &sets.iter().map(|&set| set.to_owned()).collect::<Vec<_>>())
    }

    fn message(text: &str, sets: &[&str]) -> String {
        let error = read(text, sets).expect_err("the scenario is wrong").to_string();
        error.rsplit_once("scenario.ron").map_or(error.clone(), |(_, message)| message.to_owned())
    }

    #[test]
    fn what_is_written_out_means_the_same_under_either_fidelity() {
        for fidelity in ["Papers", "FedLlmBench"] {
            for value in ["Refuse", "AsText", "Parsed"] {
                let sets = [format!("fidelity={fidelity}"), format!("data.special_tokens_in_text={value}")];
                let loaded = read(MINIMAL, &[&sets[0], &sets[1]]).expect("the scenario is right");
                let again = read(&loaded.resolved_text(), &[]).expect("what is written can be read");
                assert_eq!(loaded.scenario, again.scenario, "{fidelity} {value}");
                assert_eq!(loaded.identity(), again.identity(), "{fidelity} {value}");
                let other =
                    read(&loaded.resolved_text(), &["fidelity=FedLlmBench"]).expect("what is written can be read");
                assert_eq!(loaded.scenario.data, other.scenario.data, "{fidelity} {value}");
            }
        }
        let papers = read(MINIMAL, &[]).expect("right");
        assert!(!papers.resolved_text().contains("template_date"));
    }

    #[test]
    fn a_date_of_a_template_is_a_date() {
        let text = message(MINIMAL, &["data.template_date=26 Jul 2024"]);
        assert!(text.contains("it must be a date such as 2024-07-26"), "{text}");
        read(MINIMAL, &["data.template_date=2024-07-26"]).expect("right");
    }

    #[test]
    fn the_resolved_text_reads_back_as_the_same_scenario() {
        let loaded = read(MINIMAL, &[]).expect("the scenario is right");
        let again = read(&loaded.resolved_text(), &[]).expect("what is written can be read");
        assert_eq!(loaded.scenario, again.scenario);
        assert_eq!(loaded.identity(), again.identity());
    }

    /// RON checks the name of a struct that is written with one.
    #[test]
    fn sections_may_be_written_with_their_names() {
        let mut named = MINIMAL.replacen('(', "Scenario(", 1);
        let sections =
            [("model: (", "model: Model("), ("training: (", "training: Training("), ("mix: [(", "mix: [Group(")];
        for (anonymous, with_name) in sections {
            assert!(named.contains(anonymous));
            named = named.replace(anonymous, with_name);
        }
        assert_eq!(read(&named, &[]).unwrap().scenario, read(MINIMAL, &[]).unwrap().scenario);
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
        assert!(message(&twice, &[]).contains("`laptop` is defined twice"));
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
    fn none_removes_an_optional_text_and_quotes_make_it_one() {
        let with_test = "data.test_file=held.json";
        let removed =
            read(MINIMAL, &[with_test, "data.test_file=None", "model.tokenizer=None"]).expect("optional").scenario;
        assert_eq!((removed.data.test_file, removed.model.tokenizer), (None, None));
        let kept = read(MINIMAL, &["data.test_file=\"None\""]).expect("a text").scenario;
        assert_eq!(kept.data.test_file, Some("None".into()));
        let region = ["population.mix.0.region=north", "population.mix.0.region=None"];
        assert_eq!(read(MINIMAL, &region).expect("optional").scenario.population.mix[0].region, None);
        assert_eq!(read(MINIMAL, &["name=None"]).expect("a name").scenario.name, "None");
    }

    /// The forms of numbers that a file may have.
    #[test]
    fn overrides_read_numbers_as_a_file_does() {
        for (text, lr) in [(".25", 0.25), ("1.", 1.0), ("+0.25", 0.25), ("1e-1", 0.1), ("2", 2.0)] {
            assert_eq!(read(MINIMAL, &[&format!("training.lr={text}")]).expect(text).scenario.training.lr, lr);
            let file = MINIMAL.replace("lr: 1e-3", &format!("lr: {text}"));
            assert_eq!(read(&file, &[]).expect(text).scenario.training.lr, lr, "{text} in a file");
        }
        for (text, seed) in [("0x10", 16), ("1_000", 1000), ("+7", 7), ("0b11", 3)] {
            assert_eq!(read(MINIMAL, &[&format!("seed={text}")]).expect(text).scenario.seed, seed);
            let file = MINIMAL.replace("rounds: 2", &format!("rounds: 2, seed: {text}"));
            assert_eq!(read(&file, &[]).expect(text).scenario.seed, seed, "{text} in a file");
        }
        assert_eq!(read(MINIMAL, &["name=1_000"]).expect("a text").scenario.name, "1_000");
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
