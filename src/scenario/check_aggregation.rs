//! Checks of the rule that combines the updates of a round, and of clients that attack it: whether they go with the method, the
//! protocol and privacy, and whether a round has the updates that the rule needs.

use super::ScenarioError;
use super::quantity::Speed;
use super::schema::{
    AggregationSpec, Algorithm, AttackTiming, AttackingClients, OptimizerState, Protocol, ScenarioSpec,
};

/// Greatest number of iterations of a rule, which bounds its time.
const ITERATIONS_MAX: u32 = 1000;

/// Checks `server.aggregation`.
///
/// # Errors
/// The first fault, as field and message.
pub(super) fn check(scenario: &ScenarioSpec) -> Result<(), (String, String)> {
    let rule = &scenario.server.aggregation;
    if rule.is_mean() {
        return Ok(());
    }
    if let AggregationSpec::FlTrust { speed } = rule {
        check_root(scenario, *speed)?;
    }
    if let Some(reason) = clash(scenario) {
        return Err(("server.aggregation".into(), format!("{} {reason}", rule.name())));
    }
    if let AggregationSpec::GeometricMedian { iterations, .. } | AggregationSpec::CenteredClipping { iterations, .. } =
        rule
        && *iterations > ITERATIONS_MAX
    {
        return Err(("server.aggregation.iterations".into(), format!("it must be at most {ITERATIONS_MAX}")));
    }
    let (field, most) = match &scenario.server.protocol {
        Protocol::Synchronous { clients_per_round, .. }
        | Protocol::Tiered { clients_per_round, .. }
        | Protocol::Hierarchical { clients_per_round, .. } => ("clients_per_round", *clients_per_round),
        Protocol::Buffered { buffer_size, .. } => ("buffer_size", *buffer_size),
        Protocol::SemiSynchronous { .. } | Protocol::Asynchronous { .. } => return Ok(()),
    };
    match too_few(rule, u64::from(most)) {
        Some((parameter, message)) => Err((parameter, format!("{message}, and server.protocol.{field} is {most}"))),
        None => Ok(()),
    }
}

/// Checks what the server's own training needs.
///
/// # Errors
/// The first fault, as field and message.
fn check_root(scenario: &ScenarioSpec, speed: Speed) -> Result<(), (String, String)> {
    if speed.0 == 0 {
        return fault("server.aggregation.speed", "it must be above 0");
    }
    if scenario.data.synthetic.is_some() {
        return fault("server.aggregation", "FlTrust trains on rows, and data.synthetic has none");
    }
    if scenario.data.root_file.is_none() {
        return fault("data.root_file", "FlTrust needs a file of rows that the server trains on");
    }
    if scenario.training.optimizer_state == OptimizerState::Kept {
        return fault(
            "server.aggregation",
            "FlTrust does not go with optimizer_state: Kept: the server's optimizer begins anew",
        );
    }
    if !scenario.has_server_model() {
        let method = scenario.lora_method().name;
        let message =
            format!("FlTrust does not go with {method}: the server does not have what clients keep, to train with it");
        return Err(("server.aggregation".into(), message));
    }
    Ok(())
}

/// Checks that there are as many clients as the rule needs in a round that has at most one update of each.
///
/// # Errors
/// If there are not; the error names the field.
pub(super) fn check_clients(scenario: &ScenarioSpec, clients: usize) -> Result<(), ScenarioError> {
    if !matches!(
        scenario.server.protocol,
        Protocol::Synchronous { .. } | Protocol::Tiered { .. } | Protocol::Hierarchical { .. }
    ) {
        return Ok(());
    }
    match too_few(&scenario.server.aggregation, clients as u64) {
        Some((_, message)) => {
            let message = format!("{message}, and there are {clients} clients");
            Err(ScenarioError::Inputs { field: "server.aggregation", message })
        }
        None => Ok(()),
    }
}

/// Returns a warning if a round may succeed with fewer updates than the rule needs.
pub(super) fn doubt(scenario: &ScenarioSpec) -> Option<String> {
    let rule = &scenario.server.aggregation;
    let least = rule.least_updates();
    match scenario.server.protocol {
        Protocol::Synchronous { minimum, .. }
        | Protocol::SemiSynchronous { minimum, .. }
        | Protocol::Tiered { minimum, .. }
        | Protocol::Hierarchical { minimum, .. }
            if u64::from(minimum) < least =>
        {
            Some(format!(
                "server.protocol.minimum is {minimum}: rounds with fewer than {least} updates change nothing under {}; with \
                 minimum: {least} they are no rounds",
                rule.name()
            ))
        }
        _ => None,
    }
}

/// Returns the field and the reason if a round of this number of updates is too small for the rule.
fn too_few(rule: &AggregationSpec, updates: u64) -> Option<(String, String)> {
    let least = rule.least_updates();
    if updates >= least {
        return None;
    }
    let name = rule.name();
    let (parameter, why) = match rule {
        AggregationSpec::TrimmedMean { trim } => ("trim", format!("a share of {trim} of fewer is no update")),
        AggregationSpec::Krum { byzantine } | AggregationSpec::MultiKrum { byzantine, selected: None } => {
            ("byzantine", format!("2 x {byzantine} + 3"))
        }
        AggregationSpec::MultiKrum { byzantine, selected: Some(selected) } => {
            ("selected", format!("2 x {byzantine} + 3, and {selected} + {byzantine} + 2"))
        }
        AggregationSpec::Bulyan { byzantine } => ("byzantine", format!("4 x {byzantine} + 3")),
        _ => return None,
    };
    let message = format!("{name} needs a round of at least {least} updates ({why})");
    Some((format!("server.aggregation.{parameter}"), message))
}

