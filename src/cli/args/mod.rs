//! Options that several subcommands share, and what they stand for.

pub mod benchmarks;
pub mod eval;
pub mod judge;
pub mod run;
