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
use crate::ledger::{EvaluationRow, GenerationRow, LedgerError, write_table};
use crate::run::ledger_rows::{EvaluatedModel, loss_row};
use crate::run::{BenchmarkRows, Observer, RunError, RunOptions};
use crate::store::atomic;

/// Benchmark with its questions.
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
    pub examined: &'a EvalTarget,
    pub settings: &'a RunOptions<'a>,
    pub rules: &'a EvalOptions<'a>,
}

impl Evaluator<'_> {
    /// Computes the cost of each benchmark, over all models together.
    ///
    /// # Errors
    /// If a question has no tokens.
    pub fn costs(&self, benchmarks: &[OpenedBenchmark], witness: &dyn EvalProgress) -> Result<Vec<Cost>, RunError> {
        let room = self.room();
        let generator = room.generator(&[])?;
        let end = room.end();
        let mut costs = Vec::with_capacity(benchmarks.len());
        for opened in benchmarks {
            let mut sum = Cost::default();
            for model in &self.examined.models {
                // Nothing is generated. The adapter's hash alone decides which answers are cached and cost nothing.
                let examinee = room.examinee(&generator, None, model.hash(), witness);
                sum = sum.plus(opened.benchmark.cost(&room.context(&examinee, &end))?);
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
        witness: &dyn EvalProgress,
        each: &mut dyn FnMut(&EvalTables) -> Result<(), RunError>,
    ) -> Result<(), RunError> {
        // One pass answers many questions, so what workers there are become threads of its operations.
        self.examined.trainer.with_threads(self.settings.workers, || self.take_benchmarks(benchmarks, witness, each))
    }

    fn take_benchmarks(
        &self,
        benchmarks: &[OpenedBenchmark],
        witness: &dyn EvalProgress,
        each: &mut dyn FnMut(&EvalTables) -> Result<(), RunError>,
    ) -> Result<(), RunError> {
        let adapters: Vec<_> = self.examined.models.iter().filter_map(|model| model.adapter.clone()).collect();
        let room = self.room();
        let (generator, end) = (room.generator(&adapters)?, room.end());
        for opened in benchmarks {
            let mut adapter = 0..adapters.len();
            for model in &self.examined.models {
                let place = model.adapter.as_ref().map(|_| adapter.next().expect("each adapter has its place"));
                let examinee = room.examinee(&generator, place, model.hash(), witness);
                let sheet = opened.benchmark.evaluate(&room.context(&examinee, &end))?;
                each(&self.found(model, opened.name, sheet))?;
            }
        }
        Ok(())
    }

    /// Returns the set-up of the evaluated models.
    fn room(&self) -> EvalSetup<'_> {
        let EvalTarget { trainer, tokenizer, end_tokens, prompts, sampling, seed, .. } = self.examined;
        EvalSetup {
            trainer,
            tokenizer,
            end_tokens,
            prompts,
            sampling: *sampling,
            seed: *seed,
            store: &self.settings.store,
            stop: self.settings.stop,
            rules: self.rules,
        }
    }

    /// Returns the rows of one model's result on a benchmark.
    fn found(&self, model: &EvalModel, benchmark: &str, sheet: BenchmarkResult) -> EvalTables {
        let round = self.examined.round;
        let hash = model.hash().map(|hash| hash.to_string());
        let rows =
            BenchmarkRows { round, version: round, subject: model.subject, client: model.client, hash, benchmark };
        EvalTables {
            evaluations: sheet.figures.iter().map(|figure| rows.figure(figure)).collect(),
            generations: sheet.answers.into_iter().map(|answered| rows.answer(answered)).collect(),
            table: BenchmarkTable { rows: vec![self.examined.row(model, sheet.cells)] },
        }
    }

    /// Computes the losses of every model on the run's rows: those of all clients, or for a client's own model those of the
    /// client.
    ///
    /// # Errors
    /// If a model cannot be computed or the evaluation is interrupted.
    pub fn losses(&self, rows: &EvalRows, observer: &mut dyn Observer) -> Result<EvalTables, RunError> {
        let compute =
            Compute::new(&self.examined.trainer, rows.unusable_update, &self.settings.store, self.settings.stop);
        let executor = Executor::new(std::slice::from_ref(&compute), &self.settings.store, self.settings.stop, 1);
        observer.working(executor.counters());
        let evaluations = executor.run(self.settings.workers, || self.take_losses(rows, &executor))?;
        Ok(EvalTables { evaluations, ..EvalTables::default() })
    }

    /// Orders the losses of all models and collects them.
    fn take_losses(&self, rows: &EvalRows, executor: &Executor) -> Result<Vec<EvaluationRow>, RunError> {
        // All are demanded before the first is taken, so that the workers have them at once.
        let mut asked = Vec::new();
        for model in &self.examined.models {
            let adapter = model.adapter.clone().expect("the models of a run have adapters");
            let given = executor.add(Node::Given { adapter });
            for (split, client, group) in groups(rows, model.client) {
                let order = Node::Evaluate { model: given, groups: vec![group], objective: rows.objective };
                let order = executor.add(order);
                executor.demand(order);
                asked.push((model, split, client, order));
            }
        }
        let round = self.examined.round;
        let mut losses = Vec::with_capacity(asked.len());
        for (model, split, client, order) in asked {
            let Value::Evaluated(evaluated) = executor.take(order)? else {
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
fn groups(rows: &EvalRows, own: Option<u32>) -> Vec<(&'static str, Option<u32>, Arc<Rows>)> {
    let mut groups = Vec::new();
    if let Some(test) = &rows.test {
        groups.push(("test", own, test.clone()));
    }
    for (index, client) in rows.clients.iter().enumerate() {
        let index = index as u32;
        if own.is_none_or(|own| own == index) && client.held_out.count() > 0 {
            groups.push(("held_out", Some(index), client.held_out.clone()));
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
