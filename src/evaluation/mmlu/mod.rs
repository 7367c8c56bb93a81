//! MMLU: questions of 57 subjects with four choices each, answered by the most likely letter (Hendrycks et al. 2021).

mod marking;
mod prompt;
mod questions;
mod sheet;
mod subjects;
#[cfg(test)]
mod tests;

pub use marking::{Accuracy, Mark, Report, mark};
pub use prompt::LETTERS;
pub use questions::{Question, QuestionFault, Subject, limited, read};
pub use sheet::{Mmlu, sheet};
pub use subjects::{Category, SUBJECTS};
