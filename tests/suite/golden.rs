//! Digests that hold on any machine: of schedules, which are whole numbers, and of small runs in portable numerics.
//!
//! `make digests` writes `fixtures/digests.csv` again; a change of it is an entry in the changelog.

use std::path::Path;

use super::objectives::preference_world;
use super::support::{World, project};

/// The variable under which the file is written instead of compared.
const WRITE: &str = "FEDREPLAY_WRITE_DIGESTS";

/// A line of the file: a digest, and what has it.
struct Case {
    digest: String,
    /// `plan` or `run`.
    command: String,
    /// A scenario of the project by its path, `small` or `pairs` for those of the tests.
    scenario: String,
    /// Fields that are set, of the form `path=value`.
    sets: Vec<String>,
}

impl Case {
    fn read(line: &str) -> Self {
        let mut fields = line.split(',');
        let mut next = || fields.next().unwrap_or_else(|| panic!("`{line}` lacks a field")).to_owned();
        let (digest, command, scenario) = (next(), next(), next());
        Self { digest, command, scenario, sets: next().split(';').map(str::to_owned).collect() }
    }

    fn line(&self, digest: &str) -> String {
        format!("{digest},{},{},{}", self.command, self.scenario, self.sets.join(";"))
    }

    /// The world that holds the scenario, and where the scenario lies.
    fn world(&self) -> (World, String) {
        match self.scenario.as_str() {
            "small" => (World::new(), "scenario.ron".into()),
            "pairs" => (preference_world(), "scenario.ron".into()),
            path => (World::new(), project(path).to_str().expect("UTF-8").to_owned()),
        }
    }

    fn play(&self) -> String {
        let (world, scenario) = self.world();
        let mut arguments = vec![self.command.as_str(), &scenario, "--out", "out"];
        if self.command == "run" {
            arguments.extend(["--store", "none", "--set", "execution.numerics=Portable"]);
        }
        arguments.extend(self.sets.iter().flat_map(|set| ["--set", set]));
        world.fedreplay(&arguments).succeeded().summary("digest").to_owned()
    }
}

#[test]
fn digests_are_those_of_any_machine() {
    let path = project("fixtures/digests.csv");
    let (head, cases) = read(&path);
    let played: Vec<String> = cases.iter().map(|case| case.line(&case.play())).collect();
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, format!("{head}\n{}\n", played.join("\n"))).expect("a writable folder");
        return;
    }
    let golden: Vec<String> = cases.iter().map(|case| case.line(&case.digest)).collect();
    assert_eq!(played, golden, "if that is meant, `make digests` and an entry in the changelog");
}

/// The file's heading and lines.
fn read(path: &Path) -> (String, Vec<Case>) {
    let text = std::fs::read_to_string(path).expect("the fixture is there");
    let mut lines = text.lines();
    let head = lines.next().expect("a heading").to_owned();
    (head, lines.map(Case::read).collect())
}

#[test]
fn portable_runs_say_so_and_are_graded_c() {
    let world = World::new();
    let portable = ["--set", "rounds=1", "--set", "execution.numerics=Portable"];
    let first = world.run("first", &portable).succeeded();
    let text = std::fs::read_to_string(world.path("first/manifest.json")).expect("a manifest");
    let manifest: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&manifest["grade"], &manifest["numerics"]["class"]["mode"]), (&"C".into(), &"portable".into()));
    let environment = manifest["numerics"]["environment"].to_string();
    for pin in [r#"["MKL_CBWR","COMPATIBLE"]"#, r#"["ATEN_CPU_CAPABILITY","avx2"]"#, r#"["ONEDNN_MAX_CPU_ISA","AVX2"]"#]
    {
        assert!(environment.contains(pin), "{pin}: {environment}");
    }
    assert!(manifest["numerics_class"].as_str().is_some_and(|class| class.ends_with("portable")), "{text}");
    // It is resumed, replayed and swept under the same variables.
    assert_eq!(world.run("second", &portable).succeeded().summary("digest"), first.summary("digest"));
    world.fedreplay(&["replay", "first"]).succeeded();
}

#[test]
fn portable_numerics_are_refused_where_they_cannot_be_kept() {
    let world = World::new();
    for sets in
        [&["model.precision=Bf16"][..], &["model.precision=Int8"], &["model.precision=LlmInt8", "model.arithmetic=F32"]]
    {
        let sets: Vec<&str> = sets.iter().flat_map(|&set| ["--set", set]).collect();
        let said = world.run("run", &[&sets[..], &["--set", "execution.numerics=Portable"]].concat());
        said.refused(2, &["execution.numerics: Portable needs arithmetic in f32"]);
    }
    assert!(!world.path("run").exists());
}
