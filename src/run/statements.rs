//! Statements of a run's files outside of its tables, compared with what they follow from: the manifest's fields, the
//! scenario, and the saved adapters.
//!
//! Tables depend on the digest by its chain, and the chain begins with the genesis, the hash of the scenario, of all
//! inputs and of the numerics class. What is checked here ties the other files to these hashes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::error::VERSION;
use super::execute::class_text;
use super::guards::{SECRET_GRADE, SECRET_NOISE};
use super::local_training::is_alone;
use super::plan_only::PLAN_GRADE;
use super::recorded_models::{RecordedModels, saved_notes};
use super::{RunError, certificate, plan_only};
use crate::adapter::saved_files;
use crate::algorithm::{AggregationError, ModuleError};
use crate::inputs::TrainingBatches;
use crate::ledger::{
    Difference, LedgerError, Manifest, OLDEST_SCHEMA, RepeatRow, RunKind, RunState, RunTables, Table, client_count,
    is_table,
};
use crate::scenario::Scenario;
use crate::store::{binary_hash, read_text_limited, read_up_to};
use crate::training::{Grade, NumericsClass, SelfTest};

/// Checks the statements of the run in `run_folder`. Returns all that do not follow. Runs with tables of the oldest version
/// are not checked, since their scenarios had other fields.
///
/// # Errors
/// If the disk cannot be read.
pub(super) fn check_statements(run_folder: &Path, manifest: &Manifest) -> Result<Vec<Difference>, RunError> {
    if manifest.schema_version == OLDEST_SCHEMA {
        return Ok(vec![]);
    }
    // Another build may have written the same content in another form.
    let is_own = manifest.binary_hash == binary_hash();
    let mut found = in_manifest(manifest, is_own);
    let scenario = match Scenario::of_run(run_folder, &manifest.scenario_folder, &[]) {
        Ok(scenario) => scenario,
        Err(error) => {
            found.push(format!("scenario.ron: {error}"));
            return Ok(found.into_iter().map(Difference).collect());
        }
    };
    found.extend(in_scenario(run_folder, manifest, &scenario, is_own));
    // Tables that cannot be read are findings of the check of the tables.
    found.extend(in_aggregation(run_folder).unwrap_or_default());
    // Those of an unfinished run may be ahead of its tables.
    if manifest.kind == RunKind::Run && manifest.state == RunState::Done {
        found.extend(in_adapters(run_folder, &scenario, is_own)?);
    }
    Ok(found.into_iter().map(Difference).collect())
}

/// Checks the fields of the manifest against each other. What the start-up test of another build showed may have another
/// form, and is then not compared.
fn in_manifest(manifest: &Manifest, is_own: bool) -> Vec<String> {
    let mut found = Vec::new();
    if is_own && manifest.fedreplay_version != VERSION {
        let stated = &manifest.fedreplay_version;
        found.push(format!(
            "manifest.json: it says fedreplay_version {stated}, and the program that it names is {VERSION}"
        ));
    }
    let inputs = manifest.inputs_by_hash();
    let schema = manifest.schema_version;
    let genesis = match manifest.kind {
        RunKind::Run => {
            vec![certificate::genesis(schema, manifest.scenario_hash, &inputs, &manifest.numerics_class)]
        }
        // The detail of its tables is recorded nowhere else, so any of the three may be the right one.
        RunKind::Plan => plan_only::geneses(schema, manifest.scenario_hash, &inputs, manifest.repeats).to_vec(),
    };
    if !genesis.contains(&manifest.genesis) {
        let computed = genesis[0];
        let stated = manifest.genesis;
        found.push(format!(
            "manifest.json: its scenario, inputs and numerics give the genesis {computed}, it says {stated}"
        ));
    }
    if manifest.digest.is_some() != (manifest.state == RunState::Done) {
        found.push("manifest.json: a run has a digest if it is finished, and not before".to_owned());
    }
    let what = match manifest.kind {
        RunKind::Run => "a run",
        RunKind::Plan => "a plan",
    };
    let others = manifest.files.keys().filter(|name| !is_of_a_run(name, manifest.kind));
    found.extend(others.map(|name| format!("{name}: {what} has no such file")));
    let grade = &manifest.grade;
    if manifest.kind == RunKind::Plan {
        if (grade.as_str(), manifest.numerics_class.as_str()) != (PLAN_GRADE, plan_only::NUMERICS) {
            found.push(format!("manifest.json: a plan has the grade {PLAN_GRADE}, it says {grade}"));
        }
        return found;
    }
    let class = serde_json::from_value::<NumericsClass>(manifest.numerics["class"].clone());
    let class = class.map(|class| class_text(&class, TrainingBatches::Ready(1)));
    if !class.map_or(!is_own, |class| manifest.numerics_class.starts_with(&class)) {
        found.push(format!("manifest.json: its numerics are not those of the class {}", manifest.numerics_class));
    }
    let is_secret = manifest.inputs.contains_key(SECRET_NOISE);
    let tested = serde_json::from_value::<SelfTest>(manifest.numerics["self_test"].clone());
    if tested.is_err() && !is_own {
        return found;
    }
    let most = tested.map_or(Grade::None, |tested| tested.grade());
    let is_shown = match is_secret {
        true => grade == SECRET_GRADE,
        false => Grade::named(grade).is_some_and(|grade| grade != Grade::None && grade <= most),
    };
    if !is_shown {
        found.push(format!("manifest.json: it says grade {grade}, and its start-up test showed {most}"));
    }
    found
}

