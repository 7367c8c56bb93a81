//! The benchmarks of a scenario as orders of a run: which are due after a round, and the rows that come of them.

use std::sync::Arc;

use super::benchmark_rows::SheetRows;
use crate::benchmarks::Sheet;
use crate::graph::{Executor, Order, OrderError, OrderId, Value};
use crate::inputs::ScheduledExam;
use crate::ledger::{EvaluationRow, GenerationRow};

/// An ordered benchmark.
pub struct PlannedExam {
    exam: Arc<ScheduledExam>,
    /// Whose own model it is; none is the server's.
    client: Option<u32>,
    model: OrderId,
    order: OrderId,
}

impl PlannedExam {
    /// Asks for the model and its result.
    pub fn demand(&self, executor: &Executor) {
        [self.model, self.order].into_iter().for_each(|order| executor.demand(order));
    }
}

/// Orders the benchmarks that are due after a round of the server, for each of these models: the server's, or that of a
/// client.
pub fn order(
    exams: &[Arc<ScheduledExam>],
    executor: &Executor,
    models: &[(Option<u32>, OrderId)],
    server_round: Option<u32>,
    is_last: bool,
) -> Vec<PlannedExam> {
    let planned = |exam: &Arc<ScheduledExam>, (client, model): (Option<u32>, OrderId)| {
        let order = executor.add(Order::Examine { model, exam: exam.clone() });
        PlannedExam { exam: exam.clone(), client, model, order }
    };
    let due = exams.iter().filter(|exam| exam.is_due(server_round, is_last));
    due.flat_map(|exam| models.iter().map(|&model| planned(exam, model))).collect()
}

/// The results of the benchmarks of a round, waiting for those that are not there yet. A client's own model has no
/// version.
///
/// # Errors
/// The first failure of any order.
pub fn rows(
    planned: &[PlannedExam],
    executor: &Executor,
    round: u32,
    version: u32,
) -> Result<(Vec<EvaluationRow>, Vec<GenerationRow>), OrderError> {
    let (mut figures, mut answers) = (Vec::new(), Vec::new());
    for &PlannedExam { ref exam, client, model, order } in planned {
        let Value::Examined(bytes) = executor.take(order)? else { unreachable!("an exam gives a sheet") };
        let sheet: Sheet = postcard::from_bytes(&bytes).expect("the sheet was written by this version of its code");
        let hash = Some(executor.take(model)?.adapter_hash().to_string());
        let (subject, version) = if client.is_some() { ("local", 0) } else { ("global", version) };
        let rows = SheetRows { round, version, subject, client, hash, benchmark: exam.name };
        figures.extend(sheet.figures.iter().map(|figure| rows.figure(figure)));
        answers.extend(sheet.answers.into_iter().map(|answered| rows.answer(answered)));
    }
    Ok((figures, answers))
}
