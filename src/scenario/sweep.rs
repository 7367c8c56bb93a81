//! A sweep: one scenario, played in many settings.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::ScenarioError;
use super::check::check_name;
use super::load::{options, syntax};

/// A sweep as written. Every cell of variants x axes x seeds is one run; they share one store, so that what several
/// of them train the same way is trained once.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// Name of the folder under `runs/` that the cells' folders stand in.
    pub name: String,
    /// The scenario that all cells start from. Relative to the sweep's file.
    pub scenario: PathBuf,
    /// Changes for all cells, each `path=value`.
    #[serde(default)]
    pub set: Vec<String>,
    /// Named bundles of changes; none is one without a change.
    #[serde(default)]
    pub variants: Vec<Variant>,
    /// Fields and the values that they take, every combination.
    #[serde(default)]
    pub axes: Vec<Axis>,
    /// Master seeds; none is the scenario's. Cells of equal seeds share their random draws, so they are compared in pairs.
    #[serde(default)]
    pub seeds: Vec<u64>,
}

/// A named bundle of changes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    pub name: String,
    /// Changes, each `path=value`.
    #[serde(default)]
    pub set: Vec<String>,
}

/// A field and the values that it takes, as `--set` takes them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Axis {
    pub path: String,
    pub values: Vec<String>,
}

/// One run of a sweep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// What it has in common with the cells that differ in their seed only, such as `FedProx, training.lr=0.1`.
    pub setting: String,
    pub seed: Option<u64>,
    /// Name of its folder.
    pub folder: String,
    /// Changes of the scenario, each `path=value`.
    pub sets: Vec<String>,
}

impl Sweep {
    /// Reads a sweep and makes its scenario's path one from the current folder.
    ///
    /// # Errors
    /// The first mistake, with line and column where it has one.
    pub fn read(file: &Path) -> Result<Self, ScenarioError> {
        let text = fs::read_to_string(file).map_err(|source| ScenarioError::Io { file: file.to_owned(), source })?;
        let mut sweep: Self = options().from_str(&text).map_err(|error| syntax(file, &error))?;
        let fault = |field: &str, message: &str| {
            let (field, message) = (field.to_owned(), message.to_owned());
            Err(ScenarioError::Invalid { file: file.to_owned(), line: None, field, message })
        };
        if sweep.axes.iter().any(|axis| axis.values.is_empty()) {
            return fault("axes", "each must hold at least one value");
        }
        let names: BTreeSet<&str> = sweep.variants.iter().map(|variant| variant.name.as_str()).collect();
        if names.len() < sweep.variants.len() {
            return fault("variants", "each must have a name of its own");
        }
        if sweep.seeds.iter().collect::<BTreeSet<_>>().len() < sweep.seeds.len() {
            return fault("seeds", "each must stand there once");
        }
        if let Err((field, message)) = check_name(&sweep.name) {
            return fault(&field, &message);
        }
        sweep.scenario = file.parent().unwrap_or(Path::new("")).join(&sweep.scenario);
        Ok(sweep)
    }

    /// The runs: for each variant, each combination of values, the last axis fastest, each seed.
    pub fn cells(&self) -> Vec<Cell> {
        let plain = [Variant { name: String::new(), set: vec![] }];
        let variants = if self.variants.is_empty() { &plain[..] } else { &self.variants };
        let seeds: Vec<Option<u64>> = match self.seeds.as_slice() {
            [] => vec![None],
            seeds => seeds.iter().copied().map(Some).collect(),
        };
        let mut cells = Vec::new();
        for variant in variants {
            for combination in self.combinations() {
                let named = (!variant.name.is_empty()).then(|| variant.name.clone());
                let parts: Vec<String> = named.into_iter().chain(combination.iter().cloned()).collect();
                let setting = if parts.is_empty() { "as it stands".to_owned() } else { parts.join(", ") };
                for &seed in &seeds {
                    let sets = self.set.iter().chain(&variant.set).chain(&combination).cloned();
                    let sets = sets.chain(seed.map(|seed| format!("seed={seed}"))).collect();
                    let folder = folder_name(cells.len() + 1, &parts, seed);
                    cells.push(Cell { setting: setting.clone(), seed, folder, sets });
                }
            }
        }
        cells
    }

    fn combinations(&self) -> Vec<Vec<String>> {
        self.axes.iter().fold(vec![vec![]], |combinations, axis| {
            let with = |before: &Vec<String>, value: &String| {
                before.iter().cloned().chain([format!("{}={value}", axis.path)]).collect()
            };
            combinations.iter().flat_map(|before| axis.values.iter().map(move |value| with(before, value))).collect()
        })
    }
}

/// A number, so that names are distinct and in order, and what tells people which run it is.
fn folder_name(number: usize, parts: &[String], seed: Option<u64>) -> String {
    let words = parts.iter().map(|part| part.rsplit_once('.').map_or(part.as_str(), |(_, last)| last));
    let text = words.map(str::to_owned).chain(seed.map(|seed| format!("seed-{seed}"))).collect::<Vec<_>>().join("-");
    let plain: String = text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let short: String = plain.split('-').filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-");
    let short: String = short.chars().take(60).collect();
    if short.is_empty() { format!("{number:04}") } else { format!("{number:04}-{short}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_variants_by_values_by_seeds() {
        let axis = |path: &str, values: &[&str]| Axis {
            path: path.into(),
            values: values.iter().map(|&value| value.into()).collect(),
        };
        let variant = |name: &str, set: &str| Variant { name: name.into(), set: vec![set.into()] };
        let sweep = Sweep {
            name: "s".into(),
            scenario: "s.ron".into(),
            set: vec!["rounds=2".into()],
            variants: vec![variant("A", "x=1"), variant("B", "x=2")],
            axes: vec![axis("server.uplink", &["1 Mbit/s", "2 Mbit/s"]), axis("y", &["3"])],
            seeds: vec![7, 8],
        };
        let cells = sweep.cells();
        assert_eq!(cells.len(), 8);
        assert_eq!(cells[2].setting, "A, server.uplink=2 Mbit/s, y=3");
        assert_eq!(cells[2].sets, ["rounds=2", "x=1", "server.uplink=2 Mbit/s", "y=3", "seed=7"]);
        assert_eq!(cells[7].folder, "0008-B-uplink-2-Mbit-s-y-3-seed-8");
        let plain = Sweep { set: vec![], variants: vec![], axes: vec![], seeds: vec![], ..sweep };
        let only = Cell { setting: "as it stands".into(), seed: None, folder: "0001".into(), sets: vec![] };
        assert_eq!(plain.cells(), [only]);
    }
}
