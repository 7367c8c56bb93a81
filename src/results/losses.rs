//! Losses of a run: means over rows by model, split and round.
//!
//! A mean over rows of several clients weights each row by its target tokens, or by its pairs if it is of preference data. The
//! same weights hold for the server's model and for clients' own models, so that their losses on the same rows can be compared.

use std::collections::BTreeMap;

use super::statistics::{mean, quantile, sorted, worst_decile};
use crate::graph::Ranking;
use crate::ledger::{EvalSubject, EvaluationRow, LOSSES, Split};

/// Mean losses on the two kinds of rows.
#[derive(Clone, Debug, Default)]
pub struct SplitLosses {
    pub test: Option<f64>,
    pub held_out: Option<f64>,
}

impl SplitLosses {
    /// Computes the means over rows of one subject after one round.
    fn of(rows: &[&EvaluationRow]) -> Self {
        Self { test: mean_loss(&of_split(rows, &Split::Test)), held_out: mean_loss(&of_split(rows, &Split::HeldOut)) }
    }

    /// Returns the main loss: that on the test rows, if the run has any, or else that on held-out rows.
    pub fn main(&self, has_test: bool) -> Option<f64> {
        if has_test { self.test } else { self.held_out }
    }
}

/// Measurements after one round, of the server model or, if there is none, of the clients' own models.
#[derive(Clone, Debug, Default)]
pub struct CurvePoint {
    /// Round of the ledger, from 1; 0 is before any training.
    pub round: u32,
    pub losses: SplitLosses,
    /// Ranking of the main pairs; `None` unless preference data.
    pub ranking: Option<Ranking>,
    /// Finite losses on the clients' own held-out rows, with the clients' numbers in ascending order.
    pub clients: Vec<(u32, f64)>,
}

impl CurvePoint {
    /// Computes the measurements from the rows of one subject after one round.
    fn of(round: u32, rows: &[&EvaluationRow]) -> Self {
        Self {
            round,
            losses: SplitLosses::of(rows),
            ranking: ranking(rows),
            clients: of_split(rows, &Split::HeldOut).into_iter().filter_map(client_loss).collect(),
        }
    }

    /// Returns the losses of the clients in ascending order.
    pub fn client_losses(&self) -> Vec<f64> {
        sorted(self.clients.iter().map(|&(_, loss)| loss))
    }
}

/// All losses that a run measured.
pub struct Learning {
    /// Measurements of the run's models, in the order of the rounds.
    pub points: Vec<CurvePoint>,
    /// Whether each client has a model of its own, and there is no server model to measure.
    pub is_local: bool,
    /// Measurements of the clients' own models by round, where there is a server model as well.
    pub personal: Vec<CurvePoint>,
    pub has_test: bool,
    /// Losses of the baseline in which clients train alone, after its last round.
    pub alone: Option<CurvePoint>,
    /// Losses of the last model after some steps on each client's rows.
    pub fine_tuned: Option<CurvePoint>,
    unit: &'static str,
}

impl Learning {
    /// Collects the losses among the evaluations of a run.
    pub fn of(evaluations: &[EvaluationRow]) -> Self {
        // The initial model is the server's under any method. Where clients have models of their own there is no other one.
        let is_personal = evaluations.iter().any(|row| row.subject == EvalSubject::Personal);
        let is_alone = is_alone(evaluations);
        let mut by_round = by_round(evaluations, EvalSubject::Global);
        let mut personal = self::by_round(evaluations, EvalSubject::Personal);
        let has_server_model = by_round.keys().any(|&round| round > 0);
        if !has_server_model {
            by_round.append(&mut personal);
        }
        let mut alone = None;
        // Rows of clients alone are the run itself if the method is `Local`, and a baseline under any other method.
        if is_alone {
            by_round.extend(self::by_round(evaluations, EvalSubject::Local));
        } else {
            alone = last_point(evaluations, EvalSubject::Local);
        }
        Self {
            points: by_round.iter().map(|(&round, rows)| CurvePoint::of(round, rows)).collect(),
            is_local: is_alone || (is_personal && !has_server_model),
            personal: personal.iter().map(|(&round, rows)| CurvePoint::of(round, rows)).collect(),
            has_test: evaluations.iter().any(|row| row.split == Split::Test),
            alone,
            fine_tuned: last_point(evaluations, EvalSubject::FineTuned),
            unit: loss_unit(evaluations),
        }
    }

