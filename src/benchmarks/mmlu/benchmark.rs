//! MMLU's marks as figures and answers.

use std::path::Path;

use super::marking::{Accuracy, Mark, Report, mark};
use super::prompt::{asked, preamble};
use super::questions::{Question, Subject, limited, read};
use super::subjects::Category;
use crate::benchmarks::table::Cell;
use crate::benchmarks::{Answered, Cost, EvaluationError, Figure, Paper, Sheet, Sitting, Terms};
use crate::store::{Digest, key_of};

/// The figures by subject, by category and of all; and every question with its letter.
pub fn sheet(subjects: &[Subject], marks: &[Mark]) -> Sheet {
    let report = Report::of(subjects, marks);
    let failed = |wanted: &dyn Fn(&Subject) -> bool| {
        let lost = marks.iter().filter(|mark| mark.letter.is_none() && wanted(&subjects[mark.subject]));
        lost.count() as u64
    };
    let figure = |part: &str, accuracy: Accuracy, failed: u64| Figure {
        part: part.into(),
        asked: accuracy.asked,
        failed,
        score: accuracy.share(),
    };
    let by_subject =
        report.subjects.iter().map(|&(name, accuracy)| figure(name, accuracy, failed(&|one| one.name == name)));
    let by_category = report
        .categories
        .iter()
        .map(|&(category, accuracy)| figure(category.name(), accuracy, failed(&|one| one.category == category)));
    let all = std::iter::once(figure("all", report.all, report.failed));
    let answered = |mark: &Mark| Answered {
        question: format!("{}/{}", subjects[mark.subject].name, mark.line),
        category: subjects[mark.subject].name.into(),
        turn: 1,
        prompt: mark.asked.clone(),
        answer: mark.letter.map(str::to_owned),
        ended: if mark.letter.is_some() { "letter" } else { "context_full" }.into(),
        tokens: u32::from(mark.letter.is_some()),
        judgement: None,
        score: Some(f64::from(u8::from(mark.is_right))),
    };
    Sheet {
        figures: by_subject.chain(by_category).chain(all).collect(),
        answers: marks.iter().map(answered).collect(),
        cells: cells(&report),
    }
    .with_unfit_noted()
}

/// [percent] The columns of the paper's table: by category, then over all questions.
fn cells(report: &Report) -> Vec<Cell> {
    let cell = |column: String, accuracy: Accuracy| Cell::new(column, accuracy.share().map(|share| 100.0 * share));
    let of_category =
        |&(category, accuracy): &(Category, Accuracy)| cell(format!("MMLU {}", category.name()), accuracy);
    report.categories.iter().map(of_category).chain([cell("MMLU".into(), report.all)]).collect()
}

/// The questions of some subjects, to be put to models.
pub struct Mmlu {
    pub subjects: Vec<Subject>,
}

impl Mmlu {
    /// Reads the subjects' files.
    ///
    /// # Errors
    /// As [`read`].
    pub fn read(folder: &Path, terms: &Terms) -> Result<Self, EvaluationError> {
        let subjects = read(folder, terms.shots)?;
        Ok(Self { subjects: terms.limit.map_or(subjects.clone(), |limit| limited(subjects, limit)) })
    }
}

impl Paper for Mmlu {
    fn content(&self) -> Digest {
        let question = |question: &Question| (question.text.clone(), question.choices.clone(), question.answer as u64);
        let subject = |subject: &Subject| {
            let asked: Vec<_> = subject.questions.iter().map(|(line, one)| (*line, question(one))).collect();
            (subject.name, asked, subject.examples.iter().map(question).collect::<Vec<_>>())
        };
        key_of("fedreplay mmlu questions v1", &self.subjects.iter().map(subject).collect::<Vec<_>>()).0
    }

    fn cost(&self, sitting: &Sitting) -> Result<Cost, EvaluationError> {
        let mut cost = Cost::default();
        for subject in &self.subjects {
            let shared = preamble(subject, subject.examples.len());
            // What the questions share is read once.
            cost.prompt_tokens += sitting.examinee.generator.encode(&shared)?.len() as u64;
            for (_, question) in &subject.questions {
                cost.prompt_tokens += sitting.examinee.generator.encode(&asked(question))?.len() as u64;
            }
            cost.questions += subject.questions.len() as u64;
        }
        Ok(cost)
    }

    fn sit(&self, sitting: &Sitting) -> Result<Sheet, EvaluationError> {
        Ok(sheet(&self.subjects, &mark(&self.subjects, sitting.examinee)?))
    }
}
