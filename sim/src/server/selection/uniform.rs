//! Uniform selection without replacement.

use super::View;
use crate::random::Permutation;

/// The first `wanted` candidates in the round's uniform order of all clients.
///
/// The order does not depend on who is a candidate, so two runs that differ in availability ask the same clients as
/// far as they can.
pub(super) fn select(view: View<'_>, wanted: u32) -> Vec<u32> {
    Permutation::new(view.stream, view.population)
        .filter(|client| (view.is_candidate)(*client))
        .take(wanted as usize)
        .collect()
}