    /// Returns the unit of losses.
    pub fn unit(&self) -> &'static str {
        self.unit
    }

    /// Returns the main loss at a point.
    pub fn main(&self, point: &CurvePoint) -> Option<f64> {
        point.losses.main(self.has_test)
    }

    /// Returns the measurements before any training.
    pub fn before(&self) -> Option<&CurvePoint> {
        self.points.first().filter(|point| point.round == 0)
    }

    /// Returns the last measurements after some training.
    pub fn after(&self) -> Option<&CurvePoint> {
        self.points.last().filter(|point| point.round > 0)
    }

    /// Returns the main loss before any training.
    pub fn loss_before(&self) -> Option<f64> {
        self.main(self.before()?)
    }

    /// Returns the main loss after the last evaluated round.
    pub fn loss_after(&self) -> Option<f64> {
        self.main(self.after()?)
    }

    /// Returns the mean loss of the clients trained alone, on the same rows and with the same weights as [`Self::loss_after`].
    pub fn loss_alone(&self) -> Option<f64> {
        self.main(self.alone.as_ref()?)
    }

    /// Returns the held-out losses of the clients trained alone, by client.
    pub fn alone_losses(&self) -> BTreeMap<u32, f64> {
        self.alone.iter().flat_map(|alone| alone.clients.iter().copied()).collect()
    }

    /// Returns the main loss after each evaluated round, with the round.
    pub fn main_losses(&self) -> impl Iterator<Item = (u32, f64)> + Clone + '_ {
        self.points.iter().filter_map(|point| Some((point.round, self.main(point)?)))
    }
}

/// Means over clients of the last losses on each client's own held-out rows, where clients have models of their own or the last model is
/// fine-tuned on their rows. Every client counts alike, however many rows it holds out.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ClientMeans {
    /// [nat/token, nat/pair on preference data] -- Of each client's own model.
    pub personal: Option<f64>,
    /// [nat/token, nat/pair] -- Of the server's model.
    pub global: Option<f64>,
    /// [nat/token, nat/pair] -- Of the last model after some steps on each client's rows.
    pub fine_tuned: Option<f64>,
}

impl ClientMeans {
    /// Computes the means after the last round after which each kind of model was evaluated; `None` if no client has a model of its own.
    pub fn of(evaluations: &[EvaluationRow]) -> Option<Self> {
        Self::default().followed_by(evaluations).of_own_models()
    }

    /// Returns the means after more rounds, with these evaluations.
    pub(super) fn followed_by(self, evaluations: &[EvaluationRow]) -> Self {
        let mean_of = |subject| {
            let last = last_point(evaluations, subject).filter(|point| point.round > 0)?;
            mean(&last.client_losses())
        };
        Self {
            personal: mean_of(EvalSubject::Personal).or(self.personal),
            global: mean_of(EvalSubject::Global).or(self.global),
            fine_tuned: mean_of(EvalSubject::FineTuned).or(self.fine_tuned),
        }
    }

    /// Returns the means, unless they are of the server's model alone.
    pub(super) fn of_own_models(self) -> Option<Self> {
        (self.personal.is_some() || self.fine_tuned.is_some()).then_some(self)
    }

    /// Returns the means that there are, with what they are of.
    pub fn named(&self) -> Vec<(&'static str, f64)> {
        let all = [("own model", self.personal), ("server's model", self.global), ("fine-tuned", self.fine_tuned)];
        all.into_iter().filter_map(|(name, mean)| Some((name, mean?))).collect()
    }
}

/// Whether only clients that train alone were evaluated after training began.
fn is_alone(evaluations: &[EvaluationRow]) -> bool {
    let mut trained = evaluations.iter().filter(|row| row.round > 0 && row.benchmark == LOSSES).peekable();
    trained.peek().is_some() && trained.all(|row| row.subject == EvalSubject::Local)
}

/// Returns the unit of losses: preference data is measured per pair, other data per token.
pub fn loss_unit(evaluations: &[EvaluationRow]) -> &'static str {
    let is_of_pairs = evaluations.iter().any(|row| row.preference_accuracy.is_some());
    if is_of_pairs { "nats/pair" } else { "nats/token" }
}

/// Returns the losses of one subject by round.
fn by_round(evaluations: &[EvaluationRow], subject: EvalSubject) -> BTreeMap<u32, Vec<&EvaluationRow>> {
    let mut by_round: BTreeMap<u32, Vec<&EvaluationRow>> = BTreeMap::new();
    for row in evaluations.iter().filter(|row| row.subject == subject && row.benchmark == LOSSES) {
        by_round.entry(row.round).or_default().push(row);
    }
    by_round
}

