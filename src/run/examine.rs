//! Evaluation of models: losses on a run's rows, and benchmarks. The results go into tables of their own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::examined::{Examined, ExaminedModel, ExaminedRows};
use super::room::{Room, Rules};
use super::rows::{EvaluatedModel, loss_row};
use super::{Observer, RunError, Settings};
use crate::evaluation::benchmark::{Cell, Row, Table};
use crate::evaluation::{Answered, Cost, Figure, Paper, Sheet, Witness};
use crate::ledger::{self, EvaluationRow, GenerationRow, LedgerError, write_table};
use crate::lineage::{Executor, Order, Rows, Value, Workshop};
use crate::store::atomic;

/// Name of the losses in column `benchmark`.
pub const LOSSES: &str = "losses";

/// Benchmark with its questions.
pub struct Opened {
    pub name: &'static str,
    pub paper: Box<dyn Paper>,
}

/// Results of an evaluation.
#[derive(Default)]
pub struct Findings {
    pub evaluations: Vec<EvaluationRow>,
    pub generations: Vec<GenerationRow>,
    /// Metrics of the benchmarks in the layout of FedLLM-Bench's paper.
    pub table: Table,
}

/// Evaluation of models that share a base.
pub struct Examination<'a> {
    pub examined: &'a Examined,
    pub settings: &'a Settings<'a>,
    pub rules: &'a Rules<'a>,
}

impl Examination<'_> {
    /// Computes the cost of each benchmark, over all models together.
    ///
    /// # Errors
    /// If a question has no tokens.
    pub fn costs(&self, papers: &[Opened], witness: &dyn Witness) -> Result<Vec<Cost>, RunError> {
        let room = self.room();
        let generator = room.generator(&[])?;
        let end = room.end();
        let mut costs = Vec::with_capacity(papers.len());
        for opened in papers {
            let mut sum = Cost::default();
            for model in &self.examined.models {
                // Nothing is generated. The adapter's hash alone decides which answers are cached and cost nothing.
                let examinee = room.examinee(&generator, None, model.hash(), witness);
                sum = sum.plus(opened.paper.cost(&room.sitting(&examinee, &end))?);
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
        papers: &[Opened],
        witness: &dyn Witness,
        each: &mut dyn FnMut(&Findings) -> Result<(), RunError>,
    ) -> Result<(), RunError> {
        // One pass answers many questions, so what workers there are become threads of its operations.
        self.examined.trainer.with_threads(self.settings.workers, || self.take_benchmarks(papers, witness, each))
    }

    fn take_benchmarks(
        &self,
        papers: &[Opened],
        witness: &dyn Witness,
        each: &mut dyn FnMut(&Findings) -> Result<(), RunError>,
    ) -> Result<(), RunError> {
        let adapters: Vec<_> = self.examined.models.iter().filter_map(|model| model.adapter.clone()).collect();
        let room = self.room();
        let (generator, end) = (room.generator(&adapters)?, room.end());
        for opened in papers {
            let mut adapter = 0..adapters.len();
            for model in &self.examined.models {
                let place = model.adapter.as_ref().map(|_| adapter.next().expect("each adapter has its place"));
                let examinee = room.examinee(&generator, place, model.hash(), witness);
                let sheet = opened.paper.sit(&room.sitting(&examinee, &end))?;
                each(&self.found(model, opened.name, sheet))?;
            }
        }
        Ok(())
    }

    /// Returns the set-up of the evaluated models.
    fn room(&self) -> Room<'_> {
        let Examined { trainer, tokeniser, end_tokens, prompts, sampling, seed, .. } = self.examined;
        Room {
            trainer,
            tokeniser,
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
    fn found(&self, model: &ExaminedModel, benchmark: &str, sheet: Sheet) -> Findings {
        let round = self.examined.round;
        let hash = model.hash().map(|hash| hash.to_string());
        let rows = SheetRows { round, version: round, subject: model.subject, client: model.client, hash, benchmark };
        Findings {
            evaluations: sheet.figures.iter().map(|figure| rows.figure(figure)).collect(),
            generations: sheet.answers.into_iter().map(|answered| rows.answer(answered)).collect(),
            table: Table { rows: vec![self.examined.row(model, sheet.cells)] },
        }
    }

    /// Computes the losses of every model on the run's rows: those of all clients, or for a client's own model those of the
    /// client.
    ///
    /// # Errors
    /// If a model cannot be computed or the evaluation is interrupted.
    pub fn losses(&self, rows: &ExaminedRows, observer: &mut dyn Observer) -> Result<Findings, RunError> {
        let workshop =
            Workshop::new(&self.examined.trainer, rows.unusable_update, &self.settings.store, self.settings.stop);
        let executor = Executor::new(std::slice::from_ref(&workshop), &self.settings.store, self.settings.stop, 1);
        observer.working(executor.counters());
        let evaluations = executor.run(self.settings.workers, || self.take_losses(rows, &executor))?;
        Ok(Findings { evaluations, ..Findings::default() })
    }

    /// Orders the losses of all models and collects them.
    fn take_losses(&self, rows: &ExaminedRows, executor: &Executor) -> Result<Vec<EvaluationRow>, RunError> {
        // All are demanded before the first is taken, so that the workers have them at once.
        let mut asked = Vec::new();
        for model in &self.examined.models {
            let adapter = model.adapter.clone().expect("the models of a run have adapters");
            let given = executor.add(Order::Given { adapter });
            for (split, client, group) in groups(rows, model.client) {
                let order = Order::Evaluate { model: given, groups: vec![group], objective: rows.objective };
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

impl Examined {
    /// Returns a model's row in the paper's layout. Only the server's model is compared with published figures.
    fn row(&self, model: &ExaminedModel, cells: Vec<Cell>) -> Row {
        let name = self.name.display();
        let is_run = self.rows.is_some();
        let name = match (is_run, model.client) {
            (true, Some(client)) => format!("{name}, round {}, client {client}", self.round),
            (true, None) => format!("{name}, round {}", self.round),
            (false, _) => name.to_string(),
        };
        Row { name, published_as: self.setting.filter(|_| model.client.is_none()), cells }
    }
}

/// Returns the rows that a model is evaluated on, as split, client and rows. A client's own model is evaluated on the
/// held-out rows of that client only.
fn groups(rows: &ExaminedRows, own: Option<u32>) -> Vec<(&'static str, Option<u32>, Arc<Rows>)> {
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

/// Identity of a benchmark result, from which its rows in the tables are made.
pub(super) struct SheetRows<'a> {
    pub round: u32,
    pub version: u32,
    pub subject: &'a str,
    pub client: Option<u32>,
    /// Hash of the model's adapter.
    pub hash: Option<String>,
    pub benchmark: &'a str,
}

impl SheetRows<'_> {
    /// Returns the row of a metric.
    pub fn figure(&self, figure: &Figure) -> EvaluationRow {
        EvaluationRow {
            round: self.round,
            version: self.version,
            subject: self.subject.into(),
            client: self.client,
            benchmark: self.benchmark.into(),
            split: figure.part.clone(),
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
    pub fn answer(&self, answered: Answered) -> GenerationRow {
        GenerationRow {
            round: self.round,
            subject: self.subject.into(),
            client: self.client,
            benchmark: self.benchmark.into(),
            question: answered.question,
            category: answered.category,
            turn: answered.turn,
            prompt: answered.prompt,
            answer: answered.answer,
            ended: answered.ended,
            tokens: answered.tokens,
            model_hash: self.hash.clone(),
            judgement: answered.judgement,
            score: answered.score,
        }
    }
}

impl Findings {
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
