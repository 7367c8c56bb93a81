//! Summary of a run in sentences, and the facts that identify it.

use fedreplay_sim::Tally;

use super::learning::main_name;
use super::reported_run::ReportedRun;
use super::units;
use crate::ledger::{RunKind, RunState};
use crate::results::{Fairness, Learning, MainFigures};
use crate::scenario::{FederatedLora, Lora};

/// A named fact.
pub struct Fact {
    pub name: String,
    pub value: String,
    /// Whether the value is a hash, which is set in a monospaced font.
    pub is_hash: bool,
}

/// Describes the run in a few sentences, the most important first.
pub fn sentences(run: &ReportedRun, learning: &Learning, figures: &MainFigures) -> Vec<String> {
    let mut sentences = Vec::new();
    sentences.extend(state(run, figures));
    sentences.push(setting(run, figures));
    sentences.extend(learned(learning, figures));
    sentences.extend(fairness(learning, figures));
    sentences.extend(tasks(run, figures));
    sentences.push(cost(figures));
    sentences.extend(privacy(run, figures));
    sentences.extend(doubts(run, figures));
    for (role, left_out) in &run.record.manifest.left_out {
        sentences.extend(left_out.sentences(role).into_iter().map(|sentence| sentence + "."));
    }
    sentences
}

/// Says that the run is not finished. `None` if it is.
fn state(run: &ReportedRun, figures: &MainFigures) -> Option<String> {
    if run.record.manifest.state != RunState::Running {
        return None;
    }
    Some(format!(
        "This run is not finished: {} of {} rounds are in the ledger, and only they are shown.",
        figures.rounds, run.record.manifest.rounds
    ))
}

/// Describes population, method, protocol and duration.
fn setting(run: &ReportedRun, figures: &MainFigures) -> String {
    let what = match run.record.manifest.kind {
        RunKind::Run => "trained",
        RunKind::Plan => "would train (this is a plan: times without training)",
    };
    format!(
        "{} {what} by {}, {}, in {} and {} of virtual time{}.",
        counted(run.record.clients() as u64, "client"),
        method(run),
        protocol(run),
        counted(figures.rounds as u64, "round"),
        units::span(figures.simulated_ns),
        match figures.failed_rounds {
            0 => String::new(),
            failed => format!("; {} made no version", counted(failed as u64, "round")),
        }
    )
}

/// Compares the loss before and after training. `None` if it was not measured.
fn learned(learning: &Learning, figures: &MainFigures) -> Option<String> {
    let before = figures.loss_before?;
    let after = figures.loss_after?;
    let name = main_name(learning);
    let unit = learning.unit();
    let went = if after < before { "fell" } else { "did not fall: it went" };
    let whose = if learning.is_local { "The clients' own models'" } else { "The server model's" };
    let mut text = format!("{whose} {name} {went} from {before:.4} to {after:.4} {unit}");
    if let Some(alone) = figures.loss_alone {
        text += &format!("; clients trained alone come to {alone:.4} on the same rows");
    }
    if let (Some(before), Some(after)) = (figures.accuracy_before, figures.accuracy_after) {
        text += &format!("; pairs ranked right went from {:.1} % to {:.1} %", 100.0 * before, 100.0 * after);
    }
    Some(text + ".")
}

/// Compares the clients with each other, and with the models that they trained alone. `None` if there are not several.
fn fairness(learning: &Learning, figures: &MainFigures) -> Option<String> {
    let losses = figures.fairness?;
    let unit = learning.unit();
    let last = learning.points.last().filter(|point| point.clients.len() > 1)?;
    let mut text = format!(
        "On their own held-out rows the mean client ends at {:.4} {unit} and the worst tenth at {:.4}",
        losses.mean, losses.worst_decile
    );
    let alone = learning.alone_losses();
    let mut all = 0;
    let mut worse = 0;
    for (client, loss) in &last.clients {
        if let Some(alone) = alone.get(client) {
            all += 1;
            worse += u64::from(loss > alone);
        }
    }
    if all > 0 {
        text += &format!("; {worse} of {all} clients would have been better off alone");
    }
    if let Some(own) = learning.personal.last().and_then(Fairness::of) {
        text += &format!(
            "; with the clients' own models, the mean client ends at {:.4} and the worst tenth at {:.4}",
            own.mean, own.worst_decile
        );
    }
    if let Some(tuned) = learning.fine_tuned.as_ref().and_then(Fairness::of) {
        text += &format!(
            "; with the last model fine-tuned on its own rows, the mean client comes to {:.4} and the worst tenth to {:.4}",
            tuned.mean, tuned.worst_decile
        );
    }
    Some(text + ".")
}

