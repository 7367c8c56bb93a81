//! Whom the server asks. Each policy states what it reads; those that read training results say so by
//! [`Selection::reads_results`], and the simulation then asks for them.

mod uniform;

use serde::{Deserialize, Serialize};

/// A selection policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Selection {
    /// Uniform without replacement. Reads nothing but who is a candidate.
    #[default]
    Uniform,
}

impl Selection {
    /// Whether the policy reads results of training.
    pub const fn reads_results(&self) -> bool {
        match self {
            Selection::Uniform => false,
        }
    }
}

/// What a selection may look at.
pub(crate) struct View<'a> {
    /// The stream of this draw.
    pub stream: crate::random::Stream,
    /// Number of clients.
    pub population: u32,
    /// Whether a client can be selected now.
    pub is_candidate: &'a dyn Fn(u32) -> bool,
}

impl Selection {
    /// Up to `wanted` candidates, ascending.
    pub(crate) fn select(&self, view: View<'_>, wanted: u32) -> Vec<u32> {
        let mut chosen = match self {
            Selection::Uniform => uniform::select(view, wanted),
        };
        chosen.sort_unstable();
        chosen
    }
}
