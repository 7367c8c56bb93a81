//! A scenario whose fields change in mid-run, as one scenario for each part of it; and which fields may change.

use super::check::{Fault, check};
use super::compare::{FieldDifference, field_differences};
use super::schema::{Algorithm, OptimizerState, Privacy, Protocol, Scenario, Selection};
use super::{Loaded, overrides};

/// The scenario that is in force from a round on.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    /// [rounds] The first round of the server in it.
    pub from_round: u32,
    pub scenario: Scenario,
}

/// The scenarios in force after each change of `scenario`; one that changes nothing makes no phase.
pub(super) fn phases(scenario: &Scenario) -> Result<Vec<Phase>, Fault> {
    let mut phases: Vec<Phase> = Vec::new();
    let mut last_round = 1;
    for (index, change) in scenario.changes.iter().enumerate() {
        let fault = |name: &str, message: String| (format!("changes.{index}.{name}"), message);
        if change.at_round <= last_round || change.at_round > scenario.rounds {
            let message = format!("it must be above {last_round}, and at most `rounds`, {}", scenario.rounds);
            return Err(fault("at_round", message));
        }
        last_round = change.at_round;
        let before = phases.last().map_or(scenario, |phase| &phase.scenario);
        let mut now = before.clone();
        for set in &change.set {
            now = overrides::apply(&now, set).map_err(|error| fault("set", error.to_string()))?;
        }
        check_changed(before, &now).map_err(|message| fault("set", message))?;
        check(&now).map_err(|(field, message)| fault("set", format!("{field}: {message}")))?;
        if now != *before {
            phases.push(Phase { from_round: change.at_round, scenario: now });
        }
    }
    Ok(phases)
}

/// Fields that can change in mid-run, with those below them.
const FREE: [&str; 12] = [
    "algorithm",
    "evaluation.every",
    "model.lora.dropout",
    "network.Topology.links",
    "server.downlink",
    "server.protocol",
    "server.selection",
    "server.uplink",
    "training.accumulation",
    "training.lr",
    "training.max_grad_norm",
    "training.optimizer",
];

/// Of the others, why not.
const FIXED: [(&str, &str); 9] = [
    ("changes", "a change may not change changes"),
    ("data", "rows are dealt and held out once"),
    ("execution", "it changes no result, so it is given to the run as a whole"),
    ("model", "all versions share the base and the shape of the first"),
    ("name", "it changes no result, so it is given to the run as a whole"),
    ("output", "it changes no result, so it is given to the run as a whole"),
    ("population", "clients, their devices and their own links are placed once"),
    ("seed", "every draw of the run follows from it"),
    ("training", "what a task costs its device, and which rows it reads, is settled once"),
];

/// Why a scenario cannot become this one in mid-run, if so.
fn check_changed(before: &Scenario, now: &Scenario) -> Result<(), String> {
    for FieldDifference { path, .. } in field_differences(before, now) {
        let is_at = |field: &str| path.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        // The schedule over rounds goes with the rate.
        let is_free = FREE.iter().any(|field| is_at(field)) || is_at("training.lr_schedule");
        if !is_free {
            let why = FIXED.iter().find(|(field, _)| is_at(field)).map_or("it is of the whole run", |(_, why)| why);
            return Err(format!("{path} cannot change in mid-run: {why}"));
        }
        let is_of_training = is_at("training") && !matches!(before.privacy, Some(Privacy::FedLlmBenchDp { .. }));
        if before.privacy.is_some() && !is_of_training && !is_at("evaluation") {
            return Err(format!(
                "{path} cannot change in mid-run under `privacy`: one mechanism is charged throughout"
            ));
        }
        if is_at("network") && !path.contains(".capacity") {
            return Err(format!("{path} cannot change in mid-run: of a network, only capacities can"));
        }
    }
    let is_apart = |scenario: &Scenario| matches!(scenario.algorithm, Algorithm::Local | Algorithm::Centralised);
    if before.algorithm != now.algorithm && (is_apart(before) || is_apart(now)) {
        return Err("algorithm cannot become or cease to be Local or Centralised in mid-run".into());
    }
    let is_poisson = |scenario: &Scenario| matches!(scenario.server.selection, Selection::Poisson { .. });
    if is_poisson(before) != is_poisson(now) {
        return Err("server.selection cannot become or cease to be Poisson in mid-run: its rounds wait for all".into());
    }
    let rules = [before, now].map(|scenario| std::mem::discriminant(&scenario.training.optimizer));
    if now.training.optimizer_state == OptimizerState::Kept && rules[0] != rules[1] {
        return Err(
            "training.optimizer cannot become one of another kind in mid-run where clients keep its moments".into()
        );
    }
    check_protocol(&before.server.protocol, &now.server.protocol)
}

/// Of a protocol, settings can change and its kind cannot.
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

impl Loaded {
    /// The scenario that is in force in a round of the server, from 1.
    pub fn at(&self, round: u32) -> &Scenario {
        let phase = self.phases.iter().rev().find(|phase| phase.from_round <= round);
        phase.map_or(&self.scenario, |phase| &phase.scenario)
    }

    /// Whether any part of the run selects clients by results.
    pub fn reads_results(&self) -> bool {
        let mut scenarios = std::iter::once(&self.scenario).chain(self.phases.iter().map(|phase| &phase.scenario));
        scenarios.any(|scenario| {
            matches!(scenario.server.selection, Selection::PowerOfChoice { .. } | Selection::Oort { .. })
        })
    }
}
