//! What a run comes to in sentences, and the facts that name it.

use super::essentials::Essentials;
use super::learning::Learning;
use super::record::RunRecord;
use super::units;
use crate::ledger::{RunKind, RunState};

/// A named fact.
pub struct Fact {
    pub name: String,
    pub value: String,
    /// Whether it is a hash, which is set in type of one width.
    pub is_hash: bool,
}

/// The run in a few sentences, the most important first.
pub fn sentences(run: &RunRecord, learning: &Learning, essentials: &Essentials) -> Vec<String> {
    let sentences = [state(run, essentials), played(run, essentials)];
    let more = [
        learnt(learning, essentials),
        fairness(learning, essentials),
        tasks(run, essentials),
        cost(essentials),
        privacy(run, essentials),
        doubts(run, essentials),
    ];
    sentences.into_iter().flatten().chain(more.into_iter().flatten()).collect()
}

fn state(run: &RunRecord, essentials: &Essentials) -> Option<String> {
    (run.manifest.state == RunState::Running).then(|| {
        format!(
            "This run is not finished: {} of {} rounds are in the ledger, and only they are shown.",
            essentials.rounds, run.manifest.rounds
        )
    })
}

fn played(run: &RunRecord, essentials: &Essentials) -> Option<String> {
    let what = match run.manifest.kind {
        RunKind::Run => "trained",
        RunKind::Plan => "would train (this is a plan: times without training)",
    };
    let (method, protocol) = (method(run), protocol(run));
    Some(format!(
        "{} {what} by {method}, {protocol}, in {} and {} of virtual time{}.",
        counted(run.clients() as u64, "client"),
        counted(essentials.rounds as u64, "round"),
        clock(essentials.simulated_s),
        match essentials.failed_rounds {
            0 => String::new(),
            failed => format!("; {} made no version", counted(failed as u64, "round")),
        }
    ))
}

fn learnt(learning: &Learning, essentials: &Essentials) -> Option<String> {
    let (before, after) = (essentials.loss_before?, essentials.loss_after?);
    let (name, unit) = (learning.main_name(), learning.unit());
    let went = if after < before { "fell" } else { "did not fall: it went" };
    let whose = if learning.is_local { "The mean client's own model's" } else { "The server model's" };
    let mut text = format!("{whose} {name} {went} from {before:.4} to {after:.4} {unit}");
    if let Some(alone) = essentials.loss_alone {
        text += &format!("; the mean client trained alone comes to {alone:.4}");
    }
    if let (Some(before), Some(after)) = (essentials.accuracy_before, essentials.accuracy_after) {
        text += &format!("; pairs ranked right went from {:.1} % to {:.1} %", 100.0 * before, 100.0 * after);
    }
    Some(text + ".")
}

fn fairness(learning: &Learning, essentials: &Essentials) -> Option<String> {
    let (mean, worst) = (essentials.client_loss_mean?, essentials.client_loss_worst_decile?);
    let unit = learning.unit();
    let last = learning.points.last().filter(|point| point.clients.len() > 1)?;
    let mut text = format!(
        "On their own held-out rows the mean client ends at {mean:.4} {unit} and the worst tenth at {worst:.4}"
    );
    let pairs = || last.clients.iter().filter_map(|(client, loss)| Some((loss, learning.alone_clients.get(client)?)));
    let (worse, all) = (pairs().filter(|(loss, alone)| loss > alone).count(), pairs().count());
    if all > 0 {
        text += &format!("; {worse} of {all} clients would have been better off alone");
    }
    Some(text + ".")
}

fn tasks(run: &RunRecord, essentials: &Essentials) -> Option<String> {
    let Essentials { dispatched, counted: good, late, dropped, cancelled, .. } = *essentials;
    (dispatched > 0).then(|| {
        let share = 100.0 * good as f64 / dispatched as f64;
        let clients = essentials.clients_counted.map_or(String::new(), |clients| {
            format!(" They came from {} of {}.", grouped(clients as u64), counted(run.clients() as u64, "client"))
        });
        format!(
            "Of {} {} counted ({share:.0} %), {} came late, {} dropped out and {} were cancelled.{clients}",
            counted(dispatched, "task"),
            grouped(good),
            grouped(late),
            grouped(dropped),
            grouped(cancelled)
        )
    })
}