/// Returns the last measurements of one subject.
fn last_point(evaluations: &[EvaluationRow], subject: EvalSubject) -> Option<CurvePoint> {
    by_round(evaluations, subject).last_key_value().map(|(&round, rows)| CurvePoint::of(round, rows))
}

/// Returns the mean losses of one subject after each round.
pub(super) fn split_losses(evaluations: &[EvaluationRow], subject: EvalSubject) -> Vec<(u32, SplitLosses)> {
    by_round(evaluations, subject).into_iter().map(|(round, rows)| (round, SplitLosses::of(&rows))).collect()
}

/// Main measurements of one subject after one round.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MainLoss {
    /// [nat/token] -- Loss on the test rows if there are any, else on all held-out rows; `None` if one was not finite.
    pub loss: Option<f64>,
    pub ranking: Option<Ranking>,
}

impl MainLoss {
    /// Computes the measurements of a subject after a round; `None` if it was not evaluated then.
    pub fn after(evaluations: &[EvaluationRow], subject: EvalSubject, round: u32) -> Option<Self> {
        let rows = by_round(evaluations, subject).remove(&round)?;
        let has_test = rows.iter().any(|row| row.split == Split::Test);
        Some(Self { loss: SplitLosses::of(&rows).main(has_test), ranking: ranking(&rows) })
    }

    /// Computes the measurements of the server model after a round or, if there is none, of the clients' own models.
    pub fn of_round(evaluations: &[EvaluationRow], round: u32) -> Option<Self> {
        Self::of_federation(evaluations, round).or_else(|| Self::after(evaluations, EvalSubject::Local, round))
    }

    /// Computes the measurements of the server model after a round or, if clients keep factors of it, of their models.
    pub fn of_federation(evaluations: &[EvaluationRow], round: u32) -> Option<Self> {
        let of_server = Self::after(evaluations, EvalSubject::Global, round);
        of_server.or_else(|| Self::after(evaluations, EvalSubject::Personal, round))
    }
}

/// Returns the rows of one split.
fn of_split<'a>(rows: &[&'a EvaluationRow], split: &Split) -> Vec<&'a EvaluationRow> {
    rows.iter().copied().filter(|row| row.split == *split).collect()
}

/// Returns the client of a row with its loss. `None` if the row is not of one client, or its loss is not finite.
fn client_loss(row: &EvaluationRow) -> Option<(u32, f64)> {
    Some((row.client?, finite_loss(row)?))
}

/// Returns the loss of a row if it is finite.
fn finite_loss(row: &EvaluationRow) -> Option<f64> {
    row.loss.filter(|loss| loss.is_finite())
}

/// Computes the mean loss of rows, weighted by their target tokens or pairs, in the order of the rows. `None` if one of them
/// has none: leaving it out would make the mean look better.
fn mean_loss(rows: &[&EvaluationRow]) -> Option<f64> {
    let mut sum = 0.0;
    let mut total = 0.0;
    for row in rows {
        let weight = if row.reward_margin.is_some() { row.rows } else { row.target_tokens } as f64;
        sum += finite_loss(row)? * weight;
        total += weight;
    }
    (total > 0.0).then(|| sum / total)
}

/// Computes how a model ranks pairs: those of the test if there are any, else all held-out ones. `None` without pairs.
fn ranking(rows: &[&EvaluationRow]) -> Option<Ranking> {
    mean_ranking(&of_split(rows, &Split::Test)).or_else(|| mean_ranking(&of_split(rows, &Split::HeldOut)))
}

/// Computes the mean ranking over all pairs of these rows; `None` without pairs.
fn mean_ranking(rows: &[&EvaluationRow]) -> Option<Ranking> {
    let mut margin = 0.0;
    let mut accuracy = 0.0;
    let mut pairs = 0.0;
    for row in rows {
        let (Some(row_margin), Some(row_accuracy)) = (row.reward_margin, row.preference_accuracy) else { continue };
        let weight = row.rows as f64;
        margin += row_margin * weight;
        accuracy += row_accuracy * weight;
        pairs += weight;
    }
    if pairs > 0.0 { Some(Ranking { margin: margin / pairs, accuracy: accuracy / pairs }) } else { None }
}