/// Counts the tasks by their outcome. `None` if there are none.
fn tasks(run: &ReportedRun, figures: &MainFigures) -> Option<String> {
    let tasks = &figures.tasks;
    let dispatched = figures.dispatched;
    if dispatched == 0 {
        return None;
    }
    let share = 100.0 * tasks.of(Tally::Counted) as f64 / dispatched as f64;
    let clients = figures.clients.map_or(String::new(), |clients| {
        format!(" They came from {} of {}.", grouped(clients.counted), counted(run.record.clients() as u64, "client"))
    });
    Some(format!(
        "Of {} {} counted ({share:.0} %), {} came late, {} dropped out and {} were cancelled.{clients}",
        counted(dispatched, "task"),
        grouped(tasks.of(Tally::Counted)),
        grouped(tasks.of(Tally::Late)),
        grouped(tasks.of(Tally::Dropped)),
        grouped(tasks.of(Tally::Cancelled))
    ))
}

/// States traffic and energy.
fn cost(figures: &MainFigures) -> String {
    let spent = figures.energy_kwh.filter(|&kwh| kwh > 0.0);
    let carbon = figures.carbon_g.map_or(String::new(), |grams| format!(", {} g of CO2", three_digits(grams)));
    let energy =
        spent.map_or(String::new(), |kwh| format!("; devices spent {} kWh on tasks{carbon}", three_digits(kwh)));
    let down = units::bytes(figures.moved.down);
    let up = units::bytes(figures.moved.up);
    format!("{down} went down to clients and {up} up{energy}.")
}

/// States the privacy that was spent. `None` if the scenario has no protection.
fn privacy(run: &ReportedRun, figures: &MainFigures) -> Option<String> {
    let scenario = serde_json::to_value(run.scenario.privacy?).ok()?;
    let delta = scenario.pointer("/UserLevel/delta").and_then(serde_json::Value::as_f64);
    Some(match (delta, figures.epsilon.filter(|epsilon| epsilon.is_finite())) {
        (Some(delta), Some(epsilon)) => {
            format!("Clients are protected: epsilon {epsilon:.4} was spent at delta {delta}.")
        }
        _ => "Noise was added without any guarantee: the true epsilon is infinite.".into(),
    })
}

/// Lists what a reader must not overlook. `None` if there is nothing.
fn doubts(run: &ReportedRun, figures: &MainFigures) -> Option<String> {
    let mut doubts = Vec::new();
    if figures.unusable > 0 {
        let unusable = figures.unusable;
        let good = figures.tasks.of(Tally::Counted);
        doubts.push(format!("{unusable} of {good} updates could not be used and got weight 0."));
    }
    if let Some(twin) = twin(run) {
        doubts.push(format!("The data is a synthetic twin of {twin}, not the dataset itself."));
    }
    if run.record.tasks.task.is_empty() && figures.dispatched > 0 {
        doubts.push("No task was recorded (`--detail rounds`), so that figures of tasks are left out.".into());
    }
    (!doubts.is_empty()).then(|| doubts.join(" "))
}

/// Returns the name of the dataset whose synthetic twin the data is. `None` for other data.
fn twin(run: &ReportedRun) -> Option<&str> {
    run.record.manifest.inputs.keys().find_map(|role| role.strip_prefix("synthetic_twin_of_"))
}

/// Returns the fact `name`.
fn fact(name: &str, value: String) -> Fact {
    Fact { name: name.into(), value, is_hash: false }
}

