//! Summary of a run: totals that are added up round by round, and the figures at its end.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use fedreplay_sim::Tally;

use crate::graph::Ranking;
use crate::ledger::{Chunk, EvalSubject, EvaluationRow, LOSSES, LedgerError, Split};
use crate::privacy::Spent;
use crate::store::{Digest, atomic};

/// Figures of a finished run.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Summary {
    pub run: PathBuf,
    pub digest: Digest,
    pub rounds: u32,
    /// [nat/token] -- Loss of the server model before training: on the test rows, or else on all held-out rows.
    pub loss_before: Option<f64>,
    pub loss_after: Option<f64>,
    /// [1] -- Share of test or held-out pairs that the server model ranks right, before and after; on preference data.
    pub preference_accuracy: Option<[f64; 2]>,
    /// [1] -- Mean reward margin on the same pairs, after training.
    pub reward_margin: Option<f64>,
    /// [nat/token] -- Mean loss of the clients trained alone, on the same rows.
    pub loss_local: Option<f64>,
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
    pub bytes_down: u64,
    pub bytes_up: u64,
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
        let text = fs::read_to_string(&path).map_err(LedgerError::io(&path))?;
        let SealedSummary { summary, seal } =
            serde_json::from_str(&text).map_err(|error| LedgerError::malformed(&path, error.to_string()))?;
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
    pub loss_before: Option<f64>,
    pub loss_after: Option<f64>,
    pub loss_local: Option<f64>,
    pub ranking_before: Option<Ranking>,
    pub ranking_after: Option<Ranking>,
    pub unusable: Vec<String>,
    pub rounds: u32,
    pub simulated_ns: u64,
    pub tasks_trained: u64,
    pub dispatched: u64,
    pub dropped: u64,
    pub late: u64,
    pub cancelled: u64,
    pub bytes_down: u64,
    pub bytes_up: u64,
}

impl Totals {
    /// Adds a round and its tasks.
    pub fn add(&mut self, chunk: &Chunk) {
        let after = chunk.evaluations.iter().filter(|row| row.round > 0).cloned().collect::<Vec<_>>();
        // Without an evaluation in this round, the values of the last evaluated round stay.
        self.loss_after = main_loss(&after, EvalSubject::Global).or(self.loss_after);
        self.loss_local = main_loss(&after, EvalSubject::Local).or(self.loss_local);
        self.ranking_after = main_ranking(&after).or(self.ranking_after);
        let unusable = chunk.tasks.iter().filter_map(|task| Some((task, task.reason.as_ref()?)));
        let round = chunk.round.round;
        self.unusable.extend(unusable.map(|(task, reason)| format!("round {round}, client {}: {reason}", task.client)));
        self.rounds = chunk.round.round;
        self.simulated_ns = chunk.round.closed_at_ns;
        self.tasks_trained += chunk.tasks.iter().filter(|task| task.steps.is_some()).count() as u64;
        self.dispatched += u64::from(chunk.round.dispatched);
        for task in &chunk.tasks {
            match task.fate {
                Tally::Counted => {}
                Tally::Late => self.late += 1,
                Tally::Cancelled => self.cancelled += 1,
                Tally::Dropped => self.dropped += 1,
            }
            self.bytes_down += task.bytes_down;
            self.bytes_up += task.bytes_up;
        }
    }

    /// Returns the summary of a run that ends now.
    pub fn summary(self, run: PathBuf, digest: Digest, began: Instant) -> Summary {
        Summary {
            run,
            digest,
            rounds: self.rounds,
            loss_before: self.loss_before,
            loss_after: self.loss_after,
            loss_local: self.loss_local,
            simulated_ns: self.simulated_ns,
            wall_seconds: began.elapsed().as_secs_f64(),
            tasks_dispatched: self.dispatched,
            tasks_trained: self.tasks_trained,
            tasks_unusable: self.unusable.len() as u64,
            unusable: self.unusable.into_iter().take(UNUSABLE_SHOWN).collect(),
            preference_accuracy: self.ranking_before.zip(self.ranking_after).map(|(a, b)| [a.accuracy, b.accuracy]),
            reward_margin: self.ranking_after.map(|ranking| ranking.margin),
            tasks_dropped: self.dropped,
            tasks_late: self.late,
            tasks_cancelled: self.cancelled,
            bytes_down: self.bytes_down,
            bytes_up: self.bytes_up,
            privacy: None,
        }
    }
}

/// Computes the main loss of a subject: on the test rows if there are any, else on all held-out rows, in the last round of
/// `rows`. Clients trained alone are averaged with equal weights; rows of one model are weighted by their tokens, and pairs
/// equally. `None` if there is no such row or a loss was not finite.
pub(crate) fn main_loss(rows: &[EvaluationRow], subject: EvalSubject) -> Option<f64> {
    let losses: Vec<_> = rows.iter().filter(|row| row.subject == subject && row.benchmark == LOSSES).collect();
    let last = losses.iter().map(|row| row.round).max()?;
    let has_test = rows.iter().any(|row| row.subject == subject && row.split == Split::Test && row.benchmark == LOSSES);
    let split = if has_test { Split::Test } else { Split::HeldOut };
    // sum(w_i loss_i) / sum(w_i), added in the order of the rows; one loss that is not finite makes the sum `None`.
    let mut sum = Some(0.0);
    let mut total = 0.0;
    for row in losses {
        if row.split != split || row.round != last {
            continue;
        }
        let weight = match (subject, row.reward_margin) {
            (EvalSubject::Local, _) => 1.0,
            (_, None) => row.target_tokens as f64,
            (_, Some(_)) => row.rows as f64,
        };
        sum = sum.zip(row.loss).map(|(sum, loss)| sum + loss * weight);
        total += weight;
    }
    sum.filter(|_| total > 0.0).map(|sum| sum / total)
}

/// Computes how the server model ranks pairs: those of the test if there are any, else all held-out ones.
pub(crate) fn main_ranking(rows: &[EvaluationRow]) -> Option<Ranking> {
    let last = rows.iter().filter(|row| row.subject == EvalSubject::Global).map(|row| row.round).max()?;
    ranking_on(rows, &Split::Test, last).or_else(|| ranking_on(rows, &Split::HeldOut, last))
}

/// Computes the mean ranking of the server model over the pairs of one split after one round; `None` without pairs.
fn ranking_on(rows: &[EvaluationRow], split: &Split, round: u32) -> Option<Ranking> {
    let mut margin = 0.0;
    let mut accuracy = 0.0;
    let mut pairs = 0.0;
    for row in rows.iter().filter(|row| row.subject == EvalSubject::Global && row.split == *split && row.round == round)
    {
        let (Some(row_margin), Some(row_accuracy)) = (row.reward_margin, row.preference_accuracy) else { continue };
        let weight = row.rows as f64;
        margin += row_margin * weight;
        accuracy += row_accuracy * weight;
        pairs += weight;
    }
    if pairs > 0.0 { Some(Ranking { margin: margin / pairs, accuracy: accuracy / pairs }) } else { None }
}