/// Whether a run may have a file of this name, which its manifest lists. Adapters are checked one by one.
fn is_of_a_run(name: &str, kind: RunKind) -> bool {
    let is_plan = kind == RunKind::Plan;
    match name.split('/').collect::<Vec<_>>()[..] {
        ["scenario.ron"] => true,
        [certificate::FILE_NAME] => !is_plan,
        ["ledger", RepeatRow::NAME, _] if !is_plan => false,
        ["ledger", table, file] => is_table(table) && file.ends_with(".parquet"),
        ["adapters", ..] => !is_plan,
        _ => false,
    }
}

/// Checks the scenario's text against the manifest, to the byte if this build wrote it: newer builds have more fields.
fn in_scenario(run_folder: &Path, manifest: &Manifest, scenario: &Scenario, is_own: bool) -> Vec<String> {
    let mut found = Vec::new();
    if let Err(error) = manifest.check_scenario(run_folder, scenario.identity().0) {
        found.push(format!("scenario.ron: {error}"));
    }
    let text = read_text_limited(&run_folder.join("scenario.ron"));
    if is_own && text.is_ok_and(|text| text != scenario.resolved_text()) {
        found.push("scenario.ron: it is not written as a run writes it".to_owned());
    }
    let spec = &scenario.scenario;
    if manifest.seed != spec.seed {
        found.push(format!("manifest.json: it says seed {}, the scenario {}", manifest.seed, spec.seed));
    }
    if manifest.name != spec.name {
        found.push(format!("manifest.json: it says the name {:?}, the scenario {:?}", manifest.name, spec.name));
    }
    found
}

/// Checks the errors of aggregations over all modules, and the ranks that they have kept, against those of the modules.
fn in_aggregation(run_folder: &Path) -> Result<Vec<String>, LedgerError> {
    let tables = RunTables::read(run_folder)?;
    let stated = tables.rounds().newer_numbers("aggregation_error")?;
    let stated_ranks = tables.rounds().newer_numbers("kept_rank")?;
    let mut computed = vec![None; stated.len()];
    let mut ranks = vec![None; stated.len()];
    let mut found = Vec::new();
    tables.visit_aggregation(|index, rows| {
        let number = index as u32 + 1;
        if let Some(other) = rows.iter().find(|row| row.round != number) {
            found.push(format!("round {number}, table aggregation: a row says round {}", other.round));
        }
        let modules = rows.iter().map(|row| ModuleError { norm: row.norm, error: row.error }).collect();
        computed[index] = AggregationError::new(modules).total();
        ranks[index] = rows.iter().map(|row| row.kept_rank.map(f64::from)).sum::<Option<f64>>();
    })?;
    let errors = stated.into_iter().zip(computed).map(|pair| ("aggregation error", pair));
    let ranks = stated_ranks.into_iter().zip(ranks).map(|pair| ("kept rank", pair));
    for (number, (what, (stated, computed))) in (1..).zip(errors).chain((1..).zip(ranks)) {
        if stated.map(f64::to_bits) != computed.map(f64::to_bits) {
            let shown = |figure: Option<f64>| figure.map_or("null".to_owned(), |figure| figure.to_string());
            found.push(format!(
                "round {number}: its modules give the {what} {}, table rounds says {}",
                shown(computed),
                shown(stated)
            ));
        }
    }
    Ok(found)
}

