//! Scheduled benchmarks as orders of a run: orders those that are due after a round, and makes table rows of their results.

use std::sync::Arc;

use super::benchmark_rows::BenchmarkRows;
use crate::benchmarks::BenchmarkResult;
use crate::graph::{Executor, GraphError, Node, NodeId, Value};
use crate::inputs::ScheduledBenchmark;
use crate::ledger::{EvaluationRow, GenerationRow};

/// Benchmark evaluation of one model in the plan of a round.
pub struct PlannedBenchmark {
    exam: Arc<ScheduledBenchmark>,
    /// Client whose own model is evaluated; `None` is the server's model.
    client: Option<u32>,
    model: NodeId,
    order: NodeId,
}

impl PlannedBenchmark {
    /// Demands the model and its result.
    pub fn demand(&self, executor: &Executor) {
        executor.demand(self.model);
        executor.demand(self.order);
    }
}

/// Orders the benchmarks that are due after a round of the server, for each of these models: the server's (`None`), or that
/// of a client.
pub fn order(
    exams: &[Arc<ScheduledBenchmark>],
    executor: &Executor,
    models: &[(Option<u32>, NodeId)],
    server_round: Option<u32>,
    is_last: bool,
) -> Vec<PlannedBenchmark> {
    let mut planned = Vec::new();
    for exam in exams.iter().filter(|exam| exam.is_due(server_round, is_last)) {
        for &(client, model) in models {
            let order = executor.add(Node::Examine { model, exam: exam.clone() });
            planned.push(PlannedBenchmark { exam: exam.clone(), client, model, order });
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
    planned: &[PlannedBenchmark],
    executor: &Executor,
    round: u32,
    version: u32,
) -> Result<(Vec<EvaluationRow>, Vec<GenerationRow>), GraphError> {
    let mut figures = Vec::new();
    let mut answers = Vec::new();
    for &PlannedBenchmark { ref exam, client, model, order } in planned {
        // The graph treats the result as opaque bytes, which `ScheduledBenchmark::take` has written. The key of the order
        // contains the version of this format, so bytes from the store always have it.
        let Value::Examined(bytes) = executor.take(order)? else { unreachable!("an exam gives a sheet") };
        let sheet: BenchmarkResult =
            postcard::from_bytes(&bytes).expect("the sheet was written by this version of its code");
        let hash = Some(executor.take(model)?.adapter_hash().to_string());
        let (subject, version) = if client.is_some() { ("local", 0) } else { ("global", version) };
        let rows = BenchmarkRows { round, version, subject, client, hash, benchmark: exam.name };
        figures.extend(sheet.figures.iter().map(|figure| rows.figure(figure)));
        answers.extend(sheet.answers.into_iter().map(|answered| rows.answer(answered)));
    }
    Ok((figures, answers))
}
