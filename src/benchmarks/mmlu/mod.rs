//! MMLU: questions of 57 subjects with four choices each, answered by the most likely letter (Hendrycks et al. 2021).

mod benchmark;
mod marking;
mod questions;
mod subjects;
#[cfg(test)]
mod tests;

pub use benchmark::{Mmlu, result_of};
pub use marking::{Accuracy, Mark, Report, mark};
pub use questions::{LETTERS, MmluQuestion, QuestionFault, Subject, limited, read};
pub use subjects::{Category, SUBJECTS};
