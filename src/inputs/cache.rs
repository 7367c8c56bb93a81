//! Cache of inputs that the runs of a sweep share: the tokenized data, the loaded base model, and the result of its start-up
//! test.
//!
//! One of each is cached. Consecutive cells of a sweep mostly differ in one field, and a base model fills the memory.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::determinism::DeterminismCheck;
use super::error::InputError;
use super::files::load_trainers;
use super::rows::{Reader, TokenData, warn_of_left_out};
use crate::data::ClientRows;
use crate::model::Device;
use crate::scenario::{AggregationSpec, Algorithm, Scenario};
use crate::schedule::model_shape::lora_spec;
use crate::store::Store;
use crate::training::{LargestWork, Numerics, Trainer};

/// Cache of inputs between runs. Each entry has a key of everything in the scenario that it depends on.
#[derive(Default)]
pub struct InputCache {
    data: Option<(String, TokenData)>,
    engine: Option<(String, Engine)>,
    /// Warnings that were logged already: cells of a sweep have most of them in common.
    logged: BTreeSet<String>,
    /// Whether a plan of the scenario was computed before, whose summary has the rows of the data that are left out.
    is_after_plan: bool,
}

/// Base model of a scenario, with the result of its start-up test.
struct Engine {
    trainers: Vec<Arc<Trainer>>,
    folder: PathBuf,
    determinism: Option<DeterminismCheck>,
}

impl InputCache {
    /// Creates a cache that does not warn again of what the summary of a plan says.
    pub(crate) fn after_plan() -> Self {
        Self { is_after_plan: true, ..Self::default() }
    }

    /// Logs the warnings about a scenario that no earlier run has logged.
    pub(crate) fn log_doubts(&mut self, scenario: &Scenario) {
        for doubt in scenario.doubts() {
            if self.logged.insert(doubt.clone()) {
                tracing::warn!(target: "fedreplay::run", "{doubt}");
            }
        }
    }

    /// Returns the data of a scenario. The store caches its tokens between processes.
    pub(super) fn data(&mut self, scenario: &Scenario, store: &Store) -> Result<TokenData, InputError> {
        let spec = &scenario.scenario;
        let is_pooled = matches!(spec.algorithm, Algorithm::Centralised);
        let has_root = matches!(spec.server.aggregation, AggregationSpec::FlTrust { .. });
        let reads = (&spec.data, &spec.model, spec.seed, spec.training.objective, (is_pooled, has_root));
        let key = key(&(reads, scenario.folder.as_os_str().as_encoded_bytes()));
        if let Some((_, data)) = self.data.as_ref().filter(|(known, _)| *known == key) {
            return Ok(data.clone());
        }
        let data = Reader::new(scenario, store)?.read()?;
        let mut left_out = data.left_out.clone();
        if self.is_after_plan {
            left_out.remove("data");
        }
        warn_of_left_out(&left_out, &data.read);
        self.data = Some((key, data.clone()));
        Ok(data)
    }

    /// Returns the base model of a scenario behind a trainer on each device, and its folder.
    pub(crate) fn trainers(
        &mut self,
        scenario: &Scenario,
        devices: &[Device],
        numerics: &Numerics,
        clients: &[ClientRows],
    ) -> Result<(Vec<Arc<Trainer>>, PathBuf), InputError> {
        let folder = scenario.folder.as_os_str().as_encoded_bytes();
        // The method decides what an adapter has, as the fields of the model do.
        let adapters = lora_spec(&scenario.scenario);
        let key = key(&(&scenario.scenario.model, adapters, folder, devices, numerics));
        if self.engine.as_ref().is_none_or(|(known, _)| *known != key) {
            // The old model is dropped before the new one is loaded: the memory may be too small for two.
            self.engine = None;
            let (trainers, folder) = load_trainers(scenario, devices, numerics, clients)?;
            self.engine = Some((key, Engine { trainers, folder, determinism: None }));
        }
        let (_, engine) = self.engine.as_ref().expect("it was just put there");
        Ok((engine.trainers.clone(), engine.folder.clone()))
    }

    /// Returns the result of the start-up test of the trainers that were returned last, with the largest work of a run.
    pub(crate) fn determinism(&mut self, work: &LargestWork, store: &Store) -> Result<DeterminismCheck, InputError> {
        let (_, engine) = self.engine.as_mut().expect("trainers are tested after they were loaded");
        let threads = engine.trainers[0].fingerprint().threads;
        match engine.determinism {
            Some(determinism) if determinism.covers(work, threads) => Ok(determinism),
            _ => Ok(*engine.determinism.insert(DeterminismCheck::shown_by(&engine.trainers, work, store)?)),
        }
    }
}

/// Returns the key of a cache entry: a text of everything that it depends on.
fn key(reads: &impl serde::Serialize) -> String {
    serde_json::to_string(reads).expect("what is read is plain data")
}
