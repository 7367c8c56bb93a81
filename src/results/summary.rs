//! Summary of a run: totals that are added up round by round, and the figures at its end.

use std::path::{Path, PathBuf};
use std::time::Instant;

use fedreplay_sim::Tally;

use super::costs::{Moved, Traffic};
use super::losses::{ClientMeans, MainLoss};
use super::participants::FateCounts;
use crate::ledger::{Chunk, EvalSubject, EvaluationRow, LedgerError, path_as_text};
use crate::privacy::Spent;
use crate::store::{Digest, atomic, parse_json, read_limited};

/// Figures of a finished run.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Summary {
    #[serde(serialize_with = "path_as_text")]
    pub run: PathBuf,
    pub digest: Digest,
    pub rounds: u32,
    /// [nat/token] -- Loss of the server model before training: on the test rows, or else on all held-out rows.
    pub loss_before: Option<f64>,
    pub loss_after: Option<f64>,
    /// [1] -- Share of test or held-out pairs that the server model ranks right, before and after; on preference data.
    pub preference_accuracy: Option<[f64; 2]>,
    /// Whether losses are means over preference pairs [nat/pair]; left out of the file where it is false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub measures_pairs: bool,
    /// [1] -- Mean reward margin on the same pairs, after training.
    pub reward_margin: Option<f64>,
    /// [nat/token] -- Mean loss of the clients trained alone, on the same rows with the same weights as `loss_after`.
    pub loss_local: Option<f64>,
    /// Losses on clients' own rows; left out of the file where no client has a model of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_means: Option<ClientMeans>,
    pub simulated_ns: u64,
    pub wall_seconds: f64,
    pub tasks_dispatched: u64,
    pub tasks_trained: u64,
    /// Number of counted updates that were unusable, so that their weight was 0.
    pub tasks_unusable: u64,
    /// First of these updates, with their reasons.
    pub unusable: Vec<String>,
    pub tasks_dropped: u64,
    pub tasks_late: u64,
    pub tasks_cancelled: u64,
    #[serde(flatten)]
    pub moved: Moved,
    /// Privacy spent; `None` without differential privacy.
    pub privacy: Option<Spent>,
}

/// Summary as it is written to its file, which is outside of the run's hashes and so carries a hash of itself.
#[derive(serde::Serialize, serde::Deserialize)]
struct SealedSummary {
    #[serde(flatten)]
    summary: Summary,
    seal: Digest,
}

impl Summary {
    /// Writes the summary into the folder with the wall-clock figures of its run, outside of all hashes.
    pub(crate) fn write(&self) -> Result<(), LedgerError> {
        let path = Self::path(&self.run);
        let sealed = SealedSummary { summary: self.clone(), seal: self.seal() };
        let text = serde_json::to_string_pretty(&sealed).expect("figures can be written as JSON") + "\n";
        atomic::write(&path, text.as_bytes()).map_err(LedgerError::io(&path))
    }

    fn seal(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).expect("figures can be written as JSON"))
    }

    /// Reads the summary of a finished run.
    ///
    /// # Errors
    /// If it is missing, or was changed after it was written.
    pub fn read(run: &Path) -> Result<Self, LedgerError> {
        let path = Self::path(run);
        let bytes = read_limited(&path).map_err(LedgerError::io(&path))?;
        let SealedSummary { summary, seal } =
            parse_json(&bytes).map_err(|error| LedgerError::malformed(&path, error.to_string()))?;
        // The seal covers the summary as it was written, including the folder's path of that time.
        if seal != summary.seal() {
            let reason =
                "it was changed after it was written; without its folder the run is played again from the store";
            return Err(LedgerError::malformed(&path, reason));
        }
        Ok(Self { run: run.to_owned(), ..summary })
    }

    fn path(run: &Path) -> PathBuf {
        run.join("timing").join("summary.json")
    }
}

/// Maximum number of unusable updates that a summary names.
const UNUSABLE_SHOWN: usize = 10;

/// Totals behind a summary.
#[derive(Default)]
pub(crate) struct Totals {
    before: Option<MainLoss>,
    after: Option<MainLoss>,
    local: Option<MainLoss>,
    clients: ClientMeans,
    unusable: Vec<String>,
    pub rounds: u32,
    simulated_ns: u64,
    tasks_trained: u64,
    measures_pairs: bool,
    tasks: FateCounts,
    traffic: Traffic,
}

impl Totals {
    /// Adds the evaluation before the first round.
    pub fn add_before(&mut self, evaluations: &[EvaluationRow]) {
        self.before = MainLoss::after(evaluations, EvalSubject::Global, 0);
    }

    /// Adds a round and its tasks.
    pub fn add(&mut self, chunk: &Chunk) {
        let round = chunk.round.round;
        // Without an evaluation in this round, the values of the last evaluated round stay.
        self.after = MainLoss::of_federation(&chunk.evaluations, round).or(self.after);
        self.local = MainLoss::after(&chunk.evaluations, EvalSubject::Local, round).or(self.local);
        self.clients = self.clients.followed_by(&chunk.evaluations);
        let unusable = chunk.tasks.iter().filter_map(|task| Some((task, task.reason.as_ref()?)));
        self.unusable.extend(unusable.map(|(task, reason)| format!("round {round}, client {}: {reason}", task.client)));
        self.rounds = round;
        self.simulated_ns = chunk.round.closed_at_ns;
        self.tasks_trained += chunk.tasks.iter().filter(|task| task.steps.is_some()).count() as u64;
        for task in &chunk.tasks {
            self.measures_pairs |= task.preference_accuracy.is_some();
            self.tasks.add(task.fate);
            self.traffic.add_task(task.aggregator, task.into());
        }
        self.traffic.add_round(chunk.round.aggregator, (&chunk.round).into());
    }

    /// Returns the summary of a run that ends now.
    pub fn summary(self, run: PathBuf, digest: Digest, began: Instant) -> Summary {
        let before = self.before.and_then(|before| before.ranking);
        let after = self.after.and_then(|after| after.ranking);
        Summary {
            run,
            digest,
            rounds: self.rounds,
            loss_before: self.before.and_then(|before| before.loss),
            loss_after: self.after.and_then(|after| after.loss),
            loss_local: self.local.and_then(|local| local.loss),
            client_means: self.clients.of_own_models(),
            simulated_ns: self.simulated_ns,
            wall_seconds: began.elapsed().as_secs_f64(),
            tasks_dispatched: self.tasks.all(),
            tasks_trained: self.tasks_trained,
            tasks_unusable: self.unusable.len() as u64,
            unusable: self.unusable.into_iter().take(UNUSABLE_SHOWN).collect(),
            preference_accuracy: before.zip(after).map(|(before, after)| [before.accuracy, after.accuracy]),
            measures_pairs: self.measures_pairs || before.or(after).is_some(),
            reward_margin: after.map(|ranking| ranking.margin),
            tasks_dropped: self.tasks.of(Tally::Dropped),
            tasks_late: self.tasks.of(Tally::Late),
            tasks_cancelled: self.tasks.of(Tally::Cancelled),
            moved: self.traffic.total(),
            privacy: None,
        }
    }
}
