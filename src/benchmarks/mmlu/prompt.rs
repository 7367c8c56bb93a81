//! The text in which a question is put. Its wording is MMLU's own (github.com/hendrycks/test, MIT licence), verbatim with
//! its two spaces before the subject: it is the benchmark.

use super::questions::{Question, Subject};

/// The answers, in the order of the choices.
pub const LETTERS: [&str; 4] = ["A", "B", "C", "D"];

/// What stands before every question of a subject, with the first `shots` of its examples.
pub fn preamble(subject: &Subject, shots: usize) -> String {
    let about = subject.name.replace('_', " ");
    let mut text = format!("The following are multiple choice questions (with answers) about  {about}.\n\n");
    for example in &subject.examples[..shots] {
        text += &asked(example);
        text += &format!(" {}\n\n", LETTERS[example.answer]);
    }
    text
}

/// The question, up to where its letter follows.
pub fn asked(question: &Question) -> String {
    let choices = LETTERS.iter().zip(&question.choices).map(|(letter, choice)| format!("\n{letter}. {choice}"));
    question.text.clone() + &choices.collect::<String>() + "\nAnswer:"
}
