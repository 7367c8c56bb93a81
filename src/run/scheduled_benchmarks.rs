//! Scheduled benchmarks: their orders after a round, and their results as rows of the ledger.

use std::sync::Arc;

use crate::benchmarks::{BenchmarkResult, Metric, Response};
use crate::graph::{Executor, GraphError, Node, NodeId, Value};
use crate::inputs::ScheduledBenchmark;
use crate::ledger::{EvalSubject, EvaluationRow, GenerationRow, Split};

/// Benchmark evaluation of one model in the plan of a round.
pub struct PlannedBenchmark {
    benchmark: Arc<ScheduledBenchmark>,
    subject: EvalSubject,
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
    subject: EvalSubject,
    models: &[(Option<u32>, NodeId)],
    server_round: Option<u32>,
    is_last: bool,
) -> Vec<PlannedBenchmark> {
    let mut planned = Vec::new();
    for benchmark in benchmarks.iter().filter(|benchmark| benchmark.is_due(server_round, is_last)) {
        for &(client, model) in models {
            let result = executor.add(Node::Benchmark { model, benchmark: benchmark.clone() });
            planned.push(PlannedBenchmark { benchmark: benchmark.clone(), subject, client, model, result });
        }
    }
    planned
}

/// Returns the results of a round's benchmarks as table rows, waiting for those that are not computed yet. The rows of a
/// client that trains alone have version 0.
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
    for &PlannedBenchmark { ref benchmark, subject, client, model, result } in planned {
        // The graph treats the result as opaque bytes, which `ScheduledBenchmark` has written or found to be a result.
        let Value::BenchmarkResult(bytes) = executor.take(result)? else {
            unreachable!("a benchmark gives its result")
        };
        let result: BenchmarkResult = postcard::from_bytes(&bytes).expect("they are a result");
        let hash = Some(executor.take(model)?.adapter_hash().to_string());
        let version = if subject == EvalSubject::Local { 0 } else { version };
        let rows = BenchmarkRows { round, version, subject, client, hash, benchmark: benchmark.name };
        figures.extend(result.figures.iter().map(|figure| rows.figure(figure)));
        responses.extend(result.answers.into_iter().map(|response| rows.response(response)));
    }
    Ok((figures, responses))
}

/// Identity of a benchmark result, from which its rows in the tables are made.
pub(crate) struct BenchmarkRows<'a> {
    pub round: u32,
    pub version: u32,
    pub subject: EvalSubject,
    pub client: Option<u32>,
    /// Hash of the model's adapter.
    pub hash: Option<String>,
    pub benchmark: &'a str,
}

impl BenchmarkRows<'_> {
    /// Returns the row of a metric.
    pub fn figure(&self, figure: &Metric) -> EvaluationRow {
        EvaluationRow {
            round: self.round,
            version: self.version,
            subject: self.subject,
            client: self.client,
            benchmark: self.benchmark.into(),
            split: Split::of_benchmark(&figure.part),
            rows: figure.asked,
            failed: figure.failed,
            score: figure.score,
            target_tokens: 0,
            loss: None,
            perplexity: None,
            token_accuracy: None,
            reward_margin: None,
            preference_accuracy: None,
            model_hash: self.hash.clone(),
        }
    }

    /// Returns the row of a response.
    pub fn response(&self, response: Response) -> GenerationRow {
        GenerationRow {
            round: self.round,
            subject: self.subject,
            client: self.client,
            benchmark: self.benchmark.into(),
            question: response.question,
            category: response.category,
            turn: response.turn,
            prompt: response.prompt,
            answer: response.answer,
            ended: response.ended,
            tokens: response.tokens,
            model_hash: self.hash.clone(),
            judgement: response.judgement,
            score: response.score,
        }
    }
}