/// Checks the saved adapters against the tables.
fn in_adapters(run_folder: &Path, scenario: &Scenario, is_own: bool) -> Result<Vec<String>, RunError> {
    // Tables that cannot be read are findings of the check of the tables.
    let Ok(models) = RecordedModels::read(run_folder) else { return Ok(vec![]) };
    let Ok(clients) = client_count(run_folder) else { return Ok(vec![]) };
    let is_alone = is_alone(scenario, clients);
    let is_personal = scenario.scenario.has_personal_models();
    SavedAdapters { run_folder, scenario, models, is_alone, is_personal, is_own }.check()
}

/// Saved adapters of a finished run, with what its tables and its scenario say of them.
struct SavedAdapters<'a> {
    run_folder: &'a Path,
    scenario: &'a Scenario,
    models: RecordedModels,
    /// Whether each client trains its own model instead of the server's.
    is_alone: bool,
    /// Whether each client has factors of its own, with the others of the server.
    is_personal: bool,
    /// Whether this build wrote them, so that they are compared to the byte. Otherwise their content is.
    is_own: bool,
}

impl SavedAdapters<'_> {
    /// Checks that the adapters which the scenario asks for are there, and that each is the one that the tables record.
    fn check(&self) -> Result<Vec<String>, RunError> {
        let expected = self.expected()?;
        let mut found = Vec::new();
        for &(number, client) in &expected {
            let folder = self.models.folder(number, client);
            let name = name_within(self.run_folder, &folder);
            if !folder.is_dir() {
                found.push(format!("{name}: the run saves this adapter, and it is missing"));
                continue;
            }
            match self.models.saved(number, client) {
                Err(error) => found.push(format!("{name}: {error}")),
                Ok(adapter) if self.is_own => {
                    let files = saved_files(&adapter, &saved_notes(&self.scenario.scenario));
                    for (file, bytes) in files {
                        if read_up_to(&folder.join(file), bytes.len() as u64).ok().as_ref() != Some(&bytes) {
                            found.push(format!("{name}/{file}: it is not written as a run writes it"));
                        }
                    }
                }
                Ok(_) => {}
            }
        }
        for folder in adapter_folders(&self.run_folder.join("adapters")).map_err(LedgerError::io(self.run_folder))? {
            if !expected.iter().any(|&(number, client)| self.models.folder(number, client) == folder) {
                let name = name_within(self.run_folder, &folder);
                found.push(format!("{name}: the run saves no such adapter"));
            }
        }
        Ok(found)
    }

    /// Returns the numbers of the adapters that the run saves, each with the client whose own model it is.
    fn expected(&self) -> Result<BTreeSet<(u32, Option<u32>)>, LedgerError> {
        let last = self.models.count();
        let every = self.scenario.scenario.output.save_adapter_every;
        let mut expected = BTreeSet::new();
        for number in 1..=last {
            if number != last && !every.is_some_and(|every| number.is_multiple_of(every)) {
                continue;
            }
            if !self.is_alone && self.scenario.scenario.has_server_model() {
                expected.insert((number, None));
            }
            // Clients' own models are saved where they are evaluated.
            let is_evaluated = number == last || number.is_multiple_of(self.scenario.at(number).evaluation.every);
            if (self.is_alone || self.is_personal) && is_evaluated {
                let clients = match self.is_alone {
                    true => self.models.clients(number)?,
                    false => self.models.evaluated_clients(number)?,
                };
                expected.extend(clients.into_iter().map(|client| (number, Some(client))));
            }
        }
        Ok(expected)
    }
}

/// Returns the folders below `adapters` that hold an adapter's files.
fn adapter_folders(adapters: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut pending = vec![adapters.to_owned()];
    while let Some(folder) = pending.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let mut holds_files = false;
        for entry in entries {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => pending.push(entry.path()),
                false => holds_files = true,
            }
        }
        if holds_files {
            found.push(folder);
        }
    }
    found.sort();
    Ok(found)
}

/// Returns a path within the run's folder, for messages.
fn name_within(run_folder: &Path, path: &Path) -> String {
    path.strip_prefix(run_folder).unwrap_or(path).display().to_string()
}
