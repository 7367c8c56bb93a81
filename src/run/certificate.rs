//! `certificate.json`: what a run claims, for somebody else to check, without a fact about the machine's paths or its name.
//!
//! It can be checked in itself (the stated hashes give the stated digest), against a run's folder, and against a run that
//! the checker plays: the digests of as many rounds as that has must be the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use arrow::array::AsArray;
use serde::{Deserialize, Serialize};

use super::RunError;
use crate::ledger::{
    Chain, Difference, LedgerError, Manifest, PopulationRow, RoundRow, RunState, Table, UNFINISHED, chunk_hash,
    read_table, rows_digest, verify,
};
use crate::store::{Digest, atomic, key_of};

/// The form of certificates.
const VERSION: u32 = 1;

/// File name within a run.
const FILE_NAME: &str = "certificate.json";

/// What a finished run claims.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    pub certificate_version: u32,
    pub schema_version: u32,
    pub fedreplay_version: String,
    /// Hash of the resolved scenario, with contents in place of paths.
    pub scenario: Digest,
    pub seed: u64,
    /// By role: `base_model`, `tokenizer`, `data`, `test_data` and others.
    pub inputs: BTreeMap<String, Digest>,
    /// Hash of the program.
    pub binary: Digest,
    /// Hashes of LibTorch's libraries, by file name.
    pub libtorch: BTreeMap<String, Digest>,
    /// What of the machine's arithmetic may change bits.
    pub numerics_class: String,
    pub numerics: serde_json::Value,
    pub grade: String,
    /// What the digests are chained from: the hash of scenario, inputs, numerics and version of the tables.
    pub genesis: Digest,
    /// Digest of the table `population`.
    pub population: Digest,
    pub rounds: Vec<CertifiedRound>,
    /// Digest of the whole run: that of its last round.
    pub digest: Digest,
}

/// A round of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertifiedRound {
    pub round: u32,
    /// Hash of the aggregator's model after it.
    pub model: Option<Digest>,
    /// Digest of its rows.
    pub rows: Digest,
    /// Digest of the run up to it.
    pub digest: Digest,
}

impl Certificate {
    /// The certificate of a run whose tables are complete.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn of(run_folder: &Path, manifest: &Manifest, libtorch: BTreeMap<String, Digest>) -> Result<Self, RunError> {
        let rounds = rounds_of(run_folder)?;
        Ok(Self {
            certificate_version: VERSION,
            schema_version: manifest.schema_version,
            fedreplay_version: manifest.fedreplay_version.clone(),
            scenario: manifest.scenario_hash,
            seed: manifest.seed,
            inputs: manifest.inputs_by_hash(),
            binary: manifest.binary_hash,
            libtorch,
            numerics_class: manifest.numerics_class.clone(),
            numerics: deciding(&manifest.numerics),
            grade: manifest.grade.clone(),
            genesis: manifest.genesis,
            population: population_of(run_folder)?,
            digest: rounds.last().map_or(manifest.genesis, |round| round.digest),
            rounds,
        })
    }

    /// Writes the certificate into its run's folder.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn write(&self, run_folder: &Path) -> Result<(), LedgerError> {
        let path = run_folder.join(FILE_NAME);
        let text = serde_json::to_string_pretty(self).expect("a certificate has only text keys") + "\n";
        atomic::write(&path, text.as_bytes()).map_err(LedgerError::io(&path))
    }

    /// Reads a certificate from a file, or from the folder of a run.
    ///
    /// # Errors
    /// If there is none, or it is one of another version.
    pub fn read(path: &Path) -> Result<Self, LedgerError> {
        let path = if path.is_dir() { path.join(FILE_NAME) } else { path.to_owned() };
        let bytes = fs::read(&path).map_err(LedgerError::io(&path))?;
        let certificate: Self =
            serde_json::from_slice(&bytes).map_err(|error| LedgerError::malformed(&path, error.to_string()))?;
        match certificate.certificate_version {
            VERSION => Ok(certificate),
            other => {
                Err(LedgerError::malformed(&path, format!("it has version {other}, and this program reads {VERSION}")))
            }
        }
    }

    /// Whether the stated hashes give the stated digests: what does not add up, if not.
    pub fn check(&self) -> Result<(), String> {
        let genesis = genesis(self.schema_version, self.scenario, &self.inputs, &self.numerics_class);
        if genesis != self.genesis {
            return Err(format!(
                "its scenario, inputs and numerics give the genesis {genesis}, it says {}",
                self.genesis
            ));
        }
        let mut chain = Chain::start(self.genesis);
        chain.push(self.population);
        for round in &self.rounds {
            let digest = chain.push(round.rows);
            if digest != round.digest {
                return Err(format!(
                    "round {}: its rows give the digest {digest}, it says {}",
                    round.round, round.digest
                ));
            }
        }
        match chain.last() == self.digest || self.rounds.is_empty() {
            true => Ok(()),
            false => Err(format!("its last round gives the digest {}, it says {}", chain.last(), self.digest)),
        }
    }

    /// How a run, finished or not, differs from what is certified, over the rounds that it has. Without a difference, the
    /// number of rounds that were compared.
    ///
    /// # Errors
    /// If the run cannot be read.
    pub fn against(&self, run_folder: &Path) -> Result<Result<usize, String>, RunError> {
        let manifest = Manifest::read(run_folder)?;
        if manifest.genesis != self.genesis {
            return Ok(Err(self.other_start(&manifest)));
        }
        let rounds = rounds_of(run_folder)?;
        let differs =
            |(mine, theirs): (&CertifiedRound, &CertifiedRound)| (mine.digest != theirs.digest).then_some(*mine);
        Ok(match self.rounds.iter().zip(&rounds).find_map(differs) {
            Some(round) => Err(format!("round {}: the certificate says another digest, {}", round.round, round.digest)),
            None if rounds.len() > self.rounds.len() => {
                Err(format!("the certificate ends after round {}", self.rounds.len()))
            }
            None => Ok(rounds.len()),
        })
    }

    /// Which of the stated hashes is not the run's.
    fn other_start(&self, run: &Manifest) -> String {
        let theirs = run.inputs_by_hash();
        if self.scenario != run.scenario_hash {
            return format!(
                "the scenario is another: its hash is {}, the certificate says {}",
                run.scenario_hash, self.scenario
            );
        }
        if self.numerics_class != run.numerics_class {
            let (found, said) = (&run.numerics_class, &self.numerics_class);
            return format!("the numerics are {found}, the certificate says {said}");
        }
        let other = self.inputs.iter().find(|(role, hash)| theirs.get(*role) != Some(hash));
        match other {
            Some((role, hash)) => format!("the {} is another: the certificate says {hash}", role.replace('_', " ")),
            None => "it starts from another genesis".into(),
        }
    }
}

