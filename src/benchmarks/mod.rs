//! Benchmarks of trained models: questions, prompts, responses, metrics and the table of scores.
//!
//! [`open()`] loads a benchmark as a [`Paper`]; [`Paper::sit`] runs it on an
//! [`Examinee`](crate::generation::Examinee), a model with cached answers, and returns a [`Sheet`] of metrics and
//! answers. Only [`crate::generation`] depends on LibTorch: benchmarks and judges see a
//! [`Model`](crate::generation::Model) that continues texts.

mod benchmark;
mod catalog;
mod error;
pub mod human_eval;
pub mod mmlu;
pub mod open_ended;
mod published;
mod registry;
mod result;
mod setup;
mod table;

pub use benchmark::{Cost, Paper, Sitting, Terms};
pub use catalog::{Benchmark, OpenEnded, UnknownBenchmark};
pub use error::EvaluationError;
pub use published::{PUBLISHED, Published, Setting};
pub use registry::{named, open};
pub(crate) use result::unfit;
pub use result::{Answered, Figure, Sheet};
pub(crate) use setup::Room;
pub use setup::Rules;
pub use table::{Cell, Row, Table};
