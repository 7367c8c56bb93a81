//! Scenarios that are built in code instead of read from a file.

use std::path::{Path, PathBuf};

use super::load::written;
use super::ron_syntax::options;
use super::schema::{Protocol, ScenarioSpec, Stragglers};
use super::{Scenario, ScenarioError};

/// Scenario to start from.
const START: &str = include_str!("start.ron");

impl ScenarioSpec {
    /// Returns a scenario to start from, with the base model and the clients' data at these paths. All fields are public and
    /// may be changed.
    ///
    /// Ten synchronous rounds of two clients; LoRA of rank 8 and alpha 16 on query and value projections; ten steps of four
    /// rows per task at a learning rate of 1e-3; 10 % of each client's rows held out. All clients have the same laptop and
    /// link. Fields that a scenario file may leave out have the defaults of a file with `fidelity: Papers`.
    pub fn new(name: &str, model: impl Into<PathBuf>, data: impl Into<PathBuf>) -> Self {
        let mut spec: Self = options().from_str(START).expect("the scenario to start from is valid");
        spec.name = name.to_owned();
        spec.model.folder = Some(model.into());
        spec.data.file = Some(data.into());
        spec.resolve(spec.defaults_basis());
        spec
    }
}

impl Protocol {
    /// Returns synchronous rounds that wait for all of their clients.
    pub fn synchronous(clients_per_round: u32) -> Self {
        let stragglers = Stragglers::default();
        Self::Synchronous { clients_per_round, over_selection: 0, deadline: None, minimum: 1, stragglers }
    }
}

impl Scenario {
    /// Checks a scenario that was built in code, as if it had been read from a file. Its relative paths start from `folder`.
    ///
    /// # Errors
    /// [`ScenarioError::Value`] with the first field that is out of range or does not go with another.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::path::Path;
    ///
    /// use fedreplay::Scenario;
    /// use fedreplay::scenario::{Protocol, ScenarioSpec};
    ///
    /// let mut spec = ScenarioSpec::new("mine", "fixtures/tiny-base", "fixtures/skills/train.json");
    /// spec.rounds = 3;
    /// spec.server.protocol = Protocol::synchronous(4);
    /// let scenario = Scenario::new(spec.clone(), Path::new("."))?;
    /// assert_eq!(scenario.scenario, spec);
    ///
    /// spec.model.lora.rank = 0;
    /// let error = Scenario::new(spec, Path::new(".")).unwrap_err();
    /// assert!(error.to_string().contains("model.lora.rank: 0 is out of range"), "{error}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(mut spec: ScenarioSpec, folder: &Path) -> Result<Self, ScenarioError> {
        // A file's fields are checked while they are read, so the value is written and read like a file.
        spec.resolve(spec.defaults_basis());
        let text = written(&spec);
        Self::of_text(&folder.join("scenario.ron"), &text, &[]).map_err(|error| match error {
            ScenarioError::Syntax { line, message, .. } => {
                ScenarioError::Value { field: field_at(&text, line), message }
            }
            ScenarioError::Invalid { field, message, .. } => ScenarioError::Value { field, message },
            error => error,
        })
    }
}

/// Returns the path of the field on a line of [`written`], counted from 1. Elements of lists have no segment.
fn field_at(text: &str, line: usize) -> String {
    let mut path: Vec<(usize, &str)> = vec![];
    for text in text.lines().take(line) {
        let indent = text.len() - text.trim_start().len();
        // The enclosing fields are indented less.
        path.retain(|&(outer, _)| outer < indent);
        if let Some((name, _)) = text.trim_start().split_once(':') {
            path.push((indent, name.trim_matches('"')));
        }
    }
    let names: Vec<&str> = path.into_iter().map(|(_, name)| name).collect();
    names.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Rate;

    fn spec() -> ScenarioSpec {
        ScenarioSpec::new("mine", "base", "data.json")
    }

    #[track_caller]
    fn refused(change: impl FnOnce(&mut ScenarioSpec), message: &str) {
        let mut spec = spec();
        change(&mut spec);
        let error = Scenario::new(spec, Path::new("x")).expect_err("the scenario is wrong").to_string();
        assert_eq!(error, format!("failed to accept the scenario: {message}"));
    }

    #[test]
    fn a_scenario_built_in_code_has_the_identity_of_its_file() {
        let built = Scenario::new(spec(), Path::new("x")).expect("the start is right");
        let read = Scenario::from_ron(&START.replace("NAME", "mine"), Path::new("y")).expect("the start is right");
        assert_eq!(built.identity(), read.identity());
        assert_eq!(built.resolve(Path::new("data.json")), Path::new("x/data.json"));
    }

    #[test]
    fn a_value_out_of_range_is_named_by_its_path() {
        refused(|spec| spec.training.batch_size = 0, "training.batch_size: 0 is out of range: it must be at least 1");
        refused(
            |spec| spec.server.protocol = Protocol::synchronous(0),
            "server.protocol.clients_per_round: 0 is out of range: it must be at least 1",
        );
        refused(|spec| spec.data.held_out = 1.0, "data.held_out: 1 is out of range: it must be at least 0 and below 1");
    }

    #[test]
    fn fields_that_do_not_go_together_are_refused_as_in_a_file() {
        refused(
            |spec| spec.population.mix[0].device = "phone".into(),
            "population.mix.0.device: no device `phone`, only laptop",
        );
    }

    #[test]
    fn changed_values_are_kept_exactly() {
        let mut spec = spec();
        spec.training.lr = 0.1 + 0.2;
        spec.population.links.get_mut("cable").expect("a link").up = Rate(1_234_567_891);
        let scenario = Scenario::new(spec.clone(), Path::new(".")).expect("right");
        assert_eq!(scenario.scenario, spec);
    }
}
