//! Examines models: losses on a run's rows, and benchmarks; the results go into tables of their own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::target::{Examined, ExaminedModel, ExaminedRows};
use crate::benchmarks::{Cell, Cost, EvaluationError, Paper, Room, Row, Rules, Sheet, Table};
use crate::data::Rows;
use crate::generation::Witness;
use crate::graph::{Executor, Order, RowsLoss, Value, Workshop};
use crate::ledger;
use crate::ledger::{EvaluationRow, GenerationRow, LedgerError, write_table};
use crate::run::ledger_rows::{EvaluatedModel, loss_row};
use crate::run::{Observer, RunError, Settings, SheetRows};
use crate::store::atomic;

/// A benchmark with its questions.
pub struct Opened {
    pub name: &'static str,
    pub paper: Box<dyn Paper>,
}

/// What an examination gave.
#[derive(Default)]
pub struct Findings {
    pub evaluations: Vec<EvaluationRow>,
    pub generations: Vec<GenerationRow>,
    /// The benchmarks' figures in the paper's layout.
    pub table: Table,
}

/// An examination of the models of one base.
pub struct Examination<'a> {
    pub examined: &'a Examined,
    pub settings: &'a Settings<'a>,
    pub rules: &'a Rules<'a>,
}

impl Examination<'_> {
    /// What each benchmark will ask for, of all models together.
    ///
    /// # Errors
    /// If a question has no tokens.
    pub fn costs(&self, papers: &[Opened], witness: &dyn Witness) -> Result<Vec<Cost>, RunError> {
        let room = self.room();
        let (generator, end) = (room.generator(&[])?, room.end());
        let of = |opened: &Opened, model: &ExaminedModel| {
            // Nothing is generated, so only the hash of the adapter matters.
            let examinee = room.examinee(&generator, None, model.hash(), witness);
            opened.paper.cost(&room.sitting(&examinee, &end))
        };
        let of_all = |opened: &Opened| {
            let mut costs = self.examined.models.iter().map(|model| of(opened, model));
            costs.try_fold(Cost::default(), |sum, cost| Ok::<_, EvaluationError>(sum.plus(cost?)))
        };
        Ok(papers.iter().map(of_all).collect::<Result<_, _>>()?)
    }

    /// Puts the benchmarks to every model; `each` is told what was found, benchmark by benchmark.
    ///
    /// # Errors
    /// If a model cannot be computed or the examination is interrupted; answers until then are kept.
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

    fn room(&self) -> Room<'_> {
        let Examined { trainer, tokeniser, end_tokens, prompts, sampling, seed, .. } = self.examined;
        let Settings { store, stop, .. } = self.settings;
        let (sampling, seed) = (*sampling, *seed);
        Room { trainer, tokeniser, end_tokens, prompts, sampling, seed, store, stop, rules: self.rules }
    }

    fn found(&self, model: &ExaminedModel, benchmark: &str, sheet: Sheet) -> Findings {
        let round = self.examined.round;
        let hash = model.hash().map(|hash| hash.to_string());
        let (subject, client) = (model.subject, model.client);
        let rows = SheetRows { round, version: round, subject, client, hash, benchmark };
        Findings {
            evaluations: sheet.figures.iter().map(|figure| rows.figure(figure)).collect(),
            generations: sheet.answers.into_iter().map(|answered| rows.answer(answered)).collect(),
            table: Table { rows: vec![self.examined.row(model, sheet.cells)] },
        }
    }

    /// The losses of every model on the run's rows: all of a model of all, its own of a client's.
    ///
    /// # Errors
    /// If a model cannot be computed or the examination is interrupted.
    pub fn losses(&self, rows: &ExaminedRows, observer: &mut dyn Observer) -> Result<Findings, RunError> {
        let workshop =
            Workshop::new(&self.examined.trainer, rows.unusable_update, &self.settings.store, self.settings.stop);
        let executor = Executor::new(std::slice::from_ref(&workshop), &self.settings.store, self.settings.stop, 1);
        observer.working(executor.counters());
        let evaluations = executor.run(self.settings.workers, || self.take_losses(rows, &executor))?;
        Ok(Findings { evaluations, ..Findings::default() })
    }

    fn take_losses(&self, rows: &ExaminedRows, executor: &Executor) -> Result<Vec<EvaluationRow>, RunError> {
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
        let row = |(model, split, client, order): (&ExaminedModel, &str, Option<u32>, _)| {
            let Value::Evaluated(evaluated) = executor.take(order)? else {
                unreachable!("an evaluation gives losses");
            };
            let loss: &RowsLoss = &evaluated.groups[0];
            let hash = model.hash().expect("the models of a run have adapters").to_string();
            let subject = EvaluatedModel { round, version: round, subject: model.subject, client, hash: &hash };
            Ok(loss_row(subject, split, loss))
        };
        asked.into_iter().map(row).collect()
    }
}

impl Examined {
    /// A model's row in the paper's layout. Published figures stand beside the server's model alone.
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

/// The rows that a model is evaluated on: split, client, rows. A client's own model sees that client's alone.
fn groups(rows: &ExaminedRows, own: Option<u32>) -> Vec<(&'static str, Option<u32>, Arc<Rows>)> {
    let test = rows.test.iter().map(|test| ("test", own, test.clone()));
    let is_wanted = |client: u32| own.is_none_or(|own| own == client);
    let held_out = rows.clients.iter().enumerate().map(|(index, client)| (index as u32, client.held_out.clone()));
    let held_out = held_out.filter(|(client, rows)| is_wanted(*client) && rows.count() > 0);
    test.chain(held_out.map(|(client, rows)| ("held_out", Some(client), rows))).collect()
}

impl Findings {
    /// Writes the tables into `out`, each whole or not at all: `evaluations` and `generations`, and where benchmarks were
    /// taken the paper's as `table.txt` and `table.csv`.
    ///
    /// # Errors
    /// If the disk refuses.
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

    /// Adds others behind these.
    pub fn extend(&mut self, others: &Self) {
        self.evaluations.extend_from_slice(&others.evaluations);
        self.generations.extend_from_slice(&others.generations);
        others.table.rows.iter().for_each(|row| self.table.add(row.clone()));
    }
}

fn file_of<T: ledger::Table>(out: &Path) -> PathBuf {
    out.join(format!("{}.parquet", T::NAME))
}
