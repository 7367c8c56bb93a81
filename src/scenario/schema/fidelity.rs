//! Defaults that depend on the scenario: those of the papers, or those of FedLLM-Bench's code.

use std::cell::Cell;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Source of the defaults of fields on which a method's paper and FedLLM-Bench's code differ.
///
/// Every such difference is a field, which a scenario can also set on its own. The resolved scenario has all of them
/// written out, and its `fidelity` has no further effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Fidelity {
    /// The rules of the papers.
    #[default]
    Papers,
    /// The rules of FedLLM-Bench's code, including its deviations from the papers.
    FedLlmBench,
}

/// Settings that the defaults of other fields depend on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::scenario) struct Reading {
    pub fidelity: Fidelity,
    /// Whether the method is SCAFFOLD, whose analysis requires plain gradient descent at the clients, without clipping, so
    /// that is its default.
    pub is_scaffold: bool,
}

thread_local! {
    /// Current settings. Serde passes no context to default functions, so they are set here while a scenario is read.
    static READING: Cell<Reading> = const { Cell::new(Reading { fidelity: Fidelity::Papers, is_scaffold: false }) };
}

/// Runs `body` with the defaults that belong to `reading`.
pub(in crate::scenario) fn under<T>(reading: Reading, body: impl FnOnce() -> T) -> T {
    // A guard restores the previous settings even if `body` panics.
    struct Restoring(Reading);
    impl Drop for Restoring {
        fn drop(&mut self) {
            READING.set(self.0);
        }
    }
    let _restoring = Restoring(READING.replace(reading));
    body()
}

thread_local! {
    /// Whether fields are written even if they have their defaults.
    static WRITES_ALL: Cell<bool> = const { Cell::new(false) };
}

/// Runs `body`, which writes a scenario, so that fields are written whose defaults depend on `fidelity`: what is written
/// then means the same under either.
pub(in crate::scenario) fn written_out<T>(body: impl FnOnce() -> T) -> T {
    struct Restoring;
    impl Drop for Restoring {
        fn drop(&mut self) {
            WRITES_ALL.set(false);
        }
    }
    let _restoring = Restoring;
    WRITES_ALL.set(true);
    body()
}

/// Returns whether fields with their defaults are written too.
pub(super) fn writes_all() -> bool {
    WRITES_ALL.get()
}

/// Returns the first value under the papers' rules and the second under FedLLM-Bench's.
pub(super) fn choose<T>(papers: T, published: T) -> T {
    match READING.get().fidelity {
        Fidelity::Papers => papers,
        Fidelity::FedLlmBench => published,
    }
}

/// Returns whether plain gradient descent is the default, without clipping.
pub(super) fn wants_plain_descent() -> bool {
    READING.get() == Reading { fidelity: Fidelity::Papers, is_scaffold: true }
}
