//! The cells of a sweep: every combination of what it varies, each with a folder of its own.

use std::path::PathBuf;

use super::{Base, Sweep, Variant};

/// One run of a sweep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Name of the scenario that it starts from; empty where there is but one.
    pub base: String,
    /// Name of its variant; empty where there are none.
    pub variant: String,
    /// What it has in common with the cells that differ in their seed only, such as `FedProx, training.lr=0.1`.
    pub setting: String,
    pub seed: Option<u64>,
    /// Name of its folder.
    pub folder: String,
    /// The scenario's file, from the current folder.
    pub scenario: PathBuf,
    /// Changes of the scenario, each `path=value`.
    pub sets: Vec<String>,
}

impl Sweep {
    /// The runs: for each scenario, each variant, each combination of values, the last axis fastest, each seed.
    pub fn cells(&self) -> Vec<Cell> {
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

    /// The runs of scenarios and variants that `only` names, all if it names none, with these of the sweep's seeds, all if
    /// there are none. Their folders are those that they have among all.
    ///
    /// # Errors
    /// Which of them the sweep does not have.
    pub fn chosen(&self, only: &[String], seeds: &[u64]) -> Result<Vec<Cell>, String> {
        let mut cells = self.cells();
        let bases: Vec<&str> = self.scenarios.iter().map(|base| base.name.as_str()).collect();
        let variants: Vec<&str> = self.variants.iter().map(|variant| variant.name.as_str()).collect();
        for name in only {
            if !bases.iter().chain(&variants).any(|known| known == name) {
                let known = bases.iter().chain(&variants).copied().collect::<Vec<_>>().join(", ");
                return Err(format!("the sweep has no scenario and no variant `{name}`, only {known}"));
            }
        }
        if let Some(seed) = seeds.iter().find(|seed| !self.seeds.contains(seed)) {
            return Err(format!("the sweep has no seed {seed}"));
        }
        let among = |known: &[&str], name: &str| {
            let mut named = only.iter().filter(|name| known.contains(&name.as_str())).peekable();
            named.peek().is_none() || named.any(|one| one == name)
        };
        cells.retain(|cell| among(&bases, &cell.base) && among(&variants, &cell.variant));
        cells.retain(|cell| seeds.is_empty() || cell.seed.is_some_and(|seed| seeds.contains(&seed)));
        Ok(cells)
    }

    /// The cells of one setting, a seed each.
    fn of_setting(&self, base: &Base, variant: &Variant, combination: &[String], cells: &mut Vec<Cell>) {
        let named = (!variant.name.is_empty()).then(|| variant.name.clone());
        let parts: Vec<String> = named.into_iter().chain(combination.iter().cloned()).collect();
        let setting = if parts.is_empty() { "as it stands".to_owned() } else { parts.join(", ") };
        let of_base = (!base.name.is_empty()).then(|| base.name.clone());
        let parts: Vec<String> = of_base.into_iter().chain(parts).collect();
        let seeds: Vec<Option<u64>> = match self.seeds.as_slice() {
            [] => vec![None],
            seeds => seeds.iter().copied().map(Some).collect(),
        };
        for seed in seeds {
            let own = base.variants.get(&variant.name).into_iter().flatten();
            let sets = base.set.iter().chain(&self.set).chain(&variant.set).chain(own).chain(combination).cloned();
            cells.push(Cell {
                base: base.name.clone(),
                variant: variant.name.clone(),
                setting: setting.clone(),
                seed,
                folder: folder_name(cells.len() + 1, &parts, seed),
                scenario: base.scenario.clone(),
                sets: sets.chain(seed.map(|seed| format!("seed={seed}"))).collect(),
            });
        }
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
        let only = Cell {
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
            let folders = |cells: Vec<Cell>| cells.into_iter().map(|cell| cell.folder).collect::<Vec<_>>();
            sweep.chosen(&only, seeds).map(folders)
        };
        assert_eq!(chosen(&["Q", "B"], &[2]), Ok(vec!["0008-Q-B-seed-2".to_owned()]));
        assert_eq!(chosen(&["A"], &[]).unwrap().len(), 4);
        assert_eq!(chosen(&[], &[]).unwrap().len(), 8);
        assert!(chosen(&["C"], &[]).unwrap_err().contains("P, Q, A, B"));
        assert!(chosen(&[], &[3]).unwrap_err().contains("no seed 3"));
    }
}
