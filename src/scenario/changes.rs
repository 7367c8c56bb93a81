//! Changes of a scenario during a run: the sequence of scenarios in force, and the rules for which fields may change.

use super::check::{Fault, check};
use super::compare::{FieldDifference, field_differences};
use super::schema::{AggregationSpec, Algorithm, OptimizerState, Privacy, Protocol, ScenarioSpec, Selection};
use super::{Scenario, overrides};

/// Scenario in force from a given round on.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    /// [round] -- First server round of the phase.
    pub from_round: u32,
    pub scenario: ScenarioSpec,
}

/// Returns the scenarios in force after each change of `scenario`. A change without effect starts no phase.
///
/// # Errors
/// If the rounds of the changes do not ascend within the run, a field may not change, or a result is invalid.
pub(super) fn phases(scenario: &ScenarioSpec) -> Result<Vec<Phase>, Fault> {
    let mut phases: Vec<Phase> = Vec::new();
    let mut last_round = 1;
    let basis = scenario.defaults_basis();
    for (index, change) in scenario.changes.iter().enumerate() {
        if change.at_round <= last_round || change.at_round > scenario.rounds {
            let message = format!("it must be above {last_round}, and at most `rounds`, {}", scenario.rounds);
            return Err(fault(index, "at_round", message));
        }
        last_round = change.at_round;
        // Changes accumulate: each applies to the scenario in force before it.
        let before = phases.last().map_or(scenario, |phase| &phase.scenario);
        let mut now = before.clone();
        for set in &change.set {
            now = overrides::apply(&now, set, basis).map_err(|error| fault(index, "set", error.to_string()))?;
        }
        check_changed(before, &now).map_err(|message| fault(index, "set", message))?;
        check(&now).map_err(|(field, message)| fault(index, "set", format!("{field}: {message}")))?;
        if now != *before {
            phases.push(Phase { from_round: change.at_round, scenario: now });
        }
    }
    Ok(phases)
}

/// Returns the fault in field `name` of the change at `index`.
fn fault(index: usize, name: &str, message: String) -> Fault {
    (format!("changes.{index}.{name}"), message)
}

/// Fields that may change during a run, each with all fields below it.
const FREE: [&str; 13] = [
    "algorithm",
    "evaluation.every",
    "model.lora.dropout",
    "network.Topology.links",
    "server.aggregation",
    "server.downlink",
    "server.protocol",
    "server.selection",
    "server.uplink",
    "training.accumulation",
    "training.lr",
    "training.max_grad_norm",
    "training.optimizer",
];

/// Reasons why other fields may not change.
const FIXED: [(&str, &str); 12] = [
    ("changes", "a change may not change changes"),
    ("data", "rows are partitioned and held out once"),
    ("federated_lora", "what clients have trained and keep is that of one method"),
    ("execution", "it changes no result, so it is given to the run as a whole"),
    ("model", "all versions share the base and the shape of the first"),
    ("name", "it changes no result, so it is given to the run as a whole"),
    ("output", "it changes no result, so it is given to the run as a whole"),
    ("population", "clients, their devices and their own links are placed once"),
    ("seed", "every draw of the run follows from it"),
    ("server.downlink_codec", "what a client's transfers take is settled once"),
    ("server.uplink_codec", "what clients remember is the error of one codec"),
    ("training", "what a task costs its device, and which rows it reads, is settled once"),
];

