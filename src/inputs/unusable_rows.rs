//! The error of data with rows that cannot be used.

use std::path::PathBuf;

/// All rows of a file that cannot be used and may not be left out.
#[derive(Debug, thiserror::Error)]
#[error("failed to use all rows of {}: {}", path.display(), kinds.join(", "))]
pub struct UnusableRows {
    pub(super) path: PathBuf,
    /// A clause for each kind of fault.
    pub(super) kinds: Vec<String>,
}
