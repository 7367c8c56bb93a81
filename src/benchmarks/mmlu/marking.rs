//! Scoring of MMLU: compares the most likely letter with the right one, and computes accuracies.

use serde::{Deserialize, Serialize};

use super::questions::Subject;
use super::questions::{LETTERS, asked, preamble};
use super::subjects::Category;
use crate::generation::{Choices, GenerationError};

/// The result of one question.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// Index of the subject.
    pub subject: usize,
    /// Line in the subject's file.
    pub line: u64,
    /// The question's part of the prompt, without the examples.
    pub asked: String,
    /// Number of examples in the prompt, which is reduced if they do not fit the context.
    pub shots: usize,
    /// The chosen letter. `None` if not even the question alone fits the context.
    pub letter: Option<&'static str>,
    pub is_right: bool,
}

/// Counts of right answers and of questions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accuracy {
    pub right: u64,
    /// Number of questions. Those that do not fit the context are included and count as wrong.
    pub asked: u64,
}

impl Accuracy {
    fn of<'a>(marks: impl Iterator<Item = &'a Mark>) -> Self {
        let mut accuracy = Self::default();
        for mark in marks {
            accuracy.right += u64::from(mark.is_right);
            accuracy.asked += 1;
        }
        accuracy
    }

    /// [1] -- Returns the share of right answers. `None` if there are no questions.
    pub fn share(self) -> Option<f64> {
        (self.asked > 0).then(|| self.right as f64 / self.asked as f64)
    }
}

/// Accuracies of one model. Each is a mean over questions, not over subjects, as in MMLU's own script.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub subjects: Vec<(&'static str, Accuracy)>,
    pub categories: Vec<(Category, Accuracy)>,
    pub all: Accuracy,
    /// Number of questions that did not fit the context.
    pub failed: u64,
}

impl Report {
    /// Computes the accuracies by subject, by category (those with questions), and over all questions.
    pub fn of(subjects: &[Subject], marks: &[Mark]) -> Self {
        let mut by_subject = Vec::with_capacity(subjects.len());
        for (index, subject) in subjects.iter().enumerate() {
            by_subject.push((subject.name, Accuracy::of(marks.iter().filter(|mark| mark.subject == index))));
        }
        let mut by_category = Vec::new();
        for category in Category::ALL {
            let marks = marks.iter().filter(|mark| subjects[mark.subject].category == category);
            let accuracy = Accuracy::of(marks);
            if accuracy.asked > 0 {
                by_category.push((category, accuracy));
            }
        }
        let failed = marks.iter().filter(|mark| mark.letter.is_none()).count() as u64;
        Self { subjects: by_subject, categories: by_category, all: Accuracy::of(marks.iter()), failed }
    }
}

/// Has the model answer every question of `subjects`, with as many of the subject's examples as fit.
///
/// # Errors
/// If the model fails, a letter is not a single token, or the evaluation is interrupted.
pub fn mark(subjects: &[Subject], model: &dyn Choices) -> Result<Vec<Mark>, GenerationError> {
    let mut marks = Vec::new();
    for (index, subject) in subjects.iter().enumerate() {
        let first = marks.len();
        marks.extend(subject.questions.iter().map(|(line, question)| Mark {
            subject: index,
            line: *line,
            asked: asked(question),
            shots: 0,
            letter: None,
            is_right: false,
        }));
        mark_subject(subject, model, &mut marks[first..])?;
    }
    Ok(marks)
}

/// Has the model answer the questions of one subject. As in MMLU's script, a question that is too long with all
/// examples is asked with fewer.
fn mark_subject(subject: &Subject, model: &dyn Choices, marks: &mut [Mark]) -> Result<(), GenerationError> {
    // All open questions are asked together, so that their common beginning is read once. Those that did not fit are
    // asked again with one example less.
    let mut open: Vec<usize> = (0..marks.len()).collect();
    for shots in (0..=subject.examples.len()).rev() {
        let preamble = preamble(subject, shots);
        let prompts: Vec<String> = open.iter().map(|&place| preamble.clone() + &marks[place].asked).collect();
        let chosen = model.choose(&prompts, &LETTERS)?;
        for (&place, letter) in open.iter().zip(&chosen) {
            if let Some(letter) = *letter {
                let mark = &mut marks[place];
                mark.shots = shots;
                mark.letter = Some(LETTERS[letter]);
                mark.is_right = letter == subject.questions[place].1.answer;
            }
        }
        open.retain(|&place| marks[place].letter.is_none());
        if open.is_empty() {
            break;
        }
    }
    Ok(())
}
