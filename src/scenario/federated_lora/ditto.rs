//! Ditto: Li et al., "Ditto: Fair and Robust Federated Learning Through Personalization", ICML 2021, arXiv 2012.04221, algorithm 1. The
//! server's model is that of FedIT; each client has an adapter of its own besides, which is pulled toward the server's.

use super::{Averages, Clash, LoraMethod, apart, asynchronous};
use crate::adapter::Factors;
use crate::scenario::schema::ScenarioSpec;

pub(super) const METHOD: LoraMethod = LoraMethod {
    name: "Ditto",
    source: "arXiv 2012.04221",
    trains: |_, _| Factors::Both,
    sends: |_, _| Factors::Both,
    receives: |_, _, _| Factors::Both,
    keeps: |_| Factors::Both,
    trains_own_adapter: true,
    averages: Averages::Factors,
    takes_mixed_ranks: false,
    clash,
};

fn clash(scenario: &ScenarioSpec) -> Option<Clash> {
    if scenario.privacy.is_some() {
        return Some(("privacy", "each client's own adapter is evaluated and saved, which no noise protects"));
    }
    apart(scenario).or_else(|| {
        asynchronous(
            scenario,
            "a client's own adapter goes from task to task, and under other protocols tasks of one client may overlap",
        )
    })
}
