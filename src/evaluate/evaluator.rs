//! Evaluation of models: losses on a run's rows, and benchmarks. The results go into tables of their own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::target::{EvalModel, EvalRows, EvalTarget};
use crate::benchmarks::{
    Benchmark, BenchmarkCell, BenchmarkResult, BenchmarkTable, BenchmarkTableRow, Cost, EvalOptions, EvalSetup,
};
use crate::data::Rows;
use crate::generation::EvalProgress;
use crate::graph::{Compute, Executor, Node, Value};
use crate::ledger;
use crate::ledger::{EvaluationRow, GenerationRow, LedgerError, Split, write_table};
use crate::run::ledger_rows::{EvaluatedModel, loss_row};
use crate::run::{BenchmarkRows, Observer, RunError, RunOptions};
use crate::store::atomic;

/// A benchmark with its questions loaded.
pub struct OpenedBenchmark {
    pub name: &'static str,
    pub benchmark: Box<dyn Benchmark>,
}

/// Results of an evaluation.
#[derive(Default)]
pub struct EvalTables {
    pub evaluations: Vec<EvaluationRow>,
    pub generations: Vec<GenerationRow>,
    /// Metrics of the benchmarks in the layout of FedLLM-Bench's paper.
    pub table: BenchmarkTable,
}

/// Evaluation of models that share a base.
pub struct Evaluator<'a> {
    pub target: &'a EvalTarget,
    pub options: &'a RunOptions<'a>,
    pub rules: &'a EvalOptions<'a>,
}

impl Evaluator<'_> {
    /// Computes the cost of each benchmark, over all models together.
    ///
    /// # Errors
    /// If a question has no tokens.
    pub fn costs(&self, benchmarks: &[OpenedBenchmark], progress: &dyn EvalProgress) -> Result<Vec<Cost>, RunError> {
        let setup = self.setup();
        let generator = setup.generator(&[])?;
        let end = setup.end();
        let mut costs = Vec::with_capacity(benchmarks.len());
        for opened in benchmarks {
            let mut sum = Cost::default();
            for model in &self.target.models {
                // Nothing is generated. The adapter's hash alone decides which answers are cached and cost nothing.
                let cached_model = setup.cached_model(&generator, None, model.hash(), progress);
                sum = sum.plus(opened.benchmark.cost(&setup.context(&cached_model, &end))?);
            }
            costs.push(sum);
        }
        Ok(costs)
    }

    /// Evaluates every model on the benchmarks. `each` is called with the results, benchmark by benchmark.
    ///
    /// # Errors
    /// If a model cannot be computed or the evaluation is interrupted; answers until then stay in the store.
    pub fn benchmarks(
        &self,
        benchmarks: &[OpenedBenchmark],
        progress: &dyn EvalProgress,
        each: &mut dyn FnMut(&EvalTables) -> Result<(), RunError>,
    ) -> Result<(), RunError> {
        // One pass answers many questions, so the workers serve as threads of its operations.
        self.target.trainer.with_threads(self.options.workers, || self.evaluate_benchmarks(benchmarks, progress, each))
    }

    fn evaluate_benchmarks(
        &self,
        benchmarks: &[OpenedBenchmark],
        progress: &dyn EvalProgress,
        each: &mut dyn FnMut(&EvalTables) -> Result<(), RunError>,
    ) -> Result<(), RunError> {
        let adapters: Vec<_> = self.target.models.iter().filter_map(|model| model.adapter.clone()).collect();
        let setup = self.setup();
        let (generator, end) = (setup.generator(&adapters)?, setup.end());
        for opened in benchmarks {
            let mut adapter = 0..adapters.len();
            for model in &self.target.models {
                let place = model.adapter.as_ref().map(|_| adapter.next().expect("each adapter has its place"));
                let cached_model = setup.cached_model(&generator, place, model.hash(), progress);
                let result = opened.benchmark.evaluate(&setup.context(&cached_model, &end))?;
                each(&self.tables(model, opened.name, result))?;
            }
        }
        Ok(())
    }

    /// Returns the set-up for benchmarks of the evaluated models.
    fn setup(&self) -> EvalSetup<'_> {
        let EvalTarget { trainer, tokenizer, end_tokens, prompts, system_prompt, sampling, seed, .. } = self.target;
        EvalSetup {
            trainer,
            tokenizer,
            end_tokens,
            prompts,
            system_prompt: system_prompt.as_deref(),
            sampling: *sampling,
            seed: *seed,
            store: &self.options.store,
            stop: self.options.stop,
            rules: self.rules,
        }
    }

    /// Returns the tables for one model's result on a benchmark.
    fn tables(&self, model: &EvalModel, benchmark: &str, result: BenchmarkResult) -> EvalTables {
        let round = self.target.round;
        let hash = model.hash().map(|hash| hash.to_string());
        let rows =
            BenchmarkRows { round, version: round, subject: model.subject, client: model.client, hash, benchmark };
        EvalTables {
            evaluations: result.figures.iter().map(|figure| rows.figure(figure)).collect(),
            generations: result.answers.into_iter().map(|response| rows.response(response)).collect(),
            table: BenchmarkTable { rows: vec![self.target.row(model, result.cells)] },
        }
    }

    /// Computes the losses of every model on the run's rows: those of all clients, or for a client's own model those of the
    /// client.
    ///
    /// # Errors
    /// If a model cannot be computed or the evaluation is interrupted.
    pub fn losses(&self, rows: &EvalRows, observer: &mut dyn Observer) -> Result<EvalTables, RunError> {
        let compute = Compute::new(&self.target.trainer, rows.unusable_update, &self.options.store, self.options.stop);
        let executor = Executor::new(std::slice::from_ref(&compute), &self.options.store, self.options.stop, 1);
        observer.working(executor.counters());
        let evaluations = executor.run(self.options.workers, || self.collect_losses(rows, &executor))?;
        Ok(EvalTables { evaluations, ..EvalTables::default() })
    }

    /// Demands the losses of all models from the executor and collects them.
    fn collect_losses(&self, rows: &EvalRows, executor: &Executor) -> Result<Vec<EvaluationRow>, RunError> {
        // All nodes are demanded before the first result is taken, so that workers can start on any of them.
        let mut demanded = Vec::new();
        for model in &self.target.models {
            let adapter = model.adapter.clone().expect("the models of a run have adapters");
            let model_node = executor.add(Node::Given { adapter });
            for (split, client, group) in groups(rows, model.client) {
                let node = Node::Evaluate { model: model_node, groups: vec![group], objective: rows.objective };
                let node = executor.add(node);
                executor.demand(node);
                demanded.push((model, split, client, node));
            }
        }
        let round = self.target.round;
        let mut losses = Vec::with_capacity(demanded.len());
        for (model, split, client, node) in demanded {
            let Value::Evaluated(evaluated) = executor.take(node)? else {
                unreachable!("an evaluation gives losses");
            };
            let hash = model.hash().expect("the models of a run have adapters").to_string();
            let subject = EvaluatedModel { round, version: round, subject: model.subject, client, hash: &hash };
            losses.push(loss_row(subject, split, &evaluated.groups[0]));
        }
        Ok(losses)
    }
}

