//! Clients that attack: which they are, and the devices and links of those that are always first.

use std::collections::{BTreeMap, BTreeSet};

use fedreplay_sim::{Purpose, Seed, Stream};

use super::placement::Placed;
use crate::scenario::{AttackTiming, AttackingClients, Duration, Rate, ScenarioError, ScenarioSpec, Speed, share_of};

/// [FLOP/s] -- Speed of the device of an attacker that is always first.
const FIRST_SPEED: Speed = Speed(1_000_000_000_000_000_000);
/// [bit/s] -- Rate of its link in either direction.
const FIRST_RATE: Rate = Rate(100_000_000_000_000);

/// Returns the numbers of the clients that attack; none without `attackers`. `name` returns a client's name in the data.
///
/// # Errors
/// If there are fewer clients than attackers, no attacker, or no client of an id; the error names the field.
pub(super) fn attacking_clients(
    scenario: &ScenarioSpec,
    clients: usize,
    name: impl Fn(usize) -> String,
) -> Result<BTreeSet<u32>, ScenarioError> {
    let Some(attackers) = &scenario.attackers else { return Ok(BTreeSet::new()) };
    let count = clients as u64;
    let number = match &attackers.clients {
        AttackingClients::Ids(ids) => return by_id(ids, clients, name),
        AttackingClients::Number(number) => u64::from(*number),
        AttackingClients::Share(share) => share_of(*share, count),
    };
    if number > count {
        return Err(refused(format!("{number} clients cannot attack, there are {count}")));
    }
    if number == 0 {
        return Err(refused(format!("the share of {count} clients is no client")));
    }
    let drawn = Stream::new(Seed(scenario.seed), Purpose::Attackers, 0).sample(count, number);
    Ok(drawn.into_iter().map(|client| client as u32).collect())
}

/// Finds clients by their ids.
fn by_id(ids: &[String], clients: usize, name: impl Fn(usize) -> String) -> Result<BTreeSet<u32>, ScenarioError> {
    let names: Vec<String> = (0..clients).map(name).collect();
    let mut found = BTreeSet::new();
    for id in ids {
        match names.iter().position(|name| name == id) {
            Some(index) => drop(found.insert(index as u32)),
            None => return Err(refused(format!("there is no client \"{id}\""))),
        }
    }
    Ok(found)
}

fn refused(message: String) -> ScenarioError {
    ScenarioError::Inputs { field: "attackers.clients", message }
}

/// Replaces devices and links of attackers that are always first. A device keeps its name, by which clients have ranks, its
/// memory and its power.
pub(super) fn place_attackers(scenario: &ScenarioSpec, attackers: &BTreeSet<u32>, placed: &mut Placed) {
    if !scenario.attackers.as_ref().is_some_and(|spec| spec.timing == AttackTiming::AlwaysFirst) {
        return;
    }
    // Attackers of one class share the class that takes its place.
    let mut devices = BTreeMap::new();
    let mut links = BTreeMap::new();
    let no_dropout = placed.dropouts.len() as u32;
    placed.dropouts.push(Default::default());
    for &client in attackers {
        let place = &mut placed.places[client as usize];
        place.device = *devices.entry(place.device).or_insert_with(|| {
            let mut class = placed.devices[place.device as usize].clone();
            class.crashes = None;
            class.device.speed = Some(FIRST_SPEED);
            class.device.profile = None;
            class.device.jitter = 0.0;
            class.device.slowdown = None;
            class.device.memory_bandwidth = None;
            placed.devices.push(class);
            (placed.devices.len() - 1) as u32
        });
        place.link = *links.entry(place.link).or_insert_with(|| {
            let mut class = placed.links[place.link as usize].clone();
            class.link.down = FIRST_RATE;
            class.link.up = FIRST_RATE;
            class.link.latency = Duration(0);
            class.link.latency_jitter = None;
            class.link.stalls = None;
            placed.links.push(class);
            (placed.links.len() - 1) as u32
        });
        place.dropout = no_dropout;
    }
}
