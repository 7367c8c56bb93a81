//! Run as a report shows it: its tables, its scenario and the answers of its models.

use std::path::Path;

use arrow::array::{Float64Array, StringArray, UInt32Array};

use crate::ledger::{LedgerError, RunTables};
use crate::results::{Bands, ModuleErrors, RunRecord, module_errors};
use crate::scenario::{Scenario, ScenarioError, ScenarioSpec};

/// Error of reading a run for a report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A table is missing, damaged, or of a version that cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The run's own scenario cannot be read.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
}

/// Answers of models to questions of benchmarks.
pub struct Generations {
    pub round: UInt32Array,
    pub benchmark: StringArray,
    pub question: StringArray,
    pub category: StringArray,
    pub prompt: StringArray,
    pub answer: StringArray,
    pub judgement: StringArray,
    pub score: Float64Array,
}

impl Generations {
    fn read(tables: &RunTables) -> Result<Self, LedgerError> {
        let table = tables.generations()?;
        Ok(Self {
            round: table.array("round")?,
            benchmark: table.array("benchmark")?,
            question: table.array("question")?,
            category: table.array("category")?,
            prompt: table.array("prompt")?,
            answer: table.array("answer")?,
            judgement: table.array("judgement")?,
            score: table.array("score")?,
        })
    }
}

/// A run with everything that its report shows.
pub struct ReportedRun {
    pub record: RunRecord,
    pub scenario: ScenarioSpec,
    pub generations: Generations,
    /// Errors of each round's aggregation over the modules.
    pub module_errors: Vec<Option<ModuleErrors>>,
    /// Figures of a plan's repeats; `None` without repeats.
    pub bands: Option<Bands>,
}

impl ReportedRun {
    /// Reads a run or a plan, whether it is finished, running or was killed.
    ///
    /// # Errors
    /// If there is no run, or one of its tables is missing, damaged or of another version.
    pub fn read(folder: &Path) -> Result<Self, ReportError> {
        let record = RunRecord::read(folder)?;
        let scenario = Scenario::of_run(folder, &record.manifest.scenario_folder, &[])?;
        record.manifest.check_scenario(folder, scenario.identity().0)?;
        let tables = RunTables::read(folder)?;
        let generations = Generations::read(&tables)?;
        let mut module_errors = module_errors(&tables)?;
        // A run that goes on may have had fewer rounds when the record was read.
        module_errors.truncate(record.rounds.aggregation_error.len());
        let bands = Bands::read(folder)?;
        Ok(Self { record, scenario: scenario.scenario, generations, module_errors, bands })
    }
}