impl EvalTarget {
    /// Returns a model's row in the paper's layout. Only the server's model is compared with published figures.
    fn row(&self, model: &EvalModel, cells: Vec<BenchmarkCell>) -> BenchmarkTableRow {
        let name = self.name.display();
        let is_run = self.rows.is_some();
        let name = match (is_run, model.client) {
            (true, Some(client)) => format!("{name}, round {}, client {client}", self.round),
            (true, None) => format!("{name}, round {}", self.round),
            (false, _) => name.to_string(),
        };
        BenchmarkTableRow { name, published_as: self.setting.filter(|_| model.client.is_none()), cells }
    }
}

/// Returns the rows that a model is evaluated on, as split, client and rows. A client's own model is evaluated on the
/// held-out rows of that client only.
fn groups(rows: &EvalRows, own: Option<u32>) -> Vec<(Split, Option<u32>, Arc<Rows>)> {
    let mut groups = Vec::new();
    if let Some(test) = &rows.test {
        groups.push((Split::Test, own, test.clone()));
    }
    for (index, client) in rows.clients.iter().enumerate() {
        let index = index as u32;
        if own.is_none_or(|own| own == index) && client.held_out.count() > 0 {
            groups.push((Split::HeldOut, Some(index), client.held_out.clone()));
        }
    }
    groups
}

impl EvalTables {
    /// Writes the tables into `out`, each atomically: `evaluations` and `generations`, and if there are benchmarks the one in
    /// the paper's layout as `table.txt` and `table.csv`.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, out: &Path) -> Result<(), RunError> {
        write_table(&file_of::<EvaluationRow>(out), &self.evaluations)?;
        write_table(&file_of::<GenerationRow>(out), &self.generations)?;
        if self.table.is_empty() {
            return Ok(());
        }
        for (name, text) in [("table.txt", self.table.to_text()), ("table.csv", self.table.to_csv())] {
            let path = out.join(name);
            atomic::write(&path, text.as_bytes()).map_err(LedgerError::io(&path))?;
        }
        Ok(())
    }

    /// Appends other results.
    pub fn extend(&mut self, others: &Self) {
        self.evaluations.extend_from_slice(&others.evaluations);
        self.generations.extend_from_slice(&others.generations);
        for row in &others.table.rows {
            self.table.add(row.clone());
        }
    }
}

fn file_of<T: ledger::Table>(out: &Path) -> PathBuf {
    out.join(format!("{}.parquet", T::NAME))
}
