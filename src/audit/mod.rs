//! Checks and compares finished runs: replays them, computes a sample of them again, says where two differ, and finds
//! which stored results are still needed.

mod diff;
mod replay;
mod retention;
mod spot_check;

pub use diff::{Parting, diff};
pub use replay::replay;
pub use retention::Kept;
pub use spot_check::{Sample, Sampled, sample};
