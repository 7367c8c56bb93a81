//! Cells of a sweep: the combinations of its scenarios, variants, axes and seeds, each with its own folder.

use std::path::PathBuf;

use super::{Sweep, SweepBase, Variant};
use crate::scenario::UnknownCell;

/// One run of a sweep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SweepCell {
    /// Name of the scenario that it starts from; empty if the sweep has only one.
    pub base: String,
    /// Name of its variant; empty if the sweep has none.
    pub variant: String,
    /// Description shared by the cells that differ only in their seeds, such as `FedProx, training.lr=0.1`.
    pub setting: String,
    pub seed: Option<u64>,
    /// Name of its folder.
    pub folder: String,
    /// Path of the scenario file, relative to the current folder.
    pub scenario: PathBuf,
    /// Changes of the scenario, each `path=value`.
    pub sets: Vec<String>,
}

impl Sweep {
    /// Returns the runs in order: by scenario, variant, combination of values with the last axis fastest, and seed.
    pub fn cells(&self) -> Vec<SweepCell> {
        let plain = [Variant { name: String::new(), set: vec![] }];
        let variants = if self.variants.is_empty() { &plain[..] } else { &self.variants };
        let mut cells = Vec::new();
        for base in self.bases() {
            for variant in variants {
                for combination in self.combinations() {
                    self.of_setting(&base, variant, &combination, &mut cells);
                }
            }
        }
        cells
    }

    /// Returns the runs of the scenarios and variants that `only` names, with the given seeds.
    ///
    /// If `only` names no scenario all scenarios are selected, likewise for variants, and without `seeds` all seeds.
    /// The folders are numbered as in the whole sweep.
    ///
    /// # Errors
    /// The first name or seed that the sweep does not have.
    pub fn chosen(&self, only: &[String], seeds: &[u64]) -> Result<Vec<SweepCell>, UnknownCell> {
        let mut cells = self.cells();
        let bases: Vec<&str> = self.scenarios.iter().map(|base| base.name.as_str()).collect();
        let variants: Vec<&str> = self.variants.iter().map(|variant| variant.name.as_str()).collect();
        for name in only {
            if !bases.iter().chain(&variants).any(|known| known == name) {
                let known = bases.iter().chain(&variants).map(|&known| known.to_owned()).collect();
                return Err(UnknownCell::Name { name: name.clone(), known });
            }
        }
        if let Some(&seed) = seeds.iter().find(|seed| !self.seeds.contains(seed)) {
            return Err(UnknownCell::Seed { seed });
        }
        cells.retain(|cell| is_selected(&cell.base, &bases, only) && is_selected(&cell.variant, &variants, only));
        cells.retain(|cell| seeds.is_empty() || cell.seed.is_some_and(|seed| seeds.contains(&seed)));
        Ok(cells)
    }

    /// Appends the cells of one setting, one per seed.
    fn of_setting(&self, base: &SweepBase, variant: &Variant, combination: &[String], cells: &mut Vec<SweepCell>) {
        let mut parts = Vec::new();
        if !variant.name.is_empty() {
            parts.push(variant.name.clone());
        }
        parts.extend(combination.iter().cloned());
        let setting = if parts.is_empty() { "as it stands".to_owned() } else { parts.join(", ") };
        if !base.name.is_empty() {
            parts.insert(0, base.name.clone());
        }
        // Later changes override earlier ones, so they go from the general to the particular, and the seed comes last.
        let mut sets = base.set.clone();
        sets.extend_from_slice(&self.set);
        sets.extend_from_slice(&variant.set);
        sets.extend(base.variants.get(&variant.name).into_iter().flatten().cloned());
        sets.extend_from_slice(combination);
        let seeds: Vec<Option<u64>> = match self.seeds.as_slice() {
            [] => vec![None],
            seeds => seeds.iter().copied().map(Some).collect(),
        };
        for seed in seeds {
            let mut sets = sets.clone();
            sets.extend(seed.map(|seed| format!("seed={seed}")));
            cells.push(SweepCell {
                base: base.name.clone(),
                variant: variant.name.clone(),
                setting: setting.clone(),
                seed,
                folder: folder_name(cells.len() + 1, &parts, seed),
                scenario: base.scenario.clone(),
                sets,
            });
        }
    }

    /// Returns every combination of the axes' values as changes `path=value`, with the last axis fastest.
    fn combinations(&self) -> Vec<Vec<String>> {
        let mut combinations = vec![vec![]];
        for axis in &self.axes {
            let mut longer = Vec::with_capacity(combinations.len() * axis.values.len());
            for before in &combinations {
                for value in &axis.values {
                    let mut combination: Vec<String> = before.clone();
                    combination.push(format!("{}={value}", axis.path));
                    longer.push(combination);
                }
            }
            combinations = longer;
        }
        combinations
    }
}

/// Returns whether `only` selects `name` among the `known` names: it names it, or none of them.
fn is_selected(name: &str, known: &[&str], only: &[String]) -> bool {
    let mut named = only.iter().filter(|name| known.contains(&name.as_str())).peekable();
    named.peek().is_none() || named.any(|one| one == name)
}

