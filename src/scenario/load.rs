//! Reads a scenario file, applies overrides, and checks what single fields cannot.

use std::fs;
use std::path::{Path, PathBuf};

use ron::error::SpannedError;
use ron::extensions::Extensions;

use super::check::check;
use super::method;
use super::spec::Scenario;
use super::spec::fidelity::{Reading, under};
use super::{ScenarioError, catalog, overrides};
use crate::store::{Key, key_of};

/// A scenario that has been read and holds together.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub scenario: Scenario,
    /// Folder that its relative paths start from.
    pub folder: PathBuf,
}

impl Loaded {
    /// Reads `file` and applies each `path=value` in order.
    ///
    /// # Errors
    /// The first mistake, with line and column where it has one.
    pub fn read(file: &Path, sets: &[String]) -> Result<Self, ScenarioError> {
        let text = fs::read_to_string(file).map_err(|source| ScenarioError::Io { file: file.to_owned(), source })?;
        let as_written = read_under(Reading::default(), file, &text, sets)?;
        let mut scenario = read_under(as_written.reading(), file, &text, sets)?;
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        catalog::include(&mut scenario, folder)?;
        check(&scenario).map_err(|(field, message)| ScenarioError::Invalid {
            file: file.to_owned(),
            line: line_of(&text, &field),
            field,
            message,
        })?;
        Ok(Self { scenario, folder: folder.to_owned() })
    }

    /// The scenario that a run was made from: its resolved text, with paths from `scenario_folder`, where it lay.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn of_run(run_folder: &Path, scenario_folder: &Path) -> Result<Self, ScenarioError> {
        let loaded = Self::read(&run_folder.join("scenario.ron"), &[])?;
        Ok(Self { folder: scenario_folder.to_owned(), ..loaded })
    }

    /// What can be played and is likely not meant.
    pub fn doubts(&self) -> Vec<String> {
        method::doubts(&self.scenario)
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

    /// The hash of what the scenario asks for. Its name, paths and what it saves are not part of it: what paths point to
    /// enters the digest by content.
    pub fn identity(&self) -> Key {
        let mut scenario = self.scenario.clone();
        scenario.name.clear();
        scenario.model.folder = None;
        scenario.model.tokenizer = None;
        scenario.model.lora.initial = None;
        scenario.data.file = None;
        scenario.data.test_file = None;
        if let Some(trace) = &mut scenario.population.trace {
            (trace.clients, trace.online) = (None, None);
        }
        scenario.output = Default::default();
        // Every rule that it stands for is written out.
        scenario.fidelity = Default::default();
        key_of("fedreplay scenario v4", &scenario)
    }
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

pub(super) fn options() -> ron::Options {
    ron::Options::default().with_default_extension(Extensions::IMPLICIT_SOME)
}

pub(super) fn syntax(file: &Path, error: &SpannedError) -> ScenarioError {
    let place = error.span.start;
    ScenarioError::Syntax {
        file: file.to_owned(),
        line: place.line,
        column: place.col,
        message: format!("{}{}", lower_first(&error.code.to_string()), suggestion(&error.code)),
    }
}

/// A message as it stands inside a sentence.
fn lower_first(message: &str) -> String {
    let mut rest = message.chars();
    rest.next().map(|first| first.to_lowercase().chain(rest).collect()).unwrap_or_default()
}

/// The nearest known name, for a misspelt one.
fn suggestion(code: &ron::Error) -> String {
    let (found, expected) = match code {
        ron::Error::NoSuchStructField { found, expected, .. } => (found, expected),
        ron::Error::NoSuchEnumVariant { found, expected, .. } => (found, expected),
        _ => return String::new(),
    };
    let nearest = expected.iter().min_by_key(|name| strsim::damerau_levenshtein(found, name));
    match nearest {
        Some(name) if strsim::damerau_levenshtein(found, name) <= 1 + found.len() / 3 => {
            format!("; did you mean `{name}`?")
        }
        _ => String::new(),
    }
}

/// The line of a field in the text, found by walking down its path.
fn line_of(text: &str, field: &str) -> Option<usize> {
    let mut from = 0;
    for segment in field.split('.').filter(|segment| segment.parse::<usize>().is_err()) {
        let at = text[from..]
            .match_indices(segment)
            .find(|(at, _)| text[from + at + segment.len()..].trim_start().starts_with(':'))?;
        from += at.0;
    }
    Some(text[..from].matches('\n').count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Protocol;

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
    }

    #[test]
    fn overrides_reach_into_variants_and_are_checked() {
        let sets = ["server.protocol.deadline=90s", "training.lr=0.5", "population.mix.0.share=2", "seed=9"];
        let scenario = read(MINIMAL, &sets).expect("the overrides fit").scenario;
        assert_eq!((scenario.seed, scenario.training.lr, scenario.population.mix[0].share), (9, 0.5, 2.0));
        assert!(
            matches!(&scenario.server.protocol, Protocol::Synchronous { deadline: Some(d), .. } if d.0 == 90_000_000_000)
        );
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
}
