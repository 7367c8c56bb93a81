//! The lineage of a run: every key can be computed again, and a run of the version before can still be read.

use std::fs;
use std::path::Path;

use fedreplay::ledger::{Lineage, Manifest, read_table};

use super::support::{World, files, project};

/// Copies a folder of files.
fn copy(from: &Path, to: &Path) {
    for (name, bytes) in files(from) {
        let file = to.join(name);
        fs::create_dir_all(file.parent().expect("it is in a folder")).expect("a writable folder");
        fs::write(file, bytes).expect("a writable folder");
    }
}

#[test]
fn lineage_does_not_depend_on_what_was_found() {
    let world = World::new();
    let run = |out: &str, more: &[&str]| {
        let arguments = [&["run", "scenario.ron", "--out", out, "--store", "store"], more].concat();
        world.fedreplay(&arguments).succeeded();
        fs::read(world.path(out).join("ledger/lineage/00001-00003.parquet")).expect("a table")
    };
    let computed = run("computed", &["--workers=1"]);
    assert_eq!(computed, run("found", &["--workers=4"]));
    let lineage = Lineage::of(&read_table(&world.path("found"), "lineage").expect("a table")).expect("rows of lineage");
    assert_eq!(lineage.check(), Vec::<String>::new());
    let kinds = |kind: &str| lineage.entries.iter().filter(|entry| entry.kind == kind).count();
    // Six clients alone for three rounds, and those that counted.
    assert_eq!((kinds("initial"), kinds("aggregate"), kinds("train")), (1, 3, 6 + 18));
}

#[test]
fn a_row_of_lineage_that_was_changed_is_named() {
    let world = World::new();
    world.run("run", &[]).succeeded();
    let rows = read_table(&world.path("run"), "lineage").expect("a table");
    let mut lineage = Lineage::of(&rows).expect("rows of lineage");
    let place = lineage.entries.iter().position(|entry| entry.kind == "train").expect("something was trained");
    lineage.entries[place].parameters = lineage.entries[place].parameters.replace("0.01", "0.02");
    let found = lineage.check();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with(&format!("table lineage, row {place} (round 1): its inputs give the key")),
        "{found:?}"
    );
}

#[test]
fn a_run_of_schema_3_is_read_verified_and_compared() {
    let world = World::new();
    copy(&project("fixtures/schema-3/run"), &world.path("old"));
    copy(&project("fixtures/schema-3/run"), &world.path("changed"));
    assert_eq!(Manifest::read(&world.path("old")).expect("a manifest").schema_version, 3);
    assert_eq!(read_table(&world.path("old"), "tasks").expect("a table").num_rows(), 4);
    let whole = world.fedreplay(&["verify", "old"]).succeeded();
    assert!(whole.stdout.contains("2 rounds, digest 36242b2f39c666a5"), "{}", whole.stdout);
    assert_eq!(world.fedreplay(&["diff", "old", "changed"]).succeeded().stdout, "same\n");
    let tasks = world.path("changed/ledger/tasks/00001-00002.parquet");
    let mut bytes = fs::read(&tasks).expect("a table");
    bytes[200] ^= 4;
    fs::write(&tasks, bytes).expect("a writable file");
    let said = world.fedreplay(&["verify", "changed"]);
    assert_eq!(said.code, Some(3));
    assert!(said.stdout.contains("ledger/tasks/00001-00002.parquet: its hash is"), "{}", said.stdout);
    // What is compared is what both versions have.
    world.run("new", &[]).succeeded();
    let said = world.fedreplay(&["diff", "old", "new"]);
    assert_eq!(said.code, Some(3), "{}", said.stderr);
    assert!(said.stdout.starts_with("different: round 0, table population, row "), "{}", said.stdout);
    world.fedreplay(&["replay", "old"]).refused(2, &["version 3"]);
}