/// Returns why a rule other than the mean does not go with the rest of the scenario, as the rest of a sentence that begins
/// with its name.
fn clash(scenario: &ScenarioSpec) -> Option<&'static str> {
    let is_centered = matches!(scenario.server.aggregation, AggregationSpec::CenteredClipping { .. });
    if scenario.privacy.is_some() {
        return Some("does not go with `privacy`: noise and epsilon are those of a sum of clipped updates");
    }
    match &scenario.algorithm {
        Algorithm::Scaffold { .. } => {
            return Some("does not go with SCAFFOLD: the clients' control variates would still be averaged");
        }
        Algorithm::Local | Algorithm::Centralised => return Some("has no updates to combine: nothing is aggregated"),
        _ if scenario.averages_products() => {
            return Some("combines updates of the factors; a mean of Products has none");
        }
        _ => {}
    }
    let is_trusting = matches!(scenario.server.aggregation, AggregationSpec::FlTrust { .. });
    match &scenario.server.protocol {
        protocol if is_trusting && !matches!(protocol, Protocol::Synchronous { .. }) => {
            Some("compares updates with the server's from the same model, as in the rounds of Synchronous")
        }
        Protocol::Asynchronous { .. } => {
            Some("compares the updates of a version, and Asynchronous has one in each; use Buffered")
        }
        Protocol::Hierarchical { .. } if is_centered => {
            Some("keeps a center from round to round, and edges begin anew from the server's model")
        }
        _ => None,
    }
}

/// Checks `attackers`.
///
/// # Errors
/// The first fault, as field and message.
pub(super) fn check_attackers(scenario: &ScenarioSpec) -> Result<(), (String, String)> {
    let Some(attackers) = &scenario.attackers else { return Ok(()) };
    match &scenario.algorithm {
        Algorithm::Scaffold { .. } => {
            return fault("attackers", "they do not go with SCAFFOLD: their control variates would be honest");
        }
        Algorithm::Local | Algorithm::Centralised => {
            return fault("attackers", "nothing is aggregated, so there is nothing to attack");
        }
        _ => {}
    }
    if matches!(scenario.server.protocol, Protocol::Asynchronous { .. }) {
        let reason = "they change updates, and Asynchronous mixes models; use Buffered(buffer_size: 1)";
        return fault("attackers", reason);
    }
    if attackers.timing == AttackTiming::SameBuffer && !matches!(scenario.server.protocol, Protocol::Buffered { .. }) {
        return fault("attackers.timing", "SameBuffer needs the buffer of server.protocol: Buffered");
    }
    if let AttackingClients::Ids(ids) = &attackers.clients {
        if ids.is_empty() {
            return fault("attackers.clients", "it must name at least one client");
        }
        let repeated = ids.iter().enumerate().find(|(index, id)| ids[..*index].contains(id));
        if let Some((_, id)) = repeated {
            return fault("attackers.clients", &format!("it names \"{id}\" twice"));
        }
    }
    Ok(())
}

fn fault(field: &str, message: &str) -> Result<(), (String, String)> {
    Err((field.to_owned(), message.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::share_of;

    #[track_caller]
    fn check(rule: AggregationSpec, least: u64) {
        assert_eq!(rule.least_updates(), least);
        assert_eq!(too_few(&rule, least), None);
        let found = too_few(&rule, least - 1);
        assert_eq!(found.is_some(), least > 1, "{found:?}");
    }

    #[test]
    fn each_rule_needs_the_updates_of_its_paper() {
        check(AggregationSpec::Median, 1);
        check(AggregationSpec::TrimmedMean { trim: 0.29 }, 4);
        // In binary, 0.29 times 100 is a little less than 29.
        assert_eq!([share_of(0.29, 100), share_of(0.29, 99), share_of(0.5, 7)], [29, 28, 3]);
        check(AggregationSpec::Krum { byzantine: 0 }, 3);
        check(AggregationSpec::Krum { byzantine: 2 }, 7);
        check(AggregationSpec::MultiKrum { byzantine: 2, selected: None }, 7);
        check(AggregationSpec::MultiKrum { byzantine: 2, selected: Some(3) }, 7);
        check(AggregationSpec::MultiKrum { byzantine: 2, selected: Some(6) }, 10);
        check(AggregationSpec::Bulyan { byzantine: 4 }, 19);
        check(AggregationSpec::Krum { byzantine: u32::MAX }, 2 * u64::from(u32::MAX) + 3);
        for (trim, least) in [(0.49, 3), (0.25, 4), (0.2, 5), (0.1, 10), (0.3, 4), (1e-3, 1000)] {
            check(AggregationSpec::TrimmedMean { trim }, least);
        }
        // A share of nothing that a round can have.
        assert!(AggregationSpec::TrimmedMean { trim: 1e-300 }.least_updates() > u64::from(u32::MAX));
    }
}
