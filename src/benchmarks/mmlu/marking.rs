//! Questions asked and marked: the likeliest letter against the right one, and accuracies of it.

use serde::{Deserialize, Serialize};

use super::prompt::{LETTERS, asked, preamble};
use super::questions::Subject;
use super::subjects::Category;
use crate::generation::{Choices, GenerationError};

/// One question, marked.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// Index of its subject.
    pub subject: usize,
    /// Its line in the subject's file.
    pub line: u64,
    /// The question as it was put, without the examples before it.
    pub asked: String,
    /// [examples] Examples shown before it: fewer than asked for where they would not fit the context.
    pub shots: usize,
    /// The letter chosen; none where not even the question alone fits the context.
    pub letter: Option<&'static str>,
    pub is_right: bool,
}

/// Right answers among those asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accuracy {
    pub right: u64,
    /// Questions, those that could not be asked included: they are wrong.
    pub asked: u64,
}

impl Accuracy {
    fn of<'a>(marks: impl Iterator<Item = &'a Mark>) -> Self {
        marks.fold(Self::default(), |sum, mark| Self {
            right: sum.right + u64::from(mark.is_right),
            asked: sum.asked + 1,
        })
    }

    /// [1] The share; none of no questions.
    pub fn share(self) -> Option<f64> {
        (self.asked > 0).then(|| self.right as f64 / self.asked as f64)
    }
}

/// Accuracies of one model. Each is over questions, as MMLU's own script adds up.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub subjects: Vec<(&'static str, Accuracy)>,
    pub categories: Vec<(Category, Accuracy)>,
    pub all: Accuracy,
    /// Questions that did not fit the context.
    pub failed: u64,
}

impl Report {
    /// Adds up the marks of these subjects.
    pub fn of(subjects: &[Subject], marks: &[Mark]) -> Self {
        let of_subject = |index: usize| Accuracy::of(marks.iter().filter(|mark| mark.subject == index));
        let of_category =
            |category: Category| Accuracy::of(marks.iter().filter(|mark| subjects[mark.subject].category == category));
        let categories = Category::ALL.map(|category| (category, of_category(category)));
        Self {
            subjects: subjects.iter().enumerate().map(|(index, subject)| (subject.name, of_subject(index))).collect(),
            categories: categories.into_iter().filter(|(_, accuracy)| accuracy.asked > 0).collect(),
            all: Accuracy::of(marks.iter()),
            failed: marks.iter().filter(|mark| mark.letter.is_none()).count() as u64,
        }
    }
}

/// Asks every question of `subjects`, after as many of its subject's examples as there are and fit.
///
/// # Errors
/// If the model cannot be computed, a letter is no single token, or the asking is interrupted.
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

/// As in MMLU's script, a question that is too long with all examples is asked with fewer.
fn mark_subject(subject: &Subject, model: &dyn Choices, marks: &mut [Mark]) -> Result<(), GenerationError> {
    let mut open: Vec<usize> = (0..marks.len()).collect();
    for shots in (0..=subject.examples.len()).rev() {
        let preamble = preamble(subject, shots);
        let prompts: Vec<String> = open.iter().map(|&place| preamble.clone() + &marks[place].asked).collect();
        let chosen = model.choose(&prompts, &LETTERS)?;
        for (&place, letter) in open.iter().zip(&chosen) {
            if let Some(letter) = *letter {
                let is_right = letter == subject.questions[place].1.answer;
                let mark = &mut marks[place];
                (mark.shots, mark.letter, mark.is_right) = (shots, Some(LETTERS[letter]), is_right);
            }
        }
        open.retain(|&place| marks[place].letter.is_none());
        if open.is_empty() {
            break;
        }
    }
    Ok(())
}
