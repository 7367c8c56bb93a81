//! MMLU's prompts. The wording is verbatim from github.com/hendrycks/test (MIT license), with its two spaces before the
//! subject, since it defines the benchmark.

use super::questions::{MmluQuestion, Subject};

/// The possible answers, in the order of the choices.
pub const LETTERS: [&str; 4] = ["A", "B", "C", "D"];

/// Returns the common beginning of all prompts of a subject, with its first `shots` examples.
pub fn preamble(subject: &Subject, shots: usize) -> String {
    let about = subject.name.replace('_', " ");
    let mut text = format!("The following are multiple choice questions (with answers) about  {about}.\n\n");
    for example in &subject.examples[..shots] {
        text += &asked(example);
        text += &format!(" {}\n\n", LETTERS[example.answer]);
    }
    text
}

/// Returns the question's part of the prompt, up to where the letter follows.
pub fn asked(question: &MmluQuestion) -> String {
    let choices = LETTERS.iter().zip(&question.choices).map(|(letter, choice)| format!("\n{letter}. {choice}"));
    question.text.clone() + &choices.collect::<String>() + "\nAnswer:"
}
