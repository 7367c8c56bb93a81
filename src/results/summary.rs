//! A run in figures: what is added up as it is played, and what is said of it at the end.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::graph::Ranking;
use crate::ledger::{Chunk, EvaluationRow, LOSSES, LedgerError};
use crate::privacy::Spent;
use crate::store::{Digest, atomic};

/// A finished run in figures.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Summary {
    pub run: PathBuf,
    pub digest: Digest,
    pub rounds: u32,
    /// [nats/token] Loss of the server model before training: on the test rows, or else on all held-out rows.
    pub loss_before: Option<f64>,
    pub loss_after: Option<f64>,
    /// Share of held-out or test pairs that the server model ranks right, before and after; of preference data.
    pub preference_accuracy: Option<[f64; 2]>,
    /// [1] Mean margin of rewards on the same pairs, after.
    pub reward_margin: Option<f64>,
    /// [nats/token] Mean loss of the clients trained alone, on the same rows.
    pub loss_local: Option<f64>,
    pub simulated_ns: u64,
    pub wall_seconds: f64,
    pub tasks_dispatched: u64,
    pub tasks_trained: u64,
    /// Updates that counted and could not be used, so that their weight was 0.
    pub tasks_unusable: u64,
    /// The first of them with their reasons.
    pub unusable: Vec<String>,
    pub tasks_dropped: u64,
    pub tasks_late: u64,
    pub tasks_cancelled: u64,
    pub bytes_down: u64,
    pub bytes_up: u64,
    /// What differential privacy came to, where there is any.
    pub privacy: Option<Spent>,
}

/// A summary as a file: it answers to no hash of its run, so it carries one of itself.
#[derive(serde::Serialize, serde::Deserialize)]
struct Kept {
    #[serde(flatten)]
    summary: Summary,
    seal: Digest,
}

impl Summary {
    /// Keeps the summary beside the wall-clock figures of its run, outside of all hashes.
    pub(crate) fn write(&self) -> Result<(), LedgerError> {
        let path = Self::path(&self.run);
        let kept = Kept { summary: self.clone(), seal: self.seal() };
        let text = serde_json::to_string_pretty(&kept).expect("figures can be written as JSON") + "\n";
        atomic::write(&path, text.as_bytes()).map_err(LedgerError::io(&path))
    }

    fn seal(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).expect("figures can be written as JSON"))
    }

    /// The summary of a run that was finished before.
    ///
    /// # Errors
    /// If it is not there, or is not what was written.
    pub fn read(run: &Path) -> Result<Self, LedgerError> {
        let path = Self::path(run);
        let text = fs::read_to_string(&path).map_err(LedgerError::io(&path))?;
        let Kept { summary, seal } =
            serde_json::from_str(&text).map_err(|error| LedgerError::malformed(&path, error.to_string()))?;
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

/// How many unusable updates a summary names.
const UNUSABLE_SHOWN: usize = 10;

/// What the summary adds up.
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
        self.loss_after = main_loss(&after, "global").or(self.loss_after);
        self.loss_local = main_loss(&after, "local").or(self.loss_local);
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
                "counted" => {}
                "late" => self.late += 1,
                "cancelled" => self.cancelled += 1,
                _ => self.dropped += 1,
            }
            self.bytes_down += task.bytes_down;
            self.bytes_up += task.bytes_up;
        }
    }

    /// The figures of a run that ends now.
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

/// The loss that stands for a subject: on the test rows where there are any, else on all held-out rows. Clients trained
/// alone are averaged as clients, each counting once; rows of one model are averaged by their tokens, and pairs as pairs.
pub(crate) fn main_loss(rows: &[EvaluationRow], subject: &str) -> Option<f64> {
    let is_loss = |row: &&EvaluationRow| row.subject == subject && row.benchmark == LOSSES;
    let last = rows.iter().filter(is_loss).map(|row| row.round).max()?;
    let of = |split: &str| {
        let chosen = rows.iter().filter(is_loss).filter(|row| row.split == split && row.round == last);
        let weight = |row: &EvaluationRow| match (subject, row.reward_margin) {
            ("local", _) => 1.0,
            (_, None) => row.target_tokens as f64,
            (_, Some(_)) => row.rows as f64,
        };
        let (sum, total) = chosen.fold((Some(0.0), 0.0), |(sum, total), row| {
            (sum.zip(row.loss).map(|(sum, loss)| sum + loss * weight(row)), total + weight(row))
        });
        sum.filter(|_| total > 0.0).map(|sum| sum / total)
    };
    let has_test = rows.iter().any(|row| row.subject == subject && row.split == "test");
    of(if has_test { "test" } else { "held_out" })
}

/// How the server model ranks pairs: the test's where there are any, else all held-out ones.
pub(crate) fn main_ranking(rows: &[EvaluationRow]) -> Option<Ranking> {
    let last = rows.iter().filter(|row| row.subject == "global").map(|row| row.round).max()?;
    let of = |split: &str| {
        let chosen = rows.iter().filter(|row| row.subject == "global" && row.split == split && row.round == last);
        let scored = chosen.filter_map(|row| Some((row.reward_margin?, row.preference_accuracy?, row.rows as f64)));
        let add =
            |sum: [f64; 3], (margin, accuracy, rows)| [sum[0] + margin * rows, sum[1] + accuracy * rows, sum[2] + rows];
        let [margin, accuracy, rows] = scored.fold([0.0; 3], add);
        (rows > 0.0).then(|| Ranking { margin: margin / rows, accuracy: accuracy / rows })
    };
    of("test").or_else(|| of("held_out"))
}