/// Checks the run in `run_folder` as [`crate::ledger::verify`] does, and against a certificate: its own, or one that is
/// claimed for it or that it repeats. Of a run that is not finished, the rounds that there are must be as certified.
///
/// # Errors
/// If there is no run, or no such certificate.
pub fn verify_run(run_folder: &Path, claimed: Option<&Path>) -> Result<Vec<Difference>, RunError> {
    let mut found = verify(run_folder)?;
    let Ok(manifest) = Manifest::read(run_folder) else { return Ok(found) };
    let own = run_folder.join(FILE_NAME);
    let certificate = match claimed {
        Some(path) => Certificate::read(path)?,
        // Its hash in the manifest has been checked; one that is missing has been named.
        None if !own.is_file() => return Ok(found),
        None => match Certificate::read(&own) {
            Ok(certificate) => certificate,
            Err(error) => {
                found.push(Difference(format!("{FILE_NAME}: {error}")));
                return Ok(found);
            }
        },
    };
    if claimed.is_some() && manifest.state == RunState::Running {
        // It was played to be compared, and need not go on.
        found.retain(|difference| !difference.0.starts_with(UNFINISHED));
    }
    let against = match certificate.against(run_folder) {
        // Tables that cannot be read have been named.
        Err(RunError::Ledger(LedgerError::Malformed { .. } | LedgerError::Parquet { .. })) if !found.is_empty() => None,
        against => against?.err(),
    };
    let differences = [certificate.check().err(), against];
    found.extend(differences.into_iter().flatten().map(|what| Difference(format!("certificate: {what}"))));
    Ok(found)
}

/// The machine's arithmetic without the number of threads and devices, which change no bit, and without the shapes of this
/// machine's test, which depend on them: they are not claimed.
fn deciding(numerics: &serde_json::Value) -> serde_json::Value {
    let mut numerics = numerics.clone();
    if let Some(fields) = numerics.as_object_mut() {
        for changes_nothing in ["threads", "devices", "tested_up_to"] {
            fields.remove(changes_nothing);
        }
    }
    numerics
}

/// What the digests of a run are chained from.
pub(super) fn genesis(schema: u32, scenario: Digest, inputs: &BTreeMap<String, Digest>, numerics: &str) -> Digest {
    key_of("fedreplay genesis v1", &(schema, scenario, inputs, numerics)).0
}

fn population_of(run_folder: &Path) -> Result<Digest, LedgerError> {
    let rows = read_table(run_folder, PopulationRow::NAME)?;
    Ok(rows_digest(&[chunk_hash(PopulationRow::NAME, &rows, &[])]))
}

fn rounds_of(run_folder: &Path) -> Result<Vec<CertifiedRound>, LedgerError> {
    let rows = read_table(run_folder, RoundRow::NAME)?;
    let hash = |column: &str, row: usize| {
        let texts = rows.column_by_name(column).and_then(|texts| texts.as_string_opt::<i32>());
        texts.and_then(|texts| Digest::from_hex(texts.value(row)))
    };
    let round = |row: usize| {
        let missing =
            |column| LedgerError::malformed(run_folder, format!("table rounds, row {row}: its {column} is no hash"));
        Ok(CertifiedRound {
            round: row as u32 + 1,
            model: hash("model_hash", row),
            rows: hash("rows_digest", row).ok_or_else(|| missing("rows_digest"))?,
            digest: hash("digest", row).ok_or_else(|| missing("digest"))?,
        })
    };
    (0..rows.num_rows()).map(round).collect()
}
