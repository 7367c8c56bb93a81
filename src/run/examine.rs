//! Examines models: losses on a run's rows, and benchmarks; the results go into tables of their own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fedreplay_sim::Seed;

use super::examined::{Examined, ExaminedModel, ExaminedRows};
use super::rows::{EvaluatedModel, loss_row};
use super::{RunError, Settings};
use crate::adapter::Adapter;
use crate::dataset::Prompts;
use crate::evaluation::benchmark::{Decoding, JudgeWording, Prompting, RatingRange};
use crate::evaluation::generation::Generator;
use crate::evaluation::judge::Judge;
use crate::evaluation::{Answered, Cost, EvaluationError, Examinee, Figure, Identity, Paper, Sheet, Sitting, Witness};
use crate::ledger::{EvaluationRow, GenerationRow, Table, write_table};
use crate::lineage::{Executor, Order, Rows, RowsLoss, Value, Workshop};
use crate::store::{Digest, key_of};

/// Name of the losses among benchmarks.
pub const LOSSES: &str = "losses";

/// A benchmark with its questions.
pub struct Opened {
    pub name: &'static str,
    pub paper: Box<dyn Paper>,
}

/// How benchmarks are taken and judged.
#[derive(Default)]
pub struct Rules<'a> {
    pub judge: Option<Judge<'a>>,
    pub wording: JudgeWording,
    /// Whether all is done as in FedLLM-Bench's scripts.
    pub is_as_published: bool,
}

/// What an examination gave.
#[derive(Default)]
pub struct Findings {
    pub evaluations: Vec<EvaluationRow>,
    pub generations: Vec<GenerationRow>,
}

/// [sequences] Answers generated at a time, and prompts read at a time.
const SLOTS: usize = 16;

/// An examination of the models of one base.
pub struct Examination<'a> {
    pub examined: &'a Examined,
    pub settings: &'a Settings<'a>,
    pub rules: &'a Rules<'a>,
}