/// Returns the name of a cell's folder: a number, which makes names unique and ordered, and a readable description.
fn folder_name(number: usize, parts: &[String], seed: Option<u64>) -> String {
    // The path of a field is shortened to its last name: `server.uplink=2.5 Mbit/s` to `uplink=2.5 Mbit/s`.
    let mut words: Vec<String> = Vec::new();
    for part in parts {
        let path = part.split_once('=').map_or("", |(path, _)| path);
        let start = path.rfind('.').map_or(0, |dot| dot + 1);
        words.push(part[start..].to_owned());
    }
    words.extend(seed.map(|seed| format!("seed-{seed}")));
    let plain: String = words.join("-").chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let short: String = plain.split('-').filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-");
    let short: String = short.chars().take(60).collect();
    if short.is_empty() { format!("{number:04}") } else { format!("{number:04}-{short}") }
}

#[cfg(test)]
mod tests {
    use super::super::Axis;
    use super::*;

    fn sweep(text: &str) -> Sweep {
        ron::Options::default()
            .with_default_extension(ron::extensions::Extensions::IMPLICIT_SOME)
            .from_str(text)
            .unwrap()
    }

    #[test]
    fn cells_are_variants_by_values_by_seeds() {
        let axis = |path: &str, values: &[&str]| Axis {
            path: path.into(),
            values: values.iter().map(|&value| value.into()).collect(),
        };
        let variants = r#"variants: [(name: "A", set: ["x=1"]), (name: "B", set: ["x=2"])]"#;
        let text = format!(r#"(name: "s", scenario: "s.ron", set: ["rounds=2"], {variants}, seeds: [7, 8])"#);
        let axes = vec![axis("server.uplink", &["1 Mbit/s", "2 Mbit/s"]), axis("y", &["3"])];
        let cells = Sweep { axes, ..sweep(&text) }.cells();
        assert_eq!(cells.len(), 8);
        assert_eq!(cells[2].setting, "A, server.uplink=2 Mbit/s, y=3");
        assert_eq!(cells[2].sets, ["rounds=2", "x=1", "server.uplink=2 Mbit/s", "y=3", "seed=7"]);
        assert_eq!(cells[7].folder, "0008-B-uplink-2-Mbit-s-y-3-seed-8");
        let only = SweepCell {
            base: String::new(),
            variant: String::new(),
            setting: "as it stands".into(),
            seed: None,
            folder: "0001".into(),
            scenario: "s.ron".into(),
            sets: vec![],
        };
        assert_eq!(sweep(r#"(name: "s", scenario: "s.ron")"#).cells(), [only]);
    }

    /// RON checks the name of a struct that is written with one.
    #[test]
    fn scenarios_and_published_figures_may_be_written_with_their_names() {
        let named = r#"(name: "s", scenarios: [Base(name: "P", scenario: "p.ron")],
            published: [Published(scenario: "P", variant: "A", figure: "MT-Bench 4.0")])"#;
        let anonymous = named.replace("Base(", "(").replace("Published(", "(");
        assert_eq!(sweep(named), sweep(&anonymous));
    }

    #[test]
    fn scenarios_come_first_and_add_to_variants() {
        let sweep = sweep(
            r#"(
            name: "s",
            scenarios: [
                (name: "P", scenario: "p.ron", set: ["a=1"], variants: {"B": ["c=3"]}),
                (name: "Q", scenario: "q.ron"),
            ],
            variants: [(name: "A"), (name: "B", set: ["b=2"])],
            seeds: [1, 2],
        )"#,
        );
        let cells = sweep.cells();
        assert_eq!(cells.len(), 8);
        assert_eq!((cells[2].folder.as_str(), cells[2].setting.as_str()), ("0003-P-B-seed-1", "B"));
        assert_eq!(cells[2].sets, ["a=1", "b=2", "c=3", "seed=1"]);
        assert_eq!((cells[4].base.as_str(), cells[4].scenario.to_str()), ("Q", Some("q.ron")));
        let chosen = |only: &[&str], seeds: &[u64]| {
            let only: Vec<String> = only.iter().map(|&name| name.into()).collect();
            let folders = |cells: Vec<SweepCell>| cells.into_iter().map(|cell| cell.folder).collect::<Vec<_>>();
            sweep.chosen(&only, seeds).map(folders)
        };
        assert_eq!(chosen(&["Q", "B"], &[2]), Ok(vec!["0008-Q-B-seed-2".to_owned()]));
        assert_eq!(chosen(&["A"], &[]).unwrap().len(), 4);
        assert_eq!(chosen(&[], &[]).unwrap().len(), 8);
        assert!(chosen(&["C"], &[]).unwrap_err().to_string().contains("P, Q, A, B"));
        assert!(chosen(&[], &[3]).unwrap_err().to_string().contains("no seed 3"));
    }
}