fn cost(essentials: &Essentials) -> Option<String> {
    let spent = essentials.energy_kwh.filter(|&kwh| kwh > 0.0);
    let energy = spent.map_or(String::new(), |kwh| format!("; devices spent {} kWh on tasks", figures(kwh)));
    let (down, up) = (units::bytes(essentials.bytes_down), units::bytes(essentials.bytes_up));
    Some(format!("{down} went down to clients and {up} up{energy}."))
}

fn privacy(run: &RunRecord, essentials: &Essentials) -> Option<String> {
    let scenario = serde_json::to_value(run.scenario.privacy?).ok()?;
    let delta = scenario.pointer("/UserLevel/delta").and_then(serde_json::Value::as_f64);
    Some(match (delta, essentials.epsilon.filter(|epsilon| epsilon.is_finite())) {
        (Some(delta), Some(epsilon)) => {
            format!("Clients are protected: epsilon {epsilon:.4} was spent at delta {delta}.")
        }
        _ => "Noise was added without any guarantee: the true epsilon is infinite.".into(),
    })
}

/// What must not be overlooked.
fn doubts(run: &RunRecord, essentials: &Essentials) -> Option<String> {
    let mut doubts = Vec::new();
    if essentials.unusable > 0 {
        let (unusable, good) = (essentials.unusable, essentials.counted);
        doubts.push(format!("{unusable} of {good} updates could not be used and got weight 0."));
    }
    if let Some(twin) = twin(run) {
        doubts.push(format!("The data is a synthetic twin of {twin}, not the dataset itself."));
    }
    if run.tasks.task.is_empty() && essentials.dispatched > 0 {
        doubts.push("No task was recorded (`--detail rounds`), so that figures of tasks are left out.".into());
    }
    (!doubts.is_empty()).then(|| doubts.join(" "))
}

fn twin(run: &RunRecord) -> Option<&str> {
    run.manifest.inputs.keys().find_map(|role| role.strip_prefix("synthetic_twin_of_"))
}

/// What names a run: hashes, scenario, model, data, grade.
pub fn facts(run: &RunRecord) -> Vec<Fact> {
    let manifest = &run.manifest;
    let fact = |name: &str, value: String| Fact { name: name.into(), value, is_hash: false };
    let hash = |name: &str, value: String| Fact { name: name.into(), value, is_hash: true };
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
        fact(
            "adapter",
            format!("LoRA, rank {}, alpha {}", run.scenario.model.lora.rank, run.scenario.model.lora.alpha),
        ),
        fact("determinism grade", manifest.grade.clone()),
        fact("numerics", manifest.numerics_class.clone()),
        fact("made by", format!("fedreplay {}, schema {}", manifest.fedreplay_version, manifest.schema_version)),
    ];
    for (role, input) in &manifest.inputs {
        // Where it lay on a machine says little; what it is called says more.
        let name = input.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        facts.push(fact(&role.replace('_', " "), name));
        facts.push(hash(&format!("{} hash", role.replace('_', " ")), input.hash.to_string()));
    }
    facts
}

/// The name of an enum's variant, as scenarios write it.
fn variant(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        Ok(serde_json::Value::Object(fields)) => fields.keys().next().cloned().unwrap_or_default(),
        _ => String::new(),
    }
}

fn method(run: &RunRecord) -> String {
    variant(&run.scenario.algorithm)
}

/// The protocol in words: `SemiSynchronous` is semi-synchronous.
fn protocol(run: &RunRecord) -> String {
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

fn counted(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(count), if count == 1 { "" } else { "s" })
}

/// A count with its digits in groups of three.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn clock(seconds: f64) -> String {
    units::clock((seconds * 1e9) as u64)
}

/// A number with three significant digits.
fn figures(value: f64) -> String {
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
