//! Scheduled benchmarks as orders of a run: orders those that are due after a round, and makes table rows of their results.

use std::sync::Arc;

use super::benchmark_rows::SheetRows;
use crate::benchmarks::Sheet;
use crate::graph::{Executor, Order, OrderError, OrderId, Value};
use crate::inputs::ScheduledExam;
use crate::ledger::{EvaluationRow, GenerationRow};

/// Benchmark evaluation of one model in the plan of a round.
pub struct PlannedExam {
    exam: Arc<ScheduledExam>,
    /// Client whose own model is evaluated; `None` is the server's model.
    client: Option<u32>,
    model: OrderId,
    order: OrderId,
}

impl PlannedExam {
    /// Demands the model and its result.
    pub fn demand(&self, executor: &Executor) {
        executor.demand(self.model);
        executor.demand(self.order);
    }
}

/// Orders the benchmarks that are due after a round of the server, for each of these models: the server's (`None`), or that
/// of a client.
pub fn order(
    exams: &[Arc<ScheduledExam>],
    executor: &Executor,
    models: &[(Option<u32>, OrderId)],
    server_round: Option<u32>,
    is_last: bool,
) -> Vec<PlannedExam> {
    let mut planned = Vec::new();
    for exam in exams.iter().filter(|exam| exam.is_due(server_round, is_last)) {
        for &(client, model) in models {
            let order = executor.add(Order::Examine { model, exam: exam.clone() });
            planned.push(PlannedExam { exam: exam.clone(), client, model, order });
        }
    }
    planned
}

/// Returns the results of a round's benchmarks as table rows, waiting for those that are not computed yet. The rows of a
/// client's own model have version 0.
///
/// # Errors
/// The first failure of any order.
pub fn rows(
    planned: &[PlannedExam],
    executor: &Executor,
    round: u32,
    version: u32,
) -> Result<(Vec<EvaluationRow>, Vec<GenerationRow>), OrderError> {
    let mut figures = Vec::new();
    let mut answers = Vec::new();
    for &PlannedExam { ref exam, client, model, order } in planned {
        // The graph treats the result as opaque bytes, which `ScheduledExam::take` has written. The key of the order
        // contains the version of this format, so bytes from the store always have it.
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