/// Returns the fact `name`, which is a hash.
fn hash(name: &str, value: String) -> Fact {
    Fact { name: name.into(), value, is_hash: true }
}

/// Returns the facts that identify a run: hashes, scenario, model, data, grade.
pub fn facts(run: &ReportedRun) -> Vec<Fact> {
    let manifest = &run.record.manifest;
    let mut facts = vec![
        hash(
            "digest",
            manifest.digest.map_or_else(|| "none yet: the run is not finished".into(), |digest| digest.to_string()),
        ),
        fact("scenario", manifest.name.clone()),
        hash("scenario hash", manifest.scenario_hash.to_string()),
        fact("seed", manifest.seed.to_string()),
        fact("method", method(run)),
        fact("protocol", protocol(run)),
        fact("adapter", adapter(&run.scenario.model.lora)),
        fact("determinism grade", manifest.grade.clone()),
        fact("numerics", manifest.numerics_class.clone()),
        fact("made by", format!("fedreplay {}, schema {}", manifest.fedreplay_version, manifest.schema_version)),
    ];
    let starts_trained = manifest.inputs.contains_key("reference_adapter");
    if let Some(reference) = run.scenario.training.objective.reference_model(starts_trained) {
        facts.push(fact("reference model", reference.into()));
    }
    for (role, input) in &manifest.inputs {
        // Only the name: a report must not contain paths of the machine.
        let name = input.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        facts.push(fact(&role.replace('_', " "), name));
        facts.push(hash(&format!("{} hash", role.replace('_', " ")), input.hash.to_string()));
    }
    facts
}

/// Returns the name of an enum's variant, as scenarios write it.
fn variant(value: &impl serde::Serialize) -> String {
    // Serde represents a variant without fields as its name, and one with fields as a map from its name.
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        Ok(serde_json::Value::Object(fields)) => fields.keys().next().cloned().unwrap_or_default(),
        _ => String::new(),
    }
}

/// Describes the shape of the adapter, with the ranks of devices that have lower ones.
fn adapter(lora: &Lora) -> String {
    let mut ranks = lora.rank.to_string();
    for (class, rank) in &lora.ranks {
        ranks += &format!(" ({class}: {rank})");
    }
    format!("LoRA, rank {ranks}, alpha {}", lora.alpha)
}

/// Returns the name of the federated method, with the LoRA method, the robust rule, the codecs and the attack if there are any.
fn method(run: &ReportedRun) -> String {
    let scenario = &run.scenario;
    let mut name = variant(&scenario.algorithm);
    let mut additions = Vec::new();
    if scenario.federated_lora != FederatedLora::default() {
        additions.push(scenario.lora_method().name.to_owned());
    }
    if !scenario.server.aggregation.is_mean() {
        additions.push(variant(&scenario.server.aggregation));
    }
    if let Some(codec) = &scenario.server.uplink_codec {
        additions.push(variant(codec));
    }
    if let Some(codec) = &scenario.server.downlink_codec {
        additions.push(format!("{} downloads", variant(codec)));
    }
    if !additions.is_empty() {
        name += &format!(" with {}", additions.join(" and "));
    }
    if let Some(attackers) = &scenario.attackers {
        name += &format!(" under attack ({})", variant(&attackers.attack));
    }
    name
}

/// Returns the protocol in words, such as `semi-synchronous` for `SemiSynchronous`.
fn protocol(run: &ReportedRun) -> String {
    let name = variant(&run.scenario.server.protocol);
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push('-');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

/// Formats a count with its noun, in the plural where needed.
fn counted(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(count), if count == 1 { "" } else { "s" })
}

/// Formats a count with its digits in groups of three.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    // A separator stands before a digit if the number of digits from there on is a multiple of three.
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats a number with three significant digits.
fn three_digits(value: f64) -> String {
    super::figure::rounded(value, 3).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_read_well() {
        for (count, text) in [(1, "1 task"), (0, "0 tasks"), (120, "120 tasks"), (1_169_595, "1,169,595 tasks")] {
            assert_eq!(counted(count, "task"), text);
        }
    }
}