/// Checks that `before` may be replaced by `now` during a run.
///
/// # Errors
/// Why not, with the field.
fn check_changed(before: &ScenarioSpec, now: &ScenarioSpec) -> Result<(), String> {
    for FieldDifference { path, .. } in field_differences(before, now) {
        check_field(&path, before.privacy.as_ref())?;
    }
    if before.algorithm != now.algorithm && (is_baseline(&before.algorithm) || is_baseline(&now.algorithm)) {
        return Err("algorithm cannot become or cease to be Local or Centralised in mid-run".into());
    }
    if before.algorithm != now.algorithm && (before.algorithm.is_own_rule() || now.algorithm.is_own_rule()) {
        return Err("algorithm cannot become, cease to be or change Python or Custom in mid-run: one rule is loaded, and its state is its own".into());
    }
    let was_poisson = matches!(before.server.selection.get(), Selection::Poisson { .. });
    let is_poisson = matches!(now.server.selection.get(), Selection::Poisson { .. });
    // Rounds with Poisson sampling have no fixed size, so they wait for all their clients.
    if was_poisson != is_poisson {
        return Err("server.selection cannot become or cease to be Poisson in mid-run: its rounds wait for all".into());
    }
    // The saved moments of one optimizer mean nothing to another.
    let old_optimizer = std::mem::discriminant(&before.training.optimizer.get());
    let new_optimizer = std::mem::discriminant(&now.training.optimizer.get());
    if now.training.optimizer_state == OptimizerState::Kept && old_optimizer != new_optimizer {
        return Err(
            "training.optimizer cannot become one of another kind in mid-run where clients keep its moments".into()
        );
    }
    let has_root = |scenario: &ScenarioSpec| matches!(scenario.server.aggregation, AggregationSpec::FlTrust { .. });
    if before.server.aggregation != now.server.aggregation && (has_root(before) || has_root(now)) {
        return Err(
            "server.aggregation cannot become, cease to be or change FlTrust in mid-run: the server's own training is \
                    scheduled from the beginning"
                .into(),
        );
    }
    check_protocol(&before.server.protocol, &now.server.protocol)
}

/// Checks that the field at `path` may change during a run with these privacy settings.
fn check_field(path: &str, privacy: Option<&Privacy>) -> Result<(), String> {
    // "training.lr" does not cover its sibling "training.lr_schedule", which may change with the rate.
    let is_free = FREE.iter().any(|field| is_within(path, field)) || is_within(path, "training.lr_schedule");
    if !is_free {
        let reason = FIXED.iter().find(|(field, _)| is_within(path, field));
        let why = reason.map_or("it applies to the whole run", |(_, why)| why);
        return Err(format!("{path} cannot change in mid-run: {why}"));
    }
    // The accountant charges one mechanism for all rounds. Evaluation does not touch it, and neither does local
    // training, except under FedLLM-Bench's DP.
    let is_of_training = is_within(path, "training") && !matches!(privacy, Some(Privacy::FedLlmBenchDp { .. }));
    if privacy.is_some() && !is_of_training && !is_within(path, "evaluation") {
        return Err(format!("{path} cannot change in mid-run under `privacy`: one mechanism is charged throughout"));
    }
    if is_within(path, "network") && !path.contains(".capacity") {
        return Err(format!("{path} cannot change in mid-run: of a network, only capacities can"));
    }
    Ok(())
}

/// Returns whether the field at `path` is `field` or lies below it.
fn is_within(path: &str, field: &str) -> bool {
    path.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Returns whether nothing is aggregated under this method.
fn is_baseline(algorithm: &Algorithm) -> bool {
    matches!(algorithm, Algorithm::Local | Algorithm::Centralised)
}

/// Checks that only settings of the protocol change, not its kind.
fn check_protocol(before: &Protocol, now: &Protocol) -> Result<(), String> {
    if before == now {
        return Ok(());
    }
    if std::mem::discriminant(before) != std::mem::discriminant(now) {
        return Err("server.protocol cannot become one of another kind in mid-run".into());
    }
    match now {
        Protocol::Tiered { .. } | Protocol::Hierarchical { .. } => {
            Err("server.protocol cannot change in mid-run where it has tiers or edges: each is at a round of its own"
                .into())
        }
        _ => Ok(()),
    }
}

impl Scenario {
    /// Returns the scenario in force in a server round, counted from 1.
    pub fn at(&self, round: u32) -> &ScenarioSpec {
        let phase = self.phases.iter().rev().find(|phase| phase.from_round <= round);
        phase.map_or(&self.scenario, |phase| &phase.scenario)
    }

    /// Returns whether the server selects clients by their losses in any phase of the run.
    pub fn reads_results(&self) -> bool {
        let mut scenarios = std::iter::once(&self.scenario).chain(self.phases.iter().map(|phase| &phase.scenario));
        scenarios.any(|scenario| {
            matches!(scenario.server.selection.get(), Selection::PowerOfChoice { .. } | Selection::Oort { .. })
        })
    }
}