/// Losses of one kind of model after one round on one split, in which each client counts once.
#[derive(Clone, Debug, Default)]
pub struct LossGroup {
    pub round: u32,
    pub subject: EvalSubject,
    pub split: Split,
    /// Number of models or clients that were evaluated.
    pub evaluated: u64,
    pub rows: u64,
    pub target_tokens: u64,
    /// Number of losses that were not finite, which are in no mean.
    pub not_finite: u64,
    pub mean: Option<f64>,
    pub median: Option<f64>,
    pub worst_decile: Option<f64>,
    pub preference_accuracy: Option<f64>,
    pub reward_margin: Option<f64>,
}

impl LossGroup {
    /// Returns all groups of these losses, in the order of round, subject and split.
    pub fn all(losses: &[EvaluationRow]) -> Vec<Self> {
        let mut groups: BTreeMap<(u32, EvalSubject, &str), Vec<&EvaluationRow>> = BTreeMap::new();
        for row in losses {
            groups.entry((row.round, row.subject, row.split.name())).or_default().push(row);
        }
        groups.values().map(|rows| Self::of(rows)).collect()
    }

    /// Summarizes the rows of one group, of which there is at least one.
    fn of(rows: &[&EvaluationRow]) -> Self {
        let losses = sorted(rows.iter().filter_map(|row| row.loss));
        let accuracies: Vec<f64> = rows.iter().filter_map(|row| row.preference_accuracy).collect();
        let margins: Vec<f64> = rows.iter().filter_map(|row| row.reward_margin).collect();
        Self {
            round: rows[0].round,
            subject: rows[0].subject,
            split: rows[0].split.clone(),
            evaluated: rows.len() as u64,
            rows: rows.iter().fold(0, |sum: u64, row| sum.saturating_add(row.rows)),
            target_tokens: rows.iter().fold(0, |sum: u64, row| sum.saturating_add(row.target_tokens)),
            not_finite: (rows.len() - losses.len()) as u64,
            mean: mean(&losses),
            median: quantile(&losses, 0.5),
            worst_decile: worst_decile(&losses),
            preference_accuracy: mean(&accuracies),
            reward_margin: mean(&margins),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Row of a client's held-out rows.
    fn row(round: u32, subject: EvalSubject, client: u32, target_tokens: u64, loss: Option<f64>) -> EvaluationRow {
        EvaluationRow {
            round,
            subject,
            client: Some(client),
            benchmark: LOSSES.into(),
            split: Split::HeldOut,
            target_tokens,
            loss,
            ..EvaluationRow::default()
        }
    }

    #[test]
    fn equal_models_have_equal_losses_whether_they_are_the_servers_or_the_clients_own() {
        let mut rows = Vec::new();
        for subject in [EvalSubject::Global, EvalSubject::Local] {
            rows.push(row(3, subject, 0, 10, Some(2.0)));
            rows.push(row(3, subject, 1, 30, Some(4.0)));
        }
        let learning = Learning::of(&rows);
        // (10 x 2 + 30 x 4) / 40
        assert_eq!(learning.loss_after(), Some(3.5));
        assert_eq!(learning.loss_alone(), Some(3.5));
    }

    #[test]
    fn a_loss_that_is_not_finite_leaves_no_mean_and_is_not_replaced_by_another_models() {
        let mut rows = vec![row(1, EvalSubject::Global, 0, 10, None), row(1, EvalSubject::Global, 1, 10, Some(1.0))];
        rows.push(row(1, EvalSubject::Local, 0, 10, Some(1.0)));
        assert_eq!(Learning::of(&rows).loss_after(), None);
        assert_eq!(MainLoss::of_round(&rows, 1).expect("it was evaluated").loss, None);
    }

    #[test]
    fn a_round_that_was_not_evaluated_has_no_loss() {
        let rows = [row(0, EvalSubject::Global, 0, 10, Some(1.0))];
        assert!(MainLoss::of_round(&rows, 1).is_none());
        assert_eq!(MainLoss::of_round(&rows, 0).and_then(|main| main.loss), Some(1.0));
    }

    #[test]
    fn the_curve_of_clients_alone_begins_at_the_model_that_all_begin_with() {
        let rows = [row(0, EvalSubject::Global, 0, 10, Some(3.0)), row(1, EvalSubject::Local, 0, 10, Some(2.0))];
        let learning = Learning::of(&rows);
        assert!(learning.is_local && learning.alone.is_none());
        assert_eq!(learning.main_losses().collect::<Vec<_>>(), [(0, 3.0), (1, 2.0)]);
    }
}
