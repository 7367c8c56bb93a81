//! Sweeps: runs of one or several scenarios under many settings.

mod cells;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::check::check_name;
use super::ron_syntax::{options, syntax};
use super::{ScenarioError, range};
use crate::store::read_text_limited;

pub use cells::SweepCell;

/// Largest number of runs of a sweep.
const CELLS_MAX: usize = 100_000;

/// Sweep file. Every cell of scenarios x variants x axes x seeds is one run. The runs share one store, so that training
/// that several of them have in common is done once.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// Name of the folder under `runs/` that contains the cells' folders.
    pub name: String,
    /// Scenario that all cells start from, if there is only one. Relative to the sweep's file.
    #[serde(default)]
    pub scenario: Option<PathBuf>,
    /// Scenarios that cells start from, instead of `scenario`. Settings are compared within each.
    #[serde(default)]
    pub scenarios: Vec<SweepBase>,
    /// Synthetic twins that are written before the first run.
    #[serde(default)]
    pub twins: Vec<TwinFiles>,
    /// Changes for all cells, each `path=value`, or `@FILE` relative to the sweep's file.
    #[serde(default)]
    pub set: Vec<String>,
    /// Named sets of changes. An empty list has the effect of one variant without changes.
    #[serde(default)]
    pub variants: Vec<Variant>,
    /// Fields and their values, of which all combinations are run.
    #[serde(default)]
    pub axes: Vec<Axis>,
    /// Master seeds; an empty list uses the scenario's. Cells with equal seeds share their random draws, so they are
    /// compared in pairs.
    #[serde(default)]
    pub seeds: Vec<u64>,
    /// Published results, to be shown with those of the runs.
    #[serde(default)]
    pub published: Vec<PublishedFigure>,
}

/// One of several scenarios of a sweep.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename = "Base", deny_unknown_fields)]
pub struct SweepBase {
    pub name: String,
    /// Relative to the sweep's file.
    pub scenario: PathBuf,
    /// Changes for its cells.
    #[serde(default)]
    pub set: Vec<String>,
    /// Further changes for its cells of a variant, by the variant's name.
    #[serde(default, deserialize_with = "range::unique")]
    pub variants: BTreeMap<String, Vec<String>>,
}

/// Named set of changes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    pub name: String,
    /// Changes, each `path=value`.
    #[serde(default)]
    pub set: Vec<String>,
}

/// Field and its values, in the form that `--set` accepts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Axis {
    pub path: String,
    pub values: Vec<String>,
}

/// Synthetic twin in two files, `train.json` and `test.json`, with the same bytes whenever they are written.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TwinFiles {
    /// Name of the twin for `fedreplay data twin`.
    pub twin: String,
    /// Relative to the sweep's file.
    pub folder: PathBuf,
    /// [1] Factor on all lengths -- above 0, at most 1.
    #[serde(deserialize_with = "range::positive_share")]
    pub length_scale: f64,
    /// [1] Share of each client's rows that go to the test file -- below 1.
    #[serde(deserialize_with = "range::below_one")]
    pub held_out: f64,
}

/// Published result of one setting.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename = "Published", deny_unknown_fields)]
pub struct PublishedFigure {
    /// Name of one of `scenarios`.
    pub scenario: String,
    /// Name of one of `variants`.
    pub variant: String,
    /// The value, with the name of what it measures.
    pub figure: String,
}

impl Sweep {
    /// Reads a sweep and makes its paths relative to the current folder.
    ///
    /// # Errors
    /// The first mistake, with line and column where they are known.
    pub fn read(file: &Path) -> Result<Self, ScenarioError> {
        let text = read_text_limited(file).map_err(|source| ScenarioError::Io { file: file.to_owned(), source })?;
        let mut sweep: Self = options().from_str(&text).map_err(|error| syntax(file, &error))?;
        sweep.check().map_err(|(field, message)| ScenarioError::Invalid {
            file: file.to_owned(),
            line: None,
            field,
            message,
        })?;
        sweep.resolve(file.parent().unwrap_or(Path::new("")));
        Ok(sweep)
    }

    /// Returns the scenarios; a single one has no name.
    fn bases(&self) -> Vec<SweepBase> {
        match &self.scenario {
            Some(scenario) => vec![SweepBase { scenario: scenario.clone(), ..SweepBase::default() }],
            None => self.scenarios.clone(),
        }
    }

    /// Returns the published result of a setting, by its scenario and variant.
    pub fn published(&self, scenario: &str, variant: &str) -> Option<&str> {
        let result = self.published.iter().find(|one| one.scenario == scenario && one.variant == variant);
        result.map(|one| one.figure.as_str())
    }

    fn check(&self) -> Result<(), (String, String)> {
        check_name(&self.name)?;
        if self.scenario.is_some() != self.scenarios.is_empty() {
            return fault("scenario", "there must be either `scenario` or `scenarios`");
        }
        if self.axes.iter().any(|axis| axis.values.is_empty()) {
            return fault("axes", "each must hold at least one value");
        }
        let counts = [self.scenarios.len(), self.variants.len(), self.seeds.len()].map(|count| count.max(1));
        let cells = counts.into_iter().chain(self.axes.iter().map(|axis| axis.values.len()));
        let cells = cells.fold(1, usize::saturating_mul);
        if cells > CELLS_MAX {
            return fault("axes", &format!("the combinations make {cells} runs, and a sweep has at most {CELLS_MAX}"));
        }
        // A set that is smaller than its list shows a duplicate.
        let variants: BTreeSet<&str> = self.variants.iter().map(|variant| variant.name.as_str()).collect();
        if variants.len() < self.variants.len() {
            return fault("variants", "each must have a name of its own");
        }
        let scenarios: BTreeSet<&str> = self.scenarios.iter().map(|base| base.name.as_str()).collect();
        if scenarios.len() < self.scenarios.len() || scenarios.contains("") {
            return fault("scenarios", "each must have a name of its own");
        }
        if self.seeds.iter().collect::<BTreeSet<_>>().len() < self.seeds.len() {
            return fault("seeds", "each must occur only once");
        }
        for base in &self.scenarios {
            if let Some(unknown) = base.variants.keys().find(|name| !variants.contains(name.as_str())) {
                return fault("scenarios.variants", &format!("{}: no variant `{unknown}`", base.name));
            }
        }
        for one in &self.published {
            if !scenarios.contains(one.scenario.as_str()) || !variants.contains(one.variant.as_str()) {
                return fault("published", &format!("no cell has `{}` and `{}`", one.scenario, one.variant));
            }
        }
        Ok(())
    }

    /// Makes paths that are relative to the sweep's folder relative to the current folder.
    fn resolve(&mut self, folder: &Path) {
        self.scenario = self.scenario.take().map(|scenario| folder.join(scenario));
        for twin in &mut self.twins {
            twin.folder = folder.join(&twin.folder);
        }
        // All lists of changes may contain `@FILE`.
        let mut sets = vec![&mut self.set];
        sets.extend(self.variants.iter_mut().map(|variant| &mut variant.set));
        for base in &mut self.scenarios {
            base.scenario = folder.join(&base.scenario);
            sets.push(&mut base.set);
            sets.extend(base.variants.values_mut());
        }
        for set in sets.into_iter().flatten() {
            if let Some(file) = set.strip_prefix('@') {
                *set = format!("@{}", folder.join(file).display());
            }
        }
    }
}

fn fault(field: &str, message: &str) -> Result<(), (String, String)> {
    Err((field.to_owned(), message.to_owned()))
}