impl Examination<'_> {
    /// What the benchmarks will ask for, each of one model.
    ///
    /// # Errors
    /// If a question has no tokens.
    pub fn costs(&self, papers: &[Opened], witness: &dyn Witness) -> Result<Vec<Cost>, RunError> {
        let generator = self.generator(&[])?;
        let examinee = self.examinee(&generator, None, Digest([0; 32]), witness);
        let end = self.end();
        let sitting = self.sitting(&examinee, &end);
        Ok(papers.iter().map(|opened| opened.paper.cost(&sitting)).collect::<Result<_, _>>()?)
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
        let adapters: Vec<_> = self.examined.models.iter().filter_map(|model| model.adapter.clone()).collect();
        let (generator, end) = (self.generator(&adapters)?, self.end());
        for opened in papers {
            let mut adapter = 0..adapters.len();
            for model in &self.examined.models {
                let place = model.adapter.as_ref().map(|_| adapter.next().expect("each adapter has its place"));
                let examinee = self.examinee(&generator, place, self.identity(model), witness);
                let sheet = opened.paper.sit(&self.sitting(&examinee, &end))?;
                each(&self.found(model, opened.name, sheet))?;
            }
        }
        Ok(())
    }

    fn generator(&self, adapters: &[Arc<Adapter>]) -> Result<Generator<'_>, RunError> {
        let Examined { trainer, tokeniser, end_tokens, seed, .. } = self.examined;
        let generator = Generator::new(trainer, tokeniser, end_tokens.clone(), adapters, Seed(*seed), SLOTS);
        Ok(generator.map_err(EvaluationError::from)?)
    }

    fn examinee<'e, 'g>(
        &'e self,
        generator: &'e Generator<'g>,
        adapter: Option<usize>,
        identity: Digest,
        witness: &'e dyn Witness,
    ) -> Examinee<'e, 'g> {
        Examinee {
            generator,
            adapter,
            identity,
            is_grouped: !self.examined.trainer.reads_alone(),
            store: &self.settings.store,
            stop: self.settings.stop,
            witness,
        }
    }

    /// The text of the token that ends an answer.
    fn end(&self) -> String {
        let tokeniser = &self.examined.tokeniser;
        tokeniser.token(tokeniser.eos()).unwrap_or_default()
    }

    fn sitting<'s, 'g>(&'s self, examinee: &'s Examinee<'s, 'g>, end: &'s str) -> Sitting<'s, 'g> {
        let is_as_published = self.rules.is_as_published;
        let prompting = match &self.examined.prompts {
            Prompts::Template(template) => Prompting::Template { template, end },
            Prompts::Chat(template) => Prompting::Chat(template),
        };
        Sitting {
            examinee,
            prompting,
            decoding: if is_as_published { Decoding::AsRun } else { Decoding::AsWritten },
            judge: self.rules.judge.as_ref(),
            wording: &self.rules.wording,
            range: if is_as_published { RatingRange::Any } else { RatingRange::OneToTen },
            is_as_published,
            stop: self.settings.stop,
        }
    }

    fn identity(&self, model: &ExaminedModel) -> Digest {
        let Examined { trainer, tokeniser, end_tokens, seed, .. } = self.examined;
        let class = trainer.numerics_class();
        let identity = Identity {
            base: Digest(*trainer.base_hash().as_bytes()),
            adapter: model.hash(),
            tokenizer: Digest(*tokeniser.content_hash().as_bytes()),
            numerics: format!("{class:?}, {} at a time", if trainer.reads_alone() { 0 } else { SLOTS }),
            end_tokens: end_tokens.iter().copied().collect(),
            seed: *seed,
        };
        key_of("fedreplay examinee v1", &identity).0
    }

    fn found(&self, model: &ExaminedModel, benchmark: &str, sheet: Sheet) -> Findings {
        let round = self.examined.round;
        let rows = SheetRows { round, version: round, model, benchmark };
        Findings {
            evaluations: sheet.figures.iter().map(|figure| rows.figure(figure)).collect(),
            generations: sheet.answers.into_iter().map(|answered| rows.answer(answered)).collect(),
        }
    }

    /// The losses of every model on the run's rows: all of a model of all, its own of a client's.
    ///
    /// # Errors
    /// If a model cannot be computed or the examination is interrupted.
    pub fn losses(&self, rows: &ExaminedRows) -> Result<Findings, RunError> {
        let workshop = Workshop::new(&self.examined.trainer, rows.unusable_update, &self.settings.store);
        let executor = Executor::new(&workshop, &self.settings.store, self.settings.stop, 1);
        let evaluations = executor.run(self.settings.workers, || self.take_losses(rows, &executor))?;
        Ok(Findings { evaluations, generations: vec![] })
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

/// The rows that a model is evaluated on: split, client, rows. A client's own model sees that client's alone.
fn groups(rows: &ExaminedRows, own: Option<u32>) -> Vec<(&'static str, Option<u32>, Arc<Rows>)> {
    let test = rows.test.iter().map(|test| ("test", own, test.clone()));
    let is_wanted = |client: u32| own.is_none_or(|own| own == client);
    let held_out = rows.clients.iter().enumerate().map(|(index, client)| (index as u32, client.held_out.clone()));
    let held_out = held_out.filter(|(client, rows)| is_wanted(*client) && rows.count() > 0);
    test.chain(held_out.map(|(client, rows)| ("held_out", Some(client), rows))).collect()
}

/// A sheet's entries as rows of the tables.
pub(super) struct SheetRows<'a> {
    pub round: u32,
    pub version: u32,
    pub model: &'a ExaminedModel,
    pub benchmark: &'a str,
}

impl SheetRows<'_> {
    pub fn figure(&self, figure: &Figure) -> EvaluationRow {
        EvaluationRow {
            round: self.round,
            version: self.version,
            subject: self.model.subject.into(),
            client: self.model.client,
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
            model_hash: self.model.hash().map(|hash| hash.to_string()),
        }
    }

    pub fn answer(&self, answered: Answered) -> GenerationRow {
        GenerationRow {
            round: self.round,
            subject: self.model.subject.into(),
            client: self.model.client,
            benchmark: self.benchmark.into(),
            question: answered.question,
            category: answered.category,
            turn: answered.turn,
            prompt: answered.prompt,
            answer: answered.answer,
            ended: answered.ended.into(),
            tokens: answered.tokens,
            model_hash: self.model.hash().map(|hash| hash.to_string()),
            judgement: answered.judgement,
            score: answered.score,
        }
    }
}

impl Findings {
    /// Writes both tables into `out`, each whole or not at all.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn write(&self, out: &Path) -> Result<(), RunError> {
        write_table(&file_of::<EvaluationRow>(out), &self.evaluations)?;
        Ok(write_table(&file_of::<GenerationRow>(out), &self.generations)?)
    }

    /// Adds others behind these.
    pub fn extend(&mut self, others: &Self) {
        self.evaluations.extend_from_slice(&others.evaluations);
        self.generations.extend_from_slice(&others.generations);
    }
}

fn file_of<T: Table>(out: &Path) -> PathBuf {
    out.join(format!("{}.parquet", T::NAME))
}
