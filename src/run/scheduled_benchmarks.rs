//! Scheduled benchmarks of a run: adds those that are due after a round to the graph, and turns their results into table
//! rows.

use std::sync::Arc;

use super::benchmark_rows::BenchmarkRows;
use crate::benchmarks::BenchmarkResult;
use crate::graph::{Executor, GraphError, Node, NodeId, Value};
use crate::inputs::ScheduledBenchmark;
use crate::ledger::{EvalSubject, EvaluationRow, GenerationRow};

/// Benchmark evaluation of one model in the plan of a round.
pub struct PlannedBenchmark {
    benchmark: Arc<ScheduledBenchmark>,
    /// Client whose own model is evaluated; `None` is the server's model.
    client: Option<u32>,
    model: NodeId,
    result: NodeId,
}

impl PlannedBenchmark {
    /// Demands the model and its result.
    pub fn demand(&self, executor: &Executor) {
        executor.demand(self.model);
        executor.demand(self.result);
    }
}

/// Adds the evaluations on the benchmarks that are due after a round of the server, for each of these models: the server's
/// (`None`), or that of a client.
pub fn add(
    benchmarks: &[Arc<ScheduledBenchmark>],
    executor: &Executor,
    models: &[(Option<u32>, NodeId)],
    server_round: Option<u32>,
    is_last: bool,
) -> Vec<PlannedBenchmark> {
    let mut planned = Vec::new();
    for benchmark in benchmarks.iter().filter(|benchmark| benchmark.is_due(server_round, is_last)) {
        for &(client, model) in models {
            let result = executor.add(Node::Benchmark { model, benchmark: benchmark.clone() });
            planned.push(PlannedBenchmark { benchmark: benchmark.clone(), client, model, result });
        }
    }
    planned
}

/// Returns the results of a round's benchmarks as table rows, waiting for those that are not computed yet. The rows of a
/// client's own model have version 0.
///
/// # Errors
/// The first failure of any node.
pub fn rows(
    planned: &[PlannedBenchmark],
    executor: &Executor,
    round: u32,
    version: u32,
) -> Result<(Vec<EvaluationRow>, Vec<GenerationRow>), GraphError> {
    let mut figures = Vec::new();
    let mut responses = Vec::new();
    for &PlannedBenchmark { ref benchmark, client, model, result } in planned {
        // The graph treats the result as opaque bytes, which `ScheduledBenchmark::evaluate` has written. The key of the node
        // contains the version of this format, so bytes from the store always have it.
        let Value::BenchmarkResult(bytes) = executor.take(result)? else { unreachable!("an exam gives a sheet") };
        let result: BenchmarkResult =
            postcard::from_bytes(&bytes).expect("the sheet was written by this version of its code");
        let hash = Some(executor.take(model)?.adapter_hash().to_string());
        let (subject, version) =
            if client.is_some() { (EvalSubject::Local, 0) } else { (EvalSubject::Global, version) };
        let rows = BenchmarkRows { round, version, subject, client, hash, benchmark: benchmark.name };
        figures.extend(result.figures.iter().map(|figure| rows.figure(figure)));
        responses.extend(result.answers.into_iter().map(|response| rows.response(response)));
    }
    Ok((figures, responses))
}
