//! Checks and comparisons of finished runs: full replays, spot checks, signed statements, the differences between two runs, and the stored
//! results that runs still need.

mod certify;
mod diff;
mod replay;
mod retention;
mod spot_check;

pub use certify::{certify, default_statement};
pub use diff::{FirstDifference, diff};
pub use replay::replay;
pub use retention::Retention;
pub use spot_check::{SpotCheck, SpotCheckReport, sample};
