//! What the runs of a sweep share where their scenarios agree in it: the data as tokens, the loaded base model, and what
//! the start-up test showed of it.
//!
//! One of each is kept. Cells that follow each other mostly differ in one field, and a base model fills the memory.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::determinism::Trust;
use super::error::InputError;
use super::rows::{Reader, TokenData};
use super::trainers::load_trainers;
use crate::data::ClientRows;
use crate::model::Device;
use crate::scenario::{Algorithm, Loaded};
use crate::store::Store;
use crate::training::{LargestWork, Numerics, Trainer};

/// What is kept from run to run, each under all of the scenario that it depends on.
#[derive(Default)]
pub struct Shared {
    data: Option<(String, TokenData)>,
    engine: Option<(String, Engine)>,
    /// Doubts that were told: cells of a sweep have most of them in common.
    told: BTreeSet<String>,
}

struct Engine {
    trainers: Vec<Arc<Trainer>>,
    folder: PathBuf,
    trust: Option<Trust>,
}

impl Shared {
    /// Tells each doubt about a scenario that no run before told.
    pub(crate) fn tell_doubts(&mut self, loaded: &Loaded) {
        for doubt in loaded.doubts() {
            if self.told.insert(doubt.clone()) {
                tracing::warn!(target: "fedreplay::run", "{doubt}");
            }
        }
    }

    /// The data of a scenario; a store keeps its tokens from process to process.
    pub(super) fn data(&mut self, loaded: &Loaded, store: &Store) -> Result<TokenData, InputError> {
        let scenario = &loaded.scenario;
        let is_pooled = matches!(scenario.algorithm, Algorithm::Centralised);
        let reads = (&scenario.data, &scenario.model, scenario.seed, scenario.training.objective, is_pooled);
        let key = key(&(reads, &loaded.folder));
        if let Some((_, data)) = self.data.as_ref().filter(|(known, _)| *known == key) {
            return Ok(data.clone());
        }
        let data = Reader::new(loaded, store)?.read()?;
        self.data = Some((key, data.clone()));
        Ok(data)
    }

    /// The base model of a scenario behind a trainer on each device, and where it lies.
    pub(crate) fn trainers(
        &mut self,
        loaded: &Loaded,
        devices: &[Device],
        numerics: &Numerics,
        clients: &[ClientRows],
    ) -> Result<(Vec<Arc<Trainer>>, PathBuf), InputError> {
        let key = key(&(&loaded.scenario.model, &loaded.folder, devices, numerics));
        if self.engine.as_ref().is_none_or(|(known, _)| *known != key) {
            // The one before goes first: two may not fit.
            self.engine = None;
            let (trainers, folder) = load_trainers(loaded, devices, numerics, clients)?;
            self.engine = Some((key, Engine { trainers, folder, trust: None }));
        }
        let (_, engine) = self.engine.as_ref().expect("it was just put there");
        Ok((engine.trainers.clone(), engine.folder.clone()))
    }

    /// What the start-up test with the largest work of a run shows of the trainers that were given out last.
    pub(crate) fn trust(&mut self, work: &LargestWork, store: &Store) -> Result<Trust, InputError> {
        let (_, engine) = self.engine.as_mut().expect("trainers are tested after they were loaded");
        let threads = engine.trainers[0].fingerprint().threads;
        match engine.trust {
            Some(trust) if trust.covers(work, threads) => Ok(trust),
            _ => Ok(*engine.trust.insert(Trust::shown_by(&engine.trainers, work, store)?)),
        }
    }
}

fn key(reads: &impl serde::Serialize) -> String {
    serde_json::to_string(reads).expect("what is read is plain data")
}
