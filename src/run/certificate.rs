//! `certificate.json`: the claims of a run, for others to check. It contains no paths and no name of the machine.
//!
//! A certificate can be checked by itself (the stated hashes give the stated digest), against a run's folder, and against a
//! run that the checker makes: the digests of all rounds that this run has must be equal.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::array::AsArray;
use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};

use super::RunError;
use crate::ledger::{Chain, LedgerError, Manifest, RoundRow, RunState, Table, read_table, rows_digest, start_hashes};
use crate::scenario::{FieldDifference, value_differences};
use crate::store::{Digest, atomic, key_of, parse_json, read_up_to};

/// Version of the format.
const VERSION: u32 = 1;

/// [byte] -- Maximum size of a certificate's file: more than that of a run of four million rounds.
pub(super) const BYTES_MAX: u64 = 1 << 30;

/// File name within a run.
pub(super) const FILE_NAME: &str = "certificate.json";

/// Claims of a finished run.
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
    /// Properties of the machine's arithmetic that may change bits.
    pub numerics_class: String,
    pub numerics: serde_json::Value,
    pub grade: String,
    /// Start of the digest chain: the hash of scenario, inputs, numerics and version of the tables.
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

/// Reason why the hashes that a certificate states do not belong together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    #[error("its scenario, inputs and numerics give the genesis {computed}, it says {stated}")]
    Genesis { computed: Digest, stated: Digest },
    #[error("round {expected} is numbered {stated}")]
    Number { expected: u32, stated: u32 },
    #[error("round {round}: its rows give the digest {computed}, it says {stated}")]
    Round { round: u32, computed: Digest, stated: Digest },
    #[error("its last round gives the digest {computed}, it says {stated}")]
    Last { computed: Digest, stated: Digest },
}

/// Result of comparing a run with a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateComparison {
    /// All rounds of the run are as certified.
    Equal {
        rounds: usize,
    },
    Differs(CertificateDifference),
}

/// First difference between a run and a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateDifference {
    #[error("the scenario is another: its hash is {found}, the certificate says {certified}")]
    Scenario { found: Digest, certified: Digest },
    #[error("the numerics are {found}, the certificate says {certified}")]
    Numerics { found: String, certified: String },
    /// Input by its role, such as `base_model`.
    #[error("the {} is another: the certificate says {certified}", role.replace('_', " "))]
    Input { role: String, certified: Digest },
    /// The version of the tables or the program's rules differ.
    #[error("it starts from another genesis")]
    Genesis,
    #[error("the seed is {found}, the certificate says {certified}")]
    Seed { found: u64, certified: u64 },
    #[error("the population is another: the digest of its table is {found}, the certificate says {certified}")]
    Population { found: Digest, certified: Digest },
    #[error("round {round}: the certificate says another model, {}", certified.map_or("none".to_owned(), |hash| hash.to_string()))]
    Model { round: u32, certified: Option<Digest> },
    #[error("round {round}: the certificate says another digest, {certified}")]
    Round { round: u32, certified: Digest },
    /// The run has more rounds than the certificate.
    #[error("the certificate ends after round {certified}")]
    Longer { certified: usize },
    /// The run is finished and has fewer rounds than the certificate.
    #[error("the run ends after round {found}, the certificate after round {certified}")]
    Shorter { found: usize, certified: usize },
}

impl Certificate {
    /// Creates the certificate of a run whose tables are complete.
    ///
    /// # Errors
    /// If the tables cannot be read.
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
    /// If the file cannot be written.
    pub fn write(&self, run_folder: &Path) -> Result<(), LedgerError> {
        let path = run_folder.join(FILE_NAME);
        atomic::write(&path, self.text().as_bytes()).map_err(LedgerError::io(&path))
    }

    /// Returns the text of its file.
    pub(super) fn text(&self) -> String {
        serde_json::to_string_pretty(self).expect("a certificate has only text keys") + "\n"
    }

    /// Reads a certificate from a file, or from the folder of a run.
    ///
    /// # Errors
    /// If there is none, or it is one of another version.
    pub fn read(path: &Path) -> Result<Self, LedgerError> {
        let path = if path.is_dir() { path.join(FILE_NAME) } else { path.to_owned() };
        let bytes = read_up_to(&path, BYTES_MAX).map_err(LedgerError::io(&path))?;
        let certificate: Self = parse_json(&bytes).map_err(|error| LedgerError::malformed(&path, error.to_string()))?;
        certificate.check_version().map_err(|reason| LedgerError::malformed(&path, reason))?;
        Ok(certificate)
    }

    /// Checks that the certificate has the form that this program reads.
    pub(super) fn check_version(&self) -> Result<(), String> {
        match self.certificate_version {
            VERSION => Ok(()),
            other => Err(format!("it has version {other}, and this program reads {VERSION}")),
        }
    }

    /// Checks that the stated hashes give the stated digests.
    ///
    /// # Errors
    /// The first hash that does not.
    pub fn check(&self) -> Result<(), CertificateError> {
        let genesis = genesis(self.schema_version, self.scenario, &self.inputs, &self.numerics_class);
        if genesis != self.genesis {
            return Err(CertificateError::Genesis { computed: genesis, stated: self.genesis });
        }
        // d_0 = H(genesis, population), d_r = H(d_(r-1), rows of round r).
        let mut chain = Chain::start(self.genesis);
        chain.push(self.population);
        for (expected, round) in (1..).zip(&self.rounds) {
            if round.round != expected {
                return Err(CertificateError::Number { expected, stated: round.round });
            }
            let digest = chain.push(round.rows);
            if digest != round.digest {
                return Err(CertificateError::Round { round: round.round, computed: digest, stated: round.digest });
            }
        }
        let last = self.rounds.last().map_or(self.genesis, |round| round.digest);
        match last == self.digest {
            true => Ok(()),
            false => Err(CertificateError::Last { computed: last, stated: self.digest }),
        }
    }

