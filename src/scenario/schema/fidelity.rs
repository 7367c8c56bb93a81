//! Whose rules stand where a scenario names none: the papers', or those of FedLLM-Bench's code.

use std::cell::Cell;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a method's paper and FedLLM-Bench's code differ, which of the two a field has that the scenario leaves out.
///
/// Every such point is a field of its own, so single ones can be chosen under either; the resolved scenario has them all
/// written out, and this word is then only a note.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Fidelity {
    /// The rules of the papers.
    #[default]
    Papers,
    /// The rules of FedLLM-Bench's code, departures from the papers included.
    FedLlmBench,
}

/// What defaults of fields depend on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::scenario) struct Reading {
    pub fidelity: Fidelity,
    /// SCAFFOLD's analysis needs gradient descent at the clients, so that is its default.
    pub is_scaffold: bool,
}

thread_local! {
    /// Serde gives default functions no context, so it stands here while a scenario is being read, and never longer.
    static READING: Cell<Reading> = const { Cell::new(Reading { fidelity: Fidelity::Papers, is_scaffold: false }) };
}

/// Runs `body` with defaults as `reading` wants them.
pub(in crate::scenario) fn under<T>(reading: Reading, body: impl FnOnce() -> T) -> T {
    struct Restoring(Reading);
    impl Drop for Restoring {
        fn drop(&mut self) {
            READING.set(self.0);
        }
    }
    let _restoring = Restoring(READING.replace(reading));
    body()
}

/// The first value under the papers' rules, the second under FedLLM-Bench's.
pub(super) fn choose<T>(papers: T, published: T) -> T {
    match READING.get().fidelity {
        Fidelity::Papers => papers,
        Fidelity::FedLlmBench => published,
    }
}

/// Whether clients are to train by gradient descent where the scenario names no optimiser.
pub(super) fn wants_sgd() -> bool {
    READING.get() == Reading { fidelity: Fidelity::Papers, is_scaffold: true }
}