    /// Compares a run, finished or not, with the certificate over the rounds that the run has: everything of the certificate
    /// that decides the digest, or follows from the same tables. What it states of the program and the machine beyond the
    /// numerics class is not compared, since another build or machine may repeat the run.
    ///
    /// # Errors
    /// If the run cannot be read.
    pub fn against(&self, run_folder: &Path) -> Result<CertificateComparison, RunError> {
        let manifest = Manifest::read(run_folder)?;
        if manifest.genesis != self.genesis {
            return Ok(CertificateComparison::Differs(self.other_start(&manifest)));
        }
        if manifest.seed != self.seed {
            let difference = CertificateDifference::Seed { found: manifest.seed, certified: self.seed };
            return Ok(CertificateComparison::Differs(difference));
        }
        let population = population_of(run_folder)?;
        if population != self.population {
            let difference = CertificateDifference::Population { found: population, certified: self.population };
            return Ok(CertificateComparison::Differs(difference));
        }
        let rounds = rounds_of(run_folder)?;
        for (own, theirs) in self.rounds.iter().zip(&rounds) {
            let round = own.round;
            if own.digest != theirs.digest {
                let difference = CertificateDifference::Round { round, certified: own.digest };
                return Ok(CertificateComparison::Differs(difference));
            }
            if own.model != theirs.model {
                let difference = CertificateDifference::Model { round, certified: own.model };
                return Ok(CertificateComparison::Differs(difference));
            }
        }
        if rounds.len() > self.rounds.len() {
            let difference = CertificateDifference::Longer { certified: self.rounds.len() };
            return Ok(CertificateComparison::Differs(difference));
        }
        if manifest.state == RunState::Done && rounds.len() < self.rounds.len() {
            let difference = CertificateDifference::Shorter { found: rounds.len(), certified: self.rounds.len() };
            return Ok(CertificateComparison::Differs(difference));
        }
        Ok(CertificateComparison::Equal { rounds: rounds.len() })
    }

    /// Returns the first field that the run of this certificate would not state so. The libraries' hashes are taken as
    /// stated, since nothing else in a run names them.
    pub(super) fn field_unlike(
        &self,
        run_folder: &Path,
        manifest: &Manifest,
    ) -> Result<Option<FieldDifference>, RunError> {
        let expected = Self::of(run_folder, manifest, self.libtorch.clone())?;
        let mut stated = serde_json::to_value(self).expect("a certificate has only text keys");
        // Other builds may have stated more.
        stated["numerics"] = deciding(&self.numerics);
        let expected = serde_json::to_value(expected).expect("a certificate has only text keys");
        Ok(value_differences(&stated, &expected).into_iter().next())
    }

    /// Returns which of the stated hashes differs from the run's.
    fn other_start(&self, run: &Manifest) -> CertificateDifference {
        let theirs = run.inputs_by_hash();
        if self.scenario != run.scenario_hash {
            return CertificateDifference::Scenario { found: run.scenario_hash, certified: self.scenario };
        }
        if self.numerics_class != run.numerics_class {
            let found = run.numerics_class.clone();
            return CertificateDifference::Numerics { found, certified: self.numerics_class.clone() };
        }
        let other = self.inputs.iter().find(|(role, hash)| theirs.get(*role) != Some(hash));
        match other {
            Some((role, &certified)) => CertificateDifference::Input { role: role.clone(), certified },
            None => CertificateDifference::Genesis,
        }
    }
}

/// Returns the description of the machine's arithmetic without the fields that are not claimed: the numbers of threads and
/// devices, which change no bit, and the shapes of the start-up test, which depend on them.
fn deciding(numerics: &serde_json::Value) -> serde_json::Value {
    let mut numerics = numerics.clone();
    if let Some(fields) = numerics.as_object_mut() {
        for changes_nothing in ["threads", "devices", "tested_up_to"] {
            fields.remove(changes_nothing);
        }
    }
    numerics
}

/// Returns the start of a run's digest chain.
pub(super) fn genesis(schema: u32, scenario: Digest, inputs: &BTreeMap<String, Digest>, numerics: &str) -> Digest {
    key_of("fedreplay genesis v1", &(schema, scenario, inputs, numerics)).0
}

fn population_of(run_folder: &Path) -> Result<Digest, LedgerError> {
    Ok(rows_digest(&start_hashes(run_folder)?))
}

/// Reads the rounds of a run.
fn rounds_of(run_folder: &Path) -> Result<Vec<CertifiedRound>, LedgerError> {
    let rows = read_table(run_folder, RoundRow::NAME)?;
    let mut rounds = Vec::with_capacity(rows.num_rows());
    for row in 0..rows.num_rows() {
        rounds.push(CertifiedRound {
            round: row as u32 + 1,
            model: hash_in(&rows, "model_hash", row),
            rows: required_hash(run_folder, &rows, "rows_digest", row)?,
            digest: required_hash(run_folder, &rows, "digest", row)?,
        });
    }
    Ok(rounds)
}

/// Returns the hash in a cell; `None` if there is none.
fn hash_in(rows: &RecordBatch, column: &str, row: usize) -> Option<Digest> {
    let texts = rows.column_by_name(column)?.as_string_opt::<i32>()?;
    Digest::from_hex(texts.value(row))
}

/// Returns the hash in a cell of table `rounds` that must have one.
fn required_hash(run_folder: &Path, rows: &RecordBatch, column: &str, row: usize) -> Result<Digest, LedgerError> {
    hash_in(rows, column, row)
        .ok_or_else(|| LedgerError::malformed(run_folder, format!("table rounds, row {row}: its {column} is no hash")))
}
